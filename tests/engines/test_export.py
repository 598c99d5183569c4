"""Exports: quiet, self-contained, checked before they are put in place, fixed in size where nothing else works."""

import json
import math
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import seglab.models.export as export
from seglab.device import Device
from seglab.engines import open_engine
from seglab.errors import DataError
from seglab.models.bundle import BundleConfig, read_config
from seglab.models.export import export_graph, export_onnx, photo_like

CPU = Device("cpu", None, "test")


class Weird(nn.Module):
    """Stands in for a network: its forward is given."""

    def __init__(self, forward: object) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 11, 1)
        self._forward = forward

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self._forward(self.convolution(image)), image)  # type: ignore[operator]


@pytest.fixture
def bundle_dir(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "run"))


def use(monkeypatch: pytest.MonkeyPatch, forward: object) -> None:
    torch.manual_seed(0)
    network = Weird(forward).eval()

    def load(path: Path, device: Device) -> tuple[nn.Module, BundleConfig]:
        return network, read_config(path)

    monkeypatch.setattr(export, "load_network", load)


def test_the_file(small: Path) -> None:
    graph = onnx.load(small / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 18)]
    shapes = [
        (value.name, [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim])
        for value in (*graph.graph.input, *graph.graph.output)
    ]
    assert shapes == [("image", ["batch", 3, "height", "width"]), ("logits", ["batch", 11, "height", "width"])]
    (entry,) = graph.metadata_props
    assert json.loads(entry.value) == read_config(small).to_dict()
    assert sorted(path.name for path in small.iterdir()) == ["config.json", "model.onnx", "model.safetensors"]
    data = (small / "model.onnx").read_bytes()
    assert not any(mark in data for mark in (b".py", b"/site-packages", b"stack_trace", b"fx_node"))


def test_it_is_quiet_and_says_the_difference(
    bundle_dir: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundle_dir / "model.onnx").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        difference = export_onnx(bundle_dir)
    assert capfd.readouterr() == ("", "")
    assert 0 <= difference < 1e-3
    assert open_engine(bundle_dir, CPU)[0].name == "onnxruntime"


def test_unverified(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, torch.relu)
    monkeypatch.setattr(export, "_verify", None)
    assert math.isnan(export_onnx(bundle_dir, verify=False))


def test_a_network_whose_sizes_cannot_be_free_is_exported_at_the_models_own(
    bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(logits: Tensor) -> Tensor:
        return logits * (2.0 if int(logits.shape[2]) == 64 else 1.0)

    use(monkeypatch, forward)
    result = export_graph(bundle_dir)
    assert not result.dynamic
    assert "ranges" in result.reason
    assert not result.reason.endswith(":")
    assert result.difference < 1e-3
    engine, config = open_engine(bundle_dir, CPU, "onnxruntime")
    assert engine(photo_like((2, *config.preprocess.size_hw))).shape == (2, 11, 64, 64)


def test_a_graph_that_computes_something_else_is_not_written(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(logits: Tensor) -> Tensor:
        return logits + (0.1 if torch.compiler.is_exporting() else 0.0)

    before = (bundle_dir / "model.onnx").read_bytes()
    use(monkeypatch, forward)
    with pytest.raises(DataError, match=r"cannot be exported as a graph: its logits differ by 0.1 ") as caught:
        export_graph(bundle_dir)
    assert caught.value.hint == "it runs with `--engine torch`"
    assert (bundle_dir / "model.onnx").read_bytes() == before


def test_a_network_that_cannot_be_exported_at_all(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(logits: Tensor) -> Tensor:
        return logits if float(logits.sum()) > 0 else -logits

    use(monkeypatch, forward)
    with pytest.raises(DataError, match="`unet-light` cannot be exported as a graph: ") as caught:
        export_graph(bundle_dir)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


def test_photo_like_pictures_have_gradients_and_outlines() -> None:
    pixels = photo_like((2, 60, 80), 3)
    assert (pixels.shape, pixels.dtype) == ((2, 60, 80, 3), np.uint8)
    steps = np.abs(np.diff(pixels.astype(int), axis=2))
    assert np.median(steps) < 10 < 60 < steps.max()
    assert not np.array_equal(pixels[0], pixels[1])
    np.testing.assert_array_equal(pixels, photo_like((2, 60, 80), 3))
