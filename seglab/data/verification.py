"""The deep check of a dataset: every file against its line in the manifest."""

from collections.abc import Sequence
from typing import Final

from seglab.data.images import read_labels, read_photo
from seglab.data.manifest import Dataset, Sample, count_pixels
from seglab.data.naming import SPLITS
from seglab.errors import DataError
from seglab.pipeline import ahead

__all__ = ["contradictions"]

GREY_8BIT: Final = bytes((8, 0))
"""Bit depth and colour type in the header of a PNG."""


def contradictions(dataset: Dataset, workers: int) -> list[str]:
    """Read every file and return what differs from the manifest, and what is not in it."""
    found = ahead(
        lambda sample: [*_of_image(dataset, sample), *_of_label(dataset, sample), *_of_people(dataset, sample)],
        dataset.samples,
        workers=workers,
    )
    problems = [problem for several in found for problem in several]
    listed = {path for sample in dataset.samples for path in sample.paths}
    return problems + [f"`{path}` is not in the manifest" for path in sorted(_files(dataset) - listed)]


def _of_image(dataset: Dataset, sample: Sample) -> list[str]:
    try:
        return _size_problem(sample.image, read_photo(dataset.image_path(sample)).image.shape, sample)
    except DataError as error:
        return [f"`{sample.image}`: {error.message}"]


def _of_label(dataset: Dataset, sample: Sample) -> list[str]:
    path = dataset.label_path(sample)
    try:
        labels = read_labels(path)
        with path.open("rb") as handle:
            if handle.read(26)[24:] != GREY_8BIT:
                return [f"`{sample.label}` is not an 8-bit single-channel PNG"]
        problems = _size_problem(sample.label, labels.shape, sample)
        if not problems and count_pixels(labels, dataset.task) != dict(sample.pixels):
            problems.append(f"`{sample.label}` has other pixel counts than the manifest")
        return problems
    except DataError as error:
        return [f"`{sample.label}`: {error.message}"]


def _of_people(dataset: Dataset, sample: Sample) -> list[str]:
    path = dataset.people_path(sample)
    if path is None:
        return []
    try:
        return _size_problem(sample.people, read_labels(path).shape, sample)
    except DataError as error:
        return [f"`{sample.people}`: {error.message}"]


def _size_problem(path: str, shape: Sequence[int], sample: Sample) -> list[str]:
    if tuple(shape[:2]) == sample.size_hw:
        return []
    return [f"`{path}` is {shape[1]}x{shape[0]}, the manifest says {sample.width}x{sample.height}"]


def _files(dataset: Dataset) -> set[str]:
    folders = [dataset.dir / split / kind for split in SPLITS for kind in ("images", "labels", "people")]
    return {path.relative_to(dataset.dir).as_posix() for dir in folders if dir.is_dir() for path in dir.iterdir()}
