"""Where one thing ends and another begins: the truth that edge outputs learn from."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.tasks import IGNORE

__all__ = ["edges_from_labels"]

Uint8 = NDArray[np.uint8]


def edges_from_labels(ids: Uint8) -> Uint8:
    """Return 1 where the 3x3 neighbourhood of a pixel (cut off at the picture's border) has more than one id, else 0.

    So an outline is two pixels wide, one on each side. Where no two ids differ but some are unknown (255), so is the
    edge: 255.

    With the ids of people this is what the Part Grouping Network was trained on: its authors take where the Sobel
    gradient of those ids is not 0, which is the same but for pixels at which differences cancel out. With class ids it
    gives the outlines of parts.

    Args:
        ids: HW ids of people or classes; 255 is unknown.
    """
    if ids.size == 0:
        return ids.copy()
    known = ids != IGNORE
    window: Any = np.ones((3, 3), np.uint8)
    # OpenCV's own border values are neutral: a maximum or minimum sees only what is inside.
    highest: Any = cv2.dilate(np.where(known, ids, np.uint8(0)), window)
    lowest: Any = cv2.erode(ids, window)
    edges: Uint8 = (highest > lowest).astype(np.uint8)
    if not known.all():
        near_unknown: Any = cv2.dilate((~known).view(np.uint8), window)
        edges[(edges == 0) & (near_unknown != 0)] = IGNORE
    return edges
