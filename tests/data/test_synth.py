"""Synthetic datasets: the prepared layout, byte for byte the same, for built-in tasks and a user's own."""

import json
import re

import numpy as np
import pytest

from seglab.data.images import read_labels, read_photo
from seglab.data.manifest import open_dataset
from seglab.data.scene import draw_scene, labels_for
from seglab.data.synth import synth
from seglab.errors import DataError, UsageError
from seglab.tasks import TASKS, Task, load_task
from tests.data.commands import contents, run

OWN_TASK = """
name = "wear"
classes = ["background", "legs", "shoes"]
[synth]
view = "figure"
[synth.parts]
legs = ["upper_leg", "lower_leg"]
shoes = ["shoe"]
"""


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_every_task_becomes_a_sound_dataset(task, tmp_path):
    made = synth(task, 10, (48, 56), tmp_path / "data", val=0.2, test=0.2, seed=2)
    dataset = open_dataset(tmp_path / "data")
    assert (dataset.source, dataset.task, dataset.digest) == ("synth", task, made.digest)
    assert dataset.verify() == []
    assert [sample.id for sample in dataset.samples] == [f"synth-{index:06d}" for index in range(10)]
    assert {name: len(dataset.split(name)) for name in dataset.splits} == {"train": 6, "val": 2, "test": 2}
    for index, sample in enumerate(dataset.samples):
        scene = draw_scene(2, index, task.synth.view, (48, 56))
        assert (read_labels(dataset.label_path(sample)) == labels_for(scene, task)).all()
        image = read_photo(dataset.image_path(sample)).image
        assert image.shape == (48, 56, 3)
        assert np.abs(image.astype(int) - scene.image).mean() < 6


def test_repeated_datasets_are_the_same_bytes_whatever_the_threads(tmp_path):
    for name, workers in (("a", 0), ("b", 3)):
        synth(TASKS["parsing"], 6, (40, 40), tmp_path / name, workers=workers)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert len(contents(tmp_path / "a")) == 6 * 3 + 3


def test_a_scene_does_not_depend_on_how_many_there_are(tmp_path):
    few = synth(TASKS["person"], 3, (40, 40), tmp_path / "few", val=0, test=0)
    many = synth(TASKS["person"], 7, (40, 40), tmp_path / "many", val=0, test=0)
    for a, b in zip(few.samples, many.samples[:3], strict=True):
        assert few.image_path(a).read_bytes() == many.image_path(b).read_bytes()
        assert few.label_path(a).read_bytes() == many.label_path(b).read_bytes()


def test_another_seed_gives_other_people(tmp_path):
    a = synth(TASKS["person"], 2, (40, 40), tmp_path / "a", seed=0)
    b = synth(TASKS["person"], 2, (40, 40), tmp_path / "b", seed=1)
    assert a.image_path(a.samples[0]).read_bytes() != b.image_path(b.samples[0]).read_bytes()


def test_finished_work_is_left_alone_and_other_work_needs_force(tmp_path):
    out = tmp_path / "data"
    synth(TASKS["person"], 2, (40, 40), out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    synth(TASKS["person"], 2, (40, 40), out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    with pytest.raises(DataError, match="`seed` was `0` and is now `1`") as error:
        synth(TASKS["person"], 2, (40, 40), out, seed=1)
    assert "--force" in error.value.hint
    assert synth(TASKS["person"], 2, (40, 40), out, seed=1, force=True).options["seed"] == 1


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"num": 0}, "`0` pictures"),
        ({"size_hw": (8, 64)}, "size `8x64`"),
        ({"seed": -1}, "seed `-1`"),
        ({"val": 0.6, "test": 0.5}, "--val `0.6` and --test `0.5` do not leave anything"),
    ],
)
def test_impossible_arguments_leave_nothing_behind(values, text, tmp_path):
    arguments = {"num": 2, "size_hw": (40, 40), **values}
    with pytest.raises(UsageError, match=re.escape(text)):
        synth(TASKS["person"], out_dir=tmp_path / "data", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_task_without_a_spec_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not say how synthetic scenes are labelled"):
        synth(Task("hands", ("none", "hand")), 2, (40, 40), tmp_path / "data")


class TestCommand:
    def test_a_task_of_the_users_own(self, tmp_path, capsys):
        toml = tmp_path / "wear.toml"
        toml.write_text(OWN_TASK)
        assert run("synth", "--task", toml, "-n", 12, "--size", "64x48", "--seed", 4, tmp_path / "out", "--json") == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["splits"] == {"train": 10, "val": 1, "test": 1}
        dataset = open_dataset(tmp_path / "out")
        assert dataset.task == load_task(str(toml))
        assert printed["digest"] == dataset.digest
        assert {sample.size_hw for sample in dataset.samples} == {(64, 48)}
        for name in dataset.task.classes:
            assert sum(sample.pixels[name] for sample in dataset.samples) > 0

    def test_one_picture_is_all_train_and_it_says_so(self, tmp_path, capsys):
        assert run("synth", "-n", 1, "--size", 32, tmp_path / "one") == 0
        output = capsys.readouterr()
        assert "1 train, 0 val, 0 test" in output.err
        assert "val and test are empty: 1 sample is too few for --val 0.1 --test 0.1; add samples" in output.err
        assert output.out == ""

    @pytest.mark.parametrize("size", ["x", "64x", "x64", "6.4", "-64", "64x64x64"])
    def test_a_size_that_is_none(self, size, tmp_path, capsys):
        assert run("synth", "-n", 1, f"--size={size}", tmp_path / "one") == 2
        assert f"`{size}` is not a size" in capsys.readouterr().err

    def test_a_task_that_is_none(self, tmp_path, capsys):
        assert run("synth", "--task", "persn", tmp_path / "one") == 2
        assert "did you mean `person`" in capsys.readouterr().err

    def test_a_task_that_cannot_be_drawn(self, tmp_path, capsys):
        toml = tmp_path / "hands.toml"
        toml.write_text('name = "hands"\nclasses = ["none", "hand"]\n')
        assert run("synth", "--task", toml, tmp_path / "one") == 3
        assert "[synth]" in capsys.readouterr().err
