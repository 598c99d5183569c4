"""Outlines of people: counted as by comparing all pairs of pixels, and near BSDS's matching one to one."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from seglab.data.edges import edges_from_labels
from seglab.evaluation.edges import AT, FROM, NUM_COUNTS, count_edges, reach, score_edges
from seglab.inference.thinning import thin


def scene(seed, size_hw=(70, 95)):
    """Return true outlines of a few people, and probabilities that are shifted, broken and doubtful in places."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(size_hw)
    ids = np.zeros(size_hw, np.uint8)
    for number in range(1, 4):
        y, x, a, b = rng.integers([20, 20, 9, 6], [50, 75, 22, 18])
        ids[((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < 1] = number
    truth = edges_from_labels(ids)
    probs = np.roll(truth, rng.integers(-3, 4, 2), (0, 1)) * rng.uniform(0.05, 1, size_hw)
    probs = np.maximum(probs, (rng.random(size_hw) < 0.01) * rng.random(size_hw))
    return truth, probs.astype(np.float32)


def pairs_within(first, second, most):
    """Return which points of each have one of the other within a distance, looking at every pair."""
    if not len(first) or not len(second):
        return np.zeros(len(first), bool), np.zeros(len(second), bool)
    near = cdist(first, second) <= most
    return near.any(1), near.any(0)


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_all_pairs_of_pixels(seed):
    truth, probs = scene(seed)
    truth[30:40, 60:] = 255
    counts = count_edges(truth, probs)
    true = np.argwhere(thin(truth == 1))
    assert len(true) > 50
    for row, threshold in enumerate(FROM):
        lines = np.argwhere(thin(probs >= threshold))
        right, found = pairs_within(lines, true, reach(truth.shape))
        known = truth[tuple(lines.T)] != 255
        assert counts[row].tolist() == [(right & known).sum(), known.sum(), found.sum(), len(true)]


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_scipys(seed):
    truth, probs = scene(seed, (300, 400))
    most = reach(truth.shape)
    assert most == pytest.approx(3.75)
    true, lines = thin(truth == 1), thin(probs >= AT)
    expected = [
        (lines & (distance_transform_edt(~true) <= most)).sum(),
        lines.sum(),
        (true & (distance_transform_edt(~lines) <= most)).sum(),
        true.sum(),
    ]
    assert count_edges(truth, probs)[FROM.index(AT)].tolist() == expected


@pytest.mark.parametrize("seed", range(4))
def test_f1_is_near_that_of_matching_one_to_one(seed):
    """BSDS matches each pixel once. Here what is left over at corners of thinned lines may be matched again."""
    ids = np.zeros((120, 160), np.uint8)
    rng = np.random.default_rng(seed)
    y, x = rng.integers(10, 40, 2)
    ids[y : y + 60, x : x + 70] = 1
    truth = edges_from_labels(ids)
    probs = np.roll(truth, (1, 1), (0, 1)) * (rng.random(truth.shape) < 0.95).astype(np.float32)
    scores = score_edges(count_edges(truth, probs.astype(np.float32))[None])
    lines, true = np.argwhere(thin(probs >= AT)), np.argwhere(thin(truth == 1))
    cost = cdist(lines, true)
    cost[cost > reach(truth.shape)] = 1e6
    matched = (cost[linear_sum_assignment(cost)] < 1e6).sum()
    once = 2 * matched / (len(lines) + len(true))
    assert once <= scores.f1 + 1e-9
    assert scores.f1 == pytest.approx(once, abs=0.06)


def test_the_same_outlines_are_perfect_and_far_ones_are_nothing():
    truth, _ = scene(7)
    perfect = score_edges(count_edges(truth, truth.astype(np.float32))[None])
    assert (perfect.precision, perfect.recall, perfect.f1, perfect.ods, perfect.ois) == (1, 1, 1, 1, 1)
    far = np.zeros_like(truth, np.float32)
    far[0] = 1
    nothing = score_edges(count_edges(truth, far)[None])
    assert (nothing.precision, nothing.recall, nothing.f1) == (0, 0, 0)


def test_nothing_to_find_and_nothing_found_has_no_score():
    empty = np.zeros((20, 30), np.uint8)
    scores = score_edges(count_edges(empty, empty.astype(np.float32))[None])
    assert np.isnan([scores.precision, scores.recall, scores.f1, scores.ods, scores.ois]).all()
    missed = score_edges(count_edges(scene(1)[0], np.zeros((70, 95), np.float32))[None])
    assert (missed.precision, missed.recall, missed.f1) == (0, 0, 0)
    assert np.isnan(score_edges(np.zeros((0, len(FROM), NUM_COUNTS), np.int64)).f1)


def test_best_for_all_and_best_for_each():
    """Hand-worked: the first image is best from 0.3, the second from 0.7, both together from 0.3."""
    counts = np.zeros((2, len(FROM), NUM_COUNTS), np.int64)
    counts[0] = counts[1] = [0, 10, 0, 10]
    counts[0, FROM.index(0.3)] = [10, 10, 10, 10]
    counts[1, FROM.index(0.3)] = [2, 10, 2, 10]
    counts[1, FROM.index(0.7)] = [8, 10, 8, 10]
    counts[:, FROM.index(AT)] = [1, 10, 3, 10]
    scores = score_edges(counts)
    assert (scores.precision, scores.recall) == (0.1, 0.3)
    assert scores.f1 == pytest.approx(0.15)
    assert (scores.ods, scores.ods_from) == (pytest.approx(0.6), 0.3)
    assert scores.ois == pytest.approx(0.9)


def test_what_the_truth_does_not_know_is_neither_right_nor_wrong():
    truth = np.zeros((40, 40), np.uint8)
    truth[:, 20:] = 255
    probs = np.zeros((40, 40), np.float32)
    probs[:, 30] = 1
    assert count_edges(truth, probs).sum() == 0
    truth[:] = 0
    assert count_edges(truth, probs)[0].tolist() == [0, 40, 0, 0]
