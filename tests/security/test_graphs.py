"""Graphs that name other files, wherever a graph is taken."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from seglab.data.images import encode_png
from tests.fuzz import seeds
from tests.security.conftest import World

PLACES = ["../secret.bin", "/etc/hostname", "secret.bin", "a/../../secret.bin"]


def hostile(place, *, inside):
    """Return a graph of a model whose weights lie elsewhere, at the top or in a branch."""
    weight = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=place)
    pixels = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 32, 32])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3, 32, 32])
    if inside == "a constant":
        nodes = [
            helper.make_node("Constant", [], ["w"], value=weight),
            helper.make_node("Conv", ["image", "w"], ["logits"]),
        ]
        graph = helper.make_graph(nodes, "g", [pixels], [logits])
    else:
        graph = helper.make_graph(
            [helper.make_node("Conv", ["image", "w"], ["logits"])], "g", [pixels], [logits], [weight]
        )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"seglab": json.dumps(seeds.configuration())})
    return model.SerializeToString()


@pytest.fixture
def cli(tmp_path):
    """Run a command beside a file that is nobody's business."""
    (tmp_path / "secret.bin").write_bytes(np.full(9, 2, np.float32).tobytes())
    (tmp_path / "a.png").write_bytes(encode_png(np.zeros((32, 32, 3), np.uint8)))
    return lambda *arguments: World(tmp_path).run("graph", *arguments)


@pytest.mark.parametrize("inside", ["a tensor", "a constant"])
@pytest.mark.parametrize("place", PLACES)
def test_a_graph_that_names_another_file_is_refused(cli, tmp_path, place, inside):
    path = tmp_path / "evil.onnx"
    path.write_bytes(hostile(place, inside=inside))
    done = cli("predict", "--model", path, "a.png", "-o", "out")
    assert (done.code, "in other files" in done.err) == (3, True), done.err
    assert not (tmp_path / "out").exists()


def test_nor_is_one_inside_a_bundle_used(cli, tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "model.onnx").write_bytes(hostile("../secret.bin", inside="a tensor"))
    for command in (
        ("predict", "--model", bundle, "a.png", "-o", "out"),
        ("cutout", "--model", bundle, "a.png", "-o", "out"),
    ):
        done = cli(*command)
        assert (done.code, "in other files" in done.err) == (3, True), done.err
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "model.safetensors").write_bytes(seeds.bundle()[0])
    (tmp_path / "whole" / "model.onnx").write_bytes(hostile("../secret.bin", inside="a tensor"))
    done = cli("predict", "--model", "whole", "a.png", "-o", "out", "--engine", "onnxruntime")
    assert (done.code, "in other files" in done.err) == (3, True), done.err


def test_show_counts_them_and_reads_none(cli, tmp_path):
    (tmp_path / "evil.onnx").write_bytes(hostile("secret.bin", inside="a constant"))
    done = cli("models", "show", "evil.onnx", "--json")
    assert json.loads(done.out)["graph"]["tensors_in_other_files"] == 1
