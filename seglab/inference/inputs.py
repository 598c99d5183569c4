"""Finding photos: files, folders, patterns and lists, with everything odd in them reported and nothing hung on."""

import difflib
import glob
import os
import stat
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from seglab.data.naming import SPLITS
from seglab.data.pairing import is_hidden_picture
from seglab.errors import DataError, UsageError
from seglab.notation import read_given

__all__ = ["CUTOUT_MARK", "LEDGER_NAME", "STANDARD", "Failure", "Source", "find_sources", "only_files"]

LEDGER_NAME: Final = ".seglab-done.jsonl"
"""Marks an output folder, which is never searched for photos, and lists the work that is finished in it."""
CUTOUT_MARK: Final = ".cutout"
"""Ends the name, but for the suffix, of a cutout that lies beside its photo; such files are no photos."""
STANDARD: Final = Path("-")
"""Stands for standard input and output."""
_STDIN_PLACE: Final = Path("stdin")
"""What outputs of the photo on standard input are called."""


@dataclass(frozen=True)
class Source:
    """A photo to work on."""

    path: Path
    """Where it is."""
    place: Path
    """Where it belongs in a tree of outputs: relative, with the photo's own suffix."""
    data: bytes | None = None
    """Its content, where it is no file."""


@dataclass(frozen=True)
class Failure:
    """An input that came to nothing, and why."""

    path: Path
    reason: str
    """One line, lower case, no full stop."""
    lacks_extra: bool = False
    """Whether an extra of seglab would have helped that is not installed."""


def find_sources(
    arguments: Sequence[str | Path],
    *,
    exclude_dir: Path | None = None,
    allow_empty: bool = False,
    passed_over: list[Path] | None = None,
    hidden: list[Path] | None = None,
) -> list[Source | Failure]:
    """Find the photos that arguments name, in order, each once.

    A string may be a file, a folder, a pattern (``photos/**/*.jpg``), ``@LIST`` (a text file with a path a line) or
    ``-`` (one photo on standard input); what exists under its literal name is never a pattern or a list. A Path is
    always literal. Named files are taken
    whatever they are called. Folders are searched recursively for names with a picture's suffix; hidden files,
    ``__MACOSX``, cutouts beside their photos, other output folders, and all but the photos of prepared datasets are
    passed over, and links to folders are followed once.

    A photo's place in the tree of outputs is its path inside the folder that was named, or below the fixed part of a
    pattern; a named file has its name; a line of a list keeps its folders if it is relative and has no ``..``.

    Args:
        arguments: What the user wrote.
        exclude_dir: The output folder, which is not searched.
        allow_empty: Whether it is fine if nothing at all is found.
        passed_over: Takes the folders of outputs of other runs that were passed over.
        hidden: Takes the photos that were left out because their names begin with a dot; a system's are not told.

    Raises:
        DataError: If an argument names nothing, or nothing at all is found.
        UsageError: If there are no arguments, or one is an address.
    """
    if not arguments:
        raise UsageError("no photos are named", "name files, folders, patterns in quotes, or `@LIST`")
    search = _Search(exclude_dir, allow_empty)
    unique: dict[Path, Source | Failure] = {}
    for argument in arguments:
        for found in search.argument(argument):
            in_memory = isinstance(found, Source) and found.data is not None
            unique.setdefault(STANDARD if in_memory else _absolute(found.path), found)
    if not unique and not allow_empty:
        names = ", ".join(f"`{argument}`" for argument in arguments)
        raise DataError(f"no images in {names}", search.why_empty())
    if passed_over is not None:
        passed_over += search.passed_over
    if hidden is not None:
        hidden += search.hidden
    return list(unique.values())


def only_files(arguments: Sequence[str | Path]) -> bool:
    """Tell whether every argument is the name of one existing file (no folder, pattern, list or standard input)."""
    return all(argument != "-" and Path(argument).is_file() for argument in arguments)


class _Search:
    """One search for photos, and what was met on the way."""

    def __init__(self, exclude_dir: Path | None, allow_empty: bool) -> None:
        from seglab.data.images import IMAGE_SUFFIXES

        self.suffixes = IMAGE_SUFFIXES
        self.passed_over: list[Path] = []
        self.hidden: list[Path] = []
        self._allow_empty = allow_empty
        self._stdin = b""
        self.excluded = _identity(exclude_dir) if exclude_dir is not None and exclude_dir.is_dir() else None

    def why_empty(self) -> str:
        """Say what may be the matter where nothing was found."""
        if self.passed_over:
            return f"`{self.passed_over[0]}` holds outputs of seglab and was passed over; it is searched if it is named"
        if self.hidden:
            return f"`{self.hidden[0]}` was left out, as its name begins with a dot; it is taken if it is named"
        return f"photos end in {' '.join(sorted(self.suffixes))}; `--allow-empty` takes none for done"

    def argument(self, argument: str | Path) -> Iterator[Source | Failure]:
        """Yield what one argument names: standard input, a path, ``@LIST`` or a pattern, in this order."""
        path = Path(argument)
        if argument == "-":  # a string; a Path is a file
            self._stdin = self._stdin or _read_stdin()
            yield Source(STANDARD, _STDIN_PLACE, self._stdin)
        elif os.path.lexists(path):
            yield from self.path(path, Path(path.name))
        elif isinstance(argument, str) and argument.startswith("@"):
            yield from self.listed(Path(argument[1:]))
        elif isinstance(argument, str) and glob.has_magic(argument) and "://" not in argument:
            yield from self.pattern(argument)
        elif isinstance(argument, str) and "://" in argument:
            raise UsageError(f"`{argument}` is an address, and photos are read from this disk", "download it first")
        else:
            raise _missing(path)

    def path(self, path: Path, place: Path) -> Iterator[Source | Failure]:
        """Yield one file, or what a folder holds; ``place`` is used for a file."""
        if path.is_dir():
            yield from self.folder(path, Path())
            return
        reason = _unusable(path)
        yield Failure(path, reason) if reason else Source(path, place)

    def listed(self, list_path: Path) -> Iterator[Source | Failure]:
        """Yield what a text file names, a path a line; a line that names nothing is a failure, not an error."""
        try:
            text = os.fsdecode(read_given(list_path).removeprefix(b"\xef\xbb\xbf"))
        except FileNotFoundError:
            raise DataError(f"the list `@{list_path}` does not exist", _nearest_hint(list_path, "@")) from None
        except OSError as error:
            raise DataError(f"cannot read the list `@{list_path}`: {(error.strerror or str(error)).lower()}") from error
        for line in filter(None, (line.removesuffix("\r") for line in text.split("\n"))):
            path = Path(line)
            if os.path.lexists(path):
                keeps = not path.is_absolute() and ".." not in path.parts
                yield from self.path(path, path if keeps else Path(path.name))
            else:
                yield Failure(path, "does not exist")

    def pattern(self, pattern: str) -> Iterator[Source | Failure]:
        """Yield the files that match; a folder that matches is searched unless the pattern is recursive itself."""
        base = _fixed_part(pattern)
        matches = sorted(Path(match) for match in glob.iglob(pattern, recursive=True))  # noqa: PTH207 - `Path.glob` finds hidden files
        if not matches and not self._allow_empty:
            raise DataError(f"nothing matches the pattern `{pattern}`", _nearest_hint(base))
        for path in matches:
            place = Path(os.path.relpath(path, base))
            if not path.is_dir():
                yield from self.path(path, place)
            elif "**" not in pattern:
                yield from self.folder(path, place)

    def folder(self, root: Path, place: Path) -> Iterator[Source | Failure]:
        """Yield the photos below a folder, sorted by place; real folders come before links to them."""
        found: list[tuple[Path, Source | Failure]] = []
        seen: set[tuple[int, int]] = set()
        folders = deque([(root, place)])
        links: deque[tuple[Path, Path]] = deque()
        while folders or links:
            path, inner = folders.popleft() if folders else links.popleft()
            try:
                identity = _identity(path)
                if identity in seen or (path != root and self._passed_over(path, identity)):
                    continue
                no_photos = _no_photos(path)
                entries = [entry for entry in os.scandir(path) if entry.name not in no_photos]
            except OSError as error:
                found.append((inner, Failure(path, _os_reason(error))))
                continue
            seen.add(identity)
            for entry in sorted(entries, key=lambda entry: entry.name):
                self._sort_in(entry, path / entry.name, inner / entry.name, folders, links, found)
        yield from (item for _, item in sorted(found, key=lambda pair: pair[0].parts))

    def _sort_in(
        self,
        entry: "os.DirEntry[str]",
        path: Path,
        place: Path,
        folders: deque[tuple[Path, Path]],
        links: deque[tuple[Path, Path]],
        found: list[tuple[Path, Source | Failure]],
    ) -> None:
        """Put an entry of a folder where it belongs: more to search, a photo, a failure, or nothing."""
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            if is_hidden_picture(path, self.suffixes) and not _is_dir(entry):
                self.hidden.append(path)
            return
        if _is_dir(entry):
            (links if entry.is_symlink() else folders).append((path, place))
        elif path.suffix.lower() in self.suffixes and not path.stem.lower().endswith(CUTOUT_MARK):
            reason = _unusable(path)
            found.append((place, Failure(path, reason) if reason else Source(path, place)))

    def _passed_over(self, path: Path, identity: tuple[int, int]) -> bool:
        if identity == self.excluded:
            return True
        if not (path / LEDGER_NAME).exists():
            return False
        self.passed_over.append(path)
        return True


def _no_photos(folder: Path) -> frozenset[str]:
    """Return what is no photo, or has none, in a folder of a prepared dataset: its preview, the labels of a split."""
    if _is_prepared(folder):
        return frozenset({"preview.jpg"})
    whole = folder.resolve()  # a link to a split is one
    if whole.name in SPLITS and _is_prepared(whole.parent):
        return frozenset({"labels", "people"})
    return frozenset()


def _is_prepared(folder: Path) -> bool:
    return (folder / "dataset.json").is_file() and (folder / "samples.jsonl").is_file()


def _read_stdin() -> bytes:
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None or sys.stdin.closed:
        raise DataError("standard input is closed", "`cat PHOTO | seglab ... -` pipes a photo in")
    if sys.stdin.isatty():
        raise UsageError("no photo is piped in", "`cat PHOTO | seglab ... -`; `./-` is the file called `-`")
    data: bytes = stream.read()
    if not data:
        raise DataError("no data on standard input", "the command before the pipe wrote nothing")
    return data


def _unusable(path: Path) -> str:
    """Return why an existing name is no file to read, or nothing; opens nothing, so a FIFO cannot hang it."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "broken link"
    except OSError as error:
        return _os_reason(error)
    if not stat.S_ISREG(mode):
        return "not a regular file"
    return "" if os.access(path, os.R_OK) else "permission denied"


def _os_reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _is_dir(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def _fixed_part(pattern: str) -> Path:
    """Return the folder above the first wildcard of a pattern."""
    fixed = Path()
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


def _missing(path: Path) -> DataError:
    return DataError(f"`{path}` does not exist", _nearest_hint(path))


def _nearest_hint(path: Path, mark: str = "") -> str:
    """Suggest the existing name nearest to the first part of a path that does not exist, with a mark before it."""
    for folder, part in _steps(path):
        if (folder / part).exists():
            continue
        try:
            names = [entry.name for entry in folder.iterdir()]
        except OSError:
            return ""
        near = _nearest(part, names)
        return f"did you mean `{mark}{folder / near}`?" if near else f"`{folder}` has no such entry"
    return ""


def _steps(path: Path) -> Iterator[tuple[Path, str]]:
    parts = path.parts
    folder = Path(parts[0]) if path.is_absolute() else Path()
    for part in parts[1:] if path.is_absolute() else parts:
        yield folder, part
        folder /= part


def _nearest(name: str, names: Iterable[str]) -> str | None:
    folded = {candidate.casefold(): candidate for candidate in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return folded[near[0]] if near else None
