"""CelebAMask-HQ."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.data.prepare import prepare
from seglab.data.sources import SourceOptions, celebamask, recognise
from seglab.errors import DataError, UsageError
from seglab.tasks import TASKS, Task

REAL = Path(os.environ.get("SEGLAB_REAL_DATA", "")) / "raw" / "celebamask-raw"
NAMES = celebamask.NAMES
FACE, PARSING = SourceOptions(TASKS["face"]), SourceOptions(TASKS["parsing"])
OWN = SourceOptions(Task("nineteen", NAMES))


def part(raw: Path, number: int, name: str, columns: slice, *, size: int = 8, mode: str = "L") -> None:
    dir = raw / "CelebAMask-HQ-mask-anno" / str(number // 2000)
    dir.mkdir(parents=True, exist_ok=True)
    values = np.zeros((size, size), np.uint8)
    values[:, columns] = 255
    Image.fromarray(values).convert(mode).save(dir / f"{number:05d}_{name}.png")


def tree(raw: Path) -> Path:
    """Three photos twice as large as their parts, one of them of the second folder of parts."""
    root = raw / "CelebAMask-HQ"
    (root / "CelebA-HQ-img").mkdir(parents=True)
    for number in (0, 1, 2001):
        Image.new("RGB", (16, 16)).save(root / "CelebA-HQ-img" / f"{number}.jpg")
        part(root, number, "skin", slice(0, 6), mode="RGB")
        part(root, number, "l_eye", slice(4, 5))
        part(root, number, "r_eye", slice(1, 2))
    part(root, 0, "eye_g", slice(0, 5))
    part(root, 0, "hair", slice(5, 7))
    part(root, 0, "hat", slice(6, 7))
    (root / "CelebAMask-HQ-mask-anno" / ".DS_Store").write_bytes(b"\0")
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text("idx orig_idx orig_file\n")
    return raw


def mirror(raw: Path, *names: str) -> Path:
    """Palette PNGs whose colours are no ids."""
    for folder in ("images", "masks"):
        (raw / "dev-public" / "train" / folder).mkdir(parents=True)
    for stem in ("a", "b", "c"):
        Image.new("RGB", (19, 1)).save(raw / "dev-public" / "train" / "images" / f"{stem}.jpg")
        picture = Image.new("P", (19, 1))
        picture.putpalette([value for id in range(19) for value in (255 - id, id, 0)])
        picture.putdata(range(19))
        picture.save(raw / "dev-public" / "train" / "masks" / f"{stem}.png")
    (raw / "classes.json").write_text(json.dumps({"classes": names or NAMES}))
    return raw


def test_parts_are_painted_in_the_order_of_the_classes(tmp_path: Path) -> None:
    raw = tree(tmp_path)
    source, reason = recognise(raw)
    assert (source.NAME, "CelebAMask-HQ-mask-anno" in reason) == ("celebamask-hq", True)
    items = {item.name: item for item in celebamask.scan(raw, OWN).items}
    assert sorted(items) == ["0", "1", "2001"]
    assert [NAMES[id] for id in items["0"].read_labels()[0]] == [
        "eye_g", "r_eye", "eye_g", "eye_g", "l_eye", "hair", "hat", "background",
    ]  # fmt: skip
    assert len(items["0"].more_paths) == 5
    assert items["2001"].label_path.parent.name == "1"


def test_the_persons_left_is_the_pictures_right(tmp_path: Path) -> None:
    scan = celebamask.scan(tree(tmp_path), FACE)
    labels = next(item for item in scan.items if item.name == "1").read_labels()[0]
    classes = TASKS["face"].classes
    assert [classes[id] for id in labels] == ["face", "le", "face", "face", "re", "face", "bg", "bg"]
    assert scan.remarks == ["ignored: eye_g"]


def test_the_six_classes_of_parsing(tmp_path: Path) -> None:
    labels = celebamask.scan(tree(tmp_path), PARSING).items[0].read_labels()[0]
    classes = TASKS["parsing"].classes
    assert [classes[id] for id in labels] == [
        "accessories", "face", "accessories", "accessories", "face", "hair", "accessories", "background",
    ]  # fmt: skip


def test_photos_are_brought_to_the_size_of_the_parts(tmp_path: Path) -> None:
    done = prepare(tree(tmp_path / "raw"), tmp_path / "out", task=TASKS["face"], workers=0)
    assert done.dataset is not None
    assert {sample.size_hw for sample in done.dataset.samples} == {(8, 8)}


def test_a_change_of_any_part_is_noticed(tmp_path: Path) -> None:
    raw = tree(tmp_path / "raw")
    prepare(raw, tmp_path / "out", task=TASKS["face"], workers=0)
    assert prepare(raw, tmp_path / "out", task=TASKS["face"], workers=0).unchanged
    os.utime(raw / "CelebAMask-HQ" / "CelebAMask-HQ-mask-anno" / "0" / "00000_hair.png", (1, 1))
    with pytest.raises(DataError, match="out"):
        prepare(raw, tmp_path / "out", task=TASKS["face"], workers=0)


def test_everything_wrong_is_told(tmp_path: Path) -> None:
    raw = tree(tmp_path)
    root = raw / "CelebAMask-HQ"
    part(root, 1, "beard", slice(0, 1))
    part(root, 7, "skin", slice(0, 1))
    part(root, 2001, "nose", slice(0, 1), size=4)
    (root / "CelebAMask-HQ-mask-anno" / "copy").mkdir()
    Image.new("L", (8, 8)).save(root / "CelebAMask-HQ-mask-anno" / "copy" / "00000_skin.png")
    Image.new("RGB", (16, 16)).save(root / "CelebA-HQ-img" / "9.jpg")
    scan = celebamask.scan(raw, FACE)
    assert {(problem.kind, Path(problem.path).name) for problem in scan.problems} == {
        ("photo without a mask", "9.jpg"),
        ("mask without a photo", "00007_skin.png"),
        ("file of an unknown part", "00001_beard.png"),
        ("second file of a part", "00000_skin.png"),
    }
    with pytest.raises(DataError, match=r"`02001_nose\.png` is 4x4, other parts are 8x8"):
        next(item for item in scan.items if item.name == "2001").read_labels()


def test_palette_indices_are_ids_and_the_list_names_them(tmp_path: Path) -> None:
    raw = mirror(tmp_path / "a")
    source, reason = recognise(raw)
    assert (source.NAME, "classes.json" in reason) == ("celebamask-hq", True)
    scan = celebamask.scan(raw, OWN)
    assert [(item.name, item.split) for item in scan.items] == [("a", None), ("b", None), ("c", None)]
    assert scan.items[0].read_labels().tolist() == [list(range(19))]
    turned = celebamask.scan(mirror(tmp_path / "b", *reversed(NAMES)), OWN).items[0].read_labels()
    assert turned.tolist() == [list(range(18, -1, -1))]


def test_other_class_lists_and_tasks_are_refused(tmp_path: Path) -> None:
    assert celebamask.recognise(mirror(tmp_path, "background", "cat")) is None
    with pytest.raises(DataError, match="has no labels for task `person`"):  # arms and shoulders are background here
        celebamask.scan(tree(tmp_path / "raw"), SourceOptions(TASKS["person"]))
    with pytest.raises(UsageError, match="does not say what its masks mean") as caught:
        prepare(tmp_path / "raw", tmp_path / "out")
    assert caught.value.hint == "add `--task NAME`: face, parsing, or a TOML file of your own"


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="SEGLAB_REAL_DATA does not name a folder with raw/celebamask-raw")
@pytest.mark.parametrize("task", ["face", "parsing"])
def test_real_photos(tmp_path: Path, task: str) -> None:
    done = prepare(REAL, tmp_path / "out", task=TASKS[task], max_side=128)
    assert done.dataset is not None
    assert (done.source, done.num_samples, done.findings.problems) == ("celebamask-hq", 50, [])
    seen = {name for sample in done.dataset.samples for name, num in sample.pixels.items() if num}
    assert seen - {"ignore"} == set(TASKS[task].classes)
    if task == "face":
        left, right = (_mean_column(tmp_path / "out", TASKS[task].index(name)) for name in ("le", "re"))
        num_both = sum(id in right for id in left)
        # The data's own annotators swapped the sides of two of the fifty.
        assert (num_both, sum(left[id] < right[id] for id in left if id in right)) == (48, 46)


def _mean_column(dir: Path, id: int) -> dict[str, float]:
    found = {}
    for path in dir.glob("*/labels/*.png"):
        columns = np.nonzero(np.asarray(Image.open(path)) == id)[1]
        if len(columns):
            found[path.stem] = float(columns.mean())
    return found
