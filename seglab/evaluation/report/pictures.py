"""Where the pictures of a report come from: the model predicts some photos again, or masks are read again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from seglab.tasks import Task

if TYPE_CHECKING:
    from seglab.data.manifest import Dataset
    from seglab.inference.predictor import Predictor

__all__ = ["Pictures", "pictures_of_masks", "pictures_of_model"]

Uint8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """What is shown of an image."""

    truth: Uint8
    """HW class ids; 255 is ignored."""
    prediction: Uint8
    """HW class ids of the same size."""
    photo: Uint8 | None = None
    """HWC uint8 RGB, where there is one."""


def pictures_of_model(
    predictor: "Predictor", dataset: "Dataset", split: str = "test", *, at_model: bool = False
) -> Callable[[str], Pictures | None]:
    """Return what reads the photo and labels of an id and predicts the photo again; None for ids of other splits.

    Args:
        predictor: The model that was scored.
        dataset: What it was scored on.
        split: Which split.
        at_model: Show everything as it lies on the model's grid, on which it was scored.
    """
    samples = {sample.id: sample for sample in dataset.split(split)}

    def look(name: str) -> Pictures | None:
        from seglab.data.images import read_labels, read_photo

        sample = samples.get(name)
        if sample is None:
            return None
        photo = read_photo(dataset.image_path(sample)).image
        truth = read_labels(dataset.label_path(sample))
        if at_model:
            return _on_grid(predictor, photo, truth)
        return Pictures(truth, predictor.labels([photo])[0], photo)

    return look


def _on_grid(predictor: "Predictor", photo: Uint8, truth: Uint8) -> Pictures:
    """Return what was scored with ``at_model`` and the photo as it was fitted, without the grid's padding."""
    from seglab.data.geometry import Placement, fit_image, fit_labels

    preprocess = predictor.config.preprocess
    pixels, placement = predictor.fit(photo)
    logits_KHW = predictor.run(pixels[None])[0]
    height, width = placement.size_hw
    grid = Placement(placement.size_hw, placement.size_hw, (0, 0, height, width))
    fitted, _ = fit_image(photo, preprocess)
    top, left, height, width = placement.box
    box = slice(top, top + height), slice(left, left + width)
    prediction = predictor.road.labels(logits_KHW, grid)
    return Pictures(fit_labels(truth, preprocess)[box], prediction[box], fitted[box])


def pictures_of_masks(
    pred_dir: Path, truth: "Dataset | Path", task: Task, *, split: str = "test"
) -> Callable[[str], Pictures | None]:
    """Return what reads the masks of an id again, and its photo where the truth is a dataset; None for unknown ids.

    Args:
        pred_dir: The predictions; one that is missing is all background.
        truth: The truths: a folder, or a dataset of the same classes.
        task: What the ids mean.
        split: Which split, if the truth is a dataset.
    """
    from seglab.evaluation.folders import open_pairs

    read = open_pairs(pred_dir, truth, task, split)
    samples = {} if isinstance(truth, Path) else {sample.id: sample for sample in truth.split(split)}

    def look(name: str) -> Pictures | None:
        from seglab.data.images import read_photo

        pair = read(name)
        if pair is None:
            return None
        photo = None
        if not isinstance(truth, Path):
            photo = read_photo(truth.image_path(samples[name])).image
        return Pictures(*pair, photo)

    return look
