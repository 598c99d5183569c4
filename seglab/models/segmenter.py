"""The forward contract of every network, written once: any size in, logits of that size out.

Legend: B batch, C channels, K classes, H W pixels.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.errors import UsageError

__all__ = ["Segmenter", "split_outputs"]


class Segmenter(nn.Module):
    """A network that turns normalised pictures into class logits, whatever their size.

    A network that halves its picture n times wants sides that are multiples of 2^n. The picture is extended at the
    bottom and on the right by repeating its last row and column (no jump that could look like an outline, unlike
    zeros), and the logits are cut back. A picture that fits already is not touched.

    Subclasses implement :meth:`segment`; nothing else may be overridden, so that the contract holds for all.
    """

    multiple: int = 1
    """Both sides of the padded picture are multiples of this."""
    least: int = 1
    """Both sides of the padded picture are at least this; itself a multiple of :attr:`multiple`."""
    extras: tuple[str, ...] = ()
    """What the last outputs mean that are not class logits but one logit a pixel (B, 1, H, W): ``edge``, the outline of
    a person. A name that comes several times has its main output first, then those for deep supervision."""

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Return (B, K, H, W) logits, the main output first, then any side outputs for deep supervision.

        After them come the outputs that :attr:`extras` names; :func:`split_outputs` tells them apart.

        Args:
            image_BCHW: Normalised floats, three channels in RGB order, H and W at least 1.

        Raises:
            UsageError: In training mode, if the network's batch normalisation would see a single value a channel.
        """
        height, width = image_BCHW.shape[-2:]
        try:
            outputs = self.segment(_pad(image_BCHW, self.multiple, self.least))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UsageError(
                f"batch normalisation cannot be trained on a batch of {image_BCHW.shape[0]} at {height}x{width}: "
                "some layer sees one value a channel",
                "use a batch of 2 or more, or larger pictures; drop the last batch if it holds a single picture",
            ) from error
        return tuple(logits_BKHW[..., :height, :width] for logits_BKHW in outputs)

    @abstractmethod
    def segment(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for a picture whose sides suit the network, all at its size."""


def split_outputs(
    outputs: Sequence[Tensor], extras: Sequence[str]
) -> tuple[tuple[Tensor, ...], dict[str, tuple[Tensor, ...]]]:
    """Return a network's class logits, and its other outputs by name, the main one of each first.

    Args:
        outputs: What the network returned.
        extras: Its :attr:`Segmenter.extras`; wrappers of DistributedDataParallel and torch.compile hide it.
    """
    num_logits = len(outputs) - len(extras)
    named: dict[str, tuple[Tensor, ...]] = {}
    for name, output in zip(extras, outputs[num_logits:], strict=True):
        named[name] = (*named.get(name, ()), output)
    return tuple(outputs[:num_logits]), named


def _pad(image_BCHW: Tensor, multiple: int, least: int) -> Tensor:
    if multiple == least == 1:
        return image_BCHW
    height, width = image_BCHW.shape[-2:]
    # Not `int` and `max`: in an export the sides are symbols, and stay symbols.
    bottom = torch.sym_max(height + -height % multiple, least) - height
    right = torch.sym_max(width + -width % multiple, least) - width
    padding: Any = (0, right, 0, bottom)
    return F.pad(image_BCHW, padding, mode="replicate")
