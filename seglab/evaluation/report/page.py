"""The page as a whole: sections in their order, style and script, and the policy that lets nothing else in."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from seglab.evaluation.bootstrap import Difference, Interval
from seglab.evaluation.gates import Gate
from seglab.evaluation.report.gallery import NUM_EACH, gallery
from seglab.evaluation.report.markup import Html, element, join, named, to_json
from seglab.evaluation.report.matrix import confusions, heat_map
from seglab.evaluation.report.people import people_told_apart
from seglab.evaluation.report.pictures import Pictures
from seglab.evaluation.report.sections import class_bars, class_table, headline, left_out, settings
from seglab.evaluation.report.spread import spread_over_images
from seglab.evaluation.report.tree import hierarchy
from seglab.evaluation.result import Evaluation
from seglab.files import sweep, write_text
from seglab.version import __version__

__all__ = ["Baseline", "write_report"]


@dataclass(frozen=True)
class Baseline:
    """What the scores are compared with."""

    name: str
    """What to call it: a file, a model."""
    differences: Mapping[str, Difference | None]
    """By metric name, as :func:`seglab.evaluation.bootstrap.differences` returns them."""
    num_images: int
    """On how many images both were scored: those that the differences are of."""


@dataclass
class _Page:
    """The sections so far, and what the script is told."""

    sections: list[tuple[str, str, Html]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, id: str, title: str, *content: Html | None) -> None:
        self.sections.append((id, title, join(content)))


def write_report(
    path: Path,
    evaluation: Evaluation,
    *,
    pictures: Callable[[str], Pictures | None] | None = None,
    configuration: Mapping[str, Any],
    intervals: Mapping[str, Interval | None] | None = None,
    baseline: Baseline | None = None,
    gates: Sequence[Gate] = (),
    title: str,
    num_each: int = NUM_EACH,
) -> None:
    """Write an evaluation as one self-contained HTML file, which loads nothing from anywhere.

    A picture takes at most some 120 kB, so that a report of 36 pictures has at most 5 MB. The same input gives the
    same file.

    Args:
        path: The file.
        evaluation: What to show.
        pictures: Returns what to show of an image by its id, None if there is nothing; a DataError or OSError that it
            raises is shown in the picture's place. Called for the gallery's images only, one after the other.
        configuration: How the scores came about, as plain values or mappings of such.
        intervals: As :func:`seglab.evaluation.bootstrap.intervals` returns them.
        baseline: What to compare with.
        gates: Bars that were set, and whether they were reached.
        title: The headline.
        num_each: How many of the worst, median and best images are in the gallery.

    Raises:
        DataError: If the file cannot be written.
    """
    page, task, scores = _Page(), evaluation.task, evaluation.scores
    ranges, changes = intervals or {}, baseline.differences if baseline else {}
    page.add("figures", "Figures", headline(scores, ranges, changes), _remarks(intervals, baseline))
    page.add(
        "classes",
        "Classes",
        class_bars(scores, task, ranges, changes),
        _marks(bool(intervals), baseline),
        class_table(scores, task, ranges, changes),
    )
    if scores.people is not None:
        page.add("people", "People", people_told_apart(scores.people, task, ranges, changes))
    if tree := hierarchy(scores, task):
        page.add("hierarchy", "Hierarchy", tree)
    wrong = confusions(evaluation.matrix, task)
    frequent = element("div", element("h3", "most frequent confusions"), wrong) if wrong else None
    heat = element("div", heat_map(evaluation.matrix, task))
    page.add("confusion", "Confusion", element("div", heat, frequent, class_="beside"))
    spread, page.facts["histogram"] = spread_over_images(evaluation)
    page.add("spread", "Spread over images", spread)
    page.add("left-out", "Left out", left_out(evaluation))
    board, page.facts["images"] = gallery(evaluation, pictures, num_each)
    page.add("gallery", "Images", board)
    page.add("configuration", "Configuration", settings(configuration, gates))
    sweep([path])
    write_text(path, _fill(page, title, _subtitle(evaluation)))


def _subtitle(evaluation: Evaluation) -> Html:
    task, num = evaluation.task, evaluation.num_images
    what = [named(task.name), f" ({task.title})" if task.title else ""]
    pixels = f"{evaluation.scores.num_pixels:,} pixels"
    return element("p", *what, f" · {num:,} image{'s' * (num != 1)} · {pixels} · {task.num_classes} classes")


def _remarks(intervals: Mapping[str, Interval | None] | None, baseline: Baseline | None) -> Html | None:
    said: list[Html | str] = []
    if intervals:
        said.append("95 %: where the score of other images of the same kind would mostly lie (bootstrap over images). ")
    if baseline:
        num = baseline.num_images
        said += ["Differences are against ", named(baseline.name), f" on the {num:,} images that both were scored on; "]
        said.append("* marks those whose 95 % interval leaves out zero (paired bootstrap).")
    return element("p", *said, class_="note") if said else None


def _marks(with_intervals: bool, baseline: Baseline | None) -> Html | None:
    said = ["whisker: 95 %"] * with_intervals + ["tick across the bar: baseline"] * bool(baseline)
    return element("p", "; ".join(said), class_="note") if said else None


def _fill(page: _Page, title: str, subtitle: Html) -> str:
    """Put the page together; its policy admits the style and the script by their hashes, and pictures within it."""
    source = files(__package__)
    template, style, script = (
        source.joinpath(name).read_text("utf-8") for name in ("page.html", "page.css", "page.js")
    )
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    links = [element("a", heading, href=f"#{id}") for id, heading, _ in page.sections]
    sections = [
        element("section", element("h2", heading), content, id=id, aria_label=heading)
        for id, heading, content in page.sections
    ]
    body = join(
        [
            element("a", "to the figures", href="#figures", class_="unseen skip"),
            element("header", element("h1", title), subtitle),
            element("nav", *links, aria_label="sections"),
            element("main", *sections),
            element("footer", element("p", f"made by seglab {__version__}; this file loads nothing from elsewhere")),
        ]
    )
    return Template(template).substitute(
        policy=policy, title=join([title]), style=style, script=script, body=body, facts=to_json(page.facts)
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
