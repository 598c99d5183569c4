"""Several prepared datasets as one, for networks that learn from all of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from seglab.data.manifest import Dataset, Sample, finished_dataset, open_dataset
from seglab.data.naming import SPLITS, safe_id
from seglab.data.prepare import Progress
from seglab.data.writer import DatasetWriter, LinkMode
from seglab.errors import DataError, UsageError
from seglab.tasks import IGNORE, Task

__all__ = ["Joined", "join"]

T = TypeVar("T")

SOURCE: Final = "join"
"""What a joined dataset says that it was made by."""


@dataclass(frozen=True)
class Joined:
    """What :func:`join` did."""

    dataset: Dataset
    unchanged: bool
    """Whether the very same dataset was there already, so that nothing was done."""
    merged: dict[str, dict[str, str]]
    """By dataset, the class of the task for every class that is called otherwise."""

    @property
    def splits(self) -> dict[str, int]:
        """How many samples each split has."""
        counts = Counter(sample.split for sample in self.dataset.samples)
        return {split: counts[split] for split in SPLITS if counts[split]}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "dataset": str(self.dataset.dir),
            "digest": self.dataset.digest,
            "samples": len(self.dataset.samples),
            "splits": self.splits,
            "merged": self.merged,
            "unchanged": self.unchanged,
        }


@dataclass(frozen=True)
class _Part:
    name: str
    dataset: Dataset
    table: NDArray[np.uint8]
    """256 ids of the joined task."""
    merged: dict[str, str]


def join(
    data_dirs: Sequence[Path],
    out_dir: Path,
    *,
    task: Task | None = None,
    link: LinkMode = "copy",
    force: bool = False,
    progress: Callable[[int], AbstractContextManager[Progress]] | None = None,
) -> Joined:
    """Put prepared datasets together. Every sample stays in its split, and is called after its dataset.

    Classes are matched by name. Where the task has a single foreground class, any other class is a part of it: body
    parts and clothes are a person.

    Args:
        data_dirs: The datasets, at least two, in folders of different names. They are only read.
        out_dir: The new one.
        task: What its labels mean; by default the task that all of them share.
        link: How photos get in.
        force: Replace a dataset that is there.
        progress: Called with the number of samples; its ``advance`` is called for each.

    Raises:
        UsageError: If there are less than two datasets, two folders of one name, or datasets of different tasks and no
            task is given.
        DataError: If a dataset is none, has a class that the task has not, or something else is at ``out_dir``.
    """
    parts = _parts(data_dirs, out_dir, task)
    task = task or parts[0].dataset.task
    options = {"of": {part.name: part.dataset.digest for part in parts}}
    merged = {part.name: part.merged for part in parts if part.merged}
    there = None if force else finished_dataset(out_dir, task, SOURCE, options)
    if there is not None:
        return Joined(there, True, merged)
    work = [(part, sample) for part in parts for sample in part.dataset.samples]
    with (
        DatasetWriter(out_dir, task, SOURCE, options, force=force, link=link) as writer,
        progress(len(work)) if progress else nullcontext() as bar,
    ):
        for part, sample in work:
            _add(writer, part, sample)
            if bar:
                bar.advance()
        return Joined(writer.finish(), False, merged)


def _parts(data_dirs: Sequence[Path], out_dir: Path, task: Task | None) -> list[_Part]:
    if len(data_dirs) < 2:
        raise UsageError("joining takes at least two datasets")
    names = [safe_id(path.resolve().name) for path in data_dirs]
    twice = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if twice:
        raise UsageError(
            f"two of the datasets are called `{twice[0]}`", "samples are called after their dataset's folder"
        )
    for path in data_dirs:
        if out_dir.resolve().is_relative_to(path.resolve()):
            where = "is" if out_dir.resolve() == path.resolve() else "lies within"
            raise UsageError(f"`{out_dir}` {where} one of the datasets", "name another folder for the result")
    datasets = [open_dataset(path) for path in data_dirs]
    if task is None:
        other = next((each for each in datasets if not each.task.same_labels(datasets[0].task)), None)
        if other is not None:
            raise UsageError(
                f"`{data_dirs[0]}` has labels of `{datasets[0].task.name}`, `{other.dir}` of `{other.task.name}`",
                "`--task` says which of them, or which other task, the result is of",
            )
    parts = []
    for name, dataset in zip(names, datasets, strict=True):
        dataset.check_present()
        table, merged = _table(dataset, task or datasets[0].task)
        parts.append(_Part(name, dataset, table, merged))
    return parts


def _table(dataset: Dataset, task: Task) -> tuple[NDArray[np.uint8], dict[str, str]]:
    """Return what every id of a dataset is in a task, and which classes were given another name."""
    table = np.full(256, IGNORE, np.uint8)
    merged: dict[str, str] = {}
    strange: list[str] = []
    for id, name in enumerate(dataset.task.classes):
        own = name
        if name not in task.classes:
            own = task.classes[0] if id == 0 else task.foreground[0]
            if id and len(task.foreground) > 1:
                strange.append(f"`{name}`")
            merged[name] = own
        table[id] = task.index(own)
    if strange:
        raise DataError(
            f"`{dataset.dir}` has classes that task `{task.name}` has not: {', '.join(strange)}",
            f"it has {', '.join(f'`{name}`' for name in task.classes)}",
        )
    return table, merged


def _add(writer: DatasetWriter, part: _Part, sample: Sample) -> None:
    from seglab.data.images import read_labels, read_size

    people_path, photo_path = part.dataset.people_path(sample), part.dataset.image_path(sample)
    people = None if people_path is None else _read(read_labels, people_path)
    labels: NDArray[np.uint8] = part.table[_read(read_labels, part.dataset.label_path(sample))]
    height, width = _read(read_size, photo_path)
    if (height, width) != labels.shape:
        size = f"{labels.shape[1]}x{labels.shape[0]}"
        raise DataError(f"cannot join `{photo_path}`: {width}x{height}, but its labels are {size}")
    name = safe_id(f"{part.name}-{sample.id}")
    writer.add(name, sample.split, photo_path, labels, people=people)


def _read(read: Callable[[Path], T], path: Path) -> T:
    """Read a picture, and name it where that fails."""
    from seglab.data.images import ImageError

    try:
        return read(path)
    except ImageError as error:
        raise DataError(f"cannot join `{path}`: {error.message}", error.hint) from error
