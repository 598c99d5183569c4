"""One pass over the files of a dataset: a few numbers about every sample, from which everything else is said."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from seglab.data.decoding import ImageError, open_picture, read_file
from seglab.data.duplicates import NUM_WORDS, fingerprint
from seglab.data.images import read_labels, read_photo
from seglab.data.manifest import Dataset, Sample
from seglab.device import num_threads
from seglab.pipeline import ahead
from seglab.tasks import IGNORE, Task

__all__ = ["Census", "Progress", "take_census"]

DIGEST_BYTES: Final = 16

LOOK_HW: Final = (128, 128)
"""What photos are decoded to at least. Four times what a fingerprint needs, so that the decoder hardly shows in it."""


class Progress(Protocol):
    """A running count that the caller sees."""

    def advance(self, n: int = 1) -> None:
        """Count ``n`` more."""


@dataclass(frozen=True, eq=False)
class Census:
    """What was measured. Row i is about sample i; N samples, K classes, P mirror pairs."""

    task: Task
    samples: tuple[Sample, ...]
    counts: NDArray[np.int64]
    """N x K pixels of every class."""
    ignored: NDArray[np.int64]
    """N pixels of 255."""
    place: NDArray[np.float64]
    """N x 2: centre of all that is not background, as shares of height and width; NaN where there is nothing."""
    touch: NDArray[np.float64]
    """N: share of the picture's outermost pixels that is not background; NaN where all are ignored."""
    outline: NDArray[np.float64]
    """N: borders between classes in pixels, divided by the root of the area that is not background; NaN for none."""
    mirror_x: NDArray[np.float64]
    """N x P x 2: horizontal centre of the left and the right class, as a share of the width; NaN where absent."""
    digests: NDArray[np.void]
    """N: BLAKE2b of the photo's file."""
    fingerprints: NDArray[np.uint64]
    """N x 4: see :mod:`seglab.data.duplicates`."""
    comparable: NDArray[np.bool_]
    """N: whether the photo was read and is not plain."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Position and reason; the rows of these are empty, and no statistic counts them."""

    @property
    def readable(self) -> NDArray[np.bool_]:
        """N: whose photo and labels could be read."""
        return ~np.isin(np.arange(len(self.samples)), list(self.unreadable))


def take_census(
    dataset: Dataset,
    *,
    workers: int | None = None,
    progress: Callable[[int], AbstractContextManager[Progress]] | None = None,
) -> Census:
    """Read every photo and its labels once, in threads; some 100 bytes are kept of each.

    Args:
        dataset: Its pixel counts are not relied on.
        workers: Threads; the CPUs of this process by default, 0 for none.
        progress: Called with the number of samples; its ``advance`` is called for each.
    """
    census = _blank(dataset)
    bar = progress(len(dataset.samples)) if progress else nullcontext()

    def visit(position: int) -> None:
        try:
            _visit(census, dataset, position)
        except ImageError as error:
            census.unreadable[position] = error.message

    with bar as shown:
        for _ in ahead(visit, range(len(dataset.samples)), workers=num_threads() if workers is None else workers):
            if shown is not None:
                shown.advance()
    return census


def _blank(dataset: Dataset) -> Census:
    num, task = len(dataset.samples), dataset.task
    return Census(
        task=task,
        samples=dataset.samples,
        counts=np.zeros((num, task.num_classes), np.int64),
        ignored=np.zeros(num, np.int64),
        place=np.full((num, 2), np.nan),
        touch=np.full(num, np.nan),
        outline=np.full(num, np.nan),
        mirror_x=np.full((num, len(task.mirror), 2), np.nan),
        digests=np.zeros(num, f"V{DIGEST_BYTES}"),
        fingerprints=np.zeros((num, NUM_WORDS), np.uint64),
        comparable=np.zeros(num, bool),
    )


def _visit(census: Census, dataset: Dataset, position: int) -> None:
    sample, task = dataset.samples[position], dataset.task
    with _naming(sample.image):
        data = read_file(dataset.image_path(sample))
        image = read_photo(data, wanted_hw=LOOK_HW).image
    with _naming(sample.label):
        labels = read_labels(dataset.label_path(sample))
    size_hw = open_picture(data).size_hw
    if size_hw != labels.shape:
        raise ImageError(f"the photo is {size_hw}, its labels are {labels.shape}")
    counts = np.bincount(labels.ravel(), minlength=IGNORE + 1)
    if counts[task.num_classes : IGNORE].any():
        foreign = np.flatnonzero(counts[task.num_classes : IGNORE]) + task.num_classes
        raise ImageError(f"labels hold {', '.join(map(str, foreign[:5]))}, which is no class")
    words = fingerprint(image)
    if words is not None:
        census.fingerprints[position] = words
        census.comparable[position] = True
    digest = hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
    census.digests[position] = np.frombuffer(digest, f"V{DIGEST_BYTES}")[0]
    census.counts[position] = counts[: task.num_classes]
    census.ignored[position] = counts[IGNORE]
    _measure_shape(census, position, labels)
    for pair, names in enumerate(task.mirror):
        for side, name in enumerate(names):
            label = task.classes.index(name)
            if counts[label]:
                census.mirror_x[position, pair, side] = _center((labels == label).sum(axis=0))


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Say in an error which of the two files it is about."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{path}: {error.message}", error.hint) from error


def _measure_shape(census: Census, position: int, labels: NDArray[np.uint8]) -> None:
    rim = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
    rim = rim[rim != IGNORE]
    if rim.size:
        census.touch[position] = np.count_nonzero(rim) / rim.size
    shown = (labels != 0) & (labels != IGNORE)
    area = np.count_nonzero(shown)
    if area:
        census.place[position] = _center(shown.sum(axis=1)), _center(shown.sum(axis=0))
        borders = np.count_nonzero(labels[1:] != labels[:-1]) + np.count_nonzero(labels[:, 1:] != labels[:, :-1])
        census.outline[position] = borders / np.sqrt(area)


def _center(profile: NDArray[np.int64]) -> float:
    """Return the centre of gravity of counts along an axis, 0..1."""
    return float(((np.arange(len(profile)) + 0.5) * profile).sum() / profile.sum() / len(profile))
