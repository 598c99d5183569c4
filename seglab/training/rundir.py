"""The directory of a run: who may write to it, and the state that a run continues from.

::

    RUN/config.json  model.safetensors  model.onnx      the bundle: the best weights so far
    RUN/train.json                                       what the run was started with
    RUN/last.pt                                          the resume state
    RUN/metrics.jsonl  curves.png  samples/              what happened
    RUN/events.out.tfevents*                             the same for TensorBoard
    RUN/environment.json                                 where it happened
    RUN/.lock                                            held while the run is running
"""

import contextlib
import json
import pickle
import shlex
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from seglab import files
from seglab.errors import DataError, UsageError
from seglab.models.bundle import WEIGHTS_NAME
from seglab.notation import parse_json
from seglab.training.settings import FORMAT, SETTINGS, RunSettings, has_run

__all__ = ["RunDir", "claim_run"]


LAST: Final = "last.pt"
METRICS: Final = "metrics.jsonl"
LOCK: Final = ".lock"

_DAMAGES: Final = (
    zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, struct.error, NotImplementedError, OSError, RuntimeError,
    EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, MemoryError,
)  # fmt: skip
"""What torch and zipfile raise when they read something that torch has not written."""


class RunDir:
    """A run directory that this process holds. :func:`claim_run` makes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.samples_dir = path / "samples"
        self.curves_path = path / "curves.png"

    def save_settings(self, settings: RunSettings) -> None:
        """Write what the run was started with."""
        files.write_json(self.path / SETTINGS, settings.to_dict())

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Replace the resume state in one step; if that fails the one before survives.

        Raises:
            DataError: If the disk is full or the folder cannot be written to.
        """
        path = self.path / LAST
        with files.replacing(path) as temporary_path, temporary_path.open("wb") as handle:
            try:
                torch.save({"format": FORMAT, **state}, handle)
            except RuntimeError as error:  # what torch makes of a full disk
                raise _refusal(error) from error
        files.sync_dir(self.path)

    def load_state(self) -> dict[str, Any] | None:
        """Return the resume state; None if the run has not saved one. Nothing in it is executed.

        Raises:
            DataError: If the file is damaged, or a newer seglab wrote it; or it is gone, and a run from the beginning
                would replace the weights.
        """
        path = self.path / LAST
        if not path.exists():
            self._refuse_loss()
            return None
        try:
            with path.open("rb") as handle:
                handle.read(1)
        except OSError as error:
            raise DataError(f"cannot read `{path}`: {error.strerror or error}", "check the permissions") from error
        try:
            with zipfile.ZipFile(path) as archive:  # torch does not compare the checksums that it writes
                is_whole = archive.testzip() is None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's, of pickles that it did not write: the error says it all
                state = torch.load(path, map_location="cpu", weights_only=True) if is_whole else None  # noqa: TID251
        except _DAMAGES as error:
            raise self.damaged("it is cut short, or was changed") from error
        if not is_whole:
            raise self.damaged("it was changed after it was written")
        if not isinstance(state, dict) or type(state.get("format")) is not int:
            raise self.damaged("it is not the state of a run")
        if state["format"] > FORMAT:
            message = f"`{path}` has format {state['format']}, this seglab knows {FORMAT}: a newer one wrote it"
            raise DataError(message, "pip install --upgrade seglab")
        if not all(isinstance(state.get(part), dict) for part in ("learner", "course")):
            raise self.damaged("parts of it are missing")
        return state

    def _refuse_loss(self) -> None:
        """Refuse to begin again what was further than the end of its first epoch, where the state is saved first."""
        try:
            num_epochs = (self.path / METRICS).read_bytes().count(b"\n")
        except OSError:
            return
        if num_epochs > 1 and (self.path / WEIGHTS_NAME).exists():
            raise DataError(
                f"run `{self.path}` cannot be continued: its `{LAST}` is gone, and its weights would be lost",
                f"`seglab train --init {shlex.quote(str(self.path))} --out NEW ...` starts a new run with its weights",
            )

    def damaged(self, why: str) -> DataError:
        """Return the error for a resume state that cannot be used, with what can still be saved."""
        run = shlex.quote(str(self.path))
        has_bundle = (self.path / WEIGHTS_NAME).is_file()
        hint = (
            f"`seglab train --init {run} --out NEW ...` starts a new run from its best weights"
            if has_bundle
            else (f"nothing else was kept: remove `{run}` and start again")
        )
        return DataError(f"`{self.path / LAST}` is damaged: {why}", hint)

    def keep_metrics(self, num_epochs: int) -> list[Mapping[str, Any]]:
        """Remove the lines of ``metrics.jsonl`` after some epoch, and a line that a kill cut short; return the rest."""
        path = self.path / METRICS
        if not path.exists():
            return []
        kept, records = [], []
        for line in path.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                record = parse_json(line)
                if type(record["epoch"]) is int and 0 <= record["epoch"] <= num_epochs:
                    kept.append(line)
                    records.append(record)
        files.write_text(path, "".join(f"{line}\n" for line in kept))
        return records

    def add_metrics(self, values: Mapping[str, Any]) -> None:
        """Append an epoch to ``metrics.jsonl``."""
        files.append_line(self.path / METRICS, json.dumps(values, allow_nan=False))


@contextlib.contextmanager
def claim_run(path: Path, *, resume: bool) -> Iterator[RunDir]:
    """Hold a run directory for the length of the block. It is made if absent, and removed if nothing comes of it.

    Args:
        path: The directory.
        resume: Whether a run that is there may be continued; otherwise the directory must be absent or empty, or the
            run must have ended before it saved anything.

    Raises:
        UsageError: If a run, or anything else, is there that must not be overwritten.
        BusyError: If another process is running it; its pid is named.
    """
    if path.exists() and not path.is_dir():
        raise UsageError(f"`{path}` is a file", "name a folder with `--out DIR`")
    _refuse_overwriting(path, resume=resume)
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make `{path}`: {error.strerror}") from error
    with files.lock(path / LOCK, f"run `{path}`"):
        try:
            _refuse_overwriting(path, resume=resume)  # another process may have finished one in the meantime
            for dir in (path, path / "samples"):
                files.sweep_dir(dir)
            yield RunDir(path)
        except BaseException:
            if made:
                _leave_nothing(made)
            raise


def _leave_nothing(made: list[Path]) -> None:
    """Remove folders that were made for a run which never began, the innermost first."""
    with contextlib.suppress(OSError):
        if [entry.name for entry in made[0].iterdir()] == [LOCK]:
            (made[0] / LOCK).unlink()
            for folder in made:
                folder.rmdir()


def _refuse_overwriting(path: Path, *, resume: bool) -> None:
    if has_run(path):
        if not resume and any((path / name).exists() for name in (LAST, METRICS, WEIGHTS_NAME)):
            raise UsageError(
                f"`{path}` holds a run already",
                f"`seglab train --resume {shlex.quote(str(path))}` continues it; `--out` names another folder",
            )
        return
    if path.is_dir() and any(entry.name != LOCK for entry in path.iterdir()):
        raise UsageError(f"`{path}` is not empty, and what it holds is no run", "name another folder with `--out DIR`")


def _refusal(error: BaseException | None) -> OSError:
    """Return what the system refused, which torch hides."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__context__
    return OSError("torch cannot write it")
