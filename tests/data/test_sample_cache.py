"""Kept samples: what is read is what was written or nothing at all, whatever happened in between."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from seglab.data import sample_cache
from seglab.data.sample_cache import UNUSED_S, open_cache
from seglab.data.samples import TrainingSamples
from seglab.data.writer import DatasetWriter
from seglab.preprocess import Preprocess
from seglab.tasks import TASKS

SIZES = [100, 7, 4096, 1, 50_000, 12_345]


def record(index, version=0):
    return np.random.default_rng([index, version]).integers(0, 256, SIZES[index], np.uint8)


@pytest.fixture
def lines():
    return []


@pytest.fixture
def open_disk(tmp_path, lines):
    def make(name="key", sizes=SIZES, kind="disk"):
        return open_cache(kind, sizes, lambda: tmp_path / "samples" / name, memory_bytes=0, say=lines.append)

    return make


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_what_was_put_is_got(tmp_path, kind):
    cache = open_cache(kind, SIZES, lambda: tmp_path / "samples" / "key")
    assert cache.name == kind
    order = [4, 0, 3, 1, 5, 2]
    for place, index in enumerate(order):
        assert cache.get(index) is None
        cache.put(index, record(index))
        for known in order[: place + 1]:
            np.testing.assert_array_equal(cache.get(known), record(known))


def test_what_is_not_kept_is_not_there(tmp_path):
    cache = open_cache("none", SIZES, lambda: tmp_path / "never")
    cache.put(0, record(0))
    assert cache.get(0) is None
    assert cache.name == "none"
    assert not (tmp_path / "never").exists()


def test_a_second_run_finds_what_the_first_kept_and_is_told(open_disk, lines, tmp_path):
    first = open_disk()
    for index in (1, 4, 5):
        first.put(index, record(index))
    again = open_disk()
    for index in range(len(SIZES)):
        found = again.get(index)
        assert (found is not None) == (index in (1, 4, 5))
        if found is not None:
            np.testing.assert_array_equal(found, record(index))
            assert not found.flags.writeable
    place = tmp_path / "samples" / "key"
    assert lines == [f"decoded samples are kept in `{place}` (0 MB{there})" for there in ("", ", 3 of 6 are there")]
    first.put(0, record(0))  # and at the same time
    np.testing.assert_array_equal(again.get(0), record(0))


def test_memory_comes_first_then_the_disk(tmp_path):
    def choose(kind, memory_bytes):
        return open_cache(kind, SIZES, lambda: tmp_path / "samples" / "key", memory_bytes=memory_bytes).name

    assert choose("auto", sum(SIZES)) == choose("ram", sum(SIZES)) == "ram"
    assert choose("auto", sum(SIZES) - 1) == choose("ram", sum(SIZES) - 1) == "disk"
    assert choose("disk", 10**9) == "disk"


@pytest.mark.parametrize("damage", ["flip", "zeros", "cut", "checksums lost", "checksums wrong"])
def test_damage_is_found_and_mended(open_disk, tmp_path, damage):
    first = open_disk()
    for index in range(len(SIZES)):
        first.put(index, record(index))
    del first
    records, checksums = (tmp_path / "samples" / "key" / name for name in ("records", "checksums"))
    content = bytearray(records.read_bytes())
    if damage == "flip":
        content[4210] ^= 1  # in record 4
        records.write_bytes(content)
    elif damage == "zeros":
        content[4205:20_000] = bytes(20_000 - 4205)
        records.write_bytes(content)
    elif damage == "cut":
        records.write_bytes(content[:10_000])
    elif damage == "checksums lost":
        checksums.write_bytes(checksums.read_bytes()[:17])
    else:
        checksums.write_bytes(b"\1" * 24)
    again = open_disk()
    lost = [index for index in range(len(SIZES)) if again.get(index) is None]
    assert 4 in lost
    assert lost == {"cut": [4, 5], "checksums lost": [4, 5]}.get(damage, lost)
    if damage in ("flip", "zeros"):
        assert lost == [4]
    for index in range(len(SIZES)):
        if index not in lost:
            np.testing.assert_array_equal(again.get(index), record(index))
        again.put(index, record(index))
        np.testing.assert_array_equal(again.get(index), record(index))


def test_a_full_disk_is_told_once_and_what_is_there_stays(open_disk, lines, monkeypatch):
    cache = open_disk()
    cache.put(0, record(0))
    written = []

    def full(file, data, offset):
        written.append(len(data))
        if len(written) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, data[: len(data) // 2], offset)  # a part still fits

    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", full)
    for index in (4, 5, 2):
        cache.put(index, record(index))
        assert cache.get(index) is None
    np.testing.assert_array_equal(cache.get(0), record(0))
    assert len(lines) == 2
    assert lines[1].endswith("No space left on device; the rest is decoded every epoch")
    assert len(written) == 2


def test_a_disk_without_room_is_not_begun(open_disk, lines, monkeypatch, tmp_path):
    monkeypatch.setattr(sample_cache, "free_bytes", lambda _: 60_000)
    assert open_disk().name == "none"
    assert "decoded samples (0 MB) are not kept: " in lines[-1]
    assert lines[-1].endswith("left; every epoch decodes them anew")
    monkeypatch.setattr(sample_cache, "free_bytes", lambda _: 100_000)
    assert open_disk(kind="auto").name == "none"  # no more than a quarter unless asked for
    assert open_disk().name == "disk"
    monkeypatch.setattr(sample_cache, "free_bytes", lambda _: 0)
    cache = open_disk("full")
    assert cache.name == "none"
    monkeypatch.setattr(sample_cache, "free_bytes", lambda _: 10**6)
    cache = open_disk("full")
    for index in range(len(SIZES)):
        cache.put(index, record(index))
    monkeypatch.setattr(sample_cache, "free_bytes", lambda _: 0)
    assert open_disk("full").name == "disk"  # all of it is there already


def test_a_folder_that_cannot_be_made_is_told(open_disk, lines, tmp_path):
    (tmp_path / "samples").write_text("a file")
    assert open_disk().name == "none"
    assert "not kept" in lines[-1]


def test_old_ones_are_removed_unless_they_are_in_use(open_disk, tmp_path):
    caches = {name: open_disk(name) for name in ("old", "used", "new")}
    caches["old"].put(0, record(0))
    (tmp_path / "samples" / "something else").mkdir()
    then = time.time() - UNUSED_S - 10
    for name in ("old", "used"):
        os.utime(tmp_path / "samples" / name / "lock", (then, then))
    del caches["old"]
    open_disk("another")
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
        "another",
        "new",
        "something else",
        "used",
    ]
    caches["used"].put(1, record(1))
    assert caches["used"].get(1) is not None
    then_again = (tmp_path / "samples" / "used" / "lock").stat().st_mtime
    open_disk("used")
    assert (tmp_path / "samples" / "used" / "lock").stat().st_mtime > then_again


def test_whoever_opens_while_another_removes_gets_a_folder_that_stays(open_disk, tmp_path):
    """The remover holds the lock; the one who waits for it must not keep the lock of a folder that is gone."""
    open_disk("key")
    lock_path = tmp_path / "samples" / "key" / "lock"
    lock = os.open(lock_path, os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    opened = []
    thread = threading.Thread(target=lambda: opened.append(open_disk("key")))
    thread.start()
    time.sleep(0.2)
    assert not opened
    for name in ("records", "checksums", "lock"):
        (tmp_path / "samples" / "key" / name).unlink()
    os.close(lock)
    thread.join(10)
    (cache,) = opened
    cache.put(0, record(0))
    np.testing.assert_array_equal(open_disk("key").get(0), record(0))


def test_many_threads_read_and_write_the_same_records(open_disk):
    cache = open_disk()

    def use(number):
        index = number % len(SIZES)
        found = cache.get(index)
        if found is None:
            cache.put(index, record(index))
            found = cache.get(index)
        return found is not None and np.array_equal(found, record(index))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(600)))


WRITER = """
import sys, numpy as np
from pathlib import Path
from seglab.data.sample_cache import open_cache
sizes = [200_000] * 40
cache = open_cache("disk", sizes, lambda: Path(sys.argv[1]) / "samples" / "key")
print("ready", flush=True)
for turn in range(1_000_000):
    index = (turn * 7 + int(sys.argv[2])) % 40
    found = cache.get(index)
    expected = np.random.default_rng(index).integers(0, 256, 200_000, np.uint8)
    assert found is None or np.array_equal(found, expected), index
    cache.put(index, expected)
"""


def test_processes_that_write_at_once_and_are_killed_leave_nothing_wrong(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(number)], stdout=subprocess.PIPE, env=environment
        )
        for number in range(3)
    ]
    for process in processes:
        assert process.stdout.readline() == b"ready\n"
    time.sleep(0.4)
    for process in processes:
        assert process.poll() is None
        process.kill()
        process.communicate()
    cache = open_cache("disk", [200_000] * 40, lambda: tmp_path / "samples" / "key")
    found = 0
    for index in range(40):
        kept = cache.get(index)
        if kept is not None:
            found += 1
            np.testing.assert_array_equal(kept, np.random.default_rng(index).integers(0, 256, 200_000, np.uint8))
    assert found > 5


def test_what_is_kept_belongs_to_files_grid_and_people_alone(tmp_path, monkeypatch):
    """The key changes with all that changes what is kept, and with nothing else."""
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "data", TASKS["clothes"], "test", {}) as writer:
        for number in range(3):
            labels = np.full((90, 70), number % 4, np.uint8)
            writer.add(f"s{number}", "train", rng.integers(0, 256, (90, 70, 3), np.uint8), labels, lossless=True)
        dataset = writer.finish()

    def key(side=32, **options):
        preprocess = Preprocess(size_hw=(side, side), **options)
        return TrainingSamples(dataset, "train", preprocess, cache="disk")._disk_dir().name

    usual = key()
    assert key() == key(mean=(0.1, 0.2, 0.3)) == usual
    assert key(side=40) != usual
    assert key(fit="pad") != usual
    path = dataset.image_path(dataset.samples[1])
    before = path.stat()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert key() != usual
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert key() == usual
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["samples"]


@pytest.mark.parametrize(("processes", "share"), [("", 1), ("4", 4), ("x", 1)])
def test_memory_is_a_share_of_what_is_free(monkeypatch, processes, share):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    monkeypatch.setattr(sample_cache, "_free_memory", lambda: 8 << 30)
    assert sample_cache._memory_limit("auto") == (2 << 30) // share
    assert sample_cache._memory_limit("ram") == (8 << 30) * 7 // 10 // share


def test_free_memory_is_less_than_all_there_is():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 1 << 26 < sample_cache._free_memory() <= total
