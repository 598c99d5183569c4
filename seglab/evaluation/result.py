"""What an evaluation leaves: one matrix, a few counts an image, and the scores of both."""

import csv
import io
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.evaluation.confusion import Matrix, confusion
from seglab.evaluation.metrics import (
    Counts,
    Scores,
    count,
    groups,
    iou,
    mean_present,
    pixel_accuracy,
    summarize,
)
from seglab.tasks import Task

__all__ = ["Evaluation", "Failure", "ImageScore", "Tally"]

NUM_WORST: Final = 10
"""How many of the worst images the JSON lists."""


@dataclass(frozen=True)
class Failure:
    """An image that could not be scored."""

    id: str
    reason: str


@dataclass(frozen=True)
class ImageScore:
    """The scores of one image; NaN where it has nothing to score."""

    id: str
    miou: float
    """Mean IoU over the classes in the image's truth or prediction, the background included."""
    pixel_accuracy: float
    iou: tuple[float, ...]
    """IoU of every class, then of every region."""


@dataclass(frozen=True)
class Evaluation:
    """The outcome for a set of images."""

    task: Task
    matrix: Matrix
    """K x K pixels of all images, rows truth."""
    scores: Scores
    ids: tuple[str, ...]
    """The N images that were scored, in order."""
    counts: Counts
    """``(N, G)`` pixels of every image and group, enough for any score of any subset of the images."""
    failures: tuple[Failure, ...] = ()
    """Images that could not be scored; they are in no score."""
    missing: tuple[str, ...] = ()
    """Images without a prediction that were scored as background on request."""
    num_extra: int = 0
    """Predictions without a truth, which were not looked at."""

    @property
    def num_images(self) -> int:
        """Images that were scored."""
        return len(self.ids)

    def images(self) -> list[ImageScore]:
        """Return the scores of each image, in order."""
        num_classes = self.task.num_classes
        iou_NG = iou(self.counts)
        miou_N = mean_present(iou_NG[:, :num_classes])
        accuracy_N = pixel_accuracy(self.counts, num_classes)
        return [
            ImageScore(name, float(miou), float(accuracy), tuple(map(float, row)))
            for name, miou, accuracy, row in zip(self.ids, miou_N, accuracy_N, iou_NG, strict=True)
        ]

    def worst(self, num: int = NUM_WORST) -> list[ImageScore]:
        """Return the images of lowest mean IoU, worst first; images with nothing to score are not among them."""
        scored = [image for image in self.images() if not math.isnan(image.miou)]
        return sorted(scored, key=lambda image: (image.miou, image.id))[:num]

    def to_dict(self, *, images: bool = False) -> dict[str, Any]:
        """Return plain JSON values: those of :meth:`Scores.to_dict`, the matrix, failures and the worst images.

        Args:
            images: Add the scores of every image.
        """
        return {
            **self.scores.to_dict(),
            "num_images": self.num_images,
            "confusion": self.matrix.tolist(),
            "failures": [{"id": failure.id, "reason": failure.reason} for failure in self.failures],
            "missing": list(self.missing),
            "num_extra": self.num_extra,
            "worst": [_image_dict(image) for image in self.worst()],
            **({"images": [_image_dict(image) for image in self.images()]} if images else {}),
        }

    def per_image_csv(self) -> str:
        """Return a table with a line an image: id, mean IoU, pixel accuracy, IoU of every class and region.

        Undefined scores are empty.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["id", "miou", "pixel_accuracy", *(f"iou.{name}" for name in groups(self.task))])
        for image in self.images():
            cells = (image.miou, image.pixel_accuracy, *image.iou)
            writer.writerow([image.id, *("" if math.isnan(cell) else f"{cell:.6f}" for cell in cells)])
        return text.getvalue()


class Tally:
    """Adds up images. Memory is one matrix and three numbers an image and group."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.matrix: Matrix = np.zeros((task.num_classes, task.num_classes), np.int64)
        self.num_ignored = 0
        self.ids: list[str] = []
        self.failures: list[Failure] = []
        self._counts: list[NDArray[np.int64]] = []

    def add(self, name: str, matrix: Matrix, num_ignored: int) -> None:
        """Add an image by its confusion matrix and the number of pixels that are not in it."""
        counts = count(matrix, self.task)
        self.matrix += matrix
        self.num_ignored += num_ignored
        self.ids.append(name)
        self._counts.append(np.stack([counts.tp, counts.fp, counts.fn]))

    def finish(self, *, missing: tuple[str, ...] = (), num_extra: int = 0) -> Evaluation:
        """Score what was added."""
        empty = np.zeros((0, 3, len(groups(self.task))), np.int64)
        counts_N3G = np.stack(self._counts) if self._counts else empty
        return Evaluation(
            task=self.task,
            matrix=self.matrix,
            scores=summarize(self.matrix, self.task, num_ignored=self.num_ignored),
            ids=tuple(self.ids),
            counts=Counts(counts_N3G[:, 0], counts_N3G[:, 1], counts_N3G[:, 2]),
            failures=tuple(self.failures),
            missing=missing,
            num_extra=num_extra,
        )


def compare(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], num_classes: int) -> tuple[Matrix, int]:
    """Return the confusion matrix of one image and the number of its pixels that the truth marks 255."""
    matrix = confusion(truth, prediction, num_classes)
    return matrix, truth.size - int(matrix.sum())


def _image_dict(image: ImageScore) -> dict[str, Any]:
    scores = {"miou": image.miou, "pixel_accuracy": image.pixel_accuracy}
    return {"id": image.id, **{name: None if math.isnan(score) else score for name, score in scores.items()}}
