"""Every example runs as it is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES_DIR = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.relative_to(EXAMPLES_DIR).as_posix() for path in EXAMPLES_DIR.rglob("*.sh"))
RESULTS = {"ci_smoke.sh": ("smoke/scores.json", "smoke/photos.jsonl"), "own_task/run.sh": ("outfit/run/config.json",)}
"""What each example leaves behind; an example without an entry fails the test below."""


def test_every_example_is_run() -> None:
    assert sorted(RESULTS) == SCRIPTS


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_example(name: str, tmp_path: Path) -> None:
    # The examples call `seglab`: the one of this interpreter, whether or not its environment is activated.
    program = tmp_path / "bin" / "seglab"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m seglab "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(EXAMPLES_DIR.parent)}
    done = subprocess.run(
        [EXAMPLES_DIR / name], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / result).stat().st_size for result in RESULTS[name])
