"""Photos of telephones: HEIC behind its extra, and EXIF that is kept only on request."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seglab.data.images import IMAGE_SUFFIXES, ImageError, MissingExtraError, encode_picture, read_photo, read_size
from seglab.errors import UsageError

ORIENTATION, MAKE, GPS = 0x0112, 0x010F, 0x8825


def scene(height: int = 48, width: int = 64) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[height // 2 :, width // 2 :] = (220, 40, 40), (40, 40, 220)
    return image


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE] = orientation, "a camera"
    exif.get_ifd(GPS)[1] = "N"
    return exif


def heic(image: np.ndarray, **options: Any) -> bytes:
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    heif.from_pillow(Image.fromarray(image)).save(buffer, quality=95, **options)
    return buffer.getvalue()


def test_heic_is_read_upright(tmp_path: Path) -> None:
    for orientation, turns in ((1, 0), (6, -1), (3, 2), (8, 1)):
        path = tmp_path / f"{orientation}.jpg"
        path.write_bytes(heic(scene(), exif=exif_of(orientation).tobytes()))
        photo = read_photo(path, keep_exif=True)
        expected = np.rot90(scene(), turns).astype(int)
        assert photo.image.shape == expected.shape
        assert np.abs(photo.image.astype(int) - expected).mean() < 6
        assert read_size(path) == expected.shape[:2]
        assert photo.exif is not None
        kept = Image.Exif()
        kept.load(photo.exif)
        assert (kept.get(ORIENTATION), kept.get(MAKE)) == (None, "a camera"), "it would be turned twice"


def test_heic_that_is_broken_or_too_large() -> None:
    data = heic(scene())
    with pytest.raises(ImageError, match=r"corrupt HEIC|truncated HEIC"):
        read_photo(data[: len(data) // 2])
    with pytest.raises(ImageError, match="over the limit"):
        read_photo(data, max_pixels=100)


def test_without_the_extra_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtraError, match=r'is HEIC, which needs an extra: `pip install "seglab\[heic\]"`'):
        read_photo(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert {".heic", ".heif", ".hif"} <= IMAGE_SUFFIXES, "a scan must find them to say so"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_is_kept_on_request_without_the_orientation(kind: str, suffix: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(scene()).save(buffer, kind, exif=exif_of(6).tobytes())
    assert read_photo(buffer.getvalue()).exif is None
    photo = read_photo(buffer.getvalue(), keep_exif=True)
    with Image.open(io.BytesIO(encode_picture(suffix, photo.image, exif=photo.exif))) as stored:
        assert stored.size == (48, 64)
        exif = stored.getexif()
        assert (exif.get(ORIENTATION), exif.get(MAKE)) == (None, "a camera")
        assert exif.get_ifd(GPS)[1] == "N"
        assert set(exif) == {MAKE, GPS}, "how pixels were stored elsewhere is no business of this file"


def test_photos_without_exif_or_with_a_broken_one() -> None:
    buffer = io.BytesIO()
    Image.fromarray(scene()).save(buffer, "JPEG")
    assert read_photo(buffer.getvalue(), keep_exif=True).exif is None
    data = buffer.getvalue()
    broken = data[:2] + b"\xff\xe1\x00\x20Exif\0\0" + b"\x99" * 24 + data[2:]
    assert read_photo(broken, keep_exif=True).exif is None


def test_a_block_that_a_jpeg_cannot_hold_is_left_out() -> None:
    data = encode_picture(".jpg", scene(), exif=b"Exif\0\0" + bytes(70_000))
    assert read_photo(data).image.shape == scene().shape
    assert b"Exif" not in data


def test_what_no_picture_can_be_written_as() -> None:
    with pytest.raises(UsageError, match=r"cannot write pictures as `.gif`"):
        encode_picture(".gif", scene())
    with pytest.raises(UsageError, match=r"cannot write pictures as `.jpg`"):
        encode_picture(".jpg", np.zeros((4, 4, 4), np.uint8))
