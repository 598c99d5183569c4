"""The sheet of an augmentation: shows the views that training shows, and writes nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from seglab.config import TrainConfig
from seglab.data.augmented_sheet import CELL, draw_augmented
from seglab.data.images import read_photo, resize_image
from seglab.data.loader import TrainingSamples, augmentation_of
from seglab.data.manifest import open_dataset
from seglab.data.synth import synth
from seglab.errors import DataError, UsageError
from seglab.preprocess import Preprocess
from seglab.strengths import PRESETS, Strengths
from seglab.tasks import TASKS

GRID = Preprocess(size_hw=(CELL, CELL))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(synth(TASKS["face"], 5, (96, 80), tmp_path_factory.mktemp("sheet") / "data", seed=1).dir)


@pytest.fixture
def config():
    return TrainConfig(augment=replace(PRESETS["strong"], background=0.5, elastic=0.5), seed=4)


def test_the_sheet_holds_the_very_views_of_training(dataset, config, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "cache"))
    draw_augmented(dataset, config, GRID, tmp_path / "sheet.png", num_samples=2, num_views=3)
    sheet = read_photo(tmp_path / "sheet.png").image
    samples = TrainingSamples(dataset, "train", GRID)
    augmentation = augmentation_of(samples, config)
    found = 0
    for index in range(len(samples)):
        for epoch in range(3):
            view = augmentation(*samples.load(index), epoch=epoch, name=samples.samples[index].id)
            pixels = resize_image(view.pixels, (CELL, CELL))
            places = np.argwhere((sheet[: 1 - CELL, : 1 - CELL] == pixels[0, 0]).all(-1))
            found += any(
                np.array_equal(sheet[top : top + CELL, left : left + CELL], pixels) for top, left in places.tolist()
            )
    assert found == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sheet.png"]


def test_what_is_not_asked_for_is_hatched(dataset, tmp_path):
    config = TrainConfig(augment=replace(PRESETS["none"], cutout=10.0))
    pixels = []
    for name, augment in (("cut", config.augment), ("plain", Strengths.uniform(0))):
        path = tmp_path / f"{name}.png"
        draw_augmented(dataset, replace(config, augment=augment), GRID, path, num_samples=3, num_views=4)
        pixels.append(read_photo(path).image)
    cut, plain = ((each == (224, 224, 192)).all(-1).sum() for each in pixels)
    assert cut > plain + 500


def test_it_can_be_written_where_it_shall(dataset, config, tmp_path):
    with pytest.raises(UsageError, match=r"cannot write pictures as `\.txt`"):
        draw_augmented(dataset, config, GRID, tmp_path / "a.txt", num_samples=1, num_views=1)
    with pytest.raises(DataError, match="cannot write"):
        draw_augmented(dataset, config, GRID, tmp_path / "none" / "a.jpg", num_samples=1, num_views=1)
    draw_augmented(dataset, config, GRID, tmp_path / "a.jpg")
    assert read_photo(tmp_path / "a.jpg").image.shape[1] > 8 * CELL
