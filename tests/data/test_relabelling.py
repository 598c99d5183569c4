"""Class lists become tasks, by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.data.relabelling import UNLABELLED, relabelling
from seglab.data.sources import BadLabels, celebamask, cihp, helen, lip, pascal_part
from seglab.errors import DataError
from seglab.tasks import IGNORE, TASKS, Task

COLOURS = ("background", "red", "green", "blue")
WARM = Task("warmth", ("warm", "background"))
MERGE = {"background": "background", "red": "warm", "green": UNLABELLED, "blue": "background"}


def test_ids_follow_the_names_and_not_the_order() -> None:
    relabel = relabelling("paints", COLOURS, WARM, [MERGE])
    assert relabel(np.array([[0, 1, 2, 3, 255]], np.uint8)).tolist() == [[1, 0, 255, 1, 255]]
    assert relabel.remark == "ignored: green"


def test_the_first_merge_that_fits_is_taken_and_the_own_names_last() -> None:
    own = Task("paint", ("blue", "green", "red", "background"))
    relabel = relabelling("paints", COLOURS, own, [MERGE, dict.fromkeys(COLOURS, "background")])
    assert relabel(np.array([[0, 1]], np.uint8)).tolist() == [[3, 3]]
    assert relabel.remark == "the source never shows: blue, green, red"
    assert relabelling("paints", COLOURS, own, [MERGE])(np.array([[0, 1, 2, 3]], np.uint8)).tolist() == [[3, 2, 1, 0]]


def test_unknown_ids_are_counted_and_255_is_none() -> None:
    with pytest.raises(BadLabels, match=r"4 \(2 px\), 254 \(1 px\)") as caught:
        relabelling("paints", COLOURS, WARM, [MERGE])(np.array([[4, 4], [254, 255]], np.uint8))
    assert caught.value.values == {"4": 2, "254": 1}


def test_a_task_of_other_classes_is_refused() -> None:
    with pytest.raises(DataError, match="`paints` has no labels for task `person`") as caught:
        relabelling("paints", COLOURS, TASKS["person"], [MERGE])
    assert "background, warm; or background, red, green, blue" in caught.value.hint


def test_read_takes_palette_indices(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 255, 255, 9, 9, 9])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "a.png")
    assert relabelling("paints", COLOURS, WARM, [MERGE]).read(tmp_path / "a.png", []).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("names", "merges", "task"),
    [
        (helen.NAMES, (), "face"),
        (pascal_part.NAMES, (pascal_part.PERSON,), "body"),
        (pascal_part.NAMES, (pascal_part.PERSON,), "person"),
        (pascal_part.PERSON_PART_NAMES, (pascal_part.PERSON,), "body"),
        (cihp.NAMES, cihp.MERGES, "parsing"),
        (cihp.NAMES, cihp.MERGES, "person"),
        (lip.NAMES, (lip.SIX,), "parsing"),
        (celebamask.NAMES, celebamask.MERGES, "parsing"),
        (celebamask.NAMES, celebamask.MERGES, "face"),
    ],
)
def test_every_class_of_the_task_is_reachable(
    names: Sequence[str], merges: Sequence[Mapping[str, str]], task: str
) -> None:
    relabel = relabelling("source", names, TASKS[task], merges)
    reached = set(relabel.table[: len(names)].tolist()) - {IGNORE}
    assert reached == set(range(TASKS[task].num_classes))
    assert "never shows" not in relabel.remark


def test_the_parts_of_pascal_reach_every_class_and_are_24() -> None:
    assert {"background", *pascal_part.PARTS.values()} == set(pascal_part.NAMES)
    assert len(pascal_part.PARTS) == 24


def test_the_published_merge_of_cihp() -> None:
    table = [TASKS["parsing"].classes.index(cihp.SIX[name]) for name in cihp.NAMES]
    assert table == [0, 5, 1, 5, 5, 4, 4, 4, 5, 4, 3, 5, 4, 2, 3, 3, 3, 3, 5, 5]


def test_left_and_right_of_celebamask_change_sides() -> None:
    assert [celebamask.FACE[name] for name in ("l_eye", "r_eye", "l_brow", "r_brow")] == ["re", "le", "rb", "lb"]
