"""The scores as two earlier projects defined them, to compare with figures that were published with them."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from seglab.evaluation.metrics import Counts, Floats, mean_present, pixel_accuracy

__all__ = ["helen", "leaf_means"]

_SMOOTH: Final = 1e-10


def helen(counts: Counts, names: Sequence[str]) -> dict[str, float]:
    """Return F1 of every group as ``f1_score.py`` of the Helen* dataset computes it, from counts of a whole split.

    F1 is 2 I / (A + B) of the pixels in the group by truth (A), by prediction (B) and by both (I); NaN if A + B = 0.

    Args:
        counts: Of shape ``(G,)``.
        names: Of the G groups.
    """
    with np.errstate(invalid="ignore"):
        scores = 2 * counts.tp / (2 * counts.tp + counts.fp + counts.fn)
    return {name: float(score) for name, score in zip(names, scores, strict=True)}


def leaf_means(counts: Counts, num_classes: int, levels: Mapping[str, Sequence[int]]) -> dict[str, Floats]:
    """Return what the Pascal-part project called the score of a level: the mean of its classes' IoU in one image.

    Differs from :func:`seglab.evaluation.metrics.summarize` in three ways: it averages the classes of a region
    instead of merging them, a class that the image's truth does not have costs nothing where it is predicted, and the
    score of a set of images is the mean of their scores (NaN left out), not that of their pixels: ``np.nanmean`` of
    each array.

    Args:
        counts: Of shape ``(N, G)``, the classes first, one row an image; the project scored at 512 x 512.
        num_classes: K.
        levels: The class ids of each level.

    Returns:
        For ``miou``, each level and ``pixel_accuracy``: N scores, NaN where the truth has none of the classes.
    """
    tp, fp, fn = (values[:, :num_classes] for values in (counts.tp, counts.fp, counts.fn))
    iou_NK = np.where(tp + fn > 0, (tp + _SMOOTH) / (tp + fp + fn + _SMOOTH), np.nan)
    means = {"miou": mean_present(iou_NK)}
    means |= {name: mean_present(iou_NK[:, list(members)]) for name, members in levels.items()}
    return {**means, "pixel_accuracy": pixel_accuracy(counts, num_classes)}
