"""What several losses need of logits and labels, computed once.

Legend: B batch, K classes, H W pixels. Labels are class ids; 255 is ignored.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from seglab.tasks import IGNORE

__all__ = ["Prediction", "Truth"]

_PIXELS = (2, 3)


class Truth:
    """The labels of a batch.

    Args:
        labels_BHW: int64 class ids and 255.
        num_classes: K.
        class_weights: A number a class for the losses over pixels; None for 1.
        edges_BHW: 0, 1, and 255 where unknown, uint8; None to take the edges between classes.
    """

    def __init__(
        self,
        labels_BHW: Tensor,
        num_classes: int,
        class_weights: Sequence[float] | None = None,
        edges_BHW: Tensor | None = None,
    ) -> None:
        self.labels_BHW = labels_BHW
        self.edges_BHW = edges_BHW
        self.num_classes = num_classes
        self.weights_K = None
        if class_weights is not None:
            self.weights_K = torch.tensor(class_weights, dtype=torch.float32, device=labels_BHW.device)

    @cached_property
    def valid_BHW(self) -> Tensor:
        """Which pixels are labelled."""
        return self.labels_BHW != IGNORE

    @cached_property
    def valid_B1HW(self) -> Tensor:
        """The same as numbers 0 and 1."""
        return self.valid_BHW[:, None].float()

    @cached_property
    def known_BHW(self) -> Tensor:
        """The labels, with 0 in place of 255."""
        return self.labels_BHW.where(self.valid_BHW, 0)

    @cached_property
    def onehot_BKHW(self) -> Tensor:
        """1 where a pixel has a class, else 0; all 0 where it is ignored."""
        classes_K11 = torch.arange(self.num_classes, device=self.labels_BHW.device)[:, None, None]
        return (self.labels_BHW[:, None] == classes_K11).float()

    @cached_property
    def sizes_BK(self) -> Tensor:
        """Pixels of every class in every picture."""
        return self.onehot_BKHW.sum(_PIXELS)

    @cached_property
    def present_BK(self) -> Tensor:
        """Which classes a picture's labels contain."""
        return self.sizes_BK > 0

    @cached_property
    def num_pixels(self) -> Tensor:
        """Number of labelled pixels."""
        return self.valid_BHW.sum()

    @cached_property
    def num_images(self) -> Tensor:
        """Number of pictures with labelled pixels."""
        return self.valid_BHW.flatten(1).any(1).sum()

    @cached_property
    def weight_sum(self) -> Tensor:
        """Sum of the class weights of the labelled pixels."""
        if self.weights_K is None:
            return self.num_pixels
        return (self.weights_K[self.known_BHW] * self.valid_BHW).sum()

    def mean_of_present(self, values_BK: Tensor) -> Tensor:
        """Return the sum over pictures of the mean over the classes that are there; a picture without labels adds 0."""
        number_B = self.present_BK.sum(1).clamp(min=1)
        return (values_BK.where(self.present_BK, 0.0).sum(1) / number_B).sum()


class Prediction:
    """One output of a network, with its labels.

    Args:
        logits_BKHW: Floats, single or double precision.
        truth: Its labels.
        edge_logits_BHW: The network's edge map, if it has one.
    """

    def __init__(self, logits_BKHW: Tensor, truth: Truth, edge_logits_BHW: Tensor | None = None) -> None:
        self.logits_BKHW = logits_BKHW
        self.truth = truth
        self.edge_logits_BHW = edge_logits_BHW

    @cached_property
    def probs_BKHW(self) -> Tensor:
        """Softmax probabilities; 0 where the pixel is ignored."""
        return self.logits_BKHW.softmax(1) * self.truth.valid_B1HW

    @cached_property
    def overlaps_BK(self) -> Tensor:
        """Probability of the right class, summed over the pixels of every class."""
        return (self.probs_BKHW * self.truth.onehot_BKHW).sum(_PIXELS)

    @cached_property
    def sizes_BK(self) -> Tensor:
        """Probability of every class, summed over the labelled pixels."""
        return self.probs_BKHW.sum(_PIXELS)
