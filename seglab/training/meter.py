"""Where the time of an epoch goes."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["Meter"]

X = TypeVar("X")


class Meter:
    """Counts images, the seconds that they took, and the seconds spent waiting for them."""

    def __init__(self) -> None:
        self.num_images = 0
        self._wait_s = 0.0
        self._started_s = time.monotonic()
        self._stopped_s: float | None = None

    def waiting_for(self, items: Iterable[X]) -> Iterator[X]:
        """Pass items on, counting the time that each took to come."""
        iterator = iter(items)
        while True:
            asked_s = time.monotonic()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._wait_s += time.monotonic() - asked_s
            yield item

    def stop(self) -> None:
        """End the epoch's clock."""
        self._stopped_s = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time from the beginning to :meth:`stop`, or to now."""
        return (self._stopped_s or time.monotonic()) - self._started_s

    @property
    def images_per_s(self) -> float:
        """Images a second."""
        return self.num_images / max(self.seconds, 1e-9)

    @property
    def wait_share(self) -> float:
        """Share of the time that was spent waiting, 0..1."""
        return min(1.0, self._wait_s / max(self.seconds, 1e-9))
