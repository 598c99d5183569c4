"""Inputs that are nearly right: a sound file with a few changes of the kind that its parser has to notice.

Every grammar is a function of sound bytes and a source of chance; the same chance makes the same change. Hypothesis and
atheris share them.
"""

import io
import json
import tomllib
import warnings
import zipfile
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

__all__ = ["GRAMMARS", "bytewise", "to_toml"]

ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2, 255, 256, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, -1e308,
    float("inf"), float("-inf"), float("nan"), "", " ", "a", "\x00", "\x1b[31m", "\ud800", "é", "../x", "/etc/passwd",
    "0", "1e9", "<b>", "[/]", "=1+1", "a" * 3000, [], {}, [[]], [{}], {"": None}, [None], [0], [1, 2], ["a"],
    [["a", 1]], {"a": 1}, {"a": []}, [1e308] * 6, [10**400] * 6, [[1, 2], [3]], [0] * 300,
)  # fmt: skip
"""Values that are of a wrong kind or far out of range nearly everywhere."""

BITS: Final = (
    b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00" * 8, b"\xff" * 8, b"0", b"-1", b"1e999", b"\n",
    b"\r", b",", b'"', b"'", b"[", b"]", b"{", b"}", b":", b"=", b".", b"\\", b"../", b"\xef\xbb\xbf", b"\xed\xa0\x80",
    b"9" * 5000, b"[" * 3000, b'{"a":' * 1500, b"a.b." * 700,
)  # fmt: skip
"""Bytes that parsers stumble over."""


def bytewise(data: bytes, random: Random) -> bytes:
    """Change some bytes anywhere."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        at, length = random.randint(0, len(changed)), random.choice((1, 1, 2, 4, 8, 64, 4096))
        match random.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << random.randrange(8)
            case 1:
                del changed[at : at + length]
            case 2:
                changed[at:at] = random.choice(BITS)
            case 3:
                changed[at : at + length] = random.choice(BITS)
            case 4:
                changed[at:at] = changed[at : at + length]
            case _:
                changed[at : at + length] = random.randbytes(min(length, 64))
    return bytes(changed)


def _json(data: bytes, random: Random) -> bytes:
    return _tree(data, random, json.loads, lambda value: json.dumps(value).encode())


def _json_lines(data: bytes, random: Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if not lines:
        return bytewise(data, random)
    at = random.randrange(len(lines))
    match random.randrange(8):
        case 0:
            lines[at:at] = lines[at : at + 1]
        case 1:
            del lines[at]
        case 2:
            lines[at] = lines[at].rstrip(b"\n")
        case _:
            lines[at] = _json(lines[at], random) + b"\n"
    return b"".join(lines)


def _toml(data: bytes, random: Random) -> bytes:
    return _tree(data, random, lambda text: tomllib.loads(text.decode()), lambda value: to_toml(value).encode())


def _tree(data: bytes, random: Random, parse: Callable[[bytes], Any], write: Callable[[Any], bytes]) -> bytes:
    """Change values of what bytes mean; one time in five, and where they mean nothing, the bytes."""
    if random.randrange(5) == 0:
        return bytewise(data, random)
    try:
        holder = {"": parse(data)}
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            _change(holder, random)
        return write(holder.get(""))
    except (ValueError, TypeError, KeyError, RecursionError):
        return bytewise(data, random)


def _change(holder: dict[str, Any], random: Random) -> None:
    """Change one entry of nested tables and lists, each level as likely as the next."""
    places: list[tuple[Any, Any]] = [(holder, "")]
    pending = [holder[""]] if "" in holder else []
    while pending:
        value = pending.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        places += [(value, key) for key in keys]
        pending += [value[key] for key in keys if isinstance(value[key], dict | list)]
        if len(places) > 2000:
            break
    container, key = random.choice(places)
    match random.randrange(8):
        case 0 if container is not holder:
            del container[key]
        case 1 if isinstance(container, dict) and container is not holder:
            container[random.choice(("", "id", "\ud800", "a.b", "__class__", str(key) * 2))] = container.pop(key)
        case 2 if isinstance(container, list):
            container.insert(key, container[key])
        case 3:
            for _ in range(random.choice((3, 70, 500))):
                container[key] = [container[key]] if random.randrange(2) else {"a": container[key]}
        case 4 if isinstance(container[key], int) and abs(container[key]) < 2**64:
            container[key] += random.choice((1, -1, 2**31, 2**63, 0.5))
        case 5:
            container[key] = random.choice(places)[0] if container is not holder else []
            json.dumps(container[key])  # a table in itself is no value
        case _:
            container[key] = random.choice(ODD)


def _safetensors(data: bytes, random: Random) -> bytes:
    """Change the header, the configuration within it included, and keep the lengths right."""
    length = int.from_bytes(data[:8], "little")
    if random.randrange(4) == 0 or not 0 < length <= len(data) - 8:
        return bytewise(data, random)
    try:
        header = json.loads(data[8 : 8 + length])
        texts = header.get("__metadata__") or {}
        names = [name for name, text in texts.items() if isinstance(text, str) and text.startswith("{")]
        if names and random.randrange(3):
            name = random.choice(names)
            texts[name] = _json(texts[name].encode(), random).decode("utf-8", "replace")
            changed = json.dumps(header).encode()
        else:
            changed = _json(data[8 : 8 + length], random)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return bytewise(data, random)
    return len(changed).to_bytes(8, "little") + changed + data[8 + length :]


def _zip(data: bytes, random: Random) -> bytes:
    """Change a member, or what the archive says of it, and keep the rest of the zip right."""
    if random.randrange(3) == 0:
        return bytewise(data, random)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()[:50]]
    except Exception:  # noqa: BLE001 - whatever zipfile makes of what was changed before
        return bytewise(data, random)
    if not members:
        return bytewise(data, random)
    at = random.randrange(len(members))
    name, content = members[at]
    match random.randrange(6):
        case 0:
            del members[at]
        case 1:
            name = random.choice(
                ("../evil", "/evil", "a/../../evil", "", "C:\\evil", "a\x00b", name.upper(), name + "/")
            )
            members[at] = name, content
        case 2:
            members.append((name, content))
        case _:
            members[at] = name, bytewise(content, random)
    buffer = io.BytesIO()
    packing = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", packing) as archive:
        warnings.simplefilter("ignore", UserWarning)  # a name that is there twice
        for name, content in members:
            info = zipfile.ZipInfo(name or "x")
            info.external_attr = random.choice((0o100644, 0o120777, 0o020666, 0o040755)) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def _csv(data: bytes, random: Random) -> bytes:
    """Change fields of a table."""
    rows = [line.split(b",") for line in data.split(b"\n")]
    if random.randrange(4) == 0:
        return bytewise(data, random)
    for _ in range(random.choice((1, 1, 2, 4))):
        row = random.choice(rows)
        at = random.randrange(len(row))
        match random.randrange(5):
            case 0:
                del row[at]
                row or row.append(b"")
            case 1:
                row.insert(at, row[at])
            case 2:
                rows.append(list(row))
            case _:
                row[at] = random.choice((*BITS, b"1 1", b"0 5", b"1 999999999", b"9223372036854775807 1", b"2000.0"))
    return b"\n".join(b",".join(row) for row in rows)


GRAMMARS: Final[Mapping[str, Callable[[bytes, Random], bytes]]] = {
    "bytes": bytewise,
    "json": _json,
    "json lines": _json_lines,
    "toml": _toml,
    "safetensors": _safetensors,
    "zip": _zip,
    "csv": _csv,
}
"""How sound bytes of a kind are changed."""


def to_toml(values: Any) -> str:
    """Write a table as TOML, nested tables inline.

    Raises:
        TypeError: If something in it is no TOML.
    """
    if not isinstance(values, dict):
        raise TypeError("a TOML file is a table")
    return "".join(f"{json.dumps(str(name))} = {_toml_value(value)}\n" for name, value in values.items())


def _toml_value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value.encode("utf-8", "replace").decode()).replace("\x7f", "\\u007f")
        case int():
            return str(value)
        case float():
            return repr(value)
        case dict():
            return (
                "{" + ", ".join(f"{json.dumps(str(key))} = {_toml_value(entry)}" for key, entry in value.items()) + "}"
            )
        case list():
            return "[" + ", ".join(map(_toml_value, value)) + "]"
    raise TypeError("no TOML")
