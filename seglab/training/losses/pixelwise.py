"""Losses that are sums over pixels.

Legend: B batch, K classes, H W pixels.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from seglab.tasks import IGNORE
from seglab.training.losses.prediction import Prediction, Truth

__all__ = ["bce", "cross_entropy", "edge", "edges", "focal", "near_edge"]

NEAR_EDGE: Final = 0.1
"""Probability of an edge from which a pixel is near one."""


def cross_entropy(prediction: Prediction, *, label_smoothing: float) -> Tensor:
    """Return the cross-entropy in nats, times the class's weight, summed over the labelled pixels.

    To be divided by :attr:`Truth.weight_sum`, as torch does.

    Args:
        prediction: Logits and labels.
        label_smoothing: Share of the truth that is spread evenly over all classes.
    """
    truth = prediction.truth
    return F.cross_entropy(
        prediction.logits_BKHW,
        truth.labels_BHW,
        weight=None if truth.weights_K is None else truth.weights_K.to(prediction.logits_BKHW.dtype),
        ignore_index=IGNORE,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


def focal(prediction: Prediction, *, gamma: float) -> Tensor:
    """Return ``-(1 - p)^gamma log p`` of the right class, times its weight, summed over the labelled pixels.

    To be divided by :attr:`Truth.weight_sum`.

    Origin: T.-Y. Lin et al., "Focal Loss for Dense Object Detection", 2017, on the softmax.

    Args:
        prediction: Logits and labels.
        gamma: 0 is the cross-entropy; the higher, the less do pixels count that are right already.
    """
    truth = prediction.truth
    log_probs_BHW = prediction.logits_BKHW.log_softmax(1).gather(1, truth.known_BHW[:, None])[:, 0]
    # Rounding may make the probability a little more than 1, whose power has no real value.
    losses_BHW = -((-torch.expm1(log_probs_BHW)).clamp(min=1e-12) ** gamma) * log_probs_BHW
    if truth.weights_K is not None:
        losses_BHW = losses_BHW * truth.weights_K[truth.known_BHW]
    return losses_BHW.where(truth.valid_BHW, 0.0).sum()


def bce(prediction: Prediction) -> Tensor:
    """Return the binary cross-entropy of every class against the rest, mean of the classes, summed over the pixels.

    To be divided by :attr:`Truth.num_pixels`. Each logit has its own sigmoid. For a network of one logit, lifted to
    two classes as (0, z), its original loss BCE(z) is :func:`cross_entropy`, not this.
    """
    truth = prediction.truth
    target_BKHW = truth.onehot_BKHW.to(prediction.logits_BKHW.dtype)
    losses_BKHW = F.binary_cross_entropy_with_logits(prediction.logits_BKHW, target_BKHW, reduction="none")
    return (losses_BKHW * truth.valid_B1HW).sum() / truth.num_classes


def near_edge(prediction: Prediction) -> Tensor:
    """Return the mean cross-entropy of a picture's labelled pixels near edges, summed over the pictures.

    To be divided by :attr:`Truth.num_images`. Near an edge is where the network's own edge map says so, with a
    probability of more than 0.1; no gradient reaches the map.

    Origin: K. Gong et al., "Instance-level Human Parsing via Part Grouping Network", 2018, as in its published code,
    which takes the mean over a batch of one.
    """
    truth = prediction.truth
    assert prediction.edge_logits_BHW is not None
    near_BHW = truth.valid_BHW & (prediction.edge_logits_BHW.detach().sigmoid() > NEAR_EDGE)
    losses_BHW = F.cross_entropy(prediction.logits_BKHW, truth.labels_BHW, ignore_index=IGNORE, reduction="none").where(
        near_BHW, 0.0
    )
    return (losses_BHW.sum((1, 2)) / near_BHW.sum((1, 2)).clamp(min=1)).sum()


def edge(prediction: Prediction) -> Tensor:
    """Return the binary cross-entropy of an edge map, balanced between edge and rest, summed over the pixels.

    To be divided by :attr:`Truth.num_images`. An edge pixel weighs twice the picture's share of the other pixels,
    another pixel the share of the edge pixels; both weigh double where the pixel's class is not 0.

    Origin: see :func:`near_edge`. Differs: pixels where the truth is unknown count for nothing, where those of padding
    were edges; and where people are not told apart, the edges are those between classes.

    Args:
        prediction: Logits of being an edge, in one channel, and the labels, with the edges if they are known.
    """
    truth, logits_BHW = prediction.truth, prediction.logits_BKHW[:, 0]
    if truth.edges_BHW is None:
        edges_BHW, valid_BHW = edges(truth), truth.valid_BHW
    else:
        edges_BHW, valid_BHW = truth.edges_BHW == 1, truth.edges_BHW != IGNORE
    share_B11 = edges_BHW.sum((1, 2), keepdim=True) / valid_BHW.sum((1, 2), keepdim=True).clamp(min=1)
    doubled_BHW = 1 + (truth.known_BHW > 0).to(logits_BHW.dtype)
    weights_BHW = torch.where(edges_BHW, 2 * (1 - share_B11), share_B11) * doubled_BHW
    losses_BHW = F.binary_cross_entropy_with_logits(logits_BHW, edges_BHW.to(logits_BHW.dtype), reduction="none")
    return (losses_BHW * weights_BHW).where(valid_BHW, 0.0).sum()


def edges(truth: Truth) -> Tensor:
    """Return (B, H, W) bools: the labelled pixels with a pixel of another class above, below, left or right."""
    labels_BHW, valid_BHW = truth.labels_BHW, truth.valid_BHW
    found_BHW = torch.zeros_like(valid_BHW)
    across = (labels_BHW[:, 1:] != labels_BHW[:, :-1]) & valid_BHW[:, 1:] & valid_BHW[:, :-1]
    along = (labels_BHW[:, :, 1:] != labels_BHW[:, :, :-1]) & valid_BHW[:, :, 1:] & valid_BHW[:, :, :-1]
    found_BHW[:, 1:] |= across
    found_BHW[:, :-1] |= across
    found_BHW[:, :, 1:] |= along
    found_BHW[:, :, :-1] |= along
    return found_BHW
