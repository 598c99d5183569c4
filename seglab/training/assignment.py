"""What a session of training works on and with."""

from dataclasses import dataclass
from typing import Protocol

from seglab.data.manifest import Dataset
from seglab.device import Device
from seglab.tasks import Task
from seglab.training.distributed import ALONE, Team
from seglab.training.rundir import RunDir
from seglab.training.settings import RunSettings
from seglab.training.signals import StopRequest

__all__ = ["Assignment", "Watcher"]


class Watcher(Protocol):
    """Who follows a run. All texts are plain."""

    def note(self, text: str) -> None:
        """Take a line for the user."""

    def start(self, num_steps: int, done: int) -> None:
        """Learn how many steps there will be, and how many are done already."""

    def step(self, info: str) -> None:
        """Count a step; ``info`` says how things stand."""


@dataclass(frozen=True)
class Assignment:
    """What a session works on and with."""

    settings: RunSettings
    task: Task
    dataset: Dataset
    run: RunDir
    device: Device
    stop: StopRequest
    watcher: Watcher
    workers: int | None = None
    """Threads that make batches; None for as many as there are usable CPUs."""
    team: Team = ALONE
    """The processes that train together; only the first writes and speaks."""
    accept_noncommercial: bool = False
    """Start with weights that must not be used commercially, too."""
    cache: str = "auto"
    """Where decoded samples are kept: see :class:`seglab.data.samples.TrainingSamples`."""
