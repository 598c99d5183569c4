"""CIHP-CelebMaskHQ-6class (Kaggle): ``original/image_{N}.jpg`` with ``mask/image_{N}.png``, 256x256.

The masks are not of six classes: they hold CIHP's 20 ids as R = G = B, and become six here. Those that come from
CelebAMask-HQ were shrunk bilinearly when they were published, so between two classes lie lines of ids in between that
mean nothing (socks between face and hair). Such lines are ignored (255); what they were is not known.

Origin: https://www.kaggle.com/datasets/remainaplomb/cihp-celebmaskhq-6class-256
"""

import contextlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.relabelling import Relabelling, relabelling
from seglab.data.selection import find_split_lists, pair_folders, select
from seglab.data.sources import Scan, SourceOptions, celebamask, cihp, other_layout
from seglab.tasks import IGNORE

NAME = "cihp-celebmaskhq-6class"
TITLE = "original/image_N.jpg with mask/image_N.png of 20 CIHP ids (also below versions/1)"
TASK: str | None = "parsing"
SIGNS: Final = (("original", "mask", "original/image_*"),)

ROOTS: Final = (".", "versions/1")

CELEBAMASK_IDS: Final = np.isin(np.arange(256), [cihp.NAMES.index(name) for name in celebamask.TO_CIHP.values()])
"""Which ids a mask from CelebAMask-HQ can hold."""

NUM_LOOKED_AT: Final = 24

SEAMS: Final = "ids in between, from a mask shrunk bilinearly, are ignored"


def recognise(raw_dir: Path) -> str | None:
    """Recognise the folders and their file names."""
    root = _root(raw_dir)
    if root is None or not any((root / "original").glob("image_*")):
        return None
    return (
        f"it has `{(root / 'original').relative_to(raw_dir)}` and `{(root / 'mask').relative_to(raw_dir)}` of image_N"
    )


def scan(raw_dir: Path, options: SourceOptions) -> Scan:
    """Pair by stem; see :class:`seglab.data.sources.Source`."""
    root = _root(raw_dir)
    if root is None:
        raise other_layout(raw_dir, NAME)
    relabel = relabelling(NAME, cihp.NAMES, options.task, (cihp.SIX,))
    lists = find_split_lists([root / "ImageSets"])
    selection = select(pair_folders(root / "original", root / "mask"), lists, raw_dir)
    left_out = "folder left out: segmentation" if (root / "segmentation").is_dir() else ""
    merged = _merged_already([label_path for _, label_path, _ in selection.pairs.values()])
    return selection.to_scan(partial(_read, relabel), relabel.remark, left_out, merged)


def seams(ids: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Find the lines of ids in between classes that bilinear shrinking left; None if the mask was not shrunk so.

    It was if of its pixels with ids that no mask from CelebAMask-HQ has, half or more lie strictly between the ids
    around them, and at most a third in a 3x3 block of their own. (Over 143 masks of both kinds the first share is 0.81
    to 1 or at most 0.008.) Seams are then all these pixels, and those of other ids that lie strictly between the ids
    around them and in no block. (Of 50 masks shrunk for a trial 98 % of the pixels with an id that none of those they
    came from had were found so, and 2 % of the pixels found had a right one.)

    Args:
        ids: HW CIHP ids.
    """
    import cv2

    block = np.ones((3, 3), np.uint8)
    foreign = ~CELEBAMASK_IDS[ids] & (ids < IGNORE)
    num_foreign = int(foreign.sum())
    if not num_foreign:
        return None
    between = (cv2.erode(ids, block) < ids) & (ids < cv2.dilate(ids, block))
    if (foreign & between).sum() < num_foreign / 2:
        return None
    solid = np.zeros(ids.shape, bool)
    for id in np.flatnonzero(np.bincount(ids.ravel())):
        own = cv2.copyMakeBorder((ids == id).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        solid |= cv2.morphologyEx(own, cv2.MORPH_OPEN, block)[1:-1, 1:-1] > 0
    if (foreign & solid).sum() > num_foreign / 3:
        return None
    found: NDArray[np.bool_] = foreign | (between & ~solid)
    return found


def _read(relabel: Relabelling, path: Path, notes: list[str]) -> NDArray[np.uint8]:
    from seglab.data.images import read_labels

    ids = read_labels(path)
    labels = relabel(ids)
    found = seams(ids)
    if found is not None:
        notes.append(SEAMS)
        labels[found] = IGNORE
    return labels


def _merged_already(paths: Sequence[Path]) -> str:
    """Look at some masks: six classes in all of them would be read as hats, hair, gloves."""
    from seglab.data.images import ImageError, read_labels

    highest = -1
    for path in paths[:: max(1, len(paths) // NUM_LOOKED_AT)]:
        with contextlib.suppress(ImageError):
            ids = read_labels(path)
            highest = max(highest, int(ids[ids < IGNORE].max(initial=0)))
    believable = highest < 0 or highest >= len(set(cihp.SIX.values()))
    return "" if believable else f"no id over {highest} was seen: are these CIHP's 20 ids, or six classes?"


def _root(raw_dir: Path) -> Path | None:
    roots = (raw_dir / name for name in ROOTS)
    return next((dir for dir in roots if (dir / "original").is_dir() and (dir / "mask").is_dir()), None)
