"""A view of a training sample on the model's grid. Shapes: H W the model grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["View", "mirror_labels"]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """What a photo, its labels and, where known, its people look like on the grid."""

    pixels: Pixels
    """HWC uint8 RGB."""
    labels: Pixels
    """HW uint8 class ids; 255 where nobody knows."""
    people: Pixels | None = None
    """HW uint8 who each pixel belongs to: 0 nobody, 255 where nobody knows."""

    def mirrored(self, mirror: Sequence[int]) -> "View":
        """Return the flip from left to right, left and right classes changing places (see :func:`mirror_labels`)."""
        people = None if self.people is None else _flipped(self.people)
        return View(_flipped(self.pixels), mirror_labels(self.labels, mirror), people)


def mirror_labels(labels: Pixels, mirror: Sequence[int]) -> Pixels:
    """Flip labels left to right, left and right classes changing places.

    Args:
        labels: HW uint8.
        mirror: Class k of a picture is class ``mirror[k]`` of its flip; 255 stays.
    """
    table = np.arange(256, dtype=np.uint8)
    table[: len(mirror)] = mirror
    exchanged: Any = cv2.LUT(_flipped(labels), table)
    mirrored: Pixels = exchanged
    return mirrored


def _flipped(picture: Pixels) -> Pixels:
    flipped: Any = cv2.flip(picture, 1)
    result: Pixels = flipped
    return result
