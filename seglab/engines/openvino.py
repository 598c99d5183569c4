"""The graph of a bundle in OpenVINO: an optional engine, the quickest on some processors.

Legend: B batch, C channels, K classes, H W pixels.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.device import Device, num_threads
from seglab.engines.pixels import Normaliser, Pixels
from seglab.errors import DataError, DeviceError
from seglab.models.headers import external_tensors
from seglab.models.session import EXTRA_NAMES
from seglab.preprocess import Preprocess

__all__ = ["OpenVinoEngine"]

_TELEMETRY: Final = "openvino_telemetry"
_BESIDE_THE_POINT: Final = ("Exception from ", "Check '", "FrontEnd API failed", "Summary:", "To facilitate ")


class OpenVinoEngine:
    """Pixels in, logits out, by a graph with one input (B, 3, H, W) and the logits as its first output.

    Args:
        path: Where the graph is from, for errors.
        data: The whole file.
        preprocess: Normalisation, and the size that a graph of fixed size must have.
        device: The CPU, the only one that this engine computes on; where another was offered but not asked for,
            :attr:`reason` says so.
        precision: ``auto`` is fp32; ``bf16`` takes half the time on processors that multiply bfloat16.
        threads: All usable CPUs by default.
        callers: How many threads will call this at once, each with its share of the others.
        reason: Why this engine was chosen.

    Raises:
        DeviceError: If OpenVINO is missing, another device than the CPU was asked for, the processor has no bfloat16
            and that was asked for, or the graph has an operation that OpenVINO takes and computes otherwise.
        DataError: If the graph is broken, not self-contained, or not of this form.
    """

    def __init__(
        self,
        path: Path,
        data: bytes,
        preprocess: Preprocess,
        device: Device,
        *,
        precision: str = "auto",
        threads: int | None = None,
        callers: int = 1,
        reason: str = "",
    ) -> None:
        if device.kind != "cpu" and device.asked_for:
            raise DeviceError(f"engine `openvino` cannot use device `{device.name}`", "`--device cpu`")
        self.name = "openvino"
        self.precision = "bf16" if precision == "bf16" else "fp32"
        self.callers = callers
        self.notes: list[str] = []
        self.reason = reason if device.kind == "cpu" else f"{reason}; it computes on the CPU only"
        self.device = device if device.kind == "cpu" else Device("cpu", None, "the only one of this engine")
        self._path = path
        self._normalise = Normaliser(preprocess)
        core = _openvino().Core()
        if self.precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise DeviceError("this processor does not multiply bfloat16", "leave `--precision bf16` out")
        model = _read(core, path, data)
        self._one_by_one = _check_form(model, preprocess, path)
        _check_operations(model, path)
        names = [next(iter(sorted(output.get_names())), "") for output in model.outputs]
        self._places = {name: place for place, name in enumerate(names) if place and name in EXTRA_NAMES}
        self.extras = tuple(self._places)
        """Names of what :meth:`with_extras` gives."""
        settings = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[self.precision],
            "NUM_STREAMS": callers,
            "INFERENCE_NUM_THREADS": threads or num_threads(),
            "ENABLE_CPU_PINNING": False,
        }
        self._requests: SimpleQueue[Any] = SimpleQueue()
        try:
            compiled = core.compile_model(model, "CPU", settings)
            for _ in range(callers):
                self._requests.put(compiled.create_infer_request())
        except RuntimeError as error:
            raise DataError(f"OpenVINO cannot load `{path}`: {_said(error)}") from error

    def __call__(self, pixels_BHWC: Pixels) -> NDArray[np.float32]:
        """Return logits_BKHW of RGB pixels.

        Raises:
            DeviceError: If OpenVINO fails, for want of memory say.
        """
        return self._compute(pixels_BHWC, [0])[0]

    def with_extras(self, pixels_BHWC: Pixels) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Return logits_BKHW of RGB pixels and, by name, logits_B1HW of the graph's other outputs.

        Raises:
            DeviceError: If OpenVINO fails, for want of memory say.
        """
        logits_BKHW, *extras = self._compute(pixels_BHWC, [0, *self._places.values()])
        return logits_BKHW, dict(zip(self.extras, extras, strict=True))

    def _compute(self, pixels_BHWC: Pixels, places: list[int]) -> list[NDArray[np.float32]]:
        image_BCHW = self._normalise(pixels_BHWC)
        if self._one_by_one and len(image_BCHW) != 1:
            answers = [self._run(image_BCHW[i : i + 1], places) for i in range(len(image_BCHW))]
            return [np.concatenate(parts) for parts in zip(*answers, strict=True)]
        return self._run(image_BCHW, places)

    def _run(self, image_BCHW: NDArray[np.float32], places: list[int]) -> list[NDArray[np.float32]]:
        request = self._requests.get()
        try:
            request.infer([image_BCHW], share_inputs=True)
            # Copies: the memory is used again for the next batch.
            answer = [np.array(request.get_output_tensor(place).data, np.float32) for place in places]
        except RuntimeError as error:
            raise self._failure(image_BCHW, _said(error)) from error
        finally:
            self._requests.put(request)
        shape = answer[0].shape
        if len(shape) != 4 or (shape[0], *shape[2:]) != (len(image_BCHW), *image_BCHW.shape[2:]):
            raise self._failure(image_BCHW, f"the output has shape {shape}")
        return answer

    def _failure(self, image_BCHW: NDArray[np.float32], what: str) -> DeviceError:
        shape = "x".join(map(str, image_BCHW.shape))
        return DeviceError(
            f"OpenVINO failed on `{self._path}` with input {shape}: {what}",
            "try a smaller batch, or `--engine onnxruntime`",
        )


def _read(core: Any, path: Path, data: bytes) -> Any:
    outside = external_tensors(path, data)
    if outside:
        raise DataError(
            f"`{path}` keeps {len(outside)} tensors in other files (`{outside[0]}`...), which is refused",
            "export it as one file",
        )
    try:
        return core.read_model(data)
    except RuntimeError as error:
        raise DataError(f"OpenVINO cannot load `{path}`: {_said(error)}") from error


def _check_form(model: Any, preprocess: Preprocess, path: Path) -> bool:
    """Check what the graph takes, and return whether that is one picture at a time."""
    if len(model.inputs) != 1 or not model.outputs:
        raise DataError(f"`{path}` does not take one float32 picture (B, 3, H, W): it cannot be used")
    taken = model.input(0)
    shape = taken.get_partial_shape()
    if taken.get_element_type().get_type_name() != "f32" or (shape.rank.is_static and len(shape) != 4):
        raise DataError(f"`{path}` does not take one float32 picture (B, 3, H, W): it cannot be used")
    if shape.rank.is_dynamic:
        return False
    batch, *rest = [dim.get_length() if dim.is_static else None for dim in shape]
    expected = (3, *preprocess.size_hw)
    if any(have is not None and have != want for have, want in zip(rest, expected, strict=True)):
        raise DataError(f"`{path}` takes pictures of {rest}, but its configuration says {list(expected)}")
    if batch not in (None, 1):
        raise DataError(f"`{path}` takes exactly {batch} pictures at a time: it cannot be used")
    return batch == 1


def _check_operations(model: Any, path: Path) -> None:
    """Refuse what OpenVINO takes and computes otherwise: its interpolation passes over ``antialias``."""
    for operation in model.get_ops():
        if operation.get_type_name() == "Interpolate" and operation.get_attributes().get("antialias"):
            raise DeviceError(
                f"OpenVINO cannot run `{path}`: it leaves out the antialiasing of `{operation.get_friendly_name()}`",
                "`--engine onnxruntime` and `--engine torch` can",
            )


@cache
def _openvino() -> Any:
    with _without_telemetry():
        try:
            import openvino
        except ModuleNotFoundError as error:
            raise DeviceError(
                "engine `openvino` is not installed", 'pip install "seglab[openvino]", or pip install openvino'
            ) from error
        except (ImportError, OSError) as error:
            raise DeviceError(
                f"openvino cannot be imported: {error}", "pip install --upgrade --force-reinstall openvino"
            ) from error
    return openvino


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Hide the package by which OpenVINO reports each import to its makers: only fetch uses the network."""
    missing = object()
    before: Any = sys.modules.get(_TELEMETRY, missing)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # An import of it fails, which OpenVINO expects.
    try:
        yield
    finally:
        if before is missing:
            del sys.modules[_TELEMETRY]
        else:
            sys.modules[_TELEMETRY] = before


def _said(error: Exception) -> str:
    """Return what OpenVINO says of the matter, in a line, without the places in its source code and its advice."""
    lines = [line.strip().removeprefix("-- ") for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith(_BESIDE_THE_POINT)]
    return (" ".join(lines) or type(error).__name__)[:200]
