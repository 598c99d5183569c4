"""Scoring masks of any tool."""

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from seglab.data.images import write_labels, write_palette
from seglab.errors import DataError
from seglab.evaluation.confusion import confusion
from seglab.evaluation.folders import evaluate_folders
from seglab.inference.sinks import write_legend
from seglab.tasks import TASKS

PERSON = TASKS["person"]


def write(folder, masks, suffix=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, labels in masks.items():
        path = folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_labels(path, labels)
    return folder


def total(truths, predictions, num_classes=4):
    return sum(confusion(truths[name], predictions[name], num_classes) for name in truths)


@pytest.fixture
def pred(tmp_path, seen):
    return write(tmp_path / "pred", seen)


@pytest.fixture
def gt(tmp_path, truths):
    return write(tmp_path / "gt", truths)


@pytest.mark.parametrize("workers", [0, 2])
def test_folder_against_folder(pred, gt, seen, truths, abc, workers):
    steps = []
    result = evaluate_folders(pred, gt, abc, workers=workers, progress=steps.append)
    np.testing.assert_array_equal(result.matrix, total(truths, seen))
    assert result.ids == tuple(sorted(truths))
    assert result.scores.num_ignored == sum(int((truth == 255).sum()) for truth in truths.values())
    assert steps == [1] * 5


def test_folder_against_a_split(pred, dataset, seen, truths, abc):
    result = evaluate_folders(pred, dataset, abc)
    np.testing.assert_array_equal(result.matrix, total(truths, seen))
    assert result.num_extra == 0
    write_labels(pred / "t1.png", seen["p1"])
    train = evaluate_folders(pred, dataset, abc, split="train")
    np.testing.assert_array_equal(train.matrix, confusion(truths["p1"], seen["p1"], 4))
    assert train.num_extra == 5


def test_palette_masks_count_as_their_indices(tmp_path, gt, seen, truths, abc):
    folder = tmp_path / "palette"
    folder.mkdir()
    for name, labels in seen.items():
        write_palette(folder / f"{name}.png", labels, abc.palette)
    np.testing.assert_array_equal(evaluate_folders(folder, gt, abc).matrix, total(truths, seen))


def test_subfolders_and_odd_names_match_by_path(tmp_path, seen, truths, abc):
    names = {"a/x [1]": "p1", "b/x [1]": "p2", "ü 4.2": "p3"}
    gt = write(tmp_path / "gt", {name: truths[key] for name, key in names.items()})
    pred = write(tmp_path / "pred", {name: seen[key] for name, key in names.items()}, ".bmp.png")
    with pytest.raises(DataError, match="no prediction"):
        evaluate_folders(pred, gt, abc)
    pred = write(tmp_path / "again", {name: seen[key] for name, key in names.items()})
    expected = sum(confusion(truths[key], seen[key], 4) for key in names.values())
    np.testing.assert_array_equal(evaluate_folders(pred, gt, abc).matrix, expected)


def test_every_problem_is_named_at_once(pred, gt, abc):
    (pred / "p1.png").unlink()
    write_labels(pred / "p2.png", np.zeros((40, 24), np.uint8))
    write_labels(pred / "p3.png", np.full((17, 50), 9, np.uint8))
    (pred / "p4.png").write_bytes((pred / "p4.png").read_bytes()[:60])
    (gt / "p5.png").write_bytes(b"")
    with pytest.raises(DataError, match="5 of 5 masks cannot be scored") as caught:
        evaluate_folders(pred, gt, abc)
    problems = caught.value.message.partition(": ")[2].split("; ")
    assert problems[0] == "`p1`: no prediction"
    assert problems[1] == "`p2`: the prediction is 24x40, but the truth is 23x40"
    assert problems[2] == "`p3`: the prediction holds id `9`, but the classes are 0..3"
    assert problems[3].startswith("`p4`: prediction: ")
    assert problems[4] == "`p5`: truth: empty file"
    assert "--allow-missing" in caught.value.hint


def test_of_many_problems_the_first_are_named(tmp_path, abc):
    truths = {f"m{number:02}": np.zeros((2, 2), np.uint8) for number in range(50)}
    gt = write(tmp_path / "gt", truths)
    pred = write(tmp_path / "pred", {"m00": truths["m00"]})
    with pytest.raises(DataError, match=r"^49 of 50 masks .*; and 29 more$") as caught:
        evaluate_folders(pred, gt, abc)
    assert len(re.findall("no prediction", caught.value.message)) == 20


def test_missing_ones_count_as_background_if_allowed(pred, gt, seen, truths, abc):
    (pred / "p2.png").unlink()
    result = evaluate_folders(pred, gt, abc, allow_missing=True)
    np.testing.assert_array_equal(result.matrix, total(truths, {**seen, "p2": np.zeros_like(seen["p2"])}))
    assert result.missing == ("p2",)
    assert result.to_dict()["missing"] == ["p2"]
    write_labels(pred / "p3.png", np.full((17, 50), 9, np.uint8))
    with pytest.raises(DataError, match="1 of 5 masks cannot be scored: `p3`"):
        evaluate_folders(pred, gt, abc, allow_missing=True)


def test_extra_predictions_are_counted(pred, gt, seen, abc):
    write_labels(pred / "unasked.png", seen["p1"])
    assert evaluate_folders(pred, gt, abc).num_extra == 1


def test_hidden_files_and_other_files_are_not_masks(pred, gt, abc):
    for folder in (pred, gt):
        (folder / ".p9.png").write_bytes(b"junk")
        (folder / "legend.json").write_text("{}")
    assert evaluate_folders(pred, gt, abc).num_images == 5


def test_of_a_jpeg_and_a_png_the_png_is_the_mask(pred, gt, seen, truths, abc):
    Image.fromarray(seen["p1"]).save(pred / "p1.jpg")
    np.testing.assert_array_equal(evaluate_folders(pred, gt, abc).matrix, total(truths, seen))
    (pred / "p1.png").unlink()
    with pytest.raises(DataError, match=r"`p1`: prediction: .*JPEG"):
        evaluate_folders(pred, gt, abc)


def test_two_masks_of_a_name_are_refused(pred, gt, seen, abc):
    Image.fromarray(seen["p1"]).save(pred / "p1.bmp")
    with pytest.raises(DataError, match="more than one mask of a name: `p1`: 2 files"):
        evaluate_folders(pred, gt, abc)


def test_empty_or_absent_folders(tmp_path, gt, abc):
    with pytest.raises(DataError, match="there is no folder"):
        evaluate_folders(tmp_path / "none", gt, abc)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there is no mask in"):
        evaluate_folders(tmp_path / "empty", gt, abc)


def test_other_classes_than_the_dataset_are_refused(pred, dataset):
    with pytest.raises(DataError, match=r"the task is `person`, but the data in .* is `abc`"):
        evaluate_folders(pred, dataset, PERSON)


@pytest.fixture
def person_masks():
    rng = np.random.default_rng(7)
    return {name: rng.integers(0, 2, (9, 11), np.uint8) for name in ("one", "two")}


def test_white_on_black_is_a_prediction_of_two_classes(tmp_path, person_masks):
    gt = write(tmp_path / "gt", person_masks)
    white = write(tmp_path / "white", {name: mask * 255 for name, mask in person_masks.items()})
    assert evaluate_folders(white, gt, PERSON).scores.miou == 1
    three = replace(PERSON, name="three", classes=("background", "a", "b"), palette=(), foreground=(), synth=None)
    with pytest.raises(DataError, match="the prediction holds id `255`"):
        evaluate_folders(white, gt, three)


def test_a_prediction_of_0_1_and_255_or_grey_is_refused(tmp_path, person_masks):
    gt = write(tmp_path / "gt", person_masks)
    for strange in (1, 128):
        mask = person_masks["one"] * 255
        mask[0, 0] = strange
        pred = write(tmp_path / f"pred{strange}", {"one": mask, "two": person_masks["two"]})
        with pytest.raises(DataError, match=r"`one`: the prediction holds id .*`255`"):
            evaluate_folders(pred, gt, PERSON)


def test_white_truths_are_not_taken_for_ignored_ones(tmp_path, person_masks, abc):
    white = write(tmp_path / "white", {name: mask * 255 for name, mask in person_masks.items()})
    with pytest.raises(DataError, match="no truth has a pixel of `person`") as caught:
        evaluate_folders(white, white, PERSON)
    assert "seglab prepare" in caught.value.hint
    zeros = write(tmp_path / "zeros", {name: mask * 0 for name, mask in person_masks.items()})
    assert evaluate_folders(zeros, white, abc).scores.num_ignored > 0


def test_masks_of_another_task_are_refused_if_their_legend_says_so(pred, gt, abc):
    (pred / "legend.json").write_text("[1")
    before = evaluate_folders(pred, gt, abc).matrix
    write_legend(pred, abc)
    np.testing.assert_array_equal(evaluate_folders(pred, gt, abc).matrix, before)
    write_legend(gt, PERSON)
    with pytest.raises(
        DataError, match=f"are of task `person`, not of `{abc.name}`, as their legend.json says"
    ) as caught:
        evaluate_folders(pred, gt, abc)
    assert caught.value.hint == "`--task person`"
