"""Checkpoints that others wrote: which tensors are in a file, and their values, without executing anything in it.

Read are the zip that ``torch.save`` writes, the bare pickles that it wrote before torch 1.6, and safetensors; in them a
state_dict, a whole pickled module, or a dictionary around one of either. Needs torch only for the values.

Formats: torch/serialization.py of torch 1.0 to 2.15, and https://huggingface.co/docs/safetensors.
"""

import mmap
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from seglab.data.fetching.sniffing import HEAD_BYTES, sniff
from seglab.data.pickles import CodeError, PickleError, Reader, StorageRef, TensorRef, read_pickle
from seglab.errors import DataError, first_line
from seglab.models.contents import find_tensors
from seglab.models.headers import read_safetensors

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Checkpoint", "open_checkpoint", "read_tensors", "strip_names"]

MAX_PICKLE_BYTES: Final = 1 << 26
"""Far more than the pickle of any checkpoint has; the values of tensors lie outside of it."""
_DAMAGE: Final = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, LookupError, OverflowError, RuntimeError,
)  # fmt: skip
"""What Python's zipfile may raise on a damaged file; NotImplementedError is a RuntimeError."""
_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_PICKLED_STORAGE: Final = "torch.storage._load_from_bytes"
"""What ``pickle.dump`` writes of a tensor: a call that unpickles what is inside."""
_AGAIN: Final = "download it again; `seglab fetch` checks what it brings"
_KINDS: Final[Mapping[str, tuple[str, int]]] = {
    "FloatStorage": ("float32", 4), "DoubleStorage": ("float64", 8), "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2), "LongStorage": ("int64", 8), "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2), "CharStorage": ("int8", 1), "ByteStorage": ("uint8", 1), "BoolStorage": ("bool", 1),
}  # fmt: skip
_DTYPES: Final[Mapping[str, str]] = {
    "F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class Span:
    """Where the bytes of a storage are: in a member of the zip, or behind an offset of the file."""

    member: str
    start: int
    num_bytes: int


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds, without its values."""

    path: Path
    format: str
    """``torch zip``, ``torch pickle`` or ``safetensors``."""
    contents: str
    """What was around the tensors, in words: ``state_dict``, ``pickled module``, ``state_dict in `model```..."""
    shapes: Mapping[str, tuple[int, ...]]
    """By the names of the bare network: see :func:`strip_names`."""
    dtypes: Mapping[str, str]
    prefix: str = ""
    """What was stripped: ``module.``, ``_orig_mod.`` or both."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The texts of a safetensors file."""
    _tensors: Mapping[str, TensorRef] = field(default_factory=dict, repr=False)
    _spans: Mapping[str, Span] = field(default_factory=dict, repr=False)

    @property
    def num_values(self) -> int:
        """Numbers in all tensors."""
        return sum(prod(shape) for shape in self.shapes.values())

    def tensors(self) -> "dict[str, Tensor]":
        """Return the values, on the CPU, in the number types of the file; tensors may share memory.

        Raises:
            DataError: If the file is damaged where they lie.
        """
        if self.format == "safetensors":
            from seglab.models.weights import load_tensors

            loaded, _ = load_tensors(self.path)
            names, _ = strip_names(list(loaded), self.path)
            return {names[name]: tensor for name, tensor in loaded.items()}
        try:
            return self._load()
        except (OSError, *_DAMAGE) as error:
            raise _refused(self.path, f"it is damaged: {first_line(error)}") from error

    def raw(self) -> Iterator[tuple[str, str, bytes | bytearray]]:
        """Yield the name of a tensor, its number type, and all bytes in which it and those that share them lie.

        Raises:
            DataError: If the file is damaged where they lie.
        """
        try:
            with self.path.open("rb") as handle, _maybe_zip(handle, self.format) as archive:
                if self.format == "safetensors":
                    yield from _raw_safetensors(handle, self.path)
                seen = set()
                for name, tensor in self._tensors.items():
                    key = tensor.storage.key
                    if key not in seen:
                        seen.add(key)
                        yield name, self.dtypes[name], _bytes(handle, archive, self._spans[key])
        except (OSError, *_DAMAGE) as error:
            raise _refused(self.path, f"it is damaged: {first_line(error)}") from error

    def _load(self) -> "dict[str, Tensor]":
        import torch

        values: dict[str, Any] = {}
        with self.path.open("rb") as handle, _maybe_zip(handle, self.format) as archive:
            for tensor in self._tensors.values():
                key = tensor.storage.key
                if key not in values:
                    dtype = getattr(torch, _KINDS[tensor.storage.kind][0])
                    data = _bytes(handle, archive, self._spans[key])
                    values[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return {
            name: values[tensor.storage.key].as_strided(tensor.shape, tensor.stride, tensor.offset)
            for name, tensor in self._tensors.items()
        }


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """Return the tensors of a checkpoint by the names of the bare network, on the CPU, as they are stored.

    Args:
        path: A file of ``torch.save`` (new or old), or a safetensors file.

    Raises:
        DataError: If it is no such file, damaged, names code, or does not hold the tensors of exactly one network. Its
            message says in a line which.
    """
    return open_checkpoint(path).tensors()


def open_checkpoint(path: Path) -> Checkpoint:
    """Look into a checkpoint; see :func:`read_tensors`. No tensor is loaded, and torch is not imported.

    Raises:
        DataError: See :func:`read_tensors`.
    """
    try:
        kind = sniff(_head(path))
        if kind == "safetensors":
            return _open_safetensors(path)
        if kind in ("zip", "torch-zip"):
            return _open_zip(path)
        return _open_pickle(path, kind)
    except CodeError as error:
        hint = "nothing of it was run; get weights from somebody you trust, best as .safetensors"
        raise DataError(f"`{path}` contains code (`{error}`) and is refused", hint) from error
    except PickleError as error:
        raise _refused(path, f"{error}") from error
    except FileNotFoundError:
        raise DataError(f"there is no file `{path}`") from None
    except OSError as error:
        raise DataError(f"cannot read `{path}`: {error.strerror or error}") from error
    except _DAMAGE as error:
        raise _refused(path, "it is cut off or damaged") from error


def strip_names(names: list[str], path: Path) -> tuple[dict[str, str], str]:
    """Return the bare network's name for each name, and what was stripped.

    ``module.`` goes if every name begins with it, ``_orig_mod.`` wherever it is.

    Args:
        names: As they are in the file.
        path: The file, for the error.

    Raises:
        DataError: If two tensors would get the same name.
    """
    prefix = ""
    bare = {name: ".".join(part for part in name.split(".") if part != "_orig_mod") for name in names}
    if any(name != stripped for name, stripped in bare.items()):
        prefix = "_orig_mod."
    while bare and all(name.startswith("module.") for name in bare.values()):
        bare = {name: stripped.removeprefix("module.") for name, stripped in bare.items()}
        prefix = prefix if "module." in prefix else "module." + prefix
    if len(set(bare.values())) < len(bare):
        raise _refused(path, "two tensors have the same name")
    return bare, prefix


def _head(path: Path) -> bytes:
    """Return the first bytes of a file that may be a checkpoint."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise DataError(f"`{path}` is a folder, not a checkpoint", "name the file in it")
    if not stat.S_ISREG(mode):
        raise DataError(f"`{path}` is no regular file")
    with path.open("rb") as handle:
        head = handle.read(HEAD_BYTES)
    if head.startswith(b"version https://git-lfs"):
        hint = "`git lfs pull` in that repository brings the weights"
        raise DataError(f"`{path}` is not a checkpoint: a Git LFS pointer, which only stands for it", hint)
    what = {"empty": "an empty file", "html": "a web page"}.get(sniff(head))
    if what is not None:
        raise DataError(f"`{path}` is not a checkpoint: {what}", _again(path))
    return head


def _open_safetensors(path: Path) -> Checkpoint:
    table, metadata = read_safetensors(path)
    names, prefix = strip_names(list(table), path)
    shapes = {names[name]: entry.shape for name, entry in table.items()}
    dtypes = {names[name]: _DTYPES.get(entry.kind, entry.kind) for name, entry in table.items()}
    if not shapes:
        raise _refused(path, "it holds no tensors")
    return Checkpoint(path, "safetensors", "state_dict", shapes, dtypes, prefix, metadata)


def _open_zip(path: Path) -> Checkpoint:
    with path.open("rb") as handle, zipfile.ZipFile(handle) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise _refused(path, "a zip archive that torch.save did not write", "unpack it, and name the file in it")
        root = pickles[0].removesuffix("data.pkl")
        if any(name.startswith(f"{root}code/") for name in members) or f"{root}constants.pkl" in members:
            hint = "ask for its state_dict: `torch.save(model.state_dict(), FILE)`"
            raise _refused(path, "a TorchScript program, which would have to be run", hint)
        order = members.get(f"{root}byteorder")
        if order is not None and (order.file_size > len(b"little") or archive.read(order) != b"little"):
            raise _refused(path, "written on a big-endian machine", "convert it there to .safetensors")
        info = members[f"{root}data.pkl"]
        if info.file_size > MAX_PICKLE_BYTES or info.compress_type != zipfile.ZIP_STORED:
            raise _refused(path, "its pickle is packed or far too large")
        value = read_pickle(Reader(archive.read(info)))
        contents, tensors = find_tensors(value, path)
        spans = {}
        for storage in _storages(tensors):
            member = f"{root}data/{storage.key}"
            if member not in members or members[member].compress_type != zipfile.ZIP_STORED:
                raise _refused(path, f"the values of storage `{storage.key}` are missing")
            spans[storage.key] = Span(member, 0, members[member].file_size)
    return _checked(path, "torch zip", contents, tensors, spans)


def _open_pickle(path: Path, kind: str) -> Checkpoint:
    if kind == "tar" and path.stat().st_size < 1 << 20:
        raise _refused(path, "a tar archive", "unpack it, and name the file in it")
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = Reader(data)
        if kind != "torch-pickle":
            _refuse_other(path, reader, kind)
        values = [_bounded(reader) for _ in range(3)]
        if values[0] != _MAGIC or values[1] != _PROTOCOL or type(values[2]) is not dict:
            raise PickleError("it is damaged or no pickle")
        if values[2].get("little_endian") is False:
            raise _refused(path, "written on a big-endian machine", "convert it there to .safetensors")
        contents, tensors = find_tensors(_bounded(reader), path)
        keys = _bounded(reader)
        if type(keys) is not list or not all(type(key) is str for key in keys):
            raise PickleError("it is damaged or no pickle")
        spans = _spans_behind(path, reader, keys)
    return _checked(path, "torch pickle", contents, tensors, spans)


def _bounded(reader: Reader) -> Any:
    """Read one pickle from a file that holds much else."""
    reader.end = min(len(reader.data), reader.position + MAX_PICKLE_BYTES)
    value = read_pickle(reader)
    reader.end = len(reader.data)
    return value


def _refuse_other(path: Path, reader: Reader, kind: str) -> None:
    """Refuse what torch.save did not write; if it names code, with that reason."""
    try:
        _bounded(reader)
    except CodeError as error:
        if str(error) != _PICKLED_STORAGE:
            raise
    except PickleError:
        unknown = kind in ("pickle", "data", "text")
        raise _refused(path, "it is none" if unknown else f"{_article(kind)} file") from None
    raise _refused(path, "a pickle that torch.save did not write", "save its weights as .safetensors")


def _spans_behind(path: Path, reader: Reader, keys: list[str]) -> dict[str, Span]:
    """Walk over the storages that follow the pickles: eight bytes that count values, then the values."""
    spans: dict[str, Span] = {}
    for key in keys:
        if key not in reader.storages:
            raise _refused(path, f"storage `{key}` is of no tensor")
        count = reader.read(8)
        num_bytes = int.from_bytes(count, "little") * _width(path, reader.storages[key])
        spans[key] = Span("", reader.position, num_bytes)
        reader.position += num_bytes
        if len(count) < 8 or reader.position > reader.end:
            raise _refused(path, "it is cut off")
    return spans


def _checked(
    path: Path, format: str, contents: str, tensors: Mapping[str, TensorRef], spans: Mapping[str, Span]
) -> Checkpoint:
    """Compare what the pickle claims with what the file has."""
    for storage in _storages(tensors):
        if storage.key not in spans:
            raise _refused(path, f"the values of storage `{storage.key}` are missing")
        if spans[storage.key].num_bytes != storage.num_values * _width(path, storage):
            raise _refused(path, f"storage `{storage.key}` is not as long as it should be")
    if sum(span.num_bytes for span in spans.values()) > path.stat().st_size:
        raise _refused(path, "it promises more values than it has bytes")
    names, prefix = strip_names(list(tensors), path)
    renamed = {names[name]: tensor for name, tensor in tensors.items()}
    shapes = {name: tensor.shape for name, tensor in renamed.items()}
    dtypes = {name: _KINDS[tensor.storage.kind][0] for name, tensor in renamed.items()}
    return Checkpoint(path, format, contents, shapes, dtypes, prefix, {}, renamed, spans)


def _storages(tensors: Mapping[str, TensorRef]) -> Iterator[StorageRef]:
    return (tensor.storage for tensor in tensors.values())


def _width(path: Path, storage: StorageRef) -> int:
    if storage.kind not in _KINDS:
        raise _refused(path, f"it holds numbers of a kind that is not read (`{storage.kind}`)")
    return _KINDS[storage.kind][1]


@contextmanager
def _maybe_zip(handle: Any, format: str) -> Iterator[zipfile.ZipFile | None]:
    if format != "torch zip":
        yield None
        return
    with zipfile.ZipFile(handle) as archive:
        yield archive


def _bytes(handle: Any, archive: zipfile.ZipFile | None, span: Span) -> bytearray:
    if archive is not None:
        data = bytearray(archive.read(span.member))
    else:
        handle.seek(span.start)
        data = bytearray(span.num_bytes)
        data = data[: handle.readinto(data)]
    if len(data) != span.num_bytes:
        raise EOFError("it is cut off")
    return data


def _raw_safetensors(handle: Any, path: Path) -> Iterator[tuple[str, str, bytes]]:
    table, _ = read_safetensors(path)
    names, _ = strip_names(list(table), path)
    for name, bare in names.items():
        entry = table[name]
        handle.seek(entry.start)
        yield bare, _DTYPES.get(entry.kind, ""), handle.read(entry.end - entry.start)


def _refused(path: Path, reason: str, hint: str = "") -> DataError:
    return DataError(f"`{path}` is not a usable checkpoint: {reason}", hint or _again(path))


def _again(path: Path) -> str:
    from seglab.data.fetching.places import fetch_again

    command = fetch_again(path)
    return f"`{command}` brings it anew" if command else _AGAIN


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
