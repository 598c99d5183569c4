"""What the values of mask files mean."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from seglab.data.images import ImageError
from seglab.data.masks import BINARY, Convention, decide_convention, load_colours, read_mask
from seglab.data.sources import BadLabels
from seglab.errors import DataError
from seglab.tasks import TASKS, Task

PERSON, CLOTHES = TASKS["person"], TASKS["clothes"]
STATES = Task("states", ("background", "on", "off"), palette=((0, 0, 0), (10, 20, 30), (40, 50, 60)))


def save(path: Path, values: Sequence[Sequence[object]] | NDArray[np.uint8], mode: str | None = None) -> Path:
    image = Image.fromarray(np.array(values, np.uint8))
    (image.convert(mode) if mode else image).save(path)
    return path


def decided(paths: list[Path], task: Task) -> Convention:
    return decide_convention(paths, task, None)


def test_255_is_the_person_where_no_mask_has_an_id(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.png", [[0, 255]]), save(tmp_path / "b.png", [[0, 0]])]
    convention = decided(paths, PERSON)
    assert convention is BINARY
    assert read_mask(paths[0], convention, PERSON).tolist() == [[0, 1]]
    assert read_mask(paths[1], convention, PERSON).tolist() == [[0, 0]]


def test_255_is_ignored_where_masks_have_ids(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.png", [[0, 255, 1]]), save(tmp_path / "b.png", [[0, 255]])]
    convention = decided(paths, PERSON)
    assert (convention.kind, convention.note) == ("ids", "255 in the masks is ignored")
    assert read_mask(paths[1], convention, PERSON).tolist() == [[0, 255]]


def test_255_is_ignored_where_the_task_has_more_classes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", [[0, 255]])
    assert read_mask(path, decided([path], CLOTHES), CLOTHES).tolist() == [[0, 255]]


def test_a_mixture_of_0_1_and_0_255_is_refused_and_not_guessed(tmp_path: Path) -> None:
    of_ids, of_255 = save(tmp_path / "a.png", [[0, 1]]), save(tmp_path / "b.png", [[0, 255, 255]])
    convention = decided([of_ids, of_255], PERSON)
    with pytest.raises(BadLabels) as caught:
        read_mask(of_255, convention, PERSON)
    assert caught.value.kind == "0/255 and 0/1 masks in one source"
    assert caught.value.values == {"255": 2}
    with pytest.raises(BadLabels) as caught:
        read_mask(of_ids, BINARY, PERSON)
    assert caught.value.kind == "0/255 and 0/1 masks in one source"


def test_soft_edges_of_0_255_masks_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", [[0, 255, 128, 128, 3]])
    with pytest.raises(BadLabels, match=r"3 \(1 px\), 128 \(2 px\)") as caught:
        read_mask(path, BINARY, PERSON)
    assert caught.value.kind == "values other than 0 and 255"


def test_ids_outside_the_task_are_counted(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", [[0, 1, 4, 4, 200, 255]])
    with pytest.raises(BadLabels) as caught:
        read_mask(path, decided([path], CLOTHES), CLOTHES)
    assert (caught.value.kind, caught.value.values) == ("ids outside the task", {"4": 2, "200": 1})


def test_palette_indices_are_the_ids_whatever_their_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8), "L").convert("P")
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    image.save(tmp_path / "a.png")
    convention = decided([tmp_path / "a.png"], CLOTHES)
    assert read_mask(tmp_path / "a.png", convention, CLOTHES).tolist() == [[0, 1, 2, 3]]


def test_sixteen_bits_and_one_bit_are_ids(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 3]], np.uint16)).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", Convention("ids"), CLOTHES).tolist() == [[0, 3]]
    save(tmp_path / "b.png", [[0, 255]], "1")
    assert read_mask(tmp_path / "b.png", decided([tmp_path / "b.png"], PERSON), PERSON).tolist() == [[0, 1]]


def test_colours_of_the_tasks_own_palette(tmp_path: Path) -> None:
    grey = save(tmp_path / "a.png", [[[0, 0, 0], [0, 0, 0]]])
    coloured = save(tmp_path / "b.png", [[[40, 50, 60], [10, 20, 30]]])
    convention = decided([grey, coloured], STATES)
    assert "palette of task `states`" in convention.note
    assert read_mask(coloured, convention, STATES).tolist() == [[2, 1]]
    assert read_mask(grey, convention, STATES).tolist() == [[0, 0]]
    with pytest.raises(BadLabels) as caught:
        read_mask(save(tmp_path / "c.png", [[[40, 50, 61], [255, 0, 255], [255, 0, 255]]]), convention, STATES)
    assert caught.value.kind == "colours outside the table"
    assert list(caught.value.values.items()) == [("#ff00ff", 2), ("#28323d", 1)]


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_declared_colours(tmp_path: Path, suffix: str) -> None:
    table = {"background": "#000000", "on": ["#ff0000", [200, 0, 0]], "off": [0, 0, 9], "ignore": "#ffffff"}
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items())
    path = tmp_path / f"colours{suffix}"
    path.write_text(json.dumps({"colours": table}) if suffix == ".json" else lines)
    colours = load_colours(path, STATES)
    assert colours == {(0, 0, 0): 0, (255, 0, 0): 1, (200, 0, 0): 1, (0, 0, 9): 2, (255, 255, 255): 255}
    mask = save(tmp_path / "a.png", [[[255, 255, 255], [200, 0, 0], [0, 0, 9], [0, 0, 0]]])
    convention = decide_convention([mask], STATES, colours)
    assert read_mask(mask, convention, STATES).tolist() == [[255, 1, 2, 0]]


def test_declared_colours_against_brute_force(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    table = {tuple(map(int, colour)): int(rng.integers(3)) for colour in rng.integers(0, 256, (40, 3))}
    chosen = rng.integers(0, len(table), (17, 23))
    rgb = np.array(list(table), np.uint8)[chosen]
    expected = [[table[tuple(map(int, pixel))] for pixel in row] for row in rgb]
    convention = decide_convention([], STATES, table)
    assert read_mask(save(tmp_path / "a.png", rgb), convention, STATES).tolist() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("on = '#ff0000'\noff = '#ff0000'", "gives `#ff0000` two meanings"),
        ("up = '#ff0000'", "has no class `up`"),
        ("on = 'red'", "`red` is no colour"),
        ("on = [1, 2, 256]", "is no colour"),
        ("on = '#gg0000'", "is no colour"),
        ("on = []", "is no colour"),
        ("", "is empty"),
        ("on = ", "cannot read colour table"),
    ],
)
def test_bad_colour_tables(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "colours.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_colours(path, STATES)


def test_a_lossy_mask_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", np.zeros((8, 8), np.uint8))
    with pytest.raises(ImageError, match="lossy"):
        read_mask(path, decided([path], PERSON), PERSON)
