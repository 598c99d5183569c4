"""What a file is by its first bytes: names and servers' words are not trusted."""

import string
import struct
from pathlib import Path
from typing import Final

__all__ = ["ARCHIVES", "HEAD_BYTES", "is_words", "refusal", "sniff", "sniff_file", "weight_kinds"]

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
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF8", "gif"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"%PDF-", "pdf"),
    (b"\x7fELF", "program"),
    (b"\x93NUMPY", "numpy"),
)
_TORCH_MAGIC: Final = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The number that PyTorch pickled in front of everything until its version 1.6."""
_PICKLES: Final = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
_WORDS: Final = {
    "torch-zip": "a PyTorch checkpoint",
    "torch-pickle": "a PyTorch checkpoint",
    "pickle": "a Python pickle",
    "safetensors": "a safetensors file",
    "onnx": "an ONNX graph",
    "hdf5": "an HDF5 file",
    "numpy": "a NumPy array",
    "jpeg": "a JPEG picture",
    "png": "a PNG picture",
    "gif": "a GIF picture",
    "webp": "a WebP picture",
    "tiff": "a TIFF picture",
    "bmp": "a BMP picture",
    "pdf": "a PDF document",
    "video": "a video or an HEIC picture",
    "program": "a program",
    "data": "data of no known kind",
}
_HTML: Final = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<?xml", b"<!--", b"<title", b"<meta")
_TEXT: Final = frozenset(string.printable.encode())

_TORCH: Final = ("torch-zip", "zip", "torch-pickle")
_WEIGHTS: Final = {
    ".pth": _TORCH,
    ".pt": _TORCH,
    ".ckpt": _TORCH,
    ".bin": _TORCH,
    ".tar": _TORCH,
    ".pkl": (*_TORCH, "pickle"),
    ".onnx": ("onnx",),
    ".safetensors": ("safetensors",),
}
"""What weights of a suffix may be; ``model.pth.tar`` is an old habit, and no tar."""
_ANY_WEIGHTS: Final = (*_TORCH, "pickle", "onnx", "safetensors")

_ONNX_WIRES: Final = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
"""Wire type of every field of onnx.proto's ModelProto."""


def sniff(head: bytes) -> str:
    """Return what the first bytes say: an archive, ``html``, ``text``, ``empty``, or ``data`` if they say nothing."""
    if not head:
        return "empty"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return "torch-zip" if kind == "zip" and _first_name(head).endswith("/data.pkl") else kind
    if head[257:262] == b"ustar":
        return "tar"
    if head.startswith(_PICKLES):
        return "torch-pickle" if _TORCH_MAGIC in head[:32] else "pickle"
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= 100_000_000:
        return "safetensors"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:64].lower()
    if start.startswith(_HTML):
        return "html"
    if set(head) <= _TEXT:
        return "text"
    return _rarer(head)


def sniff_file(path: Path) -> str:
    """Return what a file is by its first bytes (see :func:`sniff`)."""
    with path.open("rb") as handle:
        return sniff(handle.read(HEAD_BYTES))


def is_words(head: bytes) -> bool:
    """Tell whether the first bytes are a page or text: a server's answer in place of a file, and later another one."""
    return sniff(head) in ("html", "text")


def weight_kinds(name: str) -> tuple[str, ...]:
    """Return what a file of weights may be, as :func:`sniff` calls it; its suffix decides, if it is a known one."""
    return _WEIGHTS.get(Path(name).suffix.lower(), _ANY_WEIGHTS)


def refusal(head: bytes, *, archive: bool, name: str = "") -> str:
    """Say why what arrived cannot be what was asked for; empty if it can.

    Args:
        head: The first bytes, :data:`HEAD_BYTES` if there are so many.
        archive: Whether an archive was asked for; otherwise weights.
        name: The name of the file of weights, whose suffix says of which kind they are.
    """
    kind = sniff(head)
    if kind == "empty":
        return "an empty file"
    if kind == "html":
        return "a web page, not data" + _page_reason(head)
    if kind == "text":
        return f"text, not data: `{head[:60].decode(errors='replace').strip()}`"
    if archive and kind not in ARCHIVES:
        if kind == "data":
            return "no archive"
        return f"{_words(kind)}, " + ("not an archive" if kind in _WORDS else "which seglab does not unpack")
    if not archive and kind not in weight_kinds(name):
        wanted = weight_kinds(name)
        what = "weights" if wanted == _ANY_WEIGHTS or kind in ARCHIVES else _words(wanted[0])
        return f"{_words(kind)}, not {what}"
    return ""


def _words(kind: str) -> str:
    return _WORDS.get(kind, f"a {kind} archive")


def _first_name(head: bytes) -> str:
    """Return the name of a zip's first member."""
    if len(head) < 30:
        return ""
    return head[30 : 30 + struct.unpack_from("<H", head, 26)[0]].decode(errors="replace")


def _rarer(head: bytes) -> str:
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return "bmp"
    if head[4:8] == b"ftyp" or head.startswith(b"\x1aE\xdf\xa3"):
        return "video"
    return "onnx" if _begins_like_onnx(head) else "data"


def _begins_like_onnx(head: bytes) -> bool:
    """Tell whether bytes begin like ONNX's protobuf message: known fields of the right kind, up to the graph."""
    at, seen = 0, set()
    while at < len(head):
        number, wire = head[at] >> 3, head[at] & 7
        if head[at] & 0x80 and at + 1 < len(head):  # fields 16 to 26 have a key of two bytes
            number, at = (head[at] & 0x7F) >> 3 | head[at + 1] << 4, at + 1
        if _ONNX_WIRES.get(number) != wire:
            return False
        seen.add(number)
        value, at = _varint(head, at + 1)
        if value is None:
            break
        if number == 1 and not 0 < value < 100:
            return False
        if number == 7:
            break
        at += value if wire == 2 else 0
    return 1 in seen or 7 in seen


def _varint(data: bytes, at: int) -> tuple[int | None, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            return None, at
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
    return None, at


def _page_reason(head: bytes) -> str:
    lower = head.lower()
    if b"quota exceeded" in lower or b"too many users" in lower:
        return " (its download quota is used up; it is free again within a day)"
    if b"sign in" in lower or b"accounts.google.com" in lower or b"log in" in lower or b"login" in lower:
        return " (it asks for a login)"
    return ""
