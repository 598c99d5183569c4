"""What is finished in an output folder, so that a run can be taken up where another one ended."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seglab.errors import DataError
from seglab.files import append_line, write_text
from seglab.inference.inputs import LEDGER_NAME

if TYPE_CHECKING:
    from seglab.inference.plan import Job

__all__ = ["Ledger", "Stamp", "make_dir", "read_command", "stamp"]

FORMAT = 1

Stamp = tuple[int, int]
"""Size in bytes and time of change in nanoseconds: what tells that a file is still the same."""


def stamp(path: Path) -> Stamp:
    """Return a file's stamp.

    Raises:
        OSError: If the file is not there.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def read_command(out_dir: Path) -> str | None:
    """Return the command that an output folder belongs to, or None if it belongs to none."""
    header = next(iter(_read_lines(out_dir / LEDGER_NAME)), {})
    command = header.get("seglab")
    return command if isinstance(command, str) else None


class Ledger:
    """The finished work of an output folder, in ``.seglab-done.jsonl``: a header, then a line a photo.

    A photo counts as finished if its outputs were written whole by the same command with the same settings, still have
    their sizes, and the photo has not changed since. Outputs outside a folder (``out_dir`` None) have no ledger: there
    a photo counts as finished if its outputs are newer than it, which is enough as they appear in one step.

    Args:
        out_dir: The output folder, which need not exist yet.
        command: The verb that writes into it.
        settings: Everything that decides what the outputs are: plain JSON values.
    """

    def __init__(self, out_dir: Path | None, command: str, settings: Mapping[str, Any]) -> None:
        self.out_dir = out_dir
        self.command = command
        text = json.dumps([command, settings], sort_keys=True, default=str)
        self.settings = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._done: dict[str, dict[str, Any]] = {}
        if out_dir is not None and read_command(out_dir) == command:
            self._done = {line["input"]: line for line in _read_lines(out_dir / LEDGER_NAME) if "input" in line}

    def is_done(self, job: "Job") -> bool:
        """Tell whether a photo's outputs need not be made again."""
        try:
            if self.out_dir is None:
                return all(_newer(output, job.path) for output in job.outputs.values())
            line = self._done.get(str(job.path.absolute()), {})
            return line == self._line(job, stamp(job.path))
        except OSError:
            return False

    def open(self) -> None:
        """Make the folder ready to be written to.

        Raises:
            DataError: If it cannot be made or written to.
        """
        if self.out_dir is None:
            return
        make_dir(self.out_dir)
        path = self.out_dir / LEDGER_NAME
        # Written anew each time: it drops what a kill has broken and what later runs have replaced.
        lines = [{"seglab": self.command, "format": FORMAT}, *self._done.values()]
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines))

    def add(self, job: "Job", photo_stamp: Stamp) -> None:
        """Record that a photo's outputs are written.

        Args:
            job: The photo.
            photo_stamp: Its stamp from before it was read.
        """
        if self.out_dir is not None:
            append_line(self.out_dir / LEDGER_NAME, json.dumps(self._line(job, photo_stamp)))

    def _line(self, job: "Job", photo_stamp: Stamp) -> dict[str, Any]:
        assert self.out_dir is not None
        outputs = {
            form: [path.relative_to(self.out_dir).as_posix(), path.stat().st_size] for form, path in job.outputs.items()
        }
        absolute = str(job.path.absolute())
        return {"input": absolute, "stamp": list(photo_stamp), "settings": self.settings, "outputs": outputs}


def make_dir(path: Path) -> None:
    """Make a folder and those above it, if they are not there.

    Raises:
        DataError: If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder `{path}`: {error.strerror}", "name another one with `-o`") from error


def _newer(output: Path, photo: Path) -> bool:
    status = output.stat()
    return status.st_size > 0 and status.st_mtime_ns >= photo.stat().st_mtime_ns


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a ledger; a line that a kill has cut short is left out."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines = []
    for raw in text.splitlines():
        try:
            line = json.loads(raw)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines
