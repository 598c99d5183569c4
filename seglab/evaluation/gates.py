"""Bars that scores have to reach, for cron and CI: ``miou=0.6``."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from seglab.errors import UsageError, unknown
from seglab.evaluation.metrics import Scores, metric_names, value
from seglab.tasks import Task

__all__ = ["Gate", "check_gates", "parse_gates"]


@dataclass(frozen=True)
class Gate:
    """A bar and the score that was held against it."""

    metric: str
    at_least: float
    value: float | None
    """None if the score is undefined, which reaches no bar."""

    @property
    def passed(self) -> bool:
        """Whether the score is defined and not below the bar."""
        return self.value is not None and self.value >= self.at_least


def parse_gates(texts: Iterable[str], task: Task, *, outlines: bool = False, people: bool = False) -> dict[str, float]:
    """Read ``NAME=VALUE`` texts into bars by metric name; of two for a metric the last holds.

    Args:
        texts: The bars.
        task: What is scored.
        outlines: Whether outlines are scored too.
        people: Whether it is scored how people are told apart.

    Raises:
        UsageError: If the task has no such metric, or the value is not a number within 0..1.
    """
    known = metric_names(task, outlines=outlines, people=people)
    gates = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in known:
            raise unknown(f"metric of task `{task.name}`", name, known)
        try:
            bar = float(number)
        except ValueError:
            bar = math.nan
        if not 0 <= bar <= 1:
            raise UsageError(f"`{text}` does not set a bar within 0..1", f"write `{name}=0.6`")
        gates[name] = bar
    return gates


def check_gates(scores: Scores, gates: Mapping[str, float]) -> list[Gate]:
    """Hold scores against bars, in their order."""
    return [Gate(name, bar, value(scores, name)) for name, bar in gates.items()]
