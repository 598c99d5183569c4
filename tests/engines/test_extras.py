"""Outputs beside the classes: the edges of the Part Grouping Network, in every engine and from the command line."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from seglab.data.scene import draw_scene
from seglab.device import Device
from seglab.engines import open_engine
from seglab.engines.torch import TorchEngine
from seglab.models.bundle import BundleConfig, load_network, save_bundle
from seglab.models.export import ExportOptions, export_graph, export_model, photo_like
from seglab.models.segmenter import split_outputs
from seglab.preprocess import Preprocess
from seglab.tasks import TASKS
from tests.engines.conftest import lively

pytestmark = pytest.mark.exhaustive

CPU = Device("cpu", None, "test")
PARSING = TASKS["parsing"]
SMALL = {"width": 4, "blocks": [1, 1, 1, 1]}


@pytest.fixture(scope="module")
def pgn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle_dir = tmp_path_factory.mktemp("pgn")
    config = BundleConfig(task=PARSING, model="pgn", model_args=SMALL, preprocess=Preprocess(size_hw=(96, 128)))
    network = lively("pgn", PARSING.num_classes, **SMALL)
    for name, parameter in network.named_parameters():
        if not name.startswith("backbone."):
            parameter.data *= 3  # random logits of some size
    save_bundle(bundle_dir, config, network.state_dict())
    assert export_graph(bundle_dir).difference < 1e-3
    return bundle_dir


def test_the_graph_has_a_second_output(pgn: Path) -> None:
    graph = onnx.load(pgn / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in graph.graph.output
    }
    num_classes = PARSING.num_classes
    assert shapes == {
        "logits": ["batch", num_classes, "height", "width"],
        "edge": ["batch", 1, "height", "width"],
    }


@pytest.mark.parametrize("size_hw", [(96, 128), (64, 72), (41, 87)])
def test_engines_agree_on_edges(pgn: Path, size_hw: tuple[int, int]) -> None:
    pixels = photo_like((3, *size_hw))
    network, config = load_network(pgn, CPU)
    answers = []
    for name in ("torch", "onnxruntime"):
        engine, _ = open_engine(pgn, CPU, name)
        assert engine.extras == ("edge",)  # type: ignore[attr-defined]
        logits, extras = engine.with_extras(pixels)  # type: ignore[attr-defined]
        assert list(extras) == ["edge"]
        assert (logits.shape, extras["edge"].shape) == ((3, PARSING.num_classes, *size_hw), (3, 1, *size_hw))
        np.testing.assert_array_equal(engine(pixels), logits)
        answers.append((logits, extras["edge"]))
    image = (pixels / 255 - config.preprocess.mean) / config.preprocess.std
    with torch.inference_mode():
        outputs = network(torch.from_numpy(image.transpose(0, 3, 1, 2).astype(np.float32)))
    main, named = split_outputs(outputs, network.extras)
    for logits, edge in answers:
        np.testing.assert_allclose(logits, main[0].numpy(), atol=1e-3)
        np.testing.assert_allclose(edge, named["edge"][0].numpy(), atol=1e-3)
    assert np.abs(answers[0][1] - named["edge"][1].numpy()).max() > 1e-2  # it is the refined one
    assert answers[0][1].std() > 1e-2


def test_pieces_of_a_batch_are_put_together(pgn: Path) -> None:
    network, config = load_network(pgn, CPU)
    engine = TorchEngine(network, config.preprocess, CPU)
    pixels = photo_like((3, 40, 48))
    logits, extras = engine.with_extras(pixels)
    engine._batch_limit = 2
    again, extras_again = engine.with_extras(pixels)
    np.testing.assert_allclose(again, logits, atol=1e-4)
    np.testing.assert_allclose(extras_again["edge"], extras["edge"], atol=1e-4)


def test_other_networks_have_none(small: Path) -> None:
    for name in ("torch", "onnxruntime"):
        engine, _ = open_engine(small, CPU, name)
        pixels = photo_like((1, 64, 64))
        assert engine.extras == ()  # type: ignore[attr-defined]
        logits, extras = engine.with_extras(pixels)  # type: ignore[attr-defined]
        assert extras == {}
        np.testing.assert_array_equal(logits, engine(pixels))


@pytest.mark.parametrize(
    ("options", "names"), [({"half": True}, ["logits", "edge"]), ({"profile": "rembg"}, ["alpha"])]
)
def test_other_forms_of_the_graph(pgn: Path, tmp_path: Path, options: dict, names: list[str]) -> None:
    export = export_model(pgn, tmp_path / "a.onnx", ExportOptions(**options))
    assert [value.name for value in onnx.load(export.path).graph.output] == names
    assert export.equal > 0.98


def predict(*arguments: str | Path) -> int:
    from seglab import cli
    from seglab.cli.console import bounded

    return int(bounded(lambda: cli.run([str(argument) for argument in ("predict", *arguments)])))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGLAB_DEVICE", "cpu")
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "photos").mkdir()
    for index, size_hw in enumerate([(150, 200), (90, 60)]):
        Image.fromarray(draw_scene(1, index, "figure", size_hw).image).save(tmp_path / "photos" / f"{index}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_instances_from_the_command_line(pgn: Path, photos: Path, engine: str) -> None:
    assert predict("--model", pgn, photos, "-o", "out", "-f", "ids", "-f", "instances", "--engine", engine) == 0
    names = sorted(path.name for path in Path("out").iterdir() if not path.name.startswith("."))
    both = [f"{number}.{suffix}" for number in "01" for suffix in ("instances.png", "people.json", "png")]
    assert names == [*both, "legend.json"]
    for number, size_hw in (("0", (150, 200)), ("1", (90, 60))):
        labels = np.array(Image.open(f"out/{number}.png"))
        with Image.open(f"out/{number}.instances.png") as stored:
            assert stored.mode == "I;16"
            ids = np.array(stored)
        np.testing.assert_array_equal(ids > 0, labels > 0)
        values = json.loads(Path(f"out/{number}.people.json").read_text())
        assert (values["task"], values["height"], values["width"]) == ("parsing", *size_hw)
        assert [person["id"] for person in values["people"]] == list(range(1, ids.max() + 1))
        for person in values["people"]:
            assert person["pixels"] == (ids == person["id"]).sum()
            assert set(person) == {"id", "score", "pixels", "share", "bbox", "parts"}
            assert set(person["parts"]) <= set(PARSING.classes[1:])


def test_the_list_alone(pgn: Path, photos: Path) -> None:
    assert predict("--model", pgn, photos / "0.png", "-o", "a.json", "-f", "people") == 0
    assert json.loads(Path("a.json").read_text())["height"] == 150


def test_other_models_refuse_in_a_line(small: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("--model", small, photos, "-o", "out", "-f", "instances") == 2
    errors = capsys.readouterr().err
    assert "format `instances` needs a model that finds the outlines of people, which this one does not" in errors
    assert "--model pgn" in errors
    assert not Path("out").exists()
