"""Work that runs ahead of its consumer in threads, in order and within bounds."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead"]

X = TypeVar("X")
Y = TypeVar("Y")


def ahead(fn: Callable[[X], Y], items: Iterable[X], *, workers: int, depth: int | None = None) -> Iterator[Y]:
    """Yield ``fn(item)`` in the order of ``items``, while later calls already run in threads.

    An exception in ``fn`` or in ``items`` is raised here, in the consumer. Leaving the loop for any reason cancels the
    calls that have not started and waits for those that have.

    Args:
        fn: Called in a worker thread.
        items: Pulled in the consumer's thread, never further ahead than ``depth``.
        workers: Number of threads; 0 calls ``fn`` in the consumer's thread.
        depth: How many results are held or computed at once, at most; twice the workers by default.
    """
    if workers <= 0:
        yield from map(fn, items)
        return
    depth = depth or 2 * workers
    pending: deque[Future[Y]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="seglab") as pool:
        try:
            for item in items:
                pending.append(pool.submit(fn, item))
                if len(pending) >= depth:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
