"""What a run leaves to look at: curves, sheets, TensorBoard's events, and a stand-in for Weights & Biases."""

import dataclasses
import importlib.util
import json
import os
import signal
import sys
import types

import cv2
import numpy as np
import pytest

from seglab.config import Adversarial
from seglab.data.images import read_photo
from seglab.errors import DataError, DeviceError, Interrupted, UsageError
from seglab.training import loggers
from seglab.training.curves import Line, Panel, draw_panels, panels_of, ticks
from seglab.training.journal import Journal
from seglab.training.loggers import TensorBoardLogger, WandbLogger
from seglab.training.loop import train
from seglab.training.pictures import SampleSheet
from seglab.training.rundir import RunDir
from seglab.training.settings import read_settings
from tests.training.conftest import SHAPES
from tests.training.test_loop import Watcher, crash, lines, send


def events_of(run_dir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return events


def record(epoch, **train):
    values = {
        "epoch": epoch,
        "step": 3 * epoch,
        "lr": 0.1 / epoch,
        "images_per_s": 5.0,
        "train": {"loss": 1 / epoch, **train},
    }
    return values | {"val": {"miou": 0.1 * epoch, "iou.left": 0.05 * epoch, "iou.right": None}}


def pixels_near(image, rgb, tolerance=40):
    return int((np.abs(image.astype(int) - rgb).max(axis=-1) <= tolerance).sum())


def test_tensorboard_is_told_everything_at_every_validation(dataset, config, cpu, tmp_path):
    gan = dataclasses.replace(config, trainer="adversarial", adversarial=Adversarial(disc_channels=(4, 4)), losses={})
    train(gan, dataset, tmp_path / "run", cpu, graph=False)
    events = events_of(tmp_path / "run")
    tags = events.Tags()
    records = lines(tmp_path / "run")
    expected = {"lr", "disc_lr", "images_per_s", "data_wait_share", "seconds", "val_failures"}
    expected |= {f"train/{name}" for name in records[0]["train"]}
    expected |= {f"val/{name}" for name, value in records[0]["val"].items() if value is not None}
    assert set(tags["scalars"]) == expected
    assert {"train/disc", "val/miou", "val/iou.left"} <= expected
    for name in ("lr", "images_per_s"):
        assert [event.value for event in events.Scalars(name)] == pytest.approx([each[name] for each in records])
    assert [event.step for event in events.Images("samples")] == [3, 6]
    sheet = cv2.imdecode(np.frombuffer(events.Images("samples")[1].encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert sheet.shape[0] > 3 * 256
    assert events.Images("samples")[1].width == sheet.shape[1]


def test_a_resumed_run_hides_what_it_does_again(dataset, config, cpu, tmp_path):
    config = dataclasses.replace(config, epochs=4)
    with pytest.raises(RuntimeError, match="dies here"):
        train(config, dataset, tmp_path / "run", cpu, graph=False, watcher=Watcher(8, crash))
    train(config, dataset, tmp_path / "run", cpu, graph=False, resume=True)
    assert [event.step for event in events_of(tmp_path / "run").Scalars("val/miou")] == [3, 6, 9, 12]
    assert read_photo(tmp_path / "run" / "curves.png").image.shape[2] == 3


def test_sheets_show_the_same_first_samples_in_the_tasks_colours(dataset, config, cpu, tmp_path):
    train(config, dataset, tmp_path / "run", cpu, graph=False)
    sheets = sorted((tmp_path / "run" / "samples").iterdir())
    assert [path.name for path in sheets] == ["epoch-0001.jpg", "epoch-0002.jpg"]
    one, other = (read_photo(path).image for path in sheets)
    assert [sample.id for sample in SampleSheet(dataset, "val", num=2).samples] == ["s10", "s11"]
    photos = [sheet[40:820, 6:262].astype(int) for sheet in (one, other)]
    assert np.abs(photos[0] - photos[1]).max() < 40, "the photos on both are the same"
    truth = one[40:820, 268:524]
    for rgb in SHAPES.palette[1:]:
        assert pixels_near(truth, rgb, 30) > 20, "contours are drawn in the colours of the classes"


def test_a_sheet_stands_a_sample_that_cannot_be_read(dataset, config, cpu, tmp_path):
    from seglab.inference.model import choose_model

    train(config, dataset, tmp_path / "run", cpu, graph=False)
    predictor = choose_model(None, str(tmp_path / "run")).open(cpu)
    sheet = SampleSheet(dataset, "val")
    whole = sheet.draw(predictor, title="x")
    dataset.image_path(dataset.split("val")[1]).write_bytes(b"no photo")
    broken = sheet.draw(predictor, title="x")
    assert broken.shape == whole.shape
    assert pixels_near(broken, (200, 200, 200), 1) > 190_000 > pixels_near(whole, (200, 200, 200), 1)


def test_curves_show_losses_metrics_and_rates():
    records = [record(epoch, dice=0.5, disc=0.7, disc_real=0.6, grad_norm=9.0) for epoch in range(1, 5)]
    panels = {panel.title: {line.name: line for line in panel.lines} for panel in panels_of(records, "miou", SHAPES)}
    assert list(panels) == ["training loss", "discriminator", "validation", "learning rate", "images per second"]
    assert set(panels["training loss"]) == {"loss", "dice"}
    assert set(panels["discriminator"]) == {"disc", "disc_real"}
    assert set(panels["validation"]) == {"miou", "iou.left"}, "what is never defined is left out"
    assert panels["validation"]["miou"].points == [(epoch, pytest.approx(0.1 * epoch)) for epoch in range(1, 5)]
    assert panels["validation"]["miou"].bold
    assert panels["validation"]["iou.left"].rgb == SHAPES.palette[1]
    assert panels["learning rate"]["lr"].points[1] == (2.0, 0.05)
    assert panels_of([], "miou", SHAPES) == []


def test_curves_rise_from_left_to_right():
    """The line of a rising value is found where it belongs, pixel by pixel."""
    rgb = (220, 20, 60)
    image = draw_panels([Panel("p", [Line("rising", [(epoch, epoch) for epoch in range(1, 41)], rgb, bold=True)])])
    assert image.shape == (320, 480, 3)
    columns = range(80, 300, 20)
    heights = []
    for column in columns:
        (rows,) = np.nonzero(np.abs(image[:, column].astype(int) - rgb).max(axis=-1) < 40)
        heights.append(rows.mean())
    steps = np.diff(heights)
    assert (steps < 0).all()
    np.testing.assert_allclose(steps, steps.mean(), atol=1.0)


def test_values_of_many_sizes_are_drawn_by_their_logarithms():
    rgb = (220, 20, 60)
    image = draw_panels([Panel("p", [Line("falling", [(epoch, 10.0**-epoch) for epoch in range(8)], rgb, bold=True)])])
    middles = []
    for column in (120, 200, 280):
        (rows,) = np.nonzero(np.abs(image[:, column].astype(int) - rgb).max(axis=-1) < 40)
        middles.append(rows.mean())
    assert middles[1] - middles[0] == pytest.approx(middles[2] - middles[1], abs=1.5)
    assert middles[1] > middles[0]


@pytest.mark.parametrize(
    "points",
    [[(1, 0.5)], [(1, 0.0), (2, 0.0)], [(1, -3.0), (2, -3.0)], [(7, 1e-30), (8, 1e30)], [(1, 0.0), (2, 1e300)]],
    ids=["one", "zeros", "constant", "far apart", "huge"],
)
def test_odd_values_can_be_drawn(points):
    image = draw_panels([Panel("päper", [Line("naïve 名", points, (0, 0, 0))])] * 3)
    assert image.shape == (640, 960, 3)
    assert image.min() < 100


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.31, 0.44, [0.35, 0.4]),
        (3, 3, [3]),
        (1, 40, [10, 20, 30, 40]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_curves_are_replaced_in_one_step(dataset, tmp_path, monkeypatch):
    run = RunDir(tmp_path)
    journal = Journal(run, dataset)
    journal.record(record(1))
    before = run.curves_path.read_bytes()
    unlink = []
    monkeypatch.setattr(os, "fsync", lambda _descriptor: unlink.append(run.curves_path.read_bytes()))
    journal.record(record(2))
    assert unlink[-1] == before, "the old picture is whole while the new one is written"
    assert run.curves_path.read_bytes() != before
    assert not list(tmp_path.glob(".*.part"))


def test_the_journal_goes_on_where_it_was(dataset, tmp_path):
    run = RunDir(tmp_path)
    journal = Journal(run, dataset)
    for epoch in (1, 2, 3):
        journal.record(record(epoch))
    journal.close()
    again = Journal(run, dataset, num_epochs=2, num_steps=6)
    assert [json.loads(line)["epoch"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    assert [each["epoch"] for each in again._records] == [1, 2], "the curves go on, too"


def test_events_that_cannot_be_written_are_an_error_of_ours(tmp_path, monkeypatch):
    logger = TensorBoardLogger(tmp_path)
    logger._path = tmp_path / "gone" / "events"
    with pytest.raises(DataError, match=r"cannot write `.*events`: No such file"):
        logger.scalars({"a": 1.0}, 1)


class FakeWandb(types.ModuleType):
    """The few names of the package that are used, with its manners: a step must not go back."""

    class Error(Exception):
        pass

    class Image:
        def __init__(self, pixels):
            self.shape = pixels.shape

    def __init__(self, refuses=False):
        super().__init__("wandb")
        self.__spec__ = importlib.util.spec_from_loader("wandb", None)
        self.runs, self.logged, self.finished, self.refuses = [], [], 0, refuses

    def init(self, **settings):
        if self.refuses:
            raise self.Error("no api key configured")
        self.runs.append(settings)
        return self

    def log(self, values, step):
        assert not self.logged or step >= self.logged[-1][0]
        self.logged.append((step, values))

    def finish(self):
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return fake


def test_wandb_is_told_what_tensorboard_is_told(dataset, config, cpu, tmp_path, wandb):
    with pytest.raises(Interrupted):
        train(
            config, dataset, tmp_path / "run", cpu, graph=False, logger="wandb", watcher=Watcher(4, send(signal.SIGINT))
        )
    assert read_settings(tmp_path / "run").logger == "wandb"
    assert wandb.finished == 1
    train(config, dataset, tmp_path / "run", cpu, graph=False, logger="wandb", resume=True)
    first, second = wandb.runs
    assert first == second, "the same run there"
    assert first["project"] == "seglab"
    assert (first["name"], first["dir"], first["resume"]) == ("run", str(tmp_path / "run"), "allow")
    assert first["config"] == config.to_dict()
    assert len(first["id"]) == 12
    numbers = {step: values for step, values in wandb.logged if "samples" not in values}
    events = events_of(tmp_path / "run")
    assert set(numbers) == {3, 6}
    for step, values in numbers.items():
        for name, value in values.items():
            assert value == pytest.approx(next(e.value for e in events.Scalars(name) if e.step == step), rel=1e-6)
    assert [step for step, values in wandb.logged if "samples" in values] == [3, 6]
    assert next(values["samples"] for _, values in wandb.logged if "samples" in values).shape[2] == 3


def test_wandb_that_is_not_installed_is_asked_for_before_anything_is_written(
    dataset, config, cpu, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="not installed") as caught:
        train(config, dataset, tmp_path / "run", cpu, logger="wandb")
    assert caught.value.exit_code == 6
    assert caught.value.hint == "`pip install wandb`"
    assert not (tmp_path / "run").exists()


def test_wandb_that_refuses_says_why(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(refuses=True))
    with pytest.raises(DeviceError, match="wandb cannot start: no api key configured") as caught:
        WandbLogger(tmp_path, {})
    assert "WANDB_MODE=offline" in caught.value.hint


def test_another_logger_is_unknown(dataset, config, cpu, tmp_path):
    with pytest.raises(UsageError, match="no logger is called `wandbb`"):
        train(config, dataset, tmp_path / "run", cpu, logger="wandbb")
