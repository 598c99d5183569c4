"""A small task whose photos show their labels, and an engine that sees them."""

from types import SimpleNamespace

import numpy as np
import pytest

from seglab.data.writer import DatasetWriter
from seglab.device import Device
from seglab.inference.predictor import Predictor
from seglab.preprocess import Preprocess
from seglab.tasks import Task

SHADE = 60
"""Red of a photo is this times the class that the engine will see."""

ABC = Task(
    name="abc",
    classes=("none", "a", "b", "c"),
    regions={"ab": ("a", "b")},
    levels={"top": ("ab",), "fine": ("a", "b", "c")},
)


class Seer:
    """An engine: the nearer the red of a pixel to the shade of a class, the larger its logit."""

    name, reason, precision = "seer", "for tests", "fp32"
    device = Device("cpu", None, "asked for")

    def __init__(self, num_classes=4, spoil=None):
        self.num_classes, self.spoil, self.batches = num_classes, spoil, []

    def __call__(self, pixels_BHWC):
        self.batches.append(len(pixels_BHWC))
        red_BHW = pixels_BHWC[..., 0].astype(np.float32)
        logits = np.stack([-np.abs(red_BHW - SHADE * label) for label in range(self.num_classes)], 1)
        return logits if self.spoil is None else logits + np.float32(self.spoil)


def _draw(labels):
    """Return a photo in which the engine sees these labels."""
    return np.repeat((labels * SHADE)[..., None], 3, axis=2).astype(np.uint8)


def _blocks(rng, size_hw, num_classes=4):
    height, width = size_hw
    coarse = rng.integers(0, num_classes, (-(-height // 5), -(-width // 5)), np.uint8)
    return np.kron(coarse, np.ones((5, 5), np.uint8))[:height, :width]


def _predictor(task=ABC, *, size_hw=(32, 32), batch_size=1, **engine):
    config = SimpleNamespace(task=task, model="seer", preprocess=Preprocess(size_hw=size_hw))
    return Predictor(Seer(task.num_classes, **engine), config, batch_size=batch_size)


@pytest.fixture
def abc():
    return ABC


@pytest.fixture
def predictor():
    return _predictor


@pytest.fixture
def seen():
    """The labels that the engine sees in each photo of ``dataset``, as far as its grid lets it."""
    rng = np.random.default_rng(11)
    sizes = {"p1": (32, 32), "p2": (40, 23), "p3": (17, 50), "p4": (32, 32), "p5": (64, 64)}
    return {name: _blocks(rng, size_hw) for name, size_hw in sizes.items()}


@pytest.fixture
def truths(seen):
    """What is really there: other than what is seen in places, and unknown in others."""
    rng = np.random.default_rng(12)
    truths = {}
    for name, labels in seen.items():
        truth = labels.copy()
        wrong = rng.random(labels.shape) < 0.2
        truth[wrong] = rng.integers(0, 3, int(wrong.sum()))
        truth[rng.random(labels.shape) < 0.1] = 255
        truths[name] = truth
    return truths


@pytest.fixture
def dataset(tmp_path, seen, truths):
    """Five test photos of several sizes and one of training."""
    with DatasetWriter(tmp_path / "data", ABC, "made", {}) as writer:
        for name, labels in seen.items():
            writer.add(name, "test", _draw(labels), truths[name], lossless=True)
        writer.add("t1", "train", _draw(seen["p1"]), truths["p1"], lossless=True)
        return writer.finish()
