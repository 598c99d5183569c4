"""Engines: a batch of pixels in, logits out. Which library computes them, and why, is decided here.

Legend: B batch, C channels, K classes, H W pixels.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from seglab.device import Device, import_torch, num_threads
from seglab.errors import DataError, SeglabError, unknown
from seglab.models.bundle import GRAPH_NAME, WEIGHTS_NAME, BundleConfig, parse_config, read_config
from seglab.models.headers import graph_metadata, read_graph

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ENGINES", "Engine", "open_engine"]

ENGINES: Final = ("auto", "onnxruntime", "torch")
"""What ``--engine`` takes."""


class Engine(Protocol):
    """A network that is ready to be used."""

    name: str
    """Of the library."""
    reason: str
    """Why it was chosen, in a few words."""
    notes: list[str]
    """What the user should know of what happened since; grows."""

    def __call__(self, pixels_BHWC: "NDArray[np.uint8]") -> "NDArray[np.float32]":
        """Return logits_BKHW of RGB pixels on the model's grid."""
        ...


def open_engine(
    path: Path, device: Device, engine: str = "auto", threads: int | None = None, *, precision: str = "auto"
) -> tuple[Engine, BundleConfig]:
    """Open a model.

    ``auto`` takes ONNX Runtime on the CPU where the bundle has a graph that belongs to its weights, and torch
    otherwise; torch is imported only then.

    Args:
        path: What :func:`seglab.models.bundle.find_model` returned: a bundle folder, ``.onnx`` or ``.safetensors``.
        device: Where to run.
        engine: One of :data:`ENGINES`.
        threads: CPU threads; all usable ones by default.
        precision: One of ``auto``, ``fp32``, ``bf16``, ``fp16``; other than fp32 only in torch.

    Returns:
        The engine, and the configuration of the very weights that it uses.

    Raises:
        UsageError: If there is no such engine or precision.
        DeviceError: If the engine was asked for and is not installed, or cannot use the device.
        DataError: If the model is missing, damaged, or not in a form that the engine reads.
    """
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    is_graph = path.suffix.lower() == ".onnx" and not path.is_dir()
    if engine == "onnxruntime" or (is_graph and engine == "auto"):
        return _open_graph(path, device, threads, "asked for" if engine != "auto" else "the model is a graph")
    if engine == "torch" or device.kind != "cpu" or precision not in ("auto", "fp32"):
        why = f"runs on {device.name}" if device.kind != "cpu" else f"precision {precision}"
        return _open_torch(path, device, threads, precision, "asked for" if engine == "torch" else why)
    try:
        return _open_graph(path, device, threads, "the bundle has a graph")
    except SeglabError as error:
        if path.is_dir() and not (path / WEIGHTS_NAME).exists():
            raise
        return _open_torch(path, device, threads, precision, error.message)


def _open_graph(path: Path, device: Device, threads: int | None, reason: str) -> tuple[Engine, BundleConfig]:
    from seglab.engines.onnxruntime import OnnxRuntimeEngine

    graph_path = path / GRAPH_NAME if path.is_dir() else path
    if graph_path.suffix.lower() != ".onnx" or (path.is_dir() and not graph_path.exists()):
        raise DataError(f"`{path}` has no graph ({GRAPH_NAME})", "`--engine torch` needs none")
    data = read_graph(graph_path)
    config = parse_config(graph_path, graph_metadata(graph_path, data))
    if path.is_dir() and (path / WEIGHTS_NAME).exists() and read_config(path).save_id != config.save_id:
        raise DataError(f"`{graph_path}` is of other weights than {WEIGHTS_NAME}", "`--engine torch` uses the weights")
    engine = OnnxRuntimeEngine(graph_path, data, config.preprocess, device, threads=threads, reason=reason)
    return engine, config


def _open_torch(
    path: Path, device: Device, threads: int | None, precision: str, reason: str
) -> tuple[Engine, BundleConfig]:
    torch = import_torch()
    from seglab.engines.torch import TorchEngine
    from seglab.models.bundle import load_network

    if device.kind == "cpu":
        torch.set_num_threads(threads or num_threads())
    network, config = load_network(path, device)
    return TorchEngine(network, config.preprocess, device, precision=precision, reason=reason), config
