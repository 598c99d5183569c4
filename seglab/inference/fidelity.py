"""How photos come in and masks go out: seglab's own road, and those of the originals, exactly.

With an original's road, and its weights, a label map is the one that the original's own code makes, pixel by pixel but
for ties of floating-point numbers: the same libraries resize in the same order, or code that was compared with them.
Where an original makes its mask at the network's size and says nothing of the photo's, nearest neighbours enlarge it.

The originals decode photos by other libraries, whose JPEG decoders may differ by a level; and a grey photo counts as
RGB here, where U-2-Net normalises its one channel by the constants of red.

Shapes: K classes, H W the photo, h w the network's grid.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seglab.data.geometry import Placement, fit_image, unfit_labels, unfit_probs
from seglab.data.images import ImageError, resize_labels
from seglab.engines.pixels import Pixels
from seglab.preprocess import Preprocess

__all__ = ["ROADS", "SEGLAB", "Road", "skimage_resize"]

Uint8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
_STEP: Final = 16
_TRUNCATE: Final = 4.0
"""Where scipy cuts a Gaussian off, in standard deviations."""


class Road:
    """Seglab's own: photos meet the grid as :mod:`seglab.data.geometry` says, and logits are resized, never labels."""

    alone: bool = False
    """Whether photos differ in size at the network, so that none can share a batch."""
    soft: bool = True
    """Whether a cutout's edge may follow the photo; an original's mask is what it is."""

    def fit(self, image: Uint8, preprocess: Preprocess) -> tuple[Pixels, Placement]:
        """Return a photo (HWC RGB, any size) as the network sees it, and where it lies there.

        Raises:
            ImageError: If the original's code cannot process a photo of this size.
        """
        return fit_image(image, preprocess)

    def labels(self, logits_Khw: Float32, placement: Placement) -> Uint8:
        """Return the class ids of a photo at its own size (HW)."""
        return unfit_labels(logits_Khw, placement)

    def alpha(self, logits_Khw: Float32, placement: Placement, classes: Sequence[int]) -> Float32:
        """Return how much of each pixel of a photo belongs to some classes (HW, 0..1)."""
        return unfit_probs(logits_Khw, placement, classes)


class _Original(Road):
    """Back by nearest neighbours, as the originals' own code goes: no edge is soft."""

    soft = False

    def labels(self, logits_Khw: Float32, placement: Placement) -> Uint8:
        """Return the class of the largest logit of the grid, brought to the photo by nearest neighbours."""
        return resize_labels(logits_Khw.argmax(axis=0).astype(np.uint8), placement.source_hw)

    def alpha(self, logits_Khw: Float32, placement: Placement, classes: Sequence[int]) -> Float32:
        """Return 1 where the label is one of the classes, else 0."""
        return np.isin(self.labels(logits_Khw, placement), list(classes)).astype(np.float32)


class Native(_Original):
    """The photo as it is, whatever its size (cloth-segmentation)."""

    alone = True

    def fit(self, image: Uint8, preprocess: Preprocess) -> tuple[Pixels, Placement]:  # noqa: ARG002
        """Return the photo."""
        return image, _everywhere(image.shape[:2])


class Multiples(Native):
    """The photo as it is, if its sides leave the same remainder by 16 (Semantic_Segmentation_With_U-Net).

    The original neither divides by 255 nor puts its network in evaluation mode. The statistics of the very photo make
    up for both: see :attr:`raw`.
    """

    raw: bool = True
    """Whether the network sees 0..255, as published, which only batch statistics make sense of."""

    def fit(self, image: Uint8, preprocess: Preprocess) -> tuple[Pixels, Placement]:  # noqa: ARG002
        """Return the photo, if the original takes one of its size."""
        height, width = image.shape[:2]
        if height % _STEP != width % _STEP:
            raise ImageError(f"{height}x{width}: the original takes sides of the same remainder by {_STEP} only")
        if min(height, width) < _STEP or max(height, width) < 2 * _STEP:
            raise ImageError(f"{height}x{width} is too small for the original: it needs {_STEP}x{2 * _STEP}")
        return (image.astype(np.float32) if self.raw else image), _everywhere((height, width))


class Scaled(Multiples):
    """The same with pixels divided by 255, for statistics that were collected in training."""

    raw = False


class Bilinear(_Original):
    """Pillow's bilinear resizing, as torchvision does it (PGN_PyTorch)."""

    def fit(self, image: Uint8, preprocess: Preprocess) -> tuple[Pixels, Placement]:
        """Return the photo, resized."""
        return _pillow(image, preprocess), _stretched(image, preprocess)


class Nearest(_Original):
    """OpenCV's nearest neighbours, for the photo too (Heirarchical_segmentation, by albumentations)."""

    def fit(self, image: Uint8, preprocess: Preprocess) -> tuple[Pixels, Placement]:
        """Return the photo, resized."""
        height, width = preprocess.size_hw
        resized: Any = cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)
        return cast(Uint8, resized), _stretched(image, preprocess)


class Tanh(Bilinear):
    """A mask within -1..1 that bicubic interpolation brings to the photo (Pix2Pix-Image-Segmentation)."""

    def labels(self, logits_Khw: Float32, placement: Placement) -> Uint8:
        """Return 1 where the mask, mapped to 0..1, rounds to 1."""
        mask: Any = np.tanh((logits_Khw[1] - logits_Khw[0]) / 2)
        height, width = placement.source_hw
        if mask.shape != (height, width):
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_CUBIC)
        labels_HW: Uint8 = (np.round((mask + 1) / 2) >= 1).astype(np.uint8)
        return labels_HW


class Saliency(_Original):
    """A map that is stretched to its own minimum and maximum (U-2-Net).

    The original resizes by skimage; see :func:`skimage_resize`. It publishes a grey map, no labels: labels are where
    that map is more than half.
    """

    def fit(self, image: Uint8, preprocess: Preprocess) -> tuple[Pixels, Placement]:
        """Return the photo resized, divided by its largest value and normalised."""
        small = skimage_resize(image, preprocess.size_hw)
        largest = small.max()
        small = (small / largest if largest else small) - preprocess.mean
        return (small / preprocess.std).astype(np.float32), _stretched(image, preprocess)

    def labels(self, logits_Khw: Float32, placement: Placement) -> Uint8:
        """Return 1 where the published map is more than half."""
        return (self._map(logits_Khw, placement) > 127).astype(np.uint8)

    def alpha(self, logits_Khw: Float32, placement: Placement, classes: Sequence[int]) -> Float32:
        """Return the published map, or what it leaves."""
        map_HW = self._map(logits_Khw, placement).astype(np.float32) / np.float32(255)
        if 1 in classes:
            return np.ones_like(map_HW) if 0 in classes else map_HW
        return np.float32(1) - map_HW if 0 in classes else np.zeros_like(map_HW)

    def _map(self, logits_Khw: Float32, placement: Placement) -> Uint8:
        with np.errstate(over="ignore"):  # A sigmoid of 0 is what overflows.
            probs_hw = 1 / (1 + np.exp(logits_Khw[0] - logits_Khw[1]))
        low, high = probs_hw.min(), probs_hw.max()
        # Where all is the same the original divides by zero; nothing is salient then.
        stretched_hw = (probs_hw - low) / (high - low) if high > low else np.zeros_like(probs_hw)
        height, width = placement.source_hw
        grey = Image.fromarray(stretched_hw.astype(np.float32) * 255).convert("L")
        return np.asarray(grey.resize((width, height), Image.Resampling.BILINEAR))


SEGLAB: Final = Road()
ROADS: Final[Mapping[str, Road]] = MappingProxyType(
    {
        "seglab": SEGLAB,
        "native": Native(),
        "multiples": Multiples(),
        "scaled": Scaled(),
        "bilinear": Bilinear(),
        "nearest": Nearest(),
        "tanh": Tanh(),
        "saliency": Saliency(),
    }
)
"""By the names that :attr:`seglab.models.originals.Original.road` has."""


def skimage_resize(image: Uint8, size_hw: tuple[int, int]) -> Float64:
    """Resize as ``skimage.transform.resize(image, size_hw, mode="constant")`` of skimage 0.19 and later does.

    That is: divide by 255; blur each axis that shrinks by a factor f with a Gaussian of deviation (f - 1) / 2, cut off
    at four deviations, black beyond the border; interpolate linearly between pixel centres, black beyond the border.
    Values are clipped to the range that the photo has; black from beyond the border stays. Blur and interpolation are
    linear, so each axis is one matrix. Differs from skimage 0.26 by less than 1e-14.

    Args:
        image: HWC.
        size_hw: The new height and width.

    Returns:
        hwC, 0..1.
    """
    height, width = size_hw
    down = _axis(image.shape[0], height)
    across = _axis(image.shape[1], width)
    rows = np.tensordot(down, image.astype(np.float64) / 255, axes=(1, 0))
    resized: Float64 = np.einsum("wx,hxc->hwc", across, rows, optimize=True)
    black = resized == 0
    low, high = image.min() / 255, image.max() / 255
    np.clip(resized, low, high, out=resized)
    if low > 0:
        resized[black] = 0
    return resized


def _axis(num_in: int, num_out: int) -> Float64:
    """Return the (out, in) matrix of blurring and interpolating along one axis."""
    factor = num_in / num_out
    centres = (np.arange(num_out) + 0.5) * factor - 0.5
    first = np.floor(centres).astype(np.intp)
    share = centres - first
    linear = np.zeros((num_out, num_in))
    for taps, weights in ((first, 1 - share), (first + 1, share)):
        inside = (taps >= 0) & (taps < num_in)
        linear[np.flatnonzero(inside), taps[inside]] += weights[inside]
    sigma = max(0.0, (factor - 1) / 2)
    if sigma < 1e-15:
        return linear
    radius = int(_TRUNCATE * sigma + 0.5)
    kernel = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    kernel /= kernel.sum()
    return np.stack([np.convolve(row, kernel)[radius : radius + num_in] for row in linear])


def _pillow(image: Uint8, preprocess: Preprocess) -> Uint8:
    height, width = preprocess.size_hw
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _stretched(image: Uint8, preprocess: Preprocess) -> Placement:
    height, width = preprocess.size_hw
    return Placement((image.shape[0], image.shape[1]), preprocess.size_hw, (0, 0, height, width))


def _everywhere(size_hw: tuple[int, ...]) -> Placement:
    height, width = size_hw
    return Placement((height, width), (height, width), (0, 0, height, width))
