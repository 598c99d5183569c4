"""Short forms of the long runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "arguments", [["predictions", "--num", "1000"], ["week", "--days", "3"]], ids=["predictions", "week"]
)
def test_nothing_grows_and_nothing_breaks(arguments: list[str]) -> None:
    command = [sys.executable, "-m", f"tests.soak.{arguments[0]}", *arguments[1:]]
    done = subprocess.run(command, cwd=TOP, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
