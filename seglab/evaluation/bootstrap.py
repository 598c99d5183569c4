"""How far a score would move with other images of the same kind: bootstrap over images.

Images are drawn again, as many as there are, with replacement, and the score of each such set is computed from the sums
of its counts, exactly as that of the real set. The 95 % interval is that of the percentiles (B. Efron,
R. J. Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13). Two models on the same images are compared in
pairs: every set is drawn once for both, and the interval and p-value are those of the difference.

What it leaves out: images that belong together (of one person, of one video) count as independent, and nothing is said
of other trainings of the same model.

Shapes: N images, R drawn sets, G groups (classes, then regions), M metrics.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seglab.evaluation.metrics import MEASURES, Counts, groups, mean_present, pixel_accuracy
from seglab.tasks import Task

__all__ = [
    "NUM_SETS",
    "Difference",
    "Interval",
    "differences",
    "figures",
    "intervals",
    "shared",
    "to_difference",
    "to_interval",
    "weights",
]

NUM_SETS: Final = 2000
"""How many sets are drawn."""
SEED: Final = 20261121
"""The same sets for every call with as many images, so that a figure can be repeated."""
LEVEL: Final = 0.95

_AT_ONCE: Final = 100
"""Sets whose counts are summed in one product."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Where 95 % of the drawn sets lie, 0..1."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A score minus that of a baseline on the same images."""

    difference: float
    low: float
    high: float
    p: float
    """Two-sided: twice the share of the drawn sets on the rarer side of zero, at least 1 / (R + 1)."""

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def figures(counts: Counts, task: Task) -> dict[str, Floats]:
    """Return every figure that pixels of groups tell, by metric name.

    Args:
        counts: Of shape (..., G).
        task: Whose groups they are.

    Returns:
        Arrays of shape ``...``; NaN where undefined.
    """
    num_classes = task.num_classes
    measured = {name: measure(counts) for name, measure in MEASURES.items()}
    true = (counts.tp + counts.fn)[..., :num_classes]
    weights = true / np.maximum(true.sum(-1, keepdims=True), 1)
    iou_K = measured["iou"][..., :num_classes]
    known = {
        "miou": mean_present(iou_K),
        "miou_foreground": mean_present(iou_K[..., 1:]),
        "mean_f1": mean_present(measured["f1"][..., :num_classes]),
        "pixel_accuracy": pixel_accuracy(counts, num_classes),
        "mean_accuracy": mean_present(measured["recall"][..., :num_classes]),
        "fwiou": np.where(true.sum(-1) > 0, np.nansum(iou_K * weights, axis=-1), np.nan),
    }
    names = groups(task)
    known |= {f"{measure}.{name}": of[..., row] for measure, of in measured.items() for row, name in enumerate(names)}
    place = {name: row for row, name in enumerate(names)}
    for level, members in task.levels.items():
        known[f"level.{level}.iou"] = mean_present(measured["iou"][..., [place[name] for name in members]])
    return known


def intervals(counts: Counts, task: Task, *, num_sets: int = NUM_SETS) -> dict[str, Interval | None]:
    """Return the interval of every figure; None where most drawn sets do not define it, or one image says nothing.

    Args:
        counts: Of shape (N, G), one row an image.
        task: Whose groups they are.
        num_sets: R.
    """
    return {name: to_interval(values) for name, values in _drawn(counts, task, num_sets).items()}


def differences(
    counts: Counts, baseline: Counts, task: Task, *, num_sets: int = NUM_SETS
) -> dict[str, Difference | None]:
    """Compare two models on the same images, in pairs.

    Args:
        counts: Of shape (N, G), one row an image.
        baseline: Of the same images in the same order.
        task: Whose groups they are.
        num_sets: R.

    Raises:
        ValueError: If the numbers of images or groups differ.
    """
    if counts.tp.shape != baseline.tp.shape:
        raise ValueError(f"counts of {counts.tp.shape} and {baseline.tp.shape} images and groups")
    ours, theirs = (_drawn(several, task, num_sets) for several in (counts, baseline))
    whole, before = (figures(_summed(several), task) for several in (counts, baseline))
    return {name: to_difference(float(whole[name] - before[name]), ours[name] - theirs[name]) for name in whole}


def _drawn(counts: Counts, task: Task, num_sets: int) -> dict[str, Floats]:
    """Return every figure of every drawn set, (R,)."""
    num_images = len(counts.tp)
    if num_images < 2:
        return {name: np.full(num_sets, np.nan) for name in figures(_summed(counts), task)}
    parts: list[Mapping[str, Floats]] = []
    for weights_RN in weights(num_images, num_sets):
        parts.append(figures(Counts(*(_weighted(weights_RN, of) for of in (counts.tp, counts.fp, counts.fn))), task))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def weights(num_images: int, num_sets: int) -> Iterator[Floats]:
    """Yield how often each image is in each drawn set, some sets at a time; the same sets for as many images."""
    random = np.random.default_rng([SEED, num_images])
    for first in range(0, num_sets, _AT_ONCE):
        num = min(_AT_ONCE, num_sets - first)
        drawn = random.integers(num_images, size=(num, num_images)) + num_images * np.arange(num)[:, None]
        yield np.bincount(drawn.ravel(), minlength=num * num_images).reshape(num, num_images).astype(np.float64)


def _weighted(weights_RN: Floats, counts_NG: NDArray[np.int64]) -> NDArray[np.int64]:
    # Floating point holds these sums exactly: they are whole and far below 2^53.
    sums: NDArray[np.int64] = (weights_RN @ counts_NG.astype(np.float64)).astype(np.int64)
    return sums


def _summed(counts: Counts) -> Counts:
    return Counts(counts.tp.sum(0), counts.fp.sum(0), counts.fn.sum(0))


def to_interval(values: Floats) -> Interval | None:
    """Return the interval of a figure from its values in the drawn sets, (R,), NaN where undefined."""
    bounds = _bounds(values)
    return None if bounds is None else Interval(*bounds)


def to_difference(difference: float, values: Floats) -> Difference | None:
    """Return how sure a difference is, from its values in the drawn sets, (R,), NaN where undefined."""
    bounds = _bounds(values)
    if bounds is None or math.isnan(difference):
        return None
    there = values[~np.isnan(values)]
    tail = min(np.count_nonzero(there <= 0), np.count_nonzero(there >= 0))
    return Difference(difference, *bounds, p=min(1.0, 2 * (tail + 1) / (len(there) + 1)))


def _bounds(values: Floats) -> tuple[float, float] | None:
    """Return the percentiles over the sets that define the figure; None if less than half do."""
    there = values[~np.isnan(values)]
    if 2 * len(there) < len(values) or not len(there):
        return None
    rest = 50 * (1 - LEVEL)
    low, high = np.percentile(there, [rest, 100 - rest])
    return float(low), float(high)


def shared(names: Sequence[str], other: Sequence[str]) -> list[tuple[int, int]]:
    """Return the places of the ids that two evaluations share, in the order of the first."""
    place = {name: row for row, name in enumerate(other)}
    return [(row, place[name]) for row, name in enumerate(names) if name in place]
