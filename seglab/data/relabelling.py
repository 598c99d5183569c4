"""From the ids of somebody's class list to the ids of a task: by name, never by number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.problems import FOREIGN_IDS
from seglab.data.sources import SOURCES, BadLabels, find_source
from seglab.errors import DataError
from seglab.tasks import IGNORE, Task

__all__ = ["UNLABELLED", "Relabelling", "relabelling"]

UNLABELLED: Final = "ignore"
"""The name, in a merge, of what no class of the task is."""


@dataclass(frozen=True)
class Relabelling:
    """What every id of a source is in a task."""

    table: NDArray[np.uint8]
    """256 ids of the task; 255 stays 255."""
    num_ids: int
    """Ids from here to 254 mean nothing."""
    remark: str = ""
    """What the user should know about it."""

    def __call__(self, ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the labels of HW ids.

        Raises:
            BadLabels: If an id means nothing.
        """
        counts = np.bincount(ids.ravel(), minlength=256)
        foreign = {str(id): int(counts[id]) for id in range(self.num_ids, IGNORE) if counts[id]}
        if foreign:
            raise BadLabels(FOREIGN_IDS, foreign)
        labels: NDArray[np.uint8] = self.table[ids]
        return labels

    def read(self, path: Path, _notes: list[str]) -> NDArray[np.uint8]:
        """Return the labels of a picture of ids.

        Raises:
            ImageError: If it is none.
            BadLabels: If an id means nothing.
        """
        from seglab.data.images import read_labels

        return self(read_labels(path))


def relabelling(source: str, names: Sequence[str], task: Task, merges: Sequence[Mapping[str, str]] = ()) -> Relabelling:
    """Choose how a class list becomes a task's.

    Args:
        source: Name of the layout, for the error.
        names: The source's classes; the position is the id.
        task: The task wanted.
        merges: Ways to merge the classes: the name in a task, or :data:`UNLABELLED`, of every name. The first that
            yields classes of the task only is taken; the last resort are the source's own names.

    Raises:
        DataError: If the source's classes are none of the task's.
    """
    ways = [*merges, {name: name for name in names}]
    for way in ways:
        wanted = {way[name] for name in names} - {UNLABELLED}
        if wanted <= set(task.classes):
            table = np.full(256, IGNORE, np.uint8)
            for id, name in enumerate(names):
                if way[name] != UNLABELLED:
                    table[id] = task.classes.index(way[name])
            return Relabelling(table, len(names), _remark(names, way, task, wanted))
    known = "; or ".join(
        ", ".join(dict.fromkeys(way[name] for name in names if way[name] != UNLABELLED)) for way in ways
    )
    own = find_source(source).TASK if source in SOURCES else None
    remedy = f"leave --task out, it is `{own}`" if own else "choose another --task"
    raise DataError(f"`{source}` has no labels for task `{task.name}`", f"{remedy}; its classes are {known}")


def _remark(names: Sequence[str], way: Mapping[str, str], task: Task, wanted: set[str]) -> str:
    left = [name for name in names if way[name] == UNLABELLED]
    parts = [f"ignored: {', '.join(left)}"] if left else []
    never = [name for name in task.classes if name not in wanted]
    parts += [f"the source never shows: {', '.join(never)}"] if never else []
    return "; ".join(parts)
