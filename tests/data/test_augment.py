"""Augmentation: nothing shifts, no label is invented, left stays left, and the same key gives the same view."""

from dataclasses import replace

import numpy as np
import pytest

from seglab.config import Preprocess
from seglab.data.augment import Augmentation, Warp, mirror_labels, warp_sample
from seglab.data.geometry import fit_image, fit_labels, place
from seglab.strengths import PRESETS, Strengths
from seglab.tasks import IGNORE, TASKS

GRID = Preprocess(size_hw=(64, 48))
PADDED = Preprocess(size_hw=(64, 48), fit="pad")
MIRRORED = [task for task in TASKS.values() if task.mirror]


def scene(height=120, width=90, num_classes=11, seed=0):
    """A photo whose red channel is 20 times its labels, in blocks, with some ignored pixels."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, num_classes, (height // 10, width // 10), np.uint8), np.ones((10, 10), np.uint8))
    image = np.stack([labels * 20, rng.integers(0, 256, labels.shape), np.full(labels.shape, 90)], -1).astype(np.uint8)
    labels[:5, :7] = IGNORE
    return image, labels


def disc(height, width, centre_yx, radius):
    y, x = np.mgrid[:height, :width] + 0.5
    labels = ((y - centre_yx[0]) ** 2 + (x - centre_yx[1]) ** 2 < radius**2).astype(np.uint8)
    return np.repeat(labels[..., None] * np.uint8(255), 3, 2), labels


def centre(weights):
    y, x = np.mgrid[: weights.shape[0], : weights.shape[1]] + 0.5
    return np.array([(y * weights).sum(), (x * weights).sum()]) / weights.sum()


def test_there_are_tasks_with_left_and_right():
    assert [task.name for task in MIRRORED] == ["face"]


@pytest.mark.parametrize("preprocess", [GRID, PADDED], ids=["stretch", "pad"])
@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_a_flip_is_the_flipped_view_with_left_and_right_swapped(task, preprocess):
    image, labels = scene(num_classes=task.num_classes)
    mirror = task.mirror_permutation()
    for index in range(5):
        plain = Augmentation(preprocess, mirror, Strengths(hflip=0.0), seed=3)(image, labels, epoch=1, index=index)
        flipped = Augmentation(preprocess, mirror, Strengths(hflip=1.0), seed=3)(image, labels, epoch=1, index=index)
        np.testing.assert_array_equal(flipped[0], plain[0][:, ::-1])
        swapped = plain[1][:, ::-1].copy()
        for left, right in task.mirror:
            a, b = task.index(left), task.index(right)
            was_a, was_b = swapped == a, swapped == b
            swapped[was_a], swapped[was_b] = b, a
        np.testing.assert_array_equal(flipped[1], swapped)


def test_mirroring_twice_changes_nothing():
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    mirror = TASKS["face"].mirror_permutation()
    once = mirror_labels(labels, mirror)
    assert set(once.ravel()) == set(range(256))
    assert not np.array_equal(once[:, ::-1], labels)
    np.testing.assert_array_equal(mirror_labels(once, mirror), labels)


@pytest.mark.parametrize("preprocess", [GRID, PADDED], ids=["stretch", "pad"])
def test_without_strength_and_flip_it_is_the_plain_view(preprocess):
    image, labels = scene()
    pixels, grid_labels = Augmentation(preprocess, tuple(range(11)), PRESETS["none"])(image, labels, epoch=4, index=9)
    np.testing.assert_array_equal(pixels, fit_image(image, preprocess)[0])
    np.testing.assert_array_equal(grid_labels, fit_labels(labels, preprocess))


@pytest.mark.parametrize("strength", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("preprocess", [GRID, PADDED], ids=["stretch", "pad"])
def test_labels_gain_no_value_and_stay_on_the_grid(preprocess, strength):
    image, labels = scene(num_classes=3)
    labels[labels == 1] = 7
    augmentation = Augmentation(preprocess, tuple(range(11)), Strengths.uniform(strength))
    seen = set()
    for index in range(40):
        pixels, grid_labels = augmentation(image, labels, epoch=0, index=index)
        assert pixels.shape == (64, 48, 3)
        assert pixels.dtype == grid_labels.dtype == np.uint8
        assert grid_labels.shape == (64, 48)
        seen |= set(np.unique(grid_labels).tolist())
    assert seen == {0, 2, 7, IGNORE}


def test_a_view_depends_on_its_key_and_on_nothing_else():
    image, labels = scene()
    copies = image.copy(), labels.copy()
    augmentation = Augmentation(GRID, tuple(range(11)), seed=5)
    views = {}
    for epoch in range(3):
        for index in range(3):
            views[epoch, index] = augmentation(image, labels, epoch=epoch, index=index)
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    for (epoch, index), (pixels, grid_labels) in reversed(views.items()):
        again = Augmentation(GRID, tuple(range(11)), seed=5)(image, labels, epoch=epoch, index=index)
        np.testing.assert_array_equal(again[0], pixels)
        np.testing.assert_array_equal(again[1], grid_labels)
    assert len({pixels.tobytes() for pixels, _ in views.values()}) == 9
    assert (
        augmentation(image, labels, epoch=0, index=0)[0].tobytes()
        != Augmentation(GRID, tuple(range(11)), seed=6)(image, labels, epoch=0, index=0)[0].tobytes()
    )
    np.testing.assert_array_equal(image, copies[0])
    np.testing.assert_array_equal(labels, copies[1])


@pytest.mark.parametrize("size", [64, 96, 160, 512])
@pytest.mark.parametrize("zoom", [0.7, 1.0, 1.5])
def test_a_disc_lies_where_the_warp_puts_it_in_photo_and_labels(size, zoom):
    """Over views that differ by parts of a pixel, as nearest labels can only be right to half a pixel each."""
    preprocess = Preprocess(size_hw=(64, 64))
    image, labels = disc(size, size, (size * 0.5, size * 0.5), size * 0.12)
    errors = []
    for shift_y, shift_x in np.random.default_rng(0).uniform(-0.1, 0.1, (60, 2)):
        warp = Warp(zoom=zoom, shift_y=shift_y, shift_x=shift_x, angle=1e-9)
        pixels, grid_labels = warp_sample(image, labels, preprocess, warp)
        expected = 32 - np.array([shift_y, shift_x]) * 64 * zoom
        errors.append((centre(pixels[..., 0].astype(float)) - expected, centre(grid_labels == 1) - expected))
    in_photo, in_labels = np.array(errors).transpose(1, 0, 2)
    assert np.abs(in_photo).max() < 0.06
    assert np.abs(in_labels).max() < 0.6
    assert np.abs(in_labels.mean(0)).max() < 0.09


def test_a_warp_that_is_almost_none_is_almost_the_plain_view():
    for preprocess in (GRID, PADDED):
        image, labels = disc(120, 100, (50, 40), 25)
        pixels, grid_labels = warp_sample(image, labels, preprocess, Warp(angle=1e-9))
        assert np.abs(pixels.astype(int) - fit_image(image, preprocess)[0]).mean() < 2.5
        np.testing.assert_array_equal(grid_labels, fit_labels(labels, preprocess))


def test_the_angle_is_one_in_the_photos_own_proportions():
    """A disc in a photo of 2:1 stays an upright ellipse on a square grid, however the view is turned."""
    image, labels = disc(100, 200, (50, 100), 30)
    _, turned = warp_sample(image, labels, Preprocess(size_hw=(64, 64)), Warp(angle=0.4))
    rows, columns = np.flatnonzero((turned == 1).any(1)), np.flatnonzero((turned == 1).any(0))
    assert abs(rows.size - 60 * 0.64) <= 1.5
    assert abs(columns.size - 60 * 0.32) <= 1.5


def test_a_strong_shrink_does_not_alias():
    """Stripes finer than the grid become even grey."""
    image = np.zeros((640, 640, 3), np.uint8)
    image[:, ::2] = 255
    labels = np.zeros((640, 640), np.uint8)
    pixels, _ = warp_sample(image, labels, Preprocess(size_hw=(64, 64)), Warp(zoom=0.9, angle=1e-9))
    inner = pixels[10:-10, 10:-10].astype(int)
    assert abs(inner.mean() - 127.5) < 2
    assert inner.std() < 3


@pytest.mark.parametrize(("preprocess", "flat"), [(GRID, False), (PADDED, True)], ids=["stretch", "pad"])
def test_beyond_the_photo_there_is_nothing_to_learn(preprocess, flat):
    image, labels = scene()
    pixels, grid_labels = warp_sample(image, labels, preprocess, Warp(zoom=0.5))
    top, left, height, width = place((120, 90), preprocess).box
    inside = np.zeros((64, 48), bool)
    inside[top + height // 4 : top + height * 3 // 4, left + width // 4 : left + width * 3 // 4] = True
    outside = ~inside
    assert (grid_labels[outside] == IGNORE).mean() > 0.97
    assert (grid_labels[inside] == IGNORE).mean() < 0.1
    corner = pixels[:4, :4].reshape(-1, 3)
    assert (corner == preprocess.pad_rgb).all() == flat


def test_strength_changes_more():
    image, labels = scene()
    plain = fit_image(image, GRID)[0].astype(int)

    def change(strength):
        augmentation = Augmentation(GRID, tuple(range(11)), replace(Strengths.uniform(strength), hflip=0))
        views = [augmentation(image, labels, epoch=0, index=index)[0] for index in range(30)]
        return np.mean([np.abs(view - plain).mean() for view in views])

    assert 0 < change(0.1) < change(0.5) < change(1.5)
