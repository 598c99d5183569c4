"""``import seglab``: the command line's answers, from photos in every form, and nothing imported too early."""

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

import seglab
from seglab.data.images import ImageError
from seglab.errors import DataError, UsageError
from seglab.inference.predictor import Predictor
from seglab.inference.tiling import Tiling
from seglab.tasks import TASKS

ROOT = Path(__file__).parents[2]
ODD_SIZES = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13, reason="Pillow 12 cannot read the YCbCr TIFFs of odd sizes that it writes"
)


@pytest.fixture
def predictor(model) -> Predictor:
    return Predictor(model.engine, model.config, batch_size=2)


@pytest.fixture
def photo(corners) -> np.ndarray:
    image = corners(70, 101)
    image[30:40, 45:60] = (255, 255, 255)
    return image


def saved(image: np.ndarray, format_name: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format_name, **options)
    return buffer.getvalue()


def test_importing_is_light() -> None:
    code = (
        "import sys; before = set(sys.modules); import seglab\n"
        "assert set(dir(seglab)) >= set(seglab.__all__)\n"
        "print([name for name in sys.modules if name.split('.')[0] in"
        " ('numpy', 'torch', 'cv2', 'PIL', 'typer', 'onnxruntime')])\n"
        "print(sorted(name for name in set(sys.modules) - before if name.startswith('seglab')))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["[]", "['seglab', 'seglab.version']"]


def test_every_name_is_there_and_no_other() -> None:
    for name in seglab.__all__:
        assert getattr(seglab, name) is not None
    with pytest.raises(AttributeError, match="no_such"):
        seglab.no_such  # noqa: B018
    assert seglab.Predictor is Predictor
    assert (Path(seglab.__file__).parent / "py.typed").exists()


def test_a_photo_in_every_form_is_the_same_photo(predictor: Predictor, photo, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(photo))
    rgba = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
    forms = [
        path, str(path), path.read_bytes(), bytearray(path.read_bytes()), photo, rgba, photo[::-1][::-1],
        Image.fromarray(photo), Image.open(path), Image.fromarray(rgba), Image.fromarray(photo).quantize(16),
    ]  # fmt: skip
    results = [predictor(form) for form in forms]  # type: ignore[arg-type]
    for result in results:
        np.testing.assert_array_equal(result.image, photo)
        np.testing.assert_array_equal(result.labels, results[0].labels)
    assert results[0].source == results[1].source == path
    assert results[2].source is None


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_of_pillow_are_turned_as_files_are(
    predictor: Predictor, photo, format_name: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format_name == "WEBP" else {}
    data = saved(photo, format_name, exif=exif, dpi=(200, 100), **options)
    as_file = predictor(data)
    pil = Image.open(io.BytesIO(data))
    as_pil = predictor(pil)
    assert as_file.size_hw == ((101, 70) if orientation >= 5 else (70, 101))
    np.testing.assert_allclose(as_pil.image, as_file.image, atol=3)
    assert as_pil.photo.dpi == as_file.photo.dpi
    assert pil.size == Image.open(io.BytesIO(data)).size or format_name == "TIFF", "the caller's picture is left alone"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", pytest.param("YCbCr", marks=ODD_SIZES)])
def test_modes_of_pillow(predictor: Predictor, photo, mode: str) -> None:
    pil = (
        Image.fromarray(photo.astype(np.uint16)[..., 0] * 257)
        if mode == "I;16"
        else Image.fromarray(photo).convert(mode)
    )
    format_name = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    buffer = io.BytesIO()
    pil.save(buffer, format_name)
    as_file, as_pil = predictor(buffer.getvalue()), predictor(pil)
    np.testing.assert_allclose(as_pil.image, as_file.image, atol=3)


def test_grey_and_transparent_arrays(predictor: Predictor, photo) -> None:
    grey = photo[..., 0]
    for form in (grey, grey[..., None]):
        np.testing.assert_array_equal(predictor(form).image, np.repeat(grey[..., None], 3, 2))
    half = np.dstack([photo, np.zeros(photo.shape[:2], np.uint8)])
    result = predictor(half)
    assert (result.image == 255).all()
    assert result.notes == ("alpha composited on white",)


def test_what_is_no_photo_is_refused(predictor: Predictor, photo, tmp_path: Path) -> None:
    for form in (
        photo / 255,
        photo.astype(np.int32),
        photo[None],
        photo[..., :2],
        photo[:0],
        photo > 3,
        5,
        None,
        [photo],
    ):
        with pytest.raises(UsageError) as caught:
            predictor(form)  # type: ignore[arg-type]
        assert caught.value.hint
    (tmp_path / "a.jpg").write_bytes(b"")
    for source, text in (
        (tmp_path / "a.jpg", "a.jpg`: empty file"),
        (tmp_path / "b", "b`: no such file"),
        (b"", "empty"),
    ):
        with pytest.raises(ImageError, match=text):
            predictor(source)


def test_batches_are_lazy_and_in_order(predictor: Predictor, model, corners) -> None:
    sizes = [(40 + index, 60) for index in range(9)]
    asked = []

    def photos() -> Iterator[np.ndarray]:
        for size in sizes:
            asked.append(size)
            yield corners(*size)

    for workers in (0, 1, 3):
        asked.clear()
        results = predictor.batch(photos(), workers=workers)
        assert asked == []
        assert next(results).size_hw == sizes[0]
        assert len(asked) <= 2 + 2 * workers
        assert [result.size_hw for result in results] == sizes[1:]
    assert (2, 64, 64, 3) in model.engine.shapes
    alone = [predictor(corners(*size)).labels for size in sizes]
    for together, single in zip(predictor.batch(photos()), alone, strict=True):
        np.testing.assert_array_equal(together.labels, single)
    assert list(predictor.batch([])) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_photo_is_an_error_or_a_value(predictor: Predictor, photo, tmp_path: Path, workers: int) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"x")
    photos = [photo, bad, photo, photo, bad, bad]
    kinds = [type(item).__name__ for item in predictor.batch(photos, on_error="yield", workers=workers)]
    assert kinds == ["Result", "ImageError", "Result", "Result", "ImageError", "ImageError"]
    results = predictor.batch(photos, workers=workers)
    assert next(results).found, "what comes before it is answered first"
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        next(results)
    with pytest.raises(UsageError):
        predictor.batch(photos, on_error="ignore")  # type: ignore[call-overload]


def test_results_agree_with_each_other(predictor: Predictor, photo) -> None:
    result = predictor(photo)
    assert result.probs.dtype == result.alpha.dtype == np.float32
    np.testing.assert_allclose(result.probs.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(result.probs.argmax(0), result.labels)
    assert result.labels is result.labels, "made once"
    assert set(result.areas) == {"background", "red", "green", "blue", "white"}
    assert sum(area.pixels for area in result.areas.values()) == photo.shape[0] * photo.shape[1]
    for name, box in result.boxes.items():
        rows, columns = np.nonzero(result.mask(name))
        assert box == (rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1)
        assert result.areas[name].pixels == len(rows)
    np.testing.assert_array_equal(result.mask(), result.labels > 0)
    np.testing.assert_array_equal(result.mask("red", "blue"), np.isin(result.labels, (1, 3)))
    np.testing.assert_array_equal(np.rint(result.alpha * 255), result.cutout()[..., 3])
    assert result.found
    assert not predictor(np.zeros((9, 9, 3), np.uint8)).found
    assert result.overlay().shape == photo.shape
    assert result.overlay(legend=True).shape[0] > photo.shape[0]
    with pytest.raises(UsageError) as caught:
        result.mask("gren")
    assert "did you mean `green`" in caught.value.hint
    assert "array" not in repr(result)


def test_regions_and_foreground_are_the_tasks(predictor: Predictor, photo, task) -> None:
    predictor.config.task = replace(task, foreground=("green",), regions={"warm": ("red", "white")})  # type: ignore[misc]
    result = predictor(photo)
    np.testing.assert_array_equal(result.mask(), result.labels == 2)
    np.testing.assert_array_equal(result.mask("warm"), np.isin(result.labels, (1, 4)))
    np.testing.assert_array_equal(result.cutout(edge="hard")[..., 3] > 0, result.labels == 2)


def test_cutouts_take_the_options_of_the_command_line(predictor: Predictor, photo, tmp_path: Path) -> None:
    result = predictor(photo)
    assert result.cutout(background=(0, 0, 9)).shape == photo.shape
    assert result.cutout(mask_only=True).shape == photo.shape[:2]
    assert result.cutout(keep="white", crop=True, edge="hard").shape[0] < photo.shape[0]
    assert result.cutout(size="20x10").shape == (10, 20, 4)
    for look in ({"edge": "soggy"}, {"margin": "5%"}, {"mask_only": True, "background": "red"}, {"keep": "gren"}):
        with pytest.raises(UsageError):
            result.cutout(**look)
    with pytest.raises(TypeError):
        result.cutout(colour="red")
    assert result.save_cutout(tmp_path / "a.webp", crop=True) == tmp_path / "a.webp"
    for name, look in (("a.gif", {}), ("a.jpg", {"mask_only": True}), ("a.png", {"format": "jpg"})):
        with pytest.raises(UsageError):
            result.save_cutout(tmp_path / name, **look)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        result.save_labels(tmp_path / "a.jpg")
    with pytest.raises(DataError):
        result.save_labels(tmp_path / "nowhere" / "a.png")


def test_the_same_files_as_the_command_line(shell, save, photo) -> None:
    save(Path("a.png"), photo, dpi=(144, 144))
    predictor = Predictor(shell.model.engine, shell.model.config)
    result = predictor("a.png")
    shell("predict", "a.png", "-o", "labels.png")
    result.save_labels("own_labels.png")
    assert Path("own_labels.png").read_bytes() == Path("labels.png").read_bytes()
    for index, (options, look) in enumerate(
        (
            ([], {}),
            (["--edge", "feather:5", "--background", "blur:3"], {"edge": "feather:5", "background": "blur:3"}),
            (["--crop", "--margin", "4", "--square"], {"crop": True, "margin": "4", "square": True}),
            (
                ["--keep", "red", "--threshold", "0.4", "--png", "small"],
                {"keep": "red", "threshold": 0.4, "png": "small"},
            ),
        )
    ):
        assert shell("cutout", "a.png", "-o", f"c{index}.png", *options).code == 0
        result.save_cutout("own.png", **look)  # type: ignore[arg-type]
        assert Path("own.png").read_bytes() == Path(f"c{index}.png").read_bytes()


def test_large_photos_in_tiles(shell, save, corners) -> None:
    save(Path("a.png"), corners(300, 400))
    assert shell("predict", "a.png", "-o", "m.png", "--tile", "128", "-f", "ids").code == 0
    predictor = Predictor(shell.model.engine, shell.model.config).with_tiling(Tiling(128))
    with Image.open("m.png") as stored:
        np.testing.assert_array_equal(predictor("a.png").labels, np.array(stored))
    small = corners(50, 60)
    mixed = list(predictor.batch([small, "a.png", small]))
    assert [result.size_hw for result in mixed] == [(50, 60), (300, 400), (50, 60)]
    np.testing.assert_array_equal(mixed[0].labels, mixed[2].labels)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    from tests.inference.test_real_model import write_graph

    write_graph(tmp_path / "person.onnx", TASKS["person"])
    image = np.zeros((60, 90, 3), np.uint8)
    image[10:50, 20:70] = TASKS["person"].palette[1]
    for name in ("one.png", "two.png"):
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    return tmp_path / "person.onnx"


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SEGLAB_DEVICE": "cpu", "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


def test_load_answers_as_the_command_line_without_torch(graph: Path) -> None:
    code = (
        "import sys, seglab, json\n"
        "predictor = seglab.load('person.onnx')\n"
        "predictor('one.png').save_labels('own.png')\n"
        "print(json.dumps([predictor.task.name, predictor.engine.name, 'torch' in sys.modules]))"
    )
    done = run("-c", code, cwd=graph.parent)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["person", "onnxruntime", False]
    assert (
        run("-m", "seglab", "predict", "-m", "person.onnx", "one.png", "-o", "m.png", cwd=graph.parent).returncode == 0
    )
    assert (graph.parent / "own.png").read_bytes() == (graph.parent / "m.png").read_bytes()


def test_load_refuses_what_means_nothing(graph: Path) -> None:
    for options in (
        {"engine": "no"}, {"task": "face"}, {"tta": "no"}, {"device": "no"}, {"tile": 3}, {"precision": "int1"},
    ):  # fmt: skip
        with pytest.raises((UsageError, DataError)) as caught:
            seglab.load(graph, **{"device": "cpu", **options})  # type: ignore[arg-type]
        assert caught.value.hint
    with pytest.raises(DataError):
        seglab.load(graph.with_name("nowhere"), device="cpu")
    assert seglab.load(str(graph), "person", "cpu", "onnxruntime", threads=1, tile="auto").tiling == Tiling(0)


@pytest.mark.slow
def test_the_example_runs_as_it_is_written(graph: Path) -> None:
    example = ROOT / "examples" / "python_api.py"
    done = run(str(example), "person.onnx", "one.png", "bad.png", "two.png", cwd=graph.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == [
        "one.png: somebody",
        "bad.png: `bad.png`: is text, not an image",
        "two.png: somebody",
    ]
    for name in ("overlay.png", "labels.png", "portrait.webp", "call.jpg", "flipped.png", "masked.png"):
        with Image.open(graph.parent / name) as stored:
            stored.load()
    with Image.open(graph.parent / "portrait.webp") as stored:
        assert (stored.size, stored.mode) == ((256, 256), "RGBA")


@pytest.mark.parametrize("tile", [None, 32])
def test_a_predictor_goes_to_other_processes(graph: Path, tile: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is opened anew there, from the same files, wherever the process is."""
    monkeypatch.chdir(graph.parent)
    predictor = seglab.load(graph.name, device="cpu", batch_size=2, tta="flip", tile=tile)
    data = pickle.dumps(predictor)
    assert len(data) < 10_000, "the weights stay where they are"
    monkeypatch.chdir("/")
    again = pickle.loads(data)
    assert (again.batch_size, again.tiling, again.engine.name) == (2, predictor.tiling, predictor.engine.name)
    image = noise_like(70, 100)
    np.testing.assert_array_equal(again(image).labels, predictor(image).labels)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(again))(image).labels, predictor(image).labels)


def test_a_predictor_that_cannot_be_pickled_says_why(predictor: Predictor, graph: Path) -> None:
    with pytest.raises(UsageError, match="only a predictor that was opened from files can be pickled") as caught:
        pickle.dumps(predictor)
    assert "seglab.load" in caught.value.hint
    data = pickle.dumps(seglab.load(graph, device="cpu"))
    from tests.inference.test_real_model import write_graph

    write_graph(graph, TASKS["person"], save_id="another")
    with pytest.raises(DataError, match="replaced by another since"):
        pickle.loads(data)
    graph.unlink()
    with pytest.raises(DataError, match=r"person\.onnx"):
        pickle.loads(data)


def noise_like(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
