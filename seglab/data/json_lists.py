"""The lists of a JSON file of any size, entry by entry: no more of it is held than a window and one entry.

The file is decoded as Latin-1, one character a byte, so that places in the text are places in the file; JSON's own
signs are ASCII. An entry with other signs is decoded again as the UTF-8 that it is.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from seglab.notation import MAX_DEPTH, check_depth

__all__ = ["Entry", "read_lists"]

WINDOW: Final = 1 << 20
"""Bytes that are read at once."""

MAX_ENTRY: Final = 1 << 28
"""Bytes of the largest entry. Something this long that does not end is damage."""

LONGEST_WORD: Final = 16
"""A word, number or escape that ends this close to the end of the window may go on behind it."""

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_BOM: Final = "\xef\xbb\xbf"


class Entry(NamedTuple):
    """One entry of a list."""

    value: Any
    offset: int
    """Of its first byte in the file."""
    raw: bytes
    """As it stands there."""


def read_lists(path: Path, take: Mapping[str, Callable[[Entry], object]]) -> set[str]:
    """Read the lists of the outermost object of a JSON file.

    Args:
        path: The file: UTF-8, with or without a BOM.
        take: What is called with every entry of a list, by the key of the list; others are passed over.

    Returns:
        The keys of ``take`` that the object has.

    Raises:
        ValueError: If it is no JSON, no object, or a key is in it twice.
        TypeError: If what is under one of the keys is no list.
        OSError: If it cannot be read.
    """
    with path.open("rb") as handle:
        text = _Text(handle)
        text.skip(_BOM)
        if text.peek() != "{":
            raise ValueError("it is no object with lists")
        text.next()
        found: set[str] = set()
        more = text.peek() != "}"
        while more:
            key = _read_key(text)
            if key in take and key in found:
                raise ValueError(f"`{key}` is in it twice")
            found.add(key)
            _read_value(text, key, take.get(key))
            more = text.peek() != "}"
            if more:
                text.expect(",")
        text.next()
        if text.peek():
            raise ValueError(f"something follows its end at byte {text.offset}")
    return found & set(take)


def _read_key(text: "_Text") -> str:
    key = text.value().value
    if not isinstance(key, str):
        raise ValueError(f"a name is expected before byte {text.offset}")
    text.expect(":")
    return key


def _read_value(text: "_Text", key: str, take: Callable[[Entry], object] | None) -> None:
    if text.peek() != "[":
        if take is not None:
            raise TypeError(f"`{key}` is no list")
        text.value()
        return
    text.next()
    if text.peek() == "]":
        text.next()
        return
    while True:
        entry = text.value()
        if take is not None:
            take(entry)
        if text.peek() == "]":
            text.next()
            return
        text.expect(",")


class _Text:
    """A window that moves over a file."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._decode = json.JSONDecoder().raw_decode
        self._text = ""
        self._position = 0
        self._before = 0
        self._ended = False

    @property
    def offset(self) -> int:
        """Of the next character."""
        return self._before + self._position

    def skip(self, text: str) -> None:
        """Pass over a text, if it is what comes next."""
        while len(self._text) < len(text) and not self._ended:
            self._extend(WINDOW)
        if self._text.startswith(text, self._position):
            self._position += len(text)

    def peek(self) -> str:
        """Return the next character that is no space, and stand on it; an empty text at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._position)
            self._position = match.end() if match else self._position
            if self._position < len(self._text):
                return self._text[self._position]
            if self._ended:
                return ""
            self._extend(WINDOW)

    def next(self) -> None:
        """Step over the character that :meth:`peek` returned."""
        self._position += 1

    def expect(self, character: str) -> None:
        """Step over a character.

        Raises:
            ValueError: If another one is next.
        """
        if self.peek() != character:
            raise ValueError(f"Expecting `{character}` at byte {self.offset}")
        self.next()

    def value(self) -> Entry:
        """Read a value.

        Raises:
            ValueError: If there is none.
        """
        self.peek()
        size = WINDOW
        while True:
            try:
                value, end = self._decode(self._text, self._position)
                if end < len(self._text) or self._ended:  # a number may go on behind the window
                    return self._entry(value, end)
            except json.JSONDecodeError as error:
                if self._ended or not self._is_cut(error):
                    raise ValueError(f"{error.msg} at byte {self._before + error.pos}") from error
            except RecursionError:
                raise ValueError(f"too many brackets at byte {self.offset}") from None
            if len(self._text) - self._position > MAX_ENTRY:
                raise ValueError(f"the entry at byte {self.offset} does not end")
            self._extend(size)
            size *= 2

    def _is_cut(self, error: json.JSONDecodeError) -> bool:
        """Tell whether an error may only be that the window ends."""
        return error.pos > len(self._text) - LONGEST_WORD or error.msg.startswith("Unterminated string")

    def _entry(self, value: Any, end: int) -> Entry:
        text, offset = self._text[self._position : end], self.offset
        raw = text.encode("latin-1")
        self._position = end
        if not text.isascii():
            value = json.loads(raw.decode("utf-8", "surrogatepass"))
        if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
            check_depth(value)
        return Entry(value, offset, raw)

    def _extend(self, size: int) -> None:
        """Read on, and forget what is behind."""
        data = self._handle.read(size)
        self._ended = len(data) < size
        self._before += self._position
        self._text = self._text[self._position :] + data.decode("latin-1")
        self._position = 0
