"""Another background: what is labelled stays, labels follow what is seen, and nobody is mistaken for somebody else."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from seglab.data.augment import Augmentation
from seglab.data.backdrop import change_background, choose_backdrop, draw_backdrop
from seglab.data.view import View
from seglab.strengths import PRESETS
from seglab.tasks import IGNORE
from tests.data.blocks import GRID, PADDED

ALWAYS = replace(PRESETS["none"], background=1.0)


def person(height=120, width=90, *, label=1, colour=(200, 30, 40), around=(10, 60, 20), centre_yx=(60, 45), radius=30):
    """A disc of one colour, labelled, on another."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = (y - centre_yx[0]) ** 2 + (x - centre_yx[1]) ** 2 < radius**2
    image = np.where(inside[..., None], np.uint8(colour), np.uint8(around)).astype(np.uint8)
    return image, (inside * label).astype(np.uint8)


class Others:
    """Photos to take backgrounds from."""

    def __init__(self, *photos, people=True):
        self.photos = photos
        self.people = people

    def __len__(self):
        return len(self.photos)

    def load_all(self, index):
        image, labels = self.photos[index]
        return image, labels, (labels > 0).astype(np.uint8) if self.people else None


def views(photos, *, strengths=ALWAYS, preprocess=GRID, number=30, people=False, source=None):
    image, labels = source or person()
    ids = (labels > 0).astype(np.uint8) if people else None
    augmentation = Augmentation(preprocess, (0, 1, 2), strengths, 2, photos)
    return [augmentation(image, labels, epoch=0, name=str(index), people=ids) for index in range(number)]


@pytest.mark.parametrize("preprocess", [GRID, PADDED], ids=["stretch", "pad"])
def test_a_drawn_background_leaves_the_person_and_is_labelled_0(preprocess):
    plain = Augmentation(preprocess, (0, 1), PRESETS["none"])(*person(), epoch=0, name="")
    seen = views(None, preprocess=preprocess)
    well_inside = cv2.erode(plain.labels * np.uint8(plain.labels == 1), np.ones((5, 5))) == 1
    outside = plain.labels != 1
    for view in seen:
        assert well_inside.sum() > 200
        np.testing.assert_array_equal(view.labels, np.where(plain.labels == 1, 1, 0))
        assert np.abs(view.pixels.astype(int) - plain.pixels)[well_inside].max() <= 2
    assert len({view.pixels[outside].tobytes() for view in seen}) == 30
    far = ~cv2.dilate((plain.labels == 1).astype(np.uint8), np.ones((7, 7))).astype(bool)
    old = np.array([10, 60, 20])
    assert np.mean([np.abs(view.pixels[far].astype(int) - old).max(-1).min() > 3 for view in seen]) > 0.7


def test_who_is_in_the_other_photo_keeps_labels_and_is_hidden_by_the_first():
    other = person(100, 160, label=2, colour=(20, 40, 220), around=(250, 250, 240), centre_yx=(50, 60), radius=45)
    plain = Augmentation(GRID, (0, 1, 2), PRESETS["none"])(*person(), epoch=0, name="")
    both = 0
    for view in views(Others(other)):
        assert set(np.unique(view.labels)) <= {0, 1, 2}
        np.testing.assert_array_equal(view.labels == 1, plain.labels == 1)
        red, _, blue = np.moveaxis(view.pixels.astype(int), -1, 0)
        inner = cv2.erode(view.labels, np.ones((5, 5))) == cv2.dilate(view.labels, np.ones((5, 5)))
        inner[[0, 1, -2, -1]] = inner[:, [0, 1, -2, -1]] = False
        assert (red[inner & (view.labels == 1)] > 190).all()
        if (view.labels == 2).any():
            both += 1
            assert (blue[inner & (view.labels == 2)] > 200).all()
            assert (red[inner & (view.labels == 2)] < 40).all()
            assert (red[inner & (view.labels == 0)] > 230).all()
    assert both > 12


def test_the_edge_is_soft_and_shines_with_neither_background():
    view = View(np.full((40, 40, 3), 200, np.uint8), np.zeros((40, 40), np.uint8))
    view.labels[:, 20:] = 1
    view.pixels[:, :20] = 0  # the old background
    backdrop = View(np.full((40, 40, 3), 100, np.uint8), np.zeros((40, 40), np.uint8))
    mixed = change_background(view, view.labels * np.uint8(255), backdrop)
    row = mixed.pixels[20, :, 0].astype(int)
    assert (row[:18] == 100).all()
    assert (row[23:] == 200).all()
    assert row.min() > 70  # hardly anything of the black that was there
    assert 3 <= len(np.unique(row)) <= 6
    np.testing.assert_array_equal(mixed.labels, view.labels)


def test_what_is_unknown_stays_and_what_lies_beyond_the_photo_is_filled():
    image, labels = person()
    labels[:30] = IGNORE
    image[:30] = 77
    far = replace(ALWAYS, scale=3.0)
    filled = 0
    for view in views(None, source=(image, labels), strengths=far):
        unknown = view.labels == IGNORE
        if unknown.any():
            inner = cv2.erode(unknown.astype(np.uint8), np.ones((5, 5))).astype(bool)
            inner[[0, 1, -2, -1]] = inner[:, [0, 1, -2, -1]] = False
            assert np.abs(view.pixels[inner].astype(int) - 77).max(initial=0) <= 4
        filled += (view.labels[:, 0] == 0).all() and (view.labels[:, -1] == 0).all()
    assert filled > 5


def test_a_photo_without_anybody_keeps_its_background():
    image, _ = person()
    nobody = np.zeros((120, 90), np.uint8)
    plain = Augmentation(GRID, (0, 1), PRESETS["none"])(image, nobody, epoch=0, name="")
    for view in views(Others(person()), source=(image, nobody), number=5):
        np.testing.assert_array_equal(view.pixels, plain.pixels)
        assert not view.labels.any()


def test_two_people_never_share_a_number():
    other = person(100, 160, label=1, centre_yx=(50, 60), radius=45)
    pairs = 0
    for view in views(Others(other), people=True):
        np.testing.assert_array_equal(view.people > 0, view.labels > 0)
        assert set(np.unique(view.people)) <= {0, 1, 2}
        pairs += {1, 2} <= set(np.unique(view.people))
    assert pairs > 12


def test_who_is_who_is_unknown_if_it_is_for_one_of_both():
    seen = views(Others(person(), people=False), people=True)
    assert {view.people is None for view in seen} == {True, False}  # of what is drawn it is known: nobody


def test_left_and_right_change_places_in_a_flipped_other_photo():
    other = person(90, 120, label=1, centre_yx=(45, 30), radius=20)
    other[1][:, 60:] = 2 * (person(90, 120, centre_yx=(45, 90), radius=20)[1][:, 60:])
    mirrored = 0
    for number in range(60):
        view = choose_backdrop(np.random.default_rng(number), Others(other), GRID, (0, 2, 1))
        columns = [np.flatnonzero((view.labels == label).any(0)) for label in (1, 2)]
        if columns[0].size and columns[1].size:
            assert columns[0].mean() < columns[1].mean()
            mirrored += 1
    assert mirrored > 20


@pytest.mark.parametrize("preprocess", [GRID, PADDED], ids=["stretch", "pad"])
@pytest.mark.parametrize("size_hw", [(40, 400), (400, 40), (64, 48)])
def test_another_photo_fills_the_grid(preprocess, size_hw):
    other = np.full((*size_hw, 3), 9, np.uint8), np.full(size_hw, 1, np.uint8)
    for number in range(30):
        view = choose_backdrop(np.random.default_rng(number), Others(other), preprocess, (0, 1))
        if view.labels.any():  # not drawn
            assert (view.labels == 1).all()
            assert np.abs(view.pixels.astype(int) - 9).max() <= 1


def test_the_share_of_changed_backgrounds_is_as_asked_for():
    half = views(None, strengths=replace(ALWAYS, background=0.5), number=200)
    plain = Augmentation(GRID, (0, 1), PRESETS["none"])(*person(), epoch=0, name="")
    share = np.mean([not np.array_equal(view.pixels, plain.pixels) for view in half])
    assert 0.4 < share < 0.6


def test_drawn_backgrounds_differ_and_most_are_not_flat():
    drawn = [draw_backdrop(np.random.default_rng(number), (48, 64)) for number in range(30)]
    assert {picture.shape for picture in drawn} == {(48, 64, 3)}
    assert len({picture.tobytes() for picture in drawn}) == 30
    assert np.mean([picture.std((0, 1)).max() > 5 for picture in drawn]) > 0.8
