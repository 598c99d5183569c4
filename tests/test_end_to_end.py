"""The whole road through the real command line, on synthetic people: drawings in, masks, cutouts and scores out."""

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seglab.data.manifest import open_dataset
from seglab.tasks import TASKS

pytestmark = pytest.mark.slow


def seglab(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "seglab", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done


def pixels(path: Path) -> "np.ndarray[Any, Any]":
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def road_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos and masks as a user would have them, prepared, and a model trained on them."""
    road_dir = tmp_path_factory.mktemp("road")
    seglab("synth", road_dir / "drawn", "--task", "person", "-n", 120, "--size", 96)
    for folder, kind in (("images", "images"), ("masks", "labels")):
        (road_dir / "raw" / folder).mkdir(parents=True)
        for path in sorted((road_dir / "drawn").glob(f"*/{kind}/*")):
            shutil.copy(path, road_dir / "raw" / folder)
    seglab("prepare", road_dir / "raw", road_dir / "data", "--task", "person", "--val", 0.1, "--test", 0.2)
    done = seglab(
        "train", "--task", "person", "--data", road_dir / "data", "--out", road_dir / "run", "--size", 96,
        "--epochs", 16, "--lr", 0.004, "--set", "ema=0.97", "--set", "augment=0.3", "--json",
    )  # fmt: skip
    assert json.loads(done.stdout)
    return road_dir


@pytest.fixture(scope="module")
def own_scores(road_dir: Path) -> Callable[[str], dict[str, Any]]:
    """What ``evaluate`` says of the model, by the name of the engine; each engine is asked once."""

    @functools.cache
    def of(engine: str) -> dict[str, Any]:
        options = ("--model", road_dir / "run", "--data", road_dir / "data", "--engine", engine, "--json")
        scores: dict[str, Any] = json.loads(seglab("evaluate", *options).stdout)
        return scores

    return of


def test_what_was_drawn_is_what_was_prepared(road_dir: Path) -> None:
    drawn, prepared = open_dataset(road_dir / "drawn"), open_dataset(road_dir / "data")
    labels = {path.stem: path for path in (road_dir / "drawn").glob("*/labels/*")}
    assert len(prepared.samples) == len(drawn.samples) == 120
    assert [len(prepared.split(split)) for split in ("train", "val", "test")] == [84, 12, 24]
    for sample in prepared.samples:
        assert np.array_equal(pixels(prepared.label_path(sample)), pixels(labels[sample.id]))


def test_the_model_has_learnt(road_dir: Path) -> None:
    seglab("evaluate", "--model", road_dir / "run", "--data", road_dir / "data", "--fail-under", "iou.person=0.55")
    seglab(
        "evaluate", "--model", road_dir / "run", "--data", road_dir / "data", "--fail-under", "iou.person=0.999", code=1
    )


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_predict_equals_what_evaluate_scores(
    road_dir: Path, tmp_path: Path, engine: str, own_scores: Callable[[str], dict[str, Any]]
) -> None:
    photos_dir = road_dir / "data" / "test" / "images"
    seglab("predict", "--model", road_dir / "run", "--engine", engine, photos_dir, "-o", tmp_path)
    own = own_scores(engine)
    data = ("--data", road_dir / "data", "--task", "person")
    written = json.loads(seglab("evaluate", "--pred", tmp_path, *data, "--json").stdout)
    assert own["confusion"] == written["confusion"]
    assert sum(map(sum, own["confusion"])) == 24 * 96 * 96


def test_both_engines_agree(own_scores: Callable[[str], dict[str, Any]]) -> None:
    a, b = (np.array(own_scores(engine)["confusion"]) for engine in ("torch", "onnxruntime"))
    assert np.abs(a - b).sum() <= 0.002 * a.sum()


def test_masks_are_ids_in_the_colours_of_the_task(road_dir: Path, tmp_path: Path) -> None:
    sample = open_dataset(road_dir / "data").split("test")[0]
    photo = road_dir / "data" / sample.image
    formats = ("--format", "palette", "--format", "ids", "--format", "overlay")
    line = json.loads(seglab("predict", "--model", road_dir / "run", photo, "-o", tmp_path, *formats, "--json").stdout)
    with Image.open(line["outputs"]["palette"]) as mask:
        assert mask.mode == "P"
        colours = mask.getpalette()
        ids = np.asarray(mask)
    assert colours is not None
    assert tuple(colours[3:6]) == TASKS["person"].palette[1]
    assert np.array_equal(ids, pixels(Path(line["outputs"]["ids"])))
    assert ids.shape == (96, 96)
    assert set(np.unique(ids)) <= {0, 1}
    assert Path(line["outputs"]["overlay"]).stat().st_size > 0


def test_the_cutout_covers_the_person(road_dir: Path, tmp_path: Path) -> None:
    dataset = open_dataset(road_dir / "data")
    samples = dataset.split("test")
    seglab("cutout", "--model", road_dir / "run", dataset.dir / "test" / "images", "-o", tmp_path)
    inside, outside = [], []
    for sample in samples:
        rgba = pixels(tmp_path / f"{sample.id}.png")
        truth = pixels(dataset.label_path(sample)) == 1
        assert rgba.shape == (*truth.shape, 4)
        inside.append(rgba[..., 3][truth].mean() / 255)
        outside.append(rgba[..., 3][~truth].mean() / 255)
    assert np.mean(inside) > 0.6
    assert np.mean(outside) < 0.25


def test_stdout_is_empty_without_json(road_dir: Path, tmp_path: Path) -> None:
    photos = road_dir / "data" / "test" / "images"
    assert seglab("predict", "--model", road_dir / "run", photos, "-o", tmp_path / "a").stdout == ""
    assert seglab("cutout", "--model", road_dir / "run", photos, "-o", tmp_path / "b").stdout == ""
    assert seglab("evaluate", "--model", road_dir / "run", "--data", road_dir / "data").stdout == ""


def test_another_task_is_refused(road_dir: Path) -> None:
    done = seglab("predict", "--task", "face", "--model", road_dir / "run", road_dir / "data", code=3)
    assert "`person`" in done.stderr
    assert "`face`" in done.stderr
