"""Where the arithmetic happens: one choice, made once, with its reason; torch is imported only if a GPU is likely."""

import ctypes
import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from seglab.errors import DeviceError, UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["Device", "choose_device", "import_torch", "num_threads"]

ENVIRONMENT_VARIABLE: Final = "SEGLAB_DEVICE"


@dataclass(frozen=True)
class Device:
    """A device and why it was chosen."""

    kind: str
    """``cpu``, ``cuda`` or ``mps``."""
    index: int | None
    """Number of the CUDA device; None for the others."""
    reason: str
    """A few words for the user."""

    @property
    def name(self) -> str:
        """``cpu``, ``mps`` or ``cuda:N``, as torch and ``--device`` write it."""
        return self.kind if self.index is None else f"{self.kind}:{self.index}"

    def torch(self) -> "torch.device":
        """Return torch's object for it."""
        device: torch.device = import_torch().device(self.name)
        return device


def choose_device(request: str | None = None) -> Device:
    """Choose the device for a run.

    Args:
        request: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; None reads ``SEGLAB_DEVICE`` and falls back to
            ``auto``, which takes CUDA, then MPS, then the CPU, and never fails.

    Raises:
        UsageError: If the request is none of these.
        DeviceError: If the device that was asked for is not there; never falls back to another silently.
    """
    source = "asked for" if request else f"{ENVIRONMENT_VARIABLE} is set"
    wanted = (request or os.environ.get(ENVIRONMENT_VARIABLE) or "auto").strip().lower()
    if wanted == "auto":
        return _automatic()
    if wanted == "cpu":
        return Device("cpu", None, source)
    if wanted == "mps":
        return _mps(source)
    kind, _, number = wanted.partition(":")
    if kind == "cuda" and (number.isdecimal() or wanted == "cuda"):
        return _cuda(int(number or os.environ.get("LOCAL_RANK", "0")), source)
    raise UsageError(f"no device is called `{wanted}`", "known: auto, cpu, cuda, cuda:N, mps")


def num_threads() -> int:
    """Return how many CPU threads this process may use (its affinity mask, or ``OMP_NUM_THREADS`` if that is less)."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(available, int(limit))) if limit.isdecimal() and int(limit) else available


def import_torch() -> Any:
    """Import torch, turning a broken installation into one line.

    Raises:
        DeviceError: If torch cannot be imported.
    """
    try:
        import torch
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"torch cannot be imported: {error}", "reinstall it: `pip install --force-reinstall torch`"
        ) from error
    return torch


def _automatic() -> Device:
    if _has_nvidia_driver() and import_torch().cuda.is_available():
        return _cuda(int(os.environ.get("LOCAL_RANK", "0")), "the first GPU found")
    if platform.system() == "Darwin" and platform.machine() == "arm64" and import_torch().backends.mps.is_available():
        return Device("mps", None, "Apple GPU found")
    return Device("cpu", None, "no GPU found")


def _has_nvidia_driver() -> bool:
    """Ask the driver itself, which takes a millisecond where it is absent, before torch, which takes seconds."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _cuda(index: int, reason: str) -> Device:
    torch = import_torch()
    if not torch.cuda.is_available():
        built = f"torch {torch.__version__} " + (
            "finds no usable GPU" if torch.version.cuda else "is built without CUDA"
        )
        raise DeviceError(f"device `cuda:{index}` was asked for, but {built}", "`--device cpu` runs on the processor")
    count = torch.cuda.device_count()
    if index >= count:
        raise DeviceError(f"device `cuda:{index}` was asked for, but there are {count}, numbered from 0")
    return Device("cuda", index, f"{torch.cuda.get_device_name(index)}, {reason}")


def _mps(reason: str) -> Device:
    if not import_torch().backends.mps.is_available():
        raise DeviceError(
            "device `mps` was asked for, but there is no usable Apple GPU",
            "`--device cpu` runs on the processor",
        )
    return Device("mps", None, reason)
