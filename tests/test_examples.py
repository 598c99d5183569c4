"""Every example runs as it is written."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.cli import run
from seglab.files import lock
from seglab.tasks import TASKS
from tests.inference.test_real_model import write_graph

EXAMPLES_DIR = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.relative_to(EXAMPLES_DIR).as_posix() for path in EXAMPLES_DIR.rglob("*.s[hb]*"))
PROGRAMS = sorted(path.name for path in EXAMPLES_DIR.glob("*.py"))
RESULTS = {
    "ci_smoke.sh": ("smoke/scores.json", "smoke/photos.jsonl"),
    "own_task/run.sh": ("outfit/data.png", "outfit/run/config.json", "outfit/overlays/legend.json"),
    "torchrun.sh": ("several/run/model.onnx", "several/scores.json"),
}
"""What each example that needs no arguments leaves behind."""
OTHERS = ("cron_retrain.sh", "make_weights.sh", "pipeline.sh", "slurm.sbatch")
"""Those that have a test of their own; an example that is in neither fails the test below."""
ELSEWHERE = {"python_api.py": "tests/inference/test_python_api.py"}
"""Programs that are run in another room."""


def test_every_example_is_run() -> None:
    assert sorted((*RESULTS, *OTHERS)) == SCRIPTS
    assert sorted((*ELSEWHERE, "transposed_convolution.py")) == PROGRAMS
    assert all(name in (EXAMPLES_DIR.parent / path).read_text() for name, path in ELSEWHERE.items())


@pytest.fixture
def call(tmp_path):
    """Run an example in an empty folder; programs that it calls are those of this interpreter."""
    programs = {
        "seglab": f'exec "{sys.executable}" -m seglab "$@"',
        "python3": f'exec "{sys.executable}" "$@"',
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


@pytest.fixture
def photos(tmp_path):
    """A model that sees colours, and photos with somebody in them, with nobody, and that are none."""
    write_graph(tmp_path / "model.onnx", TASKS["person"])
    (tmp_path / "photos").mkdir()
    for name, share in {"somebody": 0.5, "nobody": 0.0, "a few pixels": 0.01}.items():
        photo = np.zeros((60, 100, 3), np.uint8)
        photo[:, : int(100 * share)] = TASKS["person"].palette[1]
        Image.fromarray(photo).save(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "photos" / "broken.jpg").write_text("no photo")
    return tmp_path / "photos"


@pytest.mark.slow
def test_the_pipeline_cuts_out_who_is_there_and_goes_on_with_what_is_new(call, photos, tmp_path):
    line = ("model.onnx", "photos", "out")
    first = call("pipeline.sh", *line)
    assert first.returncode == 1, first.stderr  # one photo is broken
    assert "1 of 4 photos are new and show somebody" in first.stderr
    assert [path.name for path in (tmp_path / "out" / "cutouts").rglob("*.png")] == ["somebody.png"]
    with Image.open(tmp_path / "out" / "thumbnail.jpg") as thumbnail:
        assert thumbnail.size == (128, 128)
    assert len(json.loads((tmp_path / "out" / "coco" / "annotations.json").read_text())["images"]) == 3

    (photos / "broken.jpg").unlink()
    shutil.copy(photos / "somebody.png", photos / "two words.png")
    again = call("pipeline.sh", *line)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out" / "somebody.txt").read_text() == "photos/two words.png\n"
    cutouts = sorted(path.name for path in (tmp_path / "out" / "cutouts").rglob("*.png"))
    assert cutouts == ["somebody.png", "two words.png"]
    assert call("pipeline.sh", "nowhere", *line[1:]).returncode == 3


@pytest.fixture(scope="module")
def transposed():
    """The example as a module."""
    path = EXAMPLES_DIR / "transposed_convolution.py"
    spec = importlib.util.spec_from_file_location("transposed_convolution", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["transposed_convolution"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["transposed_convolution"]


def test_the_transposed_convolution_by_hand_is_that_of_torch(transposed, capsys):
    assert transposed.main() == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"5x7 .* \d\.\de-1[4-7]$", printed, re.MULTILINE)) == len(transposed.CASES)
    assert "[[   1   10    2   20]\n [ 100 1000  200 2000]" in printed
    assert "[[4 2 4 2 4]\n [2 1 2 1 2]" in printed


def test_it_is_that_of_torch_in_any_geometry(transposed):
    """All of what torch allows, up to a size, rather than the cases that the example shows."""
    rng = np.random.default_rng(1)
    num = 0
    for kernel, stride, padding, dilation, groups in product((1, 2, 3), (1, 2, 3), (0, 1), (1, 2), (1, 2)):
        for output_padding in range(max(stride, dilation)):
            geometry = transposed.Geometry(stride, padding, output_padding, dilation, groups)
            if min(geometry.size(3, kernel), geometry.size(4, kernel)) < 1:
                continue
            image, weight = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 2, kernel, kernel))
            expected = transposed.by_torch(image, weight, geometry)
            for way in (transposed.by_scattering, transposed.by_gathering):
                found = way(image, weight, geometry)
                assert found.shape == expected.shape, geometry
                np.testing.assert_allclose(found, expected, atol=1e-12, err_msg=str(geometry))
            num += 1
    assert num > 150


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


@pytest.mark.exhaustive
def test_weights_are_remade_from_prepared_data(call, tmp_path):
    """On drawn photos, a step a stage: what it would ship can be used, says its terms, and carries its scores.

    Eight trainings, two exports and two evaluations take a minute or two.
    """
    kinds = str(EXAMPLES_DIR / "weights" / "garments.toml")
    tasks = {"person": "person", "clothes_person": "person", "body": "body", "clothes": "clothes", "garments": kinds}
    for name, task in tasks.items():
        run(["synth", str(tmp_path / "prepared" / name), "--task", task, "--num", "20", "--size", "64"])
    options = ("--", "--steps", "1", "--size", "64", "--batch-size", "2", "--set", "precision=fp32")
    done = call("make_weights.sh", "prepared", "out", "body", "clothes", *options)
    assert done.returncode == 0, done.stderr
    for task in ("body", "clothes"):
        check_shipped(tmp_path / "out", task)


def check_shipped(out, task):
    shipped = out / "weights" / task
    names = ["README.md", "config.json", "model.onnx", "model.safetensors"]
    assert sorted(path.name for path in shipped.iterdir()) == names
    values = json.loads((shipped / "config.json").read_text())
    assert values["task"]["name"] == task
    assert values["data"]["commercial"] == "unclear"
    assert sum((shipped / name).stat().st_size for name in names) < 20e6 / 3
    assert str(out) not in (shipped / "config.json").read_text()
    scores = json.loads((out / f"{task}-scores.json").read_text())
    assert f"| miou | {scores['miou']:.3f} (" in (shipped / "README.md").read_text()
