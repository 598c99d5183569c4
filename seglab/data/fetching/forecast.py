"""What a fetch is going to do, in sentences: ``--dry-run``."""

from pathlib import Path
from typing import Any

from seglab.data.fetching.registry import Row, Source

__all__ = ["obstacles", "steps"]


def steps(
    row: Row, dir: Path, *, from_path: Path | None, kept_bytes: int, replaces: bool, keep_archive: bool
) -> list[str]:
    """Return what happens, in order.

    Args:
        row: What is fetched.
        dir: The folder it becomes.
        from_path: The user's own file, if he gave one.
        kept_bytes: How much an interrupted fetch left.
        replaces: Whether an earlier fetch is replaced.
        keep_archive: Whether the archive stays.
    """
    told = [f"lock {dir}, so that no second fetch works on it"]
    if from_path is not None:
        told.append(f"take {from_path}, which stays as it is; the network is not used")
    else:
        ways = [_by(source) for source in row.tried]
        told.append(f"download from {', and if that fails from '.join(ways) or 'nowhere: every source is dead'}")
        kept = f"; {kept_bytes:,} bytes of it are there and are not asked for again" if kept_bytes else ""
        told.append(f"keep what arrives in .{dir.name}.download beside the folder until all is done{kept}")
    told.append(_check(row))
    if row.unpack:
        told.append(
            f"unpack it in .{dir.name}.building; names that lead elsewhere, links, devices, encrypted members and bombs"
            " are refused" + (", and the next source is asked" if from_path is None and len(row.tried) > 1 else "")
        )
        if keep_archive:
            told.append("keep the archive beside what it held")
    told.append("note origin, licence, sha256 and date in SOURCE.json")
    replaced = ", in place of what an earlier fetch left there" if replaces else ""
    told.append(f"rename the whole to {dir}{replaced}")
    return told


def obstacles(row: Row, values: dict[str, Any], *, forbidden: str, downloads: bool) -> list[str]:
    """Return what would stop a fetch, as far as one knows without trying; the disk aside.

    Args:
        row: What is fetched.
        values: The plan: ``login_found``, ``login_problems``.
        forbidden: What forbids the network, if something does.
        downloads: Whether something is to be downloaded.
    """
    told = []
    if forbidden:
        told.append(f"{forbidden} forbids the network")
    if downloads and not row.tried:
        told.append("no source is left that seglab can download from")
    if downloads and row.login and not values["login_found"]:
        problems = "; ".join(values["login_problems"])
        told.append(f"Kaggle needs a login: {problems or 'none is set up'}; `kaggle auth login` makes one")
    return told


def _by(source: Source) -> str:
    return f"{source.place} ({source.login} login)" if source.login == "Kaggle" else (
        f"{source.place} (login, and the rules accepted)" if source.login else source.place
    )  # fmt: skip


def _check(row: Row) -> str:
    sums = {kind for source in row.tried for kind in ("sha256", "md5") if getattr(source, kind)}
    what = "an archive" if row.unpack else "whole weights"
    known = f"compare its {' or '.join(sorted(sums))}" if sums else "take its sha256 (none is known to compare with)"
    return f"see that it is {what}, no web page, and {known}"
