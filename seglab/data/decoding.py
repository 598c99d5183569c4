"""From the bytes of a picture file to pixels as they were stored; :mod:`seglab.data.images` is the door to it.

Everything is judged by content: names and suffixes play no part. Only six formats are ever parsed (JPEG, PNG, WebP,
BMP, TIFF, GIF), and HEIC where its extra is installed. What is no picture gets a reason of a few words, and no
decoder's own text or warning is passed on.
"""

import contextlib
import errno
import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from seglab.data.kinds import foreign_reason, picture_kind
from seglab.data.salvage import completed_jpeg, completed_png
from seglab.errors import DataError

__all__ = ["MAX_PIXELS", "ImageError", "MissingExtraError", "Picture", "open_picture", "read_file"]

Array = npt.NDArray[Any]

MAX_PIXELS: Final = 178_956_970
"""Largest picture that is decoded by default, in pixels: Pillow's own limit, about 179 MP."""

MAX_BYTES: Final = 2**31
"""Largest file that is read into memory."""

_HEAD: Final = 1024
_PNG_EXIF: Final = (b"eXIf", b"Raw profile type exif", b"adobe.xmp")
_ORIENTATION: Final = 0x0112
"""Number of an EXIF field."""
_TIFF_PIXELS: Final = (
    *range(254, 260), 262, 263, 266, 273, *range(277, 282), 284, 292, 293, 297, 317, *range(320, 326), 330, 338, 339,
    347, *range(512, 522), *range(529, 533), 34675,
)  # fmt: skip
"""Fields that say how the pixels of a TIFF are stored."""
_EOI: Final = b"\xff\xd9"
_SOS: Final = b"\xff\xda"

# The plugins are called directly: `PIL.Image.open` applies a process-wide pixel limit and warns from half of it on.
_PLUGINS: Final[dict[str, Callable[..., Image.Image]]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "HEIC": lambda stream: _open_heic(stream),
}
# The bits of OpenCV's IMREAD_REDUCED_* alone: the names stand for colour order, too.
_REDUCED: Final = {1: 0, 2: 16, 4: 32, 8: 64}
# Notes of a photo replace what Pillow says about odd metadata, and our own limit its warnings about large pictures.
warnings.filterwarnings("ignore", module=r"PIL\.(Bmp|Gif|Jpeg|Png|Tiff|WebP)ImagePlugin")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
if "OPENCV_LOG_LEVEL" not in os.environ:
    logging: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 4 has it at the top
    logging.setLogLevel(0)


class ImageError(DataError):
    """A file is not a picture that can be read; the message is the reason in a few words, without the file's name."""


class MissingExtraError(ImageError):
    """A picture that an extra of seglab could read which is not installed; the message names the command."""


class Picture:
    """A picture file in memory whose header has been read and whose pixels have not.

    Attributes:
        data: The whole file, or its beginning where only the header was asked for.
        format: ``JPEG``, ``PNG``, ``WebP``, ``BMP``, ``TIFF``, ``GIF`` or ``HEIC``.
        pil: The picture as Pillow sees it, not loaded.
        orientation: EXIF orientation 1..8 that is still to be applied to the stored pixels.
        salvage: Whether a JPEG or PNG that is cut off is decoded as far as it goes.
        notes: What a person should know, in words; grows while decoding.
    """

    def __init__(self, data: bytes, format_name: str, pil: Image.Image) -> None:
        self.data = data
        self.format = format_name
        self.pil = pil
        self.salvage = False
        self.notes: list[str] = []
        self.orientation = self._orientation()

    @property
    def mode(self) -> str:
        """Pillow's mode: ``L``, ``P``, ``RGB``..."""
        return self.pil.mode

    @property
    def rawmode(self) -> str:
        """How a sample lies in the file in Pillow's words, e.g. ``L;4`` or ``RGB;16B``; empty where it has none."""
        tiles: Any = getattr(self.pil, "tile", ())
        arguments = tiles[0][3] if tiles else ""
        first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        return first if isinstance(first, str) else ""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width as displayed, the orientation applied."""
        width, height = self.pil.size
        return (width, height) if self.orientation >= 5 else (height, width)

    @property
    def num_frames(self) -> int:
        """Frames of an animation, pages of a TIFF; 1 otherwise."""
        try:
            return int(getattr(self.pil, "n_frames", 1))
        except Exception:  # noqa: BLE001 - counting walks through all frames, and later ones may be broken
            return 1

    def is_lossy(self) -> bool:
        """Tell whether the format changes pixel values: JPEG, HEIC, and WebP unless it is the lossless kind."""
        return self.format in ("JPEG", "HEIC") or (self.format == "WebP" and b"VP8L" not in self.data[:_HEAD])

    def load(self) -> Image.Image:
        """Decode with Pillow.

        Raises:
            ImageError: If pixels are missing or broken.
        """
        if self.format == "PNG":
            _pixel_chunks(self.data)
        elif self.format == "JPEG" and _lacks_end("JPEG", self.data):
            self._end_jpeg()
        try:
            self.pil.load()
        except Exception as error:
            if not (self.salvage and self.format == "PNG" and _pixel_chunks(self.data) is None):
                raise self._broken(error) from error
            self._salvage(completed_png(self.data)).load()
        return self.pil

    def decode_fast(self, flags: int, reduce: int = 1) -> Array | None:
        """Decode a JPEG or PNG with OpenCV; None where Pillow must have a look, be it only for the reason.

        Args:
            flags: OpenCV's.
            reduce: 2, 4 or 8 to decode a JPEG to that part of its sides, rounded up.
        """
        data: bytes | None = self.data
        if self.format == "PNG":
            data = _pixel_chunks(self.data)
        elif _lacks_end("JPEG", self.data):
            data = None
        if data is None:
            return None
        with contextlib.suppress(cv2.error):
            pixels: Array | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags | _REDUCED[reduce])
            if pixels is not None and pixels.shape[1::-1] == tuple(-(-side // reduce) for side in self.pil.size):
                return pixels
        return None

    def upright_exif(self) -> bytes | None:
        """Return the EXIF block without the orientation; None if there is none that can be read."""
        try:
            exif = self._exif()
            for number in (_ORIENTATION, *_TIFF_PIXELS):
                exif.pop(number, None)
            return exif.tobytes() if len(exif) else None
        except Exception:  # noqa: BLE001 - parsers raise anything on broken metadata
            return None

    def _orientation(self) -> int:
        if self.format in ("TIFF", "HEIC"):  # Pillow turns these itself
            return 1
        if self.format == "PNG" and not any(mark in self.data for mark in _PNG_EXIF):
            return 1  # asking would make Pillow decode the whole picture
        try:
            exif = self._exif()
            value = exif.get(_ORIENTATION, 1)
            corrupt = not exif and len(self.pil.info.get("exif", b"")) > 20
        except Exception:  # noqa: BLE001 - parsers raise anything on broken metadata
            value, corrupt = 1, True
        if corrupt:
            self.notes.append("corrupt EXIF ignored")
        return value if isinstance(value, int) and 1 <= value <= 8 else 1

    def _exif(self) -> Image.Exif:
        if self.format != "PNG":
            return self.pil.getexif()
        # Pillow would decode a PNG to look for a block behind the pixels.
        place = self.data.find(b"eXIf")
        if place > 0 and "exif" not in self.pil.info:
            size = int.from_bytes(self.data[place - 4 : place], "big")
            self.pil.info["exif"] = b"Exif\0\0" + self.data[place + 4 : place + 4 + size]
        return Image.Image.getexif(self.pil)

    def _end_jpeg(self) -> None:
        try:
            self.pil = _open("JPEG", io.BytesIO(complete_jpeg(self.data)))
            self.notes.append("JPEG without an end marker")
        except ImageError:
            if not self.salvage:
                raise
            self._salvage(completed_jpeg(self.data))

    def _salvage(self, completed: bytes | None) -> Image.Image:
        if completed is None:
            raise ImageError(f"truncated {self.format}")
        self.pil = _open(self.format, io.BytesIO(completed))
        self.notes.append(f"truncated {self.format}: the missing part is filled in")
        return self.pil

    def _broken(self, error: Exception) -> ImageError:
        if isinstance(error, Image.DecompressionBombError):
            return ImageError("is larger than Pillow decodes")
        if isinstance(error, MemoryError):
            return ImageError("not enough memory to decode it")
        text = str(error).lower()
        cut = any(word in text for word in ("truncat", "unexpected end", "eof", "not processed", "incomplete"))
        cut = cut or isinstance(error, EOFError) or _lacks_end(self.format, self.data)
        return ImageError(f"truncated {self.format}" if cut else f"corrupt {self.format}")


def read_file(path: Path, num_bytes: int = -1) -> bytes:
    """Read a file that may be a picture; never waits on a pipe and never reads what cannot be one.

    Args:
        path: The file.
        num_bytes: How much of its beginning to read; all of it by default.

    Raises:
        ImageError: With the reason: missing, a folder, a device, no permission, empty, too large.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("is a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"a file of {status.st_size / 1e9:.1f} GB is over the limit of {MAX_BYTES / 1e9:.1f} GB")
        with path.open("rb", buffering=0) as handle:  # one read, into memory of the right size
            head = handle.read(_HEAD)
            _format(head)
            handle.seek(0)
            return handle.read(num_bytes)
    except OSError as error:
        raise ImageError(_os_reason(path, error)) from error
    except ValueError as error:  # a zero byte in the name
        raise ImageError("no such file") from error


def open_picture(data: bytes, *, max_pixels: int | None = MAX_PIXELS) -> Picture:
    """Read the header of a picture.

    Args:
        data: The file, or enough of it for the header.
        max_pixels: Most pixels that may be decoded; None if nothing will be.

    Raises:
        ImageError: If it is no picture, or too large.
    """
    format_name = _format(data)
    try:
        pil = _open(format_name, io.BytesIO(data))
    except MissingExtraError:
        raise
    except Exception as error:
        if format_name == "BMP":  # two letters are weak evidence
            raise ImageError(foreign_reason(data[:_HEAD])) from error
        if reason := _odd_tiff(data) if format_name == "TIFF" else "":
            raise ImageError(reason) from error
        cut = _lacks_end(format_name, data) or isinstance(error, EOFError) or "truncated" in str(error).lower()
        raise ImageError(f"truncated {format_name}" if cut else f"corrupt {format_name}") from error
    num_pixels = pil.width * pil.height
    if max_pixels is not None and num_pixels > max_pixels:
        raise ImageError(
            f"{num_pixels / 1e6:.3g} MP is over the limit of {max_pixels / 1e6:.3g} MP",
            "raise the limit with --max-pixels if the file is trusted",
        )
    return Picture(data, format_name, pil)


def complete_jpeg(data: bytes) -> bytes:
    """Return a JPEG that lacks its end marker with one, if all its pixels are there.

    They are if they do not depend on what follows: the file is decoded with several continuations.

    Raises:
        ImageError: If pixels are missing.
    """
    filler = bytes((37 * i + 11) % 251 for i in range(8192))
    starts = [b"\xaa", b"\x55", b"\xc3", b"\x3c"]
    if b"\xff\xdd" in data[: data.find(_SOS)]:  # restart intervals: anything but the next restart marker is skipped
        starts += [bytes((0xFF, 0xD0 + number)) for number in range(8)]
    tails = [b"", *(start + filler for start in starts)]
    try:
        first, *others = (np.array(_open("JPEG", io.BytesIO(data + tail + _EOI))) for tail in tails)
    except Exception as error:
        raise ImageError("truncated JPEG") from error
    if not all(np.array_equal(first, other) for other in others) or not _scans_cover(data):
        raise ImageError("truncated JPEG")
    return data + _EOI


def _scans_cover(data: bytes) -> bool:
    """Tell whether the scans of a JPEG give every coefficient of every component to the last bit."""
    layers: Any = getattr(_open("JPEG", io.BytesIO(data)), "layer", ())
    left = {layer[0]: set(range(64)) for layer in layers}
    start = data.find(_SOS)
    while 0 <= start < len(data) - 5:
        num = data[start + 4]
        header = data[start + 5 : start + 5 + 2 * num + 3]
        if len(header) < 2 * num + 3:
            return False
        first, last, bits = header[-3:]
        for component in header[: 2 * num : 2]:
            if bits & 15 == 0:
                left.get(component, set()).difference_update(range(first, last + 1))
        start = data.find(_SOS, start + 2)
    return not any(left.values())


def _open(format_name: str, stream: BinaryIO) -> Image.Image:
    return _PLUGINS[format_name](stream)


def _odd_tiff(data: bytes) -> str:
    """Return which samples a TIFF has that Pillow does not read; nothing if they are none of the known kinds."""
    try:
        fields = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        stream = io.BytesIO(data)
        stream.seek(fields.next)
        fields.load(stream)
        kind, bits = max(fields.get(339, (1,))), max(fields.get(258, (1,)))
    except Exception:  # noqa: BLE001 - the parser raises anything on a broken file
        return ""
    if kind == 3:
        return "float TIFF is not supported"
    what = {2: "signed ", 5: "complex ", 6: "complex "}.get(kind, "")
    return f"{bits}-bit {what}TIFF is not supported" if what or bits > 16 else ""


def _open_heic(stream: BinaryIO) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise MissingExtraError('is HEIC, which needs an extra: `pip install "seglab[heic]"`') from None
    opener: Any = HeifImageFile
    picture: Image.Image = opener(stream)
    return picture


def _pixel_chunks(data: bytes) -> bytes | None:
    """Return a PNG without the chunks that do not touch pixels; None if its end is missing.

    Raises:
        ImageError: If a checksum is wrong, which Pillow does not look at.
    """
    kept = [data[:8]]
    start = 8
    while start + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, start)
        end = start + 12 + size
        name = data[start + 4 : start + 8]
        if end > len(data):
            return None
        if name[0] & 32 == 0:  # an upper-case first letter: needed to decode
            chunk = data[start:end]
            if zlib.crc32(memoryview(chunk)[4:-4]) != int.from_bytes(chunk[-4:], "big"):
                raise ImageError("corrupt PNG")
            kept.append(chunk)
        if name == b"IEND":
            return b"".join(kept)
        start = end
    return None


def _lacks_end(format_name: str, data: bytes) -> bool:
    if format_name == "JPEG":
        return not data.endswith(_EOI) and _EOI not in data[max(0, data.rfind(_SOS)) :]
    if format_name == "PNG":
        return b"IEND" not in data[-4096:]
    if format_name == "GIF":
        return not data.endswith(b";")
    if format_name == "WebP":
        return len(data) < 12 or len(data) < 8 + int.from_bytes(data[4:8], "little")
    return False


def _format(data: bytes) -> str:
    """Return the format of a picture's first bytes, or raise the reason why it is none."""
    name = picture_kind(data)
    if name is None:
        raise ImageError(foreign_reason(data[:_HEAD]))
    return name


def _os_reason(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "broken link" if path.is_symlink() else "no such file"
    if error.errno == errno.ELOOP:
        return "link loop"
    if isinstance(error, PermissionError):
        return "permission denied"
    return (error.strerror or "cannot be read").lower()
