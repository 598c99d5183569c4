"""How far a run is, and what it came to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seglab.config import TrainConfig

__all__ = ["Course", "RunResult"]


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
    told_elsewhere: bool = False
    """Whether another process of the run tells the user, so that this one need not."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "run_dir": str(self.run_dir),
            "epochs": self.course.epoch,
            "seconds": round(self.course.seconds, 3),
            "stopped": self.course.stopped,
            "metric": self.config.metric,
            "best_epoch": self.course.best_epoch,
            "best_score": self.course.best_score,
            "val": self.course.best_scores,
            "graph_difference": self.graph_difference,
            "already_finished": self.already_finished,
            "config": self.config.to_dict(),
        }
