"""A network in torch: any device, and networks that have no graph (yet).

Legend: B batch, C channels, K classes, H W pixels.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seglab.device import Device
from seglab.engines import PRECISIONS
from seglab.engines.pixels import Normaliser, Pixels
from seglab.errors import DeviceError, unknown
from seglab.models.weights import fold_batch_norm
from seglab.preprocess import Preprocess

__all__ = ["TorchEngine"]

_DTYPES: Final = {"auto": torch.float32, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine:
    """Pixels in, logits out, by a network's main output.

    Works on a copy of the network, with every BatchNorm folded into its convolution and channels last.

    Args:
        network: What the zoo builds; a live one may be given, and is not touched. Wrappers of torch.compile and
            DistributedDataParallel are taken off.
        preprocess: Normalisation.
        device: Where to run.
        precision: One of :data:`PRECISIONS`; fp32 is IEEE float32, never TF32.
        reason: Why this engine was chosen.
        compile: Whether torch compiles the network at its first use, which takes minutes on a CPU; :attr:`notes`
            says how long it took.

    Raises:
        UsageError: If the precision is unknown.
        DeviceError: If the device cannot compute in it.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocess: Preprocess,
        device: Device,
        *,
        precision: str = "auto",
        reason: str = "",
        compile: bool = False,
    ) -> None:
        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        if precision == "fp16" and device.kind == "cpu":
            raise DeviceError("precision `fp16` needs a GPU", "on the CPU there are `fp32` and `bf16`")
        self.name = "torch"
        self.reason = reason
        self.device = device
        self.precision = "fp32" if precision == "auto" else precision
        self.notes: list[str] = []
        self._batch_limit: int | None = None
        self._is_warm = False
        self._device, self._dtype = device.torch(), _DTYPES[precision]
        self._normalise = Normaliser(preprocess)
        self._mean = torch.tensor(preprocess.mean, device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(preprocess.std, device=self._device).view(1, 3, 1, 1)
        self._format = torch.contiguous_format if device.kind == "mps" else torch.channels_last
        bare = _unwrapped(network)
        extras: tuple[str, ...] = getattr(bare, "extras", ())
        self.extras = tuple(dict.fromkeys(extras))
        """Names of what :meth:`with_extras` gives: the main one of each (see :class:`Segmenter`)."""
        self._places = [0, *(extras.index(name) - len(extras) for name in self.extras)]
        folded, _ = fold_batch_norm(bare)
        placed: Any = folded.to(device=self._device, dtype=self._dtype)
        self._network: nn.Module = placed.to(memory_format=self._format).requires_grad_(False)
        self._compiled: Any = torch.compile(self._network) if compile else None

    def __call__(self, pixels_BHWC: Pixels) -> NDArray[np.float32]:
        """Return logits_BKHW of RGB pixels.

        A batch too large for the GPU's memory is halved, once, and so are those after it; :attr:`notes` says so.

        Raises:
            DeviceError: If half a batch, or a single picture, is too large as well.
        """
        return self._compute(pixels_BHWC, self._places[:1])[0]

    def with_extras(self, pixels_BHWC: Pixels) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Return logits_BKHW of RGB pixels as a call does and, by name, logits_B1HW of the network's extras.

        Raises:
            DeviceError: As a call.
        """
        logits_BKHW, *extras = self._compute(pixels_BHWC, self._places)
        return logits_BKHW, dict(zip(self.extras, extras, strict=True))

    def _compute(self, pixels_BHWC: Pixels, places: list[int]) -> list[NDArray[np.float32]]:
        """Return the network's outputs at some places."""
        num = len(pixels_BHWC)
        limit = min(num, self._batch_limit or num)
        try:
            return self._in_pieces(pixels_BHWC, limit, places)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if limit == 1 or self._batch_limit is not None:
                raise _too_large(pixels_BHWC, limit, self._device) from error
        self._release()
        self._batch_limit = limit = (limit + 1) // 2
        self.notes.append(f"out of memory with {num} pictures at once on {self._device}: going on with {limit}")
        try:
            return self._in_pieces(pixels_BHWC, limit, places)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            raise _too_large(pixels_BHWC, limit, self._device) from error

    def _in_pieces(self, pixels_BHWC: Pixels, limit: int, places: list[int]) -> list[NDArray[np.float32]]:
        if limit >= len(pixels_BHWC):
            return self._run(pixels_BHWC, places)
        pieces = [self._run(pixels_BHWC[first : first + limit], places) for first in range(0, len(pixels_BHWC), limit)]
        return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]

    def _run(self, pixels_BHWC: Pixels, places: list[int]) -> list[NDArray[np.float32]]:
        exact = _exact_float32() if self._dtype is torch.float32 and self._device.type == "cuda" else nullcontext()
        with torch.inference_mode(), exact:
            outputs = self._forward(self._image(pixels_BHWC))
            return [outputs[place].float().contiguous().cpu().numpy() for place in places]

    def _forward(self, image_BCHW: Tensor) -> Any:
        if self._compiled is None:
            return self._network(image_BCHW)
        start_s = time.perf_counter()
        try:
            outputs = self._compiled(image_BCHW)
        except RuntimeError as error:
            if _is_out_of_memory(error) or not _is_of_the_compiler(error):
                raise
            raise DeviceError(
                f"torch cannot compile the network: {_said(error)}",
                "it needs a C++ compiler (`g++`), on a GPU also `triton`; without `--compile` it runs as it is",
            ) from error
        if not self._is_warm:
            self._is_warm = True
            self.notes.append(f"compiling took {time.perf_counter() - start_s:.0f} s")
        return outputs

    def _image(self, pixels_BHWC: Pixels) -> Tensor:
        if self._device.type == "cpu" or pixels_BHWC.dtype == np.float32:
            image_BCHW = torch.from_numpy(self._normalise(pixels_BHWC))
        else:  # Bytes are a quarter of the traffic; the GPU normalises them.
            pixels_BCHW = torch.from_numpy(np.ascontiguousarray(pixels_BHWC)).to(self._device).permute(0, 3, 1, 2)
            image_BCHW = (pixels_BCHW.float() / 255 - self._mean) / self._std
        return image_BCHW.to(device=self._device, dtype=self._dtype, memory_format=self._format)

    def _release(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        elif self._device.type == "mps":
            torch.mps.empty_cache()


def _unwrapped(network: Any) -> nn.Module:
    if isinstance(network, nn.parallel.DistributedDataParallel):
        return _unwrapped(network.module)
    if isinstance(network, torch._dynamo.OptimizedModule):
        return _unwrapped(network._orig_mod)
    bare: nn.Module = network
    return bare


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)


def _is_of_the_compiler(error: RuntimeError) -> bool:
    return any(kind.__module__.startswith(("torch._dynamo", "torch._inductor")) for kind in type(error).__mro__)


def _said(error: Exception) -> str:
    """Return what an error says, without torch's advice to developers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "Error:" in line or "Exception:" in line), None)
    return (said or (lines[0] if lines else type(error).__name__))[:200]


def _too_large(pixels_BHWC: Pixels, limit: int, device: torch.device) -> DeviceError:
    _, height, width, _ = pixels_BHWC.shape
    hint = "`--batch-size 1`" if limit > 1 else "free some, or `--device cpu`"
    return DeviceError(f"out of memory on {device} with {limit} pictures of {height}x{width} at once", hint)


@contextmanager
def _exact_float32() -> Iterator[None]:
    """Compute convolutions in IEEE float32: TF32, cuDNN's default, changes the third digit of a logit."""
    cudnn: Any = torch.backends.cudnn
    convolutions = cudnn.conv
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before
