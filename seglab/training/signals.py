"""Signals that end a run in good order."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from seglab.errors import ExitCode

__all__ = ["StopRequest", "stop_request"]


class StopRequest:
    """Whether somebody asked for the end, and which exit code they expect."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> ExitCode:
        """130 after SIGINT, 143 after SIGTERM."""
        return ExitCode.TERMINATED if self.signal == signal.SIGTERM else ExitCode.INTERRUPTED


@contextlib.contextmanager
def stop_request(*, patient: bool = False) -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request; a second one acts as it did before.

    Args:
        patient: Ignore further signals. torchrun hands on those that the terminal has sent to its processes already,
            and ends what does not end in time.

    Outside the main thread Python has no say in signals, so nothing is ever requested there.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def remember(number: int, _frame: FrameType | None) -> None:
        request.signal = request.signal or signal.Signals(number)
        if not patient:
            restore()

    for number in previous:
        signal.signal(number, remember)
    try:
        yield request
    finally:
        restore()
