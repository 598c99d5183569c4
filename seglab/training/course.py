"""How far a run is, and what it came to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from seglab.config import TrainConfig
from seglab.errors import ExitCode, SeglabError

__all__ = ["FILES", "Course", "RunResult"]

FILES: Final = {
    "weights": "model.safetensors",
    "graph": "model.onnx",
    "state": "last.pt",
    "metrics": "metrics.jsonl",
    "curves": "curves.png",
    "samples": "samples",
}
"""What a run leaves, by what it is."""


@dataclass
class Course:
    """How far a run is; saved beside the weights."""

    epoch: int = 0
    """Epochs done, their validation included."""
    step: int = 0
    """Steps done of the epoch after those."""
    best_epoch: int = 0
    """The epoch (from 1) whose weights are in the bundle; 0 before the first."""
    best_score: float | None = None
    """Its value of the run's metric; None if that is undefined or nothing is validated."""
    best_scores: dict[str, Any] | None = None
    """All validation scores of that epoch."""
    stale: int = 0
    """Validations since then."""
    seconds: float = 0.0
    """Time spent, all parts of the run together."""
    stopped: str = ""
    """Why the run is finished: ``epochs``, ``steps``, ``time limit`` or ``patience``; empty while it is not."""

    def is_better(self, score: float | None) -> bool:
        """Tell whether weights of some score are to be kept instead of the best so far."""
        if self.best_epoch == 0:
            return True
        return score is not None and (self.best_score is None or score > self.best_score)


@dataclass(frozen=True)
class RunResult:
    """What a finished run came to."""

    run_dir: Path
    """Also the bundle."""
    config: TrainConfig
    course: Course
    graph_difference: float | None = None
    """Largest difference between the exported graph's logits and torch's; None if none was exported now."""
    already_finished: bool = False
    """Whether there was nothing left to do."""
    error: SeglabError | None = None
    """What ended the run before it was finished; None if nothing did."""
    resumed_from: tuple[int, int] | None = None
    """Epochs, and steps of the one after them, that were done when this part of the run began; None at a start."""
    device: str = ""
    """Where it was trained; empty if it was not now."""
    told_elsewhere: bool = False
    """Whether another process of the run tells the user, so that this one need not."""

    @property
    def reason(self) -> str:
        """Why it ended: as :attr:`Course.stopped` says, or ``interrupted``, ``terminated`` or ``error``."""
        if self.error is None:
            return self.course.stopped
        ends = {ExitCode.INTERRUPTED: "interrupted", ExitCode.TERMINATED: "terminated"}
        return ends.get(self.error.exit_code, "error")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: all that a program which started the run needs to know."""
        course, error = self.course, self.error
        return {
            "exit": int(ExitCode.DONE if error is None else error.exit_code),
            "stopped": self.reason,
            "error": None if error is None else error.message,
            "hint": None if error is None else error.hint,
            "run_dir": str(self.run_dir),
            "paths": self._paths(),
            "epochs": course.epoch,
            "seconds": round(course.seconds, 3),
            "device": self.device,
            "resumed_from": dict(zip(("epoch", "step"), self.resumed_from, strict=True)) if self.resumed_from else None,
            "metric": self.config.metric,
            "best_epoch": course.best_epoch,
            "best_score": course.best_score,
            "val": course.best_scores,
            "graph_difference": self.graph_difference,
            "already_finished": self.already_finished,
            "config": self.config.to_dict(),
        }

    def _paths(self) -> dict[str, str]:
        """Return the files that are there, by what they are."""
        return {what: str(self.run_dir / name) for what, name in FILES.items() if (self.run_dir / name).exists()}
