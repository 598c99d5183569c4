"""What a network is wrapped in before it becomes a graph: which numbers go in, and which come out.

Legend: B batch, K classes, C channels, H W pixels.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.models.session import OUTPUT_NAME
from seglab.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

__all__ = ["REMBG_SIZE_HW", "HalfPrecision", "MainOutput", "NamedOutputs", "RembgMask", "output_names"]

REMBG_SIZE_HW: Final = (320, 320)
"""What rembg's ``u2net_custom`` session makes of every photo, whatever its shape."""
_STEP: Final = 1 / 255
_HALF: Final = 0.5


class MainOutput(nn.Module):
    """A network without its side outputs: image_BCHW in, logits_BKHW out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return logits_BKHW."""
        main: Tensor = self.network(image)[0]
        return main


def output_names(network: nn.Module) -> tuple[str, ...]:
    """Return how a graph calls what :class:`NamedOutputs` gives: ``logits``, and each of the network's extras once."""
    extras: Sequence[str] = getattr(network, "extras", ())
    return (OUTPUT_NAME, *dict.fromkeys(extras))


class NamedOutputs(nn.Module):
    """A network's logits_BKHW and the main one of each of its extras, logits_B1HW (see :class:`Segmenter`)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        extras: Sequence[str] = getattr(network, "extras", ())
        self.from_end = [len(extras) - extras.index(name) for name in dict.fromkeys(extras)]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return them in the order of :func:`output_names`."""
        outputs = self.network(image)
        return (outputs[0], *(outputs[-position] for position in self.from_end))


class HalfPrecision(nn.Module):
    """A network that computes in float16 between a float32 input and a float32 output.

    Args:
        network: One tensor in, one or several out; its weights are changed in place.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return what the network returns, as float32."""
        output: Tensor | tuple[Tensor, ...] = self.network(image.half())
        return tuple(part.float() for part in output) if isinstance(output, tuple) else output.float()


class RembgMask(nn.Module):
    """A network as rembg's ``u2net_custom`` session uses one: one picture of 320x320 in, one mask 0..1 out.

    The session scales a photo to 320x320, divides by its largest value, normalises as ImageNet is, and stretches the
    mask that it gets from its own minimum..maximum to 0..255. In here that normalisation becomes the model's own, the
    picture is brought to the model's grid and the logits back, and the probabilities of the foreground are summed.

    So that the stretching changes nothing, the mask reaches 0 and 1: where somebody is seen the most certain pixel
    becomes 1. Else (or where no pixel is background) a corner does, so that an empty mask stays empty: without it the
    session would blow the faintest doubt up to full white.

    Args:
        network: image_BCHW in, logits_BKHW out.
        preprocess: What the network wants.
        foreground: Ids of the classes that make up the mask.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess, foreground: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.size_hw = preprocess.size_hw
        self.foreground = list(foreground)
        scale = np.array(IMAGENET_STD) / preprocess.std
        shift = (np.array(IMAGENET_MEAN) - preprocess.mean) / preprocess.std
        self.is_normalised = bool((scale == 1).all() and (shift == 0).all())
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return alpha_11HW, 0..1, of an image_1CHW."""
        if not self.is_normalised:
            image = image * self.scale + self.shift
        if self.size_hw != REMBG_SIZE_HW:
            image = F.interpolate(image, size=self.size_hw, mode="bilinear", antialias=True)
        logits: Tensor = self.network(image)
        if self.size_hw != REMBG_SIZE_HW:
            logits = F.interpolate(logits, size=REMBG_SIZE_HW, mode="bilinear")
        probs = logits.softmax(dim=1)
        return _spanning(probs[:, self.foreground].sum(dim=1, keepdim=True).clamp(0, 1))


def _spanning(alpha: Tensor) -> Tensor:
    """Return a mask from 0, or less than half a step of 8 bits, to 1, by changing as few pixels as that needs."""
    largest = alpha.amax(dim=(2, 3), keepdim=True)
    smallest = alpha.amin(dim=(2, 3), keepdim=True)
    somebody = largest >= _HALF
    top = (alpha >= largest) & somebody & (largest < 1)
    height, width = alpha.shape[2] - 1, alpha.shape[3] - 1
    first = F.pad((~somebody).float(), (0, width, 0, height))
    last = F.pad((smallest > _STEP / 2).float(), (width, 0, height, 0))
    return torch.maximum(alpha, torch.maximum(top.float(), first)) * (1 - last)
