"""Steps that are larger than what fits into memory: their samples go through the network in portions.

Legend: B batch, C channels, H W model grid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from seglab.config import TrainConfig
from seglab.errors import DeviceError

__all__ = ["Inputs", "Parts", "Portions"]

Parts = dict[str, Tensor]
"""A loss and what it is made of, by name: detached scalars."""

T = TypeVar("T")


@dataclass(frozen=True)
class Inputs:
    """A step's samples on the device."""

    image_BCHW: Tensor
    """Normalised floats."""
    labels_BHW: Tensor
    """int64 class ids and 255."""
    edges_BHW: Tensor | None = None
    """Outlines: see :class:`~seglab.data.loader.Batch`."""

    def __len__(self) -> int:
        return len(self.labels_BHW)

    def __getitem__(self, portion: slice) -> "Inputs":
        edges_BHW = None if self.edges_BHW is None else self.edges_BHW[portion]
        return Inputs(self.image_BCHW[portion], self.labels_BHW[portion], edges_BHW)


class Portions:
    """How a step's samples are divided: ``accumulate`` portions, and more where memory does not suffice.

    Args:
        config: ``batch_size``, ``accumulate`` and ``halve_batches`` matter here.
        device: Whose memory it is, for messages.
        tell: Takes a line for the user when the portions become smaller.
        may_halve: Whether portions may be halved at all: not where other processes wait for each of them.
    """

    def __init__(
        self, config: TrainConfig, device: torch.device, tell: Callable[[str], None], *, may_halve: bool = True
    ) -> None:
        self._config = config
        self._may_halve = may_halve
        self._device = device
        self._tell = tell
        self.num = config.accumulate
        """Portions of a step; part of what a run continues from, as batch normalisation sees a portion at a time."""

    def run(self, num_samples: int, work: Callable[[Sequence[slice]], T]) -> T:
        """Call ``work`` with the portions of a step, again with halves while memory does not suffice.

        Args:
            num_samples: Samples of the step.
            work: Changes nothing that it does not set anew when it is called again.

        Raises:
            DeviceError: If memory does not suffice, and portions may not or cannot be halved.
        """
        while True:
            try:
                return work(self.of(num_samples))
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                # What the failed attempt holds is freed with its traceback, so the next one starts outside of here.
            self._halve(num_samples)

    def of(self, num_samples: int) -> list[slice]:
        """Return the portions of a step: as equal as can be, of two samples or more, as batch normalisation needs."""
        num = max(1, min(self.num, num_samples // 2 if self._config.batch_size > 1 else num_samples))
        ends = np.cumsum([len(part) for part in np.array_split(np.arange(num_samples), num)]).tolist()
        return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _halve(self, num_samples: int) -> None:
        size = -(-num_samples // len(self.of(num_samples)))
        before = self.num
        self.num = 2 * len(self.of(num_samples))
        smaller = -(-num_samples // len(self.of(num_samples)))
        where = f"`{self._device}`" if self._device.type != "cpu" else "this machine"
        if not (self._config.halve_batches and self._may_halve) or smaller >= size:
            self.num = before
            hint = "`--batch-size auto` halves batches until they fit; or lower `--batch-size` or `--size`"
            if self._config.halve_batches or size <= 2:
                hint = "lower `--size`, or choose a smaller `--model`"
            if not self._may_halve and size > 2:
                hint = "lower `--batch-size`: where several processes train, none can halve its batches alone"
            raise DeviceError(f"the memory of {where} does not suffice for {size} samples at once", hint)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._tell(
            f"the memory of {where} does not suffice for {size} samples at once: from here on {smaller} at once, and "
            f"{len(self.of(num_samples))} times before a step, which learns from {num_samples} as before"
        )


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
