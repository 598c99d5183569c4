"""LIP (Look Into Person), one person a photo, 20 classes: CIHP's, but for id 10, which is jumpsuits here.

::

    [TrainVal_images/]{train,val}_images/*.jpg  with  [TrainVal_parsing_annotations/]{train,val}_segmentations/*.png
    [data/]images/77_471474.jpg  with  [data/]annotations/77_471474.png   (a mirror; the ids in the red channel)

Left and right are the person's own. Origin: http://sysu-hcp.net/lip
"""

import re
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.pairing import list_files
from seglab.data.relabelling import Relabelling, relabelling
from seglab.data.selection import Selection, join, pair_folders, select
from seglab.data.sources import Scan, SourceOptions, cihp, other_layout

NAME = "lip"
TITLE = "train_images/ with train_segmentations/ (and val_...), or images/ with annotations/, 20 classes"
TASK: str | None = "parsing"
SIGNS: Final = (("train_images", "train_segmentations"), ("images", "annotations"))

NAMES: Final = tuple("jumpsuits" if name == "torso_skin" else name for name in cihp.NAMES)

SIX: Final = {name: "clothes" if name == "jumpsuits" else cihp.SIX[name] for name in NAMES}

ROOTS: Final = (".", "data", "LIP")
PHOTO_DIRS: Final = ("{}_images", "TrainVal_images/{}_images", "TrainVal_images/TrainVal_images/{}_images")
LABEL_DIRS: Final = (
    "{}_segmentations",
    "TrainVal_parsing_annotations/{}_segmentations",
    "TrainVal_parsing_annotations/TrainVal_parsing_annotations/{}_segmentations",
)


def recognise(raw_dir: Path) -> str | None:
    """Recognise the folder names; ``images`` and ``annotations`` only with LIP's file names."""
    parts = _parts(raw_dir)
    if parts:
        return "it has " + " and ".join(f"`{labels.relative_to(raw_dir)}`" for _, labels in parts.values())
    root = _flat_root(raw_dir)
    if root is None:
        return None
    first = [next((path.name for path in list_files(root / dir)), "") for dir in ("images", "annotations")]
    if not re.fullmatch(r"\d+_\d+\.jpg", first[0]) or not re.fullmatch(r"\d+_\d+\.png", first[1]):
        return None
    return f"`{(root / 'images').relative_to(raw_dir)}` and `annotations` beside it have names like `{first[0]}`"


def scan(raw_dir: Path, options: SourceOptions) -> Scan:
    """Pair by stem; see :class:`seglab.data.sources.Source`."""
    parts, root = _parts(raw_dir), _flat_root(raw_dir)
    selection = Selection()
    if parts:
        selection = join({split: pair_folders(*dirs) for split, dirs in parts.items()}, raw_dir)
    elif root:
        selection = select(pair_folders(root / "images", root / "annotations"), None, raw_dir)
    else:
        raise other_layout(raw_dir, NAME)
    relabel = relabelling(NAME, NAMES, options.task, (SIX,))
    return selection.to_scan(partial(_read, relabel), relabel.remark)


def _read(relabel: Relabelling, path: Path, _notes: list[str]) -> NDArray[np.uint8]:
    from seglab.data.images import read_labels, read_mode, read_rgb_mask

    if read_mode(path).startswith("RGB"):
        rgb = read_rgb_mask(path)
        if not rgb[..., 1:].any():
            return relabel(np.ascontiguousarray(rgb[..., 0]))
    return relabel(read_labels(path))


def _parts(raw_dir: Path) -> dict[str, tuple[Path, Path]]:
    """Return the folders of photos and labels of every split."""
    for root in (raw_dir / name for name in ROOTS):
        parts = {}
        for split in ("train", "val"):
            photo_dirs, label_dirs = (
                [dir for pattern in patterns if (dir := root / pattern.format(split)).is_dir()]
                for patterns in (PHOTO_DIRS, LABEL_DIRS)
            )
            if photo_dirs and label_dirs:
                parts[split] = (photo_dirs[0], label_dirs[0])
        if parts:
            return parts
    return {}


def _flat_root(raw_dir: Path) -> Path | None:
    roots = (raw_dir / name for name in ROOTS)
    return next((dir for dir in roots if (dir / "images").is_dir() and (dir / "annotations").is_dir()), None)
