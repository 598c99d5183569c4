"""``--model FILE.pth`` on the command line: what is said, written, and refused."""

import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from seglab import cli
from seglab.cli.console import bounded
from seglab.data.images import read_labels, write_labels, write_photo
from seglab.models.verification import photo_like
from seglab.tasks import TASKS
from tests.inference import published
from tests.models import recipe


@pytest.fixture
def seglab(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SEGLAB_DEVICE", "cpu")
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = bounded(lambda: cli.run([str(argument) for argument in arguments]))
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=" ".join(err.split()))

    return run


@pytest.fixture
def weights(tmp_path):
    """The U-Net of faces, small, with the statistics that its photos have."""
    net = published.HelenUNet(11, 4)
    net.load_state_dict(recipe.weights({name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}))
    torch.save(net.state_dict(), tmp_path / "MyModel5.pt")
    return net


@pytest.fixture
def photos(tmp_path):
    """Two photos that the original takes, and one that it does not."""
    images = {"a": (96, 64), "b": (80, 112), "odd": (90, 91)}
    pixels = {name: photo_like((1, *size_hw), seed)[0] for seed, (name, size_hw) in enumerate(images.items())}
    for name, image in pixels.items():
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return pixels


def test_predict_as_the_original_does(seglab, tmp_path, weights, photos):
    options = ("--fidelity", "original", "--format", "ids", "--batch-size", 4)
    done = seglab("predict", "--model", "MyModel5.pt", "photos", "-o", "out", *options)
    assert done.code == 1
    assert "recognised by its tensors: U-Net for faces (HimankSehgal/Semantic_Segmentation_With_U-Net)" in done.err
    assert "used as its own code does" in done.err
    assert "odd.png: 90x91: the original takes sides of the same remainder by 16 only" in done.err
    for name in ("a", "b"):
        found = read_labels(tmp_path / "out" / f"{name}.png")
        assert (found == published.helen(weights, photos[name])).mean() >= 0.999
    assert not (tmp_path / "out" / "odd.png").exists()


def test_what_was_done_in_another_manner_is_not_finished(seglab, weights, photos):
    arguments = ("predict", "--model", "MyModel5.pt", "photos", "-o", "out", "--json", "--skip-existing")

    def skipped(*more):
        return sum("skipped" in json.loads(line) for line in seglab(*arguments, *more).out.splitlines())

    assert [skipped(), skipped(), skipped("--bn", "batch"), skipped("--bn", "batch")] == [0, 3, 0, 3]
    assert skipped("--fidelity", "original") == 0


def test_cutout(seglab, tmp_path, weights, photos):
    done = seglab("cutout", "--model", "MyModel5.pt", "photos/a.png", "-o", "a.png", "--fidelity", "original")
    assert done.code == 0, done.err
    alpha = np.asarray(Image.open(tmp_path / "a.png"))[..., 3]
    expected = published.helen(weights, photos["a"]) > 0
    assert set(np.unique(alpha)) <= {0, 255}
    assert ((alpha == 255) == expected).mean() >= 0.999


def test_evaluate(seglab, tmp_path, weights, photos):
    for name in ("a", "b"):
        for kind in ("images", "labels"):
            (tmp_path / "raw" / kind).mkdir(parents=True, exist_ok=True)
        write_photo(tmp_path / "raw" / "images" / f"{name}.png", photos[name])
        write_labels(tmp_path / "raw" / "labels" / f"{name}.png", published.helen(weights, photos[name]))
    prepared = seglab("prepare", "raw", "data", "--task", "face", "--val", "0", "--test", "0.5")
    assert prepared.code == 0, prepared.err
    score = ("evaluate", "--model", "MyModel5.pt", "--data", "data", "--json")
    as_published = seglab(*score, "--fidelity", "original")
    assert as_published.code == 0, as_published.err
    assert "recognised by its tensors" in as_published.err
    assert json.loads(as_published.out)["pixel_accuracy"] >= 0.999
    assert json.loads(seglab(*score).out)["pixel_accuracy"] < 0.999


def test_models_show_and_import(seglab, weights, photos):
    shown = seglab("models", "show", "MyModel5.pt", "--json")
    assert json.loads(shown.out)["checkpoint"]["recognised"] == "helen-unet"
    made = seglab("models", "import", "MyModel5.pt", "faces", "--no-graph")
    assert made.code == 0, made.err
    assert seglab("predict", "--task", "face", "--model", "faces", "photos/a.png", "-o", "m.png").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ("--model", "MyModel5.pt", "--task", "clothes"),
            3,
            "segments `face` (11 classes), but the task is `clothes` (4",
        ),
        (("--model", "MyModel5.pt", "--fidelity", "exact"), 2, "no fidelity is called `exact`"),
        (("--model", "MyModel5.pt", "--bn", "none"), 2, "no choice of `--bn` is called `none`"),
        (("--model", "MyModel5.pt", "--bn", "batch", "--engine", "onnxruntime"), 2, "cannot do `--bn batch`"),
        (("--model", "MyModel5.pt", "--engine", "onnxruntime"), 3, "has no graph"),
        (("--model", "evil.pth"), 3, "`evil.pth` contains code (`builtins.eval`) and is refused"),
        (("--model", "page.pth"), 3, "`page.pth` is not a checkpoint: a web page"),
        (("--model", "last.pt"), 3, "`last.pt` is the resume state of a training run"),
    ],
)
def test_refusals(seglab, tmp_path, weights, photos, arguments, code, message):
    evil = b"\x80\x02cbuiltins\neval\nX\x04\x00\x00\x001/0 \x85R."
    (tmp_path / "evil.pth").write_bytes(evil)
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><title>Quota exceeded</title>")
    torch.save({"format": 1, "learner": {}, "course": {}}, tmp_path / "last.pt")
    done = seglab("predict", *arguments, "photos/a.png", "-o", "out.png")
    assert message in done.err
    assert "hint:" in done.err
    assert done.code == code
    assert not (tmp_path / "out.png").exists()


def test_the_evil_file_would_run(tmp_path):
    with pytest.raises(ZeroDivisionError):
        pickle.loads(b"\x80\x02cbuiltins\neval\nX\x04\x00\x00\x001/0 \x85R.")


def test_tasks_of_the_table_exist():
    from seglab.models.originals import ORIGINALS

    for original in ORIGINALS.values():
        for num_classes, name in original.tasks.items():
            assert TASKS[name].num_classes == num_classes
