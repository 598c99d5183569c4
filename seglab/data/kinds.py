"""What a file is by its first bytes: a picture of some format, or something else that can be named."""

from typing import Final

__all__ = ["foreign_reason", "picture_kind"]

_MAGIC: Final = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"), (b"BM", "BMP"),
)  # fmt: skip
_FOREIGN: Final = (
    (b"%PDF", "PDF"), (b"PK\x03\x04", "a ZIP archive"), (b"\x1f\x8b", "a gzip archive"), (b"8BPS", "a PSD file"),
    (b"\x00\x05\x16\x07", "a macOS resource file"), (b"\x93NUMPY", "a NumPy array"), (b"\x89HDF", "an HDF5 file"),
    (b"\x00\x00\x00\x0cjP", "JPEG 2000"), (b"\xff\x0a", "JPEG XL"), (b"\x1a\x45\xdf\xa3", "a video"),
)  # fmt: skip
_BRANDS: Final = {b"hei": "HEIC", b"hev": "HEIC", b"mif": "HEIC", b"msf": "HEIC", b"avi": "AVIF"}
"""First three of the four letters of an ISO media file's brand."""


def picture_kind(data: bytes) -> str | None:
    """Return the format of a picture's first bytes: ``JPEG``, ``PNG``...; None for anything else."""
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp" and _BRANDS.get(data[8:11]) == "HEIC":
        return "HEIC"
    return None


def foreign_reason(data: bytes) -> str:
    """Return in a few words what the first bytes of a file are that is no picture."""
    if not data:
        return "empty file"
    for magic, what in _FOREIGN:
        if data.startswith(magic):
            return f"is {what}, not a supported image"
    if data[4:8] == b"ftyp":
        return f"is {_BRANDS.get(data[8:11], 'a video')}, not a supported image"
    text = _as_text(data)
    if text is None:
        return "not an image"
    start = text.lstrip("\ufeff \t\r\n\f").lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<body", "<script", "<title")):
        return "is HTML, not an image"
    if "<svg" in start:
        return "is SVG, not a supported image"
    if start.startswith("<?xml") and "<html" not in start:
        return "is XML, not an image"
    if "<html" in start:
        return "is HTML, not an image"
    return "is text, not an image"


def _as_text(data: bytes) -> str | None:
    for cut in range(4):  # a character may be cut at the end
        try:
            text = data[: len(data) - cut].decode()
        except UnicodeDecodeError:
            continue
        printable = all(character.isprintable() or character in "\t\r\n\f\ufeff" for character in text)
        return text if text and printable else None
    return None
