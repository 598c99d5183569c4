"""What a segmentation task is, and the five that seglab comes with.

A task is data: its classes and everything about them that training, evaluation and drawing need. Nothing else in
seglab knows a task by name. A TOML file with the same fields is a task like any other::

    name = "hands"
    classes = ["background", "left_hand", "right_hand"]
    palette = ["#000000", "#e6194b", "#3cb44b"]      # optional: the VOC colours otherwise
    mirror = [["left_hand", "right_hand"]]           # swapped when a picture is flipped
    foreground = ["left_hand", "right_hand"]         # what `cutout` keeps: all but the background otherwise

    [regions]                                        # named unions of classes, scored as one
    hands = ["left_hand", "right_hand"]

    [levels]                                         # hierarchy: names of regions or classes
    top = ["hands"]
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from seglab.errors import DataError, UsageError, unknown
from seglab.notation import parse_toml, read_given

__all__ = ["DEFAULT_CUTOUT_TASK", "IGNORE", "TASKS", "WHOLE_PERSON_TASKS", "SynthSpec", "Task", "load_task"]

IGNORE: Final = 255
"""The label of pixels that no loss and no metric counts."""

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class SynthSpec:
    """How a task's labels follow from the scenes that ``seglab synth`` draws.

    Every pixel of a synthetic person has an anatomy (``torso``, ``left_eye``...) and a covering (``skin``,
    ``top``...), see :mod:`seglab.data.scene`. A class owns the pixels whose anatomy or covering it names; where
    two classes claim a pixel the later one has it.
    """

    view: str
    """``portrait`` (one face fills the picture) or ``figure`` (people from head to foot)."""
    parts: Mapping[str, tuple[str, ...]]
    """Class name to the anatomy and covering names it owns."""


@dataclass(frozen=True)
class Task:
    """A label space: K >= 2 classes of which the first is the background.

    Raises:
        DataError: From construction, naming every contradiction at once.
    """

    name: str
    """One lower-case word."""
    classes: tuple[str, ...]
    """Class names; the position is the class id. At most 255, as 255 is :data:`IGNORE`."""
    palette: tuple[Rgb, ...] = ()
    """One distinct 8-bit RGB colour a class; the VOC colours when empty."""
    title: str = ""
    """What is segmented, in a few words."""
    mirror: tuple[tuple[str, str], ...] = ()
    """Pairs of classes that change places when the picture is flipped left to right."""
    regions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Named unions of classes that are scored as one."""
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Hierarchy levels from coarse to fine: each a tuple of region or class names, averaged."""
    foreground: tuple[str, ...] = ()
    """The classes that ``cutout`` keeps by default; all but the background when empty."""
    synth: SynthSpec | None = None
    """How synthetic scenes are labelled for this task, if they can be."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "palette", self.palette or voc_palette(len(self.classes)))
        object.__setattr__(self, "foreground", self.foreground or self.classes[1:])
        problems = _contradictions(self)
        if problems:
            raise DataError(f"task `{self.name}`: " + "; ".join(problems))

    @property
    def num_classes(self) -> int:
        """K, the background included."""
        return len(self.classes)

    def index(self, name: str) -> int:
        """Return the id of a class.

        Raises:
            UsageError: If the task has no such class; the nearest names are in the hint.
        """
        if name not in self.classes:
            raise unknown(f"class of task `{self.name}`", name, self.classes)
        return self.classes.index(name)

    def members(self, name: str) -> tuple[int, ...]:
        """Return the ids behind a class or region name, ascending.

        Raises:
            UsageError: If it is neither.
        """
        if name in self.regions:
            return tuple(sorted(self.classes.index(member) for member in self.regions[name]))
        if name in self.classes:
            return (self.classes.index(name),)
        raise unknown(f"class or region of task `{self.name}`", name, (*self.classes, *self.regions))

    def mirror_permutation(self) -> tuple[int, ...]:
        """Return p of length K such that class k of a picture is class p[k] of its left-right flip."""
        permutation = list(range(self.num_classes))
        for left, right in self.mirror:
            a, b = self.classes.index(left), self.classes.index(right)
            permutation[a], permutation[b] = b, a
        return tuple(permutation)

    def same_labels(self, other: "Task") -> bool:
        """Tell whether both tasks mean the same by every id (colours and groupings may differ)."""
        return self.classes == other.classes

    def to_dict(self) -> dict[str, Any]:
        """Return the task as plain JSON values; :meth:`from_dict` is the inverse."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "task") -> "Task":
        """Build a task from plain values, as read from JSON or TOML.

        Args:
            values: The fields; ``palette`` entries may be ``"#rrggbb"`` or three integers.
            where: The file that the values came from, for the error.

        Raises:
            DataError: If a field is missing, unknown, of a wrong type, or contradicts another.
        """
        known = {"name", "classes", "palette", "title", "mirror", "regions", "levels", "foreground", "synth"}
        problems = [f"unknown field `{name}`" for name in sorted(set(values) - known)]
        problems += [f"missing field `{name}`" for name in ("name", "classes") if name not in values]
        if problems:
            raise DataError(f"`{where}` is not a task: " + "; ".join(problems), f"fields: {', '.join(sorted(known))}")
        try:
            return cls(
                name=_text(values["name"]),
                classes=_names(values["classes"]),
                palette=tuple(_rgb(colour) for colour in values.get("palette", ())),
                title=_text(values.get("title", "")),
                mirror=tuple(_pair(pair) for pair in values.get("mirror", ())),
                regions={name: _names(members) for name, members in dict(values.get("regions", {})).items()},
                levels={name: _names(members) for name, members in dict(values.get("levels", {})).items()},
                foreground=_names(values.get("foreground", ())),
                synth=_synth_spec(values.get("synth")),
            )
        except (TypeError, ValueError, KeyError) as error:
            raise DataError(f"`{where}` is not a task: {error}") from error


def load_task(name_or_path: str) -> Task:
    """Return a built-in task by name, or the task in a TOML file.

    A value that ends in ``.toml`` or names an existing file is a path.

    Raises:
        UsageError: If no task has that name, or the file cannot be read or is not a task.
    """
    if name_or_path in TASKS:
        return TASKS[name_or_path]
    path = Path(name_or_path)
    if path.suffix.lower() != ".toml" and not (name_or_path and path.is_file()):
        raise unknown("task", name_or_path, TASKS, f"known: {', '.join(TASKS)}, or a TOML file of your own")
    try:
        values = parse_toml(read_given(path).decode("utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"there is no task file `{path}`", f"known tasks: {', '.join(TASKS)}") from None
    except (OSError, ValueError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read task file `{path}`: {why}", "a task is a TOML file in UTF-8") from error
    try:
        return Task.from_dict(values, where=str(path))
    except DataError as error:
        raise UsageError(error.message, error.hint or f"mend `{path}`") from error


def voc_palette(num_classes: int) -> tuple[Rgb, ...]:
    """Return the colours of PASCAL VOC: the bits of the id, spread over the high bits of R, G and B."""
    colours = []
    for label in range(num_classes):
        rgb = [0, 0, 0]
        for position in range(8):
            for channel in range(3):
                rgb[channel] |= (label >> (3 * position + channel) & 1) << (7 - position)
        colours.append((rgb[0], rgb[1], rgb[2]))
    return tuple(colours)


def _contradictions(task: Task) -> list[str]:
    problems = []
    if not task.name or task.name != task.name.strip().lower() or not task.name.replace("_", "a").isalnum():
        problems.append("`name` is one lower-case word")
    if not 2 <= task.num_classes <= IGNORE:
        problems.append(f"{task.num_classes} classes; 2 to {IGNORE} are possible, the background included")
    for kind, names in (("class", task.classes), ("colour", tuple(map(str, task.palette)))):
        twice = sorted({name for name in names if names.count(name) > 1})
        problems += [f"{kind} `{name}` twice" for name in twice]
    if len(task.palette) != task.num_classes:
        problems.append(f"{len(task.palette)} colours for {task.num_classes} classes")
    if any(not 0 <= value <= 255 for colour in task.palette for value in colour):
        problems.append("a colour is outside 0..255")
    mirrored = [name for pair in task.mirror for name in pair]
    problems += [f"`{name}` is in two mirror pairs" for name in sorted(set(mirrored)) if mirrored.count(name) > 1]
    problems += [f"region `{name}` has the name of a class" for name in task.regions if name in task.classes]
    problems += [f"{kind} `{name}` is empty" for kind, name, members in _groups(task) if not members]
    owned = {"mirror": mirrored, "foreground": task.foreground}
    owned |= {f"region `{name}`": members for name, members in task.regions.items()}
    if task.synth is not None:
        owned["synth"] = tuple(task.synth.parts)
    problems += [
        f"{place}: no class `{name}`" for place, names in owned.items() for name in names if name not in task.classes
    ]
    known = {*task.classes, *task.regions}
    problems += [
        f"level `{level}`: no class or region `{name}`"
        for level, names in task.levels.items()
        for name in names
        if name not in known
    ]
    return problems


def _groups(task: Task) -> list[tuple[str, str, tuple[str, ...]]]:
    regions = [("region", name, members) for name, members in task.regions.items()]
    return regions + [("level", name, members) for name, members in task.levels.items()]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got `{value}`")
    return value


def _names(values: object) -> tuple[str, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"expected a list of names, got `{values}`")
    return tuple(_text(value) for value in values)


def _pair(values: object) -> tuple[str, str]:
    left, right = _names(values)
    return left, right


def _rgb(value: object) -> Rgb:
    if isinstance(value, str):
        digits = value.removeprefix("#")
        if len(digits) != 6:
            raise ValueError(f"a colour is `#rrggbb` or three integers, got `{value}`")
        return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
    if not isinstance(value, Sequence) or len(value) != 3 or not all(type(part) is int for part in value):
        raise ValueError(f"a colour is `#rrggbb` or three integers, got `{value}`")
    return value[0], value[1], value[2]


def _synth_spec(values: Any) -> SynthSpec | None:
    if values is None:
        return None
    parts = {name: _names(names) for name, names in dict(values["parts"]).items()}
    return SynthSpec(view=_text(values["view"]), parts=parts)


_FACE_PARTS: Final = (
    "face", "left_brow", "right_brow", "left_eye", "right_eye", "nose", "upper_lip", "inner_mouth", "lower_lip",
)  # fmt: skip

TASKS: Final[Mapping[str, Task]] = {
    task.name: task
    for task in (
        Task(
            name="person",
            title="the whole person",
            classes=("background", "person"),
            palette=((0, 0, 0), (230, 60, 100)),
            synth=SynthSpec("figure", {"person": ("person",)}),
        ),
        Task(
            name="face",
            title="eleven face regions of Helen*; left and right as seen in the picture",
            classes=("bg", "face", "lb", "rb", "le", "re", "nose", "ulip", "imouth", "llip", "hair"),
            palette=(
                (0, 0, 0), (255, 213, 170), (150, 75, 0), (255, 140, 0), (0, 120, 255), (0, 220, 220),
                (60, 180, 75), (230, 25, 75), (128, 0, 60), (255, 105, 180), (110, 60, 200),
            ),
            mirror=(("lb", "rb"), ("le", "re")),
            regions={
                "eyes": ("le", "re"),
                "brows": ("lb", "rb"),
                "mouth": ("ulip", "imouth", "llip"),
                "overall": ("lb", "rb", "le", "re", "nose", "ulip", "imouth", "llip"),
            },
            foreground=("face", "lb", "rb", "le", "re", "nose", "ulip", "imouth", "llip", "hair"),
            synth=SynthSpec(
                "portrait",
                {
                    "face": ("face",), "lb": ("left_brow",), "rb": ("right_brow",), "le": ("left_eye",),
                    "re": ("right_eye",), "nose": ("nose",), "ulip": ("upper_lip",), "imouth": ("inner_mouth",),
                    "llip": ("lower_lip",), "hair": ("hair",),
                },
            ),
        ),
        Task(
            name="clothes",
            title="upper-body, lower-body and full-body clothes",
            classes=("background", "upper_body", "lower_body", "full_body"),
            palette=((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)),
            synth=SynthSpec(
                "figure",
                {"upper_body": ("top",), "lower_body": ("trousers", "skirt"), "full_body": ("dress", "coat")},
            ),
        ),
        Task(
            name="body",
            title="seven Pascal-part classes: six body parts in a hierarchy",
            classes=("background", "low_hand", "torso", "low_leg", "head", "up_leg", "up_hand"),
            palette=(
                (0, 0, 0), (255, 225, 25), (0, 130, 200), (145, 30, 180), (230, 25, 75), (60, 180, 75), (245, 130, 48),
            ),
            regions={
                "body": ("low_hand", "torso", "low_leg", "head", "up_leg", "up_hand"),
                "upper_body": ("low_hand", "up_hand", "torso", "head"),
                "lower_body": ("low_leg", "up_leg"),
            },
            levels={
                "top": ("body",),
                "middle": ("upper_body", "lower_body"),
                "bottom": ("low_hand", "torso", "low_leg", "head", "up_leg", "up_hand"),
            },
            synth=SynthSpec(
                "figure",
                {
                    "low_hand": ("lower_arm",), "torso": ("torso", "neck"), "low_leg": ("lower_leg",),
                    "head": (*_FACE_PARTS, "hair", "hat"), "up_leg": ("upper_leg",), "up_hand": ("upper_arm",),
                },
            ),
        ),
        Task(
            name="parsing",
            title="human parsing: the six classes of CIHP-CelebMaskHQ",
            classes=("background", "hair", "face", "skin", "clothes", "accessories"),
            palette=((0, 0, 0), (110, 60, 200), (255, 213, 170), (230, 150, 110), (0, 130, 200), (255, 225, 25)),
            synth=SynthSpec(
                "figure",
                {
                    "hair": ("hair",), "face": _FACE_PARTS, "skin": ("skin",),
                    "clothes": ("top", "trousers", "skirt", "dress", "coat"), "accessories": ("hat", "glasses", "shoe"),
                },
            ),
        ),
    )
}  # fmt: skip
"""The tasks that seglab comes with, by name."""

DEFAULT_CUTOUT_TASK: Final = "person"
"""What ``seglab cutout`` segments unless told otherwise."""
WHOLE_PERSON_TASKS: Final = (DEFAULT_CUTOUT_TASK, "body")
"""Tasks whose foreground is the whole person, the best first."""
