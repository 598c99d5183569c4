"""Variables of MATLAB files of version 5 (``.mat``, also compressed), as far as annotations of pictures need them.

No length in a file is trusted: what goes beyond the bytes that are there is an error, and nothing is allocated before
its bytes have been seen. (SciPy's reader ends the whole process on some damaged files.)

Format: MATLAB, "MAT-File Format".
"""

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

__all__ = ["read_variable"]

MAX_BYTES: Final = 1 << 28
"""Of a variable, unpacked. An annotation with fifty masks of a photo of 500x375 has 10 MB."""
MAX_DEPTH: Final = 32

_HEADER_BYTES: Final = 128
_MATRIX, _COMPRESSED, _INT32, _INT8 = 14, 15, 5, 1
_NUMBERS: Final = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
"""How numbers are stored, by the type of an element."""
_TEXTS: Final = {16: "utf-8", 17: "utf-16", 18: "utf-32", 1: "latin-1", 2: "latin-1", 4: "utf-16"}
_CELL, _STRUCT, _CHAR = 1, 2, 4
_ARRAYS: Final = range(6, 16)
_COMPLEX: Final = 0x08


def read_variable(path: Path, name: str) -> Any:
    """Return a variable of a file.

    Returns:
        A numeric or logical matrix as an array; characters as a text; a cell array as a list; a structure array as a
        list of a dict an element. Lists go down the columns.

    Raises:
        ValueError: If the file is damaged, of another version, or has no such variable or one of another kind.
        OSError: If it cannot be read.
    """
    data = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or len(data) < _HEADER_BYTES:
        raise ValueError("no MATLAB file")
    if int.from_bytes(data[124:126], "little" if order == "<" else "big") != 0x0100:
        raise ValueError("not of version 5")
    reader = _Reader(order)
    for kind, content in reader.elements(memoryview(data)[_HEADER_BYTES:]):
        if kind == _COMPRESSED:
            inner = list(reader.elements(_unpacked(content)))
            kind, content = inner[0] if len(inner) == 1 else (0, content)
        if kind == _MATRIX:
            found, value = reader.matrix(content, name)
            if found == name:
                return value
    raise ValueError(f"no variable `{name}`")


def _unpacked(content: memoryview) -> memoryview:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(content, MAX_BYTES)
    except zlib.error as error:
        raise ValueError("damaged") from error
    if not unpacker.eof:
        raise ValueError("cut off, or too large")
    return memoryview(data)


class _Reader:
    """Reads elements in the byte order of a file."""

    def __init__(self, order: str) -> None:
        self._order = order
        self._depth = 0

    def elements(self, view: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Yield kind and content of what follows each other."""
        at = 0
        while at < len(view):
            if at + 8 > len(view):
                raise ValueError("cut off")
            kind, length = (int(number) for number in np.frombuffer(view[at : at + 8], f"{self._order}u4"))
            start, small = at + 8, kind >> 16
            if small:  # up to four bytes, in the place of their length
                kind, length, start = kind & 0xFFFF, small, at + 4
            if length > (4 if small else len(view) - start):
                raise ValueError("cut off")
            yield kind, view[start : start + length]
            at = start + length if kind == _COMPRESSED else at + 8 if small else start + -(-length // 8) * 8

    def matrix(self, view: memoryview, wanted: str | None = None) -> tuple[str, Any]:
        """Return name and value; no value where the name is not the wanted one."""
        if not len(view):  # an empty array says no more
            return "", np.empty((0, 0))
        parts = self.elements(view)
        flags = self._numbers(next(parts, (0, view)))
        shape = tuple(int(side) for side in self._numbers(next(parts, (0, view))))
        name = bytes(next(parts, (0, view[:0]))[1]).decode("latin-1")
        if len(flags) != 2 or len(shape) < 2 or min(shape) < 0:
            raise ValueError("a matrix without a form")
        if wanted is not None and name != wanted:
            return name, None
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError("nested too deep")
        value = self._value(int(flags[0]) & 0xFF, int(flags[0]) >> 8 & _COMPLEX, shape, list(parts))
        self._depth -= 1
        return name, value

    def _value(self, kind: int, is_complex: int, shape: tuple[int, ...], parts: list[tuple[int, memoryview]]) -> Any:
        num = math.prod(shape)
        if kind == _CHAR and len(parts) == 1:
            encoding = _TEXTS.get(parts[0][0], "")
            wide = "" if encoding in ("", "utf-8", "latin-1") else "-le" if self._order == "<" else "-be"
            return bytes(parts[0][1]).decode(encoding + wide, "replace") if encoding else ""
        if kind in _ARRAYS and len(parts) == 1 and not is_complex:
            numbers = self._numbers(parts[0])
            if len(numbers) != num:
                raise ValueError("a matrix of another size")
            return numbers.reshape(shape, order="F")
        if kind == _CELL and len(parts) == num:
            return [self._inner(part) for part in parts]
        if kind == _STRUCT and len(parts) >= 2:
            names = self._names(*parts[:2])
            if len(parts) - 2 != num * len(names):
                raise ValueError("a structure that is not whole")
            values = iter(parts[2:])
            return [{name: self._inner(next(values)) for name in names} for _ in range(num if names else 0)]
        raise ValueError(f"a matrix of a kind that is not read ({kind})")

    def _inner(self, part: tuple[int, memoryview]) -> Any:
        if part[0] != _MATRIX:
            raise ValueError("no matrix")
        return self.matrix(part[1])[1]

    def _names(self, length: tuple[int, memoryview], names: tuple[int, memoryview]) -> list[str]:
        """Return the names of fields, which have all the same length and are filled up with zeros."""
        width = int(self._numbers(length)[0]) if length[0] == _INT32 and len(length[1]) == 4 else 0
        if width < 1 or names[0] != _INT8 or len(names[1]) % width:
            raise ValueError("names that are none")
        data = bytes(names[1])
        found = [data[at : at + width].split(b"\0")[0].decode("latin-1") for at in range(0, len(data), width)]
        if len(set(found)) < len(found):
            raise ValueError("two fields of one name")
        return found

    def _numbers(self, part: tuple[int, memoryview]) -> "np.typing.NDArray[Any]":
        kind, content = part
        if kind not in _NUMBERS:
            raise ValueError("no numbers")
        return np.frombuffer(content, self._order + _NUMBERS[kind])
