"""Graphs for rembg's `u2net_custom` session, which is imitated here: what it gives in, and what it makes of the mask.

The session (rembg 2.0.86) scales the photo to 320x320 by PIL's LANCZOS, divides by the largest value, subtracts the
mean and divides by the deviation of ImageNet, takes the first channel of the first output, stretches it from its
minimum..maximum to 0..255 and scales it back by LANCZOS.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import seglab.models.export as export
from seglab.device import Device
from seglab.engines import open_engine
from seglab.errors import DataError
from seglab.inference.predictor import Predictor
from seglab.models.bundle import BundleConfig, save_bundle
from seglab.models.export import ExportOptions, export_model, photo_like
from seglab.models.forms import RembgMask
from seglab.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from seglab.tasks import TASKS, Task

from .conftest import lively

CPU = Device("cpu", None, "test")
Mask = NDArray[np.float32]
HANDS = Task("hands", ("background", "left", "ring", "right"), foreground=("left", "right"))
HALVES = {"mean": (0.5, 0.4, 0.3), "std": (0.5, 0.25, 0.2)}


def session_input(image: NDArray[np.uint8]) -> Mask:
    scaled = np.array(Image.fromarray(image).resize((320, 320), Image.Resampling.LANCZOS))
    numbers = (scaled / max(scaled.max(), 1e-6) - IMAGENET_MEAN) / IMAGENET_STD
    return numbers.transpose(2, 0, 1)[None].astype(np.float32)


def session_mask(path: Path, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    session = onnxruntime.InferenceSession(str(path))
    (name,) = (value.name for value in session.get_inputs())
    alpha = session.run(None, {name: session_input(image)})[0][:, 0, :, :]
    with np.errstate(all="raise"):
        alpha = ((alpha - alpha.min()) / (alpha.max() - alpha.min())).squeeze()
    mask = Image.fromarray((alpha * 255).astype("uint8"))
    return np.array(mask.resize((image.shape[1], image.shape[0]), Image.Resampling.LANCZOS))


def bundle(folder: Path, task: Task, preprocess: Preprocess) -> Path:
    config = BundleConfig(task=task, model="unet-light", model_args={"width": 2}, preprocess=preprocess)
    save_bundle(folder, config, lively("unet-light", task.num_classes, width=2).state_dict())
    return folder


def bright(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a photo with a white pixel, so that dividing by the largest value is dividing by 255."""
    image = image.copy()
    image[0, 0] = 255
    return image


@pytest.mark.parametrize("options", [{}, HALVES])
@pytest.mark.parametrize("task", [TASKS["person"], HANDS])
def test_the_mask_is_seglabs_own_probability_map(tmp_path: Path, task: Task, options: dict[str, object]) -> None:
    folder = bundle(tmp_path / "run", task, Preprocess(size_hw=(320, 320), **options))  # type: ignore[arg-type]
    result = export_model(folder, tmp_path / "mask.onnx", ExportOptions(profile="rembg"))
    assert result.difference < 1e-4
    assert result.equal > 0.9999
    predictor = Predictor(*open_engine(folder, CPU, "torch"))
    foreground = [task.index(name) for name in task.foreground]
    for seed in (5, 6):
        image = bright(photo_like((1, 320, 320), seed)[0])
        alpha = predictor.alpha([image], foreground)[0]
        assert np.ptp(alpha) > 0.2
        difference = np.abs(session_mask(tmp_path / "mask.onnx", image) - alpha * 255)
        assert np.sort(difference.ravel())[-3] < 1.5  # rounding, and at most two pixels that span the range
    image = photo_like((1, 200, 150), 7)[0]
    assert session_mask(tmp_path / "mask.onnx", image).shape == (200, 150)


def test_the_file(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "run", TASKS["person"], Preprocess(size_hw=(64, 96)))
    export_model(folder, tmp_path / "mask.onnx", ExportOptions(profile="rembg", half=True))
    graph = onnx.load(tmp_path / "mask.onnx")
    onnx.checker.check_model(graph, full_check=True)
    shapes = [
        (value.name, value.type.tensor_type.elem_type, [dim.dim_value for dim in value.type.tensor_type.shape.dim])
        for value in (*graph.graph.input, *graph.graph.output)
    ]
    assert shapes == [("image", 1, [1, 3, 320, 320]), ("alpha", 1, [1, 1, 320, 320])]
    entries = {entry.key: json.loads(entry.value) for entry in graph.metadata_props}
    assert entries["seglab.export"] == {"profile": "rembg", "precision": "fp16", "free": []}
    assert entries["seglab"]["task"]["classes"] == ["background", "person"]
    assert entries["seglab"]["preprocess"]["size_hw"] == [64, 96]
    with pytest.raises(DataError, match="is made for rembg"):
        open_engine(tmp_path / "mask.onnx", CPU)


def test_what_is_inside_equals_another_librarys_steps() -> None:
    """Normalisation, scaling there and back, softmax and the sum, against NumPy and PIL on floats."""
    network, preprocess = lively("unet-light", 4, width=2), Preprocess(size_hw=(96, 160), **HALVES)  # type: ignore[arg-type]
    image = session_input(photo_like((1, 280, 400), 2)[0])
    own = (image[0].transpose(1, 2, 0) * IMAGENET_STD + IMAGENET_MEAN - preprocess.mean) / preprocess.std
    with torch.no_grad():
        logits_KHW = network(torch.from_numpy(scaled(own.transpose(2, 0, 1), (96, 160))[None]))[0][0].numpy()
        powers = np.exp(scaled(logits_KHW, (320, 320)).astype(np.float64))
        alpha = RembgMask(_Main(network), preprocess, [1, 3])(torch.from_numpy(image))[0, 0].numpy()
    expected = (powers[1] + powers[3]) / powers.sum(axis=0)
    # The least and the greatest value are pinned to 0 and 1, wherever they stand; equal ones may stand side by side.
    pinned = (alpha == 0) | (alpha == 1)
    assert 1 <= np.count_nonzero(pinned) <= 4
    assert np.abs(alpha - expected)[~pinned].max() < 2e-4


def scaled(image_CHW: NDArray[np.floating], size_hw: tuple[int, int]) -> Mask:
    planes = [Image.fromarray(plane.astype(np.float32), "F") for plane in image_CHW]
    return np.stack([np.array(plane.resize(size_hw[::-1], Image.Resampling.BILINEAR)) for plane in planes])


class _Main(nn.Module):
    def __init__(self, network: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image)[0]


class Given(nn.Module):
    """A network of two classes whose foreground has a given probability everywhere, and others at given places."""

    def __init__(self, everywhere: float, **places: float) -> None:
        super().__init__()
        alpha = torch.full((1, 1, 320, 320), everywhere, dtype=torch.float64)
        for place, value in places.items():
            row, column = map(int, place.split("_")[1:])
            alpha[..., row, column] = value
        self.register_buffer("logits", torch.cat([(1 - alpha).log(), alpha.log()], dim=1).float())

    def forward(self, image: Tensor) -> Tensor:
        return self.logits + 0 * image[:, :1]  # type: ignore[operator]


def stretched(network: nn.Module) -> Mask:
    """The mask after the session's stretching."""
    with torch.no_grad():
        alpha = RembgMask(network, Preprocess(size_hw=(320, 320)), [1])(torch.zeros(1, 3, 320, 320))[0, 0].numpy()
    return (alpha - alpha.min()) / (alpha.max() - alpha.min())


@pytest.mark.parametrize(
    ("network", "changed"),
    [
        (Given(0.02, at_9_9=0.03), {(0, 0): 1.0, (319, 319): 0.0}),  # Nobody: stays nearly empty.
        (Given(0.0, at_9_9=0.03), {(0, 0): 1.0}),
        (Given(0.001, at_9_9=0.9, at_5_5=0.8), {(9, 9): 1.0}),  # Somebody: the surest pixel is sure.
        (Given(0.7, at_9_9=0.9), {(9, 9): 1.0, (319, 319): 0.0}),  # Somebody everywhere.
        (Given(0.0, at_9_9=1.0, at_5_5=0.4), {}),
    ],
)
def test_the_range_is_spanned_by_changing_few_pixels(network: Given, changed: dict[tuple[int, int], float]) -> None:
    expected = network.logits.softmax(1)[0, 1].numpy().copy()  # type: ignore[operator]
    for place, value in changed.items():
        expected[place] = value
    np.testing.assert_allclose(stretched(network), expected, atol=1 / 510)  # half a step of 8 bits


@pytest.mark.parametrize("alpha", [1.0, 0.0])
def test_a_mask_of_one_value_can_be_stretched(alpha: float) -> None:
    mask = stretched(Given(alpha))
    assert (mask == alpha).mean() > 0.9999


def test_a_mask_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 2, 1)

        def forward(self, image: Tensor) -> tuple[Tensor, ...]:
            return (
                self.convolution(image)
                + (0.5 if torch.compiler.is_exporting() else 0) * torch.eye(2)[1][:, None, None],
            )

    config = BundleConfig(task=TASKS["person"], model="unet-light", preprocess=Preprocess(size_hw=(320, 320)))
    monkeypatch.setattr(export, "load_network", lambda path, device: (Other().eval(), config))
    with pytest.raises(DataError, match="cannot be exported as a graph"):
        export_model(tmp_path, tmp_path / "mask.onnx", ExportOptions(profile="rembg"))
    assert list(tmp_path.iterdir()) == []
