"""What weight files say about themselves, read without the libraries that wrote them.

A safetensors file begins with its header as JSON, an ONNX file is one protobuf message. Both carry a table of texts, in
which seglab keeps a bundle's whole configuration. Reading it here takes a millisecond and trusts no length in the file.

Formats: https://huggingface.co/docs/safetensors and https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from seglab.errors import DataError
from seglab.models.protobuf import as_message, as_text, fields
from seglab.notation import parse_json

__all__ = [
    "MAX_GRAPH_BYTES",
    "MAX_HEADER_BYTES",
    "TensorEntry",
    "external_tensors",
    "graph_metadata",
    "read_graph",
    "read_safetensors",
    "read_safetensors_metadata",
    "refuse_pipe",
    "safetensors_tensors",
]

MAX_HEADER_BYTES: Final = 100_000_000
"""The limit that safetensors itself sets for a header."""
MAX_GRAPH_BYTES: Final = 2**31 - 1
"""No protobuf message is larger."""

# The field numbers of onnx.proto that lead to tensors and to the table of texts.
_MODEL_GRAPH, _MODEL_METADATA, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 14, 20, 25
_KEY, _VALUE = 1, 2
_TENSOR_NAME, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 8, 13, 14
_CHILDREN: Final = {
    "model": {_MODEL_GRAPH: "graph", _MODEL_TRAINING: "training", _MODEL_FUNCTIONS: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_MAX_DEPTH: Final = 64
_MOST: Final = 2**63


class TensorEntry(NamedTuple):
    """A tensor in the header of a safetensors file."""

    kind: str
    """``F32``, ``F16``..."""
    shape: tuple[int, ...]
    start: int
    """Of its first byte in the file."""
    end: int
    """Behind its last byte."""


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """Return the table of texts of a safetensors file.

    Raises:
        DataError: If it is missing, empty, cut off, too large or something else; one line that says which.
    """
    return read_safetensors(path)[1]


def safetensors_tensors(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the kind (``F32``, ``F16``...) and shape of each tensor of a safetensors file by name.

    Raises:
        DataError: See :func:`read_safetensors_metadata`.
    """
    return {name: (entry.kind, entry.shape) for name, entry in read_safetensors(path)[0].items()}


def read_safetensors(path: Path) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """Return what the header of a safetensors file says: its tensors by name, and its table of texts.

    Raises:
        DataError: See :func:`read_safetensors_metadata`.
    """
    refuse_pipe(path)
    try:
        with path.open("rb") as handle:
            size = handle.seek(0, 2)
            handle.seek(0)
            start = handle.read(8)
            length = int.from_bytes(start, "little")
            header = handle.read(length) if length <= MAX_HEADER_BYTES else b""
            beginning = start + header[:64] if header else start + handle.read(64)
    except OSError as error:
        raise _cannot_read(path, error) from error
    what = _not_safetensors(size, length, beginning)
    if what:
        raise _broken(path, what)
    try:
        values = parse_json(header)
        start_at = 8 + length
        entries = {name: _entry(entry, start_at) for name, entry in values.items() if name != "__metadata__"}
        metadata = {str(key): str(value) for key, value in values.get("__metadata__", {}).items()}
        expected = max((entry.end for entry in entries.values()), default=start_at)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _broken(path, "its header is damaged") from error
    if expected != size:
        raise _broken(path, f"{size} bytes, but its header promises {expected}")
    return entries, metadata


def read_graph(path: Path) -> bytes:
    """Return a whole ONNX file.

    Raises:
        DataError: If it is missing, empty, over 2 GiB or plainly something else.
    """
    refuse_pipe(path)
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MAX_GRAPH_BYTES else b""
    except OSError as error:
        raise _cannot_read(path, error) from error
    if size > MAX_GRAPH_BYTES:
        raise _broken(path, f"{size} bytes, more than an ONNX file can have")
    if not data:
        raise _broken(path, "empty file")
    if _is_page(data):
        raise _broken(path, "a web page")
    return data


def graph_metadata(path: Path, data: bytes) -> dict[str, str]:
    """Return the table of texts of an ONNX file.

    Args:
        path: Where the bytes are from, for the error.
        data: The whole file.

    Raises:
        DataError: If they are not an ONNX graph, or cut off.
    """
    metadata, has_graph = {}, False
    view = memoryview(data)
    try:
        for number, value in fields(view):
            has_graph = has_graph or number == _MODEL_GRAPH
            if number == _MODEL_METADATA:
                entry = dict(fields(as_message(value)))
                metadata[as_text(entry.get(_KEY, b""))] = as_text(entry.get(_VALUE, b""))
    except ValueError as error:
        raise _broken(path, "not an ONNX graph, or cut off") from error
    if not has_graph:
        raise _broken(path, "no ONNX graph in it")
    return metadata


def external_tensors(path: Path, data: bytes) -> list[str]:
    """Return the names of an ONNX file's tensors whose values lie in other files, wherever in the graph they are.

    Raises:
        DataError: If the bytes are not an ONNX graph.
    """
    try:
        return list(_external(memoryview(data), "model", 0))
    except ValueError as error:
        raise _broken(path, "not an ONNX graph, or cut off") from error


def _external(view: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deep")
    if kind == "tensor":
        name, outside = "", False
        for number, value in fields(view):
            name = as_text(value) if number == _TENSOR_NAME else name
            outside = outside or number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0)
        if outside:
            yield name
        return
    children = _CHILDREN[kind]
    for number, value in fields(view):
        if number in children:
            yield from _external(as_message(value), children[number], depth + 1)


def refuse_pipe(path: Path) -> None:
    """Refuse what would have to be waited for, or has no end; what is not there, or a folder, is let pass.

    Raises:
        DataError: If it is a pipe, a device or a socket.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DataError(f"`{path}` is no regular file", "a model is read from a file, not from a pipe or a device")


def _entry(values: Any, start_at: int) -> TensorEntry:
    kind, shape, (start, end) = values["dtype"], values["shape"], values["data_offsets"]
    whole = all(type(number) is int and 0 <= number < _MOST for number in (*shape, start, end))
    if not whole or not isinstance(kind, str) or end < start:
        raise ValueError("it is no tensor")
    return TensorEntry(kind, tuple(shape), start_at + start, start_at + end)


def _not_safetensors(size: int, length: int, beginning: bytes) -> str:
    if size == 0:
        return "empty file"
    if beginning[8:9] != b"{":
        if _is_page(beginning):
            return "a web page"
        pickled = beginning.startswith((b"PK\x03\x04", b"\x80"))
        return "a pickled checkpoint" if pickled else "not a safetensors file"
    if length > MAX_HEADER_BYTES:
        return "not a safetensors file: its header would be too large"
    return "cut off in its header" if 8 + length > size else ""


def _is_page(beginning: bytes) -> bool:
    return beginning[:64].lstrip()[:5].lower() in (b"<!doc", b"<html", b"<?xml", b"<head")


def _cannot_read(path: Path, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"there is no file `{path}`")
    return DataError(f"cannot read `{path}`: {error.strerror or error}")


def _broken(path: Path, what: str) -> DataError:
    return DataError(f"`{path}` is not a usable model: {what}", "make it again, or copy it again from its source")
