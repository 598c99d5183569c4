"""Members of a tar archive, compressed or not, as they come."""

import bz2
import contextlib
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, cast

from seglab.data.fetching.admission import ArchiveError, Limits, Member, MemberKind, refuse

__all__ = ["open_tar"]

CHUNK_BYTES: Final = 1 << 20
HEADER_BYTES: Final = 1 << 20
"""No header may be longer: tarfile reads one as a whole."""

_OPENERS: Final[dict[str, Callable[..., Any]]] = {
    "gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open, "tar": lambda packed, _mode: contextlib.nullcontext(packed),
}  # fmt: skip
_DAMAGED: Final = (
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    gzip.BadGzipFile,
    UnicodeDecodeError,
    ValueError,
)


@contextlib.contextmanager
def open_tar(path: Path, compression: str, limits: Limits) -> Iterator[tuple[Iterator[Member], Callable[[], int]]]:
    """Open a tar archive; yields its members as they are met, and what tells how far the archive has been read.

    Args:
        path: The archive.
        compression: ``gzip``, ``bzip2``, ``xz``, or ``tar`` for none.
        limits: How much it may hold.

    Raises:
        ArchiveError: If it is no tar, or damaged; also from the iterator and from reading a member.
    """
    with path.open("rb") as packed, _OPENERS[compression](packed, "rb") as unpacked:
        stream = _Forward(unpacked, max(limits.always_bytes, limits.ratio * path.stat().st_size))
        yield _members(stream, path), packed.tell


def _members(stream: "_Forward", path: Path) -> Iterator[Member]:
    last = ""
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:") as archive:
            while (info := archive.next()) is not None:
                last = info.name
                yield _member(archive, info)
                # tarfile remembers every member for lookups that are not made here.
                vars(archive)["members"] = []
        stream.finish()
    except _DAMAGED as error:
        where = f" after `{last}`" if last else ""
        raise ArchiveError(
            f"the archive `{path.name}` is no tar, or is damaged{where}: {error}", "get it again"
        ) from error


def _member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    kind: MemberKind = "device"
    if info.isfile():
        kind = "file"
    elif info.isdir():
        kind = "folder"
    elif info.islnk() or info.issym():
        kind = "link"
    size = info.size if kind == "file" else 0
    return Member(info.name, kind, size, encrypted=False, packed=None, read=partial(_read, archive, info))


def _read(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    handle = archive.extractfile(info)
    if handle is None:
        raise refuse(info.name, "has no content")
    try:
        while chunk := handle.read(CHUNK_BYTES):
            yield chunk
    except _DAMAGED as error:
        raise ArchiveError(f"the archive is damaged at `{info.name}`: {error}", "get it again") from error


class _Forward:
    """A stream that is only read forward, in pieces of bounded size, and never beyond a bound."""

    def __init__(self, stream: Any, most_bytes: int) -> None:
        self._stream, self._most_bytes, self._at = stream, most_bytes, 0
        self._last = b""

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes, none at the end; ``size`` must be given.

        Raises:
            ArchiveError: If more is asked for than a header or a chunk has, or too much was read in all.
            tarfile.ReadError: If the stream is damaged.
        """
        if not 0 <= size <= max(CHUNK_BYTES, HEADER_BYTES):
            raise refuse("a header", "is too long")
        try:
            data: bytes = self._stream.read(size)
        except OSError as error:
            if error.errno is None:  # what decompressors say of damage
                raise tarfile.ReadError(str(error)) from error
            raise
        self._at += len(data)
        self._last = data
        # Headers and padding count here; the members themselves are counted where they are written.
        if self._at > 2 * self._most_bytes:
            raise refuse("what follows the members", "unpacks to too much")
        return data

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return False

    def seek(self, position: int) -> None:
        if position < self._at:
            raise tarfile.ReadError("it points backwards")
        while self._at < position:
            if not self.read(min(CHUNK_BYTES, position - self._at)):
                return

    def finish(self) -> None:
        """See that the archive ends as it should, and read to the end, where a compressed stream has its checksum."""
        if self._last != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("a header is damaged" if self._last else "its end is missing")
        while self.read(CHUNK_BYTES):
            pass
