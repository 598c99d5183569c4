"""From a painted canvas to a photo: light, shadow, blur, noise, colour cast and compression."""

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.scene.canvas import Canvas, Picture

__all__ = ["Finish", "finish", "random_finish"]

Rng = np.random.Generator


@dataclass(frozen=True)
class Finish:
    """How a scene is lit and photographed. Lengths are shares of the picture height."""

    light: float
    """Direction that the light comes from, radians, a quarter turn is above."""
    relief: float
    """Strength of the shading."""
    roundness: float
    """Length over which the shading of bodies is spread."""
    falloff: float
    """How much darker the side away from the light is, 0..1."""
    cast: tuple[float, float, float]
    """Gain of red, green and blue."""
    gamma: float
    background_blur: float
    blur: float
    noise: float
    """Standard deviation, 0..255."""
    vignette: float
    compression: float
    """Step of the quantisation of 8x8 blocks, 0..255; 0 leaves the blocks alone."""


def random_finish(rng: Rng, *, portrait: bool) -> Finish:
    """Return a way to photograph a scene."""
    warm = rng.normal(0, 0.035)
    return Finish(
        light=math.radians(rng.uniform(20, 160)),
        relief=rng.uniform(0.5, 1.2),
        roundness=0.03 if portrait else 0.012,
        falloff=rng.uniform(0, 0.45),
        cast=(1 + warm, 1 + rng.normal(0, 0.02), 1 - warm),
        gamma=rng.uniform(0.75, 1.15),
        background_blur=rng.uniform(0.004, 0.02) if rng.random() < (0.6 if portrait else 0.3) else 0.0,
        blur=rng.uniform(0.0, 0.004) if rng.random() < 0.4 else 0.0,
        noise=rng.uniform(0.5, 5) if rng.random() < 0.8 else 0.0,
        vignette=rng.uniform(0, 0.35),
        compression=rng.uniform(2, 12) if rng.random() < 0.5 else 0.0,
    )


def finish(canvas: Canvas, style: Finish, rng: Rng) -> NDArray[np.uint8]:
    """Return the photo of a painted canvas, HWC uint8 RGB.

    Args:
        canvas: All shapes are painted.
        style: Light and camera.
        rng: Where the noise comes from; its use depends on the picture size.
    """
    height, width = canvas.size_hw
    alpha = canvas.alpha()
    shade = _shade(canvas.heights(), alpha, style) * (1 + _texture(rng, canvas.size_hw) * canvas.grain())
    picture = canvas.albedo() * shade[..., None]
    if style.background_blur * height > 0.4:
        picture = _blur_background(picture, alpha, style.background_blur * height)
    if style.blur * height > 0.3:
        picture = _blurred(picture, style.blur * height)
    picture = _develop(picture, style)
    if style.noise:
        picture += rng.standard_normal((height, width, 1), np.float32) * np.float32(style.noise)
        picture += rng.standard_normal((height, width, 3), np.float32) * np.float32(style.noise * 0.4)
    if style.compression:
        picture = _compressed(picture, style.compression)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _shade(heights: Picture, alpha: Picture, style: Finish) -> Picture:
    """Return the light on every pixel: steps of the relief are lit or dark, and one side is darker."""
    rows, columns = heights.shape
    to_light = math.cos(style.light), -math.sin(style.light)
    shade = np.ones_like(heights)
    for sigma, strength in ((0.004 * rows, 0.007), (style.roundness * rows, 0.012)):
        soft = _blurred(heights, max(sigma, 0.5))
        across = cv2.Sobel(soft, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
        down = cv2.Sobel(soft, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
        slope = across * np.float32(-to_light[0]) + down * np.float32(-to_light[1])
        shade += np.clip(slope * np.float32(strength * style.relief * max(sigma, 0.5)), -0.45, 0.35)
    # Light on people must not glow on what is behind them; their shadow may fall on it.
    shade = np.where(alpha > 0.5, shade, np.minimum(shade, 1.03) * 0.6 + 0.4)
    x = np.linspace(-1, 1, columns, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    ramp = 0.5 * style.falloff * (x * to_light[0] + y * to_light[1])
    return (shade * (1 + ramp) * (1 - style.vignette * (x * x + y * y) / 2)).astype(np.float32)


def _texture(rng: Rng, size_hw: tuple[int, int]) -> Picture:
    """Return noise of three scales, about -3..3, HW."""
    height, width = size_hw
    total = np.zeros(size_hw, np.float32)
    for step, weight in ((1, 0.5), (3, 0.6), (9, 0.7)):
        cells = rng.standard_normal((height // step + 2, width // step + 2), np.float32)
        total += np.float32(weight) * cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
    return total


def _blurred(picture: Picture, sigma: float) -> Picture:
    size = 2 * math.ceil(2.5 * sigma) + 1
    return np.asarray(cv2.GaussianBlur(picture, (size, size), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)


def _blur_background(picture: Picture, alpha: Picture, sigma: float) -> Picture:
    """Blur all but the people, without their colours running into what is behind them."""
    behind = (1 - alpha)[..., None]
    weight = _blurred(behind[..., 0], sigma)[..., None]
    soft = _blurred(picture * behind, sigma) / np.maximum(weight, 1e-3)
    return (soft * behind + picture * (1 - behind)).astype(np.float32)


def _develop(picture: Picture, style: Finish) -> Picture:
    """Apply colour cast and gamma."""
    level = np.arange(256)[None, :, None] / 255 * np.array(style.cast)
    table = (255 * np.clip(level, 0, 1) ** style.gamma).astype(np.float32)
    return np.asarray(cv2.LUT(np.clip(np.rint(picture), 0, 255).astype(np.uint8), table), np.float32)


@functools.lru_cache
def _cosines() -> Picture:
    """Return the orthonormal 8x8 matrix of the discrete cosine transform."""
    k, n = np.arange(8)[:, None], np.arange(8)[None, :]
    basis = np.cos(np.pi * (2 * n + 1) * k / 16) * np.where(k == 0, math.sqrt(1 / 8), 0.5)
    return basis.astype(np.float32)


def _compressed(picture: Picture, step: float) -> Picture:
    """Quantise 8x8 blocks as JPEG does: coarser for higher frequencies and for colour."""
    height, width = picture.shape[:2]
    tall, wide = -height % 8, -width % 8
    padded = cv2.copyMakeBorder(np.clip(picture, 0, 255), 0, tall, 0, wide, cv2.BORDER_REPLICATE)
    coded = cv2.cvtColor(padded, cv2.COLOR_RGB2YCrCb)
    blocks = coded.reshape(coded.shape[0] // 8, 8, coded.shape[1] // 8, 8, 3).transpose(0, 2, 4, 1, 3)
    cosines = _cosines()
    frequency = np.add.outer(np.arange(8), np.arange(8)).astype(np.float32)
    steps = np.float32(step) * (1 + 0.5 * frequency) * np.array([1, 1.5, 1.5], np.float32)[:, None, None]
    kept = np.rint((cosines @ blocks @ cosines.T) / steps) * steps
    restored = (cosines.T @ kept @ cosines).transpose(0, 3, 1, 4, 2).reshape(coded.shape)
    decoded = cv2.cvtColor(np.ascontiguousarray(restored, np.float32), cv2.COLOR_YCrCb2RGB)
    return np.asarray(decoded[:height, :width], np.float32)
