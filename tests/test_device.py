"""Device choice: nothing is ever replaced silently."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import seglab.device as module
from seglab.device import choose_device, cpu_quota, num_nvidia_gpus, num_threads, torch_cuda_build
from seglab.errors import DeviceError, ExitCode, UsageError


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGLAB_DEVICE", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("SEGLAB_THREADS", raising=False)


def test_the_processor_is_always_there() -> None:
    device = choose_device("cpu")
    assert (device.name, device.reason) == ("cpu", "asked for")
    assert device.torch().type == "cpu"


@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
@pytest.mark.parametrize("request_", ["cuda", "cuda:0", "CUDA:1", "mps"])
def test_an_absent_device_is_an_error(request_: str) -> None:
    with pytest.raises(DeviceError) as caught:
        choose_device(request_)
    assert "asked for" in caught.value.message
    assert "--device cpu" in caught.value.hint


@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
def test_auto_falls_to_the_processor_and_says_why() -> None:
    assert choose_device("auto").name == "cpu"
    assert choose_device(None).reason == "no GPU found"


@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
def test_the_environment_decides_where_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGLAB_DEVICE", "cuda")
    with pytest.raises(DeviceError):
        choose_device(None)
    assert choose_device("cpu").name == "cpu"


@pytest.mark.parametrize("request_", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0"])
def test_other_words_are_refused(request_: str) -> None:
    with pytest.raises(UsageError, match="no device"):
        choose_device(request_)


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="needs a CUDA device")
def test_a_gpu_is_found() -> None:
    assert choose_device(None).name == "cuda:0"
    with pytest.raises(DeviceError, match="numbered from 0"):
        choose_device("cuda:99")


class FakeTorch:
    """Stands in for torch on a machine with some GPUs."""

    def __init__(self, num_gpus: int, *, cuda: str | None = "13.0", mps: bool = False) -> None:
        self.__version__ = "2.15.0"
        self.version = SimpleNamespace(cuda=cuda, hip=None)
        self.cuda = SimpleNamespace(
            is_available=lambda: num_gpus > 0, device_count=lambda: num_gpus, get_device_name=lambda i: f"GPU {i}"
        )
        self.backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps))


def use(
    monkeypatch: pytest.MonkeyPatch, num_gpus: int, torch: FakeTorch | DeviceError, build: str | None = "13.0"
) -> None:
    def import_torch() -> Any:
        if isinstance(torch, DeviceError):
            raise torch
        return torch

    monkeypatch.setattr(module, "num_nvidia_gpus", lambda: num_gpus)
    monkeypatch.setattr(module, "import_torch", import_torch)
    monkeypatch.setattr(module, "torch_cuda_build", lambda: build)


def test_torchruns_rank_chooses_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, 2, FakeTorch(2))
    for request in ("auto", None, "cuda"):
        assert choose_device(request).name == "cuda:0"
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert choose_device(request).name == "cuda:1"
        monkeypatch.delenv("LOCAL_RANK")
    assert choose_device("cuda:0").name == "cuda:0"
    assert choose_device("auto").reason == "GPU 0, the first GPU found"


def test_more_processes_than_gpus_is_an_error_even_for_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, 2, FakeTorch(2))
    monkeypatch.setenv("LOCAL_RANK", "2")
    for request in ("auto", "cuda"):
        with pytest.raises(DeviceError, match="but there are 2, numbered from 0") as caught:
            choose_device(request)
        assert "--nproc-per-node 2" in caught.value.hint
    monkeypatch.setenv("LOCAL_RANK", "first")
    with pytest.raises(UsageError, match="`LOCAL_RANK=first` is no number"):
        choose_device("auto")


def test_an_index_that_is_out_of_range_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, 1, FakeTorch(1))
    with pytest.raises(DeviceError, match="`cuda:3` was asked for, but there is one, `cuda:0`") as caught:
        choose_device("cuda:3")
    assert caught.value.exit_code == ExitCode.DEVICE == 6


def test_cuda_on_a_build_for_the_cpu_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, 1, FakeTorch(0, cuda=None), "")
    with pytest.raises(DeviceError, match=r"`cuda:0` was asked for, but torch 2.15.0 is built without CUDA"):
        choose_device("cuda")
    use(monkeypatch, 1, FakeTorch(0))
    with pytest.raises(DeviceError, match=r"but torch 2.15.0 finds no usable GPU"):
        choose_device("cuda:0")


@pytest.mark.parametrize(
    ("torch", "build", "reason"),
    [
        (DeviceError("torch must not be imported"), "", "a GPU is there, but torch is built without CUDA"),
        (DeviceError("torch cannot be imported: x"), None, "a GPU is there, but torch cannot be imported: x"),
        (FakeTorch(0), "13.0", "a GPU is there, but torch 2.15.0 cannot use it"),
    ],
)
def test_auto_survives_a_gpu_that_torch_cannot_use(
    monkeypatch: pytest.MonkeyPatch, torch: FakeTorch | DeviceError, build: str | None, reason: str
) -> None:
    use(monkeypatch, 1, torch, build)
    device = choose_device("auto")
    assert (device.name, device.reason, device.asked_for) == ("cpu", reason, False)


def test_an_engine_without_torch_asks_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, 1, DeviceError("torch must not be imported"))
    assert choose_device("cuda", with_torch=False).name == "cuda:0"
    assert choose_device("auto", with_torch=False).name == "cuda:0"
    with pytest.raises(DeviceError, match="there is one"):
        choose_device("cuda:1", with_torch=False)
    use(monkeypatch, 0, DeviceError("torch must not be imported"))
    assert choose_device("auto", with_torch=False).name == "cpu"
    with pytest.raises(DeviceError, match="the NVIDIA driver shows no GPU"):
        choose_device("cuda", with_torch=False)


def test_an_apple_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    use(monkeypatch, 0, FakeTorch(0, cuda=None, mps=True))
    assert (choose_device("auto").name, choose_device("mps").asked_for) == ("mps", True)
    use(monkeypatch, 0, FakeTorch(0, cuda=None))
    assert choose_device("auto").name == "cpu"
    use(monkeypatch, 0, DeviceError("torch must not be imported"))
    assert choose_device("mps", with_torch=False).name == "mps"


def test_the_environment_is_named_where_it_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGLAB_DEVICE", "gpu")
    with pytest.raises(UsageError, match=r"no device is called `gpu` \(SEGLAB_DEVICE\)"):
        choose_device()


def test_the_build_of_torch_is_read_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert torch_cuda_build() == (torch.version.cuda or "")
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(
        module.importlib.util, "find_spec", lambda _: SimpleNamespace(submodule_search_locations=[tmp_path])
    )
    for text, build in (
        ("cuda: Optional[str] = None\n", ""), ("cuda = '13.2'\n", "13.2"), ('cuda: str | None = "12.6"\n', "12.6"),
        ("hip = None\n", None),
    ):  # fmt: skip
        (tmp_path / "version.py").write_text("from typing import Optional\n__version__ = '2.15.0'\n" + text)
        assert torch_cuda_build() == build


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert num_nvidia_gpus() == 0
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(cuInit=lambda flags: 100))
    assert num_nvidia_gpus() == 0


def test_the_processor_needs_no_torch() -> None:
    code = "import sys\nfrom seglab.device import choose_device\nchoose_device('cpu')\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_torch_is_imported_with_threads_that_sleep() -> None:
    """Unless the user or another library has decided otherwise."""
    code = "import os\nfrom seglab.device import import_torch\nimport_torch()\nprint(os.environ['OMP_WAIT_POLICY'])"
    for given, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.strip() == expected


def system(root: Path, cgroup: str, mountinfo: str, files: dict[str, str]) -> Path:
    """Make the files of a file system in which a process finds its control groups."""
    for name, text in {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "files", "quota"),
    [
        ("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        (
            "0::/a/b\n",
            V2,
            {"sys/fs/cgroup/a/b/cpu.max": "400000 100000", "sys/fs/cgroup/a/cpu.max": "200000 100000"},
            2.0,
        ),
        (
            "4:cpu,cpuacct:/docker/abc\n3:memory:/x\n0::/\n",
            V1.replace("0:29 / ", "0:29 /docker/abc "),
            {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        (
            "4:cpu,cpuacct:/\n",
            V1,
            {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            None,
        ),
        ("garbage\n", "more garbage\n", {}, None),
    ],
)
def test_quotas_of_control_groups(
    tmp_path: Path, cgroup: str, mountinfo: str, files: dict[str, str], quota: float | None
) -> None:
    assert cpu_quota(system(tmp_path, cgroup, mountinfo, files)) == quota


def test_where_there_are_no_control_groups(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


def test_threads_respect_the_quota_and_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for quota, threads in ((None, 8), (1.5, 2), (0.2, 1), (2.0, 2), (64.0, 8)):
        monkeypatch.setattr(module, "cpu_quota", lambda quota=quota: quota)
        assert num_threads() == threads


def test_threads_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SEGLAB_THREADS", "3")
    assert num_threads() == 3
    for wrong in ("0", "-1", "many", "2.5", "100000"):
        monkeypatch.setenv("SEGLAB_THREADS", wrong)
        with pytest.raises(UsageError, match=f"`SEGLAB_THREADS={wrong}` is no number of threads"):
            num_threads()


def test_threads_respect_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert num_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    everything = num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1,4")  # a level of nesting each
    assert num_threads() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert num_threads() == everything >= 1
