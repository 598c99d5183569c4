"""How well people are told apart: their outlines, and the parts of each.

Scored are the images whose truth tells people apart. Outlines are compared on a picture whose longer side has at most
:data:`seglab.inference.instances.WORKING_SIDE` pixels, on which people are told apart; parts at the size at which
everything else is compared.

Where a model finds people without their outlines, or only their ids are there, the outlines are those of the ids, and
all probabilities are 0 or 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.errors import DataError
from seglab.evaluation.parts import OVERLAPS, PERSON, ImageParts, average_precisions, match_parts
from seglab.notation import null_if_nan
from seglab.tasks import Task

__all__ = [
    "HEADLINE",
    "Found",
    "ImagePeople",
    "KindScore",
    "PeopleScores",
    "compare_people",
    "people_metrics",
    "score_people",
]

HEADLINE: Final = (
    "edge_precision", "edge_recall", "edge_f1", "edge_ods", "edge_ois", "ap_r", "ap_r50", "ap_p", "ap_p50",
)  # fmt: skip
"""The figures of all images, by metric name."""
_HALF: Final = OVERLAPS.index(0.5)

Uint8 = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """The people that were found in a picture."""

    ids: NDArray[np.uint16]
    """HW: 0 nobody, 1.."""
    scores: Mapping[tuple[int, int], float]
    """By (person, class), and by (person, :data:`seglab.evaluation.parts.PERSON`) of whole persons."""
    edges: NDArray[np.float32] | None = None
    """Probabilities of outlines, as large as people are told apart on; without them outlines are those of the ids."""


@dataclass(frozen=True)
class ImagePeople:
    """What is kept of an image."""

    edges: NDArray[np.int64]
    """As :func:`seglab.evaluation.edges.count_edges` returns them."""
    parts: ImageParts

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; :meth:`from_dict` is the inverse."""
        parts = self.parts
        rows = zip(parts.kinds.tolist(), parts.scores.tolist(), parts.hits.tolist(), strict=True)
        return {"edges": self.edges.tolist(), "parts": [list(row) for row in rows], "num_true": parts.num_true.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], num_classes: int) -> "ImagePeople":
        """Read what :meth:`to_dict` returned.

        Raises:
            ValueError: If it is no such thing.
        """
        from seglab.evaluation.edges import FROM, NUM_COUNTS

        rows = np.array(values["parts"], np.float64).reshape(-1, 3)
        kinds, hits = (_whole(rows[:, column]) for column in (0, 2))
        edges, num_true = (_whole(np.array(values[name], np.float64)) for name in ("edges", "num_true"))
        if edges.shape != (len(FROM), NUM_COUNTS) or num_true.shape != (num_classes,):
            raise ValueError(f"expected counts of {len(FROM)} x {NUM_COUNTS} and {num_classes}")
        if kinds.max(initial=0) >= num_classes or hits.max(initial=0) >> len(OVERLAPS) or not np.isfinite(rows).all():
            raise ValueError("a part of a class that there is not")
        return cls(edges, ImageParts(kinds, rows[:, 1].copy(), hits, num_true))


@dataclass(frozen=True)
class KindScore:
    """Average precision of the parts of a class; NaN where the truth has none."""

    name: str
    ap_r: float
    """Mean over the overlaps 0.1..0.9."""
    ap_r50: float
    num_true: int
    num_found: int


@dataclass(frozen=True)
class PeopleScores:
    """How well people are told apart. All 0..1; NaN where undefined."""

    edge_precision: float
    edge_recall: float
    edge_f1: float
    edge_ods: float
    edge_ods_from: float
    edge_ois: float
    ap_r: float
    """AP^r of part instances: mean over the overlaps 0.1..0.9 and over the classes that the truth has."""
    ap_r50: float
    ap_p: float
    """AP^p of persons: mean over the overlaps 0.1..0.9."""
    ap_p50: float
    ap_r_at: tuple[float, ...]
    """At each of the overlaps."""
    ap_p_at: tuple[float, ...]
    classes: tuple[KindScore, ...]
    """All but the background."""
    num_images: int
    """Images whose truth tells people apart."""
    num_true: int
    """People there."""
    num_found: int
    """People found there."""

    def values(self) -> dict[str, float]:
        """Return every figure by metric name."""
        figures = {name: getattr(self, name) for name in HEADLINE}
        for kind in self.classes:
            figures |= {f"ap_r.{kind.name}": kind.ap_r, f"ap_r50.{kind.name}": kind.ap_r50}
        return figures

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, undefined scores as None."""
        names = ("name", "ap_r", "ap_r50", "num_true", "num_found")
        return {
            **{name: null_if_nan(getattr(self, name)) for name in HEADLINE},
            "edge_ods_from": self.edge_ods_from,
            "overlaps": list(OVERLAPS),
            "ap_r_at": [null_if_nan(score) for score in self.ap_r_at],
            "ap_p_at": [null_if_nan(score) for score in self.ap_p_at],
            "classes": {
                kind.name: {name: null_if_nan(getattr(kind, name)) for name in names[1:]} for kind in self.classes
            },
            "num_images": self.num_images,
            "num_true": self.num_true,
            "num_found": self.num_found,
        }


def people_metrics(task: Task) -> tuple[str, ...]:
    """Return the metric names of :meth:`PeopleScores.values`."""
    return (*HEADLINE, *(f"{measure}.{name}" for name in task.classes[1:] for measure in ("ap_r", "ap_r50")))


def compare_people(truth: Uint8, people: Uint8, prediction: Uint8, found: Found, task: Task) -> ImagePeople:
    """Count one image.

    Args:
        truth: HW class ids; 255 is unknown.
        people: HW ids of people; 0 is nobody, 255 unknown.
        prediction: HW class ids.
        found: The people found.
        task: What the ids mean.

    Raises:
        DataError: If the sizes differ.
    """
    from seglab.data.edges import edges_from_labels
    from seglab.data.images import resize_labels
    from seglab.evaluation.edges import count_edges
    from seglab.inference.instances import resize_ids, working_hw

    for what, picture in (("people of the truth", people), ("people found", found.ids)):
        if picture.shape != truth.shape:
            raise DataError(f"the {what} are {_size(picture)}, but the truth is {_size(truth)}")
    parts = match_parts(truth, people, prediction, found.ids, found.scores, task.num_classes)
    size_hw = working_hw((truth.shape[0], truth.shape[1]))
    edges = edges_from_labels(resize_labels(people, size_hw))
    probs = _outlines(resize_ids(found.ids, size_hw)) if found.edges is None else found.edges
    return ImagePeople(count_edges(edges, probs), parts)


def score_people(images: Sequence[ImagePeople], task: Task) -> PeopleScores:
    """Score images; of equal scores of parts the earlier image goes first."""
    from seglab.evaluation.edges import FROM, NUM_COUNTS, score_edges

    counts = [image.edges for image in images]
    edge = score_edges(np.stack(counts) if counts else np.zeros((0, len(FROM), NUM_COUNTS), np.int64))
    parts, num_classes = [image.parts for image in images], task.num_classes
    ap_KT = average_precisions(parts, num_classes)
    true_K = np.sum([one.num_true for one in parts], axis=0) if parts else np.zeros(num_classes, np.int64)
    kinds = np.concatenate([one.kinds for one in parts]) if parts else np.zeros(0, np.int64)
    found_K = np.bincount(kinds, minlength=num_classes)
    ap_r_T, ap_p_T = _mean_of_present(ap_KT[1:]), ap_KT[PERSON]
    classes = [
        KindScore(name, float(ap_KT[row].mean()), float(ap_KT[row, _HALF]), int(true_K[row]), int(found_K[row]))
        for row, name in enumerate(task.classes)
    ]
    return PeopleScores(
        edge_precision=edge.precision,
        edge_recall=edge.recall,
        edge_f1=edge.f1,
        edge_ods=edge.ods,
        edge_ods_from=edge.ods_from,
        edge_ois=edge.ois,
        ap_r=float(ap_r_T.mean()),
        ap_r50=float(ap_r_T[_HALF]),
        ap_p=float(ap_p_T.mean()),
        ap_p50=float(ap_p_T[_HALF]),
        ap_r_at=tuple(map(float, ap_r_T)),
        ap_p_at=tuple(map(float, ap_p_T)),
        classes=tuple(classes[1:]),
        num_images=len(images),
        num_true=int(true_K[PERSON]),
        num_found=int(found_K[PERSON]),
    )


def _mean_of_present(ap_KT: Floats) -> Floats:
    present = ~np.isnan(ap_KT[:, 0])
    mean: Floats = ap_KT[present].mean(0) if present.any() else np.full(ap_KT.shape[1], np.nan)
    return mean


def _outlines(ids: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return 1 where the neighbourhood of a pixel has more than one id, as in the truth."""
    padded = np.pad(ids, 1, mode="edge")
    height, width = ids.shape
    views = [padded[top : top + height, left : left + width] for top in range(3) for left in range(3)]
    differs = np.zeros(ids.shape, bool)
    for view in views:
        differs |= view != ids
    return differs.astype(np.float32)


def _whole(values: Floats) -> NDArray[np.int64]:
    if not np.isfinite(values).all() or (values != np.floor(values)).any() or values.min(initial=0) < 0:
        raise ValueError("expected whole numbers")
    return values.astype(np.int64)


def _size(picture: NDArray[Any]) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"
