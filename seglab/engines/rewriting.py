"""Graphs said anew so that ONNX Runtime's kernels for the CPU do less for the same sums.

Two things cost time there that arithmetic does not ask for:

- Maps are concatenated only to be convolved. A convolution of a concatenation is the sum of convolutions of its parts,
  and the second one can add to what the first one wrote: nothing is copied, and each works on less at a time.
- Output channels are computed in blocks of 16, so a convolution of 3 x 3 with one or two outputs costs as much as one
  with 16. Taken as columns of 3 x 1, whose results are then shifted and added by a 1 x 3, it takes 15 steps, not 36.

What is not understood is left alone. Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import math
from collections import Counter
from dataclasses import dataclass, replace
from dataclasses import field as default
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.models.protobuf import as_message, as_text, field, fields, head, integers

__all__ = ["rewritten"]

Float32 = NDArray[np.float32]

BLOCK: Final = 16
"""Channels that are computed together, where the machine has AVX-512; half as many where it has AVX2."""
FEW_INPUTS: Final = 32
"""With fewer input channels than this, a narrow convolution is not worth two."""

_GRAPH: Final = 7
_NODE, _TENSOR, _INPUT, _OUTPUT = 1, 5, 11, 12
_FLOAT, _FLOATS, _INTS = 1, 6, 7
_KEEPING: Final = frozenset(
    {"Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSwish", "Identity", "Dropout", "BatchNormalization",
     "MaxPool", "AveragePool", "Resize", "Upsample"}
)  # fmt: skip
"""Operators whose output has as many channels as their first input."""
_FOLDED: Final = frozenset({"BatchNormalization", "Mul", "Div"})
"""What ONNX Runtime folds into the convolution before it: worth more than what is done here."""
_OF_GRAPHS: Final = frozenset({"If", "Loop", "Scan", "SequenceMap"})
"""Operators that hold graphs, which may read any value of this one."""


@dataclass(frozen=True)
class Node:
    """An operator of a graph."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    domain: str = ""
    attributes: tuple[bytes, ...] = ()
    """As they are in the file."""
    source: bytes = b""
    """The whole as it is in the file; empty if it is new."""

    def to_bytes(self) -> bytes:
        """Return the message."""
        if self.source:
            return self.source
        names = [field(number, name) for number, names in ((1, self.inputs), (2, self.outputs)) for name in names]
        return b"".join([*names, field(4, self.kind), *(field(5, data) for data in self.attributes)])


@dataclass
class Graph:
    """As much of a graph as is looked at here."""

    nodes: list[Node] = default(default_factory=list)
    tensors: dict[str, memoryview] = default(default_factory=dict)
    """Weights by name."""
    channels: dict[str, int] = default(default_factory=dict)
    """Of values, where they are known."""
    ports: set[str] = default(default_factory=set)
    """Names that the world outside knows: inputs and outputs."""
    taken: set[str] = default(default_factory=set)
    """Names of weights and values."""
    rest: list[tuple[int, memoryview]] = default(default_factory=list)
    """Fields of no interest."""

    def uses(self) -> Counter[str]:
        """Count how often values are read, once more for outputs of the graph."""
        return Counter([*(name for node in self.nodes for name in node.inputs), *self.ports])

    def parts(self) -> list[bytes | memoryview]:
        """Return the message, in parts, without weights that nobody uses."""
        wanted = self.uses()
        parts: list[bytes | memoryview] = [field(_NODE, node.to_bytes()) for node in self.nodes]
        tensors = ((_TENSOR, tensor) for name, tensor in self.tensors.items() if wanted[name])
        for number, value in (*tensors, *self.rest):
            parts += (head(number, len(value)), value)
        return parts


def rewritten(data: bytes) -> bytes:
    """Return a graph that computes the same, up to the order of sums, in less time on a CPU.

    Args:
        data: A whole ONNX file.

    Returns:
        The very same bytes where there is nothing to gain, or anything that is not understood.
    """
    try:
        model = list(fields(memoryview(data)))
        (place,) = (i for i, (number, _) in enumerate(model) if number == _GRAPH)
        graph = _parsed(as_message(model[place][1]))
        before = len(graph.nodes)
        graph.nodes = [new for node in _split_all(graph) for new in _narrowed(node, graph)]
    except (ValueError, IndexError):
        return data
    if len(graph.nodes) == before and all(node.source for node in graph.nodes):
        return data
    parts = graph.parts()
    around = [
        field(number, value) if i != place else head(_GRAPH, sum(map(len, parts)))
        for i, (number, value) in enumerate(model)
    ]
    return b"".join([*around[: place + 1], *parts, *around[place + 1 :]])


def _parsed(view: memoryview) -> Graph:
    """Read a graph.

    Raises:
        ValueError: If it is none, or one whose nodes hold graphs.
    """
    graph = Graph()
    for number, value in fields(view):
        message = as_message(value)
        if number == _NODE:
            graph.nodes.append(_node(message))
        elif number == _TENSOR:
            graph.tensors[_name(message, 8)] = message
        else:
            if number in (_INPUT, _OUTPUT):
                graph.ports.add(_name(message, 1))
            graph.rest.append((number, message))
    if any(node.kind in _OF_GRAPHS for node in graph.nodes):
        raise ValueError("graphs within the graph")
    for node in graph.nodes:
        num = _num_channels(node, graph)
        if num:
            graph.channels[node.outputs[0]] = num
    graph.taken = {*graph.tensors, *graph.ports, *(name for node in graph.nodes for name in node.outputs)}
    return graph


def _node(view: memoryview) -> Node:
    found: dict[int, list[memoryview]] = {}
    for number, value in fields(view):
        found.setdefault(number, []).append(as_message(value))
    inputs, outputs = (tuple(map(as_text, found.get(number, []))) for number in (1, 2))
    kind, domain = (as_text(found[number][-1]) if number in found else "" for number in (4, 7))
    return Node(kind, inputs, outputs, domain, tuple(map(bytes, found.get(5, []))), bytes(view))


def _name(view: memoryview, number: int) -> str:
    return as_text(next(value for have, value in fields(view) if have == number))


def _num_channels(node: Node, graph: Graph) -> int:
    """Return how many channels the first output has; 0 if that is not known."""
    if node.domain or not node.inputs or not node.outputs:
        return 0
    known = [graph.channels.get(name, 0) for name in node.inputs]
    if node.kind in ("Conv", "ConvTranspose"):
        shape = _shape(graph.tensors.get(node.inputs[1]))
        if len(shape) != 4:
            return 0
        return shape[0] if node.kind == "Conv" else shape[1] * _ints(node, "group", (1,))[0]
    if node.kind == "Concat":
        return sum(known) if all(known) and _ints(node, "axis", (0,)) == (1,) else 0
    if node.kind in ("Add", "Sum"):
        return known[0] if len(set(known)) == 1 else 0
    return known[0] if node.kind in _KEEPING else 0


def _shape(tensor: memoryview | None) -> tuple[int, ...]:
    if tensor is None:
        return ()
    return tuple(item for number, value in fields(tensor) if number == 1 for item in integers(value))


def _ints(node: Node, name: str, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    """Return an attribute: its one integer or its list of them."""
    for data in node.attributes:
        parts = list(fields(memoryview(data)))
        if any(number == 1 and as_text(value) == name for number, value in parts):
            return tuple(item for number, value in parts if number in (3, 8) for item in integers(value))
    return otherwise


def _attribute(data: bytes) -> tuple[str, str]:
    """Return the name and the text of an attribute that has one."""
    parts = dict(fields(memoryview(data)))
    return as_text(parts.get(1, b"")), as_text(parts.get(4, b""))


def _values(tensor: memoryview) -> Float32 | None:
    """Return the numbers of a float32 tensor that holds them itself."""
    found: dict[int, Any] = {}
    for number, value in fields(tensor):
        found[number] = value
    shape = _shape(tensor)
    raw = found.get(9, found.get(4))
    if found.get(2) != _FLOAT or raw is None or 13 in found or len(as_message(raw)) != 4 * math.prod(shape):
        return None
    return np.frombuffer(raw, "<f4").reshape(shape)


def _tensor(name: str, values: Float32) -> memoryview:
    dims = b"".join(field(1, size) for size in values.shape)
    raw = np.ascontiguousarray(values, "<f4").tobytes()
    return memoryview(dims + field(2, _FLOAT) + field(8, name) + field(9, raw))


def _weights(node: Node, graph: Graph) -> Float32 | None:
    """Return the weights, (out, in, 3, 3), of a convolution of that size in one group and zeros around its input."""
    plain = node.kind == "Conv" and not node.domain and len(node.inputs) > 1
    tensor = graph.tensors.get(node.inputs[1]) if plain else None
    if tensor is None or _shape(tensor)[2:] != (3, 3) or node.inputs[1] in graph.ports:
        return None
    texts = [_attribute(data) for data in node.attributes]
    if _ints(node, "group", (1,)) != (1,) or any(name == "auto_pad" and text[:4] == "SAME" for name, text in texts):
        return None
    return _values(tensor)


def _split_all(graph: Graph) -> list[Node]:
    """Return the nodes, with convolutions of the parts instead of convolutions of concatenations."""
    uses = graph.uses()
    makers = {name: node for node in graph.nodes for name in node.outputs}
    readers = {name: node for node in graph.nodes for name in node.inputs}
    nodes: list[Node] = []
    gone: set[str] = set()
    for node in graph.nodes:
        joined = makers.get(node.inputs[0]) if node.inputs else None
        reader = readers.get(node.outputs[0]) if node.outputs else None
        idle = reader is not None and reader.kind in _FOLDED
        if joined is None or joined.kind != "Concat" or uses[node.inputs[0]] != 1 or idle:
            nodes.append(node)
            continue
        parts = _split(node, joined, graph)
        gone |= {node.inputs[0]} if parts else set()
        nodes += parts or [node]
    return [node for node in nodes if node.kind != "Concat" or node.outputs[0] not in gone]


def _split(node: Node, joined: Node, graph: Graph) -> list[Node]:
    """Return convolutions of the parts of a concatenation, and their sums; nothing if that cannot be."""
    sizes = [graph.channels.get(name, 0) for name in joined.inputs]
    weights = _weights(node, graph)
    if weights is None or len(sizes) < 2 or any(size == 0 or size % BLOCK for size in sizes):
        return []
    if graph.channels.get(joined.outputs[0]) != weights.shape[1]:
        return []
    output, bias = node.outputs[0], node.inputs[2:]
    total, nodes = "", []
    for i, part in enumerate(np.split(weights, np.cumsum(sizes)[:-1], axis=1)):
        of_part, value = _add(graph, f"{output}/weight-{i}", part), _new(graph, f"{output}/part-{i}")
        graph.channels[value] = len(weights)
        inputs = (joined.inputs[i], of_part, *(bias if i == 0 else ()))
        nodes.append(replace(node, inputs=inputs, outputs=(value,), source=b""))
        if total:
            last = i == len(sizes) - 1
            nodes.append(Node("Add", (total, value), (output if last else _new(graph, f"{output}/sum-{i}"),)))
        total = nodes[-1].outputs[0]
    return nodes


def _narrowed(node: Node, graph: Graph) -> list[Node]:
    """Return two convolutions, a column and a row, instead of one with few outputs; otherwise the node itself."""
    if 3 * graph.channels.get(node.outputs[0], BLOCK) > BLOCK:
        return [node]
    weights = _weights(node, graph)
    if weights is None or _ints(node, "strides", (1, 1)) != (1, 1):
        return [node]
    num_out, num_in = weights.shape[:2]
    if num_in < FEW_INPUTS or num_in % BLOCK:
        return [node]
    high, wide = _ints(node, "dilations", (1, 1))
    top, left, bottom, right = _ints(node, "pads", (0, 0, 0, 0))
    output = node.outputs[0]
    columns = weights.transpose(0, 3, 1, 2).reshape(3 * num_out, num_in, 3, 1)
    rows = np.zeros((num_out, num_out, 3, 1, 3), np.float32)
    for k in range(3):
        rows[range(num_out), range(num_out), k, 0, k] = 1
    of_columns = _add(graph, f"{output}/columns", columns)
    of_rows = _add(graph, f"{output}/rows", rows.reshape(num_out, 3 * num_out, 1, 3))
    value = _new(graph, f"{output}/shifted")
    forms = (
        _attributes(kernel_shape=(3, 1), dilations=(high, 1), pads=(top, 0, bottom, 0)),
        _attributes(kernel_shape=(1, 3), dilations=(1, wide), pads=(0, left, 0, right)),
    )
    return [
        Node("Conv", (node.inputs[0], of_columns), (value,), attributes=forms[0]),
        Node("Conv", (value, of_rows, *node.inputs[2:]), (output,), attributes=forms[1]),
    ]


def _attributes(**lists: tuple[int, ...]) -> tuple[bytes, ...]:
    return tuple(
        b"".join([field(1, name), *(field(8, item) for item in items), field(20, _INTS)])
        for name, items in lists.items()
    )


def _add(graph: Graph, name: str, values: Float32) -> str:
    """Add a weight, and return its name."""
    graph.tensors[_new(graph, name)] = _tensor(name, values)
    return name


def _new(graph: Graph, name: str) -> str:
    """Take a name.

    Raises:
        ValueError: If it is taken.
    """
    if name in graph.taken:
        raise ValueError("the name is taken")
    graph.taken.add(name)
    return name
