"""The one road from photos to logits, labels and alpha, shared by predict, cutout and evaluate.

Shapes: B batch, K classes, H W model grid, h w photo.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from seglab.data.geometry import Placement
from seglab.engines.pixels import Pixels
from seglab.errors import DataError, UsageError
from seglab.inference.fidelity import SEGLAB, Road
from seglab.tasks import Task

if TYPE_CHECKING:
    from seglab.data.images import ImageError
    from seglab.engines import Engine
    from seglab.inference.answering import ImageLike
    from seglab.inference.result import Result
    from seglab.inference.tiling import Tiling
    from seglab.models.bundle import BundleConfig

__all__ = ["Predictor"]

Uint8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]


class Predictor:
    """A network and everything that its weights need to be used rightly: called with a photo, it answers.

    ::

        predictor = seglab.load("runs/person")
        result = predictor("photo.jpg")                    # or bytes, a NumPy array, a Pillow image
        for result in predictor.batch(folder.glob("*.jpg")):   # lazily: read ahead, never all at once
            ...

    The stages are public so that a pipeline can run them in different threads: :meth:`fit` each photo, :meth:`run` a
    batch, un-fit each photo. :meth:`logits`, :meth:`labels` and :meth:`alpha` do all of it for photos at hand, and give
    exactly the same. Photos of any sizes may share a batch, and each is answered as if it were alone.

    Pickled and sent to another process, it opens the same files there, which must not have changed.

    Args:
        engine: Turns a batch of pixels into logits.
        config: What the weights were trained for.
        batch_size: The most photos that go through the engine at once.
        road: How photos come to the grid and answers back.
        about: What the user should know of the model, in a line.
        reopen: Opens the same model anew, which pickling needs; itself to be pickled.
    """

    def __init__(
        self,
        engine: "Engine",
        config: "BundleConfig",
        *,
        batch_size: int = 1,
        road: Road = SEGLAB,
        about: str = "",
        reopen: "Callable[[], Predictor] | None" = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, must be at least 1")
        self.engine = engine
        self.config = config
        self.batch_size = batch_size
        self.road = road
        self.about = about
        self._reopen = reopen
        self._tiling: Tiling | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reopen is None:
            raise UsageError("only a predictor that was opened from files can be pickled", "`seglab.load` opens such")
        return _reopened, (self._reopen, self.config.save_id, self._tiling)

    def __call__(self, image: "ImageLike") -> "Result":
        """Answer one photo.

        Args:
            image: A file's name or content, uint8 pixels (HWC in RGB order, RGBA, or HW), or a Pillow image. Files and
                Pillow images are turned as displayed.

        Raises:
            ImageError: If the photo cannot be read.
            UsageError: If it is of no such form.
        """
        (result,) = self.batch([image], workers=0)
        return result

    @overload
    def batch(
        self, images: "Iterable[ImageLike]", *, on_error: Literal["raise"] = "raise", workers: int | None = None
    ) -> "Iterator[Result]": ...
    @overload
    def batch(
        self, images: "Iterable[ImageLike]", *, on_error: Literal["yield"], workers: int | None = None
    ) -> "Iterator[Result | ImageError]": ...
    def batch(
        self, images: "Iterable[ImageLike]", *, on_error: str = "raise", workers: int | None = None
    ) -> "Iterator[Result] | Iterator[Result | ImageError]":
        """Answer many photos, in order, as they are asked for; memory holds a few at a time, however many there are.

        Args:
            images: Photos in any forms, see :meth:`__call__`; of any sizes.
            on_error: ``raise`` the error of the first photo that cannot be read, once those before it are answered, or
                ``yield`` errors in the places of their results and go on.
            workers: Threads that read ahead; chosen by the number of CPUs by default.

        Raises:
            ImageError: If a photo cannot be read.
            UsageError: If one is of no such form, or ``on_error`` means nothing.
        """
        if on_error not in ("raise", "yield"):
            raise UsageError(f"`on_error` is `{on_error}`", "`raise` or `yield`")
        from seglab.inference.answering import answers

        return answers(self, images, skip=on_error == "yield", workers=workers)

    @property
    def tiling(self) -> "Tiling":
        """Whether and how large photos are cut when this is called; whole by default."""
        from seglab.inference.tiling import WHOLE_PHOTOS

        return self._tiling or WHOLE_PHOTOS

    def with_tiling(self, tiling: "Tiling") -> "Predictor":
        """Return the same predictor, which cuts photos so.

        Raises:
            UsageError: If the code of an original is followed, none of which cuts photos.
        """
        from seglab.inference.tiling import WHOLE_PHOTOS

        if tiling != WHOLE_PHOTOS and self.road is not SEGLAB:
            raise UsageError("`--tile` cuts photos, which the code of no original does", "leave out one of the two")
        same = Predictor(
            self.engine, self.config, batch_size=self.batch_size, road=self.road, about=self.about, reopen=self._reopen
        )
        same._tiling = tiling
        return same

    @property
    def task(self) -> Task:
        """The label space of the answers."""
        return self.config.task

    def fit(self, image: Uint8) -> tuple[Pixels, Placement]:
        """Return a photo (HWC RGB, any size) on the model's grid, and where it lies there.

        Raises:
            ImageError: If an original's code is followed that cannot process a photo of this size.
        """
        return self.road.fit(image, self.config.preprocess)

    def run(self, pixels_BHWC: Pixels) -> Float32:
        """Return logits_BKHW of fitted photos.

        Raises:
            DataError: If the network's output does not have the task's K classes, or is not finite.
        """
        logits_BKHW = self.engine(pixels_BHWC)
        _check(logits_BKHW, pixels_BHWC.shape[0], self.task)
        return logits_BKHW

    @property
    def extras(self) -> tuple[str, ...]:
        """What the model says beside classes: ``edge``, where the outlines of people are, or nothing."""
        extras: tuple[str, ...] = getattr(self.engine, "extras", ())
        return extras

    def run_with_extras(self, pixels_BHWC: Pixels) -> tuple[Float32, dict[str, Float32]]:
        """Return logits_BKHW of fitted photos and, by name, logits_B1HW of :attr:`extras`.

        Raises:
            DataError: As :meth:`run`.
        """
        if not self.extras:
            return self.run(pixels_BHWC), {}
        engine: Any = self.engine
        logits_BKHW, extras = engine.with_extras(pixels_BHWC)
        _check(logits_BKHW, pixels_BHWC.shape[0], self.task)
        return logits_BKHW, extras

    def logits(self, images: Sequence[Uint8]) -> list[tuple[Float32, Placement]]:
        """Return, for each photo, its logits_KHW on the model's grid and where the photo lies there."""
        return list(self._logits(images))

    def labels(self, images: Sequence[Uint8]) -> list[Uint8]:
        """Return the class ids of each photo at its own size (HW): logits are resized, never labels."""
        return [self.road.labels(logits_KHW, placement) for logits_KHW, placement in self._logits(images)]

    def alpha(self, images: Sequence[Uint8], classes: Sequence[int]) -> list[Float32]:
        """Return the summed probability of some class ids for each photo at its own size (HW, 0..1)."""
        return [self.road.alpha(logits_KHW, placement, classes) for logits_KHW, placement in self._logits(images)]

    def _logits(self, images: Sequence[Uint8]) -> Iterator[tuple[Float32, Placement]]:
        for first in range(0, len(images), self.batch_size):
            fitted = [self.fit(image) for image in images[first : first + self.batch_size]]
            logits_BKHW = self.run(np.stack([pixels for pixels, _ in fitted]))
            for logits_KHW, (_, placement) in zip(logits_BKHW, fitted, strict=True):
                yield logits_KHW, placement


def _reopened(reopen: Callable[[], Predictor], save_id: str, tiling: "Tiling | None") -> Predictor:
    """Return what a pickled predictor was.

    Raises:
        DataError: If the files are gone, or have other weights now.
    """
    predictor = reopen()
    if predictor.config.save_id != save_id:
        raise DataError("the model of a pickled predictor was replaced by another since", "pickle it again")
    return predictor if tiling is None else predictor.with_tiling(tiling)


def _check(logits_BKHW: NDArray[Any], num_photos: int, task: Task) -> None:
    if logits_BKHW.ndim != 4 or logits_BKHW.shape[:2] != (num_photos, task.num_classes):
        raise DataError(
            f"the model's output has shape {logits_BKHW.shape}, but task `{task.name}` has {task.num_classes} classes",
            "train or export the model again",
        )
    if not np.isfinite(logits_BKHW).all():
        raise DataError("the model's output is not finite: its weights are broken", "train or export the model again")
