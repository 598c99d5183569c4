"""Random views of a training sample: photo and labels together, from the photo straight to the model's grid.

A view is a function of (seed, epoch, sample number) and of nothing else, so a run that is resumed sees what an
uninterrupted one sees. The geometry is one affine warp, so a pixel is interpolated once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from seglab.config import Preprocess
from seglab.data.geometry import fit_image, fit_labels, place
from seglab.data.images import encode_jpeg, read_photo, resize_image
from seglab.strengths import Strengths
from seglab.tasks import IGNORE

__all__ = ["Augmentation", "Warp", "mirror_labels", "warp_sample"]

Pixels = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]

ANTIALIAS_FROM: Final = 1.5
"""A warp that shrinks by more than this gets a photo that is shrunk by area averages first."""
ANTIALIAS_TO: Final = 1.2
"""How far the warp itself then still shrinks: its bilinear samples alias as little as they blur."""


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


@dataclass(frozen=True)
class Augmentation:
    """The random views of a run.

    Without strength and flip a view is exactly what :func:`seglab.data.geometry.fit_image` and
    :func:`~seglab.data.geometry.fit_labels` give.
    """

    preprocess: Preprocess
    mirror: tuple[int, ...]
    """:meth:`seglab.tasks.Task.mirror_permutation` of the task."""
    strengths: Strengths = field(default_factory=Strengths)
    """How far a view may be from the photo."""
    seed: int = 0

    def __call__(self, image: Pixels, labels: Pixels, *, epoch: int, index: int) -> tuple[Pixels, Pixels]:
        """Return the pixels (HWC) and labels (HW) of a view on the grid.

        Labels of what lies outside the photo, or under a cut-out, are 255. No other value appears that was not there.

        Args:
            image: HWC uint8 RGB of any size.
            labels: HW uint8 of the same height and width.
            epoch: Number of the epoch.
            index: Number of the sample.
        """
        rng = np.random.default_rng([self.seed, epoch, index])
        flip = rng.random() < self.strengths.hflip
        pixels, grid_labels = warp_sample(image, labels, self.preprocess, _draw_warp(rng, self.strengths))
        if self.strengths.photometric > 0:
            pixels = _recolour(pixels, rng, self.strengths.photometric)
        _cut_out(pixels, grid_labels, rng, self.strengths.cutout)
        pixels = _degrade(pixels, rng, self.strengths)
        if flip:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            grid_labels = mirror_labels(grid_labels, self.mirror)
        return pixels, grid_labels


def mirror_labels(labels: Pixels, mirror: Sequence[int]) -> Pixels:
    """Flip labels left to right, left and right classes changing places.

    Args:
        labels: HW uint8.
        mirror: Class k of a picture is class ``mirror[k]`` of its flip; 255 stays.
    """
    table = np.arange(256, dtype=np.uint8)
    table[: len(mirror)] = mirror
    flipped: Pixels = table[labels[:, ::-1]]
    return flipped


def warp_sample(image: Pixels, labels: Pixels, preprocess: Preprocess, warp: Warp) -> tuple[Pixels, Pixels]:
    """Bring a view of a photo and its labels to the grid.

    Beyond its edge the photo is continued by its mirror image where photos are stretched to the grid (no flat area
    that prediction never sees), and by the padding colour where they are padded. There is nothing to learn there: the
    labels are 255.

    Args:
        image: HWC uint8 RGB.
        labels: HW uint8 of the same height and width.
        preprocess: The grid.
        warp: The view.
    """
    if warp == Warp():
        return fit_image(image, preprocess)[0], fit_labels(labels, preprocess)
    height, width = preprocess.size_hw
    size_wh = (width, height)
    to_photo = _grid_to_photo((labels.shape[0], labels.shape[1]), preprocess, warp)
    grid_labels: Any = cv2.warpAffine(
        labels,
        to_photo,
        size_wh,
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=[IGNORE],
    )
    source, to_source = _antialiased(image, to_photo)
    pixels: Any = cv2.warpAffine(
        source,
        to_source,
        size_wh,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101 if preprocess.fit == "stretch" else cv2.BORDER_CONSTANT,
        borderValue=preprocess.pad_rgb,
    )
    return pixels, grid_labels


def _draw_warp(rng: np.random.Generator, strengths: Strengths) -> Warp:
    limits = (strengths.scale, strengths.aspect, strengths.rotate, strengths.shift, strengths.shift)
    zoom, aspect, angle, shift_y, shift_x = rng.uniform(-1, 1, 5) * np.minimum(limits, 3.0)
    zoom = math.exp((0.5 if zoom > 0 else 0.4) * zoom)
    # The view moves as far as it can without losing the photo, and a little further.
    slack = abs(1 - 1 / zoom) / 2 + 0.05 * min(strengths.shift, 3.0)
    clipped_y, clipped_x = np.clip((shift_y, shift_x), -1, 1)
    return Warp(
        zoom=zoom,
        aspect=math.exp(0.18 * aspect),
        angle=math.radians(15) * float(angle),
        shift_y=float(clipped_y) * slack,
        shift_x=float(clipped_x) * slack,
    )


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


def _antialiased(image: Pixels, to_photo: Matrix) -> tuple[Pixels, Matrix]:
    """Shrink a photo along the axes that the warp would sample too sparsely; return it and the matrix for it."""
    per_x, per_y = np.hypot(to_photo[:, 0], to_photo[:, 1])
    if max(per_x, per_y) <= ANTIALIAS_FROM:
        return image, to_photo
    height, width = image.shape[:2]
    small_height = max(1, round(height * ANTIALIAS_TO / per_y)) if per_y > ANTIALIAS_FROM else height
    small_width = max(1, round(width * ANTIALIAS_TO / per_x)) if per_x > ANTIALIAS_FROM else width
    ratio = np.array([[small_width / width], [small_height / height]])
    matrix = to_photo * ratio
    matrix[:, 2:] += 0.5 * ratio - 0.5
    return resize_image(image, (small_height, small_width)), matrix


def _recolour(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Change saturation by one matrix, and light, contrast, gamma and white balance by one table."""
    gamma, contrast, brightness, saturation, *gains = rng.uniform(-1, 1, 7) * strength
    grey = rng.random() < min(0.08 * strength, 0.5)
    keep = 0.0 if grey else math.exp(0.35 * saturation)
    mix = keep * np.eye(3) + (1 - keep) * np.array([0.299, 0.587, 0.114])
    recoloured: Any = cv2.transform(pixels, mix.astype(np.float32))
    gain = np.ones(3) if grey else np.exp(0.1 * np.array(gains))
    levels = np.clip(np.linspace(0, 1, 256)[:, None] * gain, 0, 1) ** math.exp(0.3 * gamma)
    levels = (levels - 0.5) * math.exp(0.25 * contrast) + 0.5 + 0.12 * brightness
    table = np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)
    result: Pixels = cv2.LUT(recoloured, table[None])
    return result


def _cut_out(pixels: Pixels, labels: Pixels, rng: np.random.Generator, strength: float) -> None:
    """Cover a rectangle with one colour, in place; what is under it is not asked for."""
    if rng.random() >= min(0.2 * strength, 0.8):
        return
    height, width = labels.shape
    box_height, box_width = (rng.uniform(0.1, 0.35, 2) * (height, width)).astype(int) + 1
    top, left = int(rng.integers(-box_height // 2, height)), int(rng.integers(-box_width // 2, width))
    window = slice(max(top, 0), top + int(box_height)), slice(max(left, 0), left + int(box_width))
    pixels[window] = rng.integers(0, 256, 3, dtype=np.uint8)
    labels[window] = IGNORE


def _degrade(pixels: Pixels, rng: np.random.Generator, strengths: Strengths) -> Pixels:
    """Blur, add noise or compress, each now and then."""
    limits = np.array([strengths.blur, strengths.noise, strengths.jpeg])
    blur, noise, jpeg = rng.random(3) < np.minimum(0.12 * limits, 0.5)
    if blur:
        sigma = rng.uniform(0.3, 1.2) * max(pixels.shape) / 256
        blurred: Any = cv2.GaussianBlur(pixels, (0, 0), max(sigma, 0.2))
        pixels = blurred
    if noise:
        grain = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(2, 10))
        pixels = np.clip(pixels + grain, 0, 255).astype(np.uint8)
    if jpeg:
        pixels = read_photo(encode_jpeg(pixels, quality=int(rng.integers(30, 91)))).image
    return pixels
