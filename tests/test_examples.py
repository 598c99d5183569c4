"""Every example runs as it is written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seglab.files import lock

EXAMPLES_DIR = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.relative_to(EXAMPLES_DIR).as_posix() for path in EXAMPLES_DIR.rglob("*.s[hb]*"))
RESULTS = {
    "ci_smoke.sh": ("smoke/scores.json", "smoke/photos.jsonl"),
    "own_task/run.sh": ("outfit/run/config.json",),
    "torchrun.sh": ("several/run/model.onnx", "several/scores.json"),
}
"""What each example that needs no arguments leaves behind."""
OTHERS = ("cron_retrain.sh", "slurm.sbatch")
"""Those that have a test of their own; an example that is in neither fails the test below."""


def test_every_example_is_run() -> None:
    assert sorted((*RESULTS, *OTHERS)) == SCRIPTS


@pytest.fixture
def call(tmp_path):
    """Run an example in an empty folder; programs that it calls are those of this interpreter."""
    programs = {
        "seglab": f'exec "{sys.executable}" -m seglab "$@"',
        "torchrun": f'exec "{sys.executable}" -m torch.distributed.run "$@"',
    }

    def run(name, *arguments, **more):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for program, line in {**programs, **more}.items():
            (folder / program).write_text(f"#!/bin/sh\n{line}\n")
            (folder / program).chmod(0o755)
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(EXAMPLES_DIR.parent), **SLURM}
        command = [EXAMPLES_DIR / name, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


SLURM = {
    "SLURM_JOB_NODELIST": "localhost", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_ID": "1234567", "SLURM_GPUS_ON_NODE": "2",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RESULTS))
def test_example(name: str, call, tmp_path: Path) -> None:
    done = call(name)
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / result).stat().st_size for result in RESULTS[name])


@pytest.fixture
def people(tmp_path):
    """A few synthetic people."""
    command = [sys.executable, "-m", "seglab", "synth", "people", "--task", "person", "-n", "24", "--size", "64"]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES_DIR.parent)}
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    return tmp_path / "people"


TINY = ("--recipe", "smoke", "--epochs", "2", "--no-graph")


@pytest.mark.slow
def test_retraining_serves_the_first_model_and_then_only_better_ones(call, people, tmp_path):
    night = ("person", "people", "served/person", "1h", "0.01", *TINY)
    first = call("cron_retrain.sh", *night)
    assert first.returncode == 0, first.stderr
    served = (tmp_path / "served" / "person" / "model.safetensors").read_bytes()
    again = call("cron_retrain.sh", *night)  # the run of this day is finished
    assert again.returncode == 1, again.stderr
    assert "the run is finished already" in again.stderr
    assert "not better" in again.stderr
    assert (tmp_path / "served" / "person" / "model.safetensors").read_bytes() == served
    (promotion,) = (tmp_path / "runs").glob("*.promotion.json")
    assert json.loads(promotion.read_text())["gain"] == 0.0
    (run,) = [path for path in (tmp_path / "runs").iterdir() if path.is_dir()]
    with lock(run / ".lock", "run"):
        busy = call("cron_retrain.sh", *night)
    assert busy.returncode == 5, busy.stderr
    assert f"is in use by pid {os.getpid()}" in busy.stderr
    barred = call("cron_retrain.sh", *night[:4], "0.999", *TINY)
    assert barred.returncode == 1
    assert "--fail-under asks for 0.999" in barred.stderr


@pytest.mark.slow
def test_the_slurm_job_starts_torchrun_on_the_nodes(call, people, tmp_path):
    """With stand-ins for the two programs of Slurm."""
    slurm = {"srun": 'exec "$@"', "scontrol": 'test "$1 $2" = "show hostnames" && echo "$3"'}
    done = call("slurm.sbatch", "person", "people", "run", *TINY, "--device", "cpu", **slurm)
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stderr
    assert json.loads((tmp_path / "run" / "train.json").read_text())["launch"] == SLURM["SLURM_JOB_ID"]
    again = call("slurm.sbatch", "person", "people", "run", *TINY, "--device", "cpu", **slurm)
    assert again.returncode == 0, again.stderr
    assert "finished already" in again.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_sound(name):
    path = EXAMPLES_DIR / name
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)
    assert "set -euo pipefail" in path.read_text()
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", path], check=True)
