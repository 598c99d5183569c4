"""What was probably meant by a model that does not exist."""

import difflib
from pathlib import Path

from seglab.models.bundle import GRAPH_NAME, HOW_TO_MAKE_ONE, WEIGHTS_NAME
from seglab.models.catalogue import near_names

__all__ = ["bundles_in", "hint_at", "near_hint"]


def near_hint(name_or_path: str) -> str:
    """Return the hint for a model that does not exist: near names, near files, or the command that makes a model."""
    near = near_names(name_or_path)
    if near:
        return "did you mean " + " or ".join(f"`{name}`" for name in near) + "?"
    return hint_at(_near(Path(name_or_path)) if name_or_path else [])


def bundles_in(folder: Path) -> list[Path]:
    """Return the first few models in a folder."""
    return [child for child in sorted(_children(folder)) if _is_model(child)][:3]


def hint_at(near: list[Path]) -> str:
    """Return the hint at some models, or at the command that makes one."""
    if not near:
        return HOW_TO_MAKE_ONE
    return "there is " + " and ".join(f"`{path}`" for path in near) + "; " + HOW_TO_MAKE_ONE


def _near(path: Path) -> list[Path]:
    """Return existing models whose names resemble a path that does not exist."""
    parent = next((folder for folder in path.parents if folder.is_dir()), None)
    if parent is None:
        return []
    wanted = path.relative_to(parent).parts[0]
    candidates = {child.name: child for child in _children(parent)}
    close = difflib.get_close_matches(wanted, candidates, n=3, cutoff=0.5)
    near = [candidates[name] for name in close if _is_model(candidates[name])]
    return near or (bundles_in(parent) if parent != Path() else bundles_in(Path("runs")))


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_model(path: Path) -> bool:
    if path.is_dir():
        return (path / WEIGHTS_NAME).is_file() or (path / GRAPH_NAME).is_file()
    return path.suffix.lower() in (".onnx", ".safetensors") and path.is_file()
