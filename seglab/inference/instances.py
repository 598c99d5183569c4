"""From parts and outlines to people: which pixel belongs to whom.

Origin: the partition of K. Gong et al., "Instance-level Human Parsing via Part Grouping Network", ECCV 2018, as in the
authors' MATLAB code. There, runs of foreground between outlines are labelled along rows and along columns, and a
search joins runs that share pixels: what it finds are the areas that outlines enclose (4-connected), which is how they
are found here. Differs from it: a fragment joins the neighbour that it touches most, not the first that a scan meets;
lines reach all four borders of the picture, not only two; a speck that touches nobody joins who is near; no pixel of a
person is left without an owner.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.edges import edges_from_labels
from seglab.data.geometry import Placement, reduced_hw, unfit_labels, unfit_probs
from seglab.inference.areas import mask_area
from seglab.inference.fragments import LEAST_PIXELS, merge_fragments
from seglab.inference.thinning import thin
from seglab.tasks import Task

__all__ = [
    "Instance",
    "Instances",
    "edge_probs",
    "find_instances",
    "part_scores",
    "partition",
    "resize_ids",
    "working_hw",
]

EDGE_FROM: Final = 0.2
"""Probability from which a pixel is part of an outline."""
BORDER: Final = 10
"""An outline that ends so many pixels from the border of the picture goes on to it."""
SPECK_REACH: Final = 10
"""A fragment too small for a person that touches nobody belongs to somebody at most so many pixels away."""
WORKING_SIDE: Final = 640
"""Longer side of the picture that people are told apart on; the constants above and of fragments are meant for it."""
_FAINTEST: Final = 1 / 255
"""A weaker outline is none for the score: the published code stores probabilities as bytes."""
_BAND: Final = 256
"""Rows that are summed at once."""

Uint8 = NDArray[np.uint8]
Uint16 = NDArray[np.uint16]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Instance:
    """A person."""

    id: int
    """Value of its pixels."""
    area: dict[str, Any]
    """See :func:`seglab.inference.areas.mask_area`."""
    score: float
    """Pixels x mean probability of their classes x strength of the outlines on it."""
    parts: dict[str, dict[str, Any]]
    """By class: number of ``pixels``, and ``score``, the same product for the part."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"id": self.id, "score": round(self.score, 3), **self.area, "parts": self.parts}


@dataclass(frozen=True)
class Instances:
    """The people of a photo."""

    ids: Uint16
    """HW: 0 nobody, 1.. from the largest to the smallest person."""
    people: tuple[Instance, ...]


def find_instances(
    logits_KHW: Float32, edge_logits_HW: Float32, placement: Placement, labels: Uint8, task: Task
) -> Instances:
    """Tell the people of a photo apart.

    Args:
        logits_KHW: On the model's grid.
        edge_logits_HW: Of outlines, on the grid.
        placement: Where the photo lies on it.
        labels: Class ids at the photo's own size; every pixel that is not background (0) gets an owner.
        task: What the classes are. With one class but the background, fragments are judged by their size alone.
    """
    small = replace(placement, source_hw=working_hw(placement.source_hw))
    small_labels = unfit_labels(logits_KHW, small)
    edges = edge_probs(edge_logits_HW, placement)
    small_ids = partition(small_labels, edges, parts_matter=task.num_classes > 2)
    ids = _to_photo(small_ids, placement.source_hw) * (labels != 0).astype(np.uint16)
    ids = _renumber(ids)
    certainty = np.zeros(small.source_hw, np.float32)
    for number in np.unique(small_labels):
        where = small_labels == number
        certainty[where] = unfit_probs(logits_KHW, small, [int(number)])[where]
    sums = _Sums(ids, labels, certainty, _strength(small_labels, edges))
    return Instances(ids, tuple(_describe(number, ids, sums, task) for number in range(1, int(ids.max(initial=0)) + 1)))


def edge_probs(edge_logits_HW: Float32, placement: Placement) -> Float32:
    """Return how probable an outline is, HW, on the picture that people are told apart on: see :func:`working_hw`.

    Args:
        edge_logits_HW: On the model's grid.
        placement: Where the photo lies on it.
    """
    small = replace(placement, source_hw=working_hw(placement.source_hw))
    return unfit_probs(np.stack([np.zeros_like(edge_logits_HW), edge_logits_HW]), small, [1])


def partition(labels: Uint8, edges: Float32, *, parts_matter: bool = True) -> Uint16:
    """Cut the foreground along outlines, and give every pixel of it an owner.

    Args:
        labels: HW class ids; 0 is background.
        edges: HW probabilities of outlines.
        parts_matter: Whether an area of a single class is a fragment of somebody, whatever its size.

    Returns:
        HW: 0 background, 1.. people, the largest first.
    """
    foreground = labels != 0
    if not foreground.any():
        return np.zeros(labels.shape, np.uint16)
    lines = _lines(edges >= EDGE_FROM)
    areas = _components(foreground & ~lines, 4)
    areas = _add_unmarked(areas, foreground)
    owners = _without_specks(merge_fragments(areas, labels, parts_matter=parts_matter))
    return _renumber(np.where(foreground, _nearest(owners), 0).astype(np.uint16))


def working_hw(source_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the size on which people are told apart in a photo: at most :data:`WORKING_SIDE` pixels long."""
    return reduced_hw(source_hw, WORKING_SIDE)


def resize_ids(ids: Uint16, size_hw: tuple[int, int]) -> Uint16:
    """Resize ids of people: every new pixel takes the id under its centre."""
    rows, columns = _places(ids.shape, size_hw)
    resized: Uint16 = ids[rows[:, None], columns]
    return resized


def part_scores(ids: Uint16, labels: Uint8, certainty: Float32, edges: Float32) -> dict[tuple[int, int], float]:
    """Return the score of every part of every person: pixels x mean certainty x outline score.

    The last is the mean, where it is not 0, of the probability of a person's outline (below 1/255: 0), plus 1 on the
    outlines of parts.

    Args:
        ids: HW of people; 0 is nobody.
        labels: HW class ids.
        certainty: HW probability of each pixel's class.
        edges: HW probability of a person's outline.

    Returns:
        By (person, class).
    """
    sums = _Sums(ids, labels, certainty, _strength(labels, edges))
    people, classes = np.nonzero(sums.pixels[1:])
    return {
        (person + 1, number): sums.score(person + 1, number)
        for person, number in zip(people.tolist(), classes.tolist(), strict=True)
    }


def _lines(strokes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Close gaps of a pixel, thin, and lead what ends near the border of the picture on to it."""
    closed: Any = cv2.morphologyEx(strokes.view(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    lines = thin(closed != 0)
    for turn in range(4):
        side = np.rot90(lines, turn)  # a view
        band = side[-BORDER:]
        np.logical_or.accumulate(band, axis=0, out=band)
    return lines


def _components(mask: NDArray[np.bool_], connectivity: int) -> NDArray[np.int32]:
    _, numbers = cv2.connectedComponents(mask.view(np.uint8), connectivity=connectivity, ltype=cv2.CV_32S)
    components: NDArray[np.int32] = np.asarray(numbers, np.int32)
    return components


def _add_unmarked(areas: NDArray[np.int32], foreground: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Make an area of each island of foreground that outlines cover altogether."""
    islands = _components(foreground, 8)
    marked = np.zeros(islands.max() + 1, bool)
    marked[islands[areas > 0]] = True
    unmarked = ~marked[islands] & foreground
    return np.where(unmarked, islands + areas.max(), areas)


def _without_specks(owners: NDArray[np.int32]) -> NDArray[np.int32]:
    """Take the owner from specks that have somebody near them."""
    counts = np.bincount(owners.ravel())
    speck = np.isin(owners, np.flatnonzero(counts <= LEAST_PIXELS)) & (owners > 0)
    people = (owners > 0) & ~speck
    if not speck.any() or not people.any():
        return owners
    distance: Any = cv2.distanceTransform((~people).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    near = np.unique(owners[speck & (distance <= SPECK_REACH)])
    return np.where(np.isin(owners, near), 0, owners).astype(np.int32)


def _nearest(owners: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give every pixel the owner of the nearest pixel that has one."""
    if (owners > 0).all():
        return owners
    _, seeds = cv2.distanceTransformWithLabels(
        (owners == 0).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(int(np.asarray(seeds).max()) + 1, np.int32)
    table[np.asarray(seeds)[owners > 0]] = owners[owners > 0]
    nearest: NDArray[np.int32] = table[seeds]
    return nearest


def _renumber(ids: Uint16) -> Uint16:
    """Number people from 1, the largest first; of equal size, the lower number."""
    counts = np.bincount(ids.ravel(), minlength=1)
    counts[0] = 0
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    table = np.zeros(len(counts), np.uint16)
    table[order] = np.arange(1, len(order) + 1)
    renumbered: Uint16 = table[ids]
    return renumbered


def _to_photo(ids: Uint16, size_hw: tuple[int, int]) -> Uint16:
    """Bring ids to the photo's size, background and all: each pixel takes the owner nearest to its centre."""
    owned = _nearest(ids.astype(np.int32)).astype(np.uint16)
    return resize_ids(owned, size_hw)


def _places(old_hw: tuple[int, ...], new_hw: tuple[int, ...]) -> Iterator[NDArray[np.intp]]:
    """Yield, for the rows and the columns of a picture, where in another one their centres lie."""
    for new, old in zip(new_hw, old_hw, strict=True):
        yield ((np.arange(new) + 0.5) * (old / new)).astype(np.intp)


def _strength(labels: Uint8, edges: Float32) -> Float32:
    """Return how strong the outlines on each pixel are: of parts, and of people."""
    strength: Float32 = edges_from_labels(labels).astype(np.float32)
    return strength + np.where(edges < _FAINTEST, np.float32(0), edges)


class _Sums:
    """What the scores of people and of their parts are made of.

    Args:
        ids: HW of people.
        labels: HW class ids.
        certainty: Probability of each pixel's class; may be smaller.
        strength: Of the outlines on each pixel, of the same size as that.
    """

    def __init__(self, ids: Uint16, labels: Uint8, certainty: Float32, strength: Float32) -> None:
        shape = (int(ids.max(initial=0)) + 1, 256)
        sums = np.zeros((4, shape[0] * shape[1]))
        rows, columns = _places(certainty.shape, ids.shape)
        for top in range(0, ids.shape[0], _BAND):
            band = slice(top, top + _BAND)
            codes = (ids[band].astype(np.int64) * 256 + labels[band]).ravel()
            sure, strong = (values[rows[band][:, None], columns].ravel() for values in (certainty, strength))
            for weights, total in zip((None, sure, strong, strong > 0), sums, strict=True):
                total += np.bincount(codes, weights, sums.shape[1])
        self.pixels, self._certainty, self._strength, self._num_strong = sums.reshape(4, *shape)

    def score(self, person: int, number: int | slice) -> float:
        """Return the score of a person's part, or of the whole person (all classes)."""
        certainty, strength = self._certainty[person, number].sum(), self._strength[person, number].sum()
        num_strong = self._num_strong[person, number].sum()
        return float(certainty * (strength / num_strong if num_strong else 1.0))


def _describe(number: int, ids: Uint16, sums: _Sums, task: Task) -> Instance:
    parts = {
        task.classes[index]: {"pixels": int(sums.pixels[number, index]), "score": round(sums.score(number, index), 3)}
        for index in np.flatnonzero(sums.pixels[number]).tolist()
    }
    return Instance(number, mask_area(ids == number), sums.score(number, slice(None)), parts)
