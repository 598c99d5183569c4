"""The general layout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.data.sources import BadLabels, Scan, SourceOptions, folders, recognise
from seglab.tasks import TASKS

OPTIONS = SourceOptions(TASKS["clothes"])


def add(raw: Path, photos: str, masks: str, *stems: str, value: int = 1) -> None:
    for stem in stems:
        for path in (raw / photos / f"{stem}.jpg", raw / masks / f"{stem}.png"):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(raw / photos / f"{stem}.jpg")
        Image.fromarray(np.full((3, 4), value, np.uint8)).save(raw / masks / f"{stem}.png")


def names(scan: Scan) -> list[tuple[str | None, str]]:
    return [(item.split, item.name) for item in scan.items]


@pytest.mark.parametrize("mask_dir", ["masks", "labels"])
def test_flat_folders_with_sub_folders(tmp_path: Path, mask_dir: str) -> None:
    add(tmp_path, "images", mask_dir, "b", "a", "day 1/a")
    source, reason = recognise(tmp_path)
    assert (source.NAME, reason) == ("folders", f"it has `images` and `{mask_dir}`")
    scan = folders.scan(tmp_path, OPTIONS)
    assert names(scan) == [(None, "a"), (None, "b"), (None, "day 1/a")]
    assert (scan.problems, scan.remarks) == ([], [])
    assert scan.items[0].read_labels().tolist() == [[1] * 4] * 3


@pytest.mark.parametrize(
    ("photos", "masks"), [("{}/images", "{}/masks"), ("{}/images", "{}/labels"), ("images/{}", "masks/{}")]
)
def test_own_splits_in_either_nesting(tmp_path: Path, photos: str, masks: str) -> None:
    for split, stem in (("test", "c"), ("Training", "a"), ("valid", "b")):
        add(tmp_path, photos.format(split), masks.format(split), stem)
    assert recognise(tmp_path)[0].NAME == "folders"
    scan = folders.scan(tmp_path, OPTIONS)
    assert names(scan) == [("train", "a"), ("val", "b"), ("test", "c")]
    assert scan.remarks == ["the source's own splits are kept: train, val, test"]


def test_names_that_start_anew_in_every_split_carry_it(tmp_path: Path) -> None:
    for split in ("train", "val"):
        add(tmp_path, f"images/{split}", f"masks/{split}", "0001")
    add(tmp_path, "images/train", "masks/train", "0002")
    assert names(folders.scan(tmp_path, OPTIONS)) == [
        ("train", "train/0001"), ("train", "train/0002"), ("val", "val/0001"),
    ]  # fmt: skip


def test_sub_folders_called_train_beside_photos_are_no_splits(tmp_path: Path) -> None:
    add(tmp_path, "images", "masks", "a", "train/b")
    assert names(folders.scan(tmp_path, OPTIONS)) == [(None, "a"), (None, "train/b")]


def test_a_split_without_its_masks_is_listed_photo_by_photo(tmp_path: Path) -> None:
    add(tmp_path, "images/train", "masks/train", "a")
    (tmp_path / "images" / "val").mkdir()
    Image.new("RGB", (4, 3)).save(tmp_path / "images" / "val" / "b.jpg")
    scan = folders.scan(tmp_path, OPTIONS)
    assert [(problem.kind, problem.path) for problem in scan.problems] == [("photo without a mask", "images/val/b.jpg")]


def test_masks_win_over_labels_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    add(tmp_path, "images", "labels", "a", value=1)
    add(tmp_path, "images", "masks", "a", value=2)
    add(tmp_path, "images", "masks_fine", "a", value=3)
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "images" / "readme.txt").touch()
    scan = folders.scan(tmp_path, OPTIONS)
    assert scan.items[0].read_labels().max() == 2
    assert scan.remarks == ["folders left out: labels, masks_fine", "1 files that are no pictures are left out"]


def test_several_files_of_one_stem(tmp_path: Path) -> None:
    add(tmp_path, "images", "masks", "a", "b")
    Image.new("RGB", (4, 3)).save(tmp_path / "images" / "a.png")
    Image.new("L", (4, 3)).save(tmp_path / "masks" / "b.bmp")
    scan = folders.scan(tmp_path, OPTIONS)
    assert scan.items == []
    assert [(problem.kind, problem.path, problem.detail) for problem in scan.problems] == [
        ("several files of one stem", "images/a.jpg", "a.jpg, a.png"),
        ("several files of one stem", "masks/b.bmp", "b.bmp, b.png"),
    ]


def test_the_convention_is_that_of_the_whole_source(tmp_path: Path) -> None:
    add(tmp_path, "images", "masks", "a", "b", value=255)
    add(tmp_path, "images", "masks", "c", value=0)
    scan = folders.scan(tmp_path, SourceOptions(TASKS["person"]))
    assert [item.read_labels().max() for item in scan.items] == [1, 1, 0]
    assert scan.remarks == ["masks are 0/255: 255 is the class, nothing is ignored"]


def test_a_stray_id_mask_in_a_large_0_255_source_is_a_problem(tmp_path: Path) -> None:
    add(tmp_path, "images", "masks", *(f"{number:03d}" for number in range(60)), value=255)
    add(tmp_path, "images", "masks", "001", value=1)  # between those that are looked at
    scan = folders.scan(tmp_path, SourceOptions(TASKS["person"]))
    with pytest.raises(BadLabels):
        scan.items[1].read_labels()
