"""Batches for training: decoded and augmented in threads, in an order that depends on (seed, epoch) alone.

Shapes: B batch, H W model grid, C = 3 (RGB).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from seglab.config import TrainConfig
from seglab.data.augment import Augmentation
from seglab.data.edges import edges_from_labels
from seglab.data.samples import TrainingSamples
from seglab.data.view import View
from seglab.device import num_threads
from seglab.pipeline import ahead

__all__ = ["Batch", "TrainingSamples", "augmentation_of", "epoch_batches", "plan_epoch"]

Pixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


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


def plan_epoch(num_samples: int, batch_size: int, *, seed: int, epoch: int, world: int = 1) -> list[Indices]:
    """Return which samples each step of an epoch takes, all processes together: every sample once, in a new order.

    Of every step, process ``rank`` of ``world`` takes each ``world``-th sample from the ``rank``-th on. So all do the
    same number of steps, and together they see what one process with ``world`` times the batch size sees.

    Steps are as equal in size as can be, so that none hangs on a small remainder. Batch normalisation cannot learn from
    one sample: with a batch size of 2 or more no process has less than 2 in a step, if need be by making one larger
    than asked for. Samples are taken twice, from the beginning of the order on, only where that is the only way: if
    there are less than two a process; or, with a batch size of 1, to fill up the last step.

    Args:
        num_samples: At least 1.
        batch_size: The most samples a step and process, but for the remainder above.
        seed: Seed of the run.
        epoch: Number of the epoch.
        world: Number of processes.
    """
    order = np.random.default_rng([seed, epoch]).permutation(num_samples)
    if batch_size == 1:
        num_steps = -(-num_samples // world)
        return np.array_split(np.resize(order, num_steps * world), num_steps)
    order = np.resize(order, max(num_samples, 2 * world))
    num_steps = min(-(-len(order) // (batch_size * world)), len(order) // (2 * world))
    return np.array_split(order, num_steps)


def augmentation_of(samples: TrainingSamples, config: TrainConfig) -> Augmentation:
    """Return the random views of a run."""
    mirror = samples.dataset.task.mirror_permutation()
    return Augmentation(samples.preprocess, mirror, strengths=config.augment, seed=config.seed, photos=samples)


def epoch_batches(
    samples: TrainingSamples,
    config: TrainConfig,
    epoch: int,
    start_step: int = 0,
    *,
    workers: int | None = None,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Yield the batches of an epoch, the next ones being made in threads meanwhile.

    Args:
        samples: The training split.
        config: ``batch_size``, ``accumulate``, ``augment`` and ``seed`` matter here.
        epoch: Number of the epoch; decides order and augmentation.
        start_step: Steps of the epoch to leave out, as they are done already.
        workers: Threads; by default as many as there are usable CPUs, 0 for none.
        rank: Number of this process; its share of each step is yielded (see :func:`plan_epoch`).
        world: Number of processes.

    Raises:
        DataError: If a sample cannot be read; its file is named.
    """
    augmentation = augmentation_of(samples, config)
    plan = plan_epoch(len(samples), config.step_size, seed=config.seed, epoch=epoch, world=world)
    steps = [step[rank::world] for step in plan[start_step:]]
    workers = num_threads() if workers is None else workers
    return ahead(partial(_make_batch, samples, augmentation, epoch), steps, workers=workers, depth=workers + 1)


def _make_batch(samples: TrainingSamples, augmentation: Augmentation, epoch: int, indices: Indices) -> Batch:
    names = tuple(samples.samples[index].id for index in indices.tolist())
    views = []
    for name, index in zip(names, indices.tolist(), strict=True):
        image, labels, people = samples.load_all(index)
        views.append(augmentation(image, labels, epoch=epoch, name=name, people=people))
    return Batch(
        np.stack([view.pixels for view in views]),
        np.stack([view.labels for view in views]),
        names,
        np.stack([_edges(view) for view in views]) if samples.edges else None,
    )


def _edges(view: View) -> Pixels:
    return edges_from_labels(view.labels if view.people is None else view.people)
