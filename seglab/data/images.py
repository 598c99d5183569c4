"""The only door through which pictures come in and go out.

A photo is HWC uint8 RGB in displayed orientation, labels are HW uint8 class ids; BGR stays in here. Plain 8-bit JPEG
and PNG files are decoded by OpenCV, everything else by Pillow; both are lossless-exact for PNG, while JPEG decoders of
different builds may differ by a few levels. What cannot be read is an :class:`ImageError` with a short reason.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from seglab.data.decoding import MAX_PIXELS, ImageError, MissingExtraError, Picture, open_picture, read_file
from seglab.data.encoding import encode_ids16, encode_jpeg, encode_labels, encode_palette, encode_png, encode_webp
from seglab.errors import UsageError
from seglab.files import write_bytes

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "ImageError",
    "MissingExtraError",
    "Photo",
    "encode_ids16",
    "encode_jpeg",
    "encode_labels",
    "encode_palette",
    "encode_picture",
    "encode_png",
    "encode_webp",
    "photo_from_pillow",
    "read_ids16",
    "read_labels",
    "read_mode",
    "read_photo",
    "read_rgb_mask",
    "read_size",
    "resize_image",
    "resize_labels",
    "write_cutout",
    "write_ids16",
    "write_labels",
    "write_palette",
    "write_photo",
]

Pixels = npt.NDArray[np.uint8]
Array = TypeVar("Array", npt.NDArray[np.uint8], npt.NDArray[np.float32])

LARGE_PIXELS: Final = MAX_PIXELS // 2
"""Larger photos are decoded, and that is noted: they take gigabytes of memory."""
REDUCE_MARGIN: Final = 1.25
"""How much larger than wanted a JPEG that is decoded to a part of its size still is, at least."""

IMAGE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".hif"}
)
"""Suffixes, in lower case, of the files that a folder scan takes for pictures. Reading goes by content."""

_TURNS: Final[dict[int, Callable[[Any], Any]]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.flip(cv2.transpose(pixels), -1),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


@dataclass(frozen=True)
class Photo:
    """A decoded photo and what its file said about itself."""

    image: Pixels
    """HWC uint8 RGB, turned as displayed."""
    icc: bytes | None = None
    """The RGB colour profile, to be kept in cutouts; None if there is none."""
    dpi: tuple[float, float] | None = None
    """Horizontal and vertical dots an inch as displayed."""
    exif: bytes | None = None
    """The EXIF block without the orientation, which is applied already; None if there is none or nobody asked."""
    notes: tuple[str, ...] = ()
    """What happened to it that a person may want to know, e.g. ``alpha composited on white``."""


def read_photo(
    source: Path | bytes | Picture,
    *,
    max_pixels: int = MAX_PIXELS,
    wanted_hw: tuple[int, int] | None = None,
    keep_exif: bool = False,
    allow_truncated: bool = False,
) -> Photo:
    """Decode a photo of any supported kind to 8-bit RGB.

    The EXIF orientation is applied; transparency is composited on white; 16-bit samples are divided by 257; of
    animations and multi-page files the first picture is taken.

    Args:
        source: A file, its content, or the picture that :func:`~seglab.data.decoding.open_picture` made of it.
        max_pixels: Most pixels to decode; compared with the header before any pixel is touched.
        wanted_hw: The size that the photo will be shrunk to. A JPEG of twice that and more is decoded to a half, a
            quarter or an eighth of its sides, as long as that is larger than wanted.
        keep_exif: Whether to keep the EXIF block, place and all.
        allow_truncated: Whether to decode a JPEG or PNG that is cut off as far as it goes, with a note.

    Raises:
        ImageError: With the reason in a few words.
    """
    picture = source if isinstance(source, Picture) else _open(source, max_pixels)
    picture.salvage = allow_truncated
    image = _fast_rgb(picture, wanted_hw)
    if image is None:
        image = _to_rgb(picture)
    if image.shape[0] * image.shape[1] > LARGE_PIXELS:
        picture.notes.append(f"very large, over {LARGE_PIXELS / 1e6:.0f} MP")
    exif = picture.upright_exif() if keep_exif else None
    return Photo(_turned(image, picture.orientation), _rgb_profile(picture), _dpi(picture), exif, tuple(picture.notes))


def photo_from_pillow(pil: Image.Image) -> Photo:
    """Bring a picture of Pillow's to 8-bit RGB as :func:`read_photo` does, orientation applied; it is left as it is.

    Of an animation the frame is taken that it is at.

    Raises:
        ImageError: If its pixels are missing or broken, or of a mode that is not supported.
    """
    try:
        picture = Picture(b"", "Pillow", pil.copy())
    except Exception as error:
        raise ImageError("cannot be decoded") from error
    image = _turned(_to_rgb(picture), picture.orientation)
    return Photo(image, _rgb_profile(picture), _dpi(picture), notes=tuple(picture.notes))


def read_size(path: Path) -> tuple[int, int]:
    """Return height and width of a photo as displayed, from its header.

    Raises:
        ImageError: If the file is no picture.
    """
    head = read_file(path, 1 << 16)
    if head.startswith(b"\xff\xd8"):  # other formats may keep the orientation at their end
        with suppress(ImageError):  # the header may be long: profiles, thumbnails
            return open_picture(head, max_pixels=None).size_hw
    return open_picture(read_file(path), max_pixels=None).size_hw


def read_mode(path: Path) -> str:
    """Return how a file stores its pixels in Pillow's words (``L``, ``P``, ``RGB``, ``I;16``...), without decoding.

    Raises:
        ImageError: If the file is no picture.
    """
    return open_picture(read_file(path), max_pixels=None).mode


def read_labels(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, lossy: bool = False) -> Pixels:
    """Read stored numbers as they are: grey values, palette indices, bits (0 and 1), or R = G = B.

    Colours of a palette and alpha play no part. An EXIF orientation is applied where there is one.

    Args:
        source: A file, or its content.
        max_pixels: Most pixels to decode.
        lossy: Read JPEG and lossy WebP too, whose values are only near the ones that were saved.

    Returns:
        HW uint8 numbers.

    Raises:
        ImageError: If the file is no picture, is lossy, is coloured, or has numbers over 255.
    """
    picture = _open_exact(source, max_pixels, lossy)
    return _turned(_numbers(picture), picture.orientation)


def read_ids16(source: Path | bytes, *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint16]:
    """Read a grey PNG of 8 or 16 bits as it is: what :func:`write_ids16` wrote.

    Returns:
        HW uint16 numbers.

    Raises:
        ImageError: If the file is no such picture.
    """
    picture = _open_exact(source, max_pixels, lossy=False)
    stored = np.array(picture.load())
    if picture.format != "PNG" or stored.ndim != 2 or stored.min(initial=0) < 0 or stored.max(initial=0) > 65535:
        raise ImageError("is no grey PNG of 8 or 16 bits")
    return stored.astype(np.uint16)


def read_rgb_mask(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, lossy: bool = False) -> Pixels:
    """Read a colour-coded mask as HWC uint8 RGB; palettes are looked up, alpha is dropped.

    Raises:
        ImageError: As for :func:`read_labels`.
    """
    picture = _open_exact(source, max_pixels, lossy)
    if ";16" in picture.mode or picture.mode in ("I", "F"):
        raise ImageError(f"mode {picture.mode} has no 8-bit colours")
    rgba = picture.load().convert("RGBA")
    return _turned(np.ascontiguousarray(np.array(rgba)[..., :3]), picture.orientation)


def resize_image(image: Array, size_hw: tuple[int, int]) -> Array:
    """Resize a picture with half-pixel centres: area averages where it shrinks, linear where it grows.

    Args:
        image: HWC or HW, uint8 or float32.
        size_hw: New height and width.
    """
    height, width = size_hw
    if image.shape[:2] == (height, width):
        return image.copy()
    resized: Any = image
    # Halving first is many times faster than one large area average, and the same but for rounding at even sizes.
    while max(halved := (resized.shape[0] // 4 // height, resized.shape[1] // 4 // width)):
        shape = [(side + 1) // 2 if by else side for side, by in zip(resized.shape, halved, strict=False)]
        resized = cv2.resize(resized, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    narrow = min(width, resized.shape[1]), min(height, resized.shape[0])
    if narrow != resized.shape[1::-1]:
        resized = cv2.resize(resized, narrow, interpolation=cv2.INTER_AREA)
    if narrow != (width, height):
        resized = cv2.resize(resized, (width, height), interpolation=cv2.INTER_LINEAR)
    return cast(Array, resized)


def resize_labels(labels: Pixels, size_hw: tuple[int, int]) -> Pixels:
    """Resize labels: every new pixel takes the value under its centre, as Pillow's ``NEAREST``.

    OpenCV's ``INTER_NEAREST`` and torch's ``nearest`` shift by up to half the scale in pixels; this does not. (OpenCV's
    ``INTER_NEAREST_EXACT`` does not either, but version 4 rounds ties the other way.)
    """
    height, width = size_hw
    return np.array(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))


def write_photo(path: Path, image: Pixels, *, quality: int = 95) -> None:
    """Write a JPEG, PNG or lossless WebP, by suffix, in one step; see :func:`encode_picture`.

    Raises:
        UsageError: If the suffix is another.
        DataError: If the file cannot be written.
    """
    write_bytes(path, encode_picture(path.suffix, image, quality=quality))


def write_labels(path: Path, labels: Pixels) -> None:
    """Write class ids as an 8-bit grey PNG in one step."""
    write_bytes(path, encode_labels(labels))


def write_ids16(path: Path, ids: npt.NDArray[np.uint16]) -> None:
    """Write ids of more than 8 bits as a 16-bit grey PNG in one step."""
    write_bytes(path, encode_ids16(ids))


def write_palette(path: Path, labels: Pixels, palette: Sequence[tuple[int, int, int]]) -> None:
    """Write class ids as a palette PNG in one step: looks like the palette, reads back as ids."""
    write_bytes(path, encode_palette(labels, palette))


def write_cutout(path: Path, rgba: Pixels, *, icc: bytes | None = None, dpi: tuple[float, float] | None = None) -> None:
    """Write a PNG or lossless WebP, by suffix, in one step; see :func:`encode_picture`.

    Raises:
        UsageError: If the suffix is another.
        DataError: If the file cannot be written.
    """
    write_bytes(path, encode_picture(path.suffix, rgba, icc=icc, dpi=dpi))


def encode_picture(
    suffix: str,
    pixels: Pixels,
    *,
    quality: int = 95,
    icc: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    exif: bytes | None = None,
    small: bool = False,
) -> bytes:
    """Encode a picture as JPEG, PNG or lossless WebP.

    Args:
        suffix: ``.jpg``, ``.jpeg``, ``.png`` or ``.webp``, in any case.
        pixels: HWC uint8 RGB or, but for JPEG, RGBA.
        quality: JPEG quality 1..100.
        icc: Colour profile to embed.
        dpi: Horizontal and vertical dots an inch; WebP has no place for them.
        exif: EXIF block to embed.
        small: Take several times as long for a smaller PNG of the same pixels.

    Raises:
        UsageError: If the suffix is another, or a JPEG is to hold alpha.
    """
    kind = suffix.lower()
    if kind in (".jpg", ".jpeg") and pixels.shape[2] == 3:
        return encode_jpeg(pixels, quality=quality, icc=icc, dpi=dpi, exif=exif)
    if kind == ".png":
        return encode_png(pixels, icc=icc, dpi=dpi, exif=exif, small=small)
    if kind == ".webp":
        return encode_webp(pixels, icc=icc, exif=exif)
    raise UsageError(f"cannot write pictures as `{suffix}`", "known: .png, .webp; .jpg without alpha")


def _open(source: Path | bytes, max_pixels: int) -> Picture:
    return open_picture(source if isinstance(source, bytes) else read_file(source), max_pixels=max_pixels)


def _open_exact(source: Path | bytes, max_pixels: int, lossy: bool) -> Picture:
    picture = _open(source, max_pixels)
    if picture.is_lossy() and not lossy:
        raise ImageError(f"{picture.format} is lossy and cannot hold class ids", "save masks as PNG")
    return picture


def _fast_rgb(picture: Picture, wanted_hw: tuple[int, int] | None) -> Pixels | None:
    plain = picture.mode in ("L", "RGB") and picture.rawmode in ("L", "RGB") and picture.num_frames == 1
    if picture.format not in ("JPEG", "PNG") or not plain or "transparency" in picture.pil.info:
        return None
    reduce = 1
    if wanted_hw is not None and picture.format == "JPEG":
        sides = zip(picture.size_hw, wanted_hw, strict=True)
        most = min(side / (REDUCE_MARGIN * wanted) for side, wanted in sides)
        reduce = next((factor for factor in (8, 4, 2) if factor <= most), 1)
    return picture.decode_fast(cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION, reduce)


def _to_rgb(picture: Picture) -> Pixels:
    """Decode with Pillow and bring any mode to 8-bit RGB."""
    num_frames, mode, rawmode = picture.num_frames, picture.mode, picture.rawmode
    if mode == "F":
        raise ImageError(f"float {picture.format} is not supported")
    pil = picture.load()
    if num_frames > 1:
        picture.notes.append(f"first of {num_frames} frames")
    if mode.startswith("I"):
        return _scaled_16bit(picture, np.asarray(pil))
    if ";16" in rawmode:
        picture.notes.append("16-bit samples scaled to 8")
    if mode == "CMYK":
        picture.notes.append("CMYK converted without its colour profile")
    try:
        return np.array(_on_white(picture, pil) if pil.has_transparency_data else pil.convert("RGB"))
    except ValueError:
        raise ImageError(f"{mode} colours are not supported") from None


def _on_white(picture: Picture, pil: Image.Image) -> Image.Image:
    rgba = pil.convert("RGBA")
    alpha = rgba.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return rgba.convert("RGB")
    picture.notes.append("alpha composited on white")
    canvas = Image.new("RGB", rgba.size, (255, 255, 255))
    canvas.paste(rgba, mask=alpha)
    return canvas


def _scaled_16bit(picture: Picture, grey: npt.NDArray[Any]) -> Pixels:
    if grey.min() < 0 or grey.max() > 65535:
        raise ImageError(f"32-bit {picture.format} is not supported")
    picture.notes.append("16-bit samples scaled to 8")
    scaled: Pixels = ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(scaled[..., None], 3, axis=2)


def _numbers(picture: Picture) -> Pixels:
    """Return the stored samples of a one-channel picture, undone what Pillow scales."""
    mode, rawmode = picture.mode, picture.rawmode
    if ";16" in rawmode and not mode.startswith("I"):  # Pillow keeps only the high byte of these
        stored = picture.decode_fast(cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
        if stored is None or picture.format != "PNG":
            raise ImageError(f"16-bit colour {picture.format} cannot hold class ids")
    else:
        stored = np.array(picture.load())
    if mode in ("F", "CMYK", "YCbCr", "LAB", "HSV"):
        raise ImageError("float values are not class ids" if mode == "F" else f"{mode} colours are not class ids")
    if stored.ndim == 3:
        stored = _equal_channels(stored, mode)
    if stored.min(initial=0) < 0 or stored.max(initial=0) > 255:
        raise ImageError(f"holds numbers up to {stored.max()}, but class ids end at 255")
    # Grey samples of 2 and 4 bits come scaled to 0..255.
    step = {"L;2": 85, "L;4": 17}.get(rawmode, 1)
    return np.ascontiguousarray(stored // step if step > 1 else stored, dtype=np.uint8)


def _equal_channels(stored: npt.NDArray[Any], mode: str) -> npt.NDArray[Any]:
    first = stored[..., 0]
    num_colours = 1 if mode in ("LA", "PA", "La") else 3
    for channel in range(1, num_colours):
        if not np.array_equal(first, stored[..., channel]):
            raise ImageError("holds colours, not class ids", "declare a colour table for such masks")
    return first


def _turned(pixels: npt.NDArray[Any], orientation: int) -> Pixels:
    turned: Pixels = _TURNS[orientation](pixels) if orientation > 1 else pixels
    return turned


def _rgb_profile(picture: Picture) -> bytes | None:
    icc = picture.pil.info.get("icc_profile")
    return icc if isinstance(icc, bytes) and icc[16:20] == b"RGB " else None


def _dpi(picture: Picture) -> tuple[float, float] | None:
    try:
        x, y = (float(value) for value in picture.pil.info.get("dpi", ()))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not (isfinite(x) and isfinite(y) and min(x, y) > 1 and max(x, y) < 1e6):
        return None
    return (y, x) if picture.orientation >= 5 else (x, y)
