"""Areas that are no person by themselves, joined to the person that they touch."""

import heapq
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["merge_fragments"]

LEAST_PIXELS: Final = 30
"""An area of no more is a fragment."""
REACH: Final = 2
"""Areas touch where pixels of both lie so far apart along a row or a column: across a line one pixel wide."""

Int32 = NDArray[np.int32]


def merge_fragments(areas: Int32, labels: NDArray[np.uint8], *, parts_matter: bool = True) -> Int32:
    """Join every fragment to the area that it touches most: the smallest first, as long as there are any.

    A fragment has at most :data:`LEAST_PIXELS` pixels or, with ``parts_matter``, a single class. One that touches
    nothing stays.

    Args:
        areas: HW; 0 is no area.
        labels: HW class ids.
        parts_matter: See above.

    Returns:
        HW areas, each under the number of one of its own.
    """
    state = _State(areas, labels, parts_matter)
    waiting = [(int(state.pixels[number]), number) for number in state.numbers if state.is_fragment(number)]
    heapq.heapify(waiting)
    while waiting:
        size, number = heapq.heappop(waiting)
        if state.owner[number] != number or size != state.pixels[number] or not state.is_fragment(number):
            continue  # grown meanwhile: it waits under its new size, if it still has to
        target = state.most_touched(number)
        if target is None:
            continue
        state.join(number, target)
        if state.is_fragment(target):
            heapq.heappush(waiting, (int(state.pixels[target]), target))
    return state.owners()[areas]


class _State:
    """How large areas are, which classes they hold and what they touch, while they are joined."""

    def __init__(self, areas: Int32, labels: NDArray[np.uint8], parts_matter: bool) -> None:
        num = int(areas.max(initial=0)) + 1
        self.pixels = np.bincount(areas.ravel(), minlength=num)
        self.numbers: list[int] = np.flatnonzero(self.pixels[1:]).tolist()
        self.numbers = [number + 1 for number in self.numbers]
        self.owner = np.arange(num)
        self._parts_matter = parts_matter
        self._classes: list[set[int]] = [set() for _ in range(num)]
        for pair in np.unique(areas.astype(np.int64).ravel() * 256 + labels.ravel()).tolist():
            self._classes[pair // 256].add(pair % 256)
        self._touches: list[dict[int, int]] = [{} for _ in range(num)]
        for (one, other), count in _contacts(areas):
            self._touches[one][other] = self._touches[one].get(other, 0) + count
            self._touches[other][one] = self._touches[other].get(one, 0) + count

    def is_fragment(self, number: int) -> bool:
        """Tell whether an area is too small to be a person or, where parts matter, of one class only."""
        return bool(self.pixels[number] <= LEAST_PIXELS) or (self._parts_matter and len(self._classes[number]) == 1)

    def most_touched(self, number: int) -> int | None:
        """Return the area with the longest border to this one, the larger one of two alike; None if it is alone."""
        touched = self._touches[number]
        return max(touched, key=lambda other: (touched[other], self.pixels[other], -other)) if touched else None

    def join(self, number: int, target: int) -> None:
        """Make an area part of another, with its pixels, classes and borders."""
        self.owner[number] = target
        self.pixels[target] += self.pixels[number]
        self._classes[target] |= self._classes[number]
        for other, count in self._touches[number].items():
            del self._touches[other][number]
            if other != target:
                self._touches[other][target] = self._touches[other].get(target, 0) + count
                self._touches[target][other] = self._touches[target].get(other, 0) + count
        self._touches[number] = {}

    def owners(self) -> Int32:
        """Return the final owner of every number."""
        owner = self.owner.copy()
        while not np.array_equal(owner, owner[owner]):
            owner = owner[owner]
        return owner.astype(np.int32)


def _contacts(areas: Int32) -> list[tuple[tuple[int, int], int]]:
    """Return how often pixels of two areas lie :data:`REACH` apart, for every two that do."""
    base = int(areas.max(initial=0)) + 1
    codes = []
    for one, other in ((areas[REACH:], areas[:-REACH]), (areas[:, REACH:], areas[:, :-REACH])):
        where = (one != other) & (one > 0) & (other > 0)
        low, high = np.minimum(one, other)[where], np.maximum(one, other)[where]
        codes.append(low.astype(np.int64) * base + high)
    pairs, counts = np.unique(np.concatenate(codes), return_counts=True)
    return [((pair // base, pair % base), count) for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True)]
