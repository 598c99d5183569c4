"""What may come out of an archive: every member is checked here before a byte of it is written."""

import re
import stat
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from seglab.errors import DataError

__all__ = ["Admission", "ArchiveError", "Limits", "Member", "kind_of_mode", "refuse"]

NAME_BYTES: Final = 255
"""Longest name of a file or folder on common disks."""

MemberKind = Literal["file", "folder", "link", "device"]


class ArchiveError(DataError):
    """An archive is damaged, or not to be trusted: having it again as it is would not help."""


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold."""

    num_members: int = 750_000
    """CelebAMask-HQ, the largest in the registry, has about 420,000."""
    ratio: int = 100
    """Unpacked bytes per packed byte. Photos hardly shrink, masks do by 10 to 40 times."""
    always_bytes: int = 1 << 30
    """So much is allowed whatever the ratio."""


@dataclass(frozen=True)
class Member:
    """One entry of an archive."""

    name: str
    kind: MemberKind
    size: int
    """Bytes when unpacked, as the archive says."""
    encrypted: bool
    read: Callable[[], Iterator[bytes]]
    """Yields the content; members are read in the order in which they are listed."""


def refuse(name: str, why: str) -> ArchiveError:
    """Build the error for an archive with a member that must not be unpacked."""
    shown = name if len(name) <= 120 else name[:117] + "..."
    return ArchiveError(
        f"the archive is refused: `{shown}` {why}", "nothing was unpacked; get the archive from a source that you trust"
    )


class Admission:
    """Checks the members of one archive in turn.

    Args:
        limits: How much the archive may hold.
        archive_bytes: Size of the archive, for the ratio.
    """

    def __init__(self, limits: Limits, archive_bytes: int) -> None:
        self._limits = limits
        self._most_bytes = max(limits.always_bytes, limits.ratio * archive_bytes)
        self._declared_bytes = 0
        self._written_bytes = 0
        self._num = 0
        self._taken: dict[str, tuple[str, bool]] = {}
        self._files: set[str] = set()

    def admit(self, member: Member) -> tuple[str, ...]:
        """Return the member's path below the target as parts; empty for the target itself.

        Raises:
            ArchiveError: If the member is refused; its name and the reason are in the message.
        """
        self._num += 1
        if self._num > self._limits.num_members:
            raise refuse(member.name, f"is one too many: more than {self._limits.num_members:,} members")
        if member.encrypted:
            raise refuse(member.name, "is encrypted")
        if member.kind not in ("file", "folder"):
            raise refuse(member.name, f"is a {member.kind}")
        self._declared_bytes += member.size
        self._check_bytes(member.name, self._declared_bytes)
        parts = _parts(member.name)
        if not parts and member.kind == "file":
            raise refuse(member.name, "has no name")
        self._take(member.name, parts, member.kind == "folder")
        return parts

    def count(self, member: Member, num_bytes: int) -> None:
        """Count bytes that were really unpacked, which may be more than the archive says.

        Raises:
            ArchiveError: If they are too many.
        """
        self._written_bytes += num_bytes
        self._check_bytes(member.name, self._written_bytes)

    def _check_bytes(self, name: str, num_bytes: int) -> None:
        if num_bytes > self._most_bytes:
            raise refuse(name, f"unpacks to more than {self._limits.ratio} times the archive's size")

    def _take(self, name: str, parts: tuple[str, ...], folder: bool) -> None:
        """Note the name and its folders; two names that a disk may hold for one are a clash."""
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            is_folder = folder or depth < len(parts)
            key = _key(path)
            taken_path, taken_folder = self._taken.setdefault(key, (path, is_folder))
            if taken_path != path:
                raise refuse(name, f"differs from `{taken_path}` only in its letters' case or accents")
            if taken_folder != is_folder:
                raise refuse(name, "is both a file and a folder")
        if parts and not folder:
            key = _key("/".join(parts))
            if key in self._files:
                raise refuse(name, "is there twice")
            self._files.add(key)


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def kind_of_mode(mode: int) -> MemberKind:
    """Return what Unix mode bits say a member is; a file where they say nothing."""
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_IFMT(mode) in (0, stat.S_IFREG) else "device"


def _parts(name: str) -> tuple[str, ...]:
    """Return the parts of a member's name; raises if they lead out of the target."""
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise refuse(name.encode("unicode_escape").decode(), "has control characters in its name")
    slashed = name.replace("\\", "/")
    if slashed.startswith("/"):
        raise refuse(name, "has an absolute name")
    if re.match(r"[A-Za-z]:", slashed):
        raise refuse(name, "names a drive")
    parts = tuple(part for part in slashed.split("/") if part not in ("", "."))
    if ".." in parts:
        raise refuse(name, "leads out of the folder")
    if any(len(part.encode("utf-8", "surrogatepass")) > NAME_BYTES for part in parts):
        raise refuse(name, f"has a name of more than {NAME_BYTES} bytes")
    try:
        slashed.encode("utf-8")
    except UnicodeEncodeError:
        raise refuse(name.encode("unicode_escape").decode(), "has a name that is not text") from None
    return parts
