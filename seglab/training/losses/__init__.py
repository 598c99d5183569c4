"""The losses: sums over pixels or pictures, and the counts that divide them.

A loss is a sum, over labelled pixels or over pictures, divided by how many there are; the counts depend on the labels
alone. So a batch may be cut into parts, in one process or in many, and each part's loss divided by the counts of all:
the gradients of the parts add up to that of the whole batch. Losses that are ratios of sums (Dice, IoU, Tversky) are
taken picture by picture for that reason. Pixels with label 255 change nothing.
"""

from seglab.training.losses.criterion import Criterion, check_losses, mean_loss
from seglab.training.losses.prediction import Prediction, Truth

__all__ = ["Criterion", "Prediction", "Truth", "check_losses", "mean_loss"]
