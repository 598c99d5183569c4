"""Validation by a team: each process scores a part of the split, and the counts add up."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from seglab.errors import DataError
from seglab.evaluation.evaluate import evaluate
from seglab.evaluation.metrics import Scores, summarize
from seglab.evaluation.result import Evaluation, Failure
from seglab.inference.predictor import Predictor
from seglab.shards import Shard
from seglab.training.assignment import Assignment
from seglab.training.distributed import Accord, Team
from seglab.training.signals import StopRequest

__all__ = ["Validation", "add_up", "validate"]


@dataclass(frozen=True)
class Validation:
    """The scores of a split, and the images of it that could not be scored."""

    scores: Scores
    failures: Sequence[Failure]


def validate(predictor: Predictor, job: Assignment, split: str, accord: Accord) -> Validation | None:
    """Score a split, each process a part of it.

    Args:
        predictor: The weights to score.
        job: The data, the team, and the signals.
        split: The split.
        accord: Renewed afterwards.

    Returns:
        What all found; None if a signal arrived.

    Raises:
        DataError: If no process could score an image.
    """
    team, part = job.team, None
    shard = Shard(team.rank + 1, team.size)
    with team.together(), contextlib.suppress(_Stopped):
        part = evaluate(predictor, job.dataset, split, task=job.task, shard=shard, progress=_raising_on(job.stop))
    accord.renew()
    return None if part is None or (team.size > 1 and accord.must_stop) else add_up(part, team)


def add_up(part: Evaluation, team: Team) -> Validation:
    """Return what all processes found, from the parts that each of them evaluated.

    The confusion matrices are added once, as whole numbers, so the scores are exactly those of a single process.

    Raises:
        DataError: If no process could score an image.
    """
    if team.size == 1:
        return Validation(part.scores, part.failures)
    others = [part.scores.num_ignored, part.num_images, len(part.failures)]
    *cells, num_ignored, num_images, num_failures = team.sum(
        torch.from_numpy(np.append(part.matrix.ravel(), others).astype(np.int64))
    ).tolist()
    failures: list[Failure] = []
    if num_failures:
        gathered = team.gather([[failure.id, failure.reason] for failure in part.failures])
        failures = sorted((Failure(*each) for named in gathered for each in named), key=lambda failure: failure.id)
    error = DataError(f"none of {num_failures} images could be scored", "prepare the dataset again")
    team.meet(None if num_images else error)
    matrix = np.array(cells, np.int64).reshape(part.matrix.shape)
    return Validation(summarize(matrix, part.task, num_ignored=num_ignored), failures)


class _Stopped(Exception):
    """A signal arrived during validation."""


def _raising_on(stop: StopRequest) -> Callable[[int], None]:
    def check(_count: int) -> None:
        if stop:
            raise _Stopped

    return check
