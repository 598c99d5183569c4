import itertools
from ast import literal_eval

import pytest
import torch
from torch.nn import functional as F

from seglab.errors import UsageError
from seglab.models import pix2pix, zoo
from tests.models import recipe
from tests.models.networks import picture
from tests.models.test_golden import GOLDEN_DIR


def reference(weights, image, *, residual):
    """The generators as tables of layers describe them, on the original's tensors; their output before the tanh."""

    def norm(features, name):
        mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return F.batch_norm(features, mean, var, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def down(features, name, bias=None, mode="reflect"):
        return F.conv2d(F.pad(features, (1, 1, 1, 1), mode=mode), weights[f"{name}.weight"], bias, stride=2)

    features = F.leaky_relu(down(image, "initDown.0", weights["initDown.0.bias"]), 0.2)
    skips = [features]
    for number in range(1, 7):
        features = norm(down(features, f"down{number}.layers.0"), f"down{number}.layers.1")
        features = F.leaky_relu(features, 0.2)
        skips.append(features)
    features = F.relu(down(features, "bottleNeck.0", weights["bottleNeck.0.bias"], mode="constant"))
    for number in range(1, 8):
        features = F.conv_transpose2d(features, weights[f"up{number}.layers.0.weight"], stride=2, padding=1)
        features = torch.cat((F.relu(norm(features, f"up{number}.layers.1")), skips.pop()), 1)
    name = "final" if residual else "final.0"
    features = F.conv_transpose2d(features, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2, padding=1)
    if not residual:
        return features

    def convolve(features, name):
        return F.conv2d(features, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    for number in range(5):
        inner = F.leaky_relu(convolve(features, f"resBlocks.{number}.conv1"), 0.2)
        features = features + F.leaky_relu(convolve(inner, f"resBlocks.{number}.conv2"), 0.2)
    return convolve(features, "finalBlock.0")


@pytest.mark.parametrize(("form", "listing"), [("plain", "pix2pix_generator_3_1"), ("res2pix", "pix2pix_res2pix_3_1")])
def test_a_generator_is_what_its_layers_say(form, listing):
    lines = (GOLDEN_DIR / f"{listing}.keys.txt").read_text().splitlines()
    weights = recipe.weights({key: literal_eval(shape) for key, shape in (line.split(" ", 1) for line in lines)})
    assert pix2pix.form_of(weights) == form
    segmenter = zoo.build("pix2pix", 2, form=form).eval()
    segmenter.load_state_dict({pix2pix.rename_original_key(key): tensor for key, tensor in weights.items()})
    image = picture(1, 3, 256, 256)
    with torch.no_grad():
        expected = reference(weights, image, residual=form == "res2pix")
        logits_BKHW = segmenter(image)[0]
    scale = float(expected.abs().max())
    torch.testing.assert_close(logits_BKHW[:, 1:], 2 * expected, rtol=1e-4, atol=1e-5 * scale)
    assert not logits_BKHW[:, 0].any()


@pytest.mark.parametrize("form", pix2pix.FORMS)
def test_the_form_is_seen_in_our_own_weights_too(form):
    assert pix2pix.form_of(zoo.build("pix2pix", 3, form=form, width=2).state_dict()) == form


@pytest.mark.parametrize(
    "shapes",
    [{}, {"initDown.0.weight": (64, 5, 4, 4)}, {"initDown.0.weight": (64,)},
     {"initDown.0.weight": (64, 4, 4, 4), "finalBlock.0.weight": (1, 64, 3, 3)}],
)  # fmt: skip
def test_other_weights_have_no_form(shapes):
    assert pix2pix.form_of({name: torch.zeros(shape) for name, shape in shapes.items()}) is None


def test_edges_by_counting():
    levels = torch.tensor([-1.0, -0.8, -0.4, 0.1, 0.45, 0.5])
    chosen = torch.randint(6, (2, 1, 7, 5), generator=torch.Generator().manual_seed(0))
    grey = levels[chosen]
    image = grey + torch.tensor([0.02, -0.05, 0.03])[:, None, None]
    edges = pix2pix.find_edges(image)
    assert edges.shape == grey.shape
    for b, y, x in itertools.product(range(2), range(7), range(5)):
        left = x > 0 and abs(grey[b, 0, y, x] - grey[b, 0, y, x - 1]) > 0.32
        above = y > 0 and abs(grey[b, 0, y, x] - grey[b, 0, y - 1, x]) > 0.32
        assert edges[b, 0, y, x] == float(left or above)
    assert 0.2 < edges.mean() < 0.9


def test_padding_makes_no_edges():
    segmenter = zoo.build("pix2pix", 2, form="edge", width=2)
    seen = []
    segmenter.down[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    segmenter.eval()(torch.full((1, 3, 10, 20), 0.7))
    assert seen[0].shape == (1, 4, 256, 256)
    assert not seen[0][:, 3].any()


def test_soft_masks():
    logits_BKHW = 5 * picture(2, 2, 6, 7)
    expected = 2 * logits_BKHW.softmax(dim=1)[:, 1:] - 1
    torch.testing.assert_close(pix2pix.soft_mask(logits_BKHW), expected)
    several = pix2pix.soft_mask(5 * picture(2, 4, 6, 7))
    assert several.shape == (2, 4, 6, 7)
    torch.testing.assert_close(several.sum(dim=1), torch.full((2, 6, 7), -2.0))


def test_dropout_works_in_training_only():
    torch.manual_seed(0)
    segmenter = zoo.build("pix2pix", 2, width=4).train()
    image = picture(2, 3, 64, 64)
    assert not torch.equal(segmenter(image)[0], segmenter(image)[0])
    assert [module.p for module in segmenter.modules() if isinstance(module, torch.nn.Dropout)] == [0.5] * 3 + [0.0] * 4
    refined = zoo.build("pix2pix", 2, form="res2pix", width=2).refine
    assert [block.dropout.p for block in refined[:-1]] == [0.0] * 4 + [0.5]


@pytest.mark.parametrize(("side", "num_positions"), [(256, 60), (128, 28), (20, 1)])
def test_the_discriminator_judges_by_position(side, num_positions):
    discriminator = pix2pix.Discriminator(width=4)
    logits = discriminator(picture(2, 3, side, side), picture(2, 1, side, side))
    assert logits.shape == (2, 1, num_positions, num_positions)


@pytest.mark.parametrize(("channels", "least"), [((4,), 8), ((4, 6), 16), ((4, 6, 8), 18), ((4, 4, 4, 4, 4), 22)])
def test_a_discriminator_of_any_depth_knows_the_smallest_picture(channels, least):
    discriminator = pix2pix.Discriminator(channels=channels)
    assert discriminator.least == least
    assert discriminator(picture(2, 3, least, least), picture(2, 1, least, least)).shape == (2, 1, 1, 1)
    with pytest.raises(UsageError, match="cannot judge"):
        discriminator(picture(2, 3, least - 1, least), picture(2, 1, least - 1, least))


def test_the_discriminator_refuses_tiny_pictures():
    with pytest.raises(UsageError, match="cannot judge 19x40 pixels") as caught:
        pix2pix.Discriminator()(picture(2, 3, 19, 40), picture(2, 1, 19, 40))
    assert "20 pixels" in caught.value.hint


@pytest.mark.parametrize("num_classes", [2, 3])
def test_both_sides_of_the_game_learn(num_classes):
    torch.manual_seed(0)
    generator = zoo.build("pix2pix", num_classes, width=4)
    image = picture(2, 3, 64, 64)
    mask = pix2pix.soft_mask(generator(image)[0])
    assert mask.abs().max() <= 1
    discriminator = pix2pix.Discriminator(mask.shape[1], width=4)
    discriminator(image, mask).square().mean().backward()
    for network in (generator, discriminator):
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("args", "message"),
    [({"form": "edges"}, "no form of `pix2pix` is called `edges`"), ({"width": 0}, "`width` of `pix2pix` is `0`"),
     ({"width": True}, "`width` of `pix2pix` is `True`"), ({"features": 8}, "no argument of `pix2pix` is called")],
)  # fmt: skip
def test_wrong_arguments(args, message):
    with pytest.raises(UsageError) as caught:
        zoo.build("pix2pix", 2, **args)
    assert caught.value.message.startswith(message)
