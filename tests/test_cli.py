"""The command line itself: start-up, voice, streams and exit codes. What a command does is tested in its own room."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seglab.cli import COMMANDS
from seglab.cli.console import bounded, escape
from seglab.errors import (
    BusyError,
    DataError,
    DeviceError,
    ExitCode,
    Interrupted,
    NetworkError,
    SeglabError,
    UsageError,
    unknown,
)

HEAVY = ("torch", "torchvision", "cv2", "PIL", "onnx", "onnxruntime", "numpy", "tensorboard", "kaggle", "gdown")


def seglab(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "seglab", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100", **environment},
        check=False,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import json, sys\nfrom seglab.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print('\\n' + json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert "seglab.cli" in modules
    assert modules.isdisjoint(HEAVY)


def test_help_names_every_command() -> None:
    done = seglab("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    done = seglab(name, "--help")
    assert done.returncode == 0
    assert f"seglab {name}" in done.stdout.split("Arguments")[0].split("Options")[0]


def test_version() -> None:
    from seglab import __version__

    assert seglab("--version").stdout == f"seglab {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predcit"], "no such command"),
        (["predict", "--tusk", "face", "x.jpg"], "--tusk"),
        (["synth", "out", "--task", "person", "-n", "three"], "-n"),
        (["prepare"], "missing"),
        (["synth", "out", "--task=", "-n", "3"], "task"),
    ],
)
def test_a_wrong_command_line_exits_2_in_our_voice(arguments: list[str], words: str) -> None:
    done = seglab(*arguments)
    assert done.returncode == ExitCode.USAGE
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert words in done.stderr.lower()
    assert "\n\nhint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_piped_output_has_no_escape_codes() -> None:
    for done in (seglab("--help"), seglab("nothing"), seglab("predict", "--help")):
        assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "environment", [{"COLUMNS": "20"}, {"TERM": "dumb"}, {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}]
)
def test_odd_terminals_do_not_break_it(environment: dict[str, str]) -> None:
    done = seglab("predict", "日本語.jpg", **environment)
    assert done.returncode == ExitCode.DATA
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert seglab("--help", **environment).returncode == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SeglabError("x"), 3), (UsageError("x"), 2), (DataError("x"), 3), (NetworkError("x"), 4), (BusyError("x"), 5),
        (DeviceError("x"), 6), (Interrupted("x"), 130), (Interrupted("x", exit_code=ExitCode.TERMINATED), 143),
        (KeyboardInterrupt(), 130), (BrokenPipeError(), 141),
    ],
)  # fmt: skip
def test_every_error_has_its_exit_code(error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seglab.cli.console.os.dup2", lambda *_: None)  # the test's own stdout stays

    def run() -> None:
        raise error

    assert bounded(run) == code


def test_ctrl_c_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert bounded(lambda: 130) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_bug_keeps_its_traceback() -> None:
    def run() -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        bounded(run)


def test_a_library_that_does_not_fit_into_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def run(words: str) -> None:
        raise ImportError(words)

    said = "libXau.so.6: failed to map segment from shared object"
    assert bounded(lambda: run(said)) == 6
    assert capsys.readouterr().err.startswith(f"error: too little memory to load a library: {said}\n")
    with pytest.raises(ImportError, match="cannot import name"):
        bounded(lambda: run("cannot import name `a` from `b`"))


def test_error_and_hint_are_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        raise DataError("cannot read `a[red]b[/x]\\`", "try `b[/red].jpg`")

    assert bounded(run) == 3
    assert capsys.readouterr().err == "error: cannot read `a[red]b[/x]\\`\n\nhint: try `b[/red].jpg`\n"


@pytest.mark.parametrize("name", ["cat[draft].png", "IMG[/red].jpg", "a\\", "[bold]", "\\[x]", "日本語 🙂.jpg"])
def test_names_are_shown_as_they_are(name: str) -> None:
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    Console(file=out, soft_wrap=True, highlight=False, emoji=False).print(f"[bold]{escape(name)}[/bold] end")
    assert out.getvalue() == f"{name} end\n"


def test_control_characters_are_made_visible() -> None:
    assert escape("a\nb\x1b[31mc") == "a\\nb\\x1b[31mc"


def test_unknown_names_get_suggestions() -> None:
    assert unknown("task", "fase", ["face", "body"]).hint == "did you mean `face`?"
    assert unknown("task", "zzz", ["face", "body"]).hint == "known: `face`, `body`"


def test_a_closed_pipe_is_quiet() -> None:
    script = f"{sys.executable} -m seglab --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 141)
    assert done.stderr == ""


@pytest.mark.parametrize("closing", ["2>&-", ">&-", ">&- 2>&-"])
def test_closed_streams_are_no_bug(closing: str) -> None:
    script = f"{sys.executable} -m seglab fetch --json {closing}; {sys.executable} -m seglab nothing {closing}; exit $?"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.USAGE
    assert "Traceback" not in done.stdout + done.stderr


def test_data_for_a_closed_stdout_is_an_error() -> None:
    script = f"{sys.executable} -m seglab fetch --json >&-"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.DATA
    assert done.stderr == "error: the system refuses `stdout`: Bad file descriptor\n"


def test_a_full_disk_behind_stdout_is_one_line() -> None:
    script = f"{sys.executable} -m seglab fetch --json > /dev/full"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.DATA
    assert done.stderr.startswith("error: the system refuses")
    assert "Traceback" not in done.stderr


def test_a_terminal_of_no_width_shows_errors() -> None:
    assert "error: " in seglab("nothing", COLUMNS="0").stderr


@pytest.mark.parametrize("arguments", [["predict", ""], ["cutout", "a.jpg", "--keep="], ["prepare", "a", ""]])
def test_empty_arguments_are_refused(arguments: list[str]) -> None:
    done = seglab(*arguments)
    assert done.returncode == ExitCode.USAGE
    assert "is empty" in done.stderr


def test_json_is_ascii_where_the_locale_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from seglab.cli.console import print_json

    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    print_json({"input": "人\udcff.jpg"})
    assert json.loads(out.buffer.getvalue().decode()) == {"input": "人\udcff.jpg"}  # type: ignore[attr-defined]


def test_a_name_that_is_too_long_is_one_line() -> None:
    done = seglab("predict", "--model", "a" * 300, "b" * 300 + ".jpg")
    assert done.returncode == ExitCode.DATA
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("option", ["--dry-run", "--force", "--verify", "--out=x", "--from=x.zip"])
def test_fetch_without_a_name_fetches_nothing_and_says_so(option: str) -> None:
    done = seglab("fetch", option)
    assert done.returncode == ExitCode.USAGE
    assert "no name is given" in done.stderr


def test_a_fit_without_a_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    done = seglab("prepare", str(tmp_path / "raw"), str(tmp_path / "out"), "--fit", "pad")
    assert done.returncode == ExitCode.USAGE
    assert "--size" in done.stderr


@pytest.mark.parametrize("heavy", [False, True])
def test_leaving_writes_everything_and_runs_what_was_registered(heavy: bool) -> None:
    """Without torch the interpreter is not taken apart; with it, it is."""
    code = (
        "import atexit, sys, types\n"
        f"if {heavy}: sys.modules['torch'] = types.ModuleType('torch')\n"
        "from seglab.cli import program\n"
        "import os\nleave = os._exit\n"
        "os._exit = lambda code: (sys.stderr.write('at once '), sys.stderr.flush(), leave(code))\n"
        "atexit.register(lambda: sys.stderr.write('registered '))\n"
        "sys.stdout.write('data')\n"
        "sys.argv = ['seglab', 'predict', '--no-such-option']\n"
        "program()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "data")
    assert "registered" in done.stderr
    assert ("at once" in done.stderr) is not heavy
