"""Engines, devices and odd file names through the real command line, with a real model."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.models.export import photo_like

NAMES = (b"caf\xc3\xa9.png", "日本.png".encode(), b"bad\xff.png", b"plain.png")


def seglab(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-m", "seglab", *arguments], cwd=cwd, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": root, **environment},
    )  # fmt: skip


@pytest.fixture
def place(small: Path, tmp_path: Path) -> Path:
    shutil.copytree(small, tmp_path / "run")
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo_like((1, 40, 30))[0]).save(tmp_path / "photos" / "plain.png")
    return tmp_path


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode there")
@pytest.mark.parametrize("encoding", [{}, {"PYTHONIOENCODING": "ascii"}])
def test_names_that_the_locale_cannot_say(place: Path, encoding: dict[str, str]) -> None:
    for name in NAMES[:-1]:
        shutil.copy(place / "photos" / "plain.png", place / "photos" / os.fsdecode(name))
    (place / "list").write_bytes(b"\n".join(b"photos/" + name for name in NAMES))
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", **encoding}
    for verb, argument, out in (("predict", "photos", "m"), ("cutout", "photos", "c"), ("predict", "@list", "l")):
        done = seglab(verb, "--model", "run", argument, "-o", out, "--json", cwd=place, **plain)
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
        assert {os.fsencode(path.name) for path in (place / out).rglob("*.png")} == set(NAMES)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert sorted(line["input"] for line in lines) == sorted(
            f"photos/{name.decode('utf-8', 'backslashreplace')}" for name in NAMES
        )


def test_the_choice_of_an_engine_is_said_for_people_and_programs(place: Path) -> None:
    done = seglab("predict", "--model", "run", "photos", "--json", "--device", "cpu", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "onnxruntime on cpu (asked for): the bundle has a graph" in done.stderr.decode()
    assert json.loads(done.stdout)["engine"] == {
        "name": "onnxruntime", "reason": "the bundle has a graph", "device": "cpu", "device_reason": "asked for",
        "precision": "fp32",
    }  # fmt: skip


def test_precision_and_engine_are_options(place: Path) -> None:
    done = seglab("cutout", "--model", "run", "photos", "--json", "--precision", "bf16", cwd=place)
    assert done.returncode == 0, done.stderr
    engine = json.loads(done.stdout)["engine"]
    assert (engine["name"], engine["precision"], engine["reason"]) == ("torch", "bf16", "for `--precision bf16`")
    assert ", bf16: for `--precision bf16`" in done.stderr.decode()
    for arguments, code, words in (
        (["--engine", "onnxruntime", "--precision", "bf16"], 2, "engine `onnxruntime` cannot do `--precision bf16`"),
        (["--engine", "openvino", "--compile"], 2, "engine `openvino` cannot do `--compile`"),
        (["--engine", "tensorrt"], 2, "no engine is called `tensorrt`"),
        (["--precision", "fp8"], 2, "no precision is called `fp8`"),
        (["--precision", "fp16", "--device", "cpu"], 6, "precision `fp16` needs a GPU"),
        (["--device", "cuda:7", "--engine", "onnxruntime"], 6, "device `cuda:7` was asked for"),
    ):
        done = seglab("predict", "--model", "run", "photos", *arguments, cwd=place)
        assert (done.returncode, words in done.stderr.decode()) == (code, True), done.stderr


def test_without_openvino_the_extra_is_named(place: Path) -> None:
    (place / "hidden").mkdir()
    (place / "hidden" / "sitecustomize.py").write_text("import sys\nsys.modules['openvino'] = None\n")
    path = os.pathsep.join([str(place / "hidden"), str(Path(__file__).parents[2])])
    done = seglab("predict", "--model", "run", "photos", "--engine", "openvino", cwd=place, PYTHONPATH=path)
    assert done.returncode == 6
    assert "engine `openvino` is not installed" in done.stderr.decode()
    assert 'pip install "seglab[openvino]"' in done.stderr.decode()


def test_engines_write_the_same_masks(place: Path) -> None:
    masks = []
    for engine in ("onnxruntime", "torch"):
        done = seglab("predict", "--model", "run", "photos", "-o", engine, "--engine", engine, cwd=place)
        assert done.returncode == 0, done.stderr
        with Image.open(place / engine / "plain.png") as mask:
            masks.append(np.array(mask))
    assert (masks[0] == masks[1]).mean() >= 0.999
    assert len(np.unique(masks[0])) > 1
