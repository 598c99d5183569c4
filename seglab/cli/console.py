"""What the user sees: notes, errors, tables and progress on stderr, data on stdout, and the one error boundary."""

import contextlib
import errno
import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from seglab.errors import DeviceError, ExitCode, SeglabError

if TYPE_CHECKING:
    from types import FrameType

    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["Progress", "bounded", "escape", "note", "print_json", "print_table", "progress", "stderr"]

_closed: Final[set[str]] = set()
"""Streams that the caller has closed."""
_replaced: Final[list[io.TextIOWrapper]] = []
"""Streams in whose place others were put."""
_STDERR: Final = 2
PLAIN_INTERVAL_S: Final = 30.0
"""Seconds between progress lines where stderr is not a terminal."""


def stderr() -> "Console":
    """Return a rich console on stderr, made anew so that tests and redirections see the present stream."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def escape(value: object) -> str:
    """Return text that rich and a terminal show as it is: brackets are no markup, control characters are visible."""
    text = "".join(_visible(character) for character in str(value))
    if "[" not in text and not text.endswith("\\"):  # nothing to escape, and rich takes a while to import
        return text
    from rich.markup import escape as escape_markup

    return escape_markup(text)


def note(text: str) -> None:
    """Write one line to stderr; rich markup is honoured, so escape what comes from users."""
    try:
        if "[" in text or "\\" in text:
            stderr().print(text)
        else:  # no markup: the same characters, without waiting for rich
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
    except BrokenPipeError:
        _lead_nowhere("stderr")


def print_json(values: Any) -> None:
    """Write one line of JSON to stdout and flush it, so that a pipe sees it at once."""
    line = _CONTROLS.sub(
        lambda found: f"\\u{ord(found[0]):04x}", json.dumps(values, ensure_ascii=False, allow_nan=False)
    )
    if "stdout" in _closed and sys.stdout.name == os.devnull:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "stdout")
    try:
        line.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:  # the locale cannot say it, or a file name is not UTF-8
        line = json.dumps(values, allow_nan=False)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table to stderr: the first column is text, the others are numbers. Cells are escaped here."""
    from rich import box
    from rich.table import Table

    table = Table(title=escape(title) if title else None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for position, column in enumerate(columns):
        table.add_column(escape(column), justify="left" if position == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    from rich.console import Console

    Console(stderr=True, highlight=False, emoji=False).print(table)


_CONTROLS: Final = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What JSON leaves as it is and terminals obey: more controls, and what turns the direction of writing."""


class Progress(Protocol):
    """A running count that the user sees."""

    def advance(self, n: int = 1, info: str = "") -> None:
        """Count ``n`` more; ``info`` is a short text shown at the end of the line (plain, it is escaped here)."""


@contextlib.contextmanager
def progress(total: int | None, description: str) -> Iterator[Progress]:
    """Show a count: a live bar on a terminal, a plain line every 30 s elsewhere, nothing at all for quick work.

    Args:
        total: How many will be counted; None if that is not known.
        description: One or two words.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _PlainProgress(total, description)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    console = stderr()
    bar_width = 40 if console.width >= 120 else 20 if console.width >= 80 else 8
    rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # The count and the times are never squeezed out.
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[info]}", table_column=rest),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, expand=True) as bar:
        yield _RichProgress(bar, bar.add_task(escape(description), total=total, info=""))


class _RichProgress:
    def __init__(self, bar: "RichProgress", task: "TaskID") -> None:
        self._bar, self._task = bar, task

    def advance(self, n: int = 1, info: str = "") -> None:
        self._bar.update(self._task, advance=n, info=escape(info))


class _PlainProgress:
    def __init__(self, total: int | None, description: str) -> None:
        self._total, self._description, self._count = total, description, 0
        self._last_s = time.monotonic()

    def advance(self, n: int = 1, info: str = "") -> None:
        self._count += n
        if time.monotonic() - self._last_s < PLAIN_INTERVAL_S:
            return
        self._last_s = time.monotonic()
        share = f"{self._count}/{self._total}" if self._total else f"{self._count}"
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        note(f"{now} {escape(self._description)} {share} {escape(info)}".rstrip())


def bounded(run: Callable[[], object]) -> int:
    """Run the program and turn every expected end into an exit code, with one line for the user.

    A bug keeps its traceback; with ``SEGLAB_DEBUG=1`` an expected error has one too.
    """
    import typer.exceptions

    _mend_streams()
    previous = signal.signal(signal.SIGTERM, _terminate) if _in_main_thread() else None
    try:
        result = run()
        if result == ExitCode.INTERRUPTED:  # typer catches Ctrl-C itself and returns this
            raise KeyboardInterrupt
        return result if isinstance(result, int) else int(ExitCode.DONE)
    except SeglabError as error:
        return _report(error)
    except typer.exceptions.TyperException as error:
        return _report_usage(error)
    except (KeyboardInterrupt, typer.Abort, _Terminated) as end:
        return _stopped(end)
    except (OSError, ImportError) as error:
        return _refused(error)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer turns it into exit 1
            return _closed_pipe()
        raise
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)


class _Terminated(BaseException):
    """SIGTERM arrived while nothing of ours was handling it."""


def _terminate(_signal: int, _frame: "FrameType | None") -> None:
    raise _Terminated


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()


def _report(error: SeglabError) -> int:
    if os.environ.get("SEGLAB_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    if error.told_elsewhere:
        return int(error.exit_code)
    note(f"[bold red]error:[/bold red] {escape(error.message)}")
    if error.hint:
        note(f"\n[bold cyan]hint:[/bold cyan] {escape(error.hint)}")
    return int(error.exit_code)


def _report_usage(error: Exception) -> int:
    """Show an error of the command-line parser in our own voice."""
    message = str(getattr(error, "format_message", lambda: error)()).rstrip(".")
    note(f"[bold red]error:[/bold red] {escape(message[:1].lower() + message[1:])}")
    context = getattr(error, "ctx", None)
    if context is not None:
        note(f"\n[bold cyan]hint:[/bold cyan] `{escape(context.command_path)} --help` shows what is possible")
    return int(getattr(error, "exit_code", ExitCode.USAGE))


def _stopped(end: BaseException) -> int:
    terminated = isinstance(end, _Terminated)
    note("[bold]terminated[/bold]" if terminated else "[bold]interrupted[/bold]")
    return int(ExitCode.TERMINATED if terminated else ExitCode.INTERRUPTED)


def _refused(error: OSError | ImportError) -> int:
    """Say what the system refuses: the folder is gone, the disk behind stdout is full, a library finds no memory."""
    if isinstance(error, ImportError):
        from seglab.device import lacks_memory

        if not lacks_memory(error):
            raise error
        return _report(DeviceError(f"too little memory to load a library: {error}", "`ulimit -v` shows a limit"))
    if isinstance(error, BrokenPipeError):
        return _closed_pipe()
    where = f" `{error.filename}`" if error.filename else ""
    return _report(SeglabError(f"the system refuses{where}: {error.strerror or error}"))


def _mend_streams() -> None:
    """Make streams that the caller has closed, or that cannot say every name, and a terminal of no width, harmless."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            _closed.add(name)
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - for the whole process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            if name == "stderr":
                _talk_in_vain(stream)
    if os.environ.get("COLUMNS", "1").strip() in ("", "0"):
        del os.environ["COLUMNS"]


class _Vain(io.FileIO):
    """A file whose words may be lost."""

    def write(self, data: Any, /) -> int:
        """Write what can be written, and take the rest for written."""
        rest = memoryview(data)
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[super().write(rest) or len(rest) :]
        return len(data)


def _talk_in_vain(stream: io.TextIOWrapper) -> None:
    """Let no work end because the disk is full on which its progress is noted, or because nobody can read it."""
    with contextlib.suppress(OSError, ValueError):
        if stream.fileno() == _STDERR and not isinstance(stream.buffer, _Vain):
            _replaced.append(stream)  # its end would close the file
            file: Any = _Vain(_STDERR, "w", closefd=False)  # with no buffer: a stopped write would be written again
            sys.stderr = io.TextIOWrapper(
                file, encoding=stream.encoding, errors="backslashreplace", line_buffering=True, write_through=True
            )


def _closed_pipe() -> int:
    _lead_nowhere("stdout")
    return 128 + signal.SIGPIPE


def _lead_nowhere(name: str) -> None:
    """Point a stream at nothing, so that the interpreter's last flush of a closed pipe stays quiet."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), getattr(sys, name).fileno())


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    return repr(character)[1:-1]
