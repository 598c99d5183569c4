"""Every form in which weights are published, and every form in which they are no use."""

import io
import os
import random
import sys
import types
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from seglab.errors import DataError, ExitCode
from seglab.models.checkpoint import open_checkpoint, read_tensors

SMALL = OrderedDict(
    [
        ("conv.weight", torch.arange(24.0).reshape(2, 3, 2, 2)),
        ("bn.running_mean", torch.randn(2, generator=torch.Generator().manual_seed(0))),
        ("bn.num_batches_tracked", torch.tensor(7)),
        ("half.weight", torch.arange(4.0).half().reshape(2, 2)),
        ("brain", torch.arange(3.0).bfloat16()),
        ("empty", torch.zeros(0, 3)),
    ]
)


def network():
    torch.manual_seed(1)
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    outer = nn.Sequential(OrderedDict(first=inner, second=nn.Sequential(nn.Linear(2, 2))))
    outer.register_buffer("kept", torch.arange(3))
    outer.register_buffer("lost", torch.arange(4), persistent=False)
    outer.second.shared = inner[0]  # one module in two places has two names
    return outer


FORMS = {
    "state_dict": lambda state: state,
    "dict": dict,
    "DataParallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "compiled": lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
    "both": lambda state: {f"module._orig_mod.{name}": tensor for name, tensor in state.items()},
    "state_dict in a dict": lambda state: {"epoch": 3, "state_dict": state, "loss": torch.tensor(0.5)},
    "model in a dict": lambda state: {"model": state, "args": types.SimpleNamespace(lr=1.0), "names": ["a"]},
    "parameters": lambda state: OrderedDict((k, nn.Parameter(v, v.is_floating_point())) for k, v in state.items()),
    "numpy beside": lambda state: {"net": state, "score": np.float64(0.5), "counts": np.arange(3)},
}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("form", FORMS)
def test_state_dicts_of_every_form(tmp_path, form, new):
    path = tmp_path / "a.pth"
    torch.save(FORMS[form](SMALL), path, _use_new_zipfile_serialization=new)
    assert_same(read_tensors(path), SMALL)
    checkpoint = open_checkpoint(path)
    assert checkpoint.format == ("torch zip" if new else "torch pickle")
    prefix = {"DataParallel": "module.", "compiled": "_orig_mod.", "both": "module._orig_mod."}
    assert checkpoint.prefix == prefix.get(form, "")
    assert checkpoint.num_values == 24 + 2 + 1 + 4 + 3


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel, lambda net: {"epoch": 1, "model": net}])
def test_whole_modules(tmp_path, wrap, new):
    torch.save(wrap(network()), tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    expected = network().state_dict()
    assert "lost" not in expected
    assert "second.shared.weight" in expected
    assert_same(read_tensors(tmp_path / "a.pt"), expected)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_a_module_of_a_library_that_is_not_there(tmp_path, monkeypatch, new):
    library = types.ModuleType("bygone_library")

    class Gone(nn.Sequential):
        pass

    Gone.__module__, Gone.__qualname__ = "bygone_library", "Gone"
    library.Gone = Gone
    monkeypatch.setitem(sys.modules, "bygone_library", library)
    module = Gone(nn.Conv2d(1, 2, 3), Gone(nn.BatchNorm2d(2)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the source of Gone cannot be saved with it
        torch.save(module, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    monkeypatch.delitem(sys.modules, "bygone_library")
    assert_same(read_tensors(tmp_path / "a.pt"), module.state_dict())
    assert open_checkpoint(tmp_path / "a.pt").contents == "pickled module"


def test_views_that_share_a_storage(tmp_path):
    whole = torch.arange(20.0).reshape(4, 5)
    views = {"t": whole.t(), "row": whole[2], "step": whole[::2, 1::3], "all": whole}
    for new in (True, False):
        torch.save(views, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
        assert_same(read_tensors(tmp_path / "a.pth"), views)


def test_the_state_of_an_optimizer_beside_the_network_is_left(tmp_path):
    net = network()
    optimizer = torch.optim.Adam(net.parameters())
    net.second[0](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    for new in (True, False):
        torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pth.tar",
                   _use_new_zipfile_serialization=new)  # fmt: skip
        assert_same(read_tensors(tmp_path / "a.pth.tar"), net.state_dict())


def test_safetensors(tmp_path):
    save_file({f"module.{name}": tensor.contiguous() for name, tensor in SMALL.items()}, tmp_path / "a.safetensors")
    found = read_tensors(tmp_path / "a.safetensors")
    assert_same({name: found[name] for name in SMALL}, SMALL)
    checkpoint = open_checkpoint(tmp_path / "a.safetensors")
    assert (checkpoint.format, checkpoint.prefix) == ("safetensors", "module.")
    assert checkpoint.shapes["conv.weight"] == (2, 3, 2, 2)
    assert checkpoint.dtypes["brain"] == "bfloat16"


def test_a_prefix_that_only_some_have_stays(tmp_path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "a.pth")
    assert list(read_tensors(tmp_path / "a.pth")) == ["module.a", "b"]


def test_names_that_become_one_are_refused(tmp_path):
    torch.save({"_orig_mod.a": torch.ones(1), "a": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(DataError, match="two tensors have the same name"):
        open_checkpoint(tmp_path / "a.pth")


def test_opening_imports_no_torch(tmp_path):
    import subprocess

    torch.save(network(), tmp_path / "a.pt")
    code = (
        "import sys, pathlib; from seglab.models.originals import describe_checkpoint\n"
        "print(describe_checkpoint(pathlib.Path(sys.argv[1]))['num_tensors'], 'torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", code, tmp_path / "a.pt"], cwd=root, capture_output=True, text=True)
    assert ran.stdout.split() == [str(len(network().state_dict())), "False"], ran.stderr


def other_zip():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    return buffer.getvalue()


def script():
    buffer = io.BytesIO()
    torch.save(SMALL, buffer)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("archive/code/__torch__.py", "def forward(self): ...")
        archive.writestr("archive/constants.pkl", b"\x80\x02).")
    return buffer.getvalue()


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


WHOLE = saved(SMALL)
OLD = saved(SMALL, _use_new_zipfile_serialization=False)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 176289193\n"
OPTIMIZER = torch.optim.SGD([nn.Parameter(torch.ones(2))], 0.1, momentum=0.9).state_dict()
USELESS = {
    "empty": (b"", "an empty file", "download it again"),
    "html": (b"<!DOCTYPE html><html><title>Google Drive - Quota</title>", "a web page", "download it again"),
    "lfs": (LFS, "a Git LFS pointer", "git lfs pull"),
    "text": (b"not weights at all", "it is none", "download"),
    "other zip": (other_zip(), "torch.save did not write", "unpack"),
    "script": (script(), "TorchScript", "state_dict"),
    "half a zip": (WHOLE[: len(WHOLE) // 2], "cut off or damaged", "download"),
    "half a legacy file": (OLD[: len(OLD) // 2], "cut off|damaged", "download"),
    "legacy without its end": (OLD[:-3], "cut off", "download"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(60), "gzip", "download"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(60), "jpeg", "download"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(60), "hdf5", "download"),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x032.0", "onnx|is none", "download"),
    "numbers": (saved({"epoch": 3, "loss": 0.5}), "no tensors", "state_dict"),
    "a list": (saved([torch.ones(2)]), "no tensors", "state_dict"),
    "one tensor": (saved(torch.ones(2)), "no tensors", "state_dict"),
    "an optimizer": (saved(OPTIMIZER), "state of an optimizer", "another file"),
    "an optimizer in a dict": (saved({"epoch": 1, "optim": OPTIMIZER}), "state of an optimizer", "another file"),
    "teacher and student": (
        saved({"teacher": SMALL, "student": SMALL}),
        r"2 networks \(`teacher`, `student`\)",
        "alone",
    ),
    "weights and their average": (saved({"model": SMALL, "model_ema": SMALL}), "2 networks", '["model"]'),
    "generator and discriminator": (saved({"G": network(), "D": network()}), "2 networks", "alone"),
    "complex": (saved({"a": torch.ones(2, dtype=torch.complex64)}), "ComplexFloatStorage", "download"),
    "resume state": (saved({"format": 1, "learner": {"network": SMALL}, "course": {}}), "resume state", "--model"),
}


@pytest.mark.parametrize("kind", USELESS)
def test_what_is_no_use_is_refused_with_its_reason(tmp_path, kind):
    data, message, hint = USELESS[kind]
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_tensors(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == ExitCode.DATA


def test_a_folder_a_pipe_nothing_and_what_may_not_be_read(tmp_path):
    (tmp_path / "folder.pth").mkdir()
    os.mkfifo(tmp_path / "pipe.pth")
    for name, message in (("folder.pth", "is a folder"), ("pipe.pth", "no regular file"), ("none.pth", "there is no")):
        with pytest.raises(DataError, match=message):
            read_tensors(tmp_path / name)


def test_values_that_are_damaged_are_noticed(tmp_path):
    path = tmp_path / "a.pth"
    data = bytearray(WHOLE)
    position = data.index(np.arange(24, dtype=np.float32).tobytes())
    data[position + 5] ^= 1
    path.write_bytes(data)
    open_checkpoint(path)
    with pytest.raises(DataError, match="damaged"):
        read_tensors(path)


@pytest.mark.parametrize("whole", [WHOLE, OLD, saved(network())], ids=["zip", "legacy", "module"])
def test_damage_of_any_kind_is_a_data_error_or_does_no_harm(tmp_path, whole):
    rng = random.Random(0)
    path, num_refused, num_long = tmp_path / "a.pth", 0, 0
    for _ in range(400):
        damaged = bytearray(whole[: rng.choice([len(whole), rng.randrange(1, len(whole))])])
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read_tensors(path)
        except DataError as error:
            num_refused += 1
            num_long += "\n" in error.message
    assert num_refused > 200
    assert num_long == 0


def test_every_cut_is_noticed(tmp_path):
    path = tmp_path / "a.pth"
    for whole in (WHOLE, OLD):
        for end in (*range(1, len(whole), 41), *range(len(whole) - 12, len(whole))):
            path.write_bytes(whole[:end])
            with pytest.raises(DataError):
                read_tensors(path)
