"""What a file is by its first bytes: names and servers' words are not trusted."""

import string
from pathlib import Path
from typing import Final

__all__ = ["ARCHIVES", "HEAD_BYTES", "refusal", "sniff", "sniff_file"]

HEAD_BYTES: Final = 1024
"""How much of a file :func:`sniff` wants to see."""

ARCHIVES: Final = ("zip", "gzip", "bzip2", "xz", "7z", "tar")
"""What can be unpacked, if what a compressed file holds is a tar."""

_MAGIC: Final = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x80\x02", "pickle"),
)
_HTML: Final = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<?xml", b"<!--", b"<title", b"<meta")
_TEXT: Final = frozenset(string.printable.encode())


def sniff(head: bytes) -> str:
    """Return what the first bytes say: an archive, ``html``, ``text``, ``empty``, or ``data`` if they say nothing."""
    if not head:
        return "empty"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar":
        return "tar"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:64].lower()
    if start.startswith(_HTML):
        return "html"
    return "text" if set(head) <= _TEXT else "data"


def sniff_file(path: Path) -> str:
    """Return what a file is by its first bytes (see :func:`sniff`)."""
    with path.open("rb") as handle:
        return sniff(handle.read(HEAD_BYTES))


def refusal(head: bytes, *, archive: bool) -> str:
    """Say why what arrived cannot be what was asked for; empty if it can.

    Args:
        head: The first bytes, :data:`HEAD_BYTES` if there are so many.
        archive: Whether an archive was asked for; otherwise weights.
    """
    kind = sniff(head)
    if kind == "empty":
        return "an empty file"
    if kind == "html":
        return "a web page, not data" + _page_reason(head)
    if kind == "text":
        return f"text, not data: `{head[:60].decode(errors='replace').strip()}`"
    if not archive and kind not in ("data", "pickle", "hdf5", "zip"):
        return f"a {kind} archive, not weights"
    if archive and kind not in ARCHIVES:
        return "no archive" if kind == "data" else f"a {kind} file, which seglab does not unpack"
    return ""


def _page_reason(head: bytes) -> str:
    lower = head.lower()
    if b"quota exceeded" in lower or b"too many users" in lower:
        return " (its download quota is used up; it is free again within a day)"
    if b"sign in" in lower or b"accounts.google.com" in lower or b"log in" in lower or b"login" in lower:
        return " (it asks for a login)"
    return ""
