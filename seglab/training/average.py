"""A moving average of the weights: what is validated and saved."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["AveragedWeights"]


class AveragedWeights:
    """A second network whose weights follow the trained one's with a delay.

    Statistics of normalisation layers are averaged too, so that they belong to the averaged weights; whole-number
    buffers are copied.

    Args:
        network: The network that is trained; it is copied.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, decay: float) -> None:
        """Move towards the trained network: ``average = decay * average + (1 - decay) * weights``."""
        mine, theirs = self.network.state_dict(), network.state_dict()
        floats = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[name] for name in floats], [theirs[name] for name in floats], 1 - decay)
        for name in mine.keys() - set(floats):
            mine[name].copy_(theirs[name])

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged weights and buffers."""
        state: dict[str, Tensor] = self.network.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.network.load_state_dict(state)
