"""Score a model on a prepared dataset, at the photos' own size."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
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
    from seglab.evaluation.people import ImagePeople
    from seglab.inference.predictor import Predictor

__all__ = ["check_same_labels", "check_tells_people", "evaluate", "tells_people"]

T = TypeVar("T")
Uint8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]


def evaluate(
    predictor: "Predictor",
    dataset: "Dataset",
    split: str = "test",
    *,
    task: Task | None = None,
    outlines: bool = False,
    at_model: bool = False,
    instances: bool = False,
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
        instances: Look at how people are told apart as well, in the images whose truth knows: by their outlines, if the
            model gives them, otherwise by what hangs together.
        shard: Which part of the split.
        workers: Decoding threads; as many as there are usable CPUs by default, 0 for none.
        progress: Called with 1 after each image.

    Returns:
        The scores of the images that could be read; the others are its ``failures``. A part of a split may be empty.

    Raises:
        UsageError: If there is no split of that name.
        DataError: If model, dataset and task differ in their classes, the split is empty, no image of it could be read,
            the model is broken, or ``instances`` is asked for of a split that tells no people apart.
    """
    check_same_labels("the model", predictor.task, dataset)
    task = task or dataset.task
    check_same_labels("the task", task, dataset)
    if instances:
        check_tells_people(dataset, split)
    samples = shard.of(dataset.split(split))
    workers = num_threads() if workers is None else workers
    depth = 2 * workers + predictor.batch_size
    read = ahead(partial(_read, predictor, dataset, at_model, instances), samples, workers=workers, depth=depth)
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
    return tally.finish(people=instances)


def tells_people(dataset: "Dataset", split: str) -> bool:
    """Tell whether the truth of any image of a split tells people apart."""
    return any(sample.people for sample in dataset.split(split))


def check_tells_people(dataset: "Dataset", split: str) -> None:
    """Make sure that the truth of some images of a split tells people apart.

    Raises:
        DataError: If not.
    """
    if not tells_people(dataset, split):
        raise DataError(
            f"split `{split}` of `{dataset.dir}` does not tell people apart, so instances cannot be scored",
            "leave `--instances` out, or prepare data that comes with ids of people",
        )


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
    people: Uint8 | None
    """Who is who, where that is known and asked for."""
    pixels: "Pixels"
    placement: "Placement"


@dataclass(frozen=True)
class _Answered:
    fitted: _Fitted
    logits_KHW: Float32
    edge_HW: Float32 | None
    """Logits of outlines, where the model gives them."""


def _read(
    predictor: "Predictor", dataset: "Dataset", at_model: bool, instances: bool, sample: "Sample"
) -> _Fitted | Failure:
    from seglab.data.geometry import Placement, fit_labels
    from seglab.data.images import read_labels, read_photo

    what = "photo"
    try:
        fitted = predictor.fit(read_photo(dataset.image_path(sample)).image)
        what = "labels"
        truth = read_labels(dataset.label_path(sample))
        what = "people"
        path = dataset.people_path(sample) if instances else None
        people = None if path is None else read_labels(path)
    except (DataError, OSError) as error:
        return Failure(sample.id, f"{what}: {error}")
    pixels, placement = fitted
    if at_model:
        preprocess = predictor.config.preprocess
        truth, people = fit_labels(truth, preprocess), None if people is None else fit_labels(people, preprocess)
        height, width = placement.size_hw
        placement = Placement(placement.size_hw, placement.size_hw, (0, 0, height, width))
    return _Fitted(sample.id, truth, people, pixels, placement)


def _run(predictor: "Predictor", read: Iterable[_Fitted | Failure]) -> Iterator[_Answered | Failure]:
    for batch in _batches(read, predictor.batch_size):
        answers = iter(_answers(predictor, [item for item in batch if isinstance(item, _Fitted)]))
        for item in batch:
            yield item if isinstance(item, Failure) else next(answers)


def _answers(predictor: "Predictor", fitted: list[_Fitted]) -> Iterator[_Answered]:
    if not fitted:
        return
    pixels_BHWC = np.stack([item.pixels for item in fitted])
    if any(item.people is not None for item in fitted):
        logits_BKHW, extras = predictor.run_with_extras(pixels_BHWC)
    else:
        logits_BKHW, extras = predictor.run(pixels_BHWC), {}
    edge_B1HW = extras.get("edge")
    for position, item in enumerate(fitted):
        yield _Answered(item, logits_BKHW[position], None if edge_B1HW is None else edge_B1HW[position, 0])


def _compare(
    predictor: "Predictor", task: Task, outlines: bool, item: _Answered | Failure
) -> tuple[str, Comparison] | Failure:
    if isinstance(item, Failure):
        return item
    fitted = item.fitted
    prediction = predictor.road.labels(item.logits_KHW, fitted.placement)
    try:
        compared = compare(fitted.truth, prediction, task, outlines=outlines)
        return fitted.id, replace(compared, people=_people(predictor.task, item, prediction))
    except DataError as error:
        return Failure(fitted.id, error.message)


def _people(task: Task, item: _Answered, prediction: Uint8) -> "ImagePeople | None":
    fitted = item.fitted
    if fitted.people is None:
        return None
    from seglab.evaluation.people import compare_people
    from seglab.evaluation.telling import found_by_model

    found = found_by_model(item.logits_KHW, item.edge_HW, fitted.placement, prediction, task)
    return compare_people(fitted.truth, fitted.people, prediction, found, task)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
