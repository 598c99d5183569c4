"""Whatever is in a cell, a reader gets it back."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglab.tables import TableWriter

CELLS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"))


@given(st.lists(st.lists(CELLS, min_size=2, max_size=3), max_size=4))
def test_cells_come_back(rows: list[list[str]]) -> None:
    file = io.StringIO(newline="")
    TableWriter(file).writerows(rows)
    assert list(csv.reader(io.StringIO(file.getvalue(), newline=""), strict=True)) == rows


@pytest.mark.parametrize("name", ["=1+1.png", "+a", "-b", "@sum(a)", "\t=1", " =1", '=HYPERLINK("http://x")', "'=1"])
def test_names_stay_as_they_are_even_if_a_spreadsheet_takes_them_for_formulas(name: str) -> None:
    """Whoever reads the table looks for a file of that very name."""
    file = io.StringIO(newline="")
    TableWriter(file).writerow([name, -1.5, "x"])
    assert next(csv.reader(io.StringIO(file.getvalue(), newline=""), strict=True)) == [name, "-1.5", "x"]
    assert name.startswith("=H") or file.getvalue() == f"{name},-1.5,x\n"


def test_lines_end_in_a_line_feed_and_a_carriage_return_is_quoted() -> None:
    file = io.StringIO(newline="")
    TableWriter(file).writerow(["a\rb", "c,d", 1, ""])
    assert file.getvalue() == '"a\rb","c,d",1,\n'
