"""Helen* (relabelled Helen): ``{train,test}/{ID}_image.jpg, {ID}_label.png, {ID}_viz.jpg``, eleven face regions.

Left and right are those of the picture. Test stays test; validation is drawn from train. ``test_resize`` holds the test
photos again and is left out. Also read: one of the folders alone, and the reshuffled
``splitted_data/{train,test}/{images,labels}``. Origin: https://github.com/JPlin/Relabeled-HELEN-Dataset
"""

from pathlib import Path
from typing import Final

from seglab.data.pairing import Pairing, is_content, pair, pictures_by_name
from seglab.data.relabelling import relabelling
from seglab.data.selection import draw, join, select
from seglab.data.sources import Scan, SourceOptions, other_layout

NAME = "helen"
TITLE = "train/ and test/ with ID_image.jpg and ID_label.png (and ID_viz.jpg) side by side, 11 face regions"
TASK: str | None = "face"
SIGNS: Final = (("train/*_image.*", "train/*_label.*"), ("*_image.*", "*_label.*"))

NAMES: Final = ("bg", "face", "lb", "rb", "le", "re", "nose", "ulip", "imouth", "llip", "hair")

DRAWS_VAL: Final = True
"""Whether ``--val`` divides the source's own train."""

ROOTS: Final = (".", "helenstar_release", "splitted_data", "splitted_data/data")
SPLIT_DIRS: Final = ("train", "val", "test")


def recognise(raw_dir: Path) -> str | None:
    """Recognise names that end in ``_image`` and ``_label``."""
    parts = _parts(raw_dir)
    if not parts:
        return None
    folders = " and ".join(f"`{dir.relative_to(raw_dir).as_posix()}`" for dir in parts.values())
    return (
        f"{folders} has ID_image with ID_label files" if len(parts) == 1 else f"{folders} have ID_image with ID_label"
    )


def scan(raw_dir: Path, options: SourceOptions) -> Scan:
    """Pair by ID; see :class:`seglab.data.sources.Source`."""
    parts = _parts(raw_dir)
    if not parts:
        raise other_layout(raw_dir, NAME)
    relabel = relabelling(NAME, NAMES, options.task)
    pairings = {split: _pair(dir) for split, dir in parts.items()}
    selection = join(pairings, raw_dir) if "" not in parts else select(pairings[""], None, raw_dir)
    selection = draw(selection, "train", "val", options.val)
    return selection.to_scan(relabel.read, relabel.remark, _left_out(parts))


def _parts(raw_dir: Path) -> dict[str, Path]:
    """Return the folder of every split; of one folder without splits, under an empty name."""
    for root in ROOTS:
        parts = {split: raw_dir / root / split for split in SPLIT_DIRS if _has_triples(raw_dir / root / split)}
        if parts:
            return parts
    return {"": raw_dir} if _has_triples(raw_dir) else {}


def _has_triples(dir: Path) -> bool:
    return all(
        any(any(folder.glob(f"*{ending}.*")) for folder in (dir, dir / within))
        for ending, within in (("_image", "images"), ("_label", "labels"))
    )


def _pair(dir: Path) -> Pairing:
    return pair(_by_id(dir, "_image"), _by_id(dir, "_label"))


def _by_id(dir: Path, ending: str) -> dict[str, list[Path]]:
    from seglab.data.images import IMAGE_SUFFIXES

    found: dict[str, list[Path]] = {}
    for name, paths in pictures_by_name(dir, IMAGE_SUFFIXES)[0].items():
        stem = name.rpartition("/")[2]
        if stem.endswith(ending):
            found.setdefault(stem.removesuffix(ending), []).extend(paths)
    return found


def _left_out(parts: dict[str, Path]) -> str:
    if "" in parts:
        return ""
    others = [dir for dir in next(iter(parts.values())).parent.glob("*/") if dir not in parts.values()]
    names = sorted(dir.name for dir in others if is_content(dir.name))
    return f"folders left out: {', '.join(names)}" if names else ""
