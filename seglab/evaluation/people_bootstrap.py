"""How far the scores of people told apart would move with other images: bootstrap, as in the module of that name.

An image that is drawn twice counts twice: its line pixels, its true parts, and each of its predicted parts, which
follow each other in the order of scores.

Shapes: N images, R drawn sets, K classes, T overlaps, D predicted parts.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seglab.evaluation.bootstrap import (
    NUM_SETS,
    Difference,
    Interval,
    to_difference,
    to_interval,
    weights,
)
from seglab.evaluation.edges import AT, FROM, NUM_COUNTS, best_of_each, f1_of
from seglab.evaluation.parts import OVERLAPS, PERSON
from seglab.evaluation.people import ImagePeople, score_people
from seglab.tasks import Task

__all__ = ["people_differences", "people_drawn", "people_intervals"]

MOST_WORK: Final = 400_000_000
"""Of many parts fewer sets are drawn, so that parts x overlaps x sets stay below; but never fewer than these:"""
FEWEST_SETS: Final = 200
_AT_ONCE: Final = 4_000_000
"""Numbers that are in memory at once, about."""

Floats = NDArray[np.float64]
People = Sequence[ImagePeople | None]


def people_intervals(people: People, task: Task, *, num_sets: int = NUM_SETS) -> dict[str, Interval | None]:
    """Return the interval of every metric of :meth:`seglab.evaluation.people.PeopleScores.values`.

    Args:
        people: Of each image, None where the truth does not tell people apart.
        task: What the classes are.
        num_sets: R, at most.
    """
    num = _affordable(num_sets, people)
    return {name: to_interval(values) for name, values in people_drawn(people, task, num_sets=num).items()}


def people_differences(
    people: People, baseline: People, task: Task, *, num_sets: int = NUM_SETS
) -> dict[str, Difference | None]:
    """Compare two models on the same images, in pairs.

    Args:
        people: Of each image.
        baseline: Of the same images in the same order.
        task: What the classes are.
        num_sets: R, at most.
    """
    if len(people) != len(baseline):
        raise ValueError(f"people of {len(people)} and {len(baseline)} images")
    num = min(_affordable(num_sets, several) for several in (people, baseline))
    ours, theirs = (people_drawn(several, task, num_sets=num) for several in (people, baseline))
    whole, before = (
        score_people([one for one in several if one is not None], task).values() for several in (people, baseline)
    )
    return {name: to_difference(whole[name] - before[name], ours[name] - theirs[name]) for name in whole}


def people_drawn(people: People, task: Task, *, num_sets: int) -> dict[str, Floats]:
    """Return every metric of every drawn set, (R,), by name."""
    if len(people) < 2:
        names = score_people([], task).values()
        return {name: np.full(num_sets, np.nan) for name in names}
    drawn_RN = np.concatenate(list(weights(len(people), num_sets)))
    edges = _edges(people, drawn_RN)
    ap_RKT = _average_precisions(people, drawn_RN, task.num_classes)
    half = OVERLAPS.index(0.5)
    mean_RT = _mean_present(ap_RKT[:, 1:])
    persons_RT = ap_RKT[:, PERSON]
    figures = {
        **edges,
        "ap_r": mean_RT.mean(-1),
        "ap_r50": mean_RT[:, half],
        "ap_p": persons_RT.mean(-1),
        "ap_p50": persons_RT[:, half],
    }
    for row, name in enumerate(task.classes[1:], start=1):
        figures |= {f"ap_r.{name}": ap_RKT[:, row].mean(-1), f"ap_r50.{name}": ap_RKT[:, row, half]}
    return figures


def _affordable(num_sets: int, people: People) -> int:
    num_parts = sum(len(one.parts.kinds) for one in people if one is not None)
    return min(num_sets, max(FEWEST_SETS, MOST_WORK // max(1, num_parts * len(OVERLAPS))))


def _edges(people: People, drawn_RN: Floats) -> dict[str, Floats]:
    nothing = np.zeros((len(FROM), NUM_COUNTS), np.int64)
    counts_NTC = np.stack([nothing if one is None else one.edges for one in people])
    total_RTC = np.tensordot(drawn_RN, counts_NTC.astype(np.float64), 1)
    each_RC = drawn_RN @ best_of_each(counts_NTC)
    right, predicted, found, true = np.moveaxis(total_RTC[:, FROM.index(AT)], -1, 0)
    there = predicted + true > 0
    f1_RT = f1_of(total_RTC)
    return {
        "edge_precision": np.where(there, right / np.maximum(predicted, 1), np.nan),
        "edge_recall": np.where(there, found / np.maximum(true, 1), np.nan),
        "edge_f1": f1_RT[:, FROM.index(AT)],
        "edge_ods": np.where(np.isnan(f1_RT).all(1), np.nan, np.nan_to_num(f1_RT, nan=-1.0).max(1)),
        "edge_ois": f1_of(each_RC),
    }


def _average_precisions(people: People, drawn_RN: Floats, num_classes: int) -> Floats:
    known = [(place, one.parts) for place, one in enumerate(people) if one is not None]
    ap_RKT = np.full((len(drawn_RN), num_classes, len(OVERLAPS)), np.nan)
    if not known:
        return ap_RKT
    images, kinds, scores, hits = (
        np.concatenate(several)
        for several in (
            [np.full(len(parts.kinds), place) for place, parts in known],
            *([getattr(parts, name) for _, parts in known] for name in ("kinds", "scores", "hits")),
        )
    )
    num_true_NK = np.stack([parts.num_true for _, parts in known])
    num_true_RK = drawn_RN[:, [place for place, _ in known]] @ num_true_NK
    for kind in range(num_classes):
        these = np.flatnonzero(kinds == kind)
        order = these[np.argsort(-scores[these], kind="stable")]
        right_DT = (hits[order, None] >> np.arange(len(OVERLAPS)) & 1).astype(np.float64)
        for rows in _bands(len(drawn_RN), right_DT.size):
            num_true_R = num_true_RK[rows, kind]
            area_RT = _areas(drawn_RN[rows][:, images[order]], right_DT)
            ap_RKT[rows, kind] = np.where(num_true_R > 0, area_RT.T / np.maximum(num_true_R, 1), np.nan).T
    return ap_RKT


def _areas(drawn_RD: Floats, right_DT: Floats) -> Floats:
    """Return the sum of the best precision at each right part or beyond, (R, T)."""
    right_RDT = drawn_RD[..., None] * right_DT
    rank_RD = np.maximum(drawn_RD.cumsum(1), 1)
    precision_RDT = right_RDT.cumsum(1) / rank_RD[..., None]
    best_RDT = np.maximum.accumulate(precision_RDT[:, ::-1], axis=1)[:, ::-1]
    area: Floats = (best_RDT * right_RDT).sum(1)
    return area


def _bands(num: int, size: int) -> Iterator[slice]:
    step = max(1, _AT_ONCE // max(1, size))
    for start in range(0, num, step):
        yield slice(start, start + step)


def _mean_present(ap_RKT: Floats) -> Floats:
    present_RK = ~np.isnan(ap_RKT[..., 0])
    total_RT = np.where(present_RK[..., None], ap_RKT, 0.0).sum(1)
    num_R = present_RK.sum(1)[:, None]
    mean: Floats = np.where(num_R > 0, total_RT / np.maximum(num_R, 1), np.nan)
    return mean
