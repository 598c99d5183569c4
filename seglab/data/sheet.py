"""The contact sheet of an inspection: random samples, then those that deserve a look, each with the reason."""

import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.drawing import contact_sheet, overlay, with_legend
from seglab.data.geometry import reduced_hw
from seglab.data.images import ImageError, read_labels, read_photo, resize_image, resize_labels, write_photo
from seglab.data.inspect import Inspection
from seglab.data.manifest import Dataset, Sample
from seglab.errors import DataError, UsageError

__all__ = ["check_sheet", "write_sheet"]

SUFFIXES: Final = (".png", ".jpg", ".jpeg")

CELL: Final = 256
"""Side of a picture in pixels."""

COLUMNS: Final = 5
MAX_ODD: Final = 30

Pixels = NDArray[np.uint8]


def check_sheet(path: Path) -> None:
    """Refuse a place where no sheet can be written, before there is one.

    Raises:
        UsageError: If the suffix is no picture's.
        DataError: If the folder is not there or cannot be written to.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"cannot draw `{path}`", "`--sheet sheet.png`, or a .jpg")
    if path.is_dir():
        raise DataError(f"`{path}` is a folder", f"`--sheet {shlex.quote(str(path / 'sheet.png'))}`")
    if not path.parent.is_dir():
        raise DataError(f"there is no folder `{path.parent}`", f"`mkdir -p {shlex.quote(str(path.parent))}` makes it")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        hint = "check the space and permissions, or choose another place: `--sheet sheet.png`"
        raise DataError(f"cannot write `{path}`: {error.strerror or error}", hint) from error


def write_sheet(inspection: Inspection, path: Path, *, num_random: int = 10, seed: int = 0) -> None:
    """Write the sheet as JPEG or PNG, by suffix.

    Args:
        inspection: What was found.
        path: Where to; replaced if it is there.
        num_random: How many random samples to show.
        seed: Which ones.

    Raises:
        UsageError: If the suffix is another.
    """
    dataset = inspection.dataset
    num = min(num_random, len(dataset.samples))
    chosen = np.sort(np.random.default_rng(seed).choice(len(dataset.samples), num, replace=False))
    parts = [_section(f"{num} random samples", dataset, [(int(i), "") for i in chosen])]
    odd = list(_odd(inspection).items())
    if odd:
        title = f"{min(len(odd), MAX_ODD)} of {len(odd)} to look at" if odd[MAX_ODD:] else f"{len(odd)} to look at"
        parts.append(_section(title, dataset, odd[:MAX_ODD]))
    legend = with_legend(np.full((1, COLUMNS * CELL * 3 // 5, 3), 255, np.uint8), dataset.task)
    write_photo(path, _stacked([*parts, legend]), quality=88)


def _odd(inspection: Inspection) -> dict[int, str]:
    """Return the samples to look at and why: outliers by score, then sides, then the photos that are in two splits."""
    found: dict[int, str] = {}
    for outlier in inspection.outliers:
        found.setdefault(outlier.position, outlier.reason)
    for pair in inspection.mirror:
        for position in pair.against:
            found.setdefault(position, f"`{pair.left}` and `{pair.right}` lie the other way round")
    for group in inspection.across:
        for position in group:
            others = [inspection.dataset.samples[other].id for other in group if other != position]
            found.setdefault(position, f"near-duplicate of {others[0]}")
    return {position: reason for position, reason in found.items() if position not in inspection.unreadable}


def _section(title: str, dataset: Dataset, shown: Sequence[tuple[int, str]]) -> Pixels:
    parts = [contact_sheet([], titles=[title], cell_hw=(CELL, COLUMNS * CELL))]
    for start in range(0, len(shown), COLUMNS):
        row = [(dataset.samples[position], reason) for position, reason in shown[start : start + COLUMNS]]
        parts.append(_captions([f"{sample.split}/{sample.id}" for sample, _ in row]))
        parts.append(contact_sheet([[_draw(dataset, sample) for sample, _ in row]], cell_hw=(CELL, CELL)))
        lines = [reason.partition(", ") for _, reason in row]
        parts += [_captions([line[part] for line in lines]) for part in (0, 2) if any(line[part] for line in lines)]
    return _stacked(parts)


def _captions(texts: Sequence[str]) -> Pixels:
    return contact_sheet([], titles=[*texts, *[""] * (COLUMNS - len(texts))], cell_hw=(CELL // 2, CELL))


def _stacked(parts: Sequence[Pixels]) -> Pixels:
    width = max(part.shape[1] for part in parts)
    wide = [np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255) for part in parts]
    return np.vstack(wide)


def _draw(dataset: Dataset, sample: Sample) -> Pixels:
    try:
        image, labels = read_photo(dataset.image_path(sample)).image, read_labels(dataset.label_path(sample))
    except ImageError:
        return np.full((CELL, CELL, 3), 200, np.uint8)
    size_hw = reduced_hw((labels.shape[0], labels.shape[1]), CELL)
    return overlay(resize_image(image, size_hw), resize_labels(labels, size_hw), dataset.task.palette)
