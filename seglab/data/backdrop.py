"""Other surroundings for what a task labels: those of another training photo, or drawn ones.

Class 0 is what is exchanged, and what is unknown (255) stays where it is. So this serves tasks that label whole people.
What is labelled in the other photo keeps its labels: who stands there is one more person, partly hidden by the first
(after Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation, 2021).

Shapes: H W the model grid.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from seglab.data.geometry import place
from seglab.data.view import View
from seglab.data.warp import Sampling, Warp
from seglab.preprocess import Preprocess
from seglab.tasks import IGNORE

__all__ = ["Photos", "change_background", "choose_backdrop", "draw_backdrop"]

Pixels = npt.NDArray[np.uint8]

FROM_PHOTOS: Final = 0.7
"""Share of backdrops that are other photos; the rest is drawn."""
OUT_OF_FOCUS: Final = 0.3
"""Share of backdrops that are blurred, as behind a portrait."""


class Photos(Protocol):
    """Where backdrops come from: the samples of a split."""

    def __len__(self) -> int: ...

    def load_all(self, index: int) -> tuple[Pixels, Pixels, Pixels | None]:
        """Return photo, labels and, if known and wanted, people of a sample, all of the same size."""


def choose_backdrop(
    rng: np.random.Generator, photos: Photos | None, preprocess: Preprocess, mirror: Sequence[int]
) -> View:
    """Return surroundings as large as the grid.

    Args:
        rng: Decides.
        photos: Other training photos; without them all is drawn.
        preprocess: The grid.
        mirror: See :func:`seglab.data.view.mirror_labels`.
    """
    is_photo, is_blurred, is_flipped = rng.random(3) < [FROM_PHOTOS, OUT_OF_FOCUS, 0.5]
    if photos is not None and is_photo:
        backdrop = _photo_backdrop(rng, photos, preprocess)
        if is_flipped:
            backdrop = backdrop.mirrored(mirror)
    else:
        labels = np.zeros(preprocess.size_hw, np.uint8)
        backdrop = View(draw_backdrop(rng, preprocess.size_hw), labels, labels)
    if not is_blurred or backdrop.labels.any():  # of a blurred person nobody knows where the outline is
        return backdrop
    blurred: Any = cv2.GaussianBlur(backdrop.pixels, (0, 0), rng.uniform(0.5, 3.0) * max(preprocess.size_hw) / 256)
    return View(blurred, backdrop.labels, backdrop.people)


def draw_backdrop(rng: np.random.Generator, size_hw: tuple[int, int]) -> Pixels:
    """Draw something that is not there: clouds of colour, large and small, sometimes over a plain ground."""
    height, width = size_hw
    canvas: Any = np.empty((height, width, 3), np.uint8)
    canvas[:] = rng.integers(0, 256, 3, dtype=np.uint8)
    for num_spots, weight in ((2, 0.5), (6, 0.35), (28, 0.2)):
        if rng.random() < 0.7:
            spots: Any = rng.integers(0, 256, (num_spots, num_spots, 3), dtype=np.uint8)
            clouds = cv2.resize(spots, (width, height), interpolation=cv2.INTER_LINEAR)
            canvas = cv2.addWeighted(canvas, 1 - weight, clouds, weight, 0)
    drawn: Pixels = canvas
    return drawn


def change_background(view: View, cover: Pixels, backdrop: View) -> View:
    """Put what is labelled in a view before a backdrop.

    Args:
        view: With label 0 where the backdrop is to be seen, beyond the photo, too.
        cover: HW uint8 how much of each pixel is labelled, 255 for all of it.
        backdrop: As large as the view.

    Returns:
        The edge between both is as soft as that of photos of this size; labels are of one or the other.
    """
    alpha_HW = _soft_edge(cover)
    pixels: Any = cv2.blendLinear(view.pixels, backdrop.pixels, alpha_HW, 1 - alpha_HW)
    is_kept = view.labels != 0
    labels = np.where(is_kept, view.labels, backdrop.labels)
    if view.people is None or backdrop.people is None:
        return View(pixels, labels)
    return View(pixels, labels, np.where(is_kept, view.people, _other_people(backdrop.people, view.people)))


def _soft_edge(cover: Pixels) -> npt.NDArray[np.float32]:
    """Return opacities that rise from 0 to 1 over about two pixels, a little inside: the old background shines less."""
    smooth: Any = cv2.GaussianBlur(cover, (5, 5), 0.8)
    alpha_HW: npt.NDArray[np.float32] = np.clip(smooth.astype(np.float32) * (1.35 / 255) - 0.35, 0, 1)
    return alpha_HW


def _other_people(others: Pixels, people: Pixels) -> Pixels:
    """Number people so that nobody has the number of one who is there already."""
    taken = int(people.max(where=people != IGNORE, initial=0))
    is_person = (others != 0) & (others != IGNORE)
    numbers: Pixels = np.where(is_person, np.minimum(others.astype(np.int64) + taken, IGNORE - 1), others)
    return numbers.astype(np.uint8)


def _photo_backdrop(rng: np.random.Generator, photos: Photos, preprocess: Preprocess) -> View:
    """Return a part of another photo that fills the grid."""
    index = int(rng.integers(len(photos)))
    image, labels, people = photos.load_all(index)
    source_hw = labels.shape[0], labels.shape[1]
    *_, height, width = place(source_hw, preprocess).box
    cover_hw = preprocess.size_hw[0] / height, preprocess.size_hw[1] / width
    zoom = max(cover_hw) * float(rng.uniform(1, 1.6))
    shift_y, shift_x = rng.uniform(-0.5, 0.5, 2) * [1 - least / zoom for least in cover_hw]
    sampling = Sampling(source_hw, preprocess, Warp(zoom=zoom, shift_y=float(shift_y), shift_x=float(shift_x)))
    pixels = sampling.image(image, is_continued=True)
    return View(pixels, sampling.labels(labels), None if people is None else sampling.labels(people))
