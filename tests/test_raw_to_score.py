"""The whole road for every task, through the command line: original layout, prepared dataset, score."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seglab.data.images import read_labels, read_photo, write_labels
from seglab.data.layouts import LAYOUTS, layout_of
from seglab.data.manifest import Dataset, Sample, open_dataset
from seglab.data.scene import Scene, draw_scene, labels_for
from seglab.tasks import TASKS

NUM = 15
SIZE_HW = (96, 80)
SEED = 5

REASONS = {
    "person": "source human-segmentation: it has `Training_Images` and `Ground_Truth`",
    "face": "source helen: `helenstar_release/train` and `helenstar_release/test` have ID_image with ID_label",
    "clothes": "source imaterialist: it has `train` and `train.csv`",
    "body": "source pascal-part: it has `Pascal-part/JPEGImages` and `gt_masks`",
    "parsing": "source cihp-celebmaskhq-6class: it has `versions/1/original` and `versions/1/mask` of image_N",
}

pytestmark = pytest.mark.slow


def seglab(*arguments: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "seglab", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def scenes(dataset: Dataset) -> list[tuple[Sample, Scene]]:
    """Return every sample with the scene that it must be."""
    task = dataset.task
    layout = LAYOUTS[layout_of(task)]
    index_of = {layout.name(index): index for index in range(NUM)}
    assert len(index_of) == NUM
    assert {sample.id for sample in dataset.samples} == set(index_of)
    return [(sample, draw_scene(SEED, index_of[sample.id], task.synth.view, SIZE_HW)) for sample in dataset.samples]


def test_every_task_is_here():
    assert set(REASONS) == set(TASKS)


@pytest.mark.parametrize("name", list(TASKS))
def test_from_raw_to_score(name: str, tmp_path: Path) -> None:
    raw, out, pred = tmp_path / "raw", tmp_path / "prepared", tmp_path / "pred"
    size = f"{SIZE_HW[0]}x{SIZE_HW[1]}"
    shares = ("--val", 0.2, "--test", 0.2)
    seglab("synth", "-t", name, "-n", NUM, "--size", size, "--seed", SEED, "--layout", "original", *shares, raw)

    done = seglab("prepare", raw, out, *shares, "--json")
    assert REASONS[name] in done.stderr
    told = json.loads(done.stdout)
    assert (told["samples"], told["problems"]) == (NUM, [])

    dataset = open_dataset(out)
    task = TASKS[name]
    assert dataset.task == task
    assert set(dataset.splits) == {"train", "val", "test"}
    seen = np.zeros(256, np.int64)
    for sample, scene in scenes(dataset):
        truth = labels_for(scene, task)
        np.testing.assert_array_equal(read_labels(dataset.label_path(sample)), truth)
        photo = read_photo(dataset.image_path(sample)).image
        assert photo.shape == scene.image.shape
        assert np.corrcoef(photo.ravel(), scene.image.ravel())[0, 1] > 0.9
        seen += np.bincount(truth.ravel(), minlength=256)
        pred.mkdir(exist_ok=True)
        if sample.split == "test":
            write_labels(pred / f"{sample.id}.png", truth)
    assert np.count_nonzero(seen) == task.num_classes

    scores = json.loads(seglab("evaluate", "--pred", pred, "--data", out, "--json").stdout)
    assert scores["miou"] == 1.0
    assert scores["pixel_accuracy"] == 1.0
    assert scores["num_pixels"] == len(dataset.split("test")) * SIZE_HW[0] * SIZE_HW[1]
