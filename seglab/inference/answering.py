"""From photos in any form to results, lazily: what :class:`seglab.inference.predictor.Predictor` is called with."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from seglab.data.images import MAX_PIXELS, ImageError, Photo, photo_from_pillow, read_photo
from seglab.errors import UsageError
from seglab.inference.flow import Answer, workers_for
from seglab.inference.result import Result
from seglab.inference.tiling import Fitted, answer
from seglab.pipeline import ahead

if TYPE_CHECKING:
    from PIL.Image import Image

    from seglab.inference.predictor import Predictor

__all__ = ["ImageLike", "answers", "take_photo"]

ImageLike: TypeAlias = "str | Path | bytes | NDArray[np.uint8] | Image"
"""A file's name or content, uint8 pixels (HWC RGB or RGBA, HW grey), or a picture of Pillow."""


@dataclass(frozen=True)
class _Read:
    photo: Photo
    fitted: Fitted
    source: Path | None


def take_photo(image: ImageLike, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Bring a photo of any form to HWC uint8 RGB, as reading its file does.

    Args:
        image: The photo.
        max_pixels: Most pixels to decode.

    Raises:
        ImageError: If it cannot be read; the message begins with the file's name.
        UsageError: If it is of no such form.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return read_photo(bytes(image), max_pixels=max_pixels)
    if isinstance(image, str | Path):
        try:
            return read_photo(Path(image), max_pixels=max_pixels)
        except ImageError as error:
            raise type(error)(f"`{image}`: {error.message}", error.hint) from error
    if isinstance(image, np.ndarray):
        return _from_array(image)
    from PIL.Image import Image

    if isinstance(image, Image):
        return photo_from_pillow(image)
    raise UsageError(
        f"a `{type(image).__name__}` is no photo", "a path, bytes, a NumPy array (H, W, 3) of uint8, or a Pillow image"
    )


def answers(predictor: "Predictor", images: Iterable[ImageLike], *, skip: bool, workers: int | None) -> Iterator[Any]:
    """Yield a result for each photo, in order, reading ahead in threads.

    Args:
        predictor: What answers.
        images: The photos; no more are asked for than the threads and a batch need.
        skip: Yield the error of a photo that cannot be read in its place, instead of raising it.
        workers: Threads that read ahead; chosen by the number of CPUs by default.
    """
    num_workers = workers_for() if workers is None else workers
    waiting: list[_Read | ImageError] = []
    num_photos = 0
    for item in ahead(lambda image: _read(image, predictor), images, workers=num_workers):
        if isinstance(item, ImageError) and not skip:
            yield from _answered(waiting, predictor)
            raise item
        waiting.append(item)
        num_photos += isinstance(item, _Read)
        if num_photos in (0, predictor.batch_size):
            yield from _answered(waiting, predictor)
            waiting, num_photos = [], 0
    yield from _answered(waiting, predictor)


def _read(image: ImageLike, predictor: "Predictor") -> _Read | ImageError:
    source = Path(image) if isinstance(image, str | Path) else None
    try:
        photo = take_photo(image)
        return _Read(photo, predictor.tiling.fit(photo.image, predictor), source)
    except ImageError as error:
        return error


def _answered(items: list[_Read | ImageError], predictor: "Predictor") -> Iterator[Result | ImageError]:
    whole = [item for item in items if isinstance(item, _Read) and not item.fitted.windows]
    logits_BKHW, extras = _together(whole, predictor)
    position = 0
    for item in items:
        if isinstance(item, ImageError):
            yield item
            continue
        if item.fitted.windows:
            logits_KHW, beside = answer(item.fitted, predictor)
        else:
            logits_KHW = logits_BKHW[position]
            beside = {name: extra_B1HW[position, 0] for name, extra_B1HW in extras.items()}
            position += 1
        yield Result(Answer(item.photo, logits_KHW, item.fitted.placement, beside), predictor, item.source)


def _together(photos: list[_Read], predictor: "Predictor") -> tuple[Any, dict[str, Any]]:
    if not photos:
        return (), {}
    return predictor.run_with_extras(np.stack([photo.fitted.tiles[0] for photo in photos]))


def _from_array(array: NDArray[Any]) -> Photo:
    shape = array.shape
    if (
        array.dtype != np.uint8
        or not (array.ndim == 2 or (array.ndim == 3 and shape[2] in (1, 3, 4)))
        or not array.size
    ):
        raise UsageError(
            f"an array of {array.dtype} {shape} is no photo",
            "uint8 and (H, W, 3) in RGB order, (H, W, 4) with alpha, or (H, W); `(255 * x).round().astype(np.uint8)`"
            " makes it of 0..1",
        )
    if array.ndim == 3 and shape[2] == 3:
        return Photo(np.ascontiguousarray(array))
    if array.ndim == 3 and shape[2] == 4:
        from PIL import Image

        return photo_from_pillow(Image.fromarray(np.ascontiguousarray(array)))
    return Photo(np.repeat(array.reshape(shape[0], shape[1], 1), 3, axis=2))
