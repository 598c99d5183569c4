"""The Pix2Pix generator that draws a mask, in three published forms, and the discriminator that judges it.

Origin: P. Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017, as built by
ivanrj7j/Pix2Pix-Image-Segmentation. Differs from the paper: activations follow the convolutions, which pad by
reflection on the way down; the discriminator has strides 2, 1, 1, 2 and no padding in its last layer.

Legend: B batch, C channels, K classes, M maps of a mask, H W pixels.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.errors import UsageError, unknown
from seglab.models.segmenter import Segmenter

__all__ = [
    "FORMS",
    "Discriminator",
    "Pix2Pix",
    "Pix2PixForm",
    "find_edges",
    "form_of",
    "rename_original_key",
    "soft_mask",
]

EDGE_THRESHOLD: Final = 0.3
"""Least step of brightness between neighbours that is an edge, where pixels are within -1..1."""
_SLOPE: Final = 0.2
_NUM_RESIDUAL: Final = 5
_DOWN: Final = (1, 2, 4, 8, 8, 8, 8, 8)
_UP: Final = (8, 8, 8, 8, 4, 2, 1)
"""Channels of the levels on the way down and up, in units of the width."""
_NUM_DROPPING: Final = 3
"""Levels on the way up that drop half of their values in training."""
_HEAD_SIDE: Final = 4
"""Side of the discriminator's last convolution, which pads nothing."""


@dataclass(frozen=True)
class Pix2PixForm:
    """What distinguishes one published generator from another."""

    edges: bool = False
    """See a fourth channel, made from the picture by :func:`find_edges`."""
    residual: bool = False
    """Refine at full resolution by residual blocks before the mask is made."""


FORMS: Final[Mapping[str, Pix2PixForm]] = MappingProxyType(
    {
        "plain": Pix2PixForm(),
        "edge": Pix2PixForm(edges=True),
        "res2pix": Pix2PixForm(residual=True),
    }
)


class Pix2Pix(Segmenter):
    """A U-Net of eight strided levels, down to a single position at 256 pixels.

    The originals end in the tanh of a single map m. With two classes the logits are (0, 2 m): their softmax gives the
    foreground (tanh m + 1) / 2 exactly, and their argmax is tanh m > 0. With more classes there is a map a class.

    The originals normalise pictures to -1..1 (mean and deviation 0.5). Form ``edge`` measures its edges there; after
    another normalisation they mean another contrast.

    Args:
        num_classes: K >= 2.
        form: A name of :data:`FORMS`.
        width: Channels of the first level; 64 in the originals.

    Raises:
        UsageError: If the form is unknown or the width is out of range.
    """

    multiple = 256
    least = 256

    def __init__(self, num_classes: int, *, form: str = "plain", width: int = 64) -> None:
        super().__init__()
        if form not in FORMS:
            raise unknown("form of `pix2pix`", form, FORMS)
        if not isinstance(width, int) or isinstance(width, bool) or not 1 <= width <= 1024:
            raise UsageError(f"`width` of `pix2pix` is `{width}`, but must be a whole number within 1..1024")
        style = FORMS[form]
        num_maps = 1 if num_classes == 2 else num_classes
        self.sees_edges = style.edges
        down = [width * factor for factor in _DOWN]
        up = [width * factor for factor in _UP]
        before_down = [4 if style.edges else 3, *down]
        before_up = [down[-1], *(above + skip for above, skip in zip(up, down[-2::-1], strict=True))]
        self.down = nn.ModuleList(
            [
                Down(before, after, norm=0 < level < len(down) - 1, last=level == len(down) - 1)
                for level, (before, after) in enumerate(zip(before_down[:-1], down, strict=True))
            ]
        )
        self.up = nn.ModuleList(
            [
                Up(before, after, dropout=0.5 if level < _NUM_DROPPING else 0.0)
                for level, (before, after) in enumerate(zip(before_up[:-1], up, strict=True))
            ]
        )
        self.head = nn.ConvTranspose2d(before_up[-1], width if style.residual else num_maps, 4, 2, 1)
        self.refine = nn.Sequential()
        if style.residual:
            last = _NUM_RESIDUAL - 1
            self.refine = nn.Sequential(
                *(Residual(width, dropout=0.5 if index == last else 0.0) for index in range(_NUM_RESIDUAL)),
                nn.Conv2d(width, num_maps, 3, padding=1),
            )

    def segment(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Return one output."""
        features = torch.cat((image_BCHW, find_edges(image_BCHW)), dim=1) if self.sees_edges else image_BCHW
        skips = []
        for level in self.down:
            features = level(features)
            skips.append(features)
        skips.pop()
        for level in self.up:
            features = torch.cat((level(features), skips.pop()), dim=1)
        maps_BMHW: Tensor = self.refine(self.head(features))
        if maps_BMHW.shape[1] > 1:
            return (maps_BMHW,)
        return (torch.cat((torch.zeros_like(maps_BMHW), 2 * maps_BMHW), dim=1),)


class Down(nn.Module):
    """Halve the sides by a strided 4x4 convolution.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        norm: Normalise; otherwise the convolution has a bias.
        last: The level at the bottom, which pads by zeros and activates by ReLU.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: bool, last: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, 4, 2, 1, bias=not norm, padding_mode="zeros" if last else "reflect"
        )
        self.norm = nn.BatchNorm2d(out_channels) if norm else nn.Identity()
        self.activation = nn.ReLU(inplace=True) if last else nn.LeakyReLU(_SLOPE, inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Return a map of half the height and width."""
        activated: Tensor = self.activation(self.norm(self.conv(features)))
        return activated


class Up(nn.Module):
    """Double the sides by a strided 4x4 transposed convolution.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        dropout: Share of the values that are dropped in training.
    """

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Return a map of twice the height and width."""
        dropped: Tensor = self.dropout(F.relu(self.norm(self.conv(features))))
        return dropped


class Residual(nn.Module):
    """Two activated 3x3 convolutions, added to what came in."""

    def __init__(self, channels: int, *, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Keep the shape."""
        inner = F.leaky_relu(self.conv1(features), _SLOPE)
        change: Tensor = self.dropout(F.leaky_relu(self.conv2(inner), _SLOPE))
        return features + change


class Discriminator(nn.Module):
    """A PatchGAN: tells, position by position, drawn masks from true ones.

    Args:
        mask_channels: M, the maps of a mask: see :func:`soft_mask`.
        width: Channels of the first layer; 64 in the original.
        channels: Channels of all layers, instead of the original's 1, 2, 4 and 8 times the width. The first and the
            last layer halve the picture.
    """

    def __init__(self, mask_channels: int = 1, *, width: int = 64, channels: Sequence[int] = ()) -> None:
        super().__init__()
        outputs = [*channels] or [width * factor for factor in (1, 2, 4, 8)]
        last = len(outputs) - 1
        strides = [2 if layer in (0, last) else 1 for layer in range(len(outputs))]
        self.least = _least_side(strides)
        """Both sides of a picture are at least this: 20 in the original."""
        self.blocks = nn.ModuleList(
            [
                Judge(before, after, stride=stride, norm=layer > 0)
                for layer, (before, after, stride) in enumerate(
                    zip([3 + mask_channels, *outputs[:-1]], outputs, strides, strict=True)
                )
            ]
        )
        self.head = nn.Conv2d(outputs[-1], 1, _HEAD_SIDE)

    def forward(self, image_BCHW: Tensor, mask_BMHW: Tensor) -> Tensor:
        """Return (B, 1, h, w) logits, positive where the mask looks true; 60 x 60 of them for 256 x 256 pixels.

        Args:
            image_BCHW: The picture as the generator sees it, RGB.
            mask_BMHW: Within -1..1, as :func:`soft_mask` returns it.

        Raises:
            UsageError: If a side is less than :attr:`least`.
        """
        if min(image_BCHW.shape[-2:]) < self.least:
            raise UsageError(
                f"the discriminator cannot judge {image_BCHW.shape[-2]}x{image_BCHW.shape[-1]} pixels",
                f"use pictures of {self.least} pixels or more on both sides",
            )
        features = torch.cat((image_BCHW, mask_BMHW), dim=1)
        for block in self.blocks:
            features = block(features)
        logits: Tensor = self.head(features)
        return logits


class Judge(nn.Module):
    """A 4x4 convolution that pads by reflection, normalised unless it is the first."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 4, stride, 1, bias=not norm, padding_mode="reflect")
        self.norm = nn.BatchNorm2d(out_channels) if norm else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Return a map that is a pixel smaller, after the stride."""
        return F.leaky_relu(self.norm(self.conv(features)), _SLOPE)


def _least_side(strides: Sequence[int]) -> int:
    """Return the side of the smallest picture of which 4x4 convolutions of some strides leave enough for the last."""
    side = _HEAD_SIDE
    for stride in reversed(strides):
        side = side + 1 if stride == 1 else side * stride
    return side


def soft_mask(logits_BKHW: Tensor) -> Tensor:
    """Return the mask that logits draw, within -1..1, as the discriminator and the L1 loss take it.

    With two classes it is the original generator's tanh, a single map; otherwise a map a class.
    """
    if logits_BKHW.shape[1] == 2:
        return torch.tanh((logits_BKHW[:, 1:] - logits_BKHW[:, :1]) / 2)
    return 2 * logits_BKHW.softmax(dim=1) - 1


def find_edges(image_BCHW: Tensor) -> Tensor:
    """Return (B, 1, H, W): 1 where the channels' mean differs much from the pixel on the left or above, else 0.

    Args:
        image_BCHW: Within -1..1.
    """
    grey_B1HW = image_BCHW.mean(dim=1, keepdim=True)
    across = (grey_B1HW[..., 1:] - grey_B1HW[..., :-1]).abs() > EDGE_THRESHOLD
    down = (grey_B1HW[..., 1:, :] - grey_B1HW[..., :-1, :]).abs() > EDGE_THRESHOLD
    return torch.maximum(
        F.pad(across.to(image_BCHW.dtype), (1, 0, 0, 0)), F.pad(down.to(image_BCHW.dtype), (0, 0, 1, 0))
    )


def form_of(state_dict: Mapping[str, Tensor]) -> str | None:
    """Tell which form weights belong to, by the original's names or ours; None if they are no such generator's."""
    first = state_dict.get("initDown.0.weight", state_dict.get("down.0.conv.weight"))
    if first is None or first.ndim != 4 or first.shape[1] not in (3, 4):
        return None
    if "finalBlock.0.weight" in state_dict or "refine.5.weight" in state_dict:
        return "res2pix" if first.shape[1] == 3 else None
    return "edge" if first.shape[1] == 4 else "plain"


_ORIGINAL_KEYS: Final = (
    (r"initDown\.0\.(\w+)", r"down.0.conv.\1"),
    (r"down([1-6])\.layers\.0\.(\w+)", r"down.\1.conv.\2"),
    (r"down([1-6])\.layers\.1\.(\w+)", r"down.\1.norm.\2"),
    (r"bottleNeck\.0\.(\w+)", r"down.7.conv.\1"),
    (r"final\.(?:0\.)?(weight|bias)", r"head.\1"),
    (r"resBlocks\.([0-4])\.(conv[12]\.\w+)", r"refine.\1.\2"),
    (r"finalBlock\.0\.(\w+)", rf"refine.{_NUM_RESIDUAL}.\1"),
    (r"layer1\.0\.(\w+)", r"blocks.0.conv.\1"),
    (r"finalLayer\.(\w+)", r"head.\1"),
)
_COUNTED_KEYS: Final = (
    # (pattern of an original key, how ours begins, what is added to its number)
    (r"up([1-7])\.layers\.([01])\.(\w+)", "up", -1),
    (r"middleLayers\.([0-2])\.layers\.([01])\.(\w+)", "blocks", 1),
)


def rename_original_key(key: str) -> str | None:
    """Translate a state_dict key of the original generators or discriminator into ours. Values are never changed.

    =========================================  ==============================
    Pix2Pix-Image-Segmentation                 ours
    =========================================  ==============================
    ``initDown.0.*``                           ``down.0.conv.*``
    ``down{n}.layers.{0|1}.*``                 ``down.{n}.{conv|norm}.*``
    ``bottleNeck.0.*``                         ``down.7.conv.*``
    ``up{n}.layers.{0|1}.*``                   ``up.{n-1}.{conv|norm}.*``
    ``final.0.*``, in Res2Pix ``final.*``      ``head.*``
    ``resBlocks.{n}.conv{1|2}.*``              ``refine.{n}.conv{1|2}.*``
    ``finalBlock.0.*``                         ``refine.5.*``
    ``layer1.0.*`` (discriminator)             ``blocks.0.conv.*``
    ``middleLayers.{n}.layers.{0|1}.*``        ``blocks.{n+1}.{conv|norm}.*``
    ``finalLayer.*``                           ``head.*``
    =========================================  ==============================

    Returns:
        Our key, or None if the originals have no such key.
    """
    for pattern, ours in _ORIGINAL_KEYS:
        match = re.fullmatch(pattern, key)
        if match is not None:
            return match.expand(ours)
    for pattern, beginning, shift in _COUNTED_KEYS:
        match = re.fullmatch(pattern, key)
        if match is not None:
            number, layer, rest = match.groups()
            return f"{beginning}.{int(number) + shift}.{('conv', 'norm')[int(layer)]}.{rest}"
    return None
