"""The looks of ``seglab cutout`` through the real command line, with a network that sees colours."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from seglab.data.images import Photo, encode_jpeg
from seglab.errors import UsageError
from seglab.inference.backgrounds import Colour
from seglab.inference.composing import render
from seglab.inference.framing import Framing
from seglab.inference.look import Look, parse_look
from tests.inference.files import kind, read


@pytest.fixture
def subject(shell, save) -> np.ndarray:
    """A green rectangle on black with a red one inside it, saved as a.png."""
    image = np.zeros((90, 120, 3), np.uint8)
    image[20:70, 30:90] = (0, 255, 0)
    image[35:55, 45:75] = (255, 0, 0)
    save(Path("a.png"), image)
    return image


@pytest.mark.usefixtures("subject")
@pytest.mark.parametrize("edge", ["hard", "soft"])
def test_a_crop_is_a_part_of_the_whole(shell, edge: str) -> None:
    assert shell("cutout", "a.png", "--edge", edge, "-o", "whole.png").code == 0
    assert shell("cutout", "a.png", "--edge", edge, "-o", "c.png", "--crop", "--margin", "3").code == 0
    whole = read("whole.png")
    rows, columns = np.nonzero(whole[..., 3] >= 8)
    np.testing.assert_array_equal(
        read("c.png"), whole[rows.min() - 3 : rows.max() + 4, columns.min() - 3 : columns.max() + 4]
    )


@pytest.mark.usefixtures("subject")
def test_squares_and_sizes(shell) -> None:
    shell("cutout", "a.png", "--crop", "--square", "-o", "s.png")
    width, height = kind("s.png")[2]
    assert width == height < 90
    shell("cutout", "a.png", "--size", "64x200", "-o", "t.png")
    tall = read("t.png")
    assert tall.shape == (200, 64, 4)
    assert (tall[:70, :, 3] == 0).all()
    assert (tall[96:104, 30:34] == (255, 0, 0, 255)).all()
    shell("cutout", "a.png", "--size", "64x200", "--mask-only", "-o", "m.png")
    np.testing.assert_array_equal(read("m.png"), tall[..., 3])
    shell("cutout", "a.png", "--size", "64x200", "--background", "blue", "-o", "b.png")
    blue = read("b.png")
    assert (blue[tall[..., 3] == 0] == (0, 0, 255)).all()
    np.testing.assert_array_equal(blue[tall[..., 3] == 255], tall[tall[..., 3] == 255][:, :3])


def test_shrinking_mixes_colours_by_their_alpha() -> None:
    """Halved, a white pixel beside a transparent one is white and half transparent, not grey."""
    image = np.zeros((40, 40, 3), np.uint8)
    alpha = np.zeros((40, 40), np.uint8)
    image[:, 1::2], alpha[:, 1::2] = 255, 255
    rgba = render(Photo(image), alpha, Look("hard", framing=Framing(size_hw=(20, 20))))
    assert (rgba == (255, 255, 255, 128)).all()


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_format_names_the_files(shell, subject, name: str, names) -> None:
    suffix = name[1:]
    assert shell("cutout", "a.png", "--format", suffix[1:]).code == 0
    assert kind(f"a.cutout{suffix}")[0] == "RGBA"
    assert shell("cutout", ".", "--format", suffix[1:], "-o", "out").code == 0
    assert names(Path("out")) == [name], "a cutout beside its photo is no photo"


@pytest.mark.usefixtures("subject")
def test_jpeg_is_laid_on_white_and_that_is_said(shell) -> None:
    result = shell("cutout", "a.png", "--format", "jpg", "--edge", "hard")
    assert result.code == 0
    assert "JPEG has no transparency: laid on white" in result.err
    assert kind("a.cutout.jpg")[:2] == ("RGB", "JPEG")
    assert (read("a.cutout.jpg")[:12] > 250).all()
    result = shell("cutout", "a.png", "-o", "c.jpeg", "--background", "blue")
    assert "JPEG has no transparency" not in result.err
    assert np.abs(read("c.jpeg")[:8].astype(int) - (0, 0, 255)).max() < 6


@pytest.mark.usefixtures("subject")
def test_standard_output_has_the_format(shell, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=written, isatty=lambda: False, closed=False, flush=int))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(
        buffer=io.BytesIO(Path("a.png").read_bytes()), isatty=lambda: False, closed=False))  # fmt: skip
    assert shell("cutout", "-", "-o", "-", "--format", "webp").code == 0
    assert kind(io.BytesIO(written.getvalue()))[:2] == ("RGBA", "WEBP")


@pytest.mark.usefixtures("subject")
def test_a_small_png_has_the_same_pixels(shell) -> None:
    noisy = np.random.default_rng(0).integers(0, 60, (200, 200, 3)).astype(np.uint8)
    noisy[..., 1] = 250 - np.arange(200, dtype=np.uint8)[:, None] // 4
    Image.fromarray(noisy).save("n.png")
    shell("cutout", "n.png", "-o", "fast.png", "--png", "fast")
    shell("cutout", "n.png", "-o", "small.png", "--png", "small")
    shell("cutout", "n.png", "-o", "default.png")
    np.testing.assert_array_equal(read("fast.png"), read("small.png"))
    assert Path("small.png").stat().st_size < Path("fast.png").stat().st_size
    assert Path("default.png").read_bytes() == Path("fast.png").read_bytes()


def test_a_background_of_its_own(shell, subject, save) -> None:
    photo = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (90, 120, 3)).astype(np.uint8), (0, 0), 4)
    save(Path("sea.png"), photo)
    shell("cutout", "a.png", "--edge", "hard", "--background", "sea.png", "-o", "c.png")
    shell("cutout", "a.png", "--edge", "hard", "-o", "alpha.png")
    laid, alpha = read("c.png"), read("alpha.png")[..., 3]
    np.testing.assert_array_equal(laid[alpha == 0], photo[alpha == 0])
    np.testing.assert_array_equal(laid[alpha == 255], subject[alpha == 255])
    shell("cutout", "a.png", "--background", "blur:4", "-o", "blurred.png", "--edge", "hard")
    # Around the green there is only black to blur.
    assert (read("blurred.png")[alpha == 0] < 30).all()


def test_a_threshold_is_a_probability(shell, save) -> None:
    ramp = np.zeros((64, 512, 3), np.uint8)
    ramp[..., 1] = np.arange(512) // 2
    save(Path("a.png"), ramp)
    counts = []
    for threshold in ("0.01", "0.5", "0.99"):
        assert shell("cutout", "a.png", "--threshold", threshold, "-o", "c.png").code == 0
        alpha = read("c.png")[..., 3]
        assert set(np.unique(alpha)) <= {0, 255}
        counts.append(int((alpha > 0).sum()))
    assert 64 * 512 > counts[0] > counts[1] > counts[2] > 0
    assert shell("cutout", "a.png", "--threshold", "0.5", "--edge", "feather:6", "-o", "c.png").code == 0
    assert len(np.unique(read("c.png")[..., 3])) > 2


def test_colours_of_mixed_pixels_can_be_left_alone(shell, subject) -> None:
    shell("cutout", "a.png", "--edge", "feather:16", "-o", "clean.png")
    shell("cutout", "a.png", "--edge", "feather:16", "-o", "as_is.png", "--no-decontaminate")
    clean, as_is = read("clean.png"), read("as_is.png")
    np.testing.assert_array_equal(clean[..., 3], as_is[..., 3])
    shown = as_is[..., 3] > 0
    np.testing.assert_array_equal(as_is[shown][:, :3], subject[shown])
    assert (as_is[~shown] == 0).all(), "nothing of the background stays in the file"
    assert (clean != as_is).any()


def test_empty_pictures_say_what_they_are(shell, save) -> None:
    save(Path("e.png"), np.full((30, 40, 3), 10, np.uint8))
    cases: list[tuple[list[str], str, Any]] = [
        (["--crop"], "all is transparent, the whole photo's size", (0, 0, 0, 0)),
        (["--crop", "--size", "20"], "all is transparent", (0, 0, 0, 0)),
        (["--background", "red"], "the background alone", (255, 0, 0)),
        (["--mask-only"], "the mask is black", 0),
        (["--invert"], "the whole photo is kept", (10, 10, 10, 255)),
    ]
    for options, text, value in cases:
        result = shell("cutout", "e.png", "-o", "c.png", "--json", *options)
        assert result.code == 0
        assert f"nothing found in 1: `e.png` ({text})" in result.err
        assert result.lines[0]["found"] is False
        stored = read("c.png")
        assert stored.shape[:2] == ((20, 20) if "--size" in options else (30, 40))
        assert (stored == value).all()


def test_profile_and_resolution_are_kept_and_the_place_is_not(shell, subject, save) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif.get_ifd(0x8825)[2] = (51.0, 30.0, 0.0)
    save(Path("p.jpg"), subject, format="JPEG", icc_profile=profile, dpi=(300, 300), exif=exif)
    for suffix in ("png", "jpg", "webp"):
        assert shell("cutout", "p.jpg", "-o", f"c.{suffix}").code == 0
        with Image.open(f"c.{suffix}") as stored:
            assert stored.info["icc_profile"] == profile
            assert not stored.getexif()
            if suffix != "webp":
                assert [round(value) for value in stored.info["dpi"]] == [300, 300]
        assert shell("cutout", "p.jpg", "-o", f"c.{suffix}", "--keep-exif").code == 0
        with Image.open(f"c.{suffix}") as stored:
            assert stored.getexif()[0x010F] == "a camera"
            assert stored.info["icc_profile"] == profile


def test_a_jpeg_holds_a_profile_of_several_segments(subject) -> None:
    profile = np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8).tobytes()
    with Image.open(io.BytesIO(encode_jpeg(subject, icc=profile, dpi=(72.4, 1e9)))) as stored:
        assert stored.info["icc_profile"] == profile
        assert stored.info["dpi"] == (72, 65535)
        np.testing.assert_array_equal(np.array(stored), read(io.BytesIO(encode_jpeg(subject))))


@pytest.mark.usefixtures("subject")
def test_what_contradicts_itself_is_refused_with_a_hint(shell, names) -> None:
    before = names(Path())
    for arguments in (
        ["--mask-only", "--background", "white"],
        ["--mask-only", "--decontaminate"],
        ["--mask-only", "--format", "jpg"],
        ["--mask-only", "-o", "m.webp"],
        ["--matting", "--edge", "hard"],
        ["--matting", "--threshold", "0.5"],
        ["--threshold", "0.5", "--edge", "soft"],
        ["--threshold", "0"],
        ["--threshold", "1"],
        ["--threshold", "nan"],
        ["--edge", "hard", "--decontaminate"],
        ["--margin", "5%"],
        ["--square", "--size", "3x4"],
        ["--format", "tiff"],
        ["--png", "tiny"],
        ["--png", "small", "--format", "webp"],
        ["--png", "small", "-o", "c.webp"],
        ["--background", "blur:0"],
        ["--background", "#ff000080"],
        ["--keep", "gren"],
        ["--keep", " , "],
    ):
        result = shell("cutout", "a.png", *arguments)
        assert (result.code, "hint: " in result.err) == (2, True), (arguments, result.err)
    assert shell("cutout", "a.png", "--background", "nowhere.jpg").code == 3
    assert names(Path()) == before


@pytest.mark.usefixtures("subject")
def test_without_its_extra_matting_is_refused(shell, monkeypatch: pytest.MonkeyPatch, names) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = shell("cutout", "a.png", "--matting")
    assert result.code == 6
    assert 'pip install "seglab[matting]"' in result.err
    assert names(Path()) == ["a.png"]
    assert shell.model.opened == []


@pytest.mark.usefixtures("subject")
def test_another_look_is_other_work(shell) -> None:
    def skipped(*options: str) -> bool:
        return "skipped" in shell("cutout", "a.png", "-o", "o", "--skip-existing", "--json", *options).lines[0]

    assert not skipped()
    assert skipped()
    for options in (["--crop"], ["--png", "small"], ["--threshold", "0.4"], ["--no-decontaminate"], ["--size", "9"]):
        assert not skipped(*options)
        assert skipped(*options)
    Image.new("RGB", (9, 9), "red").save("back.png")
    assert not skipped("--background", "back.png")
    assert skipped("--background", "back.png")
    Image.new("RGB", (9, 9), "blue").save("back.png")
    assert not skipped("--background", "back.png"), "another picture of the same name"


def test_settings_are_plain_and_tell_every_field_apart() -> None:
    import json
    from dataclasses import fields

    changed: dict[str, Any] = {
        "edge": "hard", "feather": 2.0, "background": Colour((1, 2, 3)), "keep": ("a",), "invert": True,
        "mask_only": True, "threshold": 0.3, "matting": True, "decontaminate": False, "framing": Framing(crop=True),
        "format": "png", "small": True,
    }  # fmt: skip
    assert set(changed) == {item.name for item in fields(Look)}
    texts = {json.dumps(Look(**{name: value}).settings) for name, value in changed.items()}
    assert len(texts | {json.dumps(Look().settings)}) == len(changed) + 1


def test_looks_that_mean_nothing() -> None:
    with pytest.raises(UsageError):
        parse_look(background=(1, 2, 300))
