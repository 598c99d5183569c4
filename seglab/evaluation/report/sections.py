"""The parts of a report that are words and tables: figures, classes, what was left out, how it was made."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from seglab.evaluation.bootstrap import Difference, Interval
from seglab.evaluation.gates import Gate
from seglab.evaluation.metrics import MEASURES, OUTLINE_MEASURES, GroupScore, Scores, value
from seglab.evaluation.report.charts import bar, swatch, switch
from seglab.evaluation.report.markup import Html, element, join, named
from seglab.evaluation.report.numbers import difference, percent, score
from seglab.evaluation.result import Evaluation
from seglab.tasks import Task

__all__ = ["Differences", "Intervals", "around", "class_bars", "class_table", "headline", "left_out", "settings"]

Intervals = Mapping[str, Interval | None]
Differences = Mapping[str, Difference | None]

NUM_LISTED: Final = 100
"""How many failures or missing images are named."""
_MAX_TEXT: Final = 2000
_NUM_UNFOLDED: Final = 12

_HEADLINE: Final = {
    "miou": ("mIoU", "mean IoU of {present}, background included"),
    "miou_foreground": ("mIoU, foreground", "mean IoU of {foreground}, without the background"),
    "mean_f1": ("mean F1", "mean F1 (Dice) of {present}"),
    "pixel_accuracy": ("pixel accuracy", "share of the pixels whose class is right"),
    "mean_accuracy": ("mean accuracy", "mean recall of {present}"),
    "fwiou": ("weighted IoU", "IoU weighted by the classes' share of the pixels"),
}

_TITLES: Final = {
    "iou": "IoU",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "boundary_iou": "boundary IoU",
    "boundary_f1": "boundary F1",
}


def headline(scores: Scores, intervals: Intervals, differences: Differences) -> Html:
    """Return the figures that stand for the whole."""
    num, num_foreground = (sum(not group.absent for group in scores.classes[first:]) for first in (0, 1))
    present, foreground = (f"{n} class{'es' * (n != 1)}" for n in (num, num_foreground))
    cards = [
        element(
            "div",
            element("dt", title),
            element("dd", score(getattr(scores, name), 3), class_="figure"),
            element("dd", *around(intervals.get(name), differences.get(name)), class_="around"),
            element("dd", said.format(present=present, foreground=foreground), class_="said"),
        )
        for name, (title, said) in _HEADLINE.items()
    ]
    return element("dl", *cards, class_="headline")


def class_bars(scores: Scores, task: Task, intervals: Intervals, differences: Differences) -> Html:
    """Return bars of every class and region, the measure to be switched."""
    measures = [*MEASURES, *(OUTLINE_MEASURES if scores.outlines else ())]
    panels = []
    for measure in measures:
        rows = [_bar_row(scores, group, measure, task, intervals, differences) for group in scores.classes]
        if scores.regions:
            rows.append(element("h3", "regions"))
            rows += [_bar_row(scores, group, measure, task, intervals, differences) for group in scores.regions]
        panels.append((_TITLES[measure], element("div", *rows, class_="chart")))
    return switch("measure", "measure", panels)


def _bar_row(
    scores: Scores, group: GroupScore, measure: str, task: Task, intervals: Intervals, differences: Differences
) -> Html:
    name = f"{measure}.{group.name}"
    reached, interval, change = value(scores, name), intervals.get(name), differences.get(name)
    drawn = bar(
        reached or 0.0,
        *((interval.low, interval.high) if interval and reached is not None else (None, None)),
        before=reached - change.difference if change and reached is not None else None,
    )
    square = None if group.name in task.regions else swatch(task.palette[task.index(group.name)])
    shown = "absent" if group.absent else score(reached)
    return element(
        "div",
        element("span", square, named(group.name), class_="name"),
        drawn,
        element("span", shown, _change(change), class_="value"),
        class_="row",
    )


def class_table(scores: Scores, task: Task, intervals: Intervals, differences: Differences) -> Html:
    """Return every number of every class and region."""
    measures = [*MEASURES, *(OUTLINE_MEASURES if scores.outlines else ())]
    with_range = any(intervals.get(f"iou.{group.name}") for group in (*scores.classes, *scores.regions))
    titles = ["class", *(_TITLES[measure] for measure in measures), "% of pixels"]
    titles += ["95 % of IoU"] * with_range + ["IoU against baseline"] * bool(differences)
    line = partial(_class_row, scores, task, measures, with_range, intervals, differences)
    bodies = [element("tbody", *map(line, several)) for several in (scores.classes, scores.regions) if several]
    head = element("tr", *(element("th", title, scope="col") for title in titles))
    table = element("table", element("thead", head), *bodies, class_="numbers")
    return element("div", table, class_="wide", tabindex="0", role="region", aria_label="scores of classes and regions")


def _class_row(
    scores: Scores,
    task: Task,
    measures: Sequence[str],
    with_range: bool,
    intervals: Intervals,
    differences: Differences,
    group: GroupScore,
) -> Html:
    interval, change = intervals.get(f"iou.{group.name}"), differences.get(f"iou.{group.name}")
    square = None if group.name in task.regions else swatch(task.palette[task.index(group.name)])
    cells = [score(value(scores, f"{measure}.{group.name}")) for measure in measures]
    cells.append(percent(group.num_pixels / max(scores.num_pixels, 1), 2))
    cells += [_range(interval)] if with_range else []
    return element(
        "tr",
        element("th", square, named(group.name), scope="row"),
        *(element("td", cell) for cell in cells),
        element("td", *_against(change)) if differences else None,
    )


def left_out(evaluation: Evaluation) -> Html:
    """Return what no score contains, and what was scored although it was not there."""
    scores = evaluation.scores
    num_empty = sum(math.isnan(image.miou) for image in evaluation.images())
    said: list[tuple[str, Html | str]] = [
        ("ignored by the truth", f"{percent(scores.ignored_share, 2)} % of the pixels ({scores.num_ignored:,})"),
        ("classes in neither truth nor prediction", _names(scores.absent) or "none"),
    ]
    optional: list[tuple[str, Html | str | None]] = [
        ("classes predicted but in no truth, counted as 0", _names(scores.false_alarms)),
        ("images with nothing to score", str(num_empty) if num_empty else None),
        ("predictions that were missing, counted as background", _names(evaluation.missing)),
        ("predictions without a truth, not looked at", str(evaluation.num_extra) if evaluation.num_extra else None),
    ]
    said += [(what, words) for what, words in optional if words]
    failures = [
        element("li", named(failure.id), ": ", failure.reason[:_MAX_TEXT])
        for failure in evaluation.failures[:NUM_LISTED]
    ]
    if len(evaluation.failures) > NUM_LISTED:
        failures.append(element("li", f"and {len(evaluation.failures) - NUM_LISTED} more"))
    num = len(evaluation.failures)
    said.append(("images that could not be scored", join([str(num) if num else "none"])))
    return join([_described(said), element("ul", *failures, class_="failures") if failures else None])


def settings(configuration: Mapping[str, Any], gates: Sequence[Gate]) -> Html:
    """Return how the report was made, and which bars were reached."""
    alone = {name: held for name, held in configuration.items() if not isinstance(held, Mapping)}
    parts: list[Html | None] = [_gates(gates), _described([(name, _words(held)) for name, held in alone.items()])]
    for title, held in configuration.items():
        if isinstance(held, Mapping) and held:
            lines = [(name, _words(value)) for name, value in _flat(held)]
            parts.append(_folded(title, _described(lines), len(lines)))
    return join(parts)


def _folded(title: str, lines: Html, num: int) -> Html:
    """Return lines under a title; many have to be unfolded."""
    if num <= _NUM_UNFOLDED:
        return join([element("h3", title), lines])
    return element("details", element("summary", f"{title} ({num} lines)"), lines)


def _gates(gates: Sequence[Gate]) -> Html | None:
    if not gates:
        return None
    lines = [
        element(
            "tr",
            element("th", named(gate.metric), scope="row"),
            element("td", f"{gate.at_least:g}"),
            element("td", score(gate.value)),
            element("td", "reached" if gate.passed else "missed", class_="better" if gate.passed else "worse"),
        )
        for gate in gates
    ]
    head = element("tr", *(element("th", title, scope="col") for title in ("bar", "at least", "is", "")))
    return element("table", element("thead", head), element("tbody", *lines), class_="numbers")


def around(interval: Interval | None, change: Difference | None) -> list[Html | str]:
    """Return what stands under a figure: its interval, and its difference to the baseline."""
    said: list[Html | str] = [f"95 %: {_range(interval, 3)}"] if interval else []
    return said + ([" ", *_against(change, 3)] if change else [])


def _range(interval: Interval | None, digits: int = 4) -> str:
    return "–" if interval is None else f"{score(interval.low, digits)}–{score(interval.high, digits)}"


def _change(change: Difference | None) -> Html | None:
    return None if change is None else element("small", " ", *_against(change, 3))


def _against(change: Difference | None, digits: int = 4) -> list[Html | str]:
    if change is None:
        return ["–"]
    kind = None if not change.significant else "better" if change.difference > 0 else "worse"
    words = f"95 %: {difference(change.low)} to {difference(change.high)}, p = {change.p:.4f}"
    return [element("span", difference(change.difference, digits), "*" if kind else "", class_=kind, title=words)]


def _names(names: Sequence[str]) -> Html | None:
    said: list[Html | str] = []
    for name in names[:NUM_LISTED]:
        said += [", ", named(name)] if said else [named(name)]
    if len(names) > NUM_LISTED:
        said.append(f" and {len(names) - NUM_LISTED} more")
    return join(said) if said else None


def _described(lines: Sequence[tuple[str, Html | str]]) -> Html:
    rows = [element("div", element("dt", what), element("dd", words)) for what, words in lines]
    return element("dl", *rows, class_="facts")


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, held in values.items():
        if isinstance(held, Mapping):
            found += _flat(held, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", held))
    return found


def _words(held: Any) -> str:
    if held is None or held in ([], (), ""):
        return "–"
    if isinstance(held, bool):
        return "yes" if held else "no"
    if isinstance(held, list | tuple) and all(isinstance(item, str | int | float) for item in held):
        text = ", ".join(map(str, held))
    else:
        text = json.dumps(held, ensure_ascii=False, default=str) if isinstance(held, list | tuple) else str(held)
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"
