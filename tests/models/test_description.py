"""What `seglab models show` knows of bundles, runs, graphs, checkpoints and names."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

import seglab.models.catalogue as catalogue
from seglab.cli import run
from seglab.cli.console import bounded
from seglab.errors import DataError
from seglab.models.bundle import BundleConfig, read_config, save_bundle
from seglab.models.description import describe
from seglab.models.zoo import build
from seglab.preprocess import Preprocess
from seglab.tasks import TASKS

CONFIG = BundleConfig(
    task=TASKS["person"],
    model="unet-light",
    model_args={"width": 2},
    preprocess=Preprocess(size_hw=(64, 32), fit="pad"),
    data={"source": "synth"},
    metrics={"val": {"miou": 0.51239, "absent": [], "classes": {"person": {"iou": 0.25, "tp": 3}}}},
    training={"epoch": 7, "config": {"lr": 0.002}},
    versions={"seglab": "0.0.1"},
)


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalogue, "embedded_dir", lambda name: tmp_path / "weights" / name)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build("unet-light", 2, width=2).eval()


def graph(config: BundleConfig | None, **more: str) -> onnx.ModelProto:
    main = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight"], ["logits"])], "main",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("b", 3, "h", "w"))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("b", 2, "h", "w"))],
        [numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "weight")],
    )  # fmt: skip
    model = helper.make_model(main, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if config is not None:
        helper.set_model_props(model, {"seglab": json.dumps(config.to_dict()), **more})
    return model


@pytest.fixture
def bundle_dir(tmp_path: Path) -> Path:
    saved = save_bundle(tmp_path / "run", CONFIG, network().state_dict())
    (tmp_path / "run" / "model.onnx").write_bytes(graph(saved).SerializeToString())
    return tmp_path / "run"


def test_a_bundle(bundle_dir: Path) -> None:
    found = describe(str(bundle_dir))
    assert (found.kind, found.path, found.config) == ("bundle", bundle_dir, read_config(bundle_dir))
    assert found.network is not None
    assert found.network.name == "unet-light"
    floats = [tensor for tensor in network().state_dict().values() if tensor.is_floating_point()]
    assert found.tensors == {"tensors": len(floats), "numbers": sum(t.numel() for t in floats), "kinds": ["float32"]}
    assert found.graph_belongs is True
    assert found.form is not None
    assert found.form.num_weights == 6
    assert found.problem == ""
    assert found.files == {path.name: path.stat().st_size for path in bundle_dir.iterdir()}
    assert json.loads(json.dumps(found.to_dict()))["config"] == read_config(bundle_dir).to_dict()


def test_a_run_with_a_stale_graph(bundle_dir: Path) -> None:
    (bundle_dir / "train.json").write_text("{}")
    (bundle_dir / "samples").mkdir()
    (bundle_dir / "samples" / "1.png").write_bytes(b"123")
    (bundle_dir / ".lock").touch()
    stale = (bundle_dir / "model.onnx").read_bytes()
    save_bundle(bundle_dir, CONFIG, network().state_dict())
    (bundle_dir / "model.onnx").write_bytes(stale)
    found = describe(str(bundle_dir))
    assert found.kind == "run"
    assert found.graph_belongs is False
    assert found.files is not None
    assert found.files["samples/"] == 3
    assert ".lock" not in found.files


def test_a_broken_graph_does_not_hide_its_bundle(bundle_dir: Path) -> None:
    (bundle_dir / "model.onnx").write_bytes(b"junk")
    found = describe(str(bundle_dir))
    assert found.config == read_config(bundle_dir)
    assert found.graph_belongs is False
    assert "not an ONNX graph" in found.problem
    assert found.form is None


def test_graphs(bundle_dir: Path, tmp_path: Path) -> None:
    found = describe(str(bundle_dir / "model.onnx"))
    assert (found.kind, found.problem, found.graph_belongs) == ("graph", "", None)
    assert found.config == read_config(bundle_dir)
    path = tmp_path / "other.onnx"
    path.write_bytes(graph(None).SerializeToString())
    found = describe(str(path))
    assert found.config is None
    assert "was not made by seglab" in found.problem
    assert found.form is not None
    assert found.form.inputs[0].shape == ("b", 3, "h", "w")
    path.write_bytes(graph(CONFIG, **{"seglab.export": '{"profile": "rembg"}'}).SerializeToString())
    found = describe(str(path))
    assert "is made for rembg" in found.problem
    assert found.config == CONFIG
    assert found.export == {"profile": "rembg"}


def test_a_graph_that_reaches_outside_is_described_and_named(tmp_path: Path) -> None:
    model = graph(CONFIG)
    (weight,) = model.graph.initializer
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    path = tmp_path / "outside.onnx"
    path.write_bytes(model.SerializeToString())
    assert describe(str(path)).problem == "it keeps 1 tensors in other files: seglab loads no such graph"
    assert bounded(lambda: run(["predict", "--model", str(path), "x.jpg"])) == 3


def test_checkpoints_by_others(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({f"module.{name}": tensor for name, tensor in build("u2netp", 2).state_dict().items()}, path)
    found = describe(str(path))
    assert (found.kind, found.files) == ("checkpoint", {"weights.pth": path.stat().st_size})
    assert found.checkpoint is not None
    assert found.checkpoint["prefix"] == "module."
    save_file({"a": torch.ones(2)}, tmp_path / "other.safetensors")
    found = describe(str(tmp_path / "other.safetensors"))
    assert (found.kind, found.config) == ("checkpoint", None)
    assert found.checkpoint is not None
    assert found.checkpoint["recognised"] is None


def test_names(tmp_path: Path, bundle_dir: Path) -> None:
    found = describe("u2net")
    assert (found.kind, found.path) == ("network", None)
    assert found.network is not None
    assert found.weights is not None
    assert found.weights.command == "seglab fetch u2net"
    assert {"u2net-human", "cloth-u2net"} <= {each.name for each in found.published}
    assert describe("u2net-human").kind == "checkpoint"
    assert describe("unet-tu-resnet18").network is not None
    folder = tmp_path / "cache" / "models" / "u2net"
    folder.mkdir(parents=True)
    (folder / "SOURCE.json").write_text("{}")
    torch.save(build("u2netp", 2).state_dict(), folder / "u2net.pth")
    found = describe("u2net")
    assert (found.kind, found.path) == ("checkpoint", folder / "u2net.pth")
    assert found.weights is not None
    assert found.weights.here
    bundle_dir.rename(tmp_path / "moved")
    (tmp_path / "weights").mkdir()
    (tmp_path / "moved").rename(tmp_path / "weights" / "person")
    assert describe("person").config is not None
    for name in ("nothing-at-all", "", "helen"):  # the last is a dataset
        with pytest.raises(DataError, match="there is no model"):
            describe(name)


@pytest.mark.parametrize("name", ["runs/x/model.safetensors", "a.onnx", "a.pth"])
def test_files_that_are_not_there(name: str) -> None:
    with pytest.raises(DataError, match="there is no model"):
        describe(name)


def test_showing_imports_no_torch(bundle_dir: Path, tmp_path: Path) -> None:
    torch.save(build("u2netp", 4).state_dict(), tmp_path / "weights.pth")
    paths = [str(bundle_dir), str(bundle_dir / "model.onnx"), str(tmp_path / "weights.pth")]
    code = (
        "import sys\nfrom seglab.cli import main\n"
        f"for path in {paths!r}:\n    try:\n        main(['models', 'show', path])\n"
        "    except SystemExit as end:\n        assert end.code == 0, end.code\n"
        "assert not set(sys.modules) & {'torch', 'onnx', 'onnxruntime', 'cv2'}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# The command


def test_show_says_what_matters(bundle_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bounded(lambda: run(["models", "show", str(bundle_dir)])) == 0
    out, err = capsys.readouterr()
    assert out == ""
    for text in (
        "task  person: the whole person",
        "classes  background, person",
        "input  64x32, pad; mean 0.485 0.456 0.406",
        "on val  miou 0.5124; IoU: person 0.25",
        "training  epoch 7, config (lr 0.002)",
        "graph fits  yes",
        "gives  logits, float32 (b, 2, h, w)",
        f"save id  {read_config(bundle_dir).save_id}",
    ):
        assert text in err
    assert bounded(lambda: run(["models", "show", str(bundle_dir), "--json"])) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(describe(str(bundle_dir)).to_dict()))


def test_show_escapes_what_files_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a[red]b.onnx"
    model = graph(None)
    model.producer_name = "[/bold]\x1b[31m"
    path.write_bytes(model.SerializeToString())
    assert bounded(lambda: run(["models", "show", str(path)])) == 0
    err = capsys.readouterr().err
    assert "a[red]b.onnx" in err
    assert "by [/bold]\\x1b[31m" in err


def test_import_makes_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "published.pth", tmp_path / "mine"
    tensors = {
        name: tensor[:1] if name.startswith(("side", "outconv")) and tensor.shape[0] == 2 else tensor
        for name, tensor in build("u2netp", 2).state_dict().items()
    }
    tensors["outconv.weight"] = tensors["outconv.weight"][:, :6]
    torch.save(tensors, path)
    code = bounded(lambda: run(["models", "import", str(path), str(out), "--no-graph", "--json", "--force"]))
    out_text, err = capsys.readouterr()
    assert code == 0, err
    assert json.loads(out_text)["config"]["model"] == "u2netp"
    assert "without a graph" in err
    assert bounded(lambda: run(["models", "import", str(path), str(out), "--no-graph"])) == 2
    assert "holds a model already" in capsys.readouterr().err
