"""The graph of a bundle in ONNX Runtime: starts in a fraction of torch's time and is faster on a CPU.

Legend: B batch, C channels, K classes, H W pixels.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.device import Device, num_threads
from seglab.engines.pixels import Normaliser, Pixels
from seglab.engines.rewriting import rewritten
from seglab.errors import DataError, DeviceError, first_line
from seglab.models.session import EXTRA_NAMES, INPUT_NAME, available_providers, open_session, runtime_errors
from seglab.preprocess import Preprocess

__all__ = ["OnnxRuntimeEngine"]


class OnnxRuntimeEngine:
    """Pixels in, logits out, by a graph with one input (B, 3, H, W) and the logits as its first output.

    Args:
        path: Where the graph is from, for errors.
        data: The whole file.
        preprocess: Normalisation, and the size that a graph of fixed size must have.
        device: The CPU, or a GPU for which ONNX Runtime has a provider. Where it has none, the CPU is taken and
            :attr:`reason` says so, unless the user asked for the device.
        threads: Threads within an operator; all usable CPUs by default.
        callers: How many threads will call this at once, each with its share of the others; heeded on the CPU.
        reason: Why this engine was chosen.

    Raises:
        DeviceError: If ONNX Runtime is missing, or has no working provider for the device that was asked for.
        DataError: If the graph is broken, not self-contained, or not of this form.
    """

    def __init__(
        self,
        path: Path,
        data: bytes,
        preprocess: Preprocess,
        device: Device,
        *,
        threads: int | None = None,
        callers: int = 1,
        reason: str = "",
    ) -> None:
        self.name = "onnxruntime"
        self.precision = "fp32"
        self.notes: list[str] = []
        self._path = path
        self._normalise = Normaliser(preprocess)
        self.callers = callers if device.kind == "cpu" else 1
        # A call computes in its own thread, and the threads of the session help all calls.
        threads = max(1, (threads or num_threads()) // self.callers)
        try:
            self._session = _open_on(device, path, data, threads)
        except DeviceError as error:
            if device.asked_for or device.kind == "cpu":
                raise
            device, reason = Device("cpu", None, error.message), f"{reason}; {error.message}"
            self._session = _open_on(device, path, data, threads)
        self.device, self.reason = device, reason
        self._input, self._one_by_one = _form(self._session, preprocess, path)
        first, *others = (output.name for output in self._session.get_outputs())
        self._output: str = first
        self.extras = tuple(name for name in others if name in EXTRA_NAMES)
        """Names of what :meth:`with_extras` gives."""

    def __call__(self, pixels_BHWC: Pixels) -> NDArray[np.float32]:
        """Return logits_BKHW of RGB pixels.

        Raises:
            DeviceError: If ONNX Runtime fails, for want of memory say.
        """
        return self._compute(pixels_BHWC, [self._output])[0]

    def with_extras(self, pixels_BHWC: Pixels) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Return logits_BKHW of RGB pixels and, by name, logits_B1HW of the graph's other outputs.

        Raises:
            DeviceError: If ONNX Runtime fails, for want of memory say.
        """
        logits_BKHW, *extras = self._compute(pixels_BHWC, [self._output, *self.extras])
        return logits_BKHW, dict(zip(self.extras, extras, strict=True))

    def _compute(self, pixels_BHWC: Pixels, names: list[str]) -> list[NDArray[np.float32]]:
        image_BCHW = self._normalise(pixels_BHWC)
        if self._one_by_one and len(image_BCHW) != 1:
            answers = [self._run(image_BCHW[i : i + 1], names) for i in range(len(image_BCHW))]
            return [np.concatenate(parts) for parts in zip(*answers, strict=True)]
        return self._run(image_BCHW, names)

    def _run(self, image_BCHW: NDArray[np.float32], names: list[str]) -> list[NDArray[np.float32]]:
        try:
            answer: list[NDArray[np.float32]] = self._session.run(names, {self._input: image_BCHW})
        except runtime_errors() as error:
            shape = "x".join(map(str, image_BCHW.shape))
            raise DeviceError(
                f"ONNX Runtime failed on `{self._path}` with input {shape}: {first_line(error)[:200]}",
                "try a smaller batch, or `--engine torch`",
            ) from error
        return answer


def _open_on(device: Device, path: Path, data: bytes, threads: int) -> Any:
    providers = _providers(device)
    quick = rewritten(data) if device.kind == "cpu" else data
    session = open_session(path, quick, threads=threads, providers=providers)
    wanted = providers[0][0]
    if wanted not in session.get_providers():  # Libraries of CUDA are missing: ONNX Runtime would go on without.
        raise DeviceError(
            f"ONNX Runtime has {wanted}, but it does not work here on `{device.name}`",
            "are CUDA and cuDNN installed in the versions that it wants? `--device cpu`, or `--engine torch`",
        )
    return session


def _providers(device: Device) -> list[tuple[str, dict[str, Any]]]:
    """Return ONNX Runtime's provider for a device, told to compute in float32, and the CPU's for what it lacks."""
    cpu: tuple[str, dict[str, Any]] = ("CPUExecutionProvider", {})
    if device.kind == "cpu":
        return [cpu]
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        "cuda": ("CUDAExecutionProvider", {"device_id": device.index, "use_tf32": 0}),
        "mps": ("CoreMLExecutionProvider", {"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndGPU"}),
    }
    name, options = wanted[device.kind]
    if name not in available_providers():
        raise DeviceError(
            f"the installed ONNX Runtime cannot use device `{device.name}`", "`--device cpu`, or `--engine torch`"
        )
    return [(name, options), cpu]


def _form(session: Any, preprocess: Preprocess, path: Path) -> tuple[str, bool]:
    """Return the input's name, and whether the graph takes one picture at a time."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    named = [item for item in inputs if item.name == INPUT_NAME] or inputs
    if len(inputs) != 1 or not outputs or named[0].type != "tensor(float)" or len(named[0].shape) != 4:
        raise DataError(f"`{path}` does not take one float32 picture (B, 3, H, W): it cannot be used")
    batch, *rest = named[0].shape
    expected = (3, *preprocess.size_hw)
    if any(isinstance(have, int) and have != want for have, want in zip(rest, expected, strict=True)):
        raise DataError(f"`{path}` takes pictures of {rest}, but its configuration says {list(expected)}")
    if isinstance(batch, int) and batch != 1:
        raise DataError(f"`{path}` takes exactly {batch} pictures at a time: it cannot be used")
    return named[0].name, batch == 1
