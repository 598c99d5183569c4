"""How well outlines agree: boundary IoU and boundary F, as counts that add up over images.

Areas are blind to outlines where a region is large. Both measures look at the outlines only:

- Boundary IoU (B. Cheng, R. Girshick, P. Dollár, A. C. Berg, A. Kirillov, *Boundary IoU: Improving Object-Centric Image
  Segmentation Evaluation*, CVPR 2021): the IoU of the bands of pixels inside each mask that lie within some distance of
  its outline. As there, the border of the picture is part of an outline, and distance is counted in steps that may be
  diagonal; the width is 2 % of the picture's diagonal.
- Boundary F (D. Martin, C. Fowlkes, J. Malik, *Learning to Detect Natural Image Boundaries*, PAMI 2004, in the form of
  G. Csurka, D. Larlus, F. Perronnin, *What is a good evaluation measure for semantic segmentation?*, BMVC 2013): an
  outline pixel is right if the other map has one within 2 pixels; precision and recall of that, and their harmonic
  mean. The border of the picture is no outline here: there is nothing to find there.

Pixels that the truth ignores are in no band and no outline, and where a mask ends at them it has no outline.

Shapes: HW picture, G groups (classes, then regions).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.tasks import IGNORE

__all__ = ["NUM_COUNTS", "REACH", "SHARE", "BoundaryScores", "count_boundaries", "score_boundaries"]

SHARE: Final = 0.02
"""Width of the band of boundary IoU as a share of the picture's diagonal."""
REACH: Final = 2
"""How far apart, in pixels, outlines may lie for boundary F."""
NUM_COUNTS: Final = 6
"""Length of the last axis of counts: pixels in both bands, in either band; predicted outline pixels that are right, all
of them; true outline pixels that were found, all of them."""

Ints = NDArray[np.int64]
Uint8 = NDArray[np.uint8]

_DISK: Final = np.asarray(np.hypot(*np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1]) <= REACH, np.uint8)
"""A true disk: that of ``cv2.MORPH_ELLIPSE`` reaches further across than down."""
_CROSS: Final = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True)
class BoundaryScores:
    """The scores of each group, 0..1; NaN where neither map has it, or for F where neither has an outline."""

    iou: NDArray[np.float64]
    f1: NDArray[np.float64]


def count_boundaries(truth: Uint8, prediction: Uint8, members: Sequence[Sequence[int]]) -> Ints:
    """Count outline pixels of every group in one picture.

    Args:
        truth: HW class ids; 255 is ignored.
        prediction: HW class ids of the same size.
        members: The class ids of each group.

    Returns:
        (G, :data:`NUM_COUNTS`); counts of several pictures are merged by adding them.
    """
    counts = np.zeros((len(members), NUM_COUNTS), np.int64)
    ignored = truth == IGNORE
    width = max(1, round(SHARE * float(np.hypot(*truth.shape))))
    tables = np.zeros((len(members), 256), np.uint8)
    for row, ids in enumerate(members):
        tables[row, list(ids)] = 1
    there = {int(id) for id in np.union1d(np.flatnonzero(np.bincount(truth.ravel(), minlength=256)), prediction)}
    for row, ids in enumerate(members):
        if there.intersection(ids):
            true, predicted = tables[row][truth], tables[row][prediction]
            counts[row, :2] = _count_bands(true, predicted, ignored, width)
            counts[row, 2:] = _count_outlines(true, predicted, ignored)
    return counts


def score_boundaries(counts: Ints) -> BoundaryScores:
    """Score counts of shape (..., G, :data:`NUM_COUNTS`)."""
    both, either, right, predicted, found, true = np.moveaxis(counts, -1, 0)
    precision, recall = right / np.maximum(predicted, 1), found / np.maximum(true, 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return BoundaryScores(
        np.where(either > 0, both / np.maximum(either, 1), np.nan), np.where(predicted + true > 0, f1, np.nan)
    )


def _count_bands(truth: Uint8, prediction: Uint8, ignored: NDArray[np.bool_], width: int) -> tuple[int, int]:
    first, second = (_band(mask, ignored, width) for mask in (truth, prediction))
    return int(np.count_nonzero(first & second)), int(np.count_nonzero(first | second))


def _band(mask: Uint8, ignored: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Return the pixels of a mask at most ``width`` steps from what is outside it, ignored pixels apart."""
    filled = np.pad(mask | ignored, 1)
    # Eroding with a 3x3 square so many times keeps what is further than that, in steps that may be diagonal.
    distance: Any = cv2.distanceTransform(filled, cv2.DIST_C, 3)
    band: NDArray[np.bool_] = (distance[1:-1, 1:-1] <= width) & (mask > 0) & ~ignored
    return band


def _count_outlines(truth: Uint8, prediction: Uint8, ignored: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    true, predicted = (_outline(mask, ignored) for mask in (truth, prediction))
    near_true, near_predicted = (_grown(outline) for outline in (true, predicted))
    right, found = np.count_nonzero(predicted & near_true), np.count_nonzero(true & near_predicted)
    return int(right), int(np.count_nonzero(predicted)), int(found), int(np.count_nonzero(true))


def _outline(mask: Uint8, ignored: NDArray[np.bool_]) -> Uint8:
    """Return the pixels of a mask with one of their four neighbours outside it, the border of the picture apart."""
    inner: Any = cv2.erode(mask | ignored, _CROSS, borderType=cv2.BORDER_REPLICATE)
    outline: Uint8 = (mask & ~inner & 1) & ~ignored.view(np.uint8)
    return outline


def _grown(outline: Uint8) -> Uint8:
    grown: Any = cv2.dilate(outline, _DISK)
    return np.asarray(grown, np.uint8)
