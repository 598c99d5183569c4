"""What lies under a cutout, against slow and plain ways of making it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from seglab.errors import DataError, UsageError
from seglab.inference.backgrounds import WHITE, Blur, Colour, Scenery, parse_background
from seglab.inference.framing import Framing


def smooth(height: int, width: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 6), None, 0, 255, cv2.NORM_MINMAX)


def disc(height: int, width: int) -> np.ndarray:
    alpha = np.zeros((height, width), np.uint8)
    cv2.circle(alpha, (width // 2, height // 2), min(height, width) // 4, 255, -1)
    return cv2.blur(alpha, (5, 5))


def test_backgrounds_from_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (3, 2), (9, 8, 7)).save("red", "PNG")
    assert parse_background("transparent") is None
    assert parse_background(" White ") == parse_background("#fff") == parse_background((255, 255, 255)) == WHITE
    assert parse_background("red") == Colour((255, 0, 0)), "a colour goes before a file of its name"
    scenery = parse_background("./red")
    assert isinstance(scenery, Scenery)
    assert (scenery.image == (9, 8, 7)).all()
    assert isinstance(parse_background(Path("red")), Scenery)
    assert parse_background("#ff0000ff") == parse_background("hsl(0,100%,50%)") == Colour((255, 0, 0))
    assert parse_background("blur:2.5") == Blur(2.5)
    for text in (
        "blur",
        "blur:",
        "blur:0",
        "blur:x",
        "blur:nan",
        "blur:-3",
        "blur:inf",
        "blur:1001",
        "whit",
        "#12",
        "",
        "rgb(1,2,300)",
        "#ff000080",
        "#f008",
    ):
        with pytest.raises(UsageError):
            parse_background(text)
    for rgb in ((1, 2), (1, 2, 256), (1, 2, -1), (1.5, 2, 3)):
        with pytest.raises(UsageError):
            parse_background(rgb)  # type: ignore[arg-type]
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for text in ("nowhere.png", "no/where", "broken.png"):
        with pytest.raises(DataError):
            parse_background(text)


def test_settings_differ_where_pictures_do() -> None:
    one, two = (Scenery(image, f"picture {index}") for index, image in enumerate((smooth(4, 4, 0), smooth(4, 4, 1))))
    assert len({background.settings for background in (one, two, Blur(2), Blur(3), Colour((0, 0, 1)), WHITE)}) == 6


@pytest.mark.parametrize("sigma", [0.7, 1.9, 5.0, 40.0])
def test_a_blur_is_as_if_the_subject_were_not_there(sigma: float) -> None:
    """Against a plain mean over the other pixels; inside the subject, which is covered, anything goes."""
    image, alpha = smooth(220, 260, 3), disc(220, 260)
    image[alpha > 0] = (255, 0, 255)
    weights = (255 - alpha).astype(np.float64)[..., None] / 255
    radius = int(np.ceil(4 * sigma))
    side = (2 * radius + 1, 2 * radius + 1)
    total, weight = (
        cv2.GaussianBlur(plane, side, sigma, borderType=cv2.BORDER_REPLICATE)
        for plane in (image * weights, np.repeat(weights, 3, 2))
    )
    plain = total / np.maximum(weight, 1e-9)
    blurred = Blur(sigma).under(image, alpha, None)
    near = alpha < 200
    assert blurred.shape == image.shape
    difference = np.abs(blurred.astype(float) - plain)
    assert difference[near].mean() < 2
    # Nothing of the subject's colour reaches what is shown. At the border a wide blur repeats more than a row.
    assert difference[20:-20, 20:-20][near[20:-20, 20:-20]].max() < 8


@pytest.mark.parametrize("sigma", [1.0, 3.0, 12.0])
def test_where_all_around_is_subject_a_blur_shows_what_is_farther_off(sigma: float) -> None:
    """It is seen there beyond the photo's border, in a wide frame; the subject's colour never is, nor black."""
    image = np.full((240, 160, 3), (200, 120, 40), np.uint8)
    alpha = np.zeros((240, 160), np.uint8)
    alpha[60:, 20:] = 255
    image[alpha > 0] = (0, 0, 255)
    blurred = Blur(sigma).under(image, alpha, None)
    assert np.abs(blurred.astype(int) - (200, 120, 40)).max() <= 6
    nothing_else = Blur(sigma).under(image, np.full_like(alpha, 255), None)
    assert nothing_else.shape == image.shape
    assert not nothing_else.any()
    assert Blur(sigma).under(image[:1, :1], alpha[:1, :1], None).shape == (1, 1, 3)


def test_strips_leave_no_seams() -> None:
    image = smooth(1300, 40, 1)
    alpha = np.zeros((1300, 40), np.uint8)
    whole = cv2.GaussianBlur(image.astype(np.float32), (17, 17), 1.9, borderType=cv2.BORDER_REPLICATE)
    assert np.abs(Blur(1.9).under(image, alpha, None) - whole).max() <= 1


def test_beyond_the_photo_a_blur_goes_on() -> None:
    image, alpha = smooth(40, 60, 1), np.zeros((40, 60), np.uint8)
    frame = Framing(square=True).frame(alpha)
    assert frame is not None
    framed = Blur(3).under(image, alpha, frame)
    whole = Blur(3).under(image, alpha, None)
    np.testing.assert_array_equal(framed[10:50], whole)
    assert (framed[:10] == whole[0]).all()
    assert (framed[50:] == whole[-1]).all()


@pytest.mark.parametrize("size_hw", [(30, 40), (30, 90), (90, 30), (300, 400), (1, 7)])
def test_a_picture_covers_everything_undistorted(size_hw: tuple[int, int]) -> None:
    """A ramp across and one down: their slopes must be equal, and the middle in the middle."""
    rows, columns = np.mgrid[:120, :200] + 0.5
    ramps = np.rint(np.stack([rows, columns, 0 * rows], -1)).astype(np.uint8)
    laid = Scenery(ramps, "").under(np.zeros((*size_hw, 3), np.uint8), np.zeros(size_hw, np.uint8), None)
    assert laid.shape == (*size_hw, 3)
    scale = max(size_hw[0] / 120, size_hw[1] / 200)
    for axis, length, middle in ((0, size_hw[0], 60), (1, size_hw[1], 100)):
        line = np.moveaxis(laid[..., axis].astype(float), axis, 0).mean(1)
        expected = middle + (np.arange(length) + 0.5 - length / 2) / scale
        assert np.abs(line - expected).max() <= 1 + 1 / scale
