"""What the Part Grouping Network minimises: parts everywhere and again near outlines, and balanced outlines.

Origin: K. Gong et al., "Instance-level Human Parsing via Part Grouping Network", ECCV 2018, as in the authors' code.
Differs from it: logits and labels meet at the picture's size, not at an eighth of it; unknown pixels (255) count in
neither sum, where those of padding were positive edges there.

Legend: B batch, K classes, H W pixels.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from seglab.tasks import IGNORE

__all__ = ["EDGE_WEIGHT", "PARSING_WEIGHT", "edge_loss", "grouping_loss", "parsing_loss"]

PARSING_WEIGHT: Final = 50.0
EDGE_WEIGHT: Final = 0.005
"""Small because edges are summed over pixels, not averaged."""
NEAR_EDGE: Final = 0.1
"""Probability of an edge from which a pixel counts a second time."""
_POSITIVE: Final = 2.0
"""What an edge counts for against the rest, after both are balanced."""


def grouping_loss(
    logits: Sequence[Tensor],
    edge_logits: Sequence[Tensor],
    labels_BHW: Tensor,
    edges_BHW: Tensor,
    *,
    parsing_weight: float = PARSING_WEIGHT,
    edge_weight: float = EDGE_WEIGHT,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum of :func:`parsing_loss` and :func:`edge_loss`, and its parts.

    Args:
        logits: logits_BKHW of every parsing output.
        edge_logits: logits_B1HW of every edge output, the refined one first.
        labels_BHW: int64 class ids and 255.
        edges_BHW: 0, 1, and 255 where unknown.
        parsing_weight: Of the parsing loss.
        edge_weight: Of the edge loss.

    Returns:
        The sum, and detached scalars that add up to it: the weighted ``ce`` and ``edge``; and ``loss``, the whole.
    """
    # Half precision is too coarse for sums over pixels.
    logits = [output if output.dtype == torch.float64 else output.float() for output in logits]
    edge_logits = [output if output.dtype == torch.float64 else output.float() for output in edge_logits]
    parsing = parsing_weight * parsing_loss(logits, labels_BHW, edge_logits[0])
    edge = edge_weight * edge_loss(edge_logits, edges_BHW, labels_BHW)
    total = parsing + edge
    return total, {"loss": total.detach(), "ce": parsing.detach(), "edge": edge.detach()}


def parsing_loss(logits: Sequence[Tensor], labels_BHW: Tensor, edge_logits_B1HW: Tensor) -> Tensor:
    """Return the cross-entropy in nats, summed over outputs: the mean of all labelled pixels, and of those at edges.

    Args:
        logits: logits_BKHW of every output.
        labels_BHW: int64 class ids and 255; a mean of no pixels is 0.
        edge_logits_B1HW: Where their sigmoid is above 0.1 is an edge; no gradient reaches them.
    """
    labelled_BHW = labels_BHW != IGNORE
    near_BHW = labelled_BHW & (edge_logits_B1HW.detach()[:, 0].sigmoid() > NEAR_EDGE)
    total = labels_BHW.new_zeros((), dtype=logits[0].dtype)
    for logits_BKHW in logits:
        values_BHW = F.cross_entropy(logits_BKHW, labels_BHW, ignore_index=IGNORE, reduction="none")
        for where_BHW in (labelled_BHW, near_BHW):
            total = total + (values_BHW * where_BHW).sum() / where_BHW.sum().clamp(min=1)
    return total


def edge_loss(edge_logits: Sequence[Tensor], edges_BHW: Tensor, labels_BHW: Tensor) -> Tensor:
    """Return the binary cross-entropy in nats, balanced, summed over pixels and outputs, averaged over the batch.

    In each picture an edge pixel weighs twice the share of the others, and another the share of the edges. Foreground
    counts double.

    Args:
        edge_logits: logits_B1HW of every output.
        edges_BHW: 0, 1, and 255 where unknown.
        labels_BHW: int64 class ids and 255; any but 0 and 255 is foreground.
    """
    dtype = edge_logits[0].dtype
    positive_BHW, negative_BHW = (edges_BHW == 1).to(dtype), (edges_BHW == 0).to(dtype)
    num_positive_B11 = positive_BHW.sum((1, 2), keepdim=True)
    num_negative_B11 = negative_BHW.sum((1, 2), keepdim=True)
    num_B11 = (num_positive_B11 + num_negative_B11).clamp(min=1)
    weight_BHW = (_POSITIVE * positive_BHW * num_negative_B11 + negative_BHW * num_positive_B11) / num_B11
    weight_BHW = weight_BHW * (1 + ((labels_BHW != 0) & (labels_BHW != IGNORE)).to(dtype))
    total = torch.zeros((), dtype=dtype, device=weight_BHW.device)
    for logits_B1HW in edge_logits:
        values_BHW = F.binary_cross_entropy_with_logits(logits_B1HW[:, 0], positive_BHW, reduction="none")
        total = total + (weight_BHW * values_BHW).sum() / len(weight_BHW)
    return total
