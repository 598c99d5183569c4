"""Writing the prepared layout, which :mod:`seglab.data.manifest` describes."""

import errno
import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from seglab import files
from seglab.data.journal import Entry, Journal, read_head
from seglab.data.manifest import (
    FORMAT,
    IGNORE_NAME,
    Dataset,
    Sample,
    count_pixels,
    differences,
    is_sound,
    open_dataset,
)
from seglab.data.naming import SPLITS
from seglab.data.staging import StagedDir
from seglab.errors import DataError
from seglab.pipeline import ahead
from seglab.tasks import Task
from seglab.version import __version__

__all__ = ["DatasetWriter", "LinkMode"]

LinkMode = Literal["copy", "hard", "sym"]
"""How a photo that needs no change gets into a dataset: byte for byte, as the same file, or as a link to its path."""

NUM_SYNCING: Final = 8
"""Threads that wait for the disk."""


class DatasetWriter:
    """Builds a dataset beside its final name; it appears whole, or not at all.

    ::

        with DatasetWriter(dir, task, "synth", options) as writer:
            writer.add("0001", "train", image, labels)
            dataset = writer.finish()

    The folder ``.NAME.building`` is removed when the block ends without :meth:`finish`; what a kill left behind is
    removed by the next writer. A lock keeps a second writer out. With ``resume`` the folder outlives Ctrl-C and signals
    too, and a journal in it tells the next writer of the same dataset which samples it can :meth:`take_up`.

    Args:
        dir: Where the dataset will be. Nothing may be there but an empty folder.
        task: The label space of the labels.
        source: Where the data come from, in one word.
        options: Everything else that decides the content, as plain JSON values (see :func:`finished_dataset`).
        force: Replace a dataset that is there. A folder with anything else in it is never replaced.
        link: How photos given as paths get in. Nothing is ever written through a link.
        resume: Go on from what an interrupted writer of the same dataset left.
    """

    def __init__(
        self,
        dir: Path,
        task: Task,
        source: str,
        options: Mapping[str, Any],
        *,
        force: bool = False,
        link: LinkMode = "copy",
        resume: bool = False,
    ) -> None:
        if IGNORE_NAME in task.classes:
            raise DataError(f"task `{task.name}` calls a class `{IGNORE_NAME}`, the word for unlabelled pixels")
        self.dir = dir
        self.task = task
        self.source = source
        self.options = dict(options)
        self.link = link
        self.discarded: list[str] = []
        """What was made otherwise by the interrupted writer whose samples are of no use, if there was one."""
        reusable = self._is_continued if resume else None
        self._staged = StagedDir(dir, lambda there: _refuse_other_content(there, force), reusable=reusable)
        self._build_dir = self._staged.build_dir
        self._samples: dict[str, Sample] = {}
        self._num_bytes: dict[str, int] = {}
        self._guard = threading.Lock()
        self._resume = resume
        self._journal: Journal | None = None

    def __enter__(self) -> "DatasetWriter":
        with ExitStack() as stack:
            stack.enter_context(self._staged)
            for split in SPLITS:
                for kind in ("images", "labels"):
                    (self._build_dir / split / kind).mkdir(parents=True, exist_ok=True)
            if self._resume:
                self._journal = Journal(self._build_dir, self._made_with())
            stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._staged.__exit__(*error)  # type: ignore[arg-type]

    def add(
        self,
        id: str,
        split: str,
        image: NDArray[np.uint8] | Path,
        labels: NDArray[np.uint8],
        *,
        lossless: bool = False,
        people: NDArray[np.uint8] | None = None,
        memo: Mapping[str, Any] | None = None,
    ) -> Sample:
        """Write one sample. May be called from several threads.

        Args:
            id: A name that :func:`safe_id` leaves as it is.
            split: One of :data:`SPLITS`.
            image: Pixels (HWC uint8 RGB), or a JPEG or PNG that is copied byte for byte, or linked.
            labels: HW uint8 of the same height and width, class ids and 255.
            lossless: Write pixels as PNG instead of JPEG of quality 95.
            people: Who each pixel belongs to, where that is known: 0 nobody, 1.., 255 unknown; as large as the labels.
            memo: What :meth:`take_up` will return after an interruption, as plain JSON values.

        Raises:
            DataError: If the id is taken or unsafe, sizes differ, or a label is no class of the task.
        """
        from seglab.data.images import encode_labels

        height, width = labels.shape
        pixels = count_pixels(labels, self.task)
        suffix = _suffix(image) if isinstance(image, Path) else ".png" if lossless else ".jpg"
        sample = Sample(
            id, split, f"{split}/images/{id}{suffix}", f"{split}/labels/{id}.png", height, width, pixels,
            "" if people is None else f"{split}/people/{id}.png",
        )  # fmt: skip
        if not is_sound(sample) or (people is not None and people.shape != labels.shape):
            raise DataError(f"`{id}` in `{split}` is not a possible sample of {width}x{height}")
        self._count_in(sample)
        try:
            image_digest = self._write_image(sample, image)
            maps = [labels] if people is None else [labels, people]
            (self._build_dir / sample.paths[-1]).parent.mkdir(exist_ok=True)
            digests = [self._write(path, encode_labels(ids)) for path, ids in zip(sample.paths[1:], maps, strict=True)]
            if self._journal:
                self._journal.add(Entry(sample, (image_digest, *digests), memo or {}))
        except BaseException:
            self._samples.pop(id.casefold(), None)
            raise
        return sample

    def take_up(self, id: str, split: str, photo_path: Path) -> Mapping[str, Any] | None:
        """Count in a sample that an interrupted writer finished. May be called from several threads.

        Args:
            id: Of the sample.
            split: Where it belongs.
            photo_path: What the photo would be linked to.

        Returns:
            The memo of the sample; None if it is not there, or its files are not whole: then it has to be added.
        """
        entry = self._journal.find(id) if self._journal else None
        if entry is None or entry.sample.split != split:
            return None
        paths = entry.sample.paths
        for path in paths:
            self._move_back(path)
        if not entry.is_whole(self._build_dir, photo_path):
            for path in paths:
                (self._build_dir / path).unlink(missing_ok=True)
            return None
        self._count_in(entry.sample)
        return entry.memo

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
            image, label, *people = (f"{split}/{path.partition('/')[2]}" for path in sample.paths)
            moved = replace(sample, split=split, image=image, label=label, people=people[0] if people else "")
            for old, new in zip(sample.paths, moved.paths, strict=True):
                (self._build_dir / new).parent.mkdir(exist_ok=True)
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
        lines = b"".join(_line(sample) for sample in samples)
        digest = hashlib.sha256(lines).hexdigest()
        files.write_bytes(self._build_dir / "samples.jsonl", lines)
        self._remove_others()
        draft = Dataset(self._build_dir, self.task, self.source, self.options, tuple(samples), digest)
        self._check(draft)
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
        if self._journal:
            self._journal.remove()
        self._staged.publish()
        return open_dataset(self.dir)

    def _count_in(self, sample: Sample) -> None:
        with self._guard:
            if self._samples.setdefault(sample.id.casefold(), sample) is not sample:
                raise DataError(f"two samples are called `{sample.id}`")

    def _write_image(self, sample: Sample, image: NDArray[np.uint8] | Path) -> str | None:
        """Write a photo and return the digest of its file; None if it became a link."""
        from seglab.data.images import encode_jpeg, encode_png

        path = self._build_dir / sample.image
        if isinstance(image, Path):
            if self.link == "copy":
                files.write_bytes(path, data := image.read_bytes(), sync=False)
                return hashlib.sha256(data).hexdigest()
            self._link(image, path)
            return None
        if image.shape != (*sample.size_hw, 3):
            raise DataError(f"`{sample.id}`: photo {image.shape[:2]} and labels {sample.size_hw} differ in size")
        return self._write(sample.image, encode_png(image) if path.suffix == ".png" else encode_jpeg(image))

    def _write(self, path: str, data: bytes) -> str:
        """Write a file of the dataset and return the sha256 of its content."""
        files.write_bytes(self._build_dir / path, data, sync=False)
        self._num_bytes[_within_split(path)] = len(data)
        return hashlib.sha256(data).hexdigest()

    def _check(self, dataset: Dataset) -> None:
        """Wait for the disk and look at all files: nothing gets its name that was not written whole."""
        from seglab.data.images import read_size

        def check(sample: Sample) -> None:
            for path in sample.paths:
                place, num_bytes = dataset.dir / path, self._num_bytes.get(_within_split(path))
                if not place.is_symlink():
                    files.sync_file(place)
                if num_bytes is not None and place.stat().st_size != num_bytes:
                    raise DataError(f"`{place.name}` is not as long as it was written: the disk is not to be trusted")
                if num_bytes is None and read_size(place) != sample.size_hw:
                    size = f"{sample.width}x{sample.height}"
                    raise DataError(f"`{place.name}` is not {size} as added: the disk is not to be trusted")

        # At the end, when most has long been written, and side by side: one by one, waiting takes as long as the work.
        for _ in ahead(check, dataset.samples, workers=NUM_SYNCING):
            pass

    def _link(self, photo_path: Path, path: Path) -> None:
        with files.replacing(path, sync=False) as temporary_path:
            try:
                if self.link == "hard":
                    temporary_path.hardlink_to(photo_path.resolve())
                else:
                    temporary_path.symlink_to(photo_path.resolve())
            except OSError as error:
                other_disk = error.errno == errno.EXDEV
                reason = "they are on different file systems" if other_disk else error.strerror or str(error)
                message = f"`{photo_path}` cannot be linked into `{self.dir}` (--link {self.link}): {reason}"
                hint = "--link copy" if self.link == "sym" else "--link sym, or --link copy"
                raise DataError(message, hint) from error

    def _made_with(self) -> dict[str, Any]:
        """Return all that decides the content, as plain JSON values."""
        values = {**self.options, "source": self.source, "task": self.task.to_dict(), "seglab": __version__}
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain

    def _is_continued(self, build_dir: Path) -> bool:
        """Tell whether an interrupted writer was at work on the very same dataset, with the very same version."""
        head = read_head(build_dir)
        if head is not None:
            self.discarded = differences(head, self._made_with())
        return head is not None and not self.discarded

    def _move_back(self, path: str) -> None:
        """Bring a file to the split that the journal says, if :meth:`resplit` had moved it already."""
        place = self._build_dir / path
        for split in SPLITS:
            moved = self._build_dir / split / path.partition("/")[2]
            if moved.exists() and not place.exists():
                moved.rename(place)

    def _remove_others(self) -> None:
        """Remove what an interrupted writer left beside the samples: files that are not whole or of no sample."""
        ours = {path for sample in self._samples.values() for path in sample.paths}
        for path in self._build_dir.glob("*/*/*"):
            if path.relative_to(self._build_dir).as_posix() not in ours:
                path.unlink()
        for path in self._build_dir.glob(".*.part"):
            path.unlink()


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


_OWN_NAMES: Final = frozenset({"dataset.json", "samples.jsonl", "preview.jpg", *SPLITS})


def _refuse_other_content(dir: Path, force: bool) -> None:
    """Raise unless ``dir`` may be replaced: absent, empty, or with force a dataset and nothing else."""
    if not dir.exists():
        return
    if not dir.is_dir():
        raise DataError(f"`{dir}` is there and not a folder", "choose another place")
    content = sorted(path.name for path in dir.iterdir())
    content += sorted(path.name for split in SPLITS if (dir / split).is_dir() for path in (dir / split).iterdir())
    foreign = [name for name in content if name not in _OWN_NAMES | {"images", "labels", "people"}]
    if foreign:
        names = ", ".join(f"`{name}`" for name in foreign[:3]) + (" ..." if foreign[3:] else "")
        raise DataError(f"`{dir}` holds what no dataset does: {names}", "choose another place, or move that away")
    if content and not force:
        raise DataError(f"`{dir}` is there already", "choose another place, or replace it with --force")


def _line(sample: Sample) -> bytes:
    """Return a sample's line in the manifest; what it does not have is not in it."""
    values = {name: value for name, value in asdict(sample).items() if name != "people" or value}
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"


def _within_split(path: str) -> str:
    return path.partition("/")[2]


def _suffix(path: Path) -> str:
    """Return the suffix that belongs to the content of a JPEG or PNG, whatever its name."""
    with path.open("rb") as handle:
        start = handle.read(8)
    if start.startswith(b"\xff\xd8\xff"):
        return ".jpg"
    if start == b"\x89PNG\r\n\x1a\n":
        return ".png"
    raise DataError(f"`{path}` is neither JPEG nor PNG")
