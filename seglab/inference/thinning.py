"""Thick strokes to lines one pixel wide."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["thin"]

_NEIGHBOURS: Final = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
"""Down and right of a pixel, from its right neighbour anticlockwise; bit k of a code is neighbour k."""


def thin(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the lines in the middle of strokes: what hangs together stays so, holes stay holes.

    Origin: Z. Guo, R. W. Hall, "Parallel Thinning with Two-Subiteration Algorithms", 1989, in the form of L. Lam,
    S.-W. Lee, C. Y. Suen, "Thinning Methodologies - A Comprehensive Survey", 1992, page 879: what MATLAB's
    ``bwmorph(..., "thin", Inf)`` does.

    Args:
        mask: HW.
    """
    padded = np.pad(mask, 1).view(np.uint8)
    flat = padded.reshape(-1)
    width = padded.shape[1]
    steps = [down * width + right for down, right in _NEIGHBOURS]
    left = np.flatnonzero(flat)
    while True:
        num_left = len(left)
        for table in _TABLES:
            codes = np.zeros(len(left), np.uint8)
            for bit, step in enumerate(steps):
                codes |= flat[left + step] << bit
            goes = table[codes]
            flat[left[goes]] = 0
            left = left[~goes]
        if len(left) == num_left:
            return padded[1:-1, 1:-1].astype(bool)


def _table(first: bool) -> NDArray[np.bool_]:
    """Tell, for each of the 256 neighbourhoods of a pixel, whether half a turn takes it away."""
    codes = np.arange(256)
    x = [(codes >> bit & 1).astype(bool) for bit in range(8)]
    crossings = sum(~x[i] & (x[i + 1] | x[(i + 2) % 8]) for i in (0, 2, 4, 6))
    pairs = sum((x[i] | x[i + 1]).astype(int) for i in (0, 2, 4, 6))
    other_pairs = sum((x[i + 1] | x[(i + 2) % 8]).astype(int) for i in (0, 2, 4, 6))
    fewest = np.minimum(pairs, other_pairs)
    blocked = (x[1] | x[2] | ~x[7]) & x[0] if first else (x[5] | x[6] | ~x[3]) & x[4]
    goes: NDArray[np.bool_] = (crossings == 1) & (fewest >= 2) & (fewest <= 3) & ~blocked
    return goes


_TABLES: Final = (_table(True), _table(False))
