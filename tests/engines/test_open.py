"""Which engine a model is opened with, and what is said about it."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import seglab.models.session as session
from seglab.device import Device
from seglab.engines import open_engine
from seglab.errors import DataError, DeviceError, ExitCode, UsageError
from seglab.models.bundle import load_weights, read_config, save_bundle
from seglab.models.export import photo_like

CPU = Device("cpu", None, "test")
CUDA = Device("cuda", 0, "test")


@pytest.fixture
def bundle_dir(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "run"))


def test_a_graph_is_taken_on_the_cpu(bundle_dir: Path) -> None:
    engine, config = open_engine(bundle_dir, CPU)
    assert (engine.name, engine.reason, engine.notes) == ("onnxruntime", "the bundle has a graph", [])
    assert config == read_config(bundle_dir)


@pytest.mark.parametrize("name", ["onnxruntime", "torch"])
def test_an_engine_can_be_asked_for(bundle_dir: Path, name: str) -> None:
    engine, _ = open_engine(bundle_dir, CPU, name, threads=1)
    assert (engine.name, engine.reason) == (name, "asked for")


def test_without_a_graph_torch_runs_and_says_why(bundle_dir: Path) -> None:
    (bundle_dir / "model.onnx").unlink()
    engine, _ = open_engine(bundle_dir, CPU)
    assert (engine.name, engine.reason) == ("torch", f"`{bundle_dir}` has no graph (model.onnx)")
    with pytest.raises(DataError, match="has no graph"):
        open_engine(bundle_dir, CPU, "onnxruntime")


def test_a_stale_graph_is_never_used(bundle_dir: Path) -> None:
    graph = (bundle_dir / "model.onnx").read_bytes()
    weights = {name: 2 * tensor for name, tensor in load_weights(bundle_dir).items()}
    saved = save_bundle(bundle_dir, read_config(bundle_dir), weights)
    (bundle_dir / "model.onnx").write_bytes(graph)
    engine, config = open_engine(bundle_dir, CPU)
    assert (engine.name, config.save_id) == ("torch", saved.save_id)
    assert "model.onnx` is of other weights than model.safetensors" in engine.reason
    with pytest.raises(DataError, match="of other weights"):
        open_engine(bundle_dir, CPU, "onnxruntime")


def test_a_broken_graph_is_not_used(bundle_dir: Path) -> None:
    graph_path = bundle_dir / "model.onnx"
    graph_path.write_bytes(graph_path.read_bytes()[:-1000])
    engine, _ = open_engine(bundle_dir, CPU)
    assert (engine.name, "not an ONNX graph, or cut off" in engine.reason) == ("torch", True)


def test_a_graph_is_a_model_by_itself(bundle_dir: Path, tmp_path: Path) -> None:
    pixels = photo_like((1, 64, 64))
    expected = open_engine(bundle_dir, CPU)[0](pixels)
    alone = tmp_path / "person.ONNX"
    (bundle_dir / "model.onnx").rename(alone)
    engine, config = open_engine(alone, CPU)
    assert (engine.name, engine.reason) == ("onnxruntime", "the model is a graph")
    assert config == read_config(bundle_dir)
    np.testing.assert_array_equal(engine(pixels), expected)
    with pytest.raises(DataError, match="is a graph, not weights"):
        open_engine(alone, CPU, "torch")


def test_a_bundle_of_a_graph_alone_works_and_a_broken_one_is_an_error(bundle_dir: Path) -> None:
    (bundle_dir / "model.safetensors").unlink()
    assert open_engine(bundle_dir, CPU)[0].name == "onnxruntime"
    (bundle_dir / "model.onnx").write_bytes(b"")
    with pytest.raises(DataError, match="empty file"):
        open_engine(bundle_dir, CPU)


def test_weights_alone_are_opened_by_torch(bundle_dir: Path) -> None:
    engine, _ = open_engine(bundle_dir / "model.safetensors", CPU)
    assert engine.name == "torch"


def test_another_precision_is_torchs_business(bundle_dir: Path) -> None:
    engine, _ = open_engine(bundle_dir, CPU, precision="bf16")
    assert (engine.name, engine.reason) == ("torch", "precision bf16")
    with pytest.raises(UsageError, match="no precision is called `fp23`"):
        open_engine(bundle_dir, CPU, precision="fp23")
    with pytest.raises(DeviceError, match="needs a GPU"):
        open_engine(bundle_dir, CPU, precision="fp16")


def test_an_unknown_engine_names_the_nearest(bundle_dir: Path) -> None:
    with pytest.raises(UsageError, match="no engine is called `onnx-runtime`") as caught:
        open_engine(bundle_dir, CPU, "onnx-runtime")
    assert caught.value.hint == "did you mean `onnxruntime`?"


def test_an_engine_that_is_not_installed(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    session._onnxruntime.cache_clear()
    try:
        with pytest.raises(DeviceError, match="onnxruntime cannot be imported") as caught:
            open_engine(bundle_dir, CPU, "onnxruntime")
        assert caught.value.exit_code == ExitCode.DEVICE
        engine, _ = open_engine(bundle_dir, CPU)
        assert engine.name == "torch"
        assert "onnxruntime cannot be imported" in engine.reason
    finally:
        session._onnxruntime.cache_clear()


def test_a_device_that_the_engine_cannot_use_is_an_error(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seglab.engines.onnxruntime.available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match="cannot use device `cuda:0`"):
        open_engine(bundle_dir, CUDA, "onnxruntime")


def test_weights_and_graph_of_one_save_are_reported_as_one(bundle_dir: Path) -> None:
    assert read_config(bundle_dir / "model.onnx") == read_config(bundle_dir / "model.safetensors")
