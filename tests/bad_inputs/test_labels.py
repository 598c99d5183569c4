"""Bad inputs 41 to 44: masks, pairs, run lengths and lists of annotations."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.bad_inputs.conftest import Seglab, tree
from tests.bad_inputs.pictures import Uint8, encoded, labels_of, noise, written

SIZE_HW = (40, 60)
PERSON = np.zeros(SIZE_HW, np.uint8)
PERSON[5:30, 10:40] = 1
CLOTHES = PERSON.copy()
CLOTHES[10:20, 20:50] = 2


def put_pairs(num: int = 3, labels: Uint8 = CLOTHES, folder: str = "raw") -> None:
    """Write good pairs of a photo and a mask."""
    for number in range(num):
        written(f"{folder}/images/{number}.jpg", encoded(noise() // (1 + number), "JPEG"))
        written(f"{folder}/masks/{number}.png", encoded(labels))


def palette(labels: Uint8) -> bytes:
    """Return a mask of mode P whose colours say nothing of its ids."""
    picture = Image.fromarray(labels).convert("L")
    picture.putpalette([91, 12, 7, 132, 5, 200, 99, 255, 0, *range(10, 40)])
    picture = picture.convert("P")
    picture.putdata(labels.ravel().tolist())
    picture.putpalette([91, 12, 7, 132, 5, 200, 99, 255, 0, *range(10, 40)])
    return encoded(picture)


TAKEN: dict[str, tuple[Callable[[Uint8], bytes], str, str]] = {
    "palette": (palette, "clothes", ""),
    "16-bit": (lambda labels: encoded(Image.fromarray(labels.astype(np.uint16))), "clothes", ""),
    "rgb-of-equal-channels": (lambda labels: encoded(np.repeat(labels[..., None], 3, 2)), "clothes", ""),
    "0-255": (lambda labels: encoded((labels > 0).view(np.uint8) * np.uint8(255)), "person", "255"),
    "one-bit": (lambda labels: encoded(Image.fromarray(labels > 0)), "person", ""),
    "255-is-ignored": (lambda labels: encoded(np.where(labels == 2, 255, labels).astype(np.uint8)), "clothes", ""),
}


@pytest.mark.parametrize("case", TAKEN)
def test_41_masks_that_are_taken(seglab: Seglab, case: str) -> None:
    encode, task, words = TAKEN[case]
    put_pairs()
    for number in range(3):
        Path(f"raw/masks/{number}.png").write_bytes(encode(CLOTHES))
    ran = seglab("prepare", "raw", "out", "--task", task, "--val", "0", "--test", "0")
    assert (ran.code, words in ran.err) == (0, True), ran.err
    expected = (CLOTHES > 0) if task == "person" else CLOTHES
    if case == "255-is-ignored":
        expected = np.where(CLOTHES == 2, 255, CLOTHES)
    for number in range(3):
        np.testing.assert_array_equal(labels_of(f"out/train/labels/{number}.png"), expected)


REFUSED: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "colours": ("bad.png", lambda: encoded(noise()), "holds colours, not class ids"),
    "jpeg": ("bad.jpg", lambda: encoded(CLOTHES, "JPEG"), "JPEG is lossy and cannot hold class ids"),
    "id-outside-the-task": ("bad.png", lambda: encoded(np.where(CLOTHES == 2, 9, 0).astype(np.uint8)), "9 ("),
    "16-bit-over-255": ("bad.png", lambda: encoded(Image.fromarray(CLOTHES.astype(np.uint16) * 257)), "up to 514"),
    "float": ("bad.tif", lambda: encoded(Image.fromarray(CLOTHES.astype(np.float32)), "TIFF"), "float values"),
    "html": ("bad.png", lambda: b"<!DOCTYPE html><html>", "is HTML, not an image"),
    "42-rotated": ("bad.png", lambda: encoded(np.ascontiguousarray(CLOTHES.T)), "photo 60x40, mask 40x60"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_41_and_42_masks_that_are_refused(seglab: Seglab, case: str) -> None:
    name, make, words = REFUSED[case]
    put_pairs()
    written("raw/images/bad.jpg", encoded(noise(), "JPEG"))
    written(f"raw/masks/{name}", make())
    before = tree(Path("raw"))
    ran = seglab("prepare", "raw", "out", "--task", "clothes")
    assert ran.code == 3
    assert ran.error.startswith("nothing was built, 1 problem: 1 x ")
    assert "--drop-bad" in ran.hint
    assert words in ran.err
    assert "/bad." in ran.err, "it is named"
    assert tree(Path()) == sorted(["out.problems.json", *(f"raw/{path}" for path in before)])
    ran = seglab("prepare", "raw", "out", "--task", "clothes", "--drop-bad", "--val", "0", "--test", "0")
    assert (ran.code, "1 problems dropped" in ran.err or "1 problem dropped" in ran.err) == (0, True), ran.err
    assert sorted(path.name for path in Path("out/train/labels").iterdir()) == ["0.png", "1.png", "2.png"]


def test_42_pairs_that_are_none_are_all_listed_at_once(seglab: Seglab) -> None:
    put_pairs()
    written("raw/images/no-mask.jpg", encoded(noise(), "JPEG"))
    written("raw/masks/no-photo.png", encoded(CLOTHES))
    written("raw/images/odd.jpg", encoded(noise(40, 90), "JPEG"))
    written("raw/masks/odd.png", encoded(CLOTHES))
    ran = seglab("prepare", "raw", "out", "--task", "clothes", "--json")
    assert ran.code == 3
    assert {problem["kind"]: problem["first"] for problem in ran.lines[0]["problems"]} == {
        "photo without a mask": ["images/no-mask.jpg"],
        "mask without a photo": ["masks/no-photo.png"],
        "photo and mask of different shape": ["images/odd.jpg"],
    }
    listed = json.loads(Path("out.problems.json").read_text(encoding="utf-8"))["problems"]
    assert [problem["path"] for problem in listed].count("images/odd.jpg") == 1
    assert not Path("out").exists()
    assert seglab("prepare", "raw", "out", "--task", "clothes", "--drop-bad").code == 0
    assert Path("out/dataset.json").exists()


def test_42_a_photo_that_is_turned_by_exif_and_a_mask_that_lies_as_displayed(seglab: Seglab) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    put_pairs()
    written("raw/images/turned.jpg", encoded(noise(60, 40), "JPEG", exif=exif))
    written("raw/masks/turned.png", encoded(CLOTHES))
    ran = seglab("prepare", "raw", "out", "--task", "clothes", "--val", "0", "--test", "0")
    assert ran.code == 0, ran.err
    np.testing.assert_array_equal(labels_of("out/train/labels/turned.png"), CLOTHES)


HEADER = "ImageId,EncodedPixels,Height,Width,ClassId"
GOOD_ROW = "a.jpg,1 20 41 20,40,60,0"
ROWS: dict[str, tuple[str, str]] = {
    "43-odd-count": ("b.jpg,1 2 3,40,60,0", "3 numbers do not make pairs of start and length"),
    "43-past-the-end": ("b.jpg,2400 2,40,60,0", "run `2400 2` ends outside the 2400 pixels of 60x40"),
    "43-zero-based": ("b.jpg,0 4,40,60,0", "a run starts at 0, but pixels count from 1"),
    "43-nan": ("b.jpg,nan,40,60,0", "`nan` holds `n`, not only numbers"),
    "43-swapped": ("b.jpg,1 2,60,40,0", "photo 60x40, mask 40x60"),
    "44-unknown-category": ("b.jpg,1 2,40,60,99", "`99`"),
    "44-not-whole": ("b.jpg,1 2", "2 of 5 columns"),
    "44-no-photo": ("gone.jpg,1 2,40,60,0", "no `gone.jpg` in `train`"),
}


def put_csv(*rows: str, header: str = HEADER, prefix: str = "", end: str = "\n") -> None:
    """Write a list of annotations, and the photos that it should have."""
    lines = [header, *rows]
    written("raw/train.csv", (prefix + end.join(lines) + end).encode())
    for name in ("a", "b"):
        written(f"raw/train/{name}.jpg", encoded(noise(), "JPEG"))


@pytest.mark.parametrize("case", ROWS)
def test_43_and_44_a_row_that_cannot_be_used_is_named_by_its_line(seglab: Seglab, case: str) -> None:
    row, words = ROWS[case]
    others = ("44-no-photo", "44-not-whole")  # such a row belongs to no photo that is there
    put_csv(GOOD_ROW, row, *(["b.jpg,1 2,40,60,0"] if case in others else []))
    before = tree(Path("raw"))
    ran = seglab("prepare", "raw", "out", "--val", "0", "--test", "0")
    assert ran.code == 3
    assert ran.error.startswith("nothing was built, 1 problem: 1 x ")
    assert "train.csv line 3" in ran.err or ("train/b.jpg" in ran.err and "(line 3)" in ran.err)
    assert words in ran.err
    assert tree(Path()) == sorted(["out.problems.json", *(f"raw/{path}" for path in before)])
    ran = seglab("prepare", "raw", "out", "--val", "0", "--test", "0", "--drop-bad")
    assert ran.code == 0
    kept = ["a.png", "b.png"] if case == "44-no-photo" else ["a.png"]
    assert sorted(path.name for path in Path("out/train/labels").iterdir()) == kept


@pytest.mark.parametrize(("prefix", "end"), [("\ufeff", "\n"), ("", "\r\n"), ("\ufeff", "\r\n")], ids=str)
def test_44_a_byte_order_mark_and_windows_lines(seglab: Seglab, prefix: str, end: str) -> None:
    put_csv(GOOD_ROW, "b.jpg,1 5,40,60,6", prefix=prefix, end=end)
    ran = seglab("prepare", "raw", "out", "--val", "0", "--test", "0")
    assert ran.code == 0, ran.err
    assert int((labels_of("out/train/labels/a.png") == 1).sum()) == 40


def test_44_the_same_row_twice_counts_once_and_that_is_said(seglab: Seglab) -> None:
    put_csv(GOOD_ROW, GOOD_ROW, "b.jpg,1 5,40,60,6")
    ran = seglab("prepare", "raw", "out", "--val", "0", "--test", "0")
    assert (ran.code, "1 row repeats an earlier one" in ran.err or "repeat an earlier one" in ran.err) == (0, True)


def test_44_a_column_that_is_missing(seglab: Seglab) -> None:
    put_csv("a.jpg,1 2,40", header="ImageId,EncodedPixels,Width")
    ran = seglab("prepare", "raw", "out")
    assert ran.code == 3
    assert "has no column `Height` and `ClassId`; it has `imageid`" in ran.error
    assert "ClassId" in ran.hint
    assert not Path("out").exists()


def coco(annotations: list[dict[str, object]], images: list[dict[str, object]] | None = None) -> bytes:
    """Return a file of COCO's with one category, ``person``."""
    photos = images or [
        {"id": number, "file_name": f"{name}.jpg", "height": 40, "width": 60} for number, name in enumerate("ab")
    ]
    categories = [{"id": 1, "name": "person"}]
    values = {"images": photos, "annotations": annotations, "categories": categories}
    return json.dumps(values).encode()


def outline(image: int, **changes: object) -> dict[str, object]:
    """Return an annotation of a box."""
    polygon = [[5, 5, 30, 5, 30, 30, 5, 30]]
    return {"id": 1, "image_id": image, "category_id": 1, "iscrowd": 0, "segmentation": polygon, **changes}


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ([outline(0), outline(1, id=2, category_id=77)], "77"),
        ([outline(0), outline(1, id=2, segmentation=[[1, 2, 3]])], "annotations"),
        ([outline(0), outline(1, id=2), outline(5, id=3)], "5"),
        ([outline(0), outline(1, id=2, segmentation={"size": [40, 60], "counts": [1, 2, 3]})], "annotations"),
    ],
    ids=["unknown-category", "odd-polygon", "no-image", "runs-too-short"],
)
def test_43_and_44_annotations_of_coco(seglab: Seglab, annotations: list[dict[str, object]], words: str) -> None:
    for name in "ab":
        written(f"raw/images/{name}.jpg", encoded(noise(), "JPEG"))
    written("raw/annotations.json", coco(annotations))
    ran = seglab("prepare", "raw", "out", "--task", "person", "--source", "coco", "--val", "0", "--test", "0")
    assert ran.code == 3, ran.err
    assert ran.error.startswith("nothing was built, 1 problem: 1 x ")
    assert words in ran.err
    assert not Path("out").exists()


def test_a_file_in_the_place_of_a_folder_is_told_as_what_it_is(seglab: Seglab) -> None:
    """What is advised fits the file: nobody unpacks a picture."""
    from tests.fetch.site import make_tar, make_zip

    for name, data, hint in (
        ("photo.jpg", encoded(noise(), "JPEG"), "pass the folder that holds photos and masks"),
        ("photo.tar", encoded(noise(), "JPEG"), "pass the folder that holds photos and masks"),
        ("list.csv", b"ImageId\n", "pass the folder that holds photos and masks"),
        ("a.zip", make_zip({"a": b"1"}), "unpack it first, such as with `unzip a.zip -d a`, and pass the folder"),
        ("b", make_zip({"a": b"1"}), "unpack it first, such as with `unzip b -d b`, and pass the folder"),
        ("a.tar.gz", make_tar({"a": b"1"}, "w:gz"), "unpack it first, such as with `tar -xf a.tar.gz`"),
        ("it's.tar", make_tar({"a": b"1"}), "unpack it first, such as with `tar -xf 'it'\"'\"'s.tar'`"),
    ):
        written(name, data)
        ran = seglab("prepare", name, "out")
        assert (ran.code, ran.error) == (3, f"`{name}` is a file, not a folder of photos and masks")
        assert ran.hint.startswith(hint)
        assert not Path("out").exists()
