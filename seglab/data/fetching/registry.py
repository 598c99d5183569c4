"""The registry of datasets and checkpoints: a table in ``data/registry.toml``, and rows of a user's own."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from seglab.data.fetching.addresses import without_secrets
from seglab.errors import DataError, unknown
from seglab.notation import parse_toml, read_given

__all__ = ["Registry", "Row", "Source", "find_row", "load_registry"]

Commercial = Literal["yes", "no", "unclear"]

WAYS: Final = ("url", "drive", "drive-folder", "kaggle-dataset", "kaggle-competition", "page")
"""How a source is reached; ``page`` is for people, the others seglab downloads."""

Registry = Mapping[str, "Row"]

_SHOWN: Final = "`seglab fetch --help` shows a whole row"
_KINDS: Final[dict[str, type]] = {"bytes": int, "unpacked_bytes": int, "unpack": bool}
_KIND_WORDS: Final = {str: "text in quotes", int: "a whole number", bool: "true or false"}


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
        """The address that a person opens in a browser; secrets in it are hidden."""
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
        return without_secrets(self.ref)

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

    @property
    def unlocks(self) -> tuple[str, ...]:
        """What one can do with it here: ``prepare face``, ``predict clothes``, ``cutout person``."""
        verbs = (command.split()[1] for command in self.next if command.startswith("seglab ") and command[7:].strip())
        return tuple(dict.fromkeys(f"{verb} {self.task}".strip() for verb in verbs))

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain JSON values."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["next"] = list(self.next)
        values["login"], values["unlocks"] = self.login, list(self.unlocks)
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
        rows |= _rows(_read(own_path), str(own_path))
    return rows


def find_row(rows: Registry, name: str) -> Row:
    """Return a row by name.

    Raises:
        UsageError: If there is none; the nearest names are in the hint.
    """
    if name not in rows:
        raise unknown("dataset or checkpoint", name, rows, "`seglab fetch` lists what there is")
    return rows[name]


def _read(path: Path) -> str:
    try:
        return read_given(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"registry `{path}` is not UTF-8 text", _SHOWN) from None
    except OSError as error:
        raise DataError(f"cannot read registry `{path}`: {error.strerror or error}", _SHOWN) from error


def _rows(text: str, where: str) -> dict[str, Row]:
    try:
        tables = parse_toml(text)
    except ValueError as error:
        raise DataError(f"registry `{where}` is not TOML: {error}", _SHOWN) from error
    rows, problems = {}, []
    for name, values in tables.items():
        try:
            rows[name] = _row(name, values)
        except _Wrong as wrong:
            problems.append(f"row `{name}`: {wrong}")
    if problems:
        row_names, source_names = ", ".join(_names(Row)), ", ".join((*WAYS, *_names(Source)))
        raise DataError(
            f"registry `{where}`, " + "; ".join(problems),
            f"{_SHOWN}; fields of a row: {row_names}; of a source: {source_names}",
        )
    return rows


class _Wrong(Exception):
    """Says which field of a row is wrong, and why."""


def _names(of: type[Row] | type[Source]) -> list[str]:
    return [item.name for item in fields(of) if item.name not in ("name", "way", "ref")]


def _row(name: str, values: Any) -> Row:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise _Wrong("a name is made of lower-case letters, digits, `-`, `_` and `.`")
    if not isinstance(values, dict):
        raise _Wrong(f"a row is a table, `[{name}]` and its fields below")
    given = dict(values)
    _check_known(Row, given)
    kind = _one_of("kind", given.pop("kind", None), ("dataset", "checkpoint", "encoder"))
    _one_of("commercial", given.get("commercial", "unclear"), ("yes", "no", "unclear"))
    given.setdefault("unpack", kind == "dataset")
    listed = _list("sources", given.pop("sources", None))
    following = tuple(_checked("next", text, str) for text in _list("next", given.pop("next", [])))
    checked = {field: _checked(field, value, _KINDS.get(field, str)) for field, value in given.items()}
    if not checked.get("title"):
        raise _Wrong("`title` is missing")
    sources = tuple(_numbered(number, source, checked["unpack"]) for number, source in enumerate(listed, start=1))
    return Row(name=name, kind=kind, sources=sources, next=following, **checked)  # type: ignore[arg-type]


def _numbered(number: int, values: Any, unpack: bool) -> Source:
    try:
        return _source(values, unpack)
    except _Wrong as wrong:
        raise _Wrong(f"`sources`, number {number}: {wrong}") from None


def _source(values: Any, unpack: bool) -> Source:
    if not isinstance(values, dict):
        raise _Wrong('a source is a table such as { url = "https://..." }')
    ways = [way for way in WAYS if way in values]
    if len(ways) != 1:
        what = " and ".join(f"`{way}`" for way in ways) or "none"
        raise _Wrong(f"it has {what} of the fields that say where it is; exactly one of {', '.join(WAYS)} is needed")
    way = ways[0]
    given = {field: value for field, value in values.items() if field != way}
    _check_known(Source, given)
    checked = {field: _checked(field, value, _KINDS.get(field, str)) for field, value in given.items()}
    source = Source(way=way, ref=_checked(way, values[way], str), **checked)
    _check_ref(way, source.ref)
    if way.startswith("kaggle") and not unpack:
        raise _Wrong(f"`{way}`: Kaggle sends archives, so that the row needs `unpack = true`")
    if source.file != Path(source.file).name or source.file.startswith("."):
        raise _Wrong(f"`file` is a plain file name, not `{source.file}`")
    for field, length in (("sha256", 64), ("md5", 32)):
        if getattr(source, field) and not re.fullmatch(f"[0-9a-f]{{{length}}}", getattr(source, field)):
            raise _Wrong(f"`{field}` is {length} lower-case hexadecimal digits, not `{getattr(source, field)}`")
    return source


def _check_ref(way: str, ref: str) -> None:
    try:
        parts = urlsplit(ref)
    except ValueError:
        parts = urlsplit("")
    if "@" in parts.netloc:
        raise _Wrong(f"`{way}` holds a login before its `@`, which would be written down with the data")
    if way in ("url", "page") and not (parts.scheme in ("http", "https") and parts.hostname):
        raise _Wrong(f"`{way}` is an http or https address, not `{without_secrets(ref)}`")
    if way in ("drive", "drive-folder") and not re.fullmatch(r"[\w-]{10,}", ref):
        raise _Wrong(f"`{way}` is a Drive id, the long word in the middle of its address, not `{ref}`")
    if way == "kaggle-dataset" and not re.fullmatch(r"[\w-]+/[\w-]+", ref):
        raise _Wrong(f"`{way}` is a Kaggle name such as `owner/name`, not `{ref}`")
    if way == "kaggle-competition" and not re.fullmatch(r"[\w-]+", ref):
        raise _Wrong(f"`{way}` is a Kaggle name, the last word of its address, not `{ref}`")


def _check_known(of: type[Row] | type[Source], given: Mapping[str, Any]) -> None:
    known = _names(of)
    for field in given:
        if field not in known:
            near = difflib.get_close_matches(field, known, n=1)
            raise _Wrong(f"unknown field `{field}`" + "".join(f"; did you mean `{name}`?" for name in near))


def _checked(name: str, value: Any, kind: type) -> Any:
    if type(value) is not kind or (isinstance(value, int) and value < 0):
        raise _Wrong(f"`{name}` is {_KIND_WORDS[kind]}, not `{value}`")
    return value


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or (name == "sources" and not value):
        raise _Wrong(f"`{name}` is a list{' with at least one entry' if name == 'sources' else ''}")
    return value


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        what = "and is missing" if value is None else f"not `{value}`"
        raise _Wrong(f"`{name}` is one of {', '.join(known)}, {what}")
    return str(value)


def _source_dict(source: Source) -> dict[str, Any]:
    values = {item.name: getattr(source, item.name) for item in fields(source)}
    told = {"ref": without_secrets(source.ref), "url": source.url, "login": source.login}
    return {name: value for name, value in values.items() if value} | told
