"""What lies under a cutout: a colour, another picture, or the photo itself out of focus."""

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.images import IMAGE_SUFFIXES, ImageError, read_photo, resize_image
from seglab.errors import DataError, UsageError
from seglab.inference.framing import Frame
from seglab.tasks import Rgb

__all__ = ["WHITE", "Background", "Blur", "Colour", "Scenery", "parse_background", "parse_width"]

Uint8 = NDArray[np.uint8]

MAX_BLUR: Final = 1000.0
FINE: Final = 4.0
"""The least deviation, in pixels, that a blur has where it is computed; what is smoother is computed at less size."""
STRIP: Final = 512
"""Rows that are blurred at once."""
FAR: Final = 4.0
"""Where a Gaussian ends, in deviations."""
FAINT: Final = 1e-4
"""What a wider mean counts beside a mean: it shows where all around is subject."""
WIDER: Final = 4
"""How much wider it is."""


class Background(Protocol):
    """Something to lay a cutout on."""

    @property
    def settings(self) -> str:
        """A text that differs where pictures may."""
        ...

    def under(self, image: Uint8, alpha: Uint8, frame: Frame | None) -> Uint8:
        """Return HWC RGB pixels of the picture's size.

        Args:
            image: The photo, HWC RGB.
            alpha: How much of each of its pixels is subject, HW, 0..255.
            frame: What of the photo is seen; all of it, as it is, if None.
        """
        ...


@dataclass(frozen=True)
class Colour:
    """One colour."""

    rgb: Rgb

    @property
    def settings(self) -> str:
        """See :class:`Background`."""
        return "#{:02x}{:02x}{:02x}".format(*self.rgb)

    def under(self, image: Uint8, alpha: Uint8, frame: Frame | None) -> Uint8:  # noqa: ARG002
        """See :class:`Background`."""
        size_hw = frame.size_hw if frame is not None else alpha.shape
        return np.full((*size_hw, 3), self.rgb, np.uint8)


WHITE: Final = Colour((255, 255, 255))


@dataclass(frozen=True)
class Scenery:
    """Another picture, which covers the whole cutout: its middle part, if its shape differs."""

    image: Uint8 = field(repr=False, compare=False)
    """HWC RGB."""
    settings: str
    """Tells its pixels from others."""

    @classmethod
    def read(cls, path: Path) -> "Scenery":
        """Read a picture.

        Raises:
            DataError: If it is none.
        """
        try:
            image = read_photo(path).image
        except ImageError as error:
            raise DataError(f"cannot read the background `{path}`: {error.message}", error.hint) from error
        return cls(image, f"picture {hashlib.sha256(image.tobytes()).hexdigest()} {image.shape}")

    def under(self, image: Uint8, alpha: Uint8, frame: Frame | None) -> Uint8:  # noqa: ARG002
        """See :class:`Background`."""
        height, width = frame.size_hw if frame is not None else alpha.shape
        scale = max(height / self.image.shape[0], width / self.image.shape[1])
        # Cut before resizing: the part that will be seen, in the picture's own pixels.
        seen_hw = [max(1, min(have, round(want / scale))) for have, want in zip(self.image.shape, (height, width))]  # noqa: B905
        top, left = ((have - seen) // 2 for have, seen in zip(self.image.shape, seen_hw))  # noqa: B905
        seen = self.image[top : top + seen_hw[0], left : left + seen_hw[1]]
        return resize_image(np.ascontiguousarray(seen), (height, width))


@dataclass(frozen=True)
class Blur:
    """The photo out of focus, as if its subject were not there."""

    sigma: float
    """Deviation of the Gaussian in pixels of the photo."""

    @property
    def settings(self) -> str:
        """See :class:`Background`."""
        return f"blur:{self.sigma:g}"

    def under(self, image: Uint8, alpha: Uint8, frame: Frame | None) -> Uint8:
        """See :class:`Background`; beyond the photo its border goes on."""
        factor = max(1, math.floor(self.sigma / FINE))
        height, width = (max(1, round(side / factor)) for side in alpha.shape)
        rest = ~alpha
        weighted: Any = cv2.multiply(image, cv2.merge([rest] * 3), scale=1 / 255)
        small_hwC, rest_hw = resize_image(np.asarray(weighted), (height, width)), resize_image(rest, (height, width))
        blurred = _mean(small_hwC, rest_hw, self.sigma * height / alpha.shape[0])
        blurred = resize_image(blurred, (alpha.shape[0], alpha.shape[1]))
        if frame is None:
            return blurred
        top, left, box_height, box_width = frame.box
        seen = resize_image(np.ascontiguousarray(blurred[frame.inner]), (box_height, box_width))
        bottom, right = frame.size_hw[0] - top - box_height, frame.size_hw[1] - left - box_width
        framed: Any = cv2.copyMakeBorder(seen, top, bottom, left, right, cv2.BORDER_REPLICATE)
        return np.asarray(framed)


def parse_background(value: "str | Path | Rgb") -> Background | None:
    """Read what lies under a cutout.

    Args:
        value: ``transparent``, ``blur:N`` with N pixels, a colour (a name, ``#rrggbb``, or three numbers within
            0..255), or a picture file, which is read now. ``./red`` is a file that is called like a colour.

    Returns:
        None if transparent.

    Raises:
        UsageError: If it is none of these.
        DataError: If a picture cannot be read.
    """
    if isinstance(value, tuple):
        if len(value) != 3 or not all(isinstance(level, int) and 0 <= level <= 255 for level in value):
            raise UsageError(f"`{value}` is no colour", "three whole numbers within 0..255")
        return Colour(value)
    if isinstance(value, Path):
        return Scenery.read(value)
    text = value.strip()
    if text.lower() == "transparent":
        return None
    kind, _, width = text.partition(":")
    if kind.lower() == "blur":
        return Blur(parse_width("blur", width, most=MAX_BLUR, example="20"))
    rgb = _rgb(text)
    if rgb is not None:
        return Colour(rgb)
    path = Path(value)
    if value and path.exists():  # also a pipe or a folder, which says what it is
        return Scenery.read(path)
    if path.suffix.lower() in IMAGE_SUFFIXES or len(path.parts) > 1:
        raise DataError(f"the background `{value}` does not exist", "name a colour, `blur:N`, or a picture that exists")
    raise UsageError(
        f"`{value}` is no colour", "`transparent`, a name such as `white`, `#rrggbb` in quotes, `blur:N`, or a picture"
    )


def _rgb(text: str) -> Rgb | None:
    from PIL import ImageColor

    try:
        red, green, blue, *opacity = ImageColor.getrgb(text)
    except ValueError:
        return None
    if any(part != 255 for part in opacity):
        raise UsageError(f"the background `{text}` is half transparent", "a colour without opacity, or `transparent`")
    if not all(0 <= level <= 255 for level in (red, green, blue)):  # Pillow lets rgb(1, 2, 300) through.
        raise UsageError(f"`{text}` is no colour", "levels are within 0..255")
    return red, green, blue


def parse_width(kind: str, text: str, *, most: float, example: str) -> float:
    """Read the number of ``blur:20`` or ``feather:4``, in pixels.

    Args:
        kind: What stands before the colon.
        text: What stands behind it.
        most: The largest number.
        example: A good one.

    Raises:
        UsageError: If it is no number, not positive, or too large.
    """
    try:
        width = float(text)
    except ValueError:
        width = math.nan
    if not 0 < width <= most:
        hint = f"in pixels, more than 0 and at most {most:g}: `{kind}:{example}`"
        raise UsageError(f"`{kind}:{text}` needs a width", hint)
    return width


def _mean(weighted: Uint8, weights: Uint8, sigma: float) -> Uint8:
    """Return Gaussian means, some rows at a time.

    Args:
        weighted: Colours times weights, HWC.
        weights: HW, 255 for 1.
        sigma: Deviation in pixels.
    """
    radius = math.ceil(FAR * sigma)
    side = 2 * radius + 1
    means: Uint8 = np.empty_like(weighted)
    wider = _wider_mean(weighted, weights, sigma)
    for top in range(0, len(weighted), STRIP):
        first, last = max(0, top - radius), min(len(weighted), top + STRIP + radius)
        planes = cv2.merge([*cv2.split(weighted[first:last]), weights[first:last]]).astype(np.float32)
        blurred: Any = cv2.GaussianBlur(planes, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
        kept = blurred[top - first : top - first + STRIP]
        kept = kept[: len(weighted) - top]
        share = kept[..., 3:] / 255
        kept = (kept[..., :3] + FAINT * wider[top : top + STRIP]) / (share + FAINT)
        means[top : top + STRIP] = np.rint(np.clip(kept, 0, 255))
    return means


def _wider_mean(weighted: Uint8, weights: Uint8, sigma: float) -> Uint8:
    """Return means over more and more, until something but subject is in them; black if there is nothing else."""
    if weights.all() or not weights.any():
        return np.zeros_like(weighted)
    size_hw = tuple(max(1, length // WIDER) for length in weights.shape)
    if max(size_hw) == 1:
        total = int(weights.sum(dtype=np.int64))
        mean = 255 * weighted.reshape(-1, 3).sum(axis=0, dtype=np.int64) / total
        return np.broadcast_to(np.rint(np.minimum(mean, 255)).astype(np.uint8), weighted.shape)
    small, rest = resize_image(weighted, (size_hw[0], size_hw[1])), resize_image(weights, (size_hw[0], size_hw[1]))
    return resize_image(_mean(small, rest, max(1.0, sigma)), (weights.shape[0], weights.shape[1]))
