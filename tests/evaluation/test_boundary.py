"""Outlines: against plain re-writings, drawn cases whose counts are known, and what ignored pixels do."""

import math

import cv2
import numpy as np
import pytest
from scipy import ndimage

from seglab.evaluation.boundary import SHARE, count_boundaries, score_boundaries


def plain_band(mask, width):
    """The published definition: the mask without what is left of it after eroding it so many times."""
    padded = np.pad(mask.astype(np.uint8), 1)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return mask & (eroded == 0)


def plain_outline(mask):
    outline = np.zeros_like(mask)
    height, width = mask.shape
    for y in range(height):
        for x in range(width):
            near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            near = [(j, i) for j, i in near if 0 <= j < height and 0 <= i < width]
            outline[y, x] = mask[y, x] and any(not mask[place] for place in near)
    return outline


def plain_counts(truth, prediction, width):
    bands = plain_band(truth, width), plain_band(prediction, width)
    outlines = plain_outline(truth), plain_outline(prediction)
    y, x = np.mgrid[-2:3, -2:3]
    near = [ndimage.binary_dilation(outline, np.hypot(y, x) <= 2) for outline in outlines]
    right, found = outlines[1] & near[0], outlines[0] & near[1]
    several = (bands[0] & bands[1], bands[0] | bands[1], right, outlines[1], found, outlines[0])
    return [int(pixels.sum()) for pixels in several]


def blobs(rng, shape=(61, 83), num_classes=3):
    """Random smooth label maps."""
    noise = [cv2.GaussianBlur(rng.normal(size=shape), (0, 0), 4) for _ in range(num_classes)]
    return np.argmax(noise, axis=0).astype(np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_the_published_definitions(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = blobs(rng), blobs(rng)
    width = max(1, round(SHARE * math.hypot(*truth.shape)))
    members = [(0,), (1,), (2,), (1, 2)]
    counts = count_boundaries(truth, prediction, members)
    for row, ids in enumerate(members):
        masks = np.isin(truth, ids), np.isin(prediction, ids)
        assert counts[row].tolist() == plain_counts(*masks, width)


def test_the_same_map_is_perfect_and_an_absent_group_has_no_score():
    labels = np.zeros((50, 60), np.uint8)
    labels[10:30, 10:40] = 1
    scores = score_boundaries(count_boundaries(labels, labels, [(0,), (1,), (2,)]))
    np.testing.assert_array_equal(scores.iou, [1, 1, np.nan])
    np.testing.assert_array_equal(scores.f1, [1, 1, np.nan])


@pytest.mark.parametrize(("shift", "f1"), [(2, 1.0), (3, 0.0)])
def test_outlines_within_two_pixels_are_right(shift, f1):
    truth, prediction = np.zeros((2, 80, 80), np.uint8)
    truth[:, :40] = 1
    prediction[:, : 40 + shift] = 1
    assert score_boundaries(count_boundaries(truth, prediction, [(1,)])).f1.tolist() == [f1]


@pytest.mark.parametrize("seed", range(3))
def test_two_pixels_are_as_far_across_as_down(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = blobs(rng), blobs(rng)
    members = [(0,), (1,), (2,)]
    np.testing.assert_array_equal(
        count_boundaries(truth, prediction, members), count_boundaries(truth.T.copy(), prediction.T.copy(), members)
    )


def test_large_regions_hide_bad_outlines_from_iou_but_not_from_boundary_iou():
    truth, prediction = np.zeros((2, 400, 400), np.uint8)
    truth[20:380, 20:380] = 1
    prediction[26:374, 26:374] = 1
    area = (truth & prediction).sum() / (truth | prediction).sum()
    assert area > 0.9
    assert score_boundaries(count_boundaries(truth, prediction, [(1,)])).iou[0] < 0.4


def test_a_map_without_an_outline_has_no_boundary_f():
    whole = np.ones((30, 30), np.uint8)
    scores = score_boundaries(count_boundaries(whole, whole, [(1,)]))
    assert scores.iou[0] == 1
    assert np.isnan(scores.f1[0])
    none = score_boundaries(count_boundaries(whole, np.zeros_like(whole), [(1,)]))
    assert none.iou[0] == 0


def test_ignored_pixels_are_no_outline_and_hide_none():
    truth, prediction = np.zeros((2, 60, 60), np.uint8)
    truth[:, :30] = prediction[:, :30] = 1
    prediction[20:40, 30:36] = 1  # wrong, but nobody looks there
    truth[15:45, 25:40] = 255
    scores = score_boundaries(count_boundaries(truth, prediction, [(0,), (1,)]))
    np.testing.assert_array_equal(scores.iou, [1, 1])
    np.testing.assert_array_equal(scores.f1, [1, 1])


def test_counts_of_images_add_up():
    rng = np.random.default_rng(0)
    pairs = [(blobs(rng), blobs(rng)) for _ in range(3)]
    counts = sum(count_boundaries(*pair, [(0,), (1,)]) for pair in pairs)
    stacked = np.stack([count_boundaries(*pair, [(0,), (1,)]) for pair in pairs])
    np.testing.assert_array_equal(counts, stacked.sum(0))
    assert score_boundaries(stacked).iou.shape == (3, 2)
