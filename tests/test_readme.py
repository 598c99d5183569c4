"""The README's commands: all are understood as they stand, and what takes a moment only is run, on drawn people."""

import importlib
import io
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import typer
from PIL import Image

from seglab.cli import main
from seglab.tasks import TASKS
from tests.inference.test_real_model import write_graph

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text(encoding="utf-8")
PARTS = {part.split("\n", 1)[0]: part for part in README.split("\n## ")[1:]}
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)

NOT_RUN = {
    "train": "takes minutes, or other programs of the machine; tests/training",
    "export": "needs weights, not a graph; tests/engines/test_export_command.py",
    "import": "needs a published checkpoint; tests/inference/test_published_checkpoints.py",
    "fetch helen": "needs the network; tests/fetch",
    "u2net_human_seg.pth": "needs a published checkpoint; tests/inference/test_published_checkpoints.py",
    "demo": "takes half a minute; .ci/run, tests/test_demo.py",
}
"""Beginnings of command lines, or names in them, and why they are only parsed here and where they are run."""
GATED = ("--fail-under", "promote")
"""What may answer 1: a network that only knows colours scores little."""


class Line(NamedTuple):
    """A command of the README."""

    part: str
    words: tuple[str, ...]
    reads: str
    """The file that is piped into it, if one is."""

    @property
    def why_not(self) -> str:
        return next((why for name, why in NOT_RUN.items() if name in " ".join(self.words)), "")


def lines() -> Iterator[Line]:
    for part, text in PARTS.items():
        for block in BLOCK.findall(text):
            for line in block.replace("\\\n", " ").splitlines():
                yield from commands(part, line)


def commands(part: str, line: str) -> Iterator[Line]:
    """Take a line of shell apart at pipes and `&&`; what is not seglab, or goes to a file, is left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&>")
    lexer.whitespace_split = True
    command: list[str] = []
    reads = ""
    for word in (*lexer, "&&"):
        if word not in ("|", "&&"):
            command.append(word)
            continue
        if command[:1] == ["cat"]:
            reads = command[1]
        if "seglab" in command[:1] or command[-1:] == ["-m", "seglab"]:
            end = command.index(">") if ">" in command else None
            yield Line(part, tuple(command[1:end]), reads)
            reads = ""
        elif "seglab" in command and "torchrun" in command:
            yield Line(part, tuple(command[command.index("seglab") + 1 :]), "")
        command = []


LINES = list(lines())


def test_there_are_as_many_commands_as_there_were() -> None:
    assert len(LINES) > 40
    assert {line.words[0] for line in LINES} > {
        "prepare",
        "train",
        "evaluate",
        "predict",
        "cutout",
        "promote",
        "compare",
    }
    assert sum(not line.why_not for line in LINES) > 25


@pytest.mark.parametrize("line", LINES, ids=[" ".join(line.words) for line in LINES])
def test_the_command_is_understood(line: Line) -> None:
    name, *rest = line.words
    function = getattr(importlib.import_module(f"seglab.cli.{name}"), name)
    app = function
    if not isinstance(function, typer.Typer):
        app = typer.Typer()
        app.command(name)(function)
    command = typer.main.get_command(app)
    if isinstance(function, typer.Typer) and rest:
        command, rest = command.commands[rest[0]], rest[1:]  # type: ignore[attr-defined]
    with command.make_context(name, list(rest)) as context:
        assert context.args == []


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the README's commands take for granted, as small as can be."""
    folder = tmp_path_factory.mktemp("shelf")
    for task in ("person", "face"):
        synth(folder / "data" / task, "--task", task)
        write_graph(model(folder / "runs" / task), TASKS[task])
    for name, task in {"runs/a": "face", "runs/b": "face", "RUN": "parsing", "clothes-run": "clothes"}.items():
        write_graph(model(folder / name), TASKS[task])
    for name in ("run", "runs/today", "served/person"):
        write_graph(model(folder / name), TASKS["person"], save_id=name)
    synth(folder / "raw" / "helen", "--task", "face", "--layout", "original")
    photos = sorted((folder / "data" / "person").glob("*/images/*"))
    labels = sorted((folder / "data" / "person").glob("*/labels/*"))
    for name in ("photos", "person/images", "my_photos/images"):
        copies(photos, folder / name)
    for name in ("person/masks", "my_photos/masks"):
        copies(labels, folder / name)
    faces = sorted((folder / "data" / "face").glob("*/labels/*"))
    copies(faces, folder / "truth")
    copies(faces, folder / "scored")
    for name in ("a.jpg", "photo.jpg"):
        with Image.open(photos[0]) as photo:
            photo.save(folder / name)
    Image.fromarray(np.zeros((300, 400, 3), np.uint8)).save(folder / "large.tif")
    return folder


def synth(out: Path, *options: str) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with pytest.raises(SystemExit) as end:
        main(["synth", str(out), "-n", "12", "--size", "48", "--test", "0.3", *options])
    assert not end.value.code


def model(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "model.onnx"


def copies(paths: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True)
    for path in paths:
        shutil.copy(path, folder)


RUN_PARTS = sorted({line.part for line in LINES if not line.why_not})


@pytest.mark.parametrize("part", RUN_PARTS)
def test_the_commands_run_one_after_the_other(
    part: str, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "here"
    shutil.copytree(shelf, folder)
    if part.startswith("Scores"):
        (folder / "scored").rename(folder / "masks")
    for data in ("person", "face"):  # these are made by the part itself
        if f"data/{data}\n" in PARTS[part] or f"prepare person data/{data}" in PARTS[part]:
            shutil.rmtree(folder / "data" / data)
    if "--data data " in PARTS[part] and "prepare" not in PARTS[part]:
        shutil.copytree(shelf / "data" / "person", folder / "data", dirs_exist_ok=True)
    elif "prepare my_photos data" in PARTS[part]:
        shutil.rmtree(folder / "data")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SEGLAB_DEVICE", "cpu")
    num = 0
    for line in LINES:
        if line.part != part or line.why_not:
            continue
        num += 1
        if line.words[0] == "compare":
            shutil.copytree("scores/a", "scores/b")
        code = run(line, monkeypatch)
        said = capfd.readouterr().err
        allowed = (0, 1) if any(word in line.words for word in GATED) else (0,)
        assert code in allowed, f"{shlex.join(line.words)}: {said}"
    assert num


def run(line: Line, monkeypatch: pytest.MonkeyPatch) -> int:
    words = [found for word in line.words for found in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]
    with io.TextIOWrapper(Path(line.reads).open("rb") if line.reads else io.BytesIO()) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(SystemExit) as end:
            main(words)
    assert isinstance(end.value.code, int | None)
    return end.value.code or 0


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    text = re.sub(r"```.*?```", "", (TOP / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    for target in targets:
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        assert not path or (TOP / path).exists(), target
        assert not anchor or anchor in headings, target
    assert targets or name == "CONTRIBUTING.md"
