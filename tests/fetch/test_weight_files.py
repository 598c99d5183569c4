"""Files of weights as the libraries themselves write them, cut off anywhere, and everything else under their names."""

import io
import pickle
import random
import zipfile
from collections import OrderedDict

import pytest

from seglab.data.fetching.sniffing import refusal, sniff
from seglab.data.fetching.weight_files import code_in_weights, why_no_weights
from tests.fetch.site import HTML, make_tar, make_weights, make_zip

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256)) * 8
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)) * 8
MP4 = b"\x00\x00\x00\x20ftypisom" + bytes(range(256)) * 8
NOISE = b"\xfe" + random.Random(0).randbytes(3000)


@pytest.fixture
def judge(tmp_path):
    def judge(data: bytes, name: str = "w.pth") -> str:
        (tmp_path / "file").write_bytes(data)
        return why_no_weights(tmp_path / "file", name)

    return judge


def saved(**options) -> bytes:
    torch = pytest.importorskip("torch")
    shared = torch.arange(40.0)
    state = OrderedDict(
        w=torch.randn(64, 3, 3, 3), b=torch.zeros(7, dtype=torch.float64), n=torch.tensor(3), h=torch.ones(5).half(),
        view=shared[3:9], same=shared, flags=torch.tensor([True, False]), text="storage", again="storage",
    )  # fmt: skip
    buffer = io.BytesIO()
    torch.save({"epoch": 3, "state_dict": state}, buffer, **options)
    return buffer.getvalue()


def graph() -> bytes:
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4])
    weights = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [result], [weights]))
    onnx.helper.set_model_props(model, {"seglab": "x" * 300})
    return model.SerializeToString()


def tensors() -> bytes:
    import numpy as np

    save = pytest.importorskip("safetensors.numpy").save
    return save({"w": np.arange(50, dtype=np.float32), "b": np.zeros(3)}, metadata={"format": "pt"})


MAKERS = {
    "w.pth": lambda: saved(),
    "old.pth": lambda: saved(_use_new_zipfile_serialization=False),
    "old4.pth": lambda: saved(_use_new_zipfile_serialization=False, pickle_protocol=4),
    "w.pth.tar": lambda: saved(),
    "w.onnx": graph,
    "w.safetensors": tensors,
    "w.pkl": lambda: pickle.dumps({"w": [1.0] * 99}, protocol=4),
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_the_libraries_write_is_taken(judge, name):
    data = MAKERS[name]()
    assert judge(data, name) == ""
    assert judge(data, name.upper()) == ""
    assert judge(data, "download") == ""


@pytest.mark.parametrize("name", MAKERS)
def test_a_file_that_is_cut_off_anywhere_is_refused(judge, name):
    data = MAKERS[name]()
    lengths = {*range(0, len(data), max(1, len(data) // 60)), len(data) - 1, len(data) - 8}
    taken = [length for length in sorted(lengths) if not judge(data[:length], name)]
    assert not taken


def test_a_bit_that_flipped_in_a_zip_of_pytorch_is_noticed(judge):
    data = bytearray(saved())
    at = bytes(data).find(b"data/0") + 2000
    data[at] ^= 1
    assert "damaged PyTorch checkpoint" in judge(bytes(data))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".onnx", ".safetensors", ".pkl", ""])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (HTML, "a web page"),
        (b"hello\n", "text, not data"),
        (JPEG, "a JPEG picture, not"),
        (PNG, "a PNG picture, not"),
        (MP4, "a video"),
        (NOISE, "data of no known kind, not"),
        (b"%PDF-1.7\n\xe2\xe3\xcf\xd3", "a PDF document, not"),
        (b"\x93NUMPY\x01\x00\x76\x00{'descr'", "a NumPy array, not"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "an HDF5 file, not"),
        (make_tar({"w.pth": NOISE}, "w:gz"), "a gzip archive, not weights"),
        (make_tar({"w.pth": NOISE}), "a tar archive, not weights"),
    ],
)
def test_anything_else_is_refused_whatever_the_weights_are_called(judge, data, words, suffix):
    assert words in judge(data, "w" + suffix)


def test_a_zip_of_other_things_is_no_checkpoint(judge):
    assert judge(make_zip({"a.jpg": JPEG})) == "a zip archive without a PyTorch checkpoint in it"
    assert judge(make_zip({"w.pth": make_weights()})) == "a zip archive without a PyTorch checkpoint in it"
    assert "packed as no PyTorch checkpoint is" in judge(make_zip({"a/data.pkl": b"x", "a/data/0": bytes(99_999)}))


@pytest.mark.parametrize(
    ("made", "name", "words"),
    [
        ("w.onnx", "w.pth", "an ONNX graph, not a PyTorch checkpoint"),
        ("w.safetensors", "w.onnx", "a safetensors file, not an ONNX graph"),
        ("w.pth", "w.onnx", "a PyTorch checkpoint, not an ONNX graph"),
        ("old.pth", "w.safetensors", "a PyTorch checkpoint, not a safetensors file"),
        ("w.pkl", "w.pth", "a Python pickle, not a PyTorch checkpoint"),
    ],
)
def test_weights_of_another_kind_than_the_name_says_are_refused(judge, made, name, words):
    assert judge(MAKERS[made](), name) == words


def test_a_checkpoint_is_not_taken_for_an_archive_of_data():
    assert refusal(make_weights()[:1024], archive=True) == "a PyTorch checkpoint, not an archive"
    assert refusal(JPEG, archive=True) == "a JPEG picture, not an archive"
    assert refusal(make_zip({"a": b"1"}), archive=True) == ""
    assert "rar archive, which seglab does not unpack" in refusal(b"Rar!\x1a\x07\x01", archive=True)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02X\xff\xff\xff\x7fabc",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x3fabc.",
        b"\x80\x02" + b"N0" * 100_000,
        (90_000_000).to_bytes(8, "little") + b"{",
        (2).to_bytes(8, "little") + b"{}" + b"x",
        b"\x08\x07\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(100),
        b"\x08\x07" + b"\x12\x00" * 600,
    ],
)
def test_lies_about_lengths_are_refused_and_cost_nothing(judge, data):
    assert judge(data, "download") != ""


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def evil_weights(tmp_path):
    """Whole weights with code beside them, in every form that is read."""
    torch = pytest.importorskip("torch")
    value = {"w": torch.ones(5), "z": Evil(tmp_path / "evil")}
    new, old = io.BytesIO(), io.BytesIO()
    torch.save(value, new)
    torch.save(value, old, _use_new_zipfile_serialization=False)
    return {
        "new.pth": new.getvalue(),
        "old.pth": old.getvalue(),
        "plain.pkl": pickle.dumps({"z": value["z"]}, protocol=2),
        "second.pkl": pickle.dumps({}, protocol=2) + pickle.dumps(value["z"], protocol=4),
        "module.pkl": b"\x80\x02ctorch.hub\nload\n(X\x01\x00\x00\x00atR.",
    }


@pytest.mark.parametrize("name", ["new.pth", "old.pth", "plain.pkl", "second.pkl", "module.pkl"])
def test_weights_with_code_are_seen_through_and_never_run(judge, tmp_path, name):
    assert judge(evil_weights(tmp_path)[name], name) == ""
    assert code_in_weights(tmp_path / "file") == ("`torch.hub.load`" if name == "module.pkl" else "`io.open`")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("name", MAKERS)
def test_what_the_libraries_write_holds_no_code(judge, tmp_path, name):
    assert judge(MAKERS[name](), name) == ""
    assert code_in_weights(tmp_path / "file") == ""


def test_what_cannot_be_followed_may_hide_code(judge, tmp_path):
    assert judge(b"\x80\x02\x82\x01.", "w.pkl") == ""
    assert (
        code_in_weights(tmp_path / "file")
        == "a pickle that cannot be followed: opcode `EXT1` has no place in a checkpoint"
    )


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_name_twice_in_a_checkpoint_is_refused(judge):
    """One reader takes the first, another one the last."""
    buffer = io.BytesIO(make_weights())
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
    assert judge(buffer.getvalue()) == "a zip archive with a name in it twice"


def test_a_picture_is_not_taken_for_something_rarer():
    assert sniff(b"RIFF\x00\x00\x00\x00WEBPVP8 \xff") == "webp"
    assert sniff(b"BM\x99\x99\x00\x00\x00\x00\x00\x00\x36\x00\xff") == "bmp"
    assert sniff(b"II*\x00\xff") == "tiff"
    assert sniff(bytes(range(256))) == "data"
    with zipfile.ZipFile(io.BytesIO(make_weights())) as archive:
        assert "archive/data.pkl" in archive.namelist()
