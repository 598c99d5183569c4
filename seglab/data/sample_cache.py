"""Where decoded samples are kept between epochs: in memory, in a file that is mapped into memory, or nowhere.

The file lies in the folder of what seglab downloads and computes once, ``samples/KEY`` in it, where the key stands for
all that decides what is kept: runs on the same data share it, one after another and at the same time. A record counts
only with its checksum, which is written after it: kills, power cuts, full disks, and processes that write the same
record at the same time leave nothing that is read wrongly. Folders that nobody used for :data:`UNUSED_S` are removed.
"""

import contextlib
import mmap
import os
import shutil
import time
import weakref
import zlib
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from seglab.errors import UsageError
from seglab.files import free_bytes

__all__ = ["CacheKind", "SampleCache", "open_cache"]

Pixels = npt.NDArray[np.uint8]
CacheKind = Literal["auto", "ram", "disk", "none"]

MEMORY_BYTES: Final = 8 << 30
"""The most memory that is taken without being asked."""
UNUSED_S: Final = 14 * 24 * 3600.0


class SampleCache(Protocol):
    """Keeps records by number. Safe with threads."""

    name: str
    """``ram``, ``disk`` or ``none``."""

    def get(self, index: int) -> Pixels | None:
        """Return a record, which must not be changed; None if it is not there."""

    def put(self, index: int, record: Pixels) -> None:
        """Keep a record, if that is possible."""


def open_cache(
    kind: str,
    sizes: Sequence[int],
    disk_dir: Callable[[], Path],
    *,
    memory_bytes: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> SampleCache:
    """Choose where to keep records of known sizes, and say so if it is not memory.

    Args:
        kind: ``auto`` takes memory if all fits into a quarter of what is free, and else the disk if all fits into a
            quarter of that; ``ram`` and ``disk`` take all but a reserve; what does not fit goes to the next of memory,
            disk, nowhere.
        sizes: Bytes of every record.
        disk_dir: Called for the folder that the disk's file would lie in.
        memory_bytes: The most memory, instead.
        say: Takes a line for the user.

    Raises:
        UsageError: If the kind is another.
    """
    if kind not in get_args(CacheKind):
        raise UsageError(f"`{kind}` is no place to keep samples", f"known: {', '.join(get_args(CacheKind))}")
    total = sum(sizes)
    if kind == "none":
        return _Nowhere()
    if kind != "disk":
        limit = _memory_limit(kind) if memory_bytes is None else memory_bytes
        if total <= limit:
            return _Memory()
    try:
        return _DiskFile(disk_dir(), sizes, share=0.25 if kind == "auto" else 0.95, say=say)
    except _NoRoomError as error:
        reason = str(error)
    except (OSError, ImportError) as error:
        reason = str(error)
    say(f"decoded samples ({_gigabytes(total)}) are not kept: {reason}; every epoch decodes them anew")
    return _Nowhere()


class _NoRoomError(Exception):
    """The disk has not enough room."""


class _Nowhere:
    """Keeps nothing."""

    name = "none"

    def get(self, index: int) -> Pixels | None:  # noqa: ARG002 - of the protocol
        return None

    def put(self, index: int, record: Pixels) -> None:
        pass


class _Memory:
    """Keeps records as long as the process lives."""

    name = "ram"

    def __init__(self) -> None:
        self._records: dict[int, Pixels] = {}

    def get(self, index: int) -> Pixels | None:
        return self._records.get(index)

    def put(self, index: int, record: Pixels) -> None:
        self._records[index] = record


class _DiskFile:
    """``records`` holds all records one after another, with holes where none is yet; ``checksums`` four bytes a record.

    Both are written by calls that tell of a full disk; only what was written is looked at through the mapping.
    """

    name = "disk"

    def __init__(self, dir: Path, sizes: Sequence[int], *, share: float, say: Callable[[str], None]) -> None:
        self._dir, self._sizes, self._say = dir, sizes, say
        self._offsets = [0, *accumulate(sizes)]
        self._known = bytearray(len(sizes))  # 1 for records whose checksum was found right
        self._is_full = False
        lock = _share_folder(dir)
        weakref.finalize(self, os.close, lock)
        self._checksums = os.open(dir / "checksums", os.O_RDWR | os.O_CREAT, 0o644)
        weakref.finalize(self, os.close, self._checksums)
        self._records = os.open(dir / "records", os.O_RDWR | os.O_CREAT, 0o644)
        weakref.finalize(self, os.close, self._records)
        there = os.fstat(self._records).st_blocks * 512
        missing, free = max(0, self._offsets[-1] - there), free_bytes(dir)
        if missing > share * free:
            raise _NoRoomError(f"`{dir}` has {_gigabytes(free)} left")
        os.ftruncate(self._checksums, 4 * len(sizes))
        os.ftruncate(self._records, self._offsets[-1])
        self._bytes = np.frombuffer(mmap.mmap(self._records, self._offsets[-1], access=mmap.ACCESS_READ), np.uint8)
        num_there = int(np.count_nonzero(np.frombuffer(os.pread(self._checksums, 4 * len(sizes), 0), np.uint32)))
        counted = f", {num_there} of {len(sizes)} are there" if num_there else ""
        say(f"decoded samples are kept in `{dir}` ({_gigabytes(self._offsets[-1])}{counted})")

    def get(self, index: int) -> Pixels | None:
        """Return a record, read-only, if it is there and its checksum is right."""
        record = self._bytes[self._offsets[index] : self._offsets[index + 1]]
        if not self._known[index]:
            stored = os.pread(self._checksums, 4, 4 * index)
            if stored in (b"", bytes(4)) or stored != _checksum(record):
                return None
            self._known[index] = 1
        return record

    def put(self, index: int, record: Pixels) -> None:
        """Keep a record. From the first that finds no room on, none is kept, and the user is told once."""
        if self._is_full:
            return
        try:
            _write_whole(self._records, record, self._offsets[index])
            _write_whole(self._checksums, np.frombuffer(_checksum(record), np.uint8), 4 * index)
        except OSError as error:
            self._is_full = True
            reason = error.strerror or str(error)
            self._say(f"no more decoded samples are kept in `{self._dir}`: {reason}; the rest is decoded every epoch")


def _write_whole(file: int, data: Pixels, offset: int) -> None:
    view = memoryview(np.ascontiguousarray(data).data).cast("B")
    while view:
        done = os.pwrite(file, view, offset)
        view, offset = view[done:], offset + done


def _checksum(record: Pixels) -> bytes:
    return (zlib.crc32(record.data) or 1).to_bytes(4, "little")


def _share_folder(dir: Path) -> int:
    """Make a folder if need be and return a lock on it that keeps others from removing it, after removing old ones."""
    import fcntl

    dir.parent.mkdir(parents=True, exist_ok=True)
    for other in dir.parent.iterdir():
        if other != dir:
            _remove_if_unused(other)
    while True:
        dir.mkdir(exist_ok=True)
        try:
            lock = os.open(dir / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # removed this moment
            continue
        fcntl.flock(lock, fcntl.LOCK_SH)
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(lock).st_ino == (dir / "lock").stat().st_ino:
                os.utime(lock)
                return lock
        os.close(lock)


def _remove_if_unused(dir: Path) -> None:
    """Remove the records of others if nobody has used them for long, nor uses them now."""
    import fcntl

    with contextlib.suppress(OSError):
        if time.time() - (dir / "lock").stat().st_mtime < UNUSED_S:
            return
        lock = os.open(dir / "lock", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(dir)
        finally:
            os.close(lock)


def _memory_limit(kind: str) -> int:
    """Return how many bytes of memory this process may use; the processes of torchrun share those of a machine."""
    processes = os.environ.get("LOCAL_WORLD_SIZE", "")
    num_processes = max(1, int(processes)) if processes.isdecimal() else 1
    free = _free_memory()
    return (min(MEMORY_BYTES, free // 4) if kind == "auto" else free * 7 // 10) // num_processes


def _free_memory() -> int:
    """Return the bytes of memory that are free, as far as the system and the control group say."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    group_dir = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # "max" is no number
        limit = int((group_dir / "memory.max").read_text(encoding="ascii"))
        found.append(max(0, limit - int((group_dir / "memory.current").read_text(encoding="ascii"))))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = found or [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2]
    return min(found, default=4 << 30)


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.0f} MB"
