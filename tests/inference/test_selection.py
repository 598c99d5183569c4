"""What is wanted of an answer: classes, areas, people."""

import numpy as np
import pytest
from scipy import ndimage

from seglab.errors import UsageError
from seglab.inference.components import MAX_PEOPLE, find_components
from seglab.inference.selection import Selection, parse_selection, sieve
from seglab.tasks import TASKS, Task

DIAGONAL = np.ones((3, 3), int)
HANDS = Task(name="hands", classes=("bg", "left", "right", "ring"), regions={"both": ("left", "right")})


def blobs(seed: int, shape: tuple[int, int] = (60, 80), num: int = 4, grain: float = 2) -> np.ndarray:
    fields = np.random.default_rng(seed).standard_normal((num, *shape))
    return np.stack([ndimage.gaussian_filter(field, grain) for field in fields]).argmax(0).astype(np.uint8)


def plain_sieve(labels: np.ndarray, least: int) -> np.ndarray:
    """The same by scipy: number areas class by class, then look for the nearest pixel of a large one."""
    small = np.zeros(labels.shape, bool)
    for value in np.unique(labels):
        areas, _ = ndimage.label(labels == value, DIAGONAL)
        small |= (np.bincount(areas.ravel())[areas] < least) & (labels == value)
    return small


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("least", [2, 9, 40, 300])
def test_small_areas_join_their_neighbours(seed: int, least: int) -> None:
    labels = blobs(seed)
    small = plain_sieve(labels, least)
    sifted = sieve(labels, least)
    assert small.any()
    if small.all():
        assert not sifted.any()
        return
    assert np.array_equal(sifted[~small], labels[~small])
    distance = ndimage.distance_transform_edt(small)
    for row, column in np.argwhere(small):
        to_same = np.argwhere((labels == sifted[row, column]) & ~small) - (row, column)
        nearest = np.sqrt((to_same**2).sum(1)).min()
        assert nearest <= 1.05 * distance[row, column] + 1e-6, "OpenCV's distances are near enough"


def test_specks_go_and_pinholes_are_filled() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[2:12, 2:12] = 1
    labels[5, 5], labels[16, 16], labels[16:18, 2:4] = 0, 2, 3
    expected = labels.copy()
    expected[5, 5], expected[16, 16] = 1, 0
    assert np.array_equal(sieve(labels, 4), expected)
    assert sieve(labels, 1) is labels
    assert not sieve(np.full((3, 3), 2, np.uint8), 10).any()


def test_classes_are_kept_and_dropped_by_name() -> None:
    labels = np.array([[0, 1, 2, 3]], np.uint8)
    for keep, drop, expected in (
        ([], [], [0, 1, 2, 3]), (["both"], [], [0, 1, 2, 0]), (["left,ring"], [], [0, 1, 0, 3]),
        (["left", "ring"], [], [0, 1, 0, 3]), ([], ["both"], [0, 0, 0, 3]), (["both"], ["right"], [0, 1, 0, 0]),
        (["bg, left"], [], [0, 1, 0, 0]),
    ):  # fmt: skip
        assert parse_selection(keep, drop).apply(labels, HANDS).tolist() == [expected]
    for keep, drop, message in (
        (["both"], ["left", "right"], "leave no class"), (["bg"], [], "leave no class"),
        (["lefd"], [], "no class or region of task `hands` is called `lefd`"), ([], ["nose"], "is called `nose`"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            parse_selection(keep, drop).classes(HANDS)
    with pytest.raises(UsageError, match="one is empty"):
        parse_selection(["left,"])


def test_areas_in_pixels_and_percent() -> None:
    assert parse_selection(min_area="50") == Selection(least_pixels=50)
    assert parse_selection(min_area=" 0.5% ") == Selection(least_share=0.005)
    labels = np.zeros((10, 10), np.uint8)
    labels[0, :3] = 1
    assert parse_selection(min_area="3").apply(labels, HANDS).any()
    assert not parse_selection(min_area="4").apply(labels, HANDS).any()
    assert parse_selection(min_area="3%").apply(labels, HANDS).any()
    assert not parse_selection(min_area="3.1%").apply(labels, HANDS).any()
    for text in ("", "-1", "much", "1.5", "100%", "nan%", "1%%", "inf", "5 %x"):
        with pytest.raises(UsageError, match="is no area"):
            parse_selection(min_area=text)


@pytest.mark.parametrize("seed", range(4))
def test_what_hangs_together_is_a_person(seed: int) -> None:
    labels = blobs(seed, num=3, grain=3)
    certainty = np.random.default_rng(seed).random(labels.shape).astype(np.float32)
    task = TASKS["clothes"]
    found = find_components(labels, certainty, task, [1, 2])
    areas, num = ndimage.label(labels > 0, DIAGONAL)
    assert len(found.people) == num > 1
    sizes = [person.area["pixels"] for person in found.people]
    assert sizes == sorted(np.bincount(areas.ravel())[1:].tolist(), reverse=True)
    for person in found.people:
        own = found.ids == person.id
        (number,) = np.unique(areas[own])
        assert np.array_equal(own, areas == number)
        box = ndimage.find_objects(areas)[number - 1]
        assert person.area["bbox"] == {
            "top": box[0].start, "left": box[1].start,
            "height": box[0].stop - box[0].start, "width": box[1].stop - box[1].start,
        }  # fmt: skip
        assert person.area["share"] == round(own.mean(), 6)
        assert person.score == pytest.approx(certainty[own].sum(dtype=float), rel=1e-5)
        for name, part in person.parts.items():
            where = own & (labels == task.index(name))
            assert part["pixels"] == where.sum()
            assert part["score"] == pytest.approx(certainty[where].sum(dtype=float), abs=2e-3)
        assert sum(part["pixels"] for part in person.parts.values()) == own.sum()


def test_only_the_classes_of_people_count_and_noise_is_bounded() -> None:
    labels = np.array([[1, 0, 3, 0, 2]], np.uint8)
    found = find_components(labels, np.ones((1, 5), np.float32), HANDS, [1, 2])
    assert found.ids.tolist() == [[1, 0, 0, 0, 2]]
    assert find_components(np.zeros((2, 2), np.uint8), np.ones((2, 2), np.float32), HANDS, [1]).people == ()
    noise = np.zeros((200, 200), np.uint8)
    noise[::2, ::2] = 1
    noise[:5, :5] = 1
    found = find_components(noise, np.ones(noise.shape, np.float32), HANDS, [1])
    assert (len(found.people), found.people[0].area["pixels"]) == (MAX_PEOPLE, 25)
    assert found.ids.max() == MAX_PEOPLE
