"""Bad inputs 1 to 20: what lies in a picture file."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.bad_inputs.conftest import Seglab, tree
from tests.bad_inputs.pictures import chunk, encoded, huge_png, labels_of, noise, person, written

JPEG = encoded(noise(), "JPEG")
PNG = encoded(noise())
PLAIN_TIFF = (cv2.IMWRITE_TIFF_COMPRESSION, 1)  # OpenCV 4 writes float32 colours as integers (LogLuv) otherwise

FAILING: dict[str, tuple[str, bytes, str]] = {
    "1-empty": ("a.jpg", b"", "empty file"),
    "2-html": ("a.jpg", b"<!DOCTYPE html><html><body>404</body></html>", "is HTML, not an image"),
    "3-truncated-jpeg": ("a.jpg", JPEG[: len(JPEG) // 2], "truncated JPEG"),
    "3-truncated-progressive": ("a.jpg", encoded(noise(), "JPEG", progressive=True)[:-400], "truncated JPEG"),
    "4-truncated-png": ("a.png", PNG[: len(PNG) // 2], "truncated PNG"),
    "6-400-megapixels": (
        "a.png", huge_png(20_000, 20_000), "400 MP is over the limit of 179 MP (raise the limit with --max-pixels",
    ),
    "9-float-grey-tiff": ("a.tif", encoded(Image.fromarray(np.zeros((8, 9), np.float32)), "TIFF"), "float TIFF"),
    "9-float-rgb-tiff": (
        "a.tif", cv2.imencode(".tiff", np.zeros((8, 9, 3), np.float32), PLAIN_TIFF)[1].tobytes(),
        "float TIFF is not supported",
    ),
    "9-double-rgba-tiff": (
        "a.tif", cv2.imencode(".tiff", np.zeros((8, 9, 4), np.float64), PLAIN_TIFF)[1].tobytes(),
        "float TIFF is not supported",
    ),
    "9-32-bit-rgb-tiff": (
        "a.tif", cv2.imencode(".tiff", np.zeros((8, 9, 3), np.int32))[1].tobytes(),
        "32-bit signed TIFF is not supported",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILING)
def test_a_file_that_is_no_picture_fails_alone(seglab: Seglab, case: str) -> None:
    name, data, reason = FAILING[case]
    assert len(data) < 100_000
    written(f"p/{name}", data)
    written("p/good.png", encoded(person()))
    ran = seglab("predict", "p", "-o", "o")
    assert ran.code == 1
    assert list(ran.failures) == [f"p/{name}"]
    assert reason in ran.failures[f"p/{name}"]
    assert "1 photo in" in ran.err
    assert tree(Path("o")) == ["good.png"]
    assert Path("p", name).read_bytes() == data


@pytest.mark.parametrize("verb", ["predict", "cutout"])
def test_3_and_4_truncated_pictures_on_request(seglab: Seglab, verb: str) -> None:
    for name, data in (("a.jpg", JPEG), ("b.png", PNG)):
        written(f"p/{name}", data[: len(data) // 2])
    written("p/good.png", PNG)
    assert seglab(verb, "p", "-o", "o").code == 1
    assert tree(Path("o")) == ["good.png"]
    ran = seglab(verb, "p", "-o", "o", "--allow-truncated", "--skip-existing")
    assert ran.code == 0, "the others need not be done again"
    assert "2 photos in" in ran.err
    assert "1 finished earlier" in ran.err
    assert "truncated JPEG: the missing part is filled in: `p/a.jpg`\n" in ran.err
    assert "truncated PNG: the missing part is filled in: `p/b.png`\n" in ran.err
    assert tree(Path("o")) == ["a.png", "b.png", "good.png"]


def interlaced(grey: np.ndarray) -> bytes:
    """Return an interlaced PNG, which no library here writes: the seven passes of the standard, without filters."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b"".join(
        b"\0" + row.tobytes() for left, top, x, y in passes for row in grey[top::y, left::x] if len(row)
    )  # fmt: skip
    header = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 0, 0, 0, 1)
    packed = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + packed + chunk(b"IEND", b"")


MODES: dict[str, Callable[[], bytes]] = {
    "rgb": lambda: PNG,
    "rgba": lambda: encoded(Image.fromarray(noise()).convert("RGBA")),
    "palette": lambda: encoded(Image.fromarray(noise()).quantize(16)),
    "bits": lambda: encoded(Image.fromarray(noise()).convert("1")),
    "16-bit": lambda: encoded(Image.fromarray(noise()[..., 0].astype(np.uint16) * 257)),
    "interlaced": lambda: interlaced(noise()[..., 0]),
    "one-row": lambda: interlaced(noise(1, 3)[..., 0]),
}


@pytest.mark.parametrize("mode", MODES)
def test_what_is_there_of_a_truncated_png_is_exact(mode: str) -> None:
    """Rows before the cut are those of the whole picture, whatever the mode; a whole picture needs no filling."""
    from seglab.data.images import ImageError, read_photo

    data = MODES[mode]()
    whole = read_photo(data).image
    assert not any("truncated" in note for note in read_photo(data, allow_truncated=True).notes)
    shares: list[float] = []
    refused: set[str] = set()
    for length in range(60, len(data) - 16, max(1, len(data) // 12)):
        try:
            photo = read_photo(data[:length], allow_truncated=True)
        except ImageError as error:
            refused.add(error.message)
            continue
        assert photo.image.shape == whole.shape
        same = (photo.image == whole).all(-1)
        assert same.all() or "truncated PNG: the missing part is filled in" in photo.notes
        shares.append(float(same.mean()))
        if mode not in ("interlaced", "one-row"):  # their passes go over the whole picture
            assert same.mean() > length / len(data) - 0.25
    assert shares == sorted(shares) or mode in ("interlaced", "one-row")
    assert mode == "one-row" or shares
    assert refused <= {"truncated PNG"}, "too little is there"


def test_5_a_jpeg_without_its_end_marker(seglab: Seglab) -> None:
    whole = encoded(person(), "JPEG")
    written("whole.jpg", whole)
    path = written("a.jpg", whole[:-2])
    ran = seglab("predict", "a.jpg", "whole.jpg", "-o", "o")
    assert (ran.code, "JPEG without an end marker: `a.jpg`" in ran.err) == (0, True)
    np.testing.assert_array_equal(labels_of("o/a.png"), labels_of("o/whole.png"))
    assert path.read_bytes() == whole[:-2], "the source is as it was"


def test_6_the_limit_can_be_set(seglab: Seglab) -> None:
    written("a.png", encoded(person(100, 100)))
    ran = seglab("predict", "a.png", "-o", "o", "--max-pixels", "5000")
    reason = "0.01 MP is over the limit of 0.005 MP (raise the limit with --max-pixels if the file is trusted)"
    assert (ran.code, ran.failures) == (1, {"a.png": reason})
    assert tree(Path("o")) == []
    assert seglab("predict", "a.png", "-o", "o", "--max-pixels", "10000").code == 0


def test_7_a_photo_of_a_hundred_megapixels(seglab: Seglab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scaled down: what counts as large is set to 10,000 pixels here."""
    monkeypatch.setattr("seglab.data.images.LARGE_PIXELS", 10_000)
    written("p/small.png", encoded(person(100, 100)))
    written("p/a.png", encoded(person(120, 100)))
    written("p/b.png", encoded(person(200, 200)))
    ran = seglab("predict", "p", "-o", "o", "--tile", "64")
    assert ran.code == 0
    assert ran.err.count("very large") == 1, "one note"
    assert " MP: `p/a.png`, `p/b.png`\n" in ran.err
    assert labels_of("o/b.png").shape == (200, 200)


def test_8_sixteen_bit_grey(seglab: Seglab) -> None:
    grey = person()[..., 0].astype(np.uint16) * 257
    for name in "ab":
        written(f"p/{name}.png", encoded(Image.fromarray(grey)))
    ran = seglab("predict", "p", "-o", "o")
    assert ran.code == 0
    assert ran.err.count("16-bit samples scaled to 8") == 1
    assert (labels_of("o/a.png") == (person()[..., 0] > 0)).mean() > 0.99


ODD_MODES: dict[str, tuple[bytes, str]] = {
    "9-16-bit-rgb-png": (cv2.imencode(".png", person().astype(np.uint16) * 257)[1].tobytes(), "16-bit samples"),
    "9-16-bit-rgb-tiff": (cv2.imencode(".tiff", person().astype(np.uint16) * 257)[1].tobytes(), "16-bit samples"),
    "10-cmyk-jpeg": (encoded(Image.fromarray(person()).convert("CMYK"), "JPEG", quality=100), "CMYK"),
    "11-palette": (encoded(Image.fromarray(person()).quantize(4)), ""),
    "11-la": (encoded(Image.fromarray(person()).convert("LA")), ""),
    "11-one-bit": (encoded(Image.fromarray(person()).convert("1")), ""),
    "14-corrupt-exif": (
        encoded(person(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05" + b"\xff" * 40, quality=100), "corrupt EXIF",
    ),
    "15-animated-gif": (
        encoded(Image.fromarray(person()), "GIF", save_all=True, append_images=[Image.new("RGB", (60, 40))]),
        "first of 2 frames",
    ),
    "15-animated-webp": (
        encoded(
            Image.fromarray(person()), "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", (60, 40))]
        ),
        "first of 2 frames",
    ),
    "15-pages-of-a-tiff": (
        encoded(Image.fromarray(person()), "TIFF", save_all=True, append_images=[Image.new("RGB", (60, 40))]),
        "first of 2 frames",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD_MODES)
def test_an_odd_picture_is_answered_like_the_plain_one(seglab: Seglab, case: str) -> None:
    data, note = ODD_MODES[case]
    written("a.jpg", data)  # by content, whatever the name
    ran = seglab("predict", "a.jpg", "-o", "o")
    assert (ran.code, note in ran.err) == (0, True), ran.err
    assert "`a.jpg`" in ran.err or not note
    found = labels_of("o/a.png")
    assert found.shape == (40, 60)
    assert (found == (person()[..., 0] > 0)).mean() > 0.99, "a lossy edge may move by a pixel"
    assert tree(Path("o")) == ["a.png"]


def test_11_and_12_what_is_transparent_is_white_whatever_colour_lies_under_it(seglab: Seglab) -> None:
    rgba = np.zeros((40, 60, 4), np.uint8)
    rgba[20:, :, 3] = 255  # the lower half is opaque and black, the upper one black under alpha 0
    transparent = Image.fromarray(rgba[..., 3]).convert("P")
    for name, data in {
        "12-rgba": encoded(rgba),
        "11-la": encoded(Image.fromarray(rgba).convert("LA")),
        "11-palette": encoded(transparent, transparency=0),
    }.items():
        written(f"p/{name}.png", data)
    ran = seglab("predict", "p", "-o", "o")
    assert ran.code == 0
    assert ran.err.count("alpha composited on white") == 1
    for name in ("12-rgba", "11-la"):
        labels = labels_of(f"o/{name}.png")
        assert labels[:18].all(), "white, so a person to this model"
        assert not labels[22:].any()
    assert labels_of("o/11-palette.png")[:18].all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_13_turned_by_exif(seglab: Seglab, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    written("a.jpg", encoded(person(), "JPEG", exif=exif, quality=100))
    ran = seglab("predict", "a.jpg", "-o", "o")
    assert ran.code == 0
    found = labels_of("o/a.png")
    with Image.open("a.jpg") as stored:
        from PIL import ImageOps

        displayed = np.array(ImageOps.exif_transpose(stored))[..., 0] > 127
    assert found.shape == displayed.shape == ((60, 40) if orientation >= 5 else (40, 60))
    assert (found == displayed).mean() > 0.97


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (31, 33), (97, 13), (101, 103)], ids=str)
def test_16_and_17_any_size(seglab: Seglab, size: tuple[int, int]) -> None:
    """17: a white corner stays in its corner."""
    height, width = size
    image = np.zeros((height, width, 3), np.uint8)
    image[: (height + 2) // 3, : (width + 2) // 3] = 255
    written("a.png", encoded(image))
    assert seglab("predict", "a.png", "-o", "o").code == 0
    found = labels_of("o/a.png")
    assert found.shape == size
    assert found[0, 0] == 1
    assert size == (1, 1) or found[-1, -1] == 0
    if min(size) > 1:
        assert (found == (image[..., 0] > 0)).mean() > 0.9
    assert seglab("cutout", "a.png", "-o", "c.png").code == 0
    with Image.open("c.png") as cut:
        assert cut.size == (width, height)


@pytest.mark.parametrize("case", ["18-black", "18-white", "18-grey", "19-nobody"])
def test_18_and_19_nothing_to_find(seglab: Seglab, case: str) -> None:
    image = np.full((40, 60, 3), {"18-white": 255, "18-grey": 9}.get(case, 0), np.uint8)
    if case == "19-nobody":
        image[::2, ::3] = (12, 30, 8)
    written("a.png", encoded(image))
    ran = seglab("predict", "a.png", "-o", "o", "--json")
    assert ran.code == 0
    (line,) = ran.lines
    labels = labels_of("o/a.png")
    if case == "18-white":
        assert (line["found"], bool(labels.all())) == (True, True)
        return
    assert (line["found"], list(line["classes"]), bool(labels.any())) == (False, ["background"], False)
    assert line["classes"]["background"]["share"] == 1.0, "no NaN, which JSON could not hold"
    assert "nothing found in 1: `a.png`" in ran.err
    ran = seglab("cutout", "a.png", "-o", "c.png")
    assert (ran.code, "all is transparent" in ran.err) == (0, True)
    with Image.open("c.png") as cut:
        assert (cut.size, cut.getchannel("A").getextrema()) == ((60, 40), (0, 0))


def test_20_and_21_suffixes(seglab: Seglab) -> None:
    written("p/png.jpg", encoded(person()))
    written("p/UPPER.JPG", encoded(person(), "JPEG"))
    written("p/four.jpeg", encoded(person(), "JPEG"))
    written("p/x.tar.jpeg", encoded(person(), "JPEG"))
    written("p/gif.png", encoded(Image.fromarray(person()), "GIF"))
    assert seglab("predict", "p", "-o", "o").code == 0
    assert tree(Path("o")) == ["UPPER.png", "four.png", "gif.png", "png.png", "x.tar.png"]
    for path in Path("o").glob("*.png"):
        assert (labels_of(path) == (person()[..., 0] > 0)).mean() > 0.95, path
