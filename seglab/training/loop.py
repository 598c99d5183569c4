"""Train: start a run, or continue one, and bring it to its end."""

import shlex
from pathlib import Path

from seglab.config import TrainConfig
from seglab.data.manifest import Dataset
from seglab.device import Device
from seglab.errors import DataError, UsageError, unknown
from seglab.evaluation.evaluate import check_same_labels
from seglab.evaluation.metrics import metric_names
from seglab.tasks import Task
from seglab.training.course import Course, RunResult
from seglab.training.rundir import claim_run
from seglab.training.session import Assignment, Session, Watcher
from seglab.training.settings import RunSettings, has_run, read_settings
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
) -> RunResult:
    """Train a model, and leave it in ``run_dir`` as a bundle.

    On the CPU, with the same number of threads, the result does not depend on interruptions: a run that was killed and
    resumed ends with the same bits as an undisturbed one, unless it has a time limit.

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

    Raises:
        Interrupted: After SIGINT or SIGTERM; the state is saved, and the hint continues the run.
        DataError: If task and dataset differ, the dataset is not the one that the run was started with, a sample cannot
            be read, the weights to start with do not fit, or the loss becomes infinite or NaN.
        UsageError: If a run is there and ``resume`` is not set, the run was started with another configuration, the
            model or metric is unknown, or terms of weights have not been accepted.
        BusyError: If another process is running it.
    """
    task = task or dataset.task
    check_same_labels("the task", task, dataset)
    dataset.split("train")
    if config.trainer == "adversarial":
        raise UsageError("there is no adversarial trainer yet", "`--set trainer=supervised` with some `losses` trains")
    if config.metric not in metric_names(task):
        raise unknown(f"metric of task `{task.name}`", config.metric, metric_names(task))
    settings = RunSettings(config, task.to_dict(), dataset.dir.resolve(), dataset.digest, graph, time_limit_s)
    with claim_run(run_dir, resume=resume) as run, stop_request() as stop:
        began = has_run(run_dir)
        if began:
            _refuse_changes(run_dir, read_settings(run_dir), settings)
        state = run.load_state()
        if state is not None and state["course"]["stopped"]:
            return RunResult(run_dir, config, Course(**state["course"]), already_finished=True)
        assignment = Assignment(
            settings, task, dataset, run, device, stop, watcher or _Nobody(), workers,
            accept_noncommercial=accept_noncommercial or began,  # who began the run had accepted its terms
        )  # fmt: skip
        session = Session(assignment, state)  # refuses what cannot be built before anything is written
        run.save_settings(settings)
        return session.finish()


def _refuse_changes(run_dir: Path, old: RunSettings, new: RunSettings) -> None:
    """Make sure that a run continues as what it began; place of the data, time limit and graph may change."""
    changes = old.config.changes(new.config)
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
