"""The prepared layout: writing, opening, and everything that must be refused."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from seglab.data.manifest import (
    Dataset,
    count_pixels,
    finished_dataset,
    open_dataset,
)
from seglab.data.writer import DatasetWriter
from seglab.errors import BusyError, DataError, UsageError
from seglab.tasks import TASKS, Task

PERSON = TASKS["person"]
OPTIONS = {"seed": 3, "shares": [0.5, 0.25]}


def photo(height: int = 12, width: int = 20, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def labels(height: int = 12, width: int = 20) -> NDArray[np.uint8]:
    array = np.zeros((height, width), np.uint8)
    array[2:5, 3:9] = 1
    array[0, 0] = 255
    return array


def build(dir: Path, *, force: bool = False, ids: tuple[str, ...] = ("b", "a", "ü 1")) -> Dataset:
    with DatasetWriter(dir, PERSON, "test", OPTIONS, force=force) as writer:
        for id, split in zip(ids, ("train", "val", "test"), strict=True):
            writer.add(id.replace(" ", "_"), split, photo(), labels(), lossless=True)
        return writer.finish()


def listing(dir: Path) -> list[str]:
    return sorted(path.relative_to(dir).as_posix() for path in dir.rglob("*") if path.is_file())


def test_a_file_that_is_shorter_than_it_was_written_is_noticed(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "out", PERSON, "test", OPTIONS) as writer:
        writer.add("a", "train", photo(), labels())
        (place,) = tmp_path.rglob("a.jpg")
        place.write_bytes(place.read_bytes()[:-1])
        with pytest.raises(DataError, match="not as long as it was written"):
            writer.finish()
    assert not (tmp_path / "out").exists()


def test_round_trip(tmp_path: Path) -> None:
    made = build(tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert dataset == made
    assert [sample.id for sample in dataset.samples] == ["a", "b", "ü_1"]
    assert (dataset.task, dataset.source, dataset.options) == (PERSON, "test", OPTIONS)
    assert dataset.splits == ("train", "val", "test")
    (sample,) = dataset.split("val")
    assert (sample.image, sample.label, sample.size_hw) == ("val/images/a.png", "val/labels/a.png", (12, 20))
    assert dict(sample.pixels) == {"background": 221, "person": 18, "ignore": 1}
    with Image.open(dataset.image_path(sample)) as stored:
        assert np.array_equal(np.array(stored), photo())
    with Image.open(dataset.label_path(sample)) as stored:
        assert stored.mode == "L"
        assert np.array_equal(np.array(stored), labels())
    assert dataset.verify() == []
    assert listing(tmp_path) == [
        "out/dataset.json", "out/preview.jpg", "out/samples.jsonl",
        "out/test/images/ü_1.png", "out/test/labels/ü_1.png",
        "out/train/images/b.png", "out/train/labels/b.png",
        "out/val/images/a.png", "out/val/labels/a.png",
    ]  # fmt: skip


def test_the_head_holds_task_and_counts(tmp_path: Path) -> None:
    build(tmp_path / "out")
    head = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert head["format"] == 1
    assert Task.from_dict(head["task"]) == PERSON
    assert head["counts"]["train"] == {
        "samples": 1,
        "pixels": {"background": 221, "person": 18, "ignore": 1},
        "samples_with": {"background": 1, "person": 1, "ignore": 1},
    }


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    build(tmp_path / "one")
    build(tmp_path / "two")
    for name in listing(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_file_is_copied_byte_for_byte_under_the_suffix_of_its_content(tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "misnamed.png", "JPEG")
    with DatasetWriter(tmp_path / "out", PERSON, "test", {}) as writer:
        sample = writer.add("a", "train", tmp_path / "misnamed.png", labels())
        dataset = writer.finish()
    assert sample.image == "train/images/a.jpg"
    assert dataset.image_path(sample).read_bytes() == (tmp_path / "misnamed.png").read_bytes()


def test_resplit_moves_files_and_lines(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "out", PERSON, "test", {}) as writer:
        for id in ("a", "b"):
            writer.add(id, "train", photo(), labels())
        writer.resplit({"a": "test", "b": "train"})
        dataset = writer.finish()
    assert {sample.id: sample.split for sample in dataset.samples} == {"a": "test", "b": "train"}
    assert dataset.verify() == []


@pytest.mark.parametrize(
    ("id", "split", "image", "label", "message"),
    [
        ("A", "train", photo(), labels(), "two samples are called `A`"),
        ("../x", "train", photo(), labels(), "not a possible sample"),
        ("x", "dev", photo(), labels(), "not a possible sample"),
        ("x", "train", photo(12, 21), labels(), "differ in size"),
        ("x", "train", photo(), np.full_like(labels(), 2), r"labels hold 2, but task `person` has ids 0\.\.1"),
    ],
)
def test_samples_that_are_refused(
    tmp_path: Path, id: str, split: str, image: NDArray[np.uint8], label: NDArray[np.uint8], message: str
) -> None:
    with DatasetWriter(tmp_path / "out", PERSON, "test", {}) as writer:
        writer.add("a", "train", photo(), labels())
        with pytest.raises(DataError, match=message):
            writer.add(id, split, image, label)
    assert listing(tmp_path) == []


def test_count_pixels_against_brute_force() -> None:
    array = np.random.default_rng(2).choice(np.array([0, 1, 2, 3, 255], np.uint8), (31, 17))
    counts = count_pixels(array, TASKS["clothes"])
    assert list(counts) == [*TASKS["clothes"].classes, "ignore"]
    assert list(counts.values()) == [sum(row.count(id) for row in array.tolist()) for id in (0, 1, 2, 3, 255)]


def test_a_class_called_ignore_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="calls a class `ignore`"):
        DatasetWriter(tmp_path / "out", Task("odd", ("background", "ignore")), "test", {})


def test_an_empty_dataset_is_refused(tmp_path: Path) -> None:
    with (
        DatasetWriter(tmp_path / "out", PERSON, "test", {}) as writer,
        pytest.raises(DataError, match="nothing to put"),
    ):
        writer.finish()


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with DatasetWriter(tmp_path / "out", PERSON, "test", {}) as writer:
            writer.add("a", "train", photo(), labels())
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from seglab.data.writer import DatasetWriter
from seglab.tasks import TASKS
with DatasetWriter(Path(sys.argv[1]), TASKS["person"], "test", {}, force=True) as writer:
    writer.add("killed", "train", np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_build_is_no_dataset_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(out)], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert "killed.png" in " ".join(listing(tmp_path))
    with pytest.raises(DataError, match="there is no dataset"):
        open_dataset(out)
    build(out)
    assert "killed" not in " ".join(listing(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_killed_replacement_leaves_the_old_dataset(tmp_path: Path) -> None:
    made = build(tmp_path / "out")
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out")], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert open_dataset(tmp_path / "out") == made


def test_a_kill_between_the_two_renames_is_undone(tmp_path: Path) -> None:
    made = build(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / ".out.replaced")
    with pytest.raises(DataError, match="is there already"):
        build(tmp_path / "out")
    assert open_dataset(tmp_path / "out") == made
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_second_writer_is_kept_out(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "out", PERSON, "test", {})
    with DatasetWriter(tmp_path / "out", PERSON, "test", {}), pytest.raises(BusyError, match=f"pid {os.getpid()}"):
        writer.__enter__()
    with writer:
        pass
    assert list(tmp_path.iterdir()) == []


def test_only_force_replaces_a_dataset(tmp_path: Path) -> None:
    build(tmp_path / "out")
    with pytest.raises(DataError, match="is there already") as caught:
        build(tmp_path / "out")
    assert "--force" in caught.value.hint
    replaced = build(tmp_path / "out", force=True, ids=("x", "y", "z"))
    assert [sample.id for sample in open_dataset(tmp_path / "out").samples] == ["x", "y", "z"]
    assert replaced.verify() == []


@pytest.mark.parametrize("name", ["thesis.tex", "train/notes.txt"])
def test_not_even_force_replaces_what_is_no_dataset(tmp_path: Path, name: str) -> None:
    build(tmp_path / "out")
    (tmp_path / "out" / name).write_text("precious")
    with pytest.raises(DataError, match=f"holds what no dataset does: `{Path(name).name}`"):
        build(tmp_path / "out", force=True)
    assert (tmp_path / "out" / name).read_text() == "precious"


def test_an_empty_folder_and_a_link_to_one_are_taken(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    build(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert open_dataset(tmp_path / "disk").verify() == []


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(DataError, match="not a folder"):
        build(tmp_path / "out", force=True)


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(dir: Path) -> None:
        head = json.loads((dir / "dataset.json").read_text())
        change(head)
        (dir / "dataset.json").write_text(json.dumps(head))

    return edit


def swap_split(dir: Path) -> None:
    path = dir / "samples.jsonl"
    path.write_text(path.read_text().replace("val", "test"))


@pytest.mark.parametrize(
    ("damage", "message", "hint"),
    [
        (lambda dir: (dir / "dataset.json").unlink(), "it has no `dataset.json`", "seglab prepare"),
        (lambda dir: (dir / "dataset.json").write_text("{"), "cannot read", "--force"),
        (lambda dir: (dir / "dataset.json").write_text("[]"), "not the head of a prepared dataset", "seglab prepare"),
        (edited(lambda head: head.update(format=2)), "has layout 2, this seglab knows 1", "--upgrade"),
        (edited(lambda head: head.update(format=True)), "not the head", "seglab prepare"),
        (edited(lambda head: head.pop("task")), "is damaged", "--force"),
        (edited(lambda head: head["task"].update(classes=["bg", "dog"])), "is damaged", "--force"),
        (swap_split, "not what `dataset.json` was written for", "--force"),
        (lambda dir: (dir / "samples.jsonl").unlink(), "cannot read", "--force"),
    ],
)
def test_damaged_datasets_are_refused(
    tmp_path: Path, damage: Callable[[Path], object], message: str, hint: str
) -> None:
    build(tmp_path / "out")
    damage(tmp_path / "out")
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(tmp_path / "out")
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image", "../../etc/passwd.png"), ("image", "/etc/passwd.png"), ("label", "val/labels/b.png"),
        ("id", "../a"), ("split", "dev"), ("height", 0), ("height", "12"), ("pixels", {"background": 240}),
        ("extra", 1),
    ],
)  # fmt: skip
def test_lines_that_could_lead_elsewhere_are_refused(tmp_path: Path, field: str, value: object) -> None:
    import hashlib

    build(tmp_path / "out")
    path = tmp_path / "out" / "samples.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0][field] = value
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edited(lambda head: head.update(samples_sha256=digest))(tmp_path / "out")
    with pytest.raises(DataError, match="line 1 is damaged"):
        open_dataset(tmp_path / "out")


def test_verify_lists_every_contradiction_at_once(tmp_path: Path) -> None:
    dataset = build(tmp_path / "out")
    a, b, u = dataset.samples
    dataset.image_path(a).write_bytes(b"<html>")
    Image.fromarray(labels()).convert("P").save(dataset.label_path(a))
    Image.fromarray(photo(5, 5)).save(dataset.image_path(b))
    Image.fromarray(labels(3, 3)).save(dataset.label_path(b))
    dataset.image_path(u).unlink()
    Image.fromarray(1 - labels() // 255).save(dataset.label_path(u))
    (tmp_path / "out" / "train" / "images" / "stray.png").touch()
    assert dataset.verify() == [
        "`val/images/a.png`: is HTML, not an image",
        "`val/labels/a.png` is not an 8-bit single-channel PNG",
        "`train/images/b.png` is 5x5, the manifest says 20x12",
        "`train/labels/b.png` is 3x3, the manifest says 20x12",
        "`test/images/ü_1.png`: no such file",
        "`test/labels/ü_1.png` has other pixel counts than the manifest",
        "`train/images/stray.png` is not in the manifest",
    ]


def test_splits_by_name(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "out", PERSON, "test", {}) as writer:
        writer.add("a", "train", photo(), labels())
        dataset = writer.finish()
    with pytest.raises(UsageError, match="no split is called `tests`"):
        dataset.split("tests")
    with pytest.raises(DataError, match="has no `test` samples"):
        dataset.split("test")


def test_a_finished_dataset_is_known_by_its_options(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert finished_dataset(out, PERSON, "test", OPTIONS) is None
    made = build(out)
    assert finished_dataset(out, PERSON, "test", {**OPTIONS, "shares": (0.5, 0.25)}) == made
    with pytest.raises(DataError, match="`seed` was `3` and is now `4`") as caught:
        finished_dataset(out, PERSON, "test", {**OPTIONS, "seed": 4})
    assert "--force" in caught.value.hint
    with pytest.raises(DataError, match=r"holds another dataset: source `test`, task `.*`, \d samples?$"):
        finished_dataset(out, PERSON, "other", OPTIONS)
    with pytest.raises(DataError, match="`task` was"):
        finished_dataset(out, TASKS["body"], "test", OPTIONS)
