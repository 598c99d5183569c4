"""The boundary loss, and the distances that it needs.

Legend: B batch, K classes, H W pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from seglab.training.losses.prediction import Prediction, Truth

__all__ = ["boundary", "signed_distances"]


def boundary(prediction: Prediction, *, radius: float) -> Tensor:
    """Return how far from a class's outline probability is missing or too much, summed over the labelled pixels.

    ``sum over classes of distance * (p - t)`` a pixel, the distance to the class's outline in the truth being
    negative inside, cut off at the radius and divided by it. To be divided by :attr:`Truth.num_pixels`. Classes that
    a picture's labels do not contain add nothing. Best beside a loss that does not vanish far from outlines.

    Origin: H. Kervadec et al., "Boundary loss for highly unbalanced segmentation", 2019. Differs: the distances are
    cut off, so that they can be found on the device, and the constant that makes a perfect prediction cost 0 is kept.

    Args:
        prediction: Logits and labels.
        radius: Pixels.
    """
    truth = prediction.truth
    difference_BKHW = prediction.probs_BKHW - truth.onehot_BKHW
    return (difference_BKHW * signed_distances(truth, round(radius))).sum()


@torch.no_grad()
def signed_distances(truth: Truth, radius: int) -> Tensor:
    """Return (B, K, H, W) distances to the nearest labelled pixel on the other side of a class's outline, by radius.

    In -1..1: positive outside the class, negative inside; 1 and -1 from the radius on. 0 in every pixel of a class
    that the picture does not contain.
    """
    inside_BKHW = truth.onehot_BKHW
    outside_BKHW = truth.valid_B1HW - inside_BKHW
    signed_BKHW = _distances(inside_BKHW, radius) - _distances(outside_BKHW, radius)
    return signed_BKHW.where(truth.present_BK[..., None, None], 0.0) / max(radius, 1)


def _distances(targets_BKHW: Tensor, radius: int) -> Tensor:
    """Return the Euclidean distance to the nearest target in pixels, 0 on a target, at most the radius."""
    far = float(radius**2)
    # The square of a distance is a minimum over columns of a minimum over rows: exact within the radius.
    squares_BKHW = (1 - targets_BKHW) * far
    for dim in (2, 3):
        squares_BKHW = _nearest(squares_BKHW, dim, radius, far)
    return squares_BKHW.sqrt()


def _nearest(squares_BKHW: Tensor, dim: int, radius: int, far: float) -> Tensor:
    size = squares_BKHW.shape[dim]
    padding = (0, 0, radius, radius) if dim == 2 else (radius, radius)
    padded = F.pad(squares_BKHW, padding, value=far)
    best = squares_BKHW.clone()
    for shift in range(-radius, radius + 1):
        torch.minimum(best, padded.narrow(dim, radius + shift, size) + shift**2, out=best)
    return best
