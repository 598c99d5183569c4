"""Where and how large the classes of an answer are, and how sure the network is of them."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.tasks import Task

__all__ = ["class_areas", "count_labels", "mask_area", "mean_in"]

Float32 = NDArray[np.float32]


def count_labels(labels: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Return how many pixels each of K class ids has; ids from K on are not counted.

    Args:
        labels: HW class ids.
        num_classes: K.
    """
    counts = np.zeros(256, np.int64)
    # The histogram is kept in float32, which counts no further than 2^24.
    num_rows = max(1, 2**23 // labels.shape[1])
    for top in range(0, labels.shape[0], num_rows):
        histogram: Any = cv2.calcHist([labels[top : top + num_rows]], [0], None, [256], [0, 256])
        counts += histogram.ravel().astype(np.int64)
    return counts[:num_classes]


def class_areas(labels: NDArray[np.uint8], task: Task, certainty: Float32 | None = None) -> dict[str, dict[str, Any]]:
    """Return, by name, the area of each class that is present, as plain JSON values (see :func:`mask_area`).

    Args:
        labels: HW class ids.
        task: What they mean.
        certainty: HW probability of the network's choice; each class gets its mean there as ``confidence``.
    """
    counts = count_labels(labels, task.num_classes)
    areas = {}
    for index, name in enumerate(task.classes):
        if counts[index]:
            mask = labels == index
            areas[name] = mask_area(mask, int(counts[index]))
            if certainty is not None:
                areas[name]["confidence"] = mean_in(certainty, mask)
    return areas


def mask_area(mask: NDArray[np.bool_], num_pixels: int | None = None) -> dict[str, Any]:
    """Return the number of pixels of a mask, their share of the picture (0..1) and their bounding box (None if empty).

    Args:
        mask: HW.
        num_pixels: How many are set, if that is known.
    """
    pixels = int(np.count_nonzero(mask)) if num_pixels is None else num_pixels
    bbox = None
    if pixels:
        left, top, width, height = (int(value) for value in cv2.boundingRect(mask.view(np.uint8)))
        bbox = {"top": top, "left": left, "height": height, "width": width}
    return {"pixels": pixels, "share": round(pixels / mask.size, 6), "bbox": bbox}


def mean_in(values: Float32, mask: NDArray[np.bool_] | None = None) -> float:
    """Return the mean of HW values, in a mask or everywhere, to four digits."""
    mean: Any = cv2.mean(values, None if mask is None else np.ascontiguousarray(mask).view(np.uint8))
    return round(float(mean[0]), 4)
