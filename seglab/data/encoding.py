"""From pixels to the bytes of a PNG, JPEG or WebP file."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from seglab.errors import DataError

__all__ = [
    "VOID_RGB",
    "encode_ids16",
    "encode_jpeg",
    "encode_labels",
    "encode_palette",
    "encode_png",
    "encode_webp",
    "png_chunk",
]

Pixels = npt.NDArray[np.uint8]

_IHDR_END: Final = 33
_EXIF_MARK: Final = b"Exif\0\0"
_MAX_SEGMENT: Final = 65_000
"""Bytes of EXIF, or of a part of a profile, that a JPEG holds for certain."""
VOID_RGB: Final = (224, 224, 192)
"""The colour of ignored pixels and of ids without a colour."""
_TO_BGR: Final = {1: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
_SMALL: Final = [
    cv2.IMWRITE_PNG_COMPRESSION, 6,
    cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT,
    cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_ALL_FILTERS,
]  # fmt: skip
"""Six times the time of OpenCV's default for a photo, and about a third off its size."""
_ICC_MARK: Final = b"ICC_PROFILE\0"


def encode_png(
    pixels: Pixels,
    *,
    icc: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    exif: bytes | None = None,
    small: bool = False,
) -> bytes:
    """Encode grey (HW), RGB or RGBA (HWC) uint8 pixels with OpenCV's fast settings.

    Args:
        pixels: What to encode.
        icc: Colour profile to embed.
        dpi: Horizontal and vertical dots an inch.
        exif: EXIF block to embed.
        small: Take several times as long for a smaller file of the same pixels.
    """
    chunks = []
    if icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)))
    return _with_chunks(_encode(".png", pixels, _SMALL if small else ()), [*chunks, *_about(dpi, exif)])


def encode_labels(labels: Pixels, *, dpi: tuple[float, float] | None = None, exif: bytes | None = None) -> bytes:
    """Encode HW uint8 class ids as an 8-bit grey PNG.

    Large even areas and few values: without the filters that photos like, such a file is a third smaller, and sooner
    written.

    Args:
        labels: What to encode.
        dpi: Horizontal and vertical dots an inch.
        exif: EXIF block to embed.
    """
    png = _encode(".png", labels, [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE])
    return _with_chunks(png, _about(dpi, exif))


def encode_ids16(ids: npt.NDArray[np.uint16]) -> bytes:
    """Encode HW uint16 ids as a 16-bit grey PNG."""
    return _encode(".png", ids, [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE])


def encode_palette(labels: Pixels, palette: Sequence[tuple[int, int, int]]) -> bytes:
    """Encode HW uint8 class ids as a PNG of mode P whose indices are the ids.

    Ids beyond the palette (255, say) get a pale grey.
    """
    # An 8-bit grey and an 8-bit palette PNG differ in one byte of the header and the palette.
    png = encode_labels(labels)
    header = bytearray(png[16 : _IHDR_END - 4])
    if header[8:10] != b"\x08\x00":
        raise DataError("the PNG encoder did not write 8-bit grey")
    header[9] = 3
    colours = [*palette, *[VOID_RGB] * 256][: max(len(palette), int(labels.max(initial=0)) + 1)]
    png = png[:8] + png_chunk(b"IHDR", bytes(header)) + png[_IHDR_END:]
    return _with_chunks(png, [(b"PLTE", bytes(value for colour in colours for value in colour))])


def encode_jpeg(
    image: Pixels,
    *,
    quality: int = 95,
    icc: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    exif: bytes | None = None,
) -> bytes:
    """Encode a grey (HW) or RGB (HWC) uint8 picture.

    Args:
        image: What to encode.
        quality: 1..100.
        icc: Colour profile to embed.
        dpi: Horizontal and vertical dots an inch, rounded to whole ones.
        exif: EXIF block to embed; one that a JPEG segment cannot hold is left out.
    """
    jpeg = _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    has_header = jpeg[2:4] == b"\xff\xe0" and jpeg[6:11] == b"JFIF\0"
    header = jpeg[2:20] if has_header else b""
    if header and dpi:
        density = (min(65535, max(1, round(value))) for value in dpi)
        header = header[:11] + struct.pack(">BHH", 1, *density) + header[16:]
    segments = [header]
    if exif and len(exif) <= _MAX_SEGMENT:
        segments.append(_segment(0xE1, _EXIF_MARK + exif.removeprefix(_EXIF_MARK)))
    if icc and len(icc) <= 255 * _MAX_SEGMENT:
        parts = [icc[start : start + _MAX_SEGMENT] for start in range(0, len(icc), _MAX_SEGMENT)]
        counted = (_ICC_MARK + bytes((number, len(parts))) + part for number, part in enumerate(parts, start=1))
        segments += [_segment(0xE2, data) for data in counted]
    return jpeg[:2] + b"".join(segments) + jpeg[2 + len(header) :]


def encode_webp(pixels: Pixels, *, icc: bytes | None = None, exif: bytes | None = None) -> bytes:
    """Encode RGB or RGBA (HWC) uint8 pixels as lossless WebP; colours under alpha 0 are not kept.

    Raises:
        DataError: If a side is over 16383 pixels, which WebP cannot hold.
    """
    if max(pixels.shape[:2]) > 16383:
        raise DataError(f"WebP cannot hold {pixels.shape[1]} x {pixels.shape[0]} pixels", "write PNG instead")
    buffer = io.BytesIO()
    kept = {"icc_profile": icc or b"", "exif": exif or b""}
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, method=0, quality=0, **kept)
    return buffer.getvalue()


def _encode(suffix: str, pixels: Pixels | npt.NDArray[np.uint16], parameters: Sequence[int] = ()) -> bytes:
    num_channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    is_wide = pixels.dtype == np.uint16 and suffix == ".png"
    if not (pixels.dtype == np.uint8 or is_wide) or num_channels not in _TO_BGR or pixels.size == 0:
        raise ValueError(f"cannot encode an array of shape {pixels.shape} and type {pixels.dtype}")
    code = _TO_BGR[num_channels]
    stored: Any = pixels if code is None else cv2.cvtColor(pixels, code)
    try:
        done, encoded = cv2.imencode(suffix, np.ascontiguousarray(stored), list(parameters))
    except cv2.error:
        done = False
    if not done:
        raise DataError(f"cannot hold {pixels.shape[1]} x {pixels.shape[0]} pixels in a {suffix[1:].upper()} file")
    return encoded.tobytes()


def _about(dpi: tuple[float, float] | None, exif: bytes | None) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a PNG that say how large it is on paper and where it comes from."""
    chunks = []
    if dpi:
        x, y = (round(value / 0.0254) for value in dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", x, y, 1)))
    if exif:
        chunks.append((b"eXIf", exif.removeprefix(_EXIF_MARK)))
    return chunks


def _with_chunks(png: bytes, chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Insert chunks right after a PNG's header."""
    if not chunks:
        return png
    return png[:_IHDR_END] + b"".join(png_chunk(name, data) for name, data in chunks) + png[_IHDR_END:]


def _segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(data)) + data


def png_chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG: its length, its name of four letters, what is in it, and its checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
