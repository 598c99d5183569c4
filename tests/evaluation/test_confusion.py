"""The confusion matrix: exact, complete, and strict about ids."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from seglab.errors import DataError
from seglab.evaluation.confusion import confusion


def test_hand_worked():
    truth = np.array([[0, 0, 1], [1, 2, 2], [255, 2, 0]], np.uint8)
    prediction = np.array([[0, 1, 1], [1, 2, 0], [2, 2, 0]], np.uint8)
    matrix = confusion(truth, prediction, 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 2]]
    assert matrix.dtype == np.int64
    assert truth.size - matrix.sum() == 1


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_classes=st.sampled_from([2, 3, 11, 14, 15, 16, 20, 200, 255]),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    ignored=st.floats(0, 1),
)
def test_equals_scikit_learn(seed, num_classes, shape, ignored):
    rng = np.random.default_rng(seed)
    used = rng.choice(num_classes, size=rng.integers(1, num_classes + 1), replace=False)
    truth = rng.choice(used, shape).astype(np.uint8)
    prediction = rng.integers(0, num_classes, shape, np.uint8)
    truth[rng.random(shape) < ignored] = 255
    matrix = confusion(truth, prediction, num_classes)
    counted = truth != 255
    if counted.any():
        expected = confusion_matrix(truth[counted], prediction[counted], labels=np.arange(num_classes))
        np.testing.assert_array_equal(matrix, expected)
    else:
        assert matrix.sum() == 0


def test_merging_is_adding():
    truth, prediction = np.random.default_rng(0).integers(0, 5, (2, 40, 30), np.uint8)
    whole = confusion(truth, prediction, 5)
    parts = [confusion(truth[rows], prediction[rows], 5) for rows in (slice(0, 7), slice(7, 40))]
    np.testing.assert_array_equal(parts[0] + parts[1], whole)


@pytest.mark.parametrize("num_classes", [2, 15, 16])
def test_exact_beyond_float32(num_classes):
    """A float32 histogram cannot hold this odd count of equal pixels."""
    num_pixels = 2**25 + 2**24 + 2
    assert int(np.float32(num_pixels - 1)) != num_pixels - 1
    truth = np.ones((1, num_pixels), np.uint8)
    truth[0, -2] = 255
    matrix = confusion(truth, np.zeros_like(truth), num_classes)
    assert matrix[1, 0] == num_pixels - 1 == matrix.sum()


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16, np.int16])
def test_takes_any_whole_numbers(dtype):
    truth = np.array([[0, 1], [255, 1]])
    expected = [[1, 0], [1, 1]]
    prediction = np.array([[0, 1], [1, 0]])
    assert confusion(truth.astype(dtype), prediction.astype(dtype), 2).tolist() == expected


def test_takes_views_and_batches():
    rng = np.random.default_rng(1)
    truth, prediction = rng.integers(0, 4, (2, 3, 20, 22), np.uint8)
    expected = confusion(np.ascontiguousarray(truth[:, ::2, ::-1]), np.ascontiguousarray(prediction[:, ::2, ::-1]), 4)
    np.testing.assert_array_equal(confusion(truth[:, ::2, ::-1], prediction[:, ::2, ::-1], 4), expected)
    assert expected.sum() == 3 * 10 * 22


def test_takes_a_read_only_array_and_does_not_write():
    truth = np.zeros((4, 4), np.uint8)
    truth.flags.writeable = False
    assert confusion(truth, truth, 2)[0, 0] == 16


def test_empty():
    assert confusion(np.zeros((0, 4), np.uint8), np.zeros((0, 4), np.uint8), 3).tolist() == [[0] * 3] * 3


@pytest.mark.parametrize("num_classes", range(2, 18))
@pytest.mark.parametrize("num_pixels", [1, 2, 3, 1024, 1025])
def test_every_pair_of_ids_lands_in_its_cell(num_classes, num_pixels):
    for truth in (*range(num_classes), 255):
        for prediction in range(num_classes):
            expected = np.zeros((num_classes, num_classes), np.int64)
            if truth != 255:
                expected[truth, prediction] = num_pixels
            full = np.full((2, num_pixels), [[truth], [prediction]], np.uint8)
            assert np.array_equal(confusion(full[0], full[1], num_classes), expected), (truth, prediction)


@pytest.mark.parametrize("num_classes", [2, 3, 11, 15, 16, 255])
def test_every_strange_id_is_refused(num_classes):
    for bad in range(num_classes, 255):
        with pytest.raises(DataError, match=f"the truth holds id `{bad}`"):
            confusion(np.array([[bad, 0, 255]], np.uint8), np.zeros((1, 3), np.uint8), num_classes)
    for bad in range(num_classes, 256):
        with pytest.raises(DataError, match=f"the prediction holds id `{bad}`"):
            confusion(np.zeros((1, 3), np.uint8), np.array([[0, bad, 0]], np.uint8), num_classes)


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (3, 0, "the truth holds id `3`, but the classes are 0..2"),
        (254, 0, "the truth holds id `254`"),
        (0, 3, "the prediction holds id `3`"),
        (0, 255, "the prediction holds id `255`"),
        (255, 7, "the prediction holds id `7`"),
        (4, 9, "the truth holds id `4` and the prediction holds id `9`"),
    ],
)
def test_strange_ids_are_named(truth, prediction, message):
    truths, predictions = np.zeros((2, 5, 5), np.uint8)
    truths[2, 3], predictions[2, 3] = truth, prediction
    with pytest.raises(DataError, match=message):
        confusion(truths, predictions, 3)


def test_many_strange_ids_are_not_all_listed():
    ids = np.arange(100, dtype=np.uint8)
    with pytest.raises(DataError, match="`10`, `11` and more, but"):
        confusion(np.zeros_like(ids), ids, 2)


@pytest.mark.parametrize("bad", [-1, 256, 257])
def test_ids_that_do_not_fit_a_byte_are_not_wrapped(bad):
    with pytest.raises(DataError, match=r"outside 0\.\.255"):
        confusion(np.zeros((1, 2), np.int64), np.array([[0, bad]]), 2)


def test_other_sizes_are_named_width_first():
    with pytest.raises(DataError, match="the prediction is 3x2, but the truth is 5x4"):
        confusion(np.zeros((4, 5), np.uint8), np.zeros((2, 3), np.uint8), 2)


def test_misuse():
    labels = np.zeros((2, 2), np.uint8)
    for num_classes in (0, 1, 256):
        with pytest.raises(ValueError, match="num_classes"):
            confusion(labels, labels, num_classes)
    with pytest.raises(ValueError, match="class ids"):
        confusion(labels, labels.astype(np.float32), 2)
