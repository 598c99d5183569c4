"""The forms that an answer can be written in. The tables are the registry."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from seglab.data.drawing import overlay, with_legend
from seglab.data.images import encode_ids16, encode_labels, encode_palette, encode_picture
from seglab.errors import UsageError, unknown
from seglab.files import write_json
from seglab.inference.formats import coco, kaggle
from seglab.inference.formats.probs import write_probs
from seglab.inference.gathering import Gathered
from seglab.inference.labelled import Labelled
from seglab.tasks import IGNORE, Task

__all__ = [
    "DEFAULT_FORMATS",
    "FORMATS",
    "GATHERED",
    "LEGEND_NAME",
    "Chosen",
    "Format",
    "Labelled",
    "check_formats",
    "choose_formats",
    "legend",
    "write_legend",
]

LEGEND_NAME: Final = "legend.json"


@dataclass(frozen=True)
class Format:
    """A form of the answer to one photo."""

    suffixes: tuple[str, ...]
    """The file suffixes it can have, the usual one first."""
    write: Callable[[BinaryIO, Labelled, str], None]
    """Writes it to a stream, as the suffix says."""
    title: str
    """What it is, for the help."""
    needs: str = ""
    """What the model must say beside classes (see :attr:`seglab.inference.predictor.Predictor.extras`)."""
    beside: str = ""
    """Another form that always comes with it."""


def _palette(stream: BinaryIO, labelled: Labelled, suffix: str) -> None:  # noqa: ARG001 - the signature of a format
    stream.write(encode_palette(labelled.labels, labelled.task.palette))


def _ids(stream: BinaryIO, labelled: Labelled, suffix: str) -> None:  # noqa: ARG001 - the signature of a format
    stream.write(encode_labels(labelled.labels))


def _overlay(stream: BinaryIO, labelled: Labelled, suffix: str) -> None:
    drawn = overlay(labelled.answer.photo.image, labelled.labels, labelled.task.palette)
    stream.write(encode_picture(suffix, with_legend(drawn, labelled.task, labelled.labels), quality=90))


def _class_mask(index: int, stream: BinaryIO, labelled: Labelled, suffix: str) -> None:  # noqa: ARG001
    stream.write(encode_labels((labelled.labels == index).view(np.uint8) * np.uint8(255)))


def _instances(stream: BinaryIO, labelled: Labelled, suffix: str) -> None:  # noqa: ARG001 - the signature of a format
    stream.write(encode_ids16(labelled.instances.ids))


def _people(stream: BinaryIO, labelled: Labelled, suffix: str) -> None:  # noqa: ARG001 - the signature of a format
    height, width = labelled.labels.shape
    people = [person.to_dict() for person in labelled.instances.people]
    values = {"task": labelled.task.name, "height": height, "width": width, "people": people}
    stream.write((json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


SPLIT: Final = "split"
"""The form that has a file for each class; :func:`choose_formats` makes a form of each."""

FORMATS: Final[Mapping[str, Format]] = {
    "palette": Format((".png",), _palette, "PNG that shows the task's colours and reads back as class ids"),
    "ids": Format((".png",), _ids, "grey PNG whose values are the class ids"),
    "overlay": Format(
        (".jpg", ".jpeg", ".png"), _overlay, "the photo with the classes in colour over it, and a legend"
    ),
    SPLIT: Format((".png",), partial(_class_mask, 0), "a PNG of 0 and 255 for each class: a.hair.png"),
    "probs": Format((".npz",), write_probs, "probabilities of the classes, float16, and their names"),
    "instances": Format(
        (".png",), _instances, "16-bit PNG of which person a pixel belongs to", needs="edge", beside="people"
    ),
    "people": Format((".json",), _people, "boxes, areas, parts and scores of the people", needs="edge"),
}
"""The forms that ``seglab predict`` writes for each photo, by name."""
GATHERED: Final[Mapping[str, Gathered]] = {
    "coco": Gathered(
        "annotations.json", coco.record_runs, coco.assemble, "one COCO file for all photos, with exact run lengths"
    ),
    "coco-polygons": Gathered(
        "polygons.json", coco.record_polygons, coco.assemble, "the same with polygons, exact to a pixel"
    ),
    "rle": Gathered("rle.csv", kaggle.record, kaggle.assemble, "one CSV of run lengths for all photos, as on Kaggle"),
}
"""The forms that it writes for all photos together, by name."""
DEFAULT_FORMATS: Final = ("palette",)


@dataclass(frozen=True)
class Chosen:
    """The forms of a run."""

    formats: Mapping[str, Format]
    """For each photo, in the order of their names."""
    gathered: Mapping[str, Gathered] = field(default_factory=dict)
    """For all photos together."""
    endings: Mapping[str, str] = field(default_factory=dict)
    """What names get before the suffix (see :attr:`seglab.inference.plan.Layout.endings`)."""

    @property
    def suffixes(self) -> dict[str, tuple[str, ...]]:
        """The file suffixes that each form can have."""
        return {name: form.suffixes for name, form in self.formats.items()}


def choose_formats(names: Sequence[str], task: Task | None = None, classes: Sequence[int] = ()) -> Chosen:
    """Look forms up by name, keeping the order; after each comes what always comes with it.

    Args:
        names: In :data:`FORMATS` or :data:`GATHERED`.
        task: Whose classes get a file each, if ``split`` is among them.
        classes: Which of them.

    Raises:
        UsageError: If there is none, or one is unknown or named twice.
    """
    known = (*FORMATS, *GATHERED)
    if not names:
        raise UsageError("no format is named", f"known: {', '.join(known)}")
    for name in names:
        if name not in known:
            raise _unknown_format(name, known)
        if names.count(name) > 1:
            raise UsageError(f"format `{name}` is named twice")
    singles = [name for name in names if name in FORMATS]
    both = [both for name in singles for both in (name, FORMATS[name].beside) if both]
    endings = _endings(task, classes) if task is not None and SPLIT in names else {}
    formats: dict[str, Format] = {}
    for name in both:
        parts = {part: _of_class(index) for part, index in zip(endings, classes, strict=True)} if name == SPLIT else {}
        formats |= parts or {name: FORMATS[name]}
    return Chosen(formats, {name: GATHERED[name] for name in names if name in GATHERED}, endings)


def _unknown_format(name: str, known: Sequence[str]) -> UsageError:
    several = [part.strip() for part in name.split(",")]
    if len(several) > 1 and all(part in known for part in several):
        asked = " ".join(f"--format {part}" for part in several)
        return UsageError(f"`{name}` is no format but several", f"`{asked}`: an option for each")
    return unknown("format", name, known)


def _of_class(index: int) -> Format:
    return replace(FORMATS[SPLIT], write=partial(_class_mask, index))


def _endings(task: Task, classes: Sequence[int]) -> dict[str, str]:
    """Return form and ending of each class; a name that a file cannot have, or two classes, gets its id."""
    safe = [re.sub(r"[^\w-]+", "_", task.classes[index]) for index in classes]
    twice = {name for name in safe if [other.casefold() for other in safe].count(name.casefold()) > 1}
    endings = {}
    for index, name in zip(classes, safe, strict=True):
        plain = name == task.classes[index] and name not in twice
        endings[f"{SPLIT}.{task.classes[index]}"] = f".{name}" if plain else f".{index}-{name}"
    return endings


def check_formats(formats: Mapping[str, Format], extras: Sequence[str], *, instances: bool = False) -> None:
    """Make sure that a model says all that forms are made of.

    Args:
        formats: The forms.
        extras: What the model says beside classes.
        instances: Whether people are told apart without outlines.

    Raises:
        UsageError: If one needs what the model does not give.
    """
    for name, form in formats.items():
        if form.needs and form.needs not in extras and not instances:
            raise UsageError(
                f"format `{name}` needs a model that finds the outlines of people, which this one does not",
                "`--instances` tells people apart that do not touch; `seglab train --model pgn` trains such a model,"
                " which `--engine torch` and `--engine onnxruntime` can use so",
            )


def legend(task: Task) -> dict[str, Any]:
    """Return what the ids and colours of a task's masks mean, as plain JSON values."""
    classes = [{"id": index, "name": name, "rgb": list(task.palette[index])} for index, name in enumerate(task.classes)]
    return {"task": task.name, "classes": classes, "ignore": IGNORE}


def write_legend(out_dir: Path, task: Task) -> None:
    """Write ``legend.json`` into an output folder."""
    write_json(out_dir / LEGEND_NAME, legend(task))
