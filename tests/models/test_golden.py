"""The architectures that have originals compute what these do, from the originals' own key names."""

import json
from ast import literal_eval
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seglab.models import pix2pix, u2net, zoo
from seglab.models.outlines import rename_smp_key
from seglab.models.unet import rename_original_key
from tests.models import recipe
from tests.models.make_golden import STEPS, digest

GOLDEN_DIR = Path(__file__).parent / "golden"
STATEDICTS = json.loads((GOLDEN_DIR / "statedicts.json").read_text())
"""Name of an original's state_dict to its number of tensors, their digest, and the number of its parameters."""
BN = ("weight", "bias", "running_mean", "running_var")


def original_shapes(listing):
    lines = (GOLDEN_DIR / f"{listing}.keys.txt").read_text().splitlines()
    return {key: literal_eval(shape) for key, shape in (line.split(" ", 1) for line in lines)}


def assert_golden(name, output):
    step = STEPS[name]
    if name == "pix2pix_generator_edge":  # the original's output was stored at a quarter of its size
        step *= 4
    with np.load(GOLDEN_DIR / "outputs.npz") as outputs:
        expected = outputs[name]
    assert expected.size > 700
    np.testing.assert_allclose(output.numpy()[..., ::step, ::step], expected, rtol=1e-3, atol=1e-4)


def test_every_kind_of_original_is_held_to_its_outputs_and_keys():
    with np.load(GOLDEN_DIR / "outputs.npz") as outputs:
        assert set(outputs) == set(STEPS)
    assert len(STEPS) == 7
    tested = {*RENAMED, *SAME_NAMES, "pix2pix_discriminator_3_1"}
    assert tested == set(STATEDICTS)
    assert len(STATEDICTS) == 18


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


@pytest.mark.parametrize(("name", "model"), [("u2net_cloth_out4", "u2net"), ("u2netp_out4", "u2netp")])
def test_u2net_originals(name, model):
    segmenter = zoo.build(model, 4).eval()
    shapes = {key: tuple(tensor.shape) for key, tensor in segmenter.state_dict().items()}
    assert digest(shapes) == STATEDICTS[name][:2], "not the originals' keys and shapes"
    segmenter.load_state_dict(recipe.weights(shapes), strict=True)
    with torch.no_grad():
        assert_golden(name, segmenter(recipe.image(name, (96, 80)))[0])


@pytest.mark.parametrize("form", ["plain", "edge"])
def test_pix2pix_generators(form):
    shapes = original_shapes("pix2pix_generator_3_1")
    name = "pix2pix_generator_3ch"
    image_BCHW = recipe.image(name, (256, 256))
    if form == "edge":
        name = "pix2pix_generator_edge"
        shapes["initDown.0.weight"] = (64, 4, 4, 4)
        image_BCHW = 3 * F.avg_pool2d(recipe.image(name, (256, 256)), 7, 1, 3)
    original = recipe.weights(shapes)
    assert pix2pix.form_of(original) == form
    segmenter = zoo.build("pix2pix", 2, form=form).eval()
    segmenter.load_state_dict({pix2pix.rename_original_key(key): tensor for key, tensor in original.items()})
    with torch.no_grad():
        logits_BKHW = segmenter(image_BCHW)[0]
    tanh_B1HW = pix2pix.soft_mask(logits_BKHW)
    assert_golden(name, tanh_B1HW)
    assert torch.equal(logits_BKHW.argmax(dim=1, keepdim=True) == 1, tanh_B1HW > 0)
    torch.testing.assert_close(logits_BKHW.softmax(dim=1)[:, 1:], (tanh_B1HW + 1) / 2)


def test_pix2pix_discriminator():
    original = recipe.weights(original_shapes("pix2pix_discriminator_3_1"))
    discriminator = pix2pix.Discriminator().eval()
    discriminator.load_state_dict({pix2pix.rename_original_key(key): tensor for key, tensor in original.items()})
    both_BCHW = recipe.image("pix2pix_discriminator", (128, 128), channels=4)
    with torch.no_grad():
        assert_golden("pix2pix_discriminator", discriminator(both_BCHW[:, :3], both_BCHW[:, 3:]))


RENAMED = {
    "pgn_unet6": ("pgn_unet6", "unet", 6, {"form": "plain"}),
    "pgn_unet2_small": ("pgn_unet6", "unet", 2, {"form": "plain", "width": 32}),
    "helen_unet11": ("helen_unet11", "unet", 11, {"form": "milesial"}),
    "pix2pix_generator_3_1": ("pix2pix_generator_3_1", "pix2pix", 2, {}),
    "pix2pix_generator_edge_3_1": ("pix2pix_generator_3_1", "pix2pix", 2, {"form": "edge"}),
    "pix2pix_res2pix_3_1": ("pix2pix_res2pix_3_1", "pix2pix", 2, {"form": "res2pix"}),
}
"""An original's state_dict: the listing that has its names, and our network."""


@pytest.mark.parametrize("original", RENAMED)
def test_renamed_keys_and_shapes_are_the_originals(original):
    listing, name, num_classes, args = RENAMED[original]
    with torch.device("meta"):
        network = zoo.build(name, num_classes, **args)
    ours = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    names = {}
    for key in original_shapes(listing):
        renamed = rename_original_key(key) if name == "unet" else pix2pix.rename_original_key(key)
        names[key] = renamed[1] if isinstance(renamed, tuple) else renamed
    assert set(names.values()) == set(ours)
    shapes = {key: ours[our_key] for key, our_key in names.items()}
    assert [*digest(shapes), num_parameters(network)] == STATEDICTS[original]


def test_discriminator_keys_and_shapes_are_the_originals():
    with torch.device("meta"):
        network = pix2pix.Discriminator()
    ours = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    original = original_shapes("pix2pix_discriminator_3_1")
    assert {pix2pix.rename_original_key(key): shape for key, shape in original.items()} == ours
    assert [*digest(original), num_parameters(network)] == STATEDICTS["pix2pix_discriminator_3_1"]


def _smp(name):
    return lambda: zoo.build(name, 7)


UNUSED_HEAD = {"encoder.conv_head.weight": (1536, 384, 1, 1), "encoder.bn2.num_batches_tracked": ()} | {
    f"encoder.bn2.{key}": (1536,) for key in BN
}
"""Tensors of the original that have no part in its output: ours has not got them."""
SAME_NAMES = {
    "u2net_out1": (lambda: u2net.u2net(1), {}),
    "u2net_cloth_out4": (lambda: zoo.build("u2net", 4), {}),
    "u2netp_out1": (lambda: u2net.u2netp(1), {}),
    "u2netp_out4": (lambda: zoo.build("u2netp", 4), {}),
    "smp030_deeplabv3_mobilenet_v2": (_smp("deeplabv3-mobilenet_v2"), {}),
    "smp060_deeplabv3_mobilenet_v2": (_smp("deeplabv3-mobilenet_v2"), {}),
    "smp030_fpn_mobilenet_v2": (_smp("fpn-mobilenet_v2"), {}),
    "smp030_unet_mobilenet_v2": (_smp("unet-mobilenet_v2"), {}),
    "smp030_unet_resnext101_32x8d": (_smp("unet-resnext101_32x8d"), {}),
    "smp030_unet_timm-efficientnet-b3": (_smp("unet-timm-efficientnet-b3"), UNUSED_HEAD),
    "smp030_unet_vgg19": (_smp("unet-vgg19"), {}),
}
"""An original's state_dict: our network with its names, and what it has beyond ours."""


@pytest.mark.parametrize("original", SAME_NAMES)
def test_keys_and_shapes_are_the_originals(original):
    build, unused = SAME_NAMES[original]
    with torch.device("meta"):
        network = build()
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    if original == "smp030_deeplabv3_mobilenet_v2":
        old = {"decoder.aspp.": "decoder.0.", "decoder.conv.": "decoder.1.", "decoder.bn.": "decoder.2."}
        renamed = {
            next((old[new] + key.removeprefix(new) for new in old if key.startswith(new)), key): shape
            for key, shape in shapes.items()
        }
        assert {rename_smp_key(key): shape for key, shape in renamed.items()} == shapes
        shapes = renamed
    assert not unused.keys() & shapes.keys()
    num_unused = sum(int(np.prod(shape)) for key, shape in unused.items() if key.endswith(("weight", "bias")))
    assert [*digest(shapes | unused), num_parameters(network) + num_unused] == STATEDICTS[original]


def num_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    "key",
    ["head.weight", "down1.doubleconv.convolution.1.weight", "outc.weight", "stage1.rebnconvin.conv_s1.weight",
     "module.outc.conv.weight", "inc.double_conv.2.weight"],
)  # fmt: skip
def test_other_keys_are_not_renamed(key):
    assert rename_original_key(key) is None


@pytest.mark.parametrize(
    "key", ["down7.layers.0.weight", "up8.layers.0.weight", "down1.layers.2.weight", "final.1.weight", "head.weight",
            "resBlocks.5.conv1.weight", "middleLayers.3.layers.0.weight", "initDown.0", "stage1.initDown.0.weight"]
)  # fmt: skip
def test_other_keys_are_not_renamed_for_pix2pix(key):
    assert pix2pix.rename_original_key(key) is None
