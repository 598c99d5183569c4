"""Terminals and names as they are found: no size, no Unicode, files that look like options."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from seglab.errors import ExitCode

INFO = "epoch 12/300 · loss 0.1234 · lr 1.00e-03 · miou 0.7432 · 123 images/s"
BAR = f"""
import time
from seglab.cli.console import bounded, progress
def work():
    with progress(20, "train") as bar:
        for _ in range(20):
            bar.advance(1, {INFO!r})
            time.sleep(0.02)
bounded(work)
"""


def frames(rows: int, columns: int) -> list[str]:
    """Return what a program draws on a terminal of some size, line by line, without escape codes."""
    import fcntl
    import pty
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    root = str(Path(__file__).parents[1])
    child = subprocess.Popen(
        [sys.executable, "-c", BAR], stdin=slave, stdout=slave, stderr=slave,
        env={**environment, "TERM": "xterm", "PYTHONPATH": root, "PYTHONUTF8": "1"},
    )  # fmt: skip
    os.close(slave)
    drawn = b""
    while True:
        try:
            drawn += os.read(master, 65536) or b"\x04"
        except OSError:
            break
    os.close(master)
    assert child.wait(30) == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode()).replace("\n", "\r").split("\r")


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals")
@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (24, 80), (24, 60), (24, 200)])
def test_a_long_remark_squeezes_neither_the_count_nor_the_times_out_of_a_bar(rows: int, columns: int) -> None:
    drawn = [frame for frame in frames(rows, columns) if frame.startswith("train")]
    assert drawn
    for frame in drawn:
        assert len(frame) <= (columns or 80)
        assert re.search(r"[━╺╸] +\d+/20 [0-9:]+ left [0-9:-]+ ( *$|epoch 12/300 · lo)", frame), frame
    assert any("20/20" in frame for frame in drawn)
    assert (INFO in drawn[-1]) == (columns == 200)


def seglab(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-m", "seglab", *arguments], cwd=cwd, capture_output=True, text=True, check=False,
        env={**os.environ, "COLUMNS": "100", "PYTHONPATH": root, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("verb", ["predict", "cutout"])
def test_a_file_that_looks_like_an_option(verb: str, tmp_path: Path) -> None:
    (tmp_path / "-dash.jpg").write_bytes(b"")
    (tmp_path / "-x").write_bytes(b"")
    for name in ("-dash.jpg", "-x", "-q.png"):  # there; there without a suffix; not there, but a picture's name
        done = seglab(verb, name, cwd=tmp_path)
        assert done.returncode == ExitCode.USAGE
        assert f"`{name}` begins with a dash, so it is taken for an option" in done.stderr
        assert f"hint: `./{name}` is the file" in done.stderr
        assert f"`seglab {verb} -- {name}`" in done.stderr


def test_a_wrong_option_is_not_taken_for_a_file(tmp_path: Path) -> None:
    for arguments in (["--tusk", "face", "x.jpg"], ["--size=1.5", "x.jpg"], ["-q", "x.jpg"]):
        done = seglab("predict", *arguments, cwd=tmp_path)
        assert done.returncode == ExitCode.USAGE
        assert "begins with a dash" not in done.stderr


def test_after_two_dashes_such_a_file_is_a_file(tmp_path: Path) -> None:
    done = seglab("predict", "--model", "nowhere", "--", "-dash.jpg", cwd=tmp_path)
    assert done.returncode == ExitCode.DATA
    assert "begins with a dash" not in done.stderr


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode there")
def test_errors_name_files_that_the_locale_cannot_say(tmp_path: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    for name in ("日本.jpg", os.fsdecode(b"bad\xff.jpg")):
        done = seglab("predict", "--model", "nowhere", name, cwd=tmp_path, **ascii_only)
        assert done.returncode == ExitCode.DATA
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("place", ["/dev/full", "/dev/null"])
def test_work_does_not_end_because_nobody_can_be_told(place: str, tmp_path: Path) -> None:
    """A full disk under ``2>> log``, or a stream that was opened for reading only."""
    root = str(Path(__file__).parents[1])
    command = [sys.executable, "-m", "seglab", "synth", "data", "--task", "person", "-n", "3", "--size", "32"]
    mode = os.O_WRONLY if place == "/dev/full" else os.O_RDONLY
    handle = os.open(place, mode)
    try:
        done = subprocess.run(command, cwd=tmp_path, stderr=handle, env={**os.environ, "PYTHONPATH": root}, check=False)
    finally:
        os.close(handle)
    assert done.returncode == ExitCode.DONE
    assert (tmp_path / "data" / "dataset.json").is_file()


STOPPED_IN_A_WRITE = """
import os, signal
from seglab.cli import console
told = console._Vain.write
def write(self, data):
    told(self, data)
    console._Vain.write = told
    os.kill(os.getpid(), signal.SIGTERM)
    return len(data)
def work():
    console._Vain.write = write
    console.note("waits")
console.bounded(work)
"""


def test_what_was_being_said_when_a_signal_came_is_said_once() -> None:
    done = subprocess.run([sys.executable, "-c", STOPPED_IN_A_WRITE], capture_output=True, text=True, check=False)
    assert done.stderr == "waits\nterminated\n"
