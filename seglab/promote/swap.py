"""Replace a folder that others read in one step: at any moment, also after a kill, it is the old one or the new one."""

import contextlib
import ctypes
import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from seglab.errors import DataError
from seglab.files import sync_dir, sync_file

__all__ = ["previous_path", "replace_folder", "staging_folder"]

_AT_FDCWD: Final = -100
_OURS: Final = re.compile(r"\.[0-9a-f]{12}")
"""What we add to the name of a link for the folder that it points at."""
_EXCHANGE: Final = 2
"""Of Linux's ``renameat2``: both names go on to exist, with each other's content."""


def previous_path(path: Path) -> Path:
    """Return where the folder before is kept."""
    return path.with_name(f"{path.name}.previous")


@contextlib.contextmanager
def staging_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside ``path`` for :func:`replace_folder`; what is left there at the end is removed.

    Folders that a killed process has left are removed as well, so the caller must be the only one.

    Raises:
        DataError: If it cannot be made.
    """
    for left in path.parent.glob(f".{_escaped(path.name)}.*.part"):
        _remove(left)
    folder = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        folder.mkdir()
        if path.is_dir():
            shutil.copymode(path, folder)
        yield folder
    except OSError as error:
        where = path if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.filename or path.parent
        raise DataError(
            f"cannot write `{where}`: {error.strerror or error}", "check the space and permissions"
        ) from error
    finally:
        _remove(folder)


def replace_folder(path: Path, folder: Path, *, keep: bool) -> None:
    """Put a complete folder in the place of ``path``, on the same disk, in one step.

    A symbolic link at ``path`` is pointed at the new folder, which gets a name beside it; the folder that it pointed at
    before is removed only if an earlier call had put it there. A real folder changes places with the new one.

    Args:
        path: A folder, a link to one, or nothing.
        folder: Becomes what readers of ``path`` see. Everything in it reaches the disk first.
        keep: Leave what was there before at :func:`previous_path`.

    Raises:
        DataError: If the file system cannot do it; nothing has changed then.
    """
    for file_path in folder.iterdir():
        sync_file(file_path)
    sync_dir(folder)
    if path.is_symlink():
        _point(path, folder, keep=keep)
    elif path.exists():
        if keep:
            _keep_copy(path)
        _exchange(path, folder)
    else:
        folder.rename(path)
    sync_dir(path.parent)


def _keep_copy(path: Path) -> None:
    """Give the files of a folder second names in the folder for what was there before."""
    kept = previous_path(path)
    copy = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    shutil.copytree(path, copy, copy_function=_link)
    if kept.is_symlink():
        kept.unlink()
    if kept.exists():
        _exchange(kept, copy)
        _remove(copy)
    else:
        copy.rename(kept)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _point(path: Path, folder: Path, *, keep: bool) -> None:
    kept = previous_path(path)
    if keep and kept.is_dir() and not kept.is_symlink():
        raise DataError(f"`{kept}` is a folder, but `{path}` is a link", f"move it away: `mv {kept} {kept}.1`")
    before = [old.resolve() for old in (path, kept) if old.is_symlink()]
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}")
    folder.rename(new)
    if keep and before[0].exists():
        _set_link(kept, before[0])
    _set_link(path, new)
    for old in before:
        beside = old.parent == path.parent.resolve() and old.name.startswith(path.name)
        if beside and _OURS.fullmatch(old.name[len(path.name) :]) and old not in (path.resolve(), kept.resolve()):
            _remove(old)


def _set_link(path: Path, target: Path) -> None:
    """Make a relative link in one step."""
    link = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    link.symlink_to(os.path.relpath(target, path.parent.resolve()))
    link.replace(path)


def _exchange(path: Path, other: Path) -> None:
    """Let two folders change names in one step."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        raise _cannot_exchange(path, "the system has no call for it") from None
    if renameat2(_AT_FDCWD, os.fsencode(other), _AT_FDCWD, os.fsencode(path), _EXCHANGE) != 0:
        number = ctypes.get_errno()
        if number in (errno.EINVAL, errno.ENOSYS, errno.EBUSY, errno.EXDEV, errno.ENOTSUP):
            raise _cannot_exchange(path, os.strerror(number))
        raise OSError(number, os.strerror(number), str(path))


def _cannot_exchange(path: Path, why: str) -> DataError:
    return DataError(
        f"`{path}` cannot be replaced in one step here: {why}",
        f"make it a link, which can: `mv {path} {path}.1 && ln -s {path.name}.1 {path}`",
    )


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _escaped(name: str) -> str:
    import glob

    return glob.escape(name)
