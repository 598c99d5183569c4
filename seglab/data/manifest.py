"""The prepared layout: the one form of data that training and evaluation read.

::

    DIR/dataset.json      format, source, the whole task, options, counts, sha256 of samples.jsonl; written last
    DIR/samples.jsonl     {"id","split","image","label","height","width","pixels":{class: n}} a line, sorted by id
    DIR/{train,val,test}/images/<id>.jpg|png      RGB, upright
    DIR/{train,val,test}/labels/<id>.png          8-bit single channel, value = class id, 255 = ignore; as large as it
    DIR/preview.jpg       contact sheet with legend

Whoever finds a ``dataset.json`` has a whole dataset: :class:`DatasetWriter` builds it beside its final name, verifies
it and renames it.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab import files
from seglab.data.naming import SPLITS, assign_splits, safe_id
from seglab.data.staging import StagedDir
from seglab.errors import DataError, unknown
from seglab.pipeline import ahead
from seglab.tasks import IGNORE, Task
from seglab.version import __version__

__all__ = [
    "FORMAT",
    "IGNORE_NAME",
    "SPLITS",
    "Dataset",
    "DatasetWriter",
    "Sample",
    "assign_splits",
    "count_pixels",
    "finished_dataset",
    "open_dataset",
    "safe_id",
]

FORMAT: Final = 1
"""Number of the layout; a reader refuses a higher one."""

NUM_SYNCING: Final = 8
"""Threads that wait for the disk."""

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

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the photo and of its labels."""
        return self.height, self.width


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

    def verify(self, *, workers: int = 2) -> list[str]:
        """Read every file and return all contradictions to the manifest; an empty list is a sound dataset."""
        from seglab.data.verification import contradictions

        return contradictions(self, workers)


def open_dataset(dir: Path) -> Dataset:
    """Read the manifest of a dataset; the photos are not opened.

    Raises:
        DataError: If there is no finished dataset, it was changed by hand, or a newer seglab made it.
    """
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
        lines = (dir / "samples.jsonl").read_bytes()
    except OSError as error:
        raise DataError(f"cannot read `{dir / 'samples.jsonl'}`: {error.strerror}", redo) from error
    if hashlib.sha256(lines).hexdigest() != digest:
        raise DataError(f"`{dir / 'samples.jsonl'}` is not what `dataset.json` was written for", redo)
    samples = tuple(_read_samples(lines, task, dir))
    return Dataset(dir, task, source, options, samples, digest)


class DatasetWriter:
    """Builds a dataset beside its final name; it appears whole, or not at all.

    ::

        with DatasetWriter(dir, task, "synth", options) as writer:
            writer.add("0001", "train", image, labels)
            dataset = writer.finish()

    The folder ``.NAME.building`` is removed when the block ends without :meth:`finish`; what a kill left behind is
    removed by the next writer. A lock keeps a second writer out.

    Args:
        dir: Where the dataset will be. Nothing may be there but an empty folder.
        task: The label space of the labels.
        source: Where the data come from, in one word.
        options: Everything else that decides the content, as plain JSON values (see :func:`finished_dataset`).
        force: Replace a dataset that is there. A folder with anything else in it is never replaced.
    """

    def __init__(self, dir: Path, task: Task, source: str, options: Mapping[str, Any], *, force: bool = False) -> None:
        if IGNORE_NAME in task.classes:
            raise DataError(f"task `{task.name}` calls a class `{IGNORE_NAME}`, the word for unlabelled pixels")
        self.dir = dir
        self.task = task
        self.source = source
        self.options = dict(options)
        self._staged = StagedDir(dir, lambda there: _refuse_other_content(there, force))
        self._build_dir = self._staged.build_dir
        self._samples: dict[str, Sample] = {}
        self._guard = threading.Lock()

    def __enter__(self) -> "DatasetWriter":
        self._staged.__enter__()
        for split in SPLITS:
            for kind in ("images", "labels"):
                (self._build_dir / split / kind).mkdir(parents=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._staged.__exit__(*error)

    def add(
        self,
        id: str,
        split: str,
        image: NDArray[np.uint8] | Path,
        labels: NDArray[np.uint8],
        *,
        lossless: bool = False,
    ) -> Sample:
        """Write one sample. May be called from several threads.

        Args:
            id: A name that :func:`safe_id` leaves as it is.
            split: One of :data:`SPLITS`.
            image: Pixels (HWC uint8 RGB), or a JPEG or PNG that is copied byte for byte.
            labels: HW uint8 of the same height and width, class ids and 255.
            lossless: Write pixels as PNG instead of JPEG of quality 95.

        Raises:
            DataError: If the id is taken or unsafe, sizes differ, or a label is no class of the task.
        """
        from seglab.data.images import encode_png

        height, width = labels.shape
        pixels = count_pixels(labels, self.task)
        suffix = _suffix(image) if isinstance(image, Path) else ".png" if lossless else ".jpg"
        sample = Sample(id, split, f"{split}/images/{id}{suffix}", f"{split}/labels/{id}.png", height, width, pixels)
        if not _is_sound(sample):
            raise DataError(f"`{id}` in `{split}` is not a possible sample of {width}x{height}")
        with self._guard:
            if self._samples.setdefault(id.casefold(), sample) is not sample:
                raise DataError(f"two samples are called `{id}`")
        try:
            self._write_image(sample, image)
            files.write_bytes(self._build_dir / sample.label, encode_png(labels), sync=False)
        except BaseException:
            self._samples.pop(id.casefold(), None)
            raise
        return sample

    @property
    def ids(self) -> list[str]:
        """The ids added so far, sorted."""
        return sorted(sample.id for sample in self._samples.values())

    def resplit(self, splits: Mapping[str, str]) -> None:
        """Move all samples to the given splits, once all are added.

        Args:
            splits: A split for every id.
        """
        for key, sample in self._samples.items():
            split = splits[sample.id]
            image, label = (f"{split}/{path.partition('/')[2]}" for path in (sample.image, sample.label))
            moved = replace(sample, split=split, image=image, label=label)
            for old, new in ((sample.image, moved.image), (sample.label, moved.label)):
                (self._build_dir / old).rename(self._build_dir / new)
            self._samples[key] = moved

    def finish(self) -> Dataset:
        """Check the files, write the manifest and the preview, and give the dataset its name.

        Raises:
            DataError: If there is no sample, or a file is not what was added.
        """
        from seglab.data.preview import write_preview

        samples = sorted(self._samples.values(), key=lambda sample: sample.id)
        if not samples:
            raise DataError(f"there is nothing to put into `{self.dir}`")
        lines = b"".join(json.dumps(asdict(sample), ensure_ascii=False).encode() + b"\n" for sample in samples)
        digest = hashlib.sha256(lines).hexdigest()
        files.write_bytes(self._build_dir / "samples.jsonl", lines)
        draft = Dataset(self._build_dir, self.task, self.source, self.options, tuple(samples), digest)
        _check_sizes(draft)
        write_preview(draft, self._build_dir / "preview.jpg")
        head = {
            "format": FORMAT,
            "seglab": __version__,
            "source": self.source,
            "task": self.task.to_dict(),
            "options": self.options,
            "counts": _counts(samples, self.task),
            "samples_sha256": digest,
        }
        files.write_json(self._build_dir / "dataset.json", head)
        for folder in [self._build_dir, *self._build_dir.glob("*/*/")]:
            files.sync_dir(folder)
        self._staged.publish()
        return open_dataset(self.dir)

    def _write_image(self, sample: Sample, image: NDArray[np.uint8] | Path) -> None:
        from seglab.data.images import encode_jpeg, encode_png

        path = self._build_dir / sample.image
        if isinstance(image, Path):
            files.write_bytes(path, image.read_bytes(), sync=False)
        elif image.shape != (*sample.size_hw, 3):
            raise DataError(f"`{sample.id}`: photo {image.shape[:2]} and labels {sample.size_hw} differ in size")
        else:
            files.write_bytes(path, encode_png(image) if path.suffix == ".png" else encode_jpeg(image), sync=False)


def finished_dataset(dir: Path, task: Task, source: str, options: Mapping[str, Any]) -> Dataset | None:
    """Return the dataset at ``dir`` if it is the very one that would be made now; None if there is none.

    Raises:
        DataError: If a dataset is there that was made otherwise (the differences are named) or is damaged.
    """
    if not (dir / "dataset.json").exists():
        return None
    there = open_dataset(dir)
    plain = json.loads(json.dumps({**options, "source": source, "task": task.to_dict()}))
    made = {**there.options, "source": there.source, "task": there.task.to_dict()}
    changed = [
        f"`{name}` was {_brief(made.get(name))} and is now {_brief(plain.get(name))}"
        for name in sorted({*plain, *made})
        if made.get(name) != plain.get(name)
    ]
    if changed:
        message = f"`{dir}` is there already, made otherwise: " + "; ".join(changed)
        raise DataError(message, "choose another place, or replace it with --force")
    return there


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


def _counts(samples: Sequence[Sample], task: Task) -> dict[str, Any]:
    """Return per split the number of samples, of pixels a class, and of samples that show the class."""
    counts: dict[str, Any] = {}
    for split in SPLITS:
        of_split = [sample for sample in samples if sample.split == split]
        names = (*task.classes, IGNORE_NAME)
        counts[split] = {
            "samples": len(of_split),
            "pixels": {name: sum(sample.pixels[name] for sample in of_split) for name in names},
            "samples_with": {name: sum(sample.pixels[name] > 0 for sample in of_split) for name in names},
        }
    return counts


def _read_head(dir: Path) -> dict[str, Any]:
    path = dir / "dataset.json"
    try:
        head = json.loads(path.read_bytes())
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
            sample = Sample(**json.loads(line))
            sound = _is_sound(sample) and set(sample.pixels) == names and previous < sample.id
        except (TypeError, ValueError, AttributeError):
            sound = False
        if not sound:
            raise DataError(f"`{dir / 'samples.jsonl'}` line {number} is damaged", f"make `{dir}` again with --force")
        previous = sample.id
        yield sample


def _is_sound(sample: Sample) -> bool:
    """Tell whether the names follow from id and split; nothing else may be read through a manifest."""
    image, label = PurePosixPath(sample.image), f"{sample.split}/labels/{sample.id}.png"
    return (
        sample.split in SPLITS
        and safe_id(sample.id) == sample.id
        and image.suffix in (".jpg", ".png")
        and sample.image == f"{sample.split}/images/{sample.id}{image.suffix}"
        and sample.label == label
        and sum(sample.pixels.values()) == sample.height * sample.width > 0
    )


def _size(size_hw: Sequence[int]) -> str:
    return f"{size_hw[1]}x{size_hw[0]}"


_OWN_NAMES: Final = frozenset({"dataset.json", "samples.jsonl", "preview.jpg", *SPLITS})


def _refuse_other_content(dir: Path, force: bool) -> None:
    """Raise unless ``dir`` may be replaced: absent, empty, or with force a dataset and nothing else."""
    if not dir.exists():
        return
    if not dir.is_dir():
        raise DataError(f"`{dir}` is there and not a folder", "choose another place")
    content = sorted(path.name for path in dir.iterdir())
    content += sorted(path.name for split in SPLITS if (dir / split).is_dir() for path in (dir / split).iterdir())
    foreign = [name for name in content if name not in _OWN_NAMES | {"images", "labels"}]
    if foreign:
        names = ", ".join(f"`{name}`" for name in foreign[:3]) + (" ..." if foreign[3:] else "")
        raise DataError(f"`{dir}` holds what no dataset does: {names}", "choose another place, or move that away")
    if content and not force:
        raise DataError(f"`{dir}` is there already", "choose another place, or replace it with --force")


def _suffix(path: Path) -> str:
    """Return the suffix that belongs to the content of a JPEG or PNG, whatever its name."""
    with path.open("rb") as handle:
        start = handle.read(8)
    if start.startswith(b"\xff\xd8\xff"):
        return ".jpg"
    if start == b"\x89PNG\r\n\x1a\n":
        return ".png"
    raise DataError(f"`{path}` is neither JPEG nor PNG")


def _check_sizes(dataset: Dataset) -> None:
    """Wait for the disk and read the headers of all files: nothing gets its name that was not written whole."""
    from seglab.data.images import read_size

    def check(sample: Sample) -> None:
        for path in (dataset.image_path(sample), dataset.label_path(sample)):
            files.sync_file(path)
            if read_size(path) != sample.size_hw:
                raise DataError(f"`{path.name}` is not {_size(sample.size_hw)} as added: the disk is not to be trusted")

    # At the end, when most has long been written, and side by side: one by one the waiting takes as long as the work.
    for _ in ahead(check, dataset.samples, workers=NUM_SYNCING):
        pass


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text if len(text) <= 60 else text[:57] + '...'}`"
