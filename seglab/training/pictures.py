"""Photo, truth and prediction of a few samples side by side, the same ones throughout a run."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from seglab.data.drawing import contact_sheet, overlay, with_legend
from seglab.data.geometry import reduced_hw
from seglab.data.images import read_labels, read_photo, resize_image, resize_labels
from seglab.data.manifest import Dataset, Sample
from seglab.errors import DataError
from seglab.inference.predictor import Predictor

__all__ = ["NUM_SHOWN", "SampleSheet"]

NUM_SHOWN: Final = 6
"""Samples on a sheet."""
_CELL_PX: Final = 256
"""Side of a picture on a sheet."""

Pixels = npt.NDArray[np.uint8]


class SampleSheet:
    """Draws what a network makes of the first samples of a split.

    Args:
        dataset: A prepared dataset.
        split: A split that it has.
        num: How many samples, at most.
    """

    def __init__(self, dataset: Dataset, split: str, *, num: int = NUM_SHOWN) -> None:
        self._dataset = dataset
        self.samples: Sequence[Sample] = dataset.split(split)[:num]

    def draw(self, predictor: Predictor, *, title: str) -> Pixels:
        """Return a sheet (HWC uint8 RGB): a row a sample, the task's classes and colours below.

        A sample that cannot be read has a grey row.

        Args:
            predictor: The network as it is now.
            title: What to write over the predictions.
        """
        rows = [self._row(sample, predictor) for sample in self.samples]
        sheet = contact_sheet(rows, titles=["photo", "truth", title], cell_hw=(_CELL_PX, _CELL_PX))
        return with_legend(sheet, predictor.task)

    def _row(self, sample: Sample, predictor: Predictor) -> list[Pixels]:
        try:
            image = read_photo(self._dataset.image_path(sample)).image
            truth = read_labels(self._dataset.label_path(sample))
            (prediction,) = predictor.labels([image])
        except (DataError, OSError):
            return [np.full((_CELL_PX, _CELL_PX, 3), 200, np.uint8)] * 3
        size_hw = reduced_hw((image.shape[0], image.shape[1]), _CELL_PX)
        small, palette = resize_image(image, size_hw), predictor.task.palette
        drawn = [overlay(small, resize_labels(labels, size_hw), palette) for labels in (truth, prediction)]
        return [small, *drawn]
