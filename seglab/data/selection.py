"""Which pairs of a published source take part, and in which split: by folders, by lists of names, or drawn.

Lists are text files: ``train_id.txt``, ``val_id.txt``, ``test_id.txt``, or the same without ``_id``.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.naming import SPLITS, assign_splits
from seglab.data.pairing import Pairing, pair, pictures_by_name
from seglab.data.problems import Problem
from seglab.data.sources import Item, Scan
from seglab.data.sources.folders import pairing_problems
from seglab.errors import DataError

__all__ = ["Selection", "SplitLists", "draw", "find_split_lists", "join", "pair_folders", "read_list", "select"]

ReadLabels = Callable[[Path, list[str]], NDArray[np.uint8]]
"""Reads the labels in a file; adds to the list what a person may want to know about them."""

IN_SEVERAL: Final = "name in several splits"
NOT_THERE: Final = "listed, but photo or labels are not there"

SUFFIXES: Final = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class SplitLists:
    """The lists of a source."""

    paths: Mapping[str, Path]
    """Split to file."""
    stems: Mapping[str, Sequence[str]]
    """Split to the names in it, each once."""


@dataclass(frozen=True)
class Selection:
    """The pairs that take part."""

    pairs: dict[str, tuple[Path, Path, str | None]] = field(default_factory=dict)
    """Name to photo, labels and split."""
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def to_scan(self, read: ReadLabels, *remarks: str) -> Scan:
        """Return all of it as a source's scan.

        Args:
            read: How labels are read.
            remarks: More to say; empty ones are not.
        """
        items = []
        for name, (photo_path, label_path, split) in self.pairs.items():
            notes: list[str] = []
            items.append(Item(name, photo_path, label_path, partial(read, label_path, notes), split, notes=notes))
        return Scan(items, self.problems, [*self.remarks, *filter(None, remarks)])


def pair_folders(photo_dir: Path, label_dir: Path, label_suffixes: Collection[str] | None = None) -> Pairing:
    """Pair the pictures of a folder with the files of another by path and stem.

    Args:
        photo_dir: The photos.
        label_dir: The labels; may be the same folder.
        label_suffixes: What labels end in, lower case with the dot; any picture by default. In one folder with the
            photos, files of these suffixes are no photos.
    """
    from seglab.data.images import IMAGE_SUFFIXES

    photo_suffixes = IMAGE_SUFFIXES - set(label_suffixes or ()) if photo_dir == label_dir else IMAGE_SUFFIXES
    photos, _ = pictures_by_name(photo_dir, photo_suffixes)
    labels, _ = pictures_by_name(label_dir, label_suffixes or IMAGE_SUFFIXES)
    return pair(photos, labels)


def find_split_lists(dirs: Iterable[Path]) -> SplitLists | None:
    """Read the lists in the first folder that has some.

    A line is a name, or paths of which the first counts (``/images/1.jpg /labels/1.png``).

    Raises:
        DataError: If a list is no text.
    """
    for dir in dirs:
        files = {split: [dir / f"{split}_id.txt", dir / f"{split}.txt"] for split in SPLITS}
        paths = {split: next(filter(Path.is_file, those), None) for split, those in files.items()}
        found = {split: path for split, path in paths.items() if path is not None}
        if found:
            return SplitLists(found, {split: read_list(path) for split, path in found.items()})
    return None


def read_list(path: Path) -> list[str]:
    """Return the names in a list, each once.

    Raises:
        DataError: If it is no text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        hint = "a list is UTF-8 text, a name a line; without it all pairs take part"
        raise DataError(f"cannot read the list `{path}`: {error}", hint) from error
    names = [PurePosixPath(line.split()[0]).name for line in lines if line.strip()]
    return list(dict.fromkeys(name.rpartition(".")[0] if name.lower().endswith(SUFFIXES) else name for name in names))


def select(pairing: Pairing, lists: SplitLists | None, raw_dir: Path, *, spare_photos: bool = False) -> Selection:
    """Take the pairs that the lists name, each with its split; all pairs, without a split, if there are no lists.

    Args:
        pairing: What was found in flat folders.
        lists: The lists, if there are any.
        raw_dir: What the paths of problems are relative to.
        spare_photos: Whether photos without labels are to be expected, as in a folder that serves other tasks too.
    """
    if lists is not None:
        return _listed(pairing, lists, raw_dir)
    spare = len(pairing.lone_photos) if spare_photos else 0
    lone_photos = [] if spare_photos else pairing.lone_photos
    return Selection(
        {name: (*paths, None) for name, paths in pairing.pairs.items()},
        pairing_problems(replace(pairing, lone_photos=lone_photos), raw_dir),
        [f"{spare} photos without labels are left out"] if spare else [],
    )


def _listed(pairing: Pairing, lists: SplitLists, raw_dir: Path) -> Selection:
    splits: dict[str, list[str]] = {}
    for split, stems in lists.stems.items():
        for stem in stems:
            splits.setdefault(stem, []).append(split)
    no_splits = all(len(those) == len(lists.stems) for those in splits.values())
    ambiguous = [several for several in pairing.ambiguous if several[0].stem in splits]
    selection = Selection({}, pairing_problems(Pairing({}, [], [], ambiguous), raw_dir))
    told = {several[0].stem for several in ambiguous}
    for stem, those in splits.items():
        list_path = lists.paths[those[0]].relative_to(raw_dir).as_posix()
        if len(those) > 1 and not no_splits:
            selection.problems.append(Problem(IN_SEVERAL, list_path, f"{stem}: {', '.join(those)}"))
        elif stem in pairing.pairs:
            selection.pairs[stem] = (*pairing.pairs[stem], None if no_splits else those[0])
        elif stem not in told:
            selection.problems.append(Problem(NOT_THERE, list_path, stem))
    names = ", ".join(path.name for path in lists.paths.values())
    kept = f"the source's own splits are kept: {', '.join(lists.stems)} ({names})"
    selection.remarks.append(f"{names}: no splits in it, all names are in each" if no_splits else kept)
    num_unlisted = len(pairing.pairs.keys() - splits.keys())
    if num_unlisted:
        selection.remarks.append(f"{num_unlisted} pairs are in no list and left out")
    return selection


def join(pairings: Mapping[str, Pairing], raw_dir: Path, list_paths: Mapping[str, Path] | None = None) -> Selection:
    """Join the pairs of every split's folder; a name in two splits is a problem, as it would leak.

    Args:
        pairings: The pairs of every split. If there is one split only, it counts as none.
        raw_dir: What the paths of problems are relative to.
        list_paths: Lists of what should be there.
    """
    joined = Selection()
    splits: dict[str, list[str]] = {}
    for split, pairing in pairings.items():
        joined.problems.extend(pairing_problems(pairing, raw_dir))
        for name in pairing.pairs:
            splits.setdefault(name, []).append(split)
    for name, those in splits.items():
        photo_path, label_path = pairings[those[0]].pairs[name]
        if len(those) > 1:
            path = photo_path.relative_to(raw_dir).as_posix()
            joined.problems.append(Problem(IN_SEVERAL, path, ", ".join(those)))
        else:
            joined.pairs[name] = (photo_path, label_path, those[0] if len(pairings) > 1 else None)
    for split, list_path in (list_paths or {}).items():
        missing = [name for name in read_list(list_path) if split not in splits.get(name, [])]
        joined.problems.extend(Problem(NOT_THERE, list_path.relative_to(raw_dir).as_posix(), name) for name in missing)
    kept = f"the source's own splits are kept: {', '.join(pairings)}"
    joined.remarks.append(
        kept if len(pairings) > 1 else f"`{next(iter(pairings))}` is the only split, which counts as none"
    )
    return joined


def draw(selection: Selection, source: str, target: str, share: float) -> Selection:
    """Move a share of one split, the smallest sha1, into another that the source does not have.

    Args:
        selection: The pairs; unchanged if they have the target, or have not the source.
        source: The split to draw from.
        target: The split to make.
        share: Share of the source split, 0..1.
    """
    present = {split for _, _, split in selection.pairs.values()}
    if source not in present or target in present or share <= 0:
        return selection
    names = [name for name, (_, _, split) in selection.pairs.items() if split == source]
    drawn = {name for name, split in assign_splits(names, 0, share).items() if split == "test"}
    pairs = {
        name: (photo_path, label_path, target if name in drawn else split)
        for name, (photo_path, label_path, split) in selection.pairs.items()
    }
    remark = f"{target} is drawn from {source}: {len(drawn)} of {len(names)}, those with the smallest sha1 of the name"
    return Selection(pairs, selection.problems, [*selection.remarks, remark])
