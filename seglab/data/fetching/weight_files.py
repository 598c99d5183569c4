"""Whether a file of weights is whole: its own tables are compared with its length. Nothing in it is executed."""

import mmap
import pickletools
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast

from seglab.data.fetching.admission import ArchiveError, Limits
from seglab.data.fetching.sniffing import HEAD_BYTES, refusal, sniff
from seglab.data.pickles import CodeError, PickleError, Reader, read_pickle
from seglab.notation import parse_json

__all__ = ["code_in_weights", "why_no_weights"]

NUM_OPCODES: Final = 5_000_000
"""A checkpoint of 1,000 tensors has about 50,000."""
SAFETENSORS_HEADER_BYTES: Final = 100_000_000
LINE_BYTES: Final = 1 << 20

_ITEM_BYTES: Final = {
    "Bool": 1, "Byte": 1, "Char": 1, "QInt8": 1, "QUInt8": 1, "Untyped": 1, "Half": 2, "BFloat16": 2, "Short": 2,
    "Float": 4, "Int": 4, "QInt32": 4, "Double": 8, "Long": 8, "ComplexFloat": 8, "ComplexDouble": 16,
}  # fmt: skip
"""Bytes of a number in PyTorch's ``<NAME>Storage``."""
_WIRE_BYTES: Final = {1: 8, 5: 4}
_ONNX_GRAPH: Final = (7, 2)
_ONNX_OPSETS: Final = (8, 2)
"""Number and wire type of what no ONNX model is without; writers put the operator sets behind the graph."""


class _Wrong(Exception):
    """Says what is wrong with a file, as what follows "it is"."""


def why_no_weights(path: Path, name: str) -> str:
    """Say why a file cannot be whole weights; empty if it can.

    What it is must fit the suffix of its name, and what its own tables promise must be there: the members of PyTorch's
    zip with their checksums, the storages behind its older pickle, the tensors of safetensors, the fields of ONNX.

    Args:
        path: The file.
        name: The name that it is to have.
    """
    with path.open("rb") as handle:
        head = handle.read(HEAD_BYTES)
        size = handle.seek(0, 2)
        handle.seek(0)
        why = refusal(head, archive=False, name=name)
        if why:
            return why
        try:
            match sniff(head):
                case "zip" | "torch-zip":
                    _check_zip(path, size)
                case "torch-pickle":
                    _check_torch_pickle(handle, size)
                case "pickle":
                    _check_pickle(handle, size)
                case "safetensors":
                    _check_safetensors(handle, size)
                case "onnx":
                    _check_onnx(handle, size)
        except _Wrong as wrong:
            return str(wrong)
    return ""


def code_in_weights(path: Path) -> str:
    """Return the name of code in a checkpoint, as those see it who load it; empty if there is none.

    The pickles are read by the same reader as when the weights are used (:mod:`seglab.data.pickles`). What it cannot
    read, which may hide code, counts as such too, and is said in words.

    Args:
        path: Whole weights, see :func:`why_no_weights`.
    """
    with path.open("rb") as handle:
        kind = sniff(handle.read(HEAD_BYTES))
        try:
            if kind in ("zip", "torch-zip"):
                with zipfile.ZipFile(handle) as archive:
                    for info in archive.infolist():
                        if info.filename.endswith(".pkl"):
                            _read_all(archive.read(info))
            elif kind in ("torch-pickle", "pickle"):
                with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    _read_all(data, most=5 if kind == "torch-pickle" else None)
        except CodeError as error:
            return f"`{error}`"
        except PickleError as error:
            return f"a pickle that cannot be followed: {error}"
    return ""


def _read_all(data: "bytes | mmap.mmap", most: int | None = None) -> None:
    reader = Reader(data)
    num = 0
    while reader.position < reader.end and (most is None or num < most):
        read_pickle(reader)
        num += 1


def _check_zip(path: Path, size: int) -> None:
    """Check PyTorch's own form since 1.6: a zip whose one folder holds ``data.pkl`` and the tensors, uncompressed."""
    from seglab.data.fetching.zips import open_zip

    try:
        with open_zip(path, Limits()) as members:
            if not any(member.name.count("/") == 1 and member.name.endswith("/data.pkl") for member in members):
                raise _Wrong("a zip archive without a PyTorch checkpoint in it")
            if sum(member.size for member in members) > 4 * size or any(member.encrypted for member in members):
                raise _Wrong("a zip archive, packed as no PyTorch checkpoint is")
            if len({member.name for member in members}) < len(members):
                raise _Wrong("a zip archive with a name in it twice")
            for member in members:
                for _chunk in member.read():
                    pass
    except ArchiveError as error:
        raise _Wrong(f"a damaged PyTorch checkpoint, perhaps cut off: {error.message}") from error


@dataclass
class _Scan:
    """What one pickle says, read as a list of instructions that nobody follows."""

    texts: list[str] = field(default_factory=list)
    storages: dict[str, str] = field(default_factory=dict)
    """The kind of storage by its key."""


class _Bounded:
    """A file that is never asked for more than it has: lengths in a pickle may be lies."""

    def __init__(self, handle: BinaryIO, size: int) -> None:
        self._handle, self._size = handle, size

    def read(self, num_bytes: int) -> bytes:
        return self._handle.read(min(num_bytes, self._size - self._handle.tell()))

    def readline(self) -> bytes:
        return self._handle.readline(LINE_BYTES)

    def tell(self) -> int:
        return self._handle.tell()


def _scan(handle: BinaryIO, size: int) -> _Scan:
    """Read one pickle up to its end, and note its texts and the storages that it refers to."""
    scan, memo, items = _Scan(), dict[int, Any](), list[Any]()
    try:
        for num, (opcode, argument, _) in enumerate(pickletools.genops(cast("IO[bytes]", _Bounded(handle, size)))):
            if num > NUM_OPCODES:
                raise _Wrong("a pickle of too many instructions")
            _follow(opcode.name, argument, items, memo, scan)
    except (ValueError, IndexError, KeyError, OverflowError, EOFError) as error:
        raise _Wrong(f"a damaged pickle, perhaps cut off after {handle.tell()} bytes") from error
    return scan


def _follow(name: str, argument: Any, items: list[Any], memo: dict[int, Any], scan: _Scan) -> None:
    """Keep what has been pushed since the last mark, as far as references to storages need it."""
    if name == "MARK":
        items.clear()
    elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
        memo[len(memo) if argument is None else argument] = items[-1] if items else None
    elif name in ("BINGET", "LONG_BINGET", "GET"):
        items.append(memo.get(argument))
    elif name == "STACK_GLOBAL":
        items[-2:] = [" ".join(str(item) for item in items[-2:])]
    elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
        num = int(name[5:] or len(items))
        items[len(items) - num :] = [tuple(items[len(items) - num :])]
    elif name == "BINPERSID":
        _note_storage(items.pop() if items else None, scan)
        items.append(None)
    elif name == "NONE" or argument is not None:
        items.append(argument)
        if isinstance(argument, str) and name != "GLOBAL":
            scan.texts.append(argument)


def _note_storage(reference: Any, scan: _Scan) -> None:
    match reference:
        case ("storage", str(kind), str(key), *_):
            scan.storages[key] = kind.rsplit(" ", 1)[-1]


def _check_torch_pickle(handle: BinaryIO, size: int) -> None:
    """Check PyTorch's form until 1.6: five pickles, then each storage as its length and its numbers."""
    for _ in range(3):
        _scan(handle, size)
    storages = _scan(handle, size).storages
    for key in _scan(handle, size).texts:
        item_bytes = _ITEM_BYTES.get(storages.get(key, "").removesuffix("Storage"))
        if item_bytes is None:
            return
        start = handle.read(8)
        num_bytes = int.from_bytes(start, "little") * item_bytes
        if len(start) < 8 or num_bytes > size - handle.tell():
            raise _Wrong(f"a PyTorch checkpoint that is cut off or damaged: {size} bytes are too few for its tensors")
        handle.seek(num_bytes, 1)


def _check_pickle(handle: BinaryIO, size: int) -> None:
    while handle.tell() < size:
        _scan(handle, size)


def _check_safetensors(handle: BinaryIO, size: int) -> None:
    length = int.from_bytes(handle.read(8), "little")
    if length > min(size - 8, SAFETENSORS_HEADER_BYTES):
        raise _Wrong(f"a safetensors file that is cut off: {size} bytes")
    try:
        values = parse_json(handle.read(length))
        ends = [int(entry["data_offsets"][1]) for name, entry in values.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise _Wrong("a safetensors file with a damaged header") from error
    promised = 8 + length + max(ends, default=0)
    if promised != size:
        raise _Wrong(f"a safetensors file that is cut off or damaged: {size} bytes, its header promises {promised}")


def _check_onnx(handle: BinaryIO, size: int) -> None:
    seen = set()
    for number, wire, length in _onnx_fields(handle, size):
        seen.add((number, wire))
        if length > size - handle.tell():
            raise _Wrong(f"an ONNX graph that is cut off: {size} bytes, {handle.tell() + length} are promised")
        handle.seek(length, 1)
    if not {_ONNX_GRAPH, _ONNX_OPSETS} <= seen:
        raise _Wrong("an ONNX graph that is cut off: its graph or its operator sets are missing")


def _onnx_fields(handle: BinaryIO, size: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, wire type and length of each field; the caller moves on by the length."""
    while handle.tell() < size:
        key = _read_varint(handle)
        wire = key & 7
        if wire == 0:
            _read_varint(handle)
            yield key >> 3, wire, 0
        elif wire == 2:
            yield key >> 3, wire, _read_varint(handle)
        elif wire in _WIRE_BYTES:
            yield key >> 3, wire, _WIRE_BYTES[wire]
        else:
            raise _Wrong("a damaged ONNX graph")


def _read_varint(handle: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = handle.read(1)
        if not byte:
            raise _Wrong("an ONNX graph that is cut off")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise _Wrong("a damaged ONNX graph")
