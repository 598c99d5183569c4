"""Inspection: every planted defect is found, sound data raise no alarm, and the figures are those of a plain count."""

import json
from pathlib import Path

import numpy as np
import pytest

from seglab.data.census import take_census
from seglab.data.images import read_labels, read_photo, resize_image, write_labels
from seglab.data.inspect import Inspection, inspect
from seglab.data.manifest import Dataset, open_dataset
from seglab.data.outliers import MAX_DEVIATION, deviations, find_outliers
from seglab.data.scene import draw_scene, labels_for
from seglab.data.sheet import write_sheet
from seglab.data.writer import DatasetWriter
from seglab.errors import UsageError
from seglab.tasks import TASKS, Task
from tests.data.commands import run

FACE = TASKS["face"]
SIZE_HW = (64, 56)
NUM = 60


def portrait(index: int) -> tuple[np.ndarray, np.ndarray]:
    scene = draw_scene(4, index, "portrait", SIZE_HW)
    return scene.image, labels_for(scene, FACE)


def split_of(index: int) -> str:
    return ("train", "train", "train", "val", "test")[index % 5]


def id_of(index: int) -> str:
    return f"s{index:03d}"


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Dataset:
    dir = tmp_path_factory.mktemp("sound") / "data"
    with DatasetWriter(dir, FACE, "test", {}) as writer:
        for index in range(NUM):
            writer.add(id_of(index), split_of(index), *portrait(index))
        return writer.finish()


EMPTY, FULL, SCATTERED, SWAPPED, NO_NOSE, COPY, BRIGHT, GREY = 10, 11, 12, 13, 14, 15, 16, 17


def planted(index: int) -> tuple[np.ndarray, np.ndarray]:
    image, labels = portrait(index)
    if index == EMPTY:
        labels = np.zeros_like(labels)
    if index == FULL:
        labels = np.full_like(labels, FACE.index("hair"))
        labels[0, :5] = 0
    if index == SCATTERED:
        labels = np.random.default_rng(0).permutation(labels.ravel()).reshape(labels.shape)
    if index == SWAPPED:
        labels = np.array(FACE.mirror_permutation(), np.uint8)[labels]
    if index == NO_NOSE:
        labels = np.where(labels == FACE.index("nose"), FACE.index("face"), labels).astype(np.uint8)
    if index == COPY:
        image = portrait(20)[0]
    if index == BRIGHT:  # in test, its model in train
        image = np.clip(resize_image(portrait(21)[0], SIZE_HW).astype(int) + 15, 0, 255).astype(np.uint8)
    return image, labels


@pytest.fixture(scope="module")
def defects(tmp_path_factory) -> Inspection:
    dir = tmp_path_factory.mktemp("defects") / "data"
    with DatasetWriter(dir, FACE, "test", {}) as writer:
        for index in range(120):
            writer.add(id_of(index), "test" if index == BRIGHT else split_of(index), *planted(index))
        dataset = writer.finish()
    return inspect(dataset, workers=2)


def kinds(found: Inspection) -> dict[str, str]:
    return {found.dataset.samples[outlier.position].id: outlier.kind for outlier in found.outliers}


def test_counts_are_those_of_a_plain_count(sound):
    found = inspect(sound, workers=0)
    for part in found.splits:
        all_labels = [read_labels(path) for path in sorted((sound.dir / part.split / "labels").iterdir())]
        for label in range(FACE.num_classes):
            pixels = sum(int((labels == label).sum()) for labels in all_labels)
            assert part.shares[label] == pytest.approx(pixels / sum(labels.size for labels in all_labels))
            assert part.num_with[label] == sum((labels == label).any() for labels in all_labels)
        assert part.num_samples == len(all_labels)
    assert found.sizes == {"height": (64,) * 3, "width": (56,) * 3, "longer side": (64,) * 3}
    assert found.num_sizes == 1
    assert found.missing() == {}


def test_sound_data_raise_no_alarm(sound):
    found = inspect(sound)
    assert (found.same, found.near, found.across, found.unreadable) == ((), (), [], {})
    assert [outlier for outlier in found.outliers if outlier.score > 5] == []
    assert len(found.outliers) <= 0.1 * NUM
    for pair in found.mirror:
        assert pair.num_checked > 0.7 * NUM
        assert pair.num_left_first == pair.num_checked
        assert pair.of_picture
        assert pair.against == ()


def test_threads_change_nothing(sound):
    assert json.dumps(inspect(sound, workers=0).to_dict()) == json.dumps(inspect(sound, workers=3).to_dict())


class TestDefects:
    def test_blank_and_full_masks(self, defects):
        assert (kinds(defects)[id_of(EMPTY)], kinds(defects)[id_of(FULL)]) == ("empty", "full")
        first = [defects.dataset.samples[outlier.position].id for outlier in defects.outliers[:2]]
        assert first == [id_of(EMPTY), id_of(FULL)]

    def test_scattered_pixels_are_the_next_odd_thing(self, defects):
        third = defects.outliers[2]
        assert defects.dataset.samples[third.position].id == id_of(SCATTERED)
        assert third.reason.startswith("in pieces or ragged (outline ")
        assert third.score > 2 * MAX_DEVIATION

    def test_a_class_that_only_one_lacks(self, defects):
        reasons = {defects.dataset.samples[outlier.position].id: outlier.reason for outlier in defects.outliers}
        assert kinds(defects)[id_of(NO_NOSE)] == "lacking"
        assert reasons[id_of(NO_NOSE)] == "no `nose`, which 99.2% have"

    def test_left_that_is_right(self, defects):
        for pair in defects.mirror:
            assert {id_of(SWAPPED)} <= {defects.dataset.samples[position].id for position in pair.against}
            assert pair.num_checked - pair.num_left_first == len(pair.against) <= 2

    def test_copies(self, defects):
        values = defects.to_dict()["duplicates"]
        assert [[entry["id"] for entry in group] for group in values["same"]] == [[id_of(COPY), "s020"]]
        assert [[entry["id"] for entry in group] for group in values["near"]] == [
            [id_of(COPY), "s020"],
            ["s016", "s021"],
        ]
        assert values["across"] == [[{"id": "s016", "split": "test"}, {"id": "s021", "split": "train"}]]


def test_a_mirror_pair_of_the_subject(tmp_path):
    """Where left is the depicted person's, those that follow the picture are the odd ones."""
    with DatasetWriter(tmp_path / "data", FACE, "test", {}) as writer:
        for index in range(8):
            image, labels = portrait(index)
            swapped = labels if index == 3 else np.array(FACE.mirror_permutation(), np.uint8)[labels]
            writer.add(id_of(index), "train", image, swapped)
        found = inspect(writer.finish())
    eyes = found.mirror[1]
    assert not eyes.of_picture
    assert [found.dataset.samples[position].id for position in eyes.against] == ["s003"]


def block(share: float) -> np.ndarray:
    labels = np.zeros((40, 50), np.uint8)
    labels[:, : round(50 * share)] = 1
    return labels


def splits_of_shares(tmp_path: Path, train: list[float], test: list[float]) -> Inspection:
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    with DatasetWriter(tmp_path / "data", TASKS["person"], "test", {}) as writer:
        for split, shares in (("train", train), ("test", test)):
            for index, share in enumerate(shares):
                writer.add(f"{split}{index}", split, np.roll(image, index * 7, axis=1), block(share))
        return inspect(writer.finish())


def test_splits_that_differ_are_named(tmp_path):
    rng = np.random.default_rng(1)
    found = splits_of_shares(tmp_path, list(rng.uniform(0.3, 0.7, 60)), list(rng.uniform(0.05, 0.35, 30)))
    assert [(ratio.name, ratio.split, ratio.other) for ratio in found.ratios] == [
        ("person", "train", "test"),
        ("background", "test", "train"),
    ]
    ratio = found.ratios[0]
    shares = {
        split: [block_share(found, sample) for sample in found.dataset.split(split)] for split in ("train", "test")
    }
    assert ratio.share == pytest.approx(np.mean(shares["train"]))
    assert ratio.other_share == pytest.approx(np.mean(shares["test"]))
    welch = (np.mean(shares["train"]) - np.mean(shares["test"])) / np.sqrt(
        np.var(shares["train"], ddof=1) / 60 + np.var(shares["test"], ddof=1) / 30
    )
    assert ratio.errors == pytest.approx(welch)


def block_share(found: Inspection, sample: object) -> float:
    return float((read_labels(found.dataset.label_path(sample)) == 1).mean())


def test_splits_that_differ_by_chance_are_not(tmp_path):
    rng = np.random.default_rng(1)
    found = splits_of_shares(tmp_path, list(rng.uniform(0.1, 0.7, 60)), list(rng.uniform(0.1, 0.7, 8)))
    assert found.ratios == ()


def test_a_class_that_a_split_has_not(tmp_path):
    found = splits_of_shares(tmp_path, [0.5, 0.4, 0.6] * 3, [0.0] * 8)
    assert found.missing() == {"test": ["person"]}
    assert "person" in [ratio.name for ratio in found.ratios]


def test_splits_of_a_few_samples_are_not_compared(tmp_path):
    found = splits_of_shares(tmp_path, [0.5, 0.4, 0.6] * 3, [0.21, 0.2])
    assert not found.ratios


def test_plain_photos_are_duplicates_only_if_their_files_are(tmp_path):
    with DatasetWriter(tmp_path / "data", TASKS["person"], "test", {}) as writer:
        for index, grey in enumerate((90, 90, 91)):
            image = np.full((40, 50, 3), grey, np.uint8)
            writer.add(f"p{index}", ("train", "test", "train")[index], image, block(0.5))
        found = inspect(writer.finish())
    assert (found.same, found.near, found.across) == (([0, 1],), ([0, 1],), [[0, 1]])


def test_ignored_pixels_are_no_class_and_no_share(tmp_path):
    with DatasetWriter(tmp_path / "data", TASKS["person"], "test", {}) as writer:
        image = portrait(0)[0]
        labels = np.zeros(SIZE_HW, np.uint8)
        labels[:32] = 255
        labels[32:48] = 1
        writer.add("half", "train", image, labels)
        writer.add("void", "train", portrait(1)[0], np.full(SIZE_HW, 255, np.uint8))
        found = inspect(writer.finish())
    part = found.splits[0]
    assert part.shares == (0.5, 0.5)
    assert part.ignored == 0.75
    assert [(outlier.position, outlier.reason) for outlier in found.outliers] == [(1, "everything is ignored")]
    census = take_census(found.dataset)
    np.testing.assert_allclose(census.place[0], [(32 + 48) / 2 / 64, 0.5])
    assert census.touch[0] == pytest.approx(2 * 16 / (2 * 16 + 54 + 2 * 16))


def test_files_that_cannot_be_read_are_told_and_the_rest_goes_on(tmp_path, capsys):
    dir = tmp_path / "data"
    with DatasetWriter(dir, FACE, "test", {}) as writer:
        for index in range(6):
            writer.add(id_of(index), "train", *portrait(index))
        dataset = writer.finish()
    dataset.image_path(dataset.samples[1]).write_bytes(b"<html>")
    dataset.label_path(dataset.samples[2]).unlink()
    write_labels(dataset.label_path(dataset.samples[3]), np.zeros((5, 5), np.uint8))
    write_labels(dataset.label_path(dataset.samples[4]), np.full(SIZE_HW, 77, np.uint8))
    found = inspect(open_dataset(dir))
    assert sorted(found.unreadable) == [1, 2, 3, 4]
    assert "labels hold 77" in found.unreadable[4]
    assert found.splits[0].num_with[0] == 2
    assert not {1, 2, 3, 4} & {outlier.position for outlier in found.outliers}
    write_sheet(found, tmp_path / "sheet.png")
    assert run("inspect", dir, "--json") == 1
    output = capsys.readouterr()
    assert len(json.loads(output.out)["unreadable"]) == 4
    assert "cannot be read" in output.err


class TestDeviations:
    def test_normal_values(self):
        values = np.random.default_rng(0).normal(5, 2, 4000)
        far = deviations(values, 0.0)
        assert far == pytest.approx(np.abs(values - 5) / 2, abs=0.25)

    def test_half_alike_does_not_make_the_others_odd(self):
        values = np.r_[np.zeros(60), np.linspace(0, 1, 40)]
        assert deviations(values, 0.0).max() < 4.5

    def test_tiny_differences_are_none(self):
        values = np.r_[np.full(50, 0.5), 0.5001]
        assert deviations(values, 0.02).max() < 0.1

    def test_few_values_and_none(self):
        assert (deviations(np.r_[np.zeros(18), 9.0], 0.1) == 0).all()
        far = deviations(np.r_[np.zeros(30), np.nan, 9.0], 0.1)
        assert far[30] == 0
        assert far[31] > 10

    def test_no_outlier_without_anything_typical(self, tmp_path):
        with DatasetWriter(tmp_path / "data", TASKS["person"], "test", {}) as writer:
            for index, share in enumerate((0.1, 0.1, 0.1, 0.9)):
                writer.add(f"p{index}", "train", portrait(index)[0][:40, :50], block(share))
            assert find_outliers(take_census(writer.finish())) == []


class TestSheet:
    def test_it_shows_random_and_odd_samples_with_a_legend(self, defects, tmp_path):
        write_sheet(defects, tmp_path / "sheet.png", num_random=5, seed=1)
        write_sheet(defects, tmp_path / "again.png", num_random=5, seed=1)
        write_sheet(defects, tmp_path / "other.png", num_random=5, seed=2)
        contents = [(tmp_path / f"{name}.png").read_bytes() for name in ("sheet", "again", "other")]
        assert contents[0] == contents[1] != contents[2]
        sheet = read_photo(tmp_path / "sheet.png").image
        assert sheet.shape[0] > 3 * 256
        found = {tuple(rgb) for rgb in sheet.reshape(-1, 3)[::1].tolist()}
        assert set(FACE.palette) <= found

    def test_a_sound_dataset_has_random_samples_only(self, tmp_path):
        with DatasetWriter(tmp_path / "data", FACE, "test", {}) as writer:
            for index in range(3):
                writer.add(id_of(index), "train", *portrait(index))
            found = inspect(writer.finish())
        write_sheet(found, tmp_path / "sheet.jpg", num_random=50)
        assert 256 < read_photo(tmp_path / "sheet.jpg").image.shape[0] < 512

    def test_other_suffixes_are_refused(self, sound, tmp_path):
        with pytest.raises(UsageError):
            write_sheet(inspect(sound), tmp_path / "sheet.gif")


class TestCommand:
    def test_tables_on_stderr_and_json_on_stdout(self, defects, tmp_path, capsys):
        sheet = tmp_path / "sheet.jpg"
        assert run("inspect", defects.dataset.dir, "--json", "--sheet", sheet) == 0
        output = capsys.readouterr()
        assert json.loads(output.out) == json.loads(json.dumps(defects.to_dict()))
        assert sheet.stat().st_size > 5000
        for text in (
            "nothing but background",
            "1 x near-duplicates across splits",
            "1 x near-duplicates within a split",
        ):
            assert text in output.err
        assert f"`le` lies left of `re` in {defects.mirror[1].num_left_first}" in output.err
        assert id_of(SWAPPED) in output.err

    def test_without_json_stdout_is_empty(self, sound, capsys):
        assert run("inspect", sound.dir) == 0
        output = capsys.readouterr()
        assert output.out == ""
        assert "share of the pixels, and samples with the class" in " ".join(output.err.split())

    def test_a_sheet_of_another_kind_is_refused_before_the_work(self, sound, tmp_path, capsys):
        assert run("inspect", sound.dir, "--sheet", tmp_path / "sheet.webp") == 2
        assert "cannot draw" in capsys.readouterr().err

    def test_no_dataset(self, tmp_path, capsys):
        assert run("inspect", tmp_path) == 3
        assert "is not a prepared dataset" in capsys.readouterr().err


def test_a_task_without_pairs_has_no_sides(tmp_path):
    task = Task("hands", ("none", "hand"))
    with DatasetWriter(tmp_path / "data", task, "test", {}) as writer:
        writer.add("a", "train", portrait(0)[0][:40, :50], block(0.3))
        assert inspect(writer.finish()).mirror == ()


def test_a_class_that_fills_pictures_does_not_blind_the_search(tmp_path):
    """A picture without outlines is no number on a scale of lengths, and must not make all others alike."""
    task = Task("hands", ("none", "hand"))
    with DatasetWriter(tmp_path / "data", task, "test", {}) as writer:
        for number in range(40):
            labels = np.zeros((40, 50), np.uint8)
            labels[10:20, 10 : 20 + number % 5] = 1
            if number == 7:
                labels[:] = 1
            if number == 9:
                labels[::2] = 0
                labels[1::4, ::2] = 1
            writer.add(f"{number:02d}", "train", np.full((40, 50, 3), number, np.uint8), labels)
        dataset = writer.finish()
    found = {dataset.samples[outlier.position].id: outlier for outlier in inspect(dataset, workers=0).outliers}
    assert found["07"].kind == "full"
    assert found["09"].kind == "unlike"
    assert all(np.isfinite(outlier.score) for outlier in found.values() if outlier.kind == "unlike")
