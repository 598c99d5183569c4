"""CIHP-CelebMaskHQ-6class: 20 ids in the name of six classes, half of them blended."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from seglab.data.prepare import prepare
from seglab.data.sources import BadLabels, SourceOptions, celebamask, cihp, cihp_celebmaskhq, recognise
from seglab.errors import DataError
from seglab.tasks import IGNORE, TASKS

REAL = Path(os.environ.get("SEGLAB_REAL_DATA", "")) / "raw" / "cihp-celebmaskhq-6class-like"
OPTIONS = SourceOptions(TASKS["parsing"])
FACE, HAIR, SOCKS, HAT = 13, 2, 8, 1
TO_SIX = [TASKS["parsing"].classes.index(cihp.SIX[name]) for name in cihp.NAMES]


def save(root: Path, number: int, ids: np.ndarray) -> None:
    for folder in ("original", "mask"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", ids.shape[::-1]).save(root / "original" / f"image_{number}.jpg")
    Image.fromarray(np.repeat(ids[..., None], 3, axis=2)).save(root / "mask" / f"image_{number}.png")


def discs(size: int) -> np.ndarray:
    """Return a face in hair under a hat."""
    ids = np.zeros((size, size), np.uint8)
    cv2.circle(ids, (size // 2, size // 2), size // 3, HAIR, -1)
    cv2.circle(ids, (size // 2, size // 2), size // 4, FACE, -1)
    ids[: size // 6] = HAT
    return ids


def shrunk(ids: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(ids).resize((size, size), Image.Resampling.BILINEAR))


def parsing(size: int) -> np.ndarray:
    """Return a whole figure, nearest-neighbour, with all 20 classes in blocks and lines."""
    ids = np.zeros((size, size), np.uint8)
    for id in range(20):
        ids[4 + 6 * (id // 5) : 9 + 6 * (id // 5), 4 + 8 * (id % 5) : 10 + 8 * (id % 5)] = id
    ids[40:42] = SOCKS
    return ids


@pytest.mark.parametrize("prefix", ["", "versions/1"])
def test_pairs_by_stem_and_merges_20_to_6(tmp_path: Path, prefix: str) -> None:
    root = tmp_path / prefix
    for number in (0, 10, 2):
        save(root, number, np.arange(20, dtype=np.uint8).reshape(4, 5) if number == 10 else parsing(48))
    (root / "mask" / ".DS_Store").write_bytes(b"\0")
    source, reason = recognise(tmp_path)
    assert (source.NAME, "image_N" in reason) == ("cihp-celebmaskhq-6class", True)
    scan = cihp_celebmaskhq.scan(tmp_path, OPTIONS)
    assert [(item.name, item.split) for item in scan.items] == [
        ("image_0", None),
        ("image_10", None),
        ("image_2", None),
    ]
    assert (scan.problems, scan.remarks) == ([], [])
    whole = scan.items[0]
    assert np.array_equal(whole.read_labels(), np.take(TO_SIX, parsing(48)))
    assert whole.notes == []


def test_bilinear_seams_are_ignored_and_told(tmp_path: Path) -> None:
    large = discs(128)
    save(tmp_path, 7, shrunk(large, 64))
    item = cihp_celebmaskhq.scan(tmp_path, OPTIONS).items[0]
    labels = item.read_labels()
    assert item.notes == ["ids in between, from a mask shrunk bilinearly, are ignored"]
    assert 0.9 < (labels != IGNORE).mean() < 0.99
    # Ids that none of the blended pixels had are ignored, and nothing else is. Ten such pixels cannot be told: they lie
    # between the background and hair, have the hat's id, and touch the hat.
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(large, 1, mode="edge"), (4, 4))[::2, ::2]
    invented = ~(windows == shrunk(large, 64)[..., None, None]).any((2, 3))
    ignored = labels == IGNORE
    assert ((invented & ignored).sum(), (invented & ~ignored).sum(), (ignored & ~invented).sum()) == (217, 10, 0)
    assert set(np.unique(labels)) == {0, 1, 2, 5, IGNORE}
    socks = cihp_celebmaskhq.seams(shrunk(large, 64))
    assert socks is not None
    assert socks[shrunk(large, 64) == SOCKS].all()


def test_clean_masks_are_left_alone() -> None:
    assert cihp_celebmaskhq.seams(discs(64)) is None
    assert cihp_celebmaskhq.seams(parsing(64)) is None
    small = discs(64)
    small[30:34, 30:33] = SOCKS  # an island between face and hair ids, but a solid one
    small[30:34, 33] = 0
    assert cihp_celebmaskhq.seams(small) is None


def test_what_celebamask_holds_is_taken_from_its_merge() -> None:
    held = np.flatnonzero(cihp_celebmaskhq.CELEBAMASK_IDS).tolist()
    assert held == [0, 1, 2, 4, 5, 10, 13]
    assert set(celebamask.TO_CIHP) == set(celebamask.NAMES)


def test_colours_lossy_masks_and_foreign_ids_are_refused(tmp_path: Path) -> None:
    for number, value in ((1, 20), (2, 13), (3, 13)):
        save(tmp_path, number, np.full((4, 4), value, np.uint8))
    Image.new("RGB", (4, 4), (13, 13, 12)).save(tmp_path / "mask" / "image_2.png")
    Image.new("RGB", (4, 4), (13, 13, 13)).save(tmp_path / "mask" / "image_3.png", format="JPEG")
    items = cihp_celebmaskhq.scan(tmp_path, OPTIONS).items
    with pytest.raises(BadLabels, match=r"20 \(16 px\)"):
        items[0].read_labels()
    with pytest.raises(DataError, match="holds colours"):
        items[1].read_labels()
    with pytest.raises(DataError, match="lossy"):
        items[2].read_labels()


def test_unpaired_files_lists_and_merged_masks_are_told(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path, number, np.full((4, 4), number, np.uint8))
    (tmp_path / "mask" / "image_2.png").unlink()
    (tmp_path / "segmentation").mkdir()
    scan = cihp_celebmaskhq.scan(tmp_path, OPTIONS)
    assert [(problem.kind, problem.path) for problem in scan.problems] == [
        ("photo without a mask", "original/image_2.jpg")
    ]
    assert scan.remarks == [
        "folder left out: segmentation",
        "no id over 1 was seen: are these CIHP's 20 ids, or six classes?",
    ]
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / "ImageSets" / "train.txt").write_text("image_0\n")
    (tmp_path / "ImageSets" / "val.txt").write_text("image_1\n")
    assert [item.split for item in cihp_celebmaskhq.scan(tmp_path, OPTIONS).items] == ["train", "val"]


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="SEGLAB_REAL_DATA does not name a folder with that sample")
def test_real_photos(tmp_path: Path) -> None:
    done = prepare(REAL, tmp_path / "out")
    assert done.dataset is not None
    assert (done.source, done.num_samples, done.findings.problems) == ("cihp-celebmaskhq-6class", 143, [])
    (blended,) = done.findings.notes.values()
    ignored = {sample.id: sample.pixels["ignore"] / (256 * 256) for sample in done.dataset.samples}
    assert {Path(path).stem for path in blended} == {id for id, share in ignored.items() if share}
    assert len(blended) == 80
    assert all(0.003 < ignored[Path(path).stem] < 0.03 for path in blended)
