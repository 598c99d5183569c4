"""ONNX Runtime's sessions, opened one way: quiet, with a known number of threads, and never reading a second file."""

from functools import cache
from pathlib import Path
from typing import Any, Final

from seglab.errors import DataError, DeviceError, first_line
from seglab.models.headers import external_tensors

__all__ = ["EXTRA_NAMES", "INPUT_NAME", "OUTPUT_NAME", "available_providers", "open_session", "runtime_errors"]

INPUT_NAME: Final = "image"
OUTPUT_NAME: Final = "logits"
EXTRA_NAMES: Final = ("edge",)
"""What outputs after the first may be called that are of use: see ``Segmenter.extras``."""
_FATAL_ONLY: Final = 4


def open_session(path: Path, data: bytes, *, threads: int, providers: "list[Any] | None" = None) -> Any:
    """Return an ``onnxruntime.InferenceSession`` of a graph.

    Args:
        path: Where the bytes are from, for the error.
        data: The whole file. A graph that keeps tensors in other files is refused: it could name any file of the disk.
        threads: Threads within an operator.
        providers: ONNX Runtime's execution providers; the CPU's by default.

    Raises:
        DeviceError: If ONNX Runtime cannot be imported.
        DataError: If the graph is broken or not self-contained.
    """
    onnxruntime = _onnxruntime()
    outside = external_tensors(path, data)
    if outside:
        raise DataError(
            f"`{path}` keeps {len(outside)} tensors in other files (`{outside[0]}`...), which is refused",
            "export it as one file",
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY  # Errors come as exceptions.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A pattern saves no time here, and is one more block of a whole run's size for every caller.
    options.enable_mem_pattern = False
    try:
        return onnxruntime.InferenceSession(data, options, providers=providers or ["CPUExecutionProvider"])
    except runtime_errors() as error:
        raise DataError(f"ONNX Runtime cannot load `{path}`: {first_line(error)[:200]}") from error


def available_providers() -> list[str]:
    """Return the execution providers of the installed ONNX Runtime.

    Raises:
        DeviceError: If it cannot be imported.
    """
    return list(_onnxruntime().get_available_providers())


@cache
def runtime_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of ONNX Runtime, which have no common base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return tuple(found)


@cache
def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        raise DeviceError(f"onnxruntime cannot be imported: {error}", "pip install --upgrade onnxruntime") from error
    if hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()
    return onnxruntime
