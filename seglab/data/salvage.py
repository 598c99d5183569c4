"""Pictures that were cut off, completed so that a decoder takes them: what is there stays, the rest is filled in."""

import struct
import zlib
from typing import Final

from seglab.data.encoding import png_chunk

__all__ = ["completed_jpeg", "completed_png"]

_SIGNATURE_BYTES: Final = 8
_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples a pixel by the colour type of a PNG."""
_PASSES: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Left, top, and steps across and down of the passes of an interlaced PNG."""


def completed_jpeg(data: bytes) -> bytes:
    """Return a JPEG with an end marker: decoders fill what is missing before it with what came last, or grey."""
    return data + b"\xff\xd9"


def completed_png(data: bytes) -> bytes | None:
    """Return a PNG of the pixels that a cut-off one still has, all others 0; None if it has none.

    Args:
        data: The file, which begins with a whole header.
    """
    kept, packed = _parts(data)
    header = next((chunk[8:-4] for chunk in kept if chunk[4:8] == b"IHDR"), b"")
    if len(header) != 13 or not packed:
        return None
    size = _unpacked_bytes(header)
    try:
        rows = zlib.decompressobj().decompress(packed, size)
    except zlib.error:
        return None
    if not rows:
        return None
    whole = zlib.compress(rows + bytes(size - len(rows)), 1)
    return b"".join((data[:_SIGNATURE_BYTES], *kept, png_chunk(b"IDAT", whole), png_chunk(b"IEND", b"")))


def _parts(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole chunks before the pixels, and what there is of the packed pixels."""
    kept: list[bytes] = []
    packed: list[bytes] = []
    start = _SIGNATURE_BYTES
    while start + 8 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        name = data[start + 4 : start + 8]
        if name == b"IDAT":
            packed.append(data[start + 8 : min(end - 4, len(data))])
        elif packed or end > len(data):
            break
        else:
            kept.append(data[start:end])
        start = end
    return kept, b"".join(packed)


def _unpacked_bytes(header: bytes) -> int:
    """Return how many bytes the rows of a PNG have, each with the number of its filter."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _SAMPLES.get(colour, 4)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total
