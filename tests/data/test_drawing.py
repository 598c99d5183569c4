import numpy as np
import pytest

from seglab.data.drawing import VOID_RGB, colour, contact_sheet, overlay, with_legend
from seglab.tasks import TASKS, Task

PALETTE = ((0, 0, 0), (200, 0, 0), (0, 100, 0))


def test_colour_looks_up_the_palette():
    labels = np.array([[0, 1, 2], [3, 254, 255]], np.uint8)
    assert colour(labels, PALETTE).tolist() == [
        [[0, 0, 0], [200, 0, 0], [0, 100, 0]],
        [list(VOID_RGB)] * 3,
    ]


def test_overlay_blends_classes_and_leaves_background_and_ignored_pixels():
    image = np.full((1, 4, 3), 100, np.uint8)
    labels = np.array([[0, 1, 2, 255]], np.uint8)
    drawn = overlay(image, labels, PALETTE, opacity=0.25, contour=False)
    assert drawn.tolist() == [[[100, 100, 100], [125, 75, 75], [75, 100, 75], [100, 100, 100]]]
    assert (image == 100).all()


def test_overlay_draws_borders_in_full_colour_inside_the_class():
    image = np.full((40, 40, 3), 100, np.uint8)
    labels = np.zeros((40, 40), np.uint8)
    labels[10:30, 10:30] = 1
    drawn = overlay(image, labels, PALETTE, opacity=0)
    full = (drawn == PALETTE[1]).all(axis=-1)
    expected = np.zeros((40, 40), bool)
    expected[10:30, 10:30] = True
    expected[11:29, 11:29] = False
    assert np.array_equal(full, expected)
    assert (drawn[~full] == 100).all()


def test_overlay_refuses_labels_of_another_size():
    with pytest.raises(ValueError, match="photo"):
        overlay(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8), PALETTE)


@pytest.mark.parametrize("size_hw", [(1, 1), (40, 30), (300, 500), (500, 1), (2000, 1500)])
@pytest.mark.parametrize("name", ["person", "face"])
def test_legend_keeps_the_picture_and_shows_every_colour(size_hw, name):
    task = TASKS[name]
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    drawn = with_legend(image, task)
    assert drawn.dtype == np.uint8
    assert drawn.shape[0] > size_hw[0]
    assert drawn.shape[1] >= size_hw[1]
    assert np.array_equal(drawn[: size_hw[0], : size_hw[1]], image)
    legend = {tuple(rgb) for rgb in drawn[size_hw[0] :].reshape(-1, 3).tolist()}
    assert set(task.palette) <= legend


def test_legend_of_labels_shows_only_what_occurs():
    task = TASKS["face"]
    labels = np.zeros((60, 60), np.uint8)
    labels[:30] = task.index("hair")
    labels[0, 0] = 255
    drawn = with_legend(np.full((60, 60, 3), 255, np.uint8), task, labels)
    legend = {tuple(rgb) for rgb in drawn[60:].reshape(-1, 3).tolist()}
    assert task.palette[task.index("hair")] in legend
    assert task.palette[0] in legend
    assert task.palette[task.index("nose")] not in legend


def test_legend_of_any_script_is_drawn():
    task = Task(name="x", classes=("background", "日本語", "Ünï\udc80\n", "🙂", "قبعة", "c" * 300))
    drawn = with_legend(np.zeros((50, 50, 3), np.uint8), task)
    legend = {tuple(rgb) for rgb in drawn[50:].reshape(-1, 3).tolist()}
    assert set(task.palette) <= legend


def test_contact_sheet_keeps_shapes_and_places():
    wide, tall = np.full((10, 40, 3), (255, 0, 0), np.uint8), np.full((90, 30, 3), (0, 0, 255), np.uint8)
    sheet = contact_sheet([[wide, tall], [tall]], cell_hw=(60, 80))
    red, blue = (sheet == (255, 0, 0)).all(axis=-1), (sheet == (0, 0, 255)).all(axis=-1)
    rows, columns = np.nonzero(red)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 80)
    rows, columns = np.nonzero(blue[:72, 80:])
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (60, 20)
    assert blue[72:, :90].sum() == 60 * 20
    assert not blue[72:, 90:].any()
    assert (sheet[72:, 90:] == 255).all()


def test_contact_sheet_titles_add_a_line_above():
    cell = np.zeros((50, 50, 3), np.uint8)
    plain = contact_sheet([[cell, cell]], cell_hw=(50, 50))
    titled = contact_sheet([[cell, cell]], titles=["photo", "長い " * 40], cell_hw=(50, 50))
    head = titled.shape[0] - plain.shape[0]
    assert head > 0
    assert np.array_equal(titled[head:], plain)
    assert (titled[:head, :56] < 128).any()
    assert (titled[:head, 56:] < 128).any()


def test_contact_sheet_of_nothing_is_a_picture():
    assert contact_sheet([]).ndim == 3
    assert contact_sheet([[]]).shape[2] == 3
    assert contact_sheet([[np.zeros((1, 500, 3), np.uint8)]], cell_hw=(20, 20)).ndim == 3
