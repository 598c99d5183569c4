"""How strongly training samples are changed, part by part. Needs nothing heavy."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from seglab.errors import UsageError, unknown

__all__ = ["PRESETS", "Strengths"]


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """Settings of the augmentation. The default is the standard; a strength of 0 switches a part off, 1 is standard.

    A strength scales both the range of a part and, for what happens only now and then, its probability.
    """

    hflip: float = 0.5
    """Probability of a left-right flip (left and right classes change places)."""
    scale: float = 1.0
    """Strength of zooming in and out."""
    aspect: float = 1.0
    """Strength of making things wider or narrower."""
    rotate: float = 1.0
    """Strength of turning, 15 degrees either way at 1."""
    shift: float = 1.0
    """Strength of moving the view, and with it of cropping."""
    elastic: float = 0.0
    """Probability of a smooth distortion of the whole picture."""
    photometric: float = 1.0
    """Strength of changes of light, contrast, gamma, saturation, hue and white balance; now and then all is grey."""
    blur: float = 1.0
    """Strength of blur, out of focus or of motion."""
    lowres: float = 1.0
    """Strength of lost detail: the picture is shrunk and enlarged again."""
    noise: float = 1.0
    """Strength of noise."""
    jpeg: float = 1.0
    """Strength of compression."""
    cutout: float = 1.0
    """Strength of rectangles that hide a part; what is under them is not asked for."""
    background: float = 0.0
    """Probability that what is class 0 gives way to another training photo or something drawn. For tasks that label
    whole people: what is not labelled goes."""

    def __post_init__(self) -> None:
        problems = []
        for name, value in asdict(self).items():
            high = 1 if name in PROBABILITIES else HIGHEST
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
                problems.append(f"`augment.{name}` is `{value}`, but must be a number within 0..{high}")
        if problems:
            raise UsageError("train configuration: " + "; ".join(problems))

    @classmethod
    def uniform(cls, strength: float) -> "Strengths":
        """Return all strengths alike; probabilities keep their defaults."""
        return cls(**{field.name: strength for field in fields(cls) if field.name not in PROBABILITIES})

    @classmethod
    def read(cls, value: Any) -> "Strengths":
        """Build from a recipe's value.

        Args:
            value: The name of a preset; a number, which all strengths get (see :meth:`uniform`); or a table of
                fields, in which ``preset`` names where the rest come from (the standard by default).

        Raises:
            UsageError: If a name is unknown or a value is out of range.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            if value not in PRESETS:
                raise unknown("preset of `augment`", value, PRESETS)
            return PRESETS[value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not 0 <= value <= HIGHEST:
                raise UsageError(f"train configuration: `augment` is `{value}`, but must be within 0..{HIGHEST}")
            return cls.uniform(value)
        if not isinstance(value, Mapping):
            known = ", ".join(PRESETS)
            raise UsageError(f"`augment` is {known}, a number, or a table of strengths, got `{value}`")
        table = asdict(cls.read(value.get("preset", "standard")))
        for name, strength in value.items():
            if name != "preset":
                if name not in table:
                    raise unknown("field of `augment`", name, table)
                table[name] = strength
        return cls(**table)


PROBABILITIES: Final = frozenset({"hflip", "elastic", "background"})
"""The fields that are probabilities, not strengths."""

HIGHEST: Final = 10
"""The highest strength."""

_OFF: Final = {field.name: 0.0 for field in fields(Strengths)}

PRESETS: Final[Mapping[str, Strengths]] = {
    "none": Strengths(**_OFF),
    "light": Strengths(**{**_OFF, "hflip": 0.5, "scale": 0.5, "rotate": 0.3, "shift": 0.5, "photometric": 0.5}),
    "standard": Strengths(),
    "strong": Strengths(
        scale=1.3,
        aspect=1.3,
        rotate=1.5,
        shift=1.3,
        photometric=1.5,
        blur=1.5,
        lowres=1.5,
        noise=1.5,
        jpeg=1.5,
        cutout=1.5,
    ),
}
"""Strengths by name."""
