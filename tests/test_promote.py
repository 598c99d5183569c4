"""Promotion: who is better and how that is known, and that a served folder is always one whole model."""

import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from seglab.cli import main
from seglab.data.manifest import open_dataset
from seglab.data.writer import DatasetWriter
from seglab.device import Device
from seglab.errors import BusyError, DataError, UsageError
from seglab.evaluation.evaluate import evaluate
from seglab.evaluation.metrics import metric_names, summarize, value
from seglab.files import lock
from seglab.inference.model import choose_model
from seglab.models.bundle import BundleConfig, read_config, save_bundle
from seglab.models.zoo import build
from seglab.preprocess import Preprocess
from seglab.promote import Contest, _look_up, promote, swap
from seglab.tasks import TASKS, Task

CPU = Device("cpu", None, "for tests")
TASK = Task(name="blob", classes=("none", "blob"), regions={"all": ("none", "blob")}, levels={"top": ("all",)})
ARGS = {"form": "plain", "width": 2}


def network(bias):
    """A network that says `blob` where the photo is brighter than some value, more or less."""
    torch.manual_seed(0)
    net = build("unet", 2, **ARGS)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.0)
        list(net.parameters())[-1].copy_(torch.tensor([0.0, bias]))
    return net


def bundle(path, scores, *, recorded=True, digest="d1", split="val", task=TASK, bias=1.0):
    """Save a bundle that carries scores."""
    metrics = {split: {"miou": scores, "classes": {}, "regions": {}, "levels": {}}} if recorded else {}
    config = BundleConfig(
        task=task, model="unet", model_args=ARGS, preprocess=Preprocess(size_hw=(16, 16)), metrics=metrics,
        data={"source": "test", "digest": digest, "samples": {}},
    )  # fmt: skip
    save_bundle(path, config, network(bias).state_dict())
    return path


@pytest.fixture
def dataset(tmp_path):
    """Photos that are all `blob` but for a corner."""
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "data", TASK, "test", {}) as writer:
        for number in range(3):
            labels = np.ones((16, 16), np.uint8)
            labels[:4, :4] = 0
            writer.add(f"s{number}", "test", rng.integers(0, 256, (16, 16, 3), np.uint8), labels, lossless=True)
        writer.finish()
    return open_dataset(tmp_path / "data")


def contents(path):
    return {entry.name: entry.read_bytes() for entry in sorted(path.iterdir())}


def leftovers(folder):
    return [entry.name for entry in folder.iterdir() if entry.name.endswith(".part")]


@pytest.mark.parametrize(
    ("new", "old", "min_gain", "better"),
    [
        (0.8, 0.7, 0.0, True), (0.7, 0.7, 0.0, False), (0.6, 0.7, 0.0, False), (0.605, 0.6, 0.005, True),
        (0.6049, 0.6, 0.005, False), (0.7, None, 0.5, True), (None, 0.1, 0.0, False), (None, None, 0.0, False),
    ],
)  # fmt: skip
def test_the_better_one_by_recorded_scores_is_served(tmp_path, new, old, min_gain, better):
    run, dest = bundle(tmp_path / "run", new), bundle(tmp_path / "served", old)
    before, wanted = contents(dest), contents(run)
    done = promote(str(run), dest, Contest(min_gain=min_gain))
    assert (done.better, done.promoted, done.measured) == (better, better, "recorded")
    assert (done.score, done.baseline_score, done.split) == (new, old, "val")
    assert contents(dest) == (wanted if better else before)
    assert contents(run) == wanted
    assert not leftovers(tmp_path)


def test_where_nothing_is_served_the_new_one_is_taken(tmp_path):
    run = bundle(tmp_path / "run", None, recorded=False)
    for dest in (tmp_path / "deep" / "served", tmp_path / "empty"):
        if dest.name == "empty":
            dest.mkdir()
        done = promote(str(run), dest, Contest(), baseline=dest, keep=True)
        assert (done.promoted, done.baseline, done.measured) == (True, None, "not needed")
        assert contents(dest) == contents(run)


def test_scores_of_different_data_or_splits_are_not_compared(tmp_path):
    dest = bundle(tmp_path / "served", 0.5)
    for name, changes, why in (
        ("other", {"digest": "d2"}, "were measured on different data"),
        ("test", {"split": "test"}, "the new model has no recorded scores of split `val`"),
    ):
        run = bundle(tmp_path / name, 0.9, **changes)
        with pytest.raises(DataError, match=why) as caught:
            promote(str(run), dest, Contest())
        assert "`--data DIR`" in caught.value.hint
        assert read_config(dest).metrics["val"]["miou"] == 0.5
    run = bundle(tmp_path / "both", 0.9)
    with pytest.raises(DataError, match="have no recorded scores of split `test`"):
        promote(str(run), dest, Contest(split="test"))


@pytest.mark.parametrize("better", [True, False])
def test_both_are_measured_on_given_data(tmp_path, dataset, better):
    """What the models say of themselves does not count: it is of other data."""
    good, bad = bundle(tmp_path / "good", 0.1, bias=1.0), bundle(tmp_path / "bad", 0.9, bias=-1.0)
    run, dest = (good, bad) if better else (bad, good)
    done = promote(str(run), dest, Contest(), data=dataset, device=CPU)
    assert (done.measured, done.split, done.better, done.promoted) == ("now", "test", better, better)
    expected = evaluate(choose_model(None, str(run)).open(CPU), dataset, "test").scores.miou
    assert done.score == pytest.approx(expected)
    assert done.score != done.baseline_score


def test_recorded_scores_of_the_given_data_need_no_measuring(tmp_path, dataset):
    run, dest = (
        bundle(tmp_path / name, score, digest=dataset.digest, split="test") for name, score in (("a", 0.9), ("b", 0.8))
    )
    assert promote(str(run), dest, Contest(), data=dataset, device=CPU).measured == "recorded"


def test_photos_that_cannot_be_read_leave_nothing_to_compare_by(tmp_path, dataset):
    dataset.image_path(dataset.split("test")[1]).write_bytes(b"no picture")
    run, dest = bundle(tmp_path / "run", 0.9), bundle(tmp_path / "served", 0.5)
    with pytest.raises(DataError, match="1 images of split `test` could not be scored, `s1`"):
        promote(str(run), dest, Contest(), data=dataset, device=CPU)


def test_another_baseline_than_what_is_served(tmp_path):
    run, dest = bundle(tmp_path / "run", 0.7), bundle(tmp_path / "served", 0.9)
    assert promote(str(run), dest, Contest(), baseline=bundle(tmp_path / "weak", 0.6), dry_run=True).better
    assert not promote(str(run), dest, Contest(), baseline=bundle(tmp_path / "strong", 0.8)).better
    with pytest.raises(DataError, match="there is no baseline"):
        promote(str(run), dest, Contest(), baseline=tmp_path / "nowhere")
    (tmp_path / "hollow").mkdir()
    with pytest.raises(DataError):
        promote(str(run), dest, Contest(), baseline=tmp_path / "hollow")
    assert read_config(dest).metrics["val"]["miou"] == 0.9


def test_every_metric_is_found_in_recorded_scores_as_in_fresh_ones():
    rng = np.random.default_rng(0)
    for task in (*TASKS.values(), TASK):
        matrix = rng.integers(0, 1000, (task.num_classes, task.num_classes))
        matrix[-1], matrix[:, -1] = 0, 0  # an absent class has no score
        scores = summarize(matrix, task)
        table = json.loads(json.dumps(scores.to_dict()))
        for name in metric_names(task):
            assert _look_up(table, name) == value(scores, name), name
        assert np.isnan(_look_up(table, "iou.nobody"))


def test_a_rehearsal_changes_nothing(tmp_path):
    run, dest = bundle(tmp_path / "run", 0.9), bundle(tmp_path / "served", 0.5)
    before = contents(dest)
    done = promote(str(run), dest, Contest(), keep=True, dry_run=True)
    assert (done.better, done.promoted, done.previous) == (True, False, None)
    assert contents(dest) == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".served.lock", "run", "served"]


@pytest.mark.parametrize("linked", [False, True])
def test_the_model_before_is_kept(tmp_path, linked):
    dest = bundle(tmp_path / ("first" if linked else "served"), 0.1)
    if linked:
        dest = tmp_path / "served"
        dest.symlink_to("first")
    for score in (0.2, 0.3, 0.4):
        before = contents(dest)
        done = promote(str(bundle(tmp_path / f"run{score}", score)), dest, Contest(), keep=True)
        assert done.previous == str(tmp_path / "served.previous")
        assert read_config(dest).metrics["val"]["miou"] == score
        assert contents(tmp_path / "served.previous") == before
        assert dest.is_symlink() is linked
        assert not leftovers(tmp_path)
    folders = [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("served.")]
    assert len(folders) == (3 if linked else 1), folders  # with links: the new one, the one before, and the link to it


def test_a_folder_in_the_way_of_a_link_is_left_alone(tmp_path):
    bundle(tmp_path / "first", 0.1)
    dest = tmp_path / "served"
    dest.symlink_to("first")
    before = contents(bundle(tmp_path / "served.previous", 0.0))
    with pytest.raises(DataError, match=r"served\.previous` is a folder"):
        promote(str(bundle(tmp_path / "run", 0.2)), dest, Contest(), keep=True)
    assert contents(tmp_path / "served.previous") == before
    assert dest.readlink() == Path("first")
    assert sorted(path.name for path in tmp_path.glob("*served*")) == [".served.lock", "served", "served.previous"]


def test_without_keep_folders_of_ours_are_cleared_and_others_left(tmp_path):
    first = bundle(tmp_path / "first", 0.1)
    dest = tmp_path / "served"
    dest.symlink_to("first")
    for score in (0.2, 0.3):
        promote(str(bundle(tmp_path / f"run{score}", score)), dest, Contest())
    assert first.is_dir()  # not made by us
    assert len([entry for entry in tmp_path.iterdir() if entry.name.startswith("served.")]) == 1


def test_a_graph_comes_along_only_if_it_belongs_to_the_weights(tmp_path):
    from seglab.models.export import export_onnx

    run = bundle(tmp_path / "run", 0.9)
    export_onnx(run)
    promote(str(run), tmp_path / "with", Contest())
    assert sorted(contents(tmp_path / "with")) == ["config.json", "model.onnx", "model.safetensors"]
    graph = (run / "model.onnx").read_bytes()
    bundle(run, 0.95)  # the run went on
    (run / "model.onnx").write_bytes(graph)
    promote(str(run), tmp_path / "without", Contest())
    assert sorted(contents(tmp_path / "without")) == ["config.json", "model.safetensors"]


def test_only_models_are_replaced(tmp_path):
    run, dest = bundle(tmp_path / "run", 0.9), bundle(tmp_path / "served", 0.5)
    (dest / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match=r"more than a model, `thesis\.txt`"):
        promote(str(run), dest, Contest())
    (dest / "thesis.txt").unlink()
    kept = tmp_path / "served.previous"
    kept.mkdir()
    (kept / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match=r"served\.previous` holds more"):
        promote(str(run), dest, Contest(), keep=True)
    with pytest.raises(UsageError, match="is in"):
        promote(str(dest), dest, Contest())
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        promote(str(run), tmp_path / "file", Contest())
    with pytest.raises(DataError, match="no model"):
        promote(str(tmp_path / "nobody"), dest, Contest())
    assert (kept / "thesis.txt").read_text() == (tmp_path / "file").read_text() == "mine"


def test_other_classes_and_unknown_metrics_are_refused(tmp_path):
    other = dataclasses.replace(TASK, classes=("none", "person"), regions={}, levels={}, foreground=("person",))
    run, dest = bundle(tmp_path / "run", 0.9), bundle(tmp_path / "served", 0.5, task=other)
    with pytest.raises(DataError, match="differ in their classes"):
        promote(str(run), dest, Contest())
    with pytest.raises(UsageError, match=r"no metric of task `blob` is called `iou\.nose`"):
        promote(str(run), dest, Contest(metric="iou.nose"))


def test_a_second_promotion_is_kept_out(tmp_path):
    run, dest = bundle(tmp_path / "run", 0.9), bundle(tmp_path / "served", 0.5)
    with lock(tmp_path / ".served.lock", "x"), pytest.raises(BusyError, match=f"in use by pid {os.getpid()}"):
        promote(str(run), dest, Contest())


def test_a_file_system_that_cannot_swap_is_told_the_way_that_works(tmp_path, monkeypatch):
    run, dest = bundle(tmp_path / "run", 0.9), bundle(tmp_path / "served", 0.5)
    before = contents(dest)

    class Old:
        @staticmethod
        def renameat2(*_arguments):
            swap.ctypes.set_errno(22)
            return -1

    with monkeypatch.context() as patch:
        patch.setattr(swap.ctypes, "CDLL", lambda *_, **__: Old)
        with pytest.raises(DataError, match="cannot be replaced in one step") as caught:
            promote(str(run), dest, Contest())
    assert contents(dest) == before
    assert not leftovers(tmp_path)
    command = caught.value.hint.partition("`")[2].rpartition("`")[0]
    subprocess.run(command, shell=True, check=True)
    assert promote(str(run), dest, Contest()).promoted


CHILD = """
import sys
from pathlib import Path
from seglab.promote import Contest, promote
folder = Path(sys.argv[1])
while True:
    for name in ("a", "b"):
        promote(str(folder / name), folder / "served", Contest(), baseline=folder / "weak", keep=True)
        print(name, flush=True)
"""


@pytest.mark.parametrize("linked", [False, True])
def test_readers_and_kills_see_whole_models_only(tmp_path, linked):
    """One process promotes all the time and is killed again and again, while this one reads all the time."""
    for name, score in (("weak", 0.1), ("a", 0.6), ("b", 0.7)):
        bundle(tmp_path / name, score)
    known = {hashlib.sha256((tmp_path / name / "model.safetensors").read_bytes()).hexdigest(): name for name in "ab"}
    dest = tmp_path / "served"
    shutil.copytree(tmp_path / "a", dest)
    if linked:
        dest.rename(tmp_path / "first")
        dest.symlink_to("first")
    seen, problems, stop = set(), [], threading.Event()

    def read():
        while not stop.is_set():
            try:
                seen.add(known[hashlib.sha256((dest / "model.safetensors").read_bytes()).hexdigest()])
            except (OSError, KeyError) as error:
                problems.append(repr(error))

    reader = threading.Thread(target=read)
    reader.start()
    rng = random.Random(0)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    try:
        for _ in range(8):
            child = subprocess.Popen(
                [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
            )
            assert child.stdout.readline()
            time.sleep(rng.uniform(0, 0.1))
            child.send_signal(signal.SIGKILL)
            child.communicate()
            assert read_config(dest).metrics["val"]["miou"] in (0.6, 0.7)
            assert read_config(tmp_path / "served.previous").metrics["val"]["miou"] in (0.6, 0.7)
    finally:
        stop.set()
        reader.join()
    assert not problems, problems[:3]
    assert seen == {"a", "b"}
    promote(str(tmp_path / "a"), dest, Contest(), baseline=tmp_path / "weak", keep=True)
    assert not leftovers(tmp_path)


def run_command(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["promote", *map(str, arguments)])
    return end.value.code


def test_the_command_tells_and_its_exit_code_is_the_verdict(tmp_path, capsys):
    run, dest = bundle(tmp_path / "run", 0.61), bundle(tmp_path / "served", 0.6)
    assert run_command(run, dest, "--min-gain", "0.05", "--json") == 1
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["better"], told["promoted"], told["baseline"]) == (False, False, str(dest))
    assert told["gain"] == pytest.approx(0.01)
    assert "0.6100 against 0.6000" in err
    assert "not better: " in err
    assert "the gain must be at least 0.05" in err
    assert run_command(run, dest, "--dry-run") == 0
    assert "would be promoted" in capsys.readouterr().err
    assert run_command(run, dest, "--baseline", dest, "--min-gain", "0.005", "--keep", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["promoted"]
    assert "is now the model of" in err
    assert f"the model before is kept: {dest}.previous" in err
    assert run_command(run, dest) == 1  # a model is not better than itself
    assert "the gain must be above 0" in capsys.readouterr().err
    assert run_command(run, tmp_path / "new") == 0
    assert "nothing is served" in capsys.readouterr().err


def test_the_command_needs_no_torch_where_scores_are_recorded(tmp_path):
    run, dest = bundle(tmp_path / "run", 0.7), bundle(tmp_path / "served", 0.6)
    code = (
        "import sys; from seglab.cli import run; "
        f"run(['promote', {str(run)!r}, {str(dest)!r}]); sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert read_config(dest).metrics["val"]["miou"] == 0.7


def in_place_of(path, kind):
    """Put something that cannot be read where weights or a graph were."""
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "broken link":
        path.symlink_to("nowhere")
    else:
        path.write_bytes(b"")


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx"])
@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("folder", "a folder"),
        ("pipe", "is no regular file"),
        ("broken link", "a broken link"),
        ("cut", "is not a usable model: empty file"),
    ],
)
def test_what_cannot_be_read_is_named_and_nothing_is_replaced(tmp_path, name, kind, why):
    served, run = bundle(tmp_path / "served", 0.5), bundle(tmp_path / "run", 0.9)
    shutil.copyfile(run / "model.safetensors", run / "model.onnx")  # never looked at before the other one
    before = contents(served)
    if name == "model.onnx" and kind == "cut":
        (run / "model.safetensors").unlink()
    in_place_of(run / name, kind)
    with pytest.raises(DataError) as caught:
        promote(str(run), served, Contest())
    assert caught.value.message == (
        f"`{run / name}` {why}" if why.startswith("is ") else f"cannot read `{run / name}`: it is {why}"
    )
    assert caught.value.hint
    assert contents(served) == before
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("call", ["open", "read"])
def test_weights_that_may_not_or_cannot_be_read_are_named(tmp_path, monkeypatch, call):
    """As for another user, or on a disk that fails."""
    served, run = bundle(tmp_path / "served", 0.5), bundle(tmp_path / "run", 0.9)
    opened, copied = Path.open, shutil.copyfileobj

    def refuse(path, *arguments, **options):
        if path == run / "model.safetensors":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    def fail(source, target, *_):
        target.write(source.read(100))
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(*((Path, "open", refuse) if call == "open" else (shutil, "copyfileobj", fail)))
    with pytest.raises(DataError) as caught:
        promote(str(run), served, Contest())
    reason = "Permission denied" if call == "open" else "Input/output error"
    assert caught.value.message == f"cannot read `{run / 'model.safetensors'}`: {reason}"
    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(shutil, "copyfileobj", copied)
    assert leftovers(tmp_path) == []
    assert promote(str(run), served, Contest()).promoted


def test_a_disk_that_is_full_is_named_by_what_cannot_be_written(tmp_path, monkeypatch):
    served, run = bundle(tmp_path / "served", 0.5), bundle(tmp_path / "run", 0.9)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(DataError, match=f"^cannot write `{served}`: No space left on device$"):
        promote(str(run), served, Contest())
