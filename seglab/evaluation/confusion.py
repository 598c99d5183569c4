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

_STRIP_PIXELS: Final = 1 << 24
"""``cv2.calcHist`` returns float32, in which whole numbers are exact up to 2^24."""


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
    for start in range(0, rows.shape[1], _STRIP_PIXELS):
        strip = slice(start, start + _STRIP_PIXELS)
        joint = cv2.calcHist([rows[:, strip], columns[:, strip]], [0, 1], None, [256, 256], [0, 256, 0, 256])
        _refuse_strangers(joint, num_classes)
        matrix += joint[:num_classes, :num_classes].astype(np.int64)
    return matrix


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


def _flat(labels: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if labels.dtype != np.uint8:
        if labels.dtype.kind not in "bui":
            raise ValueError(f"the {name} must hold class ids, got {labels.dtype}")
        if labels.size and not 0 <= labels.min() <= labels.max() <= IGNORE:
            raise DataError(f"the {name} holds ids {labels.min()}..{labels.max()}, outside 0..{IGNORE}")
    return labels.astype(np.uint8, copy=False).reshape(1, -1)


def _size(labels: NDArray[Any]) -> str:
    """Return width x height, as people write it; other axes first."""
    *others, height, width = labels.shape if labels.ndim > 1 else (1, *labels.shape)
    return "x".join(map(str, (*others, width, height)))
