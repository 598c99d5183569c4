"""Unpacking of zip, tar and 7z archives that strangers made."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from seglab.data.fetching.admission import Admission, ArchiveError, Limits, Member
from seglab.data.fetching.retrying import Meter, no_meter
from seglab.data.fetching.room import NoRoomError, is_full, megabytes
from seglab.data.fetching.sniffing import ARCHIVES, sniff_file
from seglab.errors import DataError

__all__ = ["CHUNK_BYTES", "Tree", "read_tree", "unpack"]

CHUNK_BYTES: Final = 1 << 20
LARGE_BYTES: Final = 16 << 20
"""The room for a member of this size is looked for by itself, where the archive does not tell the sum."""


@dataclass(frozen=True)
class Tree:
    """What a folder holds, in three figures."""

    num_files: int
    num_bytes: int
    sha256: str
    """Of the sorted lines ``SHA256  PATH``, the form of ``sha256sum``."""


def _no_matter(_num_bytes: int) -> None:
    """Find room for anything."""


def unpack(
    archive_path: Path,
    dir: Path,
    *,
    limits: Limits | None = None,
    meter: Meter = no_meter,
    need_room: Callable[[int], None] = _no_matter,
) -> Tree:
    """Unpack an archive into a folder that is empty and nobody else's.

    Names stay inside the folder; links, devices, encrypted members, clashing names, too many members and too large a
    ratio (of a member or of the whole, see :class:`Limits`) are refused. Members of zip and 7z are all checked before
    the first is written, those of tar as they come: after an error the folder is to be thrown away. Modes and times are
    not restored.

    Args:
        archive_path: The archive; its first bytes say what it is.
        dir: Where to.
        limits: How much it may hold.
        meter: Shows the unpacked bytes.
        need_room: Called with the unpacked size where the archive tells it; raises when the disk has not so many.

    Raises:
        ArchiveError: If a member is refused (it is named), or the archive is damaged.
        DataError: If the disk is full, or the archive is packed in a way that is not read here.
    """
    archive_bytes = archive_path.stat().st_size
    limits = limits or Limits()
    with _opened(archive_path, limits) as (members, consumed):
        total = None
        if isinstance(members, list):
            total = _check_all(members, Admission(limits, archive_bytes))
            need_room(total)
        with meter("unpack", total, 0) as advance:
            admission = Admission(limits, archive_bytes, consumed)
            return _write_all(iter(members), dir, admission, advance, need_room if total is None else _no_matter)


def read_tree(dir: Path, *, leave_out: frozenset[str], digest: bool, meter: Meter = no_meter) -> Tree:
    """Return what a folder holds.

    Args:
        dir: The folder.
        leave_out: Names directly in it that do not count.
        digest: Whether to read all files; otherwise ``sha256`` is empty.
        meter: Shows the bytes read.
    """
    sizes = {
        path.relative_to(dir).as_posix(): path.stat().st_size
        for path in dir.rglob("*")
        if path.is_file() and path.relative_to(dir).as_posix() not in leave_out
    }
    digests = []
    if digest:
        with meter("check", sum(sizes.values()), 0) as advance:
            for name in sizes:
                digests.append((name, _sha256(dir / name, advance)))
    return Tree(len(sizes), sum(sizes.values()), _tree_sha256(digests) if digest else "")


@contextlib.contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[tuple[list[Member] | Iterator[Member], Callable[[], int] | None]]:
    """Open an archive; yields its members, and for a stream what tells how far it has been read."""
    kind = sniff_file(path)
    if kind not in ARCHIVES:
        raise ArchiveError(
            f"`{path}` is no archive that seglab unpacks ({kind})", "zip, tar, tar.gz, tar.bz2, tar.xz and 7z are"
        )
    if kind == "zip":
        from seglab.data.fetching.zips import open_zip

        with open_zip(path, limits) as members:
            yield members, None
    elif kind == "7z":
        from seglab.data.fetching.sevenzip import open_7z

        with open_7z(path, limits) as opened:
            yield opened
    else:
        from seglab.data.fetching.tars import open_tar

        with open_tar(path, kind, limits) as streamed:
            yield streamed


def _check_all(members: list[Member], admission: Admission) -> int:
    for member in members:
        admission.admit(member)
    return sum(member.size for member in members)


def _write_all(
    members: Iterator[Member],
    dir: Path,
    admission: Admission,
    advance: Callable[[int], None],
    need_room: Callable[[int], None],
) -> Tree:
    digests, num_bytes = [], 0
    made = {dir}
    try:
        for member in members:
            parts = admission.admit(member)
            path = dir.joinpath(*parts)
            folder = path if member.kind == "folder" else path.parent
            if folder not in made:
                folder.mkdir(parents=True, exist_ok=True)
                made.add(folder)
            if member.kind == "file":
                if member.size >= LARGE_BYTES:
                    _need_room_for(member, need_room, dir, num_bytes)
                size, sha256 = _write(member, path, admission, advance)
                num_bytes += size
                digests.append(("/".join(parts), sha256))
    except OSError as error:
        if is_full(error):
            raise _full(dir, num_bytes) from error
        raise DataError(f"cannot unpack into `{dir}`: {error.strerror or error}", "make room, and try again") from error
    if not digests:
        raise ArchiveError("the archive holds no file")
    return Tree(len(digests), num_bytes, _tree_sha256(digests))


def _need_room_for(member: Member, need_room: Callable[[int], None], dir: Path, num_bytes: int) -> None:
    try:
        need_room(member.size)
    except NoRoomError as error:
        raise _full(dir, num_bytes) from error


def _full(dir: Path, num_bytes: int) -> NoRoomError:
    return NoRoomError(
        f"the disk of `{dir.parent}` was full when {megabytes(num_bytes)} of what is in the archive were unpacked",
        "make room, or choose another disk with `--out DIR` or SEGLAB_CACHE",
    )


def _write(member: Member, path: Path, admission: Admission, advance: Callable[[int], None]) -> tuple[int, str]:
    size, sha256 = 0, hashlib.sha256()
    with path.open("xb") as handle:
        for chunk in member.read():
            admission.count(member, len(chunk))
            handle.write(chunk)
            sha256.update(chunk)
            advance(len(chunk))
            size += len(chunk)
    if size != member.size:
        raise ArchiveError(f"the archive is damaged: `{member.name}` has {size} bytes, {member.size} were promised")
    return size, sha256.hexdigest()


def _sha256(path: Path, advance: Callable[[int], None]) -> str:
    sha256 = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK_BYTES):
            sha256.update(chunk)
            advance(len(chunk))
    return sha256.hexdigest()


def _tree_sha256(digests: list[tuple[str, str]]) -> str:
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()
