"""Folders that appear whole: built beside their final name under a lock, renamed at the end."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from seglab import files
from seglab.errors import BusyError, DataError

__all__ = ["StagedDir"]


class StagedDir:
    """A folder under construction; a context manager.

    :attr:`build_dir` (``.NAME.building`` beside the final name) is removed when the block ends without :meth:`publish`.
    What a kill left behind is removed by the next one, and a replacement that was half done is undone. A lock keeps a
    second builder out. With ``reusable`` the folder stays where Ctrl-C or a signal ends the block, as on a kill.

    Args:
        dir: The final name; a link is followed.
        check: Called with the final folder on entry and again before it is replaced; raises to refuse.
        reusable: Called, under the lock, with what an interrupted builder left; whether this one goes on from it.
    """

    def __init__(
        self, dir: Path, check: Callable[[Path], None], *, reusable: Callable[[Path], bool] | None = None
    ) -> None:
        self.dir = dir.resolve()
        self.build_dir = self.dir.with_name(f".{self.dir.name}.building")
        self._old_dir = self.dir.with_name(f".{self.dir.name}.replaced")
        self._check = check
        self._reusable = reusable
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "StagedDir":
        with contextlib.ExitStack() as stack, _as_data_error(self.dir):
            self.dir.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_sole_builder(self.dir))
            self._recover()
            self._check(self.dir)
            self.build_dir.mkdir(exist_ok=True)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        if self._reusable is None or not interrupted:
            shutil.rmtree(self.build_dir, ignore_errors=True)
        self._stack.close()

    def publish(self) -> None:
        """Give the folder its final name; one that was there goes.

        Raises:
            DataError: If the name cannot be taken; whatever had it before has it still.
        """
        with _as_data_error(self.dir):
            if self.dir.exists():
                self._check(self.dir)
                self.dir.rename(self._old_dir)
            try:
                self.build_dir.rename(self.dir)
            except OSError:
                if self._old_dir.exists():
                    self._old_dir.rename(self.dir)
                raise
        files.sync_dir(self.dir.parent)
        shutil.rmtree(self._old_dir, ignore_errors=True)

    def _recover(self) -> None:
        if self._old_dir.exists() and not self.dir.exists():
            self._old_dir.rename(self.dir)
        for left_dir in (self._old_dir, self.build_dir):
            goes_on = left_dir == self.build_dir and self._reusable is not None and self._reusable(left_dir)
            if left_dir.exists() and not goes_on:
                shutil.rmtree(left_dir)


@contextlib.contextmanager
def _sole_builder(dir: Path) -> Iterator[None]:
    """Hold the lock of a folder's name; the lock file is gone afterwards."""
    path = dir.with_name(f".{dir.name}.lock")
    with files.lock(path, f"`{dir}`"):
        # The file may have been removed by its last holder between our opening and our locking it.
        if not path.exists() or not path.read_text(errors="replace").startswith(f"pid {os.getpid()} "):
            raise BusyError(f"`{dir}` is in use by another process", "try again")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _as_data_error(dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write `{dir}`: {error.strerror or error}", "check the space and permissions"
        ) from error
