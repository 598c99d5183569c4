"""Charts as inline SVG, each beside the numbers that it shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.evaluation.report.markup import Html, element, join
from seglab.evaluation.report.numbers import score

__all__ = ["HISTOGRAM", "NUM_BINS", "Binned", "bar", "bin_scores", "histogram", "swatch", "switch"]

NUM_BINS: Final = 20

HISTOGRAM: Final[Mapping[str, int]] = {"left": 34, "right": 390, "top": 14, "bottom": 150}
"""Where the bars of a histogram lie in its picture of 400 x 190; the page's script moves them by it."""


def swatch(colour: Sequence[int]) -> Html:
    """Return a small square of a colour."""
    fill = "#" + "".join(f"{value:02x}" for value in colour)
    square = element("rect", x=0.5, y=0.5, width=11, height=11, rx=2.5, fill=fill)
    return element("svg", square, class_="swatch", viewBox="0 0 12 12", aria_hidden="true")


def bar(value: float, low: float | None = None, high: float | None = None, *, before: float | None = None) -> Html:
    """Return a bar of 0..1 on a track, its interval as a whisker and an earlier value as a tick."""
    parts = [
        element("rect", class_="track", x=0, y=2, width=100, height=8),
        element("rect", class_="bar", x=0, y=2, width=100 * min(max(value, 0.0), 1.0), height=8),
    ]
    if before is not None:
        parts.append(_stroke("before", 100 * before, 0, 100 * before, 12))
    if low is not None and high is not None:
        parts += [
            _stroke("whisker", 100 * low, 6, 100 * high, 6),
            _stroke("whisker", 100 * low, 3.5, 100 * low, 8.5),
            _stroke("whisker", 100 * high, 3.5, 100 * high, 8.5),
        ]
    return element("svg", *parts, class_="bars", viewBox="0 0 100 12", preserveAspectRatio="none", aria_hidden="true")


def switch(name: str, legend: str, panels: Sequence[tuple[str, Html]]) -> Html:
    """Return panels of which one is shown at a time; choosing needs no script.

    Args:
        name: Unique in the page.
        legend: What is chosen.
        panels: Title and content; at most six.
    """
    inputs = [
        join(
            [
                element("input", type="radio", name=name, id=f"{name}-{at}", class_=f"pick pick{at}", checked=at == 0),
                element("label", title, for_=f"{name}-{at}"),
            ]
        )
        for at, (title, _) in enumerate(panels)
    ]
    shown = [element("div", content, class_=f"panel panel{at}") for at, (_, content) in enumerate(panels)]
    group = element("legend", legend, class_="unseen")
    return element("fieldset", group, *inputs, element("div", *shown, class_="panels"), class_="switch")


@dataclass(frozen=True)
class Binned:
    """How the scores of images spread."""

    counts: tuple[int, ...]
    """Images in each of :data:`NUM_BINS` equal parts of 0..1; the last holds 1 as well."""
    num_undefined: int
    mean: float | None
    median: float | None

    def to_list(self) -> list[Any]:
        """Return plain values for the page's script."""
        mean, median = (None if value is None else round(value, 4) for value in (self.mean, self.median))
        return [list(self.counts), self.num_undefined, mean, median]


def bin_scores(scores: NDArray[np.float64]) -> Binned:
    """Count scores of 0..1; NaN is undefined."""
    there = scores[~np.isnan(scores)]
    counts, _ = np.histogram(there, NUM_BINS, (0.0, 1.0))
    mean, median = (float(there.mean()), float(np.median(there))) if there.size else (None, None)
    return Binned(tuple(map(int, counts)), int(scores.size - there.size), mean, median)


def histogram(binned: Binned, title: str) -> Html:
    """Draw how many images have which score."""
    left, right, top, bottom = (HISTOGRAM[side] for side in ("left", "right", "top", "bottom"))
    most, step = max(1, *binned.counts), (right - left) / NUM_BINS
    bins = [
        element(
            "rect",
            class_="bin",
            x=left + at * step + 0.75,
            width=step - 1.5,
            y=bottom - (bottom - top) * num / most,
            height=(bottom - top) * num / most,
        )
        for at, num in enumerate(binned.counts)
    ]
    ticks = [
        element("text", f"{value:g}", class_="tick", x=left + (right - left) * value, y=bottom + 16)
        for value in (0, 0.25, 0.5, 0.75, 1)
    ]
    middle = left + (right - left) * (binned.median or 0.0)
    hidden = "hidden" if binned.median is None else None
    return element(
        "svg",
        element("title", title),
        _stroke("axis", left, bottom, right, bottom),
        *bins,
        *ticks,
        element("text", str(most), class_="most", x=left - 6, y=top + 5),
        element("text", "0", class_="most", x=left - 6, y=bottom),
        element("text", "score of the image", class_="tick", x=(left + right) / 2, y=bottom + 35),
        element("line", class_="median", x1=middle, x2=middle, y1=top - 4, y2=bottom, visibility=hidden),
        class_="histogram",
        viewBox="0 0 400 190",
        role="img",
    )


def describe(binned: Binned) -> str:
    """Say in a line what a histogram shows."""
    num = sum(binned.counts)
    said = f"{num} image{'s' * (num != 1)}: median {score(binned.median)}, mean {score(binned.mean)}"
    return said + (f"; {binned.num_undefined} without it" if binned.num_undefined else "")


def _stroke(class_: str, x1: float, y1: float, x2: float, y2: float) -> Html:
    return element("line", class_=class_, x1=x1, y1=y1, x2=x2, y2=y2, vector_effect="non-scaling-stroke")
