"""Photos and masks of one name in one folder, whatever they are called and wherever they lie."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.cli import main
from seglab.data.manifest import open_dataset
from seglab.data.prepare import prepare
from seglab.data.side_by_side import find_side_by_side
from seglab.data.sources import SourceOptions, folders, pascal_part, recognise
from seglab.errors import DataError, UsageError
from seglab.tasks import TASKS

BODY, PERSON = TASKS["body"], TASKS["person"]


def put(raw: Path, *names: str, photo: str = ".jpg", mask: str = ".png", id: int = 1) -> Path:
    rng = np.random.default_rng(len(names[0]))
    for name in names:
        path = raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8)).save(path.with_name(path.name + photo))
        labels = np.zeros((12, 16), np.uint8)
        labels[3:9, 4:12] = id
        if mask:
            Image.fromarray(labels).save(path.with_name(path.name + mask))
    return raw


@pytest.mark.parametrize("names", [("abc", "x y", "IMG.0001"), ("deep/er/abc", "deep/er/z"), ("a/1", "b/1", "c/d/1")])
@pytest.mark.parametrize(("photo", "mask"), [(".jpg", ".png"), (".JPEG", ".PNG"), (".bmp", ".png")])
def test_any_names_at_any_depth(tmp_path: Path, names: tuple[str, ...], photo: str, mask: str) -> None:
    raw = put(tmp_path / "raw", *names, photo=photo, mask=mask, id=5)
    (raw / ".DS_Store").write_bytes(b"x")
    source, reason = recognise(raw)
    assert source.NAME == "folders"
    assert "side by side" in reason
    assert "--source pascal-part" in reason
    for given in (None, "folders", "pascal-part"):
        done = prepare(raw, tmp_path / f"out-{given}", task=BODY, source=given, val=0, test=0)
        assert done.dataset is not None
        assert (done.num_samples, done.findings.problems) == (len(names), [])
        assert all(sample.pixels["up_leg"] == 48 for sample in done.dataset.samples)


def test_with_the_source_named_no_task_is_needed(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", "abc", "abd", id=6)
    with pytest.raises(UsageError, match="does not say what its masks mean") as caught:
        prepare(raw, tmp_path / "out")
    assert "side by side" in caught.value.message
    assert "--task" in caught.value.hint
    done = prepare(raw, tmp_path / "out", source="pascal-part", val=0, test=0)
    assert (done.source, done.num_samples) == ("pascal-part", 2)
    assert done.dataset is not None
    assert done.dataset.task == BODY


def test_folders_of_splits_are_kept_and_val_is_divided_for_pascal_part(tmp_path: Path) -> None:
    names = [f"data/{split}/{split[0]}{number}" for split in ("train", "val") for number in range(12)]
    raw = put(tmp_path / "raw", *names)
    found = find_side_by_side(raw)
    assert found is not None
    assert list(found.dirs) == ["train", "val"]
    general = folders.scan(raw, SourceOptions(BODY))
    assert "the source's own splits are kept: train, val" in general.remarks
    counts = [item.split for item in general.items]
    assert (counts.count("train"), counts.count("val")) == (12, 12)
    own = [item.split for item in pascal_part.scan(raw, SourceOptions(BODY)).items]
    assert [own.count(split) for split in ("train", "val", "test")] == [12, 7, 5]


def test_one_folder_called_as_a_split_is_none(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", "train/a", "train/b", "train/c")
    assert {item.split for item in folders.scan(raw, SourceOptions(BODY)).items} == {None}
    assert {item.split for item in pascal_part.scan(raw, SourceOptions(BODY)).items} == {None}
    raw = put(tmp_path / "cats", "test/a", "cats/b", "c")
    items = folders.scan(raw, SourceOptions(BODY)).items
    assert sorted(item.name for item in items) == ["c", "cats/b", "test/a"]
    assert {item.split for item in items} == {None}


def test_pairs_beside_the_splits_are_left_out_and_told(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", "Train/a", "Train/b", "valid/c", "old/d", "e")
    for source in (folders, pascal_part):
        scan = source.scan(raw, SourceOptions(BODY))
        assert (
            {item.split for item in scan.items} == {"train", "val"} if source is folders else {"train", "val", "test"}
        )
        assert len(scan.items) == 3
        assert "2 pairs outside of Train, valid are left out" in scan.remarks


def test_names_that_start_anew_in_every_split(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", "train/1", "train/2", "test/1")
    assert [item.name for item in folders.scan(raw, SourceOptions(BODY)).items] == ["train/1", "train/2", "test/1"]
    (problem,) = pascal_part.scan(raw, SourceOptions(BODY)).problems
    assert problem.kind == "name in several splits"


def test_what_has_no_counterpart_is_a_problem(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", "a", "b", "c")
    put(raw, "lone", mask="")
    (raw / "a.jpg").rename(raw / "other.jpg")
    put(raw, "b", photo=".webp", mask="")
    (raw / "notes.txt").write_text("x")
    scan = folders.scan(raw, SourceOptions(BODY))
    assert [item.name for item in scan.items] == ["c"]
    assert sorted((problem.kind, problem.path) for problem in scan.problems) == [
        ("mask without a photo", "a.png"),
        ("photo without a mask", "lone.jpg"),
        ("photo without a mask", "other.jpg"),
        ("several files of one stem", "b.jpg"),
    ]
    assert "1 files that are no pictures are left out" in scan.remarks


def test_a_few_pngs_among_photos_are_no_layout(tmp_path: Path) -> None:
    """Named it is read, and says what is missing."""
    raw = put(tmp_path / "raw", *(f"{number}" for number in range(9)), mask="")
    with pytest.raises(DataError, match="no layout"):
        recognise(raw)
    put(raw, "1")
    with pytest.raises(DataError, match="no layout"):
        recognise(raw)
    scan = folders.scan(raw, SourceOptions(BODY))
    assert (len(scan.items), len(scan.problems)) == (1, 8)


def test_names_of_voc_are_recognised_without_a_word(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", "any/2008_000001", "any/2010_123456")
    source, reason = recognise(raw)
    assert source.NAME == "pascal-part"
    assert "called as in VOC" in reason
    put(raw, "any/2009_cat")
    assert recognise(raw)[0].NAME == "folders"


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, out = put(tmp_path / "raw", *(f"p{number}" for number in range(10))), tmp_path / "out"
    with pytest.raises(SystemExit) as caught:
        main(["prepare", str(raw), str(out), "--task", "person"])
    assert caught.value.code == 0
    assert "side by side (`p0`)" in capsys.readouterr().err
    assert len(open_dataset(out).samples) == 10
