"""The ``.mat`` files of PASCAL-Part: objects with their class, and the mask of every part. SciPy reads them."""

import importlib.util
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.errors import DeviceError

__all__ = ["AnnotatedObject", "read_objects", "require_scipy"]

_OTHERS: Final = (NotImplementedError, MemoryError, zlib.error)
"""What SciPy raises for files of MATLAB 7.3 and damaged ones, beside the usual."""


@dataclass(frozen=True)
class AnnotatedObject:
    """One thing in a photo."""

    kind: str
    """VOC class, e.g. ``person``."""
    mask: NDArray[np.bool_]
    """HW, where the object is."""
    parts: list[tuple[str, NDArray[np.bool_]]]
    """Name and HW mask of every part, in the file's order; not all objects have any."""


def require_scipy() -> None:
    """Make sure that :func:`read_objects` can work.

    Raises:
        DeviceError: If SciPy is not installed.
    """
    if importlib.util.find_spec("scipy") is None:
        raise DeviceError("SciPy, which reads `.mat` files, is not installed", "pip install 'seglab[mat]'")


def read_objects(path: Path) -> list[AnnotatedObject]:
    """Return the objects of a photo in the file's order.

    Raises:
        ImageError: If the file is no PASCAL-Part annotation.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    from seglab.data.images import ImageError

    try:
        content = loadmat(path, struct_as_record=False, variable_names=["anno"])
        objects = list(_objects(content["anno"]))
    except (MatReadError, OSError, EOFError, LookupError, ValueError, TypeError, AttributeError, *_OTHERS) as error:
        raise ImageError(f"is no PASCAL-Part annotation ({type(error).__name__})") from error
    shapes = {mask.shape for object in objects for mask in (object.mask, *(mask for _, mask in object.parts))}
    if len(shapes) > 1 or any(len(shape) != 2 for shape in shapes):
        raise ImageError("has masks of different sizes")
    return objects


def _objects(annotation: NDArray[Any]) -> Iterator[AnnotatedObject]:
    """Walk the structures: MATLAB has everything, also a name, in arrays of two dimensions."""
    for object in annotation.item().objects.ravel():
        parts = [(str(part.part_name.item()), part.mask > 0) for part in object.parts.ravel()]
        yield AnnotatedObject(str(getattr(object, "class").item()), object.mask > 0, parts)
