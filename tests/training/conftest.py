"""A dataset of coloured ellipses that a tiny network learns in seconds, and settings to learn it with."""

import subprocess

import cv2
import numpy as np
import pytest

from seglab.cli import main
from seglab.config import TrainConfig
from seglab.data.writer import DatasetWriter
from seglab.device import Device
from seglab.tasks import Task

SHAPES = Task(
    name="shapes",
    classes=("none", "left", "right"),
    mirror=(("left", "right"),),
    regions={"any": ("left", "right")},
)
"""Two discs of one colour; which is which depends on the side that they are on."""


def _scene(rng, size=48):
    labels = np.zeros((size, size), np.uint8)
    image = rng.integers(0, 110, (size, size, 3)).astype(np.uint8)
    for label, side in ((1, 0.28), (2, 0.72)):
        centre = int(size * side + rng.integers(-4, 5)), int(rng.integers(size // 4, 3 * size // 4))
        cv2.circle(labels, centre, int(rng.integers(6, 10)), label, -1)
    image[labels > 0] = rng.integers(170, 256, 3)
    labels[0, :3] = 255
    return image, labels


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """Networks this small gain nothing from a second thread, and test processes share the machine."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def make_dataset(tmp_path):
    def make(name="data", *, num_train=10, num_val=3, task=SHAPES, seed=0):
        rng = np.random.default_rng(seed)
        with DatasetWriter(tmp_path / name, task, "test", {}) as writer:
            for number in range(num_train + num_val):
                split = "train" if number < num_train else "val"
                writer.add(f"s{number:02d}", split, *_scene(rng), lossless=True)
            return writer.finish()

    return make


@pytest.fixture
def dataset(make_dataset):
    return make_dataset()


@pytest.fixture
def config():
    return TrainConfig(
        model="unet-light", model_args={"width": 4}, size=32, epochs=2, batch_size=4, lr=5e-3, ema=0.9, val_every=1
    )


@pytest.fixture
def cpu():
    return Device("cpu", None, "for tests")


@pytest.fixture
def seglab_train(capsys):
    """Run the command line in this process, in which torch is there already."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(["train", *map(str, arguments)])
        return subprocess.CompletedProcess(arguments, int(end.value.code or 0), *capsys.readouterr())

    return run
