"""What an evaluation leaves: one matrix, a few counts an image, and the scores of both.

Shapes: N images, G groups (classes, then regions), K classes.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.evaluation.confusion import Matrix, confusion
from seglab.evaluation.metrics import (
    Counts,
    OutlineScore,
    Scores,
    count,
    groups,
    iou,
    mean_present,
    pixel_accuracy,
    summarize,
)
from seglab.evaluation.people import ImagePeople, score_people
from seglab.notation import null_if_nan
from seglab.tables import TableWriter
from seglab.tasks import Task

__all__ = ["Comparison", "Evaluation", "Failure", "ImageScore", "Tally", "assemble", "compare"]

NUM_WORST: Final = 10
"""How many of the worst images the JSON lists."""


@dataclass(frozen=True)
class Failure:
    """An image that could not be scored."""

    id: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """What is counted in one image."""

    matrix: Matrix
    """K x K pixels, rows truth."""
    num_ignored: int
    """Pixels that the truth marks 255; they are not in the matrix."""
    outlines: NDArray[np.int64] | None = None
    """(G, :data:`seglab.evaluation.boundary.NUM_COUNTS`), where outlines are looked at."""
    people: ImagePeople | None = None
    """How people are told apart, where that is looked at and the truth knows."""


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
    outlines: NDArray[np.int64] | None = None
    """(N, G, :data:`seglab.evaluation.boundary.NUM_COUNTS`), where outlines were looked at."""
    failures: tuple[Failure, ...] = ()
    """Images that could not be scored; they are in no score."""
    missing: tuple[str, ...] = ()
    """Images without a prediction that were scored as background on request."""
    num_extra: int = 0
    """Predictions without a truth, which were not looked at."""
    people: tuple[ImagePeople | None, ...] | None = None
    """How people are told apart in each image, None where the truth does not know; None where nobody looked."""

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
        writer = TableWriter(text)
        writer.writerow(["id", "miou", "pixel_accuracy", *(f"iou.{name}" for name in groups(self.task))])
        for image in self.images():
            cells = (image.miou, image.pixel_accuracy, *image.iou)
            writer.writerow([image.id, *("" if math.isnan(cell) else f"{cell:.6f}" for cell in cells)])
        return text.getvalue()


class Tally:
    """Adds up images. Memory is one matrix and a few numbers an image and group."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.matrix: Matrix = np.zeros((task.num_classes, task.num_classes), np.int64)
        self.num_ignored = 0
        self.ids: list[str] = []
        self.failures: list[Failure] = []
        self._counts: list[NDArray[np.int64]] = []
        self._outlines: list[NDArray[np.int64]] = []
        self._people: list[ImagePeople | None] = []

    def add(self, name: str, compared: Comparison) -> None:
        """Add an image."""
        counts = count(compared.matrix, self.task)
        self.matrix += compared.matrix
        self.num_ignored += compared.num_ignored
        self.ids.append(name)
        self._counts.append(np.stack([counts.tp, counts.fp, counts.fn]))
        if compared.outlines is not None:
            self._outlines.append(compared.outlines)
        self._people.append(compared.people)

    def finish(self, *, missing: tuple[str, ...] = (), num_extra: int = 0, people: bool = False) -> Evaluation:
        """Score what was added; with ``people`` also how they are told apart."""
        empty = np.zeros((0, 3, len(groups(self.task))), np.int64)
        counts_N3G = np.stack(self._counts) if self._counts else empty
        return assemble(
            self.task,
            self.matrix,
            self.num_ignored,
            self.ids,
            Counts(counts_N3G[:, 0], counts_N3G[:, 1], counts_N3G[:, 2]),
            np.stack(self._outlines) if self._outlines else None,
            failures=tuple(self.failures),
            missing=missing,
            num_extra=num_extra,
            people=tuple(self._people) if people else None,
        )


def assemble(
    task: Task,
    matrix: Matrix,
    num_ignored: int,
    ids: Sequence[str],
    counts: Counts,
    outlines: NDArray[np.int64] | None,
    *,
    failures: tuple[Failure, ...] = (),
    missing: tuple[str, ...] = (),
    num_extra: int = 0,
    people: tuple[ImagePeople | None, ...] | None = None,
) -> Evaluation:
    """Score counts; the arguments are the fields of :class:`Evaluation`."""
    scores = summarize(matrix, task, num_ignored=num_ignored)
    if outlines is not None:
        scores = replace(scores, outlines=_score_outlines(task, outlines.sum(0)))
    if people is not None:
        scores = replace(scores, people=score_people([image for image in people if image is not None], task))
    return Evaluation(task, matrix, scores, tuple(ids), counts, outlines, failures, missing, num_extra, people)


def compare(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], task: Task, *, outlines: bool = False
) -> Comparison:
    """Count one image.

    Args:
        truth: HW class ids; 255 is ignored.
        prediction: HW class ids.
        task: What they mean.
        outlines: Count outlines as well, which takes some ten times as long.

    Raises:
        DataError: If the sizes differ, or an id is none of the task.
    """
    matrix = confusion(truth, prediction, task.num_classes)
    num_ignored = truth.size - int(matrix.sum())
    if not outlines:
        return Comparison(matrix, num_ignored)
    from seglab.evaluation.boundary import count_boundaries

    members = [task.members(name) for name in groups(task)]
    return Comparison(matrix, num_ignored, count_boundaries(truth, prediction, members))


def _score_outlines(task: Task, counts_GC: NDArray[np.int64]) -> tuple[OutlineScore, ...]:
    from seglab.evaluation.boundary import score_boundaries

    scored = score_boundaries(counts_GC)
    return tuple(
        OutlineScore(name, float(boundary_iou), float(boundary_f1))
        for name, boundary_iou, boundary_f1 in zip(groups(task), scored.iou, scored.f1, strict=True)
    )


def _image_dict(image: ImageScore) -> dict[str, Any]:
    scores = {"miou": image.miou, "pixel_accuracy": image.pixel_accuracy}
    return {"id": image.id, **{name: null_if_nan(score) for name, score in scores.items()}}
