"""The layers of a picture in the gallery as ``data:`` URIs, each within a budget of bytes."""

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seglab.evaluation.report.pictures import Pictures
from seglab.tasks import IGNORE, Rgb, Task

__all__ = ["ERRORS", "MASK_BYTES", "PHOTO_BYTES", "SIDE_PX", "Layers", "draw"]

Uint8 = NDArray[np.uint8]
Rgba = tuple[int, int, int, int]

SIDE_PX: Final = 480
"""The longer side of a picture, at most."""
PHOTO_BYTES: Final = 44_000
"""The most that a photo takes; of one that takes more, quality and then size are lowered."""
MASK_BYTES: Final = 16_000
"""The most that truth, prediction and errors take each; of one that takes more, the size is lowered."""

_QUALITIES: Final = (82, 70, 55, 40)

_VOID: Final = (160, 160, 150, 190)
_BEHIND, _RIGHT, _MISSED, _ALARM, _MIXED, _IGNORED = range(6)

ERRORS: Final[tuple[tuple[str, str, Rgb], ...]] = (
    ("right", "a class that was found", (30, 110, 70)),
    ("missed", "taken for background", (64, 132, 255)),
    ("false alarm", "background taken for a class", (255, 168, 0)),
    ("confused", "one class taken for another", (235, 40, 150)),
)
"""What the error map tells apart, and the colours; what is right lets the photo through."""

_ERROR_COLOURS: Final = (
    (0, 0, 0, 150), (*ERRORS[0][2], 110), *((*colour, 255) for _, _, colour in ERRORS[1:]), _VOID,
)  # fmt: skip


@dataclass(frozen=True)
class Layers:
    """``data:`` URIs of equal shape, one over the other."""

    size_hw: tuple[int, int]
    photo: str | None
    truth: str
    prediction: str
    errors: str


def draw(pictures: Pictures, task: Task) -> Layers:
    """Shrink and encode the pictures of an image.

    The masks have the colours of the task's palette; the background is transparent.
    """
    from seglab.data.geometry import reduced_hw
    from seglab.data.images import resize_labels

    height, width = pictures.truth.shape
    size_hw = reduced_hw((height, width), SIDE_PX)
    truth, prediction = (resize_labels(labels, size_hw) for labels in (pictures.truth, pictures.prediction))
    palette = [(*colour, 255 if label else 0) for label, colour in enumerate(task.palette)]
    palette += [_VOID] * (IGNORE + 1 - len(palette))
    return Layers(
        size_hw,
        None if pictures.photo is None else _photo(pictures.photo, size_hw),
        _mask(truth, palette),
        _mask(prediction, palette),
        _mask(_errors(truth, prediction), _ERROR_COLOURS),
    )


def _errors(truth: Uint8, prediction: Uint8) -> Uint8:
    """Return what is right and what kind of error is made, pixel by pixel."""
    kinds = np.full(truth.shape, _MIXED, np.uint8)
    kinds[prediction == 0] = _MISSED
    kinds[truth == 0] = _ALARM
    right = truth == prediction
    kinds[right] = _RIGHT
    kinds[right & (truth == 0)] = _BEHIND
    kinds[truth == IGNORE] = _IGNORED
    return kinds


def _photo(image: Uint8, size_hw: tuple[int, int]) -> str:
    from seglab.data.images import encode_jpeg, resize_image

    def attempts() -> Iterator[bytes]:
        for part_hw in _parts(size_hw):
            shrunk = resize_image(image, part_hw)
            yield from (encode_jpeg(shrunk, quality=quality) for quality in _QUALITIES)

    return _uri("jpeg", _within(PHOTO_BYTES, attempts()))


def _mask(labels: Uint8, colours: Sequence[Rgba]) -> str:
    from seglab.data.images import resize_labels

    height, width = labels.shape
    attempts = (_png(resize_labels(labels, part_hw), colours) for part_hw in _parts((height, width)))
    return _uri("png", _within(MASK_BYTES, attempts))


def _parts(size_hw: tuple[int, int]) -> list[tuple[int, int]]:
    """Return a size and its half, quarter and eighth."""
    height, width = size_hw
    return [(max(1, height // part), max(1, width // part)) for part in (1, 2, 4, 8)]


def _within(budget: int, attempts: Iterable[bytes]) -> bytes:
    """Return the first that is small enough; the last, if none is."""
    encoded = b""
    for encoded in attempts:
        if len(encoded) <= budget:
            break
    return encoded


def _png(labels: Uint8, colours: Sequence[Rgba]) -> bytes:
    """Encode ids as a PNG of mode P with transparency, its palette of the colours in use only."""
    from PIL import Image

    used = np.unique(labels)
    table = np.zeros(256, np.uint8)
    table[used] = np.arange(len(used))
    chosen = [colours[label] for label in used]
    picture = Image.fromarray(table[labels], "P")
    picture.putpalette(bytes(value for colour in chosen for value in colour[:3]))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, transparency=bytes(colour[3] for colour in chosen))
    return file.getvalue()


def _uri(kind: str, encoded: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"
