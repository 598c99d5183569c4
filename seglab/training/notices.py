"""What a run tells its user: at the beginning, and at an end that nobody wanted. All texts are plain."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seglab.config import TrainConfig
from seglab.errors import DataError
from seglab.training.learner import Learner, NonFiniteError

if TYPE_CHECKING:
    from seglab.training.assignment import Assignment

__all__ = ["cannot_write", "duration", "goes_on", "opening", "resume_command", "spoilt"]


def opening(job: "Assignment", learner: Learner, *, num_samples: int, num_val: int) -> Iterator[str]:
    """Yield lines that say what begins.

    Args:
        job: What the run works on and with.
        learner: What learns.
        num_samples: Samples to learn from.
        num_val: Samples to validate on; 0 if there are none.
    """
    config, size = job.settings.config, job.team.size
    num_parameters = sum(parameter.numel() for parameter in learner.network.parameters())
    yield (
        f"train {job.task.name} · {config.model} ({num_parameters / 1e6:.2f} M) at {config.size} px · "
        f"{num_samples} samples, {num_val} to validate · {job.device.name} ({job.device.reason}) · "
        f"{'bf16' if learner.mixed else 'fp32'} · {job.run.path}"
    )
    if size > 1:
        samples = f"{config.step_size} samples each a step, {size * config.step_size} in all"
        yield f"{size} processes, {samples}; the learning rate is that of the settings"
    if config.overfit:
        yield (
            "overfit: these few samples, as they are, serve to train and to validate; "
            "it shows whether the network can learn them, and the model is good for nothing else"
        )
    if config.compile:
        yield "torch compiles the network during the first steps, which takes a minute or more"
    if not num_val:
        yield "there is no validation split: the last weights are kept, not the best"


def resume_command(run_dir: Path, options: str = "") -> str:
    """Return the command that continues a run, in backticks."""
    return f"`seglab train --resume {shlex.quote(str(run_dir))}{options}`"


def goes_on(saved_epoch: int) -> str:
    """Say where a run that is resumed begins, given the epoch that was saved last; 0 for none."""
    return f"goes on after epoch {saved_epoch}" if saved_epoch else "starts again"


def spoilt(
    error: NonFiniteError, config: TrainConfig, run_dir: Path, photos: Sequence[Path], epoch: int, saved_epoch: int
) -> NonFiniteError:
    """Return an error that says which photos a loss that is no number came of, and how to go on from what was saved.

    Args:
        error: What the learner found.
        config: The run's settings.
        run_dir: The run.
        photos: The photos of the step.
        epoch: The epoch, from 1.
        saved_epoch: The epoch that was saved last; 0 for none.
    """
    names = ", ".join(f"`{path}`" for path in photos)
    again = resume_command(run_dir, f" --lr {config.lr / 2:g}")
    return NonFiniteError(
        f"{error.message} in epoch {epoch}, on {names}",
        f"look at these photos and their labels; {again} {goes_on(saved_epoch)}, with half the learning rate",
        ids=error.ids,
    )


def cannot_write(error: DataError, run_dir: Path, saved_epoch: int) -> DataError:
    """Return an error that says that what was saved before is untouched, and how to go on from it."""
    kept = "nothing was saved before" if not saved_epoch else f"what was saved after epoch {saved_epoch} is untouched"
    return DataError(
        f"{error.message}; {kept}",
        f"free some space, or see to the permissions; then {resume_command(run_dir)} {goes_on(saved_epoch)}",
    )


def duration(seconds: float) -> str:
    """Return a length of time as people say it."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
