"""Evaluations side by side, on the images that they share."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from seglab.errors import DataError
from seglab.evaluation.bootstrap import Difference, differences, figures, shared
from seglab.evaluation.metrics import Counts
from seglab.evaluation.result import Evaluation

__all__ = ["Against", "against", "selected", "totals"]


@dataclass(frozen=True)
class Against:
    """How an evaluation differs from another one of the same images."""

    num_shared: int
    """Images that both scored; everything here is about those."""
    num_images: int
    """Images that the evaluation scored."""
    num_baseline: int
    """Images that the other one scored."""
    differences: dict[str, Difference | None]
    """By metric name; None where the metric is not defined."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "num_shared": self.num_shared,
            "num_images": self.num_images,
            "num_baseline": self.num_baseline,
            "differences": {
                name: None
                if entry is None
                else {
                    "difference": entry.difference,
                    "low": entry.low,
                    "high": entry.high,
                    "p": entry.p,
                    "significant": entry.significant,
                }
                for name, entry in self.differences.items()
            },
        }


def against(evaluation: Evaluation, baseline: Evaluation) -> Against:
    """Compare two evaluations image by image.

    Raises:
        DataError: If they mean different things by their classes and regions, or share fewer than two images.
    """
    _check_same_task([evaluation, baseline])
    pairs = shared(evaluation.ids, baseline.ids)
    if len(pairs) < 2:
        raise DataError(
            f"the evaluations share {len(pairs)} images of {evaluation.num_images} and {baseline.num_images}",
            "differences are told on the same images: evaluate both on one split",
        )
    rows, others = zip(*pairs, strict=True)
    compared = differences(_rows(evaluation.counts, rows), _rows(baseline.counts, others), evaluation.task)
    return Against(len(pairs), evaluation.num_images, baseline.num_images, compared)


def selected(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Return the evaluations with the images that all of them share only, in one order; matrix and failures as before.

    Raises:
        DataError: If they are not of one task, or share no image.
    """
    _check_same_task(evaluations)
    common = set(evaluations[0].ids).intersection(*(one.ids for one in evaluations[1:]))
    if not common:
        raise DataError("the evaluations share no image", "evaluate all on one split")
    order = sorted(common)
    kept = []
    for one in evaluations:
        place = {name: row for row, name in enumerate(one.ids)}
        counts = _rows(one.counts, [place[name] for name in order])
        kept.append(Evaluation(one.task, one.matrix, one.scores, tuple(order), counts))
    return kept


def totals(evaluation: Evaluation) -> dict[str, float]:
    """Return every figure of the images of an evaluation, by metric name; NaN where undefined."""
    whole = Counts(*(getattr(evaluation.counts, field.name).sum(0) for field in fields(Counts)))
    return {name: float(value) for name, value in figures(whole, evaluation.task).items()}


def _rows(counts: Counts, rows: Sequence[int]) -> Counts:
    return Counts(*(getattr(counts, field.name)[np.asarray(rows, np.intp)] for field in fields(Counts)))


def _check_same_task(evaluations: Sequence[Evaluation]) -> None:
    first = evaluations[0].task
    for other in (one.task for one in evaluations[1:]):
        if (first.classes, first.regions, first.levels) != (other.classes, other.regions, other.levels):
            raise DataError(
                f"an evaluation of `{other.name}` cannot be compared with one of `{first.name}`:"
                " their classes, regions or levels differ",
                "evaluate both with the same `--task`",
            )
