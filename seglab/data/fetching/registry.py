"""The registry of datasets and checkpoints: a table in ``data/registry.toml``, and rows of a user's own."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from seglab.errors import DataError, UsageError, unknown

__all__ = ["Registry", "Row", "Source", "find_row", "load_registry"]

Commercial = Literal["yes", "no", "unclear"]

WAYS: Final = ("url", "drive", "drive-folder", "kaggle-dataset", "kaggle-competition", "page")
"""How a source is reached; ``page`` is for people, the others seglab downloads."""

Registry = Mapping[str, "Row"]


@dataclass(frozen=True)
class Source:
    """One place that a row can be had from."""

    way: str
    """One of :data:`WAYS`."""
    ref: str
    """URL, Drive id, or Kaggle ``owner/name``."""
    file: str = ""
    """Name of the file, where it is known or needed to find it."""
    sha256: str = ""
    md5: str = ""
    bytes: int | None = None
    """Exact length, where known."""
    key: str = ""
    """Resource key of an old Drive link."""
    dead: str = ""
    """Since when nothing is there any more, and who says so; such a source is not tried."""
    note: str = ""

    @property
    def url(self) -> str:
        """The address that a person opens in a browser."""
        match self.way:
            case "drive":
                return f"https://drive.google.com/file/d/{self.ref}/view"
            case "drive-folder":
                key = f"?resourcekey={self.key}" if self.key else ""
                return f"https://drive.google.com/drive/folders/{self.ref}{key}"
            case "kaggle-dataset":
                return f"https://www.kaggle.com/datasets/{self.ref}"
            case "kaggle-competition":
                return f"https://www.kaggle.com/competitions/{self.ref}"
        return self.ref

    @property
    def place(self) -> str:
        """Where it lies, in a word or two."""
        if self.way in ("url", "page"):
            return (urlsplit(self.ref).hostname or self.ref).removeprefix("www.")
        return {"drive": "Drive", "drive-folder": "Drive"}.get(self.way, "Kaggle")

    @property
    def login(self) -> str:
        """What one has to have before the download: nothing, an account, or an account that accepted rules."""
        return {"kaggle-dataset": "Kaggle", "kaggle-competition": "Kaggle + rules"}.get(self.way, "")


@dataclass(frozen=True)
class Row:
    """One dataset or checkpoint."""

    name: str
    kind: Literal["dataset", "checkpoint", "encoder"]
    title: str
    sources: tuple[Source, ...]
    origin: str = ""
    task: str = ""
    bytes: int = 0
    """Roughly what is downloaded; 0 if nobody knows."""
    unpacked_bytes: int = 0
    licence: str = "none stated"
    commercial: Commercial = "unclear"
    terms: str = ""
    next: tuple[str, ...] = ()
    """Commands to run next; ``{path}`` stands for the data or the file."""
    note: str = ""
    unpack: bool = False
    """Whether what arrives is an archive to be unpacked."""

    @property
    def tried(self) -> tuple[Source, ...]:
        """The sources that a download tries, in order."""
        return tuple(source for source in self.sources if source.way != "page" and not source.dead)

    @property
    def login(self) -> str:
        """What every way to this row needs, or nothing if one needs nothing."""
        return min((source.login for source in self.tried), key=len, default="")

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain JSON values."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["next"] = list(self.next)
        values["login"] = self.login
        values["bytes"], values["unpacked_bytes"] = self.bytes or None, self.unpacked_bytes or None
        values["sources"] = [_source_dict(source) for source in self.sources]
        return values


def load_registry(own_path: Path | None = None) -> Registry:
    """Return all rows by name, those of a user's own file last; a row of the same name replaces the built-in one.

    Raises:
        DataError: If a file cannot be read or has a wrong row; all that is wrong is listed.
    """
    rows = _rows((files("seglab.data") / "registry.toml").read_text(encoding="utf-8"), "registry.toml")
    if own_path is not None:
        try:
            text = own_path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read registry `{own_path}`: {error}") from error
        rows |= _rows(text, str(own_path))
    return rows


def find_row(rows: Registry, name: str) -> Row:
    """Return a row by name.

    Raises:
        UsageError: If there is none; the nearest names are in the hint.
    """
    if name not in rows:
        raise unknown("dataset or checkpoint", name, rows, "`seglab fetch` lists what there is")
    return rows[name]


def _rows(text: str, where: str) -> dict[str, Row]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"registry `{where}` is not TOML: {error}") from error
    rows, problems = {}, []
    for name, values in tables.items():
        try:
            rows[name] = _row(name, values)
        except (TypeError, ValueError, UsageError) as error:
            problems.append(f"`{name}`: {error}")
    if problems:
        known = ", ".join(item.name for item in fields(Row) if item.name != "name")
        raise DataError(f"registry `{where}` has wrong rows: " + "; ".join(problems), f"fields of a row: {known}")
    return rows


def _row(name: str, values: Any) -> Row:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise ValueError("a name is lower-case letters, digits, `-`, `_` and `.`")
    if not isinstance(values, dict):
        raise TypeError("a row is a table")
    given = dict(values)
    kind = _one_of("kind", given.pop("kind", None), ("dataset", "checkpoint", "encoder"))
    sources = tuple(_source(source) for source in _list("sources", given.pop("sources", None)))
    following = tuple(_checked("next", text, str) for text in _list("next", given.pop("next", [])))
    given.setdefault("unpack", kind == "dataset")
    _one_of("commercial", given.get("commercial", "unclear"), ("yes", "no", "unclear"))
    checked = _checked_fields(Row, given)
    if "title" not in checked:
        raise ValueError("`title` is missing")
    return Row(name=name, kind=kind, sources=sources, next=following, **checked)  # type: ignore[arg-type]


def _source(values: Any) -> Source:
    if not isinstance(values, dict):
        raise TypeError("a source is a table such as { url = ... }")
    ways = [way for way in WAYS if way in values]
    if len(ways) != 1:
        raise ValueError("a source has exactly one of " + ", ".join(WAYS))
    given = dict(values)
    way, ref = ways[0], _checked(ways[0], given.pop(ways[0]), str)
    source = Source(way=way, ref=ref, **_checked_fields(Source, given))
    if way in ("url", "page") and urlsplit(ref).scheme not in ("http", "https"):
        raise ValueError(f"`{ref}` is not an http or https address")
    if way in ("drive", "drive-folder") and not re.fullmatch(r"[\w-]{10,}", ref):
        raise ValueError(f"`{ref}` is not a Drive id")
    if way.startswith("kaggle") and not re.fullmatch(r"[\w-]+(/[\w-]+)?", ref):
        raise ValueError(f"`{ref}` is not a Kaggle name")
    if source.file != Path(source.file).name or source.file.startswith("."):
        raise ValueError(f"`{source.file}` is not a plain file name")
    for name, length in (("sha256", 64), ("md5", 32)):
        if getattr(source, name) and not re.fullmatch(f"[0-9a-f]{{{length}}}", getattr(source, name)):
            raise ValueError(f"`{name}` is {length} lower-case hexadecimal digits")
    return source


def _checked_fields(of: type[Row] | type[Source], given: Mapping[str, Any]) -> dict[str, Any]:
    kinds: dict[str, type] = {"bytes": int, "unpacked_bytes": int, "unpack": bool}
    known = {item.name for item in fields(of)} - {"name", "way", "ref", "kind", "sources", "next"}
    extra = sorted(set(given) - known)
    if extra:
        raise ValueError("unknown field " + ", ".join(f"`{name}`" for name in extra))
    return {name: _checked(name, value, kinds.get(name, str)) for name, value in given.items()}


def _checked(name: str, value: Any, kind: type) -> Any:
    if type(value) is not kind or (isinstance(value, int) and value < 0):
        raise TypeError(
            f"`{name}` is {'text' if kind is str else 'a whole number' if kind is int else 'true or false'}"
        )
    return value


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or (name == "sources" and not value):
        raise TypeError(f"`{name}` is a list{' with at least one entry' if name == 'sources' else ''}")
    return value


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"`{name}` is one of {', '.join(known)}")
    return str(value)


def _source_dict(source: Source) -> dict[str, Any]:
    values = {item.name: getattr(source, item.name) for item in fields(source)}
    return {name: value for name, value in values.items() if value} | {"url": source.url, "login": source.login}
