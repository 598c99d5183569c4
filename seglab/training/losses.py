"""The losses, as pure functions of logits and labels.

Legend: B batch, K classes, H W pixels. Labels are class ids; 255 is ignored: such a pixel changes nothing. Sums and the
counts that divide them are separate, so that several processes can add both up before dividing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from seglab.tasks import IGNORE

__all__ = ["cross_entropy", "cross_entropy_sum", "soft_dice", "weighted_loss"]


def cross_entropy_sum(logits_BKHW: Tensor, labels_BHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy in nats summed over the labelled pixels, and their number."""
    total = F.cross_entropy(logits_BKHW, labels_BHW, ignore_index=IGNORE, reduction="sum")
    return total, (labels_BHW != IGNORE).sum()


def cross_entropy(logits_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
    """Return the mean cross-entropy of the labelled pixels in nats; 0 if there are none.

    Args:
        logits_BKHW: Floats.
        labels_BHW: int64 class ids and 255.
    """
    total, count = cross_entropy_sum(logits_BKHW, labels_BHW)
    return total / count.clamp(min=1)


def soft_dice(logits_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
    """Return 1 - Dice of the softmax probabilities, averaged over the classes that the batch's labels contain.

    A class's Dice is taken over all labelled pixels of the batch at once: ``2 sum(p t) / (sum(p) + sum(t))``. A class
    that is absent has no overlap to gain and is left out; the cross-entropy already counts its false alarms. 0 if no
    pixel is labelled.

    Origin: F. Milletari, N. Navab, S.-A. Ahmadi, "V-Net", 2016, here without the squares in the denominator.

    Args:
        logits_BKHW: Floats.
        labels_BHW: int64 class ids and 255.
    """
    num_classes = logits_BKHW.shape[1]
    classes_K11 = torch.arange(num_classes, device=labels_BHW.device)[:, None, None]
    truth_BKHW = (labels_BHW[:, None] == classes_K11).to(logits_BKHW.dtype)
    valid_B1HW = (labels_BHW != IGNORE).to(logits_BKHW.dtype)[:, None]
    probs_BKHW = logits_BKHW.softmax(dim=1)
    pixels = (0, 2, 3)
    overlap_K = (probs_BKHW * truth_BKHW).sum(pixels)
    truth_K = truth_BKHW.sum(pixels)
    total_K = (probs_BKHW * valid_B1HW).sum(pixels) + truth_K
    present_K = truth_K > 0
    loss_K = torch.where(present_K, 1 - 2 * overlap_K / total_K.clamp(min=1e-12), 0.0)
    return loss_K.sum() / present_K.sum().clamp(min=1)


def weighted_loss(
    outputs: Sequence[Tensor], labels_BHW: Tensor, *, ce_weight: float, dice_weight: float, aux_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of all outputs of a network, and its parts.

    Args:
        outputs: logits_BKHW, the main output first, then any side outputs.
        labels_BHW: int64 class ids and 255.
        ce_weight: Weight of the cross-entropy.
        dice_weight: Weight of the soft Dice loss.
        aux_weight: Weight of each side output against the main one's 1.

    Returns:
        The weighted sum, and detached scalars that add up to it: the weighted ``ce`` and ``dice`` of the main output,
        and ``aux``, all of the side outputs; and ``loss``, the whole.
    """
    parts: dict[str, Tensor] = {}
    total = main = torch.zeros(())
    for position, logits_BKHW in enumerate(outputs):
        # Half precision is too coarse for sums over pixels.
        logits = logits_BKHW if logits_BKHW.dtype == torch.float64 else logits_BKHW.float()
        values = {}
        if ce_weight:
            values["ce"] = ce_weight * cross_entropy(logits, labels_BHW)
        if dice_weight:
            values["dice"] = dice_weight * soft_dice(logits, labels_BHW)
        weighted = torch.stack(list(values.values())).sum()
        if position == 0:
            parts |= {name: value.detach() for name, value in values.items()}
            total = main = weighted
        else:
            total = total + aux_weight * weighted
    parts["loss"] = total.detach()
    parts["aux"] = (total - main).detach()
    return total, parts
