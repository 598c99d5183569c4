"""The hierarchy of a task with its scores: which regions hold what, and the means of the levels."""

from collections.abc import Mapping

from seglab.evaluation.metrics import GroupScore, Scores, groups
from seglab.evaluation.report.charts import bar, swatch
from seglab.evaluation.report.markup import Html, element, join, named
from seglab.evaluation.report.numbers import score
from seglab.tasks import Task

__all__ = ["hierarchy", "parts"]


def hierarchy(scores: Scores, task: Task) -> Html | None:
    """Return levels and tree with IoU values; None for a task without regions and levels."""
    if not task.regions and not task.levels:
        return None
    by_name = {group.name: group for group in (*scores.classes, *scores.regions)}
    below = parts(task)
    inner = {name for names in below.values() for name in names}
    drawn: set[str] = set()
    roots = [_node(name, below, by_name, task, drawn) for name in groups(task) if name not in inner]
    roots.sort(key=lambda node: "<ul>" not in node)
    return join([_levels(scores), element("div", element("ul", *roots, class_="tree"), class_="chart")])


def parts(task: Task) -> dict[str, list[str]]:
    """Return for every region the largest groups inside it: a region within a region stands for its classes."""
    members = {name: frozenset(task.members(name)) for name in groups(task)}

    def inside(name: str, other: str) -> bool:
        same = members[name] == members[other]
        return members[name] < members[other] or (same and name not in task.regions and other in task.regions)

    below = {}
    for region in task.regions:
        held = [name for name in members if inside(name, region)]
        largest = [name for name in held if not any(inside(name, other) for other in held)]
        below[region] = sorted(largest, key=lambda name: min(members[name]))
    return below


def _node(
    name: str, below: Mapping[str, list[str]], scores: Mapping[str, GroupScore], task: Task, drawn: set[str]
) -> Html:
    """Return a group and what it holds; what a group held already is not drawn a second time."""
    group = scores[name]
    first = name not in drawn
    drawn.add(name)
    square = None if name in task.regions else swatch(task.palette[task.index(name)])
    line = element(
        "div",
        element("span", square, named(name), class_="name"),
        bar(0.0 if group.absent else group.iou),
        element("span", "absent" if group.absent else score(group.iou), class_="value"),
        class_="row",
    )
    children = [_node(child, below, scores, task, drawn) for child in below.get(name, ())] if first else []
    return element("li", line, element("ul", *children) if children else None)


def _levels(scores: Scores) -> Html | None:
    if not scores.levels:
        return None
    lines = [
        element(
            "tr",
            element("th", named(level.name), scope="row"),
            element("td", score(level.iou)),
            element("td", *_listed(level.mean_of), class_="word"),
            element("td", *_listed(level.left_out), class_="word"),
        )
        for level in scores.levels
    ]
    titles = ("level", "mean IoU", "mean of", "absent")
    kinds = (None, None, "word", "word")
    cells = [element("th", title, scope="col", class_=kind) for title, kind in zip(titles, kinds, strict=True)]
    head = element("tr", *cells)
    table = element("table", element("thead", head), element("tbody", *lines), class_="numbers")
    return element("div", table, class_="wide", tabindex="0", role="region", aria_label="levels")


def _listed(names: tuple[str, ...]) -> list[Html | str]:
    said: list[Html | str] = []
    for name in names:
        said += [", ", named(name)] if said else [named(name)]
    return said or ["–"]
