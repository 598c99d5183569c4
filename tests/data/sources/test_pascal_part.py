"""PASCAL-Part in its four forms."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seglab.data.images import read_labels
from seglab.data.part_annotations import read_objects
from seglab.data.prepare import prepare
from seglab.data.sources import BadLabels, LeftOut, Scan, SourceOptions, pascal_part, recognise
from seglab.errors import DataError
from seglab.tasks import TASKS

REAL = Path(os.environ.get("SEGLAB_REAL_DATA", "")) / "raw"
OPTIONS = SourceOptions(TASKS["body"])
STEMS = ("2008_000026", "2008_000036", "2010_005876")
IDS = np.arange(8, dtype=np.uint8).reshape(2, 4) % 7


def photos(dir: Path, *stems: str, size: tuple[int, int] = (4, 2)) -> None:
    dir.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        Image.new("RGB", size).save(dir / f"{stem}.jpg")


def npy_tree(raw: Path, root: str = "data") -> Path:
    photos(raw / root / "JPEGImages", *STEMS)
    (raw / root / "gt_masks").mkdir()
    for stem in STEMS:
        np.save(raw / root / "gt_masks" / f"{stem}.npy", IDS)
    (raw / root / "train_id.txt").write_text("\n".join(STEMS[:2]))
    (raw / root / "val_id.txt").write_text(STEMS[2] + "\n")
    (raw / root / "classes.txt").write_text("0: bg\n1: low_hand\n2: torso\n3: low_leg\n4: head\n5: up_leg\n6: up_hand")
    return raw


def annotation(path: Path, *objects: tuple[str, dict[str, slice]], size: int = 6) -> None:
    """Write an annotation as MATLAB would: every part covers some columns of one row."""
    from scipy.io import savemat

    def columns(where: slice) -> np.ndarray:
        mask = np.zeros((1, size), np.uint8)
        mask[:, where] = 1
        return mask

    rows: list[Any] = []
    for kind, parts in objects:
        fields = np.empty((1, len(parts)), [("part_name", object), ("mask", object)])
        for number, (name, where) in enumerate(parts.items()):
            fields[0, number] = (name, columns(where))
        rows.append((kind, 15, columns(slice(0, size)), fields if parts else np.empty((0, 0))))
    table = np.empty((1, len(rows)), [("class", object), ("class_ind", object), ("mask", object), ("parts", object)])
    for number, row in enumerate(rows):
        table[0, number] = row
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"anno": {"imname": path.stem, "objects": table}}, do_compression=True)


def found(scan: Scan) -> dict[str, str | None]:
    return {item.name: item.split for item in scan.items}


@pytest.mark.parametrize("root", [".", "data", "Pascal-part"])
def test_npy_masks_with_lists(tmp_path: Path, root: str) -> None:
    raw = npy_tree(tmp_path, root)
    source, reason = recognise(raw)
    assert (source.NAME, "and `gt_masks`" in reason) == ("pascal-part", True)
    scan = pascal_part.scan(raw, OPTIONS)
    assert found(scan) == {STEMS[0]: "train", STEMS[1]: "train", STEMS[2]: "val"}
    assert scan.problems == []
    assert scan.items[0].read_labels().tolist() == IDS.tolist()
    assert scan.items[0].read_labels().dtype == np.uint8


def test_42_percent_of_val_become_test(tmp_path: Path) -> None:
    raw = npy_tree(tmp_path, ".")
    stems = [f"2009_{number:06d}" for number in range(50)]
    photos(raw / "JPEGImages", *stems)
    for stem in stems:
        np.save(raw / "gt_masks" / f"{stem}.npy", IDS)
    (raw / "val_id.txt").write_text("\n".join(stems))
    splits = list(found(pascal_part.scan(raw, OPTIONS)).values())
    assert [splits.count(split) for split in ("train", "val", "test")] == [2, 29, 21]
    (raw / "test_id.txt").write_text(STEMS[2])
    splits = list(found(pascal_part.scan(raw, OPTIONS)).values())
    assert [splits.count(split) for split in ("train", "val", "test")] == [2, 50, 1]


def test_the_class_list_names_the_ids(tmp_path: Path) -> None:
    raw = npy_tree(tmp_path, ".")
    (raw / "classes.txt").write_text("0: bg\n1: head\n2: torso\n3: up_hand\n4: low_hand\n5: up_leg\n6: low_leg\n")
    assert pascal_part.scan(raw, OPTIONS).items[0].read_labels().tolist() == [[0, 4, 2, 6], [1, 5, 3, 0]]
    (raw / "classes.txt").write_text("0: bg\n1: paw\n")
    with pytest.raises(DataError, match="lists other classes"):
        pascal_part.scan(raw, OPTIONS)
    (raw / "classes.txt").unlink()
    assert pascal_part.scan(raw, OPTIONS).items[0].read_labels().tolist() == IDS.tolist()


@pytest.mark.parametrize(
    "stored", [IDS.astype(np.int64), IDS.astype(np.float32), np.asfortranarray(IDS), IDS.astype(">u2")]
)
def test_numbers_of_any_type(tmp_path: Path, stored: np.ndarray) -> None:
    raw = npy_tree(tmp_path, ".")
    np.save(raw / "gt_masks" / f"{STEMS[0]}.npy", stored)
    assert pascal_part.scan(raw, OPTIONS).items[0].read_labels().tolist() == IDS.tolist()


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was executed",))


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (np.array([[_Payload()]], object), "no two-dimensional array of numbers"),
        (IDS[None], "no two-dimensional array"),
        (IDS + 0.5, "no class ids"),
        (IDS.astype(np.int16) - 1, "no class ids"),
        (np.full((2, 4), np.nan), "no class ids"),
        (IDS.astype(np.int64) + 300, "no class ids"),
        (IDS.astype(complex), "no two-dimensional array of numbers"),
        (np.zeros((0, 4), np.uint8), "holds an array of 4x0"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, stored: np.ndarray, message: str) -> None:
    raw = npy_tree(tmp_path, ".")
    np.save(raw / "gt_masks" / f"{STEMS[0]}.npy", stored, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        pascal_part.scan(raw, OPTIONS).items[0].read_labels()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    raw = npy_tree(tmp_path, ".")
    path = raw / "gt_masks" / f"{STEMS[0]}.npy"
    whole = path.read_bytes()
    huge = whole.replace(b"(2, 4)", b"(99999999, 99999999)").replace(b" " * 14 + b"\n", b"\n")
    large = huge.replace(b"99999999, 99999999", b"12345,   10000")
    packed = io.BytesIO()
    np.savez(packed, IDS)
    for content in (b"", b"<html>", whole[:-3], whole[:40], large, packed.getvalue()):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"no whole `\.npy` file"):
            pascal_part.scan(raw, OPTIONS).items[0].read_labels()
    path.write_bytes(huge)
    with pytest.raises(DataError, match="holds an array of 99999999x99999999"):
        pascal_part.scan(raw, OPTIONS).items[0].read_labels()


def test_ids_over_six_and_missing_files_are_told(tmp_path: Path) -> None:
    raw = npy_tree(tmp_path, ".")
    np.save(raw / "gt_masks" / f"{STEMS[0]}.npy", IDS + 1)
    (raw / "JPEGImages" / f"{STEMS[1]}.jpg").unlink()
    scan = pascal_part.scan(raw, OPTIONS)
    assert [(problem.path, problem.detail) for problem in scan.problems] == [("train_id.txt", STEMS[1])]
    with pytest.raises(BadLabels, match=r"7 \(1 px\)"):
        scan.items[0].read_labels()


@pytest.mark.parametrize("root", [".", "data/Pascal-part"])
def test_photos_and_masks_side_by_side(tmp_path: Path, root: str) -> None:
    for split, stem in zip(("train", "val", "test"), STEMS, strict=True):
        photos(tmp_path / root / split, stem)
        Image.fromarray(IDS).save(tmp_path / root / split / f"{stem}.png")
    source, reason = recognise(tmp_path)
    assert (source.NAME, "side by side" in reason) == ("pascal-part", True)
    scan = pascal_part.scan(tmp_path, OPTIONS)
    assert found(scan) == dict(zip(STEMS, ("train", "val", "test"), strict=True))
    assert scan.items[0].read_labels().tolist() == IDS.tolist()


def test_side_by_side_needs_names_of_voc(tmp_path: Path) -> None:
    photos(tmp_path / "train", "cat")
    Image.fromarray(IDS).save(tmp_path / "train" / "cat.png")
    assert pascal_part.recognise(tmp_path) is None


def test_pascal_person_part_numbers_otherwise(tmp_path: Path) -> None:
    photos(tmp_path / "JPEGImages", *STEMS)
    (tmp_path / "SegmentationPart").mkdir()
    picture = Image.new("P", (4, 2))
    picture.putpalette([value for id in range(7) for value in (id * 9, 255 - id, 7)])
    picture.putdata(IDS.ravel().tolist())
    picture.save(tmp_path / "SegmentationPart" / f"{STEMS[0]}.png")
    assert recognise(tmp_path)[0].NAME == "pascal-part"
    scan = pascal_part.scan(tmp_path, OPTIONS)
    assert scan.items[0].read_labels().tolist() == [[0, 4, 2, 6], [1, 5, 3, 0]]
    assert (scan.problems, scan.remarks) == ([], ["2 photos without labels are left out"])


def test_parts_of_a_mat_file_are_painted_in_order(tmp_path: Path) -> None:
    photos(tmp_path / "JPEGImages", *STEMS, "2008_000001", size=(7, 1))
    dir = tmp_path / "Annotations_Part"
    body = {"head": slice(0, 2), "neck": slice(2, 3), "mouth": slice(6, 7), "torso": slice(3, 7)}
    arm = {"luarm": slice(1, 2), "rlarm": slice(3, 4), "rhand": slice(4, 5)}
    objects = (("person", body), ("person", arm), ("car", {"wheel_1": slice(5, 6)}))
    annotation(dir / f"{STEMS[0]}.mat", *objects, size=7)
    annotation(dir / f"{STEMS[1]}.mat", ("dog", {"head": slice(0, 3)}), ("person", {}))
    annotation(dir / f"{STEMS[2]}.mat", ("person", {"head": slice(0, 3), "tail": slice(3, 5)}))
    assert recognise(tmp_path)[0].NAME == "pascal-part"
    scan = pascal_part.scan(tmp_path, OPTIONS)
    assert scan.remarks == ["1 photos without labels are left out"]
    items = {item.name: item for item in scan.items}
    classes = TASKS["body"].classes
    assert [classes[id] for id in items[STEMS[0]].read_labels()[0]] == [
        "head", "up_hand", "head", "low_hand", "low_hand", "background", "torso",
    ]  # fmt: skip
    with pytest.raises(LeftOut, match="no person with parts"):
        items[STEMS[1]].read_labels()
    with pytest.raises(BadLabels, match=r"tail \(2 px\)"):
        items[STEMS[2]].read_labels()


def test_photos_without_people_are_left_out_and_counted(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    photos(raw / "JPEGImages", *STEMS, size=(6, 1))
    for stem, kind in zip(STEMS, ("person", "dog", "person"), strict=True):
        annotation(raw / "Annotations_Part" / f"{stem}.mat", (kind, {"head": slice(0, 3)}))
    done = prepare(raw, tmp_path / "out", workers=0)
    assert done.dataset is not None
    assert [sample.id for sample in done.dataset.samples] == [STEMS[0], STEMS[2]]
    assert done.findings.notes == {"left out: no person with parts": [f"JPEGImages/{STEMS[1]}.jpg"]}


def test_damaged_mat_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    annotation(path, ("person", {"head": slice(0, 3)}))
    whole = path.read_bytes()
    assert [object.kind for object in read_objects(path)] == ["person"]
    hdf5 = whole[:116] + b" " * 8 + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n"
    for content in (b"", b"<html></html>", whole[:200], whole[:-20] + b"x" * 20, hdf5):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is no PASCAL-Part annotation"):
            read_objects(path)


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="SEGLAB_REAL_DATA does not name a folder with raw/")
@pytest.mark.parametrize(
    ("folder", "num", "num_expected"),
    [("pascal-part-hss-raw", 32, 0), ("pascal-person-part-raw", 4, 4), ("pascal-part-mat-raw", 8, 8)],
)
def test_real_photos(tmp_path: Path, folder: str, num: int, num_expected: int) -> None:
    done = prepare(REAL / folder, tmp_path / "out")
    assert done.dataset is not None
    assert (done.source, done.num_samples, done.findings.problems) == ("pascal-part", num, [])
    seen = {name for sample in done.dataset.samples for name, count in sample.pixels.items() if count}
    assert seen == set(TASKS["body"].classes)
    expected = sorted((REAL / folder / "expected_7class").glob("*.png"))
    assert len(expected) == num_expected
    samples = {sample.id: sample for sample in done.dataset.samples}
    for path in expected:
        assert np.array_equal(read_labels(done.dataset.label_path(samples[path.stem])), read_labels(path)), path.stem
