"""The graph of a bundle in ONNX Runtime: starts in a fraction of torch's time and is faster on a CPU.

Legend: B batch, C channels, K classes, H W pixels.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.config import Preprocess
from seglab.device import Device, num_threads
from seglab.engines.pixels import Normaliser
from seglab.errors import DataError, DeviceError
from seglab.models.session import INPUT_NAME, available_providers, open_session, runtime_errors

__all__ = ["OnnxRuntimeEngine"]


class OnnxRuntimeEngine:
    """Pixels in, logits out, by a graph with one input (B, 3, H, W) and the logits as its first output.

    Args:
        path: Where the graph is from, for errors.
        data: The whole file.
        preprocess: Normalisation, and the size that a graph of fixed size must have.
        device: The CPU, or a GPU for which ONNX Runtime has a provider.
        threads: Threads within an operator; all usable CPUs by default.
        reason: Why this engine was chosen.

    Raises:
        DeviceError: If ONNX Runtime is missing, or has no provider for the device.
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
        reason: str = "",
    ) -> None:
        self.name = "onnxruntime"
        self.reason = reason
        self.notes: list[str] = []
        self._path = path
        self._normalise = Normaliser(preprocess)
        self._session = open_session(path, data, threads=threads or num_threads(), providers=_providers(device))
        self._input, self._one_by_one = _form(self._session, preprocess, path)
        self._output: str = self._session.get_outputs()[0].name

    def __call__(self, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits_BKHW of RGB pixels.

        Raises:
            DeviceError: If ONNX Runtime fails, for want of memory say.
        """
        image_BCHW = self._normalise(pixels_BHWC)
        if self._one_by_one and len(image_BCHW) != 1:
            return np.concatenate([self._run(image_BCHW[i : i + 1]) for i in range(len(image_BCHW))])
        return self._run(image_BCHW)

    def _run(self, image_BCHW: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            logits_BKHW: NDArray[np.float32] = self._session.run([self._output], {self._input: image_BCHW})[0]
        except runtime_errors() as error:
            shape = "x".join(map(str, image_BCHW.shape))
            raise DeviceError(
                f"ONNX Runtime failed on `{self._path}` with input {shape}: {str(error).splitlines()[0][:200]}",
                "try a smaller batch, or `--engine torch`",
            ) from error
        return logits_BKHW


def _providers(device: Device) -> list[Any]:
    if device.kind == "cpu":
        return ["CPUExecutionProvider"]
    wanted = {"cuda": "CUDAExecutionProvider", "mps": "CoreMLExecutionProvider"}[device.kind]
    if wanted not in available_providers():
        raise DeviceError(
            f"the installed ONNX Runtime cannot use device `{device.name}`", "`--device cpu`, or `--engine torch`"
        )
    return [(wanted, {"device_id": device.index})] if device.kind == "cuda" else [wanted]


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
