"""Augmentation: no label is invented, left stays left, every strength does its part and no other, and the same key
gives the same view."""

import hashlib
import subprocess
import sys
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest

from seglab.data.appearance import degrade, recolour
from seglab.data.augment import Augmentation
from seglab.data.geometry import fit_image, fit_labels
from seglab.data.view import mirror_labels
from seglab.strengths import PRESETS, PROBABILITIES, Strengths
from seglab.tasks import IGNORE, TASKS
from tests.data.blocks import GRID, PADDED, scene

MIRRORED = [task for task in TASKS.values() if task.mirror]
NAMES = [field.name for field in fields(Strengths)]
GEOMETRY = {"hflip", "scale", "aspect", "rotate", "shift", "elastic"}
LOOKS = {"photometric", "blur", "lowres", "noise", "jpeg"}


def only(name, value=None):
    """A part alone, as strong as it may be unless told otherwise."""
    strongest = 1.0 if name in PROBABILITIES else 3.0
    return replace(PRESETS["none"], **{name: strongest if value is None else value})


def augment(strengths, image, labels, *, number=0, preprocess=GRID, seed=0, people=None, mirror=None, photos=None):
    augmentation = Augmentation(preprocess, mirror or tuple(range(11)), strengths, seed, photos)
    view = augmentation(image, labels, epoch=number // 7, name=f"s{number % 7}", people=people)
    assert view.pixels.shape == (*preprocess.size_hw, 3)
    assert view.labels.shape == preprocess.size_hw
    assert view.pixels.dtype == view.labels.dtype == np.uint8
    assert view.pixels.flags.c_contiguous
    return view


def test_there_are_tasks_with_left_and_right():
    assert [task.name for task in MIRRORED] == ["face"]


@pytest.mark.parametrize("preprocess", [GRID, PADDED], ids=["stretch", "pad"])
@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_a_flip_is_the_flipped_view_with_left_and_right_swapped(task, preprocess):
    image, labels = scene(num_classes=task.num_classes)
    people = (labels % 3).astype(np.uint8)
    options = {"mirror": task.mirror_permutation(), "preprocess": preprocess, "seed": 3, "people": people}
    for number in range(5):
        plain = augment(Strengths(hflip=0.0, elastic=0.5), image, labels, number=number, **options)
        flipped = augment(Strengths(hflip=1.0, elastic=0.5), image, labels, number=number, **options)
        np.testing.assert_array_equal(flipped.pixels, plain.pixels[:, ::-1])
        np.testing.assert_array_equal(flipped.people, plain.people[:, ::-1])
        swapped = plain.labels[:, ::-1].copy()
        for left, right in task.mirror:
            a, b = task.index(left), task.index(right)
            was_a, was_b = swapped == a, swapped == b
            swapped[was_a], swapped[was_b] = b, a
        np.testing.assert_array_equal(flipped.labels, swapped)


def test_mirroring_twice_changes_nothing():
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    mirror = TASKS["face"].mirror_permutation()
    once = mirror_labels(labels, mirror)
    assert set(once.ravel()) == set(range(256))
    assert not np.array_equal(once[:, ::-1], labels)
    np.testing.assert_array_equal(mirror_labels(once, mirror), labels)


@pytest.mark.parametrize("preprocess", [GRID, PADDED], ids=["stretch", "pad"])
def test_without_strengths_it_is_the_plain_view(preprocess):
    image, labels = scene()
    view = augment(PRESETS["none"], image, labels, number=9, preprocess=preprocess)
    np.testing.assert_array_equal(view.pixels, fit_image(image, preprocess)[0])
    np.testing.assert_array_equal(view.labels, fit_labels(labels, preprocess))


@pytest.mark.parametrize("strength", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("preprocess", [GRID, PADDED], ids=["stretch", "pad"])
def test_labels_gain_no_value_and_stay_on_the_grid(preprocess, strength):
    image, labels = scene(num_classes=3)
    labels[labels == 1] = 7
    strengths = replace(Strengths.uniform(strength), elastic=0.5, background=0.5)
    seen = set()
    for number in range(40):
        seen |= set(np.unique(augment(strengths, image, labels, number=number, preprocess=preprocess).labels).tolist())
    assert seen == {0, 2, 7, IGNORE}


@pytest.mark.parametrize("name", NAMES)
def test_every_strength_does_something_and_at_0_nothing(name):
    image, labels = scene()
    views = [augment(only(name), image, labels, number=number) for number in range(40)]
    plain = augment(PRESETS["none"], image, labels)
    changed = [not np.array_equal(view.pixels, plain.pixels) for view in views]
    assert sum(changed) >= (40 if name in PROBABILITIES else 4)
    relabelled = any(not np.array_equal(view.labels, plain.labels) for view in views)
    assert relabelled == (name in GEOMETRY | {"cutout"})  # a drawn background is labelled as the one before
    weak = [augment(only(name, 1e-9), image, labels, number=number) for number in range(20)]
    assert max(np.abs(view.pixels.astype(int) - plain.pixels).mean() for view in weak) < 3


@pytest.mark.parametrize("preprocess", [GRID, PADDED], ids=["stretch", "pad"])
@pytest.mark.parametrize("name", [*sorted(GEOMETRY), "all"])
def test_photo_and_labels_move_together(name, preprocess):
    """Where all labels around a pixel agree, its red channel is 20 times the label. (Not at the frame.)"""
    image, labels = scene(seed=4)
    strengths = replace(PRESETS["none"], **dict.fromkeys(GEOMETRY, 1.0)) if name == "all" else only(name)
    checked = 0
    for number in range(20):
        view = augment(strengths, image, labels, number=number, preprocess=preprocess)
        known = view.labels != IGNORE
        inner = (cv2.erode(view.labels, np.ones((5, 5))) == cv2.dilate(view.labels, np.ones((5, 5)))) & known
        inner[[0, 1, -2, -1]] = inner[:, [0, 1, -2, -1]] = False
        difference = view.pixels[..., 0].astype(int) - 20 * view.labels.astype(int)
        assert np.abs(difference[inner]).max(initial=0) <= 2
        checked += int(inner.sum())
    assert checked > 1000


@pytest.mark.parametrize("part", NAMES)
def test_switching_one_part_off_leaves_the_others_as_they_were(part):
    """What a part drew is seen in labels or in a photo of one colour, which the other parts cannot change."""
    image, labels = scene()
    everything = replace(Strengths(), elastic=0.5, background=0.5)
    less = replace(everything, **{part: 0.0})
    same_place = 0
    for number in range(12):
        a, b = (augment(each, image, labels, number=number) for each in (everything, less))
        same_place += np.array_equal(a.labels, b.labels)
    if part in LOOKS:
        assert same_place == 12
    if part in GEOMETRY | {"cutout", "background"}:
        assert same_place < 12
    plain, off = np.full_like(image, 128), dict.fromkeys(("cutout", "background", *LOOKS - {"photometric"}), 0.0)
    for number in range(12):
        a, b = (augment(replace(each, **off), plain, labels, number=number) for each in (everything, less))
        same_colour = np.abs(a.pixels.astype(int) - b.pixels).max() <= 2
        assert same_colour == (part != "photometric")


def test_a_view_depends_on_seed_epoch_and_name_and_on_nothing_else():
    image, labels = scene()
    copies = image.copy(), labels.copy()
    strengths = replace(Strengths(), elastic=0.5, background=0.5)
    views = {}
    for seed in (5, 6):
        for epoch in range(3):
            for name in ("a", "b", "ü/c"):
                augmentation = Augmentation(GRID, tuple(range(11)), strengths, seed)
                views[seed, epoch, name] = augmentation(image, labels, epoch=epoch, name=name)
    np.random.seed(1)  # noqa: NPY002 - the global states must not matter
    cv2.setRNGSeed(7)
    for (seed, epoch, name), view in reversed(views.items()):
        again = Augmentation(GRID, tuple(range(11)), strengths, seed)(image, labels, epoch=epoch, name=name)
        np.testing.assert_array_equal(again.pixels, view.pixels)
        np.testing.assert_array_equal(again.labels, view.labels)
    assert len({view.pixels.tobytes() for view in views.values()}) == 18
    np.testing.assert_array_equal(image, copies[0])
    np.testing.assert_array_equal(labels, copies[1])


def test_another_process_with_other_threads_sees_the_same_views():
    program = (
        "import hashlib, sys; import cv2, numpy as np; cv2.setNumThreads(int(sys.argv[1]));"
        "from seglab.preprocess import Preprocess; from seglab.data.augment import Augmentation;"
        "from seglab.strengths import Strengths;"
        "labels = np.kron(np.arange(48, dtype=np.uint8).reshape(8, 6), np.ones((40, 50), np.uint8));"
        "image = np.stack([labels * 5, labels.T.copy().reshape(labels.shape), labels + 9], -1);"
        "strengths = Strengths(elastic=0.5, background=0.5, blur=4, noise=4, jpeg=4, lowres=4);"
        "aug = Augmentation(Preprocess(size_hw=(96, 128)), tuple(range(48)), strengths, 3);"
        "views = [aug(image, labels, epoch=i, name=f's{i}') for i in range(30)];"
        "print(hashlib.sha256(b''.join(v.pixels.tobytes() + v.labels.tobytes() for v in views)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program, threads], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
        ).stdout
        for threads, seed in (("1", "1"), ("4", "2"))
    }  # fmt: skip
    assert len(digests) == 1
    assert len(digests.pop().strip()) == len(hashlib.sha256().hexdigest())


def test_strength_changes_more():
    image, labels = scene()
    plain = fit_image(image, GRID)[0].astype(int)

    def change(strength):
        strengths = replace(Strengths.uniform(strength), hflip=0)
        views = [augment(strengths, image, labels, number=number).pixels for number in range(30)]
        return np.mean([np.abs(view - plain).mean() for view in views])

    assert 0 < change(0.1) < change(0.5) < change(1.5)


def test_what_is_cut_out_is_not_asked_for():
    image, labels = scene()
    people = np.where(labels == IGNORE, IGNORE, labels % 3).astype(np.uint8)
    plain = augment(PRESETS["none"], image, labels, people=people)
    shares = []
    for number in range(60):
        view = augment(only("cutout"), image, labels, number=number, people=people)
        hidden = (view.labels == IGNORE) & (plain.labels != IGNORE)
        np.testing.assert_array_equal(view.people == IGNORE, view.labels == IGNORE)
        np.testing.assert_array_equal(view.pixels[~hidden & known(plain)], plain.pixels[~hidden & known(plain)])
        if hidden.any():
            assert len(np.unique(view.pixels[hidden], axis=0)) == 1
            rows, columns = np.flatnonzero(hidden.any(1)), np.flatnonzero(hidden.any(0))
            inside = hidden[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert (inside | ~known(plain)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]).all()
            shares.append(hidden.mean())
    assert 25 < len(shares) < 55
    assert max(shares) < 0.15


def known(view):
    return view.labels != IGNORE


def test_colours_change_by_light_hue_and_saturation_but_grey_stays_near_grey():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    colour = np.zeros((1, 1, 3), np.uint8) + np.array([200, 120, 60], np.uint8)
    lights, hues, saturations, greys = [], [], [], 0
    for number in range(200):
        grey_ramp = recolour(ramp, np.random.default_rng(number), 1.0).astype(int)
        assert (np.diff(grey_ramp[0], axis=0) >= 0).all()  # lighter stays lighter
        assert np.ptp(grey_ramp, axis=2).max() <= 80
        changed = recolour(colour, np.random.default_rng(number), 1.0)
        hue, saturation, light = cv2.cvtColor(changed, cv2.COLOR_RGB2HSV_FULL)[0, 0].tolist()
        lights.append(light)
        if np.ptp(changed) <= 1:
            greys += 1
        else:
            hues.append((hue + 128) % 256 - 128)
            saturations.append(saturation)
    assert 5 < greys < 35
    assert np.ptp(lights) > 20
    assert 3 < np.std(hues) < 12
    assert abs(np.mean(hues) - 18) < 4
    assert np.std(saturations) > 15


@pytest.mark.parametrize("name", ["blur", "lowres", "noise", "jpeg"])
def test_a_camera_takes_detail_or_adds_noise_but_keeps_the_light(name):
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(40, 216, (16, 12, 3), np.uint8), (192, 256), interpolation=cv2.INTER_NEAREST)
    detail, drift, hits = [], [], 0
    for number in range(150):
        pixels = degrade(image, np.random.default_rng(number), only(name, 4.0))
        if np.array_equal(pixels, image):
            continue
        hits += 1
        detail.append(cv2.Laplacian(pixels, cv2.CV_32F).std() / cv2.Laplacian(image, cv2.CV_32F).std())
        drift.append(np.abs(pixels.mean((0, 1)) - image.mean((0, 1))).max())
    assert 30 < hits < 100
    assert max(drift) < 1.0
    if name in ("blur", "lowres"):
        assert np.median(detail) < 0.8
        assert max(detail) < 1.0
    if name == "noise":
        assert min(detail) > 1.0


def test_noise_is_normal_and_different_everywhere():
    grey = np.full((200, 200, 3), 128, np.uint8)
    seen = 0
    for number in range(20):
        noise = degrade(grey, np.random.default_rng(number), only("noise", 10.0)).astype(float) - 128
        if noise.any():
            seen += 1
            assert abs(noise.mean()) < 0.1
            assert 1.8 < noise.std() < 10.2
            kurtosis = (noise**4).mean() / noise.var() ** 2
            assert abs(kurtosis - 3) < 0.2
            flat = noise.reshape(-1, 3)
            assert np.abs(np.corrcoef(flat.T)[np.triu_indices(3, 1)]).max() < 0.02
            assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.02
    assert seen >= 5
