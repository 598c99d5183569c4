"""A CSV of masks, one row an instance: streamed once to learn where every photo's rows are, then read photo by photo.

What is remembered of a row is some 25 bytes, however long its mask. The rows of a photo may lie anywhere in the file.
"""

import re
import zlib
from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.problems import Problem
from seglab.errors import DataError

__all__ = ["COLUMNS", "MaskRow", "MaskTable", "columns_of"]

COLUMNS: Final = ("ImageId", "EncodedPixels", "Height", "Width", "ClassId")

MAX_SIDE: Final = 2**20
"""Pixels; a larger number in a column of sizes is no size."""

_FIELD: Final = re.compile(rb'(?:^|,)(?:"([^"]*(?:""[^"]*)*)"|([^,]*))')
_UNREADABLE: Final = "check its permissions: `chmod u+r`"
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class MaskRow:
    """An instance."""

    line: int
    """Its line in the file, the header being 1."""
    encoded: bytes
    """Its runs."""
    category: int


@dataclass
class _Rows:
    """What is remembered of the rows, column by column."""

    photo: "array[int]" = field(default_factory=lambda: array("i"))
    offset: "array[int]" = field(default_factory=lambda: array("q"))
    line: "array[int]" = field(default_factory=lambda: array("i"))
    category: "array[int]" = field(default_factory=lambda: array("i"))
    checksum: "array[int]" = field(default_factory=lambda: array("I"))


class MaskTable:
    """The index of a CSV of masks.

    Args:
        path: The file. A BOM, CRLF, quotes, blank lines and further columns do not matter.
        known: The category ids that have a meaning.

    Attributes:
        photos: Number of every ImageId, in the order of the file.
        sizes: Height and width of every photo, from its first sound row.
        problems: Rows that cannot be used, with their lines.
        unusable: ImageIds that have such rows.
        repeated: Lines that repeat an earlier row of the same photo.
        num_rows: All rows.

    Raises:
        DataError: If the file cannot be read or lacks a column.
    """

    def __init__(self, path: Path, known: Collection[int]) -> None:
        self.path = path
        self.photos: dict[str, int] = {}
        self.sizes: list[tuple[int, int]] = []
        self.problems: list[Problem] = []
        self.unusable: set[str] = set()
        self.num_rows = 0
        self._known = known
        self._first_lines = array("i")
        self._places = self._header()
        rows = self._read()
        self._order = np.argsort(np.asarray(rows.photo), kind="stable")
        self._bounds = np.searchsorted(np.asarray(rows.photo)[self._order], np.arange(len(self.photos) + 1))
        self._rows = rows
        self.repeated = self._repeated()

    def first_line(self, photo: int) -> int:
        """Return the line of a photo's first row."""
        return self._first_lines[photo]

    def rows(self, photo: int) -> list[MaskRow]:
        """Read the rows of a photo, in the order of the file. May be called from several threads.

        Raises:
            DataError: If the file is not the one that was indexed.
        """
        found = []
        with self.path.open("rb") as handle:
            for place in self._order[self._bounds[photo] : self._bounds[photo + 1]]:
                handle.seek(self._rows.offset[place])
                line = handle.readline()
                if zlib.crc32(line) != self._rows.checksum[place]:
                    raise DataError(f"`{self.path}` changed while it was read", "run the same command again")
                encoded = _fields(line)[self._places["EncodedPixels"]]
                found.append(MaskRow(self._rows.line[place], encoded, self._rows.category[place]))
        return found

    def where(self, line: int) -> str:
        """Name a line for a report."""
        return f"{self.path.name} line {line}"

    def _header(self) -> dict[str, int]:
        names = columns_of(self.path)
        missing = [name for name in COLUMNS if name.casefold() not in names]
        if missing:
            lacks = " and ".join(f"`{name}`" for name in missing)
            has = ", ".join(f"`{name}`" for name in names[:8])
            raise DataError(f"`{self.path}` has no column {lacks}; it has {has}", f"needed: {', '.join(COLUMNS)}")
        self._num_columns = len(names)
        return {name: names.index(name.casefold()) for name in COLUMNS}

    def _read(self) -> _Rows:
        rows = _Rows()
        for offset, number, line in _lines(self.path):
            if number == 1 or not line.strip():
                continue
            self.num_rows += 1
            values = _fields(line)
            photo, category = self._checked(values, number)
            if photo is None or category is None:
                continue
            rows.photo.append(photo)
            rows.offset.append(offset)
            rows.line.append(number)
            rows.category.append(category)
            rows.checksum.append(zlib.crc32(line))
        return rows

    def _checked(self, values: Sequence[bytes], line: int) -> tuple[int | None, int | None]:
        """Return the photo's number and the category of a row; None after reporting what is wrong."""
        at = self._places["ImageId"]
        name = values[at].strip().decode(errors="surrogateescape") if at < len(values) else ""
        if len(values) != self._num_columns or not name:
            what = "no ImageId" if len(values) == self._num_columns else f"{len(values)} of {self._num_columns} columns"
            self._report(name, "row that is not whole", line, what)
            return None, None
        photo = self.photos.setdefault(name, len(self.photos))
        if photo == len(self.sizes):
            self.sizes.append((0, 0))
            self._first_lines.append(line)
        self._check_size(name, values, line)
        text = values[self._places["ClassId"]].strip().partition(b"_")[0]
        category = int(text) if text.isdigit() and len(text) < 9 else None
        if category is None or category not in self._known:
            shown = values[self._places["ClassId"]][:20].decode(errors="replace")
            self._report(name, "category that the list does not have", line, f"`{shown}`")
            return photo, None
        return photo, category

    def _check_size(self, name: str, values: Sequence[bytes], line: int) -> None:
        photo = self.photos[name]
        texts = [values[self._places[column]].strip() for column in ("Height", "Width")]
        height, width = (_whole(text) for text in texts)
        before = self.sizes[photo]
        shown = "x".join(text[:12].decode(errors="replace") for text in reversed(texts))
        if not height or not width:
            self._report(name, "row without a size", line, f"`{shown}`")
        elif before == (0, 0):
            self.sizes[photo] = (height, width)
        elif before != (height, width):
            there = f"{before[1]}x{before[0]} in line {self.first_line(photo)}"
            self._report(name, "rows of one photo with different sizes", line, f"{shown}, but {there}")

    def _report(self, name: str, kind: str, line: int, detail: str) -> None:
        self.problems.append(Problem(kind, self.where(line), detail))
        self.unusable.add(name)

    def _repeated(self) -> list[int]:
        photos, checksums = np.asarray(self._rows.photo, np.int64), np.asarray(self._rows.checksum, np.int64)
        keys: NDArray[np.int64] = (photos << 32) | checksums
        _, first = np.unique(keys, return_index=True)
        again = np.ones(len(keys), bool)
        again[first] = False
        lines: list[int] = np.asarray(self._rows.line)[again].tolist()
        return lines


def columns_of(path: Path) -> list[str]:
    """Return the columns in the header of a CSV file, in lower case.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        with path.open("rb") as handle:
            header = handle.readline(1 << 16)
    except OSError as error:
        raise DataError(f"cannot read `{path}`: {error.strerror}", _UNREADABLE) from error
    return [name.decode(errors="replace").strip().casefold() for name in _fields(header.removeprefix(_BOM))]


def _fields(line: bytes) -> list[bytes]:
    line = line.rstrip(b"\r\n")
    if b'"' not in line:
        return line.split(b",")
    return [(quoted.replace(b'""', b'"') or plain) for quoted, plain in _FIELD.findall(line)]


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield offset, number and bytes of every line."""
    offset = 0
    try:
        with path.open("rb") as handle:
            for number, line in enumerate(handle, 1):
                yield offset, number, line
                offset += len(line)
    except OSError as error:
        raise DataError(f"cannot read `{path}`: {error.strerror}", _UNREADABLE) from error


def _whole(text: bytes) -> int:
    """Return a size, which pandas may have written as ``2000.0``; 0 for anything else."""
    digits = text.removesuffix(b".0")
    return int(digits) if digits.isdigit() and len(digits) < 9 and int(digits) <= MAX_SIDE else 0
