"""Losses that measure how regions overlap, picture by picture: sums over pictures.

But for the summed Tversky loss, a picture's loss is the mean over the classes that its labels contain. A class that
is absent has no overlap to gain; the cross-entropy already counts its false alarms.

Legend: B batch, K classes, N pixels of a picture.
"""

import torch
from torch import Tensor

from seglab.training.losses.prediction import Prediction

__all__ = ["dice", "iou", "lovasz", "tversky", "tversky_sum"]

_TINY = 1e-12


def dice(prediction: Prediction) -> Tensor:
    """Return 1 - soft Dice, ``2 sum(p t) / (sum(p) + sum(t))``.

    Origin: F. Milletari, N. Navab, S.-A. Ahmadi, "V-Net", 2016, here without the squares in the denominator.
    """
    truth = prediction.truth
    total_BK = prediction.sizes_BK + truth.sizes_BK
    return truth.mean_of_present(1 - 2 * prediction.overlaps_BK / total_BK.clamp(min=_TINY))


def iou(prediction: Prediction) -> Tensor:
    """Return 1 - soft intersection over union, ``sum(p t) / (sum(p) + sum(t) - sum(p t))``.

    Origin: M. A. Rahman, Y. Wang, "Optimizing Intersection-Over-Union in Deep Neural Networks", 2016.
    """
    truth = prediction.truth
    union_BK = prediction.sizes_BK + truth.sizes_BK - prediction.overlaps_BK
    return truth.mean_of_present(1 - prediction.overlaps_BK / union_BK.clamp(min=_TINY))


def tversky(prediction: Prediction, *, alpha: float, beta: float) -> Tensor:
    """Return 1 - soft Tversky index, ``tp / (tp + alpha fp + beta fn)``.

    Origin: S. S. M. Salehi, D. Erdogmus, A. Gholipour, "Tversky loss function", 2017.

    Args:
        prediction: Logits and labels.
        alpha: Weight of false positives.
        beta: Weight of false negatives. Both 0.5 is Dice, both 1 is IoU.
    """
    truth, overlap_BK = prediction.truth, prediction.overlaps_BK
    false_positive_BK = prediction.sizes_BK - overlap_BK
    false_negative_BK = truth.sizes_BK - overlap_BK
    total_BK = overlap_BK + alpha * false_positive_BK + beta * false_negative_BK
    return truth.mean_of_present(1 - overlap_BK / total_BK.clamp(min=_TINY))


def tversky_sum(prediction: Prediction, *, alpha: float, beta: float, eps: float) -> Tensor:
    """Return ``1 - sum(p t) / (alpha sum(p) + beta sum(t) + eps)``, summed over the pictures and over all classes.

    To be divided by nothing. A class that is absent from a picture adds 1, whatever is predicted, and learns nothing.

    Origin: Semantic_Segmentation_With_U-Net, which calls it Dice. Differs: ignored pixels do not count.

    Args:
        prediction: Logits and labels.
        alpha: Weight of the predicted size.
        beta: Weight of the true size.
        eps: Keeps the denominator from 0.
    """
    total_BK = alpha * prediction.sizes_BK + beta * prediction.truth.sizes_BK + eps
    return (1 - prediction.overlaps_BK / total_BK).sum()


def lovasz(prediction: Prediction) -> Tensor:
    """Return the Lovász extension of 1 - IoU at the softmax's errors.

    Origin: M. Berman, A. R. Triki, M. B. Blaschko, "The Lovász-Softmax loss", 2018; "per image" and of the classes
    present, in the paper's words.
    """
    truth = prediction.truth
    onehot_BKN = truth.onehot_BKHW.flatten(2)
    errors_BKN = (onehot_BKN - prediction.probs_BKHW.flatten(2)).abs()
    # Ignored pixels come last, where their zero error meets no later step of the index.
    valid_B1N = truth.valid_B1HW.flatten(2)
    order_BKN = (errors_BKN - 2 * (1 - valid_B1N)).argsort(dim=2, descending=True)
    slopes_BKN = _slopes(onehot_BKN.gather(2, order_BKN).to(errors_BKN.dtype))
    return truth.mean_of_present((errors_BKN.gather(2, order_BKN) * slopes_BKN).sum(2))


@torch.no_grad()
def _slopes(sorted_BKN: Tensor) -> Tensor:
    """Return by how much 1 - IoU rises as the pixels, worst first, are got wrong one after the other."""
    size_BK1 = sorted_BKN.sum(2, keepdim=True)
    intersection_BKN = size_BK1 - sorted_BKN.cumsum(2)
    union_BKN = size_BK1 + (1 - sorted_BKN).cumsum(2)
    rise_BKN = 1 - intersection_BKN / union_BKN
    return torch.cat((rise_BKN[..., :1], rise_BKN[..., 1:] - rise_BKN[..., :-1]), dim=2)
