"""Near-duplicate photos: copies are found, other photos are not, and 60,000 are no trouble."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.data.duplicates import (
    ACROSS_SPLITS,
    MAX_DISTANCE,
    MAX_HASH_DISTANCE,
    NUM_WORDS,
    PhotoIndex,
    fingerprint,
    near_duplicates,
)
from seglab.data.images import read_photo, resize_image, write_labels, write_photo
from seglab.data.prepare import prepare
from seglab.data.scene import draw_scene
from seglab.tasks import TASKS

Image = np.ndarray


def compressed(image: Image, quality: int) -> Image:
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].copy()


def brighter(image: Image, by: int) -> Image:
    return np.clip(image.astype(int) + by, 0, 255).astype(np.uint8)


def half(image: Image) -> Image:
    return resize_image(image, (image.shape[0] // 2, image.shape[1] // 2))


COPIES: dict[str, Callable[[Image], Image]] = {
    "same": lambda image: image,
    "half": half,
    "twice": lambda image: resize_image(image, (image.shape[0] * 2, image.shape[1] * 2)),
    "squeezed": lambda image: resize_image(image, (image.shape[0], image.shape[1] // 2)),
    "jpeg 30": lambda image: compressed(image, 30),
    "brighter": lambda image: brighter(image, 30),
    "darker": lambda image: brighter(image, -30),
    "gamma": lambda image: (255 * (image / 255.0) ** 1.4).astype(np.uint8),
    "grey": lambda image: np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    "all at once": lambda image: compressed(brighter(half(image), 20), 50),
}


def distance(a: np.ndarray, b: np.ndarray) -> int:
    return sum(bin(int(x) ^ int(y)).count("1") for x, y in zip(a, b, strict=True))


def scenes(num: int) -> list[Image]:
    return [draw_scene(11, i, "figure" if i % 2 else "portrait", (128, 112)).image for i in range(num)]


@pytest.fixture(scope="module")
def people() -> list[Image]:
    return scenes(40)


@pytest.mark.parametrize("copy", COPIES.values(), ids=list(COPIES))
def test_copies_of_scenes_are_found(copy, people):
    originals = np.array([fingerprint(image) for image in people])
    copies = np.array([fingerprint(copy(image)) for image in people])
    groups = near_duplicates(np.concatenate([originals, copies]))
    assert groups == [[i, i + len(people)] for i in range(len(people))]


def test_other_scenes_are_not(people):
    assert near_duplicates(np.array([fingerprint(image) for image in people])) == []


def test_a_plain_surface_has_no_fingerprint():
    plain = np.full((50, 60, 3), 120, np.uint8)
    assert fingerprint(plain) is None
    plain[::2] += 1
    assert fingerprint(plain) is None


def test_the_first_word_is_phash(people):
    """Against a direct cosine sum, the definition of the transform."""
    image = people[0]
    grey = cv2.cvtColor(resize_image(image, (32, 32)), cv2.COLOR_RGB2GRAY).astype(float)
    angle = (2 * np.arange(32) + 1) * np.pi / 64
    waves = np.array(
        [[(grey * np.outer(np.cos(v * angle), np.cos(u * angle))).sum() for u in range(1, 9)] for v in range(1, 9)]
    ).ravel()
    bits = waves > np.median(waves)
    assert int(fingerprint(image)[0]) == sum(1 << place for place in range(64) if bits[place])


@given(st.integers(0, 2**32), st.integers(2, 90), st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_groups_are_those_of_comparing_every_pair(seed, num, flips):
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**63, (4, NUM_WORDS), dtype=np.uint64)[rng.integers(0, 4, num)]
    for row in words:  # some copies stay near, some do not
        for place in rng.integers(0, 256, rng.integers(0, flips + 1)):
            row[place // 64] ^= np.uint64(1) << np.uint64(place % 64)
    group = list(range(num))
    for i in range(num):
        for j in range(i):
            if (
                distance(words[i, :1], words[j, :1]) <= MAX_HASH_DISTANCE
                and distance(words[i], words[j]) <= MAX_DISTANCE
            ):
                group = [group[j] if name == group[i] else name for name in group]
    expected = [[i for i in range(num) if group[i] == name] for name in dict.fromkeys(group)]
    assert near_duplicates(words) == [members for members in expected if len(members) > 1]


def test_pairs_far_apart_in_the_list_are_found():
    words = np.random.default_rng(0).integers(0, 2**63, (9000, NUM_WORDS), dtype=np.uint64)
    words[8999] = words[3]
    words[4096] = words[4095]
    words[7000] = words[16] ^ np.uint64(0b1011)
    assert near_duplicates(words) == [[3, 8999], [16, 7000], [4095, 4096]]


def test_none_and_one():
    assert near_duplicates(np.zeros((0, NUM_WORDS), np.uint64)) == []
    assert near_duplicates(np.zeros((1, NUM_WORDS), np.uint64)) == []


@pytest.mark.slow
def test_60000_photos_take_seconds():
    words = np.random.default_rng(0).integers(0, 2**63, (60_000, NUM_WORDS), dtype=np.uint64)
    words[59_000] = words[100]
    start_s = time.process_time()
    assert near_duplicates(words) == [[100, 59_000]]
    assert time.process_time() - start_s < 8  # 1.4 s on the machine it was written on


def test_an_index_names_groups_across_splits_only(people):
    index = PhotoIndex()
    for id, path, image in [
        ("c", "c.jpg", half(people[0])),
        ("a", "a.jpg", people[0]),
        ("b", "b.jpg", people[1]),
        ("d", "d.jpg", brighter(people[1], 10)),
        ("gone", "gone.jpg", people[2]),
        ("e", "e.jpg", people[2]),
        ("plain", "plain.jpg", np.zeros((9, 9, 3), np.uint8)),
    ]:
        index.add(id, path, image)
    splits = {"a": "train", "b": "train", "c": "test", "d": "train", "e": "val", "plain": "val"}
    assert index.across(splits) == ["a.jpg (train) ~ c.jpg (test)"]
    assert PhotoIndex().across({}) == []


def test_large_groups_are_cut_short(people):
    index = PhotoIndex()
    for number in range(9):
        index.add(str(number), f"{number}.jpg", people[0])
    told = index.across({str(number): "test" if number == 8 else "train" for number in range(9)})
    assert told == [" ~ ".join(f"{number}.jpg (train)" for number in range(6)) + " and 3 more"]


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("bad", [False, True])
def test_prepare_tells_of_copies_in_other_splits(dry_run, bad, people, tmp_path):
    """Whatever splits the pairs end up in, also when bad pairs are dropped."""
    raw = tmp_path / "raw"
    for index, image in enumerate(people[:20]):
        for name, photo in (("a", image), ("b", compressed(half(image), 60))):
            write_photo(raw_dir(raw / "images") / f"{index:02d}{name}.jpg", photo)
            labels = np.zeros(photo.shape[:2], np.uint8)
            labels[4:9] = 9 if bad and index < 2 else 1
            write_labels(raw_dir(raw / "masks") / f"{index:02d}{name}.png", labels)
    options = {"task": TASKS["person"], "drop_bad": True, "workers": 0, "val": 0.2, "test": 0.2}
    done = prepare(raw, tmp_path / "out", dry_run=dry_run, **options)
    dataset = done.dataset or prepare(raw, tmp_path / "out", **options).dataset
    split = {sample.id: sample.split for sample in dataset.samples}
    pairs = [(f"{index:02d}a", f"{index:02d}b") for index in range(2 * bad, 20)]
    expected = [f"images/{a}.jpg ({split[a]}) ~ images/{b}.jpg ({split[b]})" for a, b in pairs if split[a] != split[b]]
    assert expected
    if not (bad and dry_run):  # a dry run does not know the splits of what would be left
        assert done.findings.notes[ACROSS_SPLITS] == expected


def raw_dir(dir: Path) -> Path:
    dir.mkdir(parents=True, exist_ok=True)
    return dir


@pytest.fixture(scope="module")
def photos() -> list[Image]:
    root = os.environ.get("SEGLAB_REAL_DATA")
    if not root:
        pytest.skip("SEGLAB_REAL_DATA is not set")
    return [read_photo(path).image for path in sorted((Path(root) / "person" / "images").iterdir())]


@pytest.mark.real
def test_few_false_alarms_among_real_photos(photos):
    """Of 250 photos two are the same file; nobody else looks alike."""
    groups = near_duplicates(np.array([fingerprint(image) for image in photos]))
    assert sum(len(group) for group in groups) <= 2
    for first, second in groups:
        assert np.array_equal(photos[first], photos[second])


@pytest.mark.real
@pytest.mark.parametrize("copy", COPIES.values(), ids=list(COPIES))
def test_copies_of_real_photos_are_found(copy, photos):
    for image in photos[::5]:
        original, changed = fingerprint(image), fingerprint(copy(image))
        assert near_duplicates(np.array([original, changed])) == [[0, 1]]
