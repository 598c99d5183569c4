"""Run lengths in Kaggle's notation, in the columns of iMaterialist: one CSV file for all photos.

Pixels count from 1, down the columns. A photo in which nothing is found has no row.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from seglab.data.mask_rows import COLUMNS
from seglab.data.rle import encode_kaggle
from seglab.files import replacing
from seglab.inference.formats.regions import regions_of
from seglab.inference.labelled import Labelled
from seglab.tables import TableWriter
from seglab.tasks import Task

__all__ = ["assemble", "record"]

Records = Callable[[], Iterable[list[list[Any]]]]


def record(labelled: Labelled, name: str) -> list[list[Any]]:
    """Return the rows of a photo."""
    height, width = labelled.labels.shape
    return [[name, encode_kaggle(region.runs), height, width, region.class_id] for region in regions_of(labelled)]


def assemble(path: Path, task: Task, records: Records) -> None:  # noqa: ARG001 - the signature of a gathered form
    """Write the whole file in one step, a photo at a time.

    Args:
        path: Where to.
        task: What the class ids mean.
        records: Gives what :func:`record` returned, in order.
    """
    with replacing(path) as temporary_path, temporary_path.open("w", encoding="utf-8", newline="") as file:
        writer = TableWriter(file)
        writer.writerow(COLUMNS)
        for rows in records():
            writer.writerows(rows)
