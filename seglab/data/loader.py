"""Batches for training: decoded and augmented in threads, in an order that depends on (seed, epoch) alone.

Shapes: B batch, H W model grid, C = 3 (RGB).
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from seglab.config import Preprocess, TrainConfig
from seglab.data.augment import Augmentation
from seglab.data.edges import edges_from_labels
from seglab.data.geometry import place
from seglab.data.images import read_labels, read_photo, resize_image, resize_labels
from seglab.device import num_threads
from seglab.errors import DataError
from seglab.pipeline import ahead

if TYPE_CHECKING:
    from seglab.data.manifest import Dataset, Sample

__all__ = ["Batch", "TrainingSamples", "epoch_batches", "plan_epoch"]

Pixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]

MARGIN: Final = 1.5
"""Samples are kept this much larger than they lie on the grid, for views that zoom in."""
CACHE_BYTES: Final = 2 << 30
"""The most memory for decoded samples."""


@dataclass(frozen=True)
class Batch:
    """A step's samples."""

    pixels_BHWC: Pixels
    labels_BHW: Pixels
    ids: tuple[str, ...]
    edges_BHW: Pixels | None = None
    """Outlines of people, or of classes where people are not told apart (see :mod:`seglab.data.edges`): 0, 1, and 255
    where unknown. None if nobody asked for them."""

    def __len__(self) -> int:
        return len(self.ids)


class TrainingSamples:
    """The samples of a split as training needs them: decoded, and shrunk to :data:`MARGIN` times the grid.

    They stay in memory after the first use if all of them together fit into ``cache_bytes``. What is returned does not
    depend on that.

    Args:
        dataset: A prepared dataset.
        split: The name of a split.
        preprocess: The model's grid.
        cache_bytes: The most memory to use; by default :data:`CACHE_BYTES`, or a quarter of the machine's if less.
        edges: Whether batches shall have outlines.

    Raises:
        DataError: If the split is empty.
    """

    def __init__(
        self,
        dataset: "Dataset",
        split: str,
        preprocess: Preprocess,
        *,
        cache_bytes: int | None = None,
        edges: bool = False,
    ) -> None:
        self.dataset = dataset
        self.preprocess = preprocess
        self.edges = edges
        self.samples: Sequence[Sample] = dataset.split(split)
        limit = _default_cache_bytes() if cache_bytes is None else cache_bytes
        shapes = [_kept_hw(sample.size_hw, preprocess) for sample in self.samples]
        self.is_cached = sum(4 * height * width for height, width in shapes) <= limit
        self._cache: dict[int, tuple[Pixels, Pixels]] = {}
        self._people_cache: dict[int, Pixels] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, index: int) -> tuple[Pixels, Pixels]:
        """Return the photo (HWC uint8 RGB) and labels (HW uint8) of a sample. May be called from several threads.

        Raises:
            DataError: If a file cannot be read, or both differ in size; it is named.
        """
        cached = self._cache.get(index)
        if cached is None:
            cached = self._read(self.samples[index])
            if self.is_cached:
                self._cache[index] = cached
        return cached

    def load_people(self, index: int) -> Pixels | None:
        """Return who each pixel of a sample belongs to (HW uint8), as large as what :meth:`load` returns.

        None if it is not known. May be called from several threads.

        Raises:
            DataError: If the file cannot be read; it is named.
        """
        sample = self.samples[index]
        path = self.dataset.people_path(sample)
        if path is None or index in self._people_cache:
            return self._people_cache.get(index)
        try:
            people = read_labels(path)
        except (DataError, OSError) as error:
            redo = f"mend the file, or make `{self.dataset.dir}` again"
            raise DataError(f"cannot train on `{path}`: {error}", redo) from error
        if people.shape != sample.size_hw:
            raise DataError(f"`{path}` is not as large as its photo", f"make `{self.dataset.dir}` again")
        people = resize_labels(people, _kept_hw(sample.size_hw, self.preprocess))
        if self.is_cached:
            self._people_cache[index] = people
        return people

    def _read(self, sample: "Sample") -> tuple[Pixels, Pixels]:
        image_path, label_path = self.dataset.image_path(sample), self.dataset.label_path(sample)
        path = image_path
        try:
            image = read_photo(image_path).image
            path = label_path
            labels = read_labels(label_path)
        except (DataError, OSError) as error:
            redo = f"mend the file, or make `{self.dataset.dir}` again"
            raise DataError(f"cannot train on `{path}`: {error}", redo) from error
        if image.shape[:2] != labels.shape:
            raise DataError(f"`{image_path}` and its labels differ in size", f"make `{self.dataset.dir}` again")
        kept_hw = _kept_hw(sample.size_hw, self.preprocess)
        if kept_hw == labels.shape:
            return image, labels
        return resize_image(image, kept_hw), resize_labels(labels, kept_hw)


def plan_epoch(num_samples: int, batch_size: int, *, seed: int, epoch: int) -> list[Indices]:
    """Return which samples each step of an epoch takes: every sample once, in a new order.

    Batches are as equal in size as can be, so that no step hangs on a small remainder. Batch normalisation cannot
    learn from one sample: with a batch size of 2 or more no batch has less than 2, if need be by making one larger
    than asked for. If there is only one sample, it is taken twice.

    Args:
        num_samples: At least 1.
        batch_size: The most samples a step, but for the remainder above.
        seed: Seed of the run.
        epoch: Number of the epoch.
    """
    order = np.random.default_rng([seed, epoch]).permutation(num_samples)
    if batch_size == 1:
        return np.array_split(order, num_samples)
    if num_samples == 1:
        order = np.repeat(order, 2)
    num_steps = min(-(-len(order) // batch_size), len(order) // 2)
    return np.array_split(order, num_steps)


def epoch_batches(
    samples: TrainingSamples, config: TrainConfig, epoch: int, start_step: int = 0, *, workers: int | None = None
) -> Iterator[Batch]:
    """Yield the batches of an epoch, the next ones being made in threads meanwhile.

    Args:
        samples: The training split.
        config: ``batch_size``, ``accumulate``, ``augment`` and ``seed`` matter here.
        epoch: Number of the epoch; decides order and augmentation.
        start_step: Steps of the epoch to leave out, as they are done already.
        workers: Threads; by default as many as there are usable CPUs, 0 for none.

    Raises:
        DataError: If a sample cannot be read; its file is named.
    """
    augmentation = Augmentation(
        samples.preprocess,
        samples.dataset.task.mirror_permutation(),
        strengths=config.augment,
        seed=config.seed,
    )
    steps = plan_epoch(len(samples), config.step_size, seed=config.seed, epoch=epoch)[start_step:]
    workers = num_threads() if workers is None else workers
    return ahead(partial(_make_batch, samples, augmentation, epoch), steps, workers=workers, depth=workers + 1)


def _make_batch(samples: TrainingSamples, augmentation: Augmentation, epoch: int, indices: Indices) -> Batch:
    views = [augmentation(*samples.load(index), epoch=epoch, index=index) for index in indices.tolist()]
    edges_BHW = None
    if samples.edges:
        ids = [_people_view(samples, augmentation, epoch, index) for index in indices.tolist()]
        pairs = zip(ids, views, strict=True)
        edges_BHW = np.stack([edges_from_labels(labels if people is None else people) for people, (_, labels) in pairs])
    return Batch(
        np.stack([pixels for pixels, _ in views]),
        np.stack([labels for _, labels in views]),
        tuple(samples.samples[index].id for index in indices.tolist()),
        edges_BHW,
    )


def _people_view(samples: TrainingSamples, augmentation: Augmentation, epoch: int, index: int) -> Pixels | None:
    """Return who each pixel of a view belongs to, the ids in any order; None if it is not known.

    A view depends on (seed, epoch, index) only, so the same view is taken of people as of classes. A flip exchanges
    ids as if they were classes, one for one, which moves no outline.
    """
    people = samples.load_people(index)
    if people is None:
        return None
    return augmentation(samples.load(index)[0], people, epoch=epoch, index=index)[1]


def _kept_hw(source_hw: tuple[int, int], preprocess: Preprocess) -> tuple[int, int]:
    """Return the size at which a sample is kept: a side is shrunk only if it is well over what a view needs."""
    _, _, *box_hw = place(source_hw, preprocess).box
    least_hw = [round(MARGIN * side) for side in box_hw]
    height, width = (
        least if source > 4 / 3 * least else source for source, least in zip(source_hw, least_hw, strict=True)
    )
    return height, width


def _default_cache_bytes() -> int:
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return CACHE_BYTES
    return min(CACHE_BYTES, memory // 4)
