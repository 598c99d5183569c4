"""The table of networks. Reading it imports no torch; building one does.

A model has one row here and one class in one module beside this one. The encoder-decoders of
segmentation-models-pytorch (smp) go by ``<decoder>-<encoder>``: those that the table names are a choice, any other
encoder of smp builds as well, and so does ``tu-`` with the name of a model of timm.
"""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from seglab.data.fetching.registry import Registry, load_registry
from seglab.errors import UsageError, unknown
from seglab.models.figures import FIGURES
from seglab.models.pretrained import FETCHED, published_weights

if TYPE_CHECKING:
    from seglab.models.segmenter import Segmenter

__all__ = ["CHECKPOINTS", "DECODERS", "ENCODERS", "ZooRow", "build", "names", "row", "rows"]


@dataclass(frozen=True, kw_only=True)
class ZooRow:
    """What is known of a network before it is built."""

    name: str
    """What :func:`build` calls it."""
    family: str
    """The architecture; networks of one family differ in size or encoder only."""
    size: int
    """Side in pixels of the picture that it is meant for, and that :attr:`gflop` counts."""
    params: int | None
    """Parameters with two classes; None for encoders outside the table."""
    gflop: float | None
    """10^9 multiplications and additions, for one picture of :attr:`size` with two classes; None as above."""
    description: str
    """What it is good for, in a line."""
    code_licence: str
    """Licence of the code that the network is made of."""
    commercial: bool
    """Whether that licence allows commercial use without asking further."""
    weights: tuple[str, ...]
    """Names for ``seglab fetch``: of checkpoints, or of weights for its encoder alone (``encoder-...``)."""
    weights_licence: str
    """Licence of the first of them; for encoders also where they have no such name. Empty if nobody publishes any."""
    weights_commercial: str
    """Whether that licence allows commercial use: ``yes``, ``no`` or ``unclear``; empty as above."""


CHECKPOINTS: Final[Mapping[str, tuple[str, ...]]] = {
    "unet": ("helen-unet",),
    "u2net": ("u2net", "u2net-human", "cloth-u2net", "cloth-u2net-retrained"),
    "u2netp": ("u2netp",),
    "deeplabv3-mobilenet_v2": ("pascal-part-deeplabv3",),
}
"""Networks, and the checkpoints of the registry that are of them."""


@dataclass(frozen=True)
class _Network:
    """What :class:`ZooRow` says of a network, and the function or class that makes it."""

    family: str
    module: str
    """Imported when the network is built, as it needs torch."""
    factory: str
    """Called with the number of classes and the network's own arguments."""
    size: int
    """Side in pixels of the picture that it is meant for."""
    description: str


_NETWORKS: Final[Mapping[str, _Network]] = {
    "unet": _Network(
        "unet", "seglab.models.unet", "UNet", 256, "plain U-Net; also in the forms of two published originals"
    ),
    "unet-light": _Network(
        "unet-light", "seglab.models.light", "LightUNet", 192, "trains from scratch on two CPU cores in minutes"
    ),
    "u2net": _Network("u2net", "seglab.models.u2net", "u2net", 320, "nested U-Nets with side outputs; sharp outlines"),
    "u2netp": _Network("u2net", "seglab.models.u2net", "u2netp", 320, "U²-Net with a fortieth of its parameters"),
    "pix2pix": _Network(
        "pix2pix", "seglab.models.pix2pix", "Pix2Pix", 256, "draws a mask; in three published forms, adversarial or not"
    ),
    "pgn": _Network(
        "pgn", "seglab.models.pgn", "PGN", 512, "parts, and outlines that tell people apart: instances for `predict`"
    ),
}

DECODERS: Final[Mapping[str, str]] = {
    "unet": "U-Net decoder",
    "unetplusplus": "U-Net++ decoder, nested skip connections",
    "manet": "U-Net decoder with attention across positions and channels",
    "linknet": "U-Net decoder with added skip connections, few operations",
    "fpn": "feature pyramid, few operations",
    "pspnet": "pyramid pooling on the first three stages",
    "pan": "pyramid attention",
    "deeplabv3": "dilated pyramid at 1/8 of the resolution",
    "deeplabv3plus": "dilated pyramid with a skip connection",
    "upernet": "feature pyramid over pyramid pooling",
    "segformer": "all stages mixed by 1x1 convolutions",
    "dpt": "dense prediction from a plain vision transformer (encoders `tu-vit_...`)",
}
"""Decoders of smp, by the first part of a name."""

_SMP_ENCODERS: Final = (
    "resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x4d resnext101_32x8d "
    "resnext101_32x16d resnext101_32x32d resnext101_32x48d dpn68 dpn68b dpn92 dpn98 dpn107 dpn131 vgg11 "
    "vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn senet154 se_resnet50 se_resnet101 se_resnet152 "
    "se_resnext50_32x4d se_resnext101_32x4d densenet121 densenet169 densenet201 densenet161 "
    "inceptionresnetv2 inceptionv4 efficientnet-b0 efficientnet-b1 efficientnet-b2 efficientnet-b3 "
    "efficientnet-b4 efficientnet-b5 efficientnet-b6 efficientnet-b7 mobilenet_v2 xception "
    "timm-efficientnet-b0 timm-efficientnet-b1 timm-efficientnet-b2 timm-efficientnet-b3 "
    "timm-efficientnet-b4 timm-efficientnet-b5 timm-efficientnet-b6 timm-efficientnet-b7 "
    "timm-efficientnet-b8 timm-efficientnet-l2 timm-tf_efficientnet_lite0 timm-tf_efficientnet_lite1 "
    "timm-tf_efficientnet_lite2 timm-tf_efficientnet_lite3 timm-tf_efficientnet_lite4 timm-skresnet18 "
    "timm-skresnet34 timm-skresnext50_32x4d mit_b0 mit_b1 mit_b2 mit_b3 mit_b4 mit_b5 mobileone_s0 "
    "mobileone_s1 mobileone_s2 mobileone_s3 mobileone_s4 "
)
ENCODERS: Final = tuple(_SMP_ENCODERS.split())
"""Encoders of smp 0.6; ``tu-`` and a model of timm is one too."""

_RESTRICTED: Final[Mapping[str, str]] = {
    "mit_": "NVIDIA Source Code License (non-commercial)",
    "mobileone_": "Apple, own terms of ml-mobileone",
}
"""Beginnings of encoder names whose code is not under a common open licence."""

_ENCODER_DECODER_SIZE: Final = 256


def names() -> list[str]:
    """Return the names in the table: our own networks first, then the encoder-decoders."""
    return list(dict.fromkeys((*_NETWORKS, *FIGURES)))


def rows() -> list[ZooRow]:
    """Return the whole table, in the order of :func:`names`."""
    return [row(name) for name in names()]


def row(name: str) -> ZooRow:
    """Return what is known of one network, without building it.

    Encoders outside the table have a row without figures.

    Raises:
        UsageError: If no network has that name; the nearest names are in the hint.
    """
    params, gflop = FIGURES.get(name, (None, None))
    if name in _NETWORKS:
        network = _NETWORKS[name]
        return ZooRow(
            name=name, family=network.family, size=network.size, params=params, gflop=gflop,
            description=network.description, code_licence="MIT", commercial=True, **_weights(name),
        )  # fmt: skip
    decoder, encoder = _split(name)
    if encoder not in ENCODERS and not encoder.startswith(("tu-", "timm-")):
        raise unknown("encoder", encoder, ENCODERS, "smp's encoders, or `tu-` and a model of timm")
    licence, commercial = _licence(encoder)
    return ZooRow(
        name=name, family=f"smp-{decoder}", size=_ENCODER_DECODER_SIZE, params=params, gflop=gflop,
        description=f"{DECODERS[decoder]}, on {encoder}", code_licence=licence, commercial=commercial,
        **_weights(name, encoder),
    )  # fmt: skip


def build(name: str, num_classes: int, **args: Any) -> "Segmenter":
    """Build a network with random weights, in training mode. Nothing is downloaded.

    Args:
        name: One of :func:`names`, or ``<decoder>-<encoder>`` with any encoder of smp or ``tu-<model of timm>``.
        num_classes: K, from 2 to 255.
        args: The constructor's keyword arguments, e.g. ``width=16`` for ``unet`` or ``decoder_channels`` for
            ``unet-resnet34``.

    Raises:
        UsageError: If the name or an argument is unknown, or a value is out of range.
        DeviceError: If the network needs a library that cannot be imported.
    """
    if not isinstance(num_classes, int) or isinstance(num_classes, bool) or not 2 <= num_classes <= 255:
        raise UsageError(f"the number of classes is `{num_classes}`, but must be a whole number within 2..255")
    if name in _NETWORKS:
        network = _NETWORKS[name]
        factory = getattr(importlib.import_module(network.module), network.factory)
        known = [argument for argument in inspect.signature(factory).parameters if argument != "num_classes"]
        for argument in args:
            if argument not in known:
                raise unknown(f"argument of `{name}`", argument, known, "" if known else "it takes none")
        built: Segmenter = factory(num_classes, **args)
        return built
    decoder, encoder = _split(name)
    from seglab.models.encoder_decoder import EncoderDecoder

    return EncoderDecoder(decoder, encoder, num_classes, **args)


def _weights(name: str, encoder: str = "") -> dict[str, Any]:
    """Return the fields of a row that tell of its weights."""
    registry = _registry()
    names = [*CHECKPOINTS.get(name, ()), *([f"{FETCHED}{encoder}"] if f"{FETCHED}{encoder}" in registry else ())]
    terms: Any = registry[names[0]] if names else published_weights(encoder)[0] if encoder else None
    return {
        "weights": tuple(names),
        "weights_licence": terms.licence if terms else "",
        "weights_commercial": terms.commercial if terms else "",
    }


@cache
def _registry() -> Registry:
    return load_registry()


def _split(name: str) -> tuple[str, str]:
    decoder, _, encoder = name.partition("-")
    if decoder not in DECODERS or not encoder:
        raise unknown("model", name, names(), "`seglab models` lists them")
    return decoder, encoder


def _licence(encoder: str) -> tuple[str, bool]:
    for beginning, licence in _RESTRICTED.items():
        if encoder.startswith(beginning):
            return licence, False
    return ("Apache-2.0 (timm), MIT (smp)" if encoder.startswith(("tu-", "timm-")) else "MIT (smp)"), True
