"""The general layout: photos and masks with the same stems, in two folders or side by side in one.

::

    images/a.jpg        masks/a.png (or labels/a.png)         no splits: seglab makes them
    train/images/a.jpg  train/masks/a.png  val/...            the source's own splits are kept
    images/train/a.jpg  masks/train/a.png  ...                likewise
    any/a.jpg           any/a.png                             likewise, with train/, val/, test/ above them

Masks are class ids (grey or palette PNG, 255 = ignore), 0/255 where the task has two classes, or colours.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from seglab.data.masks import Convention, decide_convention, read_mask
from seglab.data.pairing import Pairing, is_content, pair, pictures_by_name
from seglab.data.problems import Problem
from seglab.data.side_by_side import MASK_SUFFIXES, SPLIT_NAMES, find_side_by_side
from seglab.data.sources import Item, Scan, SourceOptions, other_layout

NAME = "folders"
TITLE = "images/ with masks/ or labels/, or a.jpg beside a.png; also in train/, val/, test/"
TASK: str | None = None
SIGNS: Final = (("images", "masks"), ("images", "labels"))

COLOURS: Final = True
"""Whether masks may be colours of a table."""

PHOTO_DIR: Final = "images"
MASK_DIRS: Final = ("masks", "labels")
OTHERS: Final = "their classes cannot be known: --task says them, or --source pascal-part that it is that data set"
"""What a person should know where photos and masks lie side by side."""


@dataclass(frozen=True)
class _Part:
    """Two folders that belong together."""

    split: str | None
    photo_dir: Path
    mask_dir: Path


def recognise(raw_dir: Path) -> str | None:
    """Recognise the folder names, or photos with masks side by side."""
    parts = _parts(raw_dir)
    if not parts:
        beside = find_side_by_side(raw_dir)
        return f"{beside.describe(raw_dir)}; {OTHERS}" if beside and beside.is_usual else None
    folders = " and ".join(f"`{dir.relative_to(raw_dir)}`" for dir in (parts[0].photo_dir, parts[0].mask_dir))
    others = f" and {len(parts) - 1} more such pairs" if len(parts) > 1 else ""
    return f"it has {folders}{others}"


def scan(raw_dir: Path, options: SourceOptions) -> Scan:
    """Pair by path and stem; see :class:`seglab.data.sources.Source`."""
    parts = _parts(raw_dir)
    beside = None if parts else find_side_by_side(raw_dir)
    if beside:
        parts = [_Part(split or None, dir, dir) for split, dir in beside.dirs.items()]
    if not parts:
        raise other_layout(raw_dir, NAME)
    remarks = beside.remarks if beside else _folders_left_out(raw_dir, parts)
    splits = [part.split for part in parts if part.split]
    if splits:
        remarks.append(f"the source's own splits are kept: {', '.join(dict.fromkeys(splits))}")
    problems, pairings = list[Problem](), list[Pairing]()
    for part in parts:
        pairing, num_others = _pair(part)
        if num_others:
            where = f" of `{part.split}`" if part.split else ""
            remarks.append(f"{num_others} files{where} that are no pictures are left out")
        pairings.append(pairing)
        problems += pairing_problems(pairing, raw_dir)
    mask_paths = [mask_path for pairing in pairings for _, mask_path in pairing.pairs.values()]
    convention = decide_convention(mask_paths, options.task, options.colours)
    items = _items(parts, pairings, convention, options)
    return Scan(items, problems, [*remarks, convention.note] if convention.note else remarks)


def _pair(part: _Part) -> tuple[Pairing, int]:
    """Pair the pictures of two folders, or those of one by their suffixes; count the files that are no pictures."""
    from seglab.data.images import IMAGE_SUFFIXES

    if part.photo_dir != part.mask_dir:
        photos, num_others = pictures_by_name(part.photo_dir, IMAGE_SUFFIXES)
        masks, num_more = pictures_by_name(part.mask_dir, IMAGE_SUFFIXES)
        return pair(photos, masks), num_others + num_more
    photos, num_others = pictures_by_name(part.photo_dir, IMAGE_SUFFIXES - MASK_SUFFIXES)
    masks, _ = pictures_by_name(part.mask_dir, MASK_SUFFIXES)
    return pair(photos, masks), num_others - sum(map(len, masks.values()))


def pairing_problems(pairing: Pairing, raw_dir: Path) -> list[Problem]:
    """Return what could not be paired as problems."""
    problems = [Problem("photo without a mask", _relative(path, raw_dir)) for path in pairing.lone_photos]
    problems += [Problem("mask without a photo", _relative(path, raw_dir)) for path in pairing.lone_masks]
    for several in pairing.ambiguous:
        names = ", ".join(path.name for path in several)
        problems.append(Problem("several files of one stem", _relative(several[0], raw_dir), names))
    return problems


def _items(
    parts: Sequence[_Part], pairings: Sequence[Pairing], convention: Convention, options: SourceOptions
) -> list[Item]:
    times = Counter(name for pairing in pairings for name in pairing.pairs)
    # Numbering often starts anew in every split; then all names carry theirs.
    with_split = any(num > 1 for num in times.values())
    return [
        Item(
            f"{part.split}/{name}" if with_split else name,
            photo_path,
            mask_path,
            partial(read_mask, mask_path, convention, options.task),
            part.split,
        )
        for part, pairing in zip(parts, pairings, strict=True)
        for name, (photo_path, mask_path) in pairing.pairs.items()
    ]


def _parts(raw_dir: Path) -> list[_Part]:
    """Find the pairs of folders, in the order train, val, test."""
    mask_dir = _mask_dir(raw_dir)
    if (raw_dir / PHOTO_DIR).is_dir() and mask_dir:
        return _inner_splits(raw_dir / PHOTO_DIR, mask_dir) or [_Part(None, raw_dir / PHOTO_DIR, mask_dir)]
    found = []
    for split_dir in _split_dirs(raw_dir):
        mask_dir = _mask_dir(split_dir)
        if (split_dir / PHOTO_DIR).is_dir() and mask_dir:
            found.append(_Part(SPLIT_NAMES[split_dir.name.lower()], split_dir / PHOTO_DIR, mask_dir))
    return found


def _inner_splits(photo_dir: Path, mask_dir: Path) -> list[_Part]:
    """Find ``images/train`` with ``masks/train``...: only if photos lie nowhere else in ``images``."""
    from seglab.data.images import IMAGE_SUFFIXES

    split_dirs = _split_dirs(photo_dir)
    inside = {split_dir.name for split_dir in split_dirs}
    pictures, _ = pictures_by_name(photo_dir, IMAGE_SUFFIXES)
    if any(name.split("/")[0] not in inside for name in pictures):
        return []
    return [_Part(SPLIT_NAMES[dir.name.lower()], dir, mask_dir / dir.name) for dir in split_dirs]


def _split_dirs(dir: Path) -> list[Path]:
    order = list(SPLIT_NAMES)
    found = [path for path in dir.iterdir() if path.name.lower() in SPLIT_NAMES and path.is_dir()]
    return sorted(found, key=lambda path: order.index(path.name.lower()))


def _mask_dir(dir: Path) -> Path | None:
    return next((dir / name for name in MASK_DIRS if (dir / name).is_dir()), None)


def _folders_left_out(raw_dir: Path, parts: Sequence[_Part]) -> list[str]:
    used = {dir for part in parts for dir in (part.photo_dir, part.mask_dir)}
    above = {dir.parent for dir in used} | {raw_dir}
    others = [
        path
        for dir in sorted(above)
        for path in sorted(dir.iterdir())
        if path.is_dir() and is_content(path.name) and path not in used | above
    ]
    return [f"folders left out: {', '.join(_relative(path, raw_dir) for path in others)}"] if others else []


def _relative(path: Path, raw_dir: Path) -> str:
    return path.relative_to(raw_dir).as_posix()
