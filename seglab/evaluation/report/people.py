"""How well people are told apart: figures, average precision of every part, and how it falls with the overlap."""

import math
from typing import Final

from seglab.evaluation.people import PeopleScores
from seglab.evaluation.report.charts import bar, swatch, switch
from seglab.evaluation.report.markup import Html, element, join, named
from seglab.evaluation.report.numbers import score
from seglab.evaluation.report.sections import Differences, Intervals, around
from seglab.tasks import Task

__all__ = ["people_told_apart"]

_CARDS: Final = (
    ("edge_f1", "F1 of outlines", "precision {precision}, recall {recall}, of outlines of probability 0.5"),
    ("edge_ods", "F1 of outlines, ODS", "at the probability that is best for all images: {ods_from:g}"),
    ("edge_ois", "F1 of outlines, OIS", "at the probability that is best for each image"),
    ("ap_r", "AP of parts (APʳ)", "mean over the classes and the overlaps 0.1 to 0.9; {ap_r50} at 0.5"),
    ("ap_p", "AP of persons (APᵖ)", "mean over the overlaps 0.1 to 0.9; {ap_p50} at 0.5"),
)


def people_told_apart(people: PeopleScores, task: Task, intervals: Intervals, differences: Differences) -> Html:
    """Return everything that is known of it."""
    told = {
        "precision": score(people.edge_precision, 3),
        "recall": score(people.edge_recall, 3),
        "ods_from": people.edge_ods_from,
        "ap_r50": score(people.ap_r50, 3),
        "ap_p50": score(people.ap_p50, 3),
    }
    cards = [
        element(
            "div",
            element("dt", title),
            element("dd", score(getattr(people, name), 3), class_="figure"),
            element("dd", *around(intervals.get(name), differences.get(name)), class_="around"),
            element("dd", said.format(**told), class_="said"),
        )
        for name, title, said in _CARDS
    ]
    num, true, found = people.num_images, people.num_true, people.num_found
    images = f"{num:,} image{'s' * (num != 1)} whose truth tells people apart"
    note = element("p", f"{images}: {true:,} people there, {found:,} found.", class_="note")
    heading = element("h3", "average precision")
    panels = [("AP 0.1 to 0.9", _bars(people, task, 0)), ("AP 0.5", _bars(people, task, 1))]
    table = element("details", element("summary", "all numbers"), _table(people, task))
    figures = element("dl", *cards, class_="headline")
    return join([figures, heading, switch("people-ap", "overlap", panels), note, table])


def _bars(people: PeopleScores, task: Task, which: int) -> Html:
    rows = [
        _row(element("span", swatch(_colour(task, kind.name)), named(kind.name), class_="name"), scores[which])
        for kind in people.classes
        for scores in [(kind.ap_r, kind.ap_r50)]
    ]
    persons = _row(element("span", "persons", class_="name"), (people.ap_p, people.ap_p50)[which])
    return element("div", *rows, persons, class_="chart")


def _row(name: Html, reached: float) -> Html:
    absent = math.isnan(reached)
    shown = "absent" if absent else score(reached)
    return element("div", name, bar(0.0 if absent else reached), element("span", shown, class_="value"), class_="row")


def _table(people: PeopleScores, task: Task) -> Html:
    lines = [
        element(
            "tr",
            element("th", swatch(_colour(task, kind.name)), named(kind.name), scope="row"),
            *(element("td", cell) for cell in (score(kind.ap_r), score(kind.ap_r50))),
            *(element("td", f"{num:,}") for num in (kind.num_true, kind.num_found)),
        )
        for kind in people.classes
    ]
    by_part = _framed(("part", "AP 0.1 to 0.9", "AP 0.5", "true", "found"), lines, "average precision of parts")
    at = [
        element(
            "tr",
            element("th", f"{overlap / 10:g}", scope="row"),
            *(element("td", score(scores[overlap - 1])) for scores in (people.ap_r_at, people.ap_p_at)),
        )
        for overlap in range(1, len(people.ap_r_at) + 1)
    ]
    by_overlap = _framed(("overlap", "APʳ of parts", "APᵖ of persons"), at, "average precision by overlap")
    return element("div", by_part, by_overlap, class_="beside")


def _framed(titles: tuple[str, ...], lines: list[Html], label: str) -> Html:
    head = element("tr", *(element("th", title, scope="col") for title in titles))
    table = element("table", element("thead", head), element("tbody", *lines), class_="numbers")
    return element("div", table, class_="wide", tabindex="0", role="region", aria_label=label)


def _colour(task: Task, name: str) -> tuple[int, int, int]:
    return task.palette[task.index(name)]
