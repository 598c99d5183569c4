"""The optimizer of a recipe."""

from typing import Any

import torch
from torch import nn

from seglab.config import TrainConfig
from seglab.errors import UsageError

__all__ = ["Optimizer", "encoder_of"]


class Optimizer:
    """An optimizer whose learning rate is set for every step.

    Biases and normalisation, everything with one dimension, are exempt from the weight decay. Parameters that do not
    require a gradient are left out.

    Args:
        network: On the device where it is trained.
        config: ``optimizer``, ``lr``, ``betas``, ``momentum``, ``weight_decay`` and ``encoder_lr`` matter here.

    Raises:
        UsageError: If the encoder is to have a learning rate of its own, and the network has none.
    """

    def __init__(self, network: nn.Module, config: TrainConfig) -> None:
        groups, self._multiples = _groups(network, config)
        self._betas = config.betas
        self.torch = _build(groups, config)
        """torch's own."""

    def step(self, rate: float, momentum: float | None = None) -> None:
        """Change the weights by their gradients.

        Args:
            rate: The learning rate.
            momentum: The momentum of ``sgd``, or the first beta of ``adam``, if it is not the configuration's.
        """
        for group, multiple in zip(self.torch.param_groups, self._multiples, strict=True):
            group["lr"] = rate * multiple
            if momentum is not None:
                if "betas" in group:
                    group["betas"] = (momentum, self._betas[1])
                else:
                    group["momentum"] = momentum
        self.torch.step()


def encoder_of(network: nn.Module) -> nn.Module:
    """Return the part of a network that is its encoder.

    Raises:
        UsageError: If no part is called so.
    """
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise UsageError(
            "the network has no part that is its encoder",
            "leave `encoder_lr`, `encoder_weights` and `freeze_encoder` alone, or choose another `model`",
        )
    return encoder


def _groups(network: nn.Module, config: TrainConfig) -> tuple[list[dict[str, Any]], list[float]]:
    """Return parameter groups, and the multiple of the learning rate that each has."""
    parts = [([parameter for parameter in network.parameters() if parameter.requires_grad], 1.0)]
    if config.encoder_lr != 1:
        inside = {id(parameter) for parameter in encoder_of(network).parameters()}
        ((everything, _),) = parts
        parts = [
            ([parameter for parameter in everything if (id(parameter) in inside) is is_encoder], multiple)
            for is_encoder, multiple in ((False, 1.0), (True, config.encoder_lr))
        ]
    groups, multiples = [], []
    for parameters, multiple in parts:
        for dimensions, decay in (("many", config.weight_decay), ("one", 0.0)):
            chosen = [parameter for parameter in parameters if (parameter.ndim > 1) is (dimensions == "many")]
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay})
                multiples.append(multiple)
    return groups, multiples


def _build(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    fused = groups[0]["params"][0].device.type in ("cpu", "cuda")
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)
    betas = (config.betas[0], config.betas[1])
    family = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return family(groups, lr=config.lr, betas=betas, fused=fused)
