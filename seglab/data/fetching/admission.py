"""What may come out of an archive: every member is checked here before a byte of it is written."""

import re
import stat
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from seglab.errors import DataError

__all__ = ["BY_HAND", "Admission", "ArchiveError", "Limits", "Member", "UnreadError", "kind_of_mode", "refuse"]

NAME_BYTES: Final = 255
"""Longest name of a file or folder on common disks."""

STRETCH_BYTES: Final = 64 << 20
"""A stream is judged in stretches of so many unpacked bytes."""
BY_HAND: Final = (
    "if you trust it, unpack it by hand, say with `7z x ARCHIVE -oDIR`, which also asks for a password,"
    " and go on with `seglab prepare DIR OUT`"
)

MemberKind = Literal["file", "folder", "link", "device"]


class ArchiveError(DataError):
    """A file is damaged, another one, or not to be trusted: having it again as it is would not help."""


class UnreadError(DataError):
    """An archive is packed in a way that is not read here; another program may read it."""


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold."""

    num_members: int = 750_000
    """CelebAMask-HQ, the largest in the registry, has about 420,000."""
    ratio: int = 200
    """Unpacked bytes per packed byte of the whole archive. Photos and PNGs hardly shrink; uint8 masks as ``.npy``, with
    nothing else beside them, do by 75 to 125 times."""
    always_bytes: int = 256 << 20
    """So much may come out whatever that ratio."""
    member_ratio: int = 500
    """Unpacked bytes per packed byte of one member, or of a stretch of a stream. Masks as int64 ``.npy`` reach 300 to
    400 in a zip (single ones 700), zeros 1,030."""
    padding_bytes: int = 64 << 20
    """What goes beyond ``member_ratio`` is added up, and may be as much as this or the archive itself: a few members
    that are all background do no harm, and an archive does not hide a bomb behind photos."""


@dataclass(frozen=True)
class Member:
    """One entry of an archive."""

    name: str
    kind: MemberKind
    size: int
    """Bytes when unpacked, as the archive says."""
    encrypted: bool
    packed: int | None
    """Bytes in the archive; None where members share one stream."""
    read: Callable[[], Iterator[bytes]]
    """Yields the content; members are read in the order in which they are listed."""


def refuse(name: str, why: str, hint: str = "") -> ArchiveError:
    """Build the error for an archive with a member that must not be unpacked."""
    shown = name if len(name) <= 120 else name[:117] + "..."
    return ArchiveError(
        f"the archive is refused: `{shown}` {why}",
        f"nothing was unpacked; {hint or 'get the archive from a source that you trust'}",
    )


class Admission:
    """Checks the members of one archive in turn.

    Args:
        limits: How much the archive may hold.
        archive_bytes: Size of the archive, for the ratio.
        consumed: Returns how many of these have been read by now, where the members share one stream.
    """

    def __init__(self, limits: Limits, archive_bytes: int, consumed: Callable[[], int] | None = None) -> None:
        self._limits = limits
        self._consumed = consumed
        self._stretch_bytes = 0
        self._stretch_at = 0
        self._padding_bytes = 0
        self._most_padding = max(limits.padding_bytes, archive_bytes)
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
            raise refuse(member.name, "is encrypted", BY_HAND)
        if member.kind not in ("file", "folder"):
            raise refuse(member.name, f"is a {member.kind}")
        self._declared_bytes += member.size
        self._check_bytes(member.name, self._declared_bytes)
        if member.packed is not None:
            self._check_padding(member.name, member.size, member.packed)
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
        if self._consumed is None:
            return
        self._stretch_bytes += num_bytes
        if self._stretch_bytes >= min(STRETCH_BYTES, self._limits.padding_bytes):
            at = self._consumed()
            self._check_padding(member.name, self._stretch_bytes, at - self._stretch_at)
            self._stretch_bytes, self._stretch_at = 0, at

    def _check_bytes(self, name: str, num_bytes: int) -> None:
        if num_bytes > self._most_bytes:
            raise refuse(name, f"unpacks to more than {self._limits.ratio} times the archive's size", BY_HAND)

    def _check_padding(self, name: str, num_bytes: int, packed_bytes: int) -> None:
        self._padding_bytes += max(0, num_bytes - self._limits.member_ratio * packed_bytes)
        if self._padding_bytes > self._most_padding:
            raise refuse(name, f"unpacks to more than {self._limits.member_ratio} times its packed size", BY_HAND)

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
