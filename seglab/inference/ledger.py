"""What is finished in an output folder, so that a run can be taken up where another one ended."""

import hashlib
import json
import os
import stat
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from seglab.errors import DataError, UsageError
from seglab.files import append_line, write_text
from seglab.inference.inputs import LEDGER_NAME, STANDARD
from seglab.notation import parse_json
from seglab.shards import WHOLE, Shard

if TYPE_CHECKING:
    from seglab.inference.plan import Job

__all__ = ["FILES_NAME", "Ledger", "Stamp", "digest", "foreign", "input_key", "make_dir", "read_command", "stamp"]

FORMAT = 2
FILES_NAME: Final = ".seglab-files.jsonl"
"""Lists finished files in a folder that is no output folder: cutouts beside their photos, and files named one by one.
Does not mark the folder, which may hold photos."""

Stamp = tuple[int, int]
"""Size in bytes and time of change in nanoseconds: what tells that a file is still the same."""


def stamp(source: Path | bytes) -> Stamp:
    """Return a file's stamp; of content in memory its size and a checksum.

    Raises:
        OSError: If the file is not there.
    """
    if isinstance(source, bytes):
        return len(source), zlib.crc32(source)
    status = source.stat()
    return status.st_size, status.st_mtime_ns


def input_key(job: "Job") -> str:
    """Return what a photo is called in a ledger."""
    return str(job.path.absolute()) if job.data is None else str(job.path)


def digest(command: str, settings: Mapping[str, Any]) -> str:
    """Return a short text that differs where settings do."""
    text = json.dumps([command, settings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_command(out_dir: Path) -> str | None:
    """Return the command that an output folder belongs to, or None if it belongs to none."""
    command = _header(out_dir).get("seglab")
    return command if isinstance(command, str) else None


def foreign(out_dir: Path, outputs: Iterable[Path]) -> list[Path]:
    """Return those of a folder's outputs-to-be that are there and cannot come from an earlier run.

    They are older than the folder's ledger, and not listed in it: photos, for example, that lie in the same folder.
    """
    since = _since(out_dir)
    older = [path for path in outputs if _is_older(path, since)]
    if not older:
        return []
    lines = _entries(_files(out_dir)).values()
    listed = {out_dir / name for line in lines for name, *_ in line["outputs"].values()}
    return [path for path in older if path not in listed]


class Ledger:
    """The finished work of an output folder, in ``.seglab-done.jsonl``: a header, then a line a photo.

    A photo counts as finished if its outputs were written whole by the same command with the same settings, and neither
    they nor the photo have changed since, by size and time. Outputs that have no folder of their own (``out_dir`` None)
    are listed by the same rule in ``.seglab-files.jsonl`` where they lie, if they are to be remembered at all.

    Parts of a set that several processes work on at once have a file each, ``.seglab-done.2-of-4.jsonl``, beside the
    one without a number, which then only marks the folder. All of them are read.

    Args:
        out_dir: The output folder, which need not exist yet.
        command: The verb that writes into it.
        settings: Everything that decides what the outputs are: plain JSON values.
        shard: Which part of the photos this process works on.
        remember: Whether outputs that have no folder of their own are listed.
    """

    def __init__(
        self,
        out_dir: Path | None,
        command: str,
        settings: Mapping[str, Any],
        *,
        shard: Shard = WHOLE,
        remember: bool = True,
    ) -> None:
        self.out_dir = out_dir
        self.command = command
        self.settings = digest(command, settings)
        self._shard = shard
        self._remember = remember
        self._files: dict[Path, dict[str, dict[str, Any]]] = {}
        self._done: dict[str, dict[str, Any]] = {}
        if out_dir is not None and read_command(out_dir) == command:
            self._done = _entries(_files(out_dir))

    @property
    def path(self) -> Path | None:
        """This part's file; None where there is no output folder."""
        return None if self.out_dir is None else self.out_dir / _name(self._shard)

    def is_done(self, job: "Job") -> bool:
        """Tell whether a photo's outputs need not be made again."""
        try:
            return self._known(job) == self._line(job, stamp(job.source))
        except OSError:
            return False

    def open(self) -> None:
        """Make the folder ready to be written to.

        Raises:
            DataError: If it cannot be made or written to.
        """
        path = self.path
        if self.out_dir is None or path is None:
            return
        make_dir(self.out_dir)
        marker = self.out_dir / LEDGER_NAME
        since = _since(self.out_dir)
        if read_command(self.out_dir) != self.command:
            _write(marker, self.command, [])
            # The disk's own clock: what is written from here on is not older, however coarse or wrong it is.
            since = marker.stat().st_mtime_ns
            _write(marker, self.command, [], since=since)
        # Written anew each time: it drops what a kill has broken and what later runs have replaced.
        kept = self._done if path == marker else _entries([path])
        _write(path, self.command, kept.values(), since=since)

    def add(self, job: "Job", photo_stamp: Stamp) -> None:
        """Record that a photo's outputs are written.

        Args:
            job: The photo.
            photo_stamp: Its stamp from before it was read.
        """
        if self.path is not None:
            append_line(self.path, json.dumps(self._line(job, photo_stamp)))
        elif self._remember and (path := _only_output(job)) != STANDARD:
            _refuse_pipe(path.parent / FILES_NAME)
            append_line(path.parent / FILES_NAME, json.dumps(self._line(job, photo_stamp)))

    def own(self, paths: Iterable[Path]) -> None:
        """Let files of the folder that were written just now be known as such, though the clock was put back since."""
        since = 0 if self.out_dir is None else _since(self.out_dir)
        for path in paths:
            if _is_older(path, since):
                os.utime(path, ns=(since, since))

    def _known(self, job: "Job") -> dict[str, Any]:
        """Return what is on record about a photo, or, without a folder of outputs, about the file it is to become."""
        if self.out_dir is not None:
            return self._done.get(input_key(job), {})
        path = _only_output(job)
        files = self._files.get(path.parent)
        if files is None:
            lines = [line for line in _read_lines(path.parent / FILES_NAME) if _is_entry(line)]
            files = {name: line for line in lines for name, *_ in line["outputs"].values()}
            self._files[path.parent] = files
        return files.get(path.name, {})

    def _line(self, job: "Job", photo_stamp: Stamp) -> dict[str, Any]:
        base = _only_output(job).parent if self.out_dir is None else self.out_dir
        outputs = {form: [path.relative_to(base).as_posix(), *stamp(path)] for form, path in job.outputs.items()}
        return {"input": input_key(job), "stamp": list(photo_stamp), "settings": self.settings, "outputs": outputs}


def _only_output(job: "Job") -> Path:
    """Return the file that a photo becomes, where there is no folder for more of them."""
    (path,) = job.outputs.values()
    return path


def _name(shard: Shard) -> str:
    path = Path(LEDGER_NAME)
    return LEDGER_NAME if shard == WHOLE else f"{path.stem}.{shard.index}-of-{shard.num}{path.suffix}"


def _files(out_dir: Path) -> list[Path]:
    """Return the ledgers of a folder, the one that was written to last at the end."""
    path = Path(LEDGER_NAME)
    parts = out_dir.glob(f"{path.stem}.*-of-*{path.suffix}")
    return sorted((out_dir / LEDGER_NAME, *parts), key=lambda path: path.stat().st_mtime_ns)


def _entries(paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    return {line["input"]: line for path in paths for line in _read_lines(path) if _is_entry(line)}


def _is_entry(line: dict[str, Any]) -> bool:
    """Tell whether a line is of a photo: its name and its outputs, each a list that begins with the file's name."""
    outputs = line.get("outputs")
    if not isinstance(line.get("input"), str) or not isinstance(outputs, dict):
        return False
    return all(isinstance(output, list) and output and isinstance(output[0], str) for output in outputs.values())


def _write(path: Path, command: str, lines: Iterable[dict[str, Any]], *, since: int = 0) -> None:
    header = {"seglab": command, "format": FORMAT, "since": since}
    write_text(path, "".join(json.dumps(line) + "\n" for line in (header, *lines)))


def _header(out_dir: Path) -> dict[str, Any]:
    return next(iter(_read_lines(out_dir / LEDGER_NAME)), {})


def _since(out_dir: Path) -> int:
    """Return when a folder got its ledger, in nanoseconds; 0 where it does not say so."""
    since = _header(out_dir).get("since")
    return since if isinstance(since, int) else 0


def _is_older(path: Path, since: int) -> bool:
    try:
        return path.stat().st_mtime_ns < since
    except OSError:
        return False


def make_dir(path: Path) -> None:
    """Make a folder and those above it, if they are not there.

    Raises:
        DataError: If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder `{path}`: {error.strerror}", "name another one with `-o`") from error


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a ledger; a line that a kill has cut short is left out."""
    _refuse_pipe(path)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines = []
    for raw in text.splitlines():
        try:
            line = parse_json(raw)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def _refuse_pipe(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UsageError(
            f"`{path}` is a pipe or a device, not a list that seglab wrote",
            f"remove `{path}`, or name another folder with `-o`",
        )
