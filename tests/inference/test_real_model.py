"""The commands as processes of their own, with a real graph in ONNX Runtime that sees colours."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from seglab.models.bundle import METADATA_KEY, BundleConfig
from seglab.preprocess import Preprocess
from seglab.tasks import TASKS, Task

Program = Callable[..., subprocess.CompletedProcess[str]]


def write_graph(path: Path, task: Task, size: int = 32, save_id: str = "test") -> None:
    """Write a graph whose logit of a class is 2 c x - c c, so that the class of the nearest colour c wins."""
    colours = np.array(task.palette, np.float32) / 255
    weight = (24 * colours)[..., None, None]
    bias = -12 * (colours**2).sum(1)
    shape = ["batch", 3, "height", "width"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["image", "weight", "bias"], ["logits"])],
        "colours",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", len(colours), *shape[2:]])],
        [onnx.numpy_helper.from_array(weight, "weight"), onnx.numpy_helper.from_array(bias, "bias")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    config = BundleConfig(
        task=task,
        model="unet",
        preprocess=Preprocess(size_hw=(size, size), mean=(0, 0, 0), std=(1, 1, 1)),
        save_id=save_id,
    )
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(config.to_dict())
    onnx.save(model, path)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    write_graph(tmp_path / "person.onnx", TASKS["person"])
    colour = TASKS["person"].palette[1]
    photo = np.zeros((60, 90, 3), np.uint8)
    photo[10:50, 20:70] = colour
    Image.fromarray(photo).save(tmp_path / "photo.png")
    root = Path(__file__).parents[2]

    def run(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "seglab"]
        environment = {**os.environ, "PYTHONPATH": str(root), "SEGLAB_DEVICE": "cpu", "PYTHONWARNINGS": "error"}
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )

    return run


@pytest.mark.parametrize("command", ["predict", "cutout"])
def test_the_cpu_path_never_imports_torch(program: Program, tmp_path: Path, command: str) -> None:
    code = (
        "import sys\nfrom seglab.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally:\n"
        "    heavy = {'torch', 'torchvision', 'segmentation_models_pytorch', 'onnx', 'tensorboard'}\n"
        "    print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    result = program(command, "--model", "person.onnx", "photo.png", "-o", "out.png", code=code)
    assert result.returncode == 0, result.stderr
    assert "onnxruntime on cpu" in result.stderr
    assert result.stderr.rstrip().endswith("[]")
    assert result.stdout == ""
    with Image.open(tmp_path / "out.png") as stored:
        assert stored.mode == {"predict": "P", "cutout": "RGBA"}[command]
        assert stored.size == (90, 60)
        inside = np.array(stored)[25:35, 35:55]
    assert (inside == 1).all() if command == "predict" else (inside[..., 3] == 255).all()


def test_tasks_and_models_must_fit(program: Program) -> None:
    for arguments, code, messages in (
        (["predict", "photo.png", "--task", "person"], 3, ["no model for task `person`", "seglab train --task person"]),
        (["cutout", "photo.png", "--task", "person"], 3, ["no model for task `person`", "--model RUN"]),
        (["predict", "photo.png"], 2, ["neither a task nor a model", "--model RUN"]),
        (["predict", "photo.png", "--task", "face", "--model", "person.onnx"], 3, ["segments `person`", "is `face`"]),
        (["predict", "photo.png", "--task", "fase", "--model", "person.onnx"], 2, ["did you mean `face`"]),
        (["predict", "photo.png", "--model", "gone.onnx"], 3, ["gone.onnx"]),
        (["predict", "foto.png"], 3, ["`foto.png` does not exist", "did you mean `photo.png`"]),
        (["predict", "photo.png", "--model", "person.onnx", "--device", "cuda:7"], 6, ["`cuda:7`"]),
        (["predict", "photo.png", "--model", "photo.png"], 3, ["photo.png"]),
    ):
        result = program(*arguments)
        assert result.returncode == code, result.stderr
        for message in messages:
            assert message in result.stderr
        assert "Traceback" not in result.stderr
        assert result.stdout == ""


def test_json_lines_and_exit_code_of_a_process(program: Program, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"<html>")
    result = program("predict", "--model", "person.onnx", "--task", "person", "photo.png", "bad.jpg", "--json")
    assert result.returncode == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines[0]["classes"]["person"]["pixels"] > 1500
    assert "HTML" in lines[1]["error"]
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("command", ["predict", "cutout"])
def test_a_pipe_of_processes(program: Program, tmp_path: Path, command: str) -> None:
    assert program(command, "--model", "person.onnx", "photo.png", "-o", "file.png").returncode == 0
    script = f"cat photo.png | {sys.executable} -m seglab {command} --model person.onnx - -o - > piped.png"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "SEGLAB_DEVICE": "cpu"}
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "piped.png").read_bytes() == (tmp_path / "file.png").read_bytes()


def test_every_form_tile_and_instance_on_the_cpu_without_torch(program: Program, tmp_path: Path) -> None:
    code = "import sys\nfrom seglab.cli import main\ntry: main(sys.argv[1:])\nfinally: print('torch' in sys.modules)"
    forms = [word for name in ("palette", "split", "probs", "instances", "coco", "rle") for word in ("-f", name)]
    result = program(
        "predict", "--model", "person.onnx", "photo.png", *forms, "--instances", "--tile", "40", "--tta", "flip",
        "--min-area", "5", code=code,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout == "False\n"
    values = json.loads((tmp_path / "seglab-masks/annotations.json").read_text())
    (annotation,) = values["annotations"]
    assert abs(annotation["area"] - 40 * 50) < 150
    assert annotation["person_id"] == 1
