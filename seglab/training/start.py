"""What a run starts with: the input's form, weights made earlier, and the weights of the classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from seglab.config import TrainConfig
from seglab.data.fetching.registry import load_registry
from seglab.errors import DataError, UsageError
from seglab.files import sha256_of
from seglab.models.catalogue import EMBEDDED, embedded_weights
from seglab.models.checkpoint import read_tensors
from seglab.models.encoder_decoder import EncoderDecoder
from seglab.models.pretrained import (
    FETCHED,
    accept_terms,
    encoder_weights,
    fill_encoder,
    find_encoder_weights,
    published_weights,
    terms_of,
)
from seglab.models.surgery import Transplant, initialise, read_weights
from seglab.preprocess import Preprocess
from seglab.tasks import Task
from seglab.training.losses.balance import balanced_weights
from seglab.training.optimizer import encoder_of

if TYPE_CHECKING:
    from seglab.data.manifest import Sample

__all__ = ["Origin", "class_weights_of", "preprocess_of", "start_network"]


@dataclass(frozen=True)
class Origin:
    """Where some of a network's first weights are from."""

    part: Literal["network", "encoder"]
    line: str
    """What was done, for the user."""
    source: str = ""
    """The file's name; empty if there was none."""
    sha256: str = ""
    licence: str = ""
    """Of the weights, where it is known."""
    commercial: str = ""
    """``yes``, ``no`` or ``unclear``, where that is known."""
    copied: Transplant | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, for the records of a run."""
        values = {"part": self.part, "source": self.source, "sha256": self.sha256}
        terms = {"licence": self.licence, "commercial": self.commercial} if self.commercial else {}
        return values | terms | (self.copied.to_dict() if self.copied else {})


def preprocess_of(config: TrainConfig) -> Preprocess:
    """Return how photos become the input of a run's network."""
    (mean_r, mean_g, mean_b), (std_r, std_g, std_b) = config.mean, config.std
    return Preprocess(
        size_hw=(config.size, config.size), fit=config.fit, mean=(mean_r, mean_g, mean_b), std=(std_r, std_g, std_b)
    )


def class_weights_of(config: TrainConfig, task: Task, samples: "Sequence[Sample]") -> list[float] | None:
    """Return a number a class for the losses that take it; None if all are 1.

    Args:
        config: ``class_weights`` matters here.
        task: The classes.
        samples: The training split; its pixel counts decide for ``auto``.

    Raises:
        UsageError: If there are not as many weights as classes, or not one of them is positive.
    """
    if config.class_weights == "none":
        return None
    if config.class_weights == "auto":
        return balanced_weights([sum(sample.pixels[name] for sample in samples) for name in task.classes])
    weights = [float(weight) for weight in config.class_weights]
    if len(weights) != task.num_classes or not any(weights):
        raise UsageError(
            f"`class_weights` are {len(weights)} numbers, but task `{task.name}` has {task.num_classes} classes"
            if any(weights)
            else "`class_weights` are all 0",
            f"one for each of {', '.join(task.classes)}; or `auto`, or `none`",
        )
    return weights


def start_network(
    network: nn.Module, config: TrainConfig, task_name: str = "", *, accept_noncommercial: bool = False
) -> list[Origin]:
    """Give a network the weights that it starts with, in place. Nothing is downloaded.

    Args:
        network: With random weights.
        config: ``encoder_weights`` and ``init`` matter here, and ``model`` names the encoder.
        task_name: Whose weights ``init = "embedded"`` means.
        accept_noncommercial: Take weights that must not be used commercially, too.

    Returns:
        What was done, one for the encoder and one for the network, if anything.

    Raises:
        UsageError: If the network has no encoder of its own to give weights to, or terms have not been accepted.
        DataError: If weights cannot be read, or none of them fits.
    """
    origins = []
    if config.encoder_weights != "none":
        origins.append(_start_encoder(network, config, accept_noncommercial))
    if config.init:
        where = str(embedded_weights(task_name)) if config.init == EMBEDDED else config.init
        origins.append(_start_whole(network, config.init, where, accept_noncommercial))
    if config.freeze_encoder and not any(origin.source for origin in origins):
        hint = "`--encoder-weights` or `--init` gives it weights"
        origins.append(Origin("encoder", f"the encoder stays random, as it is frozen: {hint}"))
    return origins


def _start_whole(network: nn.Module, name: str, where: str, accept_noncommercial: bool) -> Origin:
    tensors, path = read_weights(where)
    licence, commercial = terms_of(path) or ("", "")
    accept_terms(name, licence, commercial, accept_noncommercial=accept_noncommercial)
    done = initialise(network, tensors, path)
    line = f"{done.copied} of {done.num_tensors} tensors start as in `{name}`"
    if done.fresh:
        line += f"; random: {', '.join(done.fresh[:3])}{' ...' if len(done.fresh) > 3 else ''}"
    return Origin("network", line, path.name, sha256_of(path), licence, commercial, done)


def _start_encoder(network: nn.Module, config: TrainConfig, accept_noncommercial: bool) -> Origin:
    encoder_of(network)
    if not isinstance(network, EncoderDecoder):
        raise UsageError(
            f"nobody publishes weights for an encoder of `{config.model}`", "leave `encoder_weights` at `none`"
        )
    name, wanted = config.model.partition("-")[2], config.encoder_weights
    path, terms = Path(wanted), terms_of(Path(wanted))
    if wanted in ("auto", *(each.name for each in published_weights(name) if each.name)):
        weights = encoder_weights(name, "" if wanted == "auto" else wanted)
        found = find_encoder_weights(weights)
        if found is None and wanted == "auto":
            return Origin("encoder", f"the encoder starts with random weights: {_missing(name)}")
        if found is None:
            raise DataError(
                f"the weights `{weights.title}` are not on this machine", "`seglab fetch` lists those it has"
            )
        path, terms = found, (weights.licence, weights.commercial)
    elif not path.is_file():
        raise DataError(f"there are no encoder weights `{wanted}`", "`auto`, `none`, or a file")
    licence, commercial = terms or ("", "")
    accept_terms(str(path), licence, commercial, accept_noncommercial=accept_noncommercial)
    done = fill_encoder(network, name, read_tensors(path), path)
    line = f"the encoder starts with {done.copied} of {done.num_tensors} tensors of `{path}`"
    return Origin("encoder", line, path.name, sha256_of(path), licence, commercial, done)


def _missing(encoder: str) -> str:
    name = f"{FETCHED}{encoder}"
    return f"`seglab fetch {name}` brings trained ones" if name in load_registry() else "this machine has no others"
