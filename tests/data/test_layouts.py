"""The writers of original layouts: what each tree looks like, and that only arguments decide what is in it."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from seglab.data.garments import CATEGORIES, garment_class
from seglab.data.images import read_labels, read_mode, read_photo, read_size
from seglab.data.layouts import LAYOUTS, layout_of, synth_original
from seglab.data.manifest import open_dataset
from seglab.data.rle import parse_kaggle, to_mask
from seglab.data.scene import draw_scene, labels_for
from seglab.data.sources import SOURCES, cihp, recognise
from seglab.errors import DataError, UsageError
from seglab.tasks import TASKS, Task
from tests.data.commands import contents, run

NUM = 6
SIZE_HW = (64, 48)
EACH_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))


def make(name: str, dir: Path, **options: object) -> Path:
    values = {"val": 0.2, "test": 0.2, "workers": 0, **options}
    return synth_original(TASKS[name], NUM, SIZE_HW, dir, **values).dir


def truth(name: str, index: int) -> np.ndarray:
    task = TASKS[name]
    return labels_for(draw_scene(0, index, task.synth.view, SIZE_HW), task)


@EACH_TASK
def test_its_source_recognises_every_layout(task, tmp_path):
    made = synth_original(task, NUM, SIZE_HW, tmp_path / "raw", workers=0)
    source, reason = recognise(made.dir)
    assert (made.layout, task.name) == (source.NAME, source.TASK)
    assert reason
    assert made.layout in SOURCES


def test_every_task_has_its_own_layout():
    assert sorted(layout_of(task) for task in TASKS.values()) == sorted(LAYOUTS)


@EACH_TASK
def test_repeated_trees_are_the_same_bytes_whatever_the_threads(task, tmp_path):
    make(task.name, tmp_path / "a")
    make(task.name, tmp_path / "b", workers=3)
    make(task.name, tmp_path / "c", seed=1)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_names_are_distinct(layout):
    assert len({layout.name(index) for index in range(3000)}) == 3000


def test_helen(tmp_path):
    root = make("face", tmp_path / "raw") / "helenstar_release"
    train, test = (sorted(path.name for path in (root / split).iterdir()) for split in ("train", "test"))
    assert (len(train), len(test)) == (15, 3)
    assert all(re.fullmatch(r"\d+_1_(image\.jpg|label\.png|viz\.jpg)", name) for name in train + test)
    assert (root / "label_names.txt").read_text().split() == list(TASKS["face"].classes)
    path = next(root.glob(f"*/{LAYOUTS['helen'].name(2)}_label.png"))
    assert read_mode(path) == "L"
    np.testing.assert_array_equal(read_labels(path), truth("face", 2))


def test_imaterialist(tmp_path):
    root = make("clothes", tmp_path / "raw")
    described = json.loads((root / "label_descriptions.json").read_text())["categories"]
    assert [(entry["id"], entry["name"]) for entry in described] == list(enumerate(CATEGORIES))
    with (root / "train.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["ImageId"] for row in rows} == {path.name for path in (root / "train").iterdir()}
    task = TASKS["clothes"]
    for index in range(NUM):
        labels = np.zeros(SIZE_HW, np.uint8)
        for row in (row for row in rows if row["ImageId"] == f"{LAYOUTS['imaterialist'].name(index)}.jpg"):
            assert (int(row["Height"]), int(row["Width"])) == SIZE_HW
            name = garment_class(CATEGORIES[int(row["ClassId"].split("_")[0])])
            if name:
                labels[to_mask(parse_kaggle(row["EncodedPixels"], SIZE_HW))] = task.index(name)
        np.testing.assert_array_equal(labels, truth("clothes", index))
    assert any("_" in row["ClassId"] for row in rows)
    assert {garment_class(CATEGORIES[int(row["ClassId"].split("_")[0])]) for row in rows} > {"", "upper_body"}


def test_pascal_part(tmp_path):
    root = make("body", tmp_path / "raw") / "Pascal-part"
    assert (root / "classes.txt").read_text().splitlines()[:2] == ["0: bg", "1: low_hand"]
    listed = {split: (root / f"{split}_id.txt").read_text().split() for split in ("train", "val")}
    assert {split: len(names) for split, names in listed.items()} == {"train": 4, "val": 2}
    assert {path.stem for path in (root / "gt_masks").iterdir()} == {*listed["train"], *listed["val"]}
    stored = np.load(root / "gt_masks" / f"{LAYOUTS['pascal-part'].name(1)}.npy", allow_pickle=False)
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(stored, truth("body", 1))


def test_cihp_celebmaskhq(tmp_path):
    root = make("parsing", tmp_path / "raw") / "versions" / "1"
    six = np.array([TASKS["parsing"].index(cihp.SIX[name]) for name in cihp.NAMES])
    found = set()
    for index in range(NUM):
        path = root / "mask" / f"image_{index}.png"
        assert read_mode(path) == "RGB"
        ids = read_labels(path)
        np.testing.assert_array_equal(six[ids], truth("parsing", index))
        found |= {cihp.NAMES[id] for id in np.unique(ids)}
    assert {"face", "hair", "torso_skin", "left_arm", "right_arm", "left_leg", "right_leg"} <= found


def test_left_limbs_are_on_the_right_of_the_picture(tmp_path):
    make("parsing", tmp_path / "raw")
    for index in range(NUM):
        if draw_scene(0, index, "figure", SIZE_HW).num_persons == 1:
            ids = read_labels(tmp_path / "raw" / "versions" / "1" / "mask" / f"image_{index}.png")
            left, right = (np.nonzero(ids == cihp.NAMES.index(f"{side}_arm"))[1] for side in ("left", "right"))
            if len(left) and len(right):
                assert left.min() > right.max()
                return
    pytest.fail("no scene with both arms of one person")


def test_human_segmentation(tmp_path):
    root = make("person", tmp_path / "raw")
    assert all((root / folder / ".DS_Store").is_file() for folder in ("", "Training_Images", "Ground_Truth"))
    for index in range(NUM):
        mask = read_labels(root / "Ground_Truth" / f"{index + 1}.png")
        assert set(np.unique(mask)) == {0, 255}
        np.testing.assert_array_equal(mask > 0, truth("person", index) > 0)
        times = 2 if index % 3 else 1
        assert read_size(root / "Training_Images" / f"{index + 1}.jpg") == (times * SIZE_HW[0], times * SIZE_HW[1])


def test_the_scenes_are_those_of_the_prepared_layout(tmp_path):
    raw = make("body", tmp_path / "raw")
    photo = read_photo(raw / "Pascal-part" / "JPEGImages" / f"{LAYOUTS['pascal-part'].name(3)}.jpg").image
    assert np.abs(photo.astype(int) - draw_scene(0, 3, "figure", SIZE_HW).image).mean() < 6


def test_finished_work_is_left_alone_and_other_work_needs_force(tmp_path):
    out = tmp_path / "raw"
    make("person", out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert synth_original(TASKS["person"], NUM, SIZE_HW, out, val=0.2, test=0.2).unchanged
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    with pytest.raises(DataError, match="there already, made otherwise") as error:
        make("person", out, seed=1)
    assert "--force" in error.value.hint
    make("parsing", out, force=True)
    assert not (out / "Training_Images").exists()


def test_what_is_not_ours_is_never_replaced(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something else"):
        make("person", tmp_path / "raw", force=True)
    assert (tmp_path / "raw" / "thesis.txt").read_text() == "mine"


def test_tasks_without_an_original(tmp_path):
    own = Task("person", ("none", "hand"))
    for task in (own, Task("hands", ("none", "hand"))):
        with pytest.raises(DataError, match="there is no original layout of task") as error:
            synth_original(task, 2, SIZE_HW, tmp_path / "raw")
        assert "person" in error.value.hint
    with pytest.raises(UsageError, match="`0` pictures"):
        synth_original(TASKS["person"], 0, SIZE_HW, tmp_path / "raw")
    assert list(tmp_path.iterdir()) == []


class TestCommand:
    def test_original(self, tmp_path, capsys):
        assert run("synth", "-n", 3, "--size", 32, "--layout", "original", tmp_path / "raw", "--json") == 0
        output = capsys.readouterr()
        (remark,) = (printed := json.loads(output.out)).pop("remarks")
        values = {"raw": str(tmp_path / "raw"), "task": "person", "layout": "human-segmentation", "pictures": 3}
        assert printed == {**values, "splits": {}}
        assert remark in output.err
        assert remark.startswith("the layout human-segmentation has no splits: --val and --test are for")
        assert f"next: seglab prepare {tmp_path / 'raw'} OUT --val 0.1 --test 0.1\n" in output.err
        assert run("synth", "-n", 3, "--size", 32, "--layout", "original", tmp_path / "raw") == 0
        assert "there already" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("task", "remark", "options"),
        [
            ("face", "has 13 train, 7 test: `seglab prepare` draws val from train", " --val 0.2"),
            ("body", "has 9 train, 11 val: `seglab prepare` draws test from val", ""),
            ("clothes", "has no splits", " --val 0.2 --test 0.35"),
            ("parsing", "has no splits", " --val 0.2 --test 0.35"),
        ],
    )
    def test_what_becomes_of_the_shares_is_said(self, tmp_path, capsys, task, remark, options):
        """And the command that is printed makes the splits that were asked for, where the layout has none."""
        raw, out = tmp_path / "raw", tmp_path / "out"
        made = ("-t", task, "-n", 20, "--size", 48, "--layout", "original", "--val", 0.2, "--test", 0.35)
        assert run("synth", *made, raw) == 0
        output = capsys.readouterr().err
        assert remark in output
        (command,) = re.findall(r"^next: seglab (.*)$", output, re.MULTILINE)
        assert command == f"prepare {raw} OUT{options}"
        assert run(*command.replace("OUT", str(out)).split()) == 0
        dataset = open_dataset(out)
        counts = {split: len(dataset.split(split)) for split in dataset.splits}
        if "no splits" in remark:
            assert counts == {"train": 9, "val": 4, "test": 7}
        assert set(counts) == {"train", "val", "test"}

    def test_shares_that_a_layout_has_no_use_for_make_no_other_data(self, tmp_path):
        assert not synth_original(TASKS["person"], 3, SIZE_HW, tmp_path / "raw", val=0.1).unchanged
        assert synth_original(TASKS["person"], 3, SIZE_HW, tmp_path / "raw", val=0.3).unchanged

    def test_a_layout_that_is_none(self, tmp_path, capsys):
        assert run("synth", "-n", 3, "--layout", "orignal", tmp_path / "raw") == 2
        assert "did you mean `original`" in capsys.readouterr().err
