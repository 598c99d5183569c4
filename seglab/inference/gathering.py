"""Files that take the answers to all photos: written at the end, whole, from what a run has noted on its way.

While a run works, a line a photo goes to ``.seglab-gathered.jsonl`` in the output folder. A run that is continued with
``--skip-existing`` finds there what earlier ones have noted, so memory holds one photo's annotations at a time, and a
file is complete or not there.
"""

import contextlib
import json
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from seglab.errors import BusyError, DataError
from seglab.files import append_line, lock, replacing
from seglab.inference.ledger import input_key, make_dir
from seglab.inference.plan import Job, part_name
from seglab.notation import parse_json, path_text
from seglab.shards import WHOLE, Shard
from seglab.tasks import Task

if TYPE_CHECKING:
    from seglab.inference.labelled import Labelled

__all__ = ["SPOOL_NAME", "Gathered", "Gathering"]

SPOOL_NAME: Final = ".seglab-gathered.jsonl"
_LOCK_NAME: Final = ".seglab-gathered.lock"


@dataclass(frozen=True)
class Gathered:
    """A form of answers to all photos in one file."""

    name: str
    """Of the file."""
    record: "Callable[[Labelled, str], Any]"
    """Returns what the file needs of one photo, of a given name, as plain JSON values."""
    assemble: Callable[[Path, Task, Callable[[], Iterable[Any]]], None]
    """Writes the file in one step."""
    title: str
    """What it is, for the help."""


@dataclass(frozen=True)
class _Line:
    """Where a photo's records are."""

    spool_path: Path
    offset: int
    place: str


class Gathering:
    """The gathered files of an output folder.

    Args:
        out_dir: The folder.
        forms: What is gathered, by name.
        task: Of the answers.
        settings: A text that differs where answers may (see :func:`seglab.inference.ledger.digest`).
        shard: Which part of the photos this process works on; each part has files of its own.
    """

    def __init__(
        self, out_dir: Path, forms: Mapping[str, Gathered], task: Task, settings: str, *, shard: Shard = WHOLE
    ) -> None:
        self._dir, self._forms, self._task, self._settings, self._shard = out_dir, forms, task, settings, shard
        self.spool_path = out_dir / part_name(SPOOL_NAME, shard)
        """Where this part's answers are noted."""
        self._lines: dict[str, _Line] = {}
        self._claim = contextlib.ExitStack()

    def claim(self) -> None:
        """Keep other processes from gathering here until :meth:`release`: two would forget what the other has noted.

        Raises:
            BusyError: If another process does it now, or has done so since :meth:`recall`.
            DataError: If the folder cannot be made or written to.
        """
        make_dir(self._dir)
        path = self._dir / part_name(_LOCK_NAME, self._shard)
        self._claim.enter_context(lock(path, f"`{self._dir}`"))
        self._claim.callback(path.unlink, missing_ok=True)
        if recalled := set(self._lines):
            self._lines = {}
            self.recall()
            if recalled - self._lines.keys():
                raise BusyError(f"`{self._dir}` was written anew by another process just now", "run the command again")

    def release(self) -> None:
        """Let other processes gather here."""
        self._claim.close()

    def recall(self) -> None:
        """Look up what earlier runs with the same settings have noted, in this part or any other."""
        stem, suffix = Path(SPOOL_NAME).stem, Path(SPOOL_NAME).suffix
        for path in (*sorted(self._dir.glob(f"{stem}.*-of-*{suffix}")), self._dir / SPOOL_NAME):
            self._lines |= {key: _Line(path, offset, place) for key, place, offset in self._heads(path)}

    def has(self, job: Job) -> bool:
        """Tell whether a photo's records are there."""
        return input_key(job) in self._lines

    def open(self, only: Collection[str] | None = None) -> None:
        """Begin to note: what was recalled is kept, and everything else that was noted before is forgotten.

        Args:
            only: Keys of the photos to keep (see :func:`seglab.inference.ledger.input_key`); all by default.
        """
        kept = {key: line for key, line in self._lines.items() if only is None or key in only}
        lines: dict[str, _Line] = {}
        with replacing(self.spool_path) as temporary_path, temporary_path.open("wb") as file:
            for key, line in kept.items():
                lines[key] = _Line(self.spool_path, file.tell(), line.place)
                file.write(_raw(line))
        self._lines = lines

    def add(self, job: Job, labelled: "Labelled") -> None:
        """Note a photo's answer."""
        name = path_text(job.place.as_posix())
        answers = {form: gathered.record(labelled, name) for form, gathered in self._forms.items()}
        records = json.dumps(answers, allow_nan=False)
        crc32 = zlib.crc32(f"{records}\n".encode())
        head = {"input": input_key(job), "place": name, "settings": self._settings, "crc32": crc32}
        append_line(self.spool_path, f"{json.dumps(head)}\t{records}")

    def finish(self) -> None:
        """Write the gathered files, photos sorted by name.

        Raises:
            DataError: If they cannot be written.
        """
        self._lines = {key: _Line(self.spool_path, at, place) for key, place, at in self._heads(self.spool_path)}
        for form, gathered in self._forms.items():
            path = self._dir / part_name(gathered.name, self._shard)
            gathered.assemble(path, self._task, partial(self._records, form))

    def _records(self, form: str) -> Iterator[Any]:
        for line in sorted(self._lines.values(), key=lambda line: line.place):
            yield json.loads(_raw(line).partition(b"\t")[2])[form]

    def _heads(self, path: Path) -> Iterator[tuple[str, str, int]]:
        """Yield key, name and offset of the lines with our settings; not of those that were cut short or changed."""
        if not path.exists():
            return
        try:
            with path.open("rb") as file:
                offset = 0
                for raw in file:
                    head, _, records = raw.partition(b"\t")
                    values = _parsed(head)
                    known = values.get("settings") == self._settings and values.get("crc32") == zlib.crc32(records)
                    if known and isinstance(values.get("input"), str) and isinstance(values.get("place"), str):
                        yield values["input"], values["place"], offset
                    offset += len(raw)
        except OSError as error:
            raise DataError(f"cannot read `{path}`: {error.strerror}") from error


def _raw(line: _Line) -> bytes:
    with line.spool_path.open("rb") as file:
        file.seek(line.offset)
        return file.readline()


def _parsed(head: bytes) -> dict[str, Any]:
    try:
        values = parse_json(head)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
