"""Small sound inputs of every kind, made by the code that makes them for users wherever there is such code."""

import hashlib
import io
import json
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from seglab.tasks import Task
from tests.fetch.site import make_tar, make_zip

ABC: Final = Task(name="abc", classes=("none", "a", "b"), regions={"ab": ("a", "b")}, levels={"top": ("ab",)})
ARCHIVES: Final = Path(__file__).parents[1] / "fetch" / "archives"


def _saved(save: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        save(path)
        return path.read_bytes()


def _picture(format: str, array: "np.typing.NDArray[Any]", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format, **options)
    return buffer.getvalue()


def _blocks(kinds: int = 3, side: int = 12) -> "np.typing.NDArray[np.uint8]":
    rows, columns = np.indices((side, side + 4)) // 4
    return ((rows + columns) % kinds).astype(np.uint8)


@cache
def photo() -> bytes:
    return _picture("JPEG", np.repeat(_blocks()[..., None] * 80, 3, axis=2))


@cache
def photos() -> tuple[bytes, ...]:
    rgb = np.repeat(_blocks()[..., None] * 80, 3, axis=2)
    rgba = np.concatenate([rgb, rgb[..., :1]], axis=2)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    return (
        _picture("JPEG", rgb, exif=exif, dpi=(72, 72), icc_profile=b"\0" * 140),
        _picture("JPEG", rgb, progressive=True),
        _picture("PNG", rgba, exif=exif),
        _picture("GIF", _blocks(), save_all=True, append_images=[Image.fromarray(_blocks(2))]),
        _picture("WEBP", rgba, lossless=True, exif=exif),
        _picture("TIFF", rgb, compression="tiff_lzw", exif=exif),
        _picture("TIFF", _blocks().astype(np.uint16) * 700),
        _picture("BMP", rgb),
    )


@cache
def labels() -> tuple[bytes, ...]:
    palette = Image.fromarray(_blocks()).convert("P")
    palette.putpalette(list(range(256)) * 3)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=0)
    grey16 = _picture("PNG", _blocks().astype(np.uint16) * 300)
    return _picture("PNG", _blocks()), buffer.getvalue(), grey16, _picture("PNG", _blocks() > 0), *photos()[2:6]


@cache
def ids16() -> bytes:
    return _picture("PNG", (_blocks() > 0).astype(np.uint16))


def rle_texts() -> list[bytes]:
    return [b"1 3 9 4 1000 200", b"1200 1", b"1 1200", b"40 40 10 40"]


def rle_counts() -> list[bytes]:
    from seglab.data.rle import encode_counts, from_mask

    return [encode_counts(from_mask(np.kron(_blocks(2), np.ones((4, 2)))[:40, :30])).encode(), b"`U1"]


def mask_tables() -> list[bytes]:
    head = b"ImageId,EncodedPixels,Height,Width,ClassId\n"
    rows = b"a.jpg,1 5 20 9,16,12,0_3\nb.jpg,3 3,16,12,6\na.jpg,100 20,16,12,8\na.jpg,100 20,16,12,8\n"
    quoted = b'"b.jpg","1 5 7 2",16.0,12.0,"10_1_2"\r\n\r\n'
    return [head + rows, b"\xef\xbb\xbf" + head + quoted, head]


def own_tables() -> list[bytes]:
    from seglab.inference.formats.kaggle import assemble

    rows = [[["a.jpg", "1 5 20 9", 16, 12, 1], ["=a,\n.jpg", "100 20", 16, 12, 2]], [["é.png", "1 192", 16, 12, 1]]]
    return [_saved(lambda path: assemble(path, ABC, lambda: rows))]


def garment_names() -> list[bytes]:
    from seglab.data.garments import CATEGORIES

    return [json.dumps({"categories": [{"id": id, "name": name} for id, name in enumerate(CATEGORIES)]}).encode()]


def coco() -> list[bytes]:
    def annotation(id: int, image: int, segmentation: Any, category: int = 1, **more: Any) -> dict[str, Any]:
        return {"id": id, "image_id": image, "category_id": category, "segmentation": segmentation, **more}

    values = {
        "info": {"year": 2020},
        "images": [
            {"id": 1, "file_name": "a.jpg", "height": 12, "width": 16},
            {"id": 2, "file_name": "images/b.jpg", "height": 12, "width": 16},
        ],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            annotation(1, 1, [[1, 1, 9, 1, 9, 9, 1.5, 9]]),
            annotation(2, 1, {"size": [12, 16], "counts": [10, 20, 162]}, 2, iscrowd=1),
            annotation(3, 2, {"size": [12, 16], "counts": "PYo0"}, 2),
            annotation(4, 2, [[0, 0, 5, 5, 0, 5], [8, 8, 11, 11, 8, 11]]),
        ],
    }
    return [json.dumps(values, ensure_ascii=False).encode()]


def class_lists() -> list[bytes]:
    from seglab.data.sources.celebamask import NAMES

    return [json.dumps({"classes": list(NAMES)}).encode()]


def class_texts() -> list[bytes]:
    from seglab.data.sources.pascal_part import NAMES

    return ["\n".join(f"{id}: {name}" for id, name in enumerate(NAMES)).encode()]


def arrays() -> list[bytes]:
    kinds = (_blocks(7), _blocks(7).astype(np.float64), np.asfortranarray(_blocks(7).astype(np.int64)), _blocks() > 0)
    return [_saved(lambda path, array=array: path.write_bytes(_npy(array))) for array in kinds]


def _npy(array: "np.typing.NDArray[Any]") -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@cache
def matlab() -> tuple[bytes, ...]:
    from scipy.io import savemat

    parts = np.empty((1, 2), [("part_name", object), ("mask", object)])
    parts[0] = [("head", _blocks(2)), ("torso", _blocks(2))]
    table = np.empty((1, 2), [("class", object), ("class_ind", object), ("mask", object), ("parts", object)])
    table[0] = [("person", 15, _blocks(2), parts), ("dog", 12, _blocks(2), np.empty((0, 0)))]
    kinds = []
    for compressed in (False, True):
        buffer = io.BytesIO()
        savemat(buffer, {"other": 1, "anno": {"imname": "a", "objects": table}}, do_compression=compressed)
        kinds.append(buffer.getvalue())
    return tuple(kinds)


@cache
def samples() -> bytes:
    lines = []
    for number, split in enumerate(("train", "train", "val")):
        id = f"s{number:02d}"
        values = {
            "id": id, "split": split, "image": f"{split}/images/{id}.jpg", "label": f"{split}/labels/{id}.png",
            "height": 4, "width": 5, "pixels": {"none": 10, "a": 5, "b": 5, "ignore": 0},
            "people": f"{split}/people/{id}.png" if number else "",
        }  # fmt: skip
        lines.append(json.dumps(values))
    return "".join(f"{line}\n" for line in lines).encode()


@cache
def dataset() -> bytes:
    values = {
        "format": 1, "source": "folders", "task": ABC.to_dict(), "options": {"size": 4, "val": 0.1},
        "counts": {}, "samples_sha256": hashlib.sha256(samples()).hexdigest(),
    }  # fmt: skip
    return json.dumps(values).encode()


def journals() -> list[bytes]:
    entries = [
        json.dumps({"sample": json.loads(line), "digests": [None, "0" * 64, "0" * 64], "memo": {"a": 1}})
        for line in samples().splitlines()
    ]
    return ["".join(f"{line}\n" for line in (json.dumps({"a": 1}), *entries)).encode()]


def tasks() -> list[bytes]:
    from seglab.tasks import TASKS
    from tests.fuzz.mutation import to_toml

    plain = [{name: value for name, value in task.to_dict().items() if value} for task in (ABC, *TASKS.values())]
    return [to_toml(values).encode() for values in plain]


def recipes() -> list[bytes]:
    from seglab.training.recipe import RECIPES_DIR

    own = b'losses = {focal = {weight = 1, gamma = 2}, dice = 1}\naugment = {preset = "light", hflip = 0.1}\n'
    return [path.read_bytes() for path in sorted(RECIPES_DIR.glob("*.toml"))] + [own, b"augment = 0.5\nce_weight = 1"]


def settings() -> list[bytes]:
    return [b"lr=0.1\nmodel_args.width=24\naugment.hflip=0\nlosses={dice=1}", b"mean=[0,0,0]\nmodel=pgn", b'model="a"']


def registry() -> list[bytes]:
    text = """[thing]\nkind = "dataset"\ntitle = "a thing"\nbytes = 5\nlicence = "MIT"\ncommercial = "yes"
    next = ["seglab prepare {path} out --task TASK"]\nsources = [{url = "https://example.org/a.zip", sha256 = "%s"},
    {kaggle-dataset = "o/n"}, {drive = "0123456789abc", file = "a.zip", key = "k"}, {page = "https://example.org/"}]\n"""
    weights = """["own weights"]\nkind = "checkpoint"\ntitle = "w"\norigin = "https://example.org"\nterms = "ask us"
    unpack = true\nunpacked_bytes = 9\ntask = "person"\ncommercial = "unclear"\nsources = [
    {kaggle-competition = "c", file = "w.pth", note = "n"}, {drive-folder = "0123456789abc", file = "w.pth", bytes = 7},
    {url = "http://example.org/w.onnx", md5 = "%s", dead = "since 2020"}]\n"""
    return [(text % ("0" * 64)).encode(), (weights % ("0" * 32)).encode(), _shipped_rows()]


def _shipped_rows() -> bytes:
    """A few rows of the registry that comes with seglab, under other names."""
    from importlib.resources import files

    rows = (files("seglab.data") / "registry.toml").read_text(encoding="utf-8").split("\n[")[1:]
    return "".join(f"[own-{row}\n" for row in rows if not row.startswith("["))[:6000].rpartition("\n[own-")[0].encode()


def colour_tables() -> list[bytes]:
    return [
        b'none = "#000000"\na = ["#ff0000", [200, 0, 0]]\nb = [1, 2, 3]\nignore = "#ffffff"\n',
        b'[colours]\na = "#010101"',
    ]


def colour_objects() -> list[bytes]:
    return [b'{"none": "#000000", "a": ["#ff0000", [200, 0, 0]], "b": [1, 2, 3]}', b'{"colours": {"a": "#010101"}}']


@cache
def bundle() -> tuple[bytes, ...]:
    from safetensors.torch import save

    from seglab.models.bundle import METADATA_KEY
    from seglab.models.zoo import build

    network = build("unet-light", ABC.num_classes, width=2)
    text = json.dumps(configuration())
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    return (save(tensors, {"format": "pt", METADATA_KEY: text}),)


@cache
def configuration() -> dict[str, Any]:
    from seglab.models.bundle import BundleConfig
    from seglab.preprocess import Preprocess

    config = BundleConfig(
        task=ABC, model="unet-light", model_args={"width": 2}, preprocess=Preprocess(size_hw=(32, 32)),
        data={"source": "folders", "digest": "0"}, metrics={"val": {"miou": 0.5}}, training={"epochs": 1},
        versions={"seglab": "0.1"}, save_id="0" * 32,
    )  # fmt: skip
    return config.to_dict()


@cache
def _header() -> tuple[dict[str, Any], bytes]:
    """The tables and the numbers of sound weights."""
    data = bundle()[0]
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_metadata(metadata: dict[str, str]) -> bytes:
    """Return sound weights with these texts in their header."""
    tables, numbers = _header()
    header = json.dumps({**tables, "__metadata__": metadata}).encode()
    return len(header).to_bytes(8, "little") + header + numbers


def about_models() -> list[bytes]:
    return [b'licence = "MIT"\ncommercial = "yes"\n']


def configurations() -> list[bytes]:
    """A bundle's own, one of a model that was imported, and one of an earlier version with less in it."""
    whole = configuration()
    scores = {"miou": 0.5, "classes": {"a": {"iou": 0.5, "f1": None}}, "regions": {"ab": {"iou": 0.5}}, "levels": {}}
    imported = {
        **whole, "metrics": {"val": scores, "test": scores}, "data": {},
        "training": {"origins": [{"part": "network", "source": "w.pth", "sha256": "0" * 64, "commercial": "no"}]},
    }  # fmt: skip
    needed = {name: whole[name] for name in ("format", "task", "model", "model_args", "preprocess")}
    return [json.dumps(values).encode() for values in (whole, imported, needed)]


@cache
def _tensors() -> dict[str, Any]:
    import torch

    weight = torch.arange(6.0).reshape(2, 3)
    return {"a.weight": weight, "a.bias": torch.ones(2), "b.half": weight.half().t(), "n": torch.tensor(3)}


@cache
def torch_zips() -> tuple[bytes, ...]:
    import torch

    whole = {"model": _tensors(), "epoch": 3, "optimizer": {"state": {}, "param_groups": []}}
    return tuple(_saved(lambda path, value=value: torch.save(value, path)) for value in (_tensors(), whole))


@cache
def torch_pickles() -> tuple[bytes, ...]:
    import torch

    old = _saved(lambda path: torch.save(_tensors(), path, _use_new_zipfile_serialization=False))
    module = _saved(lambda path: torch.save(torch.nn.Linear(2, 1), path, _use_new_zipfile_serialization=False))
    return old, module, pickle.dumps({"a": [1, 2.0, "x"]}), pickle.dumps(_tensors()["a.bias"].numpy())


@cache
def plain_tensors() -> tuple[bytes, ...]:
    from safetensors.torch import save

    return (save({name: tensor.contiguous() for name, tensor in _tensors().items()}, {"format": "pt"}),)


def any_weights() -> list[bytes]:
    return [*torch_zips(), *torch_pickles(), *plain_tensors(), *graphs()]


@cache
def graphs() -> tuple[bytes, ...]:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def model(external: bool) -> bytes:
        weight = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
        if external:
            onnx.external_data_helper.set_external_data(weight, "../secret")
            weight.ClearField("raw_data")
        ports = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", 8]) for name in ("pixels", "logits")
        ]
        graph = helper.make_graph(
            [helper.make_node("Conv", ["pixels", "w"], ["logits"])], "g", ports[:1], ports[1:], [weight]
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="somebody")
        helper.set_model_props(made, {"seglab": json.dumps(configuration()), "seglab.export": '{"profile": "seglab"}'})
        return bytes(made.SerializeToString())

    return model(False), model(True)


def zips() -> list[bytes]:
    return [make_zip(_MEMBERS), make_zip({"a/": b"", **_MEMBERS})]


def tars() -> list[bytes]:
    return [make_tar(_MEMBERS, mode) for mode in ("w", "w:gz", "w:bz2", "w:xz")]


def sevens() -> list[bytes]:
    return [path.read_bytes() for path in sorted(ARCHIVES.glob("*.7z")) if path.stat().st_size < 20_000]


_MEMBERS: Final = {"set/1.jpg": b"1" * 300, "set/ä [2].jpg": bytes(range(256)), "set/empty": b"", "set/deep/er/3": b"3"}


def ledgers() -> list[bytes]:
    lines = [{"seglab": "predict", "format": 2, "since": 5}] + [
        {"input": name, "stamp": [5, 1], "settings": "0" * 16, "outputs": {"palette": ["photo.png", 4, 1]}}
        for name in ("photo.jpg", "b.jpg")
    ]
    return ["".join(json.dumps(line) + "\n" for line in lines).encode()]


def spools() -> list[bytes]:
    lines = [
        json.dumps({"input": name, "place": name, "settings": "s"})
        + "\t" + json.dumps({"kaggle": [[name, "1 5", 4, 5, 1]]})
        for name in ("a.jpg", "b.jpg")
    ]  # fmt: skip
    return ["".join(line + "\n" for line in lines).encode()]


def metrics() -> list[bytes]:
    lines = [
        {
            "epoch": epoch, "step": 5 * epoch, "lr": 1e-3, "images_per_s": 9.5,
            "train": {"loss": 1 / epoch, "dice": 0.5},
            "val": {"miou": 0.1 * epoch, "iou.none": 0.9, "iou.a": None} if epoch % 2 else None,
        }
        for epoch in (1, 2, 3)
    ]  # fmt: skip
    return ["".join(json.dumps(line) + "\n" for line in lines).encode()]


def run_settings() -> list[bytes]:
    from seglab.config import TrainConfig
    from seglab.training.settings import RunSettings

    settings = RunSettings(TrainConfig(), ABC.to_dict(), Path("/data"), "0" * 64, True, 60.0, "tensorboard", "one")
    return [json.dumps(settings.to_dict()).encode()]


@cache
def resume_states() -> tuple[bytes, ...]:
    import torch

    state = {"format": 1, "learner": {"network": _tensors()}, "course": {"epoch": 1}}
    return (_saved(lambda path: torch.save(state, path)),)


@cache
def legends() -> tuple[bytes, ...]:
    from seglab.inference.sinks import legend
    from seglab.tasks import TASKS

    return tuple(json.dumps(legend(TASKS["clothes"]), indent=indent).encode() for indent in (None, 2))


def evaluation() -> tuple[bytes, ...]:
    from seglab.evaluation.outputs import to_json
    from seglab.evaluation.result import Tally, compare
    from tests.evaluation.reports import people_of

    del people_of  # the hostile page has its own
    tally = Tally(ABC)
    for number in range(3):
        tally.add(f"image {number}", compare(_blocks(), np.roll(_blocks(), number, axis=1), ABC))
    values = to_json(tally.finish(), {})
    whole = {"input": {"model": "m"}, "options": {"tta": False}, "shard": None}
    part = {"input": {"model": "m"}, "options": {"tta": False}, "shard": {"index": 1, "num": 1}}
    return tuple(json.dumps(values | more).encode() for more in (whole, part))


def people() -> list[bytes]:
    parts = {"a": {"score": 0.5, "area": 3}, "b": {"score": 1}}
    return [
        json.dumps({"people": [{"id": 1, "score": 0.9, "parts": parts}, {"id": 2, "score": 0.1, "parts": {}}]}).encode()
    ]


def lists() -> list[bytes]:
    return [b"a\nb.jpg\n images/c 1\n", "\ufeffé.png\r\n".encode(), b"/etc/hostname\nno/such\n\n"]


def logins() -> list[bytes]:
    return [b'{"username": "u", "key": "0123456789abcdef"}', b'{"refresh_token": "t"}', b"KGAT_0"]


def fetch_notes() -> list[bytes]:
    values = {
        "name": "a.zip", "sha256": "0" * 64, "bytes": 5, "message": "m", "hint": "h", "archive": "a.zip",
        "unpacked_bytes": 5, "files": 1, "tree_sha256": "0" * 64, "data": ".", "path": "x",
    }  # fmt: skip
    return [json.dumps(values).encode()]


def known_parts() -> list[bytes]:
    return [json.dumps({"url": "https://example.org/a", "validator": '"x"', "total": 9}).encode()]


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()
