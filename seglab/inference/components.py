"""People by what hangs together, for models that find no outlines: two who touch are one."""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.inference.instances import Instance, Instances
from seglab.tasks import Task

__all__ = ["MAX_PEOPLE", "find_components"]

MAX_PEOPLE: Final = 2000
"""More than anybody can count; of more areas the largest are taken."""
_BAND: Final = 256
"""Rows that are summed at once."""


def find_components(
    labels: NDArray[np.uint8], certainty: NDArray[np.float32], task: Task, classes: Sequence[int]
) -> Instances:
    """Number the connected areas of some classes, diagonals included, the largest first.

    Args:
        labels: HW class ids.
        certainty: HW probability of the network's choice.
        task: What the ids mean.
        classes: The ids that people are made of.

    Returns:
        The areas as people; the score of each, and of each part, is pixels x mean certainty.
    """
    member = np.zeros(256, np.uint8)
    member[list(classes)] = 1
    mask = cv2.LUT(labels, member)
    _, areas, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
    boxes = np.asarray(statistics)
    order = 1 + np.argsort(-boxes[1:, cv2.CC_STAT_AREA], kind="stable")[:MAX_PEOPLE]
    table = np.zeros(len(boxes), np.uint16)
    table[order] = np.arange(1, len(order) + 1)
    ids: NDArray[np.uint16] = table[np.asarray(areas)]
    pixels, sums = _sums(ids, labels, certainty, len(order) + 1)
    people = tuple(
        _describe(number, boxes[area], labels.size, pixels[number], sums[number], task)
        for number, area in enumerate(order.tolist(), start=1)
    )
    return Instances(ids, people)


def _sums(
    ids: NDArray[np.uint16], labels: NDArray[np.uint8], certainty: NDArray[np.float32], num: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how many pixels each class of each person has, and the sum of their certainty."""
    pixels, sums = np.zeros((2, num * 256))
    for top in range(0, ids.shape[0], _BAND):
        band = slice(top, top + _BAND)
        codes = (ids[band].astype(np.int64) * 256 + labels[band]).ravel()
        pixels += np.bincount(codes, minlength=num * 256)
        sums += np.bincount(codes, certainty[band].ravel(), num * 256)
    return pixels.reshape(num, 256), sums.reshape(num, 256)


def _describe(
    number: int,
    box: NDArray[np.int32],
    num_all: int,
    pixels: NDArray[np.float64],
    sums: NDArray[np.float64],
    task: Task,
) -> Instance:
    left, top, width, height, area = (int(value) for value in box)
    bbox = {"top": top, "left": left, "height": height, "width": width}
    parts = {
        task.classes[index]: {"pixels": int(pixels[index]), "score": round(float(sums[index]), 3)}
        for index in np.flatnonzero(pixels).tolist()
    }
    described = {"pixels": area, "share": round(area / num_all, 6), "bbox": bbox}
    return Instance(number, described, float(sums.sum()), parts)
