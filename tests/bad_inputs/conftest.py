"""The real command line in this process, with a real graph behind it: nothing of seglab is replaced."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from seglab.tasks import TASKS


@dataclass(frozen=True)
class Ran:
    """What a command left: its code, and what it said."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it wrote to stdout, a JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def failures(self) -> dict[str, str]:
        """The reason by input, of those that predict and cutout name at the end; one line each."""
        told = self.err.partition(" failed:\n")[2].splitlines()
        return dict(line.removeprefix("  ").split(": ", 1) for line in told if line.startswith("  "))

    @property
    def error(self) -> str:
        """The message of the error that ended it: one line."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return line.removeprefix("error: ")

    @property
    def hint(self) -> str:
        """What the error advises."""
        return self.err.partition("\nhint: ")[2]


Seglab = Callable[..., Ran]


@pytest.fixture(scope="session")
def graph_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of people in ONNX: white is a person, black is none."""
    from tests.inference.test_real_model import write_graph

    path = tmp_path_factory.mktemp("model") / "person.onnx"
    write_graph(path, TASKS["person"])
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in."""
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def seglab(
    here: Path, graph_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Seglab:
    """Run a command; predict and cutout get the model, as ``person.onnx`` of the folder, unless another is named."""
    from seglab import cli
    from seglab.cli.console import bounded

    for name in [name for name in os.environ if name.startswith(("SEGLAB_", "KAGGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SEGLAB_DEVICE", "cpu")
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(os, "sync", lambda: None)  # it waits for everything that this machine writes
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def run(*arguments: str | Path) -> Ran:
        words = [str(argument) for argument in arguments]
        if words[0] in ("predict", "cutout") and "--model" not in words:
            words[1:1] = ["--model", str(graph_path)]
        code = bounded(lambda: cli.run(words))
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        assert "Traceback" not in err
        return Ran(code, out, err)

    return run


@pytest.fixture
def processes(graph_path: Path, here: Path) -> tuple[list[str], dict[str, str]]:
    """The beginning of a command line and the variables for a process of its own, which runs in that folder."""
    shutil.copy(graph_path, here.parent / "person.onnx")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SEGLAB_", "KAGGLE_"))}
    environment = {**kept, "PYTHONPATH": str(Path(__file__).parents[2]), "SEGLAB_DEVICE": "cpu"}
    return [sys.executable, "-m", "seglab"], environment


def tree(folder: Path) -> list[str]:
    """Return everything below a folder, hidden files too, without what marks the folders of outputs as such."""
    ours = (".seglab-done.jsonl", "legend.json")
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir() and path.name not in ours
    )
