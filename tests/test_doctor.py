"""``seglab doctor``: finds what is broken, in processes of their own, and says what to do; tells no secret."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import seglab.doctor as module
from seglab.doctor import Diagnosis, Folder, Library, diagnose
from seglab.doctor.probes import try_device, try_imports
from seglab.errors import ExitCode

FAKE_TORCH = """
from types import SimpleNamespace
__version__ = "2.13.0+cpu"
version = SimpleNamespace(cuda=None, hip=None)
cuda = SimpleNamespace(is_available=lambda: False, device_count=lambda: 0)
backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False))
ops = SimpleNamespace(torchvision=SimpleNamespace(nms=None))
"""
MISMATCH = 'raise RuntimeError("operator torchvision::nms does not exist")\n'


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that comes first on the path, with quick and healthy torch, torchvision and smp in it."""
    folder = tmp_path / "fakes"
    folder.mkdir()
    (folder / "torch.py").write_text(FAKE_TORCH)
    for name in ("torchvision", "segmentation_models_pytorch"):
        (folder / f"{name}.py").write_text("import torch\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(Path(module.__file__).parents[2])]))
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "cache"))
    return folder


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "seglab", "doctor", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "120", **environment},
        check=False,
    )


def problems(diagnosis: Diagnosis) -> list[str]:
    return [problem.what for problem in diagnosis.problems if problem.serious]


@pytest.mark.slow
def test_this_installation_is_healthy() -> None:
    done = doctor("--json")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["healthy"] is True
    versions = {library["name"]: library["version"] for library in values["libraries"]}
    assert all(versions[name] for name in ("torch", "torchvision", "onnxruntime", "numpy", "pillow"))
    assert values["engines"]["onnxruntime"].startswith("cpu")
    assert values["engines"]["torch"].startswith("cpu")
    assert values["device"]["chosen"] in ("cpu", "cuda:0", "mps")
    for word in ("torch", "device", "engine onnxruntime", "login kaggle", "cache folder"):
        assert word in done.stderr


def test_torch_and_torchvision_of_different_builds_are_one_line(fakes: Path) -> None:
    (fakes / "torchvision.py").write_text("import torch\n" + MISMATCH)
    (fakes / "segmentation_models_pytorch.py").write_text("import torchvision\n")
    done = doctor("--json")
    assert done.returncode == ExitCode.DEVICE == 6
    assert "Traceback" not in done.stderr
    values = json.loads(done.stdout)
    serious = [problem for problem in values["problems"] if problem["serious"]]
    assert len(serious) == 1  # smp falls with torchvision, and is not named beside it
    assert "is not built for torch" in serious[0]["what"]
    assert "operator torchvision::nms does not exist" in serious[0]["what"]
    assert serious[0]["hint"].startswith("`pip install --force-reinstall torch torchvision`")
    line = next(line for line in done.stderr.splitlines() if line.startswith("problem: "))
    assert "torchvision::nms" in line
    assert values["engines"]["torch"] == "cpu"


def test_a_library_that_crashes_hangs_or_exits_is_named_and_the_others_are_looked_at(
    fakes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fakes / "dies.py").write_text("import os\nos.kill(os.getpid(), 11)\n")
    (fakes / "exits.py").write_text("print('hello')\nraise SystemExit('go away')\n")
    (fakes / "leaves.py").write_text("import os, sys\nprint('no space', file=sys.stderr, flush=True)\nos._exit(3)\n")
    (fakes / "fine.py").write_text("print('chatter', end='')\n")
    said = try_imports(["dies", "exits", "leaves", "fine"])
    assert said["dies"] == {"error": "crashes (SIGSEGV)"}
    assert said["exits"]["error"] == "go away"
    assert said["leaves"] == {"error": "ends with exit code 3: no space"}
    assert said["fine"] == {"module": "fine"}
    (fakes / "hangs.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr("seglab.doctor.probes.TIMEOUT_S", 2.0)
    said = try_imports(["fine", "hangs"])
    assert said["hangs"] == {"error": "did not finish within 2 s"}
    assert "error" not in said["fine"]


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("import os\nos.kill(os.getpid(), 4)\n", "is broken: crashes (SIGILL)", "`pip install --upgrade --force-rein"),
        ("raise ImportError('libtorch_cpu.so: cannot open')\n", "is broken: libtorch_cpu.so", "`pip install"),
    ],
)
def test_a_broken_torch_is_named_once(fakes: Path, text: str, what: str, hint: str) -> None:
    (fakes / "torch.py").write_text(text)
    diagnosis = diagnose()
    assert not diagnosis.healthy
    (named,) = [problem for problem in diagnosis.problems if problem.serious]
    assert named.what.startswith("torch ")
    assert what in named.what
    assert named.hint.startswith(hint)
    assert diagnosis.engines["torch"] == ""
    assert diagnosis.engines["onnxruntime"] == "cpu"


def test_what_is_not_installed(fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.version

    def version(name: str) -> str:
        if name.startswith(("onnxruntime", "openvino")):
            raise module.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(module, "version", version)
    diagnosis = diagnose()
    assert problems(diagnosis) == ["onnxruntime is not installed"]
    assert (diagnosis.engines["onnxruntime"], diagnosis.engines["openvino"]) == ("", "")
    states = {library.name: library.works for library in diagnosis.libraries}
    assert (states["onnxruntime"], states["openvino"]) == (False, True)  # an extra that is not there is no harm


def test_two_opencvs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "version", lambda name: "5.0")
    library = Library("opencv-python-headless", "5.0", True, False, "libGL.so.1: cannot open shared object file")
    broken, twins = module._library_problems(library, {})
    assert (broken.serious, "pip install opencv-python-headless" in broken.hint) == (True, True)
    assert (twins.serious, "opencv-python" in twins.what, "side by side" in twins.what) == (False, True, True)


def test_no_secret_is_told(fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = doctor("--json", KAGGLE_USERNAME="someone", KAGGLE_KEY="0123456789abcdef", KAGGLE_API_TOKEN="KGAT_secret")
    assert json.loads(done.stdout)["logins"]["kaggle"]
    for secret in ("0123456789abcdef", "KGAT_secret", "someone"):
        assert secret not in done.stdout + done.stderr
    assert "login kaggle" in done.stderr


def test_a_wrong_wish_for_a_device_or_threads_is_a_problem(fakes: Path) -> None:
    done = doctor("--json", SEGLAB_DEVICE="gpu", SEGLAB_THREADS="many")
    assert done.returncode == 6
    said = [problem["what"] for problem in json.loads(done.stdout)["problems"]]
    assert "no device is called `gpu` (SEGLAB_DEVICE)" in said
    assert "`SEGLAB_THREADS=many` is no number of threads" in said


def test_names_beyond_ascii_where_python_cannot_write_them(fakes: Path) -> None:
    done = doctor("--json", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    (found,) = [problem for problem in json.loads(done.stdout)["problems"] if "ASCII" in problem["what"]]
    assert found["serious"] is False
    assert "PYTHONUTF8=1" in found["hint"]
    assert done.returncode == 0, done.stderr


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a file").write_text("")
    for path, writable, exists in (
        (tmp_path, True, True), (tmp_path / "new" / "er", True, False), (tmp_path / "a file" / "x", False, False),
    ):  # fmt: skip
        folder = module._folder(path)
        assert (folder.writable, folder.exists) == (writable, exists)
        assert folder.free_bytes > 0
    places = {"cache": Folder("c", True, False, 10**12), "temporary": Folder("t", True, True, 10**6)}
    blocked, low = module._folder_problems(places)
    assert "cannot be written" in blocked.what
    assert "SEGLAB_CACHE" in blocked.hint
    assert "0.0 GB left" in low.what
    assert not blocked.serious
    assert not low.serious


def test_fetched_things_are_listed(fakes: Path, tmp_path: Path) -> None:
    for name in ("datasets/helen", "models/u2netp"):
        (tmp_path / "cache" / name).mkdir(parents=True)
        (tmp_path / "cache" / name / "SOURCE.json").write_text("{}")
    assert diagnose().fetched == ("datasets/helen", "models/u2netp")


def test_a_gpu_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "num_nvidia_gpus", lambda: 1)
    for build, words in (("", "built without CUDA"), ("13.0", "built for CUDA 13.0, finds none")):
        torch = Library("torch", "2.15.0", True, True, "", {"cuda_build": build, "gpus": []})
        _, (problem,) = module._device({"name": "cpu", "reason": "a GPU is there"}, torch)
        assert words in problem.what
        assert not problem.serious


def test_the_device_is_chosen_as_by_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGLAB_DEVICE", "cpu")
    assert try_device() == {"name": "cpu", "reason": "SEGLAB_DEVICE is set"}


def test_torch_is_not_imported_in_the_process_itself(fakes: Path) -> None:
    code = (
        "import sys, seglab.doctor\nseglab.doctor.diagnose()\n"
        "print(sorted({'torch', 'torchvision', 'cv2', 'onnxruntime', 'openvino', 'kaggle'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
