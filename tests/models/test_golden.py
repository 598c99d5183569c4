"""The architectures that have originals compute what these do, from the originals' own key names."""

import hashlib
from ast import literal_eval
from pathlib import Path

import numpy as np
import pytest
import torch

from seglab.models import zoo
from seglab.models.unet import rename_original_key
from tests.models import recipe
from tests.models.make_golden import STEP

GOLDEN_DIR = Path(__file__).parent / "golden"


def original_shapes(name):
    lines = (GOLDEN_DIR / f"{name}.keys.txt").read_text().splitlines()
    return {key: literal_eval(shape) for key, shape in (line.split(" ", 1) for line in lines)}


def assert_golden(name, output):
    with np.load(GOLDEN_DIR / "outputs.npz") as outputs:
        expected = outputs[name]
    assert expected.size > 700
    np.testing.assert_allclose(output.numpy()[..., ::STEP, ::STEP], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "listing", "form", "num_classes", "num_keys"),
    [
        ("pgn_unet6", "pgn_unet6", "plain", 6, 46),
        ("helen_unet11_softmax", "helen_unet11", "milesial", 11, 136),
    ],
)
def test_unet_originals(name, listing, form, num_classes, num_keys):
    original = recipe.weights(original_shapes(listing))
    renamed = {}
    for key, tensor in original.items():
        found_form, our_key = rename_original_key(key)
        assert found_form == form
        renamed[our_key] = tensor
    assert len(renamed) == len(original) == num_keys
    segmenter = zoo.build("unet", num_classes, form=form).eval()
    segmenter.load_state_dict(renamed, strict=True)
    with torch.no_grad():
        logits = segmenter(recipe.image(name, (64, 48)))[0]
    assert_golden(name, logits.softmax(dim=1) if name.endswith("softmax") else logits)


@pytest.mark.parametrize(
    ("name", "model", "shapes_sha256"),
    [
        ("u2net_cloth_out4", "u2net", "8362bee03cbdba8232840ee62940beb3aaea9fe080289ef73d230bd91071c341"),
        ("u2netp_out4", "u2netp", "8ea18e9c73757d478a08683d7b67c54984ef0309d78a5b16980fd8cafb8988af"),
    ],
)
def test_u2net_originals(name, model, shapes_sha256):
    segmenter = zoo.build(model, 4).eval()
    shapes = {key: tuple(tensor.shape) for key, tensor in segmenter.state_dict().items()}
    listing = "\n".join(f"{key} {shape}" for key, shape in shapes.items())
    assert hashlib.sha256(listing.encode()).hexdigest() == shapes_sha256, "not the originals' keys and shapes"
    segmenter.load_state_dict(recipe.weights(shapes), strict=True)
    with torch.no_grad():
        assert_golden(name, segmenter(recipe.image(name, (96, 80)))[0])


@pytest.mark.parametrize(
    "key",
    ["head.weight", "down1.doubleconv.convolution.1.weight", "outc.weight", "stage1.rebnconvin.conv_s1.weight",
     "module.outc.conv.weight", "inc.double_conv.2.weight"],
)  # fmt: skip
def test_other_keys_are_not_renamed(key):
    assert rename_original_key(key) is None
