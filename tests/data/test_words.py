"""What ``prepare``, ``synth`` and ``inspect`` say: on empty splits, dry runs, signals, wrong values, small screens."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import seglab
from seglab.data.layouts import synth_original
from seglab.data.manifest import open_dataset
from seglab.data.synth import synth
from seglab.tasks import TASKS
from tests.data.commands import run

FILES = (
    *(f"cli/{name}" for name in ("prepare", "synth", "inspect", "interruption", "tables")),
    *(
        f"data/{name}"
        for name in (
            "prepare", "planning", "layouts", "selection", "problems", "inspect", "outliers", "sheet", "synth",
            "pairing", "naming", "diagnosis", "side_by_side", "json_lists", "annotation_index", "mask_rows", "garments",
            "relabelling", "part_annotations", "scene/__init__",
        )
    ),
    *(f"data/sources/{path.stem}" for path in (Path(seglab.__file__).parent / "data/sources").glob("*.py")),
)  # fmt: skip


def put(raw: Path, num: int) -> Path:
    for folder in ("images", "masks"):
        (raw / folder).mkdir(parents=True)
    for number in range(num):
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 256, (32, 40, 3), np.uint8)).save(raw / f"images/{number:02d}.jpg")
        labels = np.zeros((32, 40), np.uint8)
        labels[4:20, 5:20] = 1 + number % 3
        Image.fromarray(labels).save(raw / f"masks/{number:02d}.png")
    return raw


@pytest.mark.parametrize("file", FILES)
def test_every_error_has_a_hint(file: str) -> None:
    """A second argument; what it is worth is tested one by one."""
    path = Path(seglab.__file__).parent / f"{file}.py"
    bare = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("UsageError", "DataError", "DeviceError")
        and len(node.args) + len(node.keywords) < 2
    ]
    assert bare == [], f"{path} lines {bare}"


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--max-side", "0"], "--max-side `0` is less than 16 pixels", "--max-side 512"),
        (["--size", "7"], "--size `7` is less than 16 pixels", "--size 512"),
        (["--size", "64", "--max-side", "80"], "exclude each other", "leave one out"),
        (["--rules", "original"], "source `folders` has no --rules", "--source imaterialist"),
        (["--val", "1.5"], "--val `1.5` is no share", "--val 0.1"),
        (["--val", "0.9", "--test", "0.9"], "do not leave anything to train on", "--val 0.1 --test 0.1"),
        (["--fit", "pad"], "`--fit pad` says nothing without a size", "--size PIXELS"),
        (["--source", "helen"], "is not the `helen` layout", "without --source"),
        (
            ["--source", "human-segmentation", "--colours", "{tmp}/cat.toml"],
            "has no masks of colours",
            "leave --colours",
        ),
        (["--source", "folder"], "no source is called `folder`", "`folders`"),
        (["--colours", "{tmp}/gone.toml"], "cannot read colour table", '`background = "#000000"`'),
        (["--colours", "{tmp}/broken.toml"], "cannot read colour table", '`background = "#000000"`'),
        (["--colours", "{tmp}/twice.toml"], "two meanings", '`background = "#000000"`'),
        (["--colours", "{tmp}/cat.toml"], "has no class `cat`", "classes: background"),
        (["--colours", "{tmp}/grey.toml"], "is no colour", '"#ff0000"'),
    ],
)
def test_prepare_says_what_to_try(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str, hint: str
) -> None:
    (tmp_path / "broken.toml").write_text("background = #000000")
    (tmp_path / "twice.toml").write_text('background = "#000000"\nupper_body = "#000000"')
    (tmp_path / "cat.toml").write_text('cat = "#000000"')
    (tmp_path / "grey.toml").write_text('background = "grey"')
    raw = put(tmp_path / "raw", 3)
    given = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    assert run("prepare", raw, tmp_path / "out", "--task", "clothes", *given) in (2, 3)
    output = capsys.readouterr().err
    assert message in output
    assert hint in output.partition("hint: ")[2]


@pytest.mark.parametrize(
    ("source", "out", "message", "hint"),
    [
        ("raw.zip", "out", "raw.zip` is a file, not a folder", "`unzip {tmp}/raw.zip -d raw`"),
        ("raw.tar.gz", "out", "raw.tar.gz` is a file, not a folder", "`tar -xf {tmp}/raw.tar.gz`"),
        ("rwa", "out", "there is no folder `{tmp}/rwa`", "did you mean `{tmp}/raw`?"),
        ("raw", "raw/out", "lie in each other", "such as `{tmp}/raw-prepared`"),
        ("made", "out", "does not say what its masks mean", "`seglab inspect {tmp}/made`; else add `--task NAME`"),
        ("face", "out", "`helen` has no labels for task `clothes`", "leave --task out, it is `face`"),
    ],
)
def test_folders_that_cannot_be_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, out: str, message: str, hint: str
) -> None:
    put(tmp_path / "raw", 3)
    for archive, begin in {"raw.zip": b"PK\x03\x04", "raw.tar.gz": b"\x1f\x8b\x08\x00"}.items():
        (tmp_path / archive).write_bytes(begin + bytes(600))
    synth(TASKS["person"], 2, (32, 32), tmp_path / "made", workers=0)
    synth_original(TASKS["face"], 2, (32, 32), tmp_path / "face", workers=0)
    task = () if source == "made" else ("--task", "clothes")
    assert run("prepare", tmp_path / source, tmp_path / out, *task) in (2, 3)
    output = capsys.readouterr().err
    assert message.replace("{tmp}", str(tmp_path)) in output
    assert hint.replace("{tmp}", str(tmp_path)) in output.partition("hint: ")[2]


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--size", "7"], "size `7x7` is outside 16..8192", "--size 256"),
        (["--val", "1.5"], "--val `1.5` is no share", "--val 0.1"),
        (["--num", "2000000"], "`2000000` pictures", "--num 100"),
        (["--layout", "original", "--size", "7"], "size `7x7`", "--size 256"),
        (["--layout", "original", "--val", "0.9", "--test", "0.9"], "do not leave anything", "--val 0.1"),
    ],
)
def test_synth_says_what_to_try(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str, hint: str
) -> None:
    assert run("synth", tmp_path / "out", *arguments) == 2
    output = capsys.readouterr().err
    assert message in output
    assert hint in output.partition("hint: ")[2]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("num", "options", "counts", "remark"),
    [
        (
            3,
            [],
            (3, 0, 0),
            "val and test are empty: 3 samples are too few for --val 0.1 --test 0.1; `--val 0.34 --test",
        ),
        (1, [], (1, 0, 0), "val and test are empty: 1 sample is too few for --val 0.1 --test 0.1; add samples"),
        (3, ["--val", "0", "--test", "0.1"], (3, 0, 0), "test is empty: 3 samples are too few for --test 0.1"),
        (3, ["--val", "0", "--test", "0"], (3, 0, 0), None),
        (5, ["--val", "0.2", "--test", "0.2"], (3, 1, 1), None),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_empty_splits_are_said(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    num: int,
    options: list[str],
    counts: Any,
    remark: Any,
    dry: bool,
) -> None:
    raw, out = put(tmp_path / "raw", num), tmp_path / "out"
    options = ["--task", "clothes", "--json", *options, *(["--dry-run"] if dry else [])]
    for _ in range(2):  # the second time it is there already
        assert run("prepare", raw, out, *options) == 0
        output = capsys.readouterr()
        told = json.loads(output.out)
        assert tuple(told["splits"].values()) == counts
        assert "{} train, {} val, {} test".format(*counts) in output.err
        assert [text for text in told["remarks"] if "empty" in text] == (
            [] if remark is None else [told["remarks"][-1]]
        )
        if remark:
            assert told["remarks"][-1].startswith(remark)
            assert told["remarks"][-1] in output.err


def test_splits_of_the_source_that_are_missing_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val"):
        put(tmp_path / "raw" / split, 2)
    shares = ["--val", "0.3", "--test", "0.2"]
    assert run("prepare", tmp_path / "raw", tmp_path / "out", "--task", "clothes", "--json", *shares) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["splits"] == {"train": 2, "val": 2, "test": 0}
    assert "--val 0.3 --test 0.2 not used: the source has its own splits" in told["remarks"]
    assert told["remarks"][-1].startswith("test is empty: the source has its own splits, train and val")
    assert "seglab evaluate --split val" in told["remarks"][-1]


@pytest.mark.parametrize("own", [False, True])
def test_a_dry_run_says_what_would_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str], own: bool) -> None:
    raw = tmp_path / "raw"
    for split, num in (("train", 12), ("val", 5), ("test", 3)) if own else ((".", 20),):
        put(raw / split, num)
    bad = next(raw.glob("**/masks/02.png"))
    Image.fromarray(np.full((32, 40), 99, np.uint8)).save(bad)
    command = ["prepare", raw, tmp_path / "out", "--task", "clothes", "--drop-bad", "--json"]
    assert run(*command, "--dry-run") == 0
    would = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "out").exists()
    assert run(*command) == 0
    made = json.loads(capsys.readouterr().out)
    assert would["splits"] == made["splits"]
    assert sum(would["splits"].values()) == 19 == would["samples"]
    dataset = open_dataset(tmp_path / "out")
    assert made["splits"] == {split: len(dataset.split(split)) for split in dataset.splits}


STOPPED = """
import os, signal
from seglab.cli import main
from seglab.data import census, conversion, layouts
import seglab.data.scene as scene

count = 0

def stopping(room, name):
    # The nth call sends a signal to the process.
    real = getattr(room, name)
    def run(*arguments, **options):
        global count
        count += 1
        if count == 5:
            os.kill(os.getpid(), getattr(signal, os.environ["SIGNAL"]))
        return real(*arguments, **options)
    setattr(room, name, run)

stopping(conversion.Converter, "_convert")
stopping(census, "_visit")
stopping(scene, "draw_scene")
stopping(layouts, "draw_scene")
main()
"""


def stopped(name: str, *arguments: object) -> tuple[int, str]:
    """Run a command that gets a signal at its fifth picture."""
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "COLUMNS": "300", "SIGNAL": name},
    )  # fmt: skip
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(("name", "code", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
def test_prepare_that_was_stopped_says_what_is_kept_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, code: int, word: str
) -> None:
    raw, out = put(tmp_path / "raw", 12), tmp_path / "o ut"
    arguments = ("prepare", raw, out, "--task", "clothes", "--workers", 0)
    returned, output = stopped(name, *arguments)
    assert returned == code
    building = tmp_path / ".o ut.building"
    assert f"error: {word}: 4 of 12 pairs are done and kept in `{building}`; `{out}` is not made yet" in output
    (command,) = re.findall(r"^hint: `seglab (.*)` goes on from there$", output, re.MULTILINE)
    assert shlex.split(command) == list(map(str, arguments))
    assert run(*shlex.split(command)) == 0
    assert "went on where an interrupted run ended: 4 of 12 pairs were done" in capsys.readouterr().err
    assert not building.exists()


def test_prepare_that_was_stopped_before_it_began_wrote_nothing(tmp_path: Path) -> None:
    """Even while modules are still imported."""
    raw = put(tmp_path / "raw", 3)
    code = (
        "import signal, sys, seglab.cli\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'seglab.data.prepare': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "seglab.cli.main()\n"
    )
    command = [sys.executable, "-c", code, "prepare", str(raw), str(tmp_path / "out"), "--task", "clothes"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 130
    assert "error: interrupted: nothing was written, the source is as it was" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_dry_run_that_was_stopped_wrote_nothing(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", 12)
    code, output = stopped("SIGTERM", "prepare", raw, tmp_path / "out", "-t", "clothes", "--workers", 0, "--dry-run")
    assert code == 143
    assert "error: terminated: nothing was written, the source is as it was" in output
    assert "--dry-run` starts again" in output
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("layout", ["prepared", "original"])
def test_synth_that_was_stopped_keeps_nothing_and_says_so(tmp_path: Path, layout: str) -> None:
    code, output = stopped("SIGINT", "synth", tmp_path / "out", "-n", 30, "--size", 32, "--layout", layout)
    assert code == 130
    assert re.search(r"error: interrupted: \d+ of 30 pictures were drawn, nothing is kept\n", output)
    assert f"hint: `seglab synth {tmp_path / 'out'} -n 30 --size 32 --layout {layout}` starts again" in output
    assert list(tmp_path.iterdir()) == []


def test_inspect_that_was_stopped_says_so(tmp_path: Path) -> None:
    synth(TASKS["person"], 12, (32, 32), tmp_path / "data", workers=0)
    code, output = stopped("SIGINT", "inspect", tmp_path / "data", "--workers", 0)
    assert code == 130
    assert "error: interrupted: 4 of 12 samples were read, nothing is written" in output
    assert f"hint: `seglab inspect {tmp_path / 'data'} --workers 0` starts again" in output


@pytest.mark.parametrize(
    ("sheet", "message", "hint"),
    [
        ("gone/sheet.png", "there is no folder `{tmp}/gone`", "`mkdir -p {tmp}/gone` makes it"),
        ("folder.png", "`{tmp}/folder.png` is a folder", "`--sheet {tmp}/folder.png/sheet.png`"),
        ("/proc/sheet.png", "cannot write `/proc/sheet.png`", "`--sheet sheet.png`"),
        ("sheet.webp", "cannot draw `{tmp}/sheet.webp`", "`--sheet sheet.png`"),
    ],
)
def test_a_sheet_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    sheet: str,
    message: str,
    hint: str,
) -> None:
    synth(TASKS["person"], 3, (32, 32), tmp_path / "data", workers=0)
    (tmp_path / "folder.png").mkdir()
    monkeypatch.setattr("seglab.data.census._visit", lambda *_: pytest.fail("the work began"))
    assert run("inspect", tmp_path / "data", "--sheet", tmp_path / sheet) in (2, 3)
    output = capsys.readouterr().err
    assert message.replace("{tmp}", str(tmp_path)) in output
    assert hint.replace("{tmp}", str(tmp_path)) in output


@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_file_that_was_removed_is_named_as_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    dataset = synth(TASKS["person"], 3, (32, 32), tmp_path / "data", workers=0)
    sample = dataset.samples[1]
    (dataset.dir / getattr(sample, kind)).unlink()
    assert run("inspect", dataset.dir, "--json") == 1
    output = capsys.readouterr()
    (entry,) = json.loads(output.out)["unreadable"]
    assert (entry["id"], entry["split"]) == (sample.id, sample.split)
    assert entry["reason"].startswith(f"{getattr(sample, kind)}: ")
    (line,) = [line for line in output.err.splitlines() if entry["reason"] in line]
    assert line.split()[0] == f"{sample.split}/{sample.id}"


@pytest.mark.parametrize("columns", [40, 80])
def test_prepare_is_readable_on_a_narrow_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    raw = put(tmp_path / "raw", 6)
    (raw / "images" / "02.jpg").write_bytes(b"<html>")
    (raw / "images" / "a file[bold] of a rather long name\n.jpg").write_bytes(b"x")
    Image.fromarray(np.full((32, 40), 9, np.uint8)).save(raw / "masks/04.png")
    assert run("prepare", raw, tmp_path / "out", "--task", "clothes") == 3
    table, _, _ = capsys.readouterr().err.partition("error:")
    lines = table[table.index("problems") :].splitlines()
    assert max(len(line.rstrip()) for line in lines) <= columns
    flat = " ".join(table.split())
    for text in ("photo without a mask", "unreadable photo", "images/02.jpg", "masks/04.png", "9 (1280 px)", "[bold]"):
        assert text in flat
    assert not any(re.fullmatch(r"\s*\w{1,2}\s*", line) for line in lines), "words are in pieces"


@pytest.mark.parametrize("columns", [40, 80])
def test_inspect_is_readable_on_a_narrow_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    raw, data = tmp_path / "raw", tmp_path / "data"
    synth_original(TASKS["face"], 40, (48, 48), raw)
    assert run("prepare", raw, data) == 0
    capsys.readouterr()
    assert run("inspect", data) == 0
    output = capsys.readouterr().err
    flat = " ".join(output.split())
    for name in TASKS["face"].classes:
        assert re.search(rf"\b{name}\b", flat)
    table = output[output.index("\n") : output.index("pixels, least")]
    assert max(len(line.rstrip()) for line in table.splitlines()) <= columns
    assert re.search(r"train \(\d+\)", flat)
    assert re.search(r"\d\.\d\d% +\d+", flat)
