"""Bundles of random but lively networks, exported once a session."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seglab.cli import run
from seglab.cli.console import bounded
from seglab.models.bundle import BundleConfig, save_bundle
from seglab.models.export import Export, export_graph, photo_like
from seglab.models.zoo import build
from seglab.preprocess import Preprocess
from seglab.tasks import TASKS
from tests.models.networks import NETWORKS

FACE = TASKS["face"]
DEEP = ("smp-manet",)
"""Labels of networks that are compared when they have learnt something: see :func:`trained`."""


def lively(name: str, num_classes: int, **args: object) -> nn.Module:
    """Return a seeded network whose BatchNorms have the statistics of photos and uneven scales."""
    torch.manual_seed(7)
    network = build(name, num_classes, **args)
    generator = torch.Generator().manual_seed(8)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.uniform_(-0.3, 0.3, generator=generator)
            module.momentum = 0.5
    network.train()
    with torch.no_grad():
        for seed in range(4):
            pixels = torch.from_numpy(photo_like((2, 96, 96), seed)).permute(0, 3, 1, 2).float()
            network(pixels / 127.5 - 1)
    return _decided(network.eval(), num_classes)


def _decided(network: nn.Module, num_classes: int) -> nn.Module:
    """Give the logits of photos the spread of a trained network's, every class the same: no near-ties by the thousand.

    The convolutions that end in a class each are scaled, the last one first, until the main output is as wanted.
    """
    heads: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.out_channels == num_classes:
            module.register_forward_hook(lambda module, *_: heads.append(module))
    pixels = torch.from_numpy(photo_like((4, 96, 128), 9)).permute(0, 3, 1, 2).float() / 127.5 - 1

    def statistics() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            main = network(pixels)[0]
        return main.mean((0, 2, 3)), main.std((0, 2, 3))

    statistics()
    for head in reversed(list(dict.fromkeys(heads))):
        mean, std = statistics()
        if std.min() > 0.5:
            break
        shape = (1, -1, 1, 1) if isinstance(head, nn.ConvTranspose2d) else (-1, 1, 1, 1)
        head.weight.data /= std.reshape(shape)
        if head.bias is not None:
            head.bias.data = (head.bias.data - mean) / std
    for module in network.modules():
        module._forward_hooks.clear()
    assert statistics()[1].min() > 0.5
    return network


def trained(name: str, num_classes: int, **args: object) -> nn.Module:
    """Return a network that has learnt for a few steps to tell bright from dark.

    A random network multiplies rounding from layer to layer, the deeper the more; learning ends that at once.
    """
    torch.manual_seed(7)
    network = build(name, num_classes, **args).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.2
    for step in range(30):
        pixels = torch.from_numpy(photo_like((4, 64, 64), 100 + step)).permute(0, 3, 1, 2).float()
        brightness = F.avg_pool2d(pixels.mean(1, keepdim=True), 9, 1, 4)[:, 0]
        labels = (brightness / 256 * num_classes).long()
        loss = F.cross_entropy(network(pixels / 127.5 - 1)[0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Export]]:
    """Return what makes (once) the bundle of one of the tests' networks, by its label, with its graph."""

    @cache
    def make(label: str) -> tuple[Path, Export]:
        name, args = NETWORKS[label]
        bundle_dir = tmp_path_factory.mktemp(label.replace(" ", "-"))
        config = BundleConfig(task=FACE, model=name, model_args=args, preprocess=Preprocess(size_hw=(96, 128)))
        make_network = trained if label in DEEP else lively
        save_bundle(bundle_dir, config, make_network(name, FACE.num_classes, **args).state_dict())
        return bundle_dir, export_graph(bundle_dir)

    return make


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of the smallest network, with its graph; not to be changed."""
    bundle_dir = tmp_path_factory.mktemp("small")
    config = BundleConfig(
        task=FACE, model="unet-light", model_args={"width": 2}, preprocess=Preprocess(size_hw=(64, 64))
    )
    save_bundle(bundle_dir, config, lively("unet-light", FACE.num_classes, width=2).state_dict())
    export_graph(bundle_dir)
    return bundle_dir


@pytest.fixture
def bundle_dir(small: Path, tmp_path: Path) -> Path:
    """A copy of the small bundle, to be changed."""
    return Path(shutil.copytree(small, tmp_path / "run"))


def export(*arguments: object) -> int:
    """Run ``seglab export`` in this process and return its exit code."""
    return bounded(lambda: run(["export", *map(str, arguments)]))
