"""Large photos in overlapping tiles, each seen by the network as large as a whole photo would be.

The photo is shrunk so that a tile is as large as the model's grid, and cut there. The logits of all tiles are blended
on that larger grid, with weights that fall towards the edges of a tile, and only then brought to the photo's size: to
everything that follows it looks like the answer of a network with a larger grid. A photo that fits into one tile takes
the usual road, bit by bit.

Tiles show what is small in a large photo. But a network that has learned from whole photos may not know what it sees
in a tile without the rest; so nothing is cut unless asked for, and ``auto`` cuts only photos more than four times as
large as the grid, into tiles that see at least half of the photo's longer side each.

Shapes: K classes, H W the larger grid, h w a tile.
"""

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.geometry import Placement, fit_image
from seglab.data.images import resize_image
from seglab.engines.pixels import Pixels
from seglab.errors import UsageError
from seglab.inference.predictor import Predictor

__all__ = ["WHOLE_PHOTOS", "Fitted", "Tiling", "answer", "parse_tiling"]

Uint8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Window = tuple[slice, slice]

OVERLAP: Final = 0.25
"""Share of a tile that its neighbour sees too, at least."""
LARGE: Final = 4
"""How many times larger than the grid a photo is that ``auto`` cuts."""
MAX_VALUES: Final = 2**25
"""Logits of a photo that are kept at a time (128 MiB); tiles are larger than asked where there would be more."""


@dataclass(frozen=True)
class Fitted:
    """A photo as the network sees it."""

    tiles: tuple[Pixels, ...]
    """Pixels on the model's grid (HWC): the photo, or its tiles."""
    placement: Placement
    """Where the photo lies on the grid that its logits are kept on."""
    windows: tuple[Window, ...] = ()
    """Where the tiles lie on it; empty for a whole photo."""
    inner: tuple[Placement, ...] = ()
    """Where each window lies on the model's grid."""


@dataclass(frozen=True)
class Tiling:
    """Whether and how photos are cut."""

    side: int | None = None
    """Longer side of a tile in pixels of the photo; 0 for ``auto``, None to cut nothing."""

    def fit(self, image: Uint8, predictor: Predictor) -> Fitted:
        """Return a photo (HWC RGB) on the model's grid, whole or in tiles.

        Raises:
            ImageError: As :meth:`seglab.inference.predictor.Predictor.fit`.
        """
        grid_hw = predictor.config.preprocess.size_hw
        scale = self._scale(image.shape[:2], grid_hw, predictor.task.num_classes)
        if scale is None:
            pixels_HWC, placement = predictor.fit(image)
            return Fitted((pixels_HWC,), placement)
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        scaled = resize_image(image, (height, width))
        windows = [(rows, columns) for rows in _cuts(height, grid_hw[0]) for columns in _cuts(width, grid_hw[1])]
        fitted = [fit_image(np.ascontiguousarray(scaled[window]), predictor.config.preprocess) for window in windows]
        whole = Placement((image.shape[0], image.shape[1]), (height, width), (0, 0, height, width))
        return Fitted(tuple(p for p, _ in fitted), whole, tuple(windows), tuple(place for _, place in fitted))

    def _scale(self, photo_hw: tuple[int, ...], grid_hw: tuple[int, int], num_classes: int) -> float | None:
        """Return how much a photo shrinks before it is cut; None if it is not."""
        longer = max(grid_hw)
        if self.side is None or (self.side == 0 and max(photo_hw) <= LARGE * longer):
            return None
        side = self.side or max(photo_hw) / 2
        bound = sqrt(MAX_VALUES / (num_classes * photo_hw[0] * photo_hw[1]))
        scale = min(longer / side, 1.0, bound)
        fits = all(photo * scale <= grid + 0.5 for photo, grid in zip(photo_hw, grid_hw, strict=True))
        return None if fits else scale


WHOLE_PHOTOS: Final = Tiling()
"""Cuts nothing."""


def parse_tiling(text: str | None) -> Tiling:
    """Read ``none``, ``auto`` or the side of a tile in pixels.

    Raises:
        UsageError: If it is none of these.
    """
    if text is None or text == "none":
        return WHOLE_PHOTOS
    if text == "auto":
        return Tiling(0)
    if not text.isdecimal() or not 16 <= int(text) <= 2**16:
        raise UsageError(f"`{text}` is no size of tiles", "`--tile auto`, or pixels of the photo: `--tile 1024`")
    return Tiling(int(text))


def answer(fitted: Fitted, predictor: Predictor) -> tuple[Float32, dict[str, Float32]]:
    """Run the network over a photo, tile by tile.

    Returns:
        logits_KHW on the grid of the photo's placement, and what the model says beside, logits_HW by name.
    """
    blend: _Blend | None = None
    for first in range(0, len(fitted.tiles), predictor.batch_size):
        part = slice(first, first + predictor.batch_size)
        logits_BKhw, extras = predictor.run_with_extras(np.stack(fitted.tiles[part]))
        names = list(extras)
        stacked_BKhw = np.concatenate([logits_BKhw, *(extras[name] for name in names)], axis=1)
        if not fitted.windows:
            num = logits_BKhw.shape[1]
            return stacked_BKhw[0, :num], {name: stacked_BKhw[0, num + i] for i, name in enumerate(names)}
        blend = blend or _Blend(stacked_BKhw.shape[1], fitted.placement.size_hw)
        for logits_Khw, window, inner in zip(stacked_BKhw, fitted.windows[part], fitted.inner[part], strict=True):
            blend.add(logits_Khw, window, inner)
    assert blend is not None
    blended_KHW = blend.result()
    num = len(blended_KHW) - len(names)
    return blended_KHW[:num], {name: blended_KHW[num + i] for i, name in enumerate(names)}


class _Blend:
    """The weighted mean of tiles."""

    def __init__(self, num_planes: int, size_hw: tuple[int, int]) -> None:
        self._sum_KHW = np.zeros((num_planes, *size_hw), np.float32)
        self._weights_HW = np.zeros(size_hw, np.float32)

    def add(self, logits_Khw: Float32, window: Window, inner: Placement) -> None:
        """Add a tile's logits, which lie on the model's grid."""
        top, left, height, width = inner.box
        weights_hw = np.outer(_ramp(inner.source_hw[0]), _ramp(inner.source_hw[1]))
        self._weights_HW[window] += weights_hw
        for sum_HW, logits_hw in zip(self._sum_KHW, logits_Khw, strict=True):
            own_hw = np.ascontiguousarray(logits_hw[top : top + height, left : left + width], np.float32)
            if own_hw.shape != inner.source_hw:
                own_hw = resize_image(own_hw, inner.source_hw)
            sum_HW[window] += own_hw * weights_hw

    def result(self) -> Float32:
        """Return the mean, KHW."""
        self._sum_KHW /= self._weights_HW
        return self._sum_KHW


def _cuts(length: int, tile: int) -> list[slice]:
    """Return the fewest overlapping stretches of a side, evenly spread."""
    if length <= tile:
        return [slice(0, length)]
    num = ceil((length - tile) / max(1.0, tile * (1 - OVERLAP))) + 1
    return [slice(start, start + tile) for start in np.rint(np.linspace(0, length - tile, num)).astype(int).tolist()]


def _ramp(length: int) -> Float32:
    """Return weights that rise from the ends over the least overlap."""
    distance = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    return np.minimum(distance / max(1.0, length * OVERLAP), 1).astype(np.float32)
