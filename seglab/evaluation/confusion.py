"""Count which class was taken for which: the one sufficient statistic of evaluation.

A confusion matrix is K x K int64 with the truth in rows and the prediction in columns. Matrices of two sets of pixels
are merged by adding them.
"""

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.errors import DataError
from seglab.tasks import IGNORE

__all__ = ["Matrix", "confusion"]

Matrix = NDArray[np.int64]
_Ids = NDArray[np.uint8]

_STRIP_PIXELS: Final = 1 << 24
"""``cv2.calcHist`` returns float32, in which whole numbers are exact up to 2^24."""

_PAIRED_CLASSES: Final = 15
"""The largest K whose K * (K + 1) pairs of predicted class and true class or 255 have codes in a byte."""


def confusion(truth: NDArray[Any], prediction: NDArray[Any], num_classes: int) -> Matrix:
    """Count the pixels of every (true class, predicted class) pair.

    Args:
        truth: Class ids of any shape, usually HW uint8; pixels of 255 are left out.
        prediction: Class ids of the same shape; 255 is not a prediction.
        num_classes: K, 2 to 255.

    Returns:
        K x K counts, rows truth. ``truth.size - matrix.sum()`` pixels were left out.

    Raises:
        DataError: If the shapes differ, or an id is neither a class nor, in the truth, 255. The ids are named.
        ValueError: If ``num_classes`` is out of range or an array does not hold whole numbers.
    """
    if not 2 <= num_classes <= IGNORE:
        raise ValueError(f"num_classes must be within 2..{IGNORE}, got {num_classes}")
    if truth.shape != prediction.shape:
        raise DataError(f"the prediction is {_size(prediction)}, but the truth is {_size(truth)}")
    rows, columns = _flat(truth, "truth"), _flat(prediction, "prediction")
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for start in range(0, rows.size, _STRIP_PIXELS):
        strip = slice(start, start + _STRIP_PIXELS)
        paired = _count_paired(rows[strip], columns[strip], num_classes) if num_classes <= _PAIRED_CLASSES else None
        matrix += _count(rows[strip], columns[strip], num_classes) if paired is None else paired
    return matrix


def _count_paired(truth: _Ids, prediction: _Ids, num_classes: int) -> Matrix | None:
    """Count two pixels a step, which halves the time; None if an id is strange.

    Neighbouring pixels mostly raise the same counter, and a processor waits for one raise to end before the next.
    """
    shifted = truth + np.uint8(1)  # 255 wraps to 0
    if shifted.max() > num_classes or prediction.max() >= num_classes:
        return None
    joint = prediction * np.uint8(num_classes + 1)
    joint += shifted
    bins, half = num_classes * (num_classes + 1), joint.size // 2
    counts = np.zeros(bins, np.int64)
    if half:
        halves = [joint[:half], joint[half : 2 * half]]
        pairs = cv2.calcHist(halves, [0, 1], None, [bins, bins], [0, bins, 0, bins])
        for axis in (0, 1):
            counts += cv2.reduce(pairs, axis, cv2.REDUCE_SUM).ravel().astype(np.int64)
    counts[joint[2 * half :]] += 1
    matrix: Matrix = counts.reshape(num_classes, num_classes + 1)[:, 1:].T
    return matrix


def _count(truth: _Ids, prediction: _Ids, num_classes: int) -> Matrix:
    """Count any ids, and refuse those that are none."""
    joint = cv2.calcHist([truth, prediction], [0, 1], None, [256, 256], [0, 256, 0, 256])
    _refuse_strangers(joint, num_classes)
    counts: Matrix = joint[:num_classes, :num_classes].astype(np.int64)
    return counts


def _refuse_strangers(joint: NDArray[Any], num_classes: int) -> None:
    problems = []
    for name, ids in (
        ("truth", np.flatnonzero(joint[num_classes:IGNORE].any(axis=1))),
        ("prediction", np.flatnonzero(joint[:, num_classes:].any(axis=0))),
    ):
        if ids.size:
            listed = ", ".join(f"`{label + num_classes}`" for label in ids[:10])
            problems.append(f"the {name} holds id {listed}{' and more' if ids.size > 10 else ''}")
    if problems:
        raise DataError(f"{' and '.join(problems)}, but the classes are 0..{num_classes - 1}")


def _flat(labels: NDArray[Any], name: str) -> _Ids:
    if labels.dtype != np.uint8:
        if labels.dtype.kind not in "bui":
            raise ValueError(f"the {name} must hold class ids, got {labels.dtype}")
        if labels.size and not 0 <= labels.min() <= labels.max() <= IGNORE:
            raise DataError(f"the {name} holds ids {labels.min()}..{labels.max()}, outside 0..{IGNORE}")
    return labels.astype(np.uint8, copy=False).reshape(-1)


def _size(labels: NDArray[Any]) -> str:
    """Return width x height, as people write it; other axes first."""
    *others, height, width = labels.shape if labels.ndim > 1 else (1, *labels.shape)
    return "x".join(map(str, (*others, width, height)))
