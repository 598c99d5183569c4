"""Which network weights belong to, by the names and shapes of their tensors alone. Needs no torch."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Architecture", "Shapes", "recognise", "why_unusable"]

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Architecture:
    """A network of the zoo that published weights fit."""

    family: str
    """Whose code it is: a key of :data:`seglab.models.originals.ORIGINALS`."""
    model: str
    """A name of the zoo."""
    args: dict[str, Any] = field(default_factory=dict)
    """Of the network's constructor, apart from the number of classes."""
    num_outputs: int = 2
    """Maps that the published network puts out."""
    input_channels: int = 3
    """Of its first convolution; what exceeds RGB it makes itself."""

    @property
    def num_classes(self) -> int:
        """K: a single map tells a foreground from the background."""
        return max(2, self.num_outputs)


def recognise(shapes: Shapes) -> Architecture | None:
    """Return the network that tensors of these names and shapes belong to; None if no original has it.

    Args:
        shapes: By the names of the bare network: no ``module.`` or ``_orig_mod.``.
    """
    for match in (_u2net, _milesial, _plain, _pix2pix, _encoder_decoder):
        found = match(shapes)
        if found is not None:
            return found
    return None


def why_unusable(shapes: Shapes) -> str:
    """Say in a few words what unrecognised weights are, if that is known; empty if not."""
    for reason, patterns in _OTHERS.items():
        if all(any(re.match(pattern, name) for name in shapes) for pattern in patterns):
            return reason
    return ""


_OTHERS: Final[Mapping[str, tuple[str, ...]]] = {
    "the discriminator of a Pix2Pix, which judges masks and makes none": (r"layer1\.0\.weight", r"finalLayer\."),
    "a generator of junyanz' pytorch-CycleGAN-and-pix2pix, whose code is another": (r"model\.model\.\d",),
    "a U-Net of Pytorch-UNet without biases, whose activations are others": (
        r"inc\.double_conv\.0\.weight", r"outc\.conv\.weight",
    ),
    "a network of Self-Correction-Human-Parsing, which seglab does not have": (r"context_encoding\.", r"edge\."),
    "a classifier, not a segmenter": (r"(fc|classifier(\.\d)?|head)\.weight$", r"(conv1|features\.0|conv_stem|stem)\b"),
}  # fmt: skip


def _u2net(shapes: Shapes) -> Architecture | None:
    sides = [shapes.get(f"side{number}.weight", ()) for number in range(1, 7)]
    first = shapes.get("stage1.rebnconvin.conv_s1.weight", ())
    if "outconv.weight" not in shapes or first[1:] != (3, 3, 3) or any(len(side) != 4 for side in sides):
        return None
    small = sides[2][1] == 64
    family = "u2net" if sides[0][0] == 1 else "cloth-segmentation"
    return Architecture(family, "u2netp" if small else "u2net", {}, sides[0][0])


def _milesial(shapes: Shapes) -> Architecture | None:
    first, head = shapes.get("inc.double_conv.0.weight", ()), shapes.get("outc.conv.weight", ())
    has_bias = "inc.double_conv.0.bias" in shapes
    if first[1:] != (3, 3, 3) or len(head) != 4 or not has_bias or "up4.up.weight" not in shapes:
        return None
    return Architecture("helen-unet", "unet", {"form": "milesial", **_width(first[0])}, head[0])


def _plain(shapes: Shapes) -> Architecture | None:
    first, head = shapes.get("down1.doubleconv.convolution.0.weight", ()), shapes.get("final_layer.weight", ())
    has_four = "up4.upsample.weight" in shapes and "up5.upsample.weight" not in shapes
    if first[1:] != (3, 3, 3) or len(head) != 4 or not has_four:
        return None
    family = "unet-from-scratch" if head[0] == 2 else "pgn-pytorch"
    return Architecture(family, "unet", {"form": "plain", **_width(first[0])}, head[0])


def _pix2pix(shapes: Shapes) -> Architecture | None:
    first = shapes.get("initDown.0.weight", ())
    if len(first) != 4 or first[1] not in (3, 4) or "bottleNeck.0.weight" not in shapes:
        return None
    plain, residual = shapes.get("final.0.weight", ()), shapes.get("finalBlock.0.weight", ())
    if len(residual) == 4 and first[1] == 3:
        form, num_outputs = "res2pix", residual[0]
    elif len(plain) == 4:
        form, num_outputs = "edge" if first[1] == 4 else "plain", plain[1]
    else:
        return None
    return Architecture("pix2pix", "pix2pix", {"form": form, **_width(first[0])}, num_outputs, first[1])


def _width(width: int) -> dict[str, Any]:
    """Return the constructor's argument for a first level of so many channels; the published 64 goes without saying."""
    return {} if width == 64 else {"width": width}


def _encoder_decoder(shapes: Shapes) -> Architecture | None:
    head = shapes.get("segmentation_head.0.weight", ())
    encoder = next((name for name, has in _ENCODERS.items() if has(shapes)), None)
    if encoder is None or len(head) != 4:
        return None
    for decoder, arguments in _DECODERS.items():
        args = arguments(shapes)
        if args is not None:
            return Architecture("hierarchical-segmentation", f"{decoder}-{encoder}", args, head[0])
    return None


def _deeplabv3(shapes: Shapes) -> dict[str, Any] | None:
    project = shapes.get("decoder.0.project.0.weight") or shapes.get("decoder.aspp.project.0.weight")
    if project is None:
        return None
    return {} if project[0] == 256 else {"decoder_channels": project[0]}


def _unet_decoder(shapes: Shapes) -> dict[str, Any] | None:
    blocks = [shapes.get(f"decoder.blocks.{level}.conv1.0.weight", ()) for level in range(5)]
    if not all(blocks) or "decoder.blocks.5.conv1.0.weight" in shapes:
        return None
    channels = [block[0] for block in blocks]
    return {} if channels == [256, 128, 64, 32, 16] else {"decoder_channels": channels}


def _fpn(shapes: Shapes) -> dict[str, Any] | None:
    return {} if shapes.get("decoder.p5.weight", ())[:1] == (256,) else None


_DECODERS: Final[Mapping[str, Callable[[Shapes], dict[str, Any] | None]]] = {
    "deeplabv3": _deeplabv3,
    "unet": _unet_decoder,
    "fpn": _fpn,
}


def _has(**expected: tuple[int, ...]) -> Callable[[Shapes], bool]:
    """Return a test for tensors of an encoder; ``__`` in a name stands for a dot."""
    wanted = {"encoder." + name.replace("__", "."): shape for name, shape in expected.items()}
    return lambda shapes: all(shapes.get(name) == shape for name, shape in wanted.items())


_ENCODERS: Final[Mapping[str, Callable[[Shapes], bool]]] = {
    "mobilenet_v2": _has(
        features__0__0__weight=(32, 3, 3, 3), features__1__conv__0__0__weight=(32, 1, 3, 3),
        features__18__0__weight=(1280, 320, 1, 1),
    ),
    "vgg19": _has(features__0__weight=(64, 3, 3, 3), features__34__weight=(512, 512, 3, 3)),
    "resnext101_32x8d": _has(
        conv1__weight=(64, 3, 7, 7), layer1__0__conv2__weight=(256, 8, 3, 3),
        layer3__22__conv1__weight=(1024, 1024, 1, 1),
    ),
    "timm-efficientnet-b3": _has(conv_stem__weight=(40, 3, 3, 3), blocks__0__0__conv_dw__weight=(40, 1, 3, 3)),
}  # fmt: skip
