"""From a photo to a model's grid and back, so that nothing shifts.

Pixel centres lie at half-integers throughout, and only what lies in the photo's own box of the grid comes back: what
the padding holds never leaks in. Shapes: K classes, H W the photo, h w the grid.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import cv2
import numpy as np
import numpy.typing as npt

from seglab.data.images import resize_image, resize_labels
from seglab.preprocess import Preprocess
from seglab.tasks import IGNORE

__all__ = [
    "Placement",
    "fit_image",
    "fit_labels",
    "place",
    "reduced_hw",
    "unfit_bands",
    "unfit_certainty",
    "unfit_labels",
    "unfit_probs",
]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Window = tuple[slice, slice]
Taps = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]

TILE_HW: Final = (64, 128)
"""Photo pixels that are brought back at once."""


@dataclass(frozen=True)
class Placement:
    """Where a photo lies on the grid."""

    source_hw: tuple[int, int]
    """Height and width of the photo."""
    size_hw: tuple[int, int]
    """Height and width of the grid."""
    box: tuple[int, int, int, int]
    """Top, left, height and width of the photo on the grid, in grid pixels."""


def reduced_hw(size_hw: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return a size of the same shape: as it is, or reduced until the longer side has at most ``longest`` pixels."""
    scale = min(1.0, longest / max(size_hw))
    return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))


def place(source_hw: tuple[int, int], preprocess: Preprocess) -> Placement:
    """Return where a photo of some size goes: all over the grid (``stretch``), or centred in its shape (``pad``)."""
    height, width = preprocess.size_hw
    if preprocess.fit == "stretch":
        return Placement(source_hw, preprocess.size_hw, (0, 0, height, width))
    scale = min(height / source_hw[0], width / source_hw[1])
    box_height = min(height, max(1, round(source_hw[0] * scale)))
    box_width = min(width, max(1, round(source_hw[1] * scale)))
    top, left = (height - box_height) // 2, (width - box_width) // 2
    return Placement(source_hw, preprocess.size_hw, (top, left, box_height, box_width))


def fit_image(image: Pixels, preprocess: Preprocess) -> tuple[Pixels, Placement]:
    """Bring a photo to the grid.

    Returns:
        HWC uint8 pixels of ``preprocess.size_hw``, and where the photo lies on them.
    """
    placement = place((image.shape[0], image.shape[1]), preprocess)
    top, left, height, width = placement.box
    inner = resize_image(image, (height, width))
    if (height, width) == placement.size_hw:
        return inner, placement
    grid: Pixels = np.empty((*placement.size_hw, 3), np.uint8)
    grid[:] = preprocess.pad_rgb
    grid[top : top + height, left : left + width] = inner
    return grid, placement


def fit_labels(labels: Pixels, preprocess: Preprocess) -> Pixels:
    """Bring labels to the grid as :func:`fit_image` brings their photo; padding is 255."""
    placement = place((labels.shape[0], labels.shape[1]), preprocess)
    top, left, height, width = placement.box
    grid: Pixels = np.full(placement.size_hw, IGNORE, np.uint8)
    grid[top : top + height, left : left + width] = resize_labels(labels, (height, width))
    return grid


def unfit_labels(logits_Khw: Floats, placement: Placement) -> Pixels:
    """Bring logits back to the photo and take the class of the largest.

    Logits grow bilinearly; where the photo is smaller than its box they are averaged over each photo pixel's area. Of
    equal logits the lower class wins. Memory does not grow with K: see :func:`_tiles`.

    Returns:
        HW uint8 class ids of ``placement.source_hw``.
    """
    labels_HW: Pixels = np.empty(placement.source_hw, np.uint8)
    for window, classes, tile_KHW in _tiles(logits_Khw, placement, margin=0):
        labels_hw = labels_HW[window]
        labels_hw[:] = classes[0]
        if len(classes) > 1:
            best_hw = tile_KHW[0]
            for index, values_HW in zip(classes[1:], tile_KHW[1:], strict=True):
                np.copyto(labels_hw, index, where=values_HW > best_hw)
                np.maximum(best_hw, values_HW, out=best_hw)
    return labels_HW


def unfit_probs(logits_Khw: Floats, placement: Placement, classes: Sequence[int]) -> Floats:
    """Bring logits back to the photo, and sum the softmax probabilities of some classes.

    Classes that are less than e^-10 (5e-5) as likely as another all over a neighbourhood count as impossible there.

    Returns:
        HW float32 in 0..1 of ``placement.source_hw``.
    """
    wanted = set(classes)
    probs_HW: Floats = np.empty(placement.source_hw, np.float32)
    for window, candidates, tile_KHW in _tiles(logits_Khw, placement, margin=10):
        kept = np.array([index in wanted for index in candidates])
        if kept.all() or not kept.any():
            probs_HW[window] = kept[0]
            continue
        # Softmax is the same whatever is taken from all logits. This keeps the sum over 1 and exp from overflowing.
        shift = tile_KHW.min(axis=(1, 2)).max()
        weights_KHW = np.exp(tile_KHW - (shift if tile_KHW.max() - shift < 80 else tile_KHW.max(axis=0)))
        sum_HW = weights_KHW[kept].sum(axis=0)
        np.divide(sum_HW, sum_HW + weights_KHW[~kept].sum(axis=0), out=probs_HW[window])
    return probs_HW


def unfit_certainty(logits_Khw: Floats, placement: Placement) -> Floats:
    """Bring logits back to the photo, and return how probable the likeliest class is.

    Where no class but one could be chosen in a whole neighbourhood (see :func:`unfit_probs`) that is 1.

    Returns:
        HW float32 in 1/K..1 of ``placement.source_hw``.
    """
    certainty_HW: Floats = np.ones(placement.source_hw, np.float32)
    for window, classes, tile_KHW in _tiles(logits_Khw, placement, margin=10):
        if len(classes) > 1:
            certainty_HW[window] = 1 / np.exp(tile_KHW - tile_KHW.max(axis=0)).sum(axis=0)
    return certainty_HW


def unfit_bands(logits_Khw: Floats, placement: Placement) -> Iterator[tuple[slice, Floats]]:
    """Bring the logits of all classes back to the photo, some rows at a time, from top to bottom.

    Yields:
        Which rows of the photo, and their logits (K, rows, W).
    """
    grid_Khw = _box(logits_Khw, placement)
    num_classes, height, width = grid_Khw.shape
    photo_height, photo_width = placement.source_hw
    for rows_out, rows_in, row_taps in _taps(height, photo_height, TILE_HW[0]):
        flat = np.ascontiguousarray(grid_Khw[:, rows_in]).reshape(-1, width)
        band_KhW = _stretch_columns(flat, photo_width).reshape(num_classes, -1, photo_width)
        yield rows_out, _stretch_rows(band_KhW, list(range(num_classes)), row_taps)


def _tiles(logits_Khw: Floats, placement: Placement, *, margin: float) -> Iterator[tuple[Window, list[int], Floats]]:
    """Bring logits to the photo's size tile by tile, leaving out the classes that cannot matter there.

    Every value of a tile is a weighted mean of the logits in a small window of the grid. So a class whose maximum in
    the window lies more than ``margin`` under another's minimum does so in the whole tile. Most tiles of real masks
    have one class left, and then nothing is computed.

    Yields:
        The tile's place in the photo, the classes left, ascending, and their values (none if only one is left).
    """
    grid_Khw = _box(logits_Khw, placement)
    num_classes, height, width = grid_Khw.shape
    columns = _taps(width, placement.source_hw[1], TILE_HW[1])
    for rows_out, rows_in, row_taps in _taps(height, placement.source_hw[0], TILE_HW[0]):
        band_Khw = grid_Khw[:, rows_in]
        lowest_Kw, highest_Kw = band_Khw.min(axis=1), band_Khw.max(axis=1)
        flat = np.ascontiguousarray(band_Khw).reshape(-1, width)
        band_KhW = _stretch_columns(flat, placement.source_hw[1]).reshape(num_classes, -1, placement.source_hw[1])
        for columns_out, columns_in, _ in columns:
            floor = lowest_Kw[:, columns_in].min(axis=1).max()
            hopeless = highest_Kw[:, columns_in].max(axis=1) < floor - margin
            classes = np.flatnonzero(~hopeless).tolist()
            tile_KHW = np.empty((0, 0, 0), np.float32)
            if len(classes) > 1:
                tile_KHW = _stretch_rows(band_KhW[:, :, columns_out], classes, row_taps)
            yield (rows_out, columns_out), classes, tile_KHW


def _box(logits_Khw: Floats, placement: Placement) -> Floats:
    """Cut out what belongs to the photo; an axis on which the photo is smaller than that is averaged down to it."""
    top, left, height, width = placement.box
    box_Khw = np.ascontiguousarray(logits_Khw[:, top : top + height, left : left + width], dtype=np.float32)
    target_hw = min(height, placement.source_hw[0]), min(width, placement.source_hw[1])
    if target_hw == (height, width):
        return box_Khw
    return np.stack([resize_image(box_hw, target_hw) for box_hw in box_Khw])


def _stretch_columns(rows: Floats, width: int) -> Floats:
    if rows.shape[1] == width:
        return rows
    stretched: Any = cv2.resize(rows, (width, len(rows)), interpolation=cv2.INTER_LINEAR)
    return cast(Floats, stretched)


def _stretch_rows(band_KhW: Floats, classes: list[int], taps: Taps) -> Floats:
    above, below, share = taps
    stretched_KHW: Floats = np.empty((len(classes), len(above), band_KhW.shape[2]), np.float32)
    for index, values_HW in zip(classes, stretched_KHW, strict=True):
        start_HW = band_KhW[index][above]
        np.subtract(band_KhW[index][below], start_HW, out=values_HW)
        values_HW *= share
        values_HW += start_HW
    return stretched_KHW


def _taps(num_in: int, num_out: int, tile: int) -> list[tuple[slice, slice, Taps]]:
    """Return, tile by tile, the outputs, the samples they are made of, and the two taps of each output in those.

    Linear with half-pixel centres; the border is repeated.
    """
    tiles = []
    for start in range(0, num_out, tile):
        stop = min(num_out, start + tile)
        centres = np.clip((np.arange(start, stop) + 0.5) * (num_in / num_out) - 0.5, 0, num_in - 1)
        above = centres.astype(np.intp)
        below = np.minimum(above + 1, num_in - 1)
        share = (centres - above).astype(np.float32)[:, None]
        first = int(above[0])
        taps = (above - first, below - first, share)
        tiles.append((slice(start, stop), slice(first, int(below[-1]) + 1), taps))
    return tiles
