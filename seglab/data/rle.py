"""Masks as run lengths: read, written, made of polygons, and painted straight onto any grid.

A run counts pixels down the columns, from left to right. Three notations of the same:

* Kaggle: text of pairs ``start length``; the first pixel has number 1.
* COCO: a list of lengths, of background and mask in turn, beginning with background; together the whole picture.
* COCO, compressed: that list as text of six bits a character. Origin: https://github.com/cocodataset/cocoapi

A mask is never unpacked to its full size to be drawn on a smaller grid: the runs are cut to the columns that the grid
samples, and what is left of them is filled in slices.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.errors import DataError

__all__ = [
    "Layer",
    "Painting",
    "RleError",
    "Runs",
    "draw",
    "encode_counts",
    "encode_kaggle",
    "from_mask",
    "from_polygons",
    "from_window",
    "list_counts",
    "parse_counts",
    "parse_kaggle",
    "sampled",
    "to_mask",
    "union",
]

Ints = NDArray[np.int64]

_POLYGON_SCALE: Final = 5
"""How much finer than pixels pycocotools follows the outline of a polygon."""

MAX_OUTLINE: Final = 1_000_000
"""Pixels of the longest outline of a polygon. That round a person has a few thousand; all of it is held at once."""

_FIRST_CHARACTER: Final = 48


class RleError(DataError):
    """Runs or a polygon that mean nothing; the message is the reason in a few words, for a report."""


@dataclass(frozen=True, eq=False)
class Runs:
    """A mask: pixels ``starts[i] <= number < ends[i]``, counted from 0 down the columns."""

    starts: Ints
    """Ascending."""
    ends: Ints
    """Each after its start and not after the next start."""
    size_hw: tuple[int, int]
    """Height and width of the picture."""

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int((self.ends - self.starts).sum())


@dataclass(frozen=True)
class Layer:
    """A mask and the label that its pixels get."""

    runs: Runs
    value: int
    """Class id or 255."""


def parse_kaggle(text: bytes | str, size_hw: tuple[int, int]) -> Runs:
    """Read ``start length start length ...``; runs may come in any order and overlap.

    Raises:
        RleError: If there are no runs, the numbers do not pair, or a run is not inside the picture.
    """
    numbers = _numbers(text.encode(errors="replace") if isinstance(text, str) else text)
    if len(numbers) % 2:
        raise RleError(f"{len(numbers)} numbers do not make pairs of start and length")
    starts, lengths = numbers[0::2], numbers[1::2]
    total = size_hw[0] * size_hw[1]
    if starts.min() < 1:
        raise RleError("a run starts at 0, but pixels count from 1")
    # Compared one by one, so that absurd numbers cannot add up to something small.
    outside = (starts > total) | (lengths > total) | (starts - 1 > total - lengths)
    if outside.any():
        where = int(outside.argmax())
        place = f"run `{starts[where]} {lengths[where]}`"
        raise RleError(f"{place} ends outside the {total} pixels of {size_hw[1]}x{size_hw[0]}")
    return _runs(starts - 1, starts - 1 + lengths, size_hw)


@dataclass(frozen=True)
class Painting:
    """Labels as masks over each other; :class:`seglab.data.sources.Outlines`."""

    layers: Sequence[Layer]
    """Later ones cover earlier ones."""
    shape: tuple[int, int]
    """Height and width of the picture."""
    place: str
    """Where they stand in the label file."""

    def draw(self, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
        """Return HW labels of any size; see :func:`draw`."""
        return draw(self.layers, self.shape, size_hw)


def encode_kaggle(runs: Runs) -> str:
    """Write ``start length start length ...``; the inverse of :func:`parse_kaggle`."""
    return " ".join(map(str, np.stack([runs.starts + 1, runs.ends - runs.starts], axis=1).ravel().tolist()))


def parse_counts(counts: Sequence[int] | str | bytes, size_hw: tuple[int, int]) -> Runs:
    """Read a COCO run-length code: a list of lengths, or the compressed text.

    Raises:
        RleError: If it is neither, or the lengths do not add up to the picture.
    """
    lengths = _decompressed(counts) if isinstance(counts, str | bytes) else _listed(counts)
    total = size_hw[0] * size_hw[1]
    if len(lengths) and (lengths.min() < 0 or lengths.max() > total):
        raise RleError(f"length `{lengths.min() if lengths.min() < 0 else lengths.max()}` is impossible")
    if (num := int(lengths.sum())) != total:
        raise RleError(f"lengths add up to {num}, but {size_hw[1]}x{size_hw[0]} are {total} pixels")
    borders = np.cumsum(lengths)
    return _runs(borders[0::2][: len(borders) // 2], borders[1::2], size_hw)


def list_counts(runs: Runs) -> list[int]:
    """Return the list of lengths of COCO's uncompressed notation."""
    total = runs.size_hw[0] * runs.size_hw[1]
    starts, ends = _joined(runs.starts, runs.ends)
    borders = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [total]])
    lengths: list[int] = np.diff(borders).tolist()
    return lengths[:-1] if lengths[-1] == 0 and len(lengths) > 1 else lengths


def encode_counts(runs: Runs) -> str:
    """Return COCO's compressed notation, as pycocotools writes it."""
    lengths = list_counts(runs)
    text = []
    for place, length in enumerate(lengths):
        value = length - lengths[place - 2] if place > 2 else length
        while True:
            bits, value = value & 0x1F, value >> 5
            done = value == (-1 if bits & 0x10 else 0)
            text.append(chr(_FIRST_CHARACTER + bits + (0 if done else 0x20)))
            if done:
                break
    return "".join(text)


def from_mask(mask: NDArray[Any]) -> Runs:
    """Return the runs of an HW mask (everything but 0)."""
    column_wise = np.concatenate([[False], (mask != 0).T.ravel(), [False]])
    borders = np.flatnonzero(column_wise[1:] != column_wise[:-1])
    return Runs(borders[0::2], borders[1::2], (mask.shape[0], mask.shape[1]))


def from_window(window: NDArray[np.bool_], top: int, left: int, size_hw: tuple[int, int]) -> Runs:
    """Return the runs of a mask of which a window is known, and that nothing lies outside it.

    Args:
        window: HW, the part of the mask.
        top: Rows of the picture above it.
        left: Columns of the picture to its left.
        size_hw: Size of the picture.
    """
    # An empty row between the columns, so that no run goes on into the next.
    column_wise = np.concatenate([[False], np.pad(window, ((0, 1), (0, 0))).T.ravel()])
    borders = np.flatnonzero(column_wise[1:] != column_wise[:-1])
    columns, rows = np.divmod(borders, window.shape[0] + 1)
    numbers = (left + columns) * size_hw[0] + top + rows
    return Runs(*_joined(numbers[0::2], numbers[1::2]), size_hw)


def to_mask(runs: Runs) -> NDArray[np.bool_]:
    """Return the full-size HW mask."""
    lengths = np.asarray(list_counts(runs))
    mask = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    height, width = runs.size_hw
    return mask.reshape(width, height).T


def union(several: Sequence[Runs]) -> Runs:
    """Return the pixels that are in any of some masks of one size."""
    starts, ends = (np.concatenate([getattr(runs, name) for runs in several]) for name in ("starts", "ends"))
    return _runs(starts, ends, several[0].size_hw)


def from_polygons(polygons: Sequence[Sequence[float]], size_hw: tuple[int, int]) -> Runs:
    """Return the pixels inside any of some polygons, exactly those that pycocotools finds.

    Args:
        polygons: Each ``x y x y ...`` in pixels, the corner of the picture at 0; at least three points.
        size_hw: Height and width of the picture.

    Raises:
        RleError: If a polygon is none, or lies absurdly far away.
    """
    if not polygons:
        raise RleError("a list of no polygons")
    return union([_polygon(polygon, size_hw) for polygon in polygons])


def sampled(num_source: int, num_target: int) -> Ints:
    """Return for every pixel of a resized side the one it is taken from: Pillow's ``NEAREST``, to the last bit."""
    step = num_source / num_target
    steps = np.full(num_target, step)
    steps[0] = step * 0.5
    return np.minimum(np.cumsum(steps).astype(np.int64), num_source - 1)


def draw(layers: Iterable[Layer], source_hw: tuple[int, int], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Paint masks over each other on a grid of any size.

    The outcome is that of painting them at full size and resizing with Pillow's ``NEAREST``.

    Args:
        layers: Masks of size ``source_hw``; later ones cover earlier ones.
        source_hw: Size of the picture that the masks are of.
        size_hw: Size of the grid.

    Returns:
        HW uint8 labels; 0 where no mask is.
    """
    import cv2

    rows, columns = (sampled(*sides) for sides in zip(source_hw, size_hw, strict=True))
    num_rows_above = np.searchsorted(rows, np.arange(source_hw[0] + 1))
    # Column by column, so that what is left of a run is one slice.
    grid: NDArray[np.uint8] = np.zeros(size_hw[::-1], np.uint8)
    flat = grid.reshape(-1)
    for layer in layers:
        for start, end in _slices(layer.runs, columns, num_rows_above):
            flat[start:end] = layer.value
    upright: Any = cv2.transpose(grid)  # ten times faster than a copy of the view
    return np.asarray(upright, np.uint8)


def _slices(runs: Runs, columns: Ints, num_rows_above: NDArray[np.intp]) -> Iterable[tuple[int, int]]:
    """Cut runs to the sampled columns and rows; slices of the grid counted down its columns."""
    height, num_rows = runs.size_hw[0], int(num_rows_above[-1])
    tops = columns * height
    # The runs that reach into a sampled column are consecutive: `first` to `first + num`.
    first = np.searchsorted(runs.ends, tops, side="right")
    num = np.searchsorted(runs.starts, tops + height, side="left") - first
    column = np.repeat(np.arange(len(columns)), num)
    run = np.arange(len(column)) + np.repeat(first - np.cumsum(num) + num, num)
    start = num_rows_above[np.maximum(runs.starts[run] - tops[column], 0)]
    end = num_rows_above[np.minimum(runs.ends[run] - tops[column], height)]
    kept = start < end
    base = column[kept] * num_rows
    return zip((base + start[kept]).tolist(), (base + end[kept]).tolist(), strict=True)


def _numbers(text: bytes) -> Ints:
    strange = text.translate(None, b"0123456789 \t\r\n")
    if strange:
        shown = text[:20].decode(errors="replace") + ("..." if len(text) > 20 else "")
        raise RleError(f"`{shown}` holds `{strange[:1].decode(errors='replace')}`, not only numbers")
    if not text.strip():
        raise RleError("no runs")
    numbers: Ints = np.fromstring(text, dtype=np.int64, sep=" ")
    return numbers


def _runs(starts: Ints, ends: Ints, size_hw: tuple[int, int]) -> Runs:
    """Put runs into order and join those that overlap; empty ones go."""
    if (ends <= starts).any():
        filled = starts < ends
        starts, ends = starts[filled], ends[filled]
    if (starts[1:] < ends[:-1]).any():
        order = np.argsort(starts, kind="stable")
        starts, ends = _joined(starts[order], np.maximum.accumulate(ends[order]))
    return Runs(starts, ends, size_hw)


def _joined(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Join ordered runs that touch or overlap."""
    if not len(starts):
        return starts, ends
    apart = starts[1:] > ends[:-1]
    return starts[np.concatenate([[True], apart])], ends[np.concatenate([apart, [True]])]


def _listed(counts: Sequence[int]) -> Ints:
    try:
        lengths = np.asarray(counts)
    except (ValueError, OverflowError):
        lengths = np.zeros(0)
    if lengths.ndim != 1 or not len(lengths) or lengths.dtype.kind not in "iu":
        raise RleError("lengths are no list of whole numbers")
    return lengths.astype(np.int64)


def _decompressed(counts: str | bytes) -> Ints:
    text = counts.encode(errors="replace") if isinstance(counts, str) else counts
    bits = np.frombuffer(text, np.uint8).astype(np.int64) - _FIRST_CHARACTER
    if not len(bits) or bits.min() < 0 or bits.max() > 63 or bits[-1] & 0x20:
        raise RleError("compressed lengths are damaged")
    last = np.flatnonzero((bits & 0x20) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    if (last - first).max() > 11:
        raise RleError("compressed lengths are damaged")
    place = np.arange(len(bits)) - np.repeat(first, last - first + 1)
    values = np.add.reduceat((bits & 0x1F) << (5 * place), first)
    values -= np.where(bits[last] & 0x10, np.int64(1) << (5 * (last - first + 1)), 0)
    # From the fourth on it is the difference to the length before the last.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _polygon(polygon: Sequence[float], size_hw: tuple[int, int]) -> Runs:
    points = _points(polygon, size_hw)
    corners = np.trunc(_POLYGON_SCALE * points + 0.5).astype(np.int64)
    if (length := int(np.abs(np.diff(corners, axis=0)).max(axis=1).sum())) > MAX_OUTLINE * _POLYGON_SCALE:
        raise RleError(f"a polygon with an outline of {length // _POLYGON_SCALE} pixels")
    x, y = _outline(corners)
    height, width = size_hw
    # Where the fine outline passes from column to column, it enters or leaves the mask at some row.
    moved = np.flatnonzero(x[1:] != x[:-1]) + 1
    column = (np.where(x[moved] < x[moved - 1], x[moved], x[moved] - 1) + 0.5) / _POLYGON_SCALE - 0.5
    row = (np.minimum(y[moved], y[moved - 1]) + 0.5) / _POLYGON_SCALE - 0.5
    inside = (np.floor(column) == column) & (column >= 0) & (column <= width - 1)
    row = np.ceil(np.clip(row[inside], 0, height)).astype(np.int64)
    borders = np.sort(column[inside].astype(np.int64) * height + row)
    if len(borders) % 2:
        borders = np.append(borders, height * width)
    return _runs(borders[0::2], borders[1::2], size_hw)


def _points(polygon: Sequence[float], size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Return a polygon as N x 2, the first point again at the end."""
    try:
        values = np.asarray(polygon, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise RleError("a polygon that is no list of numbers") from None
    if values.ndim != 1 or len(values) < 6 or len(values) % 2:
        raise RleError(f"a polygon of {values.size} numbers")
    far = 100 + 4 * max(size_hw)
    if not np.isfinite(values).all() or np.abs(values).max() > far:
        raise RleError(f"a polygon that leaves {size_hw[1]}x{size_hw[0]} by far")
    points = values.reshape(-1, 2)
    return np.concatenate([points, points[:1]])


def _outline(corners: Ints) -> tuple[Ints, Ints]:
    """Return all points of the edges between corners, both ends included; the longer axis goes in steps of one."""
    differ = (corners[1:] != corners[:-1]).any(axis=1)
    begin, end = corners[:-1][differ], corners[1:][differ]
    delta = end - begin
    longer = np.abs(delta).max(axis=1)
    flat = np.abs(delta[:, 0]) >= np.abs(delta[:, 1])
    main, other = np.where(flat, 0, 1), np.where(flat, 1, 0)
    edge = np.arange(len(longer))
    # The slope is taken from the end with the smaller main coordinate: rounding depends on it.
    back = delta[edge, main] < 0
    low = np.where(back[:, None], end, begin)
    slope = np.where(back, -1, 1) * delta[edge, other] / longer
    which = np.repeat(edge, longer + 1)
    step = np.arange(len(which)) - np.repeat(np.cumsum(longer + 1) - longer - 1, longer + 1)
    step = np.where(back[which], longer[which] - step, step)
    points = np.empty((len(which), 2), np.int64)
    along = np.arange(len(which))
    points[along, main[which]] = low[edge, main][which] + step
    points[along, other[which]] = np.trunc(low[edge, other][which] + slope[which] * step + 0.5).astype(np.int64)
    return points[:, 0], points[:, 1]
