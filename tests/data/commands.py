"""Commands run in this process, and what they leave behind."""

import hashlib
from pathlib import Path

import pytest

from seglab.cli import main


def run(*arguments: object) -> int:
    """Run a command line and return its exit code."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def contents(dir: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by its path."""
    paths = [path for path in sorted(dir.rglob("*")) if path.is_file()]
    return {path.relative_to(dir).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
