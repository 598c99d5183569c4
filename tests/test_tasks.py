"""Tasks: the five, their invariants, and the user's own."""

import itertools
import json
import re
from pathlib import Path

import pytest

import seglab
from seglab.errors import UsageError
from seglab.tasks import TASKS, Task, load_task, voc_palette

EACH_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))


def test_there_are_five_tasks() -> None:
    assert list(TASKS) == ["person", "face", "clothes", "body", "parsing"]
    assert [task.num_classes for task in TASKS.values()] == [2, 11, 4, 7, 6]


def test_class_lists_are_those_of_the_originals() -> None:
    assert TASKS["face"].classes == ("bg", "face", "lb", "rb", "le", "re", "nose", "ulip", "imouth", "llip", "hair")
    assert TASKS["clothes"].classes == ("background", "upper_body", "lower_body", "full_body")
    assert TASKS["clothes"].palette == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert TASKS["body"].classes == ("background", "low_hand", "torso", "low_leg", "head", "up_leg", "up_hand")
    assert TASKS["parsing"].classes == ("background", "hair", "face", "skin", "clothes", "accessories")


def test_regions_and_levels_of_the_originals() -> None:
    face, body = TASKS["face"], TASKS["body"]
    assert face.members("eyes") == (4, 5)
    assert face.members("brows") == (2, 3)
    assert face.members("mouth") == (7, 8, 9)
    assert face.members("overall") == (2, 3, 4, 5, 6, 7, 8, 9)
    assert body.members("body") == (1, 2, 3, 4, 5, 6)
    assert body.members("upper_body") == (1, 2, 4, 6)
    assert body.members("lower_body") == (3, 5)
    assert list(body.levels) == ["top", "middle", "bottom"]


def test_mirror_swaps_left_and_right_of_the_face() -> None:
    assert TASKS["face"].mirror_permutation() == (0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10)


@EACH_TASK
def test_mirror_is_an_involution(task: Task) -> None:
    permutation = task.mirror_permutation()
    assert [permutation[p] for p in permutation] == list(range(task.num_classes))


@EACH_TASK
def test_colours_can_be_told_apart(task: Task) -> None:
    nearest = min(
        sum(abs(a - b) for a, b in zip(one, other, strict=True))
        for one, other in itertools.combinations(task.palette, 2)
    )
    assert nearest >= 50


@EACH_TASK
def test_dict_round_trip_through_json(task: Task) -> None:
    assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task


def test_voc_palette_is_that_of_the_devkit() -> None:
    assert voc_palette(22)[1:5] == ((128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128))
    assert voc_palette(22)[15] == (192, 128, 128)  # person
    assert voc_palette(22)[21] == (128, 64, 128)
    assert len(set(voc_palette(255))) == 255


def test_a_task_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "hands.toml"
    path.write_text(
        'name = "hands"\nclasses = ["background", "left", "right"]\n'
        'palette = ["#000000", "#ff0000", [0, 255, 0]]\nmirror = [["left", "right"]]\n'
        '[regions]\nhands = ["left", "right"]\n'
    )
    task = load_task(str(path))
    assert task.classes == ("background", "left", "right")
    assert task.palette[1:] == ((255, 0, 0), (0, 255, 0))
    assert task.mirror_permutation() == (0, 2, 1)
    assert task.members("hands") == (1, 2)
    assert task.foreground == ("left", "right")


def test_a_near_name_is_suggested() -> None:
    with pytest.raises(UsageError) as caught:
        load_task("cloths")
    assert "`cloths`" in caught.value.message
    assert "`clothes`" in caught.value.hint


@pytest.mark.parametrize("name", ["", "nothing.toml", "no/such/dir"])
def test_absent_tasks_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        load_task(name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name = 'x'", "missing field `classes`"),
        ("name = 'x'\nclasses = ['a', 'b']\ncolour = 3", "unknown field `colour`"),
        ("name = 'x'\nclasses = ['a']", "1 classes"),
        ("name = 'x'\nclasses = ['a', 'a']", "class `a` twice"),
        ("name = 'x'\nclasses = 'ab'", "list of names"),
        ("name = 'x'\nclasses = ['a', 1]", "expected text"),
        ("name = 'x'\nclasses = ['a', 'b']\npalette = ['#000000']", "1 colours for 2 classes"),
        ("name = 'x'\nclasses = ['a', 'b']\npalette = ['#000000', '#00']", "#rrggbb"),
        ("name = 'x'\nclasses = ['a', 'b']\npalette = ['#000000', [0, 0, 300]]", "outside 0..255"),
        ("name = 'x'\nclasses = ['a', 'b']\nmirror = [['b', 'c']]", "no class `c`"),
        ("name = 'x'\nclasses = ['a', 'b']\nmirror = [['b', 'b']]", "two mirror pairs"),
        ("name = 'x'\nclasses = ['a', 'b']\n[regions]\nb = ['a']", "name of a class"),
        ("name = 'x'\nclasses = ['a', 'b']\n[regions]\nr = []", "region `r` is empty"),
        ("name = 'x'\nclasses = ['a', 'b']\n[levels]\ntop = ['q']", "level `top`: no class or region `q`"),
        ("name = 'A B'\nclasses = ['a', 'b']", "lower-case word"),
        ("name = ", "cannot read"),
        ("name = 'x'\nclasses = ['a', 'b']\n[synth]\nview = 'figure'", "not a task"),
        ("name = 'x'\nclasses = ['a', 'b']\n[regions]\nr = 3", "list of names"),
        ("name = 'x'\nclasses = ['a', 'b']\nregions = 3", "not a task"),
    ],
)
def test_wrong_task_files_are_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_task(str(path))
    assert reason in caught.value.message
    assert caught.value.hint


def test_no_code_knows_a_task_by_name() -> None:
    package_dir = Path(seglab.__file__).parent
    # Published weights were trained for some task, which they do not say themselves.
    allowed = {package_dir / "tasks.py", package_dir / "cli" / "options.py", package_dir / "models" / "originals.py"}
    quoted = re.compile(r"""["'](?:""" + "|".join(TASKS) + r""")["']""")
    searched, found = 0, []
    for path in sorted(package_dir.rglob("*.py")):
        # The names of the synthetic anatomy may equal a task's.
        if path in allowed or {"sources", "scene"} & set(path.parts):
            continue
        searched += 1
        found += [f"{path.name}: {line.strip()}" for line in path.read_text().splitlines() if quoted.search(line)]
    assert searched > 5
    assert found == []
