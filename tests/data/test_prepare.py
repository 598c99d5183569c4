"""``seglab prepare`` from a raw tree to a dataset, with everything that real trees hold."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from seglab.cli import main
from seglab.data.images import read_labels, read_photo
from seglab.data.manifest import open_dataset
from seglab.data.naming import assign_splits
from seglab.data.prepare import Prepared, prepare
from seglab.data.problems import ProblemsFound
from seglab.data.sources import SOURCES
from seglab.errors import DataError, UsageError
from seglab.tasks import TASKS

CLOTHES = TASKS["clothes"]
SHARED_DATA = os.environ.get("SEGLAB_REAL_DATA", "")
real = pytest.mark.skipif(not SHARED_DATA, reason="SEGLAB_REAL_DATA does not name a folder of real photos and masks")


def corner_pair(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A blue photo whose top left quarter is red, and the labels of that quarter: shows every turn and shift."""
    labels = np.zeros((height, width), np.uint8)
    labels[: height // 2, : width // 2] = 2
    image = np.where((labels > 0)[..., None], np.uint8([220, 20, 20]), np.uint8([20, 20, 220]))
    return image.astype(np.uint8), labels


def put(raw: Path, stem: str, suffix: str = ".jpg", size_hw: tuple[int, int] = (48, 80), mode: str = "RGB") -> Path:
    image, labels = corner_pair(*size_hw)
    path = raw / "images" / f"{stem}{suffix}"
    for folder in ("images", "masks"):
        (raw / folder / stem).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).convert(mode).save(path, **({"quality": 95} if suffix == ".jpg" else {}))
    Image.fromarray(labels).save(raw / "masks" / f"{stem}.png")
    return path


def mask(raw: Path, stem: str, array: NDArray[Any]) -> None:
    Image.fromarray(array).save(raw / "masks" / f"{stem}.png")


def good(raw: Path, num: int = 10) -> Path:
    for number in range(num):
        put(raw, f"{number:02d}")
    return raw


def state(dir: Path) -> dict[str, tuple[str, int]]:
    """Content and time of every file and folder."""
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "", path.stat().st_mtime_ns)
        for path in sorted(dir.rglob("*"))
    }


def run(raw: Path, out: Path, **options: Any) -> Prepared:
    return prepare(raw, out, **{"task": CLOTHES, "workers": 2, **options})


def assert_corner(result: Prepared, id: str, size_hw: tuple[int, int]) -> str:
    """Check that photo and labels of a sample show the corner at the same place; return the photo's suffix."""
    assert result.dataset is not None
    (sample,) = (sample for sample in result.dataset.samples if sample.id == id)
    image = read_photo(result.dataset.image_path(sample)).image
    labels = read_labels(result.dataset.label_path(sample))
    assert image.shape[:2] == labels.shape == sample.size_hw == size_hw
    assert set(np.unique(labels)) == {0, 2}
    grey = image.max(axis=2) - image.min(axis=2) < 30
    red = image[..., 0] > image[..., 2] if not grey.all() else image[..., 0] > image[..., 0].mean()
    assert ((labels == 2) == red).mean() > 0.97
    return Path(sample.image).suffix


def test_plain_pairs_are_copied_and_the_source_is_untouched(tmp_path: Path) -> None:
    raw = good(tmp_path / "raw", 10)
    before = state(raw)
    result = run(raw, tmp_path / "out")
    assert state(raw) == before
    dataset = result.dataset
    assert dataset is not None
    assert dataset == open_dataset(tmp_path / "out")
    assert dataset.verify() == []
    assert {sample.id: sample.split for sample in dataset.samples} == assign_splits(
        [f"{number:02d}" for number in range(10)], 0.1, 0.1
    )
    for sample in dataset.samples:
        assert dataset.image_path(sample).read_bytes() == (raw / "images" / f"{sample.id}.jpg").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


@pytest.mark.parametrize(
    ("turn", "orientation", "turned_mask"),
    [(1, 8, False), (1, 8, True), (3, 6, False), (3, 6, True), (2, 3, False)],
)
def test_exif_turns_reach_the_labels(tmp_path: Path, turn: int, orientation: int, turned_mask: bool) -> None:
    """The file is turned by ``turn`` quarters clockwise, EXIF turns it back; the mask lies like either."""
    raw = good(tmp_path / "raw", 1)
    image, labels = corner_pair(48, 80)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.rot90(image, -turn)).save(raw / "images" / "x.jpg", quality=95, exif=exif)
    mask(raw, "x", np.ascontiguousarray(np.rot90(labels, -turn)) if turned_mask else labels)
    result = run(raw, tmp_path / "out", val=0, test=0)
    assert_corner(result, "x", (48, 80))
    notes = set(result.findings.notes)
    assert ("mask turned upright with its photo" in notes) == turned_mask
    assert any("their sizes do not tell" in note for note in notes) == (turn == 2)
    with Image.open(tmp_path / "out/train/images/x.jpg") as stored:
        assert stored.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("size_hw", [(24, 40), (12, 20), (96, 160), (47, 79)])
def test_the_photo_is_resized_and_never_the_labels(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    raw = tmp_path / "raw"
    put(raw, "x")
    _, labels = corner_pair(*size_hw)
    mask(raw, "x", labels)
    result = run(raw, tmp_path / "out", val=0, test=0)
    assert_corner(result, "x", size_hw)
    assert np.array_equal(read_labels(tmp_path / "out/train/labels/x.png"), labels)
    assert result.findings.notes == {"photo resized to its mask": ["images/x.jpg"]}


@pytest.mark.parametrize(
    ("suffix", "mode", "stored"),
    [
        (".png", "RGB", ".png"), (".png", "RGBA", ".png"), (".png", "P", ".png"), (".jpg", "L", ".jpg"),
        (".jpg", "CMYK", ".jpg"), (".bmp", "RGB", ".png"), (".tif", "RGB", ".png"), (".JPEG", "RGB", ".jpg"),
    ],
)  # fmt: skip
def test_every_kind_of_photo_is_stored_as_rgb(tmp_path: Path, suffix: str, mode: str, stored: str) -> None:
    raw = tmp_path / "raw"
    path = put(raw, "x", suffix, mode=mode)
    result = run(raw, tmp_path / "out", val=0, test=0)
    assert assert_corner(result, "x", (48, 80)) == stored
    with Image.open(tmp_path / f"out/train/images/x{stored}") as image:
        assert image.mode == "RGB"
    copied = (tmp_path / f"out/train/images/x{stored}").read_bytes() == path.read_bytes()
    assert copied == (mode == "RGB" and suffix in (".png", ".JPEG"))


def test_max_side_shrinks_both(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    put(raw, "large", size_hw=(480, 800))
    small = put(raw, "small", size_hw=(48, 80))
    result = run(raw, tmp_path / "out", val=0, test=0, max_side=100)
    assert_corner(result, "large", (60, 100))
    assert_corner(result, "small", (48, 80))
    assert (tmp_path / "out/train/images/small.jpg").read_bytes() == small.read_bytes()


def test_odd_names(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    names = ["name with space & [draft] 人", "day 1/a", "day 2/a", "-rf", "new\nline"]
    for name in names:
        put(raw, name)
    result = run(raw, tmp_path / "out", val=0, test=0)
    assert result.dataset is not None
    ids = [sample.id for sample in result.dataset.samples]
    assert ids == ["_-rf", "day_1__a", "day_2__a", "name_with_space____draft__人", "new_line"]
    assert result.dataset.verify() == []


def bad(raw: Path) -> Path:
    """Twenty good pairs, and one or two of everything that can be wrong."""
    good(raw, 20)
    put(raw, "lone_photo")
    (raw / "masks/lone_photo.png").unlink()
    put(raw, "lone_mask").unlink()
    put(raw, "twice")
    put(raw, "twice", ".png")
    put(raw, "Case")
    put(raw, "case")
    put(raw, "empty").write_bytes(b"")
    put(raw, "html").write_bytes(b"<!DOCTYPE html><html></html>")
    put(raw, "cut").write_bytes((raw / "images/00.jpg").read_bytes()[:400])
    put(raw, "broken_mask")
    (raw / "masks/broken_mask.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    put(raw, "lossy")
    Image.fromarray(corner_pair(48, 80)[1]).save(raw / "masks/lossy.jpg")
    (raw / "masks/lossy.png").unlink()
    put(raw, "foreign")
    mask(raw, "foreign", np.tile(np.uint8([0, 7, 4, 4]), (48, 20)))
    put(raw, "shape")
    mask(raw, "shape", np.zeros((80, 48), np.uint8))
    return raw


BAD = {
    "photo without a mask": (1, ["images/lone_photo.jpg"]),
    "mask without a photo": (1, ["masks/lone_mask.png"]),
    "several files of one stem": (1, ["images/twice.jpg"]),
    "names that differ in case only": (1, ["images/Case.jpg"]),
    "unreadable photo": (3, ["images/cut.jpg", "images/empty.jpg", "images/html.jpg"]),
    "unreadable mask": (2, ["masks/broken_mask.png", "masks/lossy.jpg"]),
    "ids outside the task": (1, ["masks/foreign.png"]),
    "photo and mask of different shape": (1, ["images/shape.jpg"]),
}


def test_all_problems_are_found_at_once_and_nothing_is_built(tmp_path: Path) -> None:
    raw = bad(tmp_path / "raw")
    before = state(raw)
    with pytest.raises(ProblemsFound) as caught:
        run(raw, tmp_path / "out")
    assert state(raw) == before
    groups = {group.kind: group for group in caught.value.findings.groups()}
    assert {kind: (group.count, list(group.first)) for kind, group in groups.items()} == BAD
    assert groups["ids outside the task"].detail == "4 (1920 px), 7 (960 px)"
    assert "empty file" in groups["unreadable photo"].detail
    assert groups["photo and mask of different shape"].detail == "photo 80x48, mask 48x80"
    assert groups["several files of one stem"].detail == "twice.jpg, twice.png"
    assert groups["names that differ in case only"].detail == "and `images/case.jpg`"
    assert "11 problems" in caught.value.message
    assert "--drop-bad" in caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.problems.json", "raw"]
    report = json.loads((tmp_path / "out.problems.json").read_text())
    assert report["num_problems"] == len(report["problems"]) == 11
    assert {problem["kind"] for problem in report["problems"]} == set(BAD)


def test_drop_bad_keeps_the_good_with_exact_shares(tmp_path: Path) -> None:
    result = run(bad(tmp_path / "raw"), tmp_path / "out", drop_bad=True, val=0.25, test=0.2)
    dataset = result.dataset
    assert dataset is not None
    assert [sample.id for sample in dataset.samples] == [f"{number:02d}" for number in range(20)]
    assert [len(dataset.split(name)) for name in ("train", "val", "test")] == [11, 5, 4]
    ids = [sample.id for sample in dataset.samples]
    assert {sample.id: sample.split for sample in dataset.samples} == assign_splits(ids, 0.25, 0.2)
    assert dataset.verify() == []
    assert len(json.loads((tmp_path / "out.problems.json").read_text())["problems"]) == 11


def test_one_problem_is_enough(tmp_path: Path) -> None:
    raw = good(tmp_path / "raw")
    (raw / "images/03.jpg").write_bytes(b"")
    with pytest.raises(ProblemsFound, match="1 problem: 1 x unreadable photo"):
        run(raw, tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()
    put(raw, "03")
    run(raw, tmp_path / "out")
    assert not (tmp_path / "out.problems.json").exists()


def test_the_wrong_task_is_suspected_where_no_mask_fits(tmp_path: Path) -> None:
    raw = good(tmp_path / "raw", 3)
    with pytest.raises(ProblemsFound, match="3 x ids outside the task") as caught:
        run(raw, tmp_path / "out", task=TASKS["person"])
    assert "is it the right --task?" in caught.value.hint


def test_a_dry_run_finds_the_same_and_writes_nothing(tmp_path: Path) -> None:
    raw = bad(tmp_path / "raw")
    before = state(tmp_path)
    with pytest.raises(ProblemsFound) as caught:
        run(raw, tmp_path / "out", dry_run=True)
    assert {group.kind for group in caught.value.findings.groups()} == set(BAD)
    result = run(raw, tmp_path / "out", dry_run=True, drop_bad=True)
    assert (result.dataset, result.num_samples) == (None, 20)
    assert state(tmp_path) == before


def test_a_second_run_does_nothing_and_a_change_is_noticed(tmp_path: Path) -> None:
    raw = good(tmp_path / "raw")
    made = run(raw, tmp_path / "out")
    before = state(tmp_path)
    again = run(raw, tmp_path / "out", workers=0)
    assert (again.unchanged, made.unchanged) == (True, False)
    assert again.dataset == made.dataset
    assert state(tmp_path) == before
    with pytest.raises(DataError, match=r"`val` was `0\.1` and is now `0\.2`"):
        run(raw, tmp_path / "out", val=0.2)
    with pytest.raises(DataError, match="`max_side` was `null` and is now `64`"):
        run(raw, tmp_path / "out", max_side=64)
    with pytest.raises(DataError, match="`task` was"):
        run(raw, tmp_path / "out", task=TASKS["parsing"])
    put(raw, "new")
    with pytest.raises(DataError, match="`source_files` was"):
        run(raw, tmp_path / "out")
    assert state(tmp_path / "out") == {
        name: value for name, value in before.items() if name.startswith(f"{tmp_path}/out/")
    }
    assert run(raw, tmp_path / "out", force=True).num_samples == 11


def test_a_moved_source_is_the_same_source(tmp_path: Path) -> None:
    raw = good(tmp_path / "raw")
    run(raw, tmp_path / "out")
    raw.rename(tmp_path / "elsewhere")
    assert run(tmp_path / "elsewhere", tmp_path / "out").unchanged


def test_own_splits_are_kept_and_shares_play_no_part(tmp_path: Path) -> None:
    for split, num in (("train", 3), ("test", 2)):
        for number in range(num):
            put(tmp_path / "raw" / split, f"{split}{number}")
    result = run(tmp_path / "raw", tmp_path / "out", val=0.4)
    assert result.dataset is not None
    assert {sample.id[:-1] for sample in result.dataset.split("train")} == {"train"}
    assert [len(result.dataset.split(name)) for name in result.dataset.splits] == [3, 2]
    assert run(tmp_path / "raw", tmp_path / "out", val=0.1).unchanged


def test_blank_masks_are_counted_and_a_source_of_them_is_refused(tmp_path: Path) -> None:
    raw = good(tmp_path / "raw", 3)
    mask(raw, "01", np.full((48, 80), 255, np.uint8))
    result = run(raw, tmp_path / "out")
    assert result.findings.notes == {"mask of nothing but background": ["images/01.jpg"]}
    for stem in ("00", "02"):
        mask(raw, stem, np.zeros((48, 80), np.uint8))
    with pytest.raises(DataError, match="shows any class of task `clothes` but the background"):
        run(raw, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    raw = good(tmp_path / "raw", 2)
    with pytest.raises(DataError, match="there is no folder") as caught:
        run(tmp_path / "rwa", tmp_path / "out")
    assert str(raw) in caught.value.hint
    for out in (raw, raw / "out", tmp_path):
        with pytest.raises(UsageError, match="lie in each other"):
            run(raw, out)
    with pytest.raises(UsageError, match="--max-side `0`"):
        run(raw, tmp_path / "out", max_side=0)
    with pytest.raises(UsageError, match="do not leave anything"):
        run(raw, tmp_path / "out", val=0.5, test=0.5)
    with pytest.raises(UsageError, match="does not say what its masks mean") as missing:
        run(raw, tmp_path / "out", task=None)
    assert all(name in missing.value.hint for name in TASKS)
    with pytest.raises(DataError, match="`human-segmentation` layout"):
        run(raw, tmp_path / "out", source="human-segmentation", task=None)
    for path in (raw / "images").iterdir():
        path.unlink()
    with pytest.raises(ProblemsFound, match="2 x mask without a photo"):
        run(raw, tmp_path / "out")
    with pytest.raises(DataError, match="has no pair"):
        run(raw, tmp_path / "out", drop_bad=True)


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["prepare", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(caught.value.code or 0), captured.out, captured.err


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, out = good(tmp_path / "raw"), tmp_path / "out"
    code, stdout, stderr = call(capsys, raw, out, "--task", "clothes", "--json")
    assert code == 0
    assert json.loads(stdout)["splits"] == {"train": 8, "val": 1, "test": 1}
    assert "source folders: it has `images` and `masks`" in stderr
    assert f"made {out}: 8 train, 1 val, 1 test" in stderr
    code, stdout, stderr = call(capsys, raw, out, "--task", "clothes")
    assert (code, stdout) == (0, "")
    assert "there already, from the same files and options" in stderr


def test_command_line_with_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, out = bad(tmp_path / "raw"), tmp_path / "out"
    code, stdout, stderr = call(capsys, raw, out, "--task", "clothes", "--json")
    assert code == 3
    assert {group["kind"]: group["count"] for group in json.loads(stdout)["problems"]} == {
        kind: count for kind, (count, _) in BAD.items()
    }
    assert "error: nothing was built, 11 problems" in stderr
    assert "hint: " in stderr
    code, _, stderr = call(capsys, raw, out, "--task", "clothes", "--drop-bad")
    assert code == 0
    assert "11 problems dropped" in stderr


def test_command_line_with_colours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, table = good(tmp_path / "raw", 2), tmp_path / "colours.toml"
    table.write_text('background = "#ffffff"\nupper_body = "#ff0000"\nfull_body = "#00ff00"\n')
    colours = np.uint8([[255, 255, 255], [255, 0, 0], [0, 255, 0]])
    for stem in ("00", "01"):
        mask(raw, stem, colours[corner_pair(48, 80)[1]])
    code, _, stderr = call(capsys, raw, tmp_path / "none", "--task", "clothes")
    assert code == 3
    assert "colours outside the table" in stderr
    code, _, _ = call(capsys, raw, tmp_path / "out", "--task", "clothes", "--colours", table)
    assert code == 0
    pixels = open_dataset(tmp_path / "out").samples[0].pixels
    assert (pixels["full_body"], pixels["upper_body"]) == (24 * 40, 0)


def test_help_names_every_source(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # names are not broken over lines
    code, stdout, _ = call(capsys, "--help")
    assert code == 0
    assert all(name in stdout for name in SOURCES)
    flat = " ".join(stdout.replace("│", " ").split())
    assert all(default in flat for default in ("[default: (recognised)]", "[default: (the CPUs of this process)]"))


def test_prepare_never_imports_torch(tmp_path: Path) -> None:
    good(tmp_path / "raw", 2)
    code = (
        "import sys; from seglab.cli import run; run(['prepare', *sys.argv[1:]]);"
        "assert 'torch' not in sys.modules, 'torch'"
    )
    arguments = [str(tmp_path / "raw"), str(tmp_path / "out"), "--task", "clothes"]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, timeout=60)
    assert open_dataset(tmp_path / "out").task == CLOTHES


@real
@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "task", "num"),
    [("raw/human-segmentation", None, 250), ("person", "person", 250), ("face", "face", 620)],
)
def test_real_data(tmp_path: Path, folder: str, task: str | None, num: int) -> None:
    result = prepare(Path(SHARED_DATA) / folder, tmp_path / "out", task=TASKS[task] if task else None)
    assert result.dataset is not None
    assert (result.num_samples, result.findings.problems) == (num, [])
    assert [len(result.dataset.split(name)) for name in ("val", "test")] == [round(num * 0.1)] * 2
    assert result.dataset.verify() == []


@real
@pytest.mark.real
def test_real_human_segmentation_labels_are_the_masks(tmp_path: Path) -> None:
    """Against Pillow alone: every label is its mask, bit for bit, at the mask's own size."""
    raw = Path(SHARED_DATA) / "raw/human-segmentation"
    dataset = prepare(raw, tmp_path / "out").dataset
    assert dataset is not None
    for sample in dataset.samples:
        with (
            Image.open(raw / "Ground_Truth" / f"{sample.id}.png") as truth,
            Image.open(dataset.label_path(sample)) as label,
        ):
            assert np.array_equal(np.array(label), np.array(truth) // 255), sample.id
