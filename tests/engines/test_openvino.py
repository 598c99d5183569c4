"""OpenVINO: an extra that may be missing, reads the same graphs, computes in float32, and tells its makers nothing."""

import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import seglab.engines.openvino as module
from seglab.device import Device
from seglab.engines import EngineChoice, open_engine
from seglab.engines.openvino import OpenVinoEngine
from seglab.errors import DataError, DeviceError, ExitCode
from seglab.models.export import photo_like
from tests.engines.test_onnxruntime import EXPECTED, PIXELS, PLAIN, graph

CPU = Device("cpu", None, "test")
installed = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="an optional extra")


def engine(model: onnx.ModelProto, device: Device = CPU) -> OpenVinoEngine:
    return OpenVinoEngine(Path("a.onnx"), model.SerializeToString(), PLAIN, device, threads=1, reason="asked for")


def test_without_the_extra_the_error_names_it(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    module._openvino.cache_clear()
    try:
        with pytest.raises(DeviceError, match="engine `openvino` is not installed") as caught:
            open_engine(small, CPU, "openvino")
    finally:
        module._openvino.cache_clear()
    assert 'pip install "seglab[openvino]"' in caught.value.hint
    assert caught.value.exit_code == ExitCode.DEVICE == 6


@installed
@pytest.mark.parametrize(
    "shape", [("b", 3, "h", "w"), ("b", 3, 4, 6), (1, 3, 4, 6), (1, 3, "h", "w"), (None, None, None, None)]
)
def test_fixed_and_free_sizes(shape: tuple[object, ...]) -> None:
    np.testing.assert_allclose(engine(graph(shape))(PIXELS), EXPECTED, atol=1e-6)


@installed
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


@installed
def test_a_graph_of_other_numbers_is_refused() -> None:
    weight = numpy_helper.from_array(np.full((1, 3, 1, 1), 2, np.float64), "weight")
    with pytest.raises(DataError, match="does not take one float32 picture"):
        engine(graph(kind=TensorProto.DOUBLE, weight=weight))


@installed
def test_tensors_in_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret.bin").write_bytes(np.full(3, 2, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[1, 3, 1, 1], raw_data=b"")
    onnx.external_data_helper.set_external_data(weight, "secret.bin")
    weight.ClearField("raw_data")
    with pytest.raises(DataError, match=r"keeps 1 tensors in other files \(`weight`...\), which is refused"):
        engine(graph(weight=weight))


@installed
def test_an_operator_that_does_not_exist() -> None:
    model = graph()
    model.graph.node[0].op_type = "Conjure"
    with pytest.raises(DataError, match=r"OpenVINO cannot load `a.onnx`: Model wasn't .*Conjure") as caught:
        engine(model)
    assert "\n" not in caught.value.message


@installed
def test_a_failure_while_running_is_one_line() -> None:
    class Failing:
        def infer(self, inputs: object, share_inputs: bool) -> None:
            raise RuntimeError("Exception from src/a.cpp:1:\nCheck 'p' failed at src/b.cpp:2:\nout of memory\n\n")

    opened = engine(graph())
    opened._requests.get()
    opened._requests.put(Failing())
    with pytest.raises(DeviceError) as caught:
        opened(PIXELS)
    assert caught.value.message == "OpenVINO failed on `a.onnx` with input 3x3x4x6: out of memory"


@installed
def test_an_answer_of_another_shape_is_no_answer() -> None:
    """What OpenVINO did not compute keeps the shape, and the numbers, of the batch before."""
    opened = engine(graph())
    opened(PIXELS)
    request = opened._requests.get()

    class Stale:
        def infer(self, inputs: object, share_inputs: bool) -> None:
            pass

        def get_output_tensor(self, place: int) -> object:
            return request.get_output_tensor(place)

    opened._requests.put(Stale())
    with pytest.raises(DeviceError, match=r"with input 1x3x4x6: the output has shape \(3, 3, 4, 6\)"):
        opened(PIXELS[:1])


@installed
def test_antialiasing_that_would_be_left_out_is_refused() -> None:
    def resizing(antialias: int) -> onnx.ModelProto:
        sizes = numpy_helper.from_array(np.array([1, 3, 4, 6], np.int64), "sizes")
        node = helper.make_node("Resize", ["picture", "", "", "sizes"], ["scores"], mode="cubic", antialias=antialias)
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, 4, 6)) for name in ("picture", "scores")
        ]
        main = helper.make_graph([node], "main", values[:1], values[1:], [sizes])
        return helper.make_model(main, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    assert engine(resizing(0))(PIXELS).shape == (3, 3, 4, 6)
    with pytest.raises(DeviceError, match=r"OpenVINO cannot run `a.onnx`: it leaves out the antialiasing of") as caught:
        engine(resizing(1))
    assert "--engine onnxruntime" in caught.value.hint


@installed
def test_further_outputs_of_a_graph_are_given_by_name() -> None:
    model = graph()
    model.graph.node.append(helper.make_node("Neg", ["picture"], ["edge"]))
    model.graph.output.append(helper.make_tensor_value_info("edge", TensorProto.FLOAT, ("b", 3, "h", "w")))
    opened = engine(model)
    assert opened.extras == ("edge",)
    logits, extras = opened.with_extras(PIXELS)
    np.testing.assert_allclose(logits, EXPECTED, atol=1e-6)
    np.testing.assert_allclose(extras["edge"], -EXPECTED / 2, atol=1e-6)


@installed
def test_answers_do_not_change_when_the_engine_is_used_again(small: Path) -> None:
    opened, _ = open_engine(small, CPU, "openvino")
    first = opened(photo_like((1, 64, 64), 1))
    kept = first.copy()
    opened(photo_like((1, 64, 64), 2))
    np.testing.assert_array_equal(first, kept)


@installed
def test_it_computes_on_the_cpu_alone() -> None:
    with pytest.raises(DeviceError, match="engine `openvino` cannot use device `cuda:0`"):
        engine(graph(), Device("cuda", 0, "asked for", asked_for=True))
    opened = engine(graph(), Device("cuda", 0, "the first GPU found"))
    assert (opened.device.name, opened.reason) == ("cpu", "asked for; it computes on the CPU only")


@installed
def test_float32_is_asked_for_whatever_the_processor_prefers() -> None:
    compiled = engine(graph())._requests.get().get_compiled_model()
    assert str(compiled.get_property("INFERENCE_PRECISION_HINT")) in ("<Type: 'float32'>", "f32")


def can_bfloat16() -> bool:
    if importlib.util.find_spec("openvino") is None:
        return False
    return "BF16" in module._openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.skipif(not can_bfloat16(), reason="no OpenVINO, or a processor without bfloat16")
def test_bfloat16_is_a_little_less_exact(small: Path) -> None:
    """Eight bits of a number are kept, so that answers differ by about a 256th of their size."""
    exact, config = open_engine(small, CPU, EngineChoice("openvino"))
    rough, _ = open_engine(small, CPU, EngineChoice("openvino", precision="bf16"))
    assert (exact.precision, rough.precision) == ("fp32", "bf16")
    pixels = photo_like((2, *config.preprocess.size_hw), 1)
    difference = np.abs(exact(pixels) - rough(pixels))
    assert 0 < difference.max() < 0.03 * np.abs(exact(pixels)).max()


@installed
def test_bfloat16_is_refused_where_the_processor_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    core = module._openvino().Core()

    class Old:
        def __getattr__(self, name: str) -> object:
            return getattr(core, name)

        def get_property(self, *_: str) -> list[str]:
            return ["FP32"]

    monkeypatch.setattr(module, "_openvino", lambda: SimpleNamespace(Core=Old))
    with pytest.raises(DeviceError, match="this processor does not multiply bfloat16"):
        OpenVinoEngine(Path("a.onnx"), graph().SerializeToString(), PLAIN, CPU, precision="bf16")


@installed
def test_several_callers_at_once_get_their_own_answers() -> None:
    opened = OpenVinoEngine(Path("a.onnx"), graph().SerializeToString(), PLAIN, CPU, threads=2, callers=2)
    assert opened.callers == 2
    batches = [np.roll(PIXELS, shift, axis=1) for shift in range(4)] * 8
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(opened, batches))
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_array_equal(answer, opened(batch))


@installed
def test_no_torch_and_nothing_told_to_its_makers(small: Path, tmp_path: Path) -> None:
    """The package that reports imports over the network is a dependency of OpenVINO; here a fake of it."""
    (tmp_path / "openvino_telemetry").mkdir()
    (tmp_path / "openvino_telemetry" / "__init__.py").write_text("raise SystemExit('imported')")
    program = (
        "import sys, pathlib, numpy as np\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from seglab.device import choose_device\n"
        "from seglab.engines import open_engine\n"
        "engine, config = open_engine(pathlib.Path(sys.argv[1]), choose_device('cpu'), 'openvino')\n"
        "logits = engine(np.zeros((2, *config.preprocess.size_hw, 3), np.uint8))\n"
        "loaded = {'torch', 'onnxruntime', 'onnx', 'openvino_telemetry'} & set(sys.modules)\n"
        "print(engine.name, logits.shape, sorted(loaded))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(small)], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.strip() == "openvino (2, 11, 64, 64) []"
