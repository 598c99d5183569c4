"""``--fidelity original``: the label maps of the originals' own code, pixel by pixel."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import transform

from seglab.data.images import ImageError, read_photo
from seglab.device import Device
from seglab.errors import UsageError
from seglab.inference.fidelity import ROADS, skimage_resize
from seglab.inference.manner import Manner
from seglab.inference.model import choose_model
from seglab.models.verification import photo_like
from tests.inference import published
from tests.models import recipe

CPU = Device("cpu", None, "test")
AGREEMENT = 0.999


def photo(height, width, seed=0):
    return photo_like((1, height, width), seed)[0]


def answer(path, image, fidelity="original", bn=None):
    predictor = choose_model(None, str(path), Manner(fidelity, bn)).open(CPU)
    return predictor.labels([image])[0]


def publish(net, path, prefix="", head=None):
    """Give a network random weights, save them as the original did, and return it.

    A ``head`` that is named gets biases that let no class be the largest everywhere.
    """
    net.load_state_dict(recipe.weights({name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}))
    if head is not None:
        with torch.no_grad():
            logits = net.eval()(published.normalised(photo(128, 128), published.IMAGENET))
            net.get_submodule(head).bias -= logits.mean(dim=(0, 2, 3))
    torch.save({prefix + name: tensor for name, tensor in net.state_dict().items()}, path)
    return net


def assert_agrees(found, expected):
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    shares = np.bincount(expected.ravel().astype(int)) / expected.size
    assert (shares > 0.01).sum() >= 2, "one class is everywhere: any code would agree"
    assert (found == expected).mean() >= AGREEMENT


@pytest.mark.parametrize("size_hw", [(160, 96), (90, 122), (231, 87)])
def test_helen(tmp_path, size_hw):
    net = publish(published.HelenUNet(11, 8), tmp_path / "a.pt")
    image = photo(*size_hw)
    expected = published.helen(net, image)
    assert_agrees(answer(tmp_path / "a.pt", image), expected)
    # Running statistics are another network; the division by 255 that they need is made.
    assert (answer(tmp_path / "a.pt", image, bn="running") == expected).mean() < AGREEMENT


def test_helen_with_the_statistics_of_training(tmp_path):
    net = publish(published.HelenUNet(11, 8), tmp_path / "a.pt").eval()
    image = photo(90, 122)
    with torch.no_grad():
        expected = net(torch.from_numpy(image.transpose(2, 0, 1)[None] / np.float32(255))).argmax(1)[0].numpy()
    assert_agrees(answer(tmp_path / "a.pt", image, bn="running"), expected.astype(np.uint8))


@pytest.mark.parametrize(("size_hw", "reason"), [((100, 90), "same remainder by 16"), ((16, 16), "too small")])
def test_helen_refuses_what_the_original_cannot_process(tmp_path, size_hw, reason):
    net = publish(published.HelenUNet(11, 8), tmp_path / "a.pt")
    image = photo(*size_hw)
    with pytest.raises((RuntimeError, ValueError)):
        published.helen(net, image)
    with pytest.raises(ImageError, match=reason):
        answer(tmp_path / "a.pt", image)
    assert answer(tmp_path / "a.pt", image, "seglab").shape == size_hw


@pytest.mark.parametrize("size_hw", [(97, 130), (128, 64)])
def test_cloth(tmp_path, size_hw):
    net = publish(published.u2netp(4), tmp_path / "a.pth", "module.")
    image = photo(*size_hw)
    assert_agrees(answer(tmp_path / "a.pth", image), published.cloth(net, image))


@pytest.mark.parametrize("size_hw", [(480, 361), (90, 70)])
def test_saliency(tmp_path, size_hw):
    net = publish(published.u2netp(1), tmp_path / "a.pth")
    image = photo(*size_hw)
    expected = published.saliency_map(net, image)
    assert_agrees(answer(tmp_path / "a.pth", image), (expected > 127).astype(np.uint8))
    predictor = choose_model(None, str(tmp_path / "a.pth"), Manner("original")).open(CPU)
    alpha = 255 * predictor.alpha([image], [1])[0]
    assert np.abs(alpha - expected).max() <= 1.001  # Truncation to 8 bits may fall to either side.
    assert (np.rint(alpha) == expected).mean() >= AGREEMENT
    np.testing.assert_allclose(predictor.alpha([image], [0])[0], 1 - alpha / 255, atol=1e-6)


@pytest.mark.parametrize("form", ["plain", "edge", "res2pix"])
@pytest.mark.parametrize("size_hw", [(183, 240), (256, 256), (520, 300)])
def test_person(tmp_path, form, size_hw):
    net = publish(published.Generator(form, 8), tmp_path / "model_gen_final.pth")
    image = photo(*size_hw)
    expected = published.person(net, image).astype(np.uint8)
    assert_agrees(answer(tmp_path / "model_gen_final.pth", image), expected)


@pytest.mark.parametrize("size_hw", [(256, 256), (300, 171)])
def test_parsing(tmp_path, size_hw):
    net = publish(published.PgnUNet(6, 8), tmp_path / "best_model.pth")
    image = photo(*size_hw)
    expected = published.enlarged(published.parsing(net, image), image)
    assert_agrees(answer(tmp_path / "best_model.pth", image), expected)


def test_parsing_of_two_classes(tmp_path):
    net = publish(published.PgnUNet(2, 8), tmp_path / "a.pth")
    image = photo(512, 512)
    assert_agrees(answer(tmp_path / "a.pth", image), published.parsing(net, image, 512))


@pytest.mark.parametrize("size_hw", [(512, 512), (333, 500)])
def test_parts(tmp_path, size_hw):
    net = publish(published.deeplab(), tmp_path / "a.pt", head="segmentation_head.0")
    image = photo(*size_hw)
    expected = published.enlarged(published.parts(net, image), image)
    assert_agrees(answer(tmp_path / "a.pt", image), expected)


def test_our_way_is_another_but_near(tmp_path):
    net = publish(published.PgnUNet(6, 8), tmp_path / "a.pth")
    image = photo(300, 171)
    expected = published.enlarged(published.parsing(net, image), image)
    ours = answer(tmp_path / "a.pth", image, "seglab")
    assert 0.3 < (ours == expected).mean() < AGREEMENT


@pytest.mark.parametrize(
    "size_hw", [(320, 320), (100, 90), (480, 361), (321, 319), (1000, 640), (200, 1000), (2, 3), (1, 1)]
)
@pytest.mark.parametrize("constant", [False, True])
def test_resizing_is_that_of_skimage(size_hw, constant):
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    if constant:
        image[:] = 200
    expected = transform.resize(image, (320, 320), mode="constant")
    np.testing.assert_allclose(skimage_resize(image, (320, 320)), expected, rtol=0, atol=1e-14)


def test_a_photo_without_anything_salient_has_no_nan(tmp_path):
    net = published.u2netp(1)
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    predictor = choose_model(None, str(tmp_path / "a.pth"), Manner("original")).open(CPU, batch_size=2)
    for labels in predictor.labels([np.full((40, 50, 3), value, np.uint8) for value in (0, 128)]):
        assert not labels.any()


def test_photos_of_any_sizes_are_answered_as_alone(tmp_path):
    publish(published.HelenUNet(11, 8), tmp_path / "a.pt")
    images = [photo(64, 96, 1), photo(96, 64, 2), photo(64, 96, 3)]
    predictor = choose_model(None, str(tmp_path / "a.pt"), Manner("original")).open(CPU, batch_size=4)
    assert predictor.batch_size == 1
    for image, labels in zip(images, predictor.labels(images), strict=True):
        np.testing.assert_array_equal(labels, answer(tmp_path / "a.pt", image))


def test_batch_statistics_at_our_own_grid(tmp_path):
    """``--bn batch`` alone: our resizing, the photo's statistics, nothing of its neighbours in the batch."""
    publish(published.HelenUNet(11, 8), tmp_path / "a.pt")
    images = [photo(100, 90, 1), photo(70, 120, 2)]
    predictor = choose_model(None, str(tmp_path / "a.pt"), Manner(bn="batch")).open(CPU, batch_size=2)
    together = predictor.labels(images)
    np.testing.assert_array_equal(together[0], answer(tmp_path / "a.pt", images[0], "seglab", "batch"))
    assert (together[0] != answer(tmp_path / "a.pt", images[0], "seglab")).mean() > 0.01


def test_manners_that_make_no_sense_are_refused(tmp_path):
    publish(published.PgnUNet(6, 8), tmp_path / "a.pth")
    for values, message in ((("orginal",), "fidelity"), (("seglab", "batched"), "--bn")):
        with pytest.raises(UsageError, match=message):
            Manner(*values)
    with pytest.raises(UsageError, match="no batch normalisation"):
        choose_model(None, str(tmp_path / "a.pth"), Manner(bn="batch")).open(CPU)
    with pytest.raises(UsageError, match="cannot do `--bn batch`"):
        choose_model(None, str(tmp_path / "a.pth"), Manner(bn="batch")).open(CPU, engine="onnxruntime")


def test_it_is_said_what_was_recognised(tmp_path):
    publish(published.HelenUNet(11, 8), tmp_path / "x.pt")
    about = choose_model(None, str(tmp_path / "x.pt"), Manner("original")).open(CPU).about
    for words in ("U-Net for faces", "HimankSehgal", "11 classes", "as its own code does"):
        assert words in about


def test_every_original_has_a_road():
    from seglab.models.originals import ORIGINALS

    assert {original.road for original in ORIGINALS.values()} <= set(ROADS)


@pytest.mark.real
@pytest.mark.skipif("SEGLAB_REAL_DATA" not in os.environ, reason="SEGLAB_REAL_DATA is not set")
def test_real_photos(tmp_path):
    """The same on photographs; larger ones are cut so that the native-size networks stay quick."""
    saliency = publish(published.u2netp(1), tmp_path / "saliency.pth")
    cloth = publish(published.u2netp(4), tmp_path / "cloth.pth", "module.")
    person = publish(published.Generator("plain", 8), tmp_path / "person.pth")
    paths = sorted(Path(os.environ["SEGLAB_REAL_DATA"], "photos").iterdir())
    paths = [path for path in paths if path.suffix.lower() in (".jpg", ".png")][:5]
    assert paths
    for path in paths:
        image = read_photo(path).image
        expected = published.saliency_map(saliency, image) > 127
        assert (answer(tmp_path / "saliency.pth", image) == expected).mean() >= AGREEMENT
        assert (answer(tmp_path / "person.pth", image) == published.person(person, image)).mean() >= AGREEMENT
        small = np.asarray(Image.fromarray(image).resize((241, 183)))
        assert (answer(tmp_path / "cloth.pth", small) == published.cloth(cloth, small)).mean() >= AGREEMENT
