"""The settings of a training run, as frozen data."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, get_args

from seglab.errors import UsageError, unknown
from seglab.notation import is_finite
from seglab.preprocess import IMAGENET_MEAN, IMAGENET_STD, FitMode
from seglab.strengths import Strengths

__all__ = ["LOSSES", "Adversarial", "TrainConfig"]

Precision = Literal["auto", "fp32", "bf16"]
Optimizer = Literal["adamw", "adam", "sgd"]
Schedule = Literal["cosine", "onecycle", "poly", "exponential", "constant"]
Layout = Literal["auto", "channels_first", "channels_last"]
Trainer = Literal["supervised", "adversarial"]

LOSSES: Final[Mapping[str, Mapping[str, float]]] = {
    "cross_entropy": {"label_smoothing": 0.0},
    "focal": {"gamma": 2.0},
    "bce": {},
    "dice": {},
    "iou": {},
    "tversky": {"alpha": 0.3, "beta": 0.7},
    "tversky_sum": {"alpha": 0.7, "beta": 0.3, "eps": 1e-7},
    "lovasz": {},
    "boundary": {"radius": 16},
    "near_edge": {},
    "edge": {},
}
"""The losses by name, with the defaults of their options; :mod:`seglab.training.losses` says what they are."""


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """What only ``trainer = "adversarial"`` needs: a second network that learns to tell predictions from labels."""

    l1_weight: float = 100.0
    """Weight of the mean absolute difference to the labels, beside the discriminator's 1."""
    label_noise: float = 0.05
    """The discriminator's targets 0 and 1 are moved towards each other by up to this, drawn anew for every element."""
    disc_lr: float = 2e-4
    """Learning rate of the discriminator."""
    disc_gamma: float = 0.99
    """What the discriminator's learning rate is multiplied by every ``decay_epochs``."""
    disc_channels: tuple[int, ...] = (64, 128, 256, 512)
    """Channels of the discriminator's layers."""

    def __post_init__(self) -> None:
        ranges = {"l1_weight": (0, 1e6), "label_noise": (0, 0.5), "disc_lr": (1e-12, 1e3), "disc_gamma": (1e-6, 1)}
        problems = _number_problems(self, ranges, "adversarial.")
        channels = self.disc_channels
        if not channels or not all(type(number) is int and 1 <= number <= 4096 for number in channels):
            problems.append(f"`adversarial.disc_channels` are whole numbers within 1..4096, got `{channels}`")
        if problems:
            raise UsageError("train configuration: " + "; ".join(problems))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides what a training run computes. Written into the run; a TOML recipe has the same fields."""

    trainer: Trainer = "supervised"
    """``supervised`` minimises ``losses``; ``adversarial`` trains against a discriminator: :class:`Adversarial`."""
    model: str = "unet-light"
    """A name of the model zoo."""
    model_args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the model's constructor, e.g. ``{"width": 24}``."""
    encoder_weights: str = "none"
    """Pretrained weights of an encoder-decoder's encoder: ``none``; ``auto``, those published for it if this machine
    has them, else none; one of several published sets by name (``swsl``); or a file. Nothing is ever downloaded."""
    init: str = ""
    """A model whose tensors the network starts with, wherever name and shape agree; empty for none."""
    size: int = 192
    """Side of the square model grid in pixels."""
    fit: FitMode = "stretch"
    """How photos meet the grid: see :class:`~seglab.preprocess.Preprocess`."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    """RGB mean on the 0..1 scale that is subtracted from the input."""
    std: tuple[float, ...] = IMAGENET_STD
    """RGB standard deviation on the 0..1 scale that the input is divided by."""
    epochs: int = 200
    """Passes over the training split."""
    steps: int = 0
    """Steps in all, whatever ``epochs`` says; 0 counts by epochs."""
    batch_size: int = 8
    """Samples that go through the network at once."""
    accumulate: int = 1
    """Such batches a step: their gradients are added up, and a step learns from ``batch_size * accumulate`` samples."""
    halve_batches: bool = False
    """Where memory does not suffice, halve the batches and add up the gradients of twice as many."""
    overfit: int = 0
    """Train and validate on so many samples of the training split, to see whether a network can learn them; 0 for
    all."""
    optimizer: Optimizer = "adamw"
    """``adamw``, ``adam`` or ``sgd``."""
    lr: float = 2e-3
    """Peak learning rate."""
    betas: tuple[float, ...] = (0.9, 0.999)
    """Decays of the moving averages of gradient and squared gradient of ``adam`` and ``adamw``."""
    momentum: float = 0.9
    """Momentum of ``sgd``."""
    weight_decay: float = 5e-2
    """Weight decay, decoupled in ``adamw``; biases and normalisation are exempt."""
    encoder_lr: float = 1.0
    """Learning rate of the encoder, as a multiple of the rest's."""
    freeze_encoder: bool = False
    """Leave the encoder, its normalisation statistics included, as it is."""
    schedule: Schedule = "cosine"
    """How the learning rate falls from its peak: see :mod:`seglab.training.schedule`."""
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises: linearly, or on half a cosine for ``onecycle``."""
    power: float = 0.9
    """Exponent of the schedule ``poly``."""
    gamma: float = 0.99
    """What the schedule ``exponential`` multiplies the learning rate by every ``decay_epochs``."""
    decay_epochs: int = 1
    """Epochs between such multiplications."""
    clip: float = 1.0
    """Largest gradient norm; 0 switches clipping off."""
    losses: Mapping[str, Any] = field(default_factory=lambda: {"cross_entropy": 1.0, "dice": 1.0})
    """The loss as a weighted sum: weights by name (see :data:`LOSSES`), or a table of ``weight`` and options. The
    adversarial trainer has its own, and adds this to it."""
    class_weights: str | tuple[float, ...] = "none"
    """Weights of the classes in ``cross_entropy`` and ``focal``: ``none``, ``auto`` (rare classes count more, by the
    pixel counts of the training split: see :mod:`seglab.training.losses.balance`), or a number a class."""
    output_weights: tuple[float, ...] = (1.0, 0.4)
    """Weights of the network's outputs, the main one first; the last holds for all side outputs after it."""
    ema: float = 0.998
    """Decay of the moving average of the weights that is validated and saved; 0 switches it off."""
    sync_bn: bool = False
    """Normalise batches over all processes that train together, not in each alone; needs GPUs."""
    precision: Precision = "auto"
    """``fp32``, ``bf16`` (mixed: bfloat16 where it is safe), or ``auto``: mixed on GPUs that are built for it."""
    layout: Layout = "auto"
    """Order of the network's numbers in memory: ``channels_first``, ``channels_last``, or ``auto``: the latter on GPUs
    only, as it slows training down on CPUs."""
    compile: bool = False
    """Let torch compile the network: a minute or more at first, faster steps then."""
    augment: Strengths = field(default_factory=Strengths)
    """Augmentation. In a recipe: ``none``, ``light``, ``standard``, ``strong``, one number, or a table of them."""
    seed: int = 0
    """Seed of initialisation, order and augmentation."""
    val_every: int = 5
    """Epochs between validations; the last epoch is always validated."""
    patience: int = 0
    """Stop after so many validations without a better score than the best; 0 never stops early."""
    metric: str = "miou"
    """The validation metric whose best weights are kept."""
    adversarial: Adversarial = field(default_factory=Adversarial)
    """Settings of the adversarial trainer."""

    def __post_init__(self) -> None:
        problems = [*_type_problems(self), *_number_problems(self, _RANGES), *_choice_problems(self)]
        problems += [*_loss_problems(self), *_list_problems(self)]
        if problems:
            raise UsageError("train configuration: " + "; ".join(problems))

    @property
    def step_size(self) -> int:
        """Samples a step, as long as there are enough."""
        return self.batch_size * self.accumulate

    def loss_terms(self) -> dict[str, tuple[float, dict[str, float]]]:
        """Return weight and complete options of every loss that counts."""
        terms = {}
        for name, value in self.losses.items():
            table = dict(value) if isinstance(value, Mapping) else {"weight": value}
            weight = float(table.pop("weight", 1.0))
            if weight:
                terms[name] = weight, {**LOSSES[name], **table}
        return terms

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; :meth:`from_dict` is the inverse."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    def changes(self, other: "TrainConfig") -> list[str]:
        """Name the fields in which another configuration differs, with both values, for messages."""
        return [
            f"`{field.name}` was {getattr(self, field.name)!r} and is now {getattr(other, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        ]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "configuration") -> "TrainConfig":
        """Build from plain values; absent fields keep their defaults. Fields of earlier versions are understood.

        Raises:
            UsageError: If a field is unknown, of a wrong type or out of range.
        """
        known = [field.name for field in fields(cls)]
        values = _modern(values)
        for name in values:
            if name not in known:
                raise unknown(f"field of `{where}`", name, known)
        built = _tupled(values)
        if "augment" in built:
            built["augment"] = Strengths.read(built["augment"])
        if "adversarial" in built:
            built["adversarial"] = _read_adversarial(built["adversarial"])
        return cls(**built)


def _read_adversarial(value: Any) -> Adversarial:
    if isinstance(value, Adversarial):
        return value
    if not isinstance(value, Mapping):
        raise UsageError(f"train configuration: `adversarial` is a table of names and values, got `{value}`")
    known = [field.name for field in fields(Adversarial)]
    for name in value:
        if name not in known:
            raise unknown("field of `adversarial`", name, known)
    return Adversarial(**_tupled(value))


def _tupled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value


def _modern(values: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the fields that earlier versions had for losses, side outputs and flips."""
    modern = dict(values)
    for old, name in (("ce_weight", "cross_entropy"), ("dice_weight", "dice")):
        if old in modern:
            before = modern.get("losses", TrainConfig().losses)
            modern["losses"] = {**before, name: modern.pop(old)}
    if "aux_weight" in modern:
        modern["output_weights"] = [1.0, modern.pop("aux_weight")]
    if "hflip" in modern:
        strengths = asdict(Strengths.read(modern.get("augment", "standard")))
        modern["augment"] = {**strengths, "hflip": modern.pop("hflip")}
    return modern


def _type_problems(config: TrainConfig) -> list[str]:
    problems = []
    for entry in fields(config):
        value = getattr(config, entry.name)
        if entry.type in (int, "int") and type(value) is not int:
            problems.append(f"`{entry.name}` is a whole number, got `{value}`")
        elif entry.type in (float, "float") and (isinstance(value, bool) or not isinstance(value, int | float)):
            problems.append(f"`{entry.name}` is a number, got `{value}`")
        elif entry.type in (bool, "bool") and not isinstance(value, bool):
            problems.append(f"`{entry.name}` is true or false, got `{value}`")
        elif entry.type in (str, "str") and not isinstance(value, str):
            problems.append(f"`{entry.name}` is text, got `{value}`")
        elif entry.name in ("model_args", "losses") and not isinstance(value, Mapping):
            problems.append(f"`{entry.name}` is a table of names and values, got `{value}`")
    return problems


_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "size": (16, 4096), "epochs": (1, 1_000_000), "steps": (0, 1_000_000_000), "batch_size": (1, 65536),
    "accumulate": (1, 65536), "overfit": (0, 1_000_000_000),
    "lr": (1e-12, 1e3), "momentum": (0, 0.999999), "weight_decay": (0, 1e3), "encoder_lr": (0, 1e3),
    "warmup": (0, 1), "power": (0, 100), "gamma": (1e-6, 1), "decay_epochs": (1, 1_000_000), "clip": (0, math.inf),
    "ema": (0, 0.999999), "seed": (0, 2**63 - 1), "val_every": (1, 1_000_000), "patience": (0, 1_000_000),
}  # fmt: skip


def _number_problems(config: object, ranges: Mapping[str, tuple[float, float]], prefix: str = "") -> list[str]:
    problems = []
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            if prefix:  # the fields of TrainConfig are looked at by type as well
                problems.append(f"`{prefix}{name}` is a number, got `{value}`")
        elif not is_finite(value) or not low <= value <= high:
            problems.append(f"`{prefix}{name}` is `{value}`, but must be within {low:g}..{high:g}")
    return problems


def _choice_problems(config: TrainConfig) -> list[str]:
    choices = {
        "fit": get_args(FitMode), "precision": get_args(Precision), "optimizer": get_args(Optimizer),
        "schedule": get_args(Schedule), "trainer": get_args(Trainer), "layout": get_args(Layout),
    }  # fmt: skip
    return [
        f"`{name}` is `{getattr(config, name)}`, known: {', '.join(known)}"
        for name, known in choices.items()
        if getattr(config, name) not in known
    ]


def _loss_problems(config: TrainConfig) -> list[str]:
    if not isinstance(config.losses, Mapping):
        return []
    problems = []
    for name, value in config.losses.items():
        if name not in LOSSES:
            problems.append(f"no loss is called `{name}`, known: {', '.join(LOSSES)}")
            continue
        for option, number in (value if isinstance(value, Mapping) else {"weight": value}).items():
            if option not in ("weight", *LOSSES[name]):
                known = ", ".join(("weight", *LOSSES[name]))
                problems.append(f"`{name}` has no option `{option}`, known: {known}")
            elif not is_finite(number) or number < 0:
                problems.append(f"`losses.{name}` {option} is `{number}`, but must be a number of 0 or more")
    if not problems and config.trainer == "supervised" and not config.loss_terms():
        problems.append("all `losses` have weight 0: there is nothing to learn from")
    return problems


def _list_problems(config: TrainConfig) -> list[str]:
    """Look at the lists of numbers: name, how many there may be, their range."""
    many = 1_000_000
    rules: list[tuple[str, range, float, float]] = [
        ("mean", range(3, 4), 0, 1), ("std", range(3, 4), 1e-6, 100), ("betas", range(2, 3), 0, 0.999999),
        ("output_weights", range(1, many), 0, 1e6),
    ]  # fmt: skip
    if config.class_weights not in ("none", "auto"):
        rules.append(("class_weights", range(2, many), 0, 1e6))
    problems = []
    for name, lengths, low, high in rules:
        numbers = getattr(config, name)
        if (
            not isinstance(numbers, tuple)
            or len(numbers) not in lengths
            or not all(isinstance(n, int | float) and not isinstance(n, bool) and low <= n <= high for n in numbers)
        ):
            number = f"{lengths[0]}{' or more' if len(lengths) > 1 else ''}"
            choice = "`none`, `auto`, or a list" if name == "class_weights" else "a list"
            problems.append(
                f"`{name}` is `{numbers}`, but must be {choice} of {number} numbers within {low:g}..{high:g}"
            )
    if not problems and not any(config.output_weights):
        problems.append("all `output_weights` are 0: there is nothing to learn from")
    return problems
