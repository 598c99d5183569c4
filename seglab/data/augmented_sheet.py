"""The contact sheet of an augmentation: what a network is shown in training, with the labels that it is asked for."""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from seglab.config import TrainConfig
from seglab.data.augment import Augmentation
from seglab.data.drawing import VOID_RGB, contact_sheet, overlay, with_legend
from seglab.data.images import write_photo
from seglab.data.loader import augmentation_of
from seglab.data.manifest import Dataset, variety
from seglab.data.samples import TrainingSamples
from seglab.data.view import View
from seglab.preprocess import Preprocess
from seglab.strengths import PRESETS
from seglab.tasks import IGNORE, Task

__all__ = ["draw_augmented"]

Pixels = npt.NDArray[np.uint8]

NUM_SAMPLES: Final = 8
NUM_VIEWS: Final = 6
CELL: Final = 224
"""Side of a picture in pixels."""
_BLANK: Final = np.full((1, 1, 3), 255, np.uint8)


def draw_augmented(
    dataset: Dataset,
    config: TrainConfig,
    preprocess: Preprocess,
    path: Path,
    *,
    num_samples: int = NUM_SAMPLES,
    num_views: int = NUM_VIEWS,
) -> None:
    """Write a sheet of samples: as they are, and in the views of the first epochs with and without their labels.

    The samples are those of the training split that show the most classes. What is not asked for is hatched.

    Args:
        dataset: A prepared dataset.
        config: ``augment`` and ``seed`` matter here.
        preprocess: The model's grid.
        path: A JPEG or PNG; replaced if it is there.
        num_samples: The most rows.
        num_views: Epochs to show.

    Raises:
        DataError: If there is no training split, a sample cannot be read, or the sheet cannot be written.
        UsageError: If the suffix is no picture's.
    """
    samples = TrainingSamples(dataset, "train", preprocess, cache="none")
    augmentation = augmentation_of(samples, config)
    plain = Augmentation(preprocess, augmentation.mirror, PRESETS["none"])
    rows = []
    for index in sorted(range(len(samples)), key=lambda index: variety(samples.samples[index]))[:num_samples]:
        image, labels = samples.load(index)
        name = samples.samples[index].id
        as_is = plain(image, labels, epoch=0, name=name)
        views = [augmentation(image, labels, epoch=epoch, name=name) for epoch in range(num_views)]
        rows.append([as_is.pixels, *(_labelled(view, dataset.task) for view in (as_is, *views))])
        rows.append([_BLANK, _BLANK, *(view.pixels for view in views)])
    titles = ["photo", "labels", *(f"epoch {epoch + 1}" for epoch in range(num_views))]
    sheet = contact_sheet(rows, titles=titles, cell_hw=(CELL, CELL))
    write_photo(path, with_legend(sheet, dataset.task), quality=90)


def _labelled(view: View, task: Task) -> Pixels:
    drawn = overlay(view.pixels, view.labels, task.palette)
    y, x = np.indices(view.labels.shape)
    hatched = (view.labels == IGNORE) & ((x + y) // max(1, max(view.labels.shape) // 64) % 4 == 0)
    drawn[hatched] = VOID_RGB
    return drawn
