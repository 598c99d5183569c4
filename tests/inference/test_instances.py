"""People told apart: drawn scenes whose truth is known, a plain re-writing of the search, and the score's formula."""

import cv2
import numpy as np
import pytest
from skimage.morphology import thin as skimage_thin

from seglab.data.edges import edges_from_labels
from seglab.data.geometry import place
from seglab.data.scene import draw_scene, labels_for
from seglab.inference.fragments import LEAST_PIXELS, merge_fragments
from seglab.inference.instances import find_instances, part_scores, partition
from seglab.inference.thinning import thin
from seglab.preprocess import Preprocess
from seglab.tasks import TASKS

PARSING = TASKS["parsing"]


def strokes(persons):
    """What a good network says of outlines: soft, and wider than they are."""
    return np.clip(2 * cv2.GaussianBlur(edges_from_labels(persons).astype(np.float32), (0, 0), 2.0), 0, 1)


def best_iou(ids, mask):
    return max(((ids == k) & mask).sum() / ((ids == k) | mask).sum() for k in range(1, ids.max() + 1))


def whole(mask):
    return cv2.connectedComponents(mask.view(np.uint8))[0] == 2


def group():
    """Three people who touch, all of the same three parts."""
    labels, persons = np.zeros((240, 300), np.uint8), np.zeros((240, 300), np.uint8)
    for person, (x, top) in enumerate([(150, 40), (90, 70), (205, 75)], start=1):
        for part, (y, half, height) in enumerate([(top, 18, 36), (top + 34, 32, 80), (top + 112, 22, 60)], start=1):
            part_of = slice(y, min(y + height, 238)), slice(x - half, x + half)
            labels[part_of], persons[part_of] = part, person
    for person, reach in ((2, slice(118, 140)), (3, slice(160, 182))):  # an arm round the first one's waist
        labels[130:142, reach], persons[130:142, reach] = 2, person
    return labels, persons


def test_people_that_touch_are_told_apart():
    labels, persons = group()
    ids = partition(labels, strokes(persons))
    np.testing.assert_array_equal(ids > 0, labels > 0)
    assert ids.max() == 3
    for person in (1, 2, 3):
        assert best_iou(ids, persons == person) > 0.97
    assert np.bincount(ids.ravel())[1:].tolist() == sorted(np.bincount(ids.ravel())[1:], reverse=True)
    assert partition(labels, np.zeros_like(strokes(persons))).max() == 1


def test_drawn_people():
    """One who is not cut in two by somebody in front of him is found as he is."""
    num_found = num_people = 0
    extra = []
    for index in range(40):
        scene = draw_scene(7, index, "figure", (320, 280))
        labels = labels_for(scene, PARSING)
        ids = partition(labels, strokes(scene.persons))
        np.testing.assert_array_equal(ids > 0, labels > 0)
        masks = [(scene.persons == person) & (labels > 0) for person in range(1, scene.num_persons + 1)]
        if scene.num_persons < 2 or not all(map(whole, masks)):
            continue
        extra.append(int(ids.max()) - scene.num_persons)
        num_people += len(masks)
        num_found += sum(best_iou(ids, mask) > 0.95 for mask in masks)
    assert num_people >= 20
    assert num_found >= 0.95 * num_people
    assert min(extra) == 0
    assert extra.count(0) >= 0.75 * len(extra)


def plain_search(foreground, lines):
    """The published way: number runs along rows and columns, then search along equal numbers."""
    runs = []
    for turned in (False, True):
        free = (foreground & ~lines).T if turned else foreground & ~lines
        numbers = np.zeros(free.shape, int)
        for i, j in zip(*np.nonzero(free), strict=True):
            numbers[i, j] = numbers[i, j - 1] if j and free[i, j - 1] else numbers.max() + 1
        runs.append(numbers.T if turned else numbers)
    found = np.zeros(foreground.shape, int)
    for start in zip(*np.nonzero(runs[0]), strict=True):
        queue, number = [start], found.max() + 1
        while queue:
            y, x = queue.pop()
            if found[y, x]:
                continue
            found[y, x] = number
            for v, u, numbers in ((y - 1, x, runs[1]), (y + 1, x, runs[1]), (y, x - 1, runs[0]), (y, x + 1, runs[0])):
                inside = 0 <= v < found.shape[0] and 0 <= u < found.shape[1]
                if inside and numbers[v, u] and numbers[v, u] == numbers[y, x]:
                    queue.append((v, u))
    return found


def test_enclosed_areas_are_what_the_published_search_finds():
    rng = np.random.default_rng(0)
    for _ in range(5):
        foreground, lines = rng.random((24, 31)) < 0.9, rng.random((24, 31)) < 0.35
        _, ours = cv2.connectedComponents((foreground & ~lines).view(np.uint8), connectivity=4)
        plain = plain_search(foreground, lines)
        assert len(np.unique(np.stack([ours.ravel(), plain.ravel()]), axis=1).T) == ours.max() + 1 == plain.max() + 1


@pytest.mark.parametrize("seed", range(6))
def test_thinning_is_that_of_scikit_image(seed):
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.random((70, 90)).astype(np.float32), (0, 0), 0.5 + seed)
    mask = noise > np.quantile(noise, 0.6)
    np.testing.assert_array_equal(thin(mask), skimage_thin(mask))
    assert mask.any()


def test_thinning_touches_nothing_that_is_thin_or_given():
    mask = np.zeros((5, 9), bool)
    mask[2, 1:8] = True
    before = mask.copy()
    np.testing.assert_array_equal(thin(mask), mask)
    np.testing.assert_array_equal(mask, before)
    assert not thin(np.zeros((3, 4), bool)).any()
    assert thin(np.ones((1, 1), bool)).all()


def test_an_outline_that_ends_at_the_border_of_the_picture_goes_on():
    """Strokes fade where the picture ends; the people go on."""
    labels = np.ones((60, 80), np.uint8)
    labels[:30] = 2
    edges = np.zeros((60, 80), np.float32)
    edges[7:52, 38:42] = 0.9
    ids = partition(labels, edges)
    assert ids.max() == 2
    assert (ids[:, :36] == ids[0, 0]).all()
    assert (ids[:, 44:] == ids[0, -1]).all()
    assert (partition(labels, edges * 0.2) == 1).all()


def test_sides_do_not_matter():
    labels, persons = group()
    ids = partition(labels, strokes(persons))
    for turn in (1, 2, 3):
        turned = partition(np.rot90(labels, turn).copy(), np.rot90(strokes(persons), turn).copy())
        assert np.mean(np.rot90(turned, -turn) == ids) > 0.99


def test_an_outline_through_one_person_does_not_halve_a_part():
    """Both halves of the head have a single class: fragments, which join the body that they touch."""
    labels, persons = group()
    edges = strokes(persons)
    edges[40:74, 149:152] = 0.9
    ids = partition(labels, edges)
    assert ids.max() == 3
    assert best_iou(ids, persons == 1) > 0.97


def test_a_part_alone_is_a_person_where_there_is_only_one_class():
    labels = np.ones((40, 80), np.uint8)
    edges = np.zeros((40, 80), np.float32)
    edges[:, 39:42] = 1
    assert partition(labels, edges).max() == 1
    assert partition(labels, edges, parts_matter=False).max() == 2


def test_specks():
    labels = np.zeros((80, 120), np.uint8)
    labels[10:70, 10:40], labels[10:30, 10:40] = 1, 2
    labels[20, 44] = 1
    labels[60:63, 110:113] = 2
    ids = partition(labels, np.zeros((80, 120), np.float32))
    assert (ids[20, 44], ids[61, 111], ids.max()) == (1, 2, 2)


def test_foreground_that_outlines_cover_altogether():
    labels = np.zeros((50, 60), np.uint8)
    labels[10:40, 30] = 1
    edges = np.zeros((50, 60), np.float32)
    edges[8:42, 30] = 1
    assert (partition(labels, edges)[labels > 0] == 1).all()
    assert not partition(np.zeros_like(labels), edges).any()


def areas_of(text):
    rows = [[" abcdefgh".index(letter) for letter in line] for line in text.split("/")]
    return np.array(rows, np.int32)


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("aa bb", "aa aa"),  # both fragments: the smaller number is as good
        ("aa  bb", "aa  bb"),  # too far apart
        ("aa b / a  b/aa bb", None),
    ],
)
def test_contact_is_across_a_line(text, joined):
    areas = areas_of(text)
    merged = merge_fragments(areas, np.ones(areas.shape, np.uint8))
    if joined:
        assert len(np.unique(merged)) == len(np.unique(areas_of(joined)))
    else:
        assert len(np.unique(merged[merged > 0])) == 1
    np.testing.assert_array_equal(merged > 0, areas > 0)


def test_fragments_join_whom_they_touch_most():
    areas = np.zeros((20, 30), np.int32)
    areas[:, :12], areas[:, 20:], areas[8:12, 13:19] = 1, 2, 3
    areas[6:8, 13:19] = 3
    areas[13:, 13:19] = 0
    labels = np.where(np.arange(20)[:, None] % 2, 1, 2).astype(np.uint8) * np.ones((1, 30), np.uint8)
    areas[9, 18] = 0  # a contact less on the right
    merged = merge_fragments(areas, labels, parts_matter=False)
    assert (areas == 3).sum() > LEAST_PIXELS
    assert merged.max() == 3  # large enough, and of two classes
    areas[6:9] = np.where(areas[6:9] == 3, 0, areas[6:9])
    assert (areas == 3).sum() <= LEAST_PIXELS
    merged = merge_fragments(areas, labels, parts_matter=False)
    assert set(np.unique(merged[areas == 3])) == {1}
    assert set(np.unique(merged)) == {0, 1, 2}


def test_a_chain_of_fragments_ends_at_a_person():
    """Rings of one class each, with a person of two classes at the end."""
    areas = np.repeat(np.arange(1, 9, dtype=np.int32), 5)[None].repeat(10, axis=0)
    areas[:, 4::5] = 0
    labels = np.ones_like(areas, dtype=np.uint8)
    labels[:5, 35:] = 2
    merged = merge_fragments(areas, labels)
    assert set(np.unique(merged[areas > 0])) == {8}


def plain_scores(ids, labels, certainty, edges):
    outlines = edges_from_labels(labels) + np.where(edges < 1 / 255, 0, edges.astype(np.float64))
    scores = {}
    for person in range(1, ids.max() + 1):
        for part in np.unique(labels[ids == person]):
            where = (ids == person) & (labels == part)
            strong = outlines[where][outlines[where] > 0]
            scores[person, part] = where.sum() * certainty[where].mean() * (strong.mean() if len(strong) else 1)
    return scores


def test_scores_of_parts():
    labels, persons = group()
    rng = np.random.default_rng(1)
    certainty = rng.uniform(0.3, 1, labels.shape).astype(np.float32)
    edges = np.where(rng.random(labels.shape) < 0.2, rng.random(labels.shape), 0.003).astype(np.float32)
    edges[persons == 2] = 0
    ids = partition(labels, strokes(persons))
    expected = plain_scores(ids, labels, certainty, edges)
    assert len(expected) == 9
    assert part_scores(ids, labels, certainty, edges) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("photo_hw", "fit"), [((240, 300), "stretch"), ((1100, 1400), "pad"), ((90, 120), "stretch")])
def test_from_logits_to_the_people_of_a_photo(photo_hw, fit):
    labels, persons = group()
    labels, persons = (cv2.resize(a, photo_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT) for a in (labels, persons))
    placement = place(photo_hw, Preprocess(size_hw=(256, 256), fit=fit))
    top, left, height, width = placement.box
    logits = np.zeros((PARSING.num_classes, 256, 256), np.float32)
    edge_logits = np.full((256, 256), -6, np.float32)
    box = np.s_[top : top + height, left : left + width]
    for number in range(4):
        logits[number][box] = 8 * cv2.resize((labels == number).astype(np.float32), (width, height), interpolation=3)
    edge = edges_from_labels(cv2.resize(persons, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))
    edge_logits[box] = np.clip(16 * cv2.GaussianBlur(edge.astype(np.float32), (0, 0), 1) - 6, -6, 6)
    found = find_instances(logits, edge_logits, placement, labels, PARSING)
    assert (found.ids.dtype, found.ids.shape) == (np.uint16, photo_hw)
    np.testing.assert_array_equal(found.ids > 0, labels > 0)
    assert [person.id for person in found.people] == [1, 2, 3]
    for person in (1, 2, 3):
        assert best_iou(found.ids, persons == person) > 0.9
    for person in found.people:
        mask = found.ids == person.id
        values = person.to_dict()
        assert values["pixels"] == mask.sum() == sum(part["pixels"] for part in values["parts"].values())
        assert values["bbox"]["height"] == np.ptp(np.flatnonzero(mask.any(axis=1))) + 1
        assert list(values["parts"]) == list(PARSING.classes[1:4])
        assert 0.5 * mask.sum() < values["score"] < 2 * mask.sum()


def test_nobody():
    placement = place((30, 40), Preprocess(size_hw=(32, 32)))
    nothing = np.zeros((30, 40), np.uint8)
    logits = np.zeros((PARSING.num_classes, 32, 32), np.float32)
    found = find_instances(logits, np.zeros((32, 32), np.float32), placement, nothing, PARSING)
    assert (found.people, found.ids.any()) == ((), False)
