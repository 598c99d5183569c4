"""Masks as polygons: followed along the edges of their pixels, without holes, exactly or with fewer corners."""

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["to_polygons"]

Ints = NDArray[np.int64]
Ring = NDArray[np.int32]

_RIGHT, _DOWN, _LEFT, _UP = range(4)
"""Directions in which the edge of a pixel is walked, the mask on the right hand."""
_NEXT: Final = {_RIGHT: (_DOWN, _UP), _DOWN: (_LEFT, _RIGHT), _LEFT: (_UP, _DOWN), _UP: (_RIGHT, _LEFT)}
"""Where a walk may turn; first the turn round the same pixel, so that pixels that touch at a corner stay apart."""


def to_polygons(mask: NDArray[np.bool_], *, tolerance: float = 0.0) -> list[list[int]]:
    """Return polygons that together cover a mask.

    Corners lie between pixels: a single pixel at the top left is ``0 0 1 0 1 1 0 1``. As the notation knows no holes, a
    mask that has some is cut into pieces along columns that pass through them.

    Args:
        mask: HW.
        tolerance: How far, in pixels, polygons may stray from the edges of pixels to need fewer corners; 0 is exact.

    Returns:
        Each ``x y x y ...``, clockwise as seen in the picture; none for an empty mask.
    """
    rings = _rings(mask)
    holes = [ring for ring in rings if _area(ring) < 0]
    if not holes:
        return [_written(ring, tolerance) for ring in rings]
    cuts = sorted({int(ring[:, 0].min() + ring[:, 0].max()) // 2 for ring in holes})
    pieces = []
    for left, right in zip([0, *cuts], [*cuts, mask.shape[1]], strict=True):
        if right > left:
            pieces += [ring + np.array([left, 0], np.int32) for ring in _rings(mask[:, left:right])]
    return [_written(ring, tolerance) for ring in pieces]


def _rings(mask: NDArray[np.bool_]) -> list[Ring]:
    """Return the closed walks round a mask as N x 2 corners (x, y): clockwise outside, the other way round holes."""
    directions, starts, ends = _edges(mask)
    if not len(starts):
        return []
    width = mask.shape[1] + 1
    keys = directions * (width * (mask.shape[0] + 1)) + starts
    order = np.argsort(keys)
    following = _following(directions, ends, keys[order], order, width * (mask.shape[0] + 1)).tolist()
    corners = np.stack([starts % width, starts // width], axis=1).astype(np.int32)
    seen = bytearray(len(following))
    rings = []
    for first in range(len(following)):
        if seen[first]:
            continue
        walk = []
        edge = first
        while not seen[edge]:
            seen[edge] = 1
            walk.append(edge)
            edge = following[edge]
        rings.append(corners[walk])
    return rings


def _edges(mask: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """Return the straight edges of a mask: direction, and numbers of the corners where each starts and ends."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    width = mask.shape[1] + 1
    found = []
    for direction, beyond in (
        (_RIGHT, padded[:-2, 1:-1]), (_LEFT, padded[2:, 1:-1]), (_UP, padded[1:-1, :-2]), (_DOWN, padded[1:-1, 2:]),
    ):  # fmt: skip
        edge = inside & ~beyond
        flat = direction in (_RIGHT, _LEFT)
        first, last, line = _stretches(edge if flat else edge.T)
        line = line + (direction in (_LEFT, _DOWN))
        along = (line * width + first, line * width + last) if flat else (first * width + line, last * width + line)
        start, end = along if direction in (_RIGHT, _DOWN) else along[::-1]
        found.append((np.full(len(start), direction), start, end))
    directions, starts, ends = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return directions, starts, ends


def _stretches(edge: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """Return where along its rows each run of set pixels begins and ends, and in which row."""
    length = edge.shape[1] + 1
    flat = np.concatenate([[False], np.pad(edge, ((0, 0), (0, 1))).ravel()])
    borders = np.flatnonzero(flat[1:] != flat[:-1])
    lines, places = np.divmod(borders, length)
    return places[0::2], places[1::2], lines[0::2]


def _following(directions: Ints, ends: Ints, sorted_keys: Ints, order: Ints, num_corners: int) -> Ints:
    """Return which edge each edge goes on with."""
    following = np.zeros(len(ends), np.int64)
    for direction, turns in _NEXT.items():
        mine = np.flatnonzero(directions == direction)
        left = mine
        for turn in turns:
            wanted = turn * num_corners + ends[left]
            place = np.minimum(np.searchsorted(sorted_keys, wanted), len(order) - 1)
            there = sorted_keys[place] == wanted
            following[left[there]] = order[place[there]]
            left = left[~there]
    return following


def _area(ring: Ring) -> int:
    x, y = ring.astype(np.int64).T
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) // 2


def _written(ring: Ring, tolerance: float) -> list[int]:
    if tolerance > 0:
        simple: Any = cv2.approxPolyDP(ring[:, None], tolerance, closed=True)
        if len(simple) >= 3:
            ring = simple[:, 0]
    corners: list[int] = ring.ravel().tolist()
    return corners
