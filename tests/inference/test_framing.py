"""Crops, margins, squares and sizes, against what a person would measure."""

import itertools

import numpy as np
import pytest

from seglab.errors import DataError, SeglabError, UsageError
from seglab.inference.framing import Frame, Framing, parse_framing


def box(height: int, width: int, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    alpha = np.zeros((height, width), np.uint8)
    alpha[top:bottom, left:right] = 255
    return alpha


def window(frame: Frame) -> tuple[int, int, int, int]:
    rows, columns = frame.inner
    return rows.start, columns.start, rows.stop, columns.stop


def test_the_photo_as_it_is_needs_no_frame() -> None:
    alpha = box(40, 60, 10, 10, 20, 20)
    assert Framing().frame(alpha) is None
    assert Framing(size_hw=(40, 60)).frame(alpha) is None
    assert Framing(square=True).frame(np.zeros((9, 9), np.uint8)) is None
    assert Framing(crop=True).frame(box(9, 9, 0, 0, 9, 9)) is None
    assert Framing(crop=True, margin_px=40).frame(box(70, 90, 10, 20, 30, 50)) is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (10, 20, 30, 50)),
        ({"margin": "5"}, (5, 15, 35, 55)),
        ({"margin": "5px"}, (5, 15, 35, 55)),
        ({"margin": "10%"}, (7, 17, 33, 53)),
        ({"margin": "15"}, (0, 5, 45, 65)),
        ({"margin": "39"}, (0, 0, 69, 89)),
    ],
)
def test_a_crop_has_its_margin_within_the_photo(options: dict[str, str], expected: tuple[int, ...]) -> None:
    frame = parse_framing(crop=True, **options).frame(box(70, 90, 10, 20, 30, 50))
    assert frame is not None
    assert window(frame) == expected
    assert frame.size_hw == (expected[2] - expected[0], expected[3] - expected[1])
    assert not frame.scales


def test_faint_dust_is_no_subject_and_nothing_is_the_whole() -> None:
    alpha = box(70, 90, 10, 20, 30, 50)
    alpha[60, 80] = 7
    frame = Framing(crop=True).frame(alpha)
    assert frame is not None
    assert window(frame) == (10, 20, 30, 50)
    alpha[60, 80] = 8
    frame = Framing(crop=True).frame(alpha)
    assert frame is not None
    assert window(frame) == (10, 20, 61, 81)
    assert Framing(crop=True).frame(np.zeros((70, 90), np.uint8)) is None


def test_a_square_shows_more_of_the_photo_before_it_is_filled_up() -> None:
    frame = Framing(crop=True, square=True).frame(box(70, 90, 10, 20, 30, 50))
    assert frame is not None
    assert (window(frame), frame.size_hw) == ((5, 20, 35, 50), (30, 30))
    at_the_border = Framing(crop=True, square=True).frame(box(70, 90, 0, 20, 10, 60))
    assert at_the_border is not None
    assert window(at_the_border) == (0, 20, 40, 60)
    whole = Framing(square=True).frame(np.zeros((40, 60), np.uint8))
    assert whole is not None
    assert (window(whole), whole.box, whole.size_hw) == ((0, 0, 40, 60), (10, 0, 40, 60), (60, 60))


def test_a_body_that_the_photo_cuts_off_stays_at_the_border() -> None:
    """A person from the waist up must not float."""
    below = Framing(crop=True, square=True).frame(box(40, 100, 20, 10, 40, 90))
    above = Framing(crop=True, square=True).frame(box(40, 100, 0, 10, 20, 90))
    assert below is not None
    assert above is not None
    assert below.size_hw == above.size_hw == (80, 80)
    assert below.box == (40, 0, 40, 80)
    assert above.box == (0, 0, 40, 80)


@pytest.mark.parametrize(("size", "expected"), [("30x30", (30, 30)), ("30", (30, 30)), ("80X20", (20, 80))])
def test_a_size_is_met_exactly(size: str, expected: tuple[int, int]) -> None:
    for alpha, crop in itertools.product((box(70, 90, 10, 20, 30, 50), np.zeros((50, 7), np.uint8)), (False, True)):
        frame = parse_framing(crop=crop, size=size).frame(alpha)
        assert frame is not None
        assert frame.size_hw == expected
        assert frame.place(np.full((*alpha.shape, 3), 9, np.uint8)).shape == (*expected, 3)


def test_nothing_is_distorted_and_nothing_is_cut() -> None:
    """In any frame, subject and photo keep their shapes to a pixel, and the whole subject is inside."""
    random = np.random.default_rng(5)
    for _ in range(400):
        height, width = (int(side) for side in random.integers(1, 90, 2))
        (top, bottom), (left, right) = (np.sort(random.integers(0, side + 1, 2)) for side in (height, width))
        alpha = box(height, width, top, left, bottom, right)
        size = None if random.random() < 0.4 else tuple(int(side) for side in random.integers(1, 70, 2))
        square = size is None and bool(random.random() < 0.5)
        framing = Framing(bool(random.random() < 0.5), int(random.integers(0, 9)), 0.0, square, size)
        frame = framing.frame(alpha)
        if frame is None:
            continue
        rows, columns = frame.inner
        assert 0 <= rows.start < rows.stop <= height
        assert 0 <= columns.start < columns.stop <= width
        assert not alpha.any() or (rows.start <= top and bottom <= rows.stop)
        assert not alpha.any() or (columns.start <= left and right <= columns.stop)
        box_top, box_left, box_height, box_width = frame.box
        assert 0 <= box_top <= box_top + box_height <= frame.size_hw[0]
        assert 0 <= box_left <= box_left + box_width <= frame.size_hw[1]
        if size is None:
            assert (box_height, box_width) == (rows.stop - rows.start, columns.stop - columns.start)
        else:
            tall, wide = box_height / (rows.stop - rows.start), box_width / (columns.stop - columns.start)
            slack = 1.5 / (rows.stop - rows.start) + 1.5 / (columns.stop - columns.start)
            # A window of whole pixels cannot have every shape: up to a pixel more on one side.
            slack += max(tall, wide) * (1 / max(1, rows.stop - rows.start) + 1 / max(1, columns.stop - columns.start))
            assert abs(tall - wide) <= slack


def test_pixels_are_placed_where_the_frame_says() -> None:
    image = np.random.default_rng(0).integers(1, 256, (40, 100, 3)).astype(np.uint8)
    frame = Framing(crop=True, square=True).frame(box(40, 100, 20, 10, 40, 90))
    assert frame is not None
    placed = frame.place(image)
    np.testing.assert_array_equal(placed[40:], image[:, 10:90])
    assert (placed[:40] == 0).all()


def test_what_means_nothing_or_contradicts_itself_is_refused() -> None:
    for options in (
        {"margin": "5%"},
        {"crop": True, "margin": "5%%"},
        {"crop": True, "margin": "-1"},
        {"crop": True, "margin": "1.5"},
        {"crop": True, "margin": "101%"},
        {"crop": True, "margin": ""},
        {"size": "0x5"},
        {"size": "5x"},
        {"size": "x5"},
        {"size": "20000"},
        {"size": "16000x16000"},
        {"size": "5x6x7"},
        {"square": True, "size": "5x6"},
    ):
        with pytest.raises(UsageError) as caught:
            parse_framing(**options)  # type: ignore[arg-type]
        assert caught.value.hint
    assert parse_framing(square=True, size="6x6").size_hw == (6, 6)


def test_a_picture_that_would_be_too_large_is_an_error_of_its_photo() -> None:
    with pytest.raises(DataError, match="20000 x 20000") as caught:
        Framing(square=True).frame(np.zeros((1, 20000), np.uint8))
    assert isinstance(caught.value, SeglabError)
    assert Framing(square=True, size_hw=(10, 10)).frame(np.zeros((1, 20000), np.uint8)) is not None
