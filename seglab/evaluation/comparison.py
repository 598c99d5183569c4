"""Evaluations side by side, on the images that they share."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from seglab.errors import DataError
from seglab.evaluation.bootstrap import Difference, differences, figures, shared
from seglab.evaluation.metrics import Counts
from seglab.evaluation.people import score_people
from seglab.evaluation.result import Evaluation
from seglab.tasks import Task

__all__ = ["Against", "against", "check_same_task", "check_shared", "selected", "totals"]


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
    num_other_truth: int = 0
    """Shared images with more or fewer true pixels of a class in the other one: not the same truth, or not its size."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "num_shared": self.num_shared,
            "num_images": self.num_images,
            "num_baseline": self.num_baseline,
            "num_other_truth": self.num_other_truth,
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
    check_same_task([evaluation.task, baseline.task])
    pairs = check_shared(evaluation.ids, baseline.ids)
    rows, others = zip(*pairs, strict=True)
    counts, before = _rows(evaluation.counts, rows), _rows(baseline.counts, others)
    num_other_truth = int((counts.tp + counts.fn != before.tp + before.fn).any(axis=1).sum())
    compared = differences(counts, before, evaluation.task)
    if evaluation.people is not None and baseline.people is not None:
        from seglab.evaluation.people_bootstrap import people_differences

        ours, theirs = [evaluation.people[row] for row in rows], [baseline.people[row] for row in others]
        compared |= people_differences(ours, theirs, evaluation.task)
    return Against(len(pairs), evaluation.num_images, baseline.num_images, compared, num_other_truth)


def check_shared(ids: Sequence[str], others: Sequence[str]) -> list[tuple[int, int]]:
    """Return the places of the ids that two evaluations share.

    Raises:
        DataError: If they are fewer than two.
    """
    pairs = shared(ids, others)
    if len(pairs) < 2:
        raise DataError(
            f"the evaluations share {len(pairs)} images of {len(ids)} and {len(others)}",
            "differences are told on the same images: evaluate both on one split",
        )
    return pairs


def selected(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Return the evaluations with the images that all of them share only, in one order; matrix and scores as before.

    How people are told apart is kept where all of them looked.

    Raises:
        DataError: If they are not of one task, or share no image.
    """
    check_same_task([one.task for one in evaluations])
    common = set(evaluations[0].ids).intersection(*(one.ids for one in evaluations[1:]))
    if not common:
        raise DataError("the evaluations share no image", "evaluate all on one split")
    order = sorted(common)
    kept, with_people = [], all(one.people is not None for one in evaluations)
    for one in evaluations:
        place = {name: row for row, name in enumerate(one.ids)}
        rows = [place[name] for name in order]
        people = tuple(one.people[row] for row in rows) if one.people is not None and with_people else None
        kept.append(Evaluation(one.task, one.matrix, one.scores, tuple(order), _rows(one.counts, rows), people=people))
    return kept


def totals(evaluation: Evaluation) -> dict[str, float]:
    """Return every figure of the images of an evaluation, by metric name; NaN where undefined."""
    whole = Counts(*(getattr(evaluation.counts, field.name).sum(0) for field in fields(Counts)))
    values = {name: float(value) for name, value in figures(whole, evaluation.task).items()}
    if evaluation.people is None:
        return values
    known = [image for image in evaluation.people if image is not None]
    return {**values, **score_people(known, evaluation.task).values()}


def _rows(counts: Counts, rows: Sequence[int]) -> Counts:
    return Counts(*(getattr(counts, field.name)[np.asarray(rows, np.intp)] for field in fields(Counts)))


def check_same_task(tasks: Sequence[Task]) -> None:
    """Make sure that tasks mean the same by their classes, regions and levels.

    Raises:
        DataError: If not.
    """
    first = tasks[0]
    for other in tasks[1:]:
        if (first.classes, first.regions, first.levels) != (other.classes, other.regions, other.levels):
            raise DataError(
                f"an evaluation of `{other.name}` cannot be compared with one of `{first.name}`:"
                " their classes, regions or levels differ",
                "evaluate both with the same `--task`",
            )
