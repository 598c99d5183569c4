"""How a photo becomes the input of a network: what every model carries with its weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, get_args

from seglab.errors import DataError
from seglab.notation import is_finite

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "FitMode", "Preprocess"]

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)

FitMode = Literal["stretch", "pad"]


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How an RGB photo becomes the input of a network. Belongs to the weights, so it is stored with them."""

    size_hw: tuple[int, int]
    """Height and width of the model's grid in pixels."""
    fit: FitMode = "stretch"
    """``stretch`` resizes to the grid; ``pad`` keeps the aspect ratio and fills the rest with ``pad_rgb``."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """RGB mean on the 0..1 scale, subtracted after dividing by 255."""
    std: tuple[float, float, float] = IMAGENET_STD
    """RGB standard deviation on the 0..1 scale."""
    pad_rgb: tuple[int, int, int] = (124, 116, 104)
    """Colour of the padding, 0..255."""

    def __post_init__(self) -> None:
        problems = [f"`{name}` is `{getattr(self, name)}`" for name in _WIDTHS if not _is_row(self, name)]
        if problems:
            raise DataError("preprocess: " + "; ".join(problems), "`size_hw` are two whole numbers, the others three")
        if min(self.size_hw) < 1 or max(self.size_hw) > 16384:
            raise DataError(f"preprocess: `size_hw` {self.size_hw} is outside 1..16384")
        if self.fit not in get_args(FitMode):
            raise DataError(f"preprocess: `fit` is `{self.fit}`", f"known: {', '.join(get_args(FitMode))}")
        if min(self.std) <= 0:
            raise DataError(f"preprocess: `std` {self.std} must be positive")
        if min(self.pad_rgb) < 0 or max(self.pad_rgb) > 255:
            raise DataError(f"preprocess: `pad_rgb` {self.pad_rgb} is outside 0..255")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; :meth:`from_dict` is the inverse."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocess":
        """Build from plain JSON values.

        Raises:
            DataError: If a field is missing, unknown or wrong.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping):
            raise DataError(f"preprocess: expected a table, got `{values}`")
        if set(values) - known:
            raise DataError(f"preprocess: unknown field {', '.join(sorted(set(values) - known))}")
        try:
            plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
            return cls(**plain)
        except TypeError as error:
            raise DataError(f"preprocess: {error}") from error


_WIDTHS: Final = {"size_hw": 2, "mean": 3, "std": 3, "pad_rgb": 3}
"""The fields of :class:`Preprocess` that are rows of numbers, and how many there are in each."""


def _is_row(preprocess: Preprocess, name: str) -> bool:
    row = getattr(preprocess, name)
    kind = int if name in ("size_hw", "pad_rgb") else int | float
    numbers = isinstance(row, tuple) and all(is_finite(number) and isinstance(number, kind) for number in row)
    return numbers and len(row) == _WIDTHS[name]
