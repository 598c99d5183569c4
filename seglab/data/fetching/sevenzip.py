"""Members of a 7z archive, read with the standard library: LZMA, LZMA2, Deflate, BZip2, stored.

The format is the one described in ``7zFormat.txt`` of the LZMA SDK (public domain). What 7-Zip packs photos and masks
with is covered, also with the filter for x86 programs; PPMd, rarer filters and encryption are refused by name.
"""

import bz2
import contextlib
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from seglab.data.fetching.admission import (
    BY_HAND,
    ArchiveError,
    Limits,
    Member,
    MemberKind,
    UnreadError,
    kind_of_mode,
    refuse,
)
from seglab.data.fetching.sevenzip_header import Block, Damaged, Entry, Header, Reader, parse_header, parse_streams

__all__ = ["open_7z"]

CHUNK_BYTES: Final = 1 << 20
PACKED_BYTES: Final = 1 << 16
"""Read in small pieces, so that how far the archive has been read says what came out of what."""
SIGNATURE: Final = b"7z\xbc\xaf\x27\x1c"
START_BYTES: Final = 32
HEADER_BYTES: Final = 256 << 20
DICTIONARY_BYTES: Final = 1536 << 20
"""The largest dictionary that 7-Zip offers."""

ENCODED_HEADER: Final = 0x17
PLAIN_HEADER: Final = 0x01

READ_ONLY, FOLDER, REPARSE_POINT, UNIX_MODE = 0x1, 0x10, 0x400, 0x8000

X86: Final = (b"\x04", b"\x03\x03\x01\x03")
"""The filter for programs, which some packers put before everything."""
COPY, LZMA2, LZMA1 = b"\x00", b"\x21", b"\x03\x01\x01"
DEFLATE, BZIP2, AES = b"\x04\x01\x08", b"\x04\x02\x02", b"\x06\xf1\x07\x01"
_NAMES: Final = {
    b"\x03": "Delta", X86[0]: "BCJ", X86[1]: "BCJ", b"\x03\x03\x01\x1b": "BCJ2", b"\x03\x04\x01": "PPMd",
    b"\x04\x01\x09": "Deflate64", b"\x04\xf7\x11\x01": "Zstandard", b"\x04\xf7\x11\x02": "Brotli",
}  # fmt: skip


@contextlib.contextmanager
def open_7z(path: Path, limits: Limits) -> Iterator[tuple[list[Member], Callable[[], int]]]:
    """Open a 7z archive; yields its members, and what tells how far the archive has been read.

    Raises:
        ArchiveError: If it is damaged, its list is encrypted, or it says that it holds more members than it may; also
            from reading a member.
        UnreadError: From reading a member that is packed in a way that is not read here.
    """
    with path.open("rb") as handle:
        try:
            header = _read_header(handle, limits)
            yield list(_members(handle, header)), handle.tell
        except Damaged as error:
            raise ArchiveError(f"the archive is damaged: {error}", "get it again") from error


def _read_header(handle: BinaryIO, limits: Limits) -> Header:
    start = Reader(handle.read(START_BYTES))
    if start.take(6) != SIGNATURE:
        raise Damaged("it does not begin like a 7z archive")
    start.take(2)
    crc, rest = start.uint32(), start.peek(20)
    if zlib.crc32(rest) != crc:
        raise Damaged("its beginning has a wrong checksum")
    offset, size, crc = start.uint64(), start.uint64(), start.uint32()
    if not size:
        return Header((), ())
    if size > HEADER_BYTES or START_BYTES + offset + size > handle.seek(0, 2):
        raise Damaged("its end is missing")
    handle.seek(START_BYTES + offset)
    data = handle.read(size)
    for _ in range(4):
        if zlib.crc32(data) != crc:
            raise Damaged("its list of members has a wrong checksum")
        reader = Reader(data)
        kind = reader.byte()
        if kind == PLAIN_HEADER:
            return parse_header(reader, limits.num_members, _too_many)
        if kind != ENCODED_HEADER:
            break
        data, crc = _unpack_header(handle, reader)
    raise Damaged("its list of members is of an unknown kind")


def _unpack_header(handle: BinaryIO, reader: Reader) -> tuple[bytes, int]:
    blocks = parse_streams(reader, 1, _too_many)
    if len(blocks) != 1 or blocks[0].size > HEADER_BYTES:
        raise Damaged("its list of members is too long")
    stream = _Unpacker(handle, blocks[0], "the list of members")
    data = b"".join(stream.read(blocks[0].size))
    crc = blocks[0].crcs[0]
    return data, zlib.crc32(data) if crc is None else crc


def _too_many(num: int, most: int) -> ArchiveError:
    return refuse("the list of members", f"names {num:,} of them; {most:,} are allowed")


def _members(handle: BinaryIO, header: Header) -> Iterator[Member]:
    """Yield the members; those of a block share its one stream, which is why they are read in this order."""
    contents = _contents(handle, header.blocks)
    for entry in header.entries:
        kind = _kind(entry)
        if not entry.has_content:
            yield Member(entry.name, kind, 0, encrypted=False, packed=None, read=partial(iter, ()))
            continue
        content = next(contents, None)
        if content is None:
            raise Damaged("it names more members than it holds")
        read = partial(_read, entry.name, content)
        encrypted = AES in content.stream.block.codecs
        yield Member(entry.name, kind, content.size, encrypted=encrypted, packed=None, read=read)
    if next(contents, None) is not None:
        raise Damaged("it holds more members than it names")


def _kind(entry: Entry) -> MemberKind:
    attributes = entry.attributes
    if attributes & REPARSE_POINT:
        return "link"
    if attributes & UNIX_MODE:
        by_mode = kind_of_mode(attributes >> 16)
        if by_mode in ("link", "device"):
            return by_mode
    return "folder" if entry.folder or attributes & FOLDER else "file"


@dataclass(frozen=True)
class _Content:
    stream: "_Unpacker"
    size: int
    crc: int | None


def _contents(handle: BinaryIO, blocks: tuple[Block, ...]) -> Iterator[_Content]:
    for block in blocks:
        stream = _Unpacker(handle, block, "")
        for size, crc in zip(block.sizes, block.crcs, strict=True):
            yield _Content(stream, size, crc)


def _read(name: str, content: _Content) -> Iterator[bytes]:
    crc = 0
    content.stream.name = name
    try:
        for chunk in content.stream.read(content.size):
            crc = zlib.crc32(chunk, crc)
            yield chunk
    except Damaged as error:
        raise ArchiveError(f"the archive is damaged at `{name}`: {error}", "get it again") from error
    if content.crc is not None and crc != content.crc:
        raise ArchiveError(f"the archive is damaged at `{name}`: wrong checksum", "get it again")


class _Decoder(Protocol):
    def decode(self, data: bytes, most: int) -> bytes:
        """Return up to ``most`` bytes; ``data`` is new input, empty to get more of the old."""


class _Unpacker:
    """The unpacked content of one block, in order."""

    def __init__(self, handle: BinaryIO, block: Block, name: str) -> None:
        self.block, self.name = block, name
        self._handle, self._at, self._left = handle, block.offset, block.packed_size
        self._decoder: _Decoder | None = None

    def read(self, size: int) -> Iterator[bytes]:
        """Yield the next ``size`` bytes in pieces."""
        self._decoder = self._decoder or _decoder(self.block, self.name, self._handle.name)
        while size:
            try:
                chunk = self._decoder.decode(b"", min(size, CHUNK_BYTES))
                if not chunk:
                    chunk = self._decoder.decode(self._packed(), min(size, CHUNK_BYTES))
            except (lzma.LZMAError, zlib.error, EOFError, ValueError, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                raise Damaged(str(error)) from error
            size -= len(chunk)
            if chunk:
                yield chunk

    def _packed(self) -> bytes:
        self._handle.seek(self._at)
        data = self._handle.read(min(PACKED_BYTES, self._left))
        if not data:
            raise Damaged("its content is cut short")
        self._at += len(data)
        self._left -= len(data)
        return data


def _decoder(block: Block, name: str, path: str) -> _Decoder:
    if AES in block.codecs:
        raise refuse(name, "is encrypted", BY_HAND)
    match block.codecs:
        case (codec,) if codec == COPY:
            return _Stored()
        case (codec,) if codec == LZMA2:
            return _Lzma([_lzma2_filter(block.properties[0])])
        case (codec,) if codec == LZMA1:
            return _Lzma([_lzma1_filter(block.properties[0])])
        case (codec,) if codec == DEFLATE:
            return _Deflate()
        case (codec,) if codec == BZIP2:
            return _Bzip2()
        case (codec, outer) if codec == LZMA2 and outer in X86:
            return _Lzma([{"id": lzma.FILTER_X86}, _lzma2_filter(block.properties[0])])
    names = " + ".join(_NAMES.get(codec, codec.hex()) for codec in block.codecs if codec not in (LZMA1, LZMA2, COPY))
    raise UnreadError(
        f"`{name}` is packed with {names}, which seglab does not read",
        f"unpack it with 7-Zip: `7z x {path} -oDIR`, then go on with DIR",
    )


def _lzma2_filter(properties: bytes) -> dict[str, int]:
    if len(properties) != 1 or properties[0] > 40:
        raise Damaged("its LZMA2 properties are wrong")
    bits = properties[0]
    return {"id": lzma.FILTER_LZMA2, "dict_size": _dictionary((2 | bits & 1) << (bits // 2 + 11))}


def _lzma1_filter(properties: bytes) -> dict[str, int]:
    if len(properties) != 5 or properties[0] >= 9 * 5 * 5:
        raise Damaged("its LZMA properties are wrong")
    rest, lc = divmod(properties[0], 9)
    pb, lp = divmod(rest, 5)
    size = max(4096, int.from_bytes(properties[1:], "little"))
    return {"id": lzma.FILTER_LZMA1, "dict_size": _dictionary(size), "lc": lc, "lp": lp, "pb": pb}


def _dictionary(size: int) -> int:
    if size > DICTIONARY_BYTES:
        raise Damaged(f"it wants a dictionary of {size >> 20:,} MiB")
    return size


class _Stored:
    def __init__(self) -> None:
        self._rest = b""

    def decode(self, data: bytes, most: int) -> bytes:
        self._rest += data
        chunk, self._rest = self._rest[:most], self._rest[most:]
        return chunk


class _Lzma:
    def __init__(self, filters: list[dict[str, int]]) -> None:
        self._lzma = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)

    def decode(self, data: bytes, most: int) -> bytes:
        return b"" if self._lzma.eof else self._lzma.decompress(data, most)


class _Deflate:
    def __init__(self) -> None:
        self._deflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def decode(self, data: bytes, most: int) -> bytes:
        return self._deflate.decompress(self._deflate.unconsumed_tail + data, most)


class _Bzip2:
    def __init__(self) -> None:
        self._bzip2, self._rest = bz2.BZ2Decompressor(), b""

    def decode(self, data: bytes, most: int) -> bytes:
        data, self._rest = self._rest + data, b""
        if self._bzip2.eof:  # 7-Zip's threads write several streams, one behind the other
            self._rest, self._bzip2 = self._bzip2.unused_data, bz2.BZ2Decompressor()
            data, self._rest = self._rest + data, b""
        return self._bzip2.decompress(data, most)
