"""Members of a zip archive."""

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from seglab.data.fetching.admission import (
    ArchiveError,
    Limits,
    Member,
    MemberKind,
    UnreadError,
    kind_of_mode,
    refuse,
)

__all__ = ["open_zip"]

CHUNK_BYTES: Final = 1 << 20
TAIL_BYTES: Final = (1 << 16) + 22
"""The end record lies within so many bytes of the end."""
DIRECTORY_BYTES: Final = 512 << 20
UNIX: Final = 3
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError)
"""What zipfile raises on files that are not what they say."""


@contextlib.contextmanager
def open_zip(path: Path, limits: Limits) -> Iterator[list[Member]]:
    """Open a zip archive and list its members.

    Raises:
        ArchiveError: If it is damaged, or says that it holds more members than it may; also from reading a member.
    """
    with contextlib.ExitStack() as stack:
        try:
            with path.open("rb") as handle:
                _check_directory(handle, limits)
            archive = stack.enter_context(zipfile.ZipFile(path))
            members = [_member(archive, info) for info in archive.infolist()]
        except (zipfile.LargeZipFile, NotImplementedError, OverflowError, *_DAMAGE) as error:
            raise ArchiveError(f"the archive is damaged: {error}", "get it again") from error
        yield members


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    kind: MemberKind = "folder" if info.filename.endswith("/") else "file"
    if info.create_system == UNIX and info.external_attr >> 16:
        by_mode = kind_of_mode(info.external_attr >> 16)
        kind = kind if by_mode in ("file", "folder") else by_mode
    return Member(
        # zipfile cuts names at a NUL; the name as stored is what is judged.
        name=info.filename if "\0" not in info.orig_filename else info.orig_filename,
        kind=kind,
        size=0 if kind == "folder" else info.file_size,
        encrypted=bool(info.flag_bits & 0x1),
        packed=info.compress_size,
        read=partial(_read, archive, info),
    )


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        with archive.open(info) as handle:
            while chunk := handle.read(CHUNK_BYTES):
                yield chunk
    except (OSError, *_DAMAGE) as error:
        raise ArchiveError(f"the archive is damaged at `{info.filename}`: {error}", "get it again") from error
    except NotImplementedError as error:
        raise UnreadError(
            f"`{info.filename}` is packed in a way that seglab does not read: {error}",
            f"unpack it with 7-Zip: `7z x {archive.filename} -oDIR`, then go on with DIR",
        ) from error


def _check_directory(handle: BinaryIO, limits: Limits) -> None:
    """Count the members before zipfile makes an object of each; what the end record says may be a lie."""
    size = handle.seek(0, 2)
    start = max(0, size - TAIL_BYTES)
    handle.seek(start)
    tail = handle.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise zipfile.BadZipFile("its end is missing")
    num_bytes, offset = struct.unpack_from("<II", tail, at + 12)
    end = start + at
    if 0xFFFFFFFF in (num_bytes, offset) or struct.unpack_from("<H", tail, at + 10)[0] == 0xFFFF:
        num_bytes, end = _zip64(handle, end, num_bytes)
    if num_bytes > min(DIRECTORY_BYTES, end):
        raise refuse("its list of members", "is too long")
    handle.seek(end - num_bytes)
    _count(handle.read(num_bytes), limits)


def _zip64(handle: BinaryIO, end: int, num_bytes: int) -> tuple[int, int]:
    """Return the directory's length, and where it ends, of an archive with the large end record, if it has one."""
    handle.seek(max(0, end - 20))
    locator = handle.read(20)
    if not locator.startswith(b"PK\x06\x07"):
        return num_bytes, end
    record_at = int(struct.unpack_from("<Q", locator, 8)[0])
    handle.seek(min(record_at, end))
    record = handle.read(56)
    if not record.startswith(b"PK\x06\x06") or len(record) < 56:
        raise zipfile.BadZipFile("its end is damaged")
    return int(struct.unpack_from("<Q", record, 40)[0]), record_at


def _count(directory: bytes, limits: Limits) -> None:
    at = num = 0
    while directory.startswith(b"PK\x01\x02", at) and len(directory) >= at + 46:
        num += 1
        lengths = struct.unpack_from("<HHH", directory, at + 28)
        if num > limits.num_members:
            name = directory[at + 46 : at + 46 + lengths[0]].decode(errors="replace")
            raise refuse(name, f"is one too many: more than {limits.num_members:,} members")
        at += 46 + sum(lengths)
