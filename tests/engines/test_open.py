"""Which engine a model is opened with, and what is said about it."""

import sys
from pathlib import Path

import numpy as np
import pytest

import seglab.models.session as session
from seglab import engines
from seglab.device import Device
from seglab.engines import ENGINES, PRECISIONS, EngineChoice, begin_to_open, open_engine
from seglab.errors import DataError, DeviceError, ExitCode, UsageError
from seglab.models.bundle import load_weights, read_config, save_bundle
from seglab.models.export import photo_like

CPU = Device("cpu", None, "test")
CUDA = Device("cuda", 0, "test", asked_for=True)


def test_a_graph_is_taken_on_the_cpu(bundle_dir: Path) -> None:
    engine, config = open_engine(bundle_dir, CPU)
    assert (engine.name, engine.reason, engine.notes) == ("onnxruntime", "the bundle has a graph", [])
    assert config == read_config(bundle_dir)


@pytest.mark.parametrize("name", ENGINES[1:])
def test_an_engine_can_be_asked_for(bundle_dir: Path, name: str) -> None:
    if name == "openvino":
        pytest.importorskip("openvino", reason="an optional extra")
    engine, _ = open_engine(bundle_dir, CPU, EngineChoice(name, threads=1))
    assert (engine.name, engine.reason, engine.device, engine.precision) == (name, "asked for", CPU, "fp32")


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
    engine, _ = open_engine(bundle_dir, CPU, EngineChoice(precision="bf16"))
    assert (engine.name, engine.reason, engine.precision) == ("torch", "for `--precision bf16`", "bf16")
    with pytest.raises(UsageError, match="no precision is called `fp23`"):
        EngineChoice(precision="fp23")
    with pytest.raises(DeviceError, match="needs a GPU"):
        open_engine(bundle_dir, CPU, EngineChoice(precision="fp16"))


def test_compiling_is_torchs_business(bundle_dir: Path) -> None:
    engine, _ = open_engine(bundle_dir, CPU, EngineChoice(compile=True))
    assert (engine.name, engine.reason) == ("torch", "for `--compile`")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_what_a_graph_cannot_do_is_refused(bundle_dir: Path, name: str) -> None:
    rough = [{"precision": "bf16"}] if name == "onnxruntime" else []
    for choice in (*rough, {"precision": "fp16"}, {"compile": True}):
        option = "--compile" if "compile" in choice else f"--precision {choice['precision']}"
        with pytest.raises(UsageError, match=f"engine `{name}` cannot do `{option}`") as caught:
            EngineChoice(name, **choice)
        assert ("openvino" in caught.value.hint) == (choice in rough)
        (bundle_dir / "model.safetensors").unlink(missing_ok=True)
        with pytest.raises(UsageError, match=f"is a graph, which cannot do `{option}`"):
            open_engine(bundle_dir, CPU, EngineChoice(**choice))
    assert [EngineChoice(name, precision=precision).precision for precision in PRECISIONS[:2]] == ["auto", "fp32"]


def test_the_cpus_allocator_is_told_to_keep_memory_for_torch_alone(
    bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("seglab.allocator.keep_freed_memory", lambda: told.append("told"))
    open_engine(bundle_dir, CPU, "onnxruntime")
    assert told == []
    open_engine(bundle_dir, CPU, "torch")
    assert told == ["told"]


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


def test_a_device_that_nobody_asked_for_is_given_up(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seglab.engines.onnxruntime.available_providers", lambda: ["CPUExecutionProvider"])
    found = Device("cuda", 0, "the first GPU found")
    (bundle_dir / "model.safetensors").unlink()
    for choice, why in (("auto", "the model is a graph"), ("onnxruntime", "asked for")):
        engine, _ = open_engine(bundle_dir, found, choice)
        assert engine.device.name == "cpu"
        assert engine.reason == f"{why}; the installed ONNX Runtime cannot use device `cuda:0`"
        assert engine(photo_like((1, 64, 64))).shape == (1, 11, 64, 64)


def test_a_provider_that_does_not_start_is_an_error(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime itself goes on with the CPU where CUDA's libraries are missing."""
    asked: list[object] = []

    def open_session(path: Path, data: bytes, *, threads: int, providers: list[object]) -> object:
        asked.append(providers[0])
        return session.open_session(path, data, threads=threads)

    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("seglab.engines.onnxruntime.available_providers", lambda: both)
    monkeypatch.setattr("seglab.engines.onnxruntime.open_session", open_session)
    with pytest.raises(DeviceError, match="has CUDAExecutionProvider, but it does not work here on `cuda:0`"):
        open_engine(bundle_dir, CUDA, "onnxruntime")
    assert asked == [("CUDAExecutionProvider", {"device_id": 0, "use_tf32": 0})]


def test_weights_and_graph_of_one_save_are_reported_as_one(bundle_dir: Path) -> None:
    assert read_config(bundle_dir / "model.onnx") == read_config(bundle_dir / "model.safetensors")


def test_what_was_begun_is_waited_for_once(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    original = engines._open

    def counted(path: Path, device: Device, choice: EngineChoice) -> object:
        opened.append(path)
        return original(path, device, choice)

    monkeypatch.setattr(engines, "_open", counted)
    begin_to_open(small, CPU, EngineChoice())
    engine, config = open_engine(small, CPU)
    assert (engine.name, opened) == ("onnxruntime", [small])
    assert open_engine(small, CPU)[0] is not engine
    assert len(opened) == 2
    assert config.model == "unet-light"


def test_what_was_replaced_since_it_was_begun_is_opened_anew(bundle_dir: Path) -> None:
    begin_to_open(bundle_dir, CPU, EngineChoice())
    config = read_config(bundle_dir)
    (bundle_dir / "model.onnx").unlink()
    save_bundle(bundle_dir, config, load_weights(bundle_dir))
    engine, opened = open_engine(bundle_dir, CPU)
    assert (engine.name, opened.save_id) == ("torch", read_config(bundle_dir).save_id)


def test_what_is_begun_and_cannot_be_opened_is_told_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    begin_to_open(tmp_path / "a.onnx", CPU, EngineChoice())
    with pytest.raises(DataError, match=r"a\.onnx"):
        open_engine(tmp_path / "a.onnx", CPU)


@pytest.mark.parametrize(
    "choice", [EngineChoice("torch"), EngineChoice("openvino"), EngineChoice(compile=True), EngineChoice(bn="batch")]
)
def test_what_onnx_runtime_would_not_compute_is_not_begun(small: Path, choice: EngineChoice) -> None:
    before = set(engines._begun)
    begin_to_open(small, CPU, choice)
    begin_to_open(small, Device("cuda", 0, "test"), EngineChoice())
    begin_to_open(small / "model.safetensors", CPU, EngineChoice())
    assert set(engines._begun) == before
