"""The part of a run that one process does: steps, validation, saving."""

import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, NoReturn, Protocol

import torch

from seglab.data.loader import TrainingSamples, epoch_batches, plan_epoch
from seglab.data.manifest import Dataset
from seglab.device import Device
from seglab.engines.torch import TorchEngine
from seglab.errors import Interrupted, SeglabError
from seglab.evaluation.evaluate import evaluate
from seglab.evaluation.metrics import metric_names, value
from seglab.evaluation.result import Evaluation
from seglab.inference.predictor import Predictor
from seglab.models.bundle import BundleConfig, save_bundle
from seglab.models.zoo import build
from seglab.tasks import Task
from seglab.training.course import Course, RunResult
from seglab.training.environment import describe_environment, set_up_torch
from seglab.training.journal import Journal
from seglab.training.learner import Learner
from seglab.training.meter import Meter
from seglab.training.rundir import RunDir
from seglab.training.schedule import average_decay, cycled_momentum, learning_rate, step_seed
from seglab.training.settings import RunSettings
from seglab.training.signals import StopRequest
from seglab.training.start import class_weights_of, preprocess_of, start_network

__all__ = ["Assignment", "Session", "Watcher"]

SAVE_EVERY_S: Final = 20.0
"""Seconds between writes of the resume state, at least."""


class Watcher(Protocol):
    """Who follows a run. All texts are plain."""

    def note(self, text: str) -> None:
        """Take a line for the user."""

    def start(self, num_steps: int, done: int) -> None:
        """Learn how many steps there will be, and how many are done already."""

    def step(self, info: str) -> None:
        """Count a step; ``info`` says how things stand."""


@dataclass(frozen=True)
class Assignment:
    """What a session works on and with."""

    settings: RunSettings
    task: Task
    dataset: Dataset
    run: RunDir
    device: Device
    stop: StopRequest
    watcher: Watcher
    workers: int | None = None
    """Threads that make batches; None for as many as there are usable CPUs."""
    accept_noncommercial: bool = False
    """Start with weights that must not be used commercially, too."""


class Session:
    """A network in training, from the beginning of the run or from a saved state."""

    def __init__(self, assignment: Assignment, state: dict[str, Any] | None = None) -> None:
        self._job = assignment
        self._config = config = assignment.settings.config
        dataset = assignment.dataset
        set_up_torch(assignment.device)
        self._preprocess = preprocess_of(config)
        edges = "edge" in config.loss_terms()
        self._samples = TrainingSamples(dataset, "train", self._preprocess, edges=edges)
        self._num_steps = len(plan_epoch(len(self._samples), config.step_size, seed=0, epoch=0))
        self._total_steps = config.steps or config.epochs * self._num_steps
        self._num_epochs = -(-self._total_steps // self._num_steps)
        self._validates = "val" in dataset.splits
        torch.manual_seed(config.seed)
        network = build(config.model, assignment.task.num_classes, **config.model_args)
        self._origins = [] if state is None else list(state.get("origins", []))
        if state is None:
            for origin in start_network(network, config, accept_noncommercial=assignment.accept_noncommercial):
                assignment.watcher.note(origin.line)
                self._origins.append(origin.to_dict())
        if network.extras and not edges:
            assignment.watcher.note(f"no loss trains the outlines of {config.model}: `--recipe pgn` does")
        weights = class_weights_of(config, assignment.task, self._samples.samples)
        self._learner = Learner(network, config, self._preprocess, assignment.device.torch(), class_weights=weights)
        self._course = Course()
        if state is not None:
            self._learner.load_state_dict(state["learner"])
            self._course = Course(**state["course"])
        self._began_s = time.monotonic() - self._course.seconds
        self._saved_s: float | None = None

    def finish(self) -> RunResult:
        """Train, validate and save until the run is finished; write the graph.

        Raises:
            Interrupted: If a signal arrived; everything is saved.
        """
        job, course = self._job, self._course
        describe_environment(job.run.path / "environment.json", job.device, job.dataset)
        self._announce()
        job.watcher.start(self._total_steps, self._steps_done)
        self._journal = Journal(job.run, job.dataset, num_epochs=course.epoch, num_steps=self._steps_done)
        try:
            while not course.stopped:
                self._epoch()
            difference = self._export()
            self._save()
        finally:
            self._journal.close()
        return RunResult(job.run.path, self._config, course, difference)

    @property
    def _steps_done(self) -> int:
        """Steps since the beginning of the run."""
        return self._course.epoch * self._num_steps + self._course.step

    @property
    def _end(self) -> str:
        """What ends the run if nothing else does."""
        return "steps" if self._config.steps else "epochs"

    @property
    def _seconds(self) -> float:
        """Seconds of the run so far, all parts together."""
        return time.monotonic() - self._began_s

    def _share(self) -> float:
        """Return how much of the run is done, 0..1: by steps, or by time if there is a limit and that is more."""
        share = self._steps_done / self._total_steps
        limit_s = self._job.settings.time_limit_s
        return min(1.0, share if limit_s is None else max(share, self._seconds / limit_s))

    def _epoch(self) -> None:
        course, config = self._course, self._config
        if course.epoch < self._num_epochs:
            meter = self._steps()
            ends = self._share() >= 1
            evaluation = None
            if ends or (course.epoch + 1) % config.val_every == 0:
                evaluation = self._validate()
            self._journal.record(self._record(meter, evaluation))
            course.epoch, course.step = course.epoch + 1, 0
            self._learner.begin_epoch()
            if ends:
                course.stopped = self._end if course.epoch >= self._num_epochs else "time limit"
            elif config.patience and course.stale >= config.patience:
                course.stopped = "patience"
        else:  # killed between the last epoch and the end
            course.stopped = self._end
        if self._saved_s is None or time.monotonic() - self._saved_s >= SAVE_EVERY_S:
            self._save()

    def _steps(self) -> Meter:
        """Do the steps that are left of the epoch."""
        course, config, meter = self._course, self._config, Meter()
        batches = epoch_batches(self._samples, config, course.epoch, course.step, workers=self._job.workers)
        for batch in meter.waiting_for(batches):
            self._learner.step(
                batch,
                rate=self._rate(),
                momentum=cycled_momentum(self._share(), config, self._total_steps),
                seed=step_seed(config.seed, course.epoch, course.step),
                decay=average_decay(self._steps_done, config.ema),
            )
            course.step += 1
            meter.num_images += len(batch)
            self._job.watcher.step(self._status(meter))
            if self._job.stop:
                self._interrupt()
            if self._share() >= 1:
                break
        self._learner.check()
        meter.stop()
        return meter

    def _rate(self) -> float:
        epochs = self._total_steps / self._num_steps
        return learning_rate(self._share(), self._config, self._total_steps, epochs)

    def _validate(self) -> Evaluation | None:
        """Score the weights if there is a validation split, keep them if they are the best, draw samples."""
        course, network = self._course, self._learner.best_network
        predictor = self._predictor()
        evaluation = self._evaluate(predictor)
        score = None if evaluation is None else value(evaluation.scores, self._config.metric)
        course.stale += 1
        if evaluation is None or course.is_better(score):
            course.best_epoch, course.best_score, course.stale = course.epoch + 1, score, 0
            course.best_scores = None if evaluation is None else evaluation.scores.to_dict()
            save_bundle(self._job.run.path, self._bundle_config(), network.state_dict())
        self._journal.show(predictor, epoch=course.epoch + 1, step=self._steps_done)
        if evaluation is not None:
            self._report(evaluation, score)
        return evaluation

    def _predictor(self) -> Predictor:
        device = self._job.device
        engine = TorchEngine(self._learner.best_network, self._preprocess, device)
        batch_size = 1 if device.kind == "cpu" else self._config.batch_size
        return Predictor(engine, self._bundle_config(), batch_size=batch_size)

    def _evaluate(self, predictor: Predictor) -> Evaluation | None:
        if not self._validates:
            return None
        try:
            return evaluate(
                predictor, self._job.dataset, "val", task=self._job.task, progress=_raising_on(self._job.stop)
            )
        except _Stopped:
            self._interrupt()

    def _bundle_config(self) -> BundleConfig:
        course, dataset = self._course, self._job.dataset
        counts = {name: len(dataset.split(name)) for name in dataset.splits}
        return BundleConfig(
            task=self._job.task,
            model=self._config.model,
            model_args=dict(self._config.model_args),
            preprocess=self._preprocess,
            data={"source": dataset.source, "digest": dataset.digest, "samples": counts},
            metrics={} if course.best_scores is None else {"val": course.best_scores},
            training={"config": self._config.to_dict(), "epoch": course.epoch + 1, "seconds": round(self._seconds, 1)}
            | ({"start": self._origins} if self._origins else {}),
        )

    def _record(self, meter: Meter, evaluation: Evaluation | None) -> dict[str, Any]:
        record: dict[str, Any] = {
            "epoch": self._course.epoch + 1,
            "step": self._steps_done,
            "seconds": round(self._seconds, 3),
            "lr": self._rate(),
            "train": self._learner.means(),
            "images_per_s": round(meter.images_per_s, 3),
            "data_wait_share": round(meter.wait_share, 4),
        }
        if evaluation is not None:
            record["val"] = {name: value(evaluation.scores, name) for name in metric_names(self._job.task)}
            record["val_failures"] = len(evaluation.failures)
        return record

    def _export(self) -> float | None:
        if not self._job.settings.graph:
            return None
        from seglab.models.export import export_onnx

        try:
            return export_onnx(self._job.run.path)
        except SeglabError as error:
            self._job.watcher.note(f"no graph was exported: {error.message}")
            return None

    def _save(self) -> None:
        self._course.seconds = self._seconds
        state = {"learner": self._learner.state_dict(), "course": asdict(self._course), "origins": self._origins}
        self._job.run.save_state(state)
        self._saved_s = time.monotonic()

    def _interrupt(self) -> NoReturn:
        self._save()
        path = self._job.run.path
        raise Interrupted(
            f"interrupted in epoch {self._course.epoch + 1} of {self._num_epochs}; `{path}` holds all of it",
            f"`seglab train --resume {shlex.quote(str(path))}` continues",
            exit_code=self._job.stop.exit_code,
        )

    def _announce(self) -> None:
        job, config = self._job, self._config
        num_parameters = sum(parameter.numel() for parameter in self._learner.network.parameters())
        num_val = len(job.dataset.split("val")) if self._validates else 0
        job.watcher.note(
            f"train {job.task.name} · {config.model} ({num_parameters / 1e6:.2f} M) at {config.size} px · "
            f"{len(self._samples)} samples, {num_val} to validate · {job.device.name} ({job.device.reason}) · "
            f"{'bf16' if self._learner.mixed else 'fp32'} · {job.run.path}"
        )
        if config.augment.elastic or config.augment.background:
            job.watcher.note("`augment.elastic` and `augment.background` change nothing yet")
        if not self._validates:
            job.watcher.note("there is no validation split: the last weights are kept, not the best")
        if self._steps_done:
            job.watcher.note(f"continuing in epoch {self._course.epoch + 1}, after {self._steps_done} steps")

    def _status(self, meter: Meter) -> str:
        best = self._course.best_score
        score = "" if best is None else f" · best {self._config.metric} {best:.4f}"
        left_s = self._seconds * (1 / max(self._share(), 1e-9) - 1)
        return (
            f"epoch {self._course.epoch + 1}/{self._num_epochs} · loss {self._learner.last_loss:.4f}{score} · "
            f"{meter.images_per_s:.0f} images/s · {_duration(left_s)} left"
        )

    def _report(self, evaluation: Evaluation, score: float | None) -> None:
        failures = f", {len(evaluation.failures)} images could not be scored" if evaluation.failures else ""
        self._job.watcher.note(
            f"epoch {self._course.epoch + 1}: loss {self._learner.means()['loss']:.4f}, "
            f"{self._config.metric} {'undefined' if score is None else format(score, '.4f')}"
            f"{' (best)' if self._course.stale == 0 else ''}{failures}"
        )


class _Stopped(Exception):
    """A signal arrived during validation."""


def _raising_on(stop: StopRequest) -> Callable[[int], None]:
    def check(_count: int) -> None:
        if stop:
            raise _Stopped

    return check


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
