"""CIHP (Crowd Instance-level Human Parsing), 20 classes, merged to six or to the whole person.

::

    instance-level_human_parsing/{Training,Validation}/{Images/0002190.jpg, Category_ids/0002190.png}  as published,
                                                        with Human_ids/0002190.png, who each pixel belongs to
    {images,labels,labels_rev,edges,list}   as CIHP_PGN wants it, with list/{train,val}_id.txt

Left and right are the person's own. The labels of ``Testing`` were never published. The classes are those of the
Kaggle data set CIHP-CelebMaskHQ-6class. Origin: http://sysu-hcp.net/lip
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

from seglab.data.relabelling import relabelling
from seglab.data.selection import Selection, find_split_lists, join, pair_folders, select
from seglab.data.sources import Item, Scan, SourceOptions, other_layout

NAME = "cihp"
TITLE = (
    "Training/ and Validation/ with Images/ and Category_ids/, or images/ with labels/ and list/*_id.txt, 20 classes"
)
TASK: str | None = "parsing"
SIGNS: Final = (("Training/Images", "Training/Category_ids"), ("images", "labels", "list", "edges"))

NAMES: Final = (
    "background", "hat", "hair", "glove", "sunglasses", "upper_clothes", "dress", "coat", "socks", "pants",
    "torso_skin", "scarf", "skirt", "face", "left_arm", "right_arm", "left_leg", "right_leg", "left_shoe", "right_shoe",
)  # fmt: skip

SIX: Final = {
    "background": "background",
    "hair": "hair",
    "face": "face",
    **dict.fromkeys(("torso_skin", "left_arm", "right_arm", "left_leg", "right_leg"), "skin"),
    **dict.fromkeys(("upper_clothes", "dress", "coat", "pants", "skirt"), "clothes"),
    **dict.fromkeys(("hat", "glove", "sunglasses", "socks", "scarf", "left_shoe", "right_shoe"), "accessories"),
}
"""The merge of the six-class data set's author (``labelmap_6class.txt``)."""

PERSON: Final = {name: "person" if name != "background" else name for name in NAMES}

MERGES: Final = (SIX, PERSON)

ROOTS: Final = (".", "instance-level_human_parsing", "CIHP", "datasets/CIHP")
SPLIT_DIRS: Final = {"train": "Training", "val": "Validation", "test": "Testing"}
LABEL_DIR: Final = "Category_ids"
PEOPLE_DIR: Final = "Human_ids"
PGN_DIRS: Final = ("edges", "labels_rev")
"""What tells CIHP_PGN's ``images`` and ``labels`` from anybody's."""


def recognise(raw_dir: Path) -> str | None:
    """Recognise the folder names."""
    parts = _parts(raw_dir)
    if parts:
        return "it has " + " and ".join(f"`{(dir / LABEL_DIR).relative_to(raw_dir)}`" for dir in parts.values())
    return "it has `images`, `labels`, `list`, and `edges` or `labels_rev`" if _pgn_root(raw_dir) else None


def scan(raw_dir: Path, options: SourceOptions) -> Scan:
    """Pair by stem; see :class:`seglab.data.sources.Source`."""
    parts, root = _parts(raw_dir), _pgn_root(raw_dir)
    if not parts and not root:
        raise other_layout(raw_dir, NAME)
    relabel = relabelling(NAME, NAMES, options.task, MERGES)
    selection = _published(raw_dir, parts) if parts or root is None else _pgn(raw_dir, root)
    scan = selection.to_scan(relabel.read, relabel.remark)
    return replace(scan, items=[_with_people(item) for item in scan.items])


def _with_people(item: Item) -> Item:
    path = item.label_path.parent.with_name(PEOPLE_DIR) / item.label_path.name
    if item.label_path.parent.name != LABEL_DIR or not path.is_file():
        return item
    return replace(item, people_path=path, more_paths=(*item.more_paths, path))


def _published(raw_dir: Path, parts: dict[str, Path]) -> Selection:
    pairings = {split: pair_folders(dir / "Images", dir / LABEL_DIR) for split, dir in parts.items()}
    lists = {split: path for split, dir in parts.items() if (path := dir / f"{split}_id.txt").is_file()}
    selection = join(pairings, raw_dir, lists)
    test_dir = next(iter(parts.values())).with_name(SPLIT_DIRS["test"])
    if "test" not in parts and test_dir.is_dir():
        selection.remarks.append(f"`{test_dir.relative_to(raw_dir)}` has no labels and is left out")
    return selection


def _pgn(raw_dir: Path, root: Path) -> Selection:
    selection = select(pair_folders(root / "images", root / "labels"), find_split_lists([root / "list"]), raw_dir)
    others = [name for name in PGN_DIRS if (root / name).is_dir()]
    selection.remarks.append(f"folders left out: {', '.join(others)}")
    return selection


def _parts(raw_dir: Path) -> dict[str, Path]:
    """Return the folder of every split that has labels."""
    for root in ROOTS:
        dirs = {split: raw_dir / root / name for split, name in SPLIT_DIRS.items()}
        parts = {split: dir for split, dir in dirs.items() if (dir / "Images").is_dir() and (dir / LABEL_DIR).is_dir()}
        if parts:
            return parts
    return {}


def _pgn_root(raw_dir: Path) -> Path | None:
    for root in (raw_dir / name for name in ROOTS):
        usual = all((root / name).is_dir() for name in ("images", "labels", "list"))
        if usual and any((root / name).is_dir() for name in PGN_DIRS):
            return root
    return None
