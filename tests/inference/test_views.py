"""Several looks: what a mirror does to left and right, sizes, and averages computed by hand."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seglab.device import Device
from seglab.errors import DataError, DeviceError, UsageError
from seglab.inference.views import SCALES, Views
from seglab.tasks import TASKS, Task

SIDES = Task(name="sides", classes=("none", "left", "right"), mirror=(("left", "right"),))


class Net:
    """An engine whose answer depends on the place: logits from a fixed convolution, and a column ramp."""

    name, reason, precision = "net", "for tests", "fp32"
    device = Device("cpu", None, "asked for")

    def __init__(self, num_classes=3, sizes=None):
        self.notes, self.sizes, self.seen = [], sizes, []
        self._weight = torch.tensor(np.random.default_rng(0).normal(size=(num_classes, 3, 3, 3)), dtype=torch.float32)

    def __call__(self, pixels_BHWC):
        size = pixels_BHWC.shape[1:3]
        self.seen.append(size)
        if self.sizes is not None and size not in self.sizes:
            raise DeviceError("wrong size")
        image = torch.from_numpy(np.ascontiguousarray(pixels_BHWC.transpose(0, 3, 1, 2))).float() / 255
        return (F.conv2d(image, self._weight, padding=1) + torch.linspace(0, 1, size[1])).numpy()


@pytest.fixture
def pixels():
    return np.random.default_rng(1).integers(0, 256, (2, 24, 32, 3), np.uint8)


def by_hand(pixels, scales):
    net, total = Net(), 0
    for scale in scales:
        size = round(24 * scale), round(32 * scale)
        image = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).float()
        if scale != 1:
            from seglab.data.images import resize_image

            seen = np.stack([resize_image(one, size) for one in pixels])
        else:
            seen = image.numpy().transpose(0, 2, 3, 1).astype(np.uint8)
        plain = torch.from_numpy(net(seen)).softmax(1)
        mirrored = torch.from_numpy(net(seen[:, :, ::-1].copy())).softmax(1).flip(-1)[:, [0, 2, 1]]
        for probs in (plain, mirrored):
            total = total + F.interpolate(probs, (24, 32), mode="bilinear", align_corners=False)
    return (total / (2 * len(scales))).log().numpy()


@pytest.mark.parametrize(("views", "scales"), [("flip", (1.0,)), ("multiscale", SCALES)])
def test_looks_are_averaged_as_by_hand(pixels, views, scales):
    np.testing.assert_allclose(Views(Net(), SIDES, views)(pixels), by_hand(pixels, scales), atol=2e-5)


def test_a_mirrored_photo_gets_the_mirrored_answer(pixels):
    views = Views(Net(), SIDES, "multiscale")
    answer, mirrored = views(pixels), views(np.ascontiguousarray(pixels[:, :, ::-1]))
    np.testing.assert_allclose(mirrored[:, [0, 2, 1], :, ::-1], answer, atol=1e-4)


def test_tasks_without_sides_are_only_mirrored(pixels):
    task = TASKS["clothes"]
    net = Net(task.num_classes)
    probs = [torch.from_numpy(net(seen)).softmax(1) for seen in (pixels, pixels[:, :, ::-1].copy())]
    expected = ((probs[0] + probs[1].flip(-1)) / 2).log().numpy()
    np.testing.assert_allclose(Views(net, task, "flip")(pixels), expected, atol=2e-5)


def test_a_model_of_one_size_cannot_look_at_others(pixels):
    net = Net(sizes=[(24, 32)])
    assert Views(net, SIDES, "flip")(pixels).shape == (2, 3, 24, 32)
    with pytest.raises(DataError, match="24x18"):
        Views(net, SIDES, "multiscale")(pixels)


def test_impossible_logits_stay_finite(pixels):
    class Sure(Net):
        def __call__(self, pixels_BHWC):
            logits = np.zeros((len(pixels_BHWC), 3, *pixels_BHWC.shape[1:3]), np.float32)
            logits[:, 0] = 1e6
            return logits

    assert np.isfinite(Views(Sure(), SIDES, "flip")(pixels)).all()


def test_unknown_views():
    with pytest.raises(UsageError, match="mirorr"):
        Views(Net(), SIDES, "mirorr")


def test_outlines_are_averaged_too(pixels):
    class WithEdges(Net):
        extras = ("edge",)

        def with_extras(self, pixels_BHWC):
            return self(pixels_BHWC), {"edge": pixels_BHWC[..., 0][:, None].astype(np.float32) / 100 - 1}

    logits, extras = Views(WithEdges(), SIDES, "flip").with_extras(pixels)
    np.testing.assert_allclose(logits, Views(Net(), SIDES, "flip")(pixels), atol=1e-6)
    np.testing.assert_allclose(extras["edge"], pixels[..., 0][:, None] / 100 - 1, atol=1e-4)  # the same from both sides
    assert Views(Net(), SIDES, "flip").extras == ()
