"""Pickles, read as data: which tensors a checkpoint has, without doing anything that it says.

A pickle is a program, and ``pickle.load`` runs it. Here every opcode only moves values about: a name of code becomes a
:class:`Symbol`, a call an inert :class:`Instance` that remembers its parts. No class is looked up, nothing is imported
and nothing is called, so there is nothing that a file could make happen. Names that only an attack has a use for are
an error all the same, so that the user hears of it.

Needs no torch. Opcodes: :mod:`pickletools`.
"""

import pickletools
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from seglab.data.pickle_names import may_be_called, may_be_named

__all__ = ["CodeError", "Instance", "PickleError", "Reader", "StorageRef", "Symbol", "TensorRef", "read_pickle"]

MAX_OPCODES: Final = 10_000_000
"""More than any checkpoint needs by far: the largest networks have some hundred thousand."""
MAX_DIMENSIONS: Final = 16


class PickleError(ValueError):
    """The bytes are no pickle, or one that is broken."""


class CodeError(PickleError):
    """The pickle names code that has no place among weights; the text is its name."""


@dataclass(frozen=True, eq=False)
class Symbol:
    """The name of a class or function, not looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Instance:
    """What a call would have made: who was to be called, and what the result was to be filled with."""

    symbol: Any
    args: Any = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class StorageRef:
    """Where the values of tensors lie, as the pickle claims."""

    kind: str
    """torch's name of the storage, ``FloatStorage`` say."""
    key: str
    num_values: int
    offset: int = 0
    """Where it begins, in values, if it is a part of another storage (old files only)."""


@dataclass(frozen=True, eq=False)
class TensorRef:
    """A tensor, as the pickle claims; checked against its storage's claim, not yet against the file."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Reader:
    """A file-like view of bytes that never makes room for more than there is.

    Args:
        data: Bytes, or a memory map.
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        self.position = 0
        self.end = len(data)
        self.storages: dict[str, StorageRef] = {}
        """By key, all that the pickles read so far refer to."""

    def read(self, count: int) -> bytes:
        """Return the next bytes, fewer at the end."""
        start = self.position
        self.position = min(self.end, start + max(count, 0))
        return bytes(self.data[start : self.position])

    def readline(self) -> bytes:
        """Return the bytes up to and including the next line feed."""
        end = self.data.find(b"\n", self.position, self.end)
        return self.read((self.end if end < 0 else end + 1) - self.position)

    def tell(self) -> int:
        """Return where the next byte comes from."""
        return self.position


def read_pickle(reader: Reader) -> Any:
    """Return the value of one pickle as plain data; the reader then stands behind it.

    Dictionaries (ordered ones too), lists and tuples are Python's own, sets are lists, and everything else is one of
    the classes here. Keys that are neither texts nor small whole numbers are replaced by something unique.

    Raises:
        CodeError: If it names code that weights have no use for.
        PickleError: If it is broken, or has more than :data:`MAX_OPCODES` opcodes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pickletools: of odd escapes in damaged texts
        return _run(_Machine(reader.storages), reader)


def _run(machine: "_Machine", reader: Reader) -> Any:
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(reader)):  # type: ignore[arg-type]
            if opcode.name == "STOP":
                return machine.pop()
            if count >= MAX_OPCODES:
                raise PickleError("it is too long")
            handler = _HANDLERS.get(opcode.name)
            if handler is None:
                raise PickleError(f"opcode `{opcode.name}` has no place in a checkpoint")
            handler(machine, argument)
    except PickleError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise PickleError("it is damaged or no pickle") from error
    raise PickleError("it is cut off")


class _Machine:
    """The stack, the marks in it and the memo of one pickle.

    Its methods are what the opcodes do, see :data:`_HANDLERS`; where Python would call something, :func:`_called` only
    notes what.
    """

    def __init__(self, storages: dict[str, StorageRef]) -> None:
        self.storages = storages
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        return self.stack.pop()

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def discard(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def discard_marked(self, _: Any) -> None:
        self.pop_mark()

    def remember(self, key: int | None) -> None:
        self.memo[len(self.memo) if key is None else key] = self.stack[-1]

    def recall(self, key: int) -> None:
        self.push(self.memo[key])

    def pop_many(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise PickleError("it is damaged or no pickle")
        values = tuple(self.stack[-count:])
        del self.stack[-count:]
        return values

    def name(self, text: str) -> None:
        module, _, name = text.partition(" ")
        self.push(_symbol(module, name))

    def name_from_stack(self, _: Any) -> None:
        module, name = self.pop_many(2)
        if type(module) is not str or type(name) is not str:
            raise PickleError("a name in it is no text")
        self.push(_symbol(module, name))

    def call(self, _: Any) -> None:
        function, args = self.pop_many(2)
        self.push(_called(function, args))

    def call_named(self, text: str) -> None:
        args = tuple(self.pop_mark())
        self.name(text)
        self.push(_called(self.pop(), args))

    def call_marked(self, _: Any) -> None:
        function, *args = self.pop_mark()
        self.push(_called(function, tuple(args)))

    def call_with_keywords(self, _: Any) -> None:
        function, args, _keywords = self.pop_many(3)
        self.push(_called(function, args))

    def build(self, _: Any) -> None:
        state = self.pop()
        target = self.stack[-1]
        if isinstance(target, Instance):
            target.state = state

    def set_items(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        target = self.stack[-1]
        items = target.items if isinstance(target, Instance) else target
        if type(items) is not dict:
            raise PickleError("it is damaged or no pickle")
        _fill(items, pairs)

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        elements = target.elements if isinstance(target, Instance) else target
        if type(elements) is not list:
            raise PickleError("it is damaged or no pickle")
        elements.extend(values)

    def persistent(self, _: Any) -> None:
        value = self.pop()
        if type(value) is tuple and len(value) == 4 and value[0] == "module":
            self.push(value[1])  # Old files name a class so, with its source text.
            return
        storage = _storage(value)
        self.storages.setdefault(storage.key, storage)
        self.push(storage)


def _pairs(values: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(values[::2], values[1::2], strict=True)


def _fill(items: dict[Any, Any], pairs: Iterable[tuple[Any, Any]]) -> None:
    for key, value in pairs:
        # Hashing anything else could be made to take hours, or the whole stack of C.
        plain = type(key) is str or (type(key) in (int, bool) and abs(key) < 2**60)
        items[key if plain else object()] = value


def _symbol(module: str, name: str) -> Symbol:
    symbol = Symbol(module, name)
    if not may_be_named(module, name):
        raise CodeError(str(symbol))
    return symbol


def _called(function: Any, args: Any) -> Any:
    """Return what a call stands for: a container, a tensor, or an inert instance."""
    if isinstance(function, Symbol):
        if not may_be_called(function.module, function.name):
            raise CodeError(str(function))
        make = _CALLS.get((function.module, function.name))
        if make is not None and type(args) is tuple:
            return make(args)
    return Instance(function, args)


def _dictionary(args: tuple[Any, ...]) -> dict[Any, Any]:
    items: dict[Any, Any] = {}
    pairs = args[0] if args else ()
    _fill(items, pairs.items() if type(pairs) is dict else ((key, value) for key, value in pairs))
    return items


def _sequence(args: tuple[Any, ...]) -> list[Any]:
    values = args[0] if args else []
    if type(values) not in (list, tuple):
        raise PickleError("it is damaged or no pickle")
    return list(values)


def _tensor(args: tuple[Any, ...]) -> "TensorRef | Instance":
    storage, offset, shape, stride = args[:4]
    if not isinstance(storage, StorageRef):
        return Instance(None, args)  # Plain pickle writes a storage as a call of torch's.
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in numbers):
        raise PickleError("a tensor in it has an impossible shape")
    count, last = 1, offset
    for side, step in zip(shape, stride, strict=True):
        count *= side
        last += (side - 1) * step
    if count and (last >= storage.num_values or count > storage.num_values):
        raise PickleError("a tensor in it is larger than its storage")
    return TensorRef(storage, offset, tuple(shape), tuple(stride))


def _first(args: tuple[Any, ...]) -> Any:
    return args[0]


def _of_type(args: tuple[Any, ...]) -> Any:
    return _called(args[0], args[2])


def _bare(args: tuple[Any, ...]) -> Instance:
    return Instance(args[0])


def _storage(value: Any) -> StorageRef:
    """Return what a persistent id ``('storage', type, key, device, number of values[, part])`` names."""
    if type(value) is not tuple or len(value) not in (5, 6) or value[0] != "storage":
        raise PickleError("it refers to something outside that is no storage")
    kind, key, num_values = value[1], value[2], value[4]
    if not isinstance(kind, Symbol) or type(key) is not str or type(num_values) is not int or num_values < 0:
        raise PickleError("a storage in it is described wrongly")
    if len(value) == 6 and value[5] is not None:
        _, offset, count = value[5]
        if type(offset) is not int or type(count) is not int or min(offset, count) < 0 or offset + count > num_values:
            raise PickleError("a storage in it is described wrongly")
        return StorageRef(kind.name, key, num_values, offset)
    return StorageRef(kind.name, key, num_values)


_CALLS: Final[Mapping[tuple[str, str], Callable[[tuple[Any, ...]], Any]]] = {
    ("collections", "OrderedDict"): _dictionary,
    **{(module, name): _sequence for module in ("builtins", "__builtin__") for name in ("set", "frozenset", "list")},
    **{(module, "dict"): _dictionary for module in ("builtins", "__builtin__")},
    **{(module, "_reconstructor"): _bare for module in ("copyreg", "copy_reg")},
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_type,
}

_Handler = Callable[[_Machine, Any], None]


def _constant(value: Any) -> _Handler:
    return lambda machine, _: machine.push(value)


def _tuple_of(count: int) -> _Handler:
    return lambda machine, _: machine.push(machine.pop_many(count))


_VALUES: Final = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8"
)
_HANDLERS: Final[Mapping[str, _Handler]] = {
    **dict.fromkeys(_VALUES.split(), _Machine.push),
    **dict.fromkeys(("PROTO", "FRAME"), lambda *_: None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.call),
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "EMPTY_TUPLE": _constant(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push([]),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "MARK": _Machine.mark,
    "POP": _Machine.discard,
    "POP_MARK": _Machine.discard_marked,
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_mark())),
    "LIST": lambda machine, _: machine.push(machine.pop_mark()),
    "FROZENSET": lambda machine, _: machine.push(machine.pop_mark()),
    "DICT": lambda machine, _: machine.push(_dictionary((list(_pairs(machine.pop_mark())),))),
    "SETITEM": lambda machine, _: machine.set_items([machine.pop_many(2)]),
    "SETITEMS": lambda machine, _: machine.set_items(_pairs(machine.pop_mark())),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_mark()),
    "ADDITEMS": lambda machine, _: machine.append(machine.pop_mark()),
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_from_stack,
    "INST": _Machine.call_named,
    "OBJ": _Machine.call_marked,
    "NEWOBJ_EX": _Machine.call_with_keywords,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
