"""The plain U-Net, once, in the forms that people have trained it in.

Origin: O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015.
Differs from the paper in all forms: convolutions are padded, so the output is as large as the input.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.errors import UsageError, unknown
from seglab.models.segmenter import Segmenter

__all__ = ["FORMS", "UNet", "UNetForm", "rename_original_key"]


@dataclass(frozen=True)
class UNetForm:
    """What distinguishes one published U-Net from another, apart from its size."""

    width: int
    """Channels of the first level when none are asked for; they double at every level below."""
    batch_norm: bool
    """Normalise after every convolution of a block."""
    bias: bool
    """Give the convolutions of the blocks a bias."""
    slope: float
    """Slope of the leaky ReLU for negative values; 0 is ReLU."""
    transposed: bool
    """Go up by a 2x2 transposed convolution; otherwise by a 1x1 convolution and bilinear interpolation."""
    skip_first: bool
    """Order of concatenation: (skip, up) if true, (up, skip) otherwise."""


FORMS: Final[Mapping[str, UNetForm]] = MappingProxyType(
    {
        # Ours: trains from scratch without a checkerboard, at a quarter of the originals' operations.
        "modern": UNetForm(width=32, batch_norm=True, bias=False, slope=0.0, transposed=False, skip_first=False),
        # PGN_PyTorch's `unet`: as in the paper, without any normalisation.
        "plain": UNetForm(width=64, batch_norm=False, bias=True, slope=0.0, transposed=True, skip_first=False),
        # Semantic_Segmentation_With_U-Net's `UNet`, after milesial's; its final softmax is left out.
        "milesial": UNetForm(width=64, batch_norm=True, bias=True, slope=0.05, transposed=True, skip_first=True),
    }
)


class UNet(Segmenter):
    """A U-Net of any form, width and depth.

    At sides that are multiples of 2^depth the forms ``plain`` and ``milesial`` compute what their originals do,
    except that ``milesial`` returns logits where the original returns their softmax.

    Args:
        num_classes: K >= 2.
        form: A name of :data:`FORMS`.
        width: Channels of the first level, doubled at every level below; the form's own if None.
        depth: Number of halvings.

    Raises:
        UsageError: If the form is unknown, or width or depth is out of range.
    """

    def __init__(self, num_classes: int, *, form: str = "modern", width: int | None = None, depth: int = 4) -> None:
        super().__init__()
        if form not in FORMS:
            raise unknown("form of `unet`", form, FORMS)
        style = FORMS[form]
        width = style.width if width is None else width
        _check_range("width", width, 1, 1024)
        _check_range("depth", depth, 1, 8)
        self.multiple = self.least = 2**depth
        self.skip_first = style.skip_first
        channels = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(
            [DoubleConv(before, after, style) for before, after in zip([3, *channels], channels, strict=False)]
        )
        self.decoder = nn.ModuleList([UpLevel(channels[level], style) for level in reversed(range(depth))])
        self.head = nn.Conv2d(width, num_classes, 1)

    def segment(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Return one output."""
        features = image_BCHW
        skips = []
        for level, block in enumerate(self.encoder):
            features = block(F.max_pool2d(features, 2) if level else features)
            skips.append(features)
        for block, skip in zip(self.decoder, reversed(skips[:-1]), strict=True):
            features = block(features, skip)
        return (self.head(features),)


class DoubleConv(nn.Module):
    """Two 3x3 convolutions, each with its normalisation (if any) and activation."""

    def __init__(self, in_channels: int, out_channels: int, style: UNetForm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=style.bias)
        self.norm1 = nn.BatchNorm2d(out_channels) if style.batch_norm else nn.Identity()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=style.bias)
        self.norm2 = nn.BatchNorm2d(out_channels) if style.batch_norm else nn.Identity()
        self.activation = nn.LeakyReLU(style.slope, inplace=True) if style.slope else nn.ReLU(inplace=True)
        for convolution in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(convolution.weight, a=style.slope, mode="fan_in")

    def forward(self, features: Tensor) -> Tensor:
        """Keep height and width."""
        features = self.activation(self.norm1(self.conv1(features)))
        activated: Tensor = self.activation(self.norm2(self.conv2(features)))
        return activated


class UpLevel(nn.Module):
    """Double the resolution and halve the channels, join the skip connection, convolve twice."""

    def __init__(self, channels: int, style: UNetForm) -> None:
        super().__init__()
        self.skip_first = style.skip_first
        self.transposed = style.transposed
        self.up: nn.Module
        if style.transposed:
            self.up = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
        else:
            self.up = nn.Conv2d(2 * channels, channels, 1)
        self.block = DoubleConv(2 * channels, channels, style)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Return a map of the skip connection's size."""
        features = self.up(features)
        if not self.transposed:
            # A 1x1 convolution and an interpolation commute; this order costs a quarter.
            features = F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)
        pair = (skip, features) if self.skip_first else (features, skip)
        joined: Tensor = self.block(torch.cat(pair, dim=1))
        return joined


_LAYERS: Final = {
    "plain": {"0": "conv1", "2": "conv2"},
    "milesial": {"0": "conv1", "1": "norm1", "3": "conv2", "4": "norm2"},
}
_ORIGINAL_KEYS: Final = (
    # (pattern of an original key, form, how ours begins); {level} counts from 0, from the top of each half
    (r"down(?P<number>\d)\.doubleconv\.convolution\.(?P<layer>\d)\.(?P<rest>\w+)", "plain", "encoder.{level}"),
    (r"bottleneck\.convolution\.(?P<layer>\d)\.(?P<rest>\w+)", "plain", "encoder.4"),
    (r"up(?P<number>\d)\.upsample\.(?P<rest>\w+)", "plain", "decoder.{level}.up"),
    (r"up(?P<number>\d)\.conv\.convolution\.(?P<layer>\d)\.(?P<rest>\w+)", "plain", "decoder.{level}.block"),
    (r"final_layer\.(?P<rest>\w+)", "plain", "head"),
    (r"inc\.double_conv\.(?P<layer>\d)\.(?P<rest>\w+)", "milesial", "encoder.0"),
    (
        r"down(?P<number>\d)\.maxpool_conv\.1\.double_conv\.(?P<layer>\d)\.(?P<rest>\w+)",
        "milesial",
        "encoder.{number}",
    ),
    (r"up(?P<number>\d)\.up\.(?P<rest>\w+)", "milesial", "decoder.{level}.up"),
    (
        r"up(?P<number>\d)\.conv\.double_conv\.(?P<layer>\d)\.(?P<rest>\w+)",
        "milesial",
        "decoder.{level}.block",
    ),
    (r"outc\.conv\.(?P<rest>\w+)", "milesial", "head"),
)


def rename_original_key(key: str) -> tuple[str, str] | None:
    """Translate a state_dict key of one of the two originals into ours. Values are never changed.

    ===================================================  =========================================
    PGN_PyTorch (form ``plain``)                         ours
    ===================================================  =========================================
    ``down{n}.doubleconv.convolution.{0|2}.*``           ``encoder.{n-1}.conv{1|2}.*``
    ``bottleneck.convolution.{0|2}.*``                   ``encoder.4.conv{1|2}.*``
    ``up{n}.upsample.*``                                 ``decoder.{n-1}.up.*``
    ``up{n}.conv.convolution.{0|2}.*``                   ``decoder.{n-1}.block.conv{1|2}.*``
    ``final_layer.*``                                    ``head.*``
    ===================================================  =========================================

    ===================================================  =========================================
    Semantic_Segmentation_With_U-Net (``milesial``)      ours
    ===================================================  =========================================
    ``inc.double_conv.{0|1|3|4}.*``                      ``encoder.0.{conv1|norm1|conv2|norm2}.*``
    ``down{n}.maxpool_conv.1.double_conv.{...}.*``       ``encoder.{n}.{...}.*``
    ``up{n}.up.*``                                       ``decoder.{n-1}.up.*``
    ``up{n}.conv.double_conv.{...}.*``                   ``decoder.{n-1}.block.{...}.*``
    ``outc.conv.*``                                      ``head.*``
    ===================================================  =========================================

    Returns:
        The form that the key belongs to and our key, or None if neither original has such a key.
    """
    for pattern, form, prefix in _ORIGINAL_KEYS:
        match = re.fullmatch(pattern, key)
        if match is None:
            continue
        parts = match.groupdict()
        number = parts.get("number") or "1"
        layer = parts.get("layer")
        if layer is not None and layer not in _LAYERS[form]:
            return None
        names = [prefix.format(level=int(number) - 1, number=number)]
        names += [_LAYERS[form][layer]] if layer is not None else []
        return form, ".".join([*names, parts["rest"]])
    return None


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UsageError(f"`{name}` of `unet` is `{value}`, but must be a whole number within {low}..{high}")
