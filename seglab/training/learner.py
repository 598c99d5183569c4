"""One optimisation step, and everything that it changes.

Legend: B batch, C channels, K classes, H W model grid.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from seglab.config import TrainConfig
from seglab.data.loader import Batch
from seglab.errors import DataError, DeviceError
from seglab.preprocess import Preprocess
from seglab.training.average import AveragedWeights
from seglab.training.compilation import compiled
from seglab.training.distributed import ALONE, Team
from seglab.training.losses import Criterion, Truth
from seglab.training.memory import Inputs, Parts, Portions
from seglab.training.optimizer import Optimizer, encoder_of

__all__ = ["Learner", "NonFiniteError"]

CHECK_EVERY: Final = 16
"""Steps between looks at the loss on a GPU: each look waits for it."""


class NonFiniteError(DataError):
    """The loss is no number any more.

    Args:
        message: What was found.
        hint: What to do next.
        ids: The samples of the step.
    """

    def __init__(self, message: str, hint: str = "", *, ids: Sequence[str]) -> None:
        super().__init__(message, hint)
        self.ids = tuple(ids)


class Learner:
    """A network in training: its weights, their average, and the optimizer.

    Args:
        network: On the CPU, with its initial weights.
        config: The run's settings.
        preprocess: How pixels become the network's input.
        device: Where to train.
        class_weights: What ``config.class_weights`` came to for the task; None for 1.
        tell: Takes a line for the user.
        team: The processes that train together; the first one's weights count.

    Raises:
        UsageError: If the configuration asks something of the network's encoder, and it has none.
        DeviceError: If it asks for a precision or a normalisation that the device has not.
    """

    def __init__(
        self,
        network: nn.Module,
        config: TrainConfig,
        preprocess: Preprocess,
        device: torch.device,
        *,
        class_weights: Sequence[float] | None = None,
        tell: Callable[[str], None] = lambda _line: None,
        team: Team = ALONE,
    ) -> None:
        self.config = config
        self.device = device
        self.team = team
        self.mixed = _use_bf16(config.precision, device)
        self.layout = _memory_format(config.layout, device)
        network = team.prepare(network, sync_bn=config.sync_bn)
        self.network = network.to(device, memory_format=self.layout)  # type: ignore[call-overload]
        team.share_weights(self.network)
        self.portions = Portions(config, device, tell, may_halve=team.size == 1)
        self.average = AveragedWeights(self.network) if config.ema else None
        self._frozen = encoder_of(self.network).requires_grad_(False) if config.freeze_encoder else None
        self.optimizer = Optimizer(self.network, config)
        self.criterion = Criterion(config, class_weights)
        if team.size > 1:
            for parameter in self._unused():
                parameter.requires_grad_(False)  # DistributedDataParallel waits for the gradient of every other
        self._wrapped = team.wrap(self.network)
        self._forward = compiled(self._wrapped) if config.compile else self._wrapped
        self.parts = ("loss", *self.criterion.names, "aux", "grad_norm")
        """What :attr:`totals` sums up, in its order."""
        self.totals = torch.zeros(len(self.parts), dtype=torch.float64)
        """Sums of :attr:`parts` over the images of the epoch so far."""
        self.num_images = 0
        """Images of the epoch so far."""
        self.last_loss = math.nan
        self._mean_C11 = torch.tensor(preprocess.mean, device=device)[:, None, None] * 255
        self._std_C11 = torch.tensor(preprocess.std, device=device)[:, None, None] * 255
        self._last_ids: tuple[str, ...] = ()
        self._num_samples = 0
        self._unchecked: list[tuple[Tensor, tuple[str, ...], int]] = []

    @property
    def best_network(self) -> nn.Module:
        """The network to validate and save: the average, if there is one."""
        return self.average.network if self.average else self.network

    def step(
        self,
        batch: Batch,
        *,
        rate: float,
        seed: int,
        decay: float,
        momentum: float | None = None,
        disc_rate: float = 0.0,
        num_samples: int | None = None,
    ) -> None:
        """Learn from one batch.

        Args:
            batch: The samples.
            rate: Learning rate of this step.
            seed: Seeds what the network draws (dropout).
            decay: Decay of the moving average.
            momentum: Momentum of this step, if the schedule changes it.
            disc_rate: Learning rate of the discriminator, if there is one.
            num_samples: Samples of the step in all processes, if there are several.

        Raises:
            NonFiniteError: If the loss or the gradient is infinite or NaN; it has the samples. On a GPU that may
                be up to :data:`CHECK_EVERY` steps later, but never after :meth:`check`. The weights are spoilt then.
            DeviceError: If the device's memory does not suffice.
        """
        torch.manual_seed(seed)
        self.network.train()
        if self._frozen is not None:
            self._frozen.eval()
        parts = self._learn(self._inputs(batch), rate, momentum, disc_rate)
        self.team.align(self.network)
        if self.average:
            self.average.update(self.network, decay)
        self._num_samples = num_samples or len(batch)
        self._account(parts, batch)

    def _learn(self, inputs: Inputs, rate: float, momentum: float | None, _disc_rate: float) -> Parts:
        parts = self.portions.run(len(inputs), partial(self._add_gradients, inputs))
        parts["grad_norm"] = self._clip(self.network)
        self.optimizer.step(rate, momentum)
        return parts

    def _add_gradients(self, inputs: Inputs, portions: Sequence[slice]) -> Parts:
        """Compute the gradients of all inputs, portion by portion; return the parts of their loss."""
        self.network.zero_grad(set_to_none=True)
        sums: Parts = {}
        counts_L: Tensor | None = None
        for portion in portions:
            part = inputs[portion]
            with self.team.reducing(self._wrapped, portion is portions[-1]):
                outputs = self._outputs(part.image_BCHW)
                num_classes = outputs[0].shape[1]
                if counts_L is None and (len(portions) > 1 or self.team.size > 1):
                    counts_L = self._counts(inputs, portions, num_classes)
                truth = self.criterion.truth(part.labels_BHW, num_classes, part.edges_BHW)
                loss, parts = self.criterion(outputs, truth, counts_L)
                (loss * self.team.size).backward()  # type: ignore[no-untyped-call]
            sums = {name: value + sums[name] if name in sums else value for name, value in parts.items()}
        return sums

    def _counts(self, inputs: Inputs, portions: Sequence[slice], num_classes: int) -> Tensor:
        """Return what divides the losses of all inputs, those of other processes included."""
        parts = [inputs[portion] for portion in portions]
        truths = [self.criterion.truth(part.labels_BHW, num_classes, part.edges_BHW) for part in parts]
        here_L = self.criterion.combine([self.criterion.counts(truth) for truth in truths])
        return self.criterion.combine([self.team.sum(here_L)])

    def _unused(self) -> list[nn.Parameter]:
        """Return the parameters that no loss depends on, such as those of outputs that no loss looks at."""
        self.network.eval()
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        image_BCHW = torch.zeros(1, 3, 32, 32, device=self.device)
        labels_BHW = torch.zeros(1, 32, 32, dtype=torch.int64, device=self.device)
        outputs = self.network(image_BCHW)
        truth = self.criterion.truth(labels_BHW, outputs[0].shape[1], labels_BHW.byte())
        loss = self._trial_loss(outputs, truth)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        return [each for each, gradient in zip(parameters, gradients, strict=True) if gradient is None]

    def _trial_loss(self, outputs: Sequence[Tensor], truth: Truth) -> Tensor:
        """Return something that depends on all outputs that the loss looks at."""
        return self.criterion(outputs, truth)[0]

    def _outputs(self, image_BCHW: Tensor) -> Sequence[Tensor]:
        with self._autocast():
            outputs: Sequence[Tensor] = self._forward(image_BCHW)
        return outputs

    def _clip(self, network: nn.Module) -> Tensor:
        """Shorten the gradient if it is too long; return its norm before."""
        return nn.utils.clip_grad_norm_(list(network.parameters()), self.config.clip or math.inf)

    def check(self) -> None:
        """Look at the losses of the last steps and add them up; waits for the device.

        Raises:
            NonFiniteError: If one of them is infinite or NaN; it has the samples of the first.
        """
        unchecked, self._unchecked = self._unchecked, []
        for parts, ids, num_samples in unchecked:
            values = parts.cpu().double()
            if not values.isfinite().all():
                found = ", ".join(
                    f"{name} {value:g}" for name, value in zip(self.parts, values.tolist(), strict=True)
                    if not math.isfinite(value)
                )  # fmt: skip
                raise NonFiniteError(f"the loss became {values[0].item():g} ({found})", ids=self._all_ids(ids))
            self._last_ids = ids
            self.totals += values * num_samples
            self.num_images += num_samples
            self.last_loss = values[0].item()

    def check_weights(self) -> None:
        """Look at the weights as well: a step may spoil them although its loss is sound.

        Raises:
            NonFiniteError: If a loss or a weight is infinite or NaN.
        """
        self.check()
        floats = [value for value in self.best_network.state_dict().values() if value.is_floating_point()]
        if not torch.stack([value.isfinite().all() for value in floats]).all():
            raise NonFiniteError("the weights are no numbers any more", ids=self._all_ids(self._last_ids))

    def _all_ids(self, ids: Sequence[str]) -> list[str]:
        """Return the samples of a step in all processes, which all find the same at the same time."""
        return [name for part in self.team.gather(list(ids)) for name in part]

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
        """Return everything that the next step depends on, and the sums of the epoch so far.

        Raises:
            NonFiniteError: If it is spoilt.
        """
        self.check_weights()
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.torch.state_dict(),
            "totals": self.totals.tolist(),
            "num_images": self.num_images,
            "num_portions": self.portions.num,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.network.load_state_dict(state["network"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizer.torch.load_state_dict(state["optimizer"])
        self.totals = torch.tensor(state["totals"], dtype=torch.float64)
        self.num_images = state["num_images"]
        self.portions.num = state.get("num_portions", self.portions.num)

    def _account(self, parts: dict[str, Tensor], batch: Batch) -> None:
        zero = parts["loss"].new_zeros(())
        values = torch.stack([parts.get(name, zero).detach().float() for name in self.parts])
        if self.team.size > 1:  # losses add up; norms of gradients are the same everywhere
            divisors = [self.team.size if name.endswith("grad_norm") else 1 for name in self.parts]
            values = self.team.sum(values / values.new_tensor(divisors))
        self._unchecked.append((values, batch.ids, self._num_samples))
        if self.device.type == "cpu" or len(self._unchecked) >= CHECK_EVERY:
            self.check()

    def _inputs(self, batch: Batch) -> Inputs:
        edges_BHW = None if batch.edges_BHW is None else torch.from_numpy(batch.edges_BHW).to(self.device)
        return Inputs(*self._to_device(batch), edges_BHW)

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


def _memory_format(layout: str, device: torch.device) -> torch.memory_format:
    """Return torch's name; tensor cores want channels last, on the CPU it slows training down."""
    last = device.type == "cuda" if layout == "auto" else layout == "channels_last"
    return torch.channels_last if last else torch.contiguous_format


def _use_bf16(precision: str, device: torch.device) -> bool:
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=True):
        raise DeviceError(f"`{device}` cannot compute in bf16", "`--set precision=fp32`")
    return precision == "bf16"
