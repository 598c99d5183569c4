"""Several looks at a photo, averaged: mirrored, and at several sizes (test-time augmentation).

A mirrored look answers with left and right swapped, so its answer is mirrored back and the classes of each left/right
pair change places. The probabilities of all looks are averaged, as in the multi-scale testing of semantic segmentation
(L.-C. Chen et al., *DeepLab*, PAMI 2018), and their logarithm takes the place of the logits.

Shapes: B batch, K classes, H W model grid.
"""

from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.images import resize_image
from seglab.engines import num_callers
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
_CLASSES: Final = ""
"""Key of the classes among what is averaged; extras have names."""


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
        self.callers = num_callers(engine)
        self.extras: tuple[str, ...] = getattr(engine, "extras", ())
        """Names of what :meth:`with_extras` gives, as the engine's."""

    def __call__(self, pixels_BHWC: "Pixels") -> Float32:
        """Return the logarithm of the mean probability over all looks, BKHW.

        Raises:
            DataError: If the model cannot see pictures of another size, and should.
        """
        return self._average(pixels_BHWC, ())[0]

    def with_extras(self, pixels_BHWC: "Pixels") -> tuple[Float32, dict[str, Float32]]:
        """Return what the call returns and, by name, logits_B1HW of the mean probability of :attr:`extras`.

        Raises:
            DataError: If the model cannot see pictures of another size, and should.
        """
        return self._average(pixels_BHWC, self.extras)

    def _average(self, pixels_BHWC: "Pixels", extras: tuple[str, ...]) -> tuple[Float32, dict[str, Float32]]:
        totals: dict[str, Float32] = {}
        for scale in self._scales:
            scaled = pixels_BHWC if scale == 1 else _scaled(pixels_BHWC, scale)
            for mirrored in (False, True):
                for name, probs_BKHW in self._look(scaled, mirrored, extras).items():
                    seen = probs_BKHW if scale == 1 else _resized(probs_BKHW, pixels_BHWC.shape[1:3])
                    totals[name] = totals[name] + seen if name in totals else seen
        num = np.float32(2 * len(self._scales))
        means = {name: np.clip(total / num, np.float32(_TINY), 1) for name, total in totals.items()}
        rest = {name: np.log(means[name]) - np.log(np.maximum(1 - means[name], np.float32(_TINY))) for name in extras}
        return np.log(means[_CLASSES]), rest

    def _look(self, pixels_BHWC: "Pixels", mirrored: bool, extras: tuple[str, ...]) -> dict[str, Float32]:
        """Return the probabilities of classes and extras, mirrored back."""
        seen = np.ascontiguousarray(pixels_BHWC[:, :, ::-1]) if mirrored else pixels_BHWC
        engine: Any = self._engine
        try:
            logits_BKHW, others = engine.with_extras(seen) if extras else (engine(seen), {})
        except SeglabError as error:
            if len(self._scales) == 1:
                raise
            message = f"the model cannot see pictures of {seen.shape[2]}x{seen.shape[1]}: {error.message}"
            raise DataError(message, "`--tta flip` needs no other size; `--engine torch` takes any") from error
        probs = {_CLASSES: _softmax(logits_BKHW), **{name: _sigmoid(others[name]) for name in extras}}
        if not mirrored:
            return probs
        return {name: (of[:, self._swap] if name == _CLASSES else of)[..., ::-1] for name, of in probs.items()}


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


def _sigmoid(logits: Float32) -> Float32:
    probs: Float32 = np.asarray(1 / (1 + np.exp(-np.clip(logits, -60, 60))), np.float32)
    return probs
