"""A process that has imported everything already and forks itself for each command: that saves seconds a command.

Each child is a process of its own, with streams, limits, user and signals as ordered, and runs the real command line.
"""

import contextlib
import ctypes
import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import seglab

TIMEOUT_S: Final = 120.0
CLOSED: Final = "closed"
"""In place of a stream's path: it is not open at all."""

_LAZY: Final = (
    "pydantic.main", "pydantic.json_schema", "typer._click", "torch._dynamo", "torch.onnx._internal.exporter._core",
    "onnxscript.rewriter", "onnxscript.optimizer", "networkx", "onnx.checker", "rich.markup", "rich.table",
    "torch.export.exported_program", "encodings.ascii", "encodings.utf_8_sig",
)  # fmt: skip
"""What commands import when they need it. Not ONNX Runtime, which begins a thread."""


@dataclass(frozen=True)
class Ended:
    """What became of a command."""

    code: int
    """As of :class:`subprocess.Popen`: negative where a signal ended it."""
    out: str
    err: str


class Running(Protocol):
    """A command that runs."""

    def send(self, number: int) -> None:
        """Send a signal."""

    def wait(self) -> Ended:
        """Wait for the end; a command that hangs is killed, and fails the test."""


class Starter(Protocol):
    """Something that starts commands."""

    def start(self, arguments: list[str], cwd: Path) -> Running:
        """Start ``seglab`` with arguments, without the program's name, in a folder."""

    def close(self) -> None:
        """End it."""


class Processes:
    """Starts commands as processes from nothing, imports and all; see :class:`Nursery`."""

    def __init__(self, dir: Path, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)

    def start(self, arguments: list[str], cwd: Path) -> "_Process":
        """Start ``seglab`` with arguments."""
        command = [sys.executable, "-m", "seglab", *arguments]
        pipe = subprocess.PIPE
        return _Process(subprocess.Popen(command, cwd=cwd, stdout=pipe, stderr=pipe, text=True, env=self._environment))

    def close(self) -> None:
        """There is nothing to end."""


@dataclass(frozen=True)
class _Process:
    popen: subprocess.Popen[str]

    def send(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self) -> Ended:
        try:
            out, err = self.popen.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            raise AssertionError(f"hangs\n{self.popen.communicate()}") from None
        return Ended(self.popen.returncode, out, err)


@dataclass(frozen=True)
class _Child:
    nursery: "Nursery"
    pid: int
    pipes: tuple[int, int]
    """What its two streams say; -1 for one that goes elsewhere."""

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait_for_stream(self, reader: int) -> None:
        """Wait until the command has opened a pipe and said something, or has ended."""
        while self.nursery.is_alive(self.pid) and not select.select([reader], [], [], 0.01)[0]:
            pass

    def wait(self, timeout_s: float = TIMEOUT_S) -> Ended:
        code = self.nursery.ask({"wait": self.pid, "timeout_s": timeout_s})
        out, err = (_drained(pipe) for pipe in self.pipes)
        assert code is not None, f"hangs\n{out}{err}"
        return Ended(code, out, err)


class Nursery:
    """Starts commands.

    Args:
        dir: For the pipes of their streams; together a command must not say more than one holds, 64 kB.
        environment: Variables of this process and, unless told otherwise, of its children.
    """

    def __init__(self, dir: Path, environment: Mapping[str, str]) -> None:
        dir.mkdir(parents=True, exist_ok=True)
        self._dir, self._num = dir, 0
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**environment, **one_thread}, encoding="utf-8",
        )  # fmt: skip
        assert self.ask({"threads": True}) == 1, "a process with threads must not fork"

    def ask(self, order: Mapping[str, Any]) -> Any:
        """Send an order and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(
        self,
        arguments: list[str],
        cwd: Path,
        *,
        out: str | None = None,
        err: str | None = None,
        script: str = "",
        max_file_bytes: int | None = None,
        powerless: bool = False,
        **environment: str,
    ) -> _Child:
        """Start ``seglab`` with arguments.

        Args:
            arguments: Without the program's name.
            cwd: The working directory.
            out: Where standard output goes: a path, or ``closed``; by default it is kept for the end.
            err: The same for standard error.
            script: Python that runs first, in the same process.
            max_file_bytes: No file may grow beyond it.
            powerless: Whether root has no more rights than others, who must not read what its mode forbids.
            environment: Variables to set.
        """
        self._num += 1
        pipes, streams = [], []
        for name, stream in (("out", out), ("err", err)):
            path = self._dir / f"{self._num}.{name}"
            if stream is None:
                os.mkfifo(path)
            pipes.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK) if stream is None else -1)
            streams.append(stream or str(path))
        order = {
            "arguments": arguments, "cwd": str(cwd), "streams": streams, "script": script,
            "max_file_bytes": max_file_bytes, "powerless": powerless, "environment": environment,
        }  # fmt: skip
        return _Child(self, self.ask(order), (pipes[0], pipes[1]))

    def run(self, arguments: list[str], cwd: Path, *, timeout_s: float = TIMEOUT_S, **how: Any) -> Ended:
        """Run ``seglab`` with arguments to its end (see :meth:`start`)."""
        return self.start(arguments, cwd, **how).wait(timeout_s)

    def is_alive(self, pid: int) -> bool:
        """Tell whether a child still runs."""
        return bool(self.ask({"alive": pid}))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def _drained(pipe: int) -> str:
    """Return what is in a pipe whose writer has ended, and close it."""
    if pipe < 0:
        return ""
    with os.fdopen(pipe, "rb") as file:
        return (file.read() or b"").decode(errors="replace")


def _serve() -> None:
    """Obey orders, a line of JSON each."""
    names = [module.name for module in pkgutil.walk_packages(seglab.__path__, "seglab.")]
    for name in (*_LAZY, *(name for name in names if not name.endswith("__main__"))):
        with contextlib.suppress(ImportError):  # an extra that is not installed
            importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        if "threads" in order:
            answer: Any = len(list(Path("/proc/self/task").iterdir())) if Path("/proc").is_dir() else 1
        elif "alive" in order:
            answer = "Z" not in Path(f"/proc/{order['alive']}/stat").read_text().rpartition(")")[2].split()[0]
        elif "wait" in order:
            answer = _wait(order["wait"], order["timeout_s"])
        else:
            answer = os.fork()
            if answer == 0:
                _be(order)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _wait(pid: int, timeout_s: float) -> int | None:
    """Return the exit code of a child; None if it had to be killed."""
    until_s = time.monotonic() + timeout_s
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until_s:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.003)


def _be(order: Mapping[str, Any]) -> None:
    """Be the command that is ordered, and end."""
    code = 70
    try:
        os.chdir(order["cwd"])
        os.environ.update(order["environment"])
        _open_streams(*order["streams"])
        if order["powerless"]:
            _give_up_powers()
        if order["max_file_bytes"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["max_file_bytes"],) * 2)
        sys.argv = ["seglab", *order["arguments"]]
        exec(order["script"], {})
        from seglab.cli import program

        program()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - as an interpreter does
        import traceback

        code = 1
        traceback.print_exc()
    finally:
        code = _flushed(code)
        os._exit(code)


def _give_up_powers() -> None:
    """Drop all capabilities, so that the modes of files hold for root as well (see capset(2))."""
    version_3 = 0x20080522
    header, none = (ctypes.c_uint32 * 2)(version_3, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _open_streams(out: str, err: str) -> None:
    """Make the three streams what they are in a new process."""
    encodings = {name: (getattr(sys, name).encoding, getattr(sys, name).errors) for name in ("stdout", "stderr")}
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    targets = [(1, "stdout", out), (2, "stderr", err)]
    opened = {path: os.open(path, os.O_WRONLY | os.O_APPEND) for _, _, path in targets if path != CLOSED}
    for number, name, path in targets:
        if path == CLOSED:
            os.close(number)
            setattr(sys, name, None)
            continue
        os.dup2(opened[path], number)
        encoding, errors = encodings[name]
        stream = open(number, "w", encoding=encoding, errors=errors, buffering=1 if name == "stderr" else -1)  # noqa: SIM115, PTH123
        setattr(sys, name, stream)
    for descriptor in opened.values():
        os.close(descriptor)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115


def _flushed(code: int) -> int:
    """Bring out what is held back, as an interpreter does at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            code = code or 120
    return code


if __name__ == "__main__":
    _serve()
