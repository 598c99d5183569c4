"""Where outputs go: into files, whole or not at all, or to standard output."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from seglab.files import replacing
from seglab.inference.inputs import STANDARD

__all__ = ["delivering"]


@contextlib.contextmanager
def delivering(path: Path) -> Iterator[BinaryIO]:
    """Yield a stream to write an output to.

    A file has its name only once it is complete (see :func:`seglab.files.replacing`).

    Args:
        path: The file; ``-`` is standard output, which cannot be read back or searched.

    Raises:
        DataError: If it cannot be written.
    """
    if path == STANDARD:
        stream: Any = getattr(sys.stdout, "buffer", sys.stdout)
        yield stream
        stream.flush()
        return
    with replacing(path) as temporary_path, temporary_path.open("wb") as file:
        yield file
        file.flush()
