"""A file that the user downloaded himself: ``--from FILE``."""

import re
import shlex
from pathlib import Path
from typing import Final

from seglab.data.fetching.obtain import Obtained, Transfer, by_hand, checked_by, digests, mismatch, refuse_code, unfit
from seglab.data.fetching.registry import Row, Source
from seglab.data.fetching.sniffing import HEAD_BYTES, refusal
from seglab.errors import DataError, UsageError

__all__ = ["check_given", "take_given"]

_ADDRESS: Final = re.compile(r"([a-z][a-z0-9+.-]+):/+(?=\S)", re.IGNORECASE)


def check_given(row: Row, path: Path) -> None:
    """Refuse what cannot be a row's file at a glance: an address, a folder, other data than was asked for.

    Raises:
        UsageError: If it is an address.
        DataError: If it is no file, or its first bytes are those of something else.
    """
    if not path.is_file():
        raise _no_file(row, path)
    with path.open("rb") as handle:
        why = refusal(handle.read(HEAD_BYTES), archive=row.unpack, name=_name(row, path, None))
    if why:
        raise DataError(f"`{path}` is {why}", by_hand(row))


def take_given(row: Row, path: Path, transfer: Transfer) -> Obtained:
    """Check a file of the user's as if it had come from one of the row's sources, and leave it where it is.

    Raises:
        UsageError: If it is an address.
        DataError: If it is not the row's file, as far as that is known, or weights that hold code; it names what is
            wrong.
    """
    check_given(row, path)
    size = path.stat().st_size
    sums = digests(path, row.sources, transfer.meter)
    known = [source for source in row.sources if source.way != "page" and (checked_by(source) or source.bytes)]
    fitting = next((source for source in known if not mismatch(source, sums, size)), None)
    if fitting is None and known and len(known) == len([s for s in row.sources if s.way != "page"]):
        raise DataError(f"`{path}` is not `{row.name}`: {mismatch(known[0], sums, size)}", by_hand(row))
    checked = checked_by(fitting) if fitting else ""
    name = _name(row, path, fitting)
    why = unfit(row, path, name, checked=bool(checked))
    if why:
        raise DataError(f"`{path}` is {why}", by_hand(row))
    refuse_code(row, path, f"`{path}`")
    if not checked:
        transfer.say(f"no checksum of {row.name} is known: {path.name} is taken as it is")
    return Obtained(path, name, fitting or Source(way="file", ref=""), sums["sha256"], checked, given=path.name)


def _name(row: Row, path: Path, fitting: Source | None) -> str:
    """Return what the file is to be called: as at its source, or as the user calls it where that is not known."""
    names = [source.file for source in row.sources if source.file]
    if row.unpack or not names:
        return path.name
    return (fitting and fitting.file) or names[0]


def _no_file(row: Row, path: Path) -> UsageError | DataError:
    address = _ADDRESS.match(str(path))
    if address and not path.exists():
        shown = _ADDRESS.sub(r"\1://", str(path), count=1)
        return UsageError(f"`{shown}` is an address; `--from` takes a file that is on this disk", by_hand(row))
    if path.is_dir():
        what = "the archive" if row.unpack else "the file with the weights"
        hint = f"give the file itself: `--from {shlex.quote(str(path))}/FILE`"
        following = next((command for command in row.next if command.startswith("seglab prepare ")), "")
        if row.unpack and following:
            hint = f"if it is unpacked already, go on with `{following.replace('{path}', shlex.quote(str(path)))}`"
        return DataError(f"`{path}` is a folder; `--from` takes {what}", hint)
    if path.exists():
        return DataError(f"`{path}` is no ordinary file", "save it as a file first")
    return DataError(f"there is no file `{path}`", by_hand(row))
