"""Labels that are empty, nearly full, or unlike those of the other samples.

"Unlike" is measured on few numbers of a mask that people can picture: the share of every class where it is present,
where the mask lies, how much of the picture's rim it touches, and how long its outlines are for its area. Each is
brought to a scale on which its spread does not depend on its size (arcsine of the root for shares, logarithm for
lengths), and compared with the median of all samples in units of their spread, as in the modified z-score of
B. Iglewicz and D. Hoaglin, *How to Detect and Handle Outliers*, 1993. The spread is the larger of the scaled median
and mean absolute deviations, which are both 1 sigma for a normal distribution: that half of the samples are alike
does not make the others outliers. A class that nearly all have is missed where it is absent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.census import Census

__all__ = ["MAX_DEVIATION", "Outlier", "find_outliers"]

MAX_DEVIATION: Final = 3.5
"""Spreads from the median beyond which a mask is unlike the rest."""

FULL: Final = 0.98
"""Share of the labelled pixels that are not background from which on a mask is nearly full."""

MIN_SAMPLES: Final = 20
"""Below this number nothing is typical."""

MAX_LACKING: Final = 0.01
"""Share of the samples that may lack a class for its absence to be odd."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Outlier:
    """A sample whose labels stand out."""

    position: int
    kind: str
    """``empty``, ``full``, ``lacking`` or ``unlike``."""
    score: float
    """How far out, in spreads; empty and full masks come before all others."""
    reason: str
    """In words, with what is usual."""


@dataclass(frozen=True)
class _Feature:
    """One number of every mask."""

    values: Floats
    """N, NaN where there is none."""
    to_scale: Callable[[Floats], Floats]
    min_spread: float
    """On the scale: differences that nobody would see are none."""
    describe: Callable[[float, float, float], str]
    """Makes words of a value and of the 5th and 95th percentiles."""


def find_outliers(census: Census) -> list[Outlier]:
    """Return the samples that stand out, each once, with the strongest reason; the oddest first."""
    blank_or_full = list(_blank_or_full(census))
    others = census.readable
    others[[outlier.position for outlier in blank_or_full]] = False
    found: dict[int, Outlier] = {}
    for outlier in (*blank_or_full, *_lacking(census, others), *_unlike(census)):
        known = found.get(outlier.position)
        if known is None or outlier.score > known.score:
            found[outlier.position] = outlier
    return sorted(found.values(), key=lambda outlier: (-outlier.score, outlier.position))


def deviations(values: Floats, min_spread: float) -> Floats:
    """Return how many spreads each value is from the median; 0 for NaN and where there are too few to tell.

    Args:
        values: Any shape's worth of numbers in one row; NaN is none.
        min_spread: Least spread to assume.
    """
    known = values[~np.isnan(values)]
    if len(known) < MIN_SAMPLES:
        return np.zeros(len(values))
    median = np.median(known)
    distances = np.abs(known - median)
    spread = max(1.4826 * float(np.median(distances)), 1.2533 * float(distances.mean()), min_spread)
    return np.nan_to_num(np.abs(values - median) / spread)


def _blank_or_full(census: Census) -> Iterator[Outlier]:
    labelled = census.counts.sum(axis=1)
    shown = labelled - census.counts[:, 0]
    for position in np.flatnonzero(census.readable):
        if labelled[position] == 0:
            yield Outlier(int(position), "empty", np.inf, "everything is ignored")
        elif shown[position] == 0:
            yield Outlier(int(position), "empty", np.inf, "nothing but background")
        elif shown[position] / labelled[position] >= FULL:
            background = census.counts[position, 0] / labelled[position]
            yield Outlier(int(position), "full", np.inf, f"only {background:.1%} is background")


def _lacking(census: Census, among: NDArray[np.bool_]) -> Iterator[Outlier]:
    num = np.count_nonzero(among)
    for label, name in enumerate(census.task.classes):
        absent = np.flatnonzero(among & (census.counts[:, label] == 0))
        if num >= MIN_SAMPLES and 0 < len(absent) <= MAX_LACKING * num:
            share = f"{(num - len(absent)) / num:.1%}"
            reason = f"no `{name}`, which {share} have" if label else "no background"
            for position in absent:
                yield Outlier(int(position), "lacking", MAX_DEVIATION, reason)


def _unlike(census: Census) -> Iterator[Outlier]:
    for feature in _features(census):
        known = feature.values[~np.isnan(feature.values)]
        far = deviations(feature.to_scale(feature.values), feature.min_spread)
        positions = np.flatnonzero(far > MAX_DEVIATION)
        if len(positions):
            low, high = np.percentile(known, [5, 95])
            for position in positions:
                reason = feature.describe(float(feature.values[position]), float(low), float(high))
                yield Outlier(int(position), "unlike", float(far[position]), reason)


def _features(census: Census) -> Iterator[_Feature]:
    labelled = census.counts.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(census.counts > 0, census.counts / labelled[:, None], np.nan)
    for label, name in enumerate(census.task.classes):
        yield _Feature(shares[:, label], _stabilised, 0.02, _percents(f"`{name}` is"))
    yield _Feature(census.touch, _stabilised, 0.05, _percents("share of the rim covered:"))
    yield _Feature(census.place[:, 0], np.asarray, 0.05, _percents("its centre from the top:"))
    yield _Feature(census.place[:, 1], np.asarray, 0.05, _percents("its centre from the left:"))
    outlined = np.where(census.outline > 0, census.outline, np.nan)  # what fills the picture has no outline
    yield _Feature(outlined, np.log, 0.1, _describe_outline)


def _stabilised(shares: Floats) -> Floats:
    stabilised: Floats = np.arcsin(np.sqrt(shares))
    return stabilised


def _percents(what: str) -> Callable[[float, float, float], str]:
    def describe(value: float, low: float, high: float) -> str:
        digits = 0 if value >= 0.1 else 1 if value >= 0.001 else 3
        return f"{what} {value:.{digits}%}, usually {low:.{digits}%} to {high:.{digits}%}"

    return describe


def _describe_outline(value: float, low: float, high: float) -> str:
    word = "in pieces or ragged" if value > high else "very smooth"
    return f"{word} (outline {value:.1f}), usually {low:.1f} to {high:.1f}"
