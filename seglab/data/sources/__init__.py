"""Where data come from: one module a layout, all with the interface of :class:`Source`.

A new layout is a new module here and its name in :data:`SOURCES`. A source says which photo belongs to which labels and
how the labels are read; ids, splits, sizes, orientation, problems and writing are :mod:`seglab.data.prepare`'s.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from seglab.data.problems import Problem
from seglab.errors import DataError, unknown
from seglab.tasks import Rgb, Task

__all__ = ["SOURCES", "BadLabels", "Item", "Scan", "Source", "SourceOptions", "find_source", "recognise"]

SOURCES: Final[Mapping[str, str]] = {
    "human-segmentation": "seglab.data.sources.human_segmentation",
    "folders": "seglab.data.sources.folders",
}
"""Name and module of every layout, in the order in which they are tried; the general ones come last."""


class BadLabels(DataError):
    """Labels that can be read, but do not mean anything in the task."""

    def __init__(self, kind: str, values: Mapping[str, int]) -> None:
        shown = [f"{value} ({num} px)" for value, num in list(values.items())[:5]] + ["..."] * (len(values) > 5)
        super().__init__(", ".join(shown))
        self.kind = kind
        self.values = values


@dataclass(frozen=True)
class Item:
    """One photo and its labels."""

    name: str
    """Path of the photo without its suffix, relative to the photos' folder; distinct in the source."""
    photo_path: Path
    label_path: Path
    """The file that problems with the labels are reported against."""
    read_labels: Callable[[], NDArray[np.uint8]]
    """Returns HW class ids and 255; called once, in any thread. Raises ImageError or :class:`BadLabels`."""
    split: str | None = None
    """The source's own split; None for all items of a source that has none."""


@dataclass(frozen=True)
class Scan:
    """What a source has."""

    items: list[Item]
    problems: list[Problem] = field(default_factory=list)
    """What could not be paired."""
    remarks: list[str] = field(default_factory=list)
    """How the source was understood, for the user to check."""


@dataclass(frozen=True)
class SourceOptions:
    """What a source is told."""

    task: Task
    colours: Mapping[Rgb, int] | None = None
    """Declared meaning of the colours in colour masks: class id or 255."""


class Source(Protocol):
    """The interface of a module in this folder."""

    NAME: str
    """What ``--source`` is given."""
    TITLE: str
    """The layout in one line."""
    TASK: str | None
    """The task that the layout's labels are of, if it can only be one."""

    def recognise(self, raw_dir: Path) -> str | None:
        """Say in a few words what gives the layout away, or return None."""

    def scan(self, raw_dir: Path, options: SourceOptions) -> Scan:
        """Pair the photos with their labels without opening the photos.

        Raises:
            DataError: If the folder does not have the layout, or the task cannot be its.
        """


def find_source(name: str) -> Source:
    """Return a layout's module.

    Raises:
        UsageError: If there is none of that name.
    """
    if name not in SOURCES:
        raise unknown("source", name, SOURCES)
    return cast(Source, importlib.import_module(SOURCES[name]))


def recognise(raw_dir: Path) -> tuple[Source, str]:
    """Return the first layout that knows the folder as its own, and why.

    Raises:
        DataError: If none does; the hint describes what is known.
    """
    for name in SOURCES:
        source = find_source(name)
        reason = source.recognise(raw_dir)
        if reason:
            return source, reason
    known = "; ".join(f"{name}: {find_source(name).TITLE}" for name in SOURCES)
    raise DataError(f"`{raw_dir}` has no layout that seglab knows", f"known layouts: {known}")
