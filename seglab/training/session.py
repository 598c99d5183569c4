"""The part of a run that one process does: steps, validation, saving."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, Final, NoReturn

import torch
from torch import nn

from seglab.data.loader import TrainingSamples, epoch_batches, plan_epoch
from seglab.engines.torch import TorchEngine
from seglab.errors import DataError, Interrupted, SeglabError
from seglab.evaluation.metrics import metric_names, value
from seglab.inference.predictor import Predictor
from seglab.models.bundle import BundleConfig, save_bundle
from seglab.models.segmenter import Segmenter
from seglab.models.zoo import build
from seglab.training.adversarial import make_learner
from seglab.training.assignment import Assignment
from seglab.training.course import Course, RunResult
from seglab.training.distributed import Accord
from seglab.training.environment import describe_environment, set_up_torch
from seglab.training.journal import Journal
from seglab.training.learner import NonFiniteError
from seglab.training.loggers import WandbLogger
from seglab.training.losses import check_losses
from seglab.training.meter import Meter
from seglab.training.notices import cannot_write, duration, opening, resume_command, spoilt
from seglab.training.pace import Pace
from seglab.training.start import class_weights_of, preprocess_of, start_network
from seglab.training.validation import Validation, validate

__all__ = ["Session"]

SAVE_EVERY_S: Final = 20.0
"""Seconds between writes of the resume state, at least."""


class Session:
    """A network in training, from the beginning of the run or from a saved state."""

    def __init__(self, assignment: Assignment, state: dict[str, Any] | None = None) -> None:
        self._job = assignment
        self._team = assignment.team
        self._config = config = assignment.settings.config
        dataset = assignment.dataset
        set_up_torch(assignment.device)
        self._preprocess = preprocess_of(config)
        edges = "edge" in config.loss_terms()
        self._samples = TrainingSamples(
            dataset, "train", self._preprocess, cache=assignment.cache, edges=edges, say=assignment.watcher.note
        )
        self._val_split = "train" if config.overfit else "val"
        self._validates = self._val_split in dataset.splits
        network, weights = self._build()
        check_losses(config, network.extras)
        self._origins = [] if state is None else list(state.get("origins", []))
        if state is None:
            self._start(network)
        if network.extras and not edges:
            assignment.watcher.note(f"no loss trains the outlines of {config.model}: `--recipe pgn` does")
        self._learner = make_learner(
            network, config, self._preprocess, assignment.device.torch(),
            num_classes=assignment.task.num_classes, class_weights=weights, tell=assignment.watcher.note,
            team=self._team,
        )  # fmt: skip
        self._course = Course()
        self._saved_epoch = 0
        self._resumed_from: tuple[int, int] | None = None
        if state is not None:
            self._restore(state)
        self._accord = Accord(self._team, assignment.stop, self._course.seconds)
        num_steps = len(plan_epoch(len(self._samples), config.step_size, seed=0, epoch=0, world=self._team.size))
        limit_s = assignment.settings.time_limit_s
        self._pace = Pace(config, self._course, self._accord, num_steps, limit_s)
        self._saved_s: float | None = None

    def finish(self) -> RunResult:
        """Train, validate and save until the run is finished; write the graph.

        Raises:
            Interrupted: If a signal arrived; everything is saved.
        """
        job, course = self._job, self._course
        self._announce()
        job.watcher.start(self._pace.total_steps, self._pace.steps_done)
        self._journal: Journal | None = None
        if self._team.is_first:
            describe_environment(job.run.path / "environment.json", job.device, job.dataset)
            with self._writing():
                self._journal = self._open_journal()
        try:
            while not course.stopped:
                self._epoch()
            difference = self._export()
            self._save()
        except NonFiniteError as error:
            raise self._team.everywhere(self._spoilt(error)) from None
        finally:
            if self._journal is not None:
                self._journal.close()
        return replace(self.result(), graph_difference=difference)

    def result(self, error: SeglabError | None = None) -> RunResult:
        """Return what the run came to so far.

        Args:
            error: What ended it, if it is not finished.
        """
        return RunResult(
            self._job.run.path, self._config, self._course, error=error, resumed_from=self._resumed_from,
            device=self._job.device.name, told_elsewhere=not self._team.is_first,
        )  # fmt: skip

    def _open_journal(self) -> Journal:
        job, course = self._job, self._course
        extra = [WandbLogger(job.run.path, self._config.to_dict())] if job.settings.logger == "wandb" else []
        return Journal(
            job.run, job.dataset, split=self._val_split, metric=self._config.metric,
            num_epochs=course.epoch, num_steps=self._pace.steps_done, loggers=extra,
        )  # fmt: skip

    def _build(self) -> tuple[Segmenter, Sequence[float] | None]:
        """Return the network with weights drawn by the seed, and the weights of the classes."""
        job, config = self._job, self._config
        torch.manual_seed(config.seed)
        with self._team.together():
            network = build(config.model, job.task.num_classes, **config.model_args)
            weights = class_weights_of(config, job.task, self._samples.samples)
            if weights is not None and config.class_weights == "auto":
                told = (f"{name} {weight:.3g}" for name, weight in zip(job.task.classes, weights, strict=True))
                job.watcher.note(f"class weights: {', '.join(told)}")
        return network, weights

    def _start(self, network: nn.Module) -> None:
        """Give the network the weights that it starts with; the first process gives the others its own."""
        job = self._job
        with self._team.together():
            if not self._team.is_first:
                return
            name = job.dataset.task.name
            for origin in start_network(network, self._config, name, accept_noncommercial=job.accept_noncommercial):
                job.watcher.note(origin.line)
                self._origins.append(origin.to_dict())

    def _restore(self, state: dict[str, Any]) -> None:
        try:
            self._learner.load_state_dict(state["learner"])
            self._course = Course(**state["course"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise self._job.run.damaged("it does not fit the network and the settings of the run") from error
        self._saved_epoch = self._course.epoch
        self._resumed_from = self._course.epoch, self._course.step

    def _epoch(self) -> None:
        course, config = self._course, self._config
        if course.epoch < self._pace.num_epochs:
            meter = self._steps()
            ends = self._pace.share >= 1
            evaluation = None
            if ends or (course.epoch + 1) % config.val_every == 0:
                evaluation = self._validate()
            if self._journal is not None:
                with self._writing():
                    self._journal.record(self._record(meter, evaluation))
            course.epoch, course.step = course.epoch + 1, 0
            self._learner.begin_epoch()
            if ends:
                course.stopped = self._pace.end if course.epoch >= self._pace.num_epochs else "time limit"
            elif config.patience and course.stale >= config.patience:
                course.stopped = "patience"
        else:  # killed between the last epoch and the end
            course.stopped = self._pace.end
        if self._saved_s is None or self._pace.seconds - self._saved_s >= SAVE_EVERY_S:
            self._save()

    def _steps(self) -> Meter:
        """Do the steps that are left of the epoch."""
        course, config, meter, team = self._course, self._config, Meter(), self._team
        workers = team.num_workers if self._job.workers is None else self._job.workers
        batches = epoch_batches(
            self._samples, config, course.epoch, course.step, workers=workers, rank=team.rank, world=team.size
        )
        for batch in self._accord.each(meter.waiting_for(batches)):
            self._learner.step(batch, **self._pace.next_step(team.rank))
            course.step += 1
            meter.num_images += self._accord.num_samples
            self._job.watcher.step(self._status(meter))
            if self._accord.must_stop:
                self._interrupt()
            if self._pace.share >= 1:
                break
        self._learner.check_weights()
        meter.stop()
        return meter

    def _validate(self) -> Validation | None:
        """Score the weights if there is a validation split, keep them if they are the best, draw samples."""
        course, network = self._course, self._learner.best_network
        predictor = self._predictor()
        evaluation = self._evaluate(predictor)
        score = None if evaluation is None else value(evaluation.scores, self._config.metric)
        course.stale += 1
        if evaluation is None or course.is_better(score):
            course.best_epoch, course.best_score, course.stale = course.epoch + 1, score, 0
            course.best_scores = None if evaluation is None else evaluation.scores.to_dict()
            if self._team.is_first:
                with self._writing():
                    save_bundle(self._job.run.path, self._bundle_config(), network.state_dict())
        if self._journal is not None:
            with self._writing():
                self._journal.show(predictor, epoch=course.epoch + 1, step=self._pace.steps_done)
        if evaluation is not None:
            self._report(evaluation, score)
        return evaluation

    def _predictor(self) -> Predictor:
        device = self._job.device
        engine = TorchEngine(self._learner.best_network, self._preprocess, device)
        batch_size = 1 if device.kind == "cpu" else self._config.batch_size
        return Predictor(engine, self._bundle_config(), batch_size=batch_size)

    def _evaluate(self, predictor: Predictor) -> Validation | None:
        if not self._validates:
            return None
        evaluation = validate(predictor, self._job, self._val_split, self._accord)
        if evaluation is None:
            self._interrupt()
        return evaluation

    def _bundle_config(self) -> BundleConfig:
        course, dataset = self._course, self._job.dataset
        counts = {name: len(dataset.split(name)) for name in dataset.splits}
        return BundleConfig(
            task=self._job.task,
            model=self._config.model,
            model_args=dict(self._config.model_args),
            preprocess=self._preprocess,
            data={"source": dataset.source, "digest": dataset.digest, "samples": counts},
            metrics={} if course.best_scores is None else {self._val_split: course.best_scores},
            training={
                "config": self._config.to_dict(),
                "epoch": course.epoch + 1,
                "seconds": round(self._pace.seconds, 1),
            }
            | ({"start": self._origins} if self._origins else {}),
        )

    def _record(self, meter: Meter, evaluation: Validation | None) -> dict[str, Any]:
        record: dict[str, Any] = {
            "epoch": self._course.epoch + 1,
            "step": self._pace.steps_done,
            "seconds": round(self._pace.seconds, 3),
            "lr": self._pace.last_rate,
            "train": self._learner.means(),
            "images_per_s": round(meter.images_per_s, 3),
            "data_wait_share": round(meter.wait_share, 4),
        }
        if self._config.trainer == "adversarial":
            record["disc_lr"] = self._pace.last_disc_rate
        if evaluation is not None:
            record["val"] = {name: value(evaluation.scores, name) for name in metric_names(self._job.task)}
            record["val_failures"] = len(evaluation.failures)
        return record

    def _export(self) -> float | None:
        if not self._job.settings.graph or not self._team.is_first:
            return None
        from seglab.models.export import export_onnx

        try:
            return export_onnx(self._job.run.path)
        except SeglabError as error:
            self._job.watcher.note(f"no graph was exported: {error.message}")
            return None

    def _save(self) -> None:
        self._course.seconds = self._pace.seconds
        state = {"learner": self._learner.state_dict(), "course": asdict(self._course), "origins": self._origins}
        if self._team.is_first:
            with self._writing():
                self._job.run.save_state(state)
        self._saved_s, self._saved_epoch = self._course.seconds, self._course.epoch

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Say what survives if something cannot be written."""
        try:
            yield
        except DataError as error:
            raise cannot_write(error, self._job.run.path, self._saved_epoch) from error

    def _spoilt(self, error: NonFiniteError) -> NonFiniteError:
        dataset = self._job.dataset
        paths = {sample.id: dataset.image_path(sample) for sample in self._samples.samples}
        photos = [paths[id] for id in error.ids]
        return spoilt(error, self._config, self._job.run.path, photos, self._course.epoch + 1, self._saved_epoch)

    def _interrupt(self) -> NoReturn:
        self._save()
        path = self._job.run.path
        error = Interrupted(
            f"interrupted in epoch {self._course.epoch + 1} of {self._pace.num_epochs}; `{path}` holds all of it",
            f"{resume_command(path)} continues",
            exit_code=self._job.stop.exit_code,
        )
        raise self._team.everywhere(error)

    def _announce(self) -> None:
        job = self._job
        num_val = len(job.dataset.split(self._val_split)) if self._validates else 0
        for line in opening(job, self._learner, num_samples=len(self._samples), num_val=num_val):
            job.watcher.note(line)
        if self._pace.steps_done:
            job.watcher.note(f"continuing in epoch {self._course.epoch + 1}, after {self._pace.steps_done} steps")

    def _status(self, meter: Meter) -> str:
        best = self._course.best_score
        score = "" if best is None else f" · best {self._config.metric} {best:.4f}"
        return (
            f"epoch {self._course.epoch + 1}/{self._pace.num_epochs} · loss {self._learner.last_loss:.4f}{score} · "
            f"{meter.images_per_s:.0f} images/s · {duration(self._pace.seconds_left)} left"
        )

    def _report(self, evaluation: Validation, score: float | None) -> None:
        num, failures = len(evaluation.failures), ""
        if num:
            first = evaluation.failures[0]
            failures = f", {num} image{'s' * (num > 1)} could not be scored (`{first.id}`: {first.reason})"
        self._job.watcher.note(
            f"epoch {self._course.epoch + 1}: loss {self._learner.means()['loss']:.4f}, "
            f"{self._config.metric} {'undefined' if score is None else format(score, '.4f')}"
            f"{' (best)' if self._course.stale == 0 else ''}{failures}"
        )
