"""A network that sees colours, so that positions in its answers can be checked, and a command line that uses it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seglab.device import Device
from seglab.inference.model import Model
from seglab.inference.predictor import Predictor
from seglab.preprocess import Preprocess
from seglab.tasks import Task

COLOURS = {
    "background": (0, 0, 0),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "white": (255, 255, 255),
}


@dataclass
class ColourEngine:
    """Answers every pixel with the class of the nearest colour; remembers the batches it saw."""

    task: Task
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    on_call: Callable[[int], None] = lambda count: None
    name: str = "colours"
    reason: str = "a fake"
    device: Device = field(default_factory=lambda: Device("cpu", None, "a fake too"))
    precision: str = "fp32"
    notes: list[str] = field(default_factory=lambda: ["a word at the end"])

    def __call__(self, pixels_BHWC: np.ndarray) -> np.ndarray:
        assert pixels_BHWC.dtype == np.uint8
        self.shapes.append(pixels_BHWC.shape)
        self.on_call(len(self.shapes))
        colours = np.array(self.task.palette, np.float32)
        distance_BHWK = ((pixels_BHWC[..., None, :].astype(np.float32) - colours) ** 2).sum(-1)
        return np.ascontiguousarray((-distance_BHWK / 4000).transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class FakeModel(Model):
    """A model without files."""

    engine: Any = None
    opened: list[int] = field(default_factory=list)

    def open(self, device: Device, *, engine: str = "auto", batch_size: int = 1) -> Predictor:
        self.opened.append(batch_size)
        return Predictor(self.engine, self.config, batch_size=batch_size)


def make_model(
    task: Task, *, size_hw: tuple[int, int] = (64, 64), fit: str = "stretch", save_id: str = "a"
) -> FakeModel:
    config: Any = SimpleNamespace(task=task, preprocess=Preprocess(size_hw=size_hw, fit=fit), save_id=save_id)
    return FakeModel(Path("fake"), config, ColourEngine(task))


@pytest.fixture
def task() -> Task:
    return Task(name="colours", classes=tuple(COLOURS), palette=tuple(COLOURS.values()))


@pytest.fixture
def model(task: Task) -> FakeModel:
    return make_model(task)


@pytest.fixture
def build_model(task: Task) -> Callable[..., FakeModel]:
    return lambda **settings: make_model(task, **settings)


@pytest.fixture
def corners() -> Callable[..., np.ndarray]:
    """Return a maker of pictures whose four corners are red, green (top), blue and white (bottom)."""

    def make(height: int = 60, width: int = 90) -> np.ndarray:
        image = np.zeros((height, width, 3), np.uint8)
        h, w = max(1, height // 3), max(1, width // 3)
        image[:h, :w], image[:h, -w:] = COLOURS["red"], COLOURS["green"]
        image[-h:, :w], image[-h:, -w:] = COLOURS["blue"], COLOURS["white"]
        return image

    return make


@pytest.fixture
def save() -> Callable[..., Path]:
    """Return a writer of lossless pictures, whatever their name says."""

    def write(path: Path, image: np.ndarray, **options: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, options.pop("format", "PNG"), **options)
        return path

    return write


@dataclass
class Shell:
    """Runs the real command line in this process, with the fake model behind it."""

    capsys: pytest.CaptureFixture[str]
    model: FakeModel

    def __call__(self, *arguments: str | Path) -> SimpleNamespace:
        from seglab import cli
        from seglab.cli.console import bounded

        code = bounded(lambda: cli.run([str(argument) for argument in arguments]))
        out, err = self.capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, lines=[json.loads(line) for line in out.splitlines()])


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], model: FakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    running = Shell(capsys, model)
    monkeypatch.setattr("seglab.inference.model.choose_model", lambda task, name, manner=None: running.model)
    monkeypatch.setenv("SEGLAB_DEVICE", "cpu")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return running


@pytest.fixture
def names() -> Callable[[Path], list[str]]:
    """Return a lister of the visible files below a folder."""

    def below(folder: Path) -> list[str]:
        found: Sequence[Path] = [path for path in folder.rglob("*") if path.is_file()]
        return sorted(str(path.relative_to(folder)) for path in found if not path.name.startswith("."))

    return below
