"""The wire format of protobuf, as far as graphs need it; no length in a file is trusted.

Where readers of the format differ in what they forgive, this one refuses: what it calls harmless must be harmless to
every other.

Format: https://protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator
from typing import Any, Final

__all__ = ["as_message", "as_text", "field", "fields", "head", "integers"]

_MAX_TAG: Final = 2**32


def fields(view: memoryview) -> Iterator[tuple[int, "int | memoryview"]]:
    """Yield (field number, value) of a message: an integer, or the bytes of anything else.

    Raises:
        ValueError: If it is no message: cut off, of wire types that proto3 has not, or with a tag beyond 32 bits.
    """
    position, end = 0, len(view)
    while position < end:
        tag = view[position]
        position += 1
        if tag > 127:
            tag, position = _varint(view, position - 1)
        if tag >= _MAX_TAG:  # Other readers drop the high bits, and would see another field.
            raise ValueError("tag out of range")
        kind = tag & 7
        value: int | memoryview
        if kind == 0:
            value, position = _varint(view, position)
        elif kind in (1, 2, 5):
            length, position = _length(view, position) if kind == 2 else (8 if kind == 1 else 4, position)
            if length > end - position:
                raise ValueError("cut off")
            value = view[position : position + length]
            position += length
        else:
            raise ValueError("not protobuf")
        yield tag >> 3, value


def as_message(value: Any) -> memoryview:
    """Return a value of :func:`fields` that must be a message.

    Raises:
        ValueError: If it is a number.
    """
    if not isinstance(value, memoryview):
        raise ValueError("not a message")
    return value


def as_text(value: Any) -> str:
    """Return a value of :func:`fields` that must be a text; what is not UTF-8 is replaced.

    Raises:
        ValueError: If it is a number.
    """
    if isinstance(value, int):
        raise ValueError("not a text")
    return bytes(value).decode(errors="replace")


def integers(value: "int | memoryview") -> Iterator[int]:
    """Yield the integers of a value of a repeated field, which is one of them or, packed, all of them.

    Raises:
        ValueError: If they are cut off.
    """
    if isinstance(value, int):
        yield value
        return
    position = 0
    while position < len(value):
        item, position = _varint(value, position)
        yield item


def field(number: int, value: "int | str | bytes | memoryview") -> bytes:
    """Return the bytes of one field: an integer that is not negative, or anything that has a length."""
    if isinstance(value, int):
        return _as_varint(number << 3) + _as_varint(value)
    data = value.encode() if isinstance(value, str) else value
    return b"".join((head(number, len(data)), data))


def head(number: int, length: int) -> bytes:
    """Return what stands before the bytes of a field that has a length."""
    return _as_varint(number << 3 | 2) + _as_varint(length)


def _length(view: memoryview, position: int) -> tuple[int, int]:
    if position < len(view) and view[position] < 128:
        return view[position], position + 1
    return _varint(view, position)


def _as_varint(value: int) -> bytes:
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(view) and shift < 70:
        byte = view[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
    raise ValueError("cut off")
