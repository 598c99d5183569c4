"""An answer at the photo's own size: all that outputs are made of."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seglab.data.geometry import unfit_certainty
from seglab.inference.components import find_components
from seglab.inference.fidelity import SEGLAB, Road
from seglab.inference.flow import Answer
from seglab.inference.instances import Instances, find_instances
from seglab.inference.selection import EVERYTHING, Selection
from seglab.tasks import Task

__all__ = ["Labelled"]


@dataclass(frozen=True)
class Labelled:
    """An answer with its class ids at the photo's own size."""

    answer: Answer
    labels: NDArray[np.uint8]
    """HW class ids of the task, of which only the wanted ones are left."""
    task: Task
    selection: Selection = EVERYTHING
    place: Path = field(default_factory=Path)
    """The photo's place in the tree of inputs."""
    road: Road = SEGLAB
    """How the answer came from the grid."""

    @cached_property
    def classes(self) -> tuple[int, ...]:
        """The ids that are wanted, without the background."""
        return self.selection.classes(self.task)

    @cached_property
    def certainty(self) -> NDArray[np.float32]:
        """HW probability of the class that the network found likeliest."""
        return unfit_certainty(self.answer.logits_KHW, self.answer.placement)

    @cached_property
    def instances(self) -> Instances:
        """The people: by their outlines, for models that give edges, otherwise by what hangs together."""
        answer, task = self.answer, self.task
        if "edge" in answer.extras:
            return find_instances(answer.logits_KHW, answer.extras["edge"], answer.placement, self.labels, task)
        foreground = {task.index(name) for name in task.foreground}
        members = [index for index in self.classes if index in foreground] or list(self.classes)
        return find_components(self.labels, self.certainty, task, members)
