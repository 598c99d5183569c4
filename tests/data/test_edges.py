"""Edges against a plain rule, and against the gradient that they stand for."""

import cv2
import numpy as np
import pytest

from seglab.data.edges import edges_from_labels


def plain(ids):
    height, width = ids.shape
    edges = np.zeros_like(ids)
    for y in range(height):
        for x in range(width):
            near = ids[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            known = set(near[near != 255].tolist())
            edges[y, x] = 1 if len(known) > 1 else 255 if (near == 255).any() else 0
    return edges


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 9), (7, 2), (33, 40)])
@pytest.mark.parametrize("unknown", [0.0, 0.1, 1.0])
def test_random_ids(size_hw, unknown):
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 4, (size_hw[0] // 5 + 1, size_hw[1] // 5 + 1)).astype(np.uint8)
    ids = np.kron(coarse, np.ones((5, 5), np.uint8))[: size_hw[0], : size_hw[1]].copy()
    ids[rng.random(size_hw) < unknown] = 255
    edges = edges_from_labels(ids)
    assert edges.dtype == np.uint8
    np.testing.assert_array_equal(edges, plain(ids))


def test_an_outline_is_two_pixels_wide():
    ids = np.zeros((9, 12), np.uint8)
    ids[:, 5:] = 1
    expected = np.zeros_like(ids)
    expected[:, 4:6] = 1
    np.testing.assert_array_equal(edges_from_labels(ids), expected)


def test_it_is_the_sobel_gradient_of_people():
    rng = np.random.default_rng(4)
    ids = np.zeros((120, 160), np.uint8)
    for person in range(1, 6):
        centre = int(rng.integers(0, 160)), int(rng.integers(0, 120))
        cv2.ellipse(
            ids, centre, (int(rng.integers(15, 40)), int(rng.integers(20, 50))), 20 * person, 0, 360, person, -1
        )
    smooth = ids.astype(np.float64)
    gradient = abs(cv2.Sobel(smooth, -1, 1, 0, borderType=cv2.BORDER_REPLICATE))
    gradient += abs(cv2.Sobel(smooth, -1, 0, 1, borderType=cv2.BORDER_REPLICATE))
    edges = edges_from_labels(ids)
    assert edges.sum() > 500
    assert not ((gradient > 0) & (edges == 0)).any()
    assert np.count_nonzero((gradient == 0) & (edges == 1)) <= 0.01 * edges.sum()


def test_unknown_on_one_side_only_is_unknown():
    ids = np.array([[3, 3, 3, 255, 255, 255, 255]] * 3, np.uint8)
    np.testing.assert_array_equal(edges_from_labels(ids)[1], [0, 0, 255, 255, 255, 255, 255])
    ids[:, 4:] = 5
    np.testing.assert_array_equal(edges_from_labels(ids)[1], [0, 0, 255, 1, 255, 0, 0])
