"""Where fetched things lie, and how they are found again."""

import os
import shlex
import sys
from pathlib import Path
from typing import Final

from seglab.data.fetching.registry import Row, load_registry
from seglab.notation import parse_json

__all__ = [
    "OFFLINE_VARIABLE",
    "SOURCE_NAME",
    "cache_dir",
    "data_path",
    "default_dir",
    "fetch_again",
    "fetched_checkpoint",
    "fetched_path",
    "is_offline",
]

SOURCE_NAME: Final = "SOURCE.json"
"""Lies in every fetched folder and says where its content came from."""
OFFLINE_VARIABLE: Final = "SEGLAB_OFFLINE"


def cache_dir() -> Path:
    """Return the folder of what seglab downloads: ``SEGLAB_CACHE``, or the platform's folder for caches."""
    own = os.environ.get("SEGLAB_CACHE")
    if own:
        return Path(own).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "seglab"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "seglab" / "Cache"
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if xdg.startswith("/") else Path.home() / ".cache") / "seglab"


def default_dir(row: Row) -> Path:
    """Return the folder that a row is fetched into unless told otherwise."""
    return cache_dir() / ("datasets" if row.kind == "dataset" else "models") / row.name


def fetched_checkpoint(name: str) -> Path | None:
    """Return the weights that ``seglab fetch NAME`` left in the cache, or None if they are not there.

    Args:
        name: A row's name; any text is allowed.
    """
    if not name or name != Path(name).name or name.startswith("."):
        return None
    return fetched_path(cache_dir() / "models" / name)


def fetched_path(folder: Path) -> Path | None:
    """Return what a fetched folder is about (see :func:`data_path`), or None if nothing fetched is in it."""
    if not (folder / SOURCE_NAME).is_file() or all(path.name == SOURCE_NAME for path in folder.iterdir()):
        return None
    return data_path(folder)


def fetch_again(path: Path) -> str:
    """Return the command that brings a file anew; empty if it does not lie where ``seglab fetch`` left it.

    Args:
        path: Any file.
    """
    folder = next((folder for folder in path.absolute().parents if (folder / SOURCE_NAME).is_file()), None)
    try:
        name = str(parse_json((folder / SOURCE_NAME).read_bytes())["name"]) if folder is not None else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if folder is None or not name or name.startswith("-"):
        return ""
    row = load_registry().get(name)
    own = "" if row is not None else " --registry FILE.toml"
    at_home = folder.parent.parent == cache_dir().absolute() and folder.name == name
    return f"seglab fetch {shlex.quote(name)} --force{own}" + ("" if at_home else f" --out {shlex.quote(str(folder))}")


def data_path(folder: Path) -> Path:
    """Return what a fetched folder is about: its one file, its one folder (and so on inwards), or itself."""
    while True:
        inside = [
            path
            for path in folder.iterdir()
            if not path.name.startswith(".") and path.name not in (SOURCE_NAME, "__MACOSX")
        ]
        if len(inside) != 1:
            return folder
        if inside[0].is_file():
            return inside[0]
        if any(path.name in _LAYOUT_NAMES for path in inside):
            return folder
        folder = inside[0]


_LAYOUT_NAMES = frozenset({"train", "val", "test", "images", "masks", "labels", "JPEGImages"})
"""Folders that belong to a layout even where they are alone."""


def is_offline() -> bool:
    """Tell whether ``SEGLAB_OFFLINE`` forbids the network."""
    return os.environ.get(OFFLINE_VARIABLE, "").strip().lower() not in ("", "0", "false", "no")
