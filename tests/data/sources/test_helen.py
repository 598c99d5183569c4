"""Helen*."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.data.prepare import prepare
from seglab.data.sources import BadLabels, Scan, SourceOptions, helen, recognise
from seglab.errors import DataError
from seglab.tasks import TASKS

REAL = Path(os.environ.get("SEGLAB_REAL_DATA", "")) / "raw" / "helen-like"
OPTIONS = SourceOptions(TASKS["face"], val=0.5)


def triple(dir: Path, id: str, labels: list[list[int]], *, suffix: str = "jpg") -> None:
    dir.mkdir(parents=True, exist_ok=True)
    array = np.array(labels, np.uint8)
    Image.new("RGB", array.shape[::-1]).save(dir / f"{id}_image.{suffix}")
    Image.fromarray(array).save(dir / f"{id}_label.png")
    Image.new("RGB", array.shape[::-1], "red").save(dir / f"{id}_viz.jpg")


def tree(raw: Path, root: str = "helenstar_release") -> Path:
    """Three of train, one of test, and all that lies about in the archive."""
    for id, values in (("2371615952_1", [0, 1, 2, 3]), ("232194_1", [4, 5, 6, 7]), ("99_2", [8, 9, 10, 10])):
        triple(raw / root / "train", id, [values])
    triple(raw / root / "test", "100032540_1", [[0, 10], [1, 6]])
    triple(raw / root / "test_resize", "100032540_1", [[0]])
    (raw / root / "label_names.txt").write_text("bg\nface\n")
    (raw / root / "f1_score.py").write_text("raise SystemExit\n")
    (raw / root / "train" / ".DS_Store").write_bytes(b"\0")
    (raw / root / "train" / "._99_2_image.jpg").write_bytes(b"\0\5\26\7")
    return raw


def found(scan: Scan) -> dict[str, str | None]:
    return {item.name: item.split for item in scan.items}


@pytest.mark.parametrize("root", [".", "helenstar_release"])
def test_triples_keep_test_and_draw_val_from_train(tmp_path: Path, root: str) -> None:
    raw = tree(tmp_path, root)
    source, reason = recognise(raw)
    assert source.NAME == "helen"
    assert "ID_image with ID_label" in reason
    scan = helen.scan(raw, OPTIONS)
    splits = found(scan)
    assert splits.pop("100032540_1") == "test"
    assert sorted(str(split) for split in splits.values()) == ["train", "val", "val"]  # round(3 * 0.5)
    assert scan.problems == []
    assert scan.remarks == [
        "the source's own splits are kept: train, test",
        "val is drawn from train: 2 of 3, those with the smallest sha1 of the name",
        "folders left out: test_resize",
    ]


def test_labels_are_the_tasks_ids_as_stored(tmp_path: Path) -> None:
    items = {item.name: item.read_labels() for item in helen.scan(tree(tmp_path), OPTIONS).items}
    assert items["2371615952_1"].tolist() == [[0, 1, 2, 3]]
    assert {int(id) for labels in items.values() for id in np.unique(labels)} == set(range(11))


def test_without_a_share_there_is_no_val(tmp_path: Path) -> None:
    splits = found(helen.scan(tree(tmp_path), SourceOptions(TASKS["face"], val=0)))
    assert sorted(str(split) for split in splits.values()) == ["test", "train", "train", "train"]


def test_one_folder_alone_has_no_splits(tmp_path: Path) -> None:
    raw = tree(tmp_path) / "helenstar_release" / "train"
    assert recognise(raw)[0].NAME == "helen"
    assert set(found(helen.scan(raw, OPTIONS)).values()) == {None}


def test_the_reshuffled_folders_are_read_too(tmp_path: Path) -> None:
    for split, id in (("train", "1_1"), ("test", "2_1")):
        triple(tmp_path / "flat", id, [[1]])
        for kind, name in (("images", f"{id}_image.jpg"), ("labels", f"{id}_label.png")):
            dir = tmp_path / "raw" / "splitted_data" / split / kind
            dir.mkdir(parents=True)
            (tmp_path / "flat" / name).rename(dir / name)
    assert recognise(tmp_path / "raw")[0].NAME == "helen"
    assert found(helen.scan(tmp_path / "raw", OPTIONS)) == {"1_1": "train", "2_1": "test"}


def test_everything_wrong_is_told(tmp_path: Path) -> None:
    raw = tree(tmp_path, ".")
    triple(raw / "train", "100032540_1", [[0]])
    (raw / "train" / "99_2_label.png").unlink()
    (raw / "train" / "232194_1_image.jpg").rename(raw / "train" / "other_1_image.jpg")
    Image.new("RGB", (4, 1)).save(raw / "train" / "2371615952_1_image.png")
    problems = {(problem.kind, problem.path) for problem in helen.scan(raw, OPTIONS).problems}
    assert problems == {
        ("photo without a mask", "train/99_2_image.jpg"),
        ("photo without a mask", "train/other_1_image.jpg"),
        ("mask without a photo", "train/232194_1_label.png"),
        ("several files of one stem", "train/2371615952_1_image.jpg"),
        ("name in several splits", "train/100032540_1_image.jpg"),
    }


def test_an_id_over_ten_is_refused(tmp_path: Path) -> None:
    triple(tmp_path / "train", "1_1", [[0, 11, 11]])
    with pytest.raises(BadLabels, match=r"11 \(2 px\)"):
        helen.scan(tmp_path, OPTIONS).items[0].read_labels()


def test_tasks_of_other_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no labels for task `body`"):
        helen.scan(tree(tmp_path), SourceOptions(TASKS["body"]))


def test_prepared_with_another_share_it_is_made_anew(tmp_path: Path) -> None:
    raw = tree(tmp_path / "raw")
    first = prepare(raw, tmp_path / "out", val=0.5, workers=0)
    assert first.dataset is not None
    assert {split: len(first.dataset.split(split)) for split in first.dataset.splits} == {
        "train": 1, "val": 2, "test": 1,
    }  # fmt: skip
    assert prepare(raw, tmp_path / "out", val=0.5, workers=0).unchanged
    with pytest.raises(DataError, match="out"):
        prepare(raw, tmp_path / "out", val=0.34, workers=0)
    other = prepare(raw, tmp_path / "out", val=0.34, workers=0, force=True)
    assert other.dataset is not None
    assert len(other.dataset.split("val")) == 1


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="SEGLAB_REAL_DATA does not name a folder with raw/helen-like")
def test_real_photos(tmp_path: Path) -> None:
    done = prepare(REAL, tmp_path / "out", val=0.1, max_side=64)
    assert done.dataset is not None
    assert (done.source, done.findings.problems) == ("helen", [])
    assert {split: len(done.dataset.split(split)) for split in done.dataset.splits} == {
        "train": 58, "val": 6, "test": 16,
    }  # fmt: skip
    seen = {name for sample in done.dataset.samples for name, num in sample.pixels.items() if num}
    assert seen == set(TASKS["face"].classes)
