"""One file from one source, whole and checked as far as its length and checksums are known."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from seglab import files
from seglab.data.fetching.admission import ArchiveError
from seglab.data.fetching.download import Order, download
from seglab.data.fetching.registry import Row, Source
from seglab.data.fetching.retrying import Meter, Policy
from seglab.data.fetching.weight_files import code_in_weights, why_no_weights
from seglab.notation import parse_json

__all__ = [
    "Obtained",
    "Transfer",
    "bring",
    "by_hand",
    "checked_by",
    "digests",
    "mismatch",
    "own_dir_of",
    "read_done",
    "refuse_code",
    "unfit",
]

CHUNK_BYTES: Final = 1 << 20
LEAST_SHARE, MOST_TIMES = 2, 4
"""Weights of unknown checksum may be half to four times as long as the registry roughly says: not a sibling's."""


@dataclass(frozen=True)
class Obtained:
    """A file that is whole, on the disk, and what it should be as far as that is known."""

    path: Path
    name: str
    source: Source
    sha256: str
    checked: str
    """Which known checksum it agrees with: ``sha256``, ``md5``, or nothing where none is known."""
    given: str = ""
    """The name of the user's file that it is, if it was not downloaded."""
    continued: bool = False
    """Whether a part of it is from an earlier, interrupted fetch."""


@dataclass(frozen=True)
class Transfer:
    """How bytes are brought here, and who is told."""

    policy: Policy
    meter: Meter
    need_room: Callable[[int, int], None]
    """Told what is still to be downloaded, and unpacked or copied; raises when the disk has not so much room."""
    say: Callable[[str], None]


def by_hand(row: Row, instead: str = "") -> str:
    """Return the hint for people: where a browser gets the file, and what to do with it."""
    urls = [source.url for source in row.sources if not source.dead]
    where = f" from {urls[0]}" if urls else ""
    return f"{instead}download it in a browser{where}, then `seglab fetch {row.name} --from FILE`"


def digests(path: Path, sources: Iterable[Source], meter: Meter) -> dict[str, str]:
    """Return the sha256 of a file, and its md5 if that is all that is known of one of the sources."""
    sums = {"sha256": hashlib.sha256()}
    if any(checked_by(source) == "md5" for source in sources):
        sums["md5"] = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as handle, meter("check", path.stat().st_size, 0) as advance:
        while chunk := handle.read(CHUNK_BYTES):
            for digest in sums.values():
                digest.update(chunk)
            advance(len(chunk))
    return {kind: digest.hexdigest() for kind, digest in sums.items()}


def mismatch(source: Source, sums: dict[str, str], num_bytes: int) -> str:
    """Say which known length or checksum a file does not have; empty if none is wrong."""
    if source.bytes is not None and num_bytes != source.bytes:
        return f"wrong length: {num_bytes} bytes, {source.bytes} were expected"
    kind = checked_by(source)
    if kind and getattr(source, kind) != sums[kind]:
        return f"wrong checksum: {kind} is {sums[kind]}, {getattr(source, kind)} was expected"
    return ""


def unfit(row: Row, path: Path, name: str, *, checked: bool) -> str:
    """Say why a file that is here cannot be a row's weights; empty if it can, and for archives, which unpacking judges.

    Args:
        row: What it should be.
        path: The file.
        name: What it is to be called; the suffix says of which kind the weights are.
        checked: Whether its checksum is known and right.
    """
    if row.unpack:
        return ""
    why = why_no_weights(path, name)
    size = path.stat().st_size
    if not why and row.bytes and not checked and not row.bytes / LEAST_SHARE <= size <= row.bytes * MOST_TIMES:
        why = f"{size:,} bytes long, about {row.bytes:,} were expected"
    return why


def refuse_code(row: Row, path: Path, what: str) -> None:
    """Refuse weights that would run something when they are unpickled, even if their checksum is right.

    Args:
        row: What it should be.
        path: The file, which :func:`unfit` let pass.
        what: How the message calls it.

    Raises:
        ArchiveError: If there is code in it, which is named.
    """
    code = "" if row.unpack else code_in_weights(path)
    if code:
        hint = "nothing of it was run; get weights from somebody you trust, best as .safetensors"
        raise ArchiveError(f"{what} contains code ({code}) and is refused", hint)


def checked_by(source: Source) -> str:
    """Return the kind of checksum that is known of a source, the better one of two."""
    return "sha256" if source.sha256 else "md5" if source.md5 else ""


def own_dir_of(source: Source, downloads_dir: Path) -> Path:
    """Return the folder in which what arrives from a source is kept."""
    return downloads_dir / hashlib.sha256(f"{source.way} {source.ref}".encode()).hexdigest()[:12]


def bring(row: Row, source: Source, own_dir: Path, transfer: Transfer) -> Obtained:
    """Download from one source and check what came; a part from an earlier run that proves wrong is given up once.

    Args:
        row: What is wanted.
        source: Where it is downloaded.
        own_dir: A folder for this source alone, in which parts and whole files are kept; made if it is not there.
        transfer: How it is brought.

    Raises:
        NetworkError: If the source does not give it, or an answer in words in its place.
        ArchiveError: If it gives something else, or weights that hold code.
    """
    own_dir.mkdir(parents=True, exist_ok=True)
    for last in (False, True):
        continued = _holds_bytes(own_dir)
        path = _download(row, source, own_dir, transfer)
        sums = digests(path, [source], transfer.meter)
        name = _name_of(row, source)
        why = mismatch(source, sums, path.stat().st_size) or unfit(row, path, name, checked=bool(checked_by(source)))
        wrong = why and (why if why.startswith("wrong") else f"what came is {why}")
        if not wrong:
            refuse_code(row, path, "what came")
            return replace(_keep(path, source, own_dir, sums["sha256"], name), continued=continued)
        shutil.rmtree(own_dir)
        own_dir.mkdir()
        if last or not continued:
            raise ArchiveError(wrong)
        transfer.say(f"{wrong}; from the start again")
    raise AssertionError


def _download(row: Row, source: Source, own_dir: Path, transfer: Transfer) -> Path:
    client_dir = own_dir / "client"
    need_room = partial(_need_room, row, own_dir, transfer)
    if source.way in ("drive", "drive-folder"):
        from seglab.data.fetching.drive import download_drive

        return download_drive(
            source, client_dir, transfer.policy, archive=row.unpack, meter=transfer.meter, need_room=need_room,
            say=transfer.say,
        )  # fmt: skip
    if source.way.startswith("kaggle"):
        from seglab.data.fetching.kaggle import download_kaggle

        return download_kaggle(
            source, client_dir, transfer.policy, total=row.bytes or None, meter=transfer.meter, need_room=need_room,
            say=transfer.say,
        )  # fmt: skip
    order = Order(
        url=source.ref, part_path=own_dir / "download.part", archive=row.unpack, checked=bool(checked_by(source)),
        num_bytes=source.bytes, name=_name_of(row, source),
    )  # fmt: skip
    download(order, transfer.policy, meter=transfer.meter, need_room=need_room, say=transfer.say)
    return order.part_path


def _need_room(row: Row, own_dir: Path, transfer: Transfer, num_bytes: int) -> None:
    """Look for room for what is still to come of a file, and for what is in it, which is hardly less."""
    if num_bytes:
        whole = num_bytes + sum(path.stat().st_size for path in own_dir.rglob("*") if path.is_file())
        transfer.need_room(num_bytes, (row.unpacked_bytes or whole) if row.unpack else 0)


def _name_of(row: Row, source: Source) -> str:
    """Return what a source's file will be called here."""
    from_url = Path(unquote(urlsplit(source.ref).path)).name if source.way == "url" else ""
    return source.file or re.sub(r"[^\w.-]", "_", from_url).lstrip(".") or row.name


def _keep(path: Path, source: Source, own_dir: Path, sha256: str, name: str) -> Obtained:
    """Mark a file as whole and checked, so that an interrupted unpacking does not download again."""
    done_path = own_dir / "done"
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
    # The note comes first: without it, on a disk that is full to the last byte, the file would count as nothing.
    files.write_json(own_dir / "done.json", {"name": name, "sha256": sha256, "bytes": path.stat().st_size})
    path.replace(done_path)
    return Obtained(done_path, name, source, sha256, checked_by(source))


def read_done(source: Source, own_dir: Path) -> Obtained | None:
    """Return what an interrupted fetch brought whole from a source; None if it brought nothing, or a part."""
    try:
        values = parse_json((own_dir / "done.json").read_text(encoding="utf-8"))
        if (own_dir / "done").stat().st_size != values["bytes"]:
            return None
        return Obtained(own_dir / "done", str(values["name"]), source, str(values["sha256"]), checked_by(source))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _holds_bytes(own_dir: Path) -> bool:
    return any(path.is_file() and path.stat().st_size for path in own_dir.rglob("*"))
