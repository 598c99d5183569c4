"""A small U-shaped network to train from scratch on two CPU cores in minutes.

Legend: B batch, C channels, K classes, H W pixels.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.errors import UsageError
from seglab.models.segmenter import Segmenter

__all__ = ["LightUNet"]

_GROWTH: Final = (1, 2, 4, 8, 10)
"""Channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the resolution, in units of the width."""


class LightUNet(Segmenter):
    """A U-Net whose work is done at low resolution, with a global view at the bottom.

    After a stride-2 stem, every level doubles the channels as it halves the sides, so each costs about the same.
    Convolutions are dense 3x3 throughout: depthwise ones save operations but not time when training on a CPU. The
    bottom level sees the whole picture through its average. Logits are made at half resolution and interpolated.

    Differs from a plain U-Net: strided convolutions instead of pools, residual blocks, skip connections that are
    reduced and added instead of concatenated, one convolution a level on the way up.

    Args:
        num_classes: K >= 2.
        width: Channels at half resolution; the operations grow with its square.
        subclasses: How many kinds of each class the network tells apart within, at least one, for all K: the
            probability of a class is the sum of theirs. The weights are then those of a network for the kinds, in the
            order of the classes, so that one can be trained on them first.

    Raises:
        UsageError: If the width or the number of subclasses is out of range.
    """

    multiple = 32
    least = 32

    def __init__(self, num_classes: int, *, width: int = 16, subclasses: Sequence[int] | None = None) -> None:
        super().__init__()
        if not isinstance(width, int) or isinstance(width, bool) or not 1 <= width <= 256:
            raise UsageError(f"`width` of `unet-light` is `{width}`, but must be a whole number within 1..256")
        self.subclasses = _checked(subclasses, num_classes)
        channels = [width * factor for factor in _GROWTH]
        self.stem = _conv_norm_relu(3, channels[0], stride=2)
        self.encoder = nn.ModuleList([Level(before, after) for before, after in pairwise(channels)])
        self.context = GlobalContext(channels[-1])
        self.decoder = nn.ModuleList(
            [Merge(below, skip) for below, skip in zip(channels[:0:-1], channels[-2::-1], strict=True)]
        )
        self.head = nn.Conv2d(channels[0], sum(self.subclasses), 1)

    def segment(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Return one output."""
        features = self.stem(image_BCHW)
        skips = []
        for level in self.encoder:
            skips.append(features)
            features = level(features)
        features = self.context(features)
        for merge in self.decoder:
            features = merge(features, skips.pop())
        return (_double(self._summed(self.head(features))),)

    def _summed(self, logits: Tensor) -> Tensor:
        """Add the probabilities of the subclasses of each class."""
        if max(self.subclasses) == 1:
            return logits
        kinds = torch.split(logits, list(self.subclasses), dim=1)
        return torch.cat([of_class.logsumexp(1, keepdim=True) for of_class in kinds], 1)


class Level(nn.Module):
    """Halve the sides, then one residual block."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.down = _conv_norm_relu(in_channels, out_channels, stride=2)
        self.inner = _conv_norm_relu(out_channels, out_channels)
        self.outer = _conv_norm(out_channels, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return a map of half the height and width."""
        features = self.down(features)
        return F.relu(features + self.outer(self.inner(features)))


class GlobalContext(nn.Module):
    """Add a learned function of the picture's average to every position, then look around with a dilated convolution.

    The branch of the average has no normalisation: a single picture a batch gives it a single value a channel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.whole = nn.Conv2d(channels, channels, 1)
        self.around = _conv_norm(channels, channels, dilation=2)

    def forward(self, features: Tensor) -> Tensor:
        """Keep the shape."""
        whole = self.whole(features.mean(dim=(2, 3), keepdim=True))
        return F.relu(features + whole + self.around(features))


class Merge(nn.Module):
    """Double the resolution of the map below, add the skip connection, convolve."""

    def __init__(self, below_channels: int, skip_channels: int) -> None:
        super().__init__()
        self.reduce = _conv_norm(below_channels, skip_channels, kernel=1)
        self.block = _conv_norm_relu(skip_channels, skip_channels)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Return a map of the skip connection's shape."""
        merged: Tensor = self.block(skip + _double(self.reduce(below)))
        return merged


def _checked(subclasses: Sequence[int] | None, num_classes: int) -> tuple[int, ...]:
    if subclasses is None:
        return (1,) * num_classes
    whole = isinstance(subclasses, Sequence) and all(type(number) is int for number in subclasses)
    if not whole or len(subclasses) != num_classes or not all(1 <= number <= 256 for number in subclasses):
        raise UsageError(
            f"`subclasses` of `unet-light` is `{subclasses}`, but must be {num_classes} whole numbers within 1..256"
        )
    return tuple(subclasses)


def _conv_norm(
    in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_in", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


def _conv_norm_relu(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(*_conv_norm(in_channels, out_channels, stride=stride), nn.ReLU(inplace=True))


def _double(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)
