"""What a prepared dataset is made of, and what in it deserves a look before anybody trains on it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.census import Census, Progress, take_census
from seglab.data.duplicates import near_duplicates
from seglab.data.manifest import SPLITS, Dataset
from seglab.data.outliers import Outlier, find_outliers

__all__ = ["Inspection", "MirrorPair", "Ratio", "SplitShares", "inspect"]

MIN_RATIO: Final = 1.25
"""How many times larger a class's share must be in one split than in another to be named."""

MIN_ERRORS: Final = 4.0
"""And by how many standard errors the two must differ, so that chance is no explanation."""

MIN_OF_SPLIT: Final = 8
"""In fewer samples the spread, and so the standard error, is a guess."""

Group = list[int]


@dataclass(frozen=True)
class SplitShares:
    """The classes of one split."""

    split: str
    num_samples: int
    shares: tuple[float, ...]
    """Of the labelled pixels of all its pictures, a class each."""
    num_with: tuple[int, ...]
    """How many samples show each class."""
    ignored: float
    """Share of all pixels."""


@dataclass(frozen=True)
class Ratio:
    """A class that is much more frequent in one split than in another."""

    name: str
    split: str
    """Where there is more of it."""
    other: str
    share: float
    """Mean over the pictures of its share of a picture."""
    other_share: float
    errors: float
    """Difference in standard errors (Welch)."""


@dataclass(frozen=True)
class MirrorPair:
    """On which side the left and the right class of a pair lie."""

    left: str
    right: str
    num_checked: int
    """Samples that show both."""
    num_left_first: int
    """In how many the centre of the left class lies left of the right one's in the picture."""
    against: tuple[int, ...]
    """Positions of the samples that are not as most are."""

    @property
    def of_picture(self) -> bool:
        """Whether left mostly is the picture's left; otherwise it seems to be the depicted person's."""
        return 2 * self.num_left_first >= self.num_checked


@dataclass(frozen=True)
class Inspection:
    """Everything that :func:`inspect` found. Positions are those of ``dataset.samples``."""

    dataset: Dataset
    splits: tuple[SplitShares, ...]
    sizes: dict[str, tuple[int, int, int]]
    """``height``, ``width`` and ``longer side`` in pixels: least, median, largest."""
    num_sizes: int
    """How many different sizes there are."""
    ratios: tuple[Ratio, ...]
    outliers: tuple[Outlier, ...]
    same: tuple[Group, ...]
    """Groups of photos with equal files."""
    near: tuple[Group, ...]
    """Groups of photos that look the same, those with equal files included."""
    mirror: tuple[MirrorPair, ...]
    unreadable: dict[int, str]

    @property
    def across(self) -> list[Group]:
        """The groups of near-duplicates that lie in several splits."""
        return [group for group in self.near if len({self.dataset.samples[i].split for i in group}) > 1]

    def missing(self) -> dict[str, list[str]]:
        """Return the classes that no sample of a split shows."""
        classes = self.dataset.task.classes
        absent = {
            part.split: [name for name, num in zip(classes, part.num_with, strict=True) if not num]
            for part in self.splits
        }
        return {split: names for split, names in absent.items() if names}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; samples go by their ids."""
        samples, classes = self.dataset.samples, self.dataset.task.classes
        places = [{"id": sample.id, "split": sample.split} for sample in samples]

        def groups(of: Sequence[Group]) -> list[list[dict[str, str]]]:
            return [[places[i] for i in group] for group in of]

        return {
            "dataset": str(self.dataset.dir),
            "task": self.dataset.task.name,
            "digest": self.dataset.digest,
            "samples": len(samples),
            "splits": {
                part.split: {
                    "samples": part.num_samples,
                    "shares": dict(zip(classes, part.shares, strict=True)),
                    "samples_with": dict(zip(classes, part.num_with, strict=True)),
                    "ignored": part.ignored,
                }
                for part in self.splits
            },
            "missing": self.missing(),
            "sizes": {name: dict(zip(("min", "median", "max"), of, strict=True)) for name, of in self.sizes.items()},
            "num_sizes": self.num_sizes,
            "ratios": [asdict(ratio) for ratio in self.ratios],
            "outliers": [
                {**places[outlier.position], "kind": outlier.kind, "reason": outlier.reason,
                 "score": outlier.score if np.isfinite(outlier.score) else None}
                for outlier in self.outliers
            ],
            "duplicates": {"same": groups(self.same), "near": groups(self.near), "across": groups(self.across)},
            "mirror": [
                {"left": pair.left, "right": pair.right, "samples": pair.num_checked,
                 "left_first": pair.num_left_first, "against": [samples[i].id for i in pair.against]}
                for pair in self.mirror
            ],
            "unreadable": [{**places[i], "reason": reason} for i, reason in sorted(self.unreadable.items())],
        }  # fmt: skip


def inspect(
    dataset: Dataset,
    *,
    workers: int | None = None,
    progress: Callable[[int], AbstractContextManager[Progress]] | None = None,
) -> Inspection:
    """Read every photo and its labels once and judge them.

    Args:
        dataset: A prepared dataset; files that cannot be read are part of the result.
        workers: Threads; the CPUs of this process by default, 0 for none.
        progress: Called with the number of samples; its ``advance`` is called for each.
    """
    census = take_census(dataset, workers=workers, progress=progress)
    splits = np.array([SPLITS.index(sample.split) for sample in dataset.samples])
    sides = np.array([sample.size_hw for sample in dataset.samples])
    sizes = {"height": sides[:, 0], "width": sides[:, 1], "longer side": sides.max(axis=1)}
    same = _equal_files(census)
    return Inspection(
        dataset=dataset,
        splits=tuple(_split_shares(census, splits == SPLITS.index(split), split) for split in dataset.splits),
        sizes={name: (int(of.min()), int(np.median(of)), int(of.max())) for name, of in sizes.items()},
        num_sizes=len({sample.size_hw for sample in dataset.samples}),
        ratios=tuple(_large_ratios(census, splits, dataset.splits)),
        outliers=tuple(find_outliers(census)),
        same=tuple(same),
        near=tuple(_near(census, same)),
        mirror=tuple(_mirror_pair(census, number) for number in range(len(dataset.task.mirror))),
        unreadable=census.unreadable,
    )


def _split_shares(census: Census, chosen: NDArray[np.bool_], split: str) -> SplitShares:
    counts, ignored = census.counts[chosen], int(census.ignored[chosen].sum())
    labelled = int(counts.sum())
    shares = counts.sum(axis=0) / max(1, labelled)
    num_with = np.count_nonzero(counts, axis=0)
    return SplitShares(
        split, int(chosen.sum()), tuple(shares.tolist()), tuple(num_with.tolist()), ignored / max(1, labelled + ignored)
    )


def _large_ratios(census: Census, splits: NDArray[np.int64], present: Sequence[str]) -> list[Ratio]:
    """Compare the splits class by class; the strongest differences come first."""
    labelled = census.counts.sum(axis=1)
    shares = census.counts / np.maximum(1, labelled)[:, None]
    found = []
    for pair in combinations(present, 2):
        of_pair = [shares[(splits == SPLITS.index(split)) & (labelled > 0)] for split in pair]
        if min(map(len, of_pair)) < MIN_OF_SPLIT:
            continue
        means = [of.mean(axis=0) for of in of_pair]
        error = np.sqrt(sum(of.var(axis=0, ddof=1) / len(of) for of in of_pair))
        for label, name in enumerate(census.task.classes):
            low, high = sorted((0, 1), key=lambda side: means[side][label])
            much, little = float(means[high][label]), float(means[low][label])
            errors = (much - little) / error[label] if error[label] else np.inf * (much > little)
            if much > MIN_RATIO * little and errors > MIN_ERRORS:
                found.append(Ratio(name, pair[high], pair[low], much, little, min(float(errors), 1e6)))
    return sorted(found, key=lambda ratio: -ratio.errors)


def _equal_files(census: Census) -> list[Group]:
    groups: dict[bytes, Group] = {}
    for position in np.flatnonzero(census.readable).tolist():
        groups.setdefault(census.digests[position].tobytes(), []).append(position)
    return [group for group in groups.values() if len(group) > 1]


def _near(census: Census, same: Sequence[Group]) -> list[Group]:
    """Add the groups of equal photos that are too plain to have a fingerprint to those that look the same."""
    positions = np.flatnonzero(census.comparable)
    near = [positions[group].tolist() for group in near_duplicates(census.fingerprints[positions])]
    plain = [group for group in same if not census.comparable[group[0]]]
    return sorted([*near, *plain])


def _mirror_pair(census: Census, number: int) -> MirrorPair:
    left, right = census.task.mirror[number]
    x = census.mirror_x[:, number]
    checked = ~np.isnan(x).any(axis=1)
    left_first = checked & (x[:, 0] < x[:, 1])
    num_checked, num_left_first = int(checked.sum()), int(left_first.sum())
    minority = checked & ~left_first if 2 * num_left_first >= num_checked else left_first
    return MirrorPair(left, right, num_checked, num_left_first, tuple(np.flatnonzero(minority).tolist()))
