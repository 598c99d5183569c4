"""The engines compute the same: every pair, on every family of the zoo."""

import importlib.util
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from seglab.device import Device
from seglab.engines import ENGINES, open_engine
from seglab.errors import DeviceError
from seglab.models import zoo
from seglab.models.bundle import load_network
from seglab.models.export import Export, photo_like
from tests.models.networks import NETWORKS

CPU = Device("cpu", None, "test")
QUICK = ("unet-light",)
LABELS = [label if label in QUICK else pytest.param(label, marks=pytest.mark.exhaustive) for label in NETWORKS]
FREE_SHAPES = ((1, 96, 128), (2, 96, 128), (1, 97, 131), (2, 33, 65), (3, 64, 64), (1, 160, 31), (1, 1, 1))
FIXED_SHAPES = ((1, 96, 128), (3, 96, 128), (1, 96, 128), (2, 96, 128))

REFUSED = (("smp-dpt", "openvino"),)
"""Its graph has an antialiased interpolation, which OpenVINO would compute without."""

Bundle = Callable[[str], tuple[Path, Export]]


def usable_engines() -> list[str]:
    """All engines but the extra, where it is not installed."""
    return [name for name in ENGINES[1:] if name != "openvino" or importlib.util.find_spec("openvino") is not None]


@pytest.mark.parametrize("label", LABELS)
def test_engines_agree(bundle: Bundle, label: str) -> None:
    bundle_dir, export = bundle(label)
    assert export.difference < 1e-3
    opened = {name: open_engine(bundle_dir, CPU, name) for name in usable_engines() if (label, name) not in REFUSED}
    assert [engine.name for engine, _ in opened.values()] == list(opened)
    assert len({config.save_id for _, config in opened.values()}) == 1
    same = dict.fromkeys(itertools.combinations(opened, 2), 0)
    num_pixels, spread, labels_seen = 0, [], set()
    for seed, shape in enumerate(FREE_SHAPES if export.dynamic else FIXED_SHAPES):
        pixels = photo_like(shape, seed)
        able = [name for name in opened if name != "openvino" or shape[1:] != (1, 1)]  # It cannot pool 1x1.
        logits = {name: opened[name][0](pixels) for name in able}
        for a, b in itertools.combinations(able, 2):
            assert logits[a].dtype == logits[b].dtype == np.float32
            assert logits[a].shape == logits[b].shape == (shape[0], 11, *shape[1:])
            assert np.abs(logits[a] - logits[b]).max() < 1e-3, (a, b, shape)
            same[a, b] += int((logits[a].argmax(1) == logits[b].argmax(1)).sum()) if len(able) == len(opened) else 0
        main = logits["torch"]
        num_pixels += main[:, 0].size if len(able) == len(opened) else 0
        spread.append(float(main.std()))
        labels_seen |= set(np.unique(main.argmax(1)))
    assert min(same.values()) >= 0.999 * num_pixels, same
    # The comparison would be void if all logits were alike, or one class won everywhere.
    assert max(spread) > 0.3
    assert len(labels_seen) > 5


@pytest.mark.exhaustive
@pytest.mark.parametrize(("label", "name"), REFUSED)
def test_what_an_engine_would_compute_otherwise_is_refused(bundle: Bundle, label: str, name: str) -> None:
    pytest.importorskip(name)
    with pytest.raises(DeviceError, match="it leaves out the antialiasing of"):
        open_engine(bundle(label)[0], CPU, name)


def test_every_family_of_the_zoo_is_compared() -> None:
    assert {zoo.row(name).family for name, _ in NETWORKS.values()} == {row.family for row in zoo.rows()}


@pytest.mark.parametrize("label", LABELS)
def test_torch_engine_computes_what_the_bare_network_computes(bundle: Bundle, label: str) -> None:
    bundle_dir, _ = bundle(label)
    network, config = load_network(bundle_dir, CPU)
    engine, _ = open_engine(bundle_dir, CPU, "torch")
    pixels = photo_like((2, 95, 70), 3)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.preprocess.mean, config.preprocess.std))
    image = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.no_grad():
        expected = network(image)[0].numpy()
    assert np.abs(engine(pixels) - expected).max() < 1e-3


@pytest.mark.parametrize("name", usable_engines())
def test_batches_do_not_mix(small: Path, name: str) -> None:
    pixels = photo_like((3, 50, 41), 5)
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
