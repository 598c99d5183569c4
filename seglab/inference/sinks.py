"""The forms that an answer can be written in. The table is the registry."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.drawing import overlay, with_legend
from seglab.data.images import write_ids16, write_labels, write_palette, write_photo
from seglab.errors import UsageError, unknown
from seglab.files import write_json
from seglab.inference.flow import Answer
from seglab.inference.instances import Instances, find_instances
from seglab.tasks import IGNORE, Task

__all__ = [
    "DEFAULT_FORMATS",
    "FORMATS",
    "LEGEND_NAME",
    "Format",
    "Labelled",
    "check_formats",
    "choose_formats",
    "legend",
    "write_legend",
]

LEGEND_NAME: Final = "legend.json"


@dataclass(frozen=True)
class Labelled:
    """An answer with its class ids at the photo's own size."""

    answer: Answer
    labels: NDArray[np.uint8]
    """HW class ids of the task."""
    task: Task

    @cached_property
    def instances(self) -> Instances:
        """The people, for models that give edges."""
        answer = self.answer
        edge_logits_HW = answer.extras["edge"]
        return find_instances(answer.logits_KHW, edge_logits_HW, answer.placement, self.labels, self.task)


@dataclass(frozen=True)
class Format:
    """A form of the answer."""

    suffixes: tuple[str, ...]
    """The file suffixes it can have, the usual one first."""
    write: Callable[[Path, Labelled], None]
    """Writes the whole file in one step."""
    title: str
    """What it is, for the help."""
    needs: str = ""
    """What the model must say beside classes (see :attr:`seglab.inference.predictor.Predictor.extras`)."""
    beside: str = ""
    """Another form that always comes with it."""


def _palette(path: Path, labelled: Labelled) -> None:
    write_palette(path, labelled.labels, labelled.task.palette)


def _ids(path: Path, labelled: Labelled) -> None:
    write_labels(path, labelled.labels)


def _overlay(path: Path, labelled: Labelled) -> None:
    drawn = overlay(labelled.answer.photo.image, labelled.labels, labelled.task.palette)
    write_photo(path, with_legend(drawn, labelled.task, labelled.labels), quality=90)


def _instances(path: Path, labelled: Labelled) -> None:
    write_ids16(path, labelled.instances.ids)


def _people(path: Path, labelled: Labelled) -> None:
    height, width = labelled.labels.shape
    people = [person.to_dict() for person in labelled.instances.people]
    write_json(path, {"task": labelled.task.name, "height": height, "width": width, "people": people})


FORMATS: Final = {
    "palette": Format((".png",), _palette, "PNG that shows the task's colours and reads back as class ids"),
    "ids": Format((".png",), _ids, "grey PNG whose values are the class ids"),
    "overlay": Format(
        (".jpg", ".jpeg", ".png"), _overlay, "the photo with the classes in colour over it, and a legend"
    ),
    "instances": Format(
        (".png",), _instances, "16-bit PNG of which person a pixel belongs to", needs="edge", beside="people"
    ),
    "people": Format((".json",), _people, "boxes, areas, parts and scores of the people", needs="edge"),
}
"""The forms that ``seglab predict`` writes, by name."""
DEFAULT_FORMATS: Final = ("palette",)


def choose_formats(names: Sequence[str]) -> dict[str, Format]:
    """Look forms up by name, keeping the order; after each comes what always comes with it.

    Raises:
        UsageError: If there is none, or one is unknown or named twice.
    """
    if not names:
        raise UsageError("no format is named", f"known: {', '.join(FORMATS)}")
    for name in names:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
        if names.count(name) > 1:
            raise UsageError(f"format `{name}` is named twice")
    both = [both for name in names for both in (name, FORMATS[name].beside) if both]
    return {name: FORMATS[name] for name in both}


def check_formats(formats: Mapping[str, Format], extras: Sequence[str]) -> None:
    """Make sure that a model says all that forms are made of.

    Raises:
        UsageError: If one needs what the model does not give.
    """
    for name, form in formats.items():
        if form.needs and form.needs not in extras:
            raise UsageError(
                f"format `{name}` needs a model that finds the outlines of people, which this one does not",
                "`seglab train --model pgn` trains one; `--engine torch` and `--engine onnxruntime` can use it so",
            )


def legend(task: Task) -> dict[str, Any]:
    """Return what the ids and colours of a task's masks mean, as plain JSON values."""
    classes = [{"id": index, "name": name, "rgb": list(task.palette[index])} for index, name in enumerate(task.classes)]
    return {"task": task.name, "classes": classes, "ignore": IGNORE}


def write_legend(out_dir: Path, task: Task) -> None:
    """Write ``legend.json`` into an output folder."""
    write_json(out_dir / LEGEND_NAME, legend(task))
