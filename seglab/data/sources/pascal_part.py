"""PASCAL-Part people with six body parts, in the four forms that it comes in.

::

    JPEGImages/{id}.jpg + gt_masks/{id}.npy, train_id.txt, val_id.txt, classes.txt    Pascal-part.zip
    [{train,val,test}/]{id}.jpg + {id}.png side by side                               the same, prepared by the original
    JPEGImages/{id}.jpg + Annotations_Part/{id}.mat     the release of PASCAL-Part: 24 parts of a person, other things
    JPEGImages/{id}.jpg + SegmentationPart/{id}.png     Pascal-Person-Part, whose ids are in another order

The original divides ``val`` at random, 42 % of it becoming ``test``; here these are the names with the smallest sha1.
Left and right are not told apart in the six parts. Origins: http://roozbehm.info/pascal-parts/pascal-parts.html,
Xia et al. 2017 (Pascal-Person-Part).
"""

import re
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seglab.data.arrays import read_array
from seglab.data.pairing import list_files
from seglab.data.part_annotations import read_objects
from seglab.data.relabelling import Relabelling, relabelling
from seglab.data.selection import ReadLabels, Selection, draw, find_split_lists, join, pair_folders, select
from seglab.data.side_by_side import MASK_SUFFIXES, find_side_by_side
from seglab.data.sources import BadLabels, LeftOut, Scan, SourceOptions, other_layout
from seglab.errors import DataError
from seglab.tasks import Task

NAME = "pascal-part"
TITLE = "JPEGImages/ with gt_masks/*.npy, Annotations_Part/*.mat or SegmentationPart/*.png; or ID.jpg beside ID.png"
TASK: str | None = "body"
SIGNS: Final = (("JPEGImages", "gt_masks"), ("JPEGImages", "SegmentationPart"), ("JPEGImages", "Annotations_Part"))

NAMES: Final = ("background", "low_hand", "torso", "low_leg", "head", "up_leg", "up_hand")

PERSON: Final = {name: "person" if name != "background" else name for name in NAMES}

PERSON_PART_NAMES: Final = ("background", "head", "torso", "up_hand", "low_hand", "up_leg", "low_leg")
"""Pascal-Person-Part: head, torso, upper arms, lower arms, upper legs, lower legs."""

PARTS: Final = {
    **dict.fromkeys(
        ("head", "leye", "reye", "lear", "rear", "lebrow", "rebrow", "nose", "mouth", "hair", "neck"), "head"
    ),
    "torso": "torso",
    **dict.fromkeys(("luarm", "ruarm"), "up_hand"),
    **dict.fromkeys(("llarm", "rlarm", "lhand", "rhand"), "low_hand"),
    **dict.fromkeys(("luleg", "ruleg"), "up_leg"),
    **dict.fromkeys(("llleg", "rlleg", "lfoot", "rfoot"), "low_leg"),
}
"""The 24 parts of a person in PASCAL-Part."""

TEST_SHARE: Final = 0.42
"""Share of ``val`` that is ``test``."""

ROOTS: Final = (".", "data", "Pascal-part", "data/Pascal-part", "pascal")
VOC_NAME: Final = re.compile(r"20\d\d_\d{6}")
NUM_PICTURES: Final = 20
"""How many names are looked at."""
PHOTOS: Final = "JPEGImages"


class _Form(NamedTuple):
    label_dir: str
    suffixes: frozenset[str]
    spare_photos: bool
    """Whether the folder of photos is VOC's, which has many more."""


FORMS: Final = (
    _Form("gt_masks", frozenset({".npy"}), False),
    _Form("SegmentationPart", frozenset({".png"}), True),
    _Form("Annotations_Part", frozenset({".mat"}), True),
)


def recognise(raw_dir: Path) -> str | None:
    """Recognise the folder names; photos and masks side by side only by VOC's file names.

    Named with ``--source`` side by side are read whatever they are called.
    """
    found = _form(raw_dir)
    if found:
        root, form = found
        return f"it has `{(root / PHOTOS).relative_to(raw_dir)}` and `{form.label_dir}`"
    if not _begins_side_by_side(raw_dir):
        return None
    beside = find_side_by_side(raw_dir)
    return f"{beside.describe(raw_dir)}, called as in VOC" if beside and beside.is_usual else None


def scan(raw_dir: Path, options: SourceOptions) -> Scan:
    """Pair by stem; see :class:`seglab.data.sources.Source`."""
    found = _form(raw_dir)
    beside = None if found else find_side_by_side(raw_dir)
    if found:
        root, form = found
        selection = _of_form(raw_dir, root, form)
        read, remark = _reader(root, form, options.task)
    elif beside:
        pairings = {split: pair_folders(dir, dir, MASK_SUFFIXES) for split, dir in beside.dirs.items()}
        selection = join(pairings, raw_dir) if len(pairings) > 1 else select(pairings.popitem()[1], None, raw_dir)
        selection.remarks.extend(beside.remarks)
        relabel = relabelling(NAME, NAMES, options.task, (PERSON,))
        read, remark = relabel.read, relabel.remark
    else:
        raise other_layout(raw_dir, NAME)
    selection = draw(selection, "val", "test", TEST_SHARE)
    return selection.to_scan(read, remark)


def _of_form(raw_dir: Path, root: Path, form: _Form) -> Selection:
    pairing = pair_folders(root / PHOTOS, root / form.label_dir, form.suffixes)
    return select(pairing, find_split_lists([root]), raw_dir, spare_photos=form.spare_photos)


def _reader(root: Path, form: _Form, task: Task) -> tuple[ReadLabels, str]:
    if form.label_dir == "Annotations_Part":
        relabel = relabelling(NAME, NAMES, task, (PERSON,))
        return partial(_read_mat, relabel), relabel.remark
    names = PERSON_PART_NAMES if form.label_dir == "SegmentationPart" else _listed_names(root / "classes.txt")
    relabel = relabelling(NAME, names, task, (PERSON,))
    return relabel.read if form.suffixes == {".png"} else partial(_read_npy, relabel), relabel.remark


def _read_npy(relabel: Relabelling, path: Path, _notes: list[str]) -> NDArray[np.uint8]:
    from seglab.data.images import ImageError

    stored = read_array(path)
    ids = np.ascontiguousarray(stored)
    if not ((ids >= 0) & (ids <= 255)).all() or (ids.dtype.kind == "f" and (ids % 1).any()):
        raise ImageError("holds numbers that are no class ids")
    return relabel(ids.astype(np.uint8))


def _read_mat(relabel: Relabelling, path: Path, _notes: list[str]) -> NDArray[np.uint8]:
    """Paint the parts in the file's order: those of persons as what they are, those of things as background.

    So the 7-class masks were made: on the eight photos that were compared every pixel agrees.
    """
    objects = read_objects(path)
    if not any(object.kind == "person" and object.parts for object in objects):
        raise LeftOut("no person with parts")
    ids = np.zeros(objects[0].mask.shape, np.uint8)
    unknown: dict[str, int] = {}
    for object in objects:
        for name, mask in object.parts:
            if object.kind == "person" and name not in PARTS:
                unknown[name] = unknown.get(name, 0) + int(mask.sum())
            else:
                ids[mask] = NAMES.index(PARTS[name]) if object.kind == "person" else 0
    if unknown:
        raise BadLabels("unknown parts of a person", unknown)
    return relabel(ids)


def _listed_names(path: Path) -> Sequence[str]:
    """Return the classes by id: of ``classes.txt`` (``0: bg`` a line), or the known ones if there is none.

    Raises:
        DataError: If they are others.
    """
    if not path.is_file():
        return NAMES
    try:
        rows = re.findall(r"^\s*(\d{1,9})\s*:?\s*(\w+)\s*$", path.read_text(encoding="utf-8-sig"), re.MULTILINE)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read `{path}`: {error}", "without it the classes of the layout are taken") from error
    by_id = {int(id): {"bg": "background"}.get(name, name) for id, name in rows}
    names = [by_id.get(id, "") for id in range(len(NAMES))]
    if len(rows) != len(NAMES) or sorted(names) != sorted(NAMES):
        raise DataError(f"`{path}` lists other classes than those of the layout", f"known: {', '.join(NAMES)}")
    return names


def _form(raw_dir: Path) -> tuple[Path, _Form] | None:
    for root in (raw_dir / name for name in ROOTS):
        for form in FORMS:
            if (root / PHOTOS).is_dir() and (root / form.label_dir).is_dir():
                return root, form
    return None


def _begins_side_by_side(raw_dir: Path) -> bool:
    """Look at the first pictures, for the tree may be large and somebody else's."""
    from seglab.data.images import IMAGE_SUFFIXES

    pictures = (path for path in list_files(raw_dir) if path.suffix.lower() in IMAGE_SUFFIXES)
    first = list(islice(pictures, NUM_PICTURES))
    pairs = {path.with_suffix("") for path in first if path.suffix.lower() in MASK_SUFFIXES}
    pairs &= {path.with_suffix("") for path in first if path.suffix.lower() not in MASK_SUFFIXES}
    return bool(pairs) and all(VOC_NAME.fullmatch(path.stem) for path in first)
