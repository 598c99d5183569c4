"""Training against a discriminator: Pix2Pix.

Origin: P. Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017, as trained by
ivanrj7j/Pix2Pix-Image-Segmentation. A mask is a map within -1..1 (see :func:`~seglab.models.pix2pix.soft_mask`), and in
every step, where D judges pairs of photo x and mask, y is the true mask and G(x) the drawn one:

1. the discriminator learns from ``(BCE(D(x, y), 1 - u) + BCE(D(x, G(x)), v)) / 2``;
2. the generator learns from ``BCE(D(x, G(x)), 1 - u) + l1_weight * mean |G(x) - y|``, D being what it now is.

u and v are drawn from 0..``label_noise`` for every position that D judges. Differs: the generator's other losses may be
added, masks may have a map a class, and pixels that are not labelled are 0 in both masks, so that nothing is learned
from them.

Legend: B batch, K classes, M maps of a mask, H W model grid, h w positions that are judged.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.config import TrainConfig
from seglab.models.pix2pix import Discriminator, soft_mask
from seglab.preprocess import Preprocess
from seglab.tasks import IGNORE
from seglab.training.distributed import ALONE, Team
from seglab.training.learner import Learner
from seglab.training.losses import Truth
from seglab.training.memory import Inputs, Parts

__all__ = ["AdversarialLearner", "discriminator_rate", "make_learner"]


def make_learner(
    network: nn.Module,
    config: TrainConfig,
    preprocess: Preprocess,
    device: torch.device,
    *,
    num_classes: int,
    class_weights: Sequence[float] | None = None,
    tell: Callable[[str], None] = lambda _line: None,
    team: Team = ALONE,
) -> Learner:
    """Return what trains a network in the way that ``config.trainer`` says; see :class:`Learner` for the rest."""
    if config.trainer == "adversarial":
        return AdversarialLearner(
            network, config, preprocess, device,
            num_classes=num_classes, class_weights=class_weights, tell=tell, team=team,
        )  # fmt: skip
    return Learner(network, config, preprocess, device, class_weights=class_weights, tell=tell, team=team)


def discriminator_rate(share: float, config: TrainConfig, num_epochs: float) -> float:
    """Return the discriminator's learning rate: it falls by ``disc_gamma`` every ``decay_epochs``.

    Args:
        share: How much of the run is done before this step, 0..1.
        config: ``adversarial`` and ``decay_epochs`` matter here.
        num_epochs: Epochs of the whole run.
    """
    # A share is a quotient, so an epoch's end may come out a little short of it.
    epochs = math.floor(share * num_epochs + 1e-6)
    return config.adversarial.disc_lr * config.adversarial.disc_gamma ** (epochs // config.decay_epochs)


class AdversarialLearner(Learner):
    """A generator in training, and the discriminator that it learns from.

    Args:
        network: The generator, on the CPU, with its initial weights. The discriminator's are drawn here.
        config: The run's settings.
        preprocess: How pixels become the network's input.
        device: Where to train.
        num_classes: K.
        class_weights: What ``config.class_weights`` came to for the task; None for 1.
        tell: Takes a line for the user.
        team: The processes that train together.
    """

    def __init__(
        self,
        network: nn.Module,
        config: TrainConfig,
        preprocess: Preprocess,
        device: torch.device,
        *,
        num_classes: int,
        class_weights: Sequence[float] | None = None,
        tell: Callable[[str], None] = lambda _line: None,
        team: Team = ALONE,
    ) -> None:
        super().__init__(network, config, preprocess, device, class_weights=class_weights, tell=tell, team=team)
        num_maps = 1 if num_classes == 2 else num_classes
        discriminator = team.prepare(
            Discriminator(num_maps, channels=config.adversarial.disc_channels), sync_bn=config.sync_bn
        )
        self.discriminator: Discriminator = discriminator.to(device, memory_format=self.layout)  # type: ignore[call-overload]
        team.share_weights(self.discriminator)
        self.disc_optimizer = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=config.adversarial.disc_lr,
            betas=(config.betas[0], config.betas[1]),
            fused=device.type in ("cpu", "cuda"),
        )
        own = ("adversarial", "l1")
        self.parts = (
            "loss", *own, *self.criterion.names, "aux", "disc", "disc_real", "disc_fake", "disc_grad_norm", "grad_norm"
        )  # fmt: skip
        self.totals = torch.zeros(len(self.parts), dtype=torch.float64)
        self._noise_2B1hw: Tensor | None = None
        """What the targets of drawn and of true masks are off by in this step."""
        self._drawn: Sequence[Tensor] | None = None
        """The generator's outputs for the whole step, where it is a single portion."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on: also the discriminator and its optimizer.

        What a step draws at random follows from its seed, so there is no generator of random numbers to save.
        """
        state = super().state_dict()
        return state | {
            "discriminator": self.discriminator.state_dict(),
            "disc_optimizer": self.disc_optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        super().load_state_dict(state)
        self.discriminator.load_state_dict(state["discriminator"])
        self.disc_optimizer.load_state_dict(state["disc_optimizer"])

    def _learn(self, inputs: Inputs, rate: float, momentum: float | None, disc_rate: float) -> Parts:
        self.discriminator.train()
        num_samples = self.team.sum(torch.tensor(float(len(inputs)), device=self.device))
        parts = self.portions.run(len(inputs), partial(self._add_disc_gradients, inputs, num_samples))
        self._reduce_disc_gradients()
        parts["disc_grad_norm"] = self._clip(self.discriminator)
        for group in self.disc_optimizer.param_groups:
            group["lr"] = disc_rate
        self.disc_optimizer.step()
        # The generator's gradient goes through the discriminator, but the discriminator's own is not needed.
        self.discriminator.requires_grad_(False)
        try:
            parts |= self.portions.run(len(inputs), partial(self._add_gradients, inputs))
        finally:
            self.discriminator.requires_grad_(True)
            self._drawn = None
        self.team.align(self.discriminator)
        parts["grad_norm"] = self._clip(self.network)
        self.optimizer.step(rate, momentum)
        return parts

    def _add_disc_gradients(self, inputs: Inputs, num_samples: Tensor, portions: Sequence[slice]) -> Parts:
        self.discriminator.zero_grad(set_to_none=True)
        self._drawn = self._noise_2B1hw = None
        once = len(portions) == 1
        statistics = [] if once else [buffer.clone() for buffer in self.network.buffers()]
        sums: Parts = {}
        for portion in portions:
            part = inputs[portion]
            with torch.set_grad_enabled(once):
                outputs = self._outputs(part.image_BCHW)
            drawn_BMHW, true_BMHW = _masks(outputs, part.labels_BHW)
            real_B1hw = self._judge(part.image_BCHW, true_BMHW)
            fake_B1hw = self._judge(part.image_BCHW, drawn_BMHW.detach())
            noise_2B1hw = self._noise(fake_B1hw, len(inputs))[:, portion]
            fake = F.binary_cross_entropy_with_logits(fake_B1hw, noise_2B1hw[0])
            real = F.binary_cross_entropy_with_logits(real_B1hw, 1 - noise_2B1hw[1])
            share = len(part) / num_samples
            loss = share * (real + fake) / 2
            loss.backward()  # type: ignore[no-untyped-call]
            parts = {"disc": loss, "disc_real": share * real, "disc_fake": share * fake}
            sums = {name: value.detach() + sums.get(name, 0.0) for name, value in parts.items()}
            if once:
                self._drawn = outputs
        for buffer, before in zip(self.network.buffers(), statistics, strict=not once):
            buffer.copy_(before)  # the generator sees the portions once more
        return sums

    def _reduce_disc_gradients(self) -> None:
        """Add the discriminator's gradients up over the team."""
        if self.team.size > 1:
            gradients = [parameter.grad for parameter in self.discriminator.parameters() if parameter.grad is not None]
            flat = self.team.sum(torch.cat([gradient.flatten() for gradient in gradients]))
            torch._foreach_copy_(
                [gradient.view(-1) for gradient in gradients],
                list(torch.split(flat, [gradient.numel() for gradient in gradients])),
            )

    def _trial_loss(self, outputs: Sequence[Tensor], truth: Truth) -> Tensor:
        own = outputs[0].sum()
        return own + super()._trial_loss(outputs, truth) if self.criterion.names else own

    def _add_gradients(self, inputs: Inputs, portions: Sequence[slice]) -> Parts:
        self.network.zero_grad(set_to_none=True)
        config = self.config.adversarial
        num_samples = self.team.sum(torch.tensor(float(len(inputs)), device=self.device))
        num_labelled = self.team.sum((inputs.labels_BHW != IGNORE).sum()).clamp(min=1)
        drawn, self._drawn = self._drawn, None
        counts_L: Tensor | None = None
        sums: Parts = {}
        for portion in portions:
            part = inputs[portion]
            with self.team.reducing(self._wrapped, portion is portions[-1]):
                outputs = drawn if drawn is not None and len(portions) == 1 else self._outputs(part.image_BCHW)
                drawn_BMHW, true_BMHW = _masks(outputs, part.labels_BHW)
                logits_B1hw = self._judge(part.image_BCHW, drawn_BMHW)
                wanted_B1hw = 1 - self._noise(logits_B1hw, len(inputs))[1, portion]
                share = len(part) / num_samples
                adversarial = F.binary_cross_entropy_with_logits(logits_B1hw, wanted_B1hw) * share
                l1 = config.l1_weight * (drawn_BMHW - true_BMHW).abs().sum() / (num_labelled * drawn_BMHW.shape[1])
                loss, parts = adversarial + l1, {"adversarial": adversarial.detach(), "l1": l1.detach()}
                if self.criterion.names:
                    num_classes = outputs[0].shape[1]
                    if counts_L is None:
                        counts_L = self._counts(inputs, portions, num_classes)
                    truth = self.criterion.truth(part.labels_BHW, num_classes, part.edges_BHW)
                    other, more = self.criterion(outputs, truth, counts_L)
                    loss, parts = loss + other, parts | more
                (loss * self.team.size).backward()  # type: ignore[no-untyped-call]
            parts["loss"] = loss.detach()
            sums = {name: value + sums.get(name, 0.0) for name, value in parts.items()}
        return sums

    def _judge(self, image_BCHW: Tensor, mask_BMHW: Tensor) -> Tensor:
        with self._autocast():
            logits_B1hw: Tensor = self.discriminator(image_BCHW, mask_BMHW)
        return _wide(logits_B1hw)

    def _noise(self, like_B1hw: Tensor, num_samples: int) -> Tensor:
        """Return what the targets of drawn masks (0) and true masks (1) are off by: the same throughout a step."""
        if self._noise_2B1hw is None:
            shape = (num_samples, *like_B1hw.shape[1:])
            draws = [torch.rand(shape, device=like_B1hw.device) for _ in range(2)]
            self._noise_2B1hw = torch.stack(draws).to(like_B1hw.dtype) * self.config.adversarial.label_noise
        return self._noise_2B1hw


def _wide(tensor: Tensor) -> Tensor:
    """Return a tensor in single precision at least."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _masks(outputs: Sequence[Tensor], labels_BHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the drawn and the true mask, within -1..1; both are 0 where nothing is labelled."""
    logits_BKHW = _wide(outputs[0])
    num_classes = logits_BKHW.shape[1]
    known_B1HW = (labels_BHW != IGNORE)[:, None]
    if num_classes == 2:
        true_BMHW = (labels_BHW == 1)[:, None]
    else:
        true_BMHW = torch.stack([labels_BHW == id for id in range(num_classes)], dim=1)
    return soft_mask(logits_BKHW) * known_B1HW, (2.0 * true_BMHW - 1.0) * known_B1HW
