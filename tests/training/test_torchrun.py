"""Whole runs of `seglab train` under torchrun: what they come to, and that kills, signals and locks are survived."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from seglab.cli import main
from seglab.data.manifest import open_dataset
from seglab.data.writer import DatasetWriter
from seglab.device import Device
from seglab.evaluation.evaluate import evaluate
from seglab.files import lock
from seglab.inference.model import choose_model
from seglab.models.bundle import load_weights
from seglab.training.rundir import RunDir
from seglab.training.settings import read_settings
from tests.training.conftest import SHAPES, _scene
from tests.training.test_distributed import HERE, TIMEOUT_S
from tests.training.test_loop import assert_same

EPOCHS = 40
RECIPE = f"""
model = "unet"
model_args = {{form = "plain", width = 4}}
size = 32
epochs = {EPOCHS}
batch_size = 3
lr = 3e-3
ema = 0.9
val_every = 10
"""
COMMAND = [sys.executable, "-m", "torch.distributed.run", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset of 13 pictures to train and 3 to validate, which two processes cannot share evenly, and a recipe."""
    folder = tmp_path_factory.mktemp("torchrun")
    rng = np.random.default_rng(0)
    with DatasetWriter(folder / "data", SHAPES, "test", {}) as writer:
        for number in range(16):
            writer.add(f"s{number:02d}", "train" if number < 13 else "val", *_scene(rng), lossless=True)
        writer.finish()
    (folder / "recipe.toml").write_text(RECIPE)
    task = json.loads((folder / "data" / "dataset.json").read_text())["task"]
    (folder / "task.toml").write_text(
        f'name = "{task["name"]}"\nclasses = {task["classes"]}\nmirror = {task["mirror"]}\n'
        f"[regions]\nany = {task['regions']['any']}\n"
    )
    return folder


def arguments(run, *more):
    asked = ["train", "--task", "task.toml", "--data", "data", "--recipe", "recipe.toml"]
    return [*asked, "--out", run, "--no-graph", "--device", "cpu", *more]


def start(folder, run, *more, options=()):
    """Start torchrun with two processes."""
    command = [*COMMAND, "--nproc-per-node", "2", *options, "-m", "seglab", *arguments(run, *more)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1]), "COLUMNS": "500"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def alone(folder, monkeypatch, capsys):
    """Run the command line without torchrun, in this process; return what it writes to stdout."""

    def run(*arguments):
        monkeypatch.chdir(folder)
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([*arguments])
        out, err = capsys.readouterr()
        assert not end.value.code, err
        return out

    return run


def finished(process):
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, err


def when_saved(run_dir, then):
    """Wait until a run has saved its state and goes on, then do something to its first process, by its id."""

    def wait():
        end_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end_s:
            with contextlib.suppress(OSError):
                found = re.match(r"pid (\d+)", (run_dir / ".lock").read_text())
                if found and (run_dir / "last.pt").exists():
                    then(int(found[1]))
                    return
            time.sleep(0.01)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def state_of(run_dir):
    state = RunDir(run_dir).load_state()
    assert state["course"]["stopped"] == "epochs"
    assert state["course"]["epoch"] == EPOCHS
    return state


def assert_same_end(run_dir, other_dir):
    """Compare the last weights, their average, the optimizer and the best weights bit for bit."""
    assert_same(state_of(run_dir)["learner"], state_of(other_dir)["learner"])
    assert_same(load_weights(run_dir), load_weights(other_dir))


@pytest.fixture(scope="module")
def whole(folder):
    """An undisturbed run of two processes."""
    code, out, err = finished(start(folder, "whole", "--json"))
    assert code == 0, err
    return folder / "whole", out, err


def test_two_processes_speak_and_write_as_one(whole):
    run_dir, out, err = whole
    result = json.loads(out)  # one document, of one process
    assert (result["epochs"], result["stopped"]) == (EPOCHS, "epochs")
    for line in ("train shapes", "2 processes, 3 samples each a step, 6 in all", "next: seglab evaluate"):
        assert err.count(line) == 1, err
    assert err.count("epoch 10: loss") == 1
    assert len(list(run_dir.glob("events.out.tfevents*"))) == 1
    assert len((run_dir / "metrics.jsonl").read_text().splitlines()) == EPOCHS


def test_the_shared_validation_gives_the_scores_of_one_process(whole, folder):
    run_dir, _, _ = whole
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    best = max((record for record in records if "val" in record), key=lambda record: record["val"]["miou"])
    predictor = choose_model(None, str(run_dir)).open(Device("cpu", None, "for tests"))
    alone = evaluate(predictor, open_dataset(folder / "data"), "val")
    engine_dependent = pytest.approx(alone.scores.miou, abs=1e-4)  # a pixel or two on a border
    assert best["val"]["miou"] == engine_dependent
    assert alone.num_images == 3


def test_two_processes_end_like_one_with_twice_the_batch(whole, folder, alone):
    """Within what 120 steps of Adam make of rounding: the network has no normalisation."""
    run_dir, _, _ = whole
    alone(*arguments("single", "--batch-size", "6"))
    single, double = state_of(folder / "single"), state_of(run_dir)
    assert single["learner"]["num_images"] == double["learner"]["num_images"]
    for name, value in single["learner"]["average"].items():
        np.testing.assert_allclose(double["learner"]["average"][name], value, rtol=0, atol=2e-3, err_msg=name)
    losses = [
        [json.loads(line)["train"]["loss"] for line in (folder / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("single", "whole")
    ]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)


def test_a_killed_process_is_started_again_and_the_run_ends_the_same(whole, folder):
    """Nobody says `--resume`: torchrun starts its own run's processes again."""
    run_dir = folder / "killed"
    process = start(folder, "killed", options=("--max-restarts", "1"))
    thread = when_saved(run_dir, lambda pid: os.kill(pid, signal.SIGKILL))
    code, _, err = finished(process)
    thread.join()
    assert code == 0, err
    assert len(list(run_dir.glob("events.out.tfevents*"))) == 2, "it was not started again"
    assert "continuing in epoch" in err
    assert_same_end(run_dir, whole[0])


@pytest.mark.parametrize("whom", ["torchrun", "one process"])
def test_a_signal_to_any_process_ends_all_and_the_run_goes_on(whole, folder, whom):
    run = f"terminated-{whom.replace(' ', '-')}"
    process = start(folder, run)
    target = (lambda _pid: process.terminate()) if whom == "torchrun" else (lambda pid: os.kill(pid, signal.SIGTERM))
    thread = when_saved(folder / run, target)
    code, _, err = finished(process)
    thread.join()
    assert code != 0
    assert err.count("error: interrupted in epoch") == 1, err
    assert err.count(f"`seglab train --resume {run}` continues") == 1
    state = RunDir(folder / run).load_state()
    assert not state["course"]["stopped"]
    code, _, err = finished(start(folder, run, "--resume"))
    assert code == 0, err
    assert "continuing in epoch" in err
    assert_same_end(folder / run, whole[0])


def test_a_second_torchrun_is_told_who_has_the_run(folder):
    (folder / "busy").mkdir()
    with lock(folder / "busy" / ".lock", "run"):
        code, _, err = finished(start(folder, "busy"))
    assert code == 1  # torchrun's own, whatever its processes say
    assert re.search(r"exitcode\s*: 5 ", err), err
    assert err.count(f"is in use by pid {os.getpid()}") == 1


def test_a_restart_does_not_continue_a_run_of_others(whole, folder):
    """torchrun starts again what was refused; the second time it must be refused as well."""
    run_dir, _, _ = whole
    before = (run_dir / "last.pt").read_bytes()
    code, _, err = finished(start(folder, "whole", options=("--max-restarts", "1")))
    assert code == 1
    assert re.search(r"exitcode\s*: 2 ", err), err
    assert err.count("holds a run already") == 2  # by the first process, twice
    assert (run_dir / "last.pt").read_bytes() == before
    assert read_settings(run_dir).launch


def test_an_evaluation_by_two_processes_is_that_of_one(whole, folder, alone):
    """One document, with the counts of all images; a bar that is missed is told once, and fails torchrun."""
    asked = ["evaluate", "--model", "whole", "--data", "data", "--split", "train", "--json", "--boundary"]
    command = [*COMMAND, "--nproc-per-node", "2", "-m", "seglab", *asked, "--fail-under", "miou=1", "--out", "scores"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    shared, single = json.loads(done.stdout), json.loads(alone(*asked))
    gates = shared.pop("gates")
    assert not single.pop("gates")
    assert shared == single
    assert len(shared["images"]["id"]) == 13
    assert json.loads((folder / "scores" / "evaluation.json").read_text())["images"] == single["images"]
    assert [gate["passed"] for gate in gates] == [False]
    assert done.returncode == 1
    assert re.search(r"exitcode\s*: 1 ", done.stderr)
    assert done.stderr.count("missed:") == 1
