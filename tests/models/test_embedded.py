"""The weights that come with seglab: sound, small, told of, and of use on pictures that the repository may have."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import seglab
from seglab.cli import run
from seglab.cli.console import bounded
from seglab.device import Device
from seglab.engines import open_engine
from seglab.models import catalogue
from seglab.models.bundle import load_weights, read_config
from seglab.models.catalogue import embedded_dir, embedded_names, whole_person_task
from seglab.models.export import ExportOptions, export_model, photo_like
from seglab.models.zoo import row
from seglab.tasks import TASKS

CPU = Device("cpu", None, "test")
NAMES = embedded_names()
MAX_BYTES = 20_000_000
MAX_GFLOP = 3.0
FLOORS = {"person": ("iou.person", 0.86), "clothes": ("miou", 0.60), "body": ("miou_foreground", 0.22)}
"""What a network must have reached on the test split to come with seglab."""
DRAWN = {"person": 0.6, "clothes": 0.3, "body": 0.22}
"""What it must reach in the same figure on drawn people, which are no photos and were never shown to it."""

# fmt: off
ASTRONAUT = [
    (230, 16), (205, 23), (188, 38), (165, 52), (155, 65), (153, 80), (157, 95), (165, 112), (174, 122), (178, 131),
    (183, 131), (186, 149), (175, 148), (160, 150), (140, 158), (128, 172), (123, 188), (116, 190), (117, 205),
    (110, 210), (90, 222), (70, 238), (55, 255), (45, 270), (38, 295), (30, 330), (24, 360), (19, 400), (24, 440),
    (30, 490), (40, 512), (277, 512), (277, 490), (278, 460), (285, 430), (297, 400), (312, 377), (335, 357),
    (360, 348), (364, 345), (360, 325), (352, 290), (345, 268), (330, 252), (305, 236), (303, 225), (298, 210),
    (285, 192), (268, 180), (256, 174), (258, 160), (265, 135), (272, 136), (278, 128), (290, 115), (298, 100),
    (302, 85), (297, 65), (288, 45), (270, 28), (250, 19),
]
HEAD = [
    (230, 16), (205, 23), (188, 38), (165, 52), (155, 65), (153, 80), (157, 95), (165, 112), (174, 122), (178, 131),
    (183, 131), (186, 149), (186, 178), (205, 188), (235, 190), (256, 186), (258, 160), (265, 135), (272, 136),
    (278, 128), (290, 115), (298, 100), (302, 85), (297, 65), (288, 45), (270, 28), (250, 19),
]
HELMET = [
    (277, 512), (277, 490), (278, 460), (285, 430), (297, 400), (312, 377), (335, 357), (360, 348), (395, 343),
    (430, 348), (460, 365), (480, 395), (495, 440), (508, 470), (512, 512),
]
# fmt: on


def figure(name: str, metric: str) -> float:
    """Return a number of a model card."""
    text = (embedded_dir(name) / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^\| {re.escape(metric)} \| ([0-9.]+)", text, re.MULTILINE)
    assert found, metric
    return float(found[1])


@cache
def astronaut() -> np.ndarray:
    """Return Eileen Collins, 512 x 512: NASA's photo, in the public domain, which scikit-image brings."""
    from skimage.data import astronaut as picture

    return np.asarray(picture())


def test_all_together_are_small() -> None:
    sizes = [path.stat().st_size for path in embedded_dir("").rglob("*") if path.is_file()]
    assert sum(sizes) <= MAX_BYTES
    assert set(NAMES) <= set(FLOORS)


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_is_whole_and_told_of(name: str) -> None:
    folder = embedded_dir(name)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "model.onnx", "model.safetensors",
    ]  # fmt: skip
    config = read_config(folder)
    assert config.task.same_labels(TASKS[name])
    assert config.data["commercial"] in ("yes", "no", "unclear")
    assert config.data["terms"]
    assert not re.search(r'"/(tmp|work|home|root)', (folder / "config.json").read_text())
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert all(heading in text for heading in ("## Scores", "## How it was made", "## Where it fails", "## Terms"))
    assert json.dumps(config.data["samples"]["test"]) in text
    metric, floor = FLOORS[name]
    assert figure(name, metric) >= floor


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_is_light(name: str) -> None:
    config = read_config(embedded_dir(name))
    network, (height, width) = row(config.model), config.preprocess.size_hw
    assert network.gflop is not None
    assert network.gflop * height * width / network.size**2 <= MAX_GFLOP
    kinds = {str(tensor.dtype) for tensor in load_weights(embedded_dir(name)).values() if tensor.ndim >= 2}
    assert kinds == {"torch.float16"}


@pytest.mark.parametrize("name", NAMES)
def test_engines_agree(name: str) -> None:
    pixels = np.stack([astronaut()[:256, :256], photo_like((1, 256, 256), 4)[0]])
    graph, network = (open_engine(embedded_dir(name), CPU, engine)[0] for engine in ("onnxruntime", "torch"))
    one, other = graph(pixels), network(pixels)
    np.testing.assert_allclose(one, other, atol=1e-3)
    assert (one.argmax(1) == other.argmax(1)).mean() >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[:1])
def test_a_bundle_exports(name: str, tmp_path: Path) -> None:
    done = export_model(embedded_dir(name), tmp_path / "a.onnx", ExportOptions(size_hw=(128, 128)))
    assert done.equal >= 0.999


@pytest.mark.parametrize("name", NAMES)
def test_the_astronaut_is_found(name: str) -> None:
    """Against outlines drawn by hand: all of her, or what she wears. The flag is the worst mistake of both."""
    found, truth = seglab.load(name)(astronaut()).labels > 0, outline(clothes=name == "clothes")
    counted = truth != 255
    iou = (found & (truth == 1))[counted].sum() / (found | (truth == 1))[counted].sum()
    assert iou >= FLOORS["clothes" if name == "clothes" else "person"][1]
    assert found[:150, 400:].mean() < 0.1, "the space shuttle"


def outline(*, clothes: bool) -> np.ndarray:
    """Return HW uint8: 1 for her, 0 around her, 255 for the helmet that she holds, which may be hers or not."""
    drawn = Image.new("L", (512, 512))
    draw = ImageDraw.Draw(drawn)
    draw.polygon(ASTRONAUT, fill=1)
    draw.polygon(HELMET, fill=255)
    if clothes:
        draw.polygon(HEAD, fill=0)
    return np.asarray(drawn)


@pytest.mark.parametrize("name", NAMES)
def test_drawn_people_are_found(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(tmp_path / "data")
    assert bounded(lambda: run(["synth", data, "--task", name, "-n", "32", "--size", "256"])) == 0
    assert bounded(lambda: run(["evaluate", "--model", name, "--data", data, "--split", "train", "--json"])) == 0
    scores = json.loads(capsys.readouterr().out)
    metric, _, part = FLOORS[name][0].partition(".")
    assert (scores["classes"][part][metric] if part else scores[metric]) >= DRAWN[name]


@pytest.mark.parametrize(
    ("names", "task"),
    [(["body", "person"], "person"), (["body", "clothes"], "body"), (["clothes"], "person"), ([], "person")],
)
def test_which_weights_find_people(names: list[str], task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "embedded_names", lambda: names)
    assert whole_person_task() == task


@pytest.mark.skipif(not {"person", "body"} & set(NAMES), reason="no weights that find people come with this version")
def test_a_fresh_install_cuts_out_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "astronaut.png"
    Image.fromarray(astronaut()).save(path)
    assert bounded(lambda: run(["cutout", str(path), "-o", str(tmp_path / "cut.png")])) == 0
    alpha = np.asarray(Image.open(tmp_path / "cut.png"))[..., 3]
    assert alpha[230:500, 140:330].mean() > 200
    assert alpha[:150, 400:].mean() < 50
    told = "all that `body` finds is cut out" in " ".join(capsys.readouterr().err.split())
    assert told == ("person" not in NAMES)
