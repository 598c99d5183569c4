"""Random views of a training sample: photo and labels together, from the photo straight to the model's grid.

A view is a function of (seed, epoch, name of the sample) and of what the photos are, and of nothing else: not of the
order of samples, of batches, of the number of workers or processes, or of what was kept in memory. So a run that is
resumed sees what an uninterrupted one sees. Every part draws from a stream of its own, so that switching one off leaves
the others as they were.
"""

import hashlib
import math
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from seglab.data.appearance import degrade, recolour
from seglab.data.backdrop import Photos, change_background, choose_backdrop
from seglab.data.view import View
from seglab.data.warp import BEND_NODES, Sampling, Warp
from seglab.preprocess import Preprocess
from seglab.strengths import Strengths
from seglab.tasks import IGNORE

__all__ = ["Augmentation"]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

BEND: float = 0.045
"""How far a distortion moves a place at most, in sides of the grid. Less than a quarter of the distance between two
places that move on their own, so that the picture is nowhere folded."""


class _Stream(IntEnum):
    """The parts that draw on their own. The numbers decide what is drawn."""

    FLIP = 0
    WARP = 1
    BEND = 2
    BACKGROUND = 3
    COLOUR = 4
    CUTOUT = 5
    CAMERA = 6


@dataclass(frozen=True)
class Augmentation:
    """The random views of a run.

    Without strengths a view is exactly what :func:`seglab.data.geometry.fit_image` and
    :func:`~seglab.data.geometry.fit_labels` give.
    """

    preprocess: Preprocess
    mirror: tuple[int, ...]
    """:meth:`seglab.tasks.Task.mirror_permutation` of the task."""
    strengths: Strengths = field(default_factory=Strengths)
    """How far a view may be from the photo."""
    seed: int = 0
    photos: Photos | None = None
    """Where backdrops come from, beside drawn ones."""

    def __call__(self, image: Pixels, labels: Pixels, *, epoch: int, name: str, people: Pixels | None = None) -> View:
        """Return a view on the grid.

        Labels of what lies outside the photo, or under a cut-out, are 255. No other value appears that was not there,
        but for those of another photo that is seen in the background.

        Args:
            image: HWC uint8 RGB of any size.
            labels: HW uint8 of the same height and width.
            epoch: Number of the epoch.
            name: Id of the sample.
            people: Who each pixel belongs to, like labels.
        """
        dice = _Dice(self.seed, epoch, name)
        view = self._place(dice, image, labels, people)
        strengths = self.strengths
        if strengths.photometric > 0:
            view = View(recolour(view.pixels, dice(_Stream.COLOUR), strengths.photometric), view.labels, view.people)
        if strengths.cutout > 0:
            _cut_out(view, dice(_Stream.CUTOUT), strengths.cutout)
        if max(strengths.blur, strengths.lowres, strengths.noise, strengths.jpeg) > 0:
            view = View(degrade(view.pixels, dice(_Stream.CAMERA), strengths), view.labels, view.people)
        if strengths.hflip > 0 and dice(_Stream.FLIP).random() < strengths.hflip:
            view = view.mirrored(self.mirror)
        return view

    def _place(self, dice: "_Dice", image: Pixels, labels: Pixels, people: Pixels | None) -> View:
        """Bring the photo to the grid, and what is labelled of it before another background now and then."""
        bend = None
        if self.strengths.elastic > 0:
            bend = _draw_bend(dice(_Stream.BEND), self.strengths.elastic)
        warp = _draw_warp(dice(_Stream.WARP), self.strengths)
        sampling = Sampling((labels.shape[0], labels.shape[1]), self.preprocess, warp, bend)
        pixels = sampling.image(image)
        if self.strengths.background > 0 and labels.any():
            rng = dice(_Stream.BACKGROUND)
            if rng.random() < self.strengths.background:
                seen = None if people is None else sampling.labels(people, outside=0)
                view = View(pixels, sampling.labels(labels, outside=0), seen)
                cover = sampling.cover((labels != 0).view(np.uint8))
                return change_background(view, cover, choose_backdrop(rng, self.photos, self.preprocess, self.mirror))
        return View(pixels, sampling.labels(labels), None if people is None else sampling.labels(people))


class _Dice:
    """Generators of random numbers that depend on seed, epoch, name and stream alone."""

    def __init__(self, seed: int, epoch: int, name: str) -> None:
        digest = hashlib.sha1(name.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
        self._key = [seed, epoch, int.from_bytes(digest[:8], "little")]

    def __call__(self, stream: _Stream) -> np.random.Generator:
        return np.random.default_rng([*self._key, int(stream)])


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


def _draw_bend(rng: np.random.Generator, probability: float) -> Floats | None:
    if rng.random() >= probability:
        return None
    bend = rng.uniform(-1, 1, (BEND_NODES, BEND_NODES, 2)) * (BEND * rng.uniform(0.3, 1))
    return bend.astype(np.float32)


def _cut_out(view: View, rng: np.random.Generator, strength: float) -> None:
    """Cover a rectangle with one colour, in place.

    What is under it is not asked for (255). With its old labels the network would have to guess outlines that nobody
    can see, and learn to see people in plain rectangles; so it only learns to do without what is hidden.
    """
    if rng.random() >= min(0.2 * strength, 0.8):
        return
    height, width = view.labels.shape
    box_height, box_width = (rng.uniform(0.1, 0.35, 2) * (height, width)).astype(int) + 1
    top, left = int(rng.integers(-box_height // 2, height)), int(rng.integers(-box_width // 2, width))
    window = slice(max(top, 0), top + int(box_height)), slice(max(left, 0), left + int(box_width))
    view.pixels[window] = rng.integers(0, 256, 3, dtype=np.uint8)
    view.labels[window] = IGNORE
    if view.people is not None:
        view.people[window] = IGNORE
