"""The ``.mat`` files of PASCAL-Part: objects with their class, and the mask of every part."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.data.matlab import read_variable

__all__ = ["AnnotatedObject", "read_objects"]


@dataclass(frozen=True)
class AnnotatedObject:
    """One thing in a photo."""

    kind: str
    """VOC class, e.g. ``person``."""
    mask: NDArray[np.bool_]
    """HW, where the object is."""
    parts: list[tuple[str, NDArray[np.bool_]]]
    """Name and HW mask of every part, in the file's order; not all objects have any."""


def read_objects(path: Path) -> list[AnnotatedObject]:
    """Return the objects of a photo in the file's order.

    Raises:
        ImageError: If the file is no PASCAL-Part annotation.
    """
    from seglab.data.images import ImageError

    try:
        (annotation,) = _structures(read_variable(path, "anno"))
        objects = [_object(entry) for entry in _structures(annotation["objects"])]
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    except (KeyError, ValueError) as error:
        raise ImageError(f"is no PASCAL-Part annotation ({error})") from error
    shapes = {mask.shape for object in objects for mask in (object.mask, *(mask for _, mask in object.parts))}
    if len(shapes) > 1 or any(len(shape) != 2 or 0 in shape for shape in shapes):
        raise ImageError("has masks of different sizes")
    return objects


def _object(entry: Mapping[str, Any]) -> AnnotatedObject:
    parts = [(_text(part["part_name"]), _mask(part["mask"])) for part in _structures(entry["parts"])]
    return AnnotatedObject(_text(entry["class"]), _mask(entry["mask"]), parts)


def _structures(value: Any) -> Iterator[Mapping[str, Any]]:
    """Walk the structures of an array; where there are none MATLAB may have written an empty matrix."""
    if isinstance(value, np.ndarray) and not value.size:
        return
    if not isinstance(value, list):
        raise ValueError("no structure")
    for entry in value:
        if not isinstance(entry, Mapping):
            raise ValueError("no structure")
        yield entry


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _mask(value: Any) -> NDArray[np.bool_]:
    if not isinstance(value, np.ndarray):
        raise ValueError("no mask")
    mask: NDArray[np.bool_] = value > 0
    return mask
