"""Where numbers and pictures of a run go, beside its own files: TensorBoard, and Weights & Biases if it is wanted."""

import importlib
import importlib.util
import io
import os
import platform
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from seglab import files
from seglab.data.encoding import encode_jpeg, encode_png
from seglab.errors import DataError, DeviceError

__all__ = ["RunLogger", "TensorBoardLogger", "WandbLogger"]

Pixels = npt.NDArray[np.uint8]

WANDB_ID: Final = "wandb-id.txt"


class RunLogger(Protocol):
    """Takes the numbers and pictures of a run."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Take numbers by path (``val/miou``) after a step."""

    def picture(self, name: str, image: Pixels, step: int) -> None:
        """Take a picture (HWC uint8 RGB) after a step."""

    def close(self) -> None:
        """Finish."""


class TensorBoardLogger:
    """An event file of TensorBoard. What is handed over is in the file when the call returns.

    Args:
        run_dir: Where to write ``events.out.tfevents*``.
        first_step: Records of this step and later ones, left by a killed run, are not to be shown; None for a new run.

    Raises:
        DataError: If it cannot be written, as on a full disk; every method does.
    """

    def __init__(self, run_dir: Path, first_step: int | None = None) -> None:
        # TensorBoard reads the files of a folder in the order of their names.
        self._path = run_dir / f"events.out.tfevents.{time.time():.6f}.{platform.node() or 'here'}.{os.getpid()}"
        if first_step is None:
            self._write(Event(file_version="brain.Event:2"))
        else:
            self._write(Event(file_version="brain.Event:2", step=first_step))
            self._write(Event(session_log=SessionLog(status=SessionLog.START), step=first_step))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers by path after a step."""
        entries = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(Event(step=step, summary=Summary(value=entries)))

    def picture(self, name: str, image: Pixels, step: int) -> None:
        """Write a picture (HWC uint8 RGB) after a step."""
        height, width, _ = image.shape
        encoded = encode_jpeg(image, quality=90) if name == "samples" else encode_png(image)
        entry = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
        self._write(Event(step=step, summary=Summary(value=[Summary.Value(tag=name, image=entry)])))

    def close(self) -> None:
        """Do nothing: all is written."""

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        buffer = io.BytesIO()
        RecordWriter(buffer).write(event.SerializeToString())
        try:
            with self._path.open("ab") as handle:
                handle.write(buffer.getvalue())
        except OSError as error:
            message = f"cannot write `{self._path}`: {error.strerror or error}"
            raise DataError(message, "check the free space and the permissions") from error


class WandbLogger:
    """A run of Weights & Biases, which is told what TensorBoard is told. Its own settings (``WANDB_MODE``) hold.

    The name of the run there is kept in ``wandb-id.txt``, so that a run that is resumed goes on there, too.

    Args:
        run_dir: The run; its name is the run's name there.
        config: What the run computes.
        project: Where it belongs there, unless ``WANDB_PROJECT`` says otherwise.

    Raises:
        DeviceError: If the package is not installed, or its service refuses.
    """

    def __init__(self, run_dir: Path, config: Mapping[str, Any], *, project: str = "seglab") -> None:
        self.require()
        self._wandb: Any = importlib.import_module("wandb")
        self._failure: type[Exception] = getattr(self._wandb, "Error", RuntimeError)
        id_path = run_dir / WANDB_ID
        if not id_path.exists():
            files.write_text(id_path, uuid.uuid4().hex[:12] + "\n")
        try:
            self._run = self._wandb.init(
                project=os.environ.get("WANDB_PROJECT", project),
                name=run_dir.name,
                id=id_path.read_text(encoding="utf-8").strip(),
                dir=str(run_dir),
                config=dict(config),
                resume="allow",
            )
        except self._failure as error:
            raise DeviceError(
                f"wandb cannot start: {error}", "`wandb login`, or `WANDB_MODE=offline`, or leave `--logger` out"
            ) from error

    @staticmethod
    def require() -> None:
        """Make sure that the package is installed.

        Raises:
            DeviceError: If it is not; the hint has the command.
        """
        if importlib.util.find_spec("wandb") is None:
            raise DeviceError("`--logger wandb` needs the package wandb, which is not installed", "`pip install wandb`")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Hand numbers over."""
        self._run.log(dict(values), step=step)

    def picture(self, name: str, image: Pixels, step: int) -> None:
        """Hand a picture (HWC uint8 RGB) over."""
        self._run.log({name: self._wandb.Image(image)}, step=step)

    def close(self) -> None:
        """Tell the service that the process ends."""
        self._run.finish()
