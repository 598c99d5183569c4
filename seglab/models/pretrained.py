"""Published weights of encoders: under which terms they come, where this machine has them, how a network takes them.

The terms are those that their authors state; timm and segmentation-models-pytorch (smp) pass them on. Nothing here
downloads: weights are read from where ``seglab fetch``, Hugging Face's libraries or torchvision have left them.

The table needs no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from seglab.data.fetching.places import cache_dir, fetched_checkpoint
from seglab.data.fetching.registry import Commercial, load_registry
from seglab.errors import DataError, UsageError, unknown

if TYPE_CHECKING:
    from torch import Tensor

    from seglab.models.encoder_decoder import EncoderDecoder
    from seglab.models.surgery import Transplant

__all__ = [
    "FETCHED",
    "EncoderWeights",
    "accept_terms",
    "encoder_weights",
    "fill_encoder",
    "find_encoder_weights",
    "load_encoder",
    "published_weights",
    "terms_of",
]

FETCHED: Final = "encoder-"
"""What the names of encoders' weights begin with in the registry of ``seglab fetch``; the encoder follows."""


@dataclass(frozen=True, kw_only=True)
class EncoderWeights:
    """Weights that somebody trained an encoder to."""

    encoder: str
    """The name of smp, or ``tu-`` and one of timm."""
    name: str
    """What they were trained on or how, as smp calls it; timm's tag for ``tu-``, empty for its choice."""
    licence: str
    """As their authors state it."""
    commercial: Commercial
    """Whether that licence allows commercial use."""

    @property
    def title(self) -> str:
        """How they are called in messages."""
        return f"{self.encoder}:{self.name}" if self.name else self.encoder


_NON_COMMERCIAL_SETS: Final = frozenset({"ssl", "swsl", "instagram"})
"""Trained by Facebook on pictures of Flickr and Instagram: CC-BY-NC 4.0, whatever the encoder."""
_OWN_SETS: Final[Mapping[str, tuple[str, ...]]] = {
    "resnet18": ("imagenet", "ssl", "swsl"), "resnet50": ("imagenet", "ssl", "swsl"),
    "resnext50_32x4d": ("imagenet", "ssl", "swsl"), "resnext101_32x4d": ("ssl", "swsl"),
    "resnext101_32x8d": ("imagenet", "instagram", "ssl", "swsl"), "resnext101_32x16d": ("instagram", "ssl", "swsl"),
    "resnext101_32x32d": ("instagram",), "resnext101_32x48d": ("instagram",),
    "dpn68b": ("imagenet+5k",), "dpn92": ("imagenet+5k",), "dpn107": ("imagenet+5k",),
    "inceptionresnetv2": ("imagenet", "imagenet+background"), "inceptionv4": ("imagenet", "imagenet+background"),
    "timm-efficientnet-b8": ("imagenet", "advprop"), "timm-efficientnet-l2": ("noisy-student", "noisy-student-475"),
}  # fmt: skip
_SETS: Final[Mapping[str, tuple[str, ...]]] = {
    "timm-efficientnet-": ("imagenet", "advprop", "noisy-student"),
    "efficientnet-": ("imagenet", "advprop"),
}
"""By the beginning of a name; all others have ``imagenet`` alone."""

_TERMS: Final[Mapping[str, tuple[str, Commercial]]] = {
    "mit_": ("NVIDIA Source Code License for SegFormer", "no"),
    "mobileone_": ("Apple, own terms of ml-mobileone", "unclear"),
    "resnet": ("BSD-3-Clause (torchvision)", "yes"),
    "resnext": ("BSD-3-Clause (torchvision)", "yes"),
    "vgg": ("BSD-3-Clause (torchvision)", "yes"),
    "densenet": ("BSD-3-Clause (torchvision)", "yes"),
    "mobilenet_v2": ("BSD-3-Clause (torchvision)", "yes"),
}
"""By the beginning of a name; the others of smp are Apache-2.0."""

_TIMM_TERMS: Final[Mapping[str, str]] = {
    "mobilenetv3_large_100": "Apache-2.0", "convnext_tiny": "Apache-2.0", "vit_tiny_patch16_224": "Apache-2.0",
    "vit_small_patch16_224": "Apache-2.0", "vit_base_patch16_224": "Apache-2.0",
}  # fmt: skip
"""What timm says of the models in the zoo's table, so that showing it needs no torch."""
_TIMM_COMMERCIAL: Final[Mapping[str, Commercial]] = {
    "apache-2.0": "yes", "mit": "yes", "bsd-3-clause": "yes", "cc-by-4.0": "yes",
    "cc-by-nc-4.0": "no", "fair-noncommercial-research-license": "no", "apple-amlr": "no", "seer-license": "no",
}  # fmt: skip
"""timm's names of licences; what is not here is unclear."""


def published_weights(encoder: str) -> tuple[EncoderWeights, ...]:
    """Return the weights published for an encoder, the usual ones first; needs no torch.

    For ``tu-`` encoders it is timm's choice alone; its licence is known for those in the zoo's table, and otherwise
    said to be stated by timm.

    Args:
        encoder: A name of smp, or ``tu-`` and one of timm.
    """
    if encoder.startswith("tu-"):
        model, _, tag = encoder.removeprefix("tu-").partition(".")
        licence = "" if tag else _TIMM_TERMS.get(model, "")
        return (
            EncoderWeights(
                encoder=encoder,
                name=tag,
                licence=licence or "stated by timm",
                commercial="yes" if licence else "unclear",
            ),
        )
    beginning = next((beginning for beginning in _SETS if encoder.startswith(beginning)), "")
    sets = _OWN_SETS.get(encoder) or _SETS.get(beginning, ("imagenet",))
    return tuple(_of_smp(encoder, name) for name in sets)


def encoder_weights(encoder: str, name: str = "") -> EncoderWeights:
    """Return published weights by name, the usual ones by default, with the terms that timm states for its own.

    Raises:
        UsageError: If the encoder has none of that name.
    """
    known = published_weights(encoder)
    found = {each.name: each for each in known}.get(name) if name else known[0]
    if found is None:
        raise unknown(f"set of weights for encoder `{encoder}`", name, [each.name for each in known if each.name])
    if encoder.startswith("tu-") and found.commercial == "unclear":
        licence = str(_timm_settings(encoder).get("license") or "none stated")
        return EncoderWeights(
            encoder=encoder, name=found.name, licence=licence, commercial=_TIMM_COMMERCIAL.get(licence, "unclear")
        )
    return found


def accept_terms(title: str, licence: str, commercial: str, *, accept_noncommercial: bool) -> None:
    """Let weights be used only by those who accept their terms.

    Args:
        title: What the weights are called.
        licence: Their licence.
        commercial: ``yes``, ``no`` or ``unclear``; only ``no`` has to be accepted.
        accept_noncommercial: Whether the user does.

    Raises:
        UsageError: If the weights must not be used commercially, and the user has not accepted that.
    """
    if commercial == "no" and not accept_noncommercial:
        raise UsageError(
            f"the weights `{title}` must not be used commercially ({licence}), nor what is trained from them",
            "`--accept-noncommercial` takes them all the same; or start from other weights",
        )


def find_encoder_weights(weights: EncoderWeights) -> Path | None:
    """Return the file of published weights if this machine has it.

    Looked at are the folder of ``seglab fetch``, the cache of ``huggingface_hub`` and that of ``torch.hub``, in which
    torchvision keeps its weights; each where its own environment variables put it.
    """
    if weights == published_weights(weights.encoder)[0] or not weights.name:
        fetched = fetched_checkpoint(f"{FETCHED}{weights.encoder}")
        if fetched is not None:
            return fetched
    return _in_hugging_face_cache(weights) or _in_torch_cache(weights)


def load_encoder(
    network: "EncoderDecoder", encoder: str, name: str = "", *, accept_noncommercial: bool = False
) -> "tuple[Transplant, EncoderWeights, Path]":
    """Give the encoder of a network the weights published for it.

    Args:
        network: Changed in place; its decoder is not touched.
        encoder: What it was built with.
        name: Which weights; the usual ones by default.
        accept_noncommercial: See :func:`accept_terms`.

    Returns:
        What was copied, the weights and their file.

    Raises:
        UsageError: If there are no such weights, or their terms have not been accepted.
        DataError: If they are not on this machine, damaged, or not this encoder's.
    """
    from seglab.models.checkpoint import read_tensors

    weights = encoder_weights(encoder, name)
    accept_terms(weights.title, weights.licence, weights.commercial, accept_noncommercial=accept_noncommercial)
    path = find_encoder_weights(weights)
    if path is None:
        raise DataError(f"the weights `{weights.title}` are not on this machine", _how_to_get(weights))
    return fill_encoder(network, encoder, read_tensors(path), path), weights, path


def fill_encoder(network: "EncoderDecoder", encoder: str, tensors: "Mapping[str, Tensor]", path: Path) -> "Transplant":
    """Give the encoder of a network the weights of a file, whether they are named by smp, timm or torchvision.

    Args:
        network: Changed in place; its decoder is not touched.
        encoder: What it was built with.
        tensors: The weights.
        path: Their file, for the error.

    Raises:
        DataError: If less than half of the encoder's numbers are there.
    """
    from seglab.models.surgery import transplant

    done = transplant(network.encoder, _as_smp_names(encoder, tensors))
    if 2 * done.copied_values < done.num_values:
        raise DataError(
            f"the weights in `{path}` are not those of an encoder `{encoder}`: {done.summary()}",
            "fetch them again, or start with random ones",
        )
    return done


def _as_smp_names(encoder: str, tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Return weights by the names of smp's encoder, by way of the code that smp and timm load their own with."""
    from seglab.models.encoder_decoder import bare_encoder

    try:
        if encoder.startswith("tu-"):
            return bare_encoder(encoder, tensors).state_dict()
        bare = bare_encoder(encoder)
        bare.load_state_dict(dict(tensors))
        return bare.state_dict()
    except (RuntimeError, KeyError, ValueError):  # a part is missing, or it is a plain transformer
        prefix = "model." if encoder.startswith("tu-") else ""
        return {prefix + name: tensor for name, tensor in tensors.items()}


def _of_smp(encoder: str, name: str) -> EncoderWeights:
    licence, commercial = next(
        (terms for beginning, terms in _TERMS.items() if encoder.startswith(beginning)), ("Apache-2.0", "yes")
    )
    if name in _NON_COMMERCIAL_SETS:
        licence, commercial = "CC-BY-NC-4.0", "no"
    return EncoderWeights(encoder=encoder, name=name, licence=licence, commercial=commercial)


def _in_hugging_face_cache(weights: EncoderWeights) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    repository, revision = _repository(weights)
    for name in ("model.safetensors", "pytorch_model.bin") if repository else ():
        path = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(path, str):
            return Path(path)
    return None


def _in_torch_cache(weights: EncoderWeights) -> Path | None:
    """Return torchvision's file of the same weights: smp's ``imagenet`` are copies of its first."""
    if weights.name != "imagenet" or weights.encoder.startswith("tu-"):
        return None
    import torch
    from torchvision.models import get_model_weights, list_models

    if weights.encoder not in list_models():
        return None
    url = str(get_model_weights(weights.encoder)["IMAGENET1K_V1"].url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    return path if path.is_file() else None


def _repository(weights: EncoderWeights) -> tuple[str, str | None]:
    """Return where on Hugging Face's hub weights are, and their revision; an empty name if nowhere."""
    if weights.encoder.startswith("tu-"):
        return str(_timm_settings(weights.encoder).get("hf_hub_id") or ""), None
    from seglab.models.encoder_decoder import import_smp

    settings = import_smp().encoders.encoders.get(weights.encoder, {}).get("pretrained_settings", {})
    found = settings.get(weights.name, {})
    return str(found.get("repo_id", "")), found.get("revision")


def _timm_settings(encoder: str) -> dict[str, Any]:
    import timm

    settings = timm.models.get_pretrained_cfg(encoder.removeprefix("tu-"), allow_unregistered=True)
    return {} if settings is None else dict(vars(settings))


def _how_to_get(weights: EncoderWeights) -> str:
    name = f"{FETCHED}{weights.encoder}"
    if weights == published_weights(weights.encoder)[0] and name in load_registry():
        return f"`seglab fetch {name}` brings them"
    return "give a file that you have: `--set encoder_weights=FILE`"


def terms_of(path: Path) -> tuple[str, Commercial] | None:
    """Return licence and commercial use of a model on this machine; None where neither registry nor bundle says so.

    A bundle is bound by what it was trained from.

    Args:
        path: A file or bundle folder.
    """
    from seglab.models.bundle import WEIGHTS_NAME, read_config

    models_dir = (cache_dir() / "models").resolve()
    resolved = path.resolve()
    if resolved.is_relative_to(models_dir) and resolved != models_dir:
        row = load_registry().get(resolved.relative_to(models_dir).parts[0])
        return None if row is None else (row.licence, row.commercial)
    if path.name != WEIGHTS_NAME and not path.is_dir():
        return None
    try:
        config = read_config(path)
    except DataError:
        return None  # weights by others
    origins = config.training.get("start", [])
    bound = [origin for origin in origins if isinstance(origin, Mapping) and origin.get("commercial") == "no"]
    found = [*bound, config.data]
    for each in found:
        if each.get("commercial") in ("yes", "no", "unclear"):
            return str(each.get("licence", "none stated")), each["commercial"]
    return None
