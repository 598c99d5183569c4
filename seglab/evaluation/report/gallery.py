"""Pictures of the worst, median and best images, with what the page's script needs to sort and filter them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from seglab.errors import DataError
from seglab.evaluation.metrics import groups
from seglab.evaluation.report.charts import swatch
from seglab.evaluation.report.layers import ERRORS, Layers, draw
from seglab.evaluation.report.markup import Html, element, join, named, plain
from seglab.evaluation.report.numbers import score
from seglab.evaluation.report.pictures import Pictures
from seglab.evaluation.result import Evaluation, ImageScore
from seglab.tasks import Task

__all__ = ["GROUPS", "NUM_EACH", "Choice", "choose", "gallery"]

GROUPS: Final = ("worst", "median", "best")
NUM_EACH: Final = 12
"""How many images of each group are shown."""

_LAYERS: Final = ("photo", "truth", "prediction", "errors")
_NUM_LEGEND: Final = 40
_NUM_WEAK: Final = 3


@dataclass(frozen=True)
class Choice:
    """An image of the gallery."""

    group: str
    image: ImageScore


def choose(images: Sequence[ImageScore], num_each: int = NUM_EACH) -> list[Choice]:
    """Choose images by mean IoU: the worst (worst first), those around the median, the best (best first).

    Of few images all are chosen, each once: a third is called worst, a third best. Images with nothing to score are not
    among them.
    """
    order = sorted((image for image in images if not math.isnan(image.miou)), key=lambda image: (image.miou, image.id))
    num = min(num_each, (len(order) + 1) // 3)
    rest = order[num : len(order) - num]
    start = max(0, (len(rest) - num_each) // 2)
    best = order[len(order) - num :][::-1]
    chosen = zip(GROUPS, (order[:num], rest[start : start + num_each], best), strict=True)
    return [Choice(group, image) for group, several in chosen for image in several]


def gallery(
    evaluation: Evaluation, look: Callable[[str], Pictures | None] | None, num_each: int = NUM_EACH
) -> tuple[Html, list[Any]]:
    """Return the gallery, and for every picture its group, its mean IoU and the IoU of all classes and regions."""
    task = evaluation.task
    choices = choose(evaluation.images(), num_each)
    cards, facts, shapes = [], [], []
    for at, choice in enumerate(choices):
        layers, reason = _look(choice.image.id, look, task)
        shapes += [layers.size_hw] if layers else []
        cards.append(_card(at, choice, layers, reason, task))
        iou = [None if math.isnan(value) else round(value, 4) for value in choice.image.iou]
        facts.append([GROUPS.index(choice.group), round(choice.image.miou, 6), iou])
    empty = element("p", "No image has this.", class_="note empty", hidden=True)
    board = element("div", *cards, class_=f"cards {_shape(shapes)}")
    return join([_controls(task, evaluation), _legend(task) if look else None, board, empty]), facts


def _look(name: str, look: Callable[[str], Pictures | None] | None, task: Task) -> tuple[Layers | None, str]:
    """Return the layers of an image, or why there are none."""
    if look is None:
        return None, "no pictures were given"
    try:
        pictures = look(name)
    except DataError as error:
        return None, error.message
    except OSError as error:
        return None, error.strerror or str(error)
    return (None, "there is no picture of it") if pictures is None else (draw(pictures, task), "")


def _card(at: int, choice: Choice, layers: Layers | None, reason: str, task: Task) -> Html:
    image = choice.image
    if layers is None:
        stage = element("div", element("p", "not shown: ", reason), class_="stage bare")
    else:
        stage = _stage(image.id, layers)
    weak = sorted((value, name) for name, value in zip(groups(task), image.iou, strict=True) if not math.isnan(value))
    said = [element("li", named(name), " ", element("b", score(value, 3))) for value, name in weak[:_NUM_WEAK]]
    return element(
        "article",
        stage,
        element(
            "div",
            element("h3", named(image.id)),
            element(
                "p",
                element("span", choice.group, class_=f"group {choice.group}"),
                " mIoU ",
                element("b", score(image.miou, 3)),
                " · accuracy ",
                element("b", score(image.pixel_accuracy, 3)),
                element("span", class_="asked"),
            ),
            element("ul", *said, class_="weak", aria_label="lowest IoU"),
            class_="words",
        ),
        class_="card",
        data_at=str(at),
    )


def _stage(name: str, layers: Layers) -> Html:
    height, width = layers.size_hw
    sources = (layers.photo, layers.truth, layers.prediction, layers.errors)
    present = [(layer, source) for layer, source in zip(_LAYERS, sources, strict=True) if source is not None]
    pictures = [
        element(
            "figure",
            element("img", src=source, alt=f"{layer} of {plain(name)}", width=width, height=height, decoding="async"),
            element("figcaption", layer),
            class_=f"layer {layer}",
            data_layer=layer,
        )
        for layer, source in present
    ]
    tags = [element("span", class_=f"tag {side}", aria_hidden="true") for side in ("left", "right")]
    edge = element("span", class_="edge", aria_hidden="true")
    last = len(present) - 1
    slider = element(
        "input",
        type="range",
        min=0,
        max=last,
        step=0.05,
        value=max(0, last - 1),
        aria_label=f"from photo to errors of {plain(name)}",
    )
    buttons = [element("button", layer, type="button", data_to=str(to)) for to, (layer, _) in enumerate(present)]
    stage = element("div", *pictures, edge, *tags, class_="stage" if layers.photo else "stage dark")
    return join([stage, element("div", slider, element("div", *buttons, class_="stops"), class_="slider")])


def _shape(sizes_hw: Sequence[tuple[int, int]]) -> str:
    """Return the shape in which most pictures leave the least room."""
    middle = sorted(width / height for height, width in sizes_hw)[len(sizes_hw) // 2] if sizes_hw else 1.0
    return "broad" if middle > 1.15 else "tall" if middle < 0.87 else "even"


def _controls(task: Task, evaluation: Evaluation) -> Html:
    iou_of = [element("option", name, value=str(at)) for at, name in enumerate(groups(task))]
    sorts = (
        ("listed", "worst, median, best"),
        ("low", "lowest score first"),
        ("high", "highest score first"),
        ("name", "name"),
    )
    every = element("option", "all classes", value="")
    shown = [element("option", "all groups", value="")]
    shown += [element("option", group, value=str(at)) for at, group in enumerate(GROUPS)]
    opacity = element("input", type="range", id="opacity", min=10, max=100, step=5, value=65)
    views = [element("button", layer, type="button", data_every=layer) for layer in _LAYERS]
    return element(
        "div",
        element("label", element("span", "show"), element("select", *shown, id="show")),
        element("label", element("span", "with class"), element("select", every, *iou_of, id="with")),
        element(
            "label",
            element("span", "sort"),
            element("select", *(element("option", said, value=key) for key, said in sorts), id="sort"),
        ),
        element("label", element("span", "strength of the labels"), opacity),
        element("div", element("span", "all pictures"), element("div", *views, class_="stops"), class_="every"),
        element("output", class_="tally", aria_live="polite"),
        class_="controls",
        role="group",
        aria_label=f"choose among {evaluation.num_images} images",
    )


def _legend(task: Task) -> Html:
    colours = list(zip(task.classes, task.palette, strict=True))[1 : _NUM_LEGEND + 1]
    classes = [element("li", swatch(colour), named(name)) for name, colour in colours]
    if task.num_classes - 1 > len(colours):
        classes.append(element("li", f"and {task.num_classes - 1 - len(colours)} more"))
    errors = [element("li", swatch(colour), f"{name}: {said}") for name, said, colour in ERRORS]
    if task.num_classes == 2:
        errors.pop()
    return element(
        "div",
        element("ul", *classes, class_="legend", aria_label="colours of the classes"),
        element("ul", *errors, class_="legend", aria_label="colours of the errors"),
        class_="legends",
    )
