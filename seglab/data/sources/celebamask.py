"""CelebAMask-HQ: 30,000 faces with 19 classes, for face regions and for human parsing.

::

    CelebA-HQ-img/{k}.jpg  with  CelebAMask-HQ-mask-anno/{k//2000}/{k:05d}_{part}.png   a file a part, as published
    classes.json, images/*.jpg, masks/*.png    a mirror: palette PNGs of ids, the classes in ``classes.json``

Its left and right are the person's own, so that ``l_eye`` lies on the right of the picture. Parts are painted in the
order of the class list, later over earlier, as the authors do. Origin: https://github.com/switchablenorms/CelebAMask-HQ
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.pairing import list_files, pair, pictures_by_name
from seglab.data.problems import Problem
from seglab.data.relabelling import UNLABELLED, Relabelling, relabelling
from seglab.data.selection import join, pair_folders, select
from seglab.data.sources import Item, Scan, SourceOptions, cihp, other_layout
from seglab.data.sources.folders import pairing_problems
from seglab.notation import parse_json

NAME = "celebamask-hq"
TITLE = "CelebA-HQ-img/ with CelebAMask-HQ-mask-anno/, or classes.json with images/ and masks/, 19 classes"
TASK: str | None = None
SIGNS: Final = (("CelebA-HQ-img", "CelebAMask-HQ-mask-anno"), ("classes.json", "**/images", "**/masks"))
TASKS: Final = ("face", "parsing")
"""What its classes can be merged to, of the tasks that everybody has."""

NAMES: Final[tuple[str, ...]] = (
    "background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip",
    "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip

TO_CIHP: Final = {
    "background": "background",
    **dict.fromkeys(
        ("skin", "nose", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip"), "face"
    ),
    **dict.fromkeys(("eye_g", "ear_r", "neck_l"), "sunglasses"),
    "hair": "hair",
    "hat": "hat",
    "neck": "torso_skin",
    "cloth": "upper_clothes",
}
"""How the author of CIHP-CelebMaskHQ-6class made CIHP classes of these."""

FACE: Final = {
    **dict.fromkeys(("background", "l_ear", "r_ear", "hat", "ear_r", "neck_l", "neck", "cloth"), "bg"),
    "skin": "face", "nose": "nose", "hair": "hair", "u_lip": "ulip", "mouth": "imouth", "l_lip": "llip",
    "l_eye": "re", "r_eye": "le", "l_brow": "rb", "r_brow": "lb",
    "eye_g": UNLABELLED,
}  # fmt: skip
"""The regions of Helen*, whose left and right are those of the picture. What glasses hide is ignored."""

MERGES: Final = ({name: cihp.SIX[TO_CIHP[name]] for name in NAMES}, FACE)

ROOTS: Final = (".", "CelebAMask-HQ")
PHOTO_DIR: Final = "CelebA-HQ-img"
PART_DIR: Final = "CelebAMask-HQ-mask-anno"
PART_FILE: Final = re.compile(r"(\d+)_(\w+)")
SPLIT_DIRS: Final = ("train", "val", "test")


def recognise(raw_dir: Path) -> str | None:
    """Recognise the folder names, or the class list."""
    root = _root(raw_dir)
    if root:
        return f"it has `{(root / PHOTO_DIR).relative_to(raw_dir)}` and `{PART_DIR}`"
    return "its `classes.json` lists the 19 classes of CelebAMask-HQ" if _mirror(raw_dir) else None


def scan(raw_dir: Path, options: SourceOptions) -> Scan:
    """Pair by number or stem; see :class:`seglab.data.sources.Source`."""
    root, mirror = _root(raw_dir), _mirror(raw_dir)
    if root:
        return _scan_parts(raw_dir, root, relabelling(NAME, NAMES, options.task, MERGES))
    if mirror is None:
        raise other_layout(raw_dir, NAME)
    names, dirs = mirror
    relabel = relabelling(NAME, names, options.task, MERGES)
    pairings = {split: pair_folders(dir / "images", dir / "masks") for split, dir in dirs.items()}
    selection = join(pairings, raw_dir) if len(pairings) > 1 else select(pairings.popitem()[1], None, raw_dir)
    return selection.to_scan(relabel.read, relabel.remark)


def _scan_parts(raw_dir: Path, root: Path, relabel: Relabelling) -> Scan:
    from seglab.data.images import IMAGE_SUFFIXES

    photos: dict[str, list[Path]] = {}
    for name, paths in pictures_by_name(root / PHOTO_DIR, IMAGE_SUFFIXES)[0].items():
        photos.setdefault(_number(name), []).extend(paths)
    parts, problems = _parts_by_number(raw_dir, root / PART_DIR)
    pairing = pair(photos, {number: [next(iter(paths.values()))] for number, paths in parts.items()})
    items = [
        Item(
            number,
            photo_path,
            label_path,
            partial(_paint, relabel, parts[number]),
            more_paths=tuple(path for path in parts[number].values() if path != label_path),
        )
        for number, (photo_path, label_path) in pairing.pairs.items()
    ]
    return Scan(items, [*pairing_problems(pairing, raw_dir), *problems], [relabel.remark] if relabel.remark else [])


def _parts_by_number(raw_dir: Path, dir: Path) -> tuple[dict[str, dict[str, Path]], list[Problem]]:
    """Return the file of every part of every number, in the order in which they are painted."""
    found: dict[str, dict[str, Path]] = {}
    problems = []
    for path in list_files(dir):
        match = PART_FILE.fullmatch(path.stem) if path.suffix.lower() == ".png" else None
        if match is None:
            continue
        number, name = _number(match[1]), match[2]
        where = path.relative_to(raw_dir).as_posix()
        if name not in NAMES[1:]:
            problems.append(Problem("file of an unknown part", where, name))
        elif found.setdefault(number, {}).setdefault(name, path) != path:
            problems.append(Problem("second file of a part", where, name))
    ordered = {
        number: {name: paths[name] for name in NAMES if name in paths} for number, paths in found.items() if paths
    }
    return ordered, problems


def _paint(relabel: Relabelling, part_paths: Mapping[str, Path]) -> NDArray[np.uint8]:
    from seglab.data.images import ImageError, read_labels

    ids: NDArray[np.uint8] | None = None
    for name, path in part_paths.items():
        part = read_labels(path)
        if ids is None:
            ids = np.zeros(part.shape, np.uint8)
        if part.shape != ids.shape:
            height, width = part.shape
            raise ImageError(f"`{path.name}` is {width}x{height}, other parts are {ids.shape[1]}x{ids.shape[0]}")
        ids[part > 0] = NAMES.index(name)
    if ids is None:
        raise ImageError("has no parts")
    return relabel(ids)


def _number(text: str) -> str:
    return str(int(text)) if text.isdecimal() else text


def _root(raw_dir: Path) -> Path | None:
    roots = (raw_dir / name for name in ROOTS)
    return next((dir for dir in roots if (dir / PHOTO_DIR).is_dir() and (dir / PART_DIR).is_dir()), None)


def _mirror(raw_dir: Path) -> tuple[Sequence[str], Mapping[str, Path]] | None:
    """Return the class list in the order of the ids, and the folder of every split."""
    try:
        names = parse_json((raw_dir / "classes.json").read_text(encoding="utf-8-sig"))["classes"]
        known = sorted(names) == sorted(NAMES)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    found = [
        dir
        for dir in (raw_dir, *sorted(raw_dir.glob("*/")), *sorted(raw_dir.glob("*/*/")))
        if (dir / "images").is_dir() and (dir / "masks").is_dir()
    ]
    splits = {dir.name: dir for dir in found if dir.name in SPLIT_DIRS}
    dirs = splits if len(splits) == len(found) else {"": found[0]} if len(found) == 1 else {}
    return (names, dirs) if known and dirs else None
