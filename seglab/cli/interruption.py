"""What a person reads who ended a run: how far it came, what is kept, and the command that goes on."""

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator

from seglab.cli.console import Progress, progress
from seglab.errors import ExitCode, Interrupted

__all__ = ["Course", "same_command", "telling"]


class Course:
    """Counts what is done of a run, and shows it.

    Args:
        description: One or two words for the bar.
        unit: What is counted, in the plural.
    """

    def __init__(self, description: str, unit: str) -> None:
        self._description, self._unit = description, unit
        self._total = self._done = 0

    @property
    def started(self) -> bool:
        """Whether the count has begun."""
        return self._total > 0

    @property
    def complete(self) -> bool:
        """Whether everything is counted."""
        return self.started and self._done >= self._total

    def __str__(self) -> str:
        return f"{self._done} of {self._total} {self._unit}" if self._total else f"no {self._unit}"

    @contextlib.contextmanager
    def show(self, total: int) -> Iterator[Progress]:
        """Show the bar; what advances it is counted."""
        self._total = total
        with progress(total, self._description) as bar:
            yield _Counting(self, bar)

    def count(self, n: int) -> None:
        """Count ``n`` more as done."""
        self._done += n


class _Counting:
    def __init__(self, course: Course, bar: Progress) -> None:
        self._course, self._bar = course, bar

    def advance(self, n: int = 1, info: str = "") -> None:
        self._course.count(n)
        self._bar.advance(n, info)


@contextlib.contextmanager
def telling(kept: Callable[[], tuple[str, str]]) -> Iterator[None]:
    """Say what became of the work, if Ctrl-C or a signal ends the block.

    Args:
        kept: Called after everything is cleared up; returns what is kept, and what to do next.

    Raises:
        Interrupted: In place of what ended the block.
    """
    try:
        yield
    except (Exception, SystemExit, GeneratorExit):
        raise
    except BaseException as end:
        by_hand = isinstance(end, KeyboardInterrupt)
        message, hint = kept()
        code = ExitCode.INTERRUPTED if by_hand else ExitCode.TERMINATED
        raise Interrupted(f"{'interrupted' if by_hand else 'terminated'}: {message}", hint, exit_code=code) from end


def same_command(verb: str) -> str:
    """Return the command line that is running, to be typed again."""
    return f"`{shlex.join(['seglab', *sys.argv[1:]])}`" if sys.argv[1:2] == [verb] else "the same command"
