"""Scoring a model on a dataset."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score

from seglab.data.images import read_photo, write_labels
from seglab.errors import DataError, UsageError
from seglab.evaluation.confusion import confusion
from seglab.evaluation.evaluate import evaluate
from seglab.evaluation.metrics import count, groups, summarize


def by_hand(predictor, dataset, truths):
    """Return, for each test sample, its confusion matrix by scikit-learn on what the predictor says."""
    matrices = {}
    for sample in dataset.split("test"):
        (labels,) = predictor.labels([read_photo(dataset.image_path(sample)).image])
        counted = truths[sample.id] != 255
        matrices[sample.id] = confusion_matrix(truths[sample.id][counted], labels[counted], labels=range(4))
    return matrices


@pytest.mark.parametrize("batch_size", [1, 2, 5, 9])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_scores_what_predict_would_write(dataset, truths, abc, predictor, batch_size, workers):
    model = predictor(batch_size=batch_size)
    result = evaluate(model, dataset, workers=workers)
    expected = by_hand(predictor(), dataset, truths)
    assert result.ids == tuple(expected) == ("p1", "p2", "p3", "p4", "p5")
    np.testing.assert_array_equal(result.matrix, sum(expected.values()))
    num_ignored = sum(int((truth == 255).sum()) for truth in truths.values())
    assert result.scores == summarize(result.matrix, abc, num_ignored=num_ignored)
    assert 0.4 < result.scores.miou < 0.95
    assert max(model.engine.batches) == min(batch_size, 5)
    assert sum(model.engine.batches) == 5
    assert result.failures == result.missing == ()


def test_counts_of_each_image_are_its_own(dataset, truths, abc, predictor):
    result = evaluate(predictor(), dataset)
    matrices = by_hand(predictor(), dataset, truths)
    for row, (image, matrix) in enumerate(zip(result.images(), matrices.values(), strict=True)):
        alone = summarize(matrix, abc)
        assert image.miou == alone.miou
        assert image.pixel_accuracy == alone.pixel_accuracy
        np.testing.assert_array_equal(image.iou, [score.iou for score in (*alone.classes, *alone.regions)])
        np.testing.assert_array_equal(result.counts.tp[row], count(matrix, abc).tp)
    np.testing.assert_array_equal(result.counts.fp.sum(0), count(result.matrix, abc).fp)


def test_a_photo_of_the_grid_is_scored_pixel_by_pixel(dataset, seen, truths, predictor):
    result = evaluate(predictor(), dataset)
    image = result.images()[0]
    counted = truths["p1"] != 255
    y, p = truths["p1"][counted], seen["p1"][counted]
    assert image.id == "p1"
    assert image.miou == pytest.approx(jaccard_score(y, p, average="macro"), abs=1e-12)


def test_worst_images_come_first(dataset, predictor):
    result = evaluate(predictor(), dataset)
    worst = result.worst(3)
    every = sorted(result.images(), key=lambda image: image.miou)
    assert [image.id for image in worst] == [image.id for image in every[:3]]


def test_other_split(dataset, predictor):
    assert evaluate(predictor(), dataset, "train").ids == ("t1",)


def test_progress_counts_every_image(dataset, predictor):
    steps = []
    evaluate(predictor(batch_size=2), dataset, progress=steps.append)
    assert steps == [1] * 5


def test_a_bad_photo_is_reported_and_the_rest_is_scored(dataset, truths, predictor):
    samples = {sample.id: sample for sample in dataset.split("test")}
    dataset.image_path(samples["p2"]).write_bytes(b"")
    dataset.label_path(samples["p3"]).unlink()
    write_labels(dataset.label_path(samples["p4"]), np.zeros((32, 31), np.uint8))
    write_labels(dataset.label_path(samples["p5"]), np.full((64, 64), 7, np.uint8))
    steps = []
    result = evaluate(predictor(batch_size=3), dataset, progress=steps.append)
    assert result.ids == ("p1",)
    assert len(steps) == 5
    reasons = {failure.id: failure.reason for failure in result.failures}
    assert list(reasons) == ["p2", "p3", "p4", "p5"]
    assert reasons["p2"] == "photo: empty file"
    assert reasons["p3"].startswith("labels: ")
    assert reasons["p4"] == "the prediction is 32x32, but the truth is 31x32"
    assert reasons["p5"] == "the truth holds id `7`, but the classes are 0..3"
    assert result.scores.num_pixels == (truths["p1"] != 255).sum()


def test_no_readable_photo_is_an_error(dataset, predictor):
    for sample in dataset.split("test"):
        dataset.image_path(sample).write_bytes(b"<html>")
    with pytest.raises(DataError, match="none of the 5 images of split `test`") as caught:
        evaluate(predictor(), dataset)
    assert "`p1`: photo: " in caught.value.message


def test_a_broken_model_is_no_bad_input(dataset, predictor):
    with pytest.raises(DataError, match="not finite"):
        evaluate(predictor(spoil=math.nan), dataset)


def test_other_classes_are_refused_by_name(dataset, abc, predictor):
    other = replace(abc, name="xyz", classes=("none", "a", "b", "d"), regions={}, levels={}, foreground=())
    with pytest.raises(DataError, match=r"the model segments `xyz`, but the data in .* is `abc`"):
        evaluate(predictor(other), dataset)
    same_name = replace(other, name="abc")
    with pytest.raises(DataError, match="none, a, b, d against none, a, b, c"):
        evaluate(predictor(same_name), dataset)
    with pytest.raises(DataError, match="the task is `xyz`, but"):
        evaluate(predictor(), dataset, task=other)


def test_other_regions_of_the_same_classes_can_be_scored(dataset, abc, predictor):
    task = replace(abc, name="mine", regions={"bc": ("b", "c")}, levels={})
    result = evaluate(predictor(), dataset, task=task)
    assert [score.name for score in result.scores.regions] == ["bc"]
    assert result.scores.miou == evaluate(predictor(), dataset).scores.miou


def test_empty_and_unknown_splits(dataset, predictor):
    with pytest.raises(DataError, match="no `val`"):
        evaluate(predictor(), dataset, "val")
    with pytest.raises(UsageError, match="no split is called `tset`"):
        evaluate(predictor(), dataset, "tset")


def test_json_and_csv_say_the_same(dataset, abc, predictor):
    result = evaluate(predictor(), dataset)
    values = json.loads(json.dumps(result.to_dict(images=True), allow_nan=False))
    assert values["schema"] == 2
    assert values["num_images"] == 5
    assert np.array_equal(values["confusion"], result.matrix)
    assert "images" not in result.to_dict()
    assert values["worst"] == sorted(values["images"], key=lambda image: image["miou"])
    rows = list(csv.DictReader(result.per_image_csv().splitlines()))
    assert list(rows[0]) == ["id", "miou", "pixel_accuracy", *(f"iou.{name}" for name in groups(abc))]
    for row, image, score in zip(rows, values["images"], result.images(), strict=True):
        assert row["id"] == image["id"]
        assert float(row["miou"]) == pytest.approx(image["miou"], abs=1e-6)
        assert float(row["iou.ab"]) == pytest.approx(score.iou[4], abs=1e-6)


def test_an_image_with_nothing_to_score(dataset, predictor):
    sample = dataset.split("test")[3]
    write_labels(dataset.label_path(sample), np.full((32, 32), 255, np.uint8))
    result = evaluate(predictor(), dataset)
    assert math.isnan(result.images()[3].miou)
    assert "p4" not in [image.id for image in result.worst()]
    assert result.to_dict(images=True)["images"][3] == {"id": "p4", "miou": None, "pixel_accuracy": None}
    assert "p4,,,,,,,\n" in result.per_image_csv()


def test_on_the_grid_of_the_model(dataset, predictor, truths):
    from seglab.data.geometry import fit_labels
    from seglab.preprocess import Preprocess

    small = predictor(size_hw=(16, 24))
    result = evaluate(small, dataset, at_model=True)
    expected = np.zeros((4, 4), np.int64)
    for sample in dataset.split("test"):
        (logits_KHW, _), *_ = small.logits([read_photo(dataset.image_path(sample)).image])
        truth = fit_labels(truths[sample.id], Preprocess(size_hw=(16, 24)))
        expected += confusion(truth, logits_KHW.argmax(0).astype(np.uint8), 4)
    np.testing.assert_array_equal(result.matrix, expected)
