"""From a photo to a random view of it on the model's grid, in one step, so that a pixel is interpolated once.

Shapes: H W the model grid.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from seglab.data.geometry import fit_image, fit_labels, place
from seglab.preprocess import Preprocess
from seglab.tasks import IGNORE

__all__ = ["BEND_NODES", "Sampling", "Warp"]

Pixels = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

SOFTEN_FROM: Final = 1.25
"""A photo is averaged over two pixels along an axis if the grid takes less than one sample in so many pixels of it."""
HALVE_FROM: Final = 2.4
"""It is halved first, as often as needed, if that is more."""
BEND_NODES: Final = 5
"""A distortion is given at so many places along each axis, and smooth in between."""


@dataclass(frozen=True)
class Warp:
    """A view of the photo, relative to the whole of it. The default is the plain view."""

    zoom: float = 1.0
    """Above 1 a part of the photo fills the grid, below 1 the photo fills a part of the grid."""
    aspect: float = 1.0
    """Above 1 things get wider."""
    angle: float = 0.0
    """Radians, in the photo's own proportions."""
    shift_y: float = 0.0
    """How far the centre of the view lies under the photo's, in photo heights."""
    shift_x: float = 0.0
    """How far the centre of the view lies right of the photo's, in photo widths."""


class Sampling:
    """Where every pixel of the grid lies in a photo.

    The plain view, without distortion, is exactly what :func:`seglab.data.geometry.fit_image` and
    :func:`~seglab.data.geometry.fit_labels` give.

    Args:
        source_hw: Height and width of the photo.
        preprocess: The grid.
        warp: The view.
        bend: A smooth distortion on top: how far each of 5 x 5 places of the grid is moved, (5, 5, 2) float32 in
            shares of the grid's (width, height). None for none.
    """

    def __init__(
        self, source_hw: tuple[int, int], preprocess: Preprocess, warp: Warp, bend: Floats | None = None
    ) -> None:
        self._preprocess = preprocess
        self._source_hw = source_hw
        self._is_plain = warp == Warp() and bend is None
        self._to_photo = _grid_to_photo(source_hw, preprocess, warp)
        self._bent_HW2 = None if bend is None else _bent_grid(bend, preprocess.size_hw)

    def image(self, image: Pixels, *, is_continued: bool | None = None) -> Pixels:
        """Return the photo's pixels on the grid, HWC.

        What the grid sees from afar is averaged, so that nothing aliases.

        Args:
            image: HWC uint8 RGB.
            is_continued: Whether there is the photo's mirror image beyond its edge, or the padding colour. By default
                the first where photos are stretched to the grid (no flat area that prediction never sees), the second
                where they are padded.
        """
        if self._is_plain:
            return fit_image(image, self._preprocess)[0]
        if is_continued is None:
            is_continued = self._preprocess.fit == "stretch"
        border = cv2.BORDER_REFLECT_101 if is_continued else cv2.BORDER_CONSTANT
        return self._sample(*self._softened(image), cv2.INTER_LINEAR, border, self._preprocess.pad_rgb)

    def labels(self, labels: Pixels, *, outside: int = IGNORE) -> Pixels:
        """Return ids on the grid, HW: each is that of the photo's pixel that it lies in.

        Args:
            labels: HW uint8, as large as the photo.
            outside: What there is beyond the photo.
        """
        if not self._is_plain:
            return self._sample(labels, self._to_photo, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT, (outside,))
        grid = fit_labels(labels, self._preprocess)
        if outside != IGNORE:
            top, left, height, width = place(self._source_hw, self._preprocess).box
            inner = grid[top : top + height, left : left + width].copy()
            grid[:] = outside
            grid[top : top + height, left : left + width] = inner
        return grid

    def cover(self, mask: Pixels) -> Pixels:
        """Return how much of each pixel of the grid a mask of 0 and 1 covers: HW uint8, 255 for all of it."""
        return self._sample(*self._softened(mask * np.uint8(255)), cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, (0,))

    def _sample(
        self, source: Pixels, to_source: Matrix, interpolation: int, border: int, outside: tuple[int, ...]
    ) -> Pixels:
        height, width = self._preprocess.size_hw
        sampled: Any
        if self._bent_HW2 is None:
            flags = interpolation | cv2.WARP_INVERSE_MAP
            sampled = cv2.warpAffine(
                source, to_source, (width, height), flags=flags, borderMode=border, borderValue=outside
            )
        else:
            places_HW2: Any = cv2.transform(self._bent_HW2, to_source.astype(np.float32))
            x_HW, y_HW = cv2.split(places_HW2)
            sampled = cv2.remap(source, x_HW, y_HW, interpolation, borderMode=border, borderValue=outside)
        pixels: Pixels = sampled
        return pixels

    def _softened(self, image: Pixels) -> tuple[Pixels, Matrix]:
        """Return the photo as it looks from afar, and the matrix for it."""
        source: Any = image
        matrix = self._to_photo.copy()
        per_xy = np.hypot(matrix[:, 0], matrix[:, 1])
        while True:
            sides_xy = np.array(source.shape[1::-1])
            small_xy = np.where((per_xy > HALVE_FROM) & (sides_xy > 1), (sides_xy + 1) // 2, sides_xy)
            if (small_xy == sides_xy).all():
                break
            source = cv2.resize(source, small_xy.tolist(), interpolation=cv2.INTER_LINEAR)
            ratio_xy = small_xy / sides_xy
            matrix *= ratio_xy[:, None]
            matrix[:, 2] += 0.5 * ratio_xy - 0.5
            per_xy = per_xy * ratio_xy
        soft_xy = per_xy > SOFTEN_FROM
        if soft_xy.any():
            kernel = np.full(
                (soft_xy + 1)[::-1], 1 / np.prod(soft_xy + 1)
            )  # cv2.blur 5.0 makes 0 of 255 along one axis
            source = cv2.filter2D(source, -1, kernel, borderType=cv2.BORDER_REPLICATE)
            matrix[:, 2] += 0.5 * soft_xy  # the mean of two pixels stands where the second was
        return source, matrix


def _grid_to_photo(source_hw: tuple[int, int], preprocess: Preprocess, warp: Warp) -> Matrix:
    """Return the 2x3 matrix that takes the (x, y) of a grid pixel to the (x, y) of the photo, in OpenCV's pixels.

    OpenCV's pixel centres are whole numbers; ours lie half a pixel further.
    """
    top, left, height, width = place(source_hw, preprocess).box
    per_x = source_hw[1] / width / (warp.zoom * math.sqrt(warp.aspect))
    per_y = source_hw[0] / height / (warp.zoom / math.sqrt(warp.aspect))
    cosine, sine = math.cos(warp.angle), math.sin(warp.angle)
    linear = np.array([[cosine * per_x, -sine * per_y], [sine * per_x, cosine * per_y]])
    grid_centre = np.array([left + width / 2, top + height / 2])
    photo_centre = np.array([source_hw[1] * (0.5 + warp.shift_x), source_hw[0] * (0.5 + warp.shift_y)])
    offset = photo_centre - 0.5 - linear @ (grid_centre - 0.5)
    return np.column_stack([linear, offset])


def _bent_grid(bend: Floats, size_hw: tuple[int, int]) -> Floats:
    """Return the (x, y) that each pixel of the grid takes its content from, in pixels of the undistorted grid."""
    height, width = size_hw
    bend_pixels = bend * np.array([width, height], np.float32)
    moved: Any = cv2.resize(bend_pixels, (width, height), interpolation=cv2.INTER_CUBIC)
    bent_HW2: Floats = moved
    bent_HW2[..., 0] += np.arange(width, dtype=np.float32)
    bent_HW2[..., 1] += np.arange(height, dtype=np.float32)[:, None]
    return bent_HW2
