"""Several looks at a photo, averaged: mirrored, and at several sizes (test-time augmentation).

A mirrored look answers with left and right swapped, so its answer is mirrored back and the classes of each left/right
pair change places. The probabilities of all looks are averaged, as in the multi-scale testing of semantic segmentation
(L.-C. Chen et al., *DeepLab*, PAMI 2018), and their logarithm takes the place of the logits.

Shapes: B batch, K classes, H W model grid.
"""

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.images import resize_image
from seglab.errors import DataError, SeglabError, unknown
from seglab.inference.manner import VIEWS
from seglab.tasks import Task

if TYPE_CHECKING:
    from seglab.engines import Engine
    from seglab.engines.pixels import Pixels

__all__ = ["SCALES", "Views"]

Float32 = NDArray[np.float32]

SCALES: Final = (0.75, 1.0, 1.25)
"""Sizes of ``multiscale`` as shares of the model's grid; each is seen mirrored as well."""

_TINY: Final = 1e-12


class Views:
    """An engine that looks several times; see :class:`seglab.engines.Engine`.

    Args:
        engine: What looks.
        task: Whose left and right classes change places in a mirror.
        views: ``flip`` or ``multiscale``.

    Raises:
        UsageError: If there are no such views.
    """

    def __init__(self, engine: "Engine", task: Task, views: str) -> None:
        if views not in VIEWS or views == "none":
            raise unknown("choice of `--tta`", views, VIEWS)
        self._engine = engine
        self._swap = list(task.mirror_permutation())
        self._scales = SCALES if views == "multiscale" else (1.0,)
        self.name, self.reason, self.device = engine.name, f"{engine.reason}, {views}", engine.device
        self.precision, self.notes = engine.precision, engine.notes

    def __call__(self, pixels_BHWC: "Pixels") -> Float32:
        """Return the logarithm of the mean probability over all looks, BKHW.

        Raises:
            DataError: If the model cannot see pictures of another size, and should.
        """
        total: Float32 | None = None
        for scale in self._scales:
            scaled = pixels_BHWC if scale == 1 else _scaled(pixels_BHWC, scale)
            for mirrored in (False, True):
                probs_BKHW = _softmax(self._look(scaled, mirrored))
                probs_BKHW = probs_BKHW if scale == 1 else _resized(probs_BKHW, pixels_BHWC.shape[1:3])
                total = probs_BKHW if total is None else total + probs_BKHW
        assert total is not None
        mean: Float32 = total / np.float32(2 * len(self._scales))
        return np.log(np.maximum(mean, np.float32(_TINY)))

    def _look(self, pixels_BHWC: "Pixels", mirrored: bool) -> Float32:
        seen = np.ascontiguousarray(pixels_BHWC[:, :, ::-1]) if mirrored else pixels_BHWC
        try:
            logits_BKHW = self._engine(seen)
        except SeglabError as error:
            if len(self._scales) == 1:
                raise
            message = f"the model cannot see pictures of {seen.shape[2]}x{seen.shape[1]}: {error.message}"
            raise DataError(message, "`--tta flip` needs no other size; `--engine torch` takes any") from error
        return logits_BKHW[:, self._swap, :, ::-1] if mirrored else logits_BKHW


def _scaled(pixels_BHWC: "Pixels", scale: float) -> "Pixels":
    size_hw = tuple(max(1, round(side * scale)) for side in pixels_BHWC.shape[1:3])
    return np.stack([resize_image(pixels, (size_hw[0], size_hw[1])) for pixels in pixels_BHWC])


def _resized(probs_BKHW: Float32, size_hw: tuple[int, ...]) -> Float32:
    height, width = size_hw
    maps = [[cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in of] for of in probs_BKHW]
    return np.array(maps, np.float32)


def _softmax(logits_BKHW: Float32) -> Float32:
    powers: Float32 = np.exp(logits_BKHW - logits_BKHW.max(1, keepdims=True))
    probs: Float32 = powers / powers.sum(1, keepdims=True)
    return probs
