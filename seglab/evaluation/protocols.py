"""The scores as earlier projects defined them, to compare with figures that were published with them."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from seglab.errors import UsageError, unknown
from seglab.evaluation.metrics import Counts, Floats, groups, mean_present, pixel_accuracy

if TYPE_CHECKING:
    from seglab.evaluation.result import Evaluation
    from seglab.tasks import Task

__all__ = ["PROTOCOLS", "Protocol", "check_protocol", "helen", "leaf_means", "protocol"]

_SMOOTH: Final = 1e-10


def helen(counts: Counts, names: Sequence[str]) -> dict[str, float]:
    """Return F1 of every group as ``f1_score.py`` of the Helen* dataset computes it, from counts of a whole split.

    F1 is 2 I / (A + B) of the pixels in the group by truth (A), by prediction (B) and by both (I); NaN if A + B = 0.

    Args:
        counts: Of shape ``(G,)``.
        names: Of the G groups.
    """
    with np.errstate(invalid="ignore"):
        scores = 2 * counts.tp / (2 * counts.tp + counts.fp + counts.fn)
    return {name: float(score) for name, score in zip(names, scores, strict=True)}


def leaf_means(counts: Counts, num_classes: int, levels: Mapping[str, Sequence[int]]) -> dict[str, Floats]:
    """Return what the Pascal-part project called the score of a level: the mean of its classes' IoU in one image.

    Differs from :func:`seglab.evaluation.metrics.summarize` in three ways: it averages the classes of a region
    instead of merging them, a class that the image's truth does not have costs nothing where it is predicted, and the
    score of a set of images is the mean of their scores (NaN left out), not that of their pixels: ``np.nanmean`` of
    each array.

    Args:
        counts: Of shape ``(N, G)``, the classes first, one row an image; the project scored at 512 x 512.
        num_classes: K.
        levels: The class ids of each level.

    Returns:
        For ``miou``, each level and ``pixel_accuracy``: N scores, NaN where the truth has none of the classes.
    """
    tp, fp, fn = (values[:, :num_classes] for values in (counts.tp, counts.fp, counts.fn))
    iou_NK = np.where(tp + fn > 0, (tp + _SMOOTH) / (tp + fp + fn + _SMOOTH), np.nan)
    means = {"miou": mean_present(iou_NK)}
    means |= {name: mean_present(iou_NK[:, list(members)]) for name, members in levels.items()}
    return {**means, "pixel_accuracy": pixel_accuracy(counts, num_classes)}


@dataclass(frozen=True)
class Protocol:
    """Scores by somebody else's definition."""

    name: str
    definition: str
    """What it averages, in a line."""
    scores: dict[str, float]
    """NaN where undefined."""


def protocol(name: str, evaluation: "Evaluation") -> Protocol:
    """Score by a definition of :data:`PROTOCOLS`.

    Raises:
        UsageError: If there is no such protocol, or it is not made for the task.
    """
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    definition, score = PROTOCOLS[name]
    return Protocol(name, definition, score(evaluation))


def check_protocol(name: str, task: "Task") -> None:
    """Make sure that there is a protocol of that name, and that it is made for a task.

    Raises:
        UsageError: If not.
    """
    from seglab.evaluation.result import Tally

    protocol(name, Tally(task).finish())


def _helen(evaluation: "Evaluation") -> dict[str, float]:
    whole = Counts(*(of.sum(0) for of in (evaluation.counts.tp, evaluation.counts.fp, evaluation.counts.fn)))
    return helen(whole, groups(evaluation.task))


def _leaf_means(evaluation: "Evaluation") -> dict[str, float]:
    means = leaf_means(evaluation.counts, evaluation.task.num_classes, _published_levels(evaluation.task))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return {name: float(np.nanmean(scores)) if len(scores) else float("nan") for name, scores in means.items()}


def _published_levels(task: "Task") -> dict[str, Sequence[int]]:
    """Return the classes that the Pascal-part code averages under the names of the three levels.

    It took the classes of the top region for the top, but of the two halves below it the first for the middle and the
    second for the bottom.
    """
    levels = list(task.levels.items())
    if len(levels) != 3 or len(levels[0][1]) != 1 or len(levels[1][1]) != 2:
        raise UsageError(
            f"protocol `pascal-part-original` is not made for task `{task.name}`",
            "it is for hierarchies of one region, its two halves, and their parts",
        )
    (top, (whole,)), (middle, (first, second)), (bottom, _) = levels
    return {top: task.members(whole), middle: task.members(first), bottom: task.members(second)}


def _levels(evaluation: "Evaluation") -> dict[str, float]:
    if not evaluation.scores.levels:
        raise UsageError(f"protocol `readme` is not made for task `{evaluation.task.name}`: it has no hierarchy")
    return {"miou": evaluation.scores.miou, **{level.name: level.iou for level in evaluation.scores.levels}}


def _cihp(evaluation: "Evaluation") -> dict[str, float]:
    scores = evaluation.scores
    return {"miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy, "mean_accuracy": scores.mean_accuracy}


PROTOCOLS: Final[Mapping[str, tuple[str, Callable[["Evaluation"], dict[str, float]]]]] = {
    "helen": ("F1 over the pixels of the whole split, as f1_score.py of Helen*", _helen),
    "pascal-part-original": (
        "per image, the mean IoU of the classes that its truth has, then the mean over images;"
        " levels average classes instead of merging them; the project scored at 512 x 512 (`--at model`)",
        _leaf_means,
    ),
    "cihp": ("mean IoU over all classes that occur, the background included, over the pixels of the split", _cihp),
    "readme": ("IoU of merged regions over the pixels of the split, averaged within each level", _levels),
}
"""What ``--protocol`` takes: definition and function by name."""
