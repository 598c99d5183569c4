"""Score a model on a prepared dataset, at the photos' own size."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from seglab.device import num_threads
from seglab.errors import DataError
from seglab.evaluation.result import Comparison, Evaluation, Failure, Tally, compare
from seglab.pipeline import ahead
from seglab.shards import WHOLE, Shard
from seglab.tasks import Task

if TYPE_CHECKING:
    from seglab.data.geometry import Placement
    from seglab.data.manifest import Dataset, Sample
    from seglab.engines.pixels import Pixels
    from seglab.inference.predictor import Predictor

__all__ = ["check_same_labels", "evaluate"]

T = TypeVar("T")
Uint8 = NDArray[np.uint8]


def evaluate(
    predictor: "Predictor",
    dataset: "Dataset",
    split: str = "test",
    *,
    task: Task | None = None,
    outlines: bool = False,
    at_model: bool = False,
    shard: Shard = WHOLE,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Predict a split and compare with its labels; the labels are those that ``seglab predict`` writes.

    Photos are decoded and fitted, and logits un-fitted and counted, in threads; the network runs in this one. Memory
    does not grow with the split but for a few numbers an image.

    Args:
        predictor: The model; its ``batch_size`` photos go through it at once.
        dataset: A prepared dataset of the same classes.
        split: A split of the dataset.
        task: Regions and levels to score, of the same classes; the dataset's task by default.
        outlines: Look at outlines as well.
        at_model: Compare on the model's grid instead of at the photos' own size: faster, and kinder to thin things.
        shard: Which part of the split.
        workers: Decoding threads; as many as there are usable CPUs by default, 0 for none.
        progress: Called with 1 after each image.

    Returns:
        The scores of the images that could be read; the others are its ``failures``. A part of a split may be empty.

    Raises:
        UsageError: If there is no split of that name.
        DataError: If model, dataset and task differ in their classes, the split is empty, no image of it could be read,
            or the model is broken.
    """
    check_same_labels("the model", predictor.task, dataset)
    task = task or dataset.task
    check_same_labels("the task", task, dataset)
    samples = shard.of(dataset.split(split))
    workers = num_threads() if workers is None else workers
    depth = 2 * workers + predictor.batch_size
    read = ahead(partial(_read, predictor, dataset, at_model), samples, workers=workers, depth=depth)
    compared = ahead(partial(_compare, predictor, task, outlines), _run(predictor, read), workers=workers)
    tally = Tally(task)
    for outcome in compared:
        if isinstance(outcome, Failure):
            tally.failures.append(outcome)
        else:
            tally.add(*outcome)
        if progress is not None:
            progress(1)
    if not tally.ids and shard.num == 1:
        raise DataError(
            f"none of the {len(samples)} images of split `{split}` of `{dataset.dir}` could be scored;"
            f" the first, `{tally.failures[0].id}`: {tally.failures[0].reason}",
            "prepare the dataset again",
        )
    return tally.finish()


def check_same_labels(what: str, task: Task, dataset: "Dataset") -> None:
    """Make sure that a task means the same by every class id as a dataset.

    Args:
        what: Whose task it is, for the error.
        task: The task.
        dataset: The dataset.

    Raises:
        DataError: If not; both are named, and the classes in which they differ.
    """
    if task.same_labels(dataset.task):
        return
    if task.name != dataset.task.name:
        difference = f"the data in `{dataset.dir}` is `{dataset.task.name}`"
    else:
        difference = f"its classes are not those of the data in `{dataset.dir}`: "
        difference += f"{', '.join(task.classes)} against {', '.join(dataset.task.classes)}"
    verb = "is" if what == "the task" else "segments"
    raise DataError(f"{what} {verb} `{task.name}`, but {difference}", f"give data prepared for `{task.name}`")


@dataclass(frozen=True)
class _Fitted:
    id: str
    truth: Uint8
    pixels: "Pixels"
    placement: "Placement"


def _read(predictor: "Predictor", dataset: "Dataset", at_model: bool, sample: "Sample") -> _Fitted | Failure:
    from seglab.data.geometry import Placement, fit_labels
    from seglab.data.images import read_labels, read_photo

    what = "photo"
    try:
        fitted = predictor.fit(read_photo(dataset.image_path(sample)).image)
        what = "labels"
        truth = read_labels(dataset.label_path(sample))
    except (DataError, OSError) as error:
        return Failure(sample.id, f"{what}: {error}")
    pixels, placement = fitted
    if at_model:
        truth = fit_labels(truth, predictor.config.preprocess)
        height, width = placement.size_hw
        placement = Placement(placement.size_hw, placement.size_hw, (0, 0, height, width))
    return _Fitted(sample.id, truth, pixels, placement)


def _run(
    predictor: "Predictor", read: Iterable[_Fitted | Failure]
) -> Iterator[tuple[_Fitted, NDArray[np.float32]] | Failure]:
    for batch in _batches(read, predictor.batch_size):
        fitted = [item for item in batch if isinstance(item, _Fitted)]
        logits_BKHW = iter(predictor.run(np.stack([item.pixels for item in fitted])) if fitted else ())
        for item in batch:
            yield item if isinstance(item, Failure) else (item, next(logits_BKHW))


def _compare(
    predictor: "Predictor", task: Task, outlines: bool, item: tuple[_Fitted, NDArray[np.float32]] | Failure
) -> tuple[str, Comparison] | Failure:
    if isinstance(item, Failure):
        return item
    fitted, logits_KHW = item
    prediction = predictor.road.labels(logits_KHW, fitted.placement)
    try:
        return fitted.id, compare(fitted.truth, prediction, task, outlines=outlines)
    except DataError as error:
        return Failure(fitted.id, error.message)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
