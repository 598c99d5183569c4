"""Device choice: nothing is ever replaced silently."""

import pytest

from seglab.device import choose_device, num_threads
from seglab.errors import DeviceError, UsageError


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGLAB_DEVICE", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)


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


def test_threads_respect_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert num_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    everything = num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert num_threads() == everything >= 1
