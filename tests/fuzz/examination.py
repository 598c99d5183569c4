"""One input through one parser, and what must not come of it."""

import contextlib
import shutil
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from seglab.errors import SeglabError
from tests.fuzz.targets import Target

__all__ = ["PATIENCE_S", "Ground", "Hangs"]

PATIENCE_S = 20
"""Nothing here takes a second, but machines may be busy."""


class Hangs(Exception):
    """A parser does not come to an end."""


class Ground:
    """A folder for a parser, in a folder that it must not touch.

    Args:
        dir: An empty folder.
        target: The parser.
    """

    def __init__(self, dir: Path, target: Target) -> None:
        self._dir, self._target = dir, target
        self._is_warm = False
        self._inner = dir / "inside"
        self._inner.mkdir()
        (dir / "evil").write_bytes(b"untouched")

    def examine(self, data: bytes) -> bool:
        """Parse bytes; tell whether they were accepted. The first ones, which import torch and others, may take long.

        Raises:
            AssertionError: If something was written outside of the folder.
            Exception: Whatever the parser raises that :mod:`seglab.errors` has not.
        """
        if self._target.fresh:
            shutil.rmtree(self._inner)
            self._inner.mkdir()
        accepted = True
        try:
            with _patience() if self._is_warm else contextlib.nullcontext(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", module=r"PIL\.|torch\.")
                self._target.parse(self._inner, data)
        except SeglabError as error:
            if not error.message:
                raise
            accepted = False
        self._is_warm = True
        assert sorted(path.name for path in self._dir.iterdir()) == ["evil", "inside"], "written outside"
        assert (self._dir / "evil").read_bytes() == b"untouched"
        return accepted


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Raise where something takes longer than :data:`PATIENCE_S`."""

    def raise_it(_signal: int, _frame: FrameType | None) -> None:
        raise Hangs(f"no end after {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, raise_it)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
