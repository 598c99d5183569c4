"""Graphs said anew compute what they computed, and what is not understood is left alone."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from seglab.engines.rewriting import rewritten
from seglab.models.export import Export

RNG = np.random.default_rng(5)


def weight(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array((RNG.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32), name)


def model(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], *outputs: str) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 20, 24))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs or ("y",)],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(made)
    return made


def conv(inputs: list[str], output: str, kernel: tuple[int, int] = (3, 3), **options: Any) -> onnx.NodeProto:
    options = {"pads": [1, 1, 1, 1], **options}
    if options.get("auto_pad") == "VALID":
        del options["pads"]
    return helper.make_node("Conv", inputs, [output], kernel_shape=kernel, **options)


def two_parts(a: int = 16, b: int = 32) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Values a and b of so many channels, and ab, both of them."""
    nodes = [
        conv(["x", "wa"], "a0"),
        helper.make_node("Relu", ["a0"], ["a"]),
        conv(["x", "wb"], "b"),
        helper.make_node("Concat", ["a", "b"], ["ab"], axis=1),
    ]
    return nodes, [weight("wa", a, 3, 3, 3), weight("wb", b, 3, 3, 3)]


def run(data: bytes) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(1).normal(size=(1, 3, 20, 24)).astype(np.float32)
    return list(session.run(None, {"x": image}))


def kinds(data: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(data).graph.node)


def check_equal(made: onnx.ModelProto) -> bytes:
    """Rewrite; the result must be sound and give what the graph gives."""
    before = made.SerializeToString()
    after = rewritten(before)
    onnx.checker.check_model(onnx.load_from_string(after), full_check=True)
    for value, expected in zip(run(after), run(before), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-5)
    return after


FORMS: list[dict[str, Any]] = [
    {},
    {"pads": [2, 0, 1, 3]},
    {"dilations": [2, 3], "pads": [2, 3, 2, 3]},
    {"auto_pad": "VALID"},
    {"auto_pad": "NOTSET"},
]


@pytest.mark.parametrize("form", [*FORMS, {"strides": [2, 2]}])
@pytest.mark.parametrize("bias", [True, False])
def test_convolutions_of_parts(form: dict[str, Any], bias: bool) -> None:
    nodes, weights = two_parts()
    weights += [weight("w", 32, 48, 3, 3), *([weight("bias", 32)] if bias else [])]
    nodes += [conv(["ab", "w", *(["bias"] if bias else [])], "y", **form)]
    after = check_equal(model(nodes, weights))
    assert kinds(after) == {"Conv": 4, "Add": 1, "Relu": 1}
    names = [tensor.name for tensor in onnx.load_from_string(after).graph.initializer]
    assert "w" not in names


def test_three_parts() -> None:
    nodes, weights = two_parts()
    nodes[-1] = helper.make_node("Concat", ["a", "b", "a"], ["ab"], axis=1)
    made = model([*nodes, conv(["ab", "w"], "y")], [*weights, weight("w", 32, 64, 3, 3)])
    assert kinds(check_equal(made)) == {"Conv": 5, "Add": 2, "Relu": 1}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_out", [1, 2, 5])
def test_narrow_convolutions(form: dict[str, Any], num_out: int) -> None:
    nodes, weights = two_parts()
    weights += [weight("w", num_out, 32, 3, 3), weight("bias", num_out)]
    after = check_equal(model([*nodes[2:3], conv(["b", "w", "bias"], "y", **form)], weights[1:]))
    shapes = [tuple(t.dims) for t in onnx.load_from_string(after).graph.initializer]
    assert (3 * num_out, 32, 3, 1) in shapes
    assert (num_out, 3 * num_out, 1, 3) in shapes


def test_narrow_convolution_of_parts() -> None:
    nodes, weights = two_parts(32, 32)
    made = model([*nodes, conv(["ab", "w"], "y")], [*weights, weight("w", 2, 64, 3, 3)])
    assert kinds(check_equal(made)) == {"Conv": 6, "Add": 1, "Relu": 1}


def left_alone() -> dict[str, onnx.ModelProto]:
    nodes, weights = two_parts()
    wide = weight("w", 32, 48, 3, 3)
    last = conv(["ab", "w"], "y")
    odd_nodes, odd_weights = two_parts(12, 36)
    grouped = conv(["ab", "w"], "y", group=2)
    one = conv(["ab", "w"], "y", kernel=(1, 1), pads=[0, 0, 0, 0])
    same = helper.make_node("Conv", ["ab", "w"], ["y"], kernel_shape=[3, 3], auto_pad="SAME_LOWER")
    folded = [conv(["ab", "w"], "z"), helper.make_node("Mul", ["z", "scale"], ["y"])]
    taken = helper.make_node("Relu", ["x"], ["y/part-0"])
    elsewhere = numpy_helper.from_array(np.zeros((32, 48, 3, 3), np.float16), "w")
    half = helper.make_node("Cast", ["w"], ["w32"], to=TensorProto.FLOAT)
    return {
        "parts that do not fill blocks": model([*odd_nodes, last], [*odd_weights, wide]),
        "groups": model([*nodes, grouped], [*weights, weight("w", 32, 24, 3, 3)]),
        "single pixels": model([*nodes, one], [*weights, weight("w", 32, 48, 1, 1)]),
        "padding by a rule": model([*nodes, same], [*weights, wide]),
        "both are wanted": model([*nodes, last], [*weights, wide], "y", "ab"),
        "read twice": model([*nodes, last, helper.make_node("Relu", ["ab"], ["r"])], [*weights, wide], "y", "r"),
        "a scale follows": model([*nodes, *folded], [*weights, wide, weight("scale", 1, 32, 1, 1)]),
        "the name is taken": model([*nodes, taken, last], [*weights, wide], "y", "y/part-0"),
        "weights are computed": model([*nodes, half, conv(["ab", "w32"], "y")], [*weights, elsewhere]),
        "few inputs": model([*nodes[:2], conv(["a", "w"], "y")], [weights[0], weight("w", 2, 16, 3, 3)]),
        "strides": model([nodes[2], conv(["b", "w"], "y", strides=[2, 1])], [weights[1], weight("w", 2, 32, 3, 3)]),
    }


@pytest.mark.parametrize("name", left_alone())
def test_left_alone(name: str) -> None:
    data = left_alone()[name].SerializeToString()
    run(data)
    assert rewritten(data) is data


def test_graphs_that_hold_graphs_are_left_alone() -> None:
    nodes, weights = two_parts()
    inner = helper.make_graph(
        [helper.make_node("Identity", ["ab"], ["z"])], "i", [], [helper.make_tensor_value_info("z", 1, None)]
    )
    branch = helper.make_node("If", ["yes"], ["z"], then_branch=inner, else_branch=inner)
    yes = numpy_helper.from_array(np.array(True), "yes")
    data = model(
        [*nodes, branch, conv(["ab", "w"], "y")], [*weights, yes, weight("w", 32, 48, 3, 3)], "y", "z"
    ).SerializeToString()
    assert rewritten(data) is data


@pytest.mark.parametrize("data", [b"", b"\x00", b"<html>", b"\x3a\x05\x0a\x03abc", b"\x3a\x00", b"\x3a\x00\x3a\x00"])
def test_what_is_no_graph_is_left_to_be_refused(data: bytes) -> None:
    assert rewritten(data) == data


@pytest.mark.exhaustive
def test_a_network_that_concatenates(bundle: Callable[[str], tuple[Path, Export]]) -> None:
    """Every concatenation of U2NETP before a 3 x 3 is gone; only the one of its side outputs stays."""
    data = (bundle("u2net")[0] / "model.onnx").read_bytes()
    after = rewritten(data)
    assert kinds(after)["Concat"] == kinds(data)["Concat"] - 50
    assert kinds(after)["Conv"] == kinds(data)["Conv"] + 50
    image = RNG.normal(size=(1, 3, 96, 128)).astype(np.float32)
    answers = [onnxruntime.InferenceSession(graph).run(None, {"image": image})[0] for graph in (data, after)]
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-4 * float(np.abs(answers[0]).max()))
