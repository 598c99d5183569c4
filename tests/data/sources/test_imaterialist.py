"""iMaterialist: the original rules against published labels and a re-writing, the documented ones by truth table."""

import csv
import io
import json
import os
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from seglab.cli import main
from seglab.data.garments import CATEGORIES
from seglab.data.images import read_labels, read_photo
from seglab.data.mask_rows import MaskTable
from seglab.data.prepare import prepare
from seglab.data.problems import Problem, ProblemsFound
from seglab.data.rle import encode_kaggle, from_mask
from seglab.data.sources import BadRows, Scan, SourceOptions, imaterialist, recognise
from seglab.errors import DataError, UsageError
from seglab.tasks import TASKS, Task

CLOTHES = TASKS["clothes"]
HEADER = "ImageId,EncodedPixels,Height,Width,ClassId"
SHARED_DATA = os.environ.get("SEGLAB_REAL_DATA", "")
GOLDEN = np.load(Path(__file__).with_name("imaterialist_192.npz"))
"""A CSV and what the published loader itself makes of it at 192x192."""

Mask = NDArray[np.bool_]


def box(top: int, left: int, bottom: int, right: int, size_hw: tuple[int, int] = (60, 90)) -> Mask:
    mask = np.zeros(size_hw, bool)
    mask[top:bottom, left:right] = True
    return mask


def line(name: str, mask: Mask, class_id: object) -> str:
    return f"{name},{encode_kaggle(from_mask(mask))},{mask.shape[0]},{mask.shape[1]},{class_id}"


def put(
    raw: Path, rows: Sequence[str], photos: Sequence[str] = ("a.jpg",), size_hw: tuple[int, int] = (60, 90)
) -> Path:
    (raw / "train").mkdir(parents=True, exist_ok=True)
    (raw / "train.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    for name in photos:
        Image.new("RGB", size_hw[::-1], (90, 120, 40)).save(raw / "train" / name)
    return raw


def scan(raw: Path, rules: str | None = None, size: int | None = None, task: Task = CLOTHES) -> Scan:
    return imaterialist.scan(raw, SourceOptions(task, rules=rules, size=size))


def labels(raw: Path, rules: str | None = None, size_hw: tuple[int, int] = (60, 90)) -> dict[str, NDArray[np.uint8]]:
    found = {}
    for item in scan(raw, rules, size_hw[0]).items:
        outlines = item.read_labels()
        assert not isinstance(outlines, np.ndarray)
        found[item.name] = outlines.draw(size_hw)
    return found


def published_labels(rows: Sequence[tuple[Mask, int]], size: int) -> NDArray[np.uint8]:
    """The published loader, step by step."""
    masks = [
        np.array(Image.fromarray(mask.astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC))
        for mask, _ in rows
    ]
    kept = []
    for mask, (_, category) in zip(masks, rows, strict=True):
        ys, xs = np.where(mask)
        if len(xs) and abs(xs.max() - xs.min()) >= 20 and abs(ys.max() - ys.min()) >= 20:
            kept.append((mask, category + 1))
    if not kept:
        kept = [(masks[0], 0)]
    channels = [np.zeros((size, size), np.uint8) for _ in range(3)]
    for mask, label in kept:
        if label in [0, 1, 2, 3, 4, 5]:
            channels[0] += mask
        elif label in [6, 7, 8]:
            channels[1] += mask
        elif label in [9, 10, 11, 12]:
            channels[2] += mask
    first, second, third = ((channel > 0).astype(np.uint8) for channel in channels)
    total = first + second * 2 + third * 3
    return np.where(total <= 3, total, 1).astype(np.uint8)


def golden_raw(raw: Path) -> Path:
    put(raw, [], [])
    (raw / "train.csv").write_bytes(GOLDEN["train_csv"].tobytes())
    for row in csv.DictReader(io.StringIO(GOLDEN["train_csv"].tobytes().decode())):
        Image.new("RGB", (int(row["Width"]), int(row["Height"]))).save(raw / "train" / row["ImageId"])
    return raw


def test_original_rules_equal_the_published_labels(tmp_path: Path) -> None:
    raw = golden_raw(tmp_path / "raw")
    result = prepare(raw, tmp_path / "out", rules="original", size=192, val=0, test=0)
    assert result.source == "imaterialist"
    assert result.num_samples == 4
    for id in set(GOLDEN.files) - {"train_csv"}:
        assert np.array_equal(read_labels(tmp_path / f"out/train/labels/{id}.png"), GOLDEN[id])
    present = {value for id in set(GOLDEN.files) - {"train_csv"} for value in np.unique(GOLDEN[id]).tolist()}
    assert present == {0, 1, 2, 3}


def test_documented_rules_differ_where_the_published_code_is_wrong(tmp_path: Path) -> None:
    """The last golden photo has a cape, which the published code forgets, and no other garment."""
    drawn = labels(golden_raw(tmp_path / "raw"), None, (192, 192))
    assert set(np.unique(drawn["00050000000000000000000000000003"])) == {0, 3}
    assert not GOLDEN["00050000000000000000000000000003"].any()


@pytest.mark.parametrize("seed", range(6))
def test_original_rules_equal_a_rewriting(tmp_path: Path, seed: int) -> None:
    """Large and tiny masks of all categories, on a grid that stretches; the first photo has tiny ones only."""
    rng = np.random.default_rng(seed)
    expected, rows = {}, []
    for photo in range(4):
        instances = []
        for _ in range(rng.integers(1, 7)):
            y, x = rng.integers(0, 50), rng.integers(0, 70)
            height, width = rng.integers(1, 5 if photo == 0 else 45, 2)
            mask = box(y, x, min(60, y + height), min(90, x + width)) & (rng.random((60, 90)) < rng.choice([1, 0.7]))
            mask[y, x] = True
            instances.append((mask, int(rng.integers(0, 16))))
        rows += [line(f"{photo}.png", mask, f"{category}_4_77") for mask, category in instances]
        expected[str(photo)] = published_labels(instances, 64)
    drawn = labels(put(tmp_path / "raw", rows, [f"{photo}.png" for photo in range(4)]), "original", (64, 64))
    assert drawn.keys() == expected.keys()
    for name, wanted in expected.items():
        assert np.array_equal(drawn[name], wanted), name
    assert set(np.unique(expected["0"])) == {0, 1}


@pytest.mark.parametrize("rules", ["documented", "original"])
def test_truth_table_of_the_categories(tmp_path: Path, rules: str) -> None:
    names = [f"{category:02d}" for category in range(46)]
    raw = put(
        tmp_path / "raw",
        [line(f"{name}.jpg", box(5, 5, 50, 80), f"{int(name)}_1") for name in names],
        [f"{name}.jpg" for name in names],
    )
    found = {int(name): int(drawn.max()) for name, drawn in labels(raw, rules).items()}
    by_rule = {"documented": ((5, 1), (8, 2), (12, 3), (45, 0)), "original": ((4, 1), (7, 2), (11, 3), (45, 0))}
    expected = {}
    for last, id in by_rule[rules]:
        expected |= dict.fromkeys(range(len(expected), last + 1), id)
    assert found == expected
    assert CATEGORIES[5] == "vest"
    assert CATEGORIES[8] == "skirt"
    assert CATEGORIES[12] == "cape"


def test_overlaps(tmp_path: Path) -> None:
    """A shirt within trousers' mask: the smaller lies on top, whatever the order; the original makes it full body."""
    shirt, trousers = box(10, 10, 40, 40), box(0, 0, 60, 60)
    rows = [line("a.jpg", shirt, 0), line("a.jpg", trousers, 6), line("b.jpg", trousers, 6), line("b.jpg", shirt, 0)]
    raw = put(tmp_path / "raw", rows, ["a.jpg", "b.jpg"])
    expected = np.where(shirt, 1, np.where(trousers, 2, 0))
    drawn = labels(raw)
    assert np.array_equal(drawn["a"], expected)
    assert np.array_equal(drawn["b"], expected)
    assert labels(raw, "original", (90, 90))["a"][30, 20] == 3


def test_labels_go_by_the_names_of_the_label_file(tmp_path: Path) -> None:
    """Another numbering, another spelling, and a name nobody knows."""
    names = [{"id": 7, "name": " Dress "}, {"id": 6, "name": "belt"}, {"id": 99, "name": "poncho"}]
    rows = [line("a.jpg", box(0, 0, 30, 30), "7_1"), line("a.jpg", box(0, 40, 9, 60), 6)]
    raw = put(tmp_path / "raw", rows)
    (raw / "label_descriptions.json").write_text(json.dumps({"categories": names}))
    found = scan(raw)
    assert found.remarks[1] == "3 categories of `label_descriptions.json`, merged by name; not known: poncho"
    assert np.array_equal(labels(raw)["a"], np.where(box(0, 0, 30, 30), 3, 0))
    assert raw / "label_descriptions.json" in found.items[0].more_paths
    (raw / "train.csv").write_text("\n".join([HEADER, *rows, line("a.jpg", box(0, 0, 9, 9), 99)]))
    assert scan(raw).problems == [Problem("category that the list does not have", "train.csv line 4", "`99`")]
    (raw / "label_descriptions.json").write_text("[]")
    with pytest.raises(DataError, match=r"cannot read `.*label_descriptions.json`") as caught:
        scan(raw)
    assert "without it" in caught.value.hint


def test_without_the_label_file_this_is_said(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", [line("a.jpg", box(0, 0, 30, 30), 0)])
    source, reason = recognise(raw)
    assert (source.NAME, reason) == ("imaterialist", "it has `train` and `train.csv` with a column of run lengths")
    assert scan(raw).remarks == [
        "1 rows of 1 photos",
        "`label_descriptions.json` is missing: the 46 categories of 2019 are taken",
        "labels by the label file, small garments over large ones (--rules documented)",
    ]
    assert "published code" in scan(raw, "original", 64).remarks[2]


def test_a_task_of_ones_own(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", [line("a.jpg", box(0, 0, 30, 30), 0), line("a.jpg", box(30, 30, 60, 60), 9)])
    mine = Task(name="mine", classes=("nothing", "full_body", "hat", "lower_body", "upper_body"))
    result = prepare(raw, tmp_path / "out", task=mine, val=0, test=0)
    assert result.dataset is not None
    drawn = read_labels(tmp_path / "out/train/labels/a.png")
    assert (drawn[10, 10], drawn[40, 40], drawn[0, 80]) == (4, 1, 0)
    with pytest.raises(DataError, match="task `face` has no `upper_body`"):
        scan(raw, task=TASKS["face"])


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: "\n".join(",".join(f'"{field}"' for field in row.split(",")) for row in text.splitlines()),
        lambda text: "\n".join(
            f'{row.split(",")[4]},"x, ""y""",{",".join(row.split(",")[:4])}' for row in text.splitlines()
        ),
        lambda text: text.replace(",60,90,", ",60.0,90.0,"),
        lambda text: text.replace("ImageId,EncodedPixels", " imageid , ENCODEDPIXELS "),
        lambda text: text.replace(".jpg,", ","),
    ],
)
def test_forms_of_the_csv(tmp_path: Path, edit: Any) -> None:
    """Rows of the photos take turns; every form says the same."""
    a, b, c = box(0, 0, 30, 30), box(20, 20, 59, 70), box(5, 5, 25, 25)
    rows = [line("a.jpg", a, 0), line("b.jpg", b, "9_1_2"), line("a.jpg", c, "8_30"), line("b.jpg", c, 31)]
    raw = put(tmp_path / "raw", rows, ["a.jpg", "b.jpg"])
    text = (raw / "train.csv").read_text()
    (raw / "train.csv").write_text(edit(text), newline="")
    assert scan(raw).problems == []
    drawn = labels(raw)
    assert np.array_equal(drawn["a"], np.where(c, 2, np.where(a, 1, 0)))
    assert np.array_equal(drawn["b"], np.where(b, 3, 0))


GOOD = line("a.jpg", box(0, 0, 30, 30), 0)


@pytest.mark.parametrize(
    ("row", "kind", "detail"),
    [
        ("a.jpg,1 2 3,60,90,0", imaterialist.BAD_RUNS, "line 3: 3 numbers do not make pairs of start and length"),
        ("a.jpg,0 4 9 9,60,90,0", imaterialist.BAD_RUNS, "line 3: a run starts at 0, but pixels count from 1"),
        ("a.jpg,5400 2,60,90,0", imaterialist.BAD_RUNS, "line 3: run `5400 2` ends outside the 5400 pixels of 90x60"),
        ("a.jpg,nan,60,90,0", imaterialist.BAD_RUNS, "line 3: `nan` holds `n`, not only numbers"),
        ("a.jpg,,60,90,13", imaterialist.BAD_RUNS, "line 3: no runs"),
        ("a.jpg,1 2,60,90,46", "category that the list does not have", "`46`"),
        ("a.jpg,1 2,60,90,", "category that the list does not have", "``"),
        ("a.jpg,1 2,60,90,shirt_3", "category that the list does not have", "`shirt_3`"),
        ("a.jpg,1 2,60,90,-1", "category that the list does not have", "`-1`"),
        ("a.jpg,1 2,0,90,0", "row without a size", "`90x0`"),
        ("a.jpg,1 2,60,nan,0", "row without a size", "`nanx60`"),
        ("a.jpg,1 2,60,99999999999,0", "row without a size", "`99999999999x60`"),
        ("a.jpg,1 2,90,60,0", "rows of one photo with different sizes", "60x90, but 90x60 in line 2"),
        ("a.jpg,1 2 5", "row that is not whole", "2 of 5 columns"),
        ("a.jpg,1 2,60,90,0,7", "row that is not whole", "6 of 5 columns"),
        (",1 2,60,90,0", "row that is not whole", "no ImageId"),
    ],
)
@pytest.mark.parametrize("rules", ["documented", "original"])
def test_rows_that_cannot_be_used(tmp_path: Path, row: str, kind: str, detail: str, rules: str) -> None:
    """The row is named by its line, and its photo is left out as a whole: part of the labels would be wrong labels."""
    raw = put(tmp_path / "raw", [GOOD, row, line("b.jpg", box(0, 0, 40, 40), 6)], ["a.jpg", "b.jpg"])
    with pytest.raises(ProblemsFound) as caught:
        prepare(raw, tmp_path / "out", rules=rules, size=64, val=0, test=0)
    assert caught.value.findings.problems == [Problem(kind, "train.csv line 3", detail)]
    report = json.loads((tmp_path / "out.problems.json").read_text())
    assert report["problems"][0]["path"] == "train.csv line 3"
    result = prepare(raw, tmp_path / "out", rules=rules, size=64, val=0, test=0, drop_bad=True)
    assert result.dataset is not None
    whole = [] if not row.startswith(",") else ["a"]  # nobody knows whose the row without a name is
    assert [sample.id for sample in result.dataset.samples] == [*whole, "b"]


def test_every_bad_row_of_a_photo_is_named(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", [GOOD, "a.jpg,0 1,60,90,0", "a.jpg,7,60,90,0"])
    (item,) = scan(raw).items
    with pytest.raises(BadRows, match="line 3: a run starts at 0") as caught:
        item.read_labels()
    assert [problem.path for problem in caught.value.problems] == ["train.csv line 3", "train.csv line 4"]


def test_a_photo_too_large_to_be_true(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", ["a.jpg,1 2,1000000,1000000,0"])
    with pytest.raises(BadRows, match="line 2: 1000000x1000000"):
        scan(raw).items[0].read_labels()


def test_rows_and_photos_without_each_other(tmp_path: Path) -> None:
    rows = [GOOD, line("gone.jpg", box(0, 0, 9, 9), 0), line("gone.jpg", box(0, 0, 9, 9), 3), "../a.jpg,1 2,60,90,0"]
    raw = put(tmp_path / "raw", rows, ["a.jpg", "lone.jpg", "._a.jpg"])
    (raw / "train" / "notes.txt").write_text("x")
    found = scan(raw)
    assert [item.name for item in found.items] == ["a"]
    assert found.problems == [
        Problem("rows without their photo", "train.csv line 3", "no `gone.jpg` in `train`"),
        Problem("rows without their photo", "train.csv line 5", "no `../a.jpg` in `train`"),
        Problem("photo without a row", "train/lone.jpg"),
    ]


def test_one_stem_twice_keeps_both(tmp_path: Path) -> None:
    rows = [line("a.jpg", box(0, 0, 30, 30), 0), line("a.png", box(0, 0, 30, 30), 6), line("b.jpg", box(0, 0, 9, 9), 0)]
    drawn = labels(put(tmp_path / "raw", rows, ["a.jpg", "a.png", "b.jpg"]))
    assert {name: int(values.max()) for name, values in drawn.items()} == {"a.jpg": 1, "a.png": 2, "b": 1}


def test_repeated_rows_are_said(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", [GOOD, line("b.jpg", box(0, 0, 30, 30), 0), GOOD, GOOD], ["a.jpg", "b.jpg"])
    assert scan(raw).remarks[-1] == "2 rows repeat an earlier one and count once: lines 4, 5"


def test_missing_columns(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", [])
    (raw / "train.csv").write_text("ImageId,EncodedPixels,Width\na.jpg,1 2,60\n")
    assert recognise(raw)[0].NAME == "imaterialist"
    with pytest.raises(DataError, match="has no column `Height` and `ClassId`; it has `imageid`") as caught:
        scan(raw)
    assert HEADER.replace(",", ", ") in caught.value.hint


def test_another_csv_is_not_taken_for_it(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", [])
    (raw / "train.csv").write_text("id,age\n1,2\n")
    assert imaterialist.recognise(raw) is None


def test_a_csv_that_changes_underneath(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", [GOOD])
    (item,) = scan(raw).items
    (raw / "train.csv").write_text((raw / "train.csv").read_text().replace("a.jpg,1", "a.jpg,2"))
    with pytest.raises(DataError, match="changed while it was read"):
        item.read_labels()


@pytest.mark.parametrize(("shape", "size_hw"), [("swapped", (90, 60)), ("other", (60, 60))])
def test_a_size_that_is_not_the_photos_is_named_with_its_line(
    tmp_path: Path, shape: str, size_hw: tuple[int, int]
) -> None:
    rows = [GOOD, line("b.jpg", box(0, 0, 30, 30, size_hw), 0)]
    raw = put(tmp_path / "raw", rows, ["a.jpg", "b.jpg"])
    with pytest.raises(ProblemsFound) as caught:
        prepare(raw, tmp_path / "out")
    (problem,) = caught.value.findings.problems
    detail = f"photo 90x60, mask {size_hw[1]}x{size_hw[0]} (line 3)"
    assert problem == Problem("photo and mask of different shape", "train/b.jpg", detail)


def test_photos_that_somebody_shrank_keep_their_labels(tmp_path: Path) -> None:
    """Kaggle's photos are often passed on at half the size, with the old CSV."""
    raw = put(tmp_path / "raw", [line("a.jpg", box(0, 0, 60, 60, (120, 180)), 0)])
    result = prepare(raw, tmp_path / "out", val=0, test=0, size=60)
    assert result.dataset is not None
    drawn = read_labels(tmp_path / "out/train/labels/a.png")
    assert np.array_equal(drawn, box(0, 0, 30, 20, (60, 60)))
    result = prepare(raw, tmp_path / "whole", val=0, test=0)
    assert result.findings.notes == {"photo resized to its mask": ["train/a.jpg"]}
    assert read_photo(tmp_path / "whole/train/images/a.jpg").image.shape == (120, 180, 3)


def test_sizes_and_fits(tmp_path: Path) -> None:
    mask = box(10, 20, 41, 75)
    raw = put(tmp_path / "raw", [line("a.jpg", mask, 0)])
    for name, options, expected in (
        ("whole", {}, mask),
        ("stretch", {"size": 48}, mask),
        ("side", {"max_side": 45}, mask),
        ("pad", {"size": 48, "fit": "pad"}, mask),
    ):
        result = prepare(raw, tmp_path / name, val=0, test=0, **options)
        assert result.dataset is not None
        drawn = read_labels(tmp_path / name / "train/labels/a.png")
        photo = read_photo(tmp_path / name / "train/images/a.jpg").image
        assert photo.shape[:2] == drawn.shape
        if name == "pad":
            assert drawn.shape == (48, 48)
            assert (drawn[:8] == 255).all()
            assert (drawn[40:] == 255).all()
            drawn, photo = drawn[8:40], photo[8:40]
        height, width = {"whole": (60, 90), "stretch": (48, 48), "side": (30, 45), "pad": (32, 48)}[name]
        resized = Image.fromarray(expected.view(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
        assert np.array_equal(drawn, np.asarray(resized))
        assert np.abs(photo.astype(int) - [90, 120, 40]).max() < 20  # the border to the padding


def test_a_turned_photo_turns_its_labels(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", [line("a.jpg", box(0, 0, 20, 90), 0)])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (90, 60)).save(raw / "train/a.jpg", exif=exif)
    prepare(raw, tmp_path / "out", val=0, test=0, max_side=45)
    drawn = read_labels(tmp_path / "out/train/labels/a.png")
    assert np.array_equal(drawn, box(0, 20, 45, 30, (45, 30)))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_large_photo_that_is_shrunk_looks_the_same(tmp_path: Path, suffix: str) -> None:
    """JPEGs are decoded at a part of their size; what comes out is what Pillow makes of the whole one."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (10, 15, 3), np.uint8)).resize((901, 601), Image.Resampling.BICUBIC)
    raw = put(tmp_path / "raw", [line("a" + suffix, box(0, 0, 300, 450, (601, 901)), 0)], [])
    coarse.save(raw / f"train/a{suffix}", **({"quality": 95, "subsampling": 0} if suffix == ".jpg" else {}))
    for name, options, size_hw in (("a", {"size": 128}, (128, 128)), ("b", {"max_side": 225}, (150, 225))):
        prepare(raw, tmp_path / name, val=0, test=0, **options)
        stored = read_photo(tmp_path / name / f"train/images/a{suffix}").image
        with Image.open(raw / f"train/a{suffix}") as photo:
            expected = np.asarray(photo.resize(size_hw[::-1], Image.Resampling.BOX))
        assert stored.shape == (*size_hw, 3)
        assert np.abs(stored.astype(int) - expected).mean() < 2.5  # its colours are stored at half the resolution
        assert np.abs(np.roll(expected, 1, axis=1).astype(int) - expected).mean() > 5


def test_fifty_thousand_rows_are_streamed(tmp_path: Path) -> None:
    """The file is 50 MB; what is kept of it is some bytes a row. The rows of a photo lie 5000 rows apart."""
    runs = " ".join(f"{start} 9" for start in range(1, 1300, 10)).encode()
    with (tmp_path / "train.csv").open("wb") as handle:
        handle.write(HEADER.encode() + b"\n")
        for number in range(50_000):
            handle.write(b"%032d.jpg,%s 1400 %d,60,90,%d\n" % (number % 5000, runs, number % 4000 + 1, number % 46))
    size = (tmp_path / "train.csv").stat().st_size
    tracemalloc.start()
    table = MaskTable(tmp_path / "train.csv", range(46))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 30e6
    assert peak < 8e6
    assert (table.num_rows, len(table.photos), table.problems, table.repeated) == (50_000, 5000, [], [])
    rows = table.rows(table.photos[f"{1234:032d}.jpg"])
    assert [row.line for row in rows] == [1234 + 2 + 5000 * turn for turn in range(10)]
    assert [row.category for row in rows] == [(1234 + 5000 * turn) % 46 for turn in range(10)]
    assert all(row.encoded.startswith(runs) for row in rows)


def test_options_that_cannot_be(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", [GOOD])
    with pytest.raises(UsageError, match="works on photos stretched to a square") as caught:
        prepare(raw, tmp_path / "out", rules="original")
    assert "--size 768" in caught.value.hint
    with pytest.raises(UsageError, match="stretched to a square"):
        prepare(raw, tmp_path / "out", rules="original", size=64, fit="pad")
    with pytest.raises(UsageError, match="no rules of source `imaterialist` is called `originals`") as caught:
        prepare(raw, tmp_path / "out", rules="originals", size=64)
    assert "did you mean `original`?" in caught.value.hint
    with pytest.raises(UsageError, match="exclude each other"):
        prepare(raw, tmp_path / "out", size=64, max_side=64)
    with pytest.raises(UsageError, match="--size `8` is less than 16"):
        prepare(raw, tmp_path / "out", size=8)
    (tmp_path / "x" / "images").mkdir(parents=True)
    (tmp_path / "x" / "masks").mkdir()
    with pytest.raises(UsageError, match="source `folders` has no --rules"):
        prepare(tmp_path / "x", tmp_path / "out", task=CLOTHES, rules="original", size=64)


def run(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, out = golden_raw(tmp_path / "raw"), tmp_path / "out"
    arguments = ["prepare", str(raw), str(out), "--rules", "original", "--size", "192", "--val", "0", "--test", "0"]
    assert run(arguments) == 0
    assert "published code" in capsys.readouterr().err
    assert np.array_equal(
        read_labels(out / "train/labels/00050000000000000000000000000001.png"),
        GOLDEN["00050000000000000000000000000001"],
    )
    assert run(arguments) == 0
    assert "there already" in capsys.readouterr().err
    assert run([*arguments[:3], "--size", "192", "--val", "0", "--test", "0"]) == 3
    assert "`rules` was" in capsys.readouterr().err


@pytest.mark.skipif(not SHARED_DATA, reason="SEGLAB_REAL_DATA does not name a folder of real photos and masks")
@pytest.mark.real
def test_real_photos(tmp_path: Path) -> None:
    raw = Path(SHARED_DATA) / "raw/imaterialist-like"
    result = prepare(raw, tmp_path / "out", size=256)
    assert result.dataset is not None
    assert (result.source, result.num_samples, result.findings.problems) == ("imaterialist", 30, [])
    assert result.dataset.verify() == []
    shares = {name: sum(sample.pixels[name] for sample in result.dataset.samples) for name in CLOTHES.classes}
    assert all(0.01 < shares[name] / (30 * 256 * 256) < 0.9 for name in CLOTHES.classes)
    prepare(raw, tmp_path / "original", size=256, rules="original")
