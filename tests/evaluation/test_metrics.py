"""Scores: by hand, against scikit-learn, and against counting pixels of regions."""

import json
import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, precision_score, recall_score

from seglab.errors import UsageError
from seglab.evaluation.confusion import confusion
from seglab.evaluation.metrics import (
    SCHEMA,
    Scores,
    count,
    groups,
    iou,
    metric_names,
    pixel_accuracy,
    summarize,
    value,
)
from seglab.tasks import TASKS, Task

ABC = Task(
    name="abc",
    classes=("none", "a", "b", "c"),
    regions={"ab": ("a", "b"), "all": ("a", "b", "c")},
    levels={"top": ("all",), "mixed": ("ab", "c")},
)


def score(truth, prediction, task=ABC):
    truth, prediction = np.array(truth, np.uint8), np.array(prediction, np.uint8)
    matrix = confusion(truth, prediction, task.num_classes)
    return summarize(matrix, task, num_ignored=truth.size - int(matrix.sum()))


def test_hand_worked():
    #                truth            prediction
    scores = score([[0, 0, 1], [1, 2, 2], [255, 2, 0]], [[0, 1, 1], [1, 2, 0], [2, 2, 0]])
    none, a, b, c = scores.classes
    assert (none.tp, none.fp, none.fn) == (2, 1, 1)
    assert (a.tp, a.fp, a.fn) == (2, 1, 0)
    assert (b.tp, b.fp, b.fn) == (2, 0, 1)
    assert [none.iou, a.iou, b.iou] == [2 / 4, 2 / 3, 2 / 3]
    assert [none.f1, a.f1, b.f1] == [4 / 6, 4 / 5, 4 / 5]
    assert [a.precision, a.recall, b.precision, b.recall] == [2 / 3, 1, 1, 2 / 3]
    assert c.absent
    assert math.isnan(c.iou)
    assert math.isnan(c.f1)
    assert scores.miou == pytest.approx((2 / 4 + 2 / 3 + 2 / 3) / 3, abs=1e-15)
    assert scores.miou_foreground == pytest.approx(2 / 3, abs=1e-15)
    assert scores.mean_f1 == pytest.approx((4 / 6 + 4 / 5 + 4 / 5) / 3, abs=1e-15)
    assert scores.pixel_accuracy == 6 / 8
    assert scores.mean_accuracy == pytest.approx((2 / 3 + 1 + 2 / 3) / 3, abs=1e-15)
    assert scores.fwiou == pytest.approx((3 * 2 / 4 + 2 * 2 / 3 + 3 * 2 / 3) / 8, abs=1e-15)
    assert (scores.num_pixels, scores.num_ignored, scores.ignored_share) == (8, 1, 1 / 9)
    assert scores.absent == ("c",)
    assert scores.false_alarms == ()
    # The region takes a for b as right: tp 4 (a as a, b as b), fp 1 (none as a), fn 1 (b as none).
    assert [(region.name, region.tp, region.fp, region.fn) for region in scores.regions] == [
        ("ab", 4, 1, 1),
        ("all", 4, 1, 1),
    ]
    top, mixed = scores.levels
    assert (top.iou, top.mean_of, top.left_out) == (4 / 6, ("all",), ())
    assert (mixed.iou, mixed.mean_of, mixed.left_out) == (4 / 6, ("ab",), ("c",))


def test_confusion_inside_a_region_is_right_for_the_region():
    scores = score([[1, 2, 0]], [[2, 1, 0]])
    assert [value(scores, name) for name in ("iou.a", "iou.b", "iou.ab", "f1.ab")] == [0, 0, 1, 1]


def test_in_truth_but_never_predicted_is_zero_and_counts():
    scores = score([[0, 1, 2]], [[0, 1, 0]])
    b = scores.classes[2]
    assert (b.iou, b.f1, b.precision, b.recall) == (0, 0, 0, 0)
    assert not b.false_alarm
    assert scores.miou == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert scores.mean_f1 == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_predicted_but_not_in_truth_is_zero_counts_and_is_listed():
    scores = score([[0, 1, 0]], [[0, 1, 2]])
    b = scores.classes[2]
    assert (b.iou, b.f1, b.precision, b.recall) == (0, 0, 0, 0)
    assert b.false_alarm
    assert not b.absent
    assert scores.false_alarms == ("b",)
    assert scores.miou == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert "b" in scores.to_dict()["mean_of"]["miou"]


def test_perfect_and_all_wrong():
    perfect = score([[0, 1, 2, 3]], [[0, 1, 2, 3]])
    assert {value(perfect, name) for name in metric_names(ABC)} == {1.0}
    wrong = score([[0, 1, 2, 3]], [[1, 0, 0, 0]])
    assert {value(wrong, name) for name in metric_names(ABC)} == {0.0}


def test_nothing_to_score_is_null_everywhere():
    scores = score([[255, 255]], [[1, 2]])
    assert {value(scores, name) for name in metric_names(ABC)} == {None}
    values = scores.to_dict()
    assert values["ignored_share"] == 1
    assert values["mean_of"]["miou"] == []
    assert "NaN" not in json.dumps(values)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), task=st.sampled_from([*TASKS.values(), ABC]))
def test_equals_scikit_learn(seed, task):
    """Every mean, class and region against scikit-learn on the pixels, with ignored pixels and absent classes."""
    truth, prediction = random_maps(seed, task)
    scores = score(truth, prediction, task)
    counted = truth != 255
    if not counted.any():
        assert scores.num_pixels == 0
        return
    y, p = truth[counted], prediction[counted]
    present = sorted({*y.tolist(), *p.tolist()})
    assert scores.absent == tuple(name for label, name in enumerate(task.classes) if label not in present)
    options = {"labels": present, "average": "macro", "zero_division": 0}
    assert scores.miou == pytest.approx(jaccard_score(y, p, **options), abs=1e-12)
    assert scores.mean_f1 == pytest.approx(f1_score(y, p, **options), abs=1e-12)
    assert scores.mean_accuracy == pytest.approx(recall_score(y, p, **options), abs=1e-12)
    assert scores.pixel_accuracy == pytest.approx(accuracy_score(y, p), abs=1e-12)
    weighted = {**options, "average": "weighted"}
    assert scores.fwiou == pytest.approx(jaccard_score(y, p, **weighted), abs=1e-12)
    functions = {"iou": jaccard_score, "f1": f1_score, "precision": precision_score, "recall": recall_score}
    for group in (*scores.classes, *scores.regions):
        in_truth, in_prediction = (np.isin(labels, task.members(group.name)) for labels in (y, p))
        assert group.absent == (not (in_truth.any() or in_prediction.any()))
        assert group.false_alarm == (in_prediction.any() and not in_truth.any())
        assert group.num_pixels == in_truth.sum()
        for measure, function in functions.items():
            expected = None if group.absent else pytest.approx(function(in_truth, in_prediction, zero_division=0))
            assert value(scores, f"{measure}.{group.name}") == expected


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), task=st.sampled_from([TASKS["body"], ABC]))
def test_levels_are_the_mean_over_merged_masks(seed, task):
    truth, prediction = random_maps(seed, task)
    scores = score(truth, prediction, task)
    for level in scores.levels:
        expected = {}
        for member in task.levels[level.name]:
            ids = [task.classes.index(name) for name in task.regions.get(member, (member,))]
            a, b = np.isin(truth, ids), np.isin(prediction, ids) & (truth != 255)
            if (a | b).any():
                expected[member] = (a & b).sum() / (a | b).sum()
        assert level.mean_of == tuple(expected)
        assert set(level.mean_of) | set(level.left_out) == set(task.levels[level.name])
        mean = value(scores, f"level.{level.name}.iou")
        assert mean == (pytest.approx(np.mean(list(expected.values()))) if expected else None)


def random_maps(seed, task):
    """Return blocky truth and prediction that use some classes only, with some pixels ignored."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 24, 2))
    maps = []
    for _ in range(2):
        used = rng.choice(task.num_classes, rng.integers(1, task.num_classes + 1), replace=False)
        maps.append(rng.choice(used, shape).astype(np.uint8))
    truth, prediction = maps
    agree = rng.random(shape) < rng.random()
    prediction[agree] = truth[agree]
    truth[rng.random(shape) < rng.random() ** 2] = 255
    return truth, prediction


def test_ignored_pixels_change_nothing():
    rng = np.random.default_rng(3)
    truth, prediction = rng.integers(0, 4, (2, 30, 30), np.uint8)
    truth[:, :9] = 255
    other = prediction.copy()
    other[:, :9] = rng.integers(0, 4, (30, 9))
    assert not np.array_equal(other, prediction)
    assert score(truth, prediction) == score(truth, other)
    assert score(truth, prediction).num_ignored == 270


def test_counts_of_many_images_are_those_of_each():
    rng = np.random.default_rng(4)
    matrices = rng.integers(0, 1000, (5, 11, 11))
    task = TASKS["face"]
    together = count(matrices, task)
    assert together.tp.shape == (5, len(groups(task)))
    for image, matrix in enumerate(matrices):
        np.testing.assert_array_equal(iou(together)[image], iou(count(matrix, task)))
        assert pixel_accuracy(together, 11)[image] == summarize(matrix, task).pixel_accuracy
    merged = count(matrices.sum(0), task)
    for part in ("tp", "fp", "fn"):
        np.testing.assert_array_equal(getattr(together, part).sum(0), getattr(merged, part))


def test_counts_are_exact_where_float64_is_not():
    matrix = np.zeros((4, 4), np.int64)
    matrix[1, 1], matrix[2, 1] = 2**60 + 1, 3
    assert count(matrix, ABC).tp[groups(ABC).index("ab")] == 2**60 + 4


def test_a_matrix_of_another_task_is_refused():
    with pytest.raises(ValueError, match="`abc` has 4 classes"):
        summarize(np.zeros((5, 5), np.int64), ABC)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_metric_name_is_found_and_in_the_json(task):
    rng = np.random.default_rng(5)
    scores = score(*rng.integers(0, task.num_classes, (2, 50, 50)), task)
    names = metric_names(task)
    assert len(set(names)) == len(names) == 6 + 4 * len(groups(task)) + len(task.levels)
    values = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    for name in names:
        kind, _, group = name.partition(".")
        if kind == "level":
            stored = values["levels"][group.removesuffix(".iou")]["iou"]
        else:
            stored = {**values["classes"], **values["regions"]}[group][kind] if group else values[name]
        assert value(scores, name) == stored


def test_unknown_metric_names_the_nearest():
    scores = score([[0]], [[0]])
    with pytest.raises(UsageError, match="no metric of task `abc`") as caught:
        value(scores, "iuo.ab")
    assert "`iuo.ab`" in caught.value.message
    assert "`iou.ab`" in caught.value.hint


def test_json_is_the_agreed_form():
    values = score([[0, 1]], [[0, 1]]).to_dict()
    assert values["schema"] == SCHEMA == 2
    assert list(values) == [
        "schema", "task", "miou", "miou_foreground", "mean_f1", "pixel_accuracy", "mean_accuracy", "fwiou", "mean_of",
        "absent", "false_alarms", "num_pixels", "num_ignored", "ignored_share", "classes", "regions", "outlines",
        "levels", "people",
    ]  # fmt: skip
    assert list(values["classes"]["a"]) == ["iou", "f1", "precision", "recall", "num_pixels", "tp", "fp", "fn"]
    assert values["classes"]["c"]["iou"] is None
    assert values["outlines"] == {}
    assert values["people"] is None
    assert values["levels"]["mixed"] == {"iou": 1.0, "mean_of": ["ab"], "left_out": ["c"]}
    headline = {field.name for field in fields(Scores) if field.type in (float, "float")}
    assert headline == set(list(values)[2:8])
