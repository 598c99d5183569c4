"""U²-Net and its small form, with the key names of the published checkpoints.

Origin: X. Qin et al., "U²-Net: Going Deeper with Nested U-Structure for Salient Object Detection", 2020. Differs
from the published code: returns logits of any number of classes, where that returns the sigmoid of one.

Legend: B batch, C channels, K classes, H W pixels.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.models.segmenter import Segmenter

__all__ = ["U2Net", "u2net", "u2netp"]

Stage = tuple[str, int, bool, int, int, int]
"""Name, number of levels, dilated instead of pooled, channels in, inside and out."""

_LARGE: Final[tuple[Stage, ...]] = (
    ("stage1", 7, False, 3, 32, 64), ("stage2", 6, False, 64, 32, 128), ("stage3", 5, False, 128, 64, 256),
    ("stage4", 4, False, 256, 128, 512), ("stage5", 4, True, 512, 256, 512), ("stage6", 4, True, 512, 256, 512),
    ("stage5d", 4, True, 1024, 256, 512), ("stage4d", 4, False, 1024, 128, 256), ("stage3d", 5, False, 512, 64, 128),
    ("stage2d", 6, False, 256, 32, 64), ("stage1d", 7, False, 128, 16, 64),
)  # fmt: skip
_SMALL: Final[tuple[Stage, ...]] = (
    ("stage1", 7, False, 3, 16, 64), ("stage2", 6, False, 64, 16, 64), ("stage3", 5, False, 64, 16, 64),
    ("stage4", 4, False, 64, 16, 64), ("stage5", 4, True, 64, 16, 64), ("stage6", 4, True, 64, 16, 64),
    ("stage5d", 4, True, 128, 16, 64), ("stage4d", 4, False, 128, 16, 64), ("stage3d", 5, False, 128, 16, 64),
    ("stage2d", 6, False, 128, 16, 64), ("stage1d", 7, False, 128, 16, 64),
)  # fmt: skip


def u2net(num_classes: int) -> "U2Net":
    """Build the full-size network (44 million parameters)."""
    return U2Net(num_classes, _LARGE)


def u2netp(num_classes: int) -> "U2Net":
    """Build the small network (1.1 million parameters, a third of the operations)."""
    return U2Net(num_classes, _SMALL)


class U2Net(Segmenter):
    """A U-Net of six levels whose every block is a U-Net.

    Returns seven outputs: the fused one, then the side outputs from fine to coarse. Pools round up and maps grow to
    the size of their skip connection, so no size needs padding.

    Args:
        num_classes: K >= 2.
        stages: Six stages from fine to coarse, then five back.
    """

    def __init__(self, num_classes: int, stages: Sequence[Stage]) -> None:
        super().__init__()
        for name, levels, dilated, *channels in stages:
            self.add_module(name, NestedU(levels, dilated, *channels))
        outputs = {name: channels_out for name, *_, channels_out in stages}
        for number, name in enumerate(("stage1d", "stage2d", "stage3d", "stage4d", "stage5d", "stage6"), start=1):
            self.add_module(f"side{number}", nn.Conv2d(outputs[name], num_classes, 3, padding=1))
        self.outconv = nn.Conv2d(6 * num_classes, num_classes, 1)

    def segment(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Return the fused output and the six side outputs."""
        size_hw = image_BCHW.shape[-2:]
        features = image_BCHW
        skips = []
        for number in range(1, 7):
            features = getattr(self, f"stage{number}")(features if number == 1 else _halve(features))
            skips.append(features)
        coarse_to_fine = [skips.pop()]
        for number in range(5, 0, -1):
            skip = skips.pop()
            joined = torch.cat((_resize(coarse_to_fine[-1], skip.shape[-2:]), skip), dim=1)
            coarse_to_fine.append(getattr(self, f"stage{number}d")(joined))
        sides = [
            _resize(getattr(self, f"side{number}")(features), size_hw)
            for number, features in enumerate(reversed(coarse_to_fine), start=1)
        ]
        return (self.outconv(torch.cat(sides, dim=1)), *sides)


class NestedU(nn.Module):
    """The paper's residual U-block (RSU) of any number of levels, pooled or dilated (its "4F" form).

    Args:
        levels: Number of convolutions on the way down.
        dilated: Widen the view by dilations 1, 2, 4, 8... at full resolution, and back, instead of by pooling.
        in_channels: Channels that come in.
        mid_channels: Channels inside.
        out_channels: Channels that go out.
    """

    def __init__(self, levels: int, dilated: bool, in_channels: int, mid_channels: int, out_channels: int) -> None:
        super().__init__()
        self.levels = levels
        self.dilated = dilated

        def dilation(level: int) -> int:
            if dilated:
                return int(2 ** (level - 1))
            return 2 if level == levels else 1

        self.rebnconvin = ConvNormRelu(in_channels, out_channels)
        for level in range(1, levels + 1):
            before = out_channels if level == 1 else mid_channels
            self.add_module(f"rebnconv{level}", ConvNormRelu(before, mid_channels, dilation(level)))
        for level in range(levels - 1, 0, -1):
            after = out_channels if level == 1 else mid_channels
            self.add_module(f"rebnconv{level}d", ConvNormRelu(2 * mid_channels, after, dilation(level)))

    def forward(self, features: Tensor) -> Tensor:
        """Keep height and width."""
        residual: Tensor = self.rebnconvin(features)
        features = residual
        skips = []
        for level in range(1, self.levels + 1):
            pooled = not self.dilated and 1 < level < self.levels
            features = getattr(self, f"rebnconv{level}")(_halve(features) if pooled else features)
            skips.append(features)
        skips.pop()
        for level in range(self.levels - 1, 0, -1):
            skip = skips.pop()
            features = features if self.dilated else _resize(features, skip.shape[-2:])
            features = getattr(self, f"rebnconv{level}d")(torch.cat((features, skip), dim=1))
        return features + residual


class ConvNormRelu(nn.Module):
    """A 3x3 convolution, batch normalisation and ReLU, keeping height and width."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv_s1 = nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
        self.bn_s1 = nn.BatchNorm2d(out_channels)
        self.relu_s1 = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of ``out_channels``."""
        activated: Tensor = self.relu_s1(self.bn_s1(self.conv_s1(features)))
        return activated


def _halve(features: Tensor) -> Tensor:
    return F.max_pool2d(features, 2, stride=2, ceil_mode=True)


def _resize(features: Tensor, size_hw: Sequence[int]) -> Tensor:
    return F.interpolate(features, size=tuple(size_hw), mode="bilinear", align_corners=False)
