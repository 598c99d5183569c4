"""What a run was started with, in ``train.json``: all that is needed to start it again. Needs no torch."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from seglab.config import TrainConfig
from seglab.errors import DataError, first_line
from seglab.notation import parse_json, read_given

__all__ = ["FORMAT", "LOGGERS", "SETTINGS", "RunSettings", "has_run", "read_settings"]

FORMAT: Final = 1
"""Number of the layout of ``train.json`` and ``last.pt``; a reader refuses a higher one."""

SETTINGS: Final = "train.json"

LOGGERS: Final = ("tensorboard", "wandb")
"""Event files of TensorBoard, which are always written, or Weights & Biases as well."""


_FITS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "format": lambda value: type(value) is int and value > 0,
    "config": lambda value: isinstance(value, dict),
    "task": lambda value: isinstance(value, dict),
    "data": lambda value: isinstance(value, str),
    "digest": lambda value: isinstance(value, str),
    "graph": lambda value: isinstance(value, bool),
    "time_limit_s": lambda value: value is None or (type(value) in (int, float) and 0 <= value < 1e12),
    "logger": lambda value: value in LOGGERS,
    "launch": lambda value: isinstance(value, str),
}
"""What may stand in the fields of ``train.json``."""


@dataclass(frozen=True)
class RunSettings:
    """What a run was started with: all that is needed to start it again."""

    config: TrainConfig
    task: Mapping[str, Any]
    """The whole task, as plain values."""
    data_dir: Path
    """The prepared dataset, as an absolute path."""
    digest: str
    """The dataset's digest."""
    graph: bool = True
    """Whether the graph is exported at the end."""
    time_limit_s: float | None = None
    """The most seconds of training, all parts of the run together."""
    logger: str = "tensorboard"
    """Who is told beside the run directory: see :data:`LOGGERS`."""
    launch: str = ""
    """Name of the torchrun that started it, which may continue it without being asked; empty without torchrun."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "format": FORMAT,
            "config": self.config.to_dict(),
            "task": dict(self.task),
            "data": str(self.data_dir),
            "digest": self.digest,
            "graph": self.graph,
            "time_limit_s": self.time_limit_s,
            "logger": self.logger,
            "launch": self.launch,
        }


def has_run(path: Path) -> bool:
    """Tell whether a run was ever started there."""
    return (path / SETTINGS).is_file()


def read_settings(path: Path) -> RunSettings:
    """Read what a run was started with.

    Raises:
        DataError: If there is no run, the file is damaged, or a newer seglab wrote it.
    """
    settings_path = path / SETTINGS
    try:
        values = parse_json(read_given(settings_path))
        if type(values["format"]) is int and values["format"] > FORMAT:
            raise DataError(f"`{path}` was started by a newer seglab", "pip install --upgrade seglab")
        if wrong := [name for name, fits in _FITS.items() if name in values and not fits(values[name])]:
            raise ValueError(f"`{wrong[0]}` is of a wrong type")
        return RunSettings(
            TrainConfig.from_dict(values["config"], where=str(settings_path)),
            values["task"],
            Path(values["data"]),
            values["digest"],
            values["graph"],
            values["time_limit_s"],
            values.get("logger", LOGGERS[0]),
            values.get("launch", ""),
        )
    except NotADirectoryError:
        raise DataError(
            f"`{path}` is a file, not the folder of a run", "`--resume RUN` takes what `--out` was"
        ) from None
    except FileNotFoundError:
        message = f"there is no run to resume in `{path}`: it has no `{SETTINGS}`"
        raise DataError(
            message, f"start one with `seglab train --task TASK --data DIR --out {shlex.quote(str(path))}`"
        ) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"`{settings_path}` is damaged: {first_line(error)}", "start a new run") from error
