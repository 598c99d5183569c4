"""Closed-form matting: what pymatting is asked, what becomes of its answers, and that its work is bounded."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from seglab.inference.matting import soft_alpha, working_hw

pytest.importorskip("pymatting", reason="the extra `matting` is not installed")

from seglab.inference import closed_form
from seglab.inference.closed_form import MAX_AREA, require_pymatting, solve

FOREGROUND, BACKGROUND = (200, 60, 30), (20, 180, 60)


def hairy(side: int) -> np.ndarray:
    """A disc with strands around it, as alpha, drawn at four times the size."""
    alpha = np.zeros((4 * side, 4 * side), np.uint8)
    centre, radius = 2 * side, round(1.1 * side)
    cv2.circle(alpha, (centre, centre), radius, 255, -1)
    random = np.random.default_rng(0)
    for angle in random.uniform(0, 2 * np.pi, 160):
        end = radius + random.uniform(0.05, 0.16) * side
        points = [
            (round(centre + length * np.cos(angle)), round(centre + length * np.sin(angle))) for length in (radius, end)
        ]
        cv2.line(alpha, *points, 255, max(2, side // 80))
    return cv2.resize(alpha, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def photo_of(alpha: np.ndarray) -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(1).normal(0, 14, (*alpha.shape, 3)), (0, 0), 3)
    mixed = alpha[..., None] * FOREGROUND + (1 - alpha[..., None]) * BACKGROUND
    return np.rint(np.clip(mixed + noise, 0, 255)).astype(np.uint8)


def coarse(alpha: np.ndarray, cells: int) -> np.ndarray:
    small = cv2.GaussianBlur(cv2.resize(alpha, (cells, cells), interpolation=cv2.INTER_AREA), (0, 0), 0.8)
    return np.clip(cv2.resize(small, working_hw(alpha.shape)[::-1], interpolation=cv2.INTER_LINEAR), 0, 1)


@pytest.mark.parametrize(("side", "share"), [(320, 0.5), (1600, 0.8)])
def test_strands_are_nearer_to_the_truth_than_by_the_filter(side: int, share: float) -> None:
    truth = hairy(side)
    image, probs = photo_of(truth), coarse(truth, 40)
    reach = probs.shape[0] / 40
    guided = soft_alpha(image, probs, reach=reach).astype(np.float32) / 255
    matted = soft_alpha(image, probs, reach=reach, solve=solve).astype(np.float32) / 255
    assert np.abs(matted - truth).mean() < share * np.abs(guided - truth).mean()
    far = np.hypot(*(np.mgrid[:side, :side] + 0.5 - side / 2)) > 0.49 * side
    assert (matted[far] == 0).all()


def test_nothing_known_leaves_it_to_the_filter() -> None:
    image = photo_of(hairy(96))
    for level, alpha in ((0.0, 0), (1.0, 255), (0.4, 0)):
        probs = np.full((96, 96), level, np.float32)
        assert (soft_alpha(image, probs, reach=4, solve=solve) == alpha).all()
    speck = np.zeros((96, 96), np.float32)
    speck[40:44, 40:44] = 0.8
    np.testing.assert_array_equal(soft_alpha(image, speck, reach=8, solve=solve), soft_alpha(image, speck, reach=8))


def test_no_picture_over_the_limit_is_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = closed_form._closed_form

    def spy(guide: np.ndarray, trimap: np.ndarray) -> np.ndarray | None:
        sizes.append(trimap.size)
        assert guide.shape[:2] == trimap.shape
        return real(guide, trimap)

    monkeypatch.setattr(closed_form, "_closed_form", spy)
    monkeypatch.setattr(closed_form, "MAX_AREA", 5000)
    truth = hairy(320)
    matted = soft_alpha(photo_of(truth), coarse(truth, 40), reach=8, solve=solve).astype(np.float32) / 255
    assert sizes
    assert max(sizes) <= 5000 < MAX_AREA
    assert np.abs(matted - truth).mean() < 0.03


def test_a_failing_solver_is_tried_in_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    estimate = importlib.import_module("pymatting.alpha.estimate_alpha_cf")
    real, tried = estimate.estimate_alpha_cf, []

    def failing(image, trimap, preconditioner, **options):
        tried.append(preconditioner.__name__)
        if preconditioner.__name__ in broken:
            raise ValueError("no incomplete Cholesky decomposition")
        return real(image, trimap, preconditioner, **options)

    monkeypatch.setattr(estimate, "estimate_alpha_cf", failing)
    truth = hairy(160)
    image, probs = photo_of(truth), coarse(truth, 40)
    broken = {"ichol"}
    matted = soft_alpha(image, probs, reach=4, solve=solve)
    assert tried == ["ichol", "jacobi"]
    assert np.abs(matted / 255 - truth).mean() < 0.02
    broken = {"ichol", "jacobi"}
    np.testing.assert_array_equal(soft_alpha(image, probs, reach=4, solve=solve), soft_alpha(image, probs, reach=4))


def test_the_command_line_mattes(shell, save) -> None:
    require_pymatting()
    image = np.zeros((200, 200, 3), np.uint8)
    image[50:150, 50:150] = (0, 255, 0)
    save(Path("a.png"), cv2.GaussianBlur(image, (0, 0), 3))
    assert shell("cutout", "a.png", "--matting", "-o", "c.png").code == 0
    rgba = cv2.imread("c.png", cv2.IMREAD_UNCHANGED)
    assert (rgba[70:130, 70:130, 3] == 255).all()
    assert (rgba[:25, :, 3] == 0).all()
