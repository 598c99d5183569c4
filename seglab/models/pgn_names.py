"""How the variables of the Part Grouping Network's TensorFlow checkpoint are called here."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from seglab.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TF_MEAN", "TF_STD", "rename_tf_variable", "tf_state"]

TF_MEAN: Final = (107.9 / 255, 114.4 / 255, 125.0 / 255)
"""RGB mean of the published weights, on the 0..1 scale: they were trained on BGR less (125.0, 114.4, 107.9)."""
TF_STD: Final = (1 / 255, 1 / 255, 1 / 255)
"""Their standard deviation: none was divided by."""

_TENSORS: Final = {
    "weights": "weight",
    "biases": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_FIRST: Final = "backbone.stem.conv.weight"
_BLOCK: Final = r"([2-5])([a-z])(\d*)_(branch1|branch2[abc])"

_LAYERS: Final[tuple[tuple[str, Callable[[Any], str]], ...]] = (
    (r"conv1", lambda _: "backbone.stem.conv"),
    (r"bn_conv1", lambda _: "backbone.stem.norm"),
    (rf"res{_BLOCK}", lambda m: f"backbone.res{m[1]}.{_block(m)}.{m[4]}.conv"),
    (rf"bn{_BLOCK}", lambda m: f"backbone.res{m[1]}.{_block(m)}.{m[4]}.norm"),
    (r"(parsing|edge)_branch([1-3])", lambda m: f"{m[1]}.taps.{int(m[2]) - 1}"),
    (r"(parsing|edge)_branch", lambda m: f"{m[1]}.fuse"),
    (r"(parsing|edge)_rf", lambda m: f"{m[1]}_rf.fuse"),
    (r"(parsing|edge)(_rf)?_pp([1-4])", lambda m: f"{m[1]}{m[2] or ''}.pyramid.levels.{int(m[3]) - 1}"),
    (r"(parsing|edge)(?:_pp|(_rf))_conv", lambda m: f"{m[1]}{m[2] or ''}.pyramid.merge"),
    (r"(parsing|edge)(_rf)?_fc", lambda m: f"{m[1]}{m[2] or ''}.head"),
    (r"(parsing|edge)_fea", lambda m: f"{m[1]}_notes.features"),
    (r"(parsing|edge)_remap", lambda m: f"{m[1]}_notes.remap"),
    (r"fc1_edge_c([0-4])_res([3-5])", lambda m: f"edge_sides.{int(m[2]) - 3}.{m[1]}"),
)


def rename_tf_variable(name: str) -> str:
    """Return the key that a variable of the published checkpoint has in :class:`seglab.models.pgn.PGN`.

    Args:
        name: Of the variable, e.g. ``res4b22_branch2a/weights`` or ``bn_conv1/moving_mean``.

    Raises:
        DataError: If it is none of that network.
    """
    layer, _, tensor = name.partition("/")
    if tensor in _TENSORS:
        for pattern, key in _LAYERS:
            if found := re.fullmatch(pattern, layer):
                return f"{key(found)}.{_TENSORS[tensor]}"
    raise DataError(f"`{name}` is no variable of the Part Grouping Network")


def tf_state(variables: "Mapping[str, NDArray[np.float32]]") -> "dict[str, NDArray[np.float32]]":
    """Return the weights of a TensorFlow checkpoint by our keys, for pictures in RGB order.

    Convolutions are turned from HWIO to OIHW, and the first one's channels from BGR to RGB. Counters that torch keeps
    beside the statistics (``num_batches_tracked``) are not among them. The network that they fit is
    ``PGN(20, resize="corners")``, with :data:`TF_MEAN` and :data:`TF_STD`.

    Args:
        variables: Names and values; optimizer slots are not expected.

    Raises:
        DataError: If a name is none of that network.
    """
    state = {
        rename_tf_variable(name): value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
        for name, value in variables.items()
    }
    if _FIRST in state:
        state[_FIRST] = state[_FIRST][:, ::-1]
    return state


def _block(match: Any) -> int:
    """Return the position of a block: a, b, c or, in long stages, a, b1, b2 and so on."""
    return int(match[3]) if match[3] else "abc".index(match[2])
