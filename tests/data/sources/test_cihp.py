"""CIHP, and LIP, which numbers alike but for one id."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.cli import main
from seglab.data.prepare import prepare
from seglab.data.sources import BadLabels, Scan, SourceOptions, cihp, lip, recognise
from seglab.errors import DataError
from seglab.tasks import TASKS, Task

REAL = Path(os.environ.get("SEGLAB_REAL_DATA", "")) / "raw"
OPTIONS = SourceOptions(TASKS["parsing"])
IDS = np.arange(20, dtype=np.uint8).reshape(4, 5)
SIX = [[0, 5, 1, 5, 5], [4, 4, 4, 5, 4], [3, 5, 4, 2, 3], [3, 3, 3, 5, 5]]


def add(photo_dir: Path, label_dir: Path, *stems: str, ids: np.ndarray = IDS) -> None:
    for dir in (photo_dir, label_dir):
        dir.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        Image.new("RGB", ids.shape[1::-1]).save(photo_dir / f"{stem}.jpg")
        Image.fromarray(ids).save(label_dir / f"{stem}.png")


def published(raw: Path) -> Path:
    """Three labelled photos, a test photo without labels, and the folders of the instances."""
    root = raw / "instance-level_human_parsing"
    for folder, split, stems in (("Training", "train", ("0000006", "0002190")), ("Validation", "val", ("0001814",))):
        add(root / folder / "Images", root / folder / "Category_ids", *stems)
        add(root / folder / "Images", root / folder / "Human_ids", *stems, ids=IDS + 100)
        (root / folder / f"{split}_id.txt").write_text("\n".join(stems))
    add(root / "Testing" / "Images", root / "elsewhere", "0000001")
    return raw


def pgn(raw: Path) -> Path:
    add(raw / "images", raw / "labels", "0000006", "0002190", "0001814")
    for dir in ("labels_rev", "edges"):
        add(raw / "images", raw / dir, "0000006", "0002190", "0001814", ids=IDS[::-1])
    (raw / "list").mkdir()
    (raw / "list" / "train_id.txt").write_text("0000006\n0002190")
    (raw / "list" / "val_id.txt").write_text("0001814")
    (raw / "list" / "train_rev.txt").write_text("/images/x.jpg /labels/x.png /labels_rev/x.png")
    return raw


def found(scan: Scan) -> dict[str, str | None]:
    return {item.name: item.split for item in scan.items}


def test_the_published_tree(tmp_path: Path) -> None:
    raw = published(tmp_path)
    source, reason = recognise(raw)
    assert source.NAME == "cihp"
    assert "`instance-level_human_parsing/Training/Category_ids`" in reason
    scan = cihp.scan(raw, OPTIONS)
    assert found(scan) == {"0000006": "train", "0002190": "train", "0001814": "val"}
    assert scan.problems == []
    assert "`instance-level_human_parsing/Testing` has no labels and is left out" in scan.remarks
    assert scan.items[0].read_labels().tolist() == SIX


def test_the_tree_of_cihp_pgn_comes_before_the_general_folders(tmp_path: Path) -> None:
    raw = pgn(tmp_path)
    assert recognise(raw)[0].NAME == "cihp"
    scan = cihp.scan(raw, OPTIONS)
    assert found(scan) == {"0000006": "train", "0002190": "train", "0001814": "val"}
    assert scan.items[0].read_labels().tolist() == SIX  # those of `labels`, not of `labels_rev`
    assert "folders left out: edges, labels_rev" in scan.remarks


def test_a_listed_photo_that_is_not_there_is_told(tmp_path: Path) -> None:
    raw = published(tmp_path)
    (raw / "instance-level_human_parsing/Training/Category_ids/0000006.png").unlink()
    problems = [(problem.kind, problem.detail) for problem in cihp.scan(raw, OPTIONS).problems]
    assert problems == [("photo without a mask", ""), ("listed, but photo or labels are not there", "0000006")]


def test_ids_from_20_mean_nothing_and_255_is_ignored(tmp_path: Path) -> None:
    raw = pgn(tmp_path)
    add(raw / "images", raw / "labels", "0000006", ids=np.array([[255, 19]], np.uint8))
    add(raw / "images", raw / "labels", "0002190", ids=np.array([[20, 19]], np.uint8))
    items = {item.name: item for item in cihp.scan(raw, OPTIONS).items}
    assert items["0000006"].read_labels().tolist() == [[255, 5]]
    with pytest.raises(BadLabels, match=r"20 \(1 px\)"):
        items["0002190"].read_labels()


def test_other_tasks_of_the_same_people(tmp_path: Path) -> None:
    raw = pgn(tmp_path)
    person = cihp.scan(raw, SourceOptions(TASKS["person"])).items[0].read_labels()
    assert person.tolist() == (IDS > 0).astype(int).tolist()
    own = cihp.scan(raw, SourceOptions(Task("twenty", cihp.NAMES))).items[0].read_labels()
    assert own.tolist() == IDS.tolist()
    with pytest.raises(DataError, match="has no labels for task `face`"):
        cihp.scan(raw, SourceOptions(TASKS["face"]))


@pytest.mark.parametrize("prefix", ["", "TrainVal_images/"])
def test_lip_as_published_has_jumpsuits_for_torso_skin(tmp_path: Path, prefix: str) -> None:
    label_prefix = "TrainVal_parsing_annotations/" if prefix else ""
    for split, stem in (("train", "77_471474"), ("val", "100034_483681")):
        add(tmp_path / f"{prefix}{split}_images", tmp_path / f"{label_prefix}{split}_segmentations", stem)
    assert recognise(tmp_path)[0].NAME == "lip"
    scan = lip.scan(tmp_path, OPTIONS)
    assert found(scan) == {"77_471474": "train", "100034_483681": "val"}
    expected = [row[:] for row in SIX]
    expected[2][0] = 4
    assert scan.items[0].read_labels().tolist() == expected


def test_lip_ids_in_the_red_channel(tmp_path: Path) -> None:
    photo_dir, label_dir = tmp_path / "data" / "images", tmp_path / "data" / "annotations"
    add(photo_dir, label_dir, "77_471474", "77_5", "77_6")
    red = np.zeros((4, 5, 4), np.uint8)
    red[..., 0], red[..., 3] = IDS, 255
    Image.fromarray(red).save(label_dir / "77_471474.png")
    red[0, 0] = (1, 2, 3, 255)
    Image.fromarray(red).save(label_dir / "77_5.png")
    assert recognise(tmp_path)[0].NAME == "lip"
    items = {item.name: item for item in lip.scan(tmp_path, OPTIONS).items}
    assert items["77_471474"].read_labels().tolist() == items["77_6"].read_labels().tolist()
    with pytest.raises(DataError, match="holds colours"):
        items["77_5"].read_labels()


def test_images_with_annotations_are_lips_only_with_its_names(tmp_path: Path) -> None:
    add(tmp_path / "images", tmp_path / "annotations", "0001")
    assert lip.recognise(tmp_path) is None


def test_evaluate_names_the_splits_of_data_without_a_test_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The labels of the test photos were never published, and `test` is what is scored by default."""
    assert prepare(published(tmp_path / "raw"), tmp_path / "out").dataset is not None
    for way in (("--model", tmp_path), ("--pred", tmp_path / "out" / "val" / "labels")):
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", *map(str, way), "--data", str(tmp_path / "out"), "--device", "cpu"])
        assert ended.value.code == 3
        told = " ".join(capsys.readouterr().err.split())
        assert "has no `test` samples" in told
        assert "it has `train`, `val`" in told


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="SEGLAB_REAL_DATA does not name a folder with raw/")
@pytest.mark.parametrize(("folder", "name", "num"), [("cihp-raw", "cihp", 3), ("lip-raw", "lip", 60)])
def test_real_photos(tmp_path: Path, folder: str, name: str, num: int) -> None:
    done = prepare(REAL / folder, tmp_path / "out", max_side=64)
    assert done.dataset is not None
    assert (done.source, done.num_samples, done.findings.problems) == (name, num, [])
    seen = {name for sample in done.dataset.samples for name, num in sample.pixels.items() if num}
    assert seen == set(TASKS["parsing"].classes)
