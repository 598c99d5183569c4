"""The engines compute the same: every pair, on every family that exports."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from seglab.device import Device
from seglab.engines import open_engine
from seglab.models.bundle import load_network
from seglab.models.export import Export, photo_like

CPU = Device("cpu", None, "test")
NETWORKS = ("unet-light", *(pytest.param(name, marks=pytest.mark.slow) for name in ("u2netp", "unet-mobilenet_v2")))
SHAPES = ((1, 96, 128), (2, 96, 128), (1, 97, 131), (2, 33, 65), (3, 64, 64), (1, 1, 1), (1, 160, 31))

Bundle = Callable[[str], tuple[Path, Export]]


@pytest.mark.parametrize("name", NETWORKS)
def test_engines_agree(bundle: Bundle, name: str) -> None:
    bundle_dir, export = bundle(name)
    assert export.dynamic
    assert export.reason == ""
    assert export.difference < 1e-3
    graph, graph_config = open_engine(bundle_dir, CPU, "onnxruntime")
    network, network_config = open_engine(bundle_dir, CPU, "torch")
    assert (graph.name, network.name) == ("onnxruntime", "torch")
    assert graph_config == network_config
    num_pixels = num_same = 0
    varied = []
    for seed, shape in enumerate(SHAPES):
        pixels = photo_like(shape, seed)
        a, b = graph(pixels), network(pixels)
        assert a.dtype == b.dtype == np.float32
        assert a.shape == b.shape == (shape[0], 11, *shape[1:])
        assert np.abs(a - b).max() < 1e-3, (shape, np.abs(a - b).max())
        num_same += int((a.argmax(1) == b.argmax(1)).sum())
        num_pixels += a[:, 0].size
        varied.append(float(a.std()))
    assert num_same >= 0.999 * num_pixels
    assert max(varied) > 0.01  # The comparison would be void if all logits were alike.


@pytest.mark.parametrize("name", NETWORKS)
def test_torch_engine_computes_what_the_bare_network_computes(bundle: Bundle, name: str) -> None:
    bundle_dir, _ = bundle(name)
    network, config = load_network(bundle_dir, CPU)
    engine, _ = open_engine(bundle_dir, CPU, "torch")
    pixels = photo_like((2, 95, 70), 3)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.preprocess.mean, config.preprocess.std))
    image = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.no_grad():
        expected = network(image)[0].numpy()
    assert np.abs(engine(pixels) - expected).max() < 1e-3


def test_batches_do_not_mix(small: Path) -> None:
    pixels = photo_like((3, 50, 41), 5)
    for name in ("onnxruntime", "torch"):
        engine, _ = open_engine(small, CPU, name)
        together = engine(pixels)
        alone = np.concatenate([engine(pixels[i : i + 1]) for i in range(3)])
        assert np.abs(together - alone).max() < 1e-4


def test_the_graph_on_the_cpu_runs_without_torch(small: Path) -> None:
    program = (
        "import sys, pathlib, numpy as np\n"
        "from seglab.device import choose_device\n"
        "from seglab.engines import open_engine\n"
        "from seglab.models.bundle import find_model\n"
        "engine, config = open_engine(find_model(sys.argv[1]), choose_device('cpu'))\n"
        "logits = engine(np.zeros((2, *config.preprocess.size_hw, 3), np.uint8))\n"
        "heavy = {'torch', 'torchvision', 'onnx', 'onnxscript', 'PIL'} & set(sys.modules)\n"
        "print(engine.name, logits.shape, config.task.name, sorted(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program, str(small)], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.strip() == "onnxruntime (2, 11, 64, 64) face []"
