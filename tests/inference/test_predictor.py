from collections.abc import Callable

import numpy as np
import pytest

from seglab.errors import DataError
from seglab.inference.predictor import Predictor

SIZES = [(60, 90), (1, 1), (1, 50), (50, 1), (31, 33), (64, 64), (127, 200)]


def test_answers_have_the_photos_own_size(build_model, corners) -> None:
    for fit in ("stretch", "pad"):
        predictor = build_model(fit=fit).open(None)
        images = [corners(*size) for size in SIZES]
        assert [labels.shape for labels in predictor.labels(images)] == SIZES
        assert [alpha.shape for alpha in predictor.alpha(images, [1])] == SIZES
        assert [placement.source_hw for _, placement in predictor.logits(images)] == SIZES


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_a_photo_is_answered_in_a_batch_as_it_is_alone(build_model, corners, fit: str) -> None:
    model = build_model(fit=fit)
    images = [corners(*size) for size in SIZES]
    alone = [model.open(None).labels([image])[0] for image in images]
    together = model.open(None, batch_size=3).labels(images)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [shape[0] for shape in model.engine.shapes] == [1] * 7 + [3, 3, 1]


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_corners_stay_in_their_corners(build_model, corners: Callable[..., np.ndarray], fit: str) -> None:
    labels = build_model(fit=fit).open(None).labels([corners(60, 90)])[0]
    assert [labels[0, 0], labels[0, -1], labels[-1, 0], labels[-1, -1], labels[30, 45]] == [1, 2, 3, 4, 0]


def test_alpha_sums_the_probabilities_of_classes(model, corners) -> None:
    predictor = model.open(None)
    image = corners()
    red, rest = predictor.alpha([image], [1])[0], predictor.alpha([image], [0, 2, 3, 4])[0]
    np.testing.assert_allclose(red + rest, 1, atol=1e-3)
    assert red[0, 0] > 0.99
    assert red[0, -1] < 0.01


def test_no_photos_no_answers(model) -> None:
    assert model.open(None).labels([]) == []


def test_a_network_of_another_width_is_refused(model, corners) -> None:
    predictor = Predictor(lambda pixels: np.zeros((1, 7, 64, 64), np.float32), model.config)
    with pytest.raises(DataError, match=r"shape \(1, 7, 64, 64\), but task `colours` has 5 classes"):
        predictor.labels([corners()])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_weights_are_said_to_be_broken(model, corners, value: float) -> None:
    logits_BKHW = np.zeros((1, 5, 64, 64), np.float32)
    logits_BKHW[0, 2, 3, 4] = value
    with pytest.raises(DataError, match="not finite"):
        Predictor(lambda pixels: logits_BKHW, model.config).labels([corners()])
