"""The road that predict and cutout share: read and fit ahead > batch > engine > finish and write behind.

Where there are many photos and few CPUs, the network included, each CPU takes photos from end to end instead: then
nobody waits for anybody.

Failures travel as values. The order of results is the order of inputs, and no more photos are in memory than the
workers need, however many there are.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.allocator import keep_freed_memory
from seglab.data.geometry import Placement
from seglab.data.images import MAX_PIXELS, ImageError, MissingExtraError, Photo, read_photo
from seglab.device import Device, num_threads
from seglab.engines import num_callers
from seglab.errors import DataError
from seglab.inference.inputs import Failure
from seglab.inference.ledger import Ledger, Stamp, make_dir, stamp
from seglab.inference.plan import Job, Plan, Planned, Skipped
from seglab.inference.predictor import Predictor
from seglab.inference.tiling import WHOLE_PHOTOS, Fitted, Tiling, answer
from seglab.pipeline import ahead

__all__ = ["Answer", "Done", "Outcome", "Run", "callers_for", "run", "workers_for"]

KEPT_BYTES: Final = 2**25
"""Planes of the working size and pictures of some megapixels are used again; clearing new ones halves the speed of what
surrounds the network."""
MAX_CALLERS: Final = 8
"""The most photos that are worked on from end to end at once."""
PHOTOS_EACH: Final = 4
"""Photos that a thread must have to itself at least, so that it does not matter who has the last one."""


@dataclass(frozen=True)
class Answer:
    """A photo and what the network said about it: all that an output is made of."""

    photo: Photo
    logits_KHW: NDArray[np.float32]
    """On the model's grid, or the larger one that tiles of a photo make."""
    placement: Placement
    """Where the photo lies on that grid."""
    extras: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """What else the network said there, logits_HW by name (see :attr:`Predictor.extras`)."""


@dataclass(frozen=True)
class Done:
    """A photo whose outputs are written."""

    path: Path
    outputs: Mapping[str, Path]
    size_hw: tuple[int, int]
    ms: float
    """Milliseconds of work: decoding, its share of the network's batch, finishing, writing."""
    found: bool
    """Whether anything but background is in the answer."""
    notes: tuple[str, ...] = ()
    """What reading did to the photo that one may want to know."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What was measured, as plain JSON values."""


Outcome = Done | Skipped | Planned | Failure
Finish = Callable[[Job, Answer], tuple[bool, dict[str, Any]]]
"""Writes a photo's outputs; returns whether anything was found, and what was measured."""


@dataclass(frozen=True)
class _Read:
    job: Job
    photo: Photo
    fitted: Fitted
    stamp: Stamp
    seconds: float


@dataclass(frozen=True)
class _Answered:
    read: _Read
    answer: Answer
    seconds: float


def workers_for(num_cpus: int | None = None) -> int:
    """Return how many threads read ahead, and as many write behind, beside the network; 0 means none.

    The network has a thread a CPU itself. One thread more costs no CPU time and hides the waiting for the disk and what
    of decoding, refining and encoding runs on one CPU, which for photos of 12 megapixels is longer than the network.
    """
    cpus = num_threads() if num_cpus is None else num_cpus
    return 0 if cpus == 1 else min(4, max(1, cpus // 4))


def callers_for(device: Device, num_photos: int, batch_size: int, num_cpus: int | None = None) -> int:
    """Return how many threads take photos from end to end; 1 if the network has all CPUs for each photo.

    A network computes more on one CPU for each of two photos than on two CPUs for one: a sixth more, measured with
    U2NETP in ONNX Runtime; and what surrounds it has the other CPU meanwhile. But a single photo takes longer, and so
    do the last ones. With many CPUs that would be too many photos in memory.
    """
    cpus = num_threads() if num_cpus is None else num_cpus
    fits = device.kind == "cpu" and batch_size == 1 and cpus <= MAX_CALLERS and num_photos >= PHOTOS_EACH * cpus
    return cpus if fits else 1


def run(
    plan: Plan,
    predictor: Predictor,
    finish: Finish,
    ledger: Ledger,
    *,
    max_pixels: int | None = None,
    tiling: Tiling = WHOLE_PHOTOS,
    keep_exif: bool = False,
    allow_truncated: bool = False,
    workers: int | None = None,
) -> Generator[Outcome, None, None]:
    """Do a plan, yielding what became of each input, in order, as soon as it is known.

    Args:
        plan: What to do.
        predictor: The model.
        finish: Makes and writes the outputs of one photo; runs in a thread.
        ledger: Of the plan's output folder; finished photos are recorded in it.
        max_pixels: Larger photos fail before they are decoded; :data:`MAX_PIXELS` by default.
        tiling: Whether large photos are cut.
        keep_exif: Whether photos keep their EXIF block.
        allow_truncated: Whether photos that are cut off are decoded as far as they go.
        workers: Threads for each end of the road; chosen by the number of CPUs by default. Without a number, an engine
            that expects several callers gets as many, each with photos of its own.

    Raises:
        DataError: If outputs cannot be written, or the model is broken. What is finished by then stays.
    """
    if len(plan.jobs) > 1:
        keep_freed_memory(blocks=KEPT_BYTES)
    reading = _Reading(predictor, max_pixels or MAX_PIXELS, tiling, keep_exif, allow_truncated)
    if workers is None and num_callers(predictor.engine) > 1:
        yield from _end_to_end(plan, reading, finish, ledger)
        return
    count = workers_for() if workers is None else workers
    read = ahead(lambda item: _read(item, reading), plan.items, workers=count)
    answered = _answered(read, predictor)
    yield from ahead(lambda item: _finished(item, finish, ledger), answered, workers=count)


@dataclass(frozen=True)
class _Reading:
    predictor: Predictor
    max_pixels: int
    tiling: Tiling
    keep_exif: bool
    allow_truncated: bool


def _end_to_end(plan: Plan, how: _Reading, finish: Finish, ledger: Ledger) -> Iterator[Outcome]:
    """Let each thread read, answer and write photos of its own."""
    import cv2

    def work(item: Job | Skipped | Failure) -> Outcome:
        (answered,) = _batch([_read(item, how)], how.predictor)
        return _finished(answered, finish, ledger)

    num_threads_before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield from ahead(work, plan.items, workers=num_callers(how.predictor.engine))
    finally:
        cv2.setNumThreads(num_threads_before)


def _read(item: Job | Skipped | Failure, how: _Reading) -> _Read | Skipped | Failure:
    if not isinstance(item, Job):
        return item
    start_s = time.perf_counter()
    try:
        photo_stamp = stamp(item.source)
        photo = read_photo(
            item.source, max_pixels=how.max_pixels, keep_exif=how.keep_exif, allow_truncated=how.allow_truncated
        )
        fitted = how.tiling.fit(photo.image, how.predictor)
    except ImageError as error:
        reason = f"{error.message} ({error.hint})" if error.hint else error.message
        return Failure(item.path, reason, isinstance(error, MissingExtraError))
    except MemoryError:
        return Failure(item.path, "too large for the memory")
    except OSError as error:
        return Failure(item.path, (error.strerror or str(error)).lower())
    return _Read(item, photo, fitted, photo_stamp, time.perf_counter() - start_s)


def _answered(
    items: Iterable[_Read | Skipped | Failure], predictor: Predictor
) -> Iterator[_Answered | Skipped | Failure]:
    """Send photos through the engine in batches; whatever is no photo keeps its place among them."""
    waiting: list[_Read | Skipped | Failure] = []
    num_photos = 0
    for item in items:
        waiting.append(item)
        num_photos += isinstance(item, _Read)
        # What fails at the start of a batch waits for nothing.
        if num_photos in (0, predictor.batch_size):
            yield from _batch(waiting, predictor)
            waiting, num_photos = [], 0
    yield from _batch(waiting, predictor)


def _batch(items: list[_Read | Skipped | Failure], predictor: Predictor) -> Iterator[_Answered | Skipped | Failure]:
    """Answer whole photos together, and photos in tiles one by one; all keep their places."""
    whole = [item for item in items if isinstance(item, _Read) and not item.fitted.windows]
    together: Iterator[_Answered] = iter(())
    if whole:
        together = iter(_together(whole, predictor))
    for item in items:
        if not isinstance(item, _Read):
            yield item
        elif item.fitted.windows:
            start_s = time.perf_counter()
            logits_KHW, extras = answer(item.fitted, predictor)
            seconds = item.seconds + time.perf_counter() - start_s
            yield _Answered(item, Answer(item.photo, logits_KHW, item.fitted.placement, extras), seconds)
        else:
            yield next(together)


def _together(photos: list[_Read], predictor: Predictor) -> list[_Answered]:
    start_s = time.perf_counter()
    logits_BKHW, extras = predictor.run_with_extras(np.stack([photo.fitted.tiles[0] for photo in photos]))
    seconds = (time.perf_counter() - start_s) / len(photos)
    answered = []
    for position, read in enumerate(photos):
        of_photo = {name: logits_B1HW[position, 0] for name, logits_B1HW in extras.items()}
        whole = Answer(read.photo, logits_BKHW[position], read.fitted.placement, of_photo)
        answered.append(_Answered(read, whole, read.seconds + seconds))
    return answered


def _finished(item: _Answered | Skipped | Failure, finish: Finish, ledger: Ledger) -> Outcome:
    if not isinstance(item, _Answered):
        return item
    start_s = time.perf_counter()
    job = item.read.job
    try:
        for path in job.outputs.values():
            make_dir(path.parent)
        found, facts = finish(job, item.answer)
    except DataError as error:
        # A disk that is full or read-only ends the run; a picture that its format cannot hold does not.
        if isinstance(error.__cause__, OSError):
            raise
        return Failure(job.path, error.message)
    except MemoryError:
        return Failure(job.path, "too large for the memory")
    ledger.add(job, item.read.stamp)
    photo = item.answer.photo
    if num_tiles := len(item.read.fitted.windows):
        facts = {**facts, "tiles": num_tiles}
    milliseconds = 1000 * (item.seconds + time.perf_counter() - start_s)
    height, width = photo.image.shape[:2]
    return Done(job.path, job.outputs, (height, width), milliseconds, found, photo.notes, facts)


@dataclass(frozen=True)
class Run:
    """A run that is ready to go."""

    plan: Plan
    predictor: Predictor | None
    """The model; None if there is nothing left for it to do."""
    outcomes: Generator[Outcome, None, None]
    """What becomes of each input, in order; the work is done as this is iterated."""
    notes: tuple[str, ...] = ()
    """What the user should know of all outputs."""
    when_empty: str = ""
    """What is written where nothing is found."""
