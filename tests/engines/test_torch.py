"""The torch engine: works on a copy, folds what can be folded, and survives one shortage of memory."""

import copy
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.device import Device
from seglab.engines.torch import TorchEngine, _exact_float32
from seglab.errors import DeviceError
from seglab.models.export import photo_like
from seglab.models.weights import fold_batch_norm
from seglab.models.zoo import build
from seglab.preprocess import Preprocess
from tests.engines.conftest import lively

CPU = Device("cpu", None, "test")
PREPROCESS = Preprocess(size_hw=(64, 64))


class Greedy(nn.Module):
    """Runs out of memory with more pictures than it can hold."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.batches: list[int] = []

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        self.batches.append(len(image))
        if len(image) > self.capacity:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return (image[:, :2] * 2,)


def test_a_live_network_is_not_touched() -> None:
    network = build("unet-light", 3, width=2).train()
    before = copy.deepcopy(network.state_dict())
    names = [name for name, _ in network.named_modules()]
    engine = TorchEngine(network, PREPROCESS, CPU)
    logits = engine(photo_like((2, 64, 64)))
    assert network.training
    assert [name for name, _ in network.named_modules()] == names
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    with torch.no_grad():
        network.head.bias.add_(100)
    np.testing.assert_array_equal(engine(photo_like((2, 64, 64))), logits)


def test_a_compiled_network_is_unwrapped() -> None:
    network = lively("unet-light", 3, width=2)
    pixels = photo_like((1, 64, 64))
    expected = TorchEngine(network, PREPROCESS, CPU)(pixels)
    np.testing.assert_array_equal(TorchEngine(torch.compile(network), PREPROCESS, CPU)(pixels), expected)


@pytest.fixture
def fresh_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what was compiled before, here and on the disk."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_network_compiled_on_demand_answers_the_same_and_says_what_it_cost(fresh_compiler: None) -> None:
    network = lively("unet-light", 3, width=2)
    pixels = photo_like((2, 64, 64))
    engine = TorchEngine(network, PREPROCESS, CPU, compile=True)
    assert engine.notes == []
    logits = engine(pixels)
    assert np.abs(logits - TorchEngine(network, PREPROCESS, CPU)(pixels)).max() < 1e-3
    engine(pixels)
    assert len(engine.notes) == 1
    assert re.fullmatch(r"compiling took \d+ s", engine.notes[0])


@pytest.mark.slow
def test_without_a_compiler_the_error_says_so(fresh_compiler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config as config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    engine = TorchEngine(lively("unet-light", 3, width=2), PREPROCESS, CPU, compile=True)
    with pytest.raises(DeviceError, match=r"torch cannot compile the network: .*No working C\+\+ compiler") as caught:
        engine(photo_like((1, 64, 64)))
    assert "\n" not in caught.value.message
    assert "`g++`" in caught.value.hint


def test_bfloat16_is_near_float32() -> None:
    network = lively("unet-light", 3, width=4)
    pixels = photo_like((2, 64, 64))
    exact = TorchEngine(network, PREPROCESS, CPU, precision="fp32")(pixels)
    rough = TorchEngine(network, PREPROCESS, CPU, precision="bf16")(pixels)
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).max() < 0.1 * np.abs(exact).max()


def test_out_of_memory_halves_the_batch_once_and_says_so() -> None:
    engine = TorchEngine(Greedy(3), PREPROCESS, CPU)
    plenty = TorchEngine(Greedy(99), PREPROCESS, CPU)
    pixels = photo_like((5, 8, 8))
    np.testing.assert_array_equal(engine(pixels), plenty(pixels))
    assert engine.notes == ["out of memory with 5 pictures at once on cpu: going on with 3"]
    np.testing.assert_array_equal(engine(pixels), plenty(pixels))
    assert len(engine.notes) == 1
    assert engine._network.batches[1:] == [5, 3, 2, 3, 2]  # The first was the folding's.


@pytest.mark.parametrize(("num", "capacity", "tried"), [(8, 2, 4), (1, 0, 1)])
def test_out_of_memory_for_good(num: int, capacity: int, tried: int) -> None:
    greedy = Greedy(99)
    engine = TorchEngine(greedy, PREPROCESS, CPU)
    engine._network.capacity = capacity
    with pytest.raises(DeviceError, match=f"out of memory on cpu with {tried} pictures of 8x8 at once"):
        engine(photo_like((num, 8, 8)))


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    class Broken(nn.Module):
        def forward(self, image: Tensor) -> tuple[Tensor, ...]:
            if len(image) > 1:
                raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
            return (image,)

    with pytest.raises(RuntimeError, match="mat1"):
        TorchEngine(Broken(), PREPROCESS, CPU)(photo_like((2, 8, 8)))


def test_exact_float32_is_restored() -> None:
    before = torch.backends.cudnn.conv.fp32_precision
    with _exact_float32():
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert torch.backends.cudnn.conv.fp32_precision == before


class Odd(nn.Module):
    """BatchNorms of every kind: the first two can be folded, the others cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 4, 2, stride=2)
        self.up_norm = nn.BatchNorm2d(4)
        self.plain = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.plain_norm = nn.BatchNorm2d(4, affine=False)
        self.shared = nn.Conv2d(4, 4, 1)
        self.shared_norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])
        self.reused = nn.Conv2d(4, 4, 1)
        self.reused_norm = nn.BatchNorm2d(4)
        self.batch = nn.Conv2d(4, 4, 1)
        self.batch_norm = nn.BatchNorm2d(4, track_running_stats=False)
        self.grouped = nn.ConvTranspose2d(4, 4, 1, groups=2)
        self.grouped_norm = nn.BatchNorm2d(4)
        self.late = nn.Conv2d(4, 4, 1)
        self.late_norm = nn.BatchNorm2d(4)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = F.relu(self.up_norm(self.up(image)), inplace=True)
        x = self.plain_norm(self.plain(x))
        x = self.shared_norms[0](self.shared(x)) + self.shared_norms[1](self.shared(x))
        convolved = self.reused(x)
        x = self.reused_norm(convolved) + convolved
        x = self.batch_norm(self.batch(x))
        x = self.grouped_norm(self.grouped(x))
        return (self.late_norm(F.relu(self.late(x))),)


def test_folding_takes_exactly_the_pairs_that_allow_it() -> None:
    torch.manual_seed(0)
    network = Odd().eval()
    folded, num = fold_batch_norm(network)
    assert num == 2
    kept = [name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)]
    every = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert set(every) - set(kept) == {"up_norm", "plain_norm"}
    image = torch.randn(2, 3, 9, 7)
    with torch.no_grad():
        torch.testing.assert_close(folded(image)[0], network(image)[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "num"), [("unet-light", 22), ("u2netp", 112), ("unet-mobilenet_v2", 62)])
def test_every_batch_norm_of_the_zoo_is_folded(name: str, num: int) -> None:
    network = lively(name, 2)
    folded, folded_num = fold_batch_norm(network)
    assert folded_num == num == sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    image = torch.randn(1, 3, 50, 70)
    with torch.no_grad():
        before, after = network(image), folded(image)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_folding_that_changes_the_outputs_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(weight: Tensor, bias: Tensor | None, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        return nn.Parameter(2 * weight), nn.Parameter(torch.zeros(len(weight)))

    monkeypatch.setattr("torch.nn.utils.fuse_conv_bn_weights", wrong)
    network = lively("unet-light", 2, width=2)
    folded, num = fold_batch_norm(network)
    assert num == 0
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(folded(image)[0], network(image)[0], atol=0, rtol=0)
