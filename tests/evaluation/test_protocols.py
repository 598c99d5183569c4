"""The two earlier definitions, against what their own code printed (``golden/``) on made-up maps."""

import json
from pathlib import Path

import numpy as np
import pytest

from seglab.evaluation.confusion import confusion
from seglab.evaluation.metrics import Counts, count, groups, summarize
from seglab.evaluation.protocols import helen, leaf_means
from seglab.tasks import TASKS

GOLDEN = Path(__file__).parent / "golden"
FIGURES = json.loads((GOLDEN / "metrics.json").read_text())
BODY, FACE = TASKS["body"], TASKS["face"]
LEVELS = {
    "top": BODY.members("body"),
    "middle": BODY.members("upper_body"),
    "bottom": BODY.members("lower_body"),
}


@pytest.fixture(scope="module")
def maps():
    with np.load(GOLDEN / "metric_maps.npz") as stored:
        return dict(stored)


def matrices(maps, name, num_classes):
    pairs = zip(maps[f"{name}_gt"], maps[f"{name}_pred"], strict=True)
    return np.stack([confusion(truth, prediction, num_classes) for truth, prediction in pairs])


def test_helen(maps):
    merged = matrices(maps, "helen", 11).sum(0)
    scores = helen(count(merged, FACE), groups(FACE))
    assert scores == pytest.approx(FIGURES["helen_f1"], abs=1e-12, rel=0)
    ours = summarize(merged, FACE)
    for score in (*ours.classes, *ours.regions):
        assert score.f1 == pytest.approx(scores[score.name], abs=1e-12, rel=0)


def test_helen_of_nothing_is_nan():
    nothing = np.zeros(1, np.int64)
    assert np.isnan(helen(Counts(nothing, nothing, nothing), ["bg"])["bg"])


def test_leaf_means(maps):
    figures = FIGURES["pascal_part_legacy"]
    counts = count(matrices(maps, "pascal", 7), BODY)
    scores = leaf_means(counts, 7, LEVELS)
    names = ("miou", "top", "middle", "bottom")
    per_image = np.array(figures["per_image"], np.float64)
    np.testing.assert_allclose(np.stack([scores[name] for name in names], 1), per_image, rtol=0, atol=1e-12)
    for name in (*names, "pixel_accuracy"):
        assert np.nanmean(scores[name]) == pytest.approx(figures[name], abs=1e-12, rel=0)


def test_leaf_means_are_not_the_hierarchy(maps):
    """The trap that the levels are there to avoid: merging is not averaging."""
    stack = matrices(maps, "pascal", 7)
    top = next(level.iou for level in summarize(stack.sum(0), BODY).levels if level.name == "top")
    assert abs(top - np.nanmean(leaf_means(count(stack, BODY), 7, LEVELS)["top"])) > 0.05
