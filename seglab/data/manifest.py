"""The prepared layout: the one form of data that training and evaluation read.

::

    DIR/dataset.json      format, source, the whole task, options, counts, sha256 of samples.jsonl; written last
    DIR/samples.jsonl     {"id","split","image","label","height","width","pixels":{class: n}} a line, sorted by id
    DIR/{train,val,test}/images/<id>.jpg|png      RGB, upright
    DIR/{train,val,test}/labels/<id>.png          8-bit single channel, value = class id, 255 = ignore; as large as it
    DIR/{train,val,test}/people/<id>.png          where known, the same with who each pixel belongs to: 0 nobody, 1..
    DIR/preview.jpg       contact sheet with legend

Whoever finds a ``dataset.json`` has a whole dataset: :class:`seglab.data.writer.DatasetWriter` builds it beside its
final name, verifies it and renames it.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.naming import SPLITS, assign_splits, safe_id
from seglab.errors import DataError, unknown
from seglab.notation import parse_json, read_given
from seglab.tasks import IGNORE, Task

__all__ = [
    "FORMAT",
    "IGNORE_NAME",
    "SPLITS",
    "Dataset",
    "Sample",
    "assign_splits",
    "count_pixels",
    "differences",
    "finished_dataset",
    "is_sound",
    "open_dataset",
    "safe_id",
    "variety",
]

FORMAT: Final = 1
"""Number of the layout; a reader refuses a higher one."""

IGNORE_NAME: Final = "ignore"
"""The key of unlabelled pixels among the pixel counts."""


@dataclass(frozen=True)
class Sample:
    """One photo with its labels."""

    id: str
    """Unique in the dataset, also where file names ignore case."""
    split: str
    """One of :data:`SPLITS`."""
    image: str
    """Path of the photo relative to the dataset, with forward slashes."""
    label: str
    """Path of the label PNG relative to the dataset."""
    height: int
    width: int
    pixels: Mapping[str, int]
    """Number of pixels of every class of the task, and of ``ignore``; the sum is height * width."""
    people: str = ""
    """Path of the PNG that tells people apart, relative to the dataset; empty if it is not known."""

    @property
    def paths(self) -> tuple[str, ...]:
        """All its files, relative to the dataset: photo, labels and, where known, people."""
        return (self.image, self.label, self.people) if self.people else (self.image, self.label)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the photo and of its labels."""
        return self.height, self.width


def variety(sample: Sample) -> tuple[int, str]:
    """Return what samples are sorted by for a look at them: those with the most classes first."""
    return -sum(num > 0 for num in sample.pixels.values()), sample.id


@dataclass(frozen=True)
class Dataset:
    """A finished dataset on disk. :func:`open_dataset` makes it."""

    dir: Path
    task: Task
    source: str
    """Name of the layout that it came from."""
    options: Mapping[str, Any]
    """What it was made with; another value makes another dataset."""
    samples: tuple[Sample, ...]
    """Sorted by id."""
    digest: str
    """sha256 of ``samples.jsonl``."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have samples."""
        present = {sample.split for sample in self.samples}
        return tuple(split for split in SPLITS if split in present)

    def split(self, name: str) -> list[Sample]:
        """Return the samples of a split, sorted by id.

        Raises:
            UsageError: If there is no split of that name.
            DataError: If the dataset has no sample in it.
        """
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
        samples = [sample for sample in self.samples if sample.split == name]
        if not samples:
            have = ", ".join(f"`{split}`" for split in self.splits)
            raise DataError(f"`{self.dir}` has no `{name}` samples", f"it has {have}; see `seglab prepare --help`")
        return samples

    def image_path(self, sample: Sample) -> Path:
        """Return where the photo of a sample lies."""
        return self.dir / sample.image

    def label_path(self, sample: Sample) -> Path:
        """Return where the labels of a sample lie."""
        return self.dir / sample.label

    def people_path(self, sample: Sample) -> Path | None:
        """Return where the ids of a sample's people lie; None if they are not known."""
        return self.dir / sample.people if sample.people else None

    def check_present(self) -> None:
        """Look for the files, without opening them.

        Raises:
            DataError: If some are gone, or are links to what is gone.
        """
        paths = [self.dir / path for sample in self.samples for path in sample.paths]
        gone = [path for path in paths if not path.exists()]
        if gone:
            why = " is a link to what is no longer there" if gone[0].is_symlink() else " is not there"
            message = f"`{self.dir}` lacks {len(gone)} of its {len(paths)} files: `{gone[0]}`{why}"
            raise DataError(message, "make it again with --force")

    def verify(self, *, workers: int = 2) -> list[str]:
        """Read every file and return all contradictions to the manifest; an empty list is a sound dataset."""
        from seglab.data.verification import contradictions

        return contradictions(self, workers)


def open_dataset(dir: Path) -> Dataset:
    """Read the manifest of a dataset; the photos are not opened.

    Raises:
        DataError: If there is no finished dataset, it was changed by hand, or a newer seglab made it.
    """
    if dir.is_file():
        raise DataError(f"`{dir}` is a file, not a prepared dataset", "name the folder that `seglab prepare` made")
    if not dir.is_dir():
        raise DataError(f"there is no dataset `{dir}`", f"make it with `seglab prepare RAW {dir} --task TASK`")
    head = _read_head(dir)
    redo = f"make `{dir}` again with --force"
    try:
        task = Task.from_dict(head["task"], where=f"{dir / 'dataset.json'}")
        source, options, digest = str(head["source"]), dict(head["options"]), str(head["samples_sha256"])
    except (KeyError, TypeError, ValueError, DataError) as error:
        raise DataError(f"`{dir / 'dataset.json'}` is damaged: {error}", redo) from error
    try:
        lines = read_given(dir / "samples.jsonl")
    except OSError as error:
        raise DataError(f"cannot read `{dir / 'samples.jsonl'}`: {error.strerror}", redo) from error
    if hashlib.sha256(lines).hexdigest() != digest:
        raise DataError(f"`{dir / 'samples.jsonl'}` is not what `dataset.json` was written for", redo)
    samples = tuple(_read_samples(lines, task, dir))
    _check_encodable(samples, dir)
    return Dataset(dir, task, source, options, samples, digest)


def finished_dataset(dir: Path, task: Task, source: str, options: Mapping[str, Any]) -> Dataset | None:
    """Return the dataset at ``dir`` if it is the very one that would be made now; None if there is none.

    Raises:
        DataError: If a dataset is there that was made otherwise (the differences are named) or is damaged.
    """
    if not (dir / "dataset.json").exists():
        return None
    there = open_dataset(dir)
    hint = "choose another folder, or replace it with --force"
    if there.source != source:
        samples = "1 sample" if len(there.samples) == 1 else f"{len(there.samples)} samples"
        what = f"source `{there.source}`, task `{there.task.name}`, {samples}"
        raise DataError(f"`{dir}` holds another dataset: {what}", hint)
    plain = json.loads(json.dumps({**options, "task": task.to_dict()}))
    changed = differences({**there.options, "task": there.task.to_dict()}, plain)
    if changed:
        raise DataError(f"`{dir}` is there already, made otherwise: " + "; ".join(changed), hint)
    return there


def differences(made: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe which options have another value, both as plain JSON values."""
    return [
        f"`{name}` {_change(made.get(name), now.get(name))}"
        for name in sorted({*now, *made})
        if made.get(name) != now.get(name)
    ]


def count_pixels(labels: NDArray[np.uint8], task: Task) -> dict[str, int]:
    """Count the pixels of every class, and of ``ignore``.

    Raises:
        DataError: If a label is neither a class id nor 255.
    """
    ids = dict(zip((*task.classes, IGNORE_NAME), (*range(task.num_classes), IGNORE), strict=True))
    pixels = {name: int(np.count_nonzero(labels == id)) for name, id in ids.items()}
    if sum(pixels.values()) < labels.size:
        foreign = sorted(set(np.unique(labels).tolist()) - set(ids.values()))
        values = ", ".join(map(str, foreign[:5]))
        raise DataError(f"labels hold {values}, but task `{task.name}` has ids 0..{task.num_classes - 1} and 255")
    return pixels


def _read_head(dir: Path) -> dict[str, Any]:
    path = dir / "dataset.json"
    try:
        head = parse_json(read_given(path))
    except FileNotFoundError:
        hint = f"make one with `seglab prepare {dir} OUT --task TASK` if these are photos and masks"
        raise DataError(f"`{dir}` is not a prepared dataset: it has no `dataset.json`", hint) from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read `{path}`: {error}", f"make `{dir}` again with --force") from error
    format = head.get("format") if isinstance(head, dict) else None
    if type(format) is not int or format < 1:
        raise DataError(f"`{path}` is not the head of a prepared dataset", "pass the folder that `seglab prepare` made")
    if format > FORMAT:
        message = f"`{dir}` has layout {format}, this seglab knows {FORMAT}: a newer one made it"
        raise DataError(message, "pip install --upgrade seglab")
    values: dict[str, Any] = head
    return values


def _read_samples(lines: bytes, task: Task, dir: Path) -> Iterator[Sample]:
    names = {*task.classes, IGNORE_NAME}
    previous = ""
    for number, line in enumerate(lines.splitlines(), 1):
        try:
            sample = Sample(**parse_json(line))
            sound = is_sound(sample) and set(sample.pixels) == names and previous < sample.id
        except (TypeError, ValueError, AttributeError):
            sound = False
        if not sound:
            raise DataError(f"`{dir / 'samples.jsonl'}` line {number} is damaged", f"make `{dir}` again with --force")
        previous = sample.id
        yield sample


def _check_encodable(samples: Iterable[Sample], dir: Path) -> None:
    """Refuse names that no path of this process can hold: its files would all seem to be gone."""
    for sample in samples:
        try:
            os.fsencode(sample.image)
        except UnicodeEncodeError:
            encoding = sys.getfilesystemencoding()
            raise DataError(
                f"`{dir}` has photos with names such as `{sample.id}`, which this locale cannot say in its encoding,"
                f" {encoding}",
                "`export PYTHONUTF8=1`, or a locale such as `LC_ALL=C.UTF-8`, and run the same command again",
            ) from None


def is_sound(sample: Sample) -> bool:
    """Tell whether the names follow from id and split; nothing else may be read through a manifest."""
    texts = (sample.id, sample.split, sample.image, sample.label, sample.people)
    numbers = (sample.height, sample.width, *sample.pixels.values())
    if not all(type(text) is str for text in texts) or not all(type(n) is int and 0 <= n < 2**53 for n in numbers):
        return False
    image, label = PurePosixPath(sample.image), f"{sample.split}/labels/{sample.id}.png"
    return (
        sample.split in SPLITS
        and safe_id(sample.id) == sample.id
        and image.suffix in (".jpg", ".png")
        and sample.image == f"{sample.split}/images/{sample.id}{image.suffix}"
        and sample.label == label
        and sample.people in ("", f"{sample.split}/people/{sample.id}.png")
        and sum(sample.pixels.values()) == sample.height * sample.width > 0
    )


def _change(before: Any, now: Any) -> str:
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return f"was {_brief(before)} and is now {_brief(now)}"
    if before.get("name") != now.get("name"):
        return f"was `{before.get('name')}` and is now `{now.get('name')}`"
    named = {
        "with": now.keys() - before.keys(),
        "without": before.keys() - now.keys(),
        "with another": {name for name in now.keys() & before.keys() if now[name] != before[name]},
    }
    shares = [f"{word} {', '.join(f'`{name}`' for name in sorted(names))}" for word, names in named.items() if names]
    return f"is now {', '.join(shares)}"


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text if len(text) <= 60 else text[:57] + '...'}`"
