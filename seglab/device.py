"""Where the arithmetic happens: one choice, made once, with its reason; torch is imported only if a GPU is likely."""

import ctypes
import importlib.util
import math
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from seglab.errors import DeviceError, UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["Device", "choose_device", "import_torch", "lacks_memory", "num_cpus", "num_threads"]

ENVIRONMENT_VARIABLE: Final = "SEGLAB_DEVICE"
THREADS_VARIABLE: Final = "SEGLAB_THREADS"
MAX_THREADS: Final = 1024


@dataclass(frozen=True)
class Device:
    """A device and why it was chosen."""

    kind: str
    """``cpu``, ``cuda`` or ``mps``."""
    index: int | None
    """Number of the CUDA device; None for the others."""
    reason: str
    """A few words for the user."""
    asked_for: bool = False
    """Whether the user named it; then nothing else will do."""

    @property
    def name(self) -> str:
        """``cpu``, ``mps`` or ``cuda:N``, as torch and ``--device`` write it."""
        return self.kind if self.index is None else f"{self.kind}:{self.index}"

    def torch(self) -> "torch.device":
        """Return torch's object for it."""
        device: torch.device = import_torch().device(self.name)
        return device


def choose_device(request: str | None = None, *, with_torch: bool = True) -> Device:
    """Choose the device for a run.

    Args:
        request: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; None reads ``SEGLAB_DEVICE`` and falls back to
            ``auto``, which takes CUDA, then MPS, then the CPU. Under torchrun, ``cuda`` and ``auto`` take the GPU of
            the process's ``LOCAL_RANK``.
        with_torch: Whether torch will compute there. Otherwise the system alone is asked, and torch is not imported.

    Raises:
        UsageError: If the request is none of these, or ``LOCAL_RANK`` is no number.
        DeviceError: If the device that was asked for is not there, or torchrun started more processes than there are
            GPUs; never falls back to another silently.
    """
    given = (request or os.environ.get(ENVIRONMENT_VARIABLE) or "auto").strip()
    source = "asked for" if request else f"{ENVIRONMENT_VARIABLE} is set"
    wanted = given.lower()
    if wanted == "auto":
        return _automatic(with_torch)
    if wanted == "cpu":
        return Device("cpu", None, source, asked_for=True)
    if wanted == "mps":
        return _mps(source, with_torch)
    kind, _, number = wanted.partition(":")
    if kind == "cuda" and (number.isdecimal() or wanted == "cuda"):
        return _cuda(int(number) if number else _local_rank(), source, with_torch, asked_for=True)
    where = "" if request else f" ({ENVIRONMENT_VARIABLE})"
    raise UsageError(f"no device is called `{given}`{where}", "known: auto, cpu, cuda, cuda:N, mps")


def num_threads() -> int:
    """Return how many CPU threads this process should use.

    ``SEGLAB_THREADS`` if it is set; otherwise the CPUs of the affinity mask, no more than the control group's quota
    (rounded up) and ``OMP_NUM_THREADS`` allow.

    Raises:
        UsageError: If ``SEGLAB_THREADS`` is no number of threads.
    """
    own = os.environ.get(THREADS_VARIABLE, "").strip()
    if own:
        if not own.isdecimal() or not 1 <= int(own) <= MAX_THREADS:
            raise UsageError(f"`{THREADS_VARIABLE}={own}` is no number of threads", f"a number within 1..{MAX_THREADS}")
        return int(own)
    available = num_cpus()
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # "4,2": one level of nesting each
    return max(1, min(available, int(limit))) if limit.isdecimal() and int(limit) else max(1, available)


def num_cpus() -> int:
    """Return how many CPUs this process may use: those of the affinity mask, within the quota (rounded up)."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, available if quota is None else min(available, math.ceil(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return how many CPUs the control groups of this process may use at once, on average; None without a limit.

    Containers are limited so: their affinity mask still shows every CPU of the machine. Every group up to the root of
    what is visible counts, in both versions of the interface.

    Args:
        root: Of the file system, for tests.
    """
    quotas = [_quota(group_dir) for group_dir in _control_groups(root)]
    return min((quota for quota in quotas if quota is not None), default=None)


def import_torch() -> Any:
    """Import torch, turning a broken installation into one line.

    Threads that wait for each other are told to sleep: where anything else wants the processor, the threads that decode
    photos to begin with, spinning makes a network several times slower. OpenMP reads this once, when torch is loaded.

    Raises:
        DeviceError: If torch cannot be imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import torch
    except (ImportError, OSError) as error:
        if lacks_memory(error):
            raise DeviceError(f"too little memory to load torch: {error}", "`ulimit -v` shows a limit") from error
        raise DeviceError(
            f"torch cannot be imported: {error}", "reinstall it: `pip install --force-reinstall torch`"
        ) from error
    return torch


def lacks_memory(error: Exception) -> bool:
    """Tell whether a library could not be loaded because it did not fit into memory, as the system's linker says."""
    return "failed to map segment" in str(error) or "cannot allocate memory" in str(error).lower()


def torch_cuda_build() -> str | None:
    """Return the CUDA version that the installed torch is built for, empty if for none; None if that is not known.

    Torch is not imported, which takes seconds.
    """
    try:
        spec = importlib.util.find_spec("torch")
        folders = spec.submodule_search_locations if spec is not None else None
        text = (Path(next(iter(folders or ()))) / "version.py").read_text(encoding="utf-8")
    except (ImportError, ValueError, OSError, StopIteration):
        return None
    found = re.search(r"^cuda\b[^=\n]*=\s*(?:None|['\"]([\d.]+)['\"])", text, re.MULTILINE)
    return (found[1] or "") if found else None


def num_nvidia_gpus() -> int:
    """Return how many GPUs the NVIDIA driver gives this process; takes a millisecond where there is no driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    works = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if works else 0


def _automatic(with_torch: bool) -> Device:
    """Take the best device that works; what is there and does not work is the reason why the CPU is taken."""
    count = num_nvidia_gpus()
    if count:
        problem = _why_not_cuda() if with_torch else ""
        if not problem:
            return _cuda(_local_rank(), "the first GPU found" if _local_rank() == 0 else "by LOCAL_RANK", with_torch)
        return Device("cpu", None, f"a GPU is there, but {problem}")
    if _is_apple_gpu_likely():
        try:
            return _mps("Apple GPU found", with_torch, asked_for=False)
        except DeviceError as error:
            return Device("cpu", None, error.message)
    return Device("cpu", None, "no GPU found")


def _why_not_cuda() -> str:
    """Return why torch cannot use the GPU that the driver has; empty if it can."""
    if torch_cuda_build() == "":
        return "torch is built without CUDA"
    try:
        torch = import_torch()
    except DeviceError as error:
        return error.message
    return "" if torch.cuda.is_available() else f"torch {torch.__version__} cannot use it"


def _is_apple_gpu_likely() -> bool:
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def _local_rank() -> int:
    text = os.environ.get("LOCAL_RANK", "").strip() or "0"
    if not text.isdecimal():
        raise UsageError(f"`LOCAL_RANK={text}` is no number", "torchrun sets it; otherwise leave it unset")
    return int(text)


def _cuda(index: int, reason: str, with_torch: bool, *, asked_for: bool = False) -> Device:
    wanted = f"device `cuda:{index}` was asked for" if asked_for else f"device `cuda:{index}` is needed"
    if not with_torch:
        count, described = num_nvidia_gpus(), reason
        if not count:
            raise DeviceError(f"{wanted}, but the NVIDIA driver shows no GPU", "`--device cpu` runs on the processor")
    else:
        torch = import_torch()
        if not torch.cuda.is_available():
            found = "finds no usable GPU" if torch.version.cuda or torch.version.hip else "is built without CUDA"
            raise DeviceError(
                f"{wanted}, but torch {torch.__version__} {found}",
                "`--device cpu` runs on the processor; `seglab doctor` says more",
            )
        count = torch.cuda.device_count()
        described = f"{torch.cuda.get_device_name(index)}, {reason}" if index < count else reason
    if index >= count:
        there = "there is one, `cuda:0`" if count == 1 else f"there are {count}, numbered from 0"
        ranked = os.environ.get("LOCAL_RANK", "").strip() == str(index) != "0"
        raise DeviceError(
            f"{wanted}, but {there}",
            f"`torchrun --nproc-per-node {count}` starts one process a GPU" if ranked else "`--device cuda:0`",
        )
    return Device("cuda", index, described, asked_for=asked_for)


def _mps(reason: str, with_torch: bool, *, asked_for: bool = True) -> Device:
    usable = import_torch().backends.mps.is_available() if with_torch else _is_apple_gpu_likely()
    if not usable:
        raise DeviceError(
            "device `mps` was asked for, but there is no usable Apple GPU",
            "`--device cpu` runs on the processor",
        )
    return Device("mps", None, reason, asked_for=asked_for)


def _control_groups(root: Path) -> list[Path]:
    """Return the folders of this process's control groups that may limit its CPUs, and of those above them."""
    try:
        memberships = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    paths = {}
    for line in memberships:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers or "cpu" in controllers.split(","):
            paths["cgroup" if controllers else "cgroup2"] = path
    found = []
    for line in mounts:
        before, _, after = line.partition(" - ")
        kind, _, options = [*after.split(" ", 2), "", ""][:3]
        fields = before.split(" ")
        if kind not in paths or len(fields) < 5 or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        mount_root, mount_point = fields[3], root / fields[4].lstrip("/")
        inside = paths[kind].removeprefix(mount_root).strip("/") if paths[kind].startswith(mount_root) else ""
        folder = mount_point / inside
        found += [folder, *(parent for parent in folder.parents if parent.is_relative_to(mount_point))]
    return found


def _quota(group_dir: Path) -> float | None:
    """Return the CPUs that one control group may use; None without a limit."""
    try:
        if (group_dir / "cpu.max").exists():
            quota, period = (group_dir / "cpu.max").read_text(encoding="ascii").split()[:2]
        else:
            quota = (group_dir / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (group_dir / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        cpus = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None  # "max", or no such file
    return cpus if cpus > 0 else None
