"""The model bundle: whole or old after any crash, strict when loaded, and readable without torch."""

import json
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file, save_file

import seglab.models.bundle as bundle
from seglab.device import Device
from seglab.engines import open_engine
from seglab.errors import DataError
from seglab.models.bundle import (
    BundleConfig,
    find_model,
    load_network,
    load_weights,
    parse_config,
    parse_export,
    read_config,
    save_bundle,
)
from seglab.models.headers import external_tensors, graph_metadata, read_safetensors_metadata
from seglab.models.weights import strip_prefixes
from seglab.models.zoo import build
from seglab.preprocess import Preprocess
from seglab.tasks import TASKS, Task

CPU = Device("cpu", None, "test")
PERSON = TASKS["person"]
CONFIG = BundleConfig(
    task=PERSON,
    model="unet-light",
    model_args={"width": 2},
    preprocess=Preprocess(size_hw=(64, 32), fit="pad"),
    data={"source": "synth", "num": 3},
    metrics={"val": {"miou": 0.5, "iou.hair": None}},
    training={"epochs": 2},
    versions={"seglab": "0.0.1"},
)


def network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build("unet-light", 2, width=2).eval()


def graph(config: BundleConfig | None, weight: TensorProto | None = None) -> onnx.ModelProto:
    """The smallest graph that is a model: two of the three channels are the logits."""
    weight = weight or numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "weight")
    shape = ("b", 3, "h", "w")
    main = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight"], ["logits"])],
        "main",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("b", 2, "h", "w"))],
        [weight],
    )
    model = helper.make_model(main, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if config is not None:
        helper.set_model_props(model, {"seglab": json.dumps(config.to_dict()), "other": "text é"})
    return model


@pytest.fixture
def bundle_dir(tmp_path: Path) -> Path:
    """A bundle with a graph that belongs to its weights."""
    saved = save_bundle(tmp_path / "run", CONFIG, network().state_dict())
    (tmp_path / "run" / "model.onnx").write_bytes(graph(saved).SerializeToString())
    return tmp_path / "run"


def test_round_trip(bundle_dir: Path) -> None:
    config = read_config(bundle_dir)
    assert replace(config, save_id="") == CONFIG
    assert len(config.save_id) == 32
    loaded, same = load_network(bundle_dir, CPU)
    assert same == config
    assert not loaded.training
    expected = network().state_dict()
    assert list(loaded.state_dict()) == list(expected)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_weights(bundle_dir).items())


def test_every_save_has_its_own_id_and_removes_the_graph(bundle_dir: Path) -> None:
    before = read_config(bundle_dir)
    saved = save_bundle(bundle_dir, before, network().state_dict())
    assert saved.save_id != before.save_id
    assert saved == read_config(bundle_dir)
    assert sorted(path.name for path in bundle_dir.iterdir()) == ["config.json", "model.safetensors"]


def test_the_weights_header_is_the_truth(bundle_dir: Path) -> None:
    config = read_config(bundle_dir)
    assert json.loads((bundle_dir / "config.json").read_text()) == config.to_dict()
    (bundle_dir / "config.json").unlink()
    assert read_config(bundle_dir) == config
    assert load_network(bundle_dir, CPU)[1] == config


def test_safetensors_reads_what_we_write_and_we_what_it_writes(tmp_path: Path) -> None:
    save_bundle(tmp_path, CONFIG, network().state_dict())
    theirs = load_file(tmp_path / "model.safetensors")
    assert {name: tensor.dtype for name, tensor in theirs.items()} == {
        name: tensor.dtype for name, tensor in network().state_dict().items()
    }
    save_file({"a": torch.zeros(2, 0, 3), "b": torch.ones(3)}, tmp_path / "b.safetensors", {"seglab": "é", "c": "d"})
    assert read_safetensors_metadata(tmp_path / "b.safetensors") == {"seglab": "é", "c": "d"}
    save_file({}, tmp_path / "c.safetensors")
    assert read_safetensors_metadata(tmp_path / "c.safetensors") == {}


def test_headers_of_every_length_are_read(tmp_path: Path) -> None:
    lengths = set()
    for num in range(300):
        path = tmp_path / "a.safetensors"
        save_file({"a": torch.ones(1)}, path, {"seglab": "x" * num})
        assert read_safetensors_metadata(path) == {"seglab": "x" * num}
        lengths.add(path.read_bytes()[0])
    assert len(lengths) == 32  # All that padding to 8 bytes allows, 0x80 (the first byte of a pickle) among them.


STEPS = ("remove copy", "replace weights", "sync", "remove graph", "replace config", "done")


@pytest.mark.parametrize("killed_before", STEPS)
def test_a_kill_between_any_two_steps_leaves_a_whole_bundle(
    bundle_dir: Path, monkeypatch: pytest.MonkeyPatch, killed_before: str
) -> None:
    old = read_config(bundle_dir)
    new_weights = network(1).state_dict()
    rename = Path.replace

    def save_and_die() -> None:
        def dying(step: str, function: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object, **kwargs: object) -> object:
                if step == killed_before:
                    os._exit(9)
                return function(*args, **kwargs)

            return call

        def replace_file(source: Path, target: Path) -> Path:
            what = "weights" if target.name == "model.safetensors" else "config"
            dying(f"replace {what}", lambda: None)()
            rename(source, target)
            return target

        monkeypatch.setattr(Path, "replace", replace_file)
        monkeypatch.setattr(bundle, "sync_dir", dying("sync", bundle.sync_dir))
        remove = Path.unlink

        def unlink(path: Path, missing_ok: bool = False) -> None:
            dying("remove graph" if path.suffix == ".onnx" else "remove copy", remove)(path, missing_ok)

        monkeypatch.setattr(Path, "unlink", unlink)
        save_bundle(bundle_dir, replace(CONFIG, training={"epochs": 3}), new_weights)
        os._exit(0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # The child does nothing that needs torch's threads.
        child = os.fork()
    if child == 0:
        try:
            save_and_die()
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == (0 if killed_before == "done" else 9)

    loaded, config = load_network(bundle_dir, CPU)
    is_old = killed_before in ("remove copy", "replace weights")
    expected = network(0 if is_old else 1).state_dict()
    assert config.training == {"epochs": 2 if is_old else 3}
    assert (config.save_id == old.save_id) == is_old
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    engine, engine_config = open_engine(bundle_dir, CPU)
    assert engine.name == ("onnxruntime" if is_old else "torch")
    assert engine_config == config
    save_bundle(bundle_dir, CONFIG, new_weights)  # Nothing that the dead left is in the way.
    assert replace(read_config(bundle_dir), save_id="") == CONFIG


def test_values_that_are_not_json_change_nothing(bundle_dir: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle_dir.iterdir()}
    with pytest.raises(ValueError, match="JSON"):
        save_bundle(bundle_dir, replace(CONFIG, metrics={"miou": float("nan")}), network(1).state_dict())
    assert {path.name: path.read_bytes() for path in bundle_dir.iterdir()} == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot make folder"):
        save_bundle(tmp_path / "file" / "run", CONFIG, network().state_dict())


def test_wrappers_prefixes_are_stripped(tmp_path: Path) -> None:
    weights = network().state_dict()
    wrapped = {f"module._orig_mod.module.{name}": tensor for name, tensor in weights.items()}
    save_bundle(tmp_path, CONFIG, wrapped)
    assert sorted(load_weights(tmp_path)) == sorted(weights)
    assert list(strip_prefixes({"encoder._orig_mod.a": torch.ones(1), "submodule.module.b": torch.ones(1)})) == [
        "encoder.a",
        "submodule.module.b",
    ]
    with pytest.raises(ValueError, match="two tensors are called `a`"):
        strip_prefixes({"a": torch.ones(1), "module.a": torch.ones(1)})


def test_any_memory_layout_half_precision_and_shared_memory(tmp_path: Path) -> None:
    weights = network().to(memory_format=torch.channels_last).state_dict()
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    save_bundle(tmp_path, CONFIG, half)
    assert {tensor.dtype for tensor in load_weights(tmp_path).values()} == {torch.float16, torch.int64}
    loaded, _ = load_network(tmp_path, CPU)
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], atol=1e-3, rtol=1e-3)
    whole = torch.arange(6.0)
    save_bundle(tmp_path, CONFIG, {"a": whole, "b": whole, "c": whole[:3], "d": whole[3:]})
    stored = load_weights(tmp_path)
    assert [stored[name].tolist() for name in "abcd"] == [[0, 1, 2, 3, 4, 5]] * 2 + [[0, 1, 2], [3, 4, 5]]


def test_tensors_that_do_not_fit_are_named_and_counted(tmp_path: Path) -> None:
    weights = network().state_dict()
    first, second, *rest = weights
    changed = {name: weights[name] for name in rest[:-4]}
    changed[rest[0]] = torch.zeros(2, 2)
    changed["extra.weight"] = torch.zeros(1)
    save_bundle(tmp_path, CONFIG, changed)
    with pytest.raises(DataError) as caught:
        load_network(tmp_path, CPU)
    message = caught.value.message
    assert f"6 missing (`{first}`, `{second}`, `{rest[-4]}` and 3 more)" in message
    assert "1 unexpected (`extra.weight`)" in message
    assert f"1 of another shape (`{rest[0]}` (2, 2), not " in message
    assert "\n" not in message


def test_weights_of_another_number_of_classes(tmp_path: Path) -> None:
    save_bundle(tmp_path, replace(CONFIG, task=TASKS["face"]), network().state_dict())
    with pytest.raises(DataError, match=r"2 of another shape \(`head.weight` \(2, .*\), not \(11, "):
        load_network(tmp_path, CPU)


@pytest.mark.parametrize("changes", [{"model": "unet-liht"}, {"model_args": {"size": 3}}, {"model_args": {"width": 0}}])
def test_a_network_that_cannot_be_built(tmp_path: Path, changes: dict[str, object]) -> None:
    save_bundle(tmp_path, replace(CONFIG, **changes), network().state_dict())  # type: ignore[arg-type]
    with pytest.raises(DataError, match="cannot build the network `") as caught:
        load_network(tmp_path, CPU)
    assert "saved by seglab 0.0.1" in caught.value.hint


def test_a_task_of_ones_own_travels_with_the_weights(tmp_path: Path) -> None:
    task = Task(name="hats", classes=("none", "hat"), regions={"all": ("hat",)}, palette=((1, 2, 3), (4, 5, 6)))
    save_bundle(tmp_path, replace(CONFIG, task=task), network().state_dict())
    assert read_config(tmp_path).task == task


# Formats


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "FORMAT", 2)
    save_bundle(tmp_path, CONFIG, network().state_dict())
    monkeypatch.undo()
    with pytest.raises(DataError, match="has format 2, newer than 1") as caught:
        read_config(tmp_path)
    assert caught.value.hint == "pip install --upgrade seglab (it was saved by 0.0.1)"


def test_older_formats_are_upgraded_step_by_step(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {
        1: lambda values: {**values, "training": {**values["training"], "first": True}},
        2: lambda values: {**values, "training": {**values["training"], "second": "first" in values["training"]}},
    }
    monkeypatch.setattr(bundle, "FORMAT", 3)
    monkeypatch.setattr(bundle, "UPGRADES", steps)
    assert read_config(bundle_dir).training == {"epochs": 2, "first": True, "second": True}
    assert load_network(bundle_dir, CPU)[1].training["second"]
    monkeypatch.setattr(bundle, "UPGRADES", {2: steps[2]})
    with pytest.raises(DataError, match="has format 1, which no seglab has written"):
        read_config(bundle_dir)


def test_there_is_an_upgrade_for_every_older_format() -> None:
    assert sorted(bundle.UPGRADES) == list(range(1, bundle.FORMAT))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.pop("task"), "missing field `task`"),
        (lambda values: values.update(colour=1), "unknown field `colour`"),
        (
            lambda values: values.update(metrics=[1], model=3),
            "`model` is of a wrong type; `metrics` is of a wrong type",
        ),
        (lambda values: values.update(format="1"), "it has no format number"),
        (lambda values: values.update(format=0), "has format 0, which no seglab has written"),
        (lambda values: values["task"].pop("classes"), "missing field `classes`"),
        (lambda values: values["preprocess"].update(size_hw=["a", "b"]), "preprocess"),
    ],
)
def test_configurations_that_are_wrong(change: Callable[[dict[str, object]], object], message: str) -> None:
    values = CONFIG.to_dict()
    change(values)
    with pytest.raises(DataError, match=message):
        BundleConfig.from_dict(values)


def test_versions_are_filled_in() -> None:
    config = BundleConfig(task=PERSON, model="unet", preprocess=Preprocess(size_hw=(8, 8)))
    assert {"seglab", "python", "torch"} <= set(config.versions)


# Files


def test_reading_a_configuration_imports_nothing_heavy(bundle_dir: Path) -> None:
    program = (
        "import sys, pathlib; from seglab.models.bundle import find_model, read_config\n"
        "run = pathlib.Path(sys.argv[1])\n"
        "for path in (run, run / 'model.onnx', run / 'model.safetensors'): print(read_config(find_model(path)).model)\n"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'numpy', 'safetensors', 'cv2'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(bundle_dir)], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["unet-light"] * 3 + ["[]", ""]


def header(length: int, text: bytes) -> bytes:
    return length.to_bytes(8, "little") + text


BROKEN = {
    "empty": (b"", "empty file"),
    "page": (b"\n<!DOCTYPE html><html><body>404 Not Found</body></html>", "a web page"),
    "zip": (b"PK\x03\x04" + bytes(100), "a pickled checkpoint"),
    "pickle": (b"\x80\x02}q\x00." + bytes(100), "a pickled checkpoint"),
    "short": (b"\x01\x02", "not a safetensors file"),
    "text": (b"hello, this is a text file", "not a safetensors file"),
    "bomb": (header(2**62, b'{"a":1}'), "its header would be too large"),
    "cut header": (header(200, b'{"a":{"dtype":"F32"'), "cut off in its header"),
    "no json": (header(4, b"{{{{"), "its header is damaged"),
    "nested": (header(400_000, b"{" + b'"a":{' * 79_999 + b"    "), "its header is damaged"),
    "no offsets": (header(11, b'{"a":{"b":1'), "cut off|damaged"),
    "list": (header(20, b'{"a":{"data_offset":1'), "damaged"),
    "strings": (header(30, b'{"a":{"data_offsets":["",""]}}'), "damaged"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_weights_are_one_line(tmp_path: Path, kind: str) -> None:
    data, message = BROKEN[kind]
    (tmp_path / "model.safetensors").write_bytes(data)
    for read in (read_config, load_weights, lambda path: load_network(path, CPU)):
        with pytest.raises(DataError, match=message) as caught:
            read(tmp_path)
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("missing", [1, 1000])
def test_weights_that_are_cut_off(bundle_dir: Path, missing: int) -> None:
    path = bundle_dir / "model.safetensors"
    size = path.stat().st_size
    os.truncate(path, size - missing)
    with pytest.raises(DataError, match=f"{size - missing} bytes, but its header promises {size}"):
        read_config(bundle_dir)


def tensors_outside(path: Path) -> list[str]:
    return external_tensors(path, path.read_bytes())


def test_damage_of_any_kind_is_a_data_error(bundle_dir: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    num_refused = 0
    for name in ("model.safetensors", "model.onnx"):
        whole = (bundle_dir / name).read_bytes()
        damaged_path = tmp_path / name
        for _ in range(300):
            damaged = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
            for _ in range(rng.randrange(1, 6)):
                if damaged:
                    damaged[rng.randrange(min(len(damaged), 4000))] = rng.randrange(256)
            damaged_path.write_bytes(damaged)
            for read in (read_config, load_weights, tensors_outside):
                try:
                    read(damaged_path)
                except DataError:
                    num_refused += 1
    assert num_refused > 900


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (b"<html>", "a web page"),
        (b"not a graph at all", "not an ONNX graph"),
        (b"\x08\x09", "no ONNX graph in it"),
        (graph(None).SerializeToString(), "was not made by seglab"),
        (graph(CONFIG).SerializeToString()[:-10], "not an ONNX graph, or cut off"),
    ],
)
def test_graphs_that_are_no_models(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_config(path)


def test_weights_of_others_say_nothing_of_their_task(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="was not made by seglab: it does not say what it segments"):
        read_config(tmp_path / "other.safetensors")


def test_graph_metadata_is_what_onnx_reads() -> None:
    model = graph(CONFIG)
    model.doc_string = "x" * 300
    expected = {entry.key: entry.value for entry in model.metadata_props}
    assert len(expected) == 2
    assert graph_metadata(Path("a"), model.SerializeToString()) == expected


def outside(name: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), name)
    onnx.external_data_helper.set_external_data(tensor, "../secret")
    tensor.ClearField("raw_data")
    return tensor


def nested(tensor: TensorProto) -> onnx.GraphProto:
    node = helper.make_node("Constant", [], ["value"], value=tensor)
    result = helper.make_tensor_value_info("value", TensorProto.FLOAT, None)
    return helper.make_graph([node], "branch", [], [result])


def test_tensors_of_other_files_are_found_wherever_they_hide() -> None:
    inside = numpy_helper.from_array(np.ones(3, np.float32), "inside")
    model = graph(CONFIG, outside("weight"))
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=outside("attribute")))
    model.graph.node.append(
        helper.make_node("If", ["x"], ["y"], then_branch=nested(inside), else_branch=nested(outside("branch")))
    )
    function = helper.make_function(
        "own", "f", [], ["c"], [helper.make_node("Constant", [], ["c"], value=outside("function"))], []
    )
    model.functions.append(function)
    sparse = onnx.SparseTensorProto(values=outside("sparse"), indices=inside, dims=[9])
    model.graph.sparse_initializer.append(sparse)
    found = external_tensors(Path("a"), model.SerializeToString())
    assert sorted(found) == ["attribute", "branch", "function", "sparse", "weight"]
    assert external_tensors(Path("a"), graph(CONFIG).SerializeToString()) == []


# What --model names


def test_what_names_a_model(bundle_dir: Path) -> None:
    assert find_model(str(bundle_dir)) == bundle_dir
    assert find_model(str(bundle_dir / "model.safetensors")) == bundle_dir
    assert find_model(str(bundle_dir / "model.onnx")) == bundle_dir / "model.onnx"
    (bundle_dir / "model.safetensors").unlink()
    assert find_model(str(bundle_dir)) == bundle_dir


TRAIN_HINT = "`seglab train --task TASK --data DIR` makes a model"


def test_a_model_that_is_not_there(bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"there is no model `.*/rum`") as caught:
        find_model(str(tmp_path / "rum"))
    assert caught.value.hint == f"there is `{bundle_dir}`; {TRAIN_HINT}"
    with pytest.raises(DataError, match=r"folder `.*` holds no model") as caught:
        find_model(str(tmp_path))
    assert caught.value.hint == f"there is `{bundle_dir}`; {TRAIN_HINT}"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="there is no model `unknown`") as caught:
        find_model("unknown")
    assert caught.value.hint == TRAIN_HINT
    with pytest.raises(DataError, match="there is no model ``"):
        find_model("")
    bundle_dir.rename(tmp_path / "runs")
    (tmp_path / "all").mkdir()
    (tmp_path / "runs").rename(tmp_path / "all" / "face-1")
    (tmp_path / "all").rename(tmp_path / "runs")
    for name in ("unknown", "runs/face-2", "runs/other"):
        with pytest.raises(DataError) as caught:
            find_model(name)
        assert caught.value.hint == f"there is `runs/face-1`; {TRAIN_HINT}"


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"")
    with pytest.raises(DataError, match="is not a model that seglab reads"):
        find_model(str(tmp_path / "a.txt"))


def test_a_checkpoint_by_others_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "a.PTH").write_bytes(b"")
    assert find_model(str(tmp_path / "a.PTH")) == tmp_path / "a.PTH"


def test_a_graph_for_another_program_is_no_model(bundle_dir: Path) -> None:
    path = bundle_dir / "model.onnx"
    model = onnx.load(path)
    helper.set_model_props(model, {"seglab": json.dumps(CONFIG.to_dict()), "seglab.export": '{"profile": "rembg"}'})
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match="is made for rembg: it gives a mask, seglab takes logits"):
        read_config(path)
    metadata = graph_metadata(path, path.read_bytes())
    assert parse_config(path, metadata, any_profile=True) == CONFIG
    assert parse_export(path, metadata) == {"profile": "rembg"}
    engine, _ = open_engine(bundle_dir, CPU)
    assert engine.name == "torch"
    assert "made for rembg" in engine.reason


@pytest.mark.parametrize("text", ["[]", "{", "3"])
def test_a_graph_that_does_not_say_its_kind(bundle_dir: Path, text: str) -> None:
    path = bundle_dir / "model.onnx"
    with pytest.raises(DataError, match="is damaged"):
        parse_config(path, {"seglab": json.dumps(CONFIG.to_dict()), "seglab.export": text})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace('"size_hw"', '"size_wh"'),
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"format": 1', '"format": 99'),
    ],
)
def test_a_copy_that_says_something_else_is_refused(tmp_path, spoil):
    saved = save_bundle(tmp_path, CONFIG, network().state_dict())
    path = tmp_path / "config.json"
    path.write_text(spoil(path.read_text()))
    with pytest.raises(DataError, match=r"config\.json"):
        read_config(tmp_path)
    path.unlink()
    assert read_config(tmp_path) == saved


def test_weights_can_be_read_by_whoever_reads_the_rest(tmp_path):
    save_bundle(tmp_path, CONFIG, network().state_dict())
    assert len({path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}) == 1
