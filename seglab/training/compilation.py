"""torch.compile for training."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from seglab.errors import DeviceError, first_line

__all__ = ["compiled"]


def compiled(network: nn.Module) -> Callable[[Tensor], Sequence[Tensor]]:
    """Return a function that computes what a network does, compiled when it is first called.

    It shares the weights; the network itself, its names and what is saved of it stay as they are.

    Raises:
        DeviceError: When it is called, if it cannot be compiled here.
    """
    fast = torch.compile(network)
    failures = _failures()

    def forward(image_BCHW: Tensor) -> Sequence[Tensor]:
        try:
            outputs: Sequence[Tensor] = fast(image_BCHW)
        except failures as error:
            raise DeviceError(
                f"torch cannot compile the network here: {first_line(error)}",
                "leave `--compile` out; it needs a C++ compiler on the CPU, and Triton on a GPU",
            ) from error
        return outputs

    return forward


def _failures() -> tuple[type[Exception], ...]:
    """Return what torch raises where there is no compiler, and for networks that it cannot compile."""
    from torch._dynamo.exc import TorchDynamoException

    return (TorchDynamoException,)
