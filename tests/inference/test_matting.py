from collections.abc import Callable

import cv2
import numpy as np
import pytest

from seglab.inference import matting
from seglab.inference.matting import GuidedFilter, decontaminate, feather, soft_alpha, working_hw

FOREGROUND, BACKGROUND = np.array([200.0, 60, 30]), np.array([20.0, 180, 60])


def textured(height: int, width: int, colour: np.ndarray, seed: int, strength: float = 12) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((height, width, 3))
    return colour + strength * cv2.GaussianBlur(noise, (0, 0), 2) * 4


def disc(height: int, width: int, radius: float, softness: float) -> np.ndarray:
    """A disc with a wavy rim whose alpha falls from 1 to 0 over about ``softness`` pixels."""
    y, x = np.mgrid[:height, :width] + 0.5
    angle = np.arctan2(y - height / 2, x - width / 2)
    distance = np.hypot(y - height / 2, x - width / 2) - radius * (1 + 0.06 * np.sin(9 * angle))
    return np.clip(0.5 - distance / softness, 0, 1).astype(np.float32)


def composite(alpha: np.ndarray, foreground: np.ndarray, background: np.ndarray) -> np.ndarray:
    mixed = alpha[..., None] * foreground + (1 - alpha[..., None]) * background
    return np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)


def coarse(alpha: np.ndarray, cells: int, shift: float = 0.6) -> np.ndarray:
    """What a network with few cells would say: blurred, and off by part of a cell."""
    cell = alpha.shape[0] / cells
    moved = cv2.warpAffine(
        alpha, np.float32([[1, 0, shift * cell], [0, 1, 0]]), alpha.shape[::-1], borderMode=cv2.BORDER_REPLICATE
    )
    small = cv2.GaussianBlur(cv2.resize(moved, (cells, cells), interpolation=cv2.INTER_AREA), (0, 0), 0.8)
    return cv2.resize(small, working_hw(alpha.shape)[::-1], interpolation=cv2.INTER_LINEAR)


@pytest.fixture
def scene() -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    def make(side: int) -> tuple[np.ndarray, np.ndarray]:
        alpha = disc(side, side, side * 0.3, 3)
        return alpha, composite(alpha, textured(side, side, FOREGROUND, 1), textured(side, side, BACKGROUND, 2))

    return make


@pytest.mark.parametrize("side", [256, 1500])
def test_edges_move_to_where_the_photo_has_them(scene, side: int) -> None:
    truth, image = scene(side)
    probs = coarse(truth, 48)
    full = cv2.resize(probs, (side, side), interpolation=cv2.INTER_LINEAR)
    refined = soft_alpha(image, probs, reach=probs.shape[0] / 48) / 255
    before, after = np.abs(full - truth).mean(), np.abs(refined - truth).mean()
    assert after < 0.4 * before
    hard_before, hard_after = ((plane > 0.5) != (truth > 0.5) for plane in (full, refined))
    assert hard_after.mean() < 0.5 * hard_before.mean()


def test_what_is_certain_is_exact(scene) -> None:
    truth, image = scene(1500)
    alpha = soft_alpha(image, coarse(truth, 48), reach=1024 / 48)
    far = 4 * 1500 // 48
    kernel = np.ones((2 * far + 1, 2 * far + 1), np.uint8)
    assert (alpha[cv2.dilate(truth, kernel) == 0] == 0).all()
    assert (alpha[cv2.erode(truth, kernel) == 1] == 255).all()
    assert ((alpha > 0) & (alpha < 255)).any()


@pytest.mark.parametrize(("level", "alpha"), [(0, 0), (0.01, 0), (0.3, 0), (0.5, 0), (0.7, 255), (1, 255)])
def test_nothing_is_stretched_to_the_pictures_own_range(level: float, alpha: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    probs = np.full((90, 120), level, np.float32)
    assert (soft_alpha(image, probs, reach=3) == alpha).all()


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_flat_photo_gives_no_nan(value: int) -> None:
    image = np.full((80, 60, 3), value, np.uint8)
    probs = np.zeros((80, 60), np.float32)
    probs[20:60, 20:40] = 1
    with np.errstate(all="raise"):
        alpha = soft_alpha(image, probs, reach=2)
    assert (alpha[30:50, 27:33] == 255).all()
    assert (alpha[:15] == 0).all()
    assert (decontaminate(image, alpha)[alpha > 0] == value).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3), (1, 3000)])
def test_tiny_and_thin_photos(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    probs = np.linspace(0, 1, np.prod(working_hw(size)), dtype=np.float32).reshape(working_hw(size))
    alpha = soft_alpha(image, probs, reach=1.5)
    assert alpha.shape == size
    assert decontaminate(image, alpha).shape == image.shape
    assert feather(alpha, 5).shape == size


def test_guided_filter_is_the_least_squares_fit_of_every_window() -> None:
    rng = np.random.default_rng(3)
    guide, target = rng.random((14, 11, 3)).astype(np.float32), rng.random((14, 11)).astype(np.float32)
    radius, eps = 2, 0.01
    padded = np.pad(guide, ((4, 4), (4, 4), (0, 0)), mode="edge").astype(np.float64)
    padded_target = np.pad(target, 4, mode="edge").astype(np.float64)
    num = (2 * radius + 1) ** 2
    fits = np.zeros((14, 11, 4))
    for y in range(14):
        for x in range(11):
            window = slice(y + 4 - radius, y + 5 + radius), slice(x + 4 - radius, x + 5 + radius)
            rows = np.c_[padded[window].reshape(num, 3), np.ones(num)]
            ridge = np.diag([num * eps] * 3 + [0])
            fits[y, x] = np.linalg.solve(rows.T @ rows + ridge, rows.T @ padded_target[window].ravel())
    expected = cv2.blur(fits, (5, 5), borderType=cv2.BORDER_REPLICATE)
    slope, offset = GuidedFilter(guide, radius=radius, eps=eps).fit(target)
    np.testing.assert_allclose(np.dstack([slope, offset]), expected, atol=2e-4)


def test_guided_filter_keeps_its_digits_on_grey_photos() -> None:
    """Three equal channels make the systems nearly singular."""
    side = 64
    grey = np.where(disc(side, side, 20, 0.1) > 0.5, 0.9, 0.8).astype(np.float32)
    guide = np.dstack([grey] * 3)
    target = (grey > 0.85).astype(np.float32)
    slope, offset = GuidedFilter(guide, radius=4, eps=1e-4).fit(target)
    fitted = (slope * guide).sum(-1) + offset
    # By hand: along a grey diagonal the fit is a line with slope variance * 3 / (variance * 3 + eps).
    ideal = cv2.blur((3 * 0.0025) / (3 * 0.0025 + 1e-4) * np.ones((2, 2)), (1, 1))[0, 0]
    rim = cv2.dilate(target, np.ones((3, 3))) - cv2.erode(target, np.ones((3, 3))) > 0
    assert np.abs(fitted - target)[rim].mean() < 0.05 + (1 - ideal)
    assert np.isfinite(fitted).all()


def published_blur_fusion(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The method as published: two steps at full size, radius 90 and 6."""
    image, alpha = image.astype(np.float64), alpha[..., None]
    foreground = background = image
    for size in (90, 6):
        blurred_alpha = cv2.blur(alpha, (size, size))[..., None]
        blurred = cv2.blur(foreground * alpha, (size, size)) / (blurred_alpha + 1e-5)
        background = cv2.blur(background * (1 - alpha), (size, size)) / ((1 - blurred_alpha) + 1e-5)
        foreground = blurred + alpha * (image - alpha * blurred - (1 - alpha) * background)
        foreground = np.clip(foreground, 0, 255)
    return foreground


@pytest.mark.parametrize(("side", "softness"), [(300, 5), (300, 20), (1400, 16)])
def test_decontamination_takes_the_background_out_of_edges(side: int, softness: float) -> None:
    alpha = disc(side, side, side * 0.3, softness)
    foreground = textured(side, side, FOREGROUND, 1, 6)
    image = composite(alpha, foreground, textured(side, side, BACKGROUND, 2, 6))
    alpha_u8 = np.rint(255 * alpha).astype(np.uint8)
    clean = decontaminate(image, alpha_u8)
    mixed = (alpha_u8 > 25) & (alpha_u8 < 230)
    before, after, published = (
        np.abs(picture[mixed] - foreground[mixed]).mean()
        for picture in (image.astype(float), clean, published_blur_fusion(image, alpha_u8 / 255))
    )
    assert after < 0.3 * before
    assert after < 1.25 * published + 1
    np.testing.assert_array_equal(clean[alpha_u8 == 255], image[alpha_u8 == 255])
    assert (clean[alpha_u8 == 0] == 0).all(), "nothing of the background stays in the file"


def test_decontamination_leaves_a_hard_cutout_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype(np.uint8)
    alpha = np.zeros((50, 40), np.uint8)
    alpha[10:30] = 255
    np.testing.assert_array_equal(decontaminate(image, alpha), image * (alpha > 0)[..., None])


def test_a_feathered_edge_fades_over_its_width() -> None:
    alpha = np.zeros((20, 100), np.uint8)
    alpha[:, 50:] = 255
    row = feather(alpha, 20)[10]
    mixed = np.flatnonzero((row > 0) & (row < 255))
    assert 16 <= len(mixed) <= 22
    assert abs(mixed.mean() + 0.5 - 50) <= 1
    assert (np.diff(row.astype(int)) >= 0).all()


@pytest.mark.parametrize("centre", [(0.5, 0.5), (0.05, 0.9), (1.0, 0.0), (-3.0, 0.5)])
def test_looking_around_edges_only_changes_nothing(
    centre: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against filters over whole pictures; the last subject is not in the picture at all."""
    height, width = 1400, 900
    noise = np.random.default_rng(4).integers(0, 256, (height, width, 3)).astype(np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 2)
    probs_hw = np.zeros(matting.working_hw((height, width)), np.float32)
    rows, columns = probs_hw.shape
    cv2.ellipse(probs_hw, (int(centre[0] * columns), int(centre[1] * rows)), (90, 140), 30, 0, 360, 1, -1)
    probs_hw = cv2.GaussianBlur(probs_hw, (0, 0), 5)
    alpha = matting.soft_alpha(image, probs_hw, reach=2.6)
    clean = matting.decontaminate(image, alpha)
    monkeypatch.setattr(
        matting, "_around", lambda mask_hw, margin: (slice(0, len(mask_hw)), slice(0, mask_hw.shape[1]))
    )
    assert np.abs(matting.soft_alpha(image, probs_hw, reach=2.6).astype(int) - alpha).max() <= 1
    assert np.abs(matting.decontaminate(image, alpha).astype(int) - clean).max() <= 1
    assert (clean.max() > 0) == (centre[0] >= 0)
