"""The residual network below the Part Grouping Network: Caffe's ResNet, dilated so that it ends at 1/8.

Origin: K. He et al., "Deep Residual Learning for Image Recognition", 2015, in the form of its Caffe models: a stage
halves its map in the first 1x1 convolution, not in the 3x3 one. L.-C. Chen et al., "DeepLab", 2016, for the dilation.
"""

from collections.abc import Sequence
from typing import Final, Literal, Self, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from seglab.models.same_windows import pad_for_stride_2

__all__ = ["PADDINGS", "ConvNorm", "DilatedResNet", "Padding"]

Padding = Literal["same", "symmetric"]
PADDINGS: Final = get_args(Padding)
_NORM_EPS: Final = 1e-3
_EXPANSION: Final = 4
"""Channels that a block gives, against those inside."""
_STAGES: Final = ((1, 1), (2, 1), (1, 2), (1, 4))
"""Stride and dilation of res2 to res5."""


class DilatedResNet(nn.Module):
    """Feature maps of 1/8 of the picture, from ever more context.

    Args:
        width: Channels of the first convolution; res2 to res5 give 4, 8, 16 and 32 times as many.
        blocks: Number of residual blocks of res2 to res5; 3, 4, 23, 3 is ResNet-101.
        padding: Around stride 2: ``same`` as TensorFlow (nothing before, one after), ``symmetric`` as Caffe and torch.
        frozen: Keep the statistics of the normalisation as they are, also in training. Its scales and shifts learn.
    """

    def __init__(self, width: int, blocks: Sequence[int], *, padding: Padding, frozen: bool) -> None:
        super().__init__()
        self.padding = padding
        self.frozen = frozen
        self.stem = ConvNorm(3, width, 7, stride=2, padding=0 if padding == "same" else 3)
        channels = width
        for number, (stride, dilation), num_blocks in zip((2, 3, 4, 5), _STAGES, blocks, strict=True):
            inner = width * 2 ** (number - 2)
            stage = [Bottleneck(channels, inner, stride, dilation, project=True)]
            channels = _EXPANSION * inner
            stage += [Bottleneck(channels, inner, 1, dilation, project=False) for _ in range(num_blocks - 1)]
            self.add_module(f"res{number}", nn.Sequential(*stage))

    def train(self, mode: bool = True) -> Self:
        """Go into training mode, but for frozen normalisation."""
        return super().train(mode and not self.frozen)

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the maps of res3, res4 and res5, all of 1/8 of the picture, whose sides are multiples of 8."""
        same = self.padding == "same"
        features = self.stem(pad_for_stride_2(image_BCHW, 7) if same else image_BCHW).relu()
        # The map is not negative, so zeros are as good a padding for a maximum as none.
        features = F.max_pool2d(pad_for_stride_2(features, 3) if same else features, 3, 2, 0 if same else 1)
        res3 = self.get_submodule("res3")(self.get_submodule("res2")(features))
        res4 = self.get_submodule("res4")(res3)
        return res3, res4, self.get_submodule("res5")(res4)


class ConvNorm(nn.Module):
    """A convolution without bias, and batch normalisation."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=_NORM_EPS)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, features: Tensor) -> Tensor:
        """Return features of ``out_channels``."""
        normalised: Tensor = self.norm(self.conv(features))
        return normalised


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside the identity or, with ``project``, a 1x1 convolution (``branch1``)."""

    def __init__(self, in_channels: int, inner: int, stride: int, dilation: int, *, project: bool) -> None:
        super().__init__()
        out_channels = _EXPANSION * inner
        self.branch1 = ConvNorm(in_channels, out_channels, 1, stride=stride) if project else None
        self.branch2a = ConvNorm(in_channels, inner, 1, stride=stride)
        self.branch2b = ConvNorm(inner, inner, 3, padding=dilation, dilation=dilation)
        self.branch2c = ConvNorm(inner, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of 4 times ``inner`` channels."""
        inner = self.branch2b(self.branch2a(features).relu()).relu()
        beside = features if self.branch1 is None else self.branch1(features)
        return F.relu(beside + self.branch2c(inner))
