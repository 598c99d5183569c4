"""Checkpoints that would do harm if they were unpickled, or that claim what they do not have."""

import io
import itertools
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict

import pytest
import torch

from seglab.data.pickles import CodeError, Instance, PickleError, Reader, Symbol, read_pickle
from seglab.errors import DataError, ExitCode
from seglab.models.checkpoint import open_checkpoint, read_tensors

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


class Runs:
    """Calls something when it is unpickled."""

    def __init__(self, function, *args):
        self.reduced = (function, args)

    def __reduce__(self):
        return self.reduced


class Restores:
    """Calls something from ``__setstate__``."""

    def __init__(self, command):
        self.command = command

    def __getstate__(self):
        return {"command": Runs(os.system, self.command)}


@pytest.fixture
def canary(tmp_path):
    """A command that leaves a file behind; at the end it must not be there."""
    path = tmp_path / "canary"
    yield f"touch '{path}'"
    assert not path.exists(), "the checkpoint was executed"


def attacks(command):
    code = f"__import__('os').system({command!r})"
    return {
        "os.system": Runs(os.system, command),
        "eval": Runs(eval, code),
        "exec": Runs(exec, code),
        "subprocess": Runs(subprocess.call, ["sh", "-c", command]),
        "getattr": Runs(getattr, Runs(__import__, "os"), "system"),
        "nested": {"model": OrderedDict(deep=[[({"x": Runs(os.system, command)},)]])},
        "argument of a container": Runs(OrderedDict, [("a", Runs(os.system, command))]),
        "setstate": Restores(command),
    }


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", attacks(""))
def test_code_is_refused_and_not_run(tmp_path, canary, name, protocol):
    plain = pickle.dumps(attacks(canary)[name], protocol=protocol)
    for file, data in (("plain.pkl", plain), ("zip.pth", zipped(plain)), ("old.pth", legacy(plain))):
        (tmp_path / file).write_bytes(data)
        assert_refused(tmp_path / file)


@pytest.mark.parametrize("new", [True, False])
def test_code_beside_whole_weights_is_refused_and_not_run(tmp_path, canary, new):
    path = tmp_path / "a.pth"
    torch.save(OrderedDict(TENSORS, zz=Runs(os.system, canary)), path, _use_new_zipfile_serialization=new)
    assert_refused(path)


def assert_refused(path):
    with pytest.raises(DataError, match=r"contains code \(`[\w.]+`\) and is refused") as caught:
        read_tensors(path)
    assert caught.value.exit_code == ExitCode.DATA
    assert "nothing of it was run" in caught.value.hint
    assert "\n" not in caught.value.message


def test_the_attacks_would_work(tmp_path):
    """A canary that could not sing would prove nothing."""
    path = tmp_path / "sang"
    pickle.loads(pickle.dumps(Runs(os.system, f"touch '{path}'")))
    assert path.exists()


@pytest.mark.parametrize(
    "text",
    [
        b"cos\nsystem\n(S'%s'\ntR.",  # REDUCE
        b"(S'%s'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'%s'\no.",  # OBJ
        b"cposix\nsystem\n(S'%s'\ntR.",
        b"cnt\nsystem\n(S'%s'\ntR.",
        b"cbuiltins\nexec\n(S'%s'\ntR.",
        b"c__builtin__\ngetattr\n(S'%s'\ntR.",
        b"ccollections\nOrderedDict\n(tR(dcos\nsystem\n(S'%s'\ntRb.",  # state of BUILD
    ],
)
def test_handwritten_attacks(tmp_path, canary, text):
    data = text % canary.encode().replace(b"'", b'"')
    for name, content in (("a.pth", zipped(data)), ("b.pt", legacy(data)), ("c.pkl", data)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="contains code"):
            open_checkpoint(tmp_path / name)


def test_an_attack_in_a_persistent_id(tmp_path, canary):
    evil = pickle.dumps(Runs(os.system, canary), protocol=2)[2:-1]  # without PROTO and STOP
    data = b"\x80\x02" + b"(X\x07\x00\x00\x00storage" + evil + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ."
    (tmp_path / "a.pth").write_bytes(zipped(data))
    with pytest.raises(DataError, match="contains code"):
        open_checkpoint(tmp_path / "a.pth")


def test_modules_named_in_a_pickle_are_not_imported(tmp_path, monkeypatch, canary):
    """Classes of libraries stand in pickled modules, so their names are no reason to refuse; nothing is looked up."""
    (tmp_path / "trap.py").write_text(f"import os\nos.system({canary!r})\ndef spring(*args): os.system({canary!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    value = read_pickle(Reader(b"ctrap\nspring\n(S'x'\ntR}S'a'\nI1\nsb."))
    assert isinstance(value, Instance)
    assert isinstance(value.symbol, Symbol)
    assert (str(value.symbol), value.args, value.state) == ("trap.spring", ("x",), {"a": 1})
    assert "trap" not in sys.modules


LOADERS = [
    "torch load", "torch.serialization load", "torch.serialization _legacy_load", "torch.hub load",
    "torch.hub load_state_dict_from_url", "torch.hub download_url_to_file", "torch.jit load",
    "torch.jit._serialization load", "torch.package PackageImporter", "torch.utils.model_zoo load_url",
    "torch.utils.cpp_extension load_inline", "torch.storage _load_from_bytes", "torch.ops load_library",
    "torch.fx.graph_module reduce_graph_module", "torch._inductor.codecache PyCodeCache.load",
    "torch.multiprocessing.spawn spawn", "numpy load", "joblib load", "cloudpickle loads",
]  # fmt: skip
"""To name one is enough."""
FUNCTIONS = [
    "torch compile", "torch save", "torch.distributed init_process_group", "torch.nn.init normal_",
    "torch._utils_internal get_file_path",
]  # fmt: skip
"""Of torch, to be called they have no place among weights."""
CALLS = ["R", "\x81", "INST", "OBJ"]


@pytest.mark.parametrize(
    ("function", "call"),
    [*itertools.product(LOADERS, [*CALLS, "partial"]), *itertools.product(FUNCTIONS, CALLS)],
)
def test_functions_that_load_or_run_are_refused_by_name(tmp_path, function, call):
    """Whole weights beside them change nothing, however the call is written."""
    module, name = function.split()
    named = f"c{module}\n{name}\n".encode()
    calls = {
        "R": named + b"(S'x'\ntR", "\x81": named + b"(S'x'\nt\x81", "INST": b"(S'x'\ni" + named[1:],
        "OBJ": b"(" + named + b"S'x'\no", "partial": b"cfunctools\npartial\n(" + named + b"S'x'\ntR",
    }  # fmt: skip
    data = b"\x80\x02}(X\x01\x00\x00\x00w" + tensor(b"0", 2500) + b"S'z'\n" + calls[call] + b"u."
    (tmp_path / "a.pth").write_bytes(zipped(data, {"0": bytes(10_000)}))
    with pytest.raises(DataError, match=rf"contains code \(`{module}\.{name}`\) and is refused"):
        open_checkpoint(tmp_path / "a.pth")


def test_weights_beside_a_name_of_no_harm_are_read(tmp_path):
    data = b"\x80\x02}(X\x01\x00\x00\x00w" + tensor(b"0", 2500) + b"S'z'\n%bu."
    for harmless in (
        b"ctorch.nn.functional\nrelu\n", b"ctorch\nfloat16\n", b"ctorch\ndevice\n(S'cpu'\ntR",
        b"ctorch\nSize\n((K\x01ttR", b"ctorch.nn.modules.conv\nConv2d\n)\x81",
        b"ctorch.torch_version\nTorchVersion\n)R",
    ):  # fmt: skip
        (tmp_path / "a.pth").write_bytes(zipped(data % harmless, {"0": bytes(10_000)}))
        assert open_checkpoint(tmp_path / "a.pth").shapes == {"w": (2500,)}


@pytest.mark.parametrize(
    ("module", "name", "refused"),
    [
        ("torch", "os.system", True),
        ("torch.serialization", "os.path.join", True),
        ("timm.models", "registry.sys.modules", True),
        ("theirs.models", "Outer.Inner", False),
        ("theirs.models", "_Outer.Inner", False),
    ],
)
def test_a_dotted_name_reaches_no_module_through_another(module, name, refused):
    data = (
        b"\x80\x04" + b"".join(b"\x8c%c%b" % (len(text), text) for text in (module.encode(), name.encode())) + b"\x93."
    )
    if refused:
        with pytest.raises(CodeError, match=name):
            read_pickle(Reader(data))
    else:
        assert str(read_pickle(Reader(data))) == f"{module}.{name}"


@pytest.mark.parametrize("opcode", [b"R", b"\x81"])
def test_calling_what_is_no_name_makes_an_inert_value(opcode):
    value = read_pickle(Reader(b"ctrap\nT\n)R)" + opcode + b"}b."))
    assert isinstance(value, Instance)
    assert isinstance(value.symbol, Instance)


def test_setting_attributes_of_classes_changes_nothing():
    """``BUILD`` with slots sets attributes in ``pickle``; here it must not reach our own classes."""
    before = dict(vars(Instance))
    read_pickle(Reader(b"cseglab.data.pickles\nInstance\n(N}S'args'\nS'spoilt'\nstb."))
    assert dict(vars(Instance)) == before


@pytest.mark.parametrize("text", [b"\x82\x01.", b"Px\n.", b"\x97.", b"cos.path\njoin\n."])
def test_extensions_outside_references_and_buffers_are_refused(text):
    with pytest.raises(PickleError):
        read_pickle(Reader(text))


def test_numbers_that_collide_as_keys_cost_nothing(tmp_path):
    modulus = 2**61 - 1  # every multiple of it has the same hash
    data = pickle.dumps({modulus * number: 0 for number in range(1, 2001)}, protocol=2)
    value = read_pickle(Reader(data))
    assert len(value) == 2000
    assert not any(isinstance(key, int) for key in value)


def test_deep_tuples_as_keys_do_not_overflow():
    assert len(read_pickle(Reader(b"})" + b"\x85" * 200_000 + b"K\x01s."))) == 1


def test_a_memo_bomb_stays_small(tmp_path):
    """Lists of lists of the same list: 2^200 elements if they were walked."""
    text = b"]q\x00" + b"".join(b"(h%ch%cl" % (n, n) + b"q%c" % (n + 1) for n in range(200))
    (tmp_path / "a.pth").write_bytes(zipped(text + b"."))
    with pytest.raises(DataError, match="no tensors of a network"):
        open_checkpoint(tmp_path / "a.pth")


def test_modules_that_contain_themselves_end(tmp_path):
    one = b"cm\nM\n(tRq\x01}(S'_modules'\n}(S'a'\nh\x01S'b'\nh\x01uub."
    (tmp_path / "a.pth").write_bytes(zipped(one))
    with pytest.raises(DataError, match="nested without end"):
        open_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("storage", "shape", "stride", "message"),
    [
        (2**60, (1,), (1,), "is not as long as it should be"),
        (6, (2**20, 2**20), (0, 0), "larger than its storage"),
        (6, (7,), (1,), "larger than its storage"),
        (6, (2, 3), (6, 1), "larger than its storage"),
        (6, (-1,), (1,), "impossible shape"),
        (6, (2, 3), (1,), "impossible shape"),
        (6, (2, 3), (-3, 1), "impossible shape"),
        (-6, (2, 3), (3, 1), "described wrongly"),
    ],
)
def test_claims_beyond_the_file_are_refused(tmp_path, storage, shape, stride, message):
    path = tmp_path / "a.pth"
    path.write_bytes(zipped(claim(storage, shape, stride), {"0": bytes(24)}))
    with pytest.raises(DataError, match=message):
        read_tensors(path)


def test_the_claim_that_is_true_is_read(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(zipped(claim(6, (2, 3), (3, 1)), {"0": struct.pack("<6f", *range(6))}))
    assert torch.equal(read_tensors(path)["w"], torch.arange(6.0).reshape(2, 3))


def test_many_storages_in_the_same_bytes_are_refused(tmp_path):
    """Central entries of a zip may all point to one member: it must not be read a thousand times."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        pairs = b"".join(
            b"X%c\x00\x00\x00%b" % (len(key), key) + tensor(key, 2500) for key in map(b"%d".__mod__, range(40))
        )
        archive.writestr("archive/data.pkl", b"\x80\x02}(" + pairs + b"u.")
        archive.writestr("archive/data/0", bytes(10_000))
        first = archive.getinfo("archive/data/0")
        for number in range(1, 40):
            copy = zipfile.ZipInfo(f"archive/data/{number}")
            for field in ("header_offset", "CRC", "compress_size", "file_size", "flag_bits", "date_time"):
                setattr(copy, field, getattr(first, field))
            archive.filelist.append(copy)
    path = tmp_path / "a.pth"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match=r"promises more values than it has bytes|damaged"):
        read_tensors(path)


def test_a_long_number_needs_its_bytes():
    with pytest.raises(PickleError):
        read_pickle(Reader(b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x."))
    with pytest.raises(PickleError):
        read_pickle(Reader(b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x."))


def zipped(data, storages=None):
    """Return a checkpoint of ``torch.save`` whose pickle is given."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", data)
        for key, values in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", values)
    return buffer.getvalue()


def legacy(data):
    """The same as torch 1.5 wrote it."""
    start = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}]
    return b"".join(pickle.dumps(value, protocol=2) for value in start) + data + pickle.dumps([], protocol=2)


def claim(num_values, shape, stride):
    return b"\x80\x02}X\x01\x00\x00\x00w" + tensor(b"0", num_values, shape, stride) + b"s."


def tensor(key, num_values, shape=(2500,), stride=(1,)):
    """Return the opcodes of one tensor."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX%c\x00\x00\x00%bX\x03\x00\x00\x00cpu" % (len(key), key)
    size = pickle.dumps(num_values, protocol=2)[2:-1]
    parts = b"".join(pickle.dumps(part, protocol=2)[2:-1] for part in (0, shape, stride))
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + size
        + b"tQ"
        + parts
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )
