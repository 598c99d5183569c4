"""Which photo belongs to which mask: by path and stem, never by position."""

import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Pairing", "hidden_pictures", "is_content", "is_hidden_picture", "list_files", "pair", "pictures_by_name"]

JUNK_NAMES: Final = frozenset({"__macosx", "thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Pairing:
    """The outcome of :func:`pair`; everything is sorted by name."""

    pairs: Mapping[str, tuple[Path, Path]]
    """Name to photo and mask."""
    lone_photos: list[Path]
    lone_masks: list[Path]
    ambiguous: list[list[Path]]
    """Files on one side that share a name, such as ``a.jpg`` and ``a.png``; they are in none of the others."""


def list_files(dir: Path) -> Iterator[Path]:
    """Yield the files below a folder in the order of their paths.

    Left out is what systems leave behind: names that begin with a dot (``.DS_Store``, AppleDouble ``._x``),
    ``__MACOSX``, ``Thumbs.db``, ``desktop.ini``. Links to folders are followed, loops are not.
    """
    return (path for path in _walk(dir) if is_content(path.name))


def hidden_pictures(dir: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """Yield the pictures below a folder that :func:`list_files` leaves out, though somebody may have meant them.

    Those in folders that are left out as a whole (``.thumbnails``, ``.git``) are not looked for.

    Args:
        dir: The folder.
        suffixes: What pictures end in, lower case with the dot.
    """
    return (path for path in _walk(dir) if is_hidden_picture(path, suffixes))


def _walk(dir: Path) -> Iterator[Path]:
    entered: set[str] = set()
    for folder, folder_names, file_names in os.walk(dir, followlinks=True):
        real = os.path.realpath(folder)
        folder_names[:] = [] if real in entered else sorted(filter(is_content, folder_names))
        if real not in entered:
            yield from (Path(folder, name) for name in sorted(file_names))
        entered.add(real)


def pictures_by_name(dir: Path, suffixes: Collection[str]) -> tuple[dict[str, list[Path]], int]:
    """Group the pictures below a folder by their path without suffix.

    Args:
        dir: The folder.
        suffixes: What pictures end in, lower case with the dot.

    Returns:
        Name (relative to ``dir``, forward slashes, NFC) to paths, and the number of files that are no pictures.
    """
    found: dict[str, list[Path]] = {}
    num_others = 0
    for path in list_files(dir):
        if path.suffix.lower() in suffixes:
            name = path.relative_to(dir).with_suffix("").as_posix()
            found.setdefault(unicodedata.normalize("NFC", name), []).append(path)
        else:
            num_others += 1
    return found, num_others


def pair(photos: Mapping[str, list[Path]], masks: Mapping[str, list[Path]]) -> Pairing:
    """Match photos and masks of the same name.

    A name that several photos or several masks have is ambiguous as a whole: guessing would train on wrong labels.
    """
    pairs: dict[str, tuple[Path, Path]] = {}
    lone_photos, lone_masks, ambiguous = [], [], []
    for name in sorted({*photos, *masks}):
        of_photos, of_masks = photos.get(name, []), masks.get(name, [])
        if len(of_photos) > 1 or len(of_masks) > 1:
            ambiguous += [several for several in (of_photos, of_masks) if len(several) > 1]
        elif of_photos and of_masks:
            pairs[name] = (of_photos[0], of_masks[0])
        else:
            lone_photos += of_photos
            lone_masks += of_masks
    return Pairing(pairs, lone_photos, lone_masks, ambiguous)


def is_content(name: str) -> bool:
    """Tell whether a file or folder of this name is somebody's, not left behind by a system."""
    return not name.startswith(".") and name.lower() not in JUNK_NAMES


def is_hidden_picture(path: Path, suffixes: Collection[str]) -> bool:
    """Tell whether a file is a picture by its suffix and hidden by its name, and not a system's (``._x.jpg``)."""
    return path.name.startswith(".") and not path.name.startswith("._") and path.suffix.lower() in suffixes
