"""Whose way of using weights is followed: ours, or that of the code that they were published with."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from seglab.errors import UsageError, unknown

if TYPE_CHECKING:
    from seglab.engines import EngineChoice
    from seglab.inference.fidelity import Road
    from seglab.models.bundle import BundleConfig
    from seglab.models.originals import Original

__all__ = ["FIDELITIES", "VIEWS", "Manner"]

FIDELITIES: Final = ("seglab", "original")
"""What ``--fidelity`` takes."""
NORMALISATIONS: Final = ("running", "batch")
"""What ``--bn`` takes: statistics collected in training, or those of the photo at hand."""
VIEWS: Final = ("none", "flip", "multiscale")
"""What ``--tta`` takes: one look, a mirrored one too, or three sizes and their mirrors."""


@dataclass(frozen=True)
class Manner:
    """How a model is used, where there is more than one way.

    Raises:
        UsageError: If there is no such fidelity or statistics.
    """

    fidelity: str = "seglab"
    """``seglab`` or ``original``: who brings photos to the network and masks back."""
    bn: str | None = None
    """``running`` or ``batch``; None is running, but where the original's code has no such mode."""
    tta: str = "none"
    """How often the network looks: one of :data:`VIEWS`; see :mod:`seglab.inference.views`."""

    def __post_init__(self) -> None:
        if self.fidelity not in FIDELITIES:
            raise unknown("fidelity", self.fidelity, FIDELITIES)
        if self.tta not in VIEWS:
            raise unknown("choice of `--tta`", self.tta, VIEWS)
        if self.bn is not None and self.bn not in NORMALISATIONS:
            raise unknown("choice of `--bn`", self.bn, NORMALISATIONS)

    @property
    def settings(self) -> dict[str, Any]:
        """What of it decides over outputs and is not the default, as plain JSON values."""
        given = {"fidelity": self.fidelity, "bn": self.bn, "tta": self.tta}
        return {name: value for name, value in given.items() if value not in ("seglab", "running", "none", None)}

    def apply(self, config: "BundleConfig", choice: "EngineChoice") -> "tuple[Road, EngineChoice]":
        """Return the road that photos take, and the engine that can follow it.

        Raises:
            UsageError: If the weights are not from an original whose way could be followed, or the engine cannot.
        """
        from seglab.inference.fidelity import ROADS, SEGLAB

        original = _original(config)
        if self.fidelity == "seglab":
            return SEGLAB, replace(choice, bn=self.bn or "running")
        if original is None:
            raise UsageError(
                "`--fidelity original` needs weights that one of the originals published",
                "leave it out, or name such a checkpoint, or a bundle that `seglab models import` made of one",
            )
        bn = self.bn or ("batch" if original.batch_statistics else "running")
        exact = original.road == "multiples"
        road = "scaled" if exact and bn == "running" else original.road
        return ROADS[road], replace(choice, bn=bn, as_published=exact)

    def describe(self, config: "BundleConfig") -> str:
        """Return in a line what published weights were taken for and how they are used; empty for weights of ours."""
        original = _original(config)
        if original is None:
            return ""
        said = f"recognised by its tensors: {original.title} ({original.repository}), `{config.model}`"
        said += f", {config.task.num_classes} classes ({config.task.name})"
        if original.note:
            said += f"; {original.note}"
        return said + ("; used as its own code does" if self.fidelity == "original" else "")


def _original(config: "BundleConfig") -> "Original | None":
    published = getattr(config, "published", "")
    if not published:
        return None
    from seglab.models.originals import ORIGINALS

    return ORIGINALS.get(published)
