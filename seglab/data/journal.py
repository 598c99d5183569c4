"""What an unfinished dataset holds already, a line a sample, so that the next run can go on after a kill.

::

    what it is made with: options, source, task, version
    {"sample": {...}, "digests": [photo, labels], "memo": {...}}    once both files are whole; a link has no digest

A line is written after the files that it is about. What it says is checked against them before it is believed: a kill
keeps what was written, a power cut need not.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from seglab import files
from seglab.data.manifest import Sample, is_sound
from seglab.notation import parse_json

__all__ = ["JOURNAL", "Entry", "Journal", "read_head"]

JOURNAL: Final = "journal.jsonl"
"""Name of the file in the folder under construction."""


@dataclass(frozen=True)
class Entry:
    """A sample whose files are written."""

    sample: Sample
    digests: tuple[str | None, ...]
    """sha256 of the photo's file (None if it is a link) and of the others', in the order of :attr:`Sample.paths`."""
    memo: Mapping[str, Any]
    """What else was found out about it, as plain JSON values."""

    def is_whole(self, dir: Path, photo_path: Path) -> bool:
        """Tell whether the files below ``dir`` are those that were written, or the link leads to ``photo_path``."""
        image_digest, *digests = self.digests
        try:
            if image_digest is None:
                same = (dir / self.sample.image).samefile(photo_path)
            else:
                same = files.sha256_of(dir / self.sample.image) == image_digest
            return same and [files.sha256_of(dir / path) for path in self.sample.paths[1:]] == digests
        except OSError:
            return False


class Journal:
    """The journal of the folder under construction. May be used from several threads.

    Args:
        dir: The folder.
        head: What the dataset is made with, as plain JSON values. A journal that is there must have the same.
    """

    def __init__(self, dir: Path, head: Mapping[str, Any]) -> None:
        self._path = dir / JOURNAL
        self._guard = threading.Lock()
        self._entries = {entry.sample.id: entry for entry in _read_entries(self._path)}
        # Written anew, because a kill may have left half a line at the end.
        lines = [json.dumps(head), *map(_line, self._entries.values())]
        files.write_text(self._path, "".join(f"{line}\n" for line in lines))

    def find(self, id: str) -> Entry | None:
        """Return what an earlier run wrote about a sample."""
        return self._entries.get(id)

    def add(self, entry: Entry) -> None:
        """Note a sample whose files are written."""
        with self._guard:
            files.append_line(self._path, _line(entry))

    def remove(self) -> None:
        """End it: the dataset is complete."""
        self._path.unlink()


def read_head(dir: Path) -> dict[str, Any] | None:
    """Return what the dataset in a folder under construction is made with; None if it has no journal to go on from."""
    try:
        with (dir / JOURNAL).open("rb") as lines:
            head = parse_json(lines.readline())
    except (OSError, ValueError):
        return None
    return head if isinstance(head, dict) else None


def _read_entries(path: Path) -> Iterator[Entry]:
    if not path.exists():
        return
    with path.open("rb") as lines:
        next(lines, None)
        for line in lines:
            try:
                values = parse_json(line)
                entry = Entry(Sample(**values["sample"]), tuple(values["digests"]), dict(values["memo"]))
                sound = is_sound(entry.sample) and len(entry.digests) == len(entry.sample.paths)
            except (TypeError, ValueError, KeyError, AttributeError):
                continue
            if sound:
                yield entry


def _line(entry: Entry) -> str:
    # ASCII only: names of files need not be valid text.
    return json.dumps({"sample": vars(entry.sample), "digests": entry.digests, "memo": dict(entry.memo)})
