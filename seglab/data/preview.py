"""The contact sheet of a dataset: photos beside their labels, with a legend."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.drawing import contact_sheet, overlay, with_legend
from seglab.data.geometry import reduced_hw
from seglab.data.images import read_labels, read_photo, resize_image, resize_labels, write_photo
from seglab.data.manifest import Dataset, Sample, variety

__all__ = ["write_preview"]

NUM_SAMPLES: Final = 12
PAIRS_A_ROW: Final = 3
CELL: Final = 192
"""Side of a cell in pixels."""


def write_preview(dataset: Dataset, path: Path) -> None:
    """Write the samples that show the largest variety of classes, as photo and overlay side by side."""
    cells = []
    for sample in sorted(dataset.samples, key=variety)[:NUM_SAMPLES]:
        image, labels = _read_small(dataset, sample)
        cells += [image, overlay(image, labels, dataset.task.palette)]
    row = 2 * PAIRS_A_ROW
    sheet = contact_sheet([cells[start : start + row] for start in range(0, len(cells), row)], cell_hw=(CELL, CELL))
    write_photo(path, with_legend(sheet, dataset.task), quality=88)


def _read_small(dataset: Dataset, sample: Sample) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read photo and labels no larger than a cell."""
    size_hw = reduced_hw(sample.size_hw, CELL)
    image = read_photo(dataset.image_path(sample), wanted_hw=size_hw).image
    labels = read_labels(dataset.label_path(sample))
    return resize_image(image, size_hw), resize_labels(labels, size_hw)
