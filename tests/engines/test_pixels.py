import numpy as np
import pytest

from seglab.engines.pixels import Normaliser
from seglab.preprocess import Preprocess


def test_every_value_of_every_channel_is_the_formula_rounded_once() -> None:
    preprocess = Preprocess(size_hw=(16, 16), mean=(0.1, 0.5, 0.9), std=(0.2, 1.0, 3.0))
    pixels = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3, axis=-1)[None]
    expected = ((pixels / 255 - np.array(preprocess.mean)) / np.array(preprocess.std)).astype(np.float32)
    image = Normaliser(preprocess)(pixels)
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, expected.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("size_hw", [(1, 1), (7, 5), (1, 9), (33, 1)])
def test_any_size_batch_and_memory_layout(size_hw: tuple[int, int]) -> None:
    preprocess = Preprocess(size_hw=size_hw)
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (3, *size_hw, 6), dtype=np.uint8)
    for pixels in (wide[..., :3], wide[..., ::2], wide[::-1, :, ::-1, :3]):
        expected = (pixels / 255 - np.array(preprocess.mean)) / np.array(preprocess.std)
        np.testing.assert_allclose(Normaliser(preprocess)(pixels), expected.transpose(0, 3, 1, 2), atol=1e-6)


@pytest.mark.parametrize(
    "pixels", [np.zeros((1, 3, 8, 8), np.uint8), np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.float64)]
)
def test_other_arrays_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be uint8"):
        Normaliser(Preprocess(size_hw=(8, 8)))(pixels)


def test_floats_are_taken_for_normalised() -> None:
    image = np.random.default_rng(0).standard_normal((2, 5, 7, 3)).astype(np.float32)
    normalised = Normaliser(Preprocess(size_hw=(8, 8)))(image)
    assert normalised.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(normalised, image.transpose(0, 3, 1, 2))
