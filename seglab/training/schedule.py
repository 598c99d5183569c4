"""What changes in the course of a run, as pure functions: nothing to save, nothing to restore.

The schedules of the learning rate, from its peak:

=============== =======================================================================================
``cosine``      half a cosine down to 0
``onecycle``    torch's OneCycleLR: half a cosine up from 1/25 of the peak, another down to 1/250,000
``poly``        ``(1 - share)^power`` down to 0
``exponential`` times ``gamma`` every ``decay_epochs``
``constant``    the peak throughout
=============== =======================================================================================

``warmup`` is the share of the run in which the rate rises: linearly, from 0, and the schedule runs in what is left; but
``onecycle`` rises in its own way, and ``exponential`` counts its epochs from the beginning of the run.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from seglab.config import TrainConfig

__all__ = ["average_decay", "cycled_momentum", "learning_rate", "step_seed"]

START_DIVISOR: Final = 25.0
END_DIVISOR: Final = 1e4
"""OneCycleLR starts at the peak / START_DIVISOR and ends at that / END_DIVISOR."""
MOMENTUM_RANGE: Final = (0.85, 0.95)
"""OneCycleLR's momentum at the peak of the learning rate, and at its ends."""


def learning_rate(share: float, config: TrainConfig, num_steps: int, num_epochs: float | None = None) -> float:
    """Return the learning rate of a step.

    Args:
        share: How much of the run is done before this step, 0..1.
        config: ``lr``, ``schedule``, ``warmup``, ``power``, ``gamma`` and ``decay_epochs`` matter here.
        num_steps: Steps of the whole run.
        num_epochs: Epochs of the whole run; ``config.epochs`` by default.
    """
    share = min(max(share, 0.0), 1.0)
    if config.schedule == "onecycle":
        start = config.lr / START_DIVISOR
        return _one_cycle(share, config.warmup, num_steps, (start, config.lr, start / END_DIVISOR))
    if share < config.warmup:
        return config.lr * max(share / config.warmup, 1e-3)
    if config.schedule == "exponential":
        # A share is a quotient, so an epoch's end may come out a little short of it.
        epochs = math.floor(share * (config.epochs if num_epochs is None else num_epochs) + 1e-6)
        return config.lr * config.gamma ** (epochs // config.decay_epochs)
    if config.warmup >= 1:
        return config.lr
    return config.lr * _SHAPES[config.schedule](min((share - config.warmup) / (1 - config.warmup), 1.0), config)


def cycled_momentum(share: float, config: TrainConfig, num_steps: int) -> float | None:
    """Return the momentum (the first beta of Adam) of a step, or None where the schedule leaves it alone.

    Only ``onecycle`` changes it, as torch's OneCycleLR does: it is low while the learning rate is high.

    Args:
        share: How much of the run is done before this step, 0..1.
        config: ``schedule`` and ``warmup`` matter here.
        num_steps: Steps of the whole run.
    """
    if config.schedule != "onecycle":
        return None
    low, high = MOMENTUM_RANGE
    return _one_cycle(min(max(share, 0.0), 1.0), config.warmup, num_steps, (high, low, high))


_SHAPES: Final[Mapping[str, Callable[[float, TrainConfig], float]]] = {
    "cosine": lambda share, _: 0.5 * (1 + math.cos(math.pi * share)),
    "poly": lambda share, config: (1 - share) ** config.power,
    "constant": lambda _share, _config: 1.0,
}
"""Share of the run after the warm-up to share of the peak."""


def _one_cycle(share: float, rise: float, num_steps: int, values: tuple[float, float, float]) -> float:
    """Go from the first value to the second and on to the third, on half a cosine each; the last step has the third."""
    start, peak, end = values
    step, last = min(share * num_steps, num_steps - 1), num_steps - 1
    top = rise * num_steps - 1
    if step <= top:
        return _half_cosine(start, peak, step / top if top > 0 else 1.0)
    return _half_cosine(peak, end, (step - top) / (last - top) if last > top else 1.0)


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def average_decay(step: int, limit: float) -> float:
    """Return the decay of the moving average after a step: short at first, so that the beginning is forgotten.

    Args:
        step: Steps done before this one.
        limit: The decay in the long run.
    """
    return min(limit, (1 + step) / (10 + step))


def step_seed(seed: int, epoch: int, step: int) -> int:
    """Return the seed of everything that a step draws (dropout), the same whether or not the run was interrupted."""
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)[0] >> 1)
