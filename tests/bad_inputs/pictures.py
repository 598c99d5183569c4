"""Pictures as bytes: a good one, and ways to spoil it."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Uint8 = NDArray[np.uint8]


def person(height: int = 40, width: int = 60) -> Uint8:
    """Return a white person (a box in the upper left) on black, HWC."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2 + 1, : width // 2 + 1] = 255
    return image


def noise(height: int = 40, width: int = 60) -> Uint8:
    """Return a picture that does not compress, HWC."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def encoded(image: Uint8 | Image.Image, format_name: str = "PNG", **options: Any) -> bytes:
    """Return the file of a picture."""
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, format_name, **options)
    return buffer.getvalue()


def written(path: str | Path, data: bytes) -> Path:
    """Write a file and the folders above it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def huge_png(width: int, height: int) -> bytes:
    """Return a PNG of one bit a pixel, all of it black, of a few kB however large it is."""
    packer = zlib.compressobj(9)
    row = bytes(1 + -(-width // 8))
    rows = b"".join(packer.compress(row * 1000) for _ in range(height // 1000))
    packed = rows + packer.compress(row * (height % 1000)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def labels_of(path: str | Path) -> Uint8:
    """Return the class ids of a mask that predict wrote."""
    with Image.open(path) as stored:
        assert stored.mode in ("P", "L")
        return np.array(stored)
