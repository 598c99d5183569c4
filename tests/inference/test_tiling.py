"""Large photos in tiles."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from seglab.device import Device
from seglab.errors import UsageError
from seglab.inference import tiling
from seglab.inference.tiling import Tiling, answer, parse_tiling

CPU = Device("cpu", None, "")


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blocks of the task's colours, so that nothing is between two classes."""
    rng = np.random.default_rng(seed)
    palette = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)], np.uint8)
    blocks = palette[rng.integers(0, 5, (-(-height // 7), -(-width // 7)))]
    return np.ascontiguousarray(blocks.repeat(7, 0).repeat(7, 1)[:height, :width])


def labels_of(predictor, image: np.ndarray, how: Tiling) -> np.ndarray:
    fitted = how.fit(image, predictor)
    logits, extras = answer(fitted, predictor)
    assert extras == {}
    return predictor.road.labels(logits, fitted.placement)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("size_hw", [(64, 64), (48, 96)])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_where_nothing_is_cut_tiled_equals_whole(build_model, fit: str, size_hw: tuple[int, int], batch_size) -> None:
    predictor = build_model(size_hw=size_hw, fit=fit).open(CPU, batch_size=batch_size)
    longer = max(size_hw)
    for height, width in ((31, 40), (64, 64), (1, 5), (size_hw[0] * 3, size_hw[1] * 3), (200, 300)):
        image = picture(height, width)
        side = 1 + max(height * longer // size_hw[0], width * longer // size_hw[1])
        for how in (Tiling(side), parse_tiling("none"), *([Tiling(0)] if max(height, width) <= 4 * longer else [])):
            fitted = how.fit(image, predictor)
            pixels, placement = predictor.fit(image)
            assert (fitted.placement, fitted.windows) == (placement, ())
            assert np.array_equal(fitted.tiles[0], pixels)
            (expected,) = predictor.labels([image])
            assert np.array_equal(labels_of(predictor, image, how), expected)


@pytest.mark.parametrize("size_hw", [(64, 64), (48, 96)])
@pytest.mark.parametrize("photo_hw", [(200, 150), (65, 64), (64, 300), (500, 70), (137, 211)])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_tiles_of_a_network_that_sees_no_context_are_the_whole_in_detail(
    build_model, size_hw: tuple[int, int], photo_hw: tuple[int, int], batch_size: int
) -> None:
    """At the scale of the photo, each pixel has the class of its own colour, in whatever tile it lies."""
    image = picture(*photo_hw)
    predictor = build_model(size_hw=size_hw, fit="pad").open(CPU, batch_size=batch_size)
    whole = build_model(size_hw=photo_hw).open(CPU)
    (expected,) = whole.labels([image])
    found = labels_of(predictor, image, Tiling(max(size_hw)))
    assert np.array_equal(found, expected)
    assert len(np.unique(expected)) == 5
    assert max(shape[0] for shape in predictor.engine.shapes) <= batch_size


def test_tiles_overlap_and_cover_everything_once_weighted(build_model) -> None:
    """Each tile gives a constant of its own: the mean of those that see a pixel, weighted, changes without a step."""
    predictor = build_model(size_hw=(32, 32)).open(CPU)
    counter = iter(range(1000))

    def constant(pixels):
        values = np.zeros((len(pixels), 5, 32, 32), np.float32)
        values[:, 1] = [[[next(counter)]] for _ in pixels]
        return values

    predictor.engine = constant
    fitted = Tiling(32).fit(np.zeros((32, 120, 3), np.uint8), predictor)
    logits, _ = answer(fitted, predictor)
    row = logits[1, 0]
    num = len(fitted.windows)
    assert num == 5
    assert (row[0], row[-1]) == (0, num - 1), "borders of the photo belong to one tile"
    assert np.ptp(logits[1], axis=0).max() < 1e-5
    steps = np.diff(row)
    assert (steps >= -1e-5).all()
    assert steps.max() < 0.3, "no seams"
    starts = [window[1].start for window in fitted.windows]
    assert all(later - earlier <= 24 for earlier, later in itertools.pairwise(starts)), "a quarter overlaps"
    assert (logits[0] == 0).all()


def test_auto_cuts_only_what_is_far_larger_than_the_grid(build_model) -> None:
    predictor = build_model(size_hw=(32, 32)).open(CPU)
    assert not Tiling(0).fit(np.zeros((128, 100, 3), np.uint8), predictor).windows
    fitted = Tiling(0).fit(np.zeros((200, 150, 3), np.uint8), predictor)
    assert fitted.placement.size_hw == (64, 48), "a tile sees half of the longer side"
    assert len(fitted.windows) == 6
    assert fitted.placement.source_hw == (200, 150)


def test_memory_is_bounded_by_larger_tiles(build_model, monkeypatch) -> None:
    predictor = build_model(size_hw=(32, 32)).open(CPU)
    image = np.zeros((400, 300, 3), np.uint8)
    assert Tiling(32).fit(image, predictor).placement.size_hw == (400, 300)
    monkeypatch.setattr(tiling, "MAX_VALUES", 5 * 100 * 75)
    assert Tiling(32).fit(image, predictor).placement.size_hw == (100, 75)


def test_what_a_model_says_beside_is_blended_too(build_model) -> None:
    predictor = build_model(size_hw=(32, 32)).open(CPU)
    engine = predictor.engine

    class WithEdges:
        extras = ("edge",)

        def with_extras(self, pixels):
            return engine(pixels), {"edge": pixels[..., :1].transpose(0, 3, 1, 2).astype(np.float32)}

    predictor.engine = WithEdges()
    image = picture(50, 90)
    fitted = Tiling(32).fit(image, predictor)
    logits, extras = answer(fitted, predictor)
    assert logits.shape == (5, 50, 90)
    np.testing.assert_allclose(extras["edge"], image[..., 0], atol=1e-3)
    small = Tiling(None).fit(image, predictor)
    _, extras = answer(small, predictor)
    np.testing.assert_array_equal(extras["edge"], small.tiles[0][..., 0])


def test_sizes_in_words() -> None:
    assert [parse_tiling(text).side for text in (None, "none", "auto", "512")] == [None, None, 0, 512]
    for text in ("", "0", "15", "-5", "12.5", "big", "99999999"):
        with pytest.raises(UsageError, match="is no size of tiles"):
            parse_tiling(text)


def test_the_command_cuts_photos_and_says_so(shell, save, build_model) -> None:
    save(Path("large.png"), picture(200, 300))
    save(Path("small.png"), picture(40, 50))
    shell.model = build_model(size_hw=(64, 64), fit="pad")
    result = shell("predict", "large.png", "small.png", "--tile", "64", "--json", "--batch-size", "3")
    assert result.code == 0
    assert [line.get("tiles") for line in result.lines] == [24, None]
    from PIL import Image

    with Image.open("seglab-masks/large.png") as stored:
        colours = np.array(shell.model.config.task.palette)[np.asarray(stored)]
    assert np.array_equal(colours, picture(200, 300)), "in full detail"
    result = shell("predict", "large.png", "small.png", "--skip-existing", "--json")
    assert [line.get("skipped") for line in result.lines] == [None, None], "tiles are another setting"
    assert shell("cutout", "large.png", "--tile", "64").code == 0
    assert shell("predict", "large.png", "--tile", "huge").code == 2


def test_the_code_of_no_original_cuts_photos(shell, save, build_model, names, monkeypatch) -> None:
    from seglab.inference.fidelity import ROADS
    from seglab.inference.predictor import Predictor

    save(Path("a.png"), picture(80, 80))
    model = shell.model
    monkeypatch.setattr(
        type(model), "open", lambda *_, **__: Predictor(model.engine, model.config, road=ROADS["nearest"])
    )
    result = shell("predict", "a.png", "--tile", "auto")
    assert (result.code, "which the code of no original does" in result.err) == (2, True)
    assert names(Path()) == ["a.png"]
