"""What an ONNX file says of its inputs, outputs and weights, read without the onnx library.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from seglab.errors import DataError
from seglab.models.headers import external_tensors
from seglab.models.protobuf import as_message, as_text, fields

__all__ = ["GraphForm", "Port", "graph_form"]

_KINDS: Final = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "text", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip
_FLOATS: Final = ("float32", "float16", "float64", "bfloat16")


@dataclass(frozen=True)
class Port:
    """An input or output."""

    name: str
    kind: str
    """Of its numbers, e.g. ``float32``."""
    shape: tuple[int | str, ...]
    """Sizes; a name, or ``?``, where one is free."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"name": self.name, "kind": self.kind, "shape": list(self.shape)}


@dataclass(frozen=True)
class GraphForm:
    """The outside of a graph."""

    producer: str
    """Which program wrote it, and in which version."""
    opset: int
    """Of the standard operators."""
    inputs: tuple[Port, ...]
    """What must be given: weights that older writers list here are left out."""
    outputs: tuple[Port, ...]
    num_nodes: int
    num_weights: int
    """Numbers in its floating-point tensors."""
    kinds: tuple[str, ...]
    """Of those numbers, the most frequent first."""
    num_outside: int
    """Tensors whose values lie in other files; seglab loads no such graph."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "producer": self.producer,
            "opset": self.opset,
            "inputs": [port.to_dict() for port in self.inputs],
            "outputs": [port.to_dict() for port in self.outputs],
            "nodes": self.num_nodes,
            "parameters": self.num_weights,
            "kinds": list(self.kinds),
            "tensors_in_other_files": self.num_outside,
        }


def graph_form(path: Path, data: bytes) -> GraphForm:
    """Return the outside of an ONNX file.

    Args:
        path: Where the bytes are from, for the error.
        data: The whole file.

    Raises:
        DataError: If they are not an ONNX graph, or cut off.
    """
    try:
        return _form(memoryview(data), len(external_tensors(path, data)))
    except ValueError as error:
        raise DataError(f"`{path}` is not an ONNX graph, or cut off") from error


def _form(model: memoryview, num_outside: int) -> GraphForm:
    producer, opset, graph = ["", ""], 0, memoryview(b"")
    for number, value in fields(model):
        if number in (2, 3):
            producer[number - 2] = as_text(value)
        elif number == 7:
            graph = as_message(value)
        elif number == 8:
            entry = dict(fields(as_message(value)))
            if as_text(entry.get(1, b"")) in ("", "ai.onnx"):
                opset = int(entry.get(2, 0))
    weights: Counter[str] = Counter()
    names, num_nodes = set(), 0
    inputs: list[Port] = []
    outputs: list[Port] = []
    for number, value in fields(graph):
        if number == 1:
            num_nodes += 1
        elif number == 5:
            name, kind, num = _tensor(as_message(value))
            names.add(name)
            weights[kind] += num if kind in _FLOATS else 0
        elif number in (11, 12):
            (inputs if number == 11 else outputs).append(_port(as_message(value)))
    return GraphForm(
        producer=" ".join(filter(None, producer)),
        opset=opset,
        inputs=tuple(port for port in inputs if port.name not in names),
        outputs=tuple(outputs),
        num_nodes=num_nodes,
        num_weights=sum(weights.values()),
        kinds=tuple(kind for kind, num in weights.most_common() if num),
        num_outside=num_outside,
    )


def _tensor(view: memoryview) -> tuple[str, str, int]:
    """Return the name, the kind and the count of numbers of a TensorProto."""
    name, kind, dims = "", 0, []
    for number, value in fields(view):
        if number == 1:
            dims += [value] if isinstance(value, int) else _packed(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8:
            name = as_text(value)
    return name, _KINDS.get(kind, f"kind {kind}"), math.prod(dims)


def _packed(view: memoryview) -> list[int]:
    """Return the numbers of a packed list: each is read as the value of a field that is put before it."""
    numbers, rest = [], bytes(view)
    while rest:
        end = next((position for position, byte in enumerate(rest) if byte < 128), len(rest)) + 1
        numbers += [value for _, value in fields(memoryview(b"\x08" + rest[:end])) if isinstance(value, int)]
        rest = rest[end:]
    return numbers


def _port(view: memoryview) -> Port:
    """Return a ValueInfoProto's name, and the kind and shape of its tensor."""
    values = dict(fields(view))
    tensor = dict(fields(as_message(dict(fields(as_message(values.get(2, _EMPTY)))).get(1, _EMPTY))))
    kind = tensor.get(1, 0)
    shape = tuple(
        _side(as_message(dim)) for number, dim in fields(as_message(tensor.get(2, _EMPTY))) if number == 1
    )  # fmt: skip
    return Port(as_text(values.get(1, b"")), _KINDS.get(kind if isinstance(kind, int) else 0, "?"), shape)


def _side(view: memoryview) -> int | str:
    values = dict(fields(view))
    size = values.get(1)
    if isinstance(size, int):
        return size if size < 2**63 else "?"  # negative: some writers say so that they do not know
    return as_text(values.get(2, b"?")) or "?"


_EMPTY: Final = memoryview(b"")
