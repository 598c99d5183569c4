"""How well the parts of each person are found: average precision, from a few numbers an image.

A part is what one person has of one class. Two figures, each at intersections over union (IoU) from 0.1 to 0.9:

- AP^r of parts (B. Hariharan, P. Arbeláez, R. Girshick, J. Malik, *Simultaneous Detection and Segmentation*, ECCV 2014;
  for parts of people K. Gong et al., *Part Grouping Network*, ECCV 2018): predicted parts of a class are taken by
  falling score; one is right if it overlaps a true part enough that none before it took. The area under precision over
  recall, the precision being the best at that recall or a higher one, averaged over the classes that the truth has.
- AP^p of people (J. Li et al., *Multiple-Human Parsing in the Wild*, 2017): the same for whole persons, the overlap of
  two being the mean IoU of the parts that either has.

Matching is that of COCO's evaluation: of the true parts left, the one overlapped most. The MATLAB code of the Part
Grouping Network lets a true part be taken any number of times, which can count one person as several.

The parts of one person are of different classes, so class 0, the background, has room for the persons themselves.

Shapes: D predicted parts, P true parts, K classes, T overlaps (:data:`OVERLAPS`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seglab.tasks import IGNORE

__all__ = ["OVERLAPS", "PERSON", "ImageParts", "average_precisions", "match_parts"]

OVERLAPS: Final = tuple(tenth / 10 for tenth in range(1, 10))
"""The least IoU of what is right."""
PERSON: Final = 0
"""In the place of a class: the persons."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ImageParts:
    """What is kept of an image."""

    kinds: Ints
    """(D,) class of each predicted part; :data:`PERSON` for each predicted person."""
    scores: Floats
    """(D,)"""
    hits: Ints
    """(D,) bit t is set if it is right at the t-th of :data:`OVERLAPS`."""
    num_true: Ints
    """(K,) true parts of each class; of :data:`PERSON`, persons."""


@dataclass(frozen=True)
class _Parts:
    """The parts in one picture: who has which class, where."""

    numbers: NDArray[np.int32]
    """HW: 0 none, 1.. the parts."""
    people: Ints
    classes: Ints
    pixels: Ints


def match_parts(
    truth: NDArray[np.uint8],
    people: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    ids: NDArray[np.uint16],
    scores: Mapping[tuple[int, int], float],
    num_classes: int,
) -> ImageParts:
    """Find out which predicted parts of one picture are right.

    Pixels whose class or owner the truth does not know (255, or a class that belongs to nobody) are in no part.

    Args:
        truth: HW class ids.
        people: HW ids of people; 0 is nobody.
        prediction: HW class ids.
        ids: HW ids of the people found.
        scores: By (person, class) as found; by (person, :data:`PERSON`) those of persons. What is not there has 0.
        num_classes: K.
    """
    known = (truth != IGNORE) & (people != IGNORE) & ((truth == 0) | (people > 0))
    true, found = _split(truth, people, known), _split(prediction, ids, known)
    iou_DP = _overlaps(found, true)
    parts = iou_DP, found.classes, true.classes, [(p, c) for p, c in zip(found.people, found.classes, strict=True)]
    owners, owned = (np.unique(of.people) for of in (found, true))
    persons = (
        _person_overlaps(iou_DP, found, true, num_classes),
        np.full(len(owners), PERSON),
        np.full(len(owned), PERSON),
        [(owner, PERSON) for owner in owners],
    )
    kinds, sums, hits, num_true = [], [], [], np.zeros(num_classes, np.int64)
    for overlaps, kinds_D, kinds_P, keys in (parts, persons):
        scores_D = np.array([scores.get((int(who), int(what)), 0.0) for who, what in keys])
        num_true += np.bincount(kinds_P, minlength=num_classes)
        kinds.append(kinds_D)
        sums.append(scores_D)
        hits.append(_hits(overlaps, kinds_D, kinds_P, scores_D))
    return ImageParts(np.concatenate(kinds), np.concatenate(sums), np.concatenate(hits), num_true)


def average_precisions(images: Sequence[ImageParts], num_classes: int) -> Floats:
    """Return average precision by kind and overlap, (K, T); NaN where the truth has none of a kind.

    Of equal scores the earlier image goes first.
    """
    num_true_K = np.sum([image.num_true for image in images], axis=0) if images else np.zeros(num_classes, np.int64)
    kinds, scores, hits = (
        np.concatenate([getattr(image, name) for image in images]) if images else np.zeros(0)
        for name in ("kinds", "scores", "hits")
    )
    right_DT = (hits.astype(np.int64)[:, None] >> np.arange(len(OVERLAPS)) & 1).astype(bool)
    ap_KT = np.full((num_classes, len(OVERLAPS)), np.nan)
    for kind in np.flatnonzero(num_true_K).tolist():
        these = np.flatnonzero(kinds == kind)
        order = these[np.argsort(-scores[these], kind="stable")]
        ap_KT[kind] = _average_precision(right_DT[order], int(num_true_K[kind]))
    return ap_KT


def _average_precision(right_DT: Bools, num_true: int) -> Floats:
    """Return the area under the best precision at each recall or beyond, (T,)."""
    precision_DT = right_DT.cumsum(0) / np.arange(1, len(right_DT) + 1)[:, None]
    best_DT = np.maximum.accumulate(precision_DT[::-1], axis=0)[::-1]
    area: Floats = (best_DT * right_DT).sum(0) / num_true
    return area


def _split(labels: NDArray[np.uint8], ids: NDArray[np.uint8] | NDArray[np.uint16], known: Bools) -> _Parts:
    width = int(labels.max(initial=0)) + 1
    codes = ids.astype(np.int64) * width + labels
    codes[~known | (labels == 0) | (ids == 0)] = 0
    counts = np.bincount(codes.ravel(), minlength=1)
    counts[0] = 0
    there = np.flatnonzero(counts)
    table = np.zeros(len(counts), np.int32)
    table[there] = np.arange(1, len(there) + 1)
    return _Parts(table[codes], there // width, there % width, counts[there])


def _overlaps(found: _Parts, true: _Parts) -> Floats:
    """Return the IoU of parts of the same class, (D, P); 0 of others."""
    num_found, num_true = len(found.people), len(true.people)
    joint = found.numbers.astype(np.int64) * (num_true + 1) + true.numbers
    both = np.bincount(joint.ravel(), minlength=(num_found + 1) * (num_true + 1))
    both_DP = both.reshape(num_found + 1, num_true + 1)[1:, 1:]
    either_DP = found.pixels[:, None] + true.pixels - both_DP
    same_DP = found.classes[:, None] == true.classes
    iou_DP: Floats = both_DP * same_DP / np.maximum(either_DP, 1)
    return iou_DP


def _person_overlaps(iou_DP: Floats, found: _Parts, true: _Parts, num_classes: int) -> Floats:
    """Return for every two persons, found and true, the mean IoU of the classes that either has."""
    owner_ID, has_IK = _owned(found, num_classes)
    owner_JP, has_JK = _owned(true, num_classes)
    num_either = has_IK.sum(1)[:, None] + has_JK.sum(1) - has_IK @ has_JK.T
    mean: Floats = (owner_ID @ iou_DP @ owner_JP.T) / np.maximum(num_either, 1)
    return mean


def _owned(parts: _Parts, num_classes: int) -> tuple[Floats, Ints]:
    """Return which parts, and which classes, each person has."""
    owners = np.unique(parts.people)
    owner = (owners[:, None] == parts.people).astype(np.float64)
    has = np.zeros((len(owners), num_classes), np.int64)
    has[np.searchsorted(owners, parts.people), parts.classes] = 1
    return owner, has


def _hits(iou_DP: Floats, kinds_D: Ints, kinds_P: Ints, scores_D: Floats) -> Ints:
    hits = np.zeros(len(kinds_D), np.int64)
    possible_DP = (iou_DP >= OVERLAPS[0]) & (kinds_D[:, None] == kinds_P)
    candidates = [row for row in np.argsort(-scores_D, kind="stable").tolist() if possible_DP[row].any()]
    for bit, overlap in enumerate(OVERLAPS):
        left = np.ones(len(kinds_P), bool)
        for row in candidates:
            iou_P = np.where(left & possible_DP[row], iou_DP[row], 0.0)
            best = int(iou_P.argmax())
            if iou_P[best] >= overlap:
                left[best] = False
                hits[row] |= 1 << bit
    return hits
