"""Files that a user named: read, or refused, but never waited for."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from seglab.notation import read_given


def test_files_and_pipes_that_somebody_writes_to_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert read_given(tmp_path / "a") == b""
    content = b"x" * 200_000  # more than a pipe holds
    (tmp_path / "a").write_bytes(content)
    assert read_given(tmp_path / "a") == content
    with subprocess.Popen(["cat", tmp_path / "a"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert read_given(Path(f"/dev/fd/{writer.stdout.fileno()}")) == content
    os.mkfifo(tmp_path / "fifo")
    keeper = os.open(tmp_path / "fifo", os.O_RDWR)
    os.write(keeper, b"late")
    closing = threading.Timer(0.1, os.close, [keeper])
    closing.start()
    assert read_given(tmp_path / "fifo") == b"late"
    closing.join()


def test_what_would_never_end_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="nobody writes to this pipe"):
        read_given(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        read_given(Path("/dev/zero"))
    with pytest.raises(IsADirectoryError):
        read_given(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_given(tmp_path / "none")
