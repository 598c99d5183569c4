"""Label maps in NumPy's ``.npy`` files. Its own reader evaluates the header as Python, and fails in many ways."""

import re
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_array"]

_MAGIC: Final = b"\x93NUMPY"
_HEADER: Final = re.compile(
    r"""\{(?=.*'descr':\s*'(?P<kind>[^']*)')(?=.*'fortran_order':\s*(?P<columns>True|False)\b)"""
    r"""(?=.*'shape':\s*\((?P<shape>[\dL,\s]*)\)).*\}\s*"""
)
_KIND: Final = re.compile(r"[<>|=][buif]\d{1,2}")
MAX_HEADER_BYTES: Final = 10_000


def read_array(path: Path) -> NDArray[Any]:
    """Return a two-dimensional array of numbers, mapped: what a header promises is not allocated.

    Raises:
        ImageError: If the file is none, cut off, or of more than MAX_PIXELS numbers.
    """
    from seglab.data.images import MAX_PIXELS, ImageError

    try:
        with path.open("rb") as handle:
            start = handle.read(8)
            width = 2 if start[6:7] == b"\x01" else 4
            length = int.from_bytes(handle.read(width), "little")
            header = handle.read(min(length, MAX_HEADER_BYTES)).decode("latin-1")
        match = _HEADER.fullmatch(header)
        if not start.startswith(_MAGIC) or match is None:
            raise ValueError("no header")
        # Python 2 wrote `10L`.
        sides = [int(side) for text in match["shape"].split(",") if (side := text.strip().removesuffix("L"))]
        if len(sides) != 2 or not _KIND.fullmatch(match["kind"]):
            raise ImageError("holds no two-dimensional array of numbers")
        if not 0 < sides[0] * sides[1] <= MAX_PIXELS:
            raise ImageError(f"holds an array of {sides[1]}x{sides[0]}")
        order: Literal["F", "C"] = "F" if match["columns"] == "True" else "C"
        return np.memmap(path, match["kind"], "r", 8 + width + length, (sides[0], sides[1]), order)
    except (OSError, ValueError, TypeError) as error:
        raise ImageError("is no whole `.npy` file of numbers") from error
