"""Several datasets as one: nothing is lost, nothing changes its split, no class its meaning."""

import hashlib
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from seglab.cli import run
from seglab.cli.console import bounded
from seglab.data.images import read_labels
from seglab.data.joining import join
from seglab.data.manifest import Dataset, open_dataset
from seglab.data.writer import DatasetWriter
from seglab.errors import DataError, UsageError
from seglab.tasks import IGNORE, TASKS, Task

RNG = np.random.default_rng(3)


def make(folder: Path, task: Task, splits: str = "train val test train", *, people: bool = False) -> Dataset:
    with DatasetWriter(folder, task, "test", {}) as writer:
        for i, split in enumerate(splits.split()):
            image = RNG.integers(0, 256, (20, 24 + i, 3), np.uint8)
            labels = RNG.integers(0, task.num_classes, image.shape[:2]).astype(np.uint8)
            labels[:3] = IGNORE
            whose = (labels > 0).astype(np.uint8) if people else None
            writer.add(f"{i:02}", split, image, labels, people=whose)
        return writer.finish()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_parts_of_people_are_people(tmp_path: Path) -> None:
    body, person = make(tmp_path / "body", TASKS["body"], people=True), make(tmp_path / "person", TASKS["person"])
    done = join([body.dir, person.dir], tmp_path / "all", task=TASKS["person"])
    joined = open_dataset(tmp_path / "all")
    assert joined.verify() == []
    assert (joined.task.name, joined.source, len(joined.samples)) == ("person", "join", 8)
    assert done.splits == {"train": 4, "val": 2, "test": 2}
    assert set(done.merged) == {"body"}
    assert set(done.merged["body"].values()) == {"person"}
    for sample in joined.samples:
        name, _, id = sample.id.partition("-")
        source = {"body": body, "person": person}[name]
        before = next(each for each in source.samples if each.id == id)
        assert sample.split == before.split
        assert digest(joined.image_path(sample)) == digest(source.image_path(before))
        old, new = read_labels(source.label_path(before)), read_labels(joined.label_path(sample))
        expected = np.where(old == IGNORE, IGNORE, old > 0)
        np.testing.assert_array_equal(new, expected)
        assert (joined.people_path(sample) is not None) == (name == "body")


def test_the_same_task_keeps_its_ids(tmp_path: Path) -> None:
    parts = [make(tmp_path / name, TASKS["clothes"]) for name in ("a", "b")]
    done = join([part.dir for part in parts], tmp_path / "all")
    assert done.dataset.task.same_labels(TASKS["clothes"])
    assert done.merged == {}
    for part in parts:
        for before in part.samples:
            sample = next(each for each in done.dataset.samples if each.id == f"{part.dir.name}-{before.id}")
            assert sample.pixels == before.pixels


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    first = Task("pets", ("background", "cat", "dog"))
    second = Task("pets2", ("background", "dog", "cat"))
    parts = [make(tmp_path / "a", first, "train"), make(tmp_path / "b", second, "train")]
    done = join([part.dir for part in parts], tmp_path / "all", task=first)
    for part in parts:
        sample = next(each for each in done.dataset.samples if each.id == f"{part.dir.name}-00")
        assert sample.pixels == part.samples[0].pixels


def test_a_second_run_does_nothing_and_a_changed_part_is_told(tmp_path: Path) -> None:
    dirs = [make(tmp_path / name, TASKS["person"]).dir for name in ("a", "b")]
    first = join(dirs, tmp_path / "all")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "all").rglob("*")}
    again = join(dirs, tmp_path / "all")
    assert (first.unchanged, again.unchanged) == (False, True)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "all").rglob("*")}
    third = make(tmp_path / "c", TASKS["person"], "train").dir
    with pytest.raises(DataError, match=r"made otherwise: `of` is now with `c`$"):
        join([*dirs, third], tmp_path / "all")
    dirs[1].rename(tmp_path / "d")
    with pytest.raises(DataError, match=r"made otherwise: `of` is now with `d`, without `b`$") as caught:
        join([dirs[0], tmp_path / "d"], tmp_path / "all")
    assert caught.value.hint == "choose another folder, or replace it with --force"
    (tmp_path / "d").rename(dirs[1])
    assert len(join([*dirs, third], tmp_path / "all", force=True).dataset.samples) == 9


def test_a_folder_that_holds_another_dataset_is_told_in_one_short_line(tmp_path: Path) -> None:
    dirs = [make(tmp_path / name, TASKS["person"]).dir for name in ("a", "b")]
    there = make(tmp_path / "there", TASKS["person"], "train").dir
    before = digest(there / "dataset.json")
    with pytest.raises(DataError) as caught:
        join(dirs, there)
    assert caught.value.message == f"`{there}` holds another dataset: source `test`, task `person`, 1 sample"
    assert caught.value.hint == "choose another folder, or replace it with --force"
    assert digest(there / "dataset.json") == before


def test_folders_may_be_called_as_they_like(tmp_path: Path) -> None:
    first, second = make(tmp_path / "my data", TASKS["person"]), make(tmp_path / ("long" * 60), TASKS["person"])
    joined = join([first.dir, second.dir], tmp_path / "all").dataset
    ids = [sample.id for sample in joined.samples]
    assert [id for id in ids if id.startswith("my_data-")] == [f"my_data-{sample.id}" for sample in first.samples]
    assert len(set(ids)) == 8
    with pytest.raises(UsageError, match="two of the datasets are called `my_data`"):
        join([first.dir, make(tmp_path / "x" / "my%data", TASKS["person"]).dir], tmp_path / "other")


def test_refusals(tmp_path: Path) -> None:
    person, body = make(tmp_path / "person", TASKS["person"]).dir, make(tmp_path / "body", TASKS["body"]).dir
    twin = make(tmp_path / "x" / "Person", TASKS["person"]).dir
    out = tmp_path / "all"
    with pytest.raises(UsageError, match="at least two"):
        join([person], out)
    with pytest.raises(UsageError, match="two of the datasets are called `person`"):
        join([person, twin], out)
    with pytest.raises(UsageError, match="is one of the datasets"):
        join([person, body], body, task=TASKS["person"], force=True)
    with pytest.raises(UsageError, match="lies within one of the datasets"):
        join([person, body], body / "inner", task=TASKS["person"])
    with pytest.raises(UsageError, match=r"has labels of `person`, .* of `body`"):
        join([person, body], out)
    with pytest.raises(DataError, match="classes that task `body` has not: `upper_body`, `lower_body`, `full_body`"):
        join([body, make(tmp_path / "clothes", TASKS["clothes"]).dir], out, task=TASKS["body"])
    with pytest.raises(DataError, match="there is no dataset"):
        join([person, tmp_path / "nowhere"], out)
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))


def test_a_photo_that_is_gone(tmp_path: Path) -> None:
    person, other = (make(tmp_path / name, TASKS["person"]) for name in ("person", "other"))
    other.image_path(other.samples[2]).unlink()
    with pytest.raises(DataError, match="lacks 1 of its 8 files"):
        join([person.dir, other.dir], tmp_path / "all")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dirs = [make(tmp_path / name, TASKS[name]).dir for name in ("body", "person")]
    line = ["join", str(tmp_path / "[all]"), *map(str, dirs), "--task", "person", "--link", "hard", "--json"]
    assert bounded(lambda: run(line)) == 0
    out, err = capsys.readouterr()
    values = json.loads(out)
    assert (values["samples"], values["unchanged"], values["splits"]["train"]) == (8, False, 4)
    assert "torso is person" in err
    assert f"made {tmp_path / '[all]'}: 4 train, 2 val, 2 test" in " ".join(err.split())
    image = open_dataset(tmp_path / "[all]").samples[0]
    assert (tmp_path / "[all]" / image.image).stat().st_nlink == 2
    assert bounded(lambda: run(line)) == 0
    assert json.loads(capsys.readouterr().out)["unchanged"] is True
    assert bounded(lambda: run(line[:3])) == 2


@pytest.mark.parametrize("what", ["photo", "labels", "people"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, what: str) -> None:
    """One at a time, with a pipe as the last: that would be waited for."""
    first = make(tmp_path / "first", TASKS["person"])
    other = make(tmp_path / "other", TASKS["person"], people=True)
    sample = other.samples[2]
    path = {"photo": other.image_path, "labels": other.label_path, "people": other.people_path}[what](sample)
    assert path is not None
    whole = path.read_bytes()

    def refused() -> str:
        with pytest.raises(DataError) as caught:
            join([first.dir, other.dir], tmp_path / "all")
        assert str(path) in caught.value.message
        assert not (tmp_path / "all").exists()
        return caught.value.message.partition("`: ")[2]

    for content, reason in (
        (b"", "empty file"),
        (b"\x89PNG\r\n\x1a\n\0\0", "truncated PNG"),
        (b"<html>", "is HTML, not an image"),
    ):
        path.write_bytes(content)
        assert refused() == reason
    if what == "photo":
        other_size = other.samples[1]
        path.write_bytes(other.image_path(other_size).read_bytes())
        assert refused() == f"{other_size.width}x{other_size.height}, but its labels are {sample.width}x{sample.height}"
    else:
        path.write_bytes(whole[: len(whole) // 2])
        assert refused() == "truncated PNG"
    path.unlink()
    path.mkdir()
    refused()
    if hasattr(os, "mkfifo"):
        path.rmdir()
        os.mkfifo(path)
        freeing = threading.Timer(30, lambda: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK)))
        freeing.start()
        assert refused() == "not a regular file"
        freeing.cancel()
