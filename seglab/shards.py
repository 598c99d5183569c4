"""Parts of a set of images, for job arrays and several processes."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from seglab.errors import UsageError

__all__ = ["WHOLE", "Shard", "choose_shard"]

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Every ``num``-th item, beginning with the ``index``-th.

    Raises:
        UsageError: If there is no such part.
    """

    index: int
    """1..num."""
    num: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.num:
            raise UsageError(
                f"there is no part `{self.index}/{self.num}`", "parts count from 1: `--shard 1/4` to `4/4`"
            )

    def of(self, items: Sequence[T]) -> list[T]:
        """Return the items of this part, in order."""
        return list(items[self.index - 1 :: self.num])

    def __str__(self) -> str:
        return f"{self.index}/{self.num}"


WHOLE: Final = Shard(1, 1)
"""Everything."""


def choose_shard(text: str | None, environment: Mapping[str, str] = os.environ) -> Shard:
    """Read ``i/n``; without it the part of this process among those that torchrun started, or everything.

    Raises:
        UsageError: If the text does not name a part.
    """
    if text is not None:
        index, slash, num = text.partition("/")
        if not slash or not index.strip().isdecimal() or not num.strip().isdecimal():
            raise UsageError(f"`{text}` does not name a part", "write `--shard 2/8` for the second of eight")
        return Shard(int(index), int(num))
    rank, world = environment.get("RANK", ""), environment.get("WORLD_SIZE", "")
    return Shard(int(rank) + 1, int(world)) if rank.isdecimal() and world.isdecimal() else WHOLE
