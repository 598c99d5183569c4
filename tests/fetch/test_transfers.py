"""What a user sees of bytes on their way."""

import io
import re
import sys
import time
from types import SimpleNamespace

import pytest

from seglab.cli import transfers
from seglab.cli.transfers import size_text, transfer


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (99_940, "99.9 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (2_190_000_000, "2.2 GB"),
        (5e15, "5000 TB"),
    ],
)
def test_sizes_are_short(num_bytes, text):
    assert size_text(num_bytes) == text


def set_clock(monkeypatch, *seconds):
    """Give the module a clock of its own: the real one is everybody's."""
    now = iter(seconds)
    clock = SimpleNamespace(monotonic=lambda: next(now), strftime=time.strftime, gmtime=time.gmtime)
    monkeypatch.setattr(transfers, "time", clock)


def test_where_there_is_no_terminal_a_line_comes_now_and_then(capsys, monkeypatch):
    set_clock(monkeypatch, 0.0, 1.0, 40.0, 50.0)
    with transfer("[b]x[/b]", 10_000_000, 2_000_000) as advance:
        advance(1_000_000)
        advance(3_000_000)
        advance(1_000_000)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("Z [b]x[/b] 6.0 MB of 10.0 MB, 100 kB/s, 00:00:40 left")


def test_where_there_is_none_and_the_length_is_unknown_neither_is_said(capsys, monkeypatch):
    set_clock(monkeypatch, 0.0, 40.0)
    with transfer("x", None, 0) as advance:
        advance(4_000_000)
    assert capsys.readouterr().err.rstrip().endswith("Z x 4.0 MB, 100 kB/s")


@pytest.mark.parametrize("total", [10_000_000, None])
def test_a_terminal_shows_size_speed_and_the_time_left(monkeypatch, total):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with transfer("helen [7z]", total, 2_000_000) as advance:
        advance(3_000_000)
    shown = screen.getvalue()
    assert "helen [7z]" in shown
    assert "left" in shown
    assert ("5.0/10.0 MB" in shown) == bool(total)


@pytest.mark.parametrize(("columns", "words"), [(120, "━"), (80, "━"), (60, "left"), (40, "%"), (20, "%")])
def test_no_line_of_a_narrow_terminal_is_broken(monkeypatch, columns, words):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    with transfer("drive.google.com", 800_000, 0) as advance:
        for _ in range(4):
            advance(100_000)
            time.sleep(0.06)
    frames = re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()))
    shown = [frame for frame in frames if frame.strip()]
    assert any(words in frame for frame in shown)
    assert all(frame.startswith("drive.google") for frame in shown)
    assert max(len(frame.rstrip()) for frame in shown) <= columns
