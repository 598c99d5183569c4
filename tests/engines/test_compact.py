"""Bundles to ship: half the bytes, the same labels, and what `seglab export --format bundle` refuses."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from seglab.device import Device
from seglab.engines import open_engine
from seglab.files import lock
from seglab.models.bundle import load_network, read_config
from seglab.models.compact import store_half
from seglab.models.export import photo_like
from tests.engines.conftest import export

CPU = Device("cpu", None, "test")


@pytest.fixture(scope="module")
def shipped(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shipped")
    about = folder / "about.toml"
    about.write_text('licence = "Apache-2.0"\ncommercial = "yes"\nterms = "of the photos"\n')
    assert export(small, folder / "m", "--format", "bundle", "--about", about) == 0
    return folder / "m"


def test_kernels_are_stored_in_half_and_the_rest_as_it_was(small: Path, shipped: Path) -> None:
    before, after = load_file(small / "model.safetensors"), load_file(shipped / "model.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        assert tensor.dtype == (torch.float16 if before[name].ndim >= 2 else before[name].dtype)
        assert torch.equal(tensor, before[name].to(tensor.dtype))
    sizes = [(folder / "model.onnx").stat().st_size for folder in (small, shipped)]
    assert sizes[1] < sizes[0]
    graph = onnx.load(shipped / "model.onnx").graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4}
    assert all(kind == onnx.TensorProto.FLOAT16 for name, kind in kinds.items() if not name.endswith("/scale"))


def test_engines_agree_on_what_is_shipped(small: Path, shipped: Path) -> None:
    pixels = photo_like((2, 64, 96), 3)
    torch_logits, graph_logits, before = (
        open_engine(path, CPU, engine)[0](pixels)
        for path, engine in ((shipped, "torch"), (shipped, "onnxruntime"), (small, "onnxruntime"))
    )
    np.testing.assert_allclose(graph_logits, torch_logits, atol=1e-3)
    assert (graph_logits.argmax(1) == torch_logits.argmax(1)).mean() >= 0.999
    assert (graph_logits.argmax(1) == before.argmax(1)).mean() >= 0.98


def test_the_terms_are_in_the_configuration(small: Path, shipped: Path) -> None:
    config, before = read_config(shipped), read_config(small)
    assert {name: config.data[name] for name in ("licence", "commercial", "terms")} == {
        "licence": "Apache-2.0", "commercial": "yes", "terms": "of the photos",
    }  # fmt: skip
    assert config.save_id != before.save_id
    assert (config.model, config.model_args, config.preprocess) == (before.model, before.model_args, before.preprocess)


def test_a_kernel_that_is_not_the_networks_stays_as_it_is(shipped: Path) -> None:
    network, _ = load_network(shipped, CPU)
    name, kernel = next((name, item.numpy()) for name, item in network.state_dict().items() if item.ndim == 4)
    odd = kernel.copy()
    odd.flat[0] += 1
    values = {name: odd, f"wrapper.{name}": kernel * 3, "other": kernel, f"{name}.x": kernel}
    graph = onnx.helper.make_model(
        onnx.helper.make_graph(
            [], "g", [], [], [onnx.numpy_helper.from_array(item, key) for key, item in values.items()]
        )
    )
    store_half(graph, network)
    names = [tensor.name for tensor in graph.graph.initializer]
    assert names == [name, f"wrapper.{name}/half", f"wrapper.{name}/scale", "other", f"{name}.x"]
    np.testing.assert_allclose(onnx.numpy_helper.to_array(graph.graph.initializer[2]), 3, rtol=1e-6)


def test_refusals(small: Path, shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = tmp_path / "about.toml"
    about.write_text('license = "x"\n')
    refused = {
        "`--format bundle` needs a folder": [small, "--format", "bundle"],
        "is the model itself": [small, small, "--format", "bundle", "--force"],
        "holds a model already": [small, shipped, "--format", "bundle"],
        "`--size`, `--fp16`: not with": [small, tmp_path / "m", "--format", "bundle", "--size", "64", "--fp16"],
        "`--about` is for": [small, tmp_path / "m.onnx", "--about", about],
        "no key is called `license`": [small, tmp_path / "m", "--format", "bundle", "--about", about],
    }  # fmt: skip
    for message, arguments in refused.items():
        assert export(*arguments) == 2, message
        assert message in " ".join(capsys.readouterr().err.split())
    about.write_text("licence = ")
    assert export(small, tmp_path / "m", "--format", "bundle", "--about", about) == 3
    about.write_text('commercial = "perhaps"')
    assert export(small, tmp_path / "m", "--format", "bundle", "--about", about) == 2
    assert not (tmp_path / "m").exists()


def test_what_is_there_is_replaced_when_asked(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--force", "--json"]):
        assert export(small, tmp_path / "m", "--format", "bundle", *options) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(tmp_path / "m" / "model.onnx")


def test_nothing_is_left_where_it_cannot_be_written(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("seglab.models.weights.save_file", refuse)
    assert export(small, tmp_path / "m", "--format", "bundle") == 3
    assert "model.safetensors`: No space left on device hint" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "m").exists()


def test_one_exports_to_a_folder_at_a_time(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m").mkdir()
    with lock(tmp_path / "m" / ".seglab-export.lock", "the folder"):
        assert export(small, tmp_path / "m", "--format", "bundle") == 5
    assert "is in use by" in capsys.readouterr().err
    assert export(small, tmp_path / "m", "--format", "bundle", "--no-verify") == 0
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "config.json",
        "model.onnx",
        "model.safetensors",
    ]
