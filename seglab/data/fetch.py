"""Bring a dataset or a checkpoint here: ``seglab fetch``. The only part of seglab that uses the network."""

import contextlib
import datetime
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from seglab import files
from seglab.data.fetching.admission import ArchiveError, Limits
from seglab.data.fetching.forecast import obstacles, steps
from seglab.data.fetching.given import check_given, take_given
from seglab.data.fetching.mirrors import obtain
from seglab.data.fetching.obtain import Obtained, Transfer
from seglab.data.fetching.places import OFFLINE_VARIABLE, SOURCE_NAME, data_path, default_dir, is_offline
from seglab.data.fetching.registry import Row
from seglab.data.fetching.retrying import Meter, Policy, no_meter
from seglab.data.fetching.room import NoRoomError, estimate, is_full, lack, megabytes, need_room
from seglab.data.fetching.unpack import Tree, read_tree, unpack
from seglab.data.staging import StagedDir
from seglab.errors import BusyError, DataError, ExitCode, Interrupted, UsageError
from seglab.notation import parse_json
from seglab.version import __version__

__all__ = ["Fetched", "fetch", "plan", "verify"]

FORMAT: Final = 1


@dataclass(frozen=True)
class Fetched:
    """A dataset or checkpoint that is here."""

    row: Row
    dir: Path
    unchanged: bool
    """Whether it was here before."""

    @property
    def path(self) -> Path:
        """The data to prepare, or the weights."""
        return data_path(self.dir)

    @property
    def next(self) -> tuple[str, ...]:
        """Commands to run next."""
        return tuple(command.replace("{path}", shlex.quote(str(self.path))) for command in self.row.next)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints: the content of ``SOURCE.json``, and where everything is."""
        return _read_source(self.dir) | {
            "dir": str(self.dir), "path": str(self.path), "unchanged": self.unchanged, "next": list(self.next),
        }  # fmt: skip


def fetch(
    row: Row,
    *,
    out: Path | None = None,
    from_path: Path | None = None,
    offline: bool = False,
    force: bool = False,
    keep_archive: bool = False,
    policy: Policy | None = None,
    limits: Limits | None = None,
    meter: Meter = no_meter,
    say: Callable[[str], None] = lambda _text: None,
) -> Fetched:
    """Bring a row here, whole and checked, or leave things as they are.

    What is downloaded lies in a hidden folder beside ``out`` until it is whole, and survives an interruption there.
    Archives are unpacked into another one, which is renamed at the end. A row that is here already is left alone.
    Where a source fails, or its archive is damaged or not to be trusted, the next one is asked.

    Args:
        row: What to bring.
        out: The folder it becomes; by default one in the cache, where models are looked for.
        from_path: A file that was downloaded already, instead of the row's sources.
        offline: Whether the network is forbidden; ``SEGLAB_OFFLINE=1`` forbids it too.
        force: Whether what an earlier fetch left in ``out`` is replaced.
        keep_archive: Whether the archive stays beside what it held.
        policy: How patient downloads are.
        limits: How much an archive may hold.
        meter: Shows bytes as they come.
        say: Told what the user should know.

    Raises:
        NetworkError: If no source gives it, a login is missing, or it would need the network and must not.
        DataError: If the file is not what it should be, every source's archive is refused, or there is no room.
        BusyError: If another process fetches into the same folder.
        Interrupted: On Ctrl-C; what came is kept, and the same command goes on.
    """
    from seglab.data.fetching.logins import find_login

    dir = _target(row, out)
    downloads_dir = dir.with_name(f".{dir.name}.download")
    if not force and _is_here(row, dir):
        _clear(dir, downloads_dir)
        return Fetched(row, dir, unchanged=True)
    transfer = Transfer(policy or Policy(), meter, partial(need_room, dir), say)

    def build(obtained: Obtained) -> None:
        if from_path is not None:
            transfer.need_room(*estimate(row, downloads_dir, from_path, keep_archive=keep_archive))
        elif row.unpack:
            transfer.need_room(0, row.unpacked_bytes or obtained.path.stat().st_size)
        _build(row, obtained, staged.build_dir, transfer, limits, keep_archive)

    with (
        StagedDir(dir, lambda there: _check_replaceable(row, there, force)) as staged,
        _in_good_order(row, downloads_dir, from_path),
    ):
        if from_path is not None:
            build(take_given(row, from_path, transfer))
        else:
            if not row.login or find_login():  # whoever has to log in first is told so, and of room later
                transfer.need_room(*estimate(row, downloads_dir))
            forbids = "--offline" if offline else OFFLINE_VARIABLE if is_offline() else ""
            obtain(row, downloads_dir, transfer, offline=forbids, use=build)
        staged.publish()
    shutil.rmtree(downloads_dir, ignore_errors=True)
    return Fetched(row, dir, unchanged=False)


def verify(row: Row, out: Path | None = None, meter: Meter = no_meter) -> Fetched:
    """Read every byte of a fetched row again and compare it with what was noted when it came.

    Raises:
        DataError: If it is not here, or not the same.
    """
    dir = _target(row, out)
    noted = _read_source(dir)
    if noted.get("name") != row.name:
        raise DataError(f"`{row.name}` is not in `{dir}`", f"`seglab fetch {row.name}` brings it")
    tree = read_tree(dir, leave_out=_leave_out(noted), digest=True, meter=meter)
    if tree.sha256 != noted.get("tree_sha256"):
        raise DataError(
            f"`{dir}` is not what was fetched: {tree.num_files} files of {tree.num_bytes} bytes,"
            f" {noted.get('files')} of {noted.get('unpacked_bytes')} were noted",
            f"`seglab fetch {row.name} --force` brings it anew",
        )
    return Fetched(row, dir, unchanged=True)


def plan(
    row: Row,
    out: Path | None = None,
    *,
    from_path: Path | None = None,
    offline: bool = False,
    force: bool = False,
    keep_archive: bool = False,
) -> dict[str, Any]:
    """Return what a fetch with the same arguments would do, without the network and without writing.

    Beside the row's fields there are ``steps``, what would happen in order, and ``obstacles``, what would stop it.

    Raises:
        DataError: If the fetch would refuse its target or the file it is given.
        UsageError: If the target is the folder we are in, or the file an address.
    """
    from seglab.data.fetching.logins import find_login, login_problems

    dir = _target(row, out)
    downloads_dir = dir.with_name(f".{dir.name}.download")
    here = _read_source(dir).get("name") == row.name
    nothing_to_do = not force and _is_here(row, dir)
    _check_replaceable(row, dir, force or nothing_to_do)
    if from_path is not None and not nothing_to_do:
        check_given(row, from_path)
    kept = 0 if from_path else _bytes_kept(downloads_dir)
    room = (0, 0) if nothing_to_do else estimate(row, downloads_dir, from_path, keep_archive=keep_archive)
    values = row.to_dict() | {
        "dir": str(dir),
        "path": str(_path_to_be(row, dir, from_path)),
        "here": here,
        "kept_bytes": kept,
        "needed_bytes": sum(room),
        "free_bytes": files.free_bytes(dir.parent),
        "login_found": find_login() if row.login else "",
        "login_problems": login_problems() if row.login else [],
    }
    if nothing_to_do:
        return values | {"steps": [f"it is in {dir} already, so nothing is done"], "obstacles": []}
    forbidden = "" if from_path else "--offline" if offline else OFFLINE_VARIABLE if is_offline() else ""
    return values | {
        "steps": steps(row, dir, from_path=from_path, kept_bytes=kept, replaces=here, keep_archive=keep_archive),
        "obstacles": obstacles(row, values, forbidden=forbidden, downloads=from_path is None) + lack(dir, room),
    }


@contextlib.contextmanager
def _in_good_order(row: Row, downloads_dir: Path, from_path: Path | None) -> Iterator[None]:
    """Keep what is worth keeping when the block ends badly: a part, a whole archive, but none that was refused."""
    try:
        yield
    except ArchiveError as error:
        if from_path is not None:
            message = error.message.replace("the archive", f"the archive `{from_path}`", 1)
            raise ArchiveError(message, error.hint) from error
        raise
    except DataError as error:
        kept = 0 if from_path is not None else _bytes_kept(downloads_dir)
        full = isinstance(error.__cause__, OSError) and is_full(error.__cause__)
        if kept and (full or isinstance(error, NoRoomError)):
            goes_on = f"the {megabytes(kept)} that came are kept, and the same command goes on from there"
            raise type(error)(error.message, f"make room; {goes_on}") from error
        raise
    except OSError as error:
        raise DataError(f"cannot read or write: {error}", "check the permissions and the disk") from error
    except (Exception, SystemExit):
        raise
    except BaseException as error:  # Ctrl-C, or a signal
        code = ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitCode.TERMINATED
        raise Interrupted(_how_it_goes_on(row, downloads_dir), exit_code=code) from error
    finally:
        _tidy(downloads_dir)


def _how_it_goes_on(row: Row, downloads_dir: Path) -> str:
    kept = _bytes_kept(downloads_dir)
    if not kept:
        return f"stopped before anything of `{row.name}` was kept; the same command starts again"
    return f"stopped; {megabytes(kept)} of `{row.name}` are kept, and the same command goes on from there"


def _clear(dir: Path, downloads_dir: Path) -> None:
    """Remove what a kill in the last moment left, unless another process is at it."""
    if downloads_dir.exists():
        with contextlib.suppress(BusyError, DataError), StagedDir(dir, lambda _there: None):
            shutil.rmtree(downloads_dir, ignore_errors=True)


def _tidy(downloads_dir: Path) -> None:
    """Remove the folder of downloads if nothing in it is worth keeping."""
    if downloads_dir.is_dir() and not any(_is_worth_keeping(path) for path in downloads_dir.rglob("*")):
        shutil.rmtree(downloads_dir, ignore_errors=True)


def _bytes_kept(downloads_dir: Path) -> int:
    return sum(path.stat().st_size for path in downloads_dir.rglob("*") if _is_worth_keeping(path))


def _path_to_be(row: Row, dir: Path, from_path: Path | None) -> Path:
    """Return what commands will be given, as far as that is known before the archive is."""
    if (dir / SOURCE_NAME).is_file():
        return data_path(dir)
    names = [source.file for source in row.tried if source.file] or ([from_path.name] if from_path else [])
    return dir / names[0] if names and not row.unpack else dir


def _is_worth_keeping(path: Path) -> bool:
    """Tell whether something holds bytes of a download, and not only notes about some."""
    return path.is_file() and path.stat().st_size > 0 and path.suffix not in (".json", ".kaggle-partial")


def _target(row: Row, out: Path | None) -> Path:
    dir = (default_dir(row) if out is None else out).expanduser().resolve()
    if dir in (Path.cwd(), *Path.cwd().parents):
        raise UsageError(f"`{out}` is the folder we are in, or holds it", "name a folder of its own: `--out DIR`")
    return dir


def _is_here(row: Row, dir: Path) -> bool:
    """Tell whether a row is in a folder already; a quick look, `--verify` reads everything."""
    if not dir.exists() or (dir.is_dir() and not any(dir.iterdir())):
        return False
    noted = _read_source(dir)
    if noted.get("name") != row.name:
        what = f"holds `{noted['name']}`" if noted.get("name") else "is there and was not made by `seglab fetch`"
        raise DataError(f"`{dir}` {what}", "choose another folder with `--out DIR`")
    tree = read_tree(dir, leave_out=_leave_out(noted), digest=False)
    if tree.num_files < noted.get("files", 0) or tree.num_bytes < noted.get("unpacked_bytes", 0):
        raise DataError(
            f"`{dir}` is not complete any more: {tree.num_files} of {noted.get('files')} files,"
            f" {tree.num_bytes} of {noted.get('unpacked_bytes')} bytes",
            f"`seglab fetch {row.name} --force` brings it anew",
        )
    return True


def _check_replaceable(row: Row, dir: Path, force: bool) -> None:
    """Raise if a folder must not be replaced: it holds what no fetch brought, or nobody asked for it."""
    if not dir.exists() or (dir.is_dir() and not any(dir.iterdir())):
        return
    if not _read_source(dir).get("name"):
        raise DataError(
            f"`{dir}` is there and was not made by `seglab fetch`", "choose another folder with `--out DIR`"
        )
    if not force:
        raise DataError(f"`{dir}` is there already", f"`seglab fetch {row.name} --force` replaces it")


def _build(
    row: Row, obtained: Obtained, dir: Path, transfer: Transfer, limits: Limits | None, keep_archive: bool
) -> None:
    """Fill the folder under construction, ``SOURCE.json`` last, and bring it to the disk."""
    _empty(dir)
    archive = ""
    if row.unpack:
        room = partial(transfer.need_room, 0)
        tree = unpack(obtained.path, dir, limits=limits, meter=transfer.meter, need_room=room)
        if keep_archive:
            archive = obtained.name
            if (dir / archive).exists():
                raise DataError(f"the archive holds a file of its own name, `{archive}`", "leave `--keep-archive` out")
            _place(obtained, dir / archive, transfer)
    else:
        _place(obtained, dir / obtained.name, transfer)
        tree = read_tree(dir, leave_out=frozenset(), digest=True)
    if (dir / SOURCE_NAME).exists():
        raise ArchiveError(f"the archive holds a `{SOURCE_NAME}` of its own", "rename it in the archive")
    files.write_json(dir / SOURCE_NAME, _source_values(row, obtained, tree, archive))
    if row.unpack:
        os.sync()  # one for all: file by file, an archive of 400,000 takes an hour


def _empty(dir: Path) -> None:
    """Remove what an archive left that was refused half-way."""
    if any(dir.iterdir()):
        shutil.rmtree(dir)
        dir.mkdir()


def _place(obtained: Obtained, target_path: Path, transfer: Transfer) -> None:
    """Give a file its name in the folder under construction: by a link if it is ours, which takes no room twice."""
    if not obtained.given:
        with contextlib.suppress(OSError):  # not every disk has links
            os.link(obtained.path, target_path)
            return
    _copy(obtained.path, target_path, transfer)


def _copy(path: Path, target_path: Path, transfer: Transfer) -> None:
    size = path.stat().st_size
    transfer.need_room(0, size)
    try:
        with path.open("rb") as source, target_path.open("xb") as target, transfer.meter("copy", size, 0) as advance:
            while chunk := source.read(1 << 20):
                target.write(chunk)
                advance(len(chunk))
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        raise DataError(
            f"cannot write `{target_path}`: {error.strerror or error}", "make room, and try again"
        ) from error


def _source_values(row: Row, obtained: Obtained, tree: Tree, archive: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": row.name,
        "kind": row.kind,
        "title": row.title,
        "task": row.task,
        "origin": row.origin,
        "url": obtained.source.url or None,
        "from": obtained.given or None,
        "file": obtained.name,
        "bytes": obtained.path.stat().st_size,
        "sha256": obtained.sha256,
        "checked": obtained.checked,
        "licence": row.licence,
        "commercial": row.commercial,
        "terms": row.terms,
        "fetched": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seglab": __version__,
        "files": tree.num_files,
        "unpacked_bytes": tree.num_bytes,
        "tree_sha256": tree.sha256,
        "archive": archive,
    }


def _leave_out(noted: dict[str, Any]) -> frozenset[str]:
    return frozenset({SOURCE_NAME, str(noted.get("archive") or SOURCE_NAME)})


def _read_source(dir: Path) -> dict[str, Any]:
    try:
        values = parse_json((dir / SOURCE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
