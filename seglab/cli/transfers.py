"""Bytes on their way: size, speed and time left, on a terminal as a bar, elsewhere as a line now and then."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from seglab.cli.console import PLAIN_INTERVAL_S, escape, note, stderr

__all__ = ["size_text", "transfer"]

WIDE: Final = 76
"""Columns of a terminal that has room for the bar and the speed too."""
NARROW: Final = 50
"""Columns below which there is only room for a share."""

_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB")


def size_text(num_bytes: float) -> str:
    """Return a size for people, in powers of 1,000: ``2.2 GB``."""
    power = 0
    while num_bytes >= 999.5 and power < len(_UNITS) - 1:
        num_bytes, power = num_bytes / 1000, power + 1
    digits = 1 if power and num_bytes < 99.95 else 0
    return f"{num_bytes:.{digits}f} {_UNITS[power]}"


@contextlib.contextmanager
def transfer(what: str, total: int | None, done: int) -> Iterator[Callable[[int], None]]:
    """Show a transfer while the block runs; yields what is told of each piece (see ``retrying.Meter``)."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _Lines(what, total, done).advance
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.table import Column

    console = stderr()
    columns: list[ProgressColumn | str] = [
        TextColumn("{task.description}", table_column=Column(no_wrap=True, max_width=max(1, console.width - 6))),
        TaskProgressColumn(table_column=Column(min_width=4)) if console.width < NARROW else DownloadColumn(),
    ]
    if console.width >= WIDE:
        columns[1:1] = [BarColumn()]
        columns += [TransferSpeedColumn()]
    if console.width >= NARROW:
        columns += [TimeRemainingColumn(), TextColumn("left")]
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(escape(what), total=total, completed=done)
        yield lambda num_bytes: bar.update(task, advance=num_bytes)


class _Lines:
    def __init__(self, what: str, total: int | None, done: int) -> None:
        self._what, self._total, self._done, self._first = what, total, done, done
        self._begun_s = self._last_s = time.monotonic()

    def advance(self, num_bytes: int) -> None:
        self._done += num_bytes
        now_s = time.monotonic()
        if now_s - self._last_s < PLAIN_INTERVAL_S:
            return
        self._last_s = now_s
        speed = (self._done - self._first) / (now_s - self._begun_s)
        share = f" of {size_text(self._total)}" if self._total else ""
        left = ""
        if self._total and speed > 0:
            left = f", {time.strftime('%H:%M:%S', time.gmtime((self._total - self._done) / speed))} left"
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        note(f"{now} {escape(self._what)} {size_text(self._done)}{share}, {size_text(speed)}/s{left}")
