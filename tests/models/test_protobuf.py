"""What is read of ONNX files without onnx, against onnx; and files that are made to be read in two ways."""

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seglab.errors import DataError
from seglab.models.graphs import Port, graph_form
from seglab.models.headers import external_tensors
from seglab.models.protobuf import as_message, as_text, field, fields, head
from seglab.models.session import open_session

PATH = Path("a.onnx")


def varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def entry(field: int, payload: bytes, high: int = 0) -> bytes:
    return varint((field << 3 | 2) | high) + varint(len(payload)) + payload


def graph(
    *initializers: TensorProto,
    shape: tuple[object, ...] = ("batch", 3, "height", "width"),
    inputs: tuple[str, ...] = (),
) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)]
    values += [helper.make_tensor_value_info(name, TensorProto.FLOAT, (2, 3, 1, 1)) for name in inputs]
    main = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight"], ["logits"])], "main", values,
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("batch", 2, None, 7))], list(initializers),
    )  # fmt: skip
    return helper.make_model(
        main, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("own", 3)], ir_version=9,
        producer_name="tool", producer_version="1.2",
    )  # fmt: skip


WEIGHT = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "weight")


def hidden(high: int) -> bytes:
    """A graph whose weight lies in another file, said by fields whose tags have bits beyond the 32nd."""
    location = entry(1, b"location") + entry(2, b"secret.bin")
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[2, 3, 1, 1]).SerializeToString()
    weight += entry(13, location, high) + varint((14 << 3) | high) + b"\x01"
    model = graph()
    main = model.graph.SerializeToString() + entry(5, weight)
    model.ClearField("graph")
    return model.SerializeToString() + entry(7, main)


def test_values_in_other_files_are_seen() -> None:
    assert external_tensors(PATH, hidden(0)) == ["weight"]


@pytest.mark.parametrize("high", [1 << 32, 1 << 34, 1 << 35, 1 << 63])
def test_a_tag_that_others_would_cut_short_is_refused(
    high: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.bin").write_bytes(np.ones(6, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="not an ONNX graph"):
        external_tensors(PATH, hidden(high))
    with pytest.raises(DataError, match="not an ONNX graph"):
        open_session(PATH, hidden(high), threads=1)


def test_values_in_other_files_are_seen_in_training_graphs() -> None:
    outside = TensorProto(name="outside", data_location=TensorProto.EXTERNAL)
    model = graph(WEIGHT)
    model.training_info.add().initialization.initializer.append(outside)
    model.training_info.add().algorithm.initializer.append(outside)
    assert external_tensors(PATH, model.SerializeToString()) == ["outside", "outside"]


def test_fields_are_those_that_onnx_wrote() -> None:
    model = graph(WEIGHT)
    found = dict(fields(memoryview(model.SerializeToString())))
    assert found[1] == 9
    assert as_text(found[2]) == "tool"
    assert onnx.GraphProto.FromString(bytes(as_message(found[7]))) == model.graph
    with pytest.raises(ValueError, match="not a message"):
        as_message(found[1])
    with pytest.raises(ValueError, match="not a text"):
        as_text(found[1])


@pytest.mark.parametrize("data", [b"\x0a\x05abc", b"\x0b", b"\x80", b"\xff" * 11, b"\x09abc"])
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut off|not protobuf|out of range"):
        list(fields(memoryview(data)))


def test_a_message_cut_anywhere_or_changed_is_an_error_or_a_message() -> None:
    data = graph(WEIGHT).SerializeToString()
    rng = random.Random(0)
    for length in range(len(data)):
        changed = bytearray(data)
        changed[length] = rng.randrange(256)
        for damaged in (data[:length], bytes(changed)):
            try:
                graph_form(PATH, damaged)
            except DataError as error:
                assert "not an ONNX graph" in error.message  # noqa: PT017 - any other exception fails the test


# The outside of a graph


def test_the_outside_of_a_graph() -> None:
    half = numpy_helper.from_array(np.ones(2, np.float16), "half")
    counter = numpy_helper.from_array(np.ones(50, np.int64), "counter")
    form = graph_form(PATH, graph(WEIGHT, half, counter, inputs=("weight",)).SerializeToString())
    assert form.producer == "tool 1.2"
    assert form.opset == 18
    assert form.inputs == (Port("image", "float32", ("batch", 3, "height", "width")),)
    assert form.outputs == (Port("logits", "float32", ("batch", 2, "?", 7)),)
    assert (form.num_nodes, form.num_weights, form.kinds, form.num_outside) == (1, 8, ("float32", "float16"), 0)


def test_shapes_packed_and_not_and_of_no_known_size() -> None:
    # proto2 writes `dims` one by one, proto3 in one piece; both must be read.
    packed = entry(1, varint(300) + varint(2)) + varint(2 << 3) + b"\x01" + entry(8, b"packed")
    model = graph(WEIGHT, shape=(-1, 3, 4, 5))
    main = model.graph.SerializeToString() + entry(5, packed)
    model.ClearField("graph")
    form = graph_form(PATH, model.SerializeToString() + entry(7, main))
    assert form.num_weights == 600 + 6
    assert form.inputs[0].shape == ("?", 3, 4, 5)


def test_long_fields_are_written_as_they_are_read() -> None:
    """Lengths of one, two and three bytes, for the short way and the long way to read them."""
    values = [bytes(length) for length in (0, 1, 127, 128, 300, 16_384)]
    data = b"".join(field(number + 15, value) for number, value in enumerate(values))
    assert [(number, bytes(as_message(value))) for number, value in fields(memoryview(data))] == [
        (number + 15, value) for number, value in enumerate(values)
    ]
    assert data == b"".join(
        part for number, value in enumerate(values) for part in (head(number + 15, len(value)), value)
    )
