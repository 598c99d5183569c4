"""TensorFlow's "SAME" windows and its way to enlarge maps, which the Part Grouping Network was made with.

SAME makes as many outputs as strides fit into the side, rounded up; what the windows need beyond the map is padded,
half before (rounded down) and the rest after. An average leaves the padding out.
"""

from collections.abc import Sequence
from typing import Final, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from seglab.errors import unknown

__all__ = ["RESIZES", "Resize", "average_windows", "enlarge", "pad_for_stride_2"]

Resize = Literal["centres", "corners"]
RESIZES: Final = get_args(Resize)


def pad_for_stride_2(features: Tensor, kernel: int) -> Tensor:
    """Pad a map with zeros as SAME does before a window of stride 2: one more after than before.

    Args:
        features: Both sides even; other sides would be padded otherwise.
        kernel: Side of the window, odd.
    """
    before, after = (kernel - 2) // 2, (kernel - 1) // 2
    return F.pad(features, (before, after, before, after))


def average_windows(features: Tensor, window: int) -> Tensor:
    """Return the means of square windows that lie side by side, SAME: a window beyond the map counts what is in it.

    Args:
        features: Any height and width, also smaller than the window.
        window: Side of the windows, and their stride.

    Returns:
        A map of ceil(H / window) by ceil(W / window).
    """
    height, width = features.shape[-2:]
    down, right = -height % window, -width % window
    padding = (right // 2, right - right // 2, down // 2, down - down // 2)
    inside = F.pad(features.new_ones(1, 1, height, width), padding)
    return F.avg_pool2d(F.pad(features, padding), window) / F.avg_pool2d(inside, window)


def enlarge(features: Tensor, size_hw: Sequence[int], resize: Resize) -> Tensor:
    """Bring a map to another size, bilinearly.

    Args:
        features: Any size.
        size_hw: The new one.
        resize: ``centres``: the areas of both maps coincide, as everywhere else here. ``corners``: cell 0 belongs to
            pixel 0 and cell i to pixel i * (new / old), as in TensorFlow 1, whose maps lie half a cell up and left.

    Raises:
        UsageError: If there is no such way.
    """
    if resize not in RESIZES:
        raise unknown("way to enlarge", resize, RESIZES)
    if resize == "centres":
        return F.interpolate(features, size=tuple(size_hw), mode="bilinear", align_corners=False)
    for dim, size in zip((-2, -1), size_hw, strict=True):
        features = _enlarge_from_corner(features, dim, size)
    return features


def _enlarge_from_corner(features: Tensor, dim: int, size: int) -> Tensor:
    last = features.shape[dim] - 1
    position = torch.arange(size, device=features.device) * features.shape[dim]
    first = position // size
    share = (position % size).to(features.dtype) / size
    share = share[:, None] if dim == -2 else share
    start = features.index_select(dim, first)
    return start + (features.index_select(dim, (first + 1).clamp(max=last)) - start) * share
