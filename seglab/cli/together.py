"""Evaluations that the processes of one torchrun share."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seglab.cli.scoring import Source
    from seglab.evaluation.result import Evaluation

__all__ = ["score_together", "was_launched_together"]


def was_launched_together() -> bool:
    """Tell whether torchrun started this process beside others, which can be met."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def score_together(source: "Source") -> "tuple[Evaluation, bool]":
    """Score this process's part, and put it together with those of the others.

    Args:
        source: Counts this process's part.

    Returns:
        The whole evaluation, the same in all processes, and whether this is the one that tells it.

    Raises:
        SeglabError: That of the first process that failed, in all of them.
    """
    from seglab.device import Device
    from seglab.evaluation.record import from_record, merge, to_record
    from seglab.training.distributed import join_team

    part: Evaluation | None = None
    with join_team(Device("cpu", None, "exchanges counts")) as team:
        with team.together():
            part = source.score()
        records = team.gather(None if part is None else to_record(part))
        return merge([from_record(record) for record in records if record is not None]), team.is_first
