"""Graphs that are not of the usual form: used where that is possible, refused in one line where not."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seglab.device import Device
from seglab.engines.onnxruntime import OnnxRuntimeEngine
from seglab.errors import DataError, DeviceError
from seglab.preprocess import Preprocess

CPU = Device("cpu", None, "test")
PLAIN = Preprocess(size_hw=(4, 6), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def graph(
    shape: tuple[object, ...] = ("b", 3, "h", "w"), kind: int = TensorProto.FLOAT, weight: TensorProto | None = None
) -> onnx.ModelProto:
    """A graph that computes logits = weight * image: 3 classes, of which the largest is the brightest channel."""
    weight = weight or numpy_helper.from_array(np.full((1, 3, 1, 1), 2, np.float32), "weight")
    main = helper.make_graph(
        [helper.make_node("Mul", ["picture", "weight"], ["scores"])],
        "main",
        [helper.make_tensor_value_info("picture", kind, shape)],
        [helper.make_tensor_value_info("scores", kind, shape)],
        [weight],
    )
    return helper.make_model(main, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def engine(model: onnx.ModelProto) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(Path("a.onnx"), model.SerializeToString(), PLAIN, CPU, threads=1)


PIXELS = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
EXPECTED = PIXELS.transpose(0, 3, 1, 2) / 255 * 2


@pytest.mark.parametrize(
    "shape", [("b", 3, "h", "w"), ("b", 3, 4, 6), (1, 3, 4, 6), (1, 3, "h", "w"), (None, None, None, None)]
)
def test_fixed_and_free_sizes(shape: tuple[object, ...]) -> None:
    np.testing.assert_allclose(engine(graph(shape))(PIXELS), EXPECTED, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (("b", 3, 8, 8), r"takes pictures of \[3, 8, 8\], but its configuration says \[3, 4, 6\]"),
        (("b", 1, "h", "w"), "takes pictures of"),
        ((2, 3, 4, 6), "takes exactly 2 pictures at a time"),
        (("b", "h", "w"), "does not take one float32 picture"),
    ],
)
def test_forms_that_cannot_be_used(shape: tuple[object, ...], message: str) -> None:
    weight = numpy_helper.from_array(np.full((1,), 2, np.float32), "weight")
    with pytest.raises(DataError, match=message):
        engine(graph(shape, weight=weight))


def test_a_graph_of_other_numbers_is_refused() -> None:
    weight = numpy_helper.from_array(np.full((1, 3, 1, 1), 2, np.float64), "weight")
    with pytest.raises(DataError, match="does not take one float32 picture"):
        engine(graph(kind=TensorProto.DOUBLE, weight=weight))


def test_tensors_in_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret.bin").write_bytes(np.full(3, 2, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)  # ONNX Runtime would look here.
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[1, 3, 1, 1], raw_data=b"")
    onnx.external_data_helper.set_external_data(weight, "secret.bin")
    weight.ClearField("raw_data")
    with pytest.raises(DataError, match=r"keeps 1 tensors in other files \(`weight`...\), which is refused"):
        engine(graph(weight=weight))


def test_an_operator_that_does_not_exist() -> None:
    model = graph()
    model.graph.node[0].op_type = "Conjure"
    with pytest.raises(DataError, match=r"ONNX Runtime cannot load `a.onnx`"):
        engine(model)


def test_a_failure_while_running_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    wrong = numpy_helper.from_array(np.ones((1, 3, 5, 1), np.float32), "weight")
    with pytest.raises(DeviceError, match=r"ONNX Runtime failed on `a.onnx` with input 3x3x4x6") as caught:
        engine(graph(weight=wrong))(PIXELS)
    assert "\n" not in caught.value.message
    assert capfd.readouterr() == ("", "")
