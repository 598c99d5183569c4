"""Bad inputs 32 to 36: streams, signals and devices."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bad_inputs.conftest import Seglab, tree
from tests.bad_inputs.pictures import encoded, person, written
from tests.inference.test_pipes import Pipe

GOOD = encoded(person())
POSIX = pytest.mark.skipif(os.name == "nt", reason="signals and shells of POSIX")


@pytest.fixture
def pipes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Pipe]:
    """Put a stream in the place of standard input, and return the one that is put in the place of standard output."""

    def make(data: bytes | None = b"", *, terminal: bool = False, terminal_out: bool = False) -> Pipe:
        out = Pipe(terminal=terminal_out)
        monkeypatch.setattr(sys, "stdin", None if data is None else Pipe(data, terminal=terminal))
        monkeypatch.setattr(sys, "stdout", out)
        return out

    return make


@pytest.mark.parametrize("verb", ["predict", "cutout"])
def test_32_standard_input_without_a_photo(seglab: Seglab, pipes: Callable[..., Pipe], verb: str) -> None:
    for data, terminal, code, message, hint in (
        (b"", False, 3, "no data on standard input", "wrote nothing"),
        (None, False, 3, "standard input is closed", "cat PHOTO | seglab"),
        (b"", True, 2, "no photo is piped in", "cat PHOTO | seglab"),
    ):
        out = pipes(data, terminal=terminal)
        ran = seglab(verb, "-", "-o", "-")
        assert (ran.code, ran.error) == (code, message)
        assert hint in ran.hint
        assert (out.written, tree(Path())) == (b"", [])
    out = pipes(b"<html>")
    ran = seglab(verb, "-", "-o", "-")
    assert (ran.code, ran.failures, out.written) == (1, {"-": "is HTML, not an image"}, b"")


@pytest.mark.parametrize("verb", ["predict", "cutout"])
def test_33_a_picture_is_not_written_to_a_terminal(seglab: Seglab, pipes: Callable[..., Pipe], verb: str) -> None:
    written("a.png", GOOD)
    out = pipes(terminal_out=True)
    ran = seglab(verb, "a.png", "-o", "-")
    assert (ran.code, ran.error) == (2, "refusing to write a picture to a terminal")
    assert "`-o FILE`" in ran.hint
    assert (out.written, tree(Path())) == (b"", ["a.png"])


@POSIX
def test_34_a_reader_that_leaves_early(processes: tuple[list[str], dict[str, str]], here: Path) -> None:
    for number in range(3):
        written(f"p/{number}.png", GOOD)
    command, environment = processes
    line = f"{' '.join(command)} predict --model ../person.onnx p -o o --json | true; exit ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", line], cwd=here, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode in (0, 141)
    assert "Traceback" not in ran.stderr
    assert "BrokenPipe" not in ran.stderr
    assert not [name for name in tree(Path("o")) if name.endswith(".part")]


@POSIX
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
def test_35_a_signal(seglab: Seglab, monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> None:
    for name in range(5):
        written(f"p/{name}.png", GOOD)
    from seglab.inference import flow

    real, seen = flow.stamp, [0]

    def interrupting(source: Any) -> Any:
        seen[0] += 1
        if seen[0] == 3:
            os.kill(os.getpid(), number)
        return real(source)

    with monkeypatch.context() as patched:
        patched.setattr(flow, "stamp", interrupting)
        patched.setattr(flow, "workers_for", lambda: 0)
        ran = seglab("predict", "p", "-o", "o")
    assert ran.code == code
    assert "stopped by a signal after" in ran.error
    assert "`--skip-existing`" in ran.hint
    finished = tree(Path("o"))
    assert set(finished) < {f"{name}.png" for name in range(5)}
    assert "0.png" in finished
    ran = seglab("predict", "p", "-o", "o", "--skip-existing")
    assert (ran.code, f"{len(finished)} finished earlier" in ran.err) == (0, True)
    assert tree(Path("o")) == [f"{name}.png" for name in range(5)]


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_36_a_gpu_that_is_not_there(seglab: Seglab, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.setattr("seglab.device.num_nvidia_gpus", lambda: 0)
    if engine == "torch":
        torch = pytest.importorskip("torch")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    written("a.png", GOOD)
    ran = seglab("predict", "a.png", "-o", "o", "--device", "cuda", "--engine", engine)
    assert ran.code == 6
    assert ran.error.startswith("device `cuda:0` was asked for, but ")
    assert "`--device cpu`" in ran.hint
    assert tree(Path()) == ["a.png"], "nothing was begun, and the processor was not taken in silence"
