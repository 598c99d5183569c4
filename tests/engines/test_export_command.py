"""`seglab export`: where graphs go, what is said, and what is refused before any work is done."""

import json
from pathlib import Path

import numpy as np
import pytest

import seglab.models.catalogue as catalogue
from seglab.cli.export import _share
from seglab.device import Device
from seglab.engines import open_engine
from seglab.models.export import photo_like
from tests.engines.conftest import export

CPU = Device("cpu", None, "test")


def test_a_graph_beside_the_bundles_own(bundle_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (bundle_dir / "model.onnx").read_bytes()
    assert export(bundle_dir, "--size", "64x64", "--fp16", "--json") == 0
    out, err = capsys.readouterr()
    path = bundle_dir / "model-64x64-fp16.onnx"
    values = json.loads(out)
    assert values["path"] == str(path)
    assert (values["bytes"], values["precision"], values["dynamic"]) == (path.stat().st_size, "fp16", False)
    assert 0 < values["difference"] < 0.2
    assert 0.99 <= values["equal"] < 1
    assert f"within {values['difference']:.2g}, {values['equal']:.3%} of label pixels equal" in err
    assert f"next: seglab predict --model {path} PHOTOS" in err
    assert (bundle_dir / "model.onnx").read_bytes() == before
    assert export(bundle_dir, "--size", "64x64", "--fp16") == 2
    assert "`--force` replaces it" in capsys.readouterr().err
    pixels = photo_like((1, 64, 64))
    labels = [open_engine(source, CPU)[0](pixels).argmax(1) for source in (bundle_dir, path)]
    assert np.mean(labels[0] == labels[1]) > 0.99


def test_the_bundles_own_graph_is_made_again(bundle_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle_dir / "model.onnx").write_bytes(b"stale")
    assert export(bundle_dir / "model.safetensors", "--force", "--no-verify", "--json") == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["difference"], json.loads(out)["equal"]) == (None, None)
    assert "not compared with torch" in err
    assert open_engine(bundle_dir, CPU)[0].name == "onnxruntime"


def test_a_model_by_name_is_exported_to_where_one_is(
    bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "embedded_dir", lambda name: tmp_path / "weights" / name)
    (tmp_path / "weights").mkdir()
    bundle_dir.rename(tmp_path / "weights" / "face")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert export("face", "--profile", "rembg") == 0
    assert [path.name for path in Path().iterdir()] == ["face-rembg.onnx"]
    err = capsys.readouterr().err
    assert "mask within" in err
    assert "100% of label pixels equal" in err
    assert "U2NET_HOME" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--format", "tflite"], 2, "no format is called `tflite`"),
        (["--profile", "rembq"], 2, "did you mean `rembg`?"),
        (["--profile", "rembg", "--size", "dynamic"], 2, "rembg makes every photo 320x320"),
        (["--size", "3xx"], 2, "`3xx` is not a size"),
        (["--size", "0"], 2, "size `0x0` is outside 1..8192"),
        ([], 2, "model.onnx` is there already"),
        (["no/such/folder/a.onnx", "--size", "32"], 3, "cannot write `no/such/folder/a.onnx`"),
    ],
)
def test_refusals(
    bundle_dir: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(bundle_dir.iterdir())
    assert export(bundle_dir, *arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert sorted(bundle_dir.iterdir()) == before


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("model.onnx", "is a graph, not weights"),
        ("unet-resnet34", "is a network without weights"),
        ("nope", "no model"),
    ],
)
def test_models_that_cannot_be_exported(
    bundle_dir: Path, model: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bundle_dir / model
    assert export(path if path.exists() else model, bundle_dir / "out.onnx") == 3
    assert message in capsys.readouterr().err
    assert not (bundle_dir / "out.onnx").exists()


@pytest.mark.parametrize(
    ("equal", "text"), [(1.0, "100%"), (0.999999999, "less than 100%"), (0.99987, "99.987%"), (0.99, "99.000%")]
)
def test_a_share_is_never_rounded_up_to_all(equal: float, text: str) -> None:
    assert _share(equal) == text
