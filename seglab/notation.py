"""JSON and TOML that somebody else may have written: whatever is wrong with a text is a ValueError.

Python's own parsers answer deep nesting with a RecursionError, or not at all, so that whoever walks through the values
runs into it later; and of a name that a JSON table has twice they keep the last value without a word.

For what seglab writes there is a word for each of two things that JSON cannot hold: numbers that are none, and names of
files that are no text.
"""

import errno
import json
import math
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

__all__ = [
    "MAX_DEPTH",
    "check_depth",
    "is_finite",
    "null_if_nan",
    "parse_json",
    "parse_toml",
    "path_text",
    "read_given",
]

MAX_DEPTH: Final = 100
"""Tables and lists that may lie in each other. What seglab writes has five or so."""


def parse_json(text: str | bytes, *, finite: bool = False) -> Any:
    """Return the value of a JSON text.

    Args:
        text: Somebody's.
        finite: Refuse NaN and infinity, which JSON has not but Python's writer writes; for what is written on again.

    Raises:
        ValueError: If it is none, its tables and lists lie deeper than :data:`MAX_DEPTH`, a number has thousands of
            digits, or a table has a name twice.
    """
    numbers: dict[str, Any] = {"parse_constant": _finite, "parse_float": _finite} if finite else {}
    try:
        value = json.loads(text, object_pairs_hook=_table, **numbers)
    except RecursionError:
        raise _too_deep() from None
    brackets = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    if brackets > MAX_DEPTH:
        check_depth(value)
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """Return the table that a TOML text is.

    Raises:
        ValueError: As for :func:`parse_json`; :class:`tomllib.TOMLDecodeError` where the text is no TOML.
    """
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise _too_deep() from None
    check_depth(table)
    return table


def read_given(path: Path) -> bytes:
    """Return the content of a file that a user named, or of a pipe; never wait for what may not come.

    Raises:
        OSError: If it cannot be read, is a device, or a pipe that nobody writes to.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if stat.S_ISFIFO(mode):
            os.set_blocking(descriptor, True)
        content = file.read()
    if not content and stat.S_ISFIFO(mode):
        raise OSError(errno.EPIPE, "nobody writes to this pipe", str(path))
    return content


def is_finite(value: object) -> bool:
    """Tell whether a value is a number that a float can hold."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def null_if_nan(score: float) -> float | None:
    """Return a score as JSON has it: what is undefined is null."""
    return None if math.isnan(score) else score


def path_text(path: Path | str) -> str:
    """Return a path as text that any encoding of JSON can hold: bytes that are no UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"`{text[:20]}` is no number that JSON has")
    return number


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"`{twice[:60]}` is in it twice")
    return table


def check_depth(value: Any) -> None:
    """Make sure that tables and lists do not lie deeper than :data:`MAX_DEPTH` in each other.

    Raises:
        ValueError: If they do.
    """
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for outer in level for inner in _entries(outer) if isinstance(inner, dict | list)]
        if not level:
            return
    raise _too_deep()


def _entries(value: Any) -> Any:
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()


def _too_deep() -> ValueError:
    return ValueError(f"its tables and lists lie deeper than {MAX_DEPTH} in each other")
