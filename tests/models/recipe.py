"""The weights and inputs that golden outputs are made with: random, but the same wherever they are made.

The recipe belongs to the golden vectors, which the original implementations computed.
"""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

SEED = 20261121


def weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
    """Fill a state_dict by the names (the originals') and shapes of its tensors."""
    return {key: torch.from_numpy(np.asarray(_value(key, tuple(shape)))) for key, shape in shapes.items()}


def image(name: str, size_hw: tuple[int, int], channels: int = 3) -> torch.Tensor:
    """The input that belongs to a golden output, in [-1, 1)."""
    pixels = np.random.default_rng([SEED, zlib.crc32(name.encode())]).random((1, channels, *size_hw), dtype=np.float32)
    return torch.from_numpy(2 * pixels - 1)


def _value(key: str, shape: tuple[int, ...]) -> np.ndarray:
    if key.endswith("num_batches_tracked"):
        return np.int64(0)
    r = np.random.default_rng([SEED, zlib.crc32(key.encode())]).standard_normal(shape)
    if key.endswith("running_var"):
        value = 1 + 0.1 * np.abs(r)
    elif key.endswith("running_mean"):
        value = 0.1 * r
    elif len(shape) == 1:
        value = 1 + 0.1 * r if key.endswith("weight") else 0.1 * r
    else:
        value = r * np.sqrt(2 / np.prod(shape[1:]))
    return value.astype(np.float32)
