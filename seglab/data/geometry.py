"""From a photo to a model's grid and back, so that nothing shifts.

Pixel centres lie at half-integers throughout, and only what lies in the photo's own box of the grid comes back: what
the padding holds never leaks in. Shapes: K classes, H W the photo, h w the grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seglab.config import Preprocess
from seglab.data.images import resize_image, resize_labels
from seglab.tasks import IGNORE

__all__ = ["Placement", "fit_image", "fit_labels", "place", "unfit_labels", "unfit_probs"]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Placement:
    """Where a photo lies on the grid."""

    source_hw: tuple[int, int]
    """Height and width of the photo."""
    size_hw: tuple[int, int]
    """Height and width of the grid."""
    box: tuple[int, int, int, int]
    """Top, left, height and width of the photo on the grid, in grid pixels."""


def place(source_hw: tuple[int, int], preprocess: Preprocess) -> Placement:
    """Return where a photo of some size goes: all over the grid (``stretch``), or centred in its shape (``pad``)."""
    height, width = preprocess.size_hw
    if preprocess.fit == "stretch":
        return Placement(source_hw, preprocess.size_hw, (0, 0, height, width))
    scale = min(height / source_hw[0], width / source_hw[1])
    box_height = min(height, max(1, round(source_hw[0] * scale)))
    box_width = min(width, max(1, round(source_hw[1] * scale)))
    top, left = (height - box_height) // 2, (width - box_width) // 2
    return Placement(source_hw, preprocess.size_hw, (top, left, box_height, box_width))


def fit_image(image: Pixels, preprocess: Preprocess) -> tuple[Pixels, Placement]:
    """Bring a photo to the grid.

    Returns:
        HWC uint8 pixels of ``preprocess.size_hw``, and where the photo lies on them.
    """
    placement = place((image.shape[0], image.shape[1]), preprocess)
    top, left, height, width = placement.box
    inner = resize_image(image, (height, width))
    if (height, width) == placement.size_hw:
        return inner, placement
    grid: Pixels = np.empty((*placement.size_hw, 3), np.uint8)
    grid[:] = preprocess.pad_rgb
    grid[top : top + height, left : left + width] = inner
    return grid, placement


def fit_labels(labels: Pixels, preprocess: Preprocess) -> Pixels:
    """Bring labels to the grid as :func:`fit_image` brings their photo; padding is 255."""
    placement = place((labels.shape[0], labels.shape[1]), preprocess)
    top, left, height, width = placement.box
    grid: Pixels = np.full(placement.size_hw, IGNORE, np.uint8)
    grid[top : top + height, left : left + width] = resize_labels(labels, (height, width))
    return grid


def unfit_labels(logits_Khw: Floats, placement: Placement) -> Pixels:
    """Bring logits back to the photo and take the class of the largest.

    Logits grow bilinearly; where the photo is smaller than its box they are averaged over each photo pixel's area. Of
    equal logits the lower class wins. Works class by class, so memory does not grow with K.

    Returns:
        HW uint8 class ids of ``placement.source_hw``.
    """
    box_Khw = _box(logits_Khw, placement)
    if len(box_Khw) == 2:
        difference_HW = resize_image(box_Khw[1] - box_Khw[0], placement.source_hw)
        labels_HW: Pixels = (difference_HW > 0).view(np.uint8)
        return labels_HW
    labels_HW = np.zeros(placement.source_hw, np.uint8)
    best_HW = resize_image(box_Khw[0], placement.source_hw)
    for index in range(1, len(box_Khw)):
        logits_HW = resize_image(box_Khw[index], placement.source_hw)
        np.copyto(labels_HW, index, where=logits_HW > best_HW)
        np.maximum(best_HW, logits_HW, out=best_HW)
    return labels_HW


def unfit_probs(logits_Khw: Floats, placement: Placement, classes: Sequence[int]) -> Floats:
    """Bring logits back to the photo, and sum the softmax probabilities of some classes.

    Returns:
        HW float32 in 0..1 of ``placement.source_hw``.
    """
    box_Khw = _box(logits_Khw, placement)
    chosen = sorted(set(classes))
    # Softmax does not change when the same plane is taken from all logits. Taking the largest keeps exp from
    # overflowing; classes that are e^-60 as likely as the best need not be told apart, and so the sum cannot vanish.
    shifted_Khw = np.maximum(box_Khw - box_Khw.max(axis=0), np.float32(-60))
    total_HW: Any = np.zeros(placement.source_hw, np.float32)
    kept_HW: Any = np.zeros(placement.source_hw, np.float32)
    for index, shifted_hw in enumerate(shifted_Khw):
        weight_HW = np.exp(resize_image(shifted_hw, placement.source_hw))
        total_HW += weight_HW
        if index in chosen:
            kept_HW += weight_HW
    probs_HW: Floats = np.divide(kept_HW, total_HW, out=kept_HW)
    return probs_HW


def _box(logits_Khw: Floats, placement: Placement) -> Floats:
    top, left, height, width = placement.box
    return np.ascontiguousarray(logits_Khw[:, top : top + height, left : left + width], dtype=np.float32)
