"""Intervals: figures like those of the summary, coverage of a known truth, SciPy's bootstrap, pairs."""

import math

import numpy as np
import pytest
from scipy import stats

from seglab.evaluation.bootstrap import Interval, differences, figures, intervals, shared
from seglab.evaluation.metrics import Counts, count, metric_names, summarize, value
from seglab.tasks import TASKS


def matrices(rng, num_images, num_classes, accuracy=0.8):
    """Confusion matrices of images whose pixels are right with a probability that differs from image to image."""
    several = np.zeros((num_images, num_classes, num_classes), np.int64)
    for matrix in several:
        right = np.clip(rng.normal(accuracy, 0.1), 0.05, 0.99)
        for row in range(num_classes):
            shares = np.full(num_classes, (1 - right) / (num_classes - 1))
            shares[row] = right
            matrix[row] = rng.multinomial(int(rng.integers(100, 1000)), shares)
    return several


def counted(several, task):
    return count(several, task)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_figures_are_those_of_the_summary(name):
    task = TASKS[name]
    rng = np.random.default_rng(1)
    matrix = matrices(rng, 1, task.num_classes)[0]
    matrix[1] = matrix[:, 1] = 0  # a class that is nowhere
    known, scores = figures(count(matrix, task), task), summarize(matrix, task)
    assert set(known) == set(metric_names(task))
    for metric in metric_names(task):
        expected = value(scores, metric)
        assert float(known[metric]) == pytest.approx(math.nan if expected is None else expected, abs=1e-12, nan_ok=True)


def test_the_interval_is_scipys():
    task = TASKS["person"]
    several = counted(matrices(np.random.default_rng(0), 60, 2), task)

    def statistic(rows):
        rows = rows.astype(int)
        return float(
            figures(Counts(several.tp[rows].sum(0), several.fp[rows].sum(0), several.fn[rows].sum(0)), task)["miou"]
        )

    theirs = stats.bootstrap(
        (np.arange(60),), statistic, vectorized=False, n_resamples=4000, method="percentile", rng=0
    ).confidence_interval
    ours = intervals(several, task, num_sets=4000)["miou"]
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.06 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.06 * width)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    task = TASKS["person"]
    rng = np.random.default_rng(3)
    everything = counted(matrices(rng, 5000, 2), task)
    total = float(figures(Counts(everything.tp.sum(0), everything.fp.sum(0), everything.fn.sum(0)), task)["iou.person"])
    inside = 0
    for _ in range(100):
        rows = rng.integers(5000, size=80)
        interval = intervals(Counts(everything.tp[rows], everything.fp[rows], everything.fn[rows]), task, num_sets=300)[
            "iou.person"
        ]
        inside += interval.low <= total <= interval.high
    assert 86 <= inside <= 100


def test_pairs_tell_a_small_difference_that_the_intervals_do_not():
    task = TASKS["person"]
    several = matrices(np.random.default_rng(4), 80, 2, accuracy=0.75)
    better = several.copy()
    moved = better[:, 1, 0] // 10
    better[:, 1, 0] -= moved
    better[:, 1, 1] += moved
    ours, theirs = counted(better, task), counted(several, task)
    difference = differences(ours, theirs, task)["iou.person"]
    assert difference.significant
    assert difference.p < 0.01
    assert difference.low < difference.difference < difference.high
    first, second = intervals(ours, task)["iou.person"], intervals(theirs, task)["iou.person"]
    assert first.low < second.high  # seen one by one they overlap
    same = differences(ours, ours, task)["iou.person"]
    assert (same.difference, same.low, same.high, same.p, same.significant) == (0, 0, 0, 1, False)


def test_what_most_sets_do_not_show_has_no_interval():
    task = TASKS["clothes"]
    several = np.zeros((40, 4, 4), np.int64)
    several[:, 0, 0] = several[:, 1, 1] = 10
    several[0, 3, 3] = 5  # in one image of forty: in 64 % of the sets
    known = intervals(counted(several, task), task)
    names = list(task.classes)
    assert known[f"iou.{names[2]}"] is None
    assert known[f"iou.{names[3]}"] == Interval(1, 1)
    assert known["miou"] == Interval(1, 1)
    one = intervals(counted(several[:1], task), task)
    assert set(one.values()) == {None}


def test_the_same_images_give_the_same_interval():
    task = TASKS["face"]
    several = counted(matrices(np.random.default_rng(5), 30, 11), task)
    assert intervals(several, task, num_sets=200) == intervals(several, task, num_sets=200)


def test_shared_images_are_found_by_name():
    assert shared(["a", "b", "c"], ["c", "x", "a"]) == [(0, 2), (2, 0)]


def test_other_images_are_refused():
    task = TASKS["person"]
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="counts of"):
        differences(counted(matrices(rng, 3, 2), task), counted(matrices(rng, 4, 2), task), task)
