"""The thread pipeline: order, overlap, bounds, and every way it can end early."""

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from seglab.pipeline import ahead


def no_threads_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith("seglab")]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_order_is_kept(workers: int) -> None:
    def slow_for_even(x: int) -> int:
        time.sleep(0.002 * (x % 2 == 0))
        return x * x

    assert list(ahead(slow_for_even, range(30), workers=workers)) == [x * x for x in range(30)]
    assert no_threads_left()


def test_calls_overlap() -> None:
    barrier = threading.Barrier(3, timeout=10)  # breaks unless three calls are under way at once
    assert list(ahead(lambda _: barrier.wait() >= 0, range(6), workers=3, depth=3)) == [True] * 6


def test_at_most_depth_are_pulled() -> None:
    pulled = 0

    def items() -> Iterator[int]:
        nonlocal pulled
        while True:
            pulled += 1
            yield pulled

    results = ahead(lambda x: x, items(), workers=2, depth=5)
    for taken in range(1, 20):
        next(results)
        assert pulled <= taken + 5
    results.close()  # type: ignore[attr-defined]
    assert no_threads_left()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_function_reaches_the_consumer_in_order(workers: int) -> None:
    def fail_at_three(x: int) -> int:
        if x == 3:
            raise ValueError("three")
        return x

    results = ahead(fail_at_three, itertools.count(), workers=workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert no_threads_left()


def test_an_error_of_the_source_reaches_the_consumer() -> None:
    def items() -> Iterator[int]:
        yield from range(8)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(ahead(lambda x: x, items(), workers=2))
    assert no_threads_left()


def test_leaving_early_leaves_no_thread() -> None:
    for result in ahead(lambda x: x, itertools.count(), workers=2):
        if result == 5:
            break
    assert no_threads_left()
