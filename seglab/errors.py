"""Everything that can go wrong for a user, and the exit codes, once.

::

    SeglabError            3 unless a subclass says otherwise
    ├── UsageError         2 the command line is wrong
    ├── DataError          3 data or weights are bad or missing
    ├── NetworkError       4 a download or a login failed
    ├── BusyError          5 somebody else holds the lock
    ├── DeviceError        6 a device, engine or extra is not available
    └── Interrupted  130/143 a signal ended the run in good order
"""

import difflib
from collections.abc import Iterable
from enum import IntEnum

__all__ = [
    "BusyError",
    "DataError",
    "DeviceError",
    "ExitCode",
    "Interrupted",
    "NetworkError",
    "SeglabError",
    "UsageError",
    "first_line",
    "unknown",
]


class ExitCode(IntEnum):
    """What ``seglab`` tells the shell."""

    DONE = 0
    """Done."""
    PARTIAL = 1
    """Finished, but some inputs failed, a gate was missed, or a new model is not better."""
    USAGE = 2
    """Wrong command line."""
    DATA = 3
    """Bad or missing data or weights."""
    NETWORK = 4
    """Network or login."""
    BUSY = 5
    """Busy: somebody else holds the lock."""
    DEVICE = 6
    """Device, engine or extra not available."""
    INTERRUPTED = 130
    """Interrupted, in good order."""
    TERMINATED = 143
    """Terminated, in good order."""


class SeglabError(Exception):
    """A sentence for the user, and what to do next.

    Args:
        message: Lower case, no full stop, the offending value in backticks.
        hint: The command to run or the change to make; empty if there is none.
    """

    exit_code: ExitCode = ExitCode.DATA
    told_elsewhere: bool = False
    """Whether another process of a training run tells the user, so that this one need not."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SeglabError):
    """The command line, or an argument of a library call, is wrong."""

    exit_code = ExitCode.USAGE


class DataError(SeglabError):
    """Data or weights are bad or missing."""

    exit_code = ExitCode.DATA


class NetworkError(SeglabError):
    """A download or a login failed."""

    exit_code = ExitCode.NETWORK


class BusyError(SeglabError):
    """Another process holds the lock."""

    exit_code = ExitCode.BUSY


class DeviceError(SeglabError):
    """A device, engine or optional extra is not available."""

    exit_code = ExitCode.DEVICE


class Interrupted(SeglabError):
    """A signal arrived, the work was brought to an end in good order, and the hint says how to go on."""

    def __init__(self, message: str, hint: str = "", *, exit_code: ExitCode = ExitCode.INTERRUPTED) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code


def first_line(error: BaseException) -> str:
    """Return the first line of what an error of somebody else says, or its name if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> UsageError:
    """Build the error for a name that is not in a table, with the nearest matches.

    Args:
        kind: What the name should have been, e.g. ``task``.
        name: What the user wrote.
        known: All names of that kind.
        hint: Used when nothing is near; by default the known names are listed.
    """
    names = list(known)
    folded = {known_name.casefold(): known_name for known_name in names}
    near = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)]
    if near:
        hint = "did you mean " + " or ".join(f"`{match}`" for match in near) + "?"
    elif not hint:
        hint = "known: " + ", ".join(f"`{known_name}`" for known_name in names)
    return UsageError(f"no {kind} is called `{name}`", hint)
