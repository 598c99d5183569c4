"""The contact sheet of a dataset: photos beside their labels, with a legend."""

from pathlib import Path
from typing import Final

from seglab.data.drawing import contact_sheet, overlay, with_legend
from seglab.data.images import read_labels, read_photo, write_photo
from seglab.data.manifest import Dataset, Sample

__all__ = ["write_preview"]

NUM_SAMPLES: Final = 12
PAIRS_A_ROW: Final = 3


def write_preview(dataset: Dataset, path: Path) -> None:
    """Write the samples that show the largest variety of classes, as photo and overlay side by side."""
    cells = []
    for sample in sorted(dataset.samples, key=_variety)[:NUM_SAMPLES]:
        image = read_photo(dataset.image_path(sample)).image
        cells += [image, overlay(image, read_labels(dataset.label_path(sample)), dataset.task.palette)]
    row = 2 * PAIRS_A_ROW
    sheet = contact_sheet([cells[start : start + row] for start in range(0, len(cells), row)])
    write_photo(path, with_legend(sheet, dataset.task), quality=88)


def _variety(sample: Sample) -> tuple[int, str]:
    return -sum(num > 0 for num in sample.pixels.values()), sample.id
