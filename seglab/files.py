"""Writing that survives a kill -9: a file is either the old one or the whole new one, and one writer holds a lock."""

import contextlib
import hashlib
import json
import os
import re
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from seglab.errors import BusyError, DataError

__all__ = [
    "append_line",
    "free_bytes",
    "lock",
    "replacing",
    "sha256_of",
    "sweep",
    "sweep_dir",
    "sync_dir",
    "sync_file",
    "write_bytes",
    "write_json",
    "write_text",
]


_TEMPORARY: Final = re.compile(r"\.(?P<stem>.+)\.(?P<pid>[0-9]+)\.[0-9a-f]+\.part", re.DOTALL)


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; when the block ends well it becomes ``path`` in one step.

    The temporary name begins with a dot and ends in ``.part``. Its content reaches the disk before the rename. When the
    block raises, the temporary file is removed and ``path`` is untouched.

    Args:
        path: The final name.
        sync: Wait for the disk; not needed where :func:`sync_file` is called before anyone relies on the file.

    Raises:
        DataError: If there is a device or a pipe, which would be gone; the folder cannot be written to, or the disk is
            full.
    """
    _refuse_devices(path)
    temporary_path = path.with_name(f".{_stem(path)}.{os.getpid()}.{time.monotonic_ns() & 0xFFFFFF:x}.part")
    try:
        yield temporary_path
        if sync:
            sync_file(temporary_path)
        temporary_path.replace(path)
    except OSError as error:
        _remove(temporary_path)
        raise _cannot_write(path, error) from error
    except BaseException:
        _remove(temporary_path)
        raise


def _refuse_devices(path: Path) -> None:
    """Refuse to put a file in the place of what is none: root could lose ``/dev/null`` and ``/dev/stdout``."""
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing is there, or a link to nothing
        return
    of_system = path.is_symlink() and path.absolute().parts[1:2] in (("dev",), ("proc",))
    if of_system or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(
            f"cannot write `{path}`: it is a device or a pipe, and a file would take its place", "name a file"
        )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, as hexadecimal digits.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_bytes(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a whole file in one step (see :func:`replacing`)."""
    with replacing(path, sync=sync) as temporary_path:
        temporary_path.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 file in one step (see :func:`replacing`).

    What of a file's name is no character becomes an escape, as JSON has them and reads back.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, values: Any) -> None:
    """Write plain values as indented JSON in one step (see :func:`replacing`); NaN is refused."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def append_line(path: Path, line: str) -> None:
    """Append one line to a log in a single write, so that a kill leaves at most one broken last line."""
    try:
        with path.open("ab") as handle:
            handle.write(line.encode() + b"\n")
    except OSError as error:
        raise _cannot_write(path, error) from error


def sweep(paths: Iterable[Path]) -> None:
    """Remove the temporary files that killed processes of this machine have left of files (see :func:`replacing`).

    Args:
        paths: The final names. Nobody else in this process may be writing them.
    """
    stems: dict[Path, set[str]] = {}
    for path in paths:
        stems.setdefault(path.parent, set()).add(_stem(path))
    for dir, ours in stems.items():
        for path, stem in _left_in(dir):
            if stem in ours:
                _remove(path)


def sweep_dir(dir: Path) -> None:
    """Remove the temporary files that killed processes of this machine have left in a folder, whatever they were of.

    Args:
        dir: Where nobody else writes; need not exist.
    """
    for path, _ in _left_in(dir):
        _remove(path)


def _left_in(dir: Path) -> Iterator[tuple[Path, str]]:
    """Yield the temporary files of processes that are gone, and what they were to be called."""
    with contextlib.suppress(OSError), os.scandir(dir) as entries:
        for entry in entries:
            found = _TEMPORARY.fullmatch(entry.name)
            if found and not _is_other_process(int(found["pid"])):
                yield Path(entry.path), found["stem"]


def sync_file(path: Path) -> None:
    """Wait until the content of a file has reached the disk."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def sync_dir(path: Path) -> None:
    """Make renames inside a folder durable, where the platform can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def free_bytes(path: Path) -> int:
    """Return the free space, in bytes, of the disk that holds ``path`` or its nearest existing parent."""
    import shutil

    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


@contextlib.contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock file for the length of the block; the system frees it when the process dies.

    Args:
        path: The lock file; created if absent, its folder must exist. It is left in place, empty, unless the block
            removes it.
        what: What is locked, for the error: ``run `runs/a` ``.

    Raises:
        BusyError: If another process holds it; the message names its pid and start time.
    """
    import fcntl

    try:
        handle = path.open("a+b")
    except OSError as error:
        raise _cannot_write(path, error) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(handle, path):  # its holder removed it before it ended, so that others may have a new one
                raise BlockingIOError
        except OSError:
            handle.seek(0)
            holder = handle.read(200).decode(errors="replace").strip() or "another process"
            raise BusyError(f"{what} is in use by {holder}", "wait for it to end, or stop it") from None
        handle.truncate(0)
        handle.write(f"pid {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode())
        handle.flush()
        try:
            yield
        finally:
            handle.truncate(0)


def _is_at(handle: BinaryIO, path: Path) -> bool:
    """Tell whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _stem(path: Path) -> str:
    # A long name would pass the limit of 255 bytes with the additions, so only its beginning is kept.
    return os.fsencode(path.name)[:180].decode(sys.getfilesystemencoding(), errors="ignore")


def _is_other_process(pid: int) -> bool:
    """Tell whether a process of this machine has that number, and it is not this one: containers give it again."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _remove(path: Path) -> None:
    """Remove a temporary file, where that is possible: not on a disk that is read-only, nor below a file."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot write `{path}`: {error.strerror or error}", "check the free space and the permissions")
