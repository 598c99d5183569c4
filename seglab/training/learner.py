"""One optimisation step, and everything that it changes.

Legend: B batch, C channels, K classes, H W model grid.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import torch
from torch import Tensor, nn

from seglab.config import Preprocess, TrainConfig
from seglab.data.loader import Batch
from seglab.errors import DataError, DeviceError
from seglab.training.average import AveragedWeights
from seglab.training.losses import Criterion
from seglab.training.optimizer import Optimizer, encoder_of

__all__ = ["Learner", "NonFiniteError"]

CHECK_EVERY: Final = 16
"""Steps between looks at the loss on a GPU: each look waits for it."""


class NonFiniteError(DataError):
    """The loss is no number any more."""


class Learner:
    """A network in training: its weights, their average, and the optimizer.

    Args:
        network: On the CPU, with its initial weights.
        config: The run's settings.
        preprocess: How pixels become the network's input.
        device: Where to train.
        class_weights: What ``config.class_weights`` came to for the task; None for 1.

    Raises:
        UsageError: If the configuration asks something of the network's encoder, and it has none.
    """

    def __init__(
        self,
        network: nn.Module,
        config: TrainConfig,
        preprocess: Preprocess,
        device: torch.device,
        *,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        self.config = config
        self.device = device
        self.mixed = _use_bf16(config.precision, device)
        # Channels last is what tensor cores want; on the CPU it slows training down.
        self.layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        self.network = network.to(device, memory_format=self.layout)  # type: ignore[call-overload]
        self.average = AveragedWeights(self.network) if config.ema else None
        self._frozen = encoder_of(self.network).requires_grad_(False) if config.freeze_encoder else None
        self.optimizer = Optimizer(self.network, config)
        self.criterion = Criterion(config, class_weights)
        self.parts = ("loss", *self.criterion.names, "aux", "grad_norm")
        """What :attr:`totals` sums up, in its order."""
        self.totals = torch.zeros(len(self.parts), dtype=torch.float64)
        """Sums of :attr:`parts` over the images of the epoch so far."""
        self.num_images = 0
        """Images of the epoch so far."""
        self.last_loss = math.nan
        self._mean_C11 = torch.tensor(preprocess.mean, device=device)[:, None, None] * 255
        self._std_C11 = torch.tensor(preprocess.std, device=device)[:, None, None] * 255
        self._unchecked: list[tuple[Tensor, tuple[str, ...]]] = []

    @property
    def best_network(self) -> nn.Module:
        """The network to validate and save: the average, if there is one."""
        return self.average.network if self.average else self.network

    def step(self, batch: Batch, *, rate: float, seed: int, decay: float, momentum: float | None = None) -> None:
        """Learn from one batch.

        Args:
            batch: The samples.
            rate: Learning rate of this step.
            seed: Seeds what the network draws (dropout).
            decay: Decay of the moving average.
            momentum: Momentum of this step, if the schedule changes it.

        Raises:
            NonFiniteError: If the loss or the gradient is infinite or NaN; the samples are named. On a GPU that may
                be up to :data:`CHECK_EVERY` steps later, but never after :meth:`check`. The weights are spoilt then.
        """
        torch.manual_seed(seed)
        self.network.train()
        if self._frozen is not None:
            self._frozen.eval()
        image_BCHW, labels_BHW = self._to_device(batch)
        with self._autocast():
            outputs = self.network(image_BCHW)
        loss, parts = self.criterion(outputs, self.criterion.truth(labels_BHW, outputs[0].shape[1], self._edges(batch)))
        self.network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = list(self.network.parameters())
        parts["grad_norm"] = nn.utils.clip_grad_norm_(parameters, self.config.clip or math.inf)
        self.optimizer.step(rate, momentum)
        if self.average:
            self.average.update(self.network, decay)
        self._account(parts, batch)

    def check(self) -> None:
        """Look at the losses of the last steps and add them up; waits for the device.

        Raises:
            NonFiniteError: If one of them is infinite or NaN; the samples of the first are named.
        """
        unchecked, self._unchecked = self._unchecked, []
        for parts, ids in unchecked:
            values = parts.cpu().double()
            if not values.isfinite().all():
                raise NonFiniteError(
                    f"the loss became {values[0].item()} (gradient norm {values[-1].item()}) on the samples "
                    + ", ".join(f"`{name}`" for name in ids),
                    "look at these samples, or lower the learning rate with `--lr`; what was saved before is untouched",
                )
            self.totals += values * len(ids)
            self.num_images += len(ids)
            self.last_loss = values[0].item()

    def means(self) -> dict[str, float]:
        """Return the means of :attr:`parts` over the images of the epoch so far, ``aux`` only if there is any."""
        self.check()
        means = dict(zip(self.parts, (self.totals / max(self.num_images, 1)).tolist(), strict=True))
        return {name: value for name, value in means.items() if name != "aux" or value}

    def begin_epoch(self) -> None:
        """Forget the sums of the epoch before."""
        self.check()
        self.totals.zero_()
        self.num_images = 0

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on, and the sums of the epoch so far."""
        self.check()
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.torch.state_dict(),
            "totals": self.totals.tolist(),
            "num_images": self.num_images,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.network.load_state_dict(state["network"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizer.torch.load_state_dict(state["optimizer"])
        self.totals = torch.tensor(state["totals"], dtype=torch.float64)
        self.num_images = state["num_images"]

    def _account(self, parts: dict[str, Tensor], batch: Batch) -> None:
        zero = parts["loss"].new_zeros(())
        values = torch.stack([parts.get(name, zero).detach().float() for name in self.parts])
        self._unchecked.append((values, batch.ids))
        if self.device.type == "cpu" or len(self._unchecked) >= CHECK_EVERY:
            self.check()

    def _edges(self, batch: Batch) -> Tensor | None:
        return None if batch.edges_BHW is None else torch.from_numpy(batch.edges_BHW).to(self.device)

    def _to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        pixels_BHWC, labels_BHW = torch.from_numpy(batch.pixels_BHWC), torch.from_numpy(batch.labels_BHW)
        if self.device.type == "cuda":
            pixels_BHWC, labels_BHW = pixels_BHWC.pin_memory(), labels_BHW.pin_memory()
        pixels_BHWC = pixels_BHWC.to(self.device, non_blocking=True)
        labels_BHW = labels_BHW.to(self.device, non_blocking=True).long()
        image_BCHW = pixels_BHWC.permute(0, 3, 1, 2).to(torch.float32, memory_format=self.layout)
        return image_BCHW.sub_(self._mean_C11).div_(self._std_C11), labels_BHW

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.mixed else nullcontext()


def _use_bf16(precision: str, device: torch.device) -> bool:
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=True):
        raise DeviceError(f"`{device}` cannot compute in bf16", "`--set precision=fp32`")
    return precision == "bf16"
