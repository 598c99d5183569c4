"""Exports: quiet, self-contained, checked before they are put in place, fixed in size where nothing else works."""

import json
import math
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
from seglab.errors import DataError, UsageError
from seglab.models.bundle import BundleConfig, read_config
from seglab.models.export import ExportOptions, export_graph, export_model, export_onnx, photo_like

CPU = Device("cpu", None, "test")


class Weird(nn.Module):
    """Stands in for a network: its forward is given."""

    def __init__(self, forward: object) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 11, 1)
        self._forward = forward

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self._forward(self.convolution(image)), image)  # type: ignore[operator]


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
    entries = {entry.key: json.loads(entry.value) for entry in graph.metadata_props}
    assert entries == {
        "seglab": read_config(small).to_dict(),
        "seglab.export": {"profile": "seglab", "precision": "fp32", "free": ["batch", "height", "width"]},
    }
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
    assert not np.array_equal(pixels, photo_like((2, 60, 80), 3, "portrait"))
    assert photo_like((1, 1, 5)).shape == (1, 1, 5, 3)


# Other sizes, other numbers


def shapes(path: Path) -> list[list[object]]:
    main = onnx.load(path).graph
    return [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*main.input, *main.output)
    ]


def test_a_fixed_size_is_fixed_throughout(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "fixed.onnx"
    result = export_model(small, path, ExportOptions(size_hw=(96, 40)))
    assert (result.path, result.dynamic, result.reason, result.num_bytes) == (path, False, "", path.stat().st_size)
    assert result.difference < 1e-3
    assert result.equal == 1
    assert shapes(path) == [[1, 3, 96, 40], [1, 11, 96, 40]]
    assert "Shape" not in {node.op_type for node in onnx.load(path).graph.node}
    engine, config = open_engine(path, CPU)
    assert config.preprocess.size_hw == (96, 40)
    pixels = photo_like((2, 96, 40))
    expected = open_engine(small, CPU, "torch")[0](pixels)
    np.testing.assert_allclose(engine(pixels), expected, atol=1e-3)
    assert read_config(small).preprocess.size_hw == (64, 64)


def test_half_precision_between_float32_ends(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    result = export_model(small, path, ExportOptions(half=True, size_hw=(64, 64)))
    assert 0 < result.difference < 0.2
    assert 0.99 <= result.equal < 1
    main = onnx.load(path).graph
    ends = {value.type.tensor_type.elem_type for value in (*main.input, *main.output)}
    assert ends == {onnx.TensorProto.FLOAT}
    weights = [tensor for tensor in main.initializer if len(tensor.dims) == 4]
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.FLOAT16}
    assert json.loads(onnx.load(path).metadata_props[1].value)["precision"] == "fp16"
    pixels = photo_like((2, 64, 64), 9)
    expected, logits = (open_engine(source, CPU)[0](pixels) for source in (small, path))
    assert (logits.argmax(1) == expected.argmax(1)).mean() > 0.99


def test_half_precision_that_overflows_is_not_written(
    bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, lambda logits: logits * 1e6 / 1e6)
    with pytest.raises(DataError, match="its logits differ by nan"):
        export_model(bundle_dir, tmp_path / "half.onnx", ExportOptions(half=True))
    assert not (tmp_path / "half.onnx").exists()


def test_half_precision_that_changes_labels_is_not_written(
    bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(logits: Tensor) -> Tensor:
        return logits - logits.roll(1, 1) if torch.compiler.is_exporting() else logits

    use(monkeypatch, forward)
    with pytest.raises(DataError, match="of its label pixels are the network's"):
        export_model(bundle_dir, tmp_path / "half.onnx", ExportOptions(half=True))
    assert not (tmp_path / "half.onnx").exists()


def test_a_size_that_must_be_free_is_never_fixed_silently(
    bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, lambda logits: logits * (2.0 if int(logits.shape[2]) == 64 else 1.0))
    with pytest.raises(DataError, match="cannot be exported as a graph"):
        export_model(bundle_dir, tmp_path / "free.onnx", ExportOptions(must_be_free=True))
    assert not list(tmp_path.glob("*.onnx"))


def test_a_file_that_is_there_is_kept(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(UsageError, match="is there already") as caught:
        export_model(small, path, ExportOptions())
    assert caught.value.hint == "`--force` replaces it"
    assert path.read_bytes() == b"mine"
    export_model(small, path, ExportOptions(size_hw=(32, 32)), force=True)
    assert open_engine(path, CPU)[0].name == "onnxruntime"


def test_a_kill_while_writing_leaves_nothing(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(DataError, match="No space left"):
            export_model(small, tmp_path / "a.onnx", ExportOptions(size_hw=(32, 32)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": "rembq"}, "no profile is called `rembq`"),
        ({"profile": "rembg", "size_hw": (64, 64)}, "rembg makes every photo 320x320"),
        ({"profile": "rembg", "must_be_free": True}, "rembg makes every photo 320x320"),
        ({"size_hw": (0, 5)}, "size `0x5` is outside"),
        ({"size_hw": (5, 9000)}, "size `5x9000` is outside"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ExportOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "suffix"),
    [
        ({}, ""),
        ({"half": True}, "-fp16"),
        ({"size_hw": (3, 4), "half": True}, "-3x4-fp16"),
        ({"profile": "rembg"}, "-rembg"),
        ({"profile": "rembg", "size_hw": (320, 320)}, "-rembg"),
    ],
)
def test_names_tell_graphs_apart(options: dict[str, object], suffix: str) -> None:
    assert ExportOptions(**options).suffix == suffix  # type: ignore[arg-type]
