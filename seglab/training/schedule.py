"""What changes in the course of a run, as pure functions: nothing to save, nothing to restore."""

import math

import numpy as np

__all__ = ["average_decay", "learning_rate", "step_seed"]


def learning_rate(share: float, *, peak: float, warmup: float) -> float:
    """Return the learning rate: a linear rise to the peak, then half a cosine down to 0.

    Args:
        share: How much of the run is done before this step, 0..1.
        peak: The highest rate.
        warmup: Share of the run in which the rate rises.
    """
    share = min(max(share, 0.0), 1.0)
    if share < warmup:
        return peak * max(share / warmup, 1e-3)
    if warmup >= 1:
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


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
