"""``seglab.add_mask`` and ``seglab.get_mask`` against a plain re-writing of the original's ``mask.py``."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms import functional as TF

import seglab
from seglab.data.images import ImageError
from seglab.device import Device
from seglab.errors import UsageError
from seglab.inference.manner import Manner
from seglab.inference.model import choose_model
from seglab.inference.predictor import Predictor
from seglab.preprocess import Preprocess
from tests.inference import published
from tests.models import recipe

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def plain_add(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Half to even by hand, in double precision."""
    halves = (mask.astype(np.float64) + 1) / 2
    down = np.floor(halves)
    up = (halves - down > 0.5) | ((halves - down == 0.5) & (down % 2 == 1))
    return (image.astype(np.float64) + 1) / 2 * (down + up)


@torch.no_grad()
def plain_get(generator: torch.nn.Module, image: Image.Image) -> torch.Tensor:
    x = TF.normalize(TF.to_tensor(TF.resize(image, [256, 256])), *HALF).unsqueeze(0)
    mask = generator.eval()(x)
    if mask.shape[-2:] != (image.height, image.width):
        mask = F.interpolate(mask, size=(image.height, image.width), mode="bicubic", align_corners=False)
    return mask


def scene(height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(height)
    coarse = random.integers(0, 256, (7, 9, 3)).astype(np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))


def test_rounding_is_half_to_even_and_overshoot_is_not_clipped() -> None:
    mask = np.array([-3.2, -3, -1.4, -1, -0.2, 0, 1e-6, 0.2, 1, 1.4, 2, 2.2, 3, 3.4], np.float32)
    image = np.full_like(mask, 0.5)
    added = seglab.add_mask(torch.from_numpy(image)[None, None], torch.from_numpy(mask)[None, None])[0, 0].numpy()
    np.testing.assert_array_equal(np.abs(added), np.abs(plain_add(image, mask)))
    assert added[mask == 0] == 0, "a tanh of 0 is background"
    assert added[mask == 2] == 1.5, "1.5 rounds to 2"
    assert added[mask == 3] == 1.5, "and so does 2"


@pytest.mark.parametrize("shape", [(1, 3, 17, 23), (3, 17, 23), (4, 3, 8, 8)])
def test_adding_a_mask_is_the_originals(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    image = random.uniform(-1, 1, shape).astype(np.float32)
    mask = random.uniform(-1.3, 1.3, (*shape[:-3], 1, *shape[-2:])).astype(np.float32)
    mask.ravel()[::5] = 0
    added = seglab.add_mask(torch.from_numpy(image), torch.from_numpy(mask))
    assert added.shape == shape
    np.testing.assert_allclose(added.numpy(), plain_add(image, mask), rtol=0, atol=1e-7)
    assert (added.numpy()[np.broadcast_to(mask, shape) <= 0] == 0).all()


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """The original's network, narrow, with weights that draw something, and the file that it saves."""
    network = published.Generator("plain", 8)
    network.load_state_dict(recipe.weights({name: tuple(value.shape) for name, value in network.state_dict().items()}))
    path = tmp_path_factory.mktemp("saves") / "model_gen_final.pth"
    torch.save(network.state_dict(), path)
    return network.eval(), path


@pytest.mark.slow
@pytest.mark.parametrize("size_hw", [(256, 256), (301, 190), (100, 333)])
def test_getting_a_mask_is_the_originals(generator, size_hw: tuple[int, int], tmp_path: Path) -> None:
    network, path = generator
    image = scene(*size_hw)
    expected = plain_get(network, Image.fromarray(image))
    Image.fromarray(image).save(tmp_path / "a.png")
    predictor = choose_model(None, str(path)).open(Device("cpu", None, ""))
    for form in (tmp_path / "a.png", image, Image.fromarray(image)):
        mask = seglab.get_mask(form, predictor)
        assert mask.shape == (1, 1, *size_hw)
        assert mask.dtype == torch.float32
        np.testing.assert_allclose(mask.numpy(), expected.numpy(), atol=2e-4)
    assert size_hw == (256, 256) or expected.std() > 0.02, "the network draws something"
    np.testing.assert_allclose(seglab.get_mask(image, path).numpy(), expected.numpy(), atol=2e-4)


@pytest.mark.slow
def test_a_hard_cutout_on_black_is_the_originals_pair(generator, tmp_path: Path) -> None:
    """``cutout --fidelity original --threshold 0.5 --background black`` repeats ``addMask(image, getMask(image))``."""
    network, path = generator
    image = scene(301, 190)
    mask = plain_get(network, Image.fromarray(image)).numpy()[0, 0]
    expected = image * (np.round((mask.astype(np.float64) + 1) / 2) >= 1)[..., None]
    predictor = choose_model(None, str(path), Manner("original")).open(Device("cpu", None, ""))
    result = predictor(image)
    ours = result.cutout(threshold=0.5, background="black")
    assert (ours != expected).any(axis=2).mean() < 1e-3
    with pytest.raises(UsageError, match=r"threshold at 0\.5"):
        result.cutout(threshold=0.4)
    with pytest.raises(UsageError, match="--matting"):
        result.cutout(matting=True)


class Steps:
    """A network whose tanh is nearly 1 left and nearly -1 right of the middle, and that remembers what it saw."""

    name, reason, device, precision, notes = "steps", "", Device("cpu", None, ""), "fp32", ()

    def __call__(self, pixels_BHWC: np.ndarray) -> np.ndarray:
        self.seen = pixels_BHWC
        num, height, width, _ = pixels_BHWC.shape
        logits = np.zeros((num, 2, height, width), np.float32)
        logits[:, 1, :, : width // 2] = 20
        logits[:, 1, :, width // 2 :] = -20
        return logits


def steps(model, num_classes: int = 2) -> Predictor:
    task = replace(model.config.task, classes=("background", "red"), palette=((0, 0, 0), (255, 0, 0)), foreground=())
    model.config.task = task if num_classes == 2 else model.config.task
    model.config.preprocess = Preprocess(size_hw=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)
    return Predictor(Steps(), model.config)


def test_bicubic_interpolation_overshoots_and_is_left_so(model) -> None:
    mask = seglab.get_mask(scene(40, 40), steps(model))
    base = torch.cat([torch.ones(1, 1, 8, 4), -torch.ones(1, 1, 8, 4)], 3)
    expected = F.interpolate(base, size=(40, 40), mode="bicubic", align_corners=False)
    np.testing.assert_allclose(mask.numpy(), expected.numpy(), atol=1e-6)
    assert mask.max() > 1.05
    assert mask.min() < -1.05
    added = seglab.add_mask(torch.ones(1, 3, 40, 40), mask)
    assert set(np.unique(np.abs(added.numpy()))) == {0.0, 1.0}


def test_tensors_are_taken_as_they_are(model) -> None:
    predictor = steps(model)
    images = torch.rand(3, 3, 8, 8) * 2 - 1
    assert seglab.get_mask(images, predictor).shape == (3, 1, 8, 8)
    np.testing.assert_allclose(predictor.engine.seen, images.permute(0, 2, 3, 1).numpy(), atol=1e-6)
    larger = torch.rand(1, 3, 24, 16) * 2 - 1
    assert seglab.get_mask(larger, predictor).shape == (1, 1, 24, 16)
    expected = F.interpolate(larger, (8, 8), mode="bilinear", align_corners=False, antialias=True)
    np.testing.assert_allclose(predictor.engine.seen, expected.permute(0, 2, 3, 1).numpy(), atol=1e-6)


def test_what_has_no_mask_is_refused(model, tmp_path: Path) -> None:
    predictor = steps(model)
    for image in (torch.zeros(3, 8, 8), torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(UsageError):
            seglab.get_mask(image, predictor)
    with pytest.raises(ImageError):
        seglab.get_mask(tmp_path / "nowhere.jpg", predictor)
    good = torch.zeros(1, 3, 4, 4)
    for image, mask in (
        (good, torch.zeros(1, 1, 4, 5)),
        (good.byte(), good),
        (good, np.zeros((1, 1, 4, 4), np.float32)),
        (torch.tensor(1.0), torch.tensor(1.0)),
    ):
        with pytest.raises(UsageError):
            seglab.add_mask(image, mask)  # type: ignore[arg-type]


def test_a_mask_has_two_classes(model) -> None:
    with pytest.raises(UsageError, match="two classes"):
        seglab.get_mask(scene(8, 8), steps(model, 5))
