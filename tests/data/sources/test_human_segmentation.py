"""Human-Segmentation-Dataset."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.data.sources import SourceOptions, human_segmentation, recognise
from seglab.errors import DataError
from seglab.tasks import TASKS

OPTIONS = SourceOptions(TASKS["person"])


def tree(raw: Path, photos: str = "Training_Images", masks: str = "Ground_Truth") -> Path:
    """Three pairs (a mask smaller, a photo grey), a photo and a mask alone, and what macOS left."""
    for folder in (photos, masks):
        (raw / folder).mkdir(parents=True)
        (raw / folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (raw / folder / "._10.png").write_bytes(b"\0\5\26\7")
    for stem, size, mode in (("2", (8, 4), "RGB"), ("10", (16, 8), "RGB"), ("9", (8, 4), "L"), ("7", (8, 4), "RGB")):
        Image.new(mode, size).save(raw / photos / f"{stem}.jpg")
    for stem, row in (("2", [0, 255]), ("10", [255, 0]), ("9", [255, 255]), ("300", [0, 0])):
        Image.fromarray(np.repeat(np.array([row], np.uint8), 4, axis=1).repeat(4, axis=0)).save(
            raw / masks / f"{stem}.png"
        )
    return raw


@pytest.mark.parametrize("folders", [("Training_Images", "Ground_Truth"), ("data/images", "data/masks")])
def test_pairs_by_stem_and_white_is_person(tmp_path: Path, folders: tuple[str, str]) -> None:
    raw = tree(tmp_path / "raw", *folders)
    source, reason = recognise(raw)
    assert (source.NAME, reason) == ("human-segmentation", f"it has `{folders[0]}` and `{folders[1]}`")
    scan = human_segmentation.scan(raw, OPTIONS)
    found = {item.name: item.read_labels().tolist()[0] for item in scan.items}
    assert found == {"10": [1] * 4 + [0] * 4, "2": [0] * 4 + [1] * 4, "9": [1] * 8}
    assert [(problem.kind, problem.path) for problem in scan.problems] == [
        ("photo without a mask", f"{folders[0]}/7.jpg"),
        ("mask without a photo", f"{folders[1]}/300.png"),
    ]
    assert all(item.photo_path.stem == item.label_path.stem and item.split is None for item in scan.items)


def test_only_tasks_of_two_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has one class, but task `face` has 11"):
        human_segmentation.scan(tree(tmp_path / "raw"), SourceOptions(TASKS["face"]))
