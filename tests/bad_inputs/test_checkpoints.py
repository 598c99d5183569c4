"""Bad inputs 37 to 39, and check 9: weights."""

import hashlib
import io
import os
import pickle
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.bad_inputs.conftest import Seglab, tree
from tests.bad_inputs.pictures import encoded, person, written

HTML = b"<!DOCTYPE html><html><title>Quota exceeded</title>"


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


class Names:
    """Names a function without calling it."""

    def __init__(self, function: str) -> None:
        self.function = function

    def pickled(self) -> bytes:
        """Return it as the value of an entry."""
        module, _, name = self.function.rpartition(".")
        return f"(dS'loader'\nc{module}\n{name}\ns.".encode()


def zipped(data: bytes) -> bytes:
    """Return a pickle as torch.save packs it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


@cache
def checkpoint(num_classes: int, prefix: str = "") -> bytes:
    """Return a small U²-Net as torch.save writes it."""
    torch = pytest.importorskip("torch")
    from seglab.models import zoo

    weights = zoo.build("u2netp", num_classes).state_dict()
    buffer = io.BytesIO()
    torch.save({f"{prefix}{name}": tensor for name, tensor in weights.items()}, buffer)
    return buffer.getvalue()


COMMANDS = (
    ("predict", "a.png", "-o", "o", "--model"),
    ("cutout", "a.png", "-o", "o", "--model"),
    ("models", "show"),
    ("models", "import", "--no-graph"),
    ("export",),
)


def refusals(seglab: Seglab, name: str) -> list[str]:
    """Hand a file to every command that takes a model; return the messages. Nothing may be left by any of them."""
    written("a.png", encoded(person()))
    before = tree(Path())
    messages = []
    for command in COMMANDS:
        out = ["out"] if command[1:2] == ("import",) else ["out.onnx"] if command == ("export",) else []
        ran = seglab(*command, name, *out)
        assert ran.code == 3, (command, ran)
        assert ran.out == ""
        assert f"`{name}`" in ran.error
        assert ran.hint
        messages.append(ran.error)
        assert tree(Path()) == before, command
    return messages


@pytest.mark.parametrize("name", ["evil.pth", "evil.pt", "evil.pkl"])
def test_37_a_checkpoint_that_would_run_code(seglab: Seglab, here: Path, name: str) -> None:
    canary = here.parent / "canary"
    data = pickle.dumps({"state_dict": {}, "args": Runs(f"touch '{canary}'")}, protocol=2)
    written(name, zipped(data) if name == "evil.pth" else data)
    for message in refusals(seglab, name):
        assert message == f"`{name}` contains code (`{os.name}.system`) and is refused"
    assert not canary.exists(), "nothing of it was run"
    pickle.loads(data)
    assert canary.exists(), "it would have been"


@pytest.mark.parametrize("function", ["torch.load", "torch.hub.load", "torch.jit.load", "torch.serialization.load"])
def test_37_a_checkpoint_that_names_what_loads_others(seglab: Seglab, function: str) -> None:
    written("loader.pth", zipped(Names(function).pickled()))
    for message in refusals(seglab, "loader.pth"):
        assert message == f"`loader.pth` contains code (`{function}`) and is refused"


@pytest.mark.parametrize("suffix", [".pth", ".onnx", ".safetensors"])
@pytest.mark.parametrize(("data", "words"), [(b"", "empty file"), (HTML, "a web page")], ids=["zero", "html"])
def test_38_what_is_no_checkpoint(seglab: Seglab, suffix: str, data: bytes, words: str) -> None:
    written(f"w{suffix}", data)
    *messages, exported = refusals(seglab, f"w{suffix}")
    assert all(words in message for message in messages)
    assert words in exported or exported == "`w.onnx` is a graph, not weights"


@pytest.mark.parametrize("share", [0.3, 0.999])
def test_38_a_checkpoint_that_is_cut_off(seglab: Seglab, share: float) -> None:
    whole = checkpoint(4)
    written("half.pth", whole[: int(share * len(whole))])
    for message in refusals(seglab, "half.pth"):
        assert message == "`half.pth` is not a usable checkpoint: it is cut off or damaged"


REGISTRY = """[weights]
kind = "checkpoint"
title = "weights"
licence = "MIT"
[[weights.sources]]
url = "https://example.org/weights.pth"
sha256 = "{sha256}"
"""


def test_38_the_wrong_checksum(seglab: Seglab) -> None:
    written("given.pth", zipped(pickle.dumps({"a": 1})))
    written("own.toml", REGISTRY.format(sha256="0" * 64).encode())
    ran = seglab("fetch", "weights", "--from", "given.pth", "--registry", "own.toml", "--out", "out")
    assert ran.code == 3
    assert ran.error.startswith("`given.pth` is not `weights`: wrong checksum: sha256 is ")
    assert tree(Path()) == ["given.pth", "own.toml"]


def test_38_a_fetched_checkpoint_that_is_damaged_is_fetched_again_by_the_hint(seglab: Seglab, here: Path) -> None:
    whole = checkpoint(4)
    written("given.pth", whole)
    written("own.toml", REGISTRY.format(sha256=hashlib.sha256(whole).hexdigest()).encode())
    elsewhere = here / "else where"
    for out, again in ((), ""), (("--out", elsewhere), f" --out '{elsewhere}'"):
        ran = seglab("fetch", "weights", "--from", "given.pth", "--registry", "own.toml", *out)
        assert ran.code == 0, ran.err
        name = "weights" if not out else "else where/given.pth"
        path = here.parent / "cache" / "models" / "weights" / "given.pth" if not out else Path(name)
        assert path.is_file()
        path.write_bytes(whole[: len(whole) // 2])
        written("a.png", encoded(person()))
        ran = seglab("predict", "a.png", "--model", name)
        command = f"`seglab fetch weights --force --registry FILE.toml{again}`"
        assert (ran.code, ran.hint) == (3, f"{command} brings it anew\n"), ran.err
    (elsewhere / "SOURCE.json").write_bytes(b"[" * 100_000)
    assert seglab("predict", "a.png", "--model", "else where/given.pth").hint.startswith("download it again")


def test_38_the_command_for_a_row_of_the_list_is_whole(seglab: Seglab, here: Path) -> None:
    folder = here.parent / "cache" / "models" / "cloth-u2net"
    written(folder / "w.pth", HTML)
    written(folder / "SOURCE.json", b'{"name": "cloth-u2net"}')
    ran = seglab("models", "show", "cloth-u2net")
    assert (ran.code, ran.hint) == (3, "`seglab fetch cloth-u2net --force` brings it anew\n")


def test_39_a_prefix_of_wrappers_is_taken_off(seglab: Seglab) -> None:
    written("w.pth", checkpoint(4, prefix="module."))
    ran = seglab("models", "import", "w.pth", "out", "--no-graph")
    assert ran.code == 0, ran.err
    from safetensors.numpy import load_file

    assert not any(name.startswith("module.") for name in load_file("out/model.safetensors"))
    assert tree(Path("out")) == ["config.json", "model.safetensors"]


def test_39_weights_of_another_number_of_classes_or_another_task(seglab: Seglab) -> None:
    written("four.pth", checkpoint(4))
    written("twenty.pth", checkpoint(20))
    written("a.png", encoded(person()))
    before = tree(Path())
    task = ("--task", "face")
    for command, message in (
        (
            ("predict", "a.png", "--model", "four.pth", *task),
            "`four.pth` segments `clothes` (4 classes), but the task is `face` (11 classes)",
        ),
        (
            ("models", "import", "four.pth", "out", *task),
            "`four.pth` is made for 4 classes (clothes), but task `face` has 11",
        ),
        (
            ("models", "import", "twenty.pth", "out", *task),
            "`twenty.pth` is made for 20 classes, but task `face` has 11",
        ),
        (
            ("predict", "a.png", "--model", "twenty.pth"),
            "`twenty.pth` is a U²-Net for clothes of 20 classes, and nobody published one of so many",
        ),
    ):
        ran = seglab(*command)
        assert (ran.code, ran.error) == (3, message)
        assert ran.hint
        assert tree(Path()) == before


@pytest.mark.parametrize("kind", ["NaN", "infinite"])
def test_39_weights_that_are_no_numbers(seglab: Seglab, kind: str) -> None:
    torch: Any = pytest.importorskip("torch")
    weights = torch.load(io.BytesIO(checkpoint(4)), weights_only=True)
    first = next(name for name in weights if name.endswith("weight"))
    weights[first].view(-1)[0] = float("nan" if kind == "NaN" else "inf")
    torch.save(weights, "w.pth")
    ran = seglab("models", "import", "w.pth", "out", "--no-graph")
    assert (ran.code, ran.error.endswith("are NaN or infinite")) == (3, True)
    assert f"tensor `{first}`" in ran.error
    assert tree(Path()) == ["w.pth"]


def test_an_export_to_a_name_that_no_model_can_have(seglab: Seglab) -> None:
    """What it advises is what works."""
    written("four.pth", checkpoint(4))
    for name, advised in (("graph", "graph.onnx"), ("graph.pt", "graph.pt.onnx"), ("my.model", "my.model.onnx")):
        ran = seglab("export", "four.pth", name)
        assert (ran.code, ran.hint) == (2, f"name the graph, say `{advised}`\n")
        assert tree(Path()) == ["four.pth"]
