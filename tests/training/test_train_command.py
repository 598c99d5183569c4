"""``seglab train`` as a user types it: streams, exit codes, signals, resuming."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from seglab.cli.train import _seconds
from seglab.config import TrainConfig
from seglab.data.manifest import open_dataset
from seglab.errors import UsageError
from seglab.strengths import PRESETS
from seglab.tasks import load_task
from seglab.training.loop import train
from seglab.training.recipe import configure, load_recipe, recipe_names
from seglab.training.rundir import RunDir
from seglab.training.settings import RunSettings, read_settings

TINY = ("--size", "32", "--batch-size", "4", "--set", "model_args.width=4", "--no-graph")


def command(*arguments):
    return [sys.executable, "-m", "seglab", "train", *map(str, arguments)]


def in_its_own_process(*arguments):
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False)


def start(*arguments):
    return subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path, process, seconds=60):
    """Wait until a running process has written a file."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def shapes(make_dataset, tmp_path):
    """A dataset, and its task as a TOML file."""
    dataset = make_dataset()
    task_path = tmp_path / "shapes.toml"
    task_path.write_text(
        'name = "shapes"\nclasses = ["none", "left", "right"]\nmirror = [["left", "right"]]\n'
        '[regions]\nany = ["left", "right"]\n'
    )
    return ["--task", task_path, "--data", dataset.dir]


def test_it_trains_says_what_is_next_and_prints_json(shapes, tmp_path, seglab_train):
    run_dir = tmp_path / "a [b]"
    done = in_its_own_process(*shapes, "--out", run_dir, "--epochs", 2, "--json", *TINY)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["epochs"] == 2
    assert result["stopped"] == "epochs"
    assert result["config"]["model_args"] == {"width": 4}
    assert 0 <= result["best_score"] <= 1
    assert result["val"]["classes"]["left"]["iou"] is not None
    assert f"seglab evaluate --model '{run_dir}'" in done.stderr
    assert "cpu" in done.stderr.splitlines()[0]
    assert done.stderr.splitlines()[-1].strip().startswith("seglab cutout --model")  # and no words of others behind it
    assert re.search(r"'.*': 2 epochs in \d+ (s|min); epoch [12] is kept", done.stderr)
    assert (run_dir / "model.safetensors").exists()
    again = seglab_train(*shapes, "--out", run_dir, "--epochs", 2, *TINY)
    assert again.returncode == 2
    assert f"error: `{run_dir}` holds a run already" in again.stderr
    assert f"`seglab train --resume '{run_dir}'` continues it" in again.stderr
    finished = seglab_train("--resume", run_dir, "--json")
    assert finished.returncode == 0, finished.stderr
    assert "finished already" in finished.stderr
    assert json.loads(finished.stdout)["already_finished"]


def test_recipes_are_listed_with_what_they_are():
    done = in_its_own_process("--recipes")
    assert done.returncode == 0
    assert done.stderr == ""
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == recipe_names()
    assert re.search(r"^clothes-u2net +Clothes, U²-Net at 768 px: ", done.stdout, re.MULTILINE)


def test_flags_win_over_the_default_recipe_and_all_is_in_the_run(shapes, tmp_path, seglab_train):
    run_dir = tmp_path / "run"
    flags = ("--steps", 2, "--optimizer", "sgd", "--schedule", "poly", "--augment", "light")
    losses = ("--class-weights", "1,2,0.5", "--set", "losses.lovasz=0.5", "--set", "losses.dice=0")
    done = seglab_train(*shapes, "--out", run_dir, *flags, *losses, *TINY)
    assert done.returncode == 0, done.stderr
    config = read_settings(run_dir).config
    expected = configure(TrainConfig(), recipe=load_recipe("small"))
    changed = {
        "steps": 2, "optimizer": "sgd", "schedule": "poly", "class_weights": (1.0, 2.0, 0.5), "size": 32,
        "batch_size": 4, "augment": PRESETS["light"], "losses": {"cross_entropy": 1.0, "dice": 0, "lovasz": 0.5},
        "model_args": {"width": 4},
    }  # fmt: skip
    assert config == dataclasses.replace(expected, **changed)
    record = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    assert set(record["train"]) == {"loss", "cross_entropy", "lovasz", "grad_norm"}


def test_a_model_of_ones_own_starts_a_run(shapes, tmp_path, seglab_train):
    assert seglab_train(*shapes, "--out", tmp_path / "a", "--steps", 1, *TINY).returncode == 0
    done = seglab_train(*shapes, "--out", tmp_path / "b", "--steps", 1, "--init", tmp_path / "a", *TINY)
    assert done.returncode == 0, done.stderr
    assert re.search(r"(\d+) of \1 tensors start as in", done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
def test_a_signal_ends_in_good_order_and_the_hint_continues(shapes, tmp_path, number, code, seglab_train):
    run_dir = tmp_path / "run"
    process = start(*shapes, "--out", run_dir, "--epochs", 100000, "--set", "val_every=100000", *TINY)
    wait_for(run_dir / "last.pt", process)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert stdout == ""
    assert "error: interrupted in epoch" in stderr
    assert f"hint: `seglab train --resume {run_dir}` continues" in stderr
    assert "Traceback" not in stderr
    state = RunDir(run_dir).load_state()
    assert state["course"]["epoch"] > 0
    if number == signal.SIGTERM:
        return
    resumed = seglab_train("--resume", run_dir, "--time-limit", "1s", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert "continuing in epoch" in resumed.stderr
    assert json.loads(resumed.stdout)["epochs"] >= state["course"]["epoch"]


def test_a_run_of_another_task_is_told_as_such(dataset, make_dataset, tmp_path, seglab_train):
    """Its metric may be one that the other task has not."""
    run_dir = tmp_path / "a run"
    config = dataclasses.replace(TrainConfig(), metric="iou.left")
    run_dir.mkdir()
    settings = RunSettings(config, dataset.task.to_dict(), dataset.dir, dataset.digest)
    (run_dir / "train.json").write_text(json.dumps(settings.to_dict()))
    (tmp_path / "poles.toml").write_text('name = "poles"\nclasses = ["none", "north", "south"]\n')
    other = make_dataset("other", task=load_task(str(tmp_path / "poles.toml")))
    refused = seglab_train("--task", tmp_path / "poles.toml", "--data", other.dir, "--out", run_dir, "--resume")
    assert refused.returncode == 2, refused.stderr
    told = " ".join(refused.stderr.split())
    assert "was started otherwise: the task was `shapes` and is now `poles`" in told
    assert f"`seglab train --resume '{run_dir}'` continues it as it was" in told


@pytest.mark.slow
def test_a_killed_run_resumes_and_ends_bit_equal(shapes, cpu, tmp_path, seglab_train):
    """Killed in the first epochs; the same command line finishes it, as a crontab would."""
    killed_dir, whole_dir = tmp_path / "killed", tmp_path / "whole"
    again = (*shapes, "--out", killed_dir, "--epochs", 40, "--set", "val_every=40", *TINY, "--resume")
    process = start(*again)
    wait_for(killed_dir / "last.pt", process)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not (killed_dir / "model.safetensors").exists()
    done = seglab_train(*again)
    assert done.returncode == 0, done.stderr
    assert "continuing in epoch" in done.stderr
    train(read_settings(killed_dir).config, open_dataset(shapes[3]), whole_dir, cpu, graph=False)
    killed, whole = (RunDir(run_dir).load_state()["learner"] for run_dir in (killed_dir, whole_dir))
    for part in ("network", "average"):
        assert all(torch.equal(value, whole[part][name]) for name, value in killed[part].items())


@pytest.mark.slow
def test_a_second_start_is_busy(shapes, tmp_path, seglab_train):
    run_dir = tmp_path / "run"
    process = start(*shapes, "--out", run_dir, "--epochs", 100000, "--set", "val_every=100000", *TINY)
    try:
        wait_for(run_dir / "last.pt", process)
        second = seglab_train("--resume", run_dir)
    finally:
        process.kill()
        process.communicate(timeout=60)
    assert second.returncode == 5
    assert f"is in use by pid {process.pid}" in second.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "name the task and the data"),
        (["--task", "person"], 2, "name the task and the data"),
        (["--task", "person", "--data", "nowhere"], 3, "no dataset `nowhere`"),
        (["--resume"], 2, "does not know the run"),
        (["--resume", "nowhere"], 3, "no run to resume in `nowhere`"),
        (["nowhere"], 2, "`--resume nowhere` continues it"),
        (["--recipe", "smoky"], 2, "did you mean `smoke`"),
        (["--set", "emma=1"], 2, "did you mean `ema`"),
        (["--epochs", "0"], 2, "`epochs` is `0`"),
        (["--model", "unet", "--class-weights", "1,x"], 2, "`class_weights` is `1,x`"),
        (["--augment", "wild"], 2, "known: `none`, `light`"),
        (["--batch-size", "-4"], 2, "`batch_size` is `-4`, but must be within 1"),
        (["--batch-size", "Auto"], 2, "`--batch-size` is a whole number or `auto`, got `Auto`"),
        (["--resume", "a [b] c"], 3, "--data DIR --out 'a [b] c'`"),
        (["--optimizer", "lion"], 2, "known: adamw, adam, sgd"),
        (["--set", "losses.dyce=1"], 2, "no loss is called `dyce`"),
        (["--time-limit", "soon"], 2, "`soon` is no length of time"),
    ],
)
def test_a_wrong_command_line_says_what_to_do(arguments, code, words, tmp_path, monkeypatch, seglab_train):
    monkeypatch.chdir(tmp_path)
    done = seglab_train(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_is_not_the_datas_names_both(shapes, tmp_path, seglab_train):
    done = seglab_train("--task", "body", *shapes[2:], "--out", tmp_path / "run")
    assert done.returncode == 3
    assert "`body`" in done.stderr
    assert "`shapes`" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "seconds"), [("900", 900), ("15m", 900), ("1h30m", 5400), ("1.5h", 5400), ("90s", 90), ("2H", 7200)]
)
def test_lengths_of_time(text, seconds):
    assert _seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-3", "0", "0s", "3 m", "nan", "inf", "1d", "m3"])
def test_wrong_lengths_of_time(text):
    with pytest.raises(UsageError, match="no length of time"):
        _seconds(text)


def test_a_wrong_model_does_not_spoil_the_run_directory(shapes, tmp_path, seglab_train):
    run_dir = tmp_path / "run"
    refused = seglab_train(*shapes, "--out", run_dir, "--epochs", 1, "--model", "nope", *TINY)
    assert refused.returncode == 2
    assert "`nope`" in refused.stderr
    done = seglab_train(*shapes, "--out", run_dir, "--epochs", 1, "--model", "unet-light", *TINY)
    assert done.returncode == 0, done.stderr
