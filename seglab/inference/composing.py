"""From a photo and its alpha to the picture that is written."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.images import Photo
from seglab.inference.backgrounds import WHITE
from seglab.inference.framing import Frame
from seglab.inference.look import FORMATS, Look
from seglab.inference.matting import decontaminate

__all__ = ["render"]

Uint8 = NDArray[np.uint8]


def render(photo: Photo, alpha: Uint8, look: Look, suffix: str = ".png") -> Uint8:
    """Return the picture of a cutout: HWC RGBA, HWC RGB on a background, or the alpha alone (HW).

    Args:
        photo: The photo.
        alpha: What of it is kept, HW, 0..255.
        look: What it looks like.
        suffix: Of the file that it is for: a JPEG holds no transparency, and is laid on white.

    Raises:
        DataError: If the picture would be too large.
    """
    frame = look.framing.frame(alpha)
    if look.mask_only:
        return frame.place(alpha) if frame is not None else alpha
    clean = decontaminate(photo.image, alpha) if look.decontaminate else _visible(photo.image, alpha)
    picture, shown = (clean, alpha) if frame is None else _framed(clean, alpha, frame)
    background = look.background
    if background is None:
        if suffix.lower() not in FORMATS["jpg"]:
            rgba: Any = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
            return np.asarray(cv2.insertChannel(shown, rgba, 3))
        background = WHITE
    return _over(picture, shown, background.under(photo.image, alpha, frame))


def _visible(image: Uint8, alpha: Uint8) -> Uint8:
    visible: Uint8 = np.zeros_like(image)
    cv2.copyTo(image, alpha, visible)
    return visible


def _framed(clean: Uint8, alpha: Uint8, frame: Frame) -> tuple[Uint8, Uint8]:
    """Return the picture and its alpha; where pixels are averaged, each counts by its own alpha."""
    shown = frame.place(alpha)
    if not frame.scales:
        return frame.place(clean), shown
    weighted: Any = cv2.multiply(clean, cv2.merge([alpha] * 3), scale=1 / 255)
    picture = frame.place(weighted)
    mixed_HW = cv2.inRange(shown, 1, 254) > 0
    colours_NC = picture[mixed_HW].astype(np.float32) * (255 / shown[mixed_HW].astype(np.float32))[:, None]
    picture[mixed_HW] = np.rint(np.minimum(colours_NC, 255))
    picture[shown == 0] = 0
    return picture, shown


def _over(picture: Uint8, alpha: Uint8, under: Uint8) -> Uint8:
    mixed_HW = cv2.inRange(alpha, 1, 254) > 0
    share_N1 = alpha[mixed_HW].astype(np.float32)[:, None] / 255
    blended_NC = np.rint(share_N1 * picture[mixed_HW] + (1 - share_N1) * under[mixed_HW])
    cv2.copyTo(picture, alpha, under)
    under[mixed_HW] = blended_NC
    return under
