"""CONTRIBUTING.md's examples: each is written into a copy of the package, and its commands run there."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import fbeta_score

import seglab

TOP = Path(__file__).parent.parent
BLOCK = re.compile(r"(?:<!-- (?P<place>[^>]+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)
LINE = re.compile(r"(?P<path>\S+), (?P<how>after|before|instead of) the line `(?P<line>.*)`")


def section(title: str) -> list[dict[str, str]]:
    text = (TOP / "CONTRIBUTING.md").read_text(encoding="utf-8")
    part = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return [found.groupdict(default="") for found in BLOCK.finditer(part)]


def write(top: Path, place: str, text: str) -> None:
    if place.startswith("new file: "):
        path = top / place.removeprefix("new file: ")
        assert not path.exists()
        path.write_text(text, encoding="utf-8")
        return
    found = LINE.fullmatch(place)
    assert found, place
    path = top / found["path"]
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    positions = [number for number, line in enumerate(lines) if line.rstrip("\n") == found["line"]]
    assert len(positions) >= 1, f"`{found['line']}` is not in {found['path']}"
    start = positions[0] + (found["how"] == "after")
    lines[start : positions[0] + (found["how"] != "before")] = [text]
    path.write_text("".join(lines), encoding="utf-8")


def draw_raw(raw: Path) -> None:
    """Photos with bright hair and a beard, in the example's layout."""
    for folder in ("photo", "hair"):
        (raw / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(8):
        labels = np.zeros((40, 32), np.uint8)
        labels[4:14, 6:26], labels[28:34, 12:20] = 1, 2
        photo = rng.integers(0, 120, (40, 32, 3), np.uint8) + 130 * (labels == 1)[..., None].astype(np.uint8)
        Image.fromarray(photo).save(raw / "photo" / f"{number}.jpg")
        Image.fromarray(labels).save(raw / "hair" / f"{number}.png")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("workshop")
    shutil.copytree(Path(seglab.__file__).parent, top / "seglab", ignore=shutil.ignore_patterns("__pycache__"))
    draw_raw(top / "raw")
    return top


def run(workshop: Path, command: str) -> subprocess.CompletedProcess[str]:
    words = command.split()
    assert words[0] == "seglab"
    env = {**os.environ, "PYTHONPATH": str(workshop), "NO_COLOR": "1", "COLUMNS": "120"}
    ran = subprocess.run(
        [sys.executable, "-m", *words], cwd=workshop, env=env, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, f"{command}{ran.stdout}{ran.stderr}"
    return ran


@pytest.mark.slow
@pytest.mark.parametrize("title", ["Add a task", "Add a dataset", "Add a model", "Add a metric"])
def test_the_walk_through_works(workshop: Path, title: str) -> None:
    blocks = section(title)
    commands = [block["text"] for block in blocks if block["language"] == "bash"]
    assert commands
    for block in blocks:
        if block["language"] == "python":
            write(workshop, block["place"], block["text"])
    for command in commands:
        ran = run(workshop, command)
        said = ran.stdout + ran.stderr
    if title == "Add a dataset":
        assert "haircuts" in said
        labels = [np.asarray(Image.open(path)) for path in (workshop / "data").glob("*/labels/*.png")]
        assert len(labels) == 8
        assert all(((label == 1).sum(), label.max()) == (200, 1) for label in labels)
    if title == "Add a model":
        assert "plain" in said
    if title == "Add a metric":
        ran = run(workshop, "seglab evaluate --model run --data data --json")
        hair = json.loads(ran.stdout)["classes"]["hair"]
        predicted = np.repeat([1, 1, 0], [hair["tp"], hair["fp"], hair["fn"]])
        truth = np.repeat([1, 0, 1], [hair["tp"], hair["fp"], hair["fn"]])
        assert hair["f2"] == pytest.approx(fbeta_score(truth, predicted, beta=2, zero_division=0), abs=1e-12)


def test_every_folder_it_names_is_there() -> None:
    text = (TOP / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:seglab|tests)/[\w/.]*)`", text)) - {"seglab/data/sources/haircuts.py"}
    assert len(named) > 10
    assert not [name for name in named if not (TOP / name).exists()]
