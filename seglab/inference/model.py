"""Which model answers: the one that was named, or the one that comes with seglab for a task."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import seglab
from seglab.device import Device
from seglab.errors import DataError, UsageError
from seglab.inference.predictor import Predictor
from seglab.tasks import Task, load_task

if TYPE_CHECKING:
    from seglab.models.bundle import BundleConfig

__all__ = ["Model", "choose_model"]


@dataclass(frozen=True)
class Model:
    """A model that is found and described, but not loaded yet."""

    path: Path
    config: "BundleConfig"

    def open(self, device: Device, *, engine: str = "auto", batch_size: int = 1) -> Predictor:
        """Load it.

        Raises:
            DeviceError: If the engine or the device cannot run it.
            DataError: If its weights are broken.
        """
        from seglab.engines import open_engine

        opened, config = open_engine(self.path, device, engine)
        return Predictor(opened, config, batch_size=batch_size)


def choose_model(task: str | None, model: str | None) -> Model:
    """Find the model for a command.

    Args:
        task: Name or TOML file of the task that is wanted; None takes what the model was trained for.
        model: A run, a bundle or an ``.onnx`` file; None takes the model that comes with seglab for the task.

    Raises:
        UsageError: If neither is given, or there is no such task.
        DataError: If the model is not there, or was trained for another task.
    """
    from seglab.models.bundle import find_model, read_config

    if task is None and model is None:
        raise UsageError("neither a task nor a model is named", "`--model RUN` takes one of your own training runs")
    wanted = None if task is None else load_task(task)
    path = find_model(model) if model is not None else _embedded(wanted)
    config = read_config(path)
    if wanted is not None and not _same(wanted, config.task):
        raise DataError(
            f"`{path}` segments `{config.task.name}`, but the task is `{wanted.name}`",
            f"leave `--task` out, or name a model trained on `{wanted.name}`",
        )
    return Model(path, config)


def _same(wanted: Task, trained: Task) -> bool:
    return wanted.name == trained.name and wanted.same_labels(trained)


def _embedded(task: Task | None) -> Path:
    assert task is not None
    path = Path(seglab.__file__).parent / "weights" / task.name
    if not path.is_dir():
        raise DataError(
            f"no model for task `{task.name}`",
            f"`seglab train --task {task.name} --data DIR` trains one; then name it with `--model RUN`",
        )
    return path
