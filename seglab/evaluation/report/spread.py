"""How the scores of images spread: a histogram of mean IoU, and for the page's script those of every class."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.evaluation.metrics import groups
from seglab.evaluation.report.charts import stroke
from seglab.evaluation.report.markup import Html, element, join
from seglab.evaluation.report.numbers import score
from seglab.evaluation.result import Evaluation

__all__ = ["NUM_BINS", "Binned", "bin_scores", "spread_over_images"]

NUM_BINS: Final = 20

_PLACE: Final[Mapping[str, int]] = {"left": 34, "right": 390, "top": 14, "bottom": 150}
"""Where the bars lie in a picture of 400 x 190; the page's script moves them by it."""


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

    def __str__(self) -> str:
        num = sum(self.counts)
        said = f"{num} image{'s' * (num != 1)}: median {score(self.median)}, mean {score(self.mean)}"
        return said + (f"; {self.num_undefined} without it" if self.num_undefined else "")


def bin_scores(scores: NDArray[np.float64]) -> Binned:
    """Count scores of 0..1; NaN is undefined."""
    there = scores[~np.isnan(scores)]
    counts, _ = np.histogram(there, NUM_BINS, (0.0, 1.0))
    mean, median = (float(there.mean()), float(np.median(there))) if there.size else (None, None)
    return Binned(tuple(map(int, counts)), int(scores.size - there.size), mean, median)


def spread_over_images(evaluation: Evaluation) -> tuple[Html, dict[str, Any]]:
    """Return the histogram with its table, and what the page's script needs to show that of a class."""
    images, names = evaluation.images(), groups(evaluation.task)
    scores_NG = np.array([(image.miou, *image.iou) for image in images], np.float64).reshape(
        len(images), 1 + len(names)
    )
    columns = [bin_scores(scores_N) for scores_N in scores_NG.T]
    options = ["mIoU", *(f"IoU of {name}" for name in names)]
    select = element(
        "select", *(element("option", said, value=str(at)) for at, said in enumerate(options)), id="spread-of"
    )
    choice = element("label", element("span", "score"), select, class_="scripted")
    words = element("p", f"{columns[0]}", class_="note", id="spread-words", aria_live="polite")
    figure = element("figure", _histogram(columns[0]), element("figcaption", words), class_="spread")
    content = element("div", figure, _table(columns[0]), class_="beside")
    return join([choice, content]), {**_PLACE, "of": [column.to_list() for column in columns]}


def _histogram(binned: Binned) -> Html:
    left, right, top, bottom = (_PLACE[side] for side in ("left", "right", "top", "bottom"))
    most, step = max(1, *binned.counts), (right - left) / NUM_BINS
    heights = [(bottom - top) * num / most for num in binned.counts]
    bins = [
        element("rect", class_="bin", x=left + at * step + 0.75, width=step - 1.5, y=bottom - height, height=height)
        for at, height in enumerate(heights)
    ]
    ticks = [
        element("text", f"{value:g}", class_="tick", x=left + (right - left) * value, y=bottom + 16)
        for value in (0, 0.25, 0.5, 0.75, 1)
    ]
    middle = left + (right - left) * (binned.median or 0.0)
    hidden = "hidden" if binned.median is None else None
    return element(
        "svg",
        element("title", "how many images have which score; the dashed line is the median"),
        stroke("axis", left, bottom, right, bottom),
        *bins,
        *ticks,
        element("text", str(most), class_="most", x=left - 6, y=top + 9),
        element("text", "0", class_="least", x=left - 6, y=bottom),
        element("text", "score of the image (dashed: median)", class_="tick", x=(left + right) / 2, y=bottom + 35),
        element("line", class_="median", x1=middle, x2=middle, y1=top - 4, y2=bottom, visibility=hidden),
        class_="histogram",
        viewBox="0 0 400 190",
        role="img",
    )


def _table(binned: Binned) -> Html:
    lines = [
        element(
            "tr",
            element("th", f"{at / NUM_BINS:.2f}–{(at + 1) / NUM_BINS:.2f}", scope="row"),
            element("td", str(num), class_="count"),
        )
        for at, num in enumerate(binned.counts)
    ]
    head = element("tr", element("th", "score", scope="col"), element("th", "images", scope="col"))
    table = element("table", element("thead", head), element("tbody", *lines), class_="narrow")
    return element("details", element("summary", "as a table"), table)
