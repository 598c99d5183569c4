"""The list of members of a 7z archive: where each block lies, how it is packed, and what it holds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["Block", "Damaged", "Entry", "Header", "Reader", "parse_header", "parse_streams"]

END, ARCHIVE_PROPERTIES, ADDITIONAL_STREAMS, MAIN_STREAMS, FILES = 0x00, 0x02, 0x03, 0x04, 0x05
PACK_INFO, UNPACK_INFO, SUBSTREAMS, SIZE, CRC, FOLDERS, UNPACK_SIZES, NUM_STREAMS = 6, 7, 8, 9, 0xA, 0xB, 0xC, 0xD
EMPTY_STREAM, EMPTY_FILE, ANTI, NAMES, ATTRIBUTES = 0x0E, 0x0F, 0x10, 0x11, 0x15

MOST_CODERS: Final = 32

TooMany = Callable[[int, int], Exception]
"""Builds the error for a number of members and the most that are allowed."""


class Damaged(Exception):
    """The archive contradicts itself or ends too early."""


@dataclass(frozen=True)
class Block:
    """Members that were packed as one stream ("folder" in the format's own words)."""

    offset: int
    """Where the packed bytes begin in the file."""
    packed_size: int
    codecs: tuple[bytes, ...]
    """What undoes the packing, in the order of use."""
    properties: tuple[bytes, ...]
    size: int
    """Unpacked, of all members together."""
    sizes: tuple[int, ...]
    crcs: tuple[int | None, ...]


@dataclass(frozen=True)
class Entry:
    """One member as the list has it."""

    name: str
    has_content: bool
    folder: bool
    attributes: int


@dataclass(frozen=True)
class Header:
    """The whole list."""

    blocks: tuple[Block, ...]
    entries: tuple[Entry, ...]


class Reader:
    """Takes values from bytes, and never more than there are."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        data = self.peek(size)
        self._at += size
        return data

    def peek(self, size: int) -> bytes:
        """Return the next bytes without moving on."""
        if size < 0 or self._at + size > len(self._data):
            raise Damaged("a value ends too early")
        return self._data[self._at : self._at + size]

    def byte(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def uint32(self) -> int:
        """Return the next four bytes as a number."""
        return int.from_bytes(self.take(4), "little")

    def uint64(self) -> int:
        """Return the next eight bytes as a number."""
        return int.from_bytes(self.take(8), "little")

    def number(self) -> int:
        """Return a number of one to nine bytes: the leading ones of the first byte count the bytes that follow."""
        first = self.byte()
        num_more = 8 - (first ^ 0xFF).bit_length()
        low = int.from_bytes(self.take(num_more), "little")
        high = first & ((0x80 >> num_more) - 1) if num_more < 8 else 0
        return low | high << (8 * num_more)

    def count(self) -> int:
        """Return a number of things that take at least a byte each, or a bit."""
        num = self.number()
        if num > 8 * len(self._data):
            raise Damaged("it counts more than it holds")
        return num

    def bits(self, num: int) -> list[bool]:
        """Return flags, the highest bit of a byte first."""
        data = self.take((num + 7) // 8)
        return [bool(data[i // 8] & 0x80 >> i % 8) for i in range(num)]

    def defined_bits(self, num: int) -> list[bool]:
        """Return flags that may be given as "all"."""
        return [True] * num if self.byte() else self.bits(num)

    def crcs(self, num: int) -> list[int | None]:
        """Return checksums, None where there is none."""
        return [self.uint32() if defined else None for defined in self.defined_bits(num)]

    def expect(self, kind: int) -> None:
        """Take a byte that must be ``kind``."""
        if self.byte() != kind:
            raise Damaged("a value is not where it should be")

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._data)


def parse_header(reader: Reader, most: int, too_many: TooMany) -> Header:
    """Return the list of members; the kind byte is read already.

    Args:
        reader: Of the unpacked list.
        most: How many members are allowed.
        too_many: Builds the error when there are more.

    Raises:
        Damaged: If the list contradicts itself.
    """
    blocks: tuple[Block, ...] = ()
    entries: tuple[Entry, ...] = ()
    while (kind := reader.byte()) != END:
        if kind == ARCHIVE_PROPERTIES:
            while reader.byte() != END:
                reader.take(reader.number())
        elif kind == ADDITIONAL_STREAMS:
            parse_streams(reader, most, too_many)
        elif kind == MAIN_STREAMS:
            blocks = parse_streams(reader, most, too_many)
        elif kind == FILES:
            entries = _parse_files(reader, most, too_many)
        else:
            raise Damaged("its list of members has an unknown part")
    return Header(blocks, entries)


@dataclass
class _Folder:
    codecs: list[bytes]
    properties: list[bytes]
    num_outputs: int
    num_packed: int
    main_output: int
    sizes: list[int]
    crc: int | None = None

    @property
    def size(self) -> int:
        return self.sizes[self.main_output]


def parse_streams(reader: Reader, most: int, too_many: TooMany) -> tuple[Block, ...]:
    """Return the blocks that a description of streams lists (see :func:`parse_header`)."""
    offset, packed_sizes = 0, list[int]()
    folders: list[_Folder] = []
    parts: list[tuple[list[int], list[int | None]]] | None = None
    while (kind := reader.byte()) != END:
        if kind == PACK_INFO:
            offset, packed_sizes = _parse_pack_info(reader)
        elif kind == UNPACK_INFO:
            folders = _parse_folders(reader)
        elif kind == SUBSTREAMS:
            parts = _parse_substreams(reader, folders, most, too_many)
        else:
            raise Damaged("its list of streams has an unknown part")
    if parts is None:
        parts = [([folder.size], [folder.crc]) for folder in folders]
    return _blocks(offset, packed_sizes, folders, parts)


def _blocks(
    offset: int,
    packed_sizes: list[int],
    folders: list[_Folder],
    parts: list[tuple[list[int], list[int | None]]],
) -> tuple[Block, ...]:
    if sum(folder.num_packed for folder in folders) != len(packed_sizes):
        raise Damaged("it has not as many streams as it says")
    blocks, at, stream = [], 32 + offset, 0
    for folder, (sizes, crcs) in zip(folders, parts, strict=True):
        own = packed_sizes[stream : stream + folder.num_packed]
        blocks.append(
            Block(at, sum(own), tuple(folder.codecs), tuple(folder.properties), folder.size, tuple(sizes), tuple(crcs))
        )
        at += sum(own)
        stream += folder.num_packed
    return tuple(blocks)


def _parse_pack_info(reader: Reader) -> tuple[int, list[int]]:
    offset, num = reader.number(), reader.count()
    sizes: list[int] = []
    while (kind := reader.byte()) != END:
        if kind == SIZE:
            sizes = [reader.number() for _ in range(num)]
        elif kind == CRC:
            reader.crcs(num)
        else:
            raise Damaged("its list of packed streams has an unknown part")
    if len(sizes) != num:
        raise Damaged("the sizes of its packed streams are missing")
    return offset, sizes


def _parse_folders(reader: Reader) -> list[_Folder]:
    reader.expect(FOLDERS)
    num = reader.count()
    reader.expect(0)  # not kept elsewhere
    folders = [_parse_folder(reader) for _ in range(num)]
    reader.expect(UNPACK_SIZES)
    for folder in folders:
        folder.sizes = [reader.number() for _ in range(folder.num_outputs)]
    while (kind := reader.byte()) != END:
        if kind != CRC:
            raise Damaged("its list of blocks has an unknown part")
        for folder, crc in zip(folders, reader.crcs(num), strict=True):
            folder.crc = crc
    return folders


def _parse_folder(reader: Reader) -> _Folder:
    num_coders = reader.number()
    if not 1 <= num_coders <= MOST_CODERS:
        raise Damaged("a block is packed with too many methods")
    codecs, properties, num_inputs, num_outputs = [], [], 0, 0
    for _ in range(num_coders):
        flags = reader.byte()
        codecs.append(reader.take(flags & 0xF))
        inputs, outputs = (reader.number(), reader.number()) if flags & 0x10 else (1, 1)
        properties.append(reader.take(reader.number()) if flags & 0x20 else b"")
        num_inputs, num_outputs = num_inputs + inputs, num_outputs + outputs
    if not 1 <= num_outputs <= MOST_CODERS or num_inputs > MOST_CODERS:
        raise Damaged("a block is packed with too many streams")
    bound = [(reader.number(), reader.number()) for _ in range(num_outputs - 1)]
    num_packed = num_inputs - len(bound)
    if num_packed < 1:
        raise Damaged("a block has no packed stream")
    if num_packed > 1:
        for _ in range(num_packed):
            reader.number()
    free = sorted(set(range(num_outputs)) - {output for _, output in bound})
    if len(free) != 1:
        raise Damaged("a block has no single result")
    order = _order(num_coders, bound) if num_inputs == num_outputs == num_coders else range(num_coders)
    return _Folder([codecs[i] for i in order], [properties[i] for i in order], num_outputs, num_packed, free[0], [])


def _order(num_coders: int, bound: list[tuple[int, int]]) -> list[int]:
    """Return the coders of a chain from the packed bytes outwards; a pair is (input, the output that it takes)."""
    takes = dict(bound)
    taker = {output: coder for coder, output in bound}
    order = [coder for coder in range(num_coders) if coder not in takes][:1]
    while order and order[-1] in taker and len(order) < num_coders:
        order.append(taker[order[-1]])
    if len(order) != num_coders:
        raise Damaged("the methods of a block are in no order")
    return order


def _parse_substreams(
    reader: Reader, folders: list[_Folder], most: int, too_many: TooMany
) -> list[tuple[list[int], list[int | None]]]:
    nums = [1] * len(folders)
    kind = reader.byte()
    if kind == NUM_STREAMS:
        nums = [reader.number() for _ in folders]
        if sum(nums) > most:
            raise too_many(sum(nums), most)
        kind = reader.byte()
    sizes = []
    for folder, num in zip(folders, nums, strict=True):
        own = [reader.number() for _ in range(num - 1)] if kind == SIZE else []
        if num and (len(own) != num - 1 or sum(own) > folder.size):
            raise Damaged("the sizes of its members do not add up")
        sizes.append([*own, folder.size - sum(own)] if num else [])
    if kind == SIZE:
        kind = reader.byte()
    unknown = [num for folder, num in zip(folders, nums, strict=True) if num != 1 or folder.crc is None]
    crcs = iter(reader.crcs(sum(unknown)) if kind == CRC else [None] * sum(unknown))
    if kind == CRC:
        kind = reader.byte()
    if kind != END:
        raise Damaged("its list of members' sizes has an unknown part")
    return [
        (own, [folder.crc] if len(own) == 1 and folder.crc is not None else [next(crcs) for _ in own])
        for folder, own in zip(folders, sizes, strict=True)
    ]


def _parse_files(reader: Reader, most: int, too_many: TooMany) -> tuple[Entry, ...]:
    num = reader.number()
    if num > most:
        raise too_many(num, most)
    empty, empty_files, attributes, names = [False] * num, list[bool](), [0] * num, list[str]()
    while (kind := reader.byte()) != END:
        part = Reader(reader.take(reader.number()))
        if kind == EMPTY_STREAM:
            empty = part.bits(num)
        elif kind == EMPTY_FILE:
            empty_files = part.bits(sum(empty))
        elif kind == NAMES:
            names = _parse_names(part, num)
        elif kind == ATTRIBUTES:
            attributes = _parse_attributes(part, num)
        elif kind == ANTI:
            raise Damaged("it describes deletions, not files")
    if len(names) != num:
        raise Damaged("the names of its members are missing")
    files = iter(empty_files or [False] * sum(empty))
    return tuple(
        Entry(name, not is_empty, is_empty and not next(files), attribute)
        for name, is_empty, attribute in zip(names, empty, attributes, strict=True)
    )


def _parse_names(part: Reader, num: int) -> list[str]:
    part.expect(0)  # not kept elsewhere
    names, units = [], bytearray()
    while not part.ended:
        unit = part.take(2)
        if unit != b"\0\0":
            units += unit
            continue
        names.append(units.decode("utf-16-le", "surrogatepass"))
        units.clear()
    if units or len(names) != num:
        raise Damaged("the names of its members are missing")
    return names


def _parse_attributes(part: Reader, num: int) -> list[int]:
    defined = part.defined_bits(num)
    part.expect(0)  # not kept elsewhere
    return [part.uint32() if is_defined else 0 for is_defined in defined]
