"""The Part Grouping Network against its listing of variables and a plain re-writing, and its pieces one by one."""

import copy
import hashlib

import numpy as np
import pytest
import torch

from seglab.errors import DataError, UsageError
from seglab.models import zoo
from seglab.models.dilated_resnet import DilatedResNet
from seglab.models.pgn import PGN, EdgeSide
from seglab.models.pgn_names import TF_MEAN, TF_STD, rename_tf_variable, tf_state
from seglab.models.same_windows import average_windows, enlarge, pad_for_stride_2
from seglab.models.segmenter import split_outputs
from tests.models import plain_pgn
from tests.models.networks import picture

SMALL = {"width": 4, "blocks": [1, 1, 1, 1]}
LISTING_SHA256 = "679793d71acff6309909a912dcf5d422107ed7bc4881a639e005b5e485e33370"
"""Of the published checkpoint's variables: lines `name 3x3x512x20`, sorted."""


def without_counters(network):
    return {key: tensor for key, tensor in network.state_dict().items() if not key.endswith("num_batches_tracked")}


def to_oihw(shape):
    return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape


def test_the_listing_is_the_published_one():
    shapes = plain_pgn.listing()
    lines = sorted(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == LISTING_SHA256
    assert (len(shapes), sum(np.prod(shape) for shape in shapes.values())) == (626, 164_945_017)


def test_the_full_network_has_the_published_variables():
    with torch.device("meta"):
        network = zoo.build("pgn", 20)
    ours = {key: tuple(tensor.shape) for key, tensor in without_counters(network).items()}
    assert ours == {rename_tf_variable(name): to_oihw(shape) for name, shape in plain_pgn.listing().items()}
    assert (len(ours), sum(np.prod(shape) for shape in ours.values())) == (626, 164_945_017)
    assert zoo.row("pgn").params == sum(p.numel() for p in network.parameters()) - 20 * (2 * 4609 + 128) + 2 * 9346


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("conv1/weights", "backbone.stem.conv.weight"),
        ("bn_conv1/moving_variance", "backbone.stem.norm.running_var"),
        ("bn2c_branch2b/beta", "backbone.res2.2.branch2b.norm.bias"),
        ("res4b22_branch2a/weights", "backbone.res4.22.branch2a.conv.weight"),
        ("edge_branch3/biases", "edge.taps.2.bias"),
        ("edge_branch/weights", "edge.fuse.weight"),
        ("parsing_rf_pp4/weights", "parsing_rf.pyramid.levels.3.weight"),
        ("parsing_rf_conv/biases", "parsing_rf.pyramid.merge.bias"),
        ("edge_pp_conv/weights", "edge.pyramid.merge.weight"),
        ("edge_rf_fc/weights", "edge_rf.head.weight"),
        ("fc1_edge_c4_res5/biases", "edge_sides.2.4.bias"),
    ],
)
def test_names(name, key):
    assert rename_tf_variable(name) == key


@pytest.mark.parametrize(
    "name",
    ["conv1", "conv1/Momentum", "res4b22_branch2d/weights", "global_step", "xconv1/weights", "parsing_fc/weights/"],
)
def test_strange_names(name):
    with pytest.raises(DataError, match="is no variable of the Part Grouping Network"):
        rename_tf_variable(name)


def test_weights_of_tensorflow_give_what_a_plain_re_writing_gives():
    blocks, num_classes = (2, 2, 3, 1), 4
    rng = np.random.default_rng(5)
    values = {}
    for name, shape in plain_pgn.listing(num_classes, 2, blocks).items():
        spread = rng.standard_normal(shape)
        fan_in = np.prod(shape[:3])
        positive = name.endswith(("gamma", "variance"))
        values[name] = (
            spread * np.sqrt(2 / fan_in) if len(shape) == 4 else np.exp(spread / 5) if positive else spread / 5
        )
    network = PGN(num_classes, width=2, blocks=blocks, resize="corners").double().eval()
    state = {key: torch.from_numpy(value.copy()) for key, value in tf_state(values).items()}
    assert state.keys() == without_counters(network).keys()
    network.load_state_dict(state, strict=False)
    image_bgr = rng.integers(0, 256, (88, 96, 3)).astype(float)  # 11 x 12 cells: more than a window of 10
    image_rgb = (image_bgr[..., ::-1] / 255 - TF_MEAN) / TF_STD
    with torch.no_grad():
        outputs = network(torch.from_numpy(image_rgb.transpose(2, 0, 1)[None].copy()))
    expected = plain_pgn.forward(values, image_bgr - (125.0, 114.4, 107.9), blocks)
    assert len(outputs) == len(expected) == 7
    for output, plain in zip(outputs, expected, strict=True):
        assert plain.std() > 1e-3
        np.testing.assert_allclose(output[0].numpy().transpose(1, 2, 0), plain, rtol=1e-9, atol=1e-9 * abs(plain).max())


@pytest.mark.parametrize("size_hw", [(64, 64), (40, 24), (2, 6)])
@pytest.mark.parametrize("kernel", [3, 7])
def test_padding_before_stride_2(size_hw, kernel):
    x = picture(1, 2, *size_hw).double()
    weights = picture(3, 2, kernel, kernel).double()
    ours = torch.nn.functional.conv2d(pad_for_stride_2(x, kernel), weights, stride=2)
    plain = plain_pgn.convolve(x[0].permute(1, 2, 0).numpy(), weights.permute(2, 3, 1, 0).numpy(), stride=2)
    np.testing.assert_allclose(ours[0].permute(1, 2, 0).numpy(), plain, atol=1e-12)


@pytest.mark.parametrize("size_hw", [(64, 64), (1, 1), (61, 60), (59, 121), (7, 35)])
@pytest.mark.parametrize("window", [60, 30, 20, 10, 3])
def test_averages_leave_the_padding_out(size_hw, window):
    x = picture(2, 3, *size_hw).double() + 5
    ours = average_windows(x, window)
    plain = plain_pgn.pool(x[1].permute(1, 2, 0).numpy(), window, window, np.mean)
    np.testing.assert_allclose(ours[1].permute(1, 2, 0).numpy(), plain, atol=1e-12)


@pytest.mark.parametrize(
    ("old_hw", "new_hw"), [((3, 5), (24, 40)), ((1, 2), (7, 64)), ((2, 1), (64, 1)), ((7, 7), (60, 61))]
)
def test_enlarging_from_the_corner(old_hw, new_hw):
    x = picture(1, 2, *old_hw).double()
    plain = plain_pgn.enlarge(x[0].permute(1, 2, 0).numpy(), *new_hw)
    np.testing.assert_allclose(enlarge(x, new_hw, "corners")[0].permute(1, 2, 0).numpy(), plain, atol=1e-12)


def test_enlarging_by_centres_keeps_the_middle():
    x = torch.linspace(0, 1, 9).expand(1, 1, 9, 9)
    for name, middle in (("centres", 0.5), ("corners", 0.5 + 3.5 / 64)):
        wide = enlarge(x, (72, 72), name)[0, 0, 20]
        assert float(wide[35:37].mean()) == pytest.approx(middle, abs=1e-6)


def test_edges_are_read_off_with_five_dilations():
    torch.manual_seed(0)
    side = EdgeSide(3).double()
    x = picture(1, 3, 21, 18).double()
    plain = sum(
        plain_pgn.convolve(
            x[0].permute(1, 2, 0).numpy(),
            convolution.weight.detach().permute(2, 3, 1, 0).numpy(),
            convolution.bias.detach().numpy(),
            dilation=step,
        )
        for convolution, step in zip(side, (1, 2, 4, 8, 16), strict=True)
    )
    np.testing.assert_allclose(side(x).detach()[0].permute(1, 2, 0).numpy(), plain, atol=1e-12)


def test_outputs_and_their_names():
    network = PGN(5, **SMALL).eval()
    with torch.no_grad():
        outputs = network(picture(2, 3, 50, 33))
    logits, extras = split_outputs(outputs, network.extras)
    assert [tuple(map_.shape) for map_ in logits] == [(2, 5, 50, 33)] * 2
    assert [tuple(map_.shape) for map_ in extras["edge"]] == [(2, 1, 50, 33)] * 5
    assert list(extras) == ["edge"]
    assert split_outputs(outputs[:2], ()) == (outputs[:2], {})


def test_the_paddings_differ_by_a_shift_of_three_pixels():
    """The windows of `same` lie one cell further down and right than those of `symmetric`: at 1/1 and again at 1/2."""
    torch.manual_seed(1)
    same = DilatedResNet(4, (1, 1, 1, 1), padding="same", frozen=False).eval()
    symmetric = DilatedResNet(4, (1, 1, 1, 1), padding="symmetric", frozen=False).eval()
    symmetric.load_state_dict(same.state_dict())
    image = picture(1, 3, 160, 160)
    with torch.no_grad():
        a, b = same(image)[0], symmetric(image)[0]
        moved_b = symmetric(torch.roll(image, (-3, -3), (2, 3)))[0]
    assert a.shape == b.shape == (1, 32, 20, 20)
    assert not torch.allclose(a, b, atol=1e-3)
    torch.testing.assert_close(a[..., 4:-4, 4:-4], moved_b[..., 4:-4, 4:-4], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_statistics_stay(frozen):
    torch.manual_seed(0)
    network = PGN(3, **SMALL, freeze_norm=frozen).train()
    before = copy.deepcopy(network.state_dict())
    sum(output.mean() for output in network(picture(2, 3, 32, 32))).backward()
    after = network.state_dict()
    changed = [key for key in after if "running" in key and not torch.equal(before[key], after[key])]
    assert bool(changed) is not frozen
    assert network.parsing.dropout.training
    assert network.get_parameter("backbone.stem.norm.weight").grad.any()
    assert not network.eval().parsing.dropout.training


def test_narrow_networks_start_as_strong_as_the_full_one():
    torch.manual_seed(0)
    convolution = PGN(20, width=8, blocks=[1, 1, 1, 1]).parsing.fuse
    weight = convolution.weight.detach()
    # The full network has 8 times the inputs, and 0.01 before the tails beyond two sigma are cut off.
    assert float(weight.std()) == pytest.approx(0.88 * 0.01 * 8**0.5, rel=0.02)
    assert float(weight.abs().max()) <= 2 * 0.01 * 8**0.5
    assert not convolution.bias.any()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"width": 0}, "`width` of `pgn` is `0`"),
        ({"width": True}, "`width` of `pgn` is `True`"),
        ({"blocks": [3, 4, 23]}, "`blocks` of `pgn` is `[3, 4, 23]`"),
        ({"blocks": 3}, "`blocks` of `pgn` is `3`"),
        ({"blocks": [1, 1, 0, 1]}, "`blocks` of `pgn` is `[1, 1, 0, 1]`"),
        ({"padding": "valid"}, "no padding of `pgn` is called `valid`"),
        ({"resize": "corner"}, "no resize of `pgn` is called `corner`"),
        ({"freeze_norm": 1}, "`freeze_norm` of `pgn` is `1`"),
    ],
)
def test_wrong_arguments(args, message):
    with pytest.raises(UsageError) as caught:
        zoo.build("pgn", 2, **args)
    assert caught.value.message.startswith(message)
