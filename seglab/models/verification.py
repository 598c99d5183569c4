"""Whether a graph computes what its network computes, on pictures like those that it will see.

Legend: B batch, K classes, C channels, H W pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from seglab.data.scene import MIN_SIDE, View, draw_scene
from seglab.models.session import INPUT_NAME
from seglab.preprocess import Preprocess

__all__ = ["Agreement", "Unfaithful", "compare", "photo_like"]

_TOLERANCE: Final = 1e-3
_RELATIVE_TOLERANCE: Final = 1e-4
_LEAST_EQUAL: Final = 0.99
"""Share of label pixels that must not change; for graphs whose numbers are rounded on purpose."""

Float32 = NDArray[np.float32]
Shape = tuple[int, int, int]
"""Batch, height, width."""


@dataclass(frozen=True)
class Agreement:
    """How near a graph is to its network."""

    difference: float
    """Largest difference of an output."""
    equal: float
    """Share of pixels with the same label, 0..1."""


class Unfaithful(Exception):
    """The graph does not compute what the network computes."""


def photo_like(shape: Shape, seed: int = 0, view: View = "figure") -> NDArray[np.uint8]:
    """Return pixels_BHWC of drawn people before a backdrop, any size, different for every picture and seed."""
    num, height, width = shape
    size_hw = (max(height, MIN_SIDE), max(width, MIN_SIDE))
    pictures = [draw_scene(seed, index, view, size_hw).image[:height, :width] for index in range(num)]
    return np.stack(pictures)


def compare(
    session: Any,
    network: nn.Module,
    preprocess: Preprocess,
    shapes: Iterable[Shape],
    *,
    view: View,
    exact: bool,
) -> Agreement:
    """Compare a graph in ONNX Runtime with a network in torch.

    Args:
        session: With one input, and the network's outputs: logits_BKHW, logits_B1HW or a mask_B1HW.
        network: Of the same form, in float32.
        preprocess: Only its mean and standard deviation are used.
        shapes: Of the batches to compare on.
        view: What the drawn pictures show.
        exact: Whether the outputs must agree to rounding of float32; otherwise their labels must, nearly all.

    Raises:
        Unfaithful: If they do not.
    """
    differences, equal, total = [], 0, 0
    for seed, shape in enumerate(shapes):
        for expected, output in _outputs(session, network, preprocess, photo_like(shape, seed, view)):
            difference = float(np.abs(output - expected).max())
            allowed = max(_TOLERANCE, _RELATIVE_TOLERANCE * float(np.abs(expected).max()))
            if not np.isfinite(difference) or (exact and difference > allowed):
                raise Unfaithful(f"its logits differ by {difference:.3g} from the network's, more than {allowed:.3g}")
            differences.append(difference)
            same = _labels(output) == _labels(expected)
            equal, total = equal + int(same.sum()), total + same.size
    if equal < _LEAST_EQUAL * total:
        raise Unfaithful(f"only {equal / total:.1%} of its label pixels are the network's")
    return Agreement(max(differences), equal / total)


def _outputs(
    session: Any, network: nn.Module, preprocess: Preprocess, pixels_BHWC: NDArray[np.uint8]
) -> list[tuple[Float32, Float32]]:
    """Return, for each output, what the network gives and what the graph gives."""
    mean, std = np.array(preprocess.mean), np.array(preprocess.std)
    image_BCHW = ((pixels_BHWC / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2).copy()
    with torch.inference_mode():
        answer = network(torch.from_numpy(image_BCHW))
    pairs = []
    expected_outputs: list[Float32] = [part.numpy() for part in (answer if isinstance(answer, tuple) else (answer,))]
    for expected, output in zip(expected_outputs, session.run(None, {INPUT_NAME: image_BCHW}), strict=True):
        if output.shape != expected.shape or output.dtype != expected.dtype:
            raise Unfaithful(
                f"its output is {output.dtype} {output.shape}, the network's {expected.dtype} {expected.shape}"
            )
        pairs.append((expected, output))
    return pairs


def _labels(output: Float32) -> NDArray[Any]:
    return output.argmax(axis=1) if output.shape[1] > 1 else output[:, 0] > 0.5
