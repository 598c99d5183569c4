"""Batches: every sample once an epoch, the same after a restart, bounded memory, errors with a name."""

import threading
import time

import numpy as np
import pytest

from seglab.config import Preprocess, TrainConfig
from seglab.data.images import resize_image, resize_labels
from seglab.data.loader import TrainingSamples, epoch_batches, plan_epoch
from seglab.data.manifest import open_dataset
from seglab.data.writer import DatasetWriter
from seglab.errors import DataError
from seglab.tasks import TASKS

GRID = Preprocess(size_hw=(32, 32))


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


@pytest.mark.parametrize("options", [{"cache_bytes": 0}, {"workers": 0}, {"workers": 5}])
def test_batches_do_not_depend_on_cache_threads_or_where_one_starts(dataset, options):
    config = TrainConfig(batch_size=3, seed=7)
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


def test_samples_are_read_once_and_shrunk_if_they_fit_in_memory(dataset, monkeypatch):
    calls = []
    original = TrainingSamples._read

    def counted(self, sample):
        calls.append(sample.id)
        return original(self, sample)

    monkeypatch.setattr(TrainingSamples, "_read", counted)
    samples = TrainingSamples(dataset, "train", GRID)
    assert samples.is_cached
    for epoch in range(3):
        list(epoch_batches(samples, TrainConfig(), epoch, workers=0))
    assert sorted(calls) == [f"s{number:02d}" for number in range(11)]
    calls.clear()
    uncached = TrainingSamples(dataset, "train", GRID, cache_bytes=100)
    assert not uncached.is_cached
    for epoch in range(3):
        list(epoch_batches(uncached, TrainConfig(), epoch, workers=0))
    assert len(calls) == 33
    for index in (0, 10):
        image, labels = samples.load(index)
        full_image, full_labels = TrainingSamples(dataset, "train", Preprocess(size_hw=(400, 400))).load(index)
        assert full_labels.shape == (90 + index, 70)
        assert labels.shape == (48, 48)
        np.testing.assert_array_equal(image, resize_image(full_image, (48, 48)))
        np.testing.assert_array_equal(labels, resize_labels(full_labels, (48, 48)))
        np.testing.assert_array_equal(uncached.load(index)[0], image)


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
