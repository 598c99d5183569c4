"""Weights of the classes from how often they occur. Needs no torch."""

import math
from collections.abc import Sequence
from typing import Final

__all__ = ["LARGEST", "balanced_weights"]

LARGEST: Final = 10.0
"""No class weighs more."""


def balanced_weights(num_pixels: Sequence[int]) -> list[float]:
    """Return a weight a class: ``min(10, 1 / (sqrt(p) * sum of sqrt(p)))``, where p is the class's share of the pixels.

    A pixel weighs 1 on average before the cut at 10, so the size of the loss and the learning rate that suits it stay.
    The root is half way between counting pixels alike and counting classes alike. A class without pixels weighs 1.

    Args:
        num_pixels: Labelled pixels of every class in the training split.
    """
    total = sum(num_pixels)
    roots = [math.sqrt(number / total) if number else 0.0 for number in num_pixels]
    scale = sum(roots)
    return [min(LARGEST, 1 / (root * scale)) if root else 1.0 for root in roots]
