"""Bad input 45: pipes that nobody writes to, in the place of files."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seglab.errors import DataError, UsageError
from seglab.inference.backgrounds import parse_background
from seglab.models.headers import read_graph, read_safetensors
from seglab.training.recipe import load_recipe
from tests.bad_inputs.conftest import Seglab
from tests.bad_inputs.pictures import encoded, person, written

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")

PATIENCE_S = 30.0


@pytest.fixture
def pipe() -> Iterator[Callable[[str], Path]]:
    """Put a pipe somewhere; who waits for it is let go after a while, and the test fails."""
    made: list[Path] = []
    over = threading.Event()
    hung: list[Path] = []

    def let_go() -> None:
        if over.wait(PATIENCE_S):
            return
        hung.extend(made)
        while not over.wait(0.1):
            for path in made:
                for way in (os.O_RDONLY, os.O_WRONLY):  # frees those who want to write, and those who want to read
                    with contextlib.suppress(OSError):
                        os.close(os.open(path, way | os.O_NONBLOCK))

    def make(name: str) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
        made.append(path.absolute())
        return path

    watch = threading.Thread(target=let_go, daemon=True)
    watch.start()
    yield make
    over.set()
    watch.join()
    assert not hung, "somebody waited for a pipe"


def test_45_a_colour_table(seglab: Seglab, pipe: Callable[[str], Path]) -> None:
    written("raw/images/a.png", encoded(person()))
    written("raw/masks/a.png", encoded(person()))
    pipe("colours.toml")
    ran = seglab("prepare", "raw", "out", "--task", "person", "--colours", "colours.toml")
    assert (ran.code, ran.error) == (3, "cannot read colour table `colours.toml`: nobody writes to this pipe")


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors"])
@pytest.mark.parametrize("beside", [False, True])
def test_45_a_file_of_a_bundle(
    seglab: Seglab, pipe: Callable[[str], Path], graph_path: Path, name: str, beside: bool
) -> None:
    written("a.png", encoded(person()))
    place = pipe(f"bundle/{name}")
    (other,) = {"model.onnx", "model.safetensors"} - {name}
    if beside:
        written(f"bundle/{other}", graph_path.read_bytes())
    for verb in (("predict", "--model", "bundle", "a.png", "-o", "o"), ("models", "show", "bundle")):
        ran = seglab(*verb)
        assert (ran.code, ran.error) == (3, f"`{place}` is no regular file"), verb
    for read in (read_graph, read_safetensors):
        with pytest.raises(DataError, match=r"is no regular file$"):
            read(place)


def test_45_a_model(seglab: Seglab, pipe: Callable[[str], Path]) -> None:
    written("a.png", encoded(person()))
    pipe("m.onnx")
    ran = seglab("predict", "--model", "m.onnx", "a.png", "-o", "o")
    assert (ran.code, ran.error) == (3, "`m.onnx` is no regular file")
    ran = seglab("predict", "--model", "mm.onnx", "a.png", "-o", "o")
    assert (ran.code, ran.error) == (3, "there is no model `mm.onnx`")
    assert "m.onnx`" not in ran.hint


def test_45_a_background(seglab: Seglab, pipe: Callable[[str], Path]) -> None:
    written("a.png", encoded(person()))
    written("red/b.png", b"")
    pipe("under.png")
    for name, reason in (("under.png", "not a regular file"), ("./red", "is a folder")):
        ran = seglab("cutout", "a.png", "-o", "o", "--background", name)
        assert (ran.code, ran.error) == (3, f"cannot read the background `{Path(name)}`: {reason}")
    ran = seglab("cutout", "a.png", "-o", "o", "--background", "none.png")
    assert (ran.code, ran.error) == (3, "the background `none.png` does not exist")
    with pytest.raises(UsageError, match="is no colour"):
        parse_background("")


def test_45_a_recipe(seglab: Seglab, pipe: Callable[[str], Path], here: Path) -> None:
    pipe("mine")
    (here / "small").mkdir()
    ran = seglab("train", "--task", "person", "--data", "none", "--recipe", "mine")
    assert (ran.code, ran.error) == (3, "cannot read recipe `mine`: nobody writes to this pipe")
    ours, theirs = os.pipe()
    os.write(theirs, b'model = "unet-light"\n')
    os.close(theirs)
    assert load_recipe(f"/dev/fd/{ours}") == {"model": "unet-light"}
    os.close(ours)
    assert load_recipe("small"), "a folder is no recipe"


@pytest.mark.parametrize("verb", ["predict", "cutout"])
@pytest.mark.parametrize("options", [(), ("--overwrite",), ("--skip-existing",)])
def test_45_a_list_of_what_is_finished(
    seglab: Seglab, pipe: Callable[[str], Path], verb: str, options: tuple[str, ...]
) -> None:
    written("p/a.png", encoded(person()))
    for name in (".seglab-done.jsonl", ".seglab-done.1-of-2.jsonl"):
        place = pipe(f"{len(name)}/{name}")
        if name != ".seglab-done.jsonl":
            assert seglab(verb, "p", "-o", "o").code == 0
            Path(f"o/{name[:12]}.jsonl").rename(place.with_name(".seglab-done.jsonl"))
        ran = seglab(verb, "p", "-o", str(place.parent), *options)
        assert (ran.code, ran.error) == (2, f"`{place}` is a pipe or a device, not a list that seglab wrote")
        assert f"`{place}`" in ran.hint
        assert place.is_fifo()


def test_45_a_list_of_cutouts_beside_their_photos(seglab: Seglab, pipe: Callable[[str], Path]) -> None:
    written("a.png", encoded(person()))
    place = pipe(".seglab-files.jsonl")
    ran = seglab("cutout", "a.png", "--skip-existing")
    assert (ran.code, ran.error) == (2, f"`{place}` is a pipe or a device, not a list that seglab wrote")
    assert seglab("cutout", "a.png").code == 0, "nothing is listed, so the list is of no matter"
    assert place.is_fifo()
