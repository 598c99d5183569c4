"""Photos that are the same, or nearly: resized, compressed again, brighter or darker copies.

A photo's fingerprint is the perceptual hash pHash (C. Zauner, *Implementation and Benchmarking of Perceptual Image Hash
Functions*, 2010; https://www.phash.org), of which 64 bits find candidates and 192 more of the same kind confirm them:
the grey photo is shrunk to 32x32, its discrete cosine transform taken, and of every low frequency one bit kept, whether
it is above the median. The mean (brightness) plays no part, contrast and gamma hardly any.

Over 2,990 photos of people, aligned portraits among them, no two different ones were nearer than 70 of the 256 bits,
while copies at a third of the size, with JPEG quality 10 to 40, brightness +-35 or gamma 1.5, were within 32.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.images import resize_image

__all__ = ["ACROSS_SPLITS", "NUM_WORDS", "PhotoIndex", "fingerprint", "near_duplicates"]

Fingerprint = NDArray[np.uint64]

NUM_WORDS: Final = 4
"""Length of a fingerprint in 64-bit words; the first is pHash proper."""

MAX_HASH_DISTANCE: Final = 12
"""Of the 64 bits of pHash, between candidates."""

MAX_DISTANCE: Final = 48
"""Of all 256 bits, between near-duplicates."""

ACROSS_SPLITS: Final = "near-duplicate photos in different splits"

_SIDE: Final = 32
_LOW, _HIGH = 8, 16
_MIN_CONTRAST: Final = 2.0
"""Standard deviation, in grey levels, under which a photo is too plain to be told from another."""

_MAX_NAMED: Final = 6
"""How many photos of a group are named."""

_ROWS, _COLUMNS = 16, 4096
"""Pairs are compared in blocks that stay in the processor's cache."""

_IN_LOW: Final = np.zeros((_HIGH, _HIGH), bool)
_IN_LOW[:_LOW, :_LOW] = True


def fingerprint(image: NDArray[np.uint8]) -> Fingerprint | None:
    """Return the fingerprint of a photo, 4 words; None for a plain surface, which has nothing to compare.

    Args:
        image: HWC uint8 RGB of any size and shape.
    """
    height, width = image.shape[:2]
    if min(height, width) > 8 * _SIDE and height % 2 == width % 2 == 0:  # fours of pixels: sooner than all in grey
        halved: Any = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_LINEAR)
        image = halved
    grey: Any = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small: Any = resize_image(grey, (_SIDE, _SIDE)).astype(np.float32)
    if small.std() < _MIN_CONTRAST:
        return None
    transform: Any = cv2.dct(small)
    waves = transform[1 : 1 + _HIGH, 1 : 1 + _HIGH]
    low, high = waves[_IN_LOW], waves[~_IN_LOW]
    bits = np.concatenate([low > np.median(low), high > np.median(waves)])
    return np.packbits(bits, bitorder="little").view(np.uint64)


def near_duplicates(fingerprints: Fingerprint) -> list[list[int]]:
    """Find the photos that are nearly the same.

    Every pair is compared, 0.8 ns each: 60,000 photos take about 1.5 s on one core, and no more memory than a block. An
    index by parts of the hash would gain little at these numbers, and lose much where many hashes are alike.

    Args:
        fingerprints: N x 4.

    Returns:
        The groups, as ascending positions; who is near to one of a group is in it. In the order of their first members.
    """
    group = np.arange(len(fingerprints))
    for rows, columns, close in _close_hashes(fingerprints[:, 0].copy()):
        apart = close & (group[rows, None] != group[columns])
        for row, column in zip(*np.nonzero(apart), strict=True):
            _join(group, fingerprints, rows.start + row, columns.start + column)
    order = np.argsort(group, kind="stable")
    borders = np.flatnonzero(np.diff(group[order])) + 1
    found = [members.tolist() for members in np.split(order, borders) if len(members) > 1]
    return sorted(found)


def _close_hashes(hashes: Fingerprint) -> Iterator[tuple[slice, slice, NDArray[np.bool_]]]:
    """Yield the blocks of the upper triangle of pairs in which some are near, and which: rows x columns."""
    xor, distances = np.empty((_ROWS, _COLUMNS), np.uint64), np.empty((_ROWS, _COLUMNS), np.uint8)
    for top in range(0, len(hashes), _ROWS):
        rows = slice(top, min(top + _ROWS, len(hashes)))
        for left in range(top, len(hashes), _COLUMNS):
            columns = slice(left, min(left + _COLUMNS, len(hashes)))
            block = slice(rows.stop - top), slice(columns.stop - left)
            np.bitwise_xor(hashes[rows, None], hashes[columns], out=xor[block])
            np.bitwise_count(xor[block], out=distances[block])
            if left == top:  # a photo with itself
                np.fill_diagonal(distances[block], 64)
            if distances[block].min() <= MAX_HASH_DISTANCE:
                yield rows, columns, distances[block] <= MAX_HASH_DISTANCE


def _join(group: NDArray[np.int64], fingerprints: Fingerprint, row: int, column: int) -> None:
    """Make one group of those of two photos, if all of their fingerprints is near."""
    if group[row] != group[column]:
        distance = int(np.bitwise_count(fingerprints[row] ^ fingerprints[column]).sum())
        if distance <= MAX_DISTANCE:
            group[group == group[column]] = group[row]


class PhotoIndex:
    """Collects the fingerprints of photos as they pass by, a few bytes each. May be filled from several threads."""

    def __init__(self) -> None:
        self._photos: list[tuple[str, str, bytes]] = []
        self._guard = threading.Lock()

    def add(self, id: str, path: str, image: NDArray[np.uint8]) -> Fingerprint | None:
        """Remember a photo and return its fingerprint.

        Args:
            id: Of the sample.
            path: What people know it by.
            image: HWC uint8 RGB.
        """
        words = fingerprint(image)
        self.put(id, path, words)
        return words

    def put(self, id: str, path: str, words: Fingerprint | None) -> None:
        """Remember a photo by its fingerprint."""
        if words is not None:
            with self._guard:
                self._photos.append((id, path, words.tobytes()))

    def across(self, splits: Mapping[str, str]) -> list[str]:
        """Describe the groups of near-duplicates that lie in several splits: ``a.jpg (train) ~ b.jpg (test)``.

        Args:
            splits: The split of every id; photos without one are left out.
        """
        photos = sorted((path, splits[id], words) for id, path, words in self._photos if id in splits)
        words = np.frombuffer(b"".join(photo[2] for photo in photos), np.uint64).reshape(-1, NUM_WORDS)
        groups = [[photos[position][:2] for position in group] for group in near_duplicates(words)]
        return [_described(group) for group in groups if len({split for _, split in group}) > 1]


def _described(group: Sequence[tuple[str, str]]) -> str:
    names = " ~ ".join(f"{path} ({split})" for path, split in group[:_MAX_NAMED])
    return names + (f" and {len(group) - _MAX_NAMED} more" if group[_MAX_NAMED:] else "")
