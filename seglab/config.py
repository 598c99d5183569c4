"""The settings of a model's input and of a training run, as frozen data."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, get_args

from seglab.errors import DataError, UsageError, unknown

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Preprocess", "TrainConfig"]

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)

FitMode = Literal["stretch", "pad"]
Precision = Literal["auto", "fp32", "bf16"]


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
        if min(self.size_hw) < 1 or max(self.size_hw) > 16384:
            raise DataError(f"preprocess: `size_hw` {self.size_hw} is outside 1..16384")
        if self.fit not in get_args(FitMode):
            raise DataError(f"preprocess: `fit` is `{self.fit}`", f"known: {', '.join(get_args(FitMode))}")
        if min(self.std) <= 0:
            raise DataError(f"preprocess: `std` {self.std} must be positive")

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
        if set(values) - known:
            raise DataError(f"preprocess: unknown field {', '.join(sorted(set(values) - known))}")
        try:
            plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
            return cls(**plain)
        except TypeError as error:
            raise DataError(f"preprocess: {error}") from error


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides what a training run computes. Written into the run; a TOML recipe has the same fields."""

    model: str = "unet-light"
    """A name of the model zoo."""
    model_args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the model's constructor, e.g. ``{"width": 24}``."""
    size: int = 192
    """Side of the square model grid in pixels."""
    fit: FitMode = "stretch"
    """How photos meet the grid: see :class:`Preprocess`."""
    epochs: int = 200
    """Passes over the training split."""
    batch_size: int = 8
    """Samples a step."""
    lr: float = 2e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 5e-2
    """Decoupled weight decay; biases and normalisation are exempt."""
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises linearly; it then falls to zero on a cosine."""
    clip: float = 1.0
    """Largest gradient norm; 0 switches clipping off."""
    ce_weight: float = 1.0
    """Weight of the cross-entropy in the loss."""
    dice_weight: float = 1.0
    """Weight of the soft Dice loss."""
    aux_weight: float = 0.4
    """Weight of each side output's loss, for networks that have them."""
    ema: float = 0.998
    """Decay of the moving average of the weights that is validated and saved; 0 switches it off."""
    precision: Precision = "auto"
    """``fp32``, ``bf16`` (mixed: bfloat16 where it is safe), or ``auto``: mixed on GPUs that are built for it."""
    augment: float = 1.0
    """Strength of the augmentation: 0 none, 1 standard."""
    hflip: float = 0.5
    """Probability of a left-right flip (left and right classes change places)."""
    seed: int = 0
    """Seed of initialisation, order and augmentation."""
    val_every: int = 5
    """Epochs between validations; the last epoch is always validated."""
    patience: int = 0
    """Stop after so many validations without a better score; 0 never stops early."""
    metric: str = "miou"
    """The validation metric whose best weights are kept."""

    def __post_init__(self) -> None:
        problems = [*_type_problems(self), *_range_problems(self)]
        if problems:
            raise UsageError("train configuration: " + "; ".join(problems))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; :meth:`from_dict` is the inverse."""
        return asdict(self)

    def changes(self, other: "TrainConfig") -> list[str]:
        """Name the fields in which another configuration differs, with both values, for messages."""
        return [
            f"`{field.name}` was {getattr(self, field.name)!r} and is now {getattr(other, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        ]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "configuration") -> "TrainConfig":
        """Build from plain values; absent fields keep their defaults.

        Raises:
            UsageError: If a field is unknown, of a wrong type or out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise unknown(f"field of `{where}`", name, known)
        return cls(**values)


def _type_problems(config: TrainConfig) -> list[str]:
    problems = []
    for entry in fields(config):
        value = getattr(config, entry.name)
        if entry.type in (int, "int") and type(value) is not int:
            problems.append(f"`{entry.name}` is a whole number, got `{value}`")
        elif entry.type in (float, "float") and (isinstance(value, bool) or not isinstance(value, int | float)):
            problems.append(f"`{entry.name}` is a number, got `{value}`")
        elif entry.type in (float, "float") and not math.isfinite(value):
            problems.append(f"`{entry.name}` is `{value}`")
        elif entry.type in (str, "str") and not isinstance(value, str):
            problems.append(f"`{entry.name}` is text, got `{value}`")
        elif entry.name == "model_args" and not isinstance(value, Mapping):
            problems.append(f"`{entry.name}` is a table of names and values, got `{value}`")
    return problems


_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "size": (16, 4096), "epochs": (1, 1_000_000), "batch_size": (1, 65536), "lr": (1e-12, 1e3),
    "weight_decay": (0, 1e3), "warmup": (0, 1), "clip": (0, math.inf), "ce_weight": (0, math.inf),
    "dice_weight": (0, math.inf), "aux_weight": (0, math.inf), "ema": (0, 0.999999), "augment": (0, 10),
    "hflip": (0, 1), "seed": (0, 2**63 - 1), "val_every": (1, 1_000_000), "patience": (0, 1_000_000),
}  # fmt: skip


def _range_problems(config: TrainConfig) -> list[str]:
    problems = []
    for name, (low, high) in _RANGES.items():
        value = getattr(config, name)
        if isinstance(value, int | float) and not low <= value <= high:
            problems.append(f"`{name}` is `{value}`, but must be within {low:g}..{high:g}")
    for name, choices in (("fit", get_args(FitMode)), ("precision", get_args(Precision))):
        if getattr(config, name) not in choices:
            problems.append(f"`{name}` is `{getattr(config, name)}`, known: {', '.join(choices)}")
    if config.ce_weight == 0 == config.dice_weight:
        problems.append("`ce_weight` and `dice_weight` are both 0: there is nothing to learn from")
    return problems
