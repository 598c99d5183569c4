"""Run lengths and polygons: against pycocotools, and against full-size masks resized by Pillow."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as reference

from seglab.data.images import resize_labels
from seglab.data.rle import (
    Layer,
    Painting,
    RleError,
    draw,
    encode_counts,
    encode_kaggle,
    from_mask,
    from_polygons,
    from_window,
    list_counts,
    parse_counts,
    parse_kaggle,
    sampled,
    to_mask,
    union,
)

SIDE = st.integers(1, 40)
MASKS = st.tuples(SIDE, SIDE).flatmap(lambda size_hw: arrays(np.bool_, size_hw))


def kaggle_by_hand(mask: NDArray[np.bool_]) -> str:
    """The notation as its page defines it: pixels from 1, down the columns."""
    pairs, previous = [], False
    for number, value in enumerate(mask.T.reshape(-1).tolist(), 1):
        if value and not previous:
            pairs.append([number, 0])
        if value:
            pairs[-1][1] += 1
        previous = value
    return " ".join(f"{start} {length}" for start, length in pairs)


@given(MASKS)
def test_kaggle_round_trip(mask: NDArray[np.bool_]) -> None:
    runs = from_mask(mask)
    text = encode_kaggle(runs)
    assert text == kaggle_by_hand(mask)
    assert runs.area == mask.sum()
    assert np.array_equal(to_mask(runs), mask)
    if mask.any():
        for given_as in (text, text.encode(), f" {text}\t\r\n"):
            assert np.array_equal(to_mask(parse_kaggle(given_as, mask.shape)), mask)


@given(MASKS)
def test_coco_round_trip_is_that_of_pycocotools(mask: NDArray[np.bool_]) -> None:
    expected = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    runs = from_mask(mask)
    assert encode_counts(runs) == expected["counts"].decode()
    assert reference.frPyObjects({"counts": list_counts(runs), "size": list(mask.shape)}, *mask.shape) == expected
    for counts in (expected["counts"], expected["counts"].decode(), list_counts(runs)):
        assert np.array_equal(to_mask(parse_counts(counts, mask.shape)), mask)


def test_long_lengths_survive_compression() -> None:
    """Values of many characters, and large differences down and up."""
    mask = np.zeros((3000, 2000), np.uint8, order="F")
    flat = mask.reshape(-1, order="F")
    for start, end in ((3, 4), (100, 4_000_000), (4_000_001, 4_000_003), (5_999_000, 6_000_000)):
        flat[start:end] = 1
    mask = flat.reshape(mask.shape, order="F")
    text = reference.encode(mask)["counts"].decode()
    runs = parse_counts(text, (3000, 2000))
    assert runs.starts.tolist() == [3, 100, 4_000_001, 5_999_000]
    assert runs.ends.tolist() == [4, 4_000_000, 4_000_003, 6_000_000]
    assert encode_counts(runs) == text


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 20)), min_size=1, max_size=12))
def test_runs_of_any_order_and_overlap_are_their_union(pairs: list[tuple[int, int]]) -> None:
    expected = np.zeros(80, bool)
    for start, length in pairs:
        expected[start - 1 : start - 1 + length] = True
    runs = parse_kaggle(" ".join(f"{start} {length}" for start, length in pairs), (8, 10))
    assert np.array_equal(to_mask(runs), expected.reshape(10, 8).T)
    assert runs.area == expected.sum()
    assert (runs.starts < runs.ends).all()
    assert (runs.starts[1:] >= runs.ends[:-1]).all()
    assert np.array_equal(to_mask(union([runs, from_mask(~to_mask(runs))])), np.ones((8, 10), bool))
    # What touches is two runs for us, and one for COCO.
    assert encode_counts(runs) == reference.encode(np.asfortranarray(to_mask(runs).view(np.uint8)))["counts"].decode()


@settings(max_examples=300)
@given(st.integers(1, 6000), st.integers(1, 3000))
def test_sampled_is_pillows_nearest(num_source: int, num_target: int) -> None:
    numbers = Image.fromarray(np.arange(num_source, dtype=np.int32)[None])
    expected = np.asarray(numbers.resize((num_target, 1), Image.Resampling.NEAREST))[0]
    assert np.array_equal(sampled(num_source, num_target), expected)


@given(st.lists(arrays(np.bool_, (23, 31)), max_size=4), st.tuples(st.integers(1, 70), st.integers(1, 70)))
def test_drawing_is_painting_at_full_size_and_resizing(
    masks: list[NDArray[np.bool_]], size_hw: tuple[int, int]
) -> None:
    full = np.zeros((23, 31), np.uint8)
    layers = []
    for value, mask in zip((3, 255, 1, 2), masks, strict=False):
        full[mask] = value
        layers.append(Layer(from_mask(mask), value))
    expected = np.asarray(Image.fromarray(full).resize(size_hw[::-1], Image.Resampling.NEAREST))
    drawn = draw(layers, (23, 31), size_hw)
    assert drawn.dtype == np.uint8
    assert drawn.flags.c_contiguous
    assert np.array_equal(drawn, expected)
    assert np.array_equal(Painting(layers, (23, 31), "").draw(size_hw), expected)


def test_drawing_agrees_with_the_resizing_of_label_files() -> None:
    rng = np.random.default_rng(0)
    full = np.kron(rng.random((20, 30)) < 0.5, np.ones((100, 100), bool))
    drawn = draw([Layer(from_mask(full), 1)], full.shape, (768, 768))
    assert np.array_equal(drawn, resize_labels(full.astype(np.uint8), (768, 768)))
    assert 0.4 < drawn.mean() < 0.6


# pycocotools 2.0.11 decodes into arrays in a way that numpy 2 will drop.
DECODES = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

COORDINATE = st.one_of(st.integers(-6, 40), st.floats(-6, 40))


@DECODES
@settings(max_examples=300)
@given(
    st.lists(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=3, max_size=9), min_size=1, max_size=3),
    st.tuples(st.integers(1, 32), st.integers(1, 32)),
)
def test_polygons_are_those_of_pycocotools(shapes: list[list[tuple[float, float]]], size_hw: tuple[int, int]) -> None:
    polygons = [[float(value) for point in shape for value in point] for shape in shapes]
    expected = reference.decode(reference.merge(reference.frPyObjects(polygons, *size_hw))).astype(bool)
    assert np.array_equal(to_mask(from_polygons(polygons, size_hw)), expected)


def test_a_square_polygon_is_its_pixels() -> None:
    mask = to_mask(from_polygons([[2, 1, 5, 1, 5, 4, 2, 4]], (6, 8)))
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:5] = True
    assert np.array_equal(mask, expected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 2 3", "3 numbers do not make pairs"),
        ("0 4", "starts at 0, but pixels count from 1"),
        ("", "no runs"),
        ("  \t", "no runs"),
        ("nan", "`nan` holds `n`, not only numbers"),
        ("1 2 -3 4", "holds `-`"),
        ("1.0 2", "holds `.`"),
        ("1,2", "holds `,`"),
        ("40 10", "run `40 10` ends outside the 48 pixels of 8x6"),
        ("1 49", "run `1 49` ends outside"),
        ("49 0", "run `49 0` ends outside"),
        ("99999999999999999999999 9", "ends outside"),
        ("9223372036854775807 9223372036854775807", "ends outside"),
    ],
)
def test_runs_that_mean_nothing(text: str, reason: str) -> None:
    with pytest.raises(RleError) as caught:
        parse_kaggle(text, (6, 8))
    assert reason in caught.value.message


def test_the_last_pixel_is_inside() -> None:
    assert to_mask(parse_kaggle("48 1", (6, 8)))[5, 7]
    assert to_mask(parse_kaggle("1 48", (6, 8))).all()


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([40], "lengths add up to 40, but 8x6 are 48 pixels"),
        ([50, -2], "length `-2` is impossible"),
        ([0, 10**12], "is impossible"),
        ([1.5, 46.5], "no list of whole numbers"),
        ([], "no list of whole numbers"),
        ([[48]], "no list of whole numbers"),
        ([1, [2]], "no list of whole numbers"),
        ("", "damaged"),
        ("a", "damaged"),
        ("\x00\x00", "damaged"),
        ("ÿ", "damaged"),
        ("`" * 20 + "0", "damaged"),
        ("00", "add up to 0"),
    ],
)
def test_counts_that_mean_nothing(counts: Any, reason: str) -> None:
    with pytest.raises(RleError) as caught:
        parse_counts(counts, (6, 8))
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("polygons", "reason"),
    [
        ([], "no polygons"),
        ([[1, 2, 3, 4]], "a polygon of 4 numbers"),
        ([[1, 2, 3, 4, 5, 6, 7]], "a polygon of 7 numbers"),
        ([[1, 2, 3, 4, 5, "x"]], "no list of numbers"),
        ([[1, 2, 3, 4, 5, None]], "leaves 8x6 by far"),
        ([[1, 2, 3, 4, 5, float("nan")]], "leaves 8x6 by far"),
        ([[1, 2, 3, 4, 5, 1e12]], "leaves 8x6 by far"),
        ([3, 4], "a polygon of 1 numbers"),
        ([{"x": 1}], "no list of numbers"),
    ],
)
def test_polygons_that_are_none(polygons: Any, reason: str) -> None:
    with pytest.raises(RleError) as caught:
        from_polygons(polygons, (6, 8))
    assert reason in caught.value.message


@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))), st.tuples(*[st.integers(0, 3)] * 4))
@settings(max_examples=200, deadline=None)
def test_a_window_gives_the_runs_of_the_whole_mask(window: NDArray[np.bool_], margins: tuple[int, ...]) -> None:
    top, bottom, left, right = margins
    whole = np.pad(window, ((top, bottom), (left, right)))
    found, expected = from_window(window, top, left, whole.shape), from_mask(whole)
    assert found.starts.tolist() == expected.starts.tolist()
    assert found.ends.tolist() == expected.ends.tolist()
    assert found.size_hw == whole.shape
