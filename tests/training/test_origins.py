"""Runs that start with the weights of others: recorded, kept through interruptions, and only under accepted terms."""

import dataclasses
import json
import subprocess
import sys

import pytest
import torch

from seglab.config import TrainConfig
from seglab.errors import DataError, UsageError
from seglab.models import catalogue
from seglab.models.bundle import BundleConfig, load_weights, read_config, save_bundle
from seglab.models.encoder_decoder import bare_encoder
from seglab.models.pretrained import FETCHED, terms_of
from seglab.models.weights import save_tensors
from seglab.models.zoo import build
from seglab.preprocess import Preprocess
from seglab.tasks import TASKS
from seglab.training.loop import train
from seglab.training.start import start_network


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    return tmp_path / "cache"


def fetched(cache_dir, name, network):
    folder = cache_dir / "models" / name
    folder.mkdir(parents=True)
    (folder / "SOURCE.json").write_text(json.dumps({"name": name}))
    save_tensors(folder / "model.safetensors", network.state_dict(), {})


MIT = TrainConfig(model="segformer-mit_b0", encoder_weights="auto", size=32, epochs=1)


def test_a_run_records_what_it_started_with(dataset, config, cpu, tmp_path):
    torch.save(build("unet-light", 7, width=4).state_dict(), tmp_path / "seven.pth")
    config = dataclasses.replace(config, init=str(tmp_path / "seven.pth"))
    train(config, dataset, tmp_path / "run", cpu, graph=False)
    (origin,) = read_config(tmp_path / "run").training["start"]
    assert (origin["part"], origin["source"]) == ("network", "seven.pth")
    assert (origin["copied"], origin["tensors"], origin["fresh"]) == (134, 136, ["head.weight", "head.bias"])
    assert len(origin["sha256"]) == 64
    assert "commercial" not in origin


def test_a_run_without_origins_records_none(dataset, config, cpu, tmp_path):
    train(dataclasses.replace(config, epochs=1), dataset, tmp_path / "run", cpu, graph=False)
    assert "start" not in read_config(tmp_path / "run").training


class Interrupting:
    """Follows a run, and stops it at its third step as a signal would."""

    def __init__(self):
        self.count = 0
        self.notes = []

    def note(self, text):
        self.notes.append(text)

    def start(self, num_steps, done):
        pass

    def step(self, info):
        self.count += 1
        if self.count == 4:
            raise KeyboardInterrupt


def test_a_resumed_run_does_not_start_again(dataset, config, cpu, tmp_path, monkeypatch):
    monkeypatch.setattr("seglab.training.session.SAVE_EVERY_S", 0.0)
    torch.save(build("unet-light", 7, width=4).state_dict(), tmp_path / "seven.pth")
    config = dataclasses.replace(config, init=str(tmp_path / "seven.pth"))
    train(config, dataset, tmp_path / "whole", cpu, graph=False)
    with pytest.raises(KeyboardInterrupt):
        train(config, dataset, tmp_path / "parts", cpu, graph=False, watcher=Interrupting())
    (tmp_path / "seven.pth").unlink()
    watcher = Interrupting()
    watcher.count = 10
    train(config, dataset, tmp_path / "parts", cpu, graph=False, resume=True, watcher=watcher)
    assert not any("start as in" in note for note in watcher.notes)
    assert read_config(tmp_path / "parts").training["start"] == read_config(tmp_path / "whole").training["start"]
    whole, parts = load_weights(tmp_path / "whole"), load_weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_non_commercial_encoders_ask_first(dataset, cpu, tmp_path, cache_dir):
    fetched(cache_dir, f"{FETCHED}mit_b0", bare_encoder("mit_b0"))
    with pytest.raises(UsageError, match="must not be used commercially") as caught:
        train(MIT, dataset, tmp_path / "run", cpu, graph=False)
    assert "--accept-noncommercial" in caught.value.hint
    assert not (tmp_path / "run" / "train.json").exists()


def test_what_is_trained_from_them_is_bound_too(dataset, cpu, tmp_path, cache_dir):
    fetched(cache_dir, f"{FETCHED}mit_b0", bare_encoder("mit_b0"))
    train(MIT, dataset, tmp_path / "run", cpu, graph=False, accept_noncommercial=True)
    (origin,) = read_config(tmp_path / "run").training["start"]
    assert (origin["part"], origin["commercial"]) == ("encoder", "no")
    assert "NVIDIA" in origin["licence"]
    assert terms_of(tmp_path / "run") == (origin["licence"], "no")
    again = dataclasses.replace(MIT, encoder_weights="none", init=str(tmp_path / "run"))
    with pytest.raises(UsageError, match="must not be used commercially"):
        start_network(build(MIT.model, 2), again)
    (second,) = start_network(build(MIT.model, 2), again, accept_noncommercial=True)
    assert second.commercial == "no"


def test_an_interrupted_run_need_not_accept_again(dataset, cpu, tmp_path, cache_dir):
    fetched(cache_dir, f"{FETCHED}mit_b0", bare_encoder("mit_b0"))
    watcher = Interrupting()
    watcher.count = 3
    with pytest.raises(KeyboardInterrupt):
        train(MIT, dataset, tmp_path / "run", cpu, graph=False, accept_noncommercial=True, watcher=watcher)
    assert (tmp_path / "run" / "train.json").exists()
    assert not (tmp_path / "run" / "last.pt").exists()
    train(MIT, dataset, tmp_path / "run", cpu, graph=False, resume=True)
    assert read_config(tmp_path / "run").training["start"][0]["commercial"] == "no"


def test_weights_that_are_not_here(config):
    config = dataclasses.replace(config, model="fpn-resnet18", model_args={}, encoder_weights="auto")
    (origin,) = start_network(build("fpn-resnet18", 2), config)
    assert origin.line == "the encoder starts with random weights: `seglab fetch encoder-resnet18` brings trained ones"
    assert origin.to_dict() == {"part": "encoder", "source": "", "sha256": ""}


def test_a_set_of_weights_by_name(config, cache_dir):
    config = dataclasses.replace(config, model="fpn-resnet18", model_args={})
    fetched(cache_dir, f"{FETCHED}resnet18", bare_encoder("resnet18"))
    network = build("fpn-resnet18", 2)
    (origin,) = start_network(network, dataclasses.replace(config, encoder_weights="imagenet"))
    assert (origin.copied.copied, origin.commercial) == (120, "yes")
    with pytest.raises(UsageError, match="nobody publishes weights for an encoder of `unet`"):
        start_network(build("unet", 2, width=2), dataclasses.replace(config, model="unet", encoder_weights="auto"))


def test_a_fetched_checkpoint_starts_a_network_by_its_name(config, cache_dir):
    from seglab.models import u2net

    folder = cache_dir / "models" / "u2netp"
    folder.mkdir(parents=True)
    (folder / "SOURCE.json").write_text("{}")
    torch.save(u2net.u2netp(1).state_dict(), folder / "u2netp.pth")
    config = dataclasses.replace(config, model="u2netp", model_args={}, init="u2netp")
    (origin,) = start_network(build("u2netp", 4), config)
    assert (origin.copied.copied, origin.copied.num_tensors) == (784, 798)
    assert (origin.licence, origin.commercial, origin.source) == ("Apache-2.0", "yes", "u2netp.pth")


def test_the_weights_that_come_with_seglab_start_a_network_of_their_task(config, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "embedded_dir", lambda name: tmp_path / "weights" / name)
    config = dataclasses.replace(config, init="embedded")
    with pytest.raises(DataError, match="no weights for task `person` come with seglab") as failure:
        start_network(build(config.model, 2, **config.model_args), config, "person")
    assert failure.value.hint == "leave `--init` out"
    trained = build(config.model, 2, **config.model_args)
    bundle = BundleConfig(
        task=TASKS["person"], model=config.model, model_args=config.model_args, preprocess=Preprocess(size_hw=(32, 32)),
        data={"licence": "see its model card", "commercial": "unclear"},
    )  # fmt: skip
    tensors = {name: tensor.half() if tensor.ndim >= 2 else tensor for name, tensor in trained.state_dict().items()}
    save_bundle(tmp_path / "weights" / "person", bundle, tensors)
    network = build(config.model, 2, **config.model_args)
    (origin,) = start_network(network, config, "person")
    assert (origin.copied.copied, origin.commercial) == (origin.copied.num_tensors, "unclear")
    assert "start as in `embedded`" in origin.line
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == trained.state_dict()[name].dtype
        torch.testing.assert_close(tensor, trained.state_dict()[name], atol=1e-3, rtol=1e-3)
    with pytest.raises(DataError) as failure:
        start_network(build(config.model, 3, **config.model_args), config, "hands")
    assert failure.value.hint == "leave `--init` out; `--init person` starts from those of `person`"


@pytest.mark.slow
def test_the_command_starts_with_weights_and_asks_for_their_terms(dataset, tmp_path, cache_dir):
    fetched(cache_dir, f"{FETCHED}mit_b0", bare_encoder("mit_b0"))
    torch.save(build("unet-light", 7, width=4).state_dict(), tmp_path / "seven.pth")
    task_path = tmp_path / "shapes.toml"
    task_path.write_text(
        'name = "shapes"\nclasses = ["none", "left", "right"]\nmirror = [["left", "right"]]\n'
        '[regions]\nany = ["left", "right"]\n'
    )

    def run(out, *arguments):
        command = [sys.executable, "-m", "seglab", "train", "--task", task_path, "--data", dataset.dir, "--size", "32"]
        command += ["--epochs", "1", "--no-graph", "--out", tmp_path / out, *arguments]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)

    started = run("a", "--init", tmp_path / "seven.pth", "--model", "unet-light", "--set", "model_args.width=4")
    assert started.returncode == 0, started.stderr
    assert "134 of 136 tensors start as in" in started.stderr
    assert read_config(tmp_path / "a").training["start"][0]["copied"] == 134
    encoder = ["--model", "segformer-mit_b0", "--encoder-weights", "auto"]
    refused = run("b", *encoder)
    assert refused.returncode == 2, refused.stderr
    assert "must not be used commercially" in refused.stderr
    assert "--accept-noncommercial" in refused.stderr
    accepted = run("b", *encoder, "--accept-noncommercial")
    assert accepted.returncode == 0, accepted.stderr
    assert read_config(tmp_path / "b").training["start"][0]["commercial"] == "no"
