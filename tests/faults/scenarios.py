"""Commands to kill: what each starts from, what it makes in the end, and what may be seen of it at any moment."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

import seglab as package
from tests.faults.nursery import Starter
from tests.fetch.site import Site, drip, make_zip

TINY = ("--size", "32", "--batch-size", "4", "--set", "model_args.width=4", "--lr", "0.02")
NUM_PHOTOS = 12

Digest = Mapping[str, str]


@dataclass(frozen=True)
class Scenario:
    """A command, run in a folder of its own beside the material that all share."""

    command: tuple[str, ...]
    """Arguments of seglab; ``{material}`` and ``{url}`` are filled in."""
    digest: Callable[[Path], Digest]
    """What the folder holds when the work is done, in a form that equal work makes equal."""
    check: Callable[[Path], None]
    """Raises if something half-written can be seen, whenever it is called."""
    before: Callable[[Path, Path], None] = lambda material, folder: None
    """Prepares the folder."""


@dataclass(frozen=True)
class Material:
    """What the scenarios start from."""

    dir: Path
    site: Site

    def fill(self, scenario: Scenario) -> list[str]:
        """Return the arguments of seglab."""
        url = self.site.url("/faces.zip")
        return [word.format(material=self.dir, url=url) for word in scenario.command]

    def close(self) -> None:
        """Close the site."""
        self.site.close()


def make_material(dir: Path, starter: Starter) -> Material:
    """Draw people, train two networks of which the second is better, and put an archive on a site."""
    dir.mkdir(parents=True)

    def seglab(*arguments: object) -> None:
        ran = starter.start([str(argument) for argument in arguments], dir).wait()
        assert ran.code == 0, ran.err

    seglab("synth", dir / "data", "-t", "person", "-n", 24, "--size", 64)
    seglab("synth", dir / "raw", "-t", "clothes", "-n", 12, "--size", 64, "--layout", "original")
    for name, epochs in (("old", 1), ("new", 12)):
        where = ("--task", "person", "--data", dir / "data", "--out", dir / name)
        seglab("train", *where, "--epochs", epochs, "--no-graph", *TINY)
    seglab("export", dir / "new", dir / "new" / "model.onnx", "--size", "32")
    (dir / "photos").mkdir()
    for number, path in enumerate(sorted((dir / "data" / "train" / "images").iterdir())[:NUM_PHOTOS]):
        shutil.copy(path, dir / "photos" / f"{number:02}.jpg")
    rng = np.random.default_rng(0)
    site = Site()
    archive = make_zip({f"faces/{number}.txt": bytes(rng.integers(0, 256, 3000, np.uint8)) for number in range(40)})
    site.files["/faces.zip"] = archive
    site.script["/faces.zip"] = [drip] * 100_000
    (dir / "own.toml").write_text(
        '[faces]\nkind = "dataset"\ntitle = "faces"\nlicence = "none"\n'
        f'[[faces.sources]]\nurl = "{site.url("/faces.zip")}"\nsha256 = "{hashlib.sha256(archive).hexdigest()}"\n'
    )
    return Material(dir, site)


def environment() -> dict[str, str]:
    """Return this process's variables, without those that would move or forbid something."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SEGLAB_", "KAGGLE_"))}
    return {**kept, "PYTHONPATH": str(Path(package.__file__).parents[1])}


def files(dir: Path, *patterns: str, without: tuple[str, ...] = ()) -> Digest:
    """Return the content of files by path, and that nothing temporary lies among them."""
    found = {path for pattern in patterns for path in dir.glob(pattern) if path.is_file()}
    stray = [path for path in dir.rglob("*") if path.name.endswith((".part", ".tmp", "~")) or ".part." in path.name]
    assert not stray, f"left behind: {stray}"
    return {
        path.relative_to(dir).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
        if path.name not in without
    }


def tensors(path: Path) -> Digest:
    """Return a digest of every tensor of a safetensors file: the rest of it tells when it was made."""
    return {name: hashlib.sha256(tensor.tobytes()).hexdigest() for name, tensor in load_file(path).items()}


def whole_pictures(dir: Path) -> None:
    for path in dir.rglob("*.png"):
        if not any(part.startswith(".") for part in path.relative_to(dir).parts):
            with Image.open(path) as picture:
                picture.load()


def whole_dataset(dir: Path) -> None:
    """A dataset is there with everything, or its name is not there at all."""
    if (dir / "data").exists():
        lines = (dir / "data" / "samples.jsonl").read_bytes()
        head = json.loads((dir / "data" / "dataset.json").read_text())
        assert head["samples_sha256"] == hashlib.sha256(lines).hexdigest()
        for line in lines.splitlines():
            sample = json.loads(line)
            for name in ("image", "label"):
                with Image.open(dir / "data" / sample[name]) as picture:
                    picture.load()


def whole_evaluation(dir: Path) -> None:
    for path in dir.rglob("evaluation.json"):
        assert json.loads(path.read_text())["num_images"]
    for path in dir.glob("report.html"):
        assert path.read_text().rstrip().endswith("</html>")


def whole_annotations(dir: Path) -> None:
    """What is gathered from all photos holds all of them, or is not there."""
    if (dir / "found" / "annotations.json").exists():
        assert len(json.loads((dir / "found" / "annotations.json").read_text())["images"]) == NUM_PHOTOS
    if (dir / "found" / "rle.csv").exists():
        assert {line.partition(",")[0] for line in (dir / "found" / "rle.csv").read_text().splitlines()[1:]}


def whole_problems(dir: Path) -> None:
    if (dir / "data.problems.json").exists():
        assert json.loads((dir / "data.problems.json").read_text())
    whole_dataset(dir)


def break_a_pair(material: Path, folder: Path) -> None:
    """Make a folder of pairs of which one has no mask."""
    for kind in ("images", "labels"):
        shutil.copytree(material / "data" / "train" / kind, folder / "pairs" / ("masks" if kind == "labels" else kind))
    min((folder / "pairs" / "masks").iterdir()).unlink()


def whole_weights(path: Path) -> None:
    if path.exists():
        assert load_file(path)


def whole_archive(dir: Path) -> None:
    if (dir / "faces").exists():
        assert len(list((dir / "faces").rglob("*.txt"))) == 40


def whole_served(dir: Path) -> None:
    """What is served is the old model or the new one, always."""
    assert (dir / "served" / "config.json").exists()
    whole_weights(dir / "served" / "model.safetensors")


def whole_graph(dir: Path) -> None:
    if (dir / "model.onnx").exists():
        import onnx

        onnx.checker.check_model(onnx.load(dir / "model.onnx"))


def serve_old(material: Path, folder: Path) -> None:
    (folder / "served").mkdir()
    for path in [material / "old" / "config.json", *(material / "old").glob("model.*")]:
        shutil.copy(path, folder / "served")


SCENARIOS: Mapping[str, Scenario] = {
    "fetch": Scenario(
        ("fetch", "faces", "--registry", "{material}/own.toml", "--out", "faces"),
        lambda dir: files(dir / "faces", "**/*.txt"),
        whole_archive,
    ),
    "prepare": Scenario(
        ("prepare", "{material}/raw", "data", "--val", "0.2", "--test", "0.2"),
        lambda dir: files(dir, "data/**/*"),
        whole_dataset,
    ),
    "train": Scenario(
        ("train", "--task", "person", "--data", "{material}/data", "--out", "run", "--epochs", "4", "--resume",
         "--no-graph", *TINY),
        lambda dir: {**files(dir / "run", ".none"), **tensors(dir / "run" / "model.safetensors")},
        lambda dir: whole_weights(dir / "run" / "model.safetensors"),
    ),
    "predict": Scenario(
        ("predict", "-m", "{material}/new", "{material}/photos", "-o", "masks", "--skip-existing"),
        lambda dir: files(dir / "masks", "**/*.png"),
        whole_pictures,
    ),
    "cutout": Scenario(
        ("cutout", "-m", "{material}/new", "{material}/photos", "-o", "cut", "--skip-existing"),
        lambda dir: files(dir / "cut", "**/*.png"),
        whole_pictures,
    ),
    "export": Scenario(
        ("export", "{material}/new", "model.onnx", "--size", "32"),
        lambda dir: dict.fromkeys(files(dir, "model.onnx"), "there"),
        whole_graph,
    ),
    "promote": Scenario(
        ("promote", "{material}/new", "served"),
        lambda dir: tensors(dir / "served" / "model.safetensors"),
        whole_served,
        serve_old,
    ),
    "gather": Scenario(
        ("predict", "-m", "{material}/new", "{material}/photos", "-o", "found", "--format", "coco", "--format", "rle",
         "--skip-existing"),
        lambda dir: files(dir, "found/[!.]*"),
        whole_annotations,
    ),
    "synth": Scenario(
        ("synth", "data", "-n", "10", "--size", "48"), lambda dir: files(dir, "data/**/*"), whole_dataset,
    ),
    "evaluate": Scenario(
        ("evaluate", "-m", "{material}/new", "--data", "{material}/data", "--split", "train", "--out", "scores",
         "--report", "report.html", "--per-image", "each.csv"),
        lambda dir: files(dir, "scores/*.csv", "each.csv"),
        whole_evaluation,
    ),
    "problems": Scenario(
        ("prepare", "pairs", "data", "--task", "person", "--drop-bad"),
        lambda dir: files(dir, "data.problems.json", "data/**/*"),
        whole_problems,
        break_a_pair,
    ),
}  # fmt: skip
"""By the name of the command, and further ones that such a command can be asked for."""


def all_but(*names: str) -> list[str]:
    """Return the names of the scenarios without some: those that take long, or that a fault does not concern."""
    return [name for name in SCENARIOS if name not in names]


SEVEN = ("fetch", "prepare", "train", "predict", "cutout", "export", "promote")
"""Killed a hundred times by default."""
