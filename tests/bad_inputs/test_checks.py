"""The twelve checks that would each have caught an error of some well-known tool; those not tested elsewhere yet."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.preprocess import Preprocess
from seglab.tasks import TASKS
from tests.bad_inputs.conftest import Seglab, tree
from tests.bad_inputs.pictures import encoded, labels_of, person, written
from tests.bad_inputs.test_images import FAILING, ODD_MODES
from tests.bad_inputs.test_labels import palette

COLOUR = TASKS["person"].palette[1]


def test_3_no_resize_of_labels_gives_a_new_id(seglab: Seglab) -> None:
    """From any size to any other, and on the whole road of prepare."""
    from seglab.data.images import resize_labels

    rng = np.random.default_rng(0)
    ids = np.array([0, 3, 7, 255], np.uint8)
    for _ in range(200):
        height, width, new_height, new_width = (int(side) for side in rng.integers(1, 70, 4))
        labels = ids[rng.integers(0, 4, (height, width))]
        resized = resize_labels(labels, (new_height, new_width))
        assert resized.shape == (new_height, new_width)
        assert set(np.unique(resized)) <= set(np.unique(labels))
    labels = np.array([0, 3, 255], np.uint8)[rng.integers(0, 3, (61, 47))]
    written("raw/images/a.png", encoded(rng.integers(0, 256, (122, 94, 3), np.uint8)))
    written("raw/masks/a.png", encoded(labels))
    for number, options in enumerate((("--size", "37"), ("--max-side", "41"), ("--size", "64", "--fit", "pad"), ())):
        out = Path(f"out{number}")
        ran = seglab("prepare", "raw", out, "--task", "clothes", "--val", "0", "--test", "0", *options)
        assert ran.code == 0, ran.err
        assert set(np.unique(labels_of(out / "train/labels/a.png"))) <= {0, 3, 255}


def test_5_a_folder_with_one_of_each(seglab: Seglab) -> None:
    bad = {f"{case}{Path(name).suffix}": (data, reason) for case, (name, data, reason) in FAILING.items()}
    odd = {f"{case}.png": data for case, (data, _) in ODD_MODES.items()}
    for name, data in [*((name, data) for name, (data, _) in bad.items()), *odd.items()]:
        written(Path("p", name), data)
    written("p/sub/good.png", encoded(person()))
    for verb in ("predict", "cutout"):
        ran = seglab(verb, "p", "-o", verb, "--json")
        assert ran.code == 1
        assert tree(Path(verb)) == sorted([*odd, "sub/good.png"])
        assert set(ran.failures) == {f"p/{name}" for name in bad}
        for name, (_, reason) in bad.items():
            assert reason in ran.failures[f"p/{name}"]
        assert len(ran.lines) == len(bad) + len(odd) + 1
        assert {line["input"]: line["error"] for line in ran.lines if "error" in line} == ran.failures
    assert len(bad) > 9


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}, {"TERM": "xterm-256color", "COLORTERM": "truecolor"}])
def test_10_what_is_piped_is_plain(
    processes: tuple[list[str], dict[str, str]], here: Path, variables: dict[str, str]
) -> None:
    written("p/a.png", encoded(person()))
    written("p/b.jpg", b"")
    command, environment = processes
    ran = subprocess.run(
        [*command, "predict", "--model", "../person.onnx", "p", "-o", "o", "--json"],
        cwd=here, env={**environment, **variables}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    assert "\x1b" not in ran.stdout + ran.stderr
    assert [sorted(json.loads(line))[:1] for line in ran.stdout.splitlines()] == [["classes"], ["error"]]
    assert "b.jpg: empty file" in ran.stderr


@pytest.mark.parametrize("verb", ["predict", "cutout"])
def test_10_standard_output_is_empty_unless_it_is_asked_for(seglab: Seglab, verb: str) -> None:
    written("p/a.png", encoded(person()))
    written("p/b.jpg", b"")
    assert seglab(verb, "p", "-o", "o").out == ""
    assert seglab(verb, "p", "-o", "o", "--dry-run").out == ""
    assert len(seglab(verb, "p", "-o", "o", "--json").lines) == 2


@pytest.mark.parametrize("verb", ["predict", "cutout"])
def test_11_the_same_folder_twice(seglab: Seglab, verb: str) -> None:
    for name in ("a", "sub/b"):
        written(f"p/{name}.png", encoded(person()))
    assert seglab(verb, "p", "-o", "o", "--skip-existing").code == 0
    before = {path: path.stat().st_mtime_ns for path in Path("o").rglob("*.png")}
    ran = seglab(verb, "p", "-o", "o", "--skip-existing")
    assert (ran.code, "0 photos in" in ran.err, "2 finished earlier" in ran.err) == (0, True, True)
    assert {path: path.stat().st_mtime_ns for path in Path("o").rglob("*.png")} == before


def test_11_the_same_source_twice(seglab: Seglab) -> None:
    for number in range(3):
        written(f"raw/images/{number}.png", encoded(person() // (number + 1)))
        written(f"raw/masks/{number}.png", encoded((person()[..., 0] > 0).view(np.uint8)))
    arguments = ("prepare", "raw", "out", "--task", "person")
    assert seglab(*arguments).code == 0
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
    ran = seglab(*arguments)
    assert (ran.code, "there already, from the same files and options" in ran.err) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")} == before


def test_12_palette_masks_keep_their_ids_to_the_end(seglab: Seglab, graph_path: Path) -> None:
    """Through prepare, the training loader and evaluate; the model sees the colour of a person exactly."""
    from seglab.data.manifest import open_dataset
    from seglab.data.samples import TrainingSamples

    rng = np.random.default_rng(0)
    truths = {f"{number}": rng.integers(0, 2, (4, 4), np.uint8).repeat(8, 0).repeat(8, 1) for number in range(4)}
    for name, labels in truths.items():
        photo = np.where(labels[..., None] == 1, np.uint8(COLOUR), np.uint8(0)).astype(np.uint8)
        written(f"raw/images/{name}.png", encoded(photo))
        written(f"raw/masks/{name}.png", palette(labels))
        with Image.open(f"raw/masks/{name}.png") as stored:
            assert stored.mode == "P"
            assert len(set(np.array(stored.convert("L")).ravel()) & {0, 1}) == 0, "as greys they would be wrong"
    assert seglab("prepare", "raw", "out", "--task", "person", "--val", "0", "--test", "0").code == 0
    dataset = open_dataset(Path("out"))
    samples = TrainingSamples(dataset, "train", Preprocess(size_hw=(32, 32)), cache="none")
    for index, sample in enumerate(samples.samples):
        np.testing.assert_array_equal(labels_of(dataset.label_path(sample)), truths[sample.id])
        np.testing.assert_array_equal(samples.load(index)[1], truths[sample.id])
    ran = seglab("evaluate", "--model", graph_path, "--data", "out", "--split", "train", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["miou"] == 1.0, ran.out
