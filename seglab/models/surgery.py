"""Start a network with the weights of another: whatever has the same name and shape is taken over, the rest stays.

That is how weights for one set of classes begin the training for another, and how an encoder is shared by decoders.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from seglab.errors import DataError
from seglab.models import pix2pix, unet
from seglab.models.outlines import rename_smp_key
from seglab.models.weights import strip_prefixes

__all__ = ["Transplant", "initialise", "read_weights", "transplant"]

_NUM_NAMED: Final = 4
"""How many tensors a summary names."""


@dataclass(frozen=True)
class Transplant:
    """What was taken over, and what was not."""

    copied: int
    """Tensors of the network that have new values."""
    num_tensors: int
    """Tensors of the network."""
    copied_values: int
    """Numbers in the tensors that were copied."""
    num_values: int
    """Numbers in all tensors of the network."""
    fresh: tuple[str, ...]
    """Names of the network's tensors that stayed as they were."""
    other_shape: tuple[str, ...]
    """Those of them for which there was a tensor of another shape."""
    unused: tuple[str, ...]
    """Names of the tensors that the network has no place for, as they were given."""
    naming: str
    """Whose names the tensors had."""

    def summary(self) -> str:
        """Return a line for the user: how many tensors were copied, and which are as they were."""
        said = (
            f"{self.copied} of {self.num_tensors} tensors copied ({100 * self.copied_values / self.num_values:.1f} %)"
        )
        return f"{said}; random: {_some(self.fresh)}" if self.fresh else said

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, for a run's records."""
        return {
            "copied": self.copied,
            "tensors": self.num_tensors,
            "copied_values": self.copied_values,
            "values": self.num_values,
            "fresh": list(self.fresh),
            "unused": len(self.unused),
            "naming": self.naming,
        }


def transplant(network: nn.Module, tensors: Mapping[str, Tensor]) -> Transplant:
    """Copy every tensor whose name and shape fit into a network; its other tensors are not touched.

    Names may be ours, those of the originals that the zoo has networks for, or those of a bare encoder; prefixes of
    wrappers are ignored. All tensors are read by one naming: the one by which most fit. The network keeps its number
    types and its place.

    Args:
        network: Changed in place.
        tensors: Weights of any network.

    Raises:
        DataError: If two tensors have the same name.
    """
    try:
        given = strip_prefixes(tensors)
    except ValueError as error:
        raise DataError(f"the weights are ambiguous: {error}") from error
    state = network.state_dict()
    naming, names = _best_naming(given, state)
    fitting = {name: ours for name, ours in names.items() if _fits(given[name], state[ours])}
    with torch.no_grad():
        for name, ours in fitting.items():
            state[ours].copy_(given[name])
    taken = set(fitting.values())
    fresh = tuple(name for name in state if name not in taken)
    return Transplant(
        copied=len(taken),
        num_tensors=len(state),
        copied_values=sum(state[name].numel() for name in taken),
        num_values=sum(tensor.numel() for tensor in state.values()),
        fresh=fresh,
        other_shape=tuple(sorted(set(names.values()) - taken)),
        unused=tuple(name for name in given if name not in names),
        naming=naming,
    )


def read_weights(where: str) -> tuple[dict[str, Tensor], Path]:
    """Return the tensors of a model, and the file that they are in.

    Args:
        where: A bundle folder or run, a ``.safetensors`` file (not only seglab's), a checkpoint by others, or the name
            of weights that are embedded or were fetched.

    Raises:
        DataError: If there is no such model, it is damaged, or it is a graph, which has no weights to start from.
    """
    from seglab.models.bundle import GRAPH_NAME, WEIGHTS_NAME, find_model
    from seglab.models.checkpoint import read_tensors

    path = Path(where) if where and Path(where).is_file() else find_model(where)
    if path.is_dir():
        path = path / WEIGHTS_NAME if (path / WEIGHTS_NAME).is_file() else path / GRAPH_NAME
    if path.suffix.lower() == ".onnx":
        hint = "name the bundle or checkpoint that it was exported from"
        raise DataError(f"`{path}` is a graph: its weights have lost their names", hint)
    return read_tensors(path), path


def initialise(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> Transplant:
    """Start a network with weights: :func:`transplant`, which must come to something.

    Args:
        network: Changed in place.
        tensors: The weights.
        path: Their file, for the error.

    Raises:
        DataError: If nothing but biases and statistics fits.
    """
    done = transplant(network, tensors)
    fresh = set(done.fresh)
    if not any(tensor.ndim > 1 for name, tensor in network.state_dict().items() if name not in fresh):
        raise DataError(
            f"none of the {len(tensors)} tensors in `{path}` fits the network",
            "`seglab models show` says what a file holds; start from weights of the same architecture",
        )
    return done


def _best_naming(given: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> tuple[str, dict[str, str]]:
    """Return whose names most tensors fit by, and the network's name of each that has a place."""
    best: tuple[int, str, dict[str, str]] = (-1, "", {})
    for naming, rename in _NAMINGS.items():
        renamed = ((name, rename(name)) for name in given)
        names = {name: ours for name, ours in renamed if ours is not None and ours in state}
        if len(set(names.values())) < len(names):
            continue  # two tensors for one place: these are somebody else's names
        num_fitting = sum(_fits(given[name], state[ours]) for name, ours in names.items())
        if num_fitting > best[0]:
            best = num_fitting, naming, names
    return best[1], best[2]


def _fits(tensor: Tensor, place: Tensor) -> bool:
    return tensor.shape == place.shape and tensor.is_floating_point() == place.is_floating_point()


def _of_unet(name: str) -> str | None:
    renamed = unet.rename_original_key(name)
    return None if renamed is None else renamed[1]


def _inside(prefix: str) -> Callable[[str], str]:
    return lambda name: prefix + name


_NAMINGS: Final[Mapping[str, Callable[[str], str | None]]] = {
    "seglab": lambda name: name,
    "PGN_PyTorch or Semantic_Segmentation_With_U-Net": _of_unet,
    "Pix2Pix-Image-Segmentation": pix2pix.rename_original_key,
    "segmentation-models-pytorch 0.3": rename_smp_key,
    "an encoder alone": _inside("encoder."),
    "an encoder of timm alone": _inside("encoder.model."),
}
"""Whose names a checkpoint may have, to what turns them into ours; the first wins where several fit alike."""


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else ""
    return ", ".join(f"`{name}`" for name in names[:_NUM_NAMED]) + more
