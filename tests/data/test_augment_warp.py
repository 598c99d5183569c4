"""The way from a photo to a view of it: nothing shifts, nothing aliases, nothing is folded, labels are never mixed."""

import numpy as np
import pytest

from seglab.data.augment import BEND
from seglab.data.geometry import fit_image, fit_labels, place
from seglab.data.warp import BEND_NODES, Sampling, Warp
from seglab.preprocess import Preprocess
from seglab.tasks import IGNORE
from tests.data.blocks import GRID, PADDED, scene


def warp_sample(image, labels, preprocess, warp, bend=None):
    sampling = Sampling(labels.shape, preprocess, warp, bend)
    return sampling.image(image), sampling.labels(labels)


def disc(height, width, centre_yx, radius):
    y, x = np.mgrid[:height, :width] + 0.5
    labels = ((y - centre_yx[0]) ** 2 + (x - centre_yx[1]) ** 2 < radius**2).astype(np.uint8)
    return np.repeat(labels[..., None] * np.uint8(255), 3, 2), labels


def centre(weights):
    y, x = np.mgrid[: weights.shape[0], : weights.shape[1]] + 0.5
    return np.array([(y * weights).sum(), (x * weights).sum()]) / weights.sum()


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
    top, left, height, width = place((120, 70), preprocess).box
    inside = np.zeros((64, 48), bool)
    inside[top + height // 4 : top + height * 3 // 4, left + width // 4 : left + width * 3 // 4] = True
    outside = ~inside
    assert (grid_labels[outside] == IGNORE).mean() > 0.97
    assert (grid_labels[inside] == IGNORE).mean() < 0.1
    corner = pixels[:4, :4].reshape(-1, 3)
    assert (corner == preprocess.pad_rgb).all() == flat


@pytest.mark.parametrize("ratio", [0.7, 1.0, 1.2, 1.26, 1.5, 1.9, 2.3, 2.5, 3.1, 4.7, 9.0])
def test_a_view_from_afar_is_the_mean_over_what_each_pixel_covers(ratio):
    """Against sums over eight times as many samples along each axis, for a photo with detail of every size."""
    rng = np.random.default_rng(1)
    image = np.zeros((640, 640, 3))
    for scale in (1, 2, 4, 8, 16, 32, 64):
        image += np.kron(rng.uniform(-18, 18, (640 // scale, 640 // scale, 3)), np.ones((scale, scale, 1)))
    image = np.clip(np.rint(image + 128), 0, 255).astype(np.uint8)
    side = int(600 / ratio)
    warp = Warp(zoom=640 / side / ratio, shift_y=0.003, shift_x=-0.002)
    preprocess = Preprocess(size_hw=(side, side))
    pixels = Sampling((640, 640), preprocess, warp).image(image)
    at = 320 + 640 * 0.003 + ratio * (np.arange(side)[:, None] - side / 2 + (np.arange(8) + 0.5) / 8)
    rows = np.floor(at).astype(int).clip(0, 639)
    at = 320 - 640 * 0.002 + ratio * (np.arange(side)[:, None] - side / 2 + (np.arange(8) + 0.5) / 8)
    columns = np.floor(at).astype(int).clip(0, 639)
    exact = image[rows].astype(float).mean(1)[:, columns].mean(2)
    error = np.sqrt(((pixels - exact)[2:-2, 2:-2] ** 2).mean())
    assert error < (9.0 if ratio < 2 else 5.0)
    if ratio > 1.3:
        plain = image[np.floor(320.5 + ratio * (np.arange(side) - side / 2)).astype(int).clip(0, 639)]
        plain = plain[:, np.floor(320.5 + ratio * (np.arange(side) - side / 2)).astype(int).clip(0, 639)]
        assert error < 0.5 * np.sqrt(((plain - exact)[2:-2, 2:-2] ** 2).mean())


@pytest.mark.parametrize("level", [0, 1, 128, 255])
@pytest.mark.parametrize("size_hw", [(480, 480), (97, 33), (30, 45), (480, 1500)])
def test_an_even_photo_stays_even_from_however_far(size_hw, level):
    """Some sizes and ratios are softened along one axis, some along both."""
    image, labels = np.full((*size_hw, 3), level, np.uint8), np.zeros(size_hw, np.uint8)
    for number in range(40):
        zoom, aspect = np.exp(np.random.default_rng(number).uniform(-1, 1, 2)).tolist()
        pixels, _ = warp_sample(image, labels, GRID, Warp(zoom=zoom, aspect=aspect))
        assert np.abs(pixels.astype(int) - level).max() <= 1


@pytest.mark.parametrize("preprocess", [GRID, PADDED], ids=["stretch", "pad"])
@pytest.mark.parametrize("warp", [Warp(), Warp(zoom=0.8, angle=0.3, shift_x=0.1), Warp(zoom=2.5, aspect=0.7)])
def test_a_distortion_by_nothing_distorts_nothing(preprocess, warp):
    image, labels = scene()
    none = np.zeros((BEND_NODES, BEND_NODES, 2), np.float32)
    pixels, grid_labels = warp_sample(image, labels, preprocess, warp, none)
    straight, straight_labels = warp_sample(image, labels, preprocess, warp)
    assert (grid_labels == straight_labels).mean() > 0.985  # pixels that lie just between two may go either way
    if warp != Warp():  # the plain view is resized in another way
        assert np.abs(pixels.astype(int) - straight).mean() < 0.5


def test_a_distortion_moves_photo_and_labels_where_it_says():
    preprocess = Preprocess(size_hw=(100, 200))
    everywhere = np.zeros((BEND_NODES, BEND_NODES, 2), np.float32)
    everywhere[..., 0], everywhere[..., 1] = 0.05, -0.1
    image, labels = disc(300, 600, (150, 300), 60)
    pixels, grid_labels = warp_sample(image, labels, preprocess, Warp(), everywhere)
    for found in (centre(pixels[..., 0].astype(float)), centre(grid_labels == 1)):
        np.testing.assert_allclose(found, (50 + 0.1 * 100, 100 - 0.05 * 200), atol=0.3)


def test_no_distortion_folds_the_picture():
    """Along every row x only grows and along every column y: with the largest distortion drawn, at its worst."""
    ramp = np.arange(256, dtype=np.uint8)
    across, down = np.tile(ramp, (256, 1)), np.tile(ramp[:, None], (1, 256))
    preprocess = Preprocess(size_hw=(256, 256))
    rng = np.random.default_rng(0)
    for number in range(40):
        bend = BEND * rng.choice([-1.0, 1.0], (BEND_NODES, BEND_NODES, 2)).astype(np.float32)
        if number == 0:
            bend[...] = BEND * np.where(np.indices((BEND_NODES, BEND_NODES)).sum(0) % 2, 1, -1)[..., None]
        sampling = Sampling((256, 256), preprocess, Warp(), bend)
        seen_across = sampling.labels(across, outside=IGNORE).astype(int)[40:-40, 40:-40]
        seen_down = sampling.labels(down, outside=IGNORE).astype(int)[40:-40, 40:-40]
        assert np.diff(seen_across, axis=1).min() >= 0
        assert np.diff(seen_down, axis=0).min() >= 0
        assert np.abs(np.diff(seen_across, axis=1)).max() <= 3


@pytest.mark.parametrize("preprocess", [GRID, PADDED], ids=["stretch", "pad"])
@pytest.mark.parametrize("warp", [Warp(), Warp(zoom=0.6), Warp(zoom=0.9, angle=0.4)])
def test_beyond_the_photo_lies_what_is_asked_for(preprocess, warp):
    labels = scene()[1][:, :60]
    sampling = Sampling(labels.shape, preprocess, warp)
    usual, other = sampling.labels(labels), sampling.labels(labels, outside=77)
    np.testing.assert_array_equal(other == 77, (usual == IGNORE) & (other != IGNORE))
    np.testing.assert_array_equal(np.where(other == 77, IGNORE, other), usual)
    assert (other == 77).any() == (warp != Warp() or preprocess.fit == "pad")


@pytest.mark.parametrize("warp", [Warp(), Warp(zoom=0.6), Warp(zoom=1.7, angle=0.4)])
def test_how_much_a_mask_covers_is_what_its_labels_say_on_average(warp):
    _, labels = disc(400, 300, (200, 160), 90)
    sampling = Sampling(labels.shape, GRID, warp)
    cover, grid_labels = sampling.cover(labels), sampling.labels(labels, outside=0)
    assert abs(cover.mean() / 255 - grid_labels.mean()) < 0.01
    assert ((cover > 127) == (grid_labels == 1)).mean() > 0.98
    assert ((cover > 0) & (cover < 255)).any()


def test_a_photo_of_one_pixel_can_be_seen_from_any_side():
    image, labels = np.full((1, 1, 3), 9, np.uint8), np.full((1, 1), 3, np.uint8)
    for size_hw in ((1, 1), (7, 5)):
        for warp in (Warp(), Warp(zoom=0.3), Warp(zoom=3.0, angle=1.0)):
            pixels, grid_labels = warp_sample(image, labels, Preprocess(size_hw=size_hw), warp)
            assert (pixels == 9).all()
            assert set(np.unique(grid_labels)) <= {3, IGNORE}
