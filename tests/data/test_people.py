"""Who each pixel belongs to, from a source to the prepared layout and through interruptions."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.data.images import read_labels
from seglab.data.journal import JOURNAL
from seglab.data.manifest import Dataset, open_dataset
from seglab.data.prepare import ProblemsFound, prepare
from seglab.data.scene import draw_scene
from seglab.data.synth import synth
from seglab.data.writer import DatasetWriter
from seglab.errors import DataError
from seglab.tasks import TASKS
from tests.data.commands import contents

PARSING = TASKS["parsing"]
IDS = np.kron(np.array([[0, 2, 5], [0, 13, 9]], np.uint8), np.ones((8, 8), np.uint8))
PEOPLE = np.kron(np.array([[0, 1, 2], [0, 1, 2]], np.uint8), np.ones((8, 8), np.uint8))


def build(dir: Path, *, resume: bool = False, splits: dict[str, str] | None = None) -> Dataset:
    with DatasetWriter(dir, PARSING, "test", {}, resume=resume) as writer:
        for name, people in (("a", PEOPLE), ("b", None)):
            writer.add(name, "train", np.zeros((16, 24, 3), np.uint8), PEOPLE, people=people, lossless=True)
        if splits:
            writer.resplit(splits)
        return writer.finish()


def test_some_samples_have_people(tmp_path: Path) -> None:
    made = build(tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert dataset == made
    first, second = dataset.samples
    assert (first.people, second.people) == ("train/people/a.png", "")
    assert (len(first.paths), len(second.paths)) == (3, 2)
    assert dataset.people_path(second) is None
    people_path = dataset.people_path(first)
    assert people_path is not None
    np.testing.assert_array_equal(read_labels(people_path), PEOPLE)
    assert dataset.verify() == []
    lines = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    assert ["people" in line for line in lines] == [True, False]


def test_they_move_with_their_sample(tmp_path: Path) -> None:
    dataset = build(tmp_path / "out", splits={"a": "val", "b": "train"})
    assert dataset.samples[0].people == "val/people/a.png"
    assert dataset.verify() == []


def test_what_is_wrong_with_them_is_found(tmp_path: Path) -> None:
    dataset = build(tmp_path / "out")
    path = tmp_path / "out" / "train" / "people" / "a.png"
    Image.fromarray(PEOPLE[:, :-1]).save(path)
    assert dataset.verify() == ["`train/people/a.png` is 23x16, the manifest says 24x16"]
    path.unlink()
    with pytest.raises(DataError, match="lacks 1 of its 5 files"):
        dataset.check_present()
    Image.fromarray(PEOPLE).save(path)
    Image.fromarray(PEOPLE).save(path.with_name("b.png"))
    assert dataset.verify() == ["`train/people/b.png` is not in the manifest"]


@pytest.mark.parametrize("line", ["../people/a.png", "val/people/a.png", "train/people/b.png"])
def test_a_manifest_names_no_other_file(tmp_path: Path, line: str) -> None:
    build(tmp_path / "out")
    path = tmp_path / "out" / "samples.jsonl"
    path.write_text(path.read_text().replace("train/people/a.png", line))
    head_path = tmp_path / "out" / "dataset.json"
    head = json.loads(head_path.read_text())
    head["samples_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    head_path.write_text(json.dumps(head))
    with pytest.raises(DataError, match="line 1 is damaged"):
        open_dataset(tmp_path / "out")


def test_people_of_another_size_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="not a possible sample"),
        DatasetWriter(tmp_path / "out", PARSING, "test", {}) as writer,
    ):
        writer.add("a", "train", np.zeros((16, 24, 3), np.uint8), PEOPLE, people=PEOPLE.T)


def test_drawn_people_are_told_apart(tmp_path: Path) -> None:
    dataset = synth(PARSING, 4, (40, 48), tmp_path / "out", seed=3)
    for index, sample in enumerate(dataset.samples):
        path = dataset.people_path(sample)
        assert path is not None
        np.testing.assert_array_equal(read_labels(path), draw_scene(3, index, "figure", (40, 48)).persons)
    assert not any(sample.people for sample in synth(TASKS["face"], 2, (40, 40), tmp_path / "face").samples)
    assert synth(PARSING, 4, (40, 48), tmp_path / "out", seed=3, force=True) == dataset


def published(raw: Path, people: np.ndarray = PEOPLE, scale: int = 1) -> Path:
    larger = np.ones((scale, scale), np.uint8)
    for folder, stem in (("Training", "0000006"), ("Training", "0000007"), ("Validation", "0001814")):
        for dir, ids in (("Category_ids", np.kron(IDS, larger)), ("Human_ids", np.kron(people, larger))):
            (raw / folder / dir).mkdir(parents=True, exist_ok=True)
            Image.fromarray(ids).save(raw / folder / dir / f"{stem}.png")
        (raw / folder / "Images").mkdir(exist_ok=True)
        noise = np.random.default_rng(int(stem)).integers(0, 256, (scale * 16, scale * 24, 3), np.uint8)
        Image.fromarray(noise).save(raw / folder / "Images" / f"{stem}.jpg")
    return raw


def test_the_published_people_come_along(tmp_path: Path) -> None:
    raw = published(tmp_path / "raw")
    (raw / "Training" / "Human_ids" / "0000007.png").unlink()
    prepare(raw, tmp_path / "out", task=PARSING)
    dataset = open_dataset(tmp_path / "out")
    assert dataset.verify() == []
    known = {sample.id: bool(sample.people) for sample in dataset.samples}
    assert known == {"0000006": True, "0000007": False, "0001814": True}
    path = dataset.people_path(dataset.samples[0])
    assert path is not None
    np.testing.assert_array_equal(read_labels(path), PEOPLE)


def test_they_are_fitted_like_the_labels(tmp_path: Path) -> None:
    prepare(published(tmp_path / "raw", scale=2), tmp_path / "out", task=PARSING, max_side=24)
    dataset = open_dataset(tmp_path / "out")
    sample = dataset.samples[0]
    path = dataset.people_path(sample)
    assert path is not None
    assert sample.size_hw == (16, 24)
    labels, people = read_labels(dataset.label_path(sample)), read_labels(path)
    np.testing.assert_array_equal(people > 0, labels > 0)
    np.testing.assert_array_equal(people, PEOPLE)


def test_people_that_do_not_fit_are_a_problem(tmp_path: Path) -> None:
    raw = published(tmp_path / "raw", people=PEOPLE[:, :20])
    with pytest.raises(ProblemsFound) as caught:
        prepare(raw, tmp_path / "out", task=PARSING)
    assert "unusable ids of people" in str(caught.value)


def test_an_interrupted_writer_goes_on_only_with_whole_people(tmp_path: Path) -> None:
    class Stop(KeyboardInterrupt):
        pass

    def begin() -> None:
        with DatasetWriter(tmp_path / "out", PARSING, "test", {}, resume=True) as writer:
            for name in "ab":
                image = np.zeros((16, 24, 3), np.uint8)
                writer.add(name, "train", image, PEOPLE, people=PEOPLE, lossless=True, memo={"name": name})
            raise Stop

    with pytest.raises(Stop):
        begin()
    building = tmp_path / ".out.building"
    assert (building / JOURNAL).is_file()
    (building / "train" / "people" / "b.png").write_bytes(b"half")
    with DatasetWriter(tmp_path / "out", PARSING, "test", {}, resume=True) as writer:
        assert writer.take_up("a", "train", tmp_path) == {"name": "a"}
        assert writer.take_up("b", "train", tmp_path) is None
        writer.add("b", "train", np.zeros((16, 24, 3), np.uint8), PEOPLE, people=PEOPLE, lossless=True)
        writer.finish()
    assert open_dataset(tmp_path / "out").verify() == []
    assert contents(tmp_path / "out")["train/people/a.png"] == contents(tmp_path / "out")["train/people/b.png"]
