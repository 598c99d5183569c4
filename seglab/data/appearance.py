"""How a photo looks: its light and colours, and what cameras, lenses and files take from it. Geometry is untouched."""

import math
from statistics import NormalDist
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from seglab.data.images import encode_jpeg, read_photo, resize_image
from seglab.strengths import Strengths

__all__ = ["degrade", "recolour"]

Pixels = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]

_TO_YIQ: Final[Matrix] = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_FROM_YIQ: Final[Matrix] = np.linalg.inv(_TO_YIQ).astype(np.float64)

_NORMAL: Final = np.array([NormalDist().inv_cdf((level + 0.5) / 256) for level in range(256)])
"""256 equally likely values of a normal distribution of standard deviation 1."""


def recolour(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Change saturation and hue by one matrix, and light, contrast, gamma and white balance by one table.

    Now and then all colour is taken away.

    Args:
        pixels: HWC uint8 RGB; not changed.
        rng: Decides how much.
        strength: At 1 hues turn by up to 9 degrees, contrast changes by a quarter, light by an eighth of the range.
    """
    gamma, contrast, brightness, saturation, hue, *gains = rng.uniform(-1, 1, 8) * strength
    is_grey = rng.random() < min(0.08 * strength, 0.5)
    gain = np.ones(3) if is_grey else np.exp(0.1 * np.array(gains))
    mix = _colour_matrix(0.0 if is_grey else math.exp(0.35 * saturation), 0.16 * hue)
    mixed: Any = cv2.transform(pixels, mix.astype(np.float32))
    levels = np.clip(np.linspace(0, 1, 256)[:, None] * gain, 0, 1) ** math.exp(0.3 * gamma)
    levels = (levels - 0.5) * math.exp(0.25 * contrast) + 0.5 + 0.12 * brightness
    table = np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)
    recoloured: Pixels = cv2.LUT(mixed, table[None])
    return recoloured


def degrade(pixels: Pixels, rng: np.random.Generator, strengths: Strengths) -> Pixels:
    """Blur, shrink and enlarge again, add noise or compress, each now and then, in the order of a camera.

    Args:
        pixels: HWC uint8 RGB; not changed.
        rng: Decides what, and how much.
        strengths: ``blur``, ``lowres``, ``noise`` and ``jpeg`` matter here.
    """
    limits = np.array([strengths.blur, strengths.lowres, strengths.noise, strengths.jpeg])
    is_blurred, is_small, is_noisy, is_compressed = rng.random(4) < np.minimum([0.12, 0.08, 0.12, 0.12] * limits, 0.5)
    amounts = rng.random(5)
    if is_blurred:
        pixels = _blur(pixels, *amounts[:3].tolist())
    if is_small:
        pixels = _shrink(pixels, 1 / (1.25 + 1.75 * amounts[3]))
    if is_noisy:
        pixels = _add_noise(pixels, rng, sigma=2 + 8 * amounts[4])
    if is_compressed:
        pixels = read_photo(encode_jpeg(pixels, quality=int(rng.integers(30, 91)))).image
    return pixels


def _colour_matrix(saturation: float, hue: float) -> Matrix:
    """Return the matrix that scales the distance of colours from grey, and turns them about it by an angle."""
    cosine, sine = saturation * math.cos(hue), saturation * math.sin(hue)
    turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    matrix: Matrix = _FROM_YIQ @ turn @ _TO_YIQ
    return matrix


def _blur(pixels: Pixels, kind: float, amount: float, direction: float) -> Pixels:
    """Blur as a lens out of focus, or (a third of them) as a hand that shook."""
    side = max(pixels.shape)
    blurred: Any
    if kind < 1 / 3:
        blurred = cv2.filter2D(pixels, -1, _streak((0.008 + 0.032 * amount) * side, math.pi * direction))
    else:
        sigma = max((0.3 + 0.9 * amount) * side / 256, 0.2)
        blurred = cv2.GaussianBlur(pixels, (0, 0), sigma)
    result: Pixels = blurred
    return result


def _streak(length: float, angle: float) -> npt.NDArray[np.float32]:
    """Return a kernel that averages along a line through its middle, of a length in pixels and an angle in radians."""
    reach = max(1, math.ceil(length / 2))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    kernel = np.clip(length / 2 + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
    result: npt.NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return result


def _shrink(pixels: Pixels, ratio: float) -> Pixels:
    height, width = pixels.shape[:2]
    small_hw = max(1, round(height * ratio)), max(1, round(width * ratio))
    enlarged: Any = cv2.resize(resize_image(pixels, small_hw), (width, height), interpolation=cv2.INTER_LINEAR)
    result: Pixels = enlarged
    return result


def _add_noise(pixels: Pixels, rng: np.random.Generator, *, sigma: float) -> Pixels:
    dice = np.frombuffer(rng.bytes(pixels.size), np.uint8).reshape(pixels.shape)
    grain: Any = cv2.LUT(dice, np.rint(sigma * _NORMAL).astype(np.int16))
    noisy: Any = cv2.add(pixels, grain, dtype=cv2.CV_8U)
    result: Pixels = noisy
    return result
