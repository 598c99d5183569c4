"""Train: start a run, or continue one, and bring it to its end."""

import shlex
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from seglab.config import TrainConfig
from seglab.data.manifest import Dataset
from seglab.device import Device
from seglab.errors import DataError, SeglabError, UsageError, unknown
from seglab.evaluation.evaluate import check_same_labels
from seglab.evaluation.metrics import metric_names
from seglab.strengths import PRESETS
from seglab.tasks import Task
from seglab.training.assignment import Assignment, Watcher
from seglab.training.course import Course, RunResult
from seglab.training.distributed import Team, join_team, launch_name, was_restarted
from seglab.training.loggers import WandbLogger
from seglab.training.rundir import RunDir, claim_run
from seglab.training.session import Session
from seglab.training.settings import LOGGERS, RunSettings, has_run, read_settings
from seglab.training.signals import stop_request

__all__ = ["RunResult", "Watcher", "train"]


class _Nobody:
    """Follows nothing."""

    def note(self, text: str) -> None:
        pass

    def start(self, num_steps: int, done: int) -> None:
        pass

    def step(self, info: str) -> None:
        pass


def train(
    config: TrainConfig,
    dataset: Dataset,
    run_dir: Path,
    device: Device,
    *,
    task: Task | None = None,
    resume: bool = False,
    time_limit_s: float | None = None,
    graph: bool = True,
    workers: int | None = None,
    watcher: Watcher | None = None,
    accept_noncommercial: bool = False,
    cache: str = "auto",
    logger: str = LOGGERS[0],
    on_end: Callable[[RunResult], None] = lambda _result: None,
) -> RunResult:
    """Train a model, and leave it in ``run_dir`` as a bundle.

    On the CPU, with the same number of threads, the result does not depend on interruptions: a run that was killed and
    resumed ends with the same bits as an undisturbed one, unless it has a time limit.

    Under torchrun, all processes call this alike, each with its device. They train together, each on batches of
    ``config.batch_size``; the first alone writes and has the watcher.

    Args:
        config: What to compute.
        dataset: A prepared dataset. Without a validation split the last weights are kept, not the best.
        run_dir: Where the run lives: see :mod:`seglab.training.rundir`.
        device: Where to train.
        task: The label space with the regions, levels and colours wanted; the dataset's by default.
        resume: Continue the run in ``run_dir`` if there is one.
        time_limit_s: End in good order after so many seconds of training, all parts of the run together. The learning
            rate then falls to zero with the time, or with the epochs where they are faster. The last validation and
            the graph come on top.
        graph: Export ``model.onnx`` at the end.
        workers: Threads that make batches; by default as many as there are usable CPUs.
        watcher: Told about progress.
        accept_noncommercial: Start with weights that must not be used commercially, if the configuration names such.
        cache: Where decoded samples are kept between epochs: ``auto``, ``ram``, ``disk`` or ``none``. Changes nothing
            but the time.
        logger: Who is told beside the run directory: one of :data:`~seglab.training.settings.LOGGERS`.
        on_end: Called with what a run came to that ends by an error or a signal, before that is raised.

    Raises:
        Interrupted: After SIGINT or SIGTERM; the state is saved, and the hint continues the run.
        DataError: If task and dataset differ, the dataset is not the one that the run was started with, a sample cannot
            be read, the weights to start with do not fit, or the loss becomes infinite or NaN.
        UsageError: If a run is there and ``resume`` is not set, the run was started with another configuration, the
            model or metric is unknown, or terms of weights have not been accepted.
        BusyError: If another process is running it.
        DeviceError: If memory does not suffice, or a package for ``logger`` is not installed.
    """
    task = task or dataset.task
    _check_asked(config, dataset, task, logger)
    if config.overfit:
        dataset = replace(dataset, samples=tuple(dataset.split("train")[: config.overfit]))
        config = replace(config, augment=PRESETS["none"])
    watcher = watcher or _Nobody()
    launch = launch_name()
    settings = RunSettings(
        config, task.to_dict(), dataset.dir.resolve(), dataset.digest, graph, time_limit_s, logger, launch
    )
    with ExitStack() as stack:
        team = stack.enter_context(join_team(device))
        stop = stack.enter_context(stop_request(patient=bool(launch)))
        if not team.is_first:
            watcher = _Nobody()
        _refuse_team(settings, team)
        run, state, began = RunDir(run_dir), None, False
        with team.together():
            if team.is_first:
                resume = resume or _is_our_restart(run_dir, launch)
                run = stack.enter_context(claim_run(run_dir, resume=resume))
                state, began = _find_state(run, settings, watcher) if resume else (None, False)
        state = team.share_state(state)
        if state is not None and state["course"]["stopped"]:
            course = Course(**state["course"])
            began_as = read_settings(run_dir).config
            return RunResult(run_dir, began_as, course, already_finished=True, told_elsewhere=not team.is_first)
        assignment = Assignment(
            settings, task, dataset, run, device, stop, watcher, workers, team,
            accept_noncommercial=accept_noncommercial or began,  # who began the run had accepted its terms
            cache=cache,
        )  # fmt: skip
        session = Session(assignment, state)  # refuses what cannot be built before anything is written
        if team.is_first:
            run.save_settings(settings)
        try:
            return session.finish()
        except SeglabError as error:
            on_end(session.result(error))
            raise


def _find_state(run: RunDir, settings: RunSettings, watcher: Watcher) -> tuple[dict[str, Any] | None, bool]:
    """Return the state to continue from, if one was saved, and whether the run began before.

    Raises:
        UsageError: If it began as something else.
        DataError: If the data is another, or the state is damaged.
    """
    began = has_run(run.path)
    changes = _refuse_changes(run.path, read_settings(run.path), settings) if began else []
    state = run.load_state()
    is_over = state is not None and state["course"]["stopped"]
    for change in changes:
        told = "without effect, as the run is finished" if is_over else "continuing otherwise than before"
        watcher.note(f"{told}: {change}")
    if changes and is_over:
        init = f"`seglab train --init {shlex.quote(str(run.path))} --out NEW ...`"
        watcher.note(f"a new run goes on from its weights: {init}")
    return state, began


def _check_asked(config: TrainConfig, dataset: Dataset, task: Task, logger: str) -> None:
    """Refuse what needs no network to be seen: a logger, classes, a split or a metric that are not there."""
    if logger not in LOGGERS:
        raise unknown("logger", logger, LOGGERS)
    if logger == "wandb":
        WandbLogger.require()
    check_same_labels("the task", task, dataset)
    dataset.split("train")
    if config.metric not in metric_names(task):
        raise unknown(f"metric of task `{task.name}`", config.metric, metric_names(task))


def _refuse_team(settings: RunSettings, team: Team) -> None:
    """Make sure that all processes do the same."""
    own = {"the data": settings.digest, "the time limit": settings.time_limit_s, "the task": dict(settings.task)}
    team.check_same({f"`{name}`": value for name, value in settings.config.to_dict().items()} | own)


def _is_our_restart(run_dir: Path, launch: str) -> bool:
    """Tell whether torchrun starts processes anew that had begun the run, which then goes on unasked."""
    return was_restarted() and has_run(run_dir) and read_settings(run_dir).launch == launch


def _refuse_changes(run_dir: Path, old: RunSettings, new: RunSettings) -> list[str]:
    """Make sure that a run continues as what it began.

    Place of the data, time limit and graph may change, and what helps where a run failed: see :func:`_settled`.

    Returns:
        What of the configuration changes.
    """
    changes = _settled(old.config).changes(_settled(new.config))
    if old.task["classes"] != new.task["classes"]:
        changes.append(f"the task was `{old.task['name']}` and is now `{new.task['name']}`")
    if changes:
        raise UsageError(
            f"the run in `{run_dir}` was started otherwise: {'; '.join(changes)}",
            f"`seglab train --resume {shlex.quote(str(run_dir))}` continues it as it was; `--out` names another folder",
        )
    if old.digest != new.digest:
        raise DataError(
            f"the run in `{run_dir}` was started with other data than `{new.data_dir}` now holds",
            "start a new run with `--out DIR`",
        )
    return old.config.changes(new.config)


def _settled(config: TrainConfig) -> TrainConfig:
    """Return a configuration without what may change in the course of a run."""
    adversarial = replace(config.adversarial, disc_lr=1.0)
    return replace(config, lr=1.0, clip=1.0, adversarial=adversarial, halve_batches=False, layout="auto", compile=False)
