"""Size and orientation of photos and their labels."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seglab.data.alignment import Alignment, _resized, align, turn_upright
from seglab.data.images import read_photo


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labels_turn_as_photos_do(orientation: int) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).convert("RGB").save(file, "PNG", exif=exif)
    displayed = read_photo(file.getvalue()).image[..., 0]
    assert displayed.shape == (4, 3)
    assert np.array_equal(turn_upright(pixels, orientation), displayed)


@pytest.mark.parametrize(
    ("photo_hw", "orientation", "labels_hw", "expected"),
    [
        ((480, 640), 1, (480, 640), Alignment((480, 640))),
        ((1280, 1055), 1, (551, 454), Alignment((551, 454))),
        ((100, 200), 1, (400, 800), Alignment((400, 800))),
        ((480, 640), 1, (640, 480), None),
        ((480, 640), 3, (640, 480), None),
        ((640, 480), 6, (480, 640), Alignment((640, 480), turn_labels=True)),
        ((640, 480), 6, (240, 320), Alignment((320, 240), turn_labels=True)),
        ((640, 480), 8, (640, 480), Alignment((640, 480))),
        ((500, 502), 6, (502, 500), Alignment((500, 502), turn_labels=True)),
        ((500, 502), 6, (500, 502), Alignment((500, 502))),
        ((500, 500), 6, (500, 500), Alignment((500, 500))),
        ((1000, 1000), 1, (1000, 1009), Alignment((1000, 1009))),
        ((1000, 1000), 1, (1000, 1020), None),
        ((1000, 1500), 1, (7, 10), Alignment((7, 10))),
        ((1000, 1500), 1, (7, 12), None),
    ],
)
def test_align_by_hand(
    photo_hw: tuple[int, int], orientation: int, labels_hw: tuple[int, int], expected: Alignment | None
) -> None:
    assert align(photo_hw, orientation, labels_hw) == expected


def test_max_side_shrinks_and_never_grows() -> None:
    assert align((1000, 500), 1, (1000, 500), 100) == Alignment((100, 50))
    assert align((100, 50), 1, (100, 50), 100) == Alignment((100, 50))
    assert align((3000, 2), 1, (3000, 2), 100) == Alignment((100, 1))


@given(
    size_hw=st.tuples(st.integers(20, 3000), st.integers(20, 3000)),
    scale=st.floats(0.05, 4),
    orientation=st.integers(1, 8),
)
def test_a_resized_mask_always_fits_its_photo(size_hw: tuple[int, int], scale: float, orientation: int) -> None:
    labels_hw = (max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale)))
    alignment = align(size_hw, orientation, labels_hw)
    assert alignment is not None
    assert alignment.size_hw in (labels_hw, labels_hw[::-1])
    assert not alignment.turn_labels or orientation >= 5


@pytest.mark.parametrize("size_hw", [(100, 100), (97, 51), (150, 75), (149, 99), (120, 120), (150, 120)])
def test_photos_shrink_as_with_a_triangle_filter(size_hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    photo = cv2.GaussianBlur(rng.integers(0, 256, (150, 100, 3), np.uint8), (0, 0), 0.8)
    photo[40:90, 30:70] = (250, 20, 90)  # an edge that must not move
    theirs = Image.fromarray(photo).resize(size_hw[::-1], Image.Resampling.BILINEAR)
    ours, expected = _resized(photo, size_hw).astype(int), np.asarray(theirs, int)
    plain = cv2.resize(photo, size_hw[::-1], interpolation=cv2.INTER_LINEAR).astype(int)
    ratio = max(150 / size_hw[0], 100 / size_hw[1])
    assert np.abs(ours - expected).mean() < 3
    if ratio > 1.6:  # without smoothing first, fine patterns turn into coarse ones
        assert np.abs(ours - expected).mean() < 0.5 * np.abs(plain - expected).mean()
    assert abs((ours - expected).mean()) < 0.3


def test_an_even_photo_stays_even() -> None:
    photo = np.full((60, 90, 3), (10, 200, 77), np.uint8)
    np.testing.assert_array_equal(_resized(photo, (40, 50)), np.full((40, 50, 3), (10, 200, 77), np.uint8))
