"""Optimizers: equal to torch's own, the encoder at its own rate or frozen, weights that training starts with."""

import copy
import dataclasses
import shutil

import pytest
import torch
from safetensors.torch import save_file

from seglab.config import TrainConfig
from seglab.data.loader import TrainingSamples, epoch_batches
from seglab.errors import DataError, UsageError
from seglab.models.zoo import build
from seglab.preprocess import Preprocess
from seglab.training.learner import Learner
from seglab.training.loop import train
from seglab.training.optimizer import Optimizer
from seglab.training.start import class_weights_of, start_network

GRID = Preprocess(size_hw=(32, 32))
CPU = torch.device("cpu")


@pytest.fixture
def batch(dataset, config):
    return next(iter(epoch_batches(TrainingSamples(dataset, "train", GRID), config, 0, workers=0)))


def two_layers():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))


@pytest.mark.parametrize(
    ("settings", "make"),
    [
        ({"optimizer": "adamw", "weight_decay": 0.0}, lambda ps: torch.optim.AdamW(ps, 0.1, weight_decay=0.0)),
        ({"optimizer": "adam", "betas": (0.5, 0.999), "weight_decay": 0.0},
         lambda ps: torch.optim.Adam(ps, 0.1, betas=(0.5, 0.999))),
        ({"optimizer": "sgd", "momentum": 0.8, "weight_decay": 0.0}, lambda ps: torch.optim.SGD(ps, 0.1, momentum=0.8)),
    ],
    ids=["adamw", "adam", "sgd"],
)  # fmt: skip
def test_the_optimizer_is_torchs(settings, make):
    mine, theirs = two_layers(), two_layers()
    optimizer, reference = Optimizer(mine, TrainConfig(**settings)), make(theirs.parameters())
    for network, step in ((mine, lambda: optimizer.step(0.1)), (theirs, reference.step)):
        for number in range(3):
            network.zero_grad()
            network(torch.full((2, 3), float(number + 1))).square().sum().backward()
            step()
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert not torch.equal(next(mine.parameters()), next(two_layers().parameters()))


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_a_cycled_momentum_reaches_torch(name):
    network = two_layers()
    optimizer = Optimizer(network, TrainConfig(optimizer=name, betas=(0.9, 0.98)))
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step(0.1, 0.87)
    for group in optimizer.torch.param_groups:
        assert group["momentum"] == 0.87 if name == "sgd" else group["betas"] == (0.87, 0.98)


def test_the_encoder_has_its_own_rate(batch, config):
    config = dataclasses.replace(config, encoder_lr=0.1)
    network = build("unet", 3, width=4, depth=2)
    learner = Learner(network, config, GRID, CPU)
    learner.step(batch, rate=0.5, seed=0, decay=0.5)
    inside = {id(parameter) for parameter in network.encoder.parameters()}
    rates = {}
    for group in learner.optimizer.torch.param_groups:
        for parameter in group["params"]:
            rates[id(parameter)] = group["lr"], group["weight_decay"], parameter.ndim
    assert len(rates) == len(list(network.parameters()))
    for key, (rate, decay, dimensions) in rates.items():
        assert rate == pytest.approx(0.05 if key in inside else 0.5)
        assert decay == (config.weight_decay if dimensions > 1 else 0)


def test_a_frozen_encoder_does_not_change_and_the_rest_does(batch, config):
    config = dataclasses.replace(config, freeze_encoder=True)
    torch.manual_seed(0)
    network = build("unet", 3, width=4, depth=2)
    before = copy.deepcopy(network.state_dict())
    learner = Learner(network, config, GRID, CPU)
    learner.step(batch, rate=0.1, seed=0, decay=0.5)
    for name, value in network.state_dict().items():
        if name.startswith("encoder."):
            assert torch.equal(value, before[name]), name
    assert not torch.equal(network.head.weight, before["head.weight"])
    assert any("running_mean" in name for name in before if name.startswith("encoder."))


@pytest.mark.parametrize("settings", [{"freeze_encoder": True}, {"encoder_lr": 0.1}])
def test_a_network_without_an_encoder_says_so(dataset, config, cpu, tmp_path, settings):
    config = dataclasses.replace(config, model="u2netp", model_args={}, **settings)
    with pytest.raises(UsageError, match="no part that is its encoder"):
        train(config, dataset, tmp_path / "run", cpu, graph=False)
    assert not (tmp_path / "run" / "train.json").exists()


def test_class_weights_come_from_the_manifest_or_the_recipe(dataset, config):
    task, samples = dataset.task, dataset.split("train")
    assert class_weights_of(config, task, samples) is None
    auto = class_weights_of(dataclasses.replace(config, class_weights="auto"), task, samples)
    totals = [sum(sample.pixels[name] for sample in samples) for name in task.classes]
    assert auto[0] < 1 < auto[1]
    assert auto[1] / auto[0] == pytest.approx((totals[0] / totals[1]) ** 0.5)
    given = dataclasses.replace(config, class_weights=(1.0, 1.5, 2.0))
    assert class_weights_of(given, task, samples) == [1.0, 1.5, 2.0]
    for wrong, words in (((1.0, 1.5), "2 numbers, but task `shapes` has 3"), ((0.0, 0.0, 0.0), "all 0")):
        with pytest.raises(UsageError, match=words):
            class_weights_of(dataclasses.replace(config, class_weights=wrong), task, samples)


def test_class_weights_change_what_is_learnt(batch, config):
    def gradient(weights):
        torch.manual_seed(0)
        learner = Learner(build("unet-light", 3, width=4), config, GRID, CPU, class_weights=weights)
        learner.step(batch, rate=0.0, seed=0, decay=0.5)
        return learner.network.head.weight.grad

    assert torch.equal(gradient(None), gradient(None))
    assert not torch.allclose(gradient(None), gradient([1.0, 5.0, 5.0]))


def lines_of(network, config):
    return [origin.line for origin in start_network(network, config)]


def test_init_copies_what_fits_and_says_what_stays_random(dataset, config, cpu, tmp_path):
    train(config, dataset, tmp_path / "a", cpu, graph=False)
    network = build("unet-light", 5, width=4)
    (line,) = lines_of(network, dataclasses.replace(config, init=str(tmp_path / "a")))
    number = len(network.state_dict())
    assert f"{number - 2} of {number} tensors start as in" in line
    assert line.endswith("; random: head.weight, head.bias")
    source = build("unet-light", 3, width=4)
    start_network(source, dataclasses.replace(config, init=str(tmp_path / "a" / "model.safetensors")))
    own = network.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in source.state_dict().items() if "head" not in name)
    with pytest.raises(DataError, match=r"none of the \d+ tensors in .* fits the network"):
        start_network(build("u2netp", 3), dataclasses.replace(config, model="u2netp", init=str(tmp_path / "a")))
    with pytest.raises(DataError, match="there is no model `nowhere`"):
        start_network(network, dataclasses.replace(config, init="nowhere"))


def test_the_published_u2net_starts_a_network_of_more_classes(tmp_path, config):
    """The first original's weight surgery: 784 of 798 tensors fit, the seven heads stay random."""
    published = build("u2netp", 2).state_dict()
    published = {name: value[:1] if name.startswith("side") else value for name, value in published.items()}
    published["outconv.weight"], published["outconv.bias"] = torch.zeros(1, 6, 1, 1), torch.zeros(1)
    torch.save(published, tmp_path / "u2netp.pth")
    network = build("u2netp", 4)
    (line,) = lines_of(network, dataclasses.replace(config, init=str(tmp_path / "u2netp.pth")))
    assert "784 of 798 tensors start" in line
    assert torch.equal(network.stage1.rebnconvin.conv_s1.weight, published["stage1.rebnconvin.conv_s1.weight"])


def test_a_run_says_what_it_started_with_once(dataset, config, cpu, tmp_path):
    class Watcher:
        def __init__(self):
            self.notes = []

        def note(self, text):
            self.notes.append(text)

        def start(self, num_steps, done):
            pass

        def step(self, info):
            pass

    train(config, dataset, tmp_path / "a", cpu, graph=False)
    watcher = Watcher()
    train(dataclasses.replace(config, init=str(tmp_path / "a")), dataset, tmp_path / "b", cpu, graph=False,
          watcher=watcher)  # fmt: skip
    assert sum("tensors start as in" in note for note in watcher.notes) == 1


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_encoder_weights_fill_the_encoder(tmp_path, config, encoder):
    import timm

    name = f"unet-{encoder}"
    torch.manual_seed(5)
    theirs = timm.create_model("resnet18", pretrained=False).state_dict()
    path = tmp_path / "weights.safetensors"
    save_file(theirs, path)
    network = build(name, 3)
    config = dataclasses.replace(config, model=name, model_args={}, encoder_weights=str(path))
    (line,) = lines_of(network, config)
    assert "the encoder starts with" in line
    inner = network.encoder.model if encoder.startswith("tu-") else network.encoder
    assert torch.equal(inner.layer1[0].conv1.weight, theirs["layer1.0.conv1.weight"])
    other = dataclasses.replace(config, model="unet-mobilenet_v2")
    with pytest.raises(DataError, match="are not those of an encoder `mobilenet_v2`"):
        start_network(build("unet-mobilenet_v2", 3), other)
    nowhere = dataclasses.replace(config, encoder_weights="nowhere")
    with pytest.raises(DataError, match="there are no encoder weights `nowhere`") as caught:
        start_network(network, nowhere)
    assert "`auto`" in caught.value.hint


def test_an_encoder_that_stays_random_is_told(config, tmp_path):
    network = build("unet-light", 3, width=4)
    assert lines_of(network, config) == []
    frozen = dataclasses.replace(config, freeze_encoder=True)
    assert "the encoder stays random" in lines_of(network, frozen)[0]
    torch.save(network.state_dict(), tmp_path / "own.pth")
    assert "random" not in "".join(lines_of(network, dataclasses.replace(frozen, init=str(tmp_path / "own.pth"))))


def test_timms_numbered_parts_are_found_under_smps_names(tmp_path, config):
    import timm

    theirs = timm.create_model("convnext_atto", pretrained=False).state_dict()
    save_file(theirs, tmp_path / "weights.safetensors")
    network = build("unet-tu-convnext_atto", 2)
    config = dataclasses.replace(
        config, model="unet-tu-convnext_atto", model_args={}, encoder_weights=str(tmp_path / "weights.safetensors")
    )
    start_network(network, config)
    assert torch.equal(network.encoder.model.stem_0.weight, theirs["stem.0.weight"])
    left = [name for name, value in network.encoder.model.state_dict().items() if "stages_3" in name and value.ndim > 3]
    renamed = {name.replace("stages.", "stages_", 1): value for name, value in theirs.items()}
    assert left
    assert all(torch.equal(network.encoder.model.state_dict()[name], renamed[name]) for name in left)


def test_steps_count_instead_of_epochs(dataset, config, cpu, tmp_path):
    """Ten samples in batches of four are three steps an epoch."""
    for steps, epochs in ((2, 1), (3, 1), (7, 3)):
        run_dir = tmp_path / str(steps)
        result = train(dataclasses.replace(config, steps=steps, epochs=1), dataset, run_dir, cpu, graph=False)
        assert (result.course.stopped, result.course.epoch) == ("steps", epochs)
        assert (run_dir / "model.safetensors").exists()
        assert result.course.best_score is not None
        shutil.rmtree(run_dir)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd", "schedule": "onecycle"},
        {"optimizer": "adam", "schedule": "exponential", "encoder_lr": 0.5},
        {"steps": 5, "schedule": "poly"}, {"freeze_encoder": True, "class_weights": "auto"},
        {"schedule": "onecycle", "losses": {"lovasz": 1.0, "focal": 1.0, "boundary": 0.5}},
    ],
    ids=["sgd", "encoder_lr", "steps", "frozen", "losses"],
)  # fmt: skip
def test_an_interrupted_run_of_any_kind_is_bit_equal(dataset, config, cpu, tmp_path, settings):
    from seglab.training.rundir import RunDir
    from tests.training.test_loop import Watcher, assert_same, crash

    config = dataclasses.replace(config, model="unet", model_args={"width": 4, "depth": 2}, **settings)
    train(config, dataset, tmp_path / "whole", cpu, graph=False)
    with pytest.raises(RuntimeError, match="dies here"):
        train(config, dataset, tmp_path / "broken", cpu, graph=False, watcher=Watcher(4, crash))
    train(config, dataset, tmp_path / "broken", cpu, graph=False, resume=True)
    assert_same(RunDir(tmp_path / "whole").load_state(), RunDir(tmp_path / "broken").load_state())
