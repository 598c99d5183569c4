import itertools

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from seglab.data import geometry
from seglab.data.geometry import (
    Placement,
    fit_image,
    fit_labels,
    place,
    unfit_bands,
    unfit_certainty,
    unfit_labels,
    unfit_probs,
)
from seglab.data.images import resize_image
from seglab.preprocess import Preprocess

FITS = ("stretch", "pad")
SIDES = (1, 2, 7, 31, 33, 64, 97, 101, 251, 500)
SIZES_HW = [*itertools.product(SIDES, SIDES), (257, 1021), (1600, 40), (60, 2400), (3000, 4000)]


def preprocess(fit, size_hw=(64, 96)):
    return Preprocess(size_hw=size_hw, fit=fit)


def one_hot(labels_hw, num_classes, high=8.0):
    return np.where(labels_hw == np.arange(num_classes)[:, None, None], high, -high).astype(np.float32)


def by_torch(logits_Khw, placement):
    top, left, height, width = placement.box
    box = torch.from_numpy(logits_Khw[:, top : top + height, left : left + width].copy())[None]
    return torch.nn.functional.interpolate(box, placement.source_hw, mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize("fit", FITS)
def test_round_trip_has_the_size_of_the_photo(fit):
    for source_hw in SIZES_HW:
        image = np.full((*source_hw, 3), 9, np.uint8)
        pixels, placement = fit_image(image, preprocess(fit))
        assert pixels.shape == (64, 96, 3)
        assert pixels.dtype == np.uint8
        assert placement.source_hw == source_hw
        logits_Khw = np.zeros((3, 64, 96), np.float32)
        assert unfit_labels(logits_Khw, placement).shape == source_hw
        assert unfit_probs(logits_Khw, placement, [1]).shape == source_hw
        assert fit_labels(np.zeros(source_hw, np.uint8), preprocess(fit)).shape == (64, 96)


@pytest.mark.parametrize("fit", FITS)
def test_box_lies_in_the_grid_and_keeps_the_shape_when_padded(fit):
    for source_hw in SIZES_HW:
        placement = place(source_hw, preprocess(fit))
        top, left, height, width = placement.box
        assert top >= 0
        assert left >= 0
        assert height >= 1
        assert width >= 1
        assert top + height <= 64
        assert left + width <= 96
        if fit == "stretch":
            assert placement.box == (0, 0, 64, 96)
        else:
            scale = min(64 / source_hw[0], 96 / source_hw[1])
            assert abs(height - max(1, source_hw[0] * scale)) <= 0.5
            assert abs(width - max(1, source_hw[1] * scale)) <= 0.5
            assert abs((64 - height) - 2 * top) <= 1
            assert abs((96 - width) - 2 * left) <= 1


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("source_hw", [(96, 96), (100, 151), (251, 97), (33, 31), (480, 640), (641, 479), (3000, 4000)])
def test_corner_markers_come_back_in_their_corners(fit, source_hw):
    """Four coloured corner squares: photo -> grid -> classes by colour -> photo."""
    colours = np.array([(128, 128, 128), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)], np.float32)
    side_hw = source_hw[0] // 4, source_hw[1] // 4
    truth = np.zeros(source_hw, np.uint8)
    for index, (row, column) in enumerate(itertools.product((0, 1), (0, 1)), start=1):
        top, left = row * (source_hw[0] - side_hw[0]), column * (source_hw[1] - side_hw[1])
        truth[top : top + side_hw[0], left : left + side_hw[1]] = index
    pixels, placement = fit_image(colours[truth].astype(np.uint8), preprocess(fit, (128, 128)))
    distance_Khw = ((pixels[None].astype(np.float32) - colours[:, None, None]) ** 2).sum(axis=-1)
    labels = unfit_labels((-distance_Khw / 1000).astype(np.float32), placement)

    tolerance = max(1.0, 0.75 * max(source_hw) / 128)
    for index in range(1, 5):
        for axis in (0, 1):
            expected = np.flatnonzero((truth == index).any(axis=1 - axis))
            found = np.flatnonzero((labels == index).sum(axis=1 - axis) > side_hw[1 - axis] // 2)
            assert abs(found[0] - expected[0]) <= tolerance
            assert abs(found[-1] - expected[-1]) <= tolerance
    for index, (row, column) in enumerate(itertools.product((0, -1), (0, -1)), start=1):
        assert labels[row, column] == index
    assert np.mean(labels == truth) > 0.93


@pytest.mark.parametrize("fit", FITS)
def test_no_scaling_is_the_identity(fit):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    labels = rng.integers(0, 7, (64, 96), dtype=np.uint8)
    pixels, placement = fit_image(image, preprocess(fit))
    assert np.array_equal(pixels, image)
    assert np.array_equal(fit_labels(labels, preprocess(fit)), labels)
    assert np.array_equal(unfit_labels(one_hot(labels, 7), placement), labels)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("source_hw", [(512, 512), (500, 333), (211, 397), (40, 60), (1201, 800)])
def test_disc_keeps_its_centre(fit, source_hw):
    height, width = source_hw
    centre = height * 0.4, width * 0.55
    rows, columns = np.mgrid[:height, :width] + 0.5
    radius = min(source_hw) * 0.3
    truth = ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2).astype(np.uint8)
    config = preprocess(fit, (100, 224))
    pixels, placement = fit_image(np.repeat(truth[..., None] * 255, 3, axis=2), config)
    share_hw = pixels[..., 0].astype(np.float32) / 255 - 0.5
    from_image = unfit_labels(np.stack([-share_hw, share_hw]), placement)
    from_labels = unfit_labels(one_hot(fit_labels(truth, config), 2), placement)
    grid_pixel = max(1.0, height / placement.box[2], width / placement.box[3])
    for labels, tolerance in ((from_image, 0.5), (from_labels, max(0.5, 0.1 * grid_pixel))):
        found = [np.mean(np.flatnonzero(labels == 1) // width), np.mean(np.flatnonzero(labels == 1) % width)]
        expected = [np.mean(np.flatnonzero(truth) // width), np.mean(np.flatnonzero(truth) % width)]
        assert np.allclose(found, expected, atol=tolerance, rtol=0)


def test_padding_never_leaks_in():
    placement = place((30, 200), preprocess("pad"))
    top, left, height, width = placement.box
    assert top > 0
    rng = np.random.default_rng(1)
    logits_Khw = rng.normal(size=(4, 64, 96)).astype(np.float32)
    poisoned_Khw = np.full_like(logits_Khw, np.nan)
    inside = np.s_[:, top : top + height, left : left + width]
    poisoned_Khw[inside] = logits_Khw[inside]
    assert np.array_equal(unfit_labels(logits_Khw, placement), unfit_labels(poisoned_Khw, placement))
    probs = unfit_probs(poisoned_Khw, placement, [1, 3])
    assert np.isfinite(probs).all()
    assert np.array_equal(unfit_probs(logits_Khw, placement, [1, 3]), probs)


def test_padding_is_coloured_and_ignored():
    config = Preprocess(size_hw=(64, 64), fit="pad", pad_rgb=(1, 2, 3))
    pixels, placement = fit_image(np.full((20, 40, 3), 200, np.uint8), config)
    labels = fit_labels(np.full((20, 40), 5, np.uint8), config)
    inside = np.zeros((64, 64), bool)
    top, left, height, width = placement.box
    inside[top : top + height, left : left + width] = True
    assert (pixels[inside] == 200).all()
    assert (pixels[~inside] == (1, 2, 3)).all()
    assert (labels[inside] == 5).all()
    assert (labels[~inside] == 255).all()


@pytest.mark.parametrize("num_classes", [2, 3, 11])
@pytest.mark.parametrize("source_hw", [(64, 96), (65, 97), (101, 251), (500, 97), (64, 500), (700, 1001)])
@pytest.mark.parametrize("fit", FITS)
def test_growing_agrees_with_torch(num_classes, source_hw, fit):
    rng = np.random.default_rng(2)
    placement = place(source_hw, preprocess(fit))
    for smooth in (0, 3):
        logits_Khw = rng.normal(size=(num_classes, 64, 96)).astype(np.float32) * 6
        if smooth:
            logits_Khw = np.stack([cv2.GaussianBlur(plane, (0, 0), smooth) * 8 for plane in logits_Khw])
        expected_KHW = by_torch(logits_Khw, placement)
        labels = unfit_labels(logits_Khw, placement)
        assert labels.dtype == np.uint8
        assert np.mean(labels == expected_KHW.argmax(0).numpy()) >= 0.999
        chosen = list(range(1, num_classes, 2))
        probs = unfit_probs(logits_Khw, placement, chosen)
        expected = expected_KHW.softmax(0)[chosen].sum(0).numpy()
        assert probs.dtype == np.float32
        assert np.abs(probs - expected).max() < 1e-3
        assert np.abs(probs - expected).mean() < 1e-4


def test_tiles_do_not_show(monkeypatch):
    """Any tiling gives the same result, whatever is left out."""
    rng = np.random.default_rng(3)
    placement = Placement((203, 307), (48, 48), (0, 0, 48, 48))
    logits_Khw = np.stack([cv2.GaussianBlur(rng.normal(size=(48, 48)), (0, 0), 4) * 40 for _ in range(6)])
    logits_Khw = logits_Khw.astype(np.float32)
    monkeypatch.setattr(geometry, "TILE_HW", (1000, 1000))
    labels, probs = unfit_labels(logits_Khw, placement), unfit_probs(logits_Khw, placement, [1, 2])
    for tile_hw in ((1, 1000), (17, 5), (64, 128)):
        monkeypatch.setattr(geometry, "TILE_HW", tile_hw)
        assert np.array_equal(unfit_labels(logits_Khw, placement), labels)
        assert np.abs(unfit_probs(logits_Khw, placement, [1, 2]) - probs).max() < 5e-4


def test_shrinking_averages_the_area():
    """Where the photo is smaller than its box, every logit counts once."""
    rng = np.random.default_rng(4)
    logits_Khw = rng.normal(size=(3, 64, 96)).astype(np.float32)
    placement = Placement((16, 32), (64, 96), (0, 0, 64, 96))
    expected = logits_Khw.reshape(3, 16, 4, 32, 3).mean(axis=(2, 4)).argmax(axis=0)
    assert np.array_equal(unfit_labels(logits_Khw, placement), expected)
    one = Placement((1, 1), (64, 96), (0, 0, 64, 96))
    assert unfit_labels(logits_Khw, one)[0, 0] == logits_Khw.mean(axis=(1, 2)).argmax()


def test_shrinking_one_axis_and_growing_the_other():
    rng = np.random.default_rng(5)
    logits_Khw = rng.normal(size=(4, 64, 96)).astype(np.float32)
    placement = Placement((16, 301), (64, 96), (0, 0, 64, 96))
    rows = torch.from_numpy(logits_Khw.reshape(4, 16, 4, 96).mean(axis=2))[None]
    expected = torch.nn.functional.interpolate(rows, (16, 301), mode="bilinear", align_corners=False)[0].argmax(0)
    assert np.mean(unfit_labels(logits_Khw, placement) == expected.numpy()) >= 0.999


def test_equal_logits_give_the_lower_class():
    placement = Placement((50, 50), (8, 8), (0, 0, 8, 8))
    assert (unfit_labels(np.zeros((2, 8, 8), np.float32), placement) == 0).all()
    assert (unfit_labels(np.zeros((5, 8, 8), np.float32), placement) == 0).all()
    assert np.allclose(unfit_probs(np.zeros((5, 8, 8), np.float32), placement, [0, 4]), 0.4)


def test_extreme_logits_stay_in_range():
    placement = Placement((40, 40), (8, 8), (0, 0, 8, 8))
    logits_Khw = np.zeros((3, 8, 8), np.float32)
    logits_Khw[0, :, :4], logits_Khw[1, :, 4:], logits_Khw[2] = 5000, 5000, -5000
    probs = unfit_probs(logits_Khw, placement, [1])
    assert np.isfinite(probs).all()
    assert probs.min() == 0
    assert probs.max() == 1
    assert np.allclose(probs[:, :15], 0)
    assert np.allclose(probs[:, 25:], 1)
    assert np.allclose(unfit_probs(logits_Khw, placement, [0, 1, 2]), 1)
    assert (unfit_probs(logits_Khw, placement, []) == 0).all()


def test_nan_logits_do_not_crash():
    placement = Placement((40, 40), (8, 8), (0, 0, 8, 8))
    assert unfit_labels(np.full((3, 8, 8), np.nan, np.float32), placement).shape == (40, 40)


def test_labels_on_the_grid_are_those_of_pillow():
    rng = np.random.default_rng(6)
    for source_hw in ((31, 33), (512, 512), (7, 1001), (64, 96)):
        labels = rng.integers(0, 256, source_hw, dtype=np.uint8)
        expected = np.array(Image.fromarray(labels).resize((96, 64), Image.Resampling.NEAREST))
        assert np.array_equal(fit_labels(labels, preprocess("stretch")), expected)


def test_shrinking_a_photo_is_close_to_the_exact_area_average():
    rng = np.random.default_rng(7)
    for source_hw in ((999, 1333), (1000, 1500), (2001, 450)):
        noise = cv2.GaussianBlur(rng.integers(0, 256, (*source_hw, 3), dtype=np.uint8), (0, 0), 2)
        exact = cv2.resize(noise, (96, 64), interpolation=cv2.INTER_AREA).astype(np.int16)
        difference = resize_image(noise, (64, 96)) - exact
        assert np.abs(difference).mean() < 1
        assert np.abs(difference).max() <= 10


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("source_hw", [(97, 131), (300, 40), (5, 9), (1, 1), (64, 96)])
def test_bands_and_certainty_are_those_of_resized_logits(fit, source_hw):
    rng = np.random.default_rng(0)
    logits_Khw = (6 * rng.standard_normal((5, 64, 96))).astype(np.float32)
    placement = place(source_hw, preprocess(fit))
    bands = list(unfit_bands(logits_Khw, placement))
    logits_KHW = np.concatenate([band for _, band in bands], axis=1)
    assert logits_KHW.shape == (5, *source_hw)
    assert [rows.start for rows, _ in bands] == list(range(0, source_hw[0], geometry.TILE_HW[0]))
    if min(source_hw) > 96:
        np.testing.assert_allclose(logits_KHW, by_torch(logits_Khw, placement).numpy(), atol=2e-4)
    probs_KHW = torch.softmax(torch.from_numpy(logits_KHW), 0).numpy()
    np.testing.assert_allclose(unfit_certainty(logits_Khw, placement), probs_KHW.max(0), atol=5e-4)
    sure = np.abs(np.sort(logits_KHW, axis=0)[-1] - np.sort(logits_KHW, axis=0)[-2]) > 1e-3
    assert np.array_equal(logits_KHW.argmax(0)[sure], unfit_labels(logits_Khw, placement)[sure])
    assert sure.any()
