"""Batches: every sample once an epoch, the same after a restart, bounded memory, errors with a name."""

import threading
import time
from dataclasses import replace
from itertools import zip_longest

import numpy as np
import pytest

from seglab.config import TrainConfig
from seglab.data.images import read_labels, read_photo, resize_image, resize_labels, write_photo
from seglab.data.loader import TrainingSamples, epoch_batches, plan_epoch
from seglab.data.manifest import open_dataset
from seglab.data.samples import _kept_hw
from seglab.data.writer import DatasetWriter
from seglab.errors import DataError, UsageError
from seglab.preprocess import Preprocess
from seglab.strengths import Strengths
from seglab.tasks import TASKS

GRID = Preprocess(size_hw=(32, 32))


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def dataset(tmp_path):
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "data", TASKS["clothes"], "test", {}) as writer:
        for number in range(11):
            labels = np.full((90 + number, 70), number % 4, np.uint8)
            image = rng.integers(0, 256, (*labels.shape, 3), np.uint8)
            writer.add(f"s{number:02d}", "train", image, labels, lossless=True)
        writer.add("v", "val", image, labels)
        writer.finish()
    return open_dataset(tmp_path / "data")


def batches(dataset, config, epoch, start_step=0, workers=2, **options):
    samples = TrainingSamples(dataset, "train", GRID, **options)
    return list(epoch_batches(samples, config, epoch, start_step, workers=workers))


@pytest.mark.parametrize("num_samples", [1, 2, 3, 5, 8, 9, 17, 200])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 300])
def test_a_plan_takes_every_sample_once_in_even_batches(num_samples, batch_size):
    plan = plan_epoch(num_samples, batch_size, seed=1, epoch=2)
    taken = np.concatenate(plan).tolist()
    if num_samples == 1 and batch_size > 1:
        assert taken == [0, 0]
        return
    assert sorted(taken) == list(range(num_samples))
    sizes = [len(step) for step in plan]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= max(batch_size, 3)
    assert batch_size == 1 or min(sizes) >= 2


def test_the_order_depends_on_seed_and_epoch():
    def plan(seed, epoch):
        return np.concatenate(plan_epoch(50, 8, seed=seed, epoch=epoch)).tolist()

    assert plan(1, 2) == plan(1, 2)
    assert plan(1, 2) != plan(1, 3)
    assert plan(1, 2) != plan(2, 2)


def test_batches_have_the_promised_form(dataset):
    made = batches(dataset, TrainConfig(batch_size=4), 0)
    assert [len(batch) for batch in made] == [4, 4, 3]
    for batch in made:
        assert batch.pixels_BHWC.shape == (len(batch), 32, 32, 3)
        assert batch.labels_BHW.shape == (len(batch), 32, 32)
        assert batch.pixels_BHWC.dtype == batch.labels_BHW.dtype == np.uint8
        for name, labels_HW in zip(batch.ids, batch.labels_BHW, strict=True):
            assert set(np.unique(labels_HW)) <= {int(name[1:]) % 4, 255}
    assert sorted(name for batch in made for name in batch.ids) == [f"s{number:02d}" for number in range(11)]


@pytest.mark.parametrize(
    "options",
    [{"cache": "none"}, {"cache": "ram"}, {"cache": "disk"}, {"cache_bytes": 0}, {"workers": 0}, {"workers": 5}],
)
def test_batches_do_not_depend_on_cache_threads_or_where_one_starts(dataset, options):
    config = TrainConfig(batch_size=3, seed=7, augment=Strengths(background=0.5, elastic=0.3))
    whole = batches(dataset, config, 5)
    assert len(whole) == 4
    again = batches(dataset, config, 5, start_step=2, **options)
    for one, other in zip(whole[2:], again, strict=True):
        assert one.ids == other.ids
        np.testing.assert_array_equal(one.pixels_BHWC, other.pixels_BHWC)
        np.testing.assert_array_equal(one.labels_BHW, other.labels_BHW)
    assert batches(dataset, config, 5, start_step=4) == []


def test_a_batch_larger_than_the_dataset_is_the_dataset(dataset):
    (batch,) = batches(dataset, TrainConfig(batch_size=100), 0)
    assert len(batch) == 11


@pytest.mark.parametrize("batch_size", [1, 3, 5, 100])
def test_a_view_does_not_depend_on_the_size_of_batches_or_the_order_of_samples(dataset, batch_size):
    """The same sample looks the same in the same epoch, whoever is beside it."""

    def by_name(config):
        return {
            name: (batch.pixels_BHWC[place].tobytes(), batch.labels_BHW[place].tobytes())
            for batch in batches(dataset, config, 2)
            for place, name in enumerate(batch.ids)
        }

    config = TrainConfig(batch_size=4, seed=3)
    assert by_name(replace(config, batch_size=batch_size)) == by_name(config)


def test_a_view_without_other_photos_in_it_does_not_depend_on_what_other_samples_there_are(dataset, tmp_path):
    with DatasetWriter(tmp_path / "fewer", TASKS["clothes"], "test", {}) as writer:
        for sample in dataset.split("train")[4:7]:
            image, labels = read_photo(dataset.image_path(sample)).image, read_labels(dataset.label_path(sample))
            writer.add(sample.id, "train", image, labels, lossless=True)
        writer.finish()
    config = TrainConfig(batch_size=20, seed=3)
    (all_samples,) = batches(dataset, config, 2)
    (few,) = batches(open_dataset(tmp_path / "fewer"), config, 2)
    assert len(few) == 3
    for name, pixels_HWC in zip(few.ids, few.pixels_BHWC, strict=True):
        np.testing.assert_array_equal(pixels_HWC, all_samples.pixels_BHWC[all_samples.ids.index(name)])


@pytest.mark.parametrize("num_samples", [1, 2, 3, 7, 8, 9, 10, 16, 17, 103])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_processes_share_every_step_evenly_and_nothing_is_lost(num_samples, batch_size, world):
    plan = plan_epoch(num_samples, batch_size, seed=1, epoch=2, world=world)
    shares = [[step[rank::world] for step in plan] for rank in range(world)]
    assert {len(share) for share in shares} == {len(plan)}
    sizes = [len(part) for share in shares for part in share]
    assert min(sizes) >= min(batch_size, 2)
    assert max(sizes) <= max(batch_size, 3 if world == 1 else 4)
    taken = sorted(np.concatenate([part for share in shares for part in share]).tolist())
    assert set(taken) == set(range(num_samples))
    least = 2 * world if batch_size > 1 else -(-num_samples // world) * world
    assert len(taken) == max(num_samples, least)  # filled up only where it must be
    counts = np.bincount(taken)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(("world", "batch_size"), [(2, 3), (3, 4), (5, 1)])
def test_processes_together_see_what_one_sees_with_larger_batches(dataset, world, batch_size):
    config = TrainConfig(batch_size=batch_size, seed=5, augment=Strengths(background=0.5))
    samples = TrainingSamples(dataset, "train", GRID)
    whole = list(epoch_batches(samples, replace(config, batch_size=batch_size * world), 1, workers=0))
    parts = [list(epoch_batches(samples, config, 1, workers=2, rank=rank, world=world)) for rank in range(world)]
    if batch_size == 1:  # the last step is filled up
        assert [name for batch in whole for name in batch.ids] == [
            name for step in range(3) for part in parts for name in part[step].ids
        ][:11]
        return
    assert {len(part) for part in parts} == {len(whole)}
    for step, batch in enumerate(whole):
        ids = [name for row in zip_longest(*(part[step].ids for part in parts)) for name in row if name]
        assert tuple(ids) == batch.ids
        for rank, part in enumerate(parts):
            np.testing.assert_array_equal(part[step].pixels_BHWC, batch.pixels_BHWC[rank::world])
            np.testing.assert_array_equal(part[step].labels_BHW, batch.labels_BHW[rank::world])
    resumed = list(epoch_batches(samples, config, 1, 1, workers=0, rank=1, world=world))
    assert [batch.ids for batch in resumed] == [batch.ids for batch in parts[1][1:]]


def test_a_step_has_as_many_samples_as_all_batches_that_are_added_up(dataset):
    config = TrainConfig(batch_size=2, accumulate=2)
    assert [batch.ids for batch in batches(dataset, config, 0)] == [
        batch.ids for batch in batches(dataset, TrainConfig(batch_size=4), 0)
    ]


@pytest.mark.parametrize("cache", ["ram", "disk", "none"])
def test_samples_are_read_once_if_they_are_kept_and_shrunk_all_the_same(dataset, monkeypatch, cache):
    calls = []
    original = TrainingSamples._read

    def counted(self, sample, kept_hw):
        calls.append(sample.id)
        return original(self, sample, kept_hw)

    monkeypatch.setattr(TrainingSamples, "_read", counted)
    samples = TrainingSamples(dataset, "train", GRID, cache=cache)
    assert samples.kept_in == cache
    for epoch in range(3):
        list(epoch_batches(samples, TrainConfig(augment=Strengths()), epoch, workers=0))
    names = [f"s{number:02d}" for number in range(11)]
    assert sorted(calls) == sorted(names * (3 if cache == "none" else 1))
    for index in (0, 10):
        image, labels = samples.load(index)
        full_image, full_labels = TrainingSamples(dataset, "train", Preprocess(size_hw=(400, 400))).load(index)
        assert full_labels.shape == (90 + index, 70)
        assert labels.shape == (48, 48)
        np.testing.assert_array_equal(image, resize_image(full_image, (48, 48)))
        np.testing.assert_array_equal(labels, resize_labels(full_labels, (48, 48)))


@pytest.mark.parametrize(("size_hw", "reduced"), [((600, 800), True), ((601, 803), False)])
def test_a_large_jpeg_is_decoded_to_less_where_nothing_shifts(tmp_path, monkeypatch, size_hw, reduced):
    rng = np.random.default_rng(0)
    image = resize_image(rng.integers(0, 256, (24, 32, 3), np.uint8), size_hw)
    labels = (image[..., 0] > 128).astype(np.uint8)
    with DatasetWriter(tmp_path / "data", TASKS["person"], "test", {}) as writer:
        writer.add("a", "train", image, labels)
        dataset = writer.finish()
    (sample,) = dataset.samples
    assert sample.image.endswith(".jpg")
    exact = resize_image(read_photo(dataset.image_path(sample)).image, _kept_hw(size_hw, GRID))
    decoded = []

    def spy(*arguments, **options):
        decoded.append(read_photo(*arguments, **options))
        return decoded[-1]

    monkeypatch.setattr("seglab.data.samples.read_photo", spy)
    kept, kept_labels = TrainingSamples(dataset, "train", GRID).load(0)
    assert (decoded[0].image.shape[:2] != size_hw) == reduced
    assert kept.shape[:2] == kept_labels.shape == (48, 48)
    assert np.abs(kept.astype(int) - exact).mean() < (4 if reduced else 0.01)
    shifts = [np.abs(np.roll(kept, shift, 1)[:, 1:-1].astype(int) - exact[:, 1:-1]).mean() for shift in (-1, 0, 1)]
    assert shifts[1] < 0.25 * min(shifts[0], shifts[2])
    np.testing.assert_array_equal(kept_labels, resize_labels(labels, (48, 48)))


def test_photos_and_labels_that_differ_in_size_are_refused(dataset):
    sample = dataset.split("train")[2]
    write_photo(dataset.image_path(sample), np.zeros((46, 35, 3), np.uint8))
    with pytest.raises(DataError, match=r"`.*s02\.png` is not as large as its photo"):
        TrainingSamples(dataset, "train", GRID).load(2)


def test_an_unknown_place_to_keep_samples_is_refused(dataset):
    with pytest.raises(UsageError, match="`floppy` is no place to keep samples"):
        TrainingSamples(dataset, "train", GRID, cache="floppy")


@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_file_that_cannot_be_read_is_named(dataset, kind):
    path = getattr(dataset, f"{kind}_path")(dataset.split("train")[4])
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot train on `.*s04\.png`: empty file"):
        batches(dataset, TrainConfig(), 0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("seglab")]


def test_work_runs_ahead_but_not_far(dataset, monkeypatch):
    made = []
    import seglab.data.loader as loader

    original = loader._make_batch

    def counted(*arguments):
        made.append(1)
        return original(*arguments)

    monkeypatch.setattr(loader, "_make_batch", counted)
    iterator = epoch_batches(TrainingSamples(dataset, "train", GRID), TrainConfig(batch_size=1), 0, workers=2)
    next(iterator)
    time.sleep(0.3)
    assert len(made) <= 3
    assert len(list(iterator)) == 10


def test_a_split_without_samples_is_an_error(dataset):
    with pytest.raises(DataError, match="has no `test` samples"):
        TrainingSamples(dataset, "test", GRID)
