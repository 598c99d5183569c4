"""Annotations in COCO's format: one file for all photos, which pycocotools reads.

Origin: https://cocodataset.org/#format-data. Beyond it, annotations have a ``score`` (as COCO's results do) and, where
people are told apart, the number of the ``person_id``.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, Final

from seglab.data.rle import encode_counts
from seglab.files import replacing
from seglab.inference.formats.polygons import to_polygons
from seglab.inference.formats.regions import Region, regions_of
from seglab.inference.labelled import Labelled
from seglab.tasks import Task
from seglab.version import __version__

__all__ = ["TOLERANCE", "assemble", "record_polygons", "record_runs"]

TOLERANCE: Final = 1.0
"""Pixels that polygons may stray from the edges of a mask."""

Records = Callable[[], Iterable[dict[str, Any]]]


def record_runs(labelled: Labelled, name: str) -> dict[str, Any]:
    """Return a photo and its annotations, with masks as compressed run lengths: exact."""
    return _record(labelled, name, lambda region: {"size": list(region.size_hw), "counts": encode_counts(region.runs)})


def record_polygons(labelled: Labelled, name: str) -> dict[str, Any]:
    """Return a photo and its annotations, with masks as polygons (see :data:`TOLERANCE`)."""
    return _record(labelled, name, _polygons)


def assemble(path: Path, task: Task, records: Records) -> None:
    """Write the whole file in one step; nothing but one photo's annotations is in memory at a time.

    Args:
        path: Where to.
        task: Whose classes are the categories; their ids are the class ids.
        records: Gives what the functions above returned, in order; called twice.
    """
    categories = [{"id": i, "name": name, "supercategory": task.name} for i, name in enumerate(task.classes) if i]
    info = {"description": f"masks of the task {task.name}", "version": f"seglab {__version__}"}
    with replacing(path) as temporary_path, temporary_path.open("w", encoding="utf-8") as file:
        file.write(f'{{"info": {json.dumps(info)},\n"licenses": [],\n"categories": {json.dumps(categories)},\n')
        file.write('"images": [')
        _write_all(file, ({"id": i, **record["image"]} for i, record in enumerate(records(), start=1)))
        file.write('],\n"annotations": [')
        annotations = ((i, item) for i, record in enumerate(records(), start=1) for item in record["annotations"])
        _write_all(file, ({"id": n, "image_id": i, **item} for n, (i, item) in enumerate(annotations, start=1)))
        file.write("]}\n")


def _write_all(file: IO[str], items: Iterable[dict[str, Any]]) -> None:
    for number, item in enumerate(items):
        file.write((",\n" if number else "\n") + json.dumps(item, allow_nan=False))


def _record(labelled: Labelled, name: str, segmentation: Callable[[Region], Any]) -> dict[str, Any]:
    height, width = labelled.labels.shape
    annotations = [_annotation(region, segmentation(region)) for region in regions_of(labelled)]
    return {"image": {"file_name": name, "height": height, "width": width}, "annotations": annotations}


def _annotation(region: Region, segmentation: Any) -> dict[str, Any]:
    height, width = region.window.shape
    annotation = {
        "category_id": region.class_id,
        "segmentation": segmentation,
        "area": region.num_pixels,
        "bbox": [region.left, region.top, width, height],
        "iscrowd": 0,
        "score": region.confidence,
    }
    return annotation if region.person is None else {**annotation, "person_id": region.person}


def _polygons(region: Region) -> list[list[int]]:
    shift = (region.left, region.top)
    polygons = to_polygons(region.window, tolerance=TOLERANCE)
    return [[value + shift[place % 2] for place, value in enumerate(polygon)] for polygon in polygons]
