"""Which part of a photo a cutout shows, and at what size: the whole, or its subject with a margin, square or W x H."""

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.images import MAX_PIXELS, resize_image
from seglab.errors import DataError, UsageError

__all__ = ["WHOLE_PHOTO", "Frame", "Framing", "parse_framing"]

Uint8 = NDArray[np.uint8]

VISIBLE: Final = 8
"""The least alpha, of 255, that belongs to a subject: below 3 % nobody sees it."""
MAX_SIDE: Final = 16383
"""Of a picture, in pixels: what every format can hold."""


@dataclass(frozen=True)
class Frame:
    """A part of a photo, and where it lies in a picture."""

    inner: tuple[slice, slice]
    """Rows and columns of the photo that are seen."""
    box: tuple[int, int, int, int]
    """Top, left, height and width that they have in the picture; around them is the background alone."""
    size_hw: tuple[int, int]
    """Height and width of the picture."""

    def place(self, pixels: Uint8) -> Uint8:
        """Return a picture with what is seen of photo-sized pixels (HW or HWC) in it, and 0 around that."""
        top, left, height, width = self.box
        seen = pixels[self.inner]
        if seen.shape[:2] != (height, width):
            seen = resize_image(np.ascontiguousarray(seen), (height, width))
        if (height, width) == self.size_hw:
            return seen
        picture: Uint8 = np.zeros((*self.size_hw, *pixels.shape[2:]), np.uint8)
        picture[top : top + height, left : left + width] = seen
        return picture

    @property
    def scales(self) -> bool:
        """Whether what is seen changes its size."""
        rows, columns = self.inner
        return (rows.stop - rows.start, columns.stop - columns.start) != self.box[2:]


@dataclass(frozen=True)
class Framing:
    """How a photo is framed."""

    crop: bool = False
    """Whether only the subject and its margin are kept."""
    margin_px: int = 0
    """Pixels of the photo to keep around the subject."""
    margin_share: float = 0.0
    """The same as a share of the subject's longer side."""
    square: bool = False
    """Whether the picture is as wide as high: more of the photo is shown, and what it lacks is background."""
    size_hw: tuple[int, int] | None = None
    """Height and width to bring the picture to; its shape comes about as that of a square does."""

    def frame(self, alpha: Uint8) -> Frame | None:
        """Return the frame of a photo with this alpha (HW, 0..255); None where the picture is the photo as it is.

        A margin ends at the photo's border. Where nothing is visible, there is nothing to crop to, and the whole photo
        is framed.

        Raises:
            DataError: If the picture would be too large.
        """
        top, bottom, left, right = (0, alpha.shape[0], 0, alpha.shape[1])
        if self.crop:
            top, bottom, left, right = self._subject(alpha)
        height, width = bottom - top, right - left
        shape_hw = self.size_hw or ((1, 1) if self.square else None)
        if shape_hw is not None:
            high, wide = shape_hw
            height, width = max(height, -(-width * high // wide)), max(width, -(-height * wide // high))
        size_hw = self.size_hw or (height, width)
        if size_hw == (height, width) == alpha.shape:
            return None
        if max(size_hw) > MAX_SIDE or size_hw[0] * size_hw[1] > MAX_PIXELS:
            raise DataError(
                f"the picture would have {size_hw[1]} x {size_hw[0]} pixels", "`--size` brings it to one that you name"
            )
        rows, box_top, box_height = _along(top, bottom, alpha.shape[0], height, size_hw[0])
        columns, box_left, box_width = _along(left, right, alpha.shape[1], width, size_hw[1])
        return Frame((rows, columns), (box_top, box_left, box_height, box_width), size_hw)

    def _subject(self, alpha: Uint8) -> tuple[int, int, int, int]:
        import cv2

        visible: Any = cv2.inRange(alpha, VISIBLE, 255)
        left, top, width, height = cv2.boundingRect(visible)
        if not width:
            return 0, alpha.shape[0], 0, alpha.shape[1]
        margin = self.margin_px + round(self.margin_share * max(width, height))
        bottom, right = min(alpha.shape[0], top + height + margin), min(alpha.shape[1], left + width + margin)
        return max(0, top - margin), bottom, max(0, left - margin), right


WHOLE_PHOTO: Final = Framing()
"""The photo as it is."""


def parse_framing(
    *, crop: bool = False, margin: str | None = None, square: bool = False, size: str | None = None
) -> Framing:
    """Build a framing from text as on the command line.

    Args:
        crop: See :class:`Framing`.
        margin: Pixels, or ``5%`` of the subject's longer side.
        square: See :class:`Framing`.
        size: ``WxH`` in pixels, or one number for both.

    Raises:
        UsageError: If one of them means nothing, or two contradict each other.
    """
    if margin is not None and not crop:
        raise UsageError("`--margin` is kept around what `--crop` cuts out", "add `--crop`, or leave `--margin` out")
    size_hw = None if size is None else _size_hw(size)
    if square and size_hw is not None and size_hw[0] != size_hw[1]:
        raise UsageError(f"`--size {size}` is no square", "leave out `--square`, or name one number: `--size 512`")
    pixels, share = _margin(margin) if margin is not None else (0, 0.0)
    return Framing(crop, pixels, share, square, size_hw)


def _along(start: int, stop: int, length: int, window: int, size: int) -> tuple[slice, int, int]:
    """Lay a window over one axis of a photo, and its part that is photo into the picture.

    The window holds start..stop in its middle, but leaves the photo no more than it must: it is moved inside if it fits
    there. If it does not, what is cut off by one border of the photo stays at that border of the picture.

    Returns:
        The part of the photo, where it begins in the picture, and how long it is there.
    """
    if window <= length:
        first = min(max(0, (start + stop - window) // 2), length - window)
    elif (start == 0) == (stop == length):
        first = -((window - length) // 2)
    else:
        first = 0 if start == 0 else length - window
    inside = slice(max(0, first), min(length, first + window))
    begin, end = (round((place - first) * size / window) for place in (inside.start, inside.stop))
    begin = min(begin, size - 1)
    return inside, begin, max(1, end - begin)


def _margin(text: str) -> tuple[int, float]:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%|px|)", text.strip())
    value = float(found[1]) if found else -1.0
    if found is None or value > (100 if found[2] == "%" else MAX_SIDE) or (found[2] != "%" and value != int(value)):
        raise UsageError(
            f"`--margin {text}` is no margin", "`5%` of the subject's longer side, up to 100%, or whole pixels: `20`"
        )
    return (0, value / 100) if found[2] == "%" else (int(value), 0.0)


def _size_hw(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})(?:[xX](\d{1,5}))?", text.strip())
    width, height = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= min(width, height) <= max(width, height) <= MAX_SIDE or width * height > MAX_PIXELS:
        raise UsageError(
            f"`--size {text}` is no size", f"width x height in pixels, `800x600`, each within 1..{MAX_SIDE}; or `512`"
        )
    return height, width
