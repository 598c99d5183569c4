"""Bad configurations: what is said on the command line, in recipes and by the environment that makes no sense."""

import os
import subprocess
from pathlib import Path

import pytest

from seglab import files
from tests.bad_inputs.conftest import Seglab, tree
from tests.bad_inputs.pictures import encoded, person, written

TRAIN = ("train", "--task", "person", "--data", "data")

REFUSED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "unknown-key": ((*TRAIN, "--set", "epoch=3"), "no field of `recipe` is called `epoch`", "did you mean `epochs`"),
    "wrong-type": ((*TRAIN, "--set", "epochs=ten"), "`epochs` is a whole number, got `ten`", ""),
    "a-number-as-text": ((*TRAIN, "--set", 'lr="1e-3"'), "`lr` is a number, got `1e-3`", ""),
    "a-word-for-a-number": ((*TRAIN, "--lr", "fast"), "invalid value for '--lr'", "`seglab train --help`"),
    "negative-epochs": ((*TRAIN, "--epochs", "-1"), "`epochs` is `-1`, but must be within 1..1e+06", ""),
    "batch-of-none": ((*TRAIN, "--batch-size", "0"), "`batch_size` is `0`, but must be within 1..65536", ""),
    "rate-that-is-no-number": ((*TRAIN, "--lr", "nan"), "`lr` is `nan`, but must be within 1e-12..1000", ""),
    "rate-without-end": ((*TRAIN, "--lr", "inf"), "`lr` is `inf`, but must be within 1e-12..1000", ""),
    "predict-batch-of-none": (("predict", "a.png", "--batch-size", "0"), "value for '--batch-size'", "--help"),
    "evaluate-batch-of-none": (("evaluate", "data", "--batch-size", "0"), "value for '--batch-size'", "--help"),
    "empty-task": (("train", "--task=", "--data", "data"), "argument `--task=` is empty", "variable of the shell"),
    "predict-empty-task": (("predict", "--task=", "a.png"), "argument `--task=` is empty", "variable of the shell"),
    "unknown-task": (("train", "--task", "persn", "--data", "data"), "no task is called `persn`", "`person`"),
    "unknown-recipe": ((*TRAIN, "--recipe", "smoky"), "no recipe is called `smoky`", "did you mean `smoke`?"),
    "unknown-engine": (("predict", "a.png", "--engine", "onyx"), "no engine is called `onyx`", "`onnxruntime`"),
    "unknown-format": (("predict", "a.png", "-f", "palet"), "no format is called `palet`", "`palette`"),
    "unknown-device": (("predict", "a.png", "--device", "gpu"), "no device is called `gpu`", "cuda"),
    "size-of-none": (("synth", "out", "-t", "person", "--size", "0"), "size `0x0` is outside 16..8192", "--size 256"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_setting_that_makes_no_sense(seglab: Seglab, case: str) -> None:
    arguments, message, hint = REFUSED[case]
    written("a.png", encoded(person()))
    ran = seglab(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.error
    assert hint in ran.hint
    assert tree(Path()) == ["a.png"], "nothing was begun"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('lr = "1e-3"', "`lr` is a number, got `1e-3`"),
        ("epochs = -1", "`epochs` is `-1`, but must be within 1..1e+06"),
        ("epochz = 3", "no field of `recipe` is called `epochz`"),
        ("epochs = 3\nepochs = 4", "own.toml"),
        ("epochs = [1, 2]", "`epochs` is a whole number, got "),
        ("\0", "own.toml"),
    ],
    ids=["text", "negative", "unknown", "twice", "list", "no-toml"],
)
def test_a_recipe_that_makes_no_sense(seglab: Seglab, text: str, words: str) -> None:
    written("own.toml", text.encode())
    ran = seglab(*TRAIN, "--recipe", "own.toml")
    assert ran.code in (2, 3)
    assert words in ran.error
    assert tree(Path()) == ["own.toml"]


def test_files_and_folders_in_each_others_places(seglab: Seglab) -> None:
    """What is advised is no command that would fail at the same."""
    written("file", b"x")
    written("bytes.toml", bytes(range(256)))
    Path("d.toml").mkdir()
    before = tree(Path())
    for arguments, code, message in (
        ((*TRAIN[:-1], "file"), 3, "`file` is a file, not a prepared dataset"),
        (("inspect", "file"), 3, "`file` is a file, not a prepared dataset"),
        (("prepare", "raw", "out", "--task", "d.toml"), 2, "cannot read task file `d.toml`: Is a directory"),
        (("prepare", "raw", "out", "--task", "bytes.toml"), 2, "cannot read task file `bytes.toml`: it is not UTF-8"),
        (("train", "--resume", "file"), 3, "`file` is a file, not the folder of a run"),
        ((*TRAIN, "--recipe", "d.toml"), 3, "cannot read recipe `d.toml`: Is a directory"),
        (("predict", "a.png", "--model", "d.toml"), 3, "`a.png` does not exist"),
        (("fetch", "x", "--registry", "d.toml"), 3, "cannot read registry `d.toml`: Is a directory"),
    ):
        ran = seglab(*arguments)
        assert (ran.code, ran.error) == (code, message)
        assert tree(Path()) == before


def test_all_that_is_wrong_is_said_at_once(seglab: Seglab) -> None:
    ran = seglab(*TRAIN, "--epochs", "-1", "--batch-size", "0", "--lr", "-2")
    assert ran.code == 2
    for name in ("epochs", "batch_size", "lr"):
        assert f"`{name}` is `" in ran.error


def test_two_runs_in_one_run_directory(seglab: Seglab) -> None:
    pytest.importorskip("torch")
    from seglab.training.rundir import LOCK

    assert seglab("synth", "data", "-t", "person", "-n", "8", "--size", "32").code == 0
    Path("run").mkdir()
    before = tree(Path("data"))
    with files.lock(Path("run", LOCK), "run `run`"):
        ran = seglab(*TRAIN, "--out", "run", "--epochs", "1", "--size", "32", "--set", "model_args.width=4")
    assert (ran.code, ran.error.partition(" since ")[0]) == (5, f"run `run` is in use by pid {os.getpid()}")
    assert ran.hint
    assert [name for name in tree(Path("run")) if name != LOCK] == []
    assert tree(Path("data")) == before


ODD_ENVIRONMENTS: dict[str, dict[str, str]] = {
    "plain-c": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
    "dumb-and-narrow": {"TERM": "dumb", "COLUMNS": "20", "TZ": "Nowhere/At_All", "LANG": "xx_XX.nothing"},
}


@pytest.mark.skipif(os.name == "nt", reason="locales of POSIX")
@pytest.mark.parametrize("case", ODD_ENVIRONMENTS)
def test_clocks_locales_and_terminals(processes: tuple[list[str], dict[str, str]], here: Path, case: str) -> None:
    """Names beyond ASCII are worked on, named in failures and in JSON, wherever that is."""
    written("p/日本語 é.png", encoded(person()))
    written("p/плохо.png", b"")
    command, environment = processes
    ran = subprocess.run(
        [*command, "predict", "--model", "../person.onnx", "p", "-o", "o", "--json"],
        cwd=here, env={**environment, **ODD_ENVIRONMENTS[case]}, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    assert b"Traceback" not in ran.stderr
    assert b"empty file" in ran.stderr
    assert tree(Path("o")) == ["日本語 é.png"]
    lines = [line for line in ran.stdout.decode().splitlines() if line]
    assert len(lines) == 2
