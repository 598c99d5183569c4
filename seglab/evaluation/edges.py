"""How well the outlines of people are found, as counts that add up over images.

Origin: K. Gong et al., *Instance-level Human Parsing via Part Grouping Network*, ECCV 2018, which takes over the
measures of the BSDS benchmark (P. Arbeláez, M. Maire, C. Fowlkes, J. Malik, *Contour Detection and Hierarchical Image
Segmentation*, PAMI 2011): outlines are thinned to one pixel, a pixel is right if the other map has one nearby, within
0.75 % of the picture's diagonal; precision, recall and F1 at a fixed probability (0.5, as the authors' test code), at
the probability that is best for all pictures (ODS), and at the one that is best for each (OIS).

Differs from the benchmark in that several pixels of one line may be matched with the same pixel of the other, where it
matches one to one: of thinned lines that is much the same, and takes a distance transform instead of an assignment.

Shapes: HW picture, T probabilities (:data:`FROM`), N images.
"""

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.inference.thinning import thin
from seglab.tasks import IGNORE

__all__ = [
    "AT",
    "FROM",
    "NUM_COUNTS",
    "REACH_SHARE",
    "EdgeScores",
    "best_of_each",
    "count_edges",
    "f1_of",
    "reach",
    "score_edges",
]

FROM: Final = tuple(tenth / 10 for tenth in range(1, 10))
"""Probabilities from which a pixel counts as part of an outline."""
AT: Final = 0.5
"""The one of precision, recall and F1."""
REACH_SHARE: Final = 0.0075
"""How far apart lines may lie, as a share of the picture's diagonal; never less than a pixel."""
NUM_COUNTS: Final = 4
"""Length of the last axis of counts: predicted line pixels that are right, all of them; true ones that were found, all
of them."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class EdgeScores:
    """0..1; NaN where there is no outline in truth and prediction."""

    precision: float
    recall: float
    f1: float
    ods: float
    """The best F1 of all images at one probability."""
    ods_from: float
    """That probability."""
    ois: float
    """F1 of all images, each at the probability that is best for it."""


def count_edges(truth: NDArray[np.uint8], probs: NDArray[np.float32]) -> Ints:
    """Count line pixels of one picture.

    Args:
        truth: HW: 1 outline, 0 none, 255 unknown. What is predicted where it is unknown is neither right nor wrong.
        probs: HW probabilities of outlines.

    Returns:
        (T, :data:`NUM_COUNTS`); counts of several pictures are merged by adding them.
    """
    known = truth != IGNORE
    true = thin(truth == 1)
    near_true = _near(true)
    counts = np.zeros((len(FROM), NUM_COUNTS), np.int64)
    before, row = None, 0
    for row, threshold in enumerate(FROM):
        strokes = probs >= threshold
        if before is not None and np.array_equal(strokes, before):
            counts[row] = counts[row - 1]
            continue
        before, lines = strokes, thin(strokes)
        scored = lines & known
        counts[row] = [np.count_nonzero(of) for of in (scored & near_true, scored, true & _near(lines), true)]
    return counts


def score_edges(counts_NTC: Ints) -> EdgeScores:
    """Score the counts of N images, (N, T, :data:`NUM_COUNTS`)."""
    total_TC = counts_NTC.sum(0)
    f1_T = f1_of(total_TC)
    fixed = FROM.index(AT)
    right, predicted, found, true = total_TC[fixed].tolist()
    if predicted + true == 0:
        precision = recall = np.nan
    else:
        precision, recall = right / max(predicted, 1), found / max(true, 1)
    best = int(np.nan_to_num(f1_T, nan=-1.0).argmax())
    return EdgeScores(
        precision,
        recall,
        float(f1_T[fixed]),
        float(f1_T[best]),
        FROM[best],
        float(f1_of(best_of_each(counts_NTC).sum(0))),
    )


def reach(size_hw: tuple[int, int]) -> float:
    """Return how many pixels apart lines may lie in a picture."""
    return max(1.0, REACH_SHARE * float(np.hypot(*size_hw)))


def best_of_each(counts_NTC: Ints) -> Ints:
    """Return the counts of each image at the probability at which its F1 is best, (N, :data:`NUM_COUNTS`)."""
    best_N = np.nan_to_num(f1_of(counts_NTC), nan=-1.0).argmax(-1)
    counts_NC: Ints = counts_NTC[np.arange(len(counts_NTC)), best_N]
    return counts_NC


def f1_of(counts: Ints | Floats) -> Floats:
    """Return F1 of counts (..., :data:`NUM_COUNTS`); NaN where there is no line in truth and prediction."""
    right, predicted, found, true = np.moveaxis(counts, -1, 0)
    precision, recall = right / np.maximum(predicted, 1), found / np.maximum(true, 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return np.where(predicted + true > 0, f1, np.nan)


def _near(lines: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if not lines.any():
        return np.zeros_like(lines)
    distance: Any = cv2.distanceTransform((~lines).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near: NDArray[np.bool_] = distance <= reach((lines.shape[0], lines.shape[1]))
    return near
