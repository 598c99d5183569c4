"""What can be fetched, as tables that fit the terminal: the less important columns are left out of a narrow one."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from seglab.cli.console import escape, note
from seglab.cli.transfers import size_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from seglab.data.fetching.listing import Listed

__all__ = ["print_registry"]

WIDE: Final = 200
"""Columns of a file or a pipe that says nothing else."""

_CELLS: Final[dict[str, "Callable[[Listed], str]"]] = {
    "name": lambda row: row.name,
    "task": lambda row: row.task,
    "size": lambda row: size_text(row.bytes) if row.bytes else "?",
    "from": lambda row: ", ".join(row.places),
    "licence": lambda row: row.licence,
    "commercial": lambda row: row.commercial,
    "login": lambda row: row.login,
    "here": lambda row: "yes" if row.here else "",
    "unlocks": lambda row: ", ".join(row.unlocks),
}
_BY_IMPORTANCE: Final = ("name", "size", "commercial", "task", "login", "here", "licence", "from", "unlocks")


def print_registry(rows: "Sequence[Listed]") -> None:
    """Write datasets, checkpoints and encoders as a table each."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, emoji=False)
    if not sys.stderr.isatty() and not os.environ.get("COLUMNS", "").isdecimal():
        console.width = WIDE
    hidden = set()
    for kind in ("dataset", "checkpoint", "encoder"):
        of_kind = [row for row in rows if row.kind == kind]
        filled = [column for column in _CELLS if any(_CELLS[column](row) for row in of_kind)]
        shown = _columns(of_kind, filled, console)
        hidden |= {*filled} - {*shown}
        if shown == ["name"]:
            note(f"[bold]{kind}s[/bold]")
            for row in of_kind:
                note(escape(row.name))
        else:
            console.print(_table(f"{kind}s", of_kind, shown))
    if hidden:
        left_out = ", ".join(column for column in _CELLS if column in hidden)
        note(f"a wider terminal, or `--json`, also shows: {left_out}")
    note("[bold]seglab fetch NAME[/bold] brings one; [bold]seglab fetch NAME --dry-run[/bold] says more about it")


def _columns(rows: "Sequence[Listed]", filled: Sequence[str], console: "Console") -> list[str]:
    """Return the columns for which there is room, in their order; the most important ones find it first."""
    endless = console.options.update(width=10_000)
    shown = ["name"]
    for column in _BY_IMPORTANCE[1:]:
        more = [name for name in filled if name in (*shown, column)]
        if console.measure(_table("", rows, more), options=endless).maximum <= console.width:
            shown = more
    return shown


def _table(title: str, rows: "Sequence[Listed]", columns: Sequence[str]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column == "size" else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(_CELLS[column](row)) for column in columns))
    return table
