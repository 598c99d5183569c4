"""``seglab evaluate`` as a user meets it: streams, exit codes, words."""

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import seglab.engines
from seglab.cli import main
from seglab.data.images import read_photo, write_labels


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run the command line in this process; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["evaluate", *map(str, arguments)])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


@pytest.fixture
def model(monkeypatch, predictor):
    """A model called ``seer``: the engine of the tests behind the functions that find and open one."""
    opened = predictor()

    def open_engine(path, device, engine):
        assert (str(path), device.name, engine.name) == ("seer", "cpu", "auto")
        return opened.engine, opened.config

    bundle = SimpleNamespace(find_model=Path, read_config=lambda path: opened.config)
    monkeypatch.setattr(seglab.engines, "open_engine", open_engine)
    monkeypatch.setitem(sys.modules, "seglab.models.bundle", bundle)
    return "seer"


@pytest.fixture
def masks(tmp_path, seen, truths):
    for folder, several in (("pred", seen), ("gt", truths)):
        (tmp_path / folder).mkdir()
        for name, labels in several.items():
            write_labels(tmp_path / folder / f"{name}.png", labels)
    (tmp_path / "abc.toml").write_text(
        'name = "abc"\nclasses = ["none", "a", "b", "c"]\n[regions]\nab = ["a", "b"]\n'
        '[levels]\ntop = ["ab"]\nfine = ["a", "b", "c"]\n'
    )
    return ("--pred", "pred", "--gt", "gt", "--task", "abc.toml")


def test_a_model_on_a_dataset(run, model, dataset):
    code, out, err = run("--model", model, "--data", dataset.dir, "--device", "cpu", "--batch-size", 2)
    assert (code, out) == (0, "")
    for word in ("abc · seer · cpu (asked for) · seer (for tests) · 5 images", "IoU", "precision", "ab", "top", "fine"):
        assert word in err
    assert "miou 0." in err
    assert "ignored by the truth: 9.73 % of the pixels" in err
    assert "lowest miou: p" in err


def test_json_alone_on_stdout(run, model, dataset):
    code, out, err = run("--model", model, "--data", dataset.dir, "--device", "cpu", "--json")
    values = json.loads(out)
    assert code == 0
    assert out.count("\n") == 1
    assert values["schema"] == 2
    assert values["num_images"] == 5
    assert values["engine"] == {
        "name": "seer", "reason": "for tests", "device": "cpu", "device_reason": "asked for", "precision": "fp32"
    }  # fmt: skip
    assert values["input"] == {"model": "seer", "data": str(dataset.dir), "split": "test", "pred": None, "gt": None}
    assert f"miou {values['miou']:.4f}" in err


def test_a_baseline_of_another_split_is_refused_before_the_model_is_opened(run, model, dataset, tmp_path):
    _, out, _ = run("--model", model, "--data", dataset.dir, "--split", "train", "--device", "cpu", "--json")
    (tmp_path / "train.json").write_text(out)
    code, _, err = run("--model", model, "--data", dataset.dir, "--baseline", "train.json", "--device", "cpu")
    assert code == 3
    assert err.startswith("error: the evaluations share 0 images of 5 and")


def test_masks_score_as_the_model_that_wrote_them(run, model, dataset, tmp_path, predictor):
    (tmp_path / "written").mkdir()
    for sample in dataset.split("test"):
        (labels,) = predictor().labels([read_photo(dataset.image_path(sample)).image])
        write_labels(tmp_path / "written" / f"{sample.id}.png", labels)
    _, by_model, _ = run("--model", model, "--data", dataset.dir, "--device", "cpu", "--json")
    code, by_masks, _ = run("--pred", "written", "--data", dataset.dir, "--json")
    assert code == 0
    same = {"input": 0, "engine": 0}
    assert json.loads(by_masks) | same == json.loads(by_model) | same


def test_folders_of_a_task_file(run, masks):
    code, out, err = run(*masks, "--json")
    values = json.loads(out)
    assert code == 0
    assert values["task"] == "abc"
    assert values["engine"] is None
    assert values["input"] == {"model": None, "data": None, "split": None, "pred": "pred", "gt": "gt"}
    assert list(values["levels"]) == ["top", "fine"]
    assert "mean of" in err


def test_gates(run, masks):
    code, out, err = run(*masks, "--fail-under", "miou=0.1", "--fail-under", "iou.ab=0.2", "--json")
    assert code == 0
    assert "missed" not in err
    assert [gate["passed"] for gate in json.loads(out)["gates"]] == [True, True]
    code, out, err = run(*masks, "--fail-under", "miou=0.1", "--fail-under", "f1.ab=0.999", "--json")
    gates = json.loads(out)["gates"]
    assert code == 1
    assert [gate["metric"] for gate in gates if not gate["passed"]] == ["f1.ab"]
    assert f"missed: f1.ab is {gates[1]['value']:.6g}, --fail-under asks for 0.999" in err
    assert err.index("IoU") < err.index("missed:")


def test_a_gate_on_what_is_not_there_is_missed(run, masks, tmp_path, seen):
    for name, labels in seen.items():
        for folder in ("pred", "gt"):
            write_labels(tmp_path / folder / f"{name}.png", np.minimum(labels, 2))
    code, _, err = run(*masks, "--fail-under", "iou.c=0")
    assert code == 1
    assert "missed: iou.c is undefined" in err
    assert "in neither truth nor prediction, so in no mean: c" in err


@pytest.mark.parametrize("gate", ["miou", "miou=", "miou=high", "miou=60", "miou=-1", "miou=nan"])
def test_bars_that_are_none(run, masks, gate):
    code, out, err = run(*masks, "--fail-under", gate)
    assert (code, out) == (2, "")
    assert f"error: `{gate}` does not set a bar within 0..1" in err


def test_an_unknown_metric_is_refused_before_any_work(run, masks, tmp_path):
    (tmp_path / "pred" / "p1.png").unlink()
    code, _, err = run(*masks, "--fail-under", "iou.abc=0.5")
    assert code == 2
    assert "no metric of task `abc` is called `iou.abc`" in err
    assert "did you mean `iou.ab`" in err


def test_per_image_table(run, masks, tmp_path):
    code, out, err = run(*masks, "--per-image", "deep [1].csv")
    assert (code, out) == (0, "")
    assert "scores of each image: deep [1].csv" in err
    rows = list(csv.DictReader((tmp_path / "deep [1].csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == ["p1", "p2", "p3", "p4", "p5"]


def test_problems_of_masks_exit_3(run, masks, tmp_path):
    (tmp_path / "pred" / "p1.png").unlink()
    (tmp_path / "pred" / "p2.png").write_bytes(b"")
    code, out, err = run(*masks, "--json")
    assert (code, out) == (3, "")
    assert "error: 2 of 5 masks cannot be scored: `p1`: no prediction; `p2`: prediction: empty file" in err
    assert "hint: `--allow-missing`" in err


def test_allowed_missing_ones_are_told(run, masks, tmp_path):
    (tmp_path / "pred" / "p1.png").unlink()
    code, out, err = run(*masks, "--allow-missing", "--json")
    assert code == 0
    assert json.loads(out)["missing"] == ["p1"]
    assert "missing, counted as background: p1" in err


def test_a_photo_that_cannot_be_read_exits_1(run, model, dataset):
    dataset.image_path(dataset.split("test")[1]).write_bytes(b"")
    code, out, err = run("--model", model, "--data", dataset.dir, "--device", "cpu", "--json")
    assert code == 1
    assert json.loads(out)["failures"] == [{"id": "p2", "reason": "photo: empty file"}]
    assert "not scored: 1 images\n  p2  photo: empty file\n" in err


def test_false_alarms_are_told(run, masks, tmp_path, truths):
    for name, truth in truths.items():
        truth[truth == 3] = 0
        write_labels(tmp_path / "gt" / f"{name}.png", truth)
    _, _, err = run(*masks)
    assert "predicted but in no truth, so counted as 0: c" in err


def test_an_empty_split_exits_3(run, model, dataset):
    code, _, err = run("--model", model, "--data", dataset.dir, "--split", "val", "--device", "cpu")
    assert code == 3
    assert "no `val`" in err


def test_another_task_than_the_data_exits_3(run, dataset, masks):
    code, _, err = run("--pred", "pred", "--data", dataset.dir, "--task", "person")
    assert code == 3
    assert "error: the task is `person`, but the data in" in err
    assert "is `abc`" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --model or --pred"),
        (["--data", "d"], "give either --model or --pred"),
        (["--model", "m", "--pred", "p", "--data", "d"], "give either --model or --pred"),
        (["--model", "m"], "--model is scored on --data"),
        (["--model", "m", "--data", "d", "--gt", "g"], "--model is scored on --data"),
        (["--model", "m", "--data", "d", "--allow-missing"], "--allow-missing is about --pred"),
        (["--pred", "p"], "either --data or --gt"),
        (["--pred", "p", "--data", "d", "--gt", "g"], "either --data or --gt"),
        (["--pred", "p", "--gt", "g"], "--gt needs --task"),
        (["--pred", "p", "--gt", "g", "--task", "fcae"], "no task is called `fcae`"),
    ],
)
def test_wrong_command_lines_exit_2(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert "hint: " in err


def test_a_dataset_is_no_folder_of_masks(run, dataset, masks):
    for task in ([], ["--task", "abc.toml"]):
        code, out, err = run("--pred", "pred", "--gt", dataset.dir.name, *task)
        assert (code, out) == (2, "")
        assert "error: --gt `data` is a prepared dataset, not a folder of masks" in err
        assert "hint: `--data data` scores" in err
    code, _, err = run("--pred", "pred", "--gt", dataset.dir / "test" / "labels", "--task", "abc.toml")
    assert code == 0, err


def test_results_do_not_go_into_a_dataset(run, model, dataset, masks):
    before = sorted(dataset.dir.rglob("*"))
    for source in (("--model", model, "--data", dataset.dir), masks):
        code, out, err = run(*source, "--out", dataset.dir.name, "--fail-under", "miou=0.1")
        assert (code, out) == (2, "")
        assert err.startswith("error: `data` is a prepared dataset, not a place for results"), "before any work"
    assert sorted(dataset.dir.rglob("*")) == before


def test_a_dataset_that_is_not_there_exits_3(run):
    code, _, err = run("--model", "m", "--data", "nowhere")
    assert code == 3
    assert "there is no dataset `nowhere`" in err
