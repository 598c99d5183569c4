"""A world in which every name is an attack, and a command line that has no network."""

import contextlib
import io
import json
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from seglab.data.images import encode_jpeg, write_labels

PHOTOS = (
    "<img src=x onerror=alert(1)>.jpg",
    "=HYPERLINK('a','b').jpg",
    "\x1b]0;owned\x07\x1b[31mred.jpg",
    "\x9b31m\u202egpj.jpg",
    "'\"><svg onload=alert(2)>.jpg",
    "[bold]{x} $(touch canary) `touch canary`;.jpg",
)
CLASSES = ("none", "</script><script>alert(3)<-script>", "\x1b[2J<b>x")
TITLE = "</title><script>alert(4)</script>\x1b[5m"


@dataclass
class Done:
    """What a command came to."""

    code: int
    out: str
    err: str


@dataclass
class World:
    """A folder in which the whole road was gone once."""

    dir: Path
    done: dict[str, Done] = field(default_factory=dict)

    def run(self, name: str, *arguments: object) -> Done:
        """Run a command in this process, as on a terminal that is none."""
        from seglab import cli
        from seglab.cli.console import bounded

        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(self.dir):
            try:
                code = bounded(lambda: cli.run([str(argument) for argument in arguments]))
            except SystemExit as end:
                code = int(end.code or 0)
            out.flush(), err.flush()
        said = [stream.buffer.getvalue().decode() for stream in (out, err)]
        self.done[name] = Done(code, *said)
        return self.done[name]


@contextlib.contextmanager
def no_network() -> Iterator[list[str]]:
    """Refuse every connection and every look-up of a name; yields what was tried."""
    tried: list[str] = []

    def refuse(*arguments: object, **_: object) -> None:
        tried.append(repr(arguments[-2:]))
        raise PermissionError(f"the network was asked: {tried[-1]}")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "sendto", "bind"):
            patch.setattr(socket.socket, name, refuse)
        for name in ("getaddrinfo", "gethostbyname", "create_connection"):
            patch.setattr(socket, name, refuse)
        yield tried


def draw(dir: Path) -> None:
    """Write photos, masks and a task whose names are attacks."""
    rng = np.random.default_rng(2)
    for folder in ("raw/images", "raw/masks", "truth", "predicted", "photos"):
        (dir / folder).mkdir(parents=True)
    for number, name in enumerate(PHOTOS):
        labels = np.kron(rng.integers(0, 3, (4, 5), np.uint8), np.ones((8, 8), np.uint8))
        image = np.repeat(labels[..., None] * np.uint8(100) + np.uint8(number), 3, axis=2)
        (dir / "raw/images" / name).write_bytes(encode_jpeg(image))
        (dir / "photos" / name).write_bytes(encode_jpeg(image))
        mask = Path(name).with_suffix(".png")
        for folder, values in (("raw/masks", labels), ("truth", labels), ("predicted", np.roll(labels, 8, 1))):
            write_labels(dir / folder / mask, values)
    (dir / "photos" / "\x1b[31mbroken<script>.jpg").write_bytes(b"no photo")
    names = json.dumps(CLASSES)
    head = f'name = "odd"\ntitle = {json.dumps(TITLE)}\nclasses = {names}\n'
    (dir / "odd.toml").write_text(f"{head}[regions]\n{json.dumps(CLASSES[1] + 'r')} = {names}\n")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Go the whole road once, without a network and with a login that must not be told."""
    world = World(tmp_path_factory.mktemp("world"))
    draw(world.dir)
    (world.dir / "home").mkdir()
    with pytest.MonkeyPatch.context() as patch, no_network() as tried:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        for name in ("HOME", "XDG_CACHE_HOME", "SEGLAB_CACHE", "TORCH_HOME", "HF_HOME"):
            patch.setenv(name, str(world.dir / "home"))
        patch.setenv("SEGLAB_DEVICE", "cpu")
        patch.setenv("COLUMNS", "200")
        patch.setattr(sys, "argv", ["seglab", "train"])
        _walk(world)
        world.done["network"] = Done(len(tried), "", "\n".join(tried))
    return world


SECRETS = {
    "KAGGLE_USERNAME": "somebody-secret",
    "KAGGLE_KEY": "0123456789abcdef0123456789abcdef",
    "KAGGLE_API_TOKEN": "KGAT_secret",
    "HF_TOKEN": "hf_secret",
    "WANDB_API_KEY": "wandb_secret",
    "https_proxy": "http://somebody-secret:pass_secret@127.0.0.1:9/",
    "AWS_SECRET_ACCESS_KEY": "aws_secret",
}


def _walk(world: World) -> None:
    small = (
        "--set",
        "model_args.width=2",
        "--size",
        "32",
        "--batch-size",
        "2",
        "--model",
        "unet-light",
        "--epochs",
        "1",
    )
    world.run("prepare", "prepare", "raw", "data", "--task", "odd.toml", "--val", "0.3", "--test", "0.3")
    world.run("inspect", "inspect", "data", "--sheet", "sheet.png")
    world.run("train", "train", "--data", "data", "--task", "odd.toml", "--out", "run", "--no-graph", *small)
    world.run("export", "export", "run")
    world.run("evaluate", "evaluate", "--model", "run", "--data", "data", "--report", "model.html", "--out", "scores")
    folders = ("evaluate", "--pred", "predicted", "--gt", "truth", "--task", "odd.toml")
    world.run("folders", *folders, "--report", "folders.html", "--out", "folders", "--per-image", "images.csv")
    world.run("folders json", *folders, "--json")
    world.run("compare", "compare", "scores/evaluation.json", "scores/evaluation.json")
    forms = ("-f", "palette", "-f", "rle", "-f", "coco", "-f", "split")
    world.run("predict", "predict", "--model", "run", "photos", "-o", "masks", *forms)
    world.run("predict json", "predict", "--model", "run", "photos", "-o", "masks2", "--json")
    world.run("cutout", "cutout", "--model", "run", "photos", "-o", "cutouts", "--keep", CLASSES[1])
    world.run(
        "predict graph", "predict", "--model", "run/model.onnx", "photos", "-o", "masks3", "--engine", "onnxruntime"
    )
    world.run("models", "models")
    world.run("show", "models", "show", "run")
    world.run("show json", "models", "show", "run", "--json")
    world.run("list", "fetch")
    world.run("missing", "predict", "--model", "run", "\x1b[31mnot there", "-o", "x")
    world.run("option", "predict", "--\x1b[31mx")
    world.run("class", "cutout", "--model", "run", "photos", "--keep", "\x1b[31mno")
