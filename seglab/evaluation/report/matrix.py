"""The confusion matrix as a heat map with its numbers, and the confusions that matter most."""

from typing import Final

import numpy as np

from seglab.evaluation.confusion import Matrix
from seglab.evaluation.metrics import Floats
from seglab.evaluation.report.charts import swatch, switch
from seglab.evaluation.report.markup import Html, element, join, named
from seglab.evaluation.report.numbers import amount, percent
from seglab.tasks import Task

__all__ = ["MAX_CLASSES", "NUM_CONFUSIONS", "confusions", "heat_map"]

MAX_CLASSES: Final = 30
"""Of more classes those with fewer pixels are put together."""
NUM_CONFUSIONS: Final = 8
"""How many pairs are named."""
_STEPS: Final = 10
_FEW: Final = 7
"""Of more classes the columns' names are turned."""


def heat_map(matrix: Matrix, task: Task) -> Html:
    """Return the matrix with shares of the true pixels and with counts, to be switched."""
    shown, heads, note = _gathered(matrix, task)
    rows = shown.sum(1, keepdims=True)
    shares = shown / np.maximum(rows, 1)
    cells = [
        ("% of the truth", _texts(shown, [[percent(share) for share in row] for row in shares.tolist()])),
        ("pixels", _texts(shown, [[amount(num) for num in row] for row in shown.tolist()])),
    ]
    panels = [(title, _table(texts, shares, shown, heads)) for title, texts in cells]
    return join([switch("matrix", "numbers in the cells", panels), element("p", note, class_="note") if note else None])


def confusions(matrix: Matrix, task: Task) -> Html | None:
    """Return the pairs of classes that most pixels are confused between; None if all are right."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:NUM_CONFUSIONS]
    total, rows = max(int(matrix.sum()), 1), matrix.sum(1)
    found = [(int(at) // len(matrix), int(at) % len(matrix)) for at in order if wrong.flat[at]]
    if not found:
        return None
    lines = [
        element(
            "tr",
            element("th", swatch(task.palette[true]), named(task.classes[true]), scope="row"),
            element("td", swatch(task.palette[said]), named(task.classes[said]), class_="word"),
            element("td", f"{percent(wrong[true, said] / rows[true])} %"),
            element("td", f"{percent(wrong[true, said] / total, 2)} %"),
        )
        for true, said in found
    ]
    titles = ("truth", "taken for", "of the class", "of all pixels")
    kinds = ("word", "word", None, None)
    cells = [element("th", title, scope="col", class_=kind) for title, kind in zip(titles, kinds, strict=True)]
    head = element("tr", *cells)
    table = element("table", element("thead", head), element("tbody", *lines), class_="numbers")
    return element("div", table, class_="wide", tabindex="0", role="region", aria_label="most frequent confusions")


def _gathered(matrix: Matrix, task: Task) -> tuple[Matrix, list[Html], str]:
    """Return the matrix to show, a heading a class, and what was put together."""
    heads = [join([swatch(colour), named(name)]) for name, colour in zip(task.classes, task.palette, strict=True)]
    if task.num_classes <= MAX_CLASSES:
        return matrix, heads, ""
    weight = matrix.sum(0) + matrix.sum(1)
    kept = sorted(np.argsort(-weight, kind="stable")[: MAX_CLASSES - 1].tolist())
    place = np.full(task.num_classes, len(kept))
    place[kept] = np.arange(len(kept))
    merged = np.zeros((MAX_CLASSES, MAX_CLASSES), np.int64)
    np.add.at(merged, (place[:, None], place[None, :]), matrix)
    num = task.num_classes - len(kept)
    note = f"The {num} classes with the fewest pixels are put together in the last row and column."
    return merged, [*(heads[label] for label in kept), Html(f"{num} others")], note


def _texts(shown: Matrix, texts: list[list[str]]) -> list[list[str]]:
    """Return a point for what did not happen."""
    numbered = zip(texts, shown.tolist(), strict=True)
    return [[text if num else "·" for text, num in zip(*row, strict=True)] for row in numbered]


def _table(texts: list[list[str]], shares: Floats, shown: Matrix, heads: list[Html]) -> Html:
    lines = []
    for true, row in enumerate(texts):
        cells = [
            element(
                "td",
                text,
                class_=_heat(float(shares[true, said]), right=true == said),
                title=f"{int(shown[true, said]):,} pixels",
            )
            for said, text in enumerate(row)
        ]
        lines.append(element("tr", element("th", heads[true], scope="row"), *cells))
    corner = element("td", "truth ↓  prediction →", class_="corner")
    head = element("tr", corner, *(element("th", element("div", name), scope="col") for name in heads))
    table = element(
        "table", element("thead", head), element("tbody", *lines), class_="heat many" if len(heads) > _FEW else "heat"
    )
    return element("div", table, class_="wide", tabindex="0", role="region", aria_label="confusion matrix")


def _heat(share: float, *, right: bool) -> str | None:
    """Return the colour of a cell; that of errors grows with the root, as small ones are to be seen."""
    step = round(_STEPS * (share if right else share**0.5))
    return f"{'right' if right else 'wrong'}{step}" if step else None
