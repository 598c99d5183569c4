"""Which tensors the networks have that others published, told without building them: no torch is needed."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Final

from seglab.models.recognition import Architecture, Shapes

__all__ = ["digest", "rename_smp_key", "why_not_whole"]

_OLD_PREFIXES: Final = {"decoder.0.": "decoder.aspp.", "decoder.1.": "decoder.conv.", "decoder.2.": "decoder.bn."}
"""What smp 0.3 called the parts of the DeepLabV3 decoder, and what smp 0.6 calls them."""
_UNUSED: Final = {"timm-efficientnet-b3": ("encoder.conv_head.", "encoder.bn2.")}
"""How the names of tensors begin that an encoder is published with and a segmenter has no use for."""


@dataclass(frozen=True)
class Outline:
    """The tensors of one network."""

    num_tensors: int
    names: str
    """See :func:`digest`."""
    numbers: tuple[int, int, int]
    """Coefficients a, b, c: with K outputs and channels as published there are a + bK + cK² numbers in all tensors."""


def why_not_whole(architecture: Architecture, shapes: Shapes) -> str:
    """Say in what the tensors differ from those of the network that they were recognised as; empty if in nothing.

    Args:
        architecture: What :func:`seglab.models.recognition.recognise` returned.
        shapes: By the names of the bare network.
    """
    outline = _OUTLINES.get((architecture.model, str(architecture.args.get("form", ""))))
    if outline is None:
        return "no such network can be built"
    decoder, _, encoder = architecture.model.partition("-")
    kept = {name: shape for name, shape in shapes.items() if not name.startswith(_UNUSED.get(encoder, ()))}
    names = [rename_smp_key(name) if decoder == "deeplabv3" else name for name in kept]
    if len(names) != outline.num_tensors:
        return f"it has {len(names)} tensors, the network has {outline.num_tensors}"
    if digest(names) != outline.names:
        return "its tensors have other names than those of the network"
    if set(architecture.args) <= {"form"}:
        constant, linear, square = outline.numbers
        outputs = architecture.num_outputs
        numbers, wanted = sum(map(prod, kept.values())), constant + (linear + square * outputs) * outputs
        if numbers != wanted:
            return f"there are {numbers:,} numbers in its tensors, the network has {wanted:,}"
    return ""


def digest(names: Iterable[str]) -> str:
    """Return what stands for a set of names."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]


def rename_smp_key(key: str) -> str:
    """Return the state_dict key that an older smp's has in today's: the same, but for the decoder of DeepLabV3."""
    for old, new in _OLD_PREFIXES.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key


_OUTLINES: Final[Mapping[tuple[str, str], Outline]] = {
    ("u2net", ""): Outline(798, "cb47254d5e4735b8", (44024944, 13831, 6)),
    ("u2netp", ""): Outline(798, "cb47254d5e4735b8", (1133520, 3463, 6)),
    ("unet", "milesial"): Outline(136, "0c27dc8daa67cbf6", (31055250, 65, 0)),
    ("unet", "plain"): Outline(46, "bcfa24fc750d7188", (31031680, 65, 0)),
    ("pix2pix", "plain"): Outline(84, "0db0da0ea7050e38", (54418253, 2049, 0)),
    ("pix2pix", "edge"): Outline(84, "0db0da0ea7050e38", (54419277, 2049, 0)),
    ("pix2pix", "res2pix"): Outline(106, "00869c853bed880a", (54918669, 577, 0)),
    ("deeplabv3-mobilenet_v2", ""): Outline(356, "cde5b11f8977ab76", (12685435, 257, 0)),
    ("deeplabv3-resnext101_32x8d", ""): Outline(668, "347f543564767340", (103074351, 257, 0)),
    ("deeplabv3-timm-efficientnet-b3", ""): Outline(610, "f53901cdadd19a13", (13963132, 257, 0)),
    ("unet-mobilenet_v2", ""): Outline(374, "ff4c8f61ef55105d", (6664958, 145, 0)),
    ("unet-vgg19", ""): Outline(106, "4106118b65760a15", (29061836, 145, 0)),
    ("unet-resnext101_32x8d", ""): Outline(686, "3582b425b3bbbad6", (95960242, 145, 0)),
    ("unet-timm-efficientnet-b3", ""): Outline(628, "099039323c0ae979", (12652287, 145, 0)),
    ("fpn-mobilenet_v2", ""): Outline(343, "9759f2da074d1bed", (4249460, 129, 0)),
    ("fpn-vgg19", ""): Outline(63, "c5827dbeecfe4703", (22107968, 129, 0)),
    ("fpn-resnext101_32x8d", ""): Outline(655, "a446b4ce16753d35", (89553192, 129, 0)),
    ("fpn-timm-efficientnet-b3", ""): Outline(597, "7328069b1da4b2be", (11966069, 129, 0)),
}
"""By model and form, as ``python -m tests.models.make_outlines`` prints them."""
