"""Files that tests make and look at."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def touch(*names: str) -> None:
    """Make files of one byte, and their folders."""
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def read(path: str | Path | io.BytesIO) -> np.ndarray:
    """Return the pixels of a picture as they are stored."""
    with Image.open(path) as stored:
        return np.array(stored)


def kind(path: str | Path | io.BytesIO) -> tuple[str, str | None, tuple[int, int]]:
    """Return mode, format, and width and height of a picture."""
    with Image.open(path) as stored:
        return stored.mode, stored.format, stored.size
