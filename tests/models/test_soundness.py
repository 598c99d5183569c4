"""Checkpoints that look well and cannot be used: told by the list and the import alike, without a half-made bundle."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from seglab.cli import run
from seglab.cli.console import bounded
from seglab.models import zoo
from seglab.models.bundle import CONFIG_NAME
from seglab.models.originals import describe_checkpoint
from seglab.models.outlines import _OUTLINES, digest, why_not_whole
from seglab.models.recognition import recognise
from tests.models.test_originals import PUBLISHED, shapes_of

FIRST = "stage1.rebnconvin.conv_s1.weight"


@cache
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(zoo.build("u2netp", 4).state_dict())


def spoilt(kind: str) -> dict[str, torch.Tensor]:
    tensors = dict(weights())
    if kind in ("nan", "inf", "bfloat16", "float16", "float64"):
        value = float("inf") if kind == "inf" else float("nan")
        tensors[FIRST] = tensors[FIRST].to(getattr(torch, kind, torch.float32)).clone()
        tensors[FIRST][0, 0, 0, 0] = value
    elif kind == "extra":
        tensors["extra.weight"] = torch.ones(3)
    elif kind == "missing":
        tensors.pop("stage2.rebnconv1.conv_s1.weight")
    elif kind == "renamed":
        tensors["stage2.other"] = tensors.pop("stage2.rebnconv1.conv_s1.weight")
    elif kind == "shape":
        tensors["stage2.rebnconv1.conv_s1.weight"] = torch.ones(3, 3)
    return tensors


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nan", f"1 of the 1,728 numbers of tensor `{FIRST}` are NaN or infinite"),
        ("inf", f"tensor `{FIRST}` are NaN or infinite"),
        ("bfloat16", f"tensor `{FIRST}` are NaN or infinite"),
        ("float16", f"tensor `{FIRST}` are NaN or infinite"),
        ("float64", f"tensor `{FIRST}` are NaN or infinite"),
        ("extra", "it has 799 tensors, the network has 798"),
        ("missing", "it has 797 tensors, the network has 798"),
        ("renamed", "other names"),
        ("shape", "numbers in its tensors"),
    ],
)
def test_what_an_import_refuses_is_shown_as_unusable(
    tmp_path: Path, capsys: Any, kind: str, words: str, suffix: str
) -> None:
    path = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(spoilt(kind), path)
    assert bounded(lambda: run(["models", "show", str(path), "--json"])) == 3
    out, err = capsys.readouterr()
    assert words in err
    assert words in json.loads(out)["checkpoint"]["reason"]
    assert bounded(lambda: run(["models", "import", str(path), str(tmp_path / "out"), "--no-graph"])) == 3
    assert kind not in ("nan", "inf") or words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_flipped_bit_is_found_by_both(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "w.pth"
    torch.save(weights(), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for arguments in (["show", str(path)], ["import", str(path), str(tmp_path / "out"), "--no-graph"]):
        assert bounded(lambda arguments=arguments: run(["models", *arguments])) == 3
        assert "it is damaged: Bad CRC-32" in capsys.readouterr().err


def test_classes_that_nobody_published_are_said_with_what_helps(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "five.pth"
    torch.save(zoo.build("u2netp", 5).state_dict(), path)
    assert bounded(lambda: run(["models", "show", str(path)])) == 3
    err = capsys.readouterr().err
    assert "recognised" in err
    assert "--task MY.toml" in err
    assert "bundle it" not in err


def test_what_is_unknown_is_described_and_exits_with_3(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a.weight": torch.ones(2)}, path)
    assert bounded(lambda: run(["models", "show", str(path)])) == 3
    assert "of no network that seglab knows" in capsys.readouterr().err


def test_whole_weights_are_fine(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "w.pth")
    found = describe_checkpoint(tmp_path / "w.pth")
    assert (found["reason"], found["hint"]) == ("", "")


@pytest.mark.parametrize("listing", PUBLISHED)
def test_every_original_has_its_outline(listing: str) -> None:
    shapes = shapes_of(PUBLISHED[listing][0])
    architecture = recognise(shapes)
    assert architecture is not None
    assert why_not_whole(architecture, shapes) == ""
    name = next(name for name in shapes if name.endswith("weight"))
    assert why_not_whole(architecture, {key: shape for key, shape in shapes.items() if key != name}) != ""


@pytest.mark.parametrize("model", [model for model, form in _OUTLINES if not form])
def test_the_outlines_are_those_of_the_networks(model: str) -> None:
    shapes = shapes_of(lambda: zoo.build(model, 3))
    outline = _OUTLINES[model, ""]
    assert (outline.num_tensors, outline.names) == (len(shapes), digest(shapes))


def test_an_import_leaves_the_folders_of_others_alone(tmp_path: Path, capsys: Any) -> None:
    path, photos = tmp_path / "w.pth", tmp_path / "photos"
    torch.save(weights(), path)
    photos.mkdir()
    command = ["models", "import", str(path), str(photos), "--no-graph"]
    (photos / "a.jpg").write_bytes(b"x")
    assert bounded(lambda: run(command)) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [each.name for each in photos.iterdir()] == ["a.jpg"]
    assert bounded(lambda: run([*command, "--force"])) == 0
    assert (photos / CONFIG_NAME).is_file()
    assert (photos / "a.jpg").is_file()


def test_an_export_is_called_onnx(tmp_path: Path, capsys: Any) -> None:
    torch.save(weights(), tmp_path / "w.pth")
    (tmp_path / "there").mkdir()
    for name, words in (("g", "does not end in `.onnx`"), ("g.pb", "does not end"), ("there", "is a folder")):
        command = ["export", str(tmp_path / "w.pth"), str(tmp_path / name), "--no-verify", "--force"]
        assert bounded(lambda command=command: run(command)) == 2
        err = capsys.readouterr().err
        assert words in err
        assert ".onnx`" in err


def test_a_bundle_of_nan_is_not_exported(tmp_path: Path, capsys: Any) -> None:
    from seglab.models.bundle import read_config, save_bundle

    torch.save(weights(), tmp_path / "w.pth")
    save_bundle(tmp_path / "run", read_config(tmp_path / "w.pth"), spoilt("nan"))
    assert bounded(lambda: run(["export", str(tmp_path / "run")])) == 3
    err = capsys.readouterr().err
    assert f"tensor `{FIRST}` holds numbers that are NaN or infinite" in err
    assert "--engine torch" not in err
