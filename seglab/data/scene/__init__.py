"""Synthetic people: a picture with a name for every pixel of a person, right by construction.

``draw_scene`` is a pure function of its arguments: scene ``index`` of a seed is the same whatever else is drawn, and
the same composition at every picture size of the same shape. :func:`labels_for` turns the names into the classes
of a task (:class:`seglab.tasks.SynthSpec`).
"""

from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from seglab.data.scene.backdrop import draw_backdrop, draw_foreground
from seglab.data.scene.canvas import ANATOMY, COVERING, Canvas
from seglab.data.scene.figure import draw_person, feet_below, head_center
from seglab.data.scene.finish import finish, random_finish
from seglab.data.scene.person import Person, chance, choose, random_person
from seglab.data.scene.shapes import Frame
from seglab.errors import DataError, UsageError
from seglab.tasks import Task

__all__ = [
    "ANATOMY",
    "COVERING",
    "PERSON",
    "VIEWS",
    "Scene",
    "View",
    "check_scene",
    "check_synth",
    "draw_scene",
    "labels_for",
]

View = Literal["portrait", "figure"]
VIEWS: Final[tuple[str, ...]] = get_args(View)

PERSON: Final = "person"
"""In a :class:`~seglab.tasks.SynthSpec`: any anatomy."""

MIN_SIDE: Final = 16
MAX_SIDE: Final = 8192
"""Limits of a picture's sides, in pixels."""

_ATTEMPTS: Final = 6
_MIN_SHARE: Final = 0.012
"""Of the picture that everybody must cover at least."""


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it."""

    image: NDArray[np.uint8]
    """HWC RGB."""
    anatomy: NDArray[np.uint8]
    """HW, positions in :data:`ANATOMY`; 0 is no person."""
    covering: NDArray[np.uint8]
    """HW, positions in :data:`COVERING`."""
    persons: NDArray[np.uint8]
    """HW: 0 nobody, 1.. whose the pixel is, from back to front."""
    num_persons: int


def draw_scene(seed: int, index: int, view: View, size_hw: tuple[int, int]) -> Scene:
    """Draw one scene.

    Args:
        seed: Of the whole collection, >= 0.
        index: Of the scene in it, >= 0.
        view: ``portrait``: one face fills the picture; ``figure``: one to three people from head to foot.
        size_hw: Of the picture, at least 16 pixels each.

    Raises:
        UsageError: If the seed, the index or the size is out of range.
    """
    check_scene(seed, size_hw, index)
    for attempt in range(_ATTEMPTS):
        compose, noise = np.random.default_rng((seed, index, VIEWS.index(view), attempt)).spawn(2)
        canvas, num_persons = _paint(compose, view, size_hw, alone=attempt == _ATTEMPTS - 1)
        persons = canvas.persons()
        seen = np.bincount(persons.ravel(), minlength=num_persons + 1)[1:] / persons.size
        if seen.min() >= _MIN_SHARE:
            break
    image = finish(canvas, random_finish(compose, portrait=view == "portrait"), noise)
    anatomy, covering = canvas.labels()
    return Scene(image, anatomy, covering, persons, num_persons)


def check_scene(seed: int, size_hw: tuple[int, int], index: int = 0) -> None:
    """Check the numbers that :func:`draw_scene` is called with.

    Raises:
        UsageError: If the seed, the size or the index is out of range.
    """
    if min(seed, index) < 0:
        raise UsageError(f"seed `{seed}` and index `{index}` must not be negative", "`--seed 0` is the default")
    if min(size_hw) < MIN_SIDE or max(size_hw) > MAX_SIDE:
        message = f"size `{size_hw[0]}x{size_hw[1]}` is outside {MIN_SIDE}..{MAX_SIDE} pixels a side"
        raise UsageError(message, "`--size 256` is usual, `--size 192x256` is height x width")


def labels_for(scene: Scene, task: Task) -> NDArray[np.uint8]:
    """Return the labels of a scene for a task, HW class ids.

    Raises:
        DataError: As :func:`check_synth`.
    """
    check_synth(task)
    spec = task.synth
    table = np.zeros((len(ANATOMY), len(COVERING)), np.uint8)
    for number, name in enumerate(task.classes):
        for owned in spec.parts.get(name, ()) if spec else ():
            if owned == PERSON:
                table[1:] = number
            if owned in ANATOMY:
                table[ANATOMY.index(owned)] = number
            if owned in COVERING:
                table[:, COVERING.index(owned)] = number
    labels: NDArray[np.uint8] = table[scene.anatomy, scene.covering]
    return labels


def check_synth(task: Task) -> View:
    """Return the view that a task's scenes have.

    Raises:
        DataError: If the task does not say how scenes are labelled, or names a view or a part that there is not.
    """
    if task.synth is None:
        raise DataError(
            f"task `{task.name}` does not say how synthetic scenes are labelled",
            "give its TOML file a [synth] table with `view` and `parts`, as in the built-in tasks",
        )
    if task.synth.view not in VIEWS:
        raise DataError(f"task `{task.name}`: there is no view `{task.synth.view}`", f"known: {', '.join(VIEWS)}")
    known = (PERSON, *dict.fromkeys((*ANATOMY[1:], *COVERING[1:])))
    strange = sorted({name for names in task.synth.parts.values() for name in names} - set(known))
    if strange:
        names = ", ".join(f"`{name}`" for name in strange)
        raise DataError(
            f"task `{task.name}`: no part of a synthetic person is called {names}", f"known: {', '.join(known)}"
        )
    return cast(View, task.synth.view)


def _paint(rng: np.random.Generator, view: View, size_hw: tuple[int, int], *, alone: bool) -> tuple[Canvas, int]:
    """Compose a scene and paint it; return the canvas and the number of people on it."""
    canvas = Canvas(size_hw)
    placed = [_portrait(rng, canvas.aspect)] if view == "portrait" else _group(rng, canvas.aspect, alone=alone)
    colours = [rgb for person, _ in placed for rgb in person.colours()]
    draw_backdrop(canvas, rng, colours, close=view == "portrait")
    for number, (person, frame) in enumerate(placed, start=1):
        canvas.person = number
        draw_person(canvas, frame, person)
    canvas.person = 0
    if view == "figure" and not alone and chance(rng, 0.18):
        draw_foreground(canvas, rng, colours)
    return canvas, len(placed)


def _portrait(rng: np.random.Generator, aspect: float) -> tuple[Person, Frame]:
    """Return somebody whose head, hair included, nearly fills the picture."""
    half_head = min(rng.uniform(0.25, 0.35), 0.38 * aspect)
    person = random_person(rng, half_head / 0.07, portrait=True)
    scale = half_head / person.body.head
    center = head_center(person.body) * scale
    x = aspect * rng.uniform(0.45, 0.55)
    y = rng.uniform(0.44, 0.56)
    return person, Frame((x - float(center[0]), y - float(center[1])), scale)


def _group(rng: np.random.Generator, aspect: float, *, alone: bool) -> list[tuple[Person, Frame]]:
    """Return one to three people from back to front, side by side with some overlap."""
    num = 1 if alone else choose(rng, {1: 0.5, 2: 0.32, 3: 0.18})
    slots = rng.permutation(num)
    near_first = sorted(rng.uniform(0, 1, num))
    placed = []
    for slot, depth in zip(slots, near_first, strict=True):
        close_up = num == 1 and chance(rng, 0.28)
        height = rng.uniform(1.15, 1.9) if close_up else rng.uniform(0.62, 0.8) + 0.18 * depth
        height = min(height, (2.6 if close_up else 1.9) * aspect)
        person = random_person(rng, height, portrait=False)
        x = aspect * (slot + 0.5 + rng.uniform(-0.3, 0.3) * (0.8 if num == 1 else 1)) / num
        above = -float(head_center(person.body)[1]) + person.body.head * 1.4
        below = feet_below(person.body)
        scale = height / (above + below)
        y = (
            rng.uniform(0.02, 0.12) + above * scale
            if close_up
            else rng.uniform(0.9, 0.97) + 0.03 * depth - below * scale
        )
        placed.append((person, Frame((float(x), y), scale)))
    return placed
