"""Tables that stay readable on a narrow terminal: where a table does not fit, its rows come one below the other."""

import re
import textwrap
from collections.abc import Sequence
from typing import Final

from seglab.cli.console import escape, note

__all__ = ["print_rows"]

MIN_WIDTH: Final = 20
"""Columns of a terminal that texts are wrapped for at least."""

MIN_LAST: Final = 30
"""Columns that the last cell of a row is wrapped to, rather than giving up the table."""

_NUMBER: Final = re.compile(r"[-+]?\d[\d.,]*%?( +(\d+|-))?|")


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table to stderr, or a paragraph a row where it is too wide. Cells are escaped here.

    Args:
        title: Above it.
        columns: The headings; the last column is wrapped where that makes the table fit.
        rows: The cells. Columns of numbers are aligned to the right.
    """
    from rich.console import Console

    width = max(MIN_WIDTH, Console(stderr=True).width)
    natural = [max(len(row[place]) for row in (columns, *rows)) + 2 for place in range(len(columns))]
    for line in textwrap.wrap(_visible(title), width, break_on_hyphens=False):
        note(f"[bold]{escape(line)}[/bold]")
    if sum(natural[:-1]) + min(natural[-1], MIN_LAST) <= width:
        _print_table(columns, rows)
        return
    for row in rows:
        _print(row[0], width, 2)
        for column, cell in zip(columns[1:], row[1:], strict=True):
            if cell:
                _print(f"{column}: {cell}", width, 4)
    note("")


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    last = len(columns) - 1
    for place, column in enumerate(columns):
        numbers = place > 0 and all(_NUMBER.fullmatch(row[place]) for row in rows)
        justify = "right" if numbers else "left"
        table.add_column(escape(column), justify=justify, overflow="fold", no_wrap=place < last)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    Console(stderr=True, highlight=False, emoji=False).print(table)


def _print(text: str, width: int, indent: int) -> None:
    """Write a paragraph; words are only broken where a line has no space at all."""
    first, others = " " * indent, " " * (indent + 2)
    lines = textwrap.wrap(_visible(text), width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
    for line in lines or [""]:
        note(escape(line))


def _visible(text: str) -> str:
    """Show control characters before lines are broken, which would take them for spaces."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
