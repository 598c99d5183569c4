"""The loss of a recipe: a weighted sum of losses by name, over all outputs of a network.

Legend: B batch, K classes, L losses, H W pixels.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from seglab.config import LOSSES, TrainConfig
from seglab.errors import UsageError
from seglab.training.losses.boundary import boundary
from seglab.training.losses.pixelwise import bce, cross_entropy, edge, focal, near_edge
from seglab.training.losses.prediction import Prediction, Truth
from seglab.training.losses.regions import dice, iou, lovasz, tversky, tversky_sum

__all__ = ["Criterion", "check_losses", "mean_loss"]


@dataclass(frozen=True)
class _Loss:
    total: Callable[..., Tensor]
    """The sum, of a :class:`Prediction` and the options."""
    count: Callable[[Truth], Tensor]
    """What divides it."""


def _images(truth: Truth) -> Tensor:
    return truth.num_images


def _pixels(truth: Truth) -> Tensor:
    return truth.num_pixels


def _weights(truth: Truth) -> Tensor:
    return truth.weight_sum


def _nothing(truth: Truth) -> Tensor:
    return torch.ones((), device=truth.labels_BHW.device)


_TABLE: Final[Mapping[str, _Loss]] = {
    "cross_entropy": _Loss(cross_entropy, _weights),
    "focal": _Loss(focal, _weights),
    "bce": _Loss(bce, _pixels),
    "dice": _Loss(dice, _images),
    "iou": _Loss(iou, _images),
    "tversky": _Loss(tversky, _images),
    "tversky_sum": _Loss(tversky_sum, _nothing),
    "lovasz": _Loss(lovasz, _images),
    "boundary": _Loss(boundary, _pixels),
    "near_edge": _Loss(near_edge, _images),
    "edge": _Loss(edge, _images),
}


class Criterion:
    """The loss of a run.

    Args:
        config: ``losses`` and ``output_weights`` matter here.
        class_weights: A number a class for the losses that take it; None for 1.
    """

    def __init__(self, config: TrainConfig, class_weights: Sequence[float] | None = None) -> None:
        self._terms = config.loss_terms()
        self._output_weights = config.output_weights
        self._class_weights = class_weights

    @property
    def names(self) -> tuple[str, ...]:
        """The losses that count, in the order of :meth:`counts`."""
        return tuple(self._terms)

    def truth(self, labels_BHW: Tensor, num_classes: int, edges_BHW: Tensor | None = None) -> Truth:
        """Wrap int64 labels, and edges where they are known, so that what is computed of them is computed once."""
        return Truth(labels_BHW, num_classes, self._class_weights, edges_BHW)

    def counts(self, truth: Truth) -> Tensor:
        """Return (L,) float32 denominators of the losses; those of the parts of a batch add up to those of the whole.

        Only ``tversky_sum``, which is divided by nothing, has a 1 that must not be added up: see :meth:`combine`.
        """
        return torch.stack([_TABLE[name].count(truth).float() for name in self._terms])

    def combine(self, counts: Sequence[Tensor]) -> Tensor:
        """Return the denominators of a batch from those of its parts, in one process or in many."""
        total_L = torch.stack(list(counts)).sum(0)
        for position, name in enumerate(self._terms):
            if _TABLE[name].count is _nothing:
                total_L[position] = 1
        return total_L

    def __call__(
        self, outputs: Sequence[Tensor], truth: Truth, counts_L: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of all outputs of a network, and its parts.

        Where the batch is a part of a larger one, the losses and the gradients of the parts add up to those of the
        whole if all get its counts. DistributedDataParallel averages gradients, so the loss is to be multiplied by the
        number of processes there.

        Args:
            outputs: logits_BKHW, the main output first, then any side outputs. An output of one channel is an edge
                map, which only ``edge`` learns; the first one tells ``near_edge`` where to look.
            truth: The labels.
            counts_L: Denominators; those of this batch by default. A loss without anything labelled is 0.

        Returns:
            The weighted sum, and detached scalars that add up to it: every loss of the main output by name, weighted;
            ``edge``, of all edge maps; and ``aux``, all of the side outputs; and ``loss``, the whole.

        Raises:
            UsageError: If no loss looks at any output.
        """
        counts_L = (self.counts(truth) if counts_L is None else counts_L).clamp(min=1e-6)
        counts = dict(zip(self._terms, counts_L, strict=True))
        # Half precision is too coarse for sums over pixels.
        outputs = [output if output.dtype == torch.float64 else output.float() for output in outputs]
        edge_map_BHW = next((output[:, 0] for output in outputs if _is_edge_map(output)), None)
        parts: dict[str, Tensor] = {}
        terms = []
        for position, logits in enumerate(outputs):
            output_weight = self._output_weights[min(position, len(self._output_weights) - 1)]
            prediction = Prediction(logits, truth, edge_map_BHW)
            for name in self._losses_of(prediction):
                weight, options = self._terms[name]
                terms.append(output_weight * weight * _TABLE[name].total(prediction, **options) / counts[name])
                part = name if position == 0 or name == "edge" else "aux"
                parts[part] = parts.get(part, 0.0) + terms[-1].detach()
        if not terms:
            raise UsageError(
                f"there is nothing to learn: the network has no output for {', '.join(self._terms)}",
                "give another loss a weight in `losses`; `edge` and `near_edge` are for networks with edge maps",
            )
        total = torch.stack(terms).sum()
        parts["loss"] = total.detach()
        parts.setdefault("aux", torch.zeros_like(parts["loss"]))
        return total, parts

    def _losses_of(self, prediction: Prediction) -> list[str]:
        """Return which losses look at an output."""
        if _is_edge_map(prediction.logits_BKHW):
            return [name for name in self._terms if name == "edge"]
        has_map = prediction.edge_logits_BHW is not None
        return [name for name in self._terms if name != "edge" and (has_map or name != "near_edge")]


def check_losses(config: TrainConfig, extras: Collection[str]) -> None:
    """Refuse losses that no output of the network has: they would be passed over.

    Args:
        config: ``losses`` matters here.
        extras: What the network gives beside logits.

    Raises:
        UsageError: If edges are to be learned, or looked at, and the network draws none.
    """
    strange = [name for name in ("edge", "near_edge") if name in config.loss_terms()]
    if strange and "edge" not in extras:
        names = " and ".join(f"`losses.{name}`" for name in strange)
        options = " ".join(f"--set losses.{name}=0" for name in strange)
        verb, them = ("are", "them") if strange[1:] else ("is", "it")
        raise UsageError(
            f"{names} {verb} for networks that draw edges, which `{config.model}` does not",
            f"leave {them} out (`{options}`), or take one that does: `--recipe pgn`",
        )


def _is_edge_map(logits: Tensor) -> bool:
    return logits.shape[1] == 1


def mean_loss(
    name: str,
    logits_BKHW: Tensor,
    labels_BHW: Tensor,
    *,
    class_weights: Sequence[float] | None = None,
    **options: Any,
) -> Tensor:
    """Return one loss of one output, divided by its count; 0 if nothing is labelled.

    Args:
        name: One of :data:`seglab.config.LOSSES`.
        logits_BKHW: Floats.
        labels_BHW: int64 class ids and 255.
        class_weights: A number a class.
        options: Of the loss, instead of their defaults.
    """
    truth = Truth(labels_BHW, logits_BKHW.shape[1], class_weights)
    total = _TABLE[name].total(Prediction(logits_BKHW, truth), **{**LOSSES[name], **options})
    return total / _TABLE[name].count(truth).clamp(min=1e-6)
