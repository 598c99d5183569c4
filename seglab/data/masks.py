"""What the pixels of somebody's mask files mean: class ids, 0 and 255, or colours.

The meaning is decided once for a whole source, never file by file: a mask of only 0 and 255 shows a person in one
source, and unlabelled pixels in another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from seglab.data.problems import FOREIGN_IDS
from seglab.data.sources import BadLabels
from seglab.errors import DataError
from seglab.notation import parse_json, parse_toml, read_given
from seglab.tasks import IGNORE, Rgb, Task

__all__ = ["BINARY", "IDS", "Convention", "decide_convention", "load_colours", "read_mask"]

NUM_LOOKED_AT: Final = 24
"""How many masks, spread over the source, decide what the values mean. One that differs is a problem, not a guess."""

FOREIGN_COLOURS: Final = "colours outside the table"
GREY_VALUES: Final = "values other than 0 and 255"
MIXED: Final = "0/255 and 0/1 masks in one source"


@dataclass(frozen=True)
class Convention:
    """How mask files are read."""

    kind: Literal["ids", "binary", "colours"]
    """Class ids with 255 for ignore; 0 and 255 for background and the one class; colours of a table."""
    note: str = ""
    """The convention in words, if the user should be told."""
    refuse_bare_255: bool = False
    """Whether an id mask of 0 and 255 alone is a contradiction, because 255 is nowhere seen beside an id."""
    colours: Mapping[Rgb, int] | None = None


IDS: Final = Convention("ids")
BINARY: Final = Convention("binary", "masks are 0/255: 255 is the class, nothing is ignored")


def decide_convention(mask_paths: Sequence[Path], task: Task, colours: Mapping[Rgb, int] | None) -> Convention:
    """Look at some masks and say what the values of all mean.

    Args:
        mask_paths: All masks of the source.
        task: The task that the values must fit.
        colours: The declared table; it settles the matter.
    """
    if colours is not None:
        return Convention("colours", f"masks are colours of the given table ({len(colours)} colours)", colours=colours)
    step = max(1, len(mask_paths) // NUM_LOOKED_AT)
    seen = [_values(path) for path in mask_paths[::step]]
    own = {colour: id for id, colour in enumerate(task.palette)}
    num_colour = sum(values is None for values in seen)
    num_ids = sum(any((value,) * 3 not in own for value in values) for values in seen if values)
    if num_colour and num_colour >= num_ids:  # a stray one among ids is a problem of its own
        return Convention("colours", f"masks are colours, read by the palette of task `{task.name}`", colours=own)
    values = [present for present in seen if present]
    has_ids = any(1 in present for present in values)
    has_255 = any(IGNORE in present for present in values)
    if task.num_classes == 2 and has_255 and not has_ids and all(present <= {0, IGNORE} for present in values):
        return BINARY
    together = any(1 in present and IGNORE in present for present in values)
    note = "255 in the masks is ignored" if has_255 else ""
    return Convention("ids", note, refuse_bare_255=task.num_classes == 2 and not together)


def read_mask(path: Path, convention: Convention, task: Task) -> NDArray[np.uint8]:
    """Read a mask file as class ids (HW uint8, 255 = ignore).

    Raises:
        ImageError: If the file is no lossless picture of one value a pixel.
        BadLabels: If a value has no meaning by the convention.
    """
    from seglab.data.images import read_labels, read_rgb_mask

    if convention.colours is not None:
        return _from_colours(read_rgb_mask(path), convention.colours)
    labels = read_labels(path)
    counts = np.bincount(labels.ravel(), minlength=256)
    present = set(np.flatnonzero(counts).tolist())
    if convention.kind == "binary":
        return _from_binary(labels, counts, present)
    foreign = {str(value): int(counts[value]) for value in sorted(present) if task.num_classes <= value < IGNORE}
    if foreign:
        raise BadLabels(FOREIGN_IDS, foreign)
    if convention.refuse_bare_255 and IGNORE in present and present <= {0, IGNORE}:
        raise BadLabels(MIXED, {"255": int(counts[IGNORE])})
    return labels


def load_colours(path: Path, task: Task) -> dict[Rgb, int]:
    """Read a table of class names and colours from a TOML or JSON file.

    ::

        background = "#000000"
        person = ["#ff0000", [200, 0, 0]]     # one colour or several, as text or as three numbers
        ignore = "#ffffff"

    Returns:
        Class id, or 255 for ``ignore``, of every colour.

    Raises:
        DataError: If the file cannot be read, or names no class of the task, or gives a colour two meanings.
    """
    try:
        text = read_given(path).decode("utf-8-sig")
        table = parse_json(text) if path.suffix.lower() == ".json" else parse_toml(text)
    except OSError as error:
        raise DataError(f"cannot read colour table `{path}`: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"cannot read colour table `{path}`: {error}") from error
    table = table.get("colours", table) if isinstance(table, dict) else table
    if not isinstance(table, dict) or not table:
        raise DataError(f"colour table `{path}` is empty or no table", 'write lines like `person = "#ff0000"`')
    colours: dict[Rgb, int] = {}
    for name, value in table.items():
        if name not in (*task.classes, "ignore"):
            raise DataError(f"colour table `{path}`: task `{task.name}` has no class `{name}`", _classes_hint(task))
        id = task.classes.index(name) if name in task.classes else IGNORE
        for colour in _colours(value, path):
            if colours.setdefault(colour, id) != id:
                raise DataError(f"colour table `{path}` gives `{_hex(colour)}` two meanings")
    return colours


def _values(path: Path) -> set[int] | None:
    """Return the values of a one-channel mask, None for a colour mask, nothing for an unreadable one."""
    from seglab.data.images import ImageError, read_labels, read_rgb_mask

    try:
        return set(np.unique(read_labels(path)).tolist())
    except (ImageError, OSError):
        pass
    try:
        rgb = read_rgb_mask(path)
    except (ImageError, OSError):
        return set()
    grey = (rgb[..., 0] == rgb[..., 1]) & (rgb[..., 1] == rgb[..., 2])
    return set() if grey.all() else None


def _from_binary(labels: NDArray[np.uint8], counts: NDArray[np.int64], present: set[int]) -> NDArray[np.uint8]:
    grey = {str(value): int(counts[value]) for value in sorted(present - {0, IGNORE})}
    if grey:
        raise BadLabels(MIXED if present <= {0, 1} else GREY_VALUES, grey)
    binary: NDArray[np.uint8] = (labels == IGNORE).astype(np.uint8)
    return binary


def _from_colours(rgb: NDArray[np.uint8], colours: Mapping[Rgb, int]) -> NDArray[np.uint8]:
    packed = _pack(rgb.astype(np.int32))
    keys, ids = zip(*sorted((int(_pack(np.array(colour))), id) for colour, id in colours.items()), strict=True)
    position = np.minimum(np.searchsorted(keys, packed), len(keys) - 1)
    foreign = np.asarray(keys)[position] != packed
    if foreign.any():
        values, counts = np.unique(packed[foreign], return_counts=True)
        most = np.argsort(-counts, kind="stable")
        raise BadLabels(FOREIGN_COLOURS, {f"#{values[i]:06x}": int(counts[i]) for i in most[:100]})
    labels: NDArray[np.uint8] = np.asarray(ids, np.uint8)[position]
    return labels


def _pack(rgb: NDArray[Any]) -> NDArray[Any]:
    packed: NDArray[Any] = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
    return packed


def _colours(value: Any, path: Path) -> list[Rgb]:
    several = isinstance(value, list) and bool(value) and isinstance(value[0], list | str)
    return [_colour(one, path) for one in value] if several else [_colour(value, path)]


def _colour(value: Any, path: Path) -> Rgb:
    if isinstance(value, str) and len(value) == 7 and value[0] == "#":
        try:
            number = int(value[1:], 16)
        except ValueError:
            number = -1
        if number >= 0:
            return number >> 16, number >> 8 & 255, number & 255
    if isinstance(value, list) and len(value) == 3 and all(type(part) is int and 0 <= part <= 255 for part in value):
        return value[0], value[1], value[2]
    raise DataError(f"colour table `{path}`: `{value}` is no colour", 'write `"#ff0000"` or `[255, 0, 0]`')


def _hex(colour: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _classes_hint(task: Task) -> str:
    return f"classes: {', '.join(task.classes)}; `ignore` for pixels that do not count"
