"""Imports that are tried in processes of their own, with a time limit: a broken library can crash, hang or print."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["CHAINS", "try_device", "try_imports"]

TIMEOUT_S: Final = 180.0
"""How long a chain of imports may take. The first one after an installation compiles thousands of files."""
CHAINS: Final = (
    ("torch", "torchvision", "segmentation_models_pytorch"),
    ("numpy", "PIL", "cv2", "safetensors", "onnxruntime", "openvino"),
)
"""Modules that are imported one after the other in one process; each begins with what the next ones need."""

_MARK: Final = "seglab-doctor:"
_PROBE: Final = """
import importlib, json, sys
sys.modules["openvino_telemetry"] = None  # It would tell the network of the import.
def look(name):
    module = importlib.import_module(name)
    if name == "torch":
        gpus = range(module.cuda.device_count()) if module.cuda.is_available() else ()
        return {"cuda_build": module.version.cuda or "", "mps": bool(module.backends.mps.is_available()),
                "gpus": [module.cuda.get_device_name(index) for index in gpus]}
    if name == "torchvision":
        import torch
        torch.ops.torchvision.nms
    if name == "onnxruntime":
        return {"providers": module.get_available_providers()}
    if name == "openvino":
        return {"devices": module.Core().available_devices}
    return {}
for name in sys.argv[1:]:
    try:
        said = look(name)
    except (Exception, SystemExit) as error:
        said = {"error": (str(error).strip().splitlines() or [type(error).__name__])[0]}
    print("\\n" + MARK + json.dumps({"module": name, **said}), flush=True)
""".replace("MARK", repr(_MARK))
_DEVICE_PROBE: Final = """
import json
from seglab.device import choose_device
from seglab.errors import SeglabError
try:
    device = choose_device()
    said = {"name": device.name, "reason": device.reason}
except SeglabError as error:
    said = {"error": error.message, "hint": error.hint}
print("\\n" + MARK + json.dumps(said))
""".replace("MARK", repr(_MARK))


def try_imports(modules: Sequence[str]) -> dict[str, Any]:
    """Return what each module says of itself, or its ``error``. One that kills its process does not stop the others.

    Args:
        modules: Names, in the order of import.
    """
    said: dict[str, Any] = {}
    while left := [module for module in modules if module not in said]:
        lines, death = _run(_PROBE, *left)
        said.update({line["module"]: line for line in lines})
        if death:
            said[next(module for module in modules if module not in said)] = {"error": death}
    return said


def try_device() -> dict[str, Any]:
    """Return ``name`` and ``reason`` of the device that is chosen unasked, or ``error`` and ``hint``."""
    lines, death = _run(_DEVICE_PROBE)
    return lines[0] if lines else {"error": f"the choice of a device {death}"}


def _run(program: str, *arguments: str) -> tuple[list[dict[str, Any]], str]:
    """Run a probe where libraries are found as here; return what it said line by line, and how it died, if it did."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    command = [sys.executable, "-P", "-W", "ignore", "-c", program, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, env=environment, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S, check=False
        )
        output, death = done.stdout, _death(done.returncode, done.stderr)
    except subprocess.TimeoutExpired as error:
        output, death = error.stdout or b"", f"did not finish within {TIMEOUT_S:.0f} s"
    lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.startswith(_MARK)]
    said = [json.loads(line.removeprefix(_MARK)) for line in lines]
    return said, death or ("" if len(said) >= len(arguments) and said else "ends without a word")


def _death(code: int, stderr: bytes) -> str:
    if code < 0:
        return f"crashes ({_signal_name(-code)})"
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return "" if code == 0 else f"ends with exit code {code}" + (f": {lines[-1][:200]}" if lines else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
