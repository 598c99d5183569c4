"""Writing the prepared layout, which :mod:`seglab.data.manifest` describes."""

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab import files
from seglab.data.manifest import FORMAT, IGNORE_NAME, Dataset, Sample, count_pixels, is_sound, open_dataset
from seglab.data.naming import SPLITS
from seglab.data.staging import StagedDir
from seglab.errors import DataError
from seglab.pipeline import ahead
from seglab.tasks import Task
from seglab.version import __version__

__all__ = ["DatasetWriter"]

NUM_SYNCING: Final = 8
"""Threads that wait for the disk."""


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
        if not is_sound(sample):
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


def _size(size_hw: Sequence[int]) -> str:
    return f"{size_hw[1]}x{size_hw[0]}"
