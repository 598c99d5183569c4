"""Tables that programs read: comma-separated values with a line a row, whatever is in the cells."""

import csv
import io
from collections.abc import Iterable
from typing import Any, TextIO

__all__ = ["TableWriter"]


class TableWriter:
    """Writes rows as CSV (RFC 4180), but with lines that end in a line feed alone.

    Cells with a carriage return are quoted, too: Python's own writer quotes the line's end only, and readers take the
    other for one as well. Names that begin with ``=``, ``+``, ``-`` or ``@`` stay as they are, though a spreadsheet
    that opens the file takes them for formulas: an apostrophe or a space before them would be another name to every
    program that looks for the file, or for the id in a submission, and quotes do not help. README tells people to
    import names as text.

    Args:
        file: Opened with ``newline=""``.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._row = io.StringIO(newline="")
        self._writer = csv.writer(self._row, lineterminator="\r\n")

    def writerow(self, cells: Iterable[Any]) -> None:
        """Write one row."""
        self._writer.writerow(cells)
        self._file.write(self._row.getvalue().removesuffix("\r\n") + "\n")
        self._row.seek(0)
        self._row.truncate()

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write several."""
        for cells in rows:
            self.writerow(cells)
