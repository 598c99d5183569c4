"""Engines: a batch of pixels in, logits out. Which library computes them, and why, is decided here.

Legend: B batch, C channels, K classes, H W pixels.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from seglab.device import Device, import_torch, num_threads
from seglab.errors import DataError, SeglabError, UsageError, unknown
from seglab.models.bundle import GRAPH_NAME, WEIGHTS_NAME, BundleConfig, parse_config, read_config
from seglab.models.headers import graph_metadata, read_graph

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from seglab.engines.pixels import Pixels

__all__ = ["ENGINES", "PRECISIONS", "Engine", "EngineChoice", "begin_to_open", "num_callers", "open_engine"]

ENGINES: Final = ("auto", "onnxruntime", "torch", "openvino")
"""What ``--engine`` takes."""
PRECISIONS: Final = ("auto", "fp32", "bf16", "fp16")
"""What ``--precision`` takes. ``auto`` is fp32 on every device, so that a label does not depend on where it was
computed."""
_ROUGH: Final = "`--precision bf16`"


class Engine(Protocol):
    """A network that is ready to be used."""

    name: str
    """Of the library."""
    reason: str
    """Why it was chosen, in a few words."""
    device: Device
    """Where it computes, which may be the CPU although a GPU was offered."""
    precision: str
    """``fp32``, ``bf16`` or ``fp16``."""
    notes: list[str]
    """What the user should know of what happened since; grows."""

    def __call__(self, pixels_BHWC: "Pixels") -> "NDArray[np.float32]":
        """Return logits_BKHW of RGB pixels on the model's grid."""
        ...


@dataclass(frozen=True)
class EngineChoice:
    """Which engine is wanted, and how it is to compute.

    Raises:
        UsageError: If there is no such engine or precision, or the engine cannot do the rest.
    """

    name: str = "auto"
    """One of :data:`ENGINES`."""
    precision: str = "auto"
    """One of :data:`PRECISIONS`; bf16 in torch and OpenVINO, fp16 only in torch."""
    compile: bool = False
    """Whether torch compiles the network, which takes a minute or two and pays on long runs."""
    threads: int | None = None
    """CPU threads; all usable ones by default."""
    callers: int = 1
    """How many threads will call the engine at once. On the CPU a graph then gives each call its share
    of the threads, which for small batches gives more than all threads one call after the other do; see
    :func:`num_callers`."""
    bn: str = "running"
    """``batch`` normalises by the statistics of the picture at hand, only in torch: see
    :func:`seglab.models.faithful.use_batch_statistics`."""
    as_published: bool = False
    """Whether a network sees pictures of any size as its original's code does, only in torch: see
    :func:`seglab.models.faithful.pad_as_published`."""

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise unknown("engine", self.name, ENGINES)
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.name in ("onnxruntime", "openvino") and self.torch_only:
            able = (
                "`--engine openvino` and `--engine torch` can" if self.torch_only == _ROUGH else "`--engine torch` can"
            )
            raise UsageError(f"engine `{self.name}` cannot do {self.torch_only}", able)

    @property
    def may_use_torch(self) -> bool:
        """Whether torch may be what computes."""
        return self.name in ("auto", "torch")

    @property
    def torch_only(self) -> str:
        """The option that asks for what only torch can do; empty if there is none."""
        if self.compile:
            return "`--compile`"
        if self.bn == "batch" or self.as_published:
            return "`--bn batch`" if self.bn == "batch" else "`--fidelity original`"
        elsewhere = ("auto", "fp32", "bf16") if self.name == "openvino" else ("auto", "fp32")
        return "" if self.precision in elsewhere else f"`--precision {self.precision}`"


def open_engine(path: Path, device: Device, engine: str | EngineChoice = "auto") -> tuple[Engine, BundleConfig]:
    """Open a model.

    ``auto`` takes ONNX Runtime on the CPU where the bundle has a graph that belongs to its weights, and torch
    otherwise; torch is imported only then. A graph alone runs in ONNX Runtime, on the CPU if that cannot use the
    device and the user did not name the device.

    Args:
        path: What :func:`seglab.models.bundle.find_model` returned: a bundle folder, ``.onnx`` or ``.safetensors``.
        device: Where to run.
        engine: A name in :data:`ENGINES`, or a choice with all its details.

    Returns:
        The engine, and the configuration of the very weights that it uses.

    Raises:
        UsageError: If there is no such engine, or a graph is asked for what only torch can do.
        DeviceError: If the engine was asked for and is not installed, or cannot use the device.
        DataError: If the model is missing, damaged, or not in a form that the engine reads.
    """
    choice = EngineChoice(engine) if isinstance(engine, str) else engine
    begun = _begun.pop((path, device.name, choice), None)
    if begun is None or begun.stamp != _stamp(path):
        return _open(path, device, choice)
    return begun.answer.result()


def begin_to_open(path: Path, device: Device, choice: EngineChoice) -> None:
    """Begin to open a graph for the CPU in another thread; :func:`open_engine`, asked for the same, waits for the end.

    Half of the time that this takes is not Python's, which can import meanwhile what else is needed. Errors are raised
    by :func:`open_engine`. What ONNX Runtime would not compute is not begun.
    """
    graph = path / GRAPH_NAME if path.is_dir() else path
    if device.kind != "cpu" or choice.torch_only or choice.name not in ("auto", "onnxruntime") or not graph.is_file():
        return
    if graph.suffix.lower() != ".onnx":
        return
    import seglab.engines.onnxruntime  # noqa: F401 - two threads that import the same would wait for each other

    pool = ThreadPoolExecutor(1, "open-engine")
    _begun[path, device.name, choice] = _Begun(_stamp(path), pool.submit(_open, path, device, choice))
    pool.shutdown(wait=False)


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what changes where a model is replaced."""
    files = [path / name for name in (GRAPH_NAME, WEIGHTS_NAME)] if path.is_dir() else [path]
    found = [file.stat() for file in files if file.is_file()]
    return tuple(number for one in found for number in (one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns))


def _open(path: Path, device: Device, choice: EngineChoice) -> tuple[Engine, BundleConfig]:
    if choice.name == "torch":
        return _open_torch(path, device, choice, "asked for")
    if choice.name != "auto":
        return _open_graph(path, device, choice, "asked for")
    if _is_graph_alone(path):
        if choice.torch_only:
            hint = "`--engine openvino` can, or name" if choice.torch_only == _ROUGH else "name"
            raise UsageError(
                f"`{path}` is a graph, which cannot do {choice.torch_only}", f"{hint} a bundle with weights"
            )
        return _open_graph(path, device, choice, "the model is a graph")
    if choice.torch_only or device.kind != "cpu":
        why = f"for {choice.torch_only}" if choice.torch_only else f"runs on {device.name}"
        return _open_torch(path, device, choice, why)
    try:
        return _open_graph(path, device, choice, "the bundle has a graph")
    except SeglabError as error:
        return _open_torch(path, device, choice, error.message)


@dataclass(frozen=True)
class _Begun:
    stamp: tuple[int, ...]
    answer: "Future[tuple[Engine, BundleConfig]]"


_begun: Final[dict[tuple[Path, str, EngineChoice], _Begun]] = {}
"""What was begun and not asked for yet."""


def num_callers(engine: Engine) -> int:
    """Return how many threads an engine expects to be called by at once."""
    callers: int = getattr(engine, "callers", 1)
    return callers


def _is_graph_alone(path: Path) -> bool:
    if path.is_dir():
        return (path / GRAPH_NAME).exists() and not (path / WEIGHTS_NAME).exists()
    return path.suffix.lower() == ".onnx"


def _open_graph(path: Path, device: Device, choice: EngineChoice, reason: str) -> tuple[Engine, BundleConfig]:
    graph_path = path / GRAPH_NAME if path.is_dir() else path
    if graph_path.suffix.lower() != ".onnx" or (path.is_dir() and not graph_path.exists()):
        raise DataError(f"`{path}` has no graph ({GRAPH_NAME})", "`--engine torch` needs none")
    data = read_graph(graph_path)
    config = parse_config(graph_path, graph_metadata(graph_path, data))
    if path.is_dir() and (path / WEIGHTS_NAME).exists() and read_config(path).save_id != config.save_id:
        raise DataError(f"`{graph_path}` is of other weights than {WEIGHTS_NAME}", "`--engine torch` uses the weights")
    threads = choice.threads or num_threads()
    engine: Engine
    if choice.name == "openvino":
        from seglab.engines.openvino import OpenVinoEngine

        engine = OpenVinoEngine(
            graph_path, data, config.preprocess, device, precision=choice.precision, threads=threads,
            callers=choice.callers, reason=reason,
        )  # fmt: skip
    else:
        from seglab.engines.onnxruntime import OnnxRuntimeEngine

        engine = OnnxRuntimeEngine(
            graph_path, data, config.preprocess, device, threads=threads, callers=choice.callers, reason=reason
        )
    return engine, config


def _open_torch(path: Path, device: Device, choice: EngineChoice, reason: str) -> tuple[Engine, BundleConfig]:
    torch = import_torch()
    from seglab.allocator import keep_freed_memory
    from seglab.engines.torch import TorchEngine
    from seglab.models.bundle import load_network

    if device.kind == "cpu":
        keep_freed_memory()
        torch.set_num_threads(choice.threads or num_threads())
    network, config = load_network(path, device)
    if choice.bn == "batch" or choice.as_published:
        _make_faithful(network, choice)
    engine = TorchEngine(
        network, config.preprocess, device, precision=choice.precision, reason=reason, compile=choice.compile
    )
    return engine, config


def _make_faithful(network: "nn.Module", choice: EngineChoice) -> None:
    from seglab.models.faithful import pad_as_published, use_batch_statistics

    if choice.as_published:
        pad_as_published(network)
    if choice.bn == "batch":
        use_batch_statistics(network)
