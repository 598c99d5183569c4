"""Where data come from: one module a layout, all with the interface of :class:`Source`.

A new layout is a new module here and its name in :data:`SOURCES`. A source says which photo belongs to which labels and
how the labels are read; ids, splits, sizes, orientation, problems and writing are :mod:`seglab.data.prepare`'s.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast

from seglab.data.problems import Problem
from seglab.errors import DataError, unknown
from seglab.tasks import Rgb, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from seglab.data.diagnosis import Near

__all__ = [
    "SOURCES",
    "BadLabels",
    "BadRows",
    "Item",
    "LeftOut",
    "Outlines",
    "Scan",
    "Source",
    "SourceOptions",
    "UnknownLayout",
    "find_source",
    "other_layout",
    "recognise",
]

SOURCES: Final[Mapping[str, str]] = {
    "helen": "seglab.data.sources.helen",
    "pascal-part": "seglab.data.sources.pascal_part",
    "cihp-celebmaskhq-6class": "seglab.data.sources.cihp_celebmaskhq",
    "cihp": "seglab.data.sources.cihp",
    "celebamask-hq": "seglab.data.sources.celebamask",
    "lip": "seglab.data.sources.lip",
    "imaterialist": "seglab.data.sources.imaterialist",
    "coco": "seglab.data.sources.coco",
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


class BadRows(DataError):
    """Entries of a file of many photos' labels that mean nothing; each is a problem of its own."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{problem.path}: {problem.detail}" for problem in problems))
        self.problems = tuple(problems)


class LeftOut(DataError):
    """A pair is sound but none of the task's, such as a photo without people; the message says what it is."""


class UnknownLayout(DataError):
    """A folder that no source knows.

    Args:
        message: What it holds.
        hint: What to do.
        near: The nearest layouts and what they lack.
    """

    def __init__(self, message: str, hint: str, near: "tuple[Near, ...]") -> None:
        super().__init__(message, hint)
        self.near = near


class Outlines(Protocol):
    """Labels that are drawn at whatever size is asked for, instead of being resized."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the picture that was labelled."""

    @property
    def place(self) -> str:
        """Where in the label file they stand, such as ``line 7``."""

    def draw(self, size_hw: tuple[int, int]) -> "NDArray[np.uint8]":
        """Return HW class ids and 255 of that size."""


@dataclass(frozen=True)
class Item:
    """One photo and its labels."""

    name: str
    """Path of the photo without its suffix, relative to the photos' folder; distinct in the source."""
    photo_path: Path
    label_path: Path
    """The file that problems with the labels are reported against."""
    read_labels: Callable[[], "NDArray[np.uint8] | Outlines"]
    """Returns HW class ids and 255, or what draws them; called once, in any thread.

    Raises ImageError, :class:`BadLabels`, :class:`BadRows` or :class:`LeftOut`.
    """
    split: str | None = None
    """The source's own split; None for all items of a source that has none."""
    more_paths: tuple[Path, ...] = ()
    """The other files that the sample comes from, where it comes from more than photo and labels."""
    people_path: Path | None = None
    """A picture as large as the labels of who each pixel belongs to (0 nobody, 1..), where the source has one."""
    notes: list[str] = field(default_factory=list, compare=False)
    """What ``read_labels`` did that a person may want to know, in the same words for all of a kind; it fills this."""


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
    val: float = 0.1
    """Share of the validation split, for a source that has only training and test samples."""
    rules: str | None = None
    """One of the layout's ``RULES``, where it has several ways to understand its labels; None for the first."""
    size: int | None = None
    """Side of the square that everything will be stretched to; None if the shapes are kept."""


class Source(Protocol):
    """The interface of a module in this folder."""

    NAME: str
    """What ``--source`` is given."""
    TITLE: str
    """The layout in one line."""
    TASK: str | None
    """The task that the layout's labels are of, if it can only be one."""
    SIGNS: Sequence[Sequence[str]]
    """What each form of the layout needs, as patterns of paths below the folder, to tell what is missing."""

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
        UnknownLayout: If none does; it says what is there and what is missing.
    """
    for name in SOURCES:
        source = find_source(name)
        reason = source.recognise(raw_dir)
        if reason:
            return source, reason
    from seglab.data.diagnosis import diagnose

    raise diagnose(raw_dir)


def other_layout(raw_dir: Path, name: str) -> DataError:
    """Return the error for a folder that has not the layout that was asked for."""
    hint = f"it is {find_source(name).TITLE}; without --source the layout is recognised"
    return DataError(f"`{raw_dir}` is not the `{name}` layout", hint)
