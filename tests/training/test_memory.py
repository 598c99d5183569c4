"""Steps larger than memory: accumulation equals one large batch, batches are halved, layouts and compilation agree."""

import copy
import dataclasses
import signal

import numpy as np
import pytest
import torch
from torch import nn

from seglab.config import TrainConfig
from seglab.data.loader import Batch, TrainingSamples, epoch_batches
from seglab.errors import DeviceError, Interrupted, UsageError
from seglab.preprocess import Preprocess
from seglab.training.learner import Learner
from seglab.training.loop import train
from seglab.training.memory import Inputs, Portions
from tests.training.test_loop import Watcher, assert_same, final_state, lines, send

CPU = torch.device("cpu")
GRID = Preprocess(size_hw=(16, 16))
LOSSES = {"cross_entropy": 1.0, "dice": 0.7, "lovasz": 0.5, "focal": 0.3}


class Normless(nn.Module):
    """What it says of a picture depends on nothing else in the batch; it has a side output."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.last, self.side = nn.Conv2d(6, num_classes, 1), nn.Conv2d(6, num_classes, 1)

    def forward(self, image_BCHW):
        features = torch.tanh(self.first(image_BCHW))
        return self.last(features), self.side(features)


def batch(num=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (num, 16, 16)).astype(np.uint8)
    labels[0] = 255  # pictures differ in what they count for
    labels[1, :9] = 255
    return Batch(rng.integers(0, 256, (num, 16, 16, 3)).astype(np.uint8), labels, tuple("abcdefgh"[:num]))


def learner(config, tell=lambda _line: None):
    torch.manual_seed(0)
    return Learner(Normless(), config, GRID, CPU, class_weights=[1.0, 2.0, 0.5], tell=tell)


def configured(**changes):
    return TrainConfig(losses=LOSSES, clip=0.5, ema=0.9, optimizer="adam", **changes)


@pytest.mark.parametrize(("batch_size", "accumulate"), [(3, 2), (2, 3), (1, 6), (4, 2)])
def test_accumulated_gradients_are_those_of_one_large_batch(batch_size, accumulate):
    whole = learner(configured(batch_size=6))
    parts = learner(configured(batch_size=batch_size, accumulate=accumulate))
    for seed in range(3):
        for each in (whole, parts):
            each.step(batch(seed=seed), rate=1e-2, seed=seed, decay=0.5)
    assert parts.means() == pytest.approx(whole.means(), rel=1e-4)
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(parts.network.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_step_takes_as_many_samples_as_it_accumulates(dataset, config):
    config = dataclasses.replace(config, batch_size=2, accumulate=3)
    samples = TrainingSamples(dataset, "train", Preprocess(size_hw=(32, 32)))
    assert [len(each) for each in epoch_batches(samples, config, 0, workers=0)] == [5, 5]


@pytest.mark.parametrize(
    ("num", "accumulate", "batch_size", "sizes"),
    [(8, 1, 8, [8]), (8, 3, 3, [3, 3, 2]), (5, 4, 2, [3, 2]), (1, 4, 2, [1]), (3, 3, 1, [1, 1, 1]), (2, 2, 2, [2])],
)
def test_portions_are_as_equal_as_can_be_and_never_of_one_sample(num, accumulate, batch_size, sizes):
    portions = Portions(TrainConfig(batch_size=batch_size, accumulate=accumulate), CPU, print).of(num)
    assert [len(range(num)[portion]) for portion in portions] == sizes
    assert [index for portion in portions for index in range(num)[portion]] == list(range(num))


def test_a_portion_of_inputs_has_all_of_them():
    inputs = Inputs(torch.arange(4.0).view(4, 1, 1, 1), torch.arange(4).view(4, 1, 1), torch.arange(4).view(4, 1, 1))
    part = inputs[slice(1, 3)]
    assert (len(inputs), len(part)) == (4, 2)
    assert [each.flatten().tolist() for each in (part.image_BCHW, part.labels_BHW, part.edges_BHW)] == [[1, 2]] * 3
    assert Inputs(inputs.image_BCHW, inputs.labels_BHW)[slice(0, 1)].edges_BHW is None


class Device:
    """A network whose memory does not suffice for more than some samples."""

    def __init__(self, monkeypatch, owner, most, error=torch.OutOfMemoryError("CUDA out of memory")):
        self.seen, inner = [], owner.forward

        def forward(network, image_BCHW):
            self.seen.append(len(image_BCHW))
            if len(image_BCHW) > most and network.training:
                raise error
            return inner(network, image_BCHW)

        monkeypatch.setattr(owner, "forward", forward)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=["GPU", "CPU"],
)
def test_batches_are_halved_until_they_fit_and_nothing_else_changes(monkeypatch, error):
    expected = learner(configured(batch_size=6))
    said = []
    found = learner(configured(batch_size=6, halve_batches=True), said.append)
    expected.step(batch(), rate=1e-2, seed=0, decay=0.5)
    device = Device(monkeypatch, Normless, 2, error)
    for _ in range(1):
        found.step(batch(), rate=1e-2, seed=0, decay=0.5)
    assert device.seen == [6, 3, 2, 2, 2]
    assert [line.split(":")[1].strip().split(",")[0] for line in said] == [
        "from here on 3 at once",
        "from here on 2 at once",
    ]
    assert "learns from 6 as before" in said[0]
    assert found.means() == pytest.approx(expected.means(), rel=1e-4)
    for name, value in expected.network.state_dict().items():
        torch.testing.assert_close(found.network.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)
    found.step(batch(), rate=1e-2, seed=0, decay=0.5)
    assert device.seen[5:] == [2, 2, 2], "it remembers"
    assert found.state_dict()["num_portions"] == 4


def test_without_halving_the_error_says_what_helps(monkeypatch):
    Device(monkeypatch, Normless, 2)
    with pytest.raises(DeviceError, match="does not suffice for 6 samples at once") as caught:
        learner(configured(batch_size=6)).step(batch(), rate=1e-2, seed=0, decay=0.5)
    assert "`--batch-size auto`" in caught.value.hint
    assert caught.value.exit_code == 6


def test_where_nothing_is_left_to_halve_it_ends(monkeypatch):
    device = Device(monkeypatch, Normless, 1)
    with pytest.raises(DeviceError, match="does not suffice for 2 samples at once") as caught:
        learner(configured(batch_size=6, halve_batches=True)).step(batch(), rate=1e-2, seed=0, decay=0.5)
    assert device.seen == [6, 3, 2]
    assert "`--size`" in caught.value.hint


def test_other_errors_pass(monkeypatch):
    Device(monkeypatch, Normless, 0, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        learner(configured(halve_batches=True)).step(batch(), rate=1e-2, seed=0, decay=0.5)


def test_a_run_halves_says_so_and_resumes_bit_equal(dataset, config, cpu, tmp_path, monkeypatch):
    """Batch normalisation sees portions, so a resumed run must begin with the portions that it had."""
    from seglab.models.light import LightUNet

    config = dataclasses.replace(config, halve_batches=True, batch_size=5)
    Device(monkeypatch, LightUNet, 3)
    watcher = Watcher()
    train(config, dataset, tmp_path / "whole", cpu, graph=False, watcher=watcher)
    assert sum("does not suffice for 5 samples" in note for note in watcher.notes) == 1
    assert final_state(tmp_path / "whole")["learner"]["num_portions"] == 2
    with pytest.raises(Interrupted):
        train(config, dataset, tmp_path / "broken", cpu, graph=False, watcher=Watcher(3, send(signal.SIGINT)))
    watcher = Watcher()
    train(config, dataset, tmp_path / "broken", cpu, graph=False, resume=True, watcher=watcher)
    assert not any("does not suffice" in note for note in watcher.notes)
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "broken"))


def test_overfitting_takes_the_first_samples_as_they_are(make_dataset, config, cpu, tmp_path):
    dataset = make_dataset(num_val=0)
    watcher = Watcher()
    config = dataclasses.replace(config, overfit=3, epochs=30, val_every=30, model_args={"width": 8}, lr=2e-2, ema=0.8)
    train(config, dataset, tmp_path / "run", cpu, graph=False, watcher=watcher)
    assert any(note.startswith("overfit: ") for note in watcher.notes)
    assert any("3 samples, 3 to validate" in note for note in watcher.notes)
    (record,) = [record for record in lines(tmp_path / "run") if "val" in record]
    assert record["val"]["miou"] > 0.7
    from seglab.models.bundle import read_config

    bundle = read_config(tmp_path / "run")
    assert bundle.data["samples"] == {"train": 3}
    assert set(bundle.metrics) == {"train"}
    assert not any(bundle.training["config"]["augment"][name] for name in ("hflip", "rotate", "photometric", "blur"))
    with pytest.raises(UsageError, match="`overfit`"):
        train(dataclasses.replace(config, overfit=0), dataset, tmp_path / "run", cpu, resume=True)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_layouts_compute_the_same(dataset, config, layout):
    from seglab.models.zoo import build

    torch.manual_seed(0)
    network = build("unet-light", 3, width=4)
    (given, *_) = epoch_batches(TrainingSamples(dataset, "train", Preprocess(size_hw=(32, 32))), config, 0, workers=0)
    trained = []
    for each in ("auto", layout):
        changed = Learner(
            copy.deepcopy(network), dataclasses.replace(config, layout=each), Preprocess(size_hw=(32, 32)), CPU
        )
        changed.step(given, rate=1e-3, seed=0, decay=0.5)
        trained.append(changed)
    is_last = trained[1].network.state_dict()
    wide = next(value for value in is_last.values() if value.ndim == 4 and value.shape[1] > 1 and value.shape[2] > 1)
    assert wide.is_contiguous(memory_format=torch.channels_last) is (layout == "channels_last")
    assert trained[0].layout == torch.contiguous_format, "auto on the CPU"
    assert trained[1].means()["loss"] == pytest.approx(trained[0].means()["loss"], rel=1e-5)


def test_compiling_keeps_names_and_weights(dataset, config, cpu, tmp_path, monkeypatch):
    """What is compiled is called in training only; validation, bundle and state know the network itself."""
    calls = []

    def compile(network):
        calls.append(type(network).__name__)
        return lambda image_BCHW: calls.append(len(image_BCHW)) or network(image_BCHW)

    monkeypatch.setattr(torch, "compile", compile)
    train(dataclasses.replace(config, compile=True), dataset, tmp_path / "fast", cpu, graph=False)
    assert calls[0] == "LightUNet"
    assert len(calls) == 1 + 6
    monkeypatch.undo()
    train(config, dataset, tmp_path / "plain", cpu, graph=False)
    fast, plain = final_state(tmp_path / "fast")["learner"], final_state(tmp_path / "plain")["learner"]
    assert_same(fast, plain)


def test_a_network_that_cannot_be_compiled_is_a_device_error(dataset, config, cpu, tmp_path, monkeypatch):
    from torch._dynamo.exc import TorchDynamoException

    def compile(network):
        def fail(image_BCHW):
            raise TorchDynamoException("InvalidCxxCompiler: no working C++ compiler found\nmore")

        return fail

    monkeypatch.setattr(torch, "compile", compile)
    with pytest.raises(DeviceError, match=r"no working C\+\+ compiler found$") as caught:
        train(dataclasses.replace(config, compile=True), dataset, tmp_path / "run", cpu, graph=False)
    assert "--compile" in caught.value.hint
