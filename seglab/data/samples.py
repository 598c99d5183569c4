"""The samples of a split as training needs them: decoded, and not much larger than the model's grid."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from seglab.data.fetching.places import cache_dir
from seglab.data.geometry import place
from seglab.data.images import read_labels, read_photo, resize_image, resize_labels
from seglab.data.sample_cache import open_cache
from seglab.errors import DataError
from seglab.preprocess import Preprocess
from seglab.tasks import IGNORE
from seglab.version import __version__

if TYPE_CHECKING:
    from seglab.data.manifest import Dataset, Sample
    from seglab.tasks import Task

__all__ = ["TrainingSamples"]

Pixels = npt.NDArray[np.uint8]

MARGIN: Final = 1.5
"""Samples are kept this much larger than they lie on the grid, for views that zoom in."""
FORMAT: Final = 1
"""Number of what is kept of a sample; another is not read."""


class TrainingSamples:
    """The samples of a split: decoded, and shrunk to :data:`MARGIN` times the grid.

    They are kept after the first use, see :func:`seglab.data.sample_cache.open_cache`. What is returned does not depend
    on that.

    Args:
        dataset: A prepared dataset.
        split: The name of a split.
        preprocess: The model's grid.
        cache: Where to keep them: ``auto``, ``ram``, ``disk`` or ``none``.
        cache_bytes: The most memory to use; by default what is free decides.
        edges: Whether batches shall have outlines.
        say: Takes a line for the user.

    Raises:
        DataError: If the split is empty.
        UsageError: If ``cache`` is something else.
    """

    def __init__(
        self,
        dataset: "Dataset",
        split: str,
        preprocess: Preprocess,
        *,
        cache: str = "auto",
        cache_bytes: int | None = None,
        edges: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.dataset = dataset
        self.preprocess = preprocess
        self.edges = edges
        self.samples: Sequence[Sample] = dataset.split(split)
        self._kept_hw = [_kept_hw(sample.size_hw, preprocess) for sample in self.samples]
        sizes = [
            (4 + self._has_people(sample)) * height * width
            for sample, (height, width) in zip(self.samples, self._kept_hw, strict=True)
        ]
        self._cache = open_cache(cache, sizes, self._disk_dir, memory_bytes=cache_bytes, say=say)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def kept_in(self) -> str:
        """Where samples are kept after their first use: ``ram``, ``disk`` or ``none``."""
        return self._cache.name

    def load(self, index: int) -> tuple[Pixels, Pixels]:
        """Return the photo (HWC uint8 RGB) and labels (HW uint8) of a sample. They must not be changed.

        May be called from several threads.

        Raises:
            DataError: If a file cannot be read, both differ in size, or a label is no class; the file is named.
        """
        image, labels, _ = self.load_all(index)
        return image, labels

    def load_all(self, index: int) -> tuple[Pixels, Pixels, Pixels | None]:
        """Return photo, labels, and who each pixel belongs to (HW uint8) if that is known and there shall be outlines.

        They must not be changed. May be called from several threads.

        Raises:
            DataError: If a file cannot be read, or they differ in size; it is named.
        """
        height, width = self._kept_hw[index]
        record = self._cache.get(index)
        if record is None:
            parts = list(self._read(self.samples[index], (height, width)))
            record = np.concatenate([part.reshape(-1) for part in parts])
            self._cache.put(index, record)
        photo, *planes = np.split(record, np.arange(3, len(record) // (height * width)) * (height * width))
        people = planes[1].reshape(height, width) if len(planes) > 1 else None
        return photo.reshape(height, width, 3), planes[0].reshape(height, width), people

    def _has_people(self, sample: "Sample") -> bool:
        return self.edges and bool(sample.people)

    def _read(self, sample: "Sample", kept_hw: tuple[int, int]) -> Iterator[Pixels]:
        """Yield photo, labels and, where wanted, people, as large as they are kept."""
        paths = [self.dataset.label_path(sample)]
        if self._has_people(sample):
            paths.append(self.dataset.dir / sample.people)
        path = self.dataset.image_path(sample)
        try:
            image = read_photo(path, wanted_hw=kept_hw if _is_reducible(sample.size_hw) else None).image
            planes = []
            for path in paths:
                planes.append(read_labels(path))
            path = paths[0]
            _check_ids(planes[0], self.dataset.task)
        except (DataError, OSError) as error:
            redo = f"mend the file, or make `{self.dataset.dir}` again"
            raise DataError(f"cannot train on `{path}`: {error}", redo) from error
        for path, plane in zip(paths, planes, strict=True):
            if plane.shape != sample.size_hw or not _may_be(image, sample.size_hw):
                raise DataError(f"`{path}` is not as large as its photo", f"make `{self.dataset.dir}` again")
        yield resize_image(image, kept_hw)
        yield from (plane if plane.shape == kept_hw else resize_labels(plane, kept_hw) for plane in planes)

    def _disk_dir(self) -> Path:
        """Return the folder of the disk cache: its name stands for the files, what is kept of them, and who decodes."""
        key = hashlib.sha256(repr((FORMAT, __version__, _decoders(), self.dataset.digest)).encode())
        for sample, kept_hw in zip(self.samples, self._kept_hw, strict=True):
            paths = sample.paths if self._has_people(sample) else (sample.image, sample.label)
            stats = [(self.dataset.dir / path).stat() for path in paths]
            key.update(repr((sample.id, kept_hw, [(stat.st_size, stat.st_mtime_ns) for stat in stats])).encode())
        return cache_dir() / "samples" / key.hexdigest()[:32]


def _check_ids(labels: Pixels, task: "Task") -> None:
    """Refuse labels of a file that was changed since the dataset was made.

    Raises:
        DataError: If an id is neither a class nor 255.
    """
    from seglab.data.manifest import count_pixels

    if ((labels >= task.num_classes) & (labels != IGNORE)).any():
        count_pixels(labels, task)


def _is_reducible(size_hw: tuple[int, int]) -> bool:
    """Tell whether a JPEG of a size can be decoded to an eighth of its sides, or more, without a part of a pixel."""
    return size_hw[0] % 8 == size_hw[1] % 8 == 0


def _may_be(image: Pixels, size_hw: tuple[int, int]) -> bool:
    """Tell whether a picture has a size, or that of a JPEG that is decoded to a part of it."""
    sizes = [(size_hw[0] // by, size_hw[1] // by) for by in ((1, 2, 4, 8) if _is_reducible(size_hw) else (1,))]
    return image.shape[:2] in sizes


def _decoders() -> tuple[str, str]:
    """Return the versions of what decodes pictures: others may differ by a few levels."""
    import cv2
    import PIL

    return cv2.__version__, PIL.__version__


def _kept_hw(source_hw: tuple[int, int], preprocess: Preprocess) -> tuple[int, int]:
    """Return the size at which a sample is kept: a side is shrunk only if it is well over what a view needs."""
    _, _, *box_hw = place(source_hw, preprocess).box
    least_hw = [round(MARGIN * side) for side in box_hw]
    height, width = (
        least if source > 4 / 3 * least else source for source, least in zip(source_hw, least_hw, strict=True)
    )
    return height, width
