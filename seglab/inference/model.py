"""Which model answers: the one that was named, or the one that comes with seglab for a task."""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seglab.device import Device
from seglab.errors import DataError, UsageError
from seglab.inference.manner import Manner
from seglab.inference.predictor import Predictor
from seglab.tasks import Task, load_task

if TYPE_CHECKING:
    from seglab.engines import EngineChoice
    from seglab.models.bundle import BundleConfig

__all__ = ["Model", "choose_model"]


@dataclass(frozen=True)
class Model:
    """A model that is found and described, but not loaded yet."""

    path: Path
    config: "BundleConfig"
    manner: Manner = field(default_factory=Manner, kw_only=True)
    """Whose way of using it is followed."""

    @property
    def identity(self) -> dict[str, Any]:
        """What the answers depend on, as plain JSON values."""
        return {"model": self.config.save_id, **self.manner.settings}

    def open(self, device: Device, *, engine: "str | EngineChoice" = "auto", batch_size: int = 1) -> Predictor:
        """Load it.

        Raises:
            DeviceError: If the engine or the device cannot run it.
            DataError: If its weights are broken.
            UsageError: If it cannot be used in that manner.
        """
        from seglab.engines import EngineChoice, open_engine

        choice = EngineChoice(engine) if isinstance(engine, str) else engine
        road, choice = self.manner.apply(self.config, choice)
        opened, config = open_engine(self.path, device, choice)
        if self.manner.tta != "none":
            from seglab.inference.views import Views

            opened = Views(opened, config.task, self.manner.tta)
        alone = road.alone or choice.bn == "batch"
        about = self.manner.describe(config)
        model = replace(self, path=self.path.absolute())
        reopen = partial(Model.open, model, device, engine=engine, batch_size=batch_size)
        return Predictor(
            opened, config, batch_size=1 if alone else batch_size, road=road, about=about, reopen=reopen
        )  # fmt: skip


def choose_model(task: str | None, model: str | None, manner: Manner | None = None) -> Model:
    """Find the model for a command.

    Args:
        task: Name or TOML file of the task that is wanted; None takes what the model was trained for.
        model: A run, a bundle, an ``.onnx`` file or a published checkpoint; None takes the model that comes with seglab
            for the task.
        manner: Whose way of using it is followed; ours by default.

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
            f"`{path}` segments {_words(config.task)}, but the task is {_words(wanted)}",
            f"leave `--task` out, or name a model trained on `{wanted.name}`",
        )
    return Model(path, config, manner=manner or Manner())


def _words(task: Task) -> str:
    return f"`{task.name}` ({task.num_classes} classes)"


def _same(wanted: Task, trained: Task) -> bool:
    return wanted.name == trained.name and wanted.same_labels(trained)


def _embedded(task: Task | None) -> Path:
    from seglab.models.catalogue import embedded_dir, named_model

    assert task is not None
    path = embedded_dir(task.name)
    if not path.is_dir():
        hint = f"`seglab train --task {task.name} --data DIR` trains one"
        try:
            named_model(task.name)
        except DataError as error:  # it knows which published ones there are
            hint = error.hint
        raise DataError(f"no model for task `{task.name}`", f"{hint}; then name it with `--model RUN`")
    return path
