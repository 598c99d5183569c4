"""When a download is tried again, how long it waits, and when it gives up."""

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from seglab.errors import NetworkError

__all__ = ["Advance", "Meter", "Passing", "Policy", "no_meter", "with_retries"]

T = TypeVar("T")

PROGRESS_BYTES: Final = 1 << 20
"""A failed attempt that came this much further than any before does not count as a failure."""

Advance = Callable[[int], None]
"""Told the number of bytes that have just arrived."""


class Meter(Protocol):
    """Shows how far a transfer is: entered with what is there already, told what arrives."""

    def __call__(self, what: str, total: int | None, done: int) -> AbstractContextManager[Advance]:
        """Begin to show ``what``: ``done`` of ``total`` bytes are there; ``total`` is None if nobody knows it."""


def no_meter(what: str, total: int | None, done: int) -> AbstractContextManager[Advance]:  # noqa: ARG001
    """Show nothing."""
    return nullcontext(lambda _num_bytes: None)


@dataclass(frozen=True)
class Policy:
    """How patient a download is."""

    attempts: int = 5
    """How often it is tried without getting further."""
    timeout_s: float = 30.0
    """How long a connection may take, or stay silent."""
    backoff_s: float = 1.0
    """The first wait; it doubles each time."""
    longest_wait_s: float = 120.0
    """A server that asks for more is not waited for."""
    redirects: int = 10
    sleep: Callable[[float], None] = time.sleep


class Passing(Exception):
    """A failure that may pass: a broken connection, a busy server.

    Args:
        reason: What happened, lower case.
        wait_s: How long the server asks to be left alone.
    """

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s


def with_retries(attempt: Callable[[], T], policy: Policy, reached: Callable[[], int], say: Callable[[str], None]) -> T:
    """Call ``attempt`` until it returns, waiting longer and longer after each failure that may pass.

    Args:
        attempt: Raises :class:`Passing` if another try may help.
        policy: How often and how long.
        reached: Returns how many bytes there are by now; a try that got further is not held against the server.
        say: Told what happened and how long the wait is.

    Raises:
        NetworkError: When it gives up; the message is the last reason.
    """
    failures, furthest = 0, reached()
    while True:
        try:
            return attempt()
        except Passing as passing:
            if reached() >= furthest + PROGRESS_BYTES:
                failures, furthest = 0, reached()
            failures += 1
            if (passing.wait_s or 0) > policy.longest_wait_s:
                raise NetworkError(f"{passing.reason}, and asks to wait {passing.wait_s:.0f} s") from passing
            if failures >= policy.attempts:
                tries = "1 try" if failures == 1 else f"{failures} tries"
                raise NetworkError(f"{passing.reason} ({tries})") from passing
            wait_s = passing.wait_s
            if wait_s is None:
                wait_s = min(policy.longest_wait_s, policy.backoff_s * 2 ** (failures - 1)) * random.uniform(0.75, 1.25)
            say(f"{passing.reason}; try {failures + 1} of {policy.attempts} in {wait_s:.0f} s")
            policy.sleep(wait_s)
