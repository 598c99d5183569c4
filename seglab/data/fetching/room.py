"""Whether the disk has room for what a fetch brings, and what to say where it has not."""

import errno
from pathlib import Path
from typing import Final

from seglab import files
from seglab.data.fetching.registry import Row
from seglab.errors import DataError

__all__ = ["SPARE_BYTES", "NoRoomError", "estimate", "is_full", "lack", "megabytes", "need_room"]

SPARE_BYTES: Final = 64 << 20
"""So much of the disk is left free."""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class NoRoomError(DataError):
    """The disk has not enough room: nothing is wrong with what came, and it is kept."""


def estimate(
    row: Row, downloads_dir: Path, from_path: Path | None = None, *, keep_archive: bool = False
) -> tuple[int, int]:
    """Return roughly what a fetch will download from now on, and unpack or copy, in bytes; 0 where nobody knows.

    Args:
        row: What is fetched.
        downloads_dir: Where an interrupted fetch left what it had.
        from_path: The user's own file, if he gave one.
        keep_archive: Whether that stays beside what it held.
    """
    if from_path is not None:
        size = from_path.stat().st_size
        return 0, max(row.unpacked_bytes, size) + (size if keep_archive else 0) if row.unpack else size
    there = sum(path.stat().st_size for path in downloads_dir.rglob("*") if path.is_file())
    return max(0, row.bytes - there), (row.unpacked_bytes or row.bytes) if row.unpack else 0


def need_room(dir: Path, download_bytes: int, content_bytes: int) -> None:
    """See that there is room beside a folder for all that is still to come.

    Args:
        dir: What is fetched becomes this folder.
        download_bytes: What is still to be downloaded; 0 if nothing, or nobody knows.
        content_bytes: What is then unpacked or copied; 0 if nothing, or nobody knows.

    Raises:
        NoRoomError: If there is not; it says what all of it takes.
    """
    free = files.free_bytes(dir.parent)
    needed = download_bytes + content_bytes + SPARE_BYTES
    if needed == SPARE_BYTES or needed <= free:
        return
    shares = [
        f"{megabytes(num_bytes)} for {what}"
        for what, num_bytes in (("the download", download_bytes), ("what is in it", content_bytes))
        if num_bytes
    ]
    raise NoRoomError(
        f"the disk of `{dir.parent}` has {megabytes(free)} free, but {megabytes(needed)} are needed in all:"
        f" {', '.join(shares)}, and {megabytes(SPARE_BYTES)} that stay free",
        "make room, or choose another disk with `--out DIR` or SEGLAB_CACHE",
    )


def lack(dir: Path, room: tuple[int, int]) -> list[str]:
    """Return what :func:`need_room` would say, in a list of its own; empty where there is room."""
    try:
        need_room(dir, *room)
    except NoRoomError as error:
        return [error.message]
    return []


def is_full(error: OSError) -> bool:
    """Tell whether an error means that a disk, or one's share of it, is full."""
    return error.errno in _FULL


def megabytes(num_bytes: int) -> str:
    """Return a size for people: ``0.1 MB``, ``130 MB``, ``12.3 GB``."""
    if num_bytes >= 10_000_000_000:
        return f"{num_bytes / 1e9:,.1f} GB"
    return f"{num_bytes / 1e6:,.{0 if num_bytes >= 10_000_000 else 1}f} MB"
