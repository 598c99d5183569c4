"""The Part Grouping Network: parts of people, and the outlines that tell one person from the next.

Origin: K. Gong et al., "Instance-level Human Parsing via Part Grouping Network", ECCV 2018, in the form of the authors'
TensorFlow code. Differs from it: outputs come at the picture's size, where that leaves them at 1/8.

Legend: B batch, C channels, K classes, H W pixels.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from seglab.errors import UsageError, unknown
from seglab.models.dilated_resnet import PADDINGS, DilatedResNet, Padding
from seglab.models.same_windows import RESIZES, Resize, average_windows, enlarge
from seglab.models.segmenter import Segmenter

__all__ = ["PGN"]

_RESNET_101: Final = (3, 4, 23, 3)
_FULL_WIDTH: Final = 64
_WINDOWS: Final = (60, 30, 20, 10)
"""Sides of the windows that the pyramids average over, in cells of 8 pixels."""
_SIDE_DILATIONS: Final = (1, 2, 4, 8, 16)
_INIT_STD: Final = 0.01
"""Of the convolutions above the backbone, at full width; narrower ones get more, so that signals are as strong."""


class PGN(Segmenter):
    """A dilated ResNet-101 with a branch for parts and one for edges, each refined by what the other found.

    Returns logits_BKHW of the refined and the first parsing, then five edge logits_B1HW: refined, first, and those read
    off res5, res4 and res3.

    Args:
        num_classes: K >= 2.
        width: Channels of the first convolution, 64 in the paper; everything else grows with it.
        blocks: Number of residual blocks of the four stages, (3, 4, 23, 3) in the paper.
        padding: ``same`` as in the paper, ``symmetric`` for backbones trained with Caffe or torch.
        resize: ``centres``, or ``corners`` for weights trained with TensorFlow: see
            :func:`seglab.models.same_windows.enlarge`.
        freeze_norm: Keep the statistics of the backbone's normalisation, as the paper does when it fine-tunes. Not for
            training from scratch.

    Raises:
        UsageError: If an argument is out of range.
    """

    multiple = 8
    least = 8
    extras = ("edge",) * 5

    def __init__(
        self,
        num_classes: int,
        *,
        width: int = _FULL_WIDTH,
        blocks: Sequence[int] = _RESNET_101,
        padding: Padding = "same",
        resize: Resize = "centres",
        freeze_norm: bool = False,
    ) -> None:
        super().__init__()
        _check(width, blocks, padding, resize, freeze_norm)
        self.resize = resize
        self.backbone = DilatedResNet(width, blocks, padding=padding, frozen=freeze_norm)
        taps = [8 * width, 16 * width, 32 * width]
        wide, narrow = 8 * width, 4 * width
        self.parsing = Branch(taps, wide, wide, num_classes, resize)
        self.edge = Branch(taps, narrow, wide, 1, resize)
        self.edge_sides = nn.ModuleList([EdgeSide(narrow) for _ in taps])
        self.parsing_notes = Notes(wide, num_classes, narrow, 2 * width)
        self.edge_notes = Notes(wide, 1, narrow, 2 * width)
        noted = 2 * (narrow + 2 * width)
        self.parsing_rf = Trunk(noted, wide, wide, num_classes, resize)
        self.edge_rf = Trunk(noted, wide, wide, 1, resize)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.startswith("backbone."):
                _initialise(module, _INIT_STD * (_FULL_WIDTH / width) ** 0.5)

    def segment(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Return two parsings and five edge maps."""
        taps = self.backbone(image_BCHW)
        parsing, parsing_features, _ = self.parsing(taps)
        edge, edge_features, edge_taps = self.edge(taps)
        sides = [side(features) for side, features in zip(self.edge_sides, edge_taps, strict=True)]
        of_parsing = self.parsing_notes(parsing_features, parsing)
        of_edge = self.edge_notes(edge_features, edge)
        refined, _ = self.parsing_rf(torch.cat((*of_parsing, *of_edge), dim=1))
        refined_edge, _ = self.edge_rf(torch.cat((*of_edge, *of_parsing), dim=1))
        outputs = (refined, parsing, refined_edge, edge, *reversed(sides))
        return tuple(enlarge(logits, image_BCHW.shape[-2:], self.resize) for logits in outputs)


class Trunk(nn.Module):
    """A 3x3 convolution, a pyramid of averages, and a head."""

    def __init__(self, in_channels: int, channels: int, pyramid_channels: int, num_outputs: int, resize: Resize):
        super().__init__()
        self.fuse = _convolution(in_channels, channels)
        self.pyramid = Pyramid(channels, pyramid_channels, resize)
        self.dropout = nn.Dropout(0.1)
        self.head = _convolution(pyramid_channels, num_outputs)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits, and the features that they are made of."""
        features = self.pyramid(self.fuse(features).relu())
        return self.head(self.dropout(features)), features


class Branch(Trunk):
    """A trunk on several maps of the backbone."""

    def __init__(
        self, taps: Sequence[int], channels: int, pyramid_channels: int, num_outputs: int, resize: Resize
    ) -> None:
        super().__init__(len(taps) * channels, channels, pyramid_channels, num_outputs, resize)
        self.taps = nn.ModuleList([_convolution(tap, channels) for tap in taps])

    def forward(self, taps: Sequence[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:  # type: ignore[override]
        """Return logits, the features that they are made of, and those of each map."""
        tapped = [tap(features).relu() for tap, features in zip(self.taps, taps, strict=True)]
        return *super().forward(torch.cat(tapped, dim=1)), tapped


class Pyramid(nn.Module):
    """Averages over windows of several sizes beside the map itself, merged."""

    def __init__(self, in_channels: int, channels: int, resize: Resize) -> None:
        super().__init__()
        self.resize = resize
        self.levels = nn.ModuleList([_convolution(in_channels, channels) for _ in _WINDOWS])
        self.merge = _convolution(in_channels + len(_WINDOWS) * channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Keep height and width."""
        size_hw = features.shape[-2:]
        levels = [
            enlarge(level(average_windows(features, window)).relu(), size_hw, self.resize)
            for level, window in zip(self.levels, _WINDOWS, strict=True)
        ]
        merged: Tensor = self.merge(torch.cat((features, *levels), dim=1))
        return merged.relu()


class EdgeSide(nn.ModuleList):
    """The sum of 3x3 convolutions of ever larger dilation, to one channel."""

    def __init__(self, channels: int) -> None:
        super().__init__([nn.Conv2d(channels, 1, 3, padding=step, dilation=step) for step in _SIDE_DILATIONS])

    def forward(self, features: Tensor) -> Tensor:
        """Return one channel."""
        return torch.stack([convolution(features) for convolution in self]).sum(dim=0)


class Notes(nn.Module):
    """What a branch passes on to the refinement: its features, and its answer in more channels."""

    def __init__(self, in_channels: int, num_outputs: int, channels: int, remap_channels: int) -> None:
        super().__init__()
        self.features = _convolution(in_channels, channels)
        self.remap = nn.Conv2d(num_outputs, remap_channels, 1)

    def forward(self, features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return both."""
        return self.features(features).relu(), self.remap(logits).relu()


def _convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def _initialise(convolution: nn.Conv2d, std: float) -> None:
    nn.init.trunc_normal_(convolution.weight, std=std, a=-2 * std, b=2 * std)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)


def _check(width: Any, blocks: Any, padding: Any, resize: Any, freeze_norm: Any) -> None:
    if not _is_whole(width) or not 1 <= width <= 256:
        raise UsageError(f"`width` of `pgn` is `{width}`, but must be a whole number within 1..256")
    numbers = list(blocks) if isinstance(blocks, list | tuple) else []
    if len(numbers) != 4 or not all(_is_whole(number) and 1 <= number <= 64 for number in numbers):
        raise UsageError(f"`blocks` of `pgn` is `{blocks}`, but must be four whole numbers within 1..64")
    if padding not in PADDINGS:
        raise unknown("padding of `pgn`", str(padding), PADDINGS)
    if resize not in RESIZES:
        raise unknown("resize of `pgn`", str(resize), RESIZES)
    if not isinstance(freeze_norm, bool):
        raise UsageError(f"`freeze_norm` of `pgn` is `{freeze_norm}`, but must be true or false")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
