"""Where a run stands, and what the next step takes from that."""

from typing import Any

from seglab.config import TrainConfig
from seglab.training.adversarial import discriminator_rate
from seglab.training.course import Course
from seglab.training.distributed import Accord
from seglab.training.schedule import average_decay, cycled_momentum, learning_rate, step_seed

__all__ = ["Pace"]


class Pace:
    """How much of a run is done, by steps or by time, and its schedules at this point.

    Args:
        config: ``epochs``, ``steps`` and the schedules matter here.
        course: How far the run is; followed as it changes.
        accord: The clock.
        num_steps: Steps of an epoch.
        limit_s: The most seconds of training; None for no limit.
    """

    def __init__(
        self, config: TrainConfig, course: Course, accord: Accord, num_steps: int, limit_s: float | None
    ) -> None:
        self._config = config
        self._course = course
        self._accord = accord
        self._num_steps = num_steps
        self._limit_s = limit_s
        self.total_steps = config.steps or config.epochs * num_steps
        """Steps of the whole run."""
        self.num_epochs = -(-self.total_steps // num_steps)
        """Epochs of the whole run, of which the last may be cut short."""

    @property
    def steps_done(self) -> int:
        """Steps since the beginning of the run."""
        return self._course.epoch * self._num_steps + self._course.step

    @property
    def end(self) -> str:
        """What ends the run if nothing else does."""
        return "steps" if self._config.steps else "epochs"

    @property
    def seconds(self) -> float:
        """Seconds of the run so far, all parts together."""
        return self._accord.seconds

    @property
    def seconds_left(self) -> float:
        """Seconds that the rest will take if it goes on like this."""
        return self.seconds * (1 / max(self.share, 1e-9) - 1)

    @property
    def share(self) -> float:
        """How much of the run is done, 0..1: by steps, or by time if there is a limit and that is more."""
        return self._share_after(self.steps_done)

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return self._rate(self.share)

    @property
    def last_rate(self) -> float:
        """The learning rate of the step before."""
        return self._rate(self._share_after(max(0, self.steps_done - 1)))

    @property
    def disc_rate(self) -> float:
        """The learning rate of the discriminator in the next step."""
        return discriminator_rate(self.share, self._config, self.total_steps / self._num_steps)

    @property
    def last_disc_rate(self) -> float:
        """The learning rate of the discriminator in the step before."""
        share = self._share_after(max(0, self.steps_done - 1))
        return discriminator_rate(share, self._config, self.total_steps / self._num_steps)

    def _rate(self, share: float) -> float:
        return learning_rate(share, self._config, self.total_steps, self.total_steps / self._num_steps)

    def _share_after(self, steps: int) -> float:
        share = steps / self.total_steps
        return min(1.0, share if self._limit_s is None else max(share, self.seconds / self._limit_s))

    def next_step(self, rank: int) -> dict[str, Any]:
        """Return what :meth:`~seglab.training.learner.Learner.step` wants to know beside its batch.

        Args:
            rank: Of the process: each draws numbers of its own.
        """
        config, course = self._config, self._course
        return {
            "rate": self.rate,
            "momentum": cycled_momentum(self.share, config, self.total_steps),
            "disc_rate": self.disc_rate,
            "seed": step_seed(config.seed, course.epoch, course.step) ^ rank,
            "decay": average_decay(self.steps_done, config.ema),
            "num_samples": self._accord.num_samples,
        }
