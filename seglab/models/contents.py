"""Which of the things in a checkpoint are the tensors of its network: see :mod:`seglab.data.pickles`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from seglab.data.pickles import Instance, PickleError, TensorRef
from seglab.errors import DataError

__all__ = ["find_tensors"]

MAX_TENSORS: Final = 100_000
MAX_DEPTH: Final = 64
"""How deep modules may lie in each other."""
_RUN_STATE: Final = frozenset({"format", "learner"})


def find_tensors(value: Any, path: Path) -> tuple[str, dict[str, TensorRef]]:
    """Return what a checkpoint is, in words, and the tensors of its one network by name.

    A state_dict, a pickled module, or a dictionary in which exactly one of either is, whatever its key; the state of
    optimizers does not count.

    Args:
        value: What was pickled.
        path: The file, for the error.

    Raises:
        DataError: If there is no network or more than one, or it is the resume state of a training run.
    """
    if isinstance(value, Mapping):
        _refuse_resume_state(value, path)
    whole = _network(value)
    groups = {str(key): found for key, entry in _items(value) if (found := _network(entry)) is not None}
    if whole is not None and not (groups and _only_numbers(whole[1])):
        return whole
    if len(groups) > 1:
        names = ", ".join(f"`{name}`" for name in groups)
        first = next(iter(groups))
        hint = f'save the one you want alone: torch.save(torch.load(FILE)["{first}"], "one.pth")'
        raise DataError(f"`{path}` holds {len(groups)} networks ({names}): which one is meant is not said", hint)
    for name, (what, tensors) in groups.items():
        return f"{what} in `{name}`", tensors
    if any(_is_optimizer(entry) for _, entry in [("", value), *_items(value)]):
        hint = "weights are in another file, often called model or best"
        raise DataError(f"`{path}` holds the state of an optimizer, and no network", hint)
    raise DataError(f"`{path}` is not a usable checkpoint: it holds no tensors of a network", "save its state_dict")


def _network(value: Any) -> tuple[str, dict[str, TensorRef]] | None:
    """Return a state_dict or module as tensors by name; None if it is neither."""
    if isinstance(value, Instance):
        tensors = dict(_walk(value, ""))
        return ("pickled module", tensors) if tensors else None
    if type(value) is not dict or _is_optimizer(value):
        return None
    tensors = {name: entry for name, entry in value.items() if type(name) is str and isinstance(entry, TensorRef)}
    return ("state_dict", tensors) if tensors else None


def _walk(module: Instance, prefix: str) -> Iterator[tuple[str, TensorRef]]:
    """Yield the parameters and persistent buffers of a module and those in it, in a state_dict's order."""
    seen = 0
    pending = [(module, prefix, 0)]
    while pending:
        current, before, depth = pending.pop()
        seen += 1
        if depth > MAX_DEPTH or seen > MAX_TENSORS:
            raise PickleError("modules in it are nested without end")
        state = _state(current)
        passing = state.get("_non_persistent_buffers_set")
        skipped = {name for name in passing if type(name) is str} if type(passing) is list else set()
        for table in ("_parameters", "_buffers"):
            for name, entry in _items(state.get(table)):
                if isinstance(entry, TensorRef) and not (table == "_buffers" and name in skipped):
                    yield f"{before}{name}", entry
        children = [(name, child) for name, child in _items(state.get("_modules")) if isinstance(child, Instance)]
        pending += [(child, f"{before}{name}.", depth + 1) for name, child in reversed(children)]


def _state(module: Instance) -> Mapping[Any, Any]:
    state = module.state
    if type(state) is tuple and state:  # attributes, and those that have slots
        state = state[0]
    return state if type(state) is dict else {}


def _items(value: Any) -> list[tuple[Any, Any]]:
    if type(value) is dict:
        return list(value.items())
    return list(value.items.items()) if isinstance(value, Instance) else []


def _is_optimizer(value: Any) -> bool:
    return type(value) is dict and "param_groups" in value and "state" in value


def _only_numbers(tensors: Mapping[str, TensorRef]) -> bool:
    """Tell whether these are a loss or a score that was saved as a tensor, beside the network."""
    return all(not tensor.shape for tensor in tensors.values())


def _refuse_resume_state(value: Mapping[Any, Any], path: Path) -> None:
    if value.keys() >= _RUN_STATE and type(value["format"]) is int:
        raise DataError(
            f"`{path}` is the resume state of a training run, not its model", f"name the run: `--model {path.parent}`"
        )
