import contextlib
import errno
import io
import itertools
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from seglab.data import images
from seglab.data.images import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    ImageError,
    encode_jpeg,
    encode_palette,
    encode_png,
    encode_webp,
    read_labels,
    read_mode,
    read_photo,
    read_rgb_mask,
    read_size,
    resize_image,
    resize_labels,
    write_cutout,
    write_labels,
    write_palette,
    write_photo,
)
from seglab.errors import DataError, UsageError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def scene(height=37, width=53):
    """A smooth picture without any symmetry."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    planes = [rows * 200 / height, columns * 180 / width + 30, 128 + 90 * np.sin(rows / 7 + columns / 11)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def saved(pil, format_name, **options):
    buffer = io.BytesIO()
    pil.save(buffer, format_name, **options)
    return buffer.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def raw_png(samples, *, bits, colour_type, before=b""):
    """A PNG made by hand from rows of bytes: an independent encoder for forms that Pillow does not write."""
    height, width = samples.shape[0], samples.shape[1]
    if bits == 16:
        rows = samples.astype(">u2").tobytes()
    elif bits == 8:
        rows = samples.astype(np.uint8).tobytes()
    else:
        digits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :].reshape(height, -1)
        rows = np.packbits(digits, axis=1).tobytes()
    length = len(rows) // height
    lines = b"".join(b"\0" + rows[i * length : (i + 1) * length] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return PNG_SIGNATURE + chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


# --- photos of every kind -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"subsampling": 0}])
def test_jpeg_is_decoded_as_pillow_does(options):
    data = saved(Image.fromarray(scene()), "JPEG", quality=90, **options)
    expected = np.array(Image.open(io.BytesIO(data)))
    photo = read_photo(data)
    assert np.abs(photo.image.astype(int) - expected).max() <= 3
    assert photo.notes == ()
    assert photo.image.flags.writeable


@pytest.mark.parametrize("format_name", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_are_exact(format_name):
    photo = read_photo(
        saved(Image.fromarray(scene()), format_name, **{"lossless": True} if format_name == "WEBP" else {})
    )
    assert np.array_equal(photo.image, scene())
    assert photo.notes == ()


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize("size_hw", [(1, 1), (1, 500), (500, 1), (31, 33), (7, 9)])
def test_sizes(format_name, size_hw, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(saved(Image.fromarray(scene(*size_hw)), format_name))
    assert read_photo(path).image.shape == (*size_hw, 3)
    assert read_size(path) == size_hw


def every_mode():
    """All pairs of a mode and a format that Pillow writes and reads."""
    for mode in ("L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr", "I;16", "I", "HSV"):
        grey = np.array(Image.fromarray(scene()[..., 0])).astype(np.uint16)
        pil = Image.fromarray(grey * np.uint16(257)) if mode == "I;16" else Image.fromarray(scene()).convert(mode)
        for format_name in ("PNG", "TIFF", "JPEG", "BMP", "GIF", "WEBP"):
            # Pillow 12 warns that it will stop to write mode I as PNG, as 13 has.
            with contextlib.suppress(OSError, ValueError), warnings.catch_warnings(action="ignore"):
                data = saved(pil, format_name)
                Image.open(io.BytesIO(data)).load()  # Pillow 12 cannot read its own TIFF of YCbCr
                yield mode, format_name, data


MODES = list(every_mode())


def test_modes_are_many():
    assert len(MODES) >= 35
    assert {mode for mode, _, _ in MODES} >= {"L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr", "I;16", "I"}


@pytest.mark.parametrize(("mode", "format_name", "data"), MODES, ids=[f"{m}-{f}" for m, f, _ in MODES])
def test_every_mode_is_read_as_pillow_converts_it(mode, format_name, data):
    opened = Image.open(io.BytesIO(data))
    if opened.mode.startswith("I"):
        expected = np.repeat((np.array(opened).astype(int) // (257 if mode == "I;16" else 1))[..., None], 3, axis=2)
        if mode == "I":
            expected = (expected + 128) // 257
    else:
        expected = np.array(opened.convert("RGB"))
    assert np.abs(read_photo(data).image.astype(int) - expected).max() <= (3 if format_name == "JPEG" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(orientation, format_name, tmp_path):
    data = saved(Image.fromarray(scene()), format_name, exif=exif(orientation))
    expected = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    image = read_photo(path).image
    assert image.shape[:2] == ((53, 37) if orientation >= 5 else (37, 53))
    assert np.abs(image.astype(int) - expected).max() <= 3
    assert read_size(path) == image.shape[:2]


def test_exif_orientation_in_the_slow_path_and_dpi_turn_too():
    data = saved(Image.fromarray(scene()).convert("CMYK"), "JPEG", exif=exif(6), dpi=(300, 150))
    photo = read_photo(data)
    assert photo.image.shape == (53, 37, 3)
    assert photo.dpi == (150, 300)


@pytest.mark.parametrize("value", [0, 9, 99])
def test_unknown_orientation_is_none(value):
    data = saved(Image.fromarray(scene()), "PNG", exif=exif(value))
    assert np.array_equal(read_photo(data).image, scene())


@pytest.mark.parametrize("block", [b"Exif\0\0" + b"junk" * 20, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x7f" * 40])
def test_corrupt_exif_is_ignored_with_a_note(block):
    jpeg = saved(Image.fromarray(scene()), "JPEG")
    photo = read_photo(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:])
    assert photo.image.shape == (37, 53, 3)
    assert photo.notes == ("corrupt EXIF ignored",)


def test_alpha_is_composited_on_white():
    rgba = np.dstack([scene(), np.zeros((37, 53), np.uint8)])
    rgba[:, 20:40, 3], rgba[:, 40:, 3] = 128, 255
    for format_name in ("PNG", "WEBP", "TIFF"):
        options = {"lossless": True, "exact": True} if format_name == "WEBP" else {}
        photo = read_photo(saved(Image.fromarray(rgba), format_name, **options))
        alpha = rgba[..., 3:] / 255
        expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
        assert np.abs(photo.image - expected).max() <= 1
        assert photo.notes == ("alpha composited on white",)


def test_opaque_alpha_is_not_worth_a_note():
    rgba = np.dstack([scene(), np.full((37, 53), 255, np.uint8)])
    photo = read_photo(saved(Image.fromarray(rgba), "PNG"))
    assert np.array_equal(photo.image, scene())
    assert photo.notes == ()


def test_transparent_palette_and_transparent_colour():
    palette = Image.fromarray(scene()).quantize(8)
    index = np.array(palette)[0, 0]
    photo = read_photo(saved(palette, "PNG", transparency=int(index)))
    assert (photo.image[np.array(palette) == index] == 255).all()
    assert photo.notes == ("alpha composited on white",)
    flat = np.zeros((5, 5, 3), np.uint8)
    flat[2, 2] = 10
    photo = read_photo(saved(Image.fromarray(flat), "PNG", transparency=(0, 0, 0)))
    assert photo.image[0, 0].tolist() == [255] * 3
    assert photo.image[2, 2].tolist() == [10] * 3


def test_16_bit_samples_are_divided_by_257():
    values = np.arange(0, 65536, 97, dtype=np.uint16)[:660].reshape(22, 30)
    photo = read_photo(raw_png(values, bits=16, colour_type=0))
    assert np.array_equal(photo.image[..., 1], np.round(values / 257).astype(np.uint8))
    assert photo.notes == ("16-bit samples scaled to 8",)
    deep = np.stack([values, values[::-1], values[:, ::-1]], axis=-1)
    photo = read_photo(raw_png(deep, bits=16, colour_type=2))
    assert np.abs(photo.image - deep / 257).max() <= 1
    assert photo.notes == ("16-bit samples scaled to 8",)


def test_float_and_32_bit_are_refused_with_a_reason():
    floats = Image.fromarray(np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5))
    with pytest.raises(ImageError, match=r"^float TIFF is not supported$"):
        read_photo(saved(floats, "TIFF"))
    wide = Image.fromarray(np.full((4, 5), 70000, np.int32))
    with pytest.raises(ImageError, match=r"^32-bit TIFF is not supported$"):
        read_photo(saved(wide, "TIFF"))


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "TIFF", "PNG"])
def test_first_frame_of_animations_and_pages(format_name):
    frames = [Image.fromarray(np.full((9, 11, 3), value, np.uint8)) for value in (200, 100, 0)]
    photo = read_photo(saved(frames[0], format_name, save_all=True, append_images=frames[1:]))
    assert np.abs(photo.image.astype(int) - 200).max() <= 3
    assert photo.notes == ("first of 3 frames",)


def test_multi_picture_jpeg_is_its_main_picture():
    second = Image.fromarray(scene(20, 30))
    data = saved(Image.fromarray(scene()), "MPO", save_all=True, append_images=[second])
    photo = read_photo(data)
    assert photo.image.shape == (37, 53, 3)
    assert photo.notes == ()


def test_cmyk_jpeg_has_the_colours_of_the_original():
    data = saved(Image.fromarray(scene()).convert("CMYK"), "JPEG", quality=98, subsampling=0)
    photo = read_photo(data)
    assert np.abs(photo.image.astype(int) - scene()).mean() < 3
    assert photo.notes == ("CMYK converted without its colour profile",)


def test_profile_and_dpi_are_kept_for_cutouts(tmp_path):
    profile = b"\0" * 16 + b"RGB " + bytes(range(200))
    for format_name in ("JPEG", "PNG"):
        data = saved(Image.fromarray(scene()), format_name, icc_profile=profile, dpi=(300, 300))
        photo = read_photo(data)
        assert photo.icc == profile
        assert photo.dpi == pytest.approx((300, 300), abs=0.1)
    rgba = np.dstack([scene(), np.full((37, 53), 255, np.uint8)])
    write_cutout(tmp_path / "a.png", rgba, icc=photo.icc, dpi=photo.dpi)
    again = Image.open(io.BytesIO((tmp_path / "a.png").read_bytes()))
    assert again.info["icc_profile"] == profile
    assert again.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert np.array_equal(np.array(again), rgba)
    write_cutout(tmp_path / "a.webp", rgba, icc=photo.icc)
    assert read_photo(tmp_path / "a.webp").icc == profile


def test_profiles_of_other_colour_spaces_are_dropped():
    profile = b"\0" * 16 + b"CMYK" + bytes(range(200))
    data = saved(Image.fromarray(scene()).convert("CMYK"), "JPEG", icc_profile=profile)
    assert read_photo(data).icc is None


def test_content_decides_not_the_name(tmp_path):
    for name, format_name in (("png.jpg", "PNG"), ("UPPER.JPG", "JPEG"), ("jpeg.png", "JPEG"), ("none", "GIF")):
        path = tmp_path / name
        path.write_bytes(saved(Image.fromarray(scene()), format_name))
        assert read_photo(path).image.shape == (37, 53, 3)


def test_names_of_any_kind(tmp_path):
    for name in (
        "a b.jpg",
        "é日本語🙂.jpg",
        "x[draft].jpg",
        "-v.jpg",
        "new\nline.jpg",
        "%d.jpg",
        os.fsdecode(b"\xff\xfe.jpg"),
    ):
        write_photo(tmp_path / name, scene())
        assert read_photo(tmp_path / name).image.shape == (37, 53, 3)
        assert read_size(tmp_path / name) == (37, 53)


def test_orientation_behind_the_pixels_is_found_without_decoding(tmp_path, monkeypatch):
    png = saved(Image.fromarray(scene()), "PNG")
    block = chunk(b"eXIf", exif(6)[6:])
    path = tmp_path / "x.png"
    path.write_bytes(png[:-12] + block + png[-12:])
    assert np.array_equal(read_photo(path).image, np.rot90(scene(), -1))

    def refuse(pil):
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    assert read_size(path) == (53, 37)


# --- what is no picture ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html>quota exceeded</html>", "is HTML, not an image"),
        (b"\xef\xbb\xbf \n<HTML><body>", "is HTML, not an image"),
        (b'<?xml version="1.0"?><html xmlns="x">', "is HTML, not an image"),
        (b'<?xml version="1.0"?><svg xmlns="x">', "is SVG, not a supported image"),
        (b'<?xml version="1.0"?><annotation/>', "is XML, not an image"),
        (b"this is not an image", "is text, not an image"),
        ("é" * 600, "is text, not an image"),
        (b"BMW is a maker of cars", "is text, not an image"),
        (b"BM\x00\x01\x02\xff", "not an image"),
        (b"\x00\x01\x02\x03" * 30, "not an image"),
        (b"\xff\xfe\x00random", "not an image"),
        (b"%PDF-1.7 ...", "is PDF, not a supported image"),
        (b"PK\x03\x04....", "is a ZIP archive, not a supported image"),
        (b"\0\0\0\x18ftypavif\0\0", "is AVIF, not a supported image"),
        (b"\0\0\0\x18ftypisom\0\0", "is a video, not a supported image"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "not an image"),
        (b"P6 2 2 255 aaaaaaaaaaaa", "is text, not an image"),
        (b"\xff\xd8\xff", "truncated JPEG"),
        (PNG_SIGNATURE, "truncated PNG"),
        (b"GIF89a", "truncated GIF"),
        (b"RIFF\x10\0\0\0WEBP", "truncated WebP"),
    ],
)
def test_reason_why_it_is_no_picture(data, reason, tmp_path):
    data = data.encode() if isinstance(data, str) else data
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    for read in (read_photo, read_size, read_labels, read_rgb_mask, read_mode):
        with pytest.raises(ImageError) as caught:
            read(path)
        assert caught.value.message == reason
    with pytest.raises(ImageError) as caught:
        read_photo(data)
    assert caught.value.message == reason


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    reasons = {
        tmp_path / "missing.jpg": "no such file",
        tmp_path / "link.jpg": "broken link",
        tmp_path / "loop.jpg": "link loop",
        tmp_path / "folder.jpg": "is a folder",
        tmp_path / "pipe.jpg": "not a regular file",
        Path("/dev/zero"): "not a regular file",
    }
    for path, reason in reasons.items():
        for read in (read_photo, read_size, read_labels):
            with pytest.raises(ImageError) as caught:
                read(path)
            assert caught.value.message == reason
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(ImageError):
            read_photo(tmp_path / name)


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    write_photo(path, scene())
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything

        def refuse(*args, **kwargs):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"^permission denied$"):
        read_photo(path)


def test_huge_file_that_is_no_picture_is_not_read(tmp_path):
    path = tmp_path / "sparse.jpg"
    with path.open("wb") as handle:
        handle.truncate(300_000_000)
    tracemalloc.start()
    with pytest.raises(ImageError, match=r"^not an image$"):
        read_photo(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    with path.open("wb") as handle:
        handle.truncate(3 << 30)
    with pytest.raises(ImageError, match="over the limit"):
        read_photo(path)


def test_pixel_limit_is_checked_before_decoding(tmp_path):
    row = zlib.compressobj(9)
    lines = b"".join(row.compress(b"\0" * 20001) for _ in range(20000)) + row.flush()
    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)
    bomb = PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb)
    start = time.perf_counter()
    for read in (read_photo, read_labels, read_rgb_mask):
        with pytest.raises(ImageError, match=r"^400 MP is over the limit of 179 MP$") as caught:
            read(path)
        assert "--max-pixels" in caught.value.hint
    assert time.perf_counter() - start < 1
    assert read_size(path) == (20000, 20000)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "GIF", "BMP"])
def test_pixel_limit_is_ours(format_name, monkeypatch):
    """Neither Pillow's limit nor its warnings play a part."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = saved(Image.fromarray(scene()), format_name)
    assert read_photo(data, max_pixels=37 * 53).image.shape == (37, 53, 3)
    with pytest.raises(ImageError, match="over the limit"):
        read_photo(data, max_pixels=37 * 53 - 1)
    assert MAX_PIXELS == 178_956_970


# --- broken files ---------------------------------------------------------------------------------------------------


def whole_files():
    base = Image.fromarray(scene(60, 70))
    frames = [base, base.rotate(90, expand=False)]
    yield "JPEG", saved(base, "JPEG", quality=80)
    yield "JPEG", saved(base, "JPEG", quality=80, progressive=True)
    yield "JPEG", saved(base, "JPEG", quality=80, restart_marker_blocks=2)
    yield "JPEG", saved(base.convert("L"), "JPEG")
    yield "JPEG", saved(base.convert("CMYK"), "JPEG")
    yield "JPEG", saved(base, "JPEG", exif=exif(6), icc_profile=b"\0" * 16 + b"RGB " + b"x" * 500)
    yield "PNG", saved(base, "PNG")
    yield "PNG", saved(base.convert("RGBA"), "PNG")
    yield "PNG", saved(base.quantize(16), "PNG")
    yield "GIF", saved(base, "GIF")
    yield "GIF", saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "TIFF", saved(base, "TIFF")
    yield "TIFF", saved(base, "TIFF", compression="tiff_lzw")
    yield "BMP", saved(base, "BMP")
    yield "WebP", saved(base, "WEBP")
    yield "WebP", saved(base, "WEBP", lossless=True)


@pytest.mark.parametrize(("format_name", "data"), list(whole_files()))
def test_no_cut_file_is_half_decoded(format_name, data):
    """Wherever a file is cut, it is either refused as truncated or gives all the pixels of the whole one."""
    whole = read_photo(data).image
    reasons = set()
    for length in {*range(1, len(data), max(1, len(data) // 150)), *range(max(1, len(data) - 300), len(data))}:
        try:
            assert np.array_equal(read_photo(data[:length]).image, whole), length - len(data)
        except ImageError as error:
            reasons.add(error.message)
    assert f"truncated {format_name}" in reasons or format_name == "TIFF"
    assert reasons <= {f"truncated {format_name}", "not an image", "is text, not an image", f"corrupt {format_name}"}


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_without_its_end_marker_is_complete(mode, options):
    data = saved(Image.fromarray(scene(60, 70)).convert(mode), "JPEG", **options)
    assert data.endswith(b"\xff\xd9")
    photo = read_photo(data[:-2])
    assert np.array_equal(photo.image, read_photo(data).image)
    assert "JPEG without an end marker" in photo.notes
    with pytest.raises(ImageError, match=r"^truncated JPEG$"):
        read_photo(data[:-6])


def test_progressive_jpeg_cut_between_scans_is_truncated():
    data = saved(Image.fromarray(scene(60, 70)), "JPEG", progressive=True)
    starts = [i for i in range(len(data) - 1) if data[i : i + 2] in (b"\xff\xda", b"\xff\xc4")]
    assert len(starts) > 4
    for start in starts[2:]:
        with pytest.raises(ImageError, match=r"^truncated JPEG$"):
            read_photo(data[:start])


def test_jpeg_with_bytes_after_its_end_is_fine():
    data = saved(Image.fromarray(scene()), "JPEG")
    assert np.array_equal(read_photo(data + b"motion photo " * 100).image, read_photo(data).image)


def test_corrupt_png_is_refused():
    data = bytearray(saved(Image.fromarray(scene()), "PNG"))
    data[len(data) // 2] ^= 255
    with pytest.raises(ImageError, match=r"^corrupt PNG$"):
        read_photo(bytes(data))


def test_nothing_that_a_decoder_does_escapes():
    """Flipped bytes anywhere give a picture or a reason, never another exception, and soon."""
    rng = np.random.default_rng(0)
    reasons = set()
    for (_, data), _ in itertools.product(whole_files(), range(25)):
        broken = np.frombuffer(data, np.uint8).copy()
        places = rng.integers(0, len(broken), rng.integers(1, 6))
        broken[places] = rng.integers(0, 256, len(places))
        for read in (read_photo, read_labels):
            try:
                read(broken.tobytes(), max_pixels=10**6)
            except ImageError as error:
                reasons.add(error.message)
    assert len(reasons) > 5
    assert max(len(reason) for reason in reasons) < 80
    assert not any("\n" in reason for reason in reasons)


def test_decoders_say_nothing(tmp_path):
    """Neither warnings nor lines of C libraries reach the user, whatever the file."""
    pil = Image.fromarray(scene())
    jpeg = saved(pil, "JPEG")
    block = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\xff\xff\0\0\x7f\0\0\0" + b"\x7f" * 20
    png = saved(pil, "PNG")
    odd = {
        "exif.jpg": jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:],
        "cut.jpg": jpeg[:-300],
        "noend.jpg": jpeg[:-2],
        "cut.png": png[:-100],
        "iccp.png": png[:33] + chunk(b"iCCP", b"x\0\0" + zlib.compress(b"junk" * 50)) + png[33:],
        "crc.png": png[: len(png) // 2] + bytes([png[len(png) // 2] ^ 255]) + png[len(png) // 2 + 1 :],
        "trns.png": saved(pil.quantize(8), "PNG", transparency=b"\0\x80\xff"),
        "cut.tif": saved(pil, "TIFF", compression="tiff_lzw")[:-60],
        "mpo.jpg": saved(pil, "MPO", save_all=True, append_images=[pil])[:-500],
    }
    for name, data in odd.items():
        (tmp_path / name).write_bytes(data)
    big = np.zeros((9500, 9500), np.uint8)  # over the size at which Pillow warns
    write_labels(tmp_path / "big.png", big)
    code = (
        "import sys, pathlib\n"
        "from seglab.data.images import *\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    for read in (read_photo, read_labels, read_size):\n"
        "        try: read(path)\n"
        "        except ImageError: pass\n"
        "print('done')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


# --- labels ---------------------------------------------------------------------------------------------------------


def label_map(num_classes=11, size_hw=(37, 53)):
    return np.random.default_rng(1).integers(0, num_classes, size_hw, dtype=np.uint8)


def test_labels_survive_every_way_to_store_them():
    labels = label_map()
    palette = Image.fromarray(labels)
    palette.putpalette([value for index in range(11) for value in (index * 20, 255 - index * 7, index * 3)])
    assert palette.mode == "P"
    ways = {
        "L": saved(Image.fromarray(labels), "PNG"),
        "P": saved(palette, "PNG"),
        "P with transparency": saved(palette, "PNG", transparency=0),
        "P with 4 bits": saved(palette, "PNG", bits=4),
        "GIF": saved(palette, "GIF", optimize=False),
        "BMP": saved(palette, "BMP"),
        "TIFF": saved(Image.fromarray(labels), "TIFF"),
        "16 bit": raw_png(labels, bits=16, colour_type=0),
        "16-bit TIFF": saved(Image.fromarray(labels.astype(np.uint16)), "TIFF"),
        "32-bit TIFF": saved(Image.fromarray(labels.astype(np.int32)), "TIFF"),
        "4-bit grey": raw_png(labels, bits=4, colour_type=0),
        "RGB": saved(Image.fromarray(np.repeat(labels[..., None], 3, axis=2)), "PNG"),
        "16-bit RGB": raw_png(np.repeat(labels[..., None], 3, axis=2), bits=16, colour_type=2),
        "RGBA": saved(Image.fromarray(np.dstack([labels] * 3 + [label_map(256)])), "PNG"),
        "LA": saved(la(labels), "PNG"),
        "16-bit LA": raw_png(np.dstack([labels, labels * 3]), bits=16, colour_type=4),
        "WebP": saved(Image.fromarray(np.repeat(labels[..., None], 3, axis=2)), "WEBP", lossless=True),
        "ours": encode_png(labels),
        "our palette": encode_palette(labels, [(index * 20, 7, 200) for index in range(11)]),
    }
    for way, data in ways.items():
        read = read_labels(data)
        assert read.dtype == np.uint8, way
        assert np.array_equal(read, labels), way


def la(labels):
    return Image.merge("LA", [Image.fromarray(labels), Image.fromarray(label_map(256))])


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("width", [1, 7, 53])
def test_few_bits_are_numbers_not_greys(bits, width):
    labels = label_map(2**bits, (9, width))
    assert np.array_equal(read_labels(raw_png(labels, bits=bits, colour_type=0)), labels)
    table = chunk(b"PLTE", bytes(range(3 * 2**bits)))
    assert np.array_equal(read_labels(raw_png(labels, bits=bits, colour_type=3, before=table)), labels)


def test_all_256_values_survive():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(read_labels(encode_png(values)), values)
    assert np.array_equal(read_labels(encode_palette(values, [(1, 2, 3)])), values)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda: saved(Image.fromarray(label_map()), "JPEG"), "JPEG is lossy and cannot hold class ids"),
        (lambda: saved(Image.fromarray(scene()), "WEBP"), "WebP is lossy and cannot hold class ids"),
        (lambda: saved(Image.fromarray(scene()), "PNG"), "holds colours, not class ids"),
        (
            lambda: raw_png(np.full((4, 4), 300), bits=16, colour_type=0),
            "holds numbers up to 300, but class ids end at 255",
        ),
        (
            lambda: raw_png(np.full((4, 4, 3), 256), bits=16, colour_type=2),
            "holds numbers up to 256, but class ids end at 255",
        ),
        (lambda: saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "float values are not class ids"),
        (lambda: saved(Image.fromarray(scene()).convert("CMYK"), "TIFF"), "CMYK colours are not class ids"),
    ],
)
def test_labels_refused(data, reason):
    with pytest.raises(ImageError) as caught:
        read_labels(data())
    assert caught.value.message == reason


def test_lossy_masks_are_read_when_asked():
    labels = np.zeros((32, 32), np.uint8)
    labels[:, 16:] = 255
    read = read_labels(saved(Image.fromarray(labels), "JPEG"), lossy=True)
    assert np.array_equal(read > 127, labels > 127)


def test_masks_turn_only_when_their_file_says_so():
    labels = label_map()
    assert np.array_equal(read_labels(saved(Image.fromarray(labels), "PNG", exif=exif(6))), np.rot90(labels, -1))


def test_rgb_masks():
    rgb = scene()
    assert np.array_equal(read_rgb_mask(saved(Image.fromarray(rgb), "PNG")), rgb)
    assert np.array_equal(read_rgb_mask(saved(Image.fromarray(rgb), "BMP")), rgb)
    hidden = np.dstack([rgb, np.zeros((37, 53), np.uint8)])
    assert np.array_equal(read_rgb_mask(saved(Image.fromarray(hidden), "PNG")), rgb)
    colours = [(index, 255 - index, 7) for index in range(11)]
    assert np.array_equal(read_rgb_mask(encode_palette(label_map(), colours)), np.array(colours)[label_map()])
    with pytest.raises(ImageError, match="lossy"):
        read_rgb_mask(saved(Image.fromarray(rgb), "JPEG"))
    with pytest.raises(ImageError, match="no 8-bit colours"):
        read_rgb_mask(raw_png(label_map(), bits=16, colour_type=0))


def test_mode_is_told_without_decoding(tmp_path):
    path = tmp_path / "x"
    for mode in ("L", "P", "1", "RGB", "RGBA", "LA"):
        path.write_bytes(saved(Image.fromarray(scene()).convert(mode), "PNG"))
        assert read_mode(path) == mode


# --- resizing -------------------------------------------------------------------------------------------------------


def test_labels_are_resized_exactly_as_pillow_does():
    """Every size: no shift, no new value, the same pixels."""
    for source, target in itertools.product(range(1, 40), range(1, 40)):
        labels = np.random.default_rng(source).integers(0, 256, (source, 3), dtype=np.uint8)
        expected = np.array(Image.fromarray(labels).resize((5, target), Image.Resampling.NEAREST))
        assert np.array_equal(resize_labels(labels, (target, 5)), expected)
    rng = np.random.default_rng(0)
    for _ in range(40):
        source_hw, target_hw = rng.integers(1, 1500, (2, 2)).tolist()
        labels = rng.choice(np.array([0, 3, 200, 255], np.uint8), source_hw)
        expected = np.array(Image.fromarray(labels).resize(target_hw[::-1], Image.Resampling.NEAREST))
        assert np.array_equal(resize_labels(labels, tuple(target_hw)), expected)


@pytest.mark.parametrize("side", [64, 100, 224, 511])
def test_shrunk_disc_keeps_its_centre(side):
    rows, columns = np.mgrid[:512, :512] + 0.5
    disc = ((rows - 200) ** 2 + (columns - 290) ** 2 < 120**2).astype(np.uint8)
    shrunk = resize_labels(disc, (side, side))
    found = (np.argwhere(shrunk).mean(axis=0) + 0.5) * 512 / side
    assert np.abs(found - (200, 290)).max() < max(0.5, 0.1 * 512 / side)
    shifted = cv2.resize(disc, (side, side), interpolation=cv2.INTER_NEAREST)
    drift = (np.argwhere(shifted).mean(axis=0) + 0.5) * 512 / side - (200, 290)
    assert side == 511 or np.abs(drift).max() > 0.1 * 512 / side  # the test can tell


@pytest.mark.parametrize("target_hw", [(37, 53), (1, 1), (74, 106), (10, 200), (200, 10), (37, 20), (80, 53)])
def test_resized_pictures_keep_mean_and_place(target_hw):
    image = scene()
    resized = resize_image(image, target_hw)
    assert resized.shape == (*target_hw, 3)
    assert resized.dtype == np.uint8
    assert np.allclose(resized.mean(axis=(0, 1)), image.mean(axis=(0, 1)), atol=1.5)
    if min(target_hw) > 5:
        rows = resized[..., 0].astype(float).mean(axis=1)  # a ramp from top to bottom
        expected = (np.arange(target_hw[0]) + 0.5) * 37 / target_hw[0] - 0.5
        middle = slice(target_hw[0] // 5, -target_hw[0] // 5)
        assert np.abs(rows[middle] - expected[middle] * 200 / 37).max() < 3


def test_same_size_is_a_copy():
    image = scene()
    assert np.array_equal(resize_image(image, (37, 53)), image)
    assert resize_image(image, (37, 53)) is not image


def test_shrinking_does_not_alias():
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize_image(stripes, (37, 41)).astype(int) - 127).max() < 8


# --- writing --------------------------------------------------------------------------------------------------------


def test_written_photos_are_read_back(tmp_path):
    for name in ("a.png", "a.PNG", "a.webp"):
        write_photo(tmp_path / name, scene())
        assert np.array_equal(read_photo(tmp_path / name).image, scene())
    sizes = []
    for quality in (50, 95):
        write_photo(tmp_path / "a.jpg", scene(), quality=quality)
        sizes.append((tmp_path / "a.jpg").stat().st_size)
        assert np.abs(read_photo(tmp_path / "a.jpg").image.astype(int) - scene()).mean() < 6
    assert sizes[0] < sizes[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.PNG", "a.jpg", "a.png", "a.webp"]


def test_unknown_suffixes_are_refused(tmp_path):
    for write in (write_photo, write_cutout):
        with pytest.raises(UsageError, match=r"`\.tiff`"):
            write(tmp_path / "a.tiff", scene())
    with pytest.raises(UsageError):
        write_cutout(tmp_path / "a.jpg", np.dstack([scene(), scene()[..., 0]]))
    assert list(tmp_path.iterdir()) == []


def test_labels_are_8_bit_grey_pngs(tmp_path):
    write_labels(tmp_path / "a.png", label_map())
    opened = Image.open(tmp_path / "a.png")
    assert (opened.format, opened.mode) == ("PNG", "L")
    assert np.array_equal(np.array(opened), label_map())


def test_palette_pngs_hold_ids_and_look_like_the_palette(tmp_path):
    palette = [(index * 20, 255 - index, 9) for index in range(11)]
    labels = label_map()
    labels[0, :5] = 255
    write_palette(tmp_path / "a.png", labels, palette)
    opened = Image.open(tmp_path / "a.png")
    opened.load()
    assert (opened.format, opened.mode) == ("PNG", "P")
    assert np.array_equal(np.array(opened), labels)
    shown = np.array(opened.convert("RGB"))
    assert np.array_equal(shown[1:], np.array(palette)[labels[1:]])
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], shown)
    assert len({tuple(rgb) for rgb in shown[0, :5].tolist()} - set(palette)) == 1


def test_all_forms_of_cutout(tmp_path):
    rgba = np.dstack([scene(), label_map(256)])
    rgba[:5, :, 3] = 0
    write_cutout(tmp_path / "a.png", rgba)
    assert np.array_equal(np.array(Image.open(tmp_path / "a.png")), rgba)
    write_cutout(tmp_path / "a.webp", rgba)
    again = np.array(Image.open(io.BytesIO((tmp_path / "a.webp").read_bytes())))
    assert np.array_equal(again[..., 3], rgba[..., 3])
    assert np.array_equal(again[rgba[..., 3] > 0], rgba[rgba[..., 3] > 0])


def test_what_cannot_be_written_is_said(tmp_path):
    with pytest.raises(DataError, match="WebP cannot hold"):
        encode_webp(np.zeros((1, 16384, 3), np.uint8))
    with pytest.raises(DataError, match="JPG"):
        encode_jpeg(np.zeros((1, 70000, 3), np.uint8))
    with pytest.raises(ValueError, match="shape"):
        encode_png(np.zeros((4, 4), np.float32))
    with pytest.raises(DataError):
        write_labels(tmp_path / "missing" / "a.png", label_map())


def test_suffixes():
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"} <= IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() for suffix in IMAGE_SUFFIXES)


# --- real odd files -------------------------------------------------------------------------------------------------

UPRIGHT = ((480, 360), ())
REAL = {
    ".DS_Store": "not an image",
    "__MACOSX/._reference.jpg": "is a macOS resource file, not a supported image",
    "UPPER.JPG": UPRIGHT,
    "animated.gif": ((213, 160), ("first of 3 frames",)),
    "bilevel.png": UPRIGHT,
    "cmyk.jpg": ((480, 360), ("CMYK converted without its colour profile",)),
    "empty.jpg": "empty file",
    "exif_orientation_3.jpg": UPRIGHT,
    "exif_orientation_5.jpg": UPRIGHT,
    "exif_orientation_6.jpg": UPRIGHT,
    "exif_orientation_8.jpg": UPRIGHT,
    "gray.jpg": UPRIGHT,
    "gray16.png": ((480, 360), ("16-bit samples scaled to 8",)),
    "gray_alpha.png": ((480, 360), ("alpha composited on white",)),
    "mask_01.png": UPRIGHT,
    "mask_1bit.png": UPRIGHT,
    "mask_lossy.jpg": UPRIGHT,
    "mask_palette.png": UPRIGHT,
    "mask_rgb.png": UPRIGHT,
    "mask_smaller.png": ((432, 324), ()),
    "misnamed_jpeg.png": UPRIGHT,
    "misnamed_png.jpg": UPRIGHT,
    "name with space & ünïcode 人.jpg": UPRIGHT,
    "no_extension": UPRIGHT,
    "one_pixel.png": ((1, 1), ()),
    "palette.png": UPRIGHT,
    "palette_transparent.png": ((480, 360), ("alpha composited on white",)),
    "progressive.jpg": UPRIGHT,
    "reference.jpg": UPRIGHT,
    "reference_mask.png": UPRIGHT,
    "rgb.bmp": ((320, 240), ()),
    "rgb.tif": ((320, 240), ()),
    "rgb.webp": UPRIGHT,
    "rgba.png": ((480, 360), ("alpha composited on white",)),
    "text.jpg": "is text, not an image",
    "tiny_7x9.png": ((9, 7), ()),
    "truncated.jpg": "truncated JPEG",
    "very_tall.jpg": ((1600, 40), ()),
    "very_wide.jpg": ((60, 2400), ()),
}
SAME_SCENE = [
    "UPPER.JPG",
    "cmyk.jpg",
    "exif_orientation_3.jpg",
    "exif_orientation_5.jpg",
    "exif_orientation_6.jpg",
    "exif_orientation_8.jpg",
    "misnamed_png.jpg",
    "palette.png",
    "progressive.jpg",
    "rgb.webp",
]
REAL_MASKS = {
    "mask_01.png": {0, 1},
    "mask_1bit.png": {0, 1},
    "mask_palette.png": {0, 1},
    "mask_rgb.png": {0, 255},
    "reference_mask.png": {0, 255},
}


@pytest.fixture
def quirks_dir():
    root = os.environ.get("SEGLAB_REAL_DATA")
    if not root or not Path(root, "quirks").is_dir():
        pytest.skip("needs real photos: SEGLAB_REAL_DATA is not set to a folder with `quirks`")
    return Path(root, "quirks")


@pytest.mark.real
def test_real_odd_files(quirks_dir):
    found = {path.relative_to(quirks_dir).as_posix() for path in quirks_dir.rglob("*") if path.is_file()}
    assert found == set(REAL)
    outcome = {}
    for name in REAL:
        try:
            photo = read_photo(quirks_dir / name)
            outcome[name] = photo.image.shape[:2], photo.notes
            assert read_size(quirks_dir / name) == photo.image.shape[:2]
        except ImageError as error:
            outcome[name] = error.message
    assert outcome == REAL


@pytest.mark.real
def test_real_odd_files_show_the_same_scene(quirks_dir):
    reference = read_photo(quirks_dir / "reference.jpg").image.astype(int)
    for name in SAME_SCENE:
        assert np.abs(read_photo(quirks_dir / name).image - reference).mean() < 12, name


@pytest.mark.real
def test_real_masks(quirks_dir):
    reference = read_labels(quirks_dir / "reference_mask.png") > 0
    for name, values in REAL_MASKS.items():
        labels = read_labels(quirks_dir / name)
        assert set(np.unique(labels).tolist()) == values, name
        assert np.array_equal(labels > 0, reference), name
    with pytest.raises(ImageError, match="lossy"):
        read_labels(quirks_dir / "mask_lossy.jpg")


def test_module_lists_what_it_offers():
    assert all(hasattr(images, name) for name in images.__all__)
