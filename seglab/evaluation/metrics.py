"""Scores from a confusion matrix.

Every score of a class, or of a region (a union of classes), is a function of three counts: true positives, false
positives and false negatives. One rule holds for all of them: what is absent from the truth *and* from the prediction
has no score (NaN, ``null`` in JSON), is left out of means and is listed; anything else has one, and where a ratio has
nothing to divide by (a class that was never predicted has no precision) it is 0 and counts.

Shapes: G groups (classes, then regions), K classes, ``...`` any leading axes such as one of images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.errors import unknown
from seglab.evaluation.people import PeopleScores, people_metrics
from seglab.notation import null_if_nan
from seglab.tasks import Task

if TYPE_CHECKING:
    from seglab.evaluation.confusion import Matrix

__all__ = [
    "HEADLINE",
    "MEASURES",
    "OUTLINE_MEASURES",
    "SCHEMA",
    "Counts",
    "GroupScore",
    "LevelScore",
    "OutlineScore",
    "Scores",
    "count",
    "f1",
    "groups",
    "iou",
    "mean_present",
    "metric_names",
    "pixel_accuracy",
    "precision",
    "recall",
    "summarize",
    "value",
]

SCHEMA: Final = 2
"""Version of the JSON that :meth:`Scores.to_dict` returns."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Pixels of each group, int64 of shape ``(..., G)``; counts of two sets of pixels are merged by adding them."""

    tp: NDArray[np.int64]
    """In the group by truth and prediction; confusion inside a region is right for the region."""
    fp: NDArray[np.int64]
    """In the group by prediction only."""
    fn: NDArray[np.int64]
    """In the group by truth only."""


def groups(task: Task) -> tuple[str, ...]:
    """Return the names of what is scored: the classes in the order of their ids, then the regions."""
    return (*task.classes, *task.regions)


def count(matrix: "Matrix", task: Task) -> Counts:
    """Count true positives, false positives and false negatives of every class and region.

    With the 0/1 membership matrix M of the groups: ``tp = diag(M C M^T)``, and the rest of the rows and columns.

    Args:
        matrix: ``(..., K, K)`` confusion matrices C, rows truth.
        task: Whose classes the matrix counts.
    """
    if matrix.shape[-2:] != (task.num_classes, task.num_classes):
        raise ValueError(f"task `{task.name}` has {task.num_classes} classes, the matrix is {matrix.shape}")
    names = groups(task)
    members_GK = np.zeros((len(names), task.num_classes), np.int64)
    for row, name in enumerate(names):
        members_GK[row, task.members(name)] = 1
    tp = ((members_GK @ matrix) * members_GK).sum(-1)
    return Counts(tp, matrix.sum(-2) @ members_GK.T - tp, matrix.sum(-1) @ members_GK.T - tp)


def iou(counts: Counts) -> Floats:
    """Return intersection over union (Jaccard), 0..1 or NaN."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn, counts)


def f1(counts: Counts) -> Floats:
    """Return F1 (Dice), 0..1 or NaN."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn, counts)


def precision(counts: Counts) -> Floats:
    """Return the share of what was predicted that is right, 0..1; 0 if nothing was predicted, NaN if absent."""
    return _ratio(counts.tp, counts.tp + counts.fp, counts)


def recall(counts: Counts) -> Floats:
    """Return the share of what is there that was found, 0..1; 0 for a false alarm, NaN if absent."""
    return _ratio(counts.tp, counts.tp + counts.fn, counts)


MEASURES: Final = {"iou": iou, "f1": f1, "precision": precision, "recall": recall}
"""The measures of a group by name; with ``.`` and a class or region they are metric names, as in ``iou.hair``."""


OUTLINE_MEASURES: Final = ("boundary_iou", "boundary_f1")
"""The measures of an outline; with ``.`` and a class or region they are metric names, as in ``boundary_iou.hair``."""


def mean_present(scores: Floats) -> Floats:
    """Average over the last axis without the NaN of absent groups; NaN if all are absent."""
    present = ~np.isnan(scores)
    num_present = present.sum(-1)
    total = np.where(present, scores, 0.0).sum(-1)
    mean: Floats = np.where(num_present > 0, total / np.maximum(num_present, 1), np.nan)
    return mean


def pixel_accuracy(counts: Counts, num_classes: int) -> Floats:
    """Return the share of counted pixels whose class is right, from the counts of the first ``num_classes`` groups."""
    right = counts.tp[..., :num_classes].sum(-1)
    total = right + counts.fn[..., :num_classes].sum(-1)
    share: Floats = np.where(total > 0, right / np.maximum(total, 1), np.nan)
    return share


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64], counts: Counts) -> Floats:
    present = counts.tp + counts.fp + counts.fn > 0
    ratio: Floats = np.where(present, part / np.maximum(whole, 1), np.nan)
    return ratio


@dataclass(frozen=True)
class GroupScore:
    """The scores of a class or region. NaN if it is absent from truth and prediction."""

    name: str
    iou: float
    f1: float
    precision: float
    recall: float
    tp: int
    fp: int
    fn: int

    @property
    def num_pixels(self) -> int:
        """Pixels of the group by truth."""
        return self.tp + self.fn

    @property
    def absent(self) -> bool:
        """Whether neither truth nor prediction has a pixel of it."""
        return self.tp + self.fp + self.fn == 0

    @property
    def false_alarm(self) -> bool:
        """Whether it was predicted although the truth has no pixel of it."""
        return self.num_pixels == 0 and self.fp > 0


@dataclass(frozen=True)
class OutlineScore:
    """How well outlines of a class or region agree (:mod:`seglab.evaluation.boundary`); NaN where there are none."""

    name: str
    boundary_iou: float
    boundary_f1: float


@dataclass(frozen=True)
class LevelScore:
    """A level of the hierarchy: the mean IoU of the present among its members."""

    name: str
    iou: float
    mean_of: tuple[str, ...]
    """The members that were averaged."""
    left_out: tuple[str, ...]
    """The members that are absent."""


@dataclass(frozen=True)
class Scores:
    """Everything that a confusion matrix says about a prediction. Shares and scores are 0..1, NaN where undefined."""

    task: str
    classes: tuple[GroupScore, ...]
    regions: tuple[GroupScore, ...]
    levels: tuple[LevelScore, ...]
    miou: float
    """Mean IoU over the present classes, the background included."""
    miou_foreground: float
    """Mean IoU over the present classes without the background."""
    mean_f1: float
    """Mean F1 over the present classes, the background included."""
    pixel_accuracy: float
    """Share of the counted pixels whose class is right."""
    mean_accuracy: float
    """Mean recall over the present classes, the background included."""
    fwiou: float
    """IoU of the classes weighted by their share of the true pixels."""
    num_pixels: int
    """Pixels that were counted."""
    num_ignored: int
    """Pixels that the truth marks 255: left out."""
    outlines: tuple[OutlineScore, ...] = ()
    """Of the classes, then the regions; empty where outlines were not looked at."""
    people: PeopleScores | None = None
    """How well people are told apart, where that was looked at."""

    @property
    def ignored_share(self) -> float:
        """Share of all pixels that were left out; 0 if there are none."""
        return self.num_ignored / max(self.num_ignored + self.num_pixels, 1)

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes in neither truth nor prediction, which no mean contains."""
        return tuple(score.name for score in self.classes if score.absent)

    @property
    def false_alarms(self) -> tuple[str, ...]:
        """Classes that were predicted but are not in the truth, which count as 0."""
        return tuple(score.name for score in self.classes if score.false_alarm)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, undefined scores as None; ``schema`` is :data:`SCHEMA`."""
        present = [score.name for score in self.classes if not score.absent]
        return {
            "schema": SCHEMA,
            "task": self.task,
            **{name: null_if_nan(getattr(self, name)) for name in HEADLINE},
            "mean_of": {
                **dict.fromkeys(("miou", "mean_f1", "mean_accuracy"), present),
                "miou_foreground": [score.name for score in self.classes[1:] if not score.absent],
            },
            "absent": list(self.absent),
            "false_alarms": list(self.false_alarms),
            "num_pixels": self.num_pixels,
            "num_ignored": self.num_ignored,
            "ignored_share": self.ignored_share,
            "classes": {score.name: _group_dict(score) for score in self.classes},
            "regions": {score.name: _group_dict(score) for score in self.regions},
            "outlines": {
                score.name: {measure: null_if_nan(getattr(score, measure)) for measure in OUTLINE_MEASURES}
                for score in self.outlines
            },
            "levels": {
                level.name: {
                    "iou": null_if_nan(level.iou),
                    "mean_of": list(level.mean_of),
                    "left_out": list(level.left_out),
                }
                for level in self.levels
            },
            "people": None if self.people is None else self.people.to_dict(),
        }


HEADLINE: Final = ("miou", "miou_foreground", "mean_f1", "pixel_accuracy", "mean_accuracy", "fwiou")
"""The figures of all classes together, by metric name."""


def summarize(matrix: "Matrix", task: Task, *, num_ignored: int = 0) -> Scores:
    """Score a confusion matrix.

    Args:
        matrix: K x K counts, rows truth, of any number of images.
        task: Names the classes, regions and levels.
        num_ignored: Pixels that were left out of the matrix, to be reported with it.
    """
    counts = count(matrix, task)
    names = groups(task)
    measured = {measure: function(counts) for measure, function in MEASURES.items()}
    scores = [
        GroupScore(
            name,
            **{measure: float(values[row]) for measure, values in measured.items()},
            tp=int(counts.tp[row]),
            fp=int(counts.fp[row]),
            fn=int(counts.fn[row]),
        )
        for row, name in enumerate(names)
    ]
    num_classes, num_pixels = task.num_classes, int(matrix.sum())
    iou_K = measured["iou"][:num_classes]
    iou_of = {score.name: score.iou for score in scores}
    weighted = np.nansum(iou_K * (counts.tp + counts.fn)[:num_classes])
    return Scores(
        task=task.name,
        classes=tuple(scores[:num_classes]),
        regions=tuple(scores[num_classes:]),
        levels=tuple(_level(name, members, iou_of) for name, members in task.levels.items()),
        miou=float(mean_present(iou_K)),
        miou_foreground=float(mean_present(iou_K[1:])),
        mean_f1=float(mean_present(measured["f1"][:num_classes])),
        pixel_accuracy=float(pixel_accuracy(counts, num_classes)),
        mean_accuracy=float(mean_present(measured["recall"][:num_classes])),
        fwiou=float(weighted / num_pixels) if num_pixels else math.nan,
        num_pixels=num_pixels,
        num_ignored=num_ignored,
    )


def metric_names(task: Task, *, outlines: bool = False, people: bool = False) -> tuple[str, ...]:
    """Return every name that :func:`value` knows for a task, headline figures first.

    Args:
        task: The task.
        outlines: Whether outlines are looked at.
        people: Whether it is looked at how people are told apart.
    """
    return (
        *HEADLINE,
        *(f"{measure}.{name}" for measure in MEASURES for name in groups(task)),
        *(f"level.{name}.iou" for name in task.levels),
        *(f"{measure}.{name}" for measure in OUTLINE_MEASURES for name in groups(task) if outlines),
        *(people_metrics(task) if people else ()),
    )


def value(scores: Scores, name: str) -> float | None:
    """Look a score up by its metric name: ``miou``, ``iou.hair``, ``f1.eyes``, ``level.top.iou``...

    Returns:
        0..1, or None where the score is undefined.

    Raises:
        UsageError: If the task has no such metric; the nearest names are in the hint.
    """
    table: Mapping[str, float] = {
        **{headline: getattr(scores, headline) for headline in HEADLINE},
        **{
            f"{measure}.{score.name}": getattr(score, measure)
            for measure in MEASURES
            for score in (*scores.classes, *scores.regions)
        },
        **{f"level.{level.name}.iou": level.iou for level in scores.levels},
        **{
            f"{measure}.{score.name}": getattr(score, measure)
            for measure in OUTLINE_MEASURES
            for score in scores.outlines
        },
        **({} if scores.people is None else scores.people.values()),
    }
    if name not in table:
        raise unknown(f"metric of task `{scores.task}`", name, table)
    return null_if_nan(table[name])


def _level(name: str, members: Sequence[str], iou_of: Mapping[str, float]) -> LevelScore:
    present = tuple(member for member in members if not math.isnan(iou_of[member]))
    mean = float(mean_present(np.array([iou_of[member] for member in members])))
    return LevelScore(name, mean, present, tuple(member for member in members if member not in present))


def _group_dict(score: GroupScore) -> dict[str, Any]:
    return {
        **{measure: null_if_nan(getattr(score, measure)) for measure in MEASURES},
        "num_pixels": score.num_pixels,
        "tp": score.tp,
        "fp": score.fp,
        "fn": score.fn,
    }
