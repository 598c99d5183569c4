"""Where and with what a run was made, and how torch is set up for it."""

import platform
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import torch

from seglab import files
from seglab.allocator import keep_freed_memory
from seglab.data.manifest import Dataset
from seglab.device import Device, num_threads
from seglab.models.bundle import installed_versions

__all__ = ["describe_environment", "set_up_torch"]


def set_up_torch(device: Device) -> None:
    """Make torch fast on a device, for the rest of the process."""
    if device.kind == "cpu":
        keep_freed_memory()
        torch.set_num_threads(num_threads())
    if device.kind == "cuda":
        torch.backends.cudnn.benchmark = True


def describe_environment(path: Path, device: Device, dataset: Dataset) -> None:
    """Write versions, device, command line and dataset as JSON."""
    values: dict[str, Any] = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": sys.argv,
        "versions": {**installed_versions(), "opencv": cv2.__version__},
        "platform": platform.platform(),
        "device": {"name": device.name, "reason": device.reason},
        "cpu_threads": torch.get_num_threads(),
        "dataset": {"dir": str(dataset.dir.resolve()), "source": dataset.source, "digest": dataset.digest},
    }
    files.write_json(path, values)
