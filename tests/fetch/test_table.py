"""The list of what can be fetched at every width: nothing is crushed, and what is left out is said."""

import io
import re
import sys

import pytest

from seglab.cli.registry_table import print_registry
from seglab.data.fetching.listing import rows

ROWS = rows()


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def printed(monkeypatch):
    def printed(columns, screen=None):
        screen = screen or Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("NO_COLOR", "1")
        if columns:
            monkeypatch.setenv("COLUMNS", str(columns))
        else:
            monkeypatch.delenv("COLUMNS", raising=False)
        print_registry(ROWS)
        return re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())

    return printed


@pytest.mark.parametrize("columns", [20, 30, 40, 60, 80, 100, 120, 160, 200])
def test_every_name_is_whole_and_no_line_of_a_table_is_too_long_or_cut(printed, columns):
    text = printed(columns)
    words = text.split()
    assert not [row.name for row in ROWS if row.name not in words]
    assert "…" not in text
    table = text.split("a wider terminal")[0].split("seglab fetch NAME")[0]
    if columns >= max(len(row.name) for row in ROWS):
        assert max(len(line.rstrip()) for line in table.splitlines()) <= columns
    lines = [line for line in table.splitlines() if line.strip()]
    assert len(lines) <= len(ROWS) + 3 * 3


def test_the_more_room_there_is_the_more_columns_there_are(printed):
    heads = [printed(columns).splitlines() for columns in (50, 60, 80, 120, 200)]
    counts = [len(next(line for line in lines if line.strip().startswith("name")).split()) for lines in heads]
    assert counts == sorted(counts)
    assert len(set(counts)) >= 4
    text = printed(80)
    assert "commercial" in text
    assert "a wider terminal, or `--json`, also shows: " in text
    assert "a wider terminal" not in printed(200)


def test_a_pipe_gets_every_column(printed):
    text = printed(None, io.StringIO())
    assert "Drive (dead), huggingface.co" in text
    assert "prepare face" in text
    assert "a wider terminal" not in text
    assert "a wider terminal" in printed(80, io.StringIO())
