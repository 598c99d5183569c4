"""Photos and masks in one folder: ``a.jpg`` with ``a.png``, at any depth, perhaps in folders of splits."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from seglab.data.pairing import list_files

__all__ = ["MASK_SUFFIXES", "SPLIT_NAMES", "SideBySide", "find_side_by_side"]

MASK_SUFFIXES: Final = frozenset({".png"})
"""What masks beside their photos end in; the photos end in something else."""

SPLIT_NAMES: Final = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
"""What folders of splits are called, lower case."""


@dataclass(frozen=True)
class SideBySide:
    """Where the pairs lie."""

    dirs: dict[str, Path]
    """Folder of every split, in the order train, val, test; of all pairs, under an empty name, if there are none."""
    stems: Sequence[str]
    """The stem of every pair, in the order of the paths."""
    num_lone: int
    """Pictures that have no counterpart."""
    num_outside: int = 0
    """Pairs that lie in none of the folders."""

    @property
    def is_usual(self) -> bool:
        """Whether most pictures have a counterpart, so that the folder is likely meant so."""
        return len(self.stems) >= self.num_lone

    @property
    def remarks(self) -> list[str]:
        """What a person should know about the choice of folders."""
        left_out = (
            f"{self.num_outside} pairs outside of {', '.join(dir.name for dir in self.dirs.values())} are left out"
        )
        return [left_out] if self.num_outside else []

    def describe(self, raw_dir: Path) -> str:
        """Say where they lie, as the reason of a recognition."""
        names = [dir.relative_to(raw_dir).as_posix() for dir in self.dirs.values()]
        where = f" in {' and '.join(f'`{name}`' for name in names)}" if names != ["."] else ""
        stem = self.stems[0]
        return f"photos and PNGs of the same names lie side by side{where} (`{stem}`)"


def find_side_by_side(raw_dir: Path) -> SideBySide | None:
    """Look for photos that have a PNG of the same name beside them; None if there is no such pair.

    Folders below the one that all pairs share are splits if they are called so and make two splits or more.
    """
    from seglab.data.images import IMAGE_SUFFIXES

    found: dict[str, set[bool]] = {}
    for picture in list_files(raw_dir):
        suffix = picture.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            name = picture.relative_to(raw_dir).with_suffix("").as_posix()
            found.setdefault(name, set()).add(suffix in MASK_SUFFIXES)
    pairs = [PurePosixPath(name) for name, kinds in found.items() if len(kinds) == 2]
    if not pairs:
        return None
    shared = _shared_folder([path.parent for path in pairs])
    folders: dict[str, int] = {}
    for path in pairs:
        inside = path.relative_to(shared).parts
        folder = inside[0] if len(inside) > 1 else ""
        folders[folder] = folders.get(folder, 0) + 1
    splits = _split_folders(folders)
    dirs = {split: raw_dir / shared / folder for split, folder in splits.items()} or {"": raw_dir / shared}
    num_outside = sum(num for folder, num in folders.items() if folder not in splits.values()) if splits else 0
    return SideBySide(dirs, [path.name for path in pairs], len(found) - len(pairs), num_outside)


def _split_folders(folders: Collection[str]) -> dict[str, str]:
    """Return the folder of every split, if there are two splits or more, one folder each."""
    meant = [(split, folder) for folder in folders if (split := SPLIT_NAMES.get(folder.lower()))]
    order = list(dict.fromkeys(SPLIT_NAMES.values()))
    splits = dict(sorted(meant, key=lambda entry: order.index(entry[0])))
    return splits if len(splits) > 1 and len(splits) == len(meant) else {}


def _shared_folder(folders: Sequence[PurePosixPath]) -> PurePosixPath:
    shared = folders[0].parts
    for folder in set(folders):
        same = [ours == theirs for ours, theirs in zip(shared, folder.parts, strict=False)]
        shared = shared[: same.index(False) if False in same else len(same)]
    return PurePosixPath(*shared)
