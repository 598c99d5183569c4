"""What to tell about a folder whose layout is not known: what it holds, which layouts are nearest, what they lack."""

import difflib
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from seglab.data.pairing import is_content, list_files
from seglab.data.sources import SOURCES, Source, UnknownLayout, find_source

__all__ = ["Near", "diagnose"]

MAX_NEAR: Final = 3
MAX_KINDS: Final = 5
"""Kinds of files that are counted one by one, and folders that are named."""

MAX_FOLDERS: Final = 40
"""Folders inside that are tried."""

MAX_FILES: Final = 200_000
"""Files that are counted."""

PHOTOS: Final = frozenset({".jpg", ".jpeg", ".webp", ".heic", ".txt", ".md"})
"""Suffixes of a folder that cannot hold masks."""

SIMILAR: Final = 0.65
"""Likeness of names (of :mod:`difflib`) from which one may be meant for the other."""


@dataclass(frozen=True)
class Near:
    """A layout that the folder has something of."""

    name: str
    has: tuple[str, ...]
    """What is there of all that the layout needs."""
    lacks: tuple[str, ...]
    """What is not there, with what may be meant for it."""


def diagnose(raw_dir: Path) -> UnknownLayout:
    """Return the error that says all that helps with a folder that no source knows."""
    near = sorted(_near_layouts(raw_dir), key=lambda found: -found[0])[:MAX_NEAR]
    kinds = Counter(path.suffix.lower() or "without suffix" for path in islice(list_files(raw_dir), MAX_FILES))
    inside = list(_inside(raw_dir))
    if inside:
        others = f"; {len(inside) - 1} more of its folders have a layout" if inside[1:] else ""
        hint = f"`{inside[0][1]}` is in it: `seglab prepare {shlex.quote(str(inside[0][0]))} OUT`{others}"
    elif not kinds:
        hint = "pass the folder that holds photos and masks; `seglab fetch` lists what can be downloaded"
    elif kinds.keys() <= PHOTOS:
        hint = "masks are missing, such as PNGs in `masks/` beside `images/`; `seglab predict` needs none"
    else:
        command = f"`seglab prepare {shlex.quote(str(raw_dir))} OUT --source NAME`"
        always = "photos in images/ and masks of the same names in masks/ are always understood"
        hint = f"{command} names the layout, `seglab prepare --sources` lists all; {always}"
    message = f"`{raw_dir}` has no layout that seglab knows; it holds {_content(raw_dir, kinds)}"
    return UnknownLayout(message, hint, tuple(layout for _, layout in near))


def _content(raw_dir: Path, kinds: Counter[str]) -> str:
    """Count the files by their suffixes, and name the folders."""
    parts = [f"{num} {kind}" for kind, num in kinds.most_common(MAX_KINDS)]
    num_more = kinds.total() - sum(num for _, num in kinds.most_common(MAX_KINDS))
    if num_more:
        parts.append(f"{num_more} other files")
    if kinds.total() == MAX_FILES:
        parts.append("and more")
    folders = [path.name for path in sorted(raw_dir.iterdir()) if path.is_dir() and is_content(path.name)]
    named = f" in folders {_some(folders)}" if folders else ""
    return (", ".join(parts) or "no files") + named


def _some(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names[:MAX_KINDS]) + (" ..." if names[MAX_KINDS:] else "")


def _near_layouts(raw_dir: Path) -> Iterator[tuple[float, Near]]:
    """Yield the nearest form of every layout that has any, and how near it is, 0..1."""
    for name in SOURCES:
        source = find_source(name)
        forms = [_form(raw_dir / root, source.NAME, signs) for root in _roots(source) for signs in source.SIGNS]
        best = max(forms, key=lambda form: form[0])
        if best[0] > 0:
            yield best


def _roots(source: Source) -> Sequence[str]:
    roots: Sequence[str] = getattr(source, "ROOTS", (".",))
    return roots


def _form(root: Path, name: str, signs: Sequence[str]) -> tuple[float, Near]:
    has, lacks, score = [], [], 0.0
    for sign in signs:
        meant = _meant(root, sign)
        if root.is_dir() and any(root.glob(sign)):
            has.append(sign)
            score += 1
        elif meant:
            lacks.append(f"{sign} (is `{meant}` meant?)")
            score += 0.6
        else:
            lacks.append(sign)
    return score / len(signs), Near(name, tuple(has), tuple(lacks))


def _meant(root: Path, sign: str) -> str | None:
    """Return the folder whose name is nearly the one that is needed."""
    above = root / sign.rpartition("/")[0]
    wanted = sign.rpartition("/")[2].casefold()
    if "*" in wanted or not above.is_dir():
        return None
    names = {path.name.casefold(): path.name for path in above.iterdir() if is_content(path.name)}
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=SIMILAR)
    return names[near[0]] if near else None


def _inside(raw_dir: Path) -> Iterator[tuple[Path, str]]:
    """Yield the folders inside that have a layout."""
    folders = (path for pattern in ("*/", "*/*/") for path in sorted(raw_dir.glob(pattern)) if is_content(path.name))
    for dir in islice(folders, MAX_FOLDERS):
        for name in SOURCES:
            if find_source(name).recognise(dir):
                yield dir, name
                break
