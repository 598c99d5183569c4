"""Whatever is in a cell, a reader gets it back."""

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from seglab.tables import TableWriter

CELLS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"))


@given(st.lists(st.lists(CELLS, min_size=2, max_size=3), max_size=4))
def test_cells_come_back(rows: list[list[str]]) -> None:
    file = io.StringIO(newline="")
    TableWriter(file).writerows(rows)
    assert list(csv.reader(io.StringIO(file.getvalue(), newline=""), strict=True)) == rows


def test_lines_end_in_a_line_feed_and_a_carriage_return_is_quoted() -> None:
    file = io.StringIO(newline="")
    TableWriter(file).writerow(["a\rb", "c,d", 1, ""])
    assert file.getvalue() == '"a\rb","c,d",1,\n'
