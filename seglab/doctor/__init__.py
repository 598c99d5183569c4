"""What seglab finds here: versions, devices, engines, logins, folders, encodings; and what mends what is wrong."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from seglab.device import cpu_quota, num_nvidia_gpus, num_threads
from seglab.doctor.probes import CHAINS, try_device, try_imports
from seglab.engines import ENGINES
from seglab.errors import UsageError
from seglab.notation import path_text
from seglab.pipeline import ahead
from seglab.version import __version__

__all__ = ["Diagnosis", "Folder", "Library", "Problem", "diagnose"]

LOW_DISK_BYTES: Final = 2 * 10**9

_NEEDED: Final[Mapping[str, str]] = {
    "numpy": "numpy",
    "pillow": "PIL",
    "opencv-python-headless": "cv2",
    "safetensors": "safetensors",
    "onnxruntime": "onnxruntime",
    "torch": "torch",
    "torchvision": "torchvision",
    "segmentation-models-pytorch": "segmentation_models_pytorch",
    "onnx": "",
    "onnxscript": "",
    "tensorboard": "",
    "typer": "",
    "rich": "",
    "kaggle": "",
    "gdown": "",
}
"""Distribution to the module whose import is tried; those without one say nothing worth the time."""
_OPTIONAL: Final[Mapping[str, str]] = {"openvino": "openvino", "pymatting": ""}
_TWINS: Final[Mapping[str, tuple[str, ...]]] = {
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python"),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-silicon", "onnxruntime-openvino"),
}
"""Distributions that bring the same module."""
_MODULES: Final = {**_NEEDED, **_OPTIONAL}
_BUILT_ON: Final[Mapping[str, tuple[str, ...]]] = {
    "torchvision": ("torch",),
    "segmentation-models-pytorch": ("torch", "torchvision"),
}


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, or could be better."""

    what: str
    """One line, lower case, no full stop."""
    hint: str
    """What to do, with the command."""
    serious: bool = True
    """Whether a part of seglab cannot work because of it."""


@dataclass(frozen=True)
class Library:
    """A library that seglab uses."""

    name: str
    """Of its distribution."""
    version: str
    """Empty if it is not installed."""
    needed: bool
    """Whether it belongs to seglab's dependencies, rather than to its extras."""
    works: bool
    """Whether nothing is wrong with it; so also for an extra that is not installed."""
    error: str = ""
    """What is wrong; empty if nothing is."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What it says of itself."""


@dataclass(frozen=True)
class Folder:
    """A place that seglab writes to."""

    path: str
    exists: bool
    writable: bool
    """Whether files can be made in it, or it can be made."""
    free_bytes: int


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Everything that ``seglab doctor`` says."""

    versions: Mapping[str, str]
    """Of seglab, Python and the system."""
    libraries: tuple[Library, ...]
    device: Mapping[str, Any]
    """Which device is chosen and why, and the GPUs and processors that are there."""
    engines: Mapping[str, str]
    """Engine to how it is usable, empty where it is not."""
    logins: Mapping[str, str]
    """Service to the kind of login, empty where there is none; never its value."""
    folders: Mapping[str, Folder]
    fetched: tuple[str, ...]
    """Datasets and checkpoints that lie in the cache."""
    text: Mapping[str, str]
    """Encodings of file names and streams."""
    problems: tuple[Problem, ...]

    @property
    def healthy(self) -> bool:
        """Whether everything that seglab needs works."""
        return not any(problem.serious for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"healthy": self.healthy, **asdict(self)}


def diagnose() -> Diagnosis:
    """Look at everything; takes as long as importing torch."""
    table = {**dict.fromkeys(_NEEDED, True), **dict.fromkeys(_OPTIONAL, False)}
    found = {name: _installed(name) for name in table}
    device_said, *imported = ahead(lambda look: look(), [try_device, *_attempts(found)], workers=2)
    by_module = {module: said for chain in imported for module, said in chain.items()}
    libraries: list[Library] = []
    problems: list[Problem] = []
    for name, needed in table.items():
        said = by_module.get(_MODULES[name], {}) if found[name] else {"error": "is not installed"} if needed else {}
        facts = {key: value for key, value in said.items() if key not in ("module", "error")}
        libraries.append(Library(name, found[name], needed, "error" not in said, said.get("error", ""), facts))
    by_name = {library.name: library for library in libraries}
    for library in libraries:
        problems += _library_problems(library, by_name)
    device, device_problems = _device(device_said, by_name["torch"])
    folders, fetched = _folders()
    text = _text()
    problems += [*device_problems, *_folder_problems(folders), *_text_problems(text)]
    return Diagnosis(
        versions={"seglab": __version__, "python": platform.python_version(), "system": platform.platform()},
        libraries=tuple(libraries), device=device, engines=_engines(by_name), logins=_logins(),
        folders=folders, fetched=fetched, text=text, problems=tuple(problems),
    )  # fmt: skip


def _installed(name: str) -> str:
    """Return the version of a distribution, or of one that brings the same module."""
    return next((version(twin) for twin in (name, *_TWINS.get(name, ())) if _has(twin)), "")


def _has(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _attempts(found: Mapping[str, str]) -> Iterator[Callable[[], dict[str, Any]]]:
    there = {_MODULES[name] for name, installed in found.items() if installed}
    for chain in CHAINS:
        yield partial(try_imports, [module for module in chain if module in there])


def _library_problems(library: Library, by_name: Mapping[str, Library]) -> Iterator[Problem]:
    broken_below = any(not by_name[name].works for name in _BUILT_ON.get(library.name, ()))
    if library.error and not library.version:
        yield Problem(f"{library.name} {library.error}", f"`pip install {library.name}`")
    elif library.error and library.name == "torchvision" and not broken_below:
        yield _mismatch(library, by_name["torch"])
    elif library.error and not broken_below:  # Otherwise what is below is named, and enough.
        hint = f"`pip install --upgrade --force-reinstall {library.name}`"
        if "libGL" in library.error:
            hint = "`pip uninstall opencv-python opencv-contrib-python`, then `pip install opencv-python-headless`"
        yield Problem(f"{library.name} {library.version} is broken: {library.error[:300]}", hint, library.needed)
    twins = [twin for twin in (library.name, *_TWINS.get(library.name, ())) if _has(twin)]
    if len(twins) > 1:
        yield Problem(
            f"{' and '.join(twins)} are installed side by side and overwrite each other's files",
            f"`pip uninstall {' '.join(twins)}`, then `pip install` the one that you want", serious=False,
        )  # fmt: skip


def _mismatch(torchvision: Library, torch: Library) -> Problem:
    """Return the best-known accident: torch and torchvision from different sources, as in a CPU and a CUDA build."""
    what = f"torchvision {torchvision.version} is broken: {torchvision.error[:300]}"
    if any(mark in torchvision.error for mark in ("torchvision::nms", "undefined symbol", "C++ ops")):
        what = f"torchvision {torchvision.version} is not built for torch {torch.version}: {torchvision.error[:120]}"
    return Problem(what, "`pip install --force-reinstall torch torchvision`, both in one command and from one index")


def _device(said: Mapping[str, Any], torch: Library) -> tuple[dict[str, Any], list[Problem]]:
    problems = []
    if "error" in said:
        hint = said.get("hint") or "`--device cpu` runs on the processor"
        problems.append(Problem(said["error"], hint))
    try:
        threads: int | None = num_threads()
    except UsageError as error:
        threads = None
        problems.append(Problem(error.message, error.hint))
    num_gpus = num_nvidia_gpus()
    if num_gpus and torch.works and not torch.facts.get("gpus"):
        built = torch.facts.get("cuda_build")
        why = f"built for CUDA {built}, finds none: the driver may be too old" if built else "built without CUDA"
        hint = "`pip install --force-reinstall torch torchvision`, for the CUDA that `nvidia-smi` shows"
        what = f"there is an NVIDIA GPU, but torch {torch.version} is {why}"
        problems.append(Problem(what, hint, serious=False))
    device = {
        "chosen": said.get("name"),
        "reason": said.get("reason", ""),
        "gpus": torch.facts.get("gpus", []),
        "nvidia_gpus": num_gpus,
        "mps": bool(torch.facts.get("mps", False)),
        "threads": threads,
        "cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_quota": cpu_quota(),
    }
    return device, problems


def _engines(by_name: Mapping[str, Library]) -> dict[str, str]:
    """Return how each engine is usable: where it computes."""
    usable = {}
    for name in ENGINES[1:]:
        library = by_name[name]
        where = ["cpu"] if library.works and library.version else []
        if where and name == "torch":
            where += [f"cuda:{index}" for index in range(len(library.facts.get("gpus", [])))]
            where += ["mps"] if library.facts.get("mps") else []
        if where and name == "onnxruntime":
            known = {"CUDAExecutionProvider": "cuda", "CoreMLExecutionProvider": "mps"}
            where += [known[provider] for provider in library.facts.get("providers", []) if provider in known]
        usable[name] = ", ".join(where)
    return usable


def _logins() -> dict[str, str]:
    from seglab.data.fetching.kaggle import find_login

    return {"kaggle": find_login()}


def _folders() -> tuple[dict[str, Folder], tuple[str, ...]]:
    import tempfile

    from seglab.data.fetching.places import SOURCE_NAME, cache_dir

    places = {"cache": cache_dir(), "working": Path.cwd(), "temporary": Path(tempfile.gettempdir())}
    try:
        found = sorted(path.parent for path in cache_dir().glob(f"*/*/{SOURCE_NAME}"))
    except OSError:
        found = []
    fetched = tuple(f"{folder.parent.name}/{folder.name}" for folder in found)
    return {name: _folder(path) for name, path in places.items()}, fetched


def _folder(path: Path) -> Folder:
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    return Folder(path_text(path), path.is_dir(), writable, shutil.disk_usage(there).free)


def _folder_problems(folders: Mapping[str, Folder]) -> Iterator[Problem]:
    hints = {
        "cache": "`export SEGLAB_CACHE=DIR` names another folder",
        "working": "go to another folder, or name outputs with `-o`",
        "temporary": "`export TMPDIR=DIR` names another folder",
    }
    for name, folder in folders.items():
        if not folder.writable:
            yield Problem(f"the {name} folder `{folder.path}` cannot be written", hints[name], serious=False)
        elif folder.free_bytes < LOW_DISK_BYTES:
            free = f"{folder.free_bytes / 1e9:.1f} GB"
            yield Problem(f"the {name} folder `{folder.path}` has {free} left", hints[name], serious=False)


def _text() -> dict[str, str]:
    return {
        "file_names": sys.getfilesystemencoding(),
        "stdout": str(getattr(sys.stdout, "encoding", "")),
        "stderr": str(getattr(sys.stderr, "encoding", "")),
        "locale": os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or "",
    }


def _text_problems(text: Mapping[str, str]) -> Iterator[Problem]:
    odd = [name for name in ("file_names", "stdout", "stderr") if _is_narrow(text[name])]
    if odd:
        where = " and ".join(f"{name.replace('_', ' ')} ({text[name]})" for name in odd)
        yield Problem(
            f"names beyond ASCII are shown as escapes: {where}",
            "`export PYTHONUTF8=1`, or a locale such as `LC_ALL=C.UTF-8`", serious=False,
        )  # fmt: skip


def _is_narrow(encoding: str) -> bool:
    return not encoding.lower().replace("_", "-").startswith(("utf", "cp65001"))
