"""Weights of one network start another: what fits is copied and counted, the rest is left as it was."""

from ast import literal_eval

import pytest
import torch

from seglab.errors import DataError
from seglab.models import surgery, u2net, zoo
from seglab.models.bundle import GRAPH_NAME, WEIGHTS_NAME, BundleConfig, save_bundle
from seglab.models.encoder_decoder import import_smp
from seglab.models.surgery import initialise, read_weights, transplant
from seglab.preprocess import Preprocess
from seglab.tasks import TASKS
from tests.models import recipe
from tests.models.networks import NETWORKS, picture
from tests.models.test_golden import GOLDEN_DIR

HEADS = {"u2net": 14, "pgn": 5}
"""Tensors whose shape follows the number of classes; two for networks that are not named."""


def snapshot(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_one_class_becomes_four():
    torch.manual_seed(0)
    whole = u2net.u2net(1).state_dict()
    network = zoo.build("u2net", 4)
    before = snapshot(network)
    done = transplant(network, whole)
    assert (done.copied, done.num_tensors) == (784, 798)
    heads = [
        f"{name}.{part}" for name in (*(f"side{n}" for n in range(1, 7)), "outconv") for part in ("weight", "bias")
    ]
    assert sorted(done.fresh) == sorted(done.other_shape) == sorted(heads)
    assert done.unused == ()
    assert done.copied_values == done.num_values - sum(before[name].numel() for name in heads)
    after = network.state_dict()
    for name in after:
        assert torch.equal(after[name], before[name] if name in heads else whole[name]), name
    assert done.summary() == (
        "784 of 798 tensors copied (99.9 %); "
        "random: `side1.weight`, `side1.bias`, `side2.weight`, `side2.bias` and 10 more"
    )


@pytest.mark.parametrize("label", NETWORKS)
def test_every_model_changes_its_classes(label):
    name, args = NETWORKS[label]
    torch.manual_seed(0)
    old, new = zoo.build(name, 2, **args), zoo.build(name, 5, **args)
    given = {key: tensor + 1 if tensor.is_floating_point() else tensor for key, tensor in old.state_dict().items()}
    before = snapshot(new)
    done = transplant(new, given)
    assert done.naming == "seglab"
    assert done.num_tensors - done.copied == len(done.fresh) == HEADS.get(label, 2)
    after = new.state_dict()
    for key in after:
        assert torch.equal(after[key], before[key] if key in done.fresh else given[key]), key
    assert transplant(zoo.build(name, 2, **args), given).fresh == ()


def test_decoders_share_an_encoder():
    unet, fpn = zoo.build("unet-resnet18", 2), zoo.build("fpn-resnet18", 3)
    done = transplant(fpn, unet.state_dict())
    encoder = fpn.encoder.state_dict()
    assert done.copied == len(encoder)
    assert all(torch.equal(encoder[key], tensor) for key, tensor in unet.encoder.state_dict().items())
    assert not any(name.startswith("encoder.") for name in (*done.fresh, *done.unused))
    assert done.fresh
    assert done.unused


@pytest.mark.parametrize("name", ["unet-resnet18", "fpn-mobilenet_v2"])
def test_a_bare_encoder_finds_its_place(name):
    encoder = import_smp().encoders.get_encoder(name.partition("-")[2], weights=None)
    network = zoo.build(name, 2)
    done = transplant(network, encoder.state_dict())
    assert done.naming == "an encoder alone"
    assert done.copied == len(encoder.state_dict()) == len(network.encoder.state_dict())
    assert all(torch.equal(network.encoder.state_dict()[key], tensor) for key, tensor in encoder.state_dict().items())


def test_a_bare_encoder_of_timm_finds_its_place():
    import timm

    resnet = timm.create_model("resnet10t", pretrained=False)
    network = zoo.build("unet-tu-resnet10t", 2)
    done = transplant(network, resnet.state_dict())
    assert done.naming == "an encoder of timm alone"
    assert set(done.unused) == {"fc.weight", "fc.bias"}
    assert torch.equal(network.state_dict()["encoder.model.conv1.0.weight"], resnet.conv1[0].weight)
    assert not any(key.startswith("encoder.") for key in done.fresh)


def original(listing):
    lines = (GOLDEN_DIR / f"{listing}.keys.txt").read_text().splitlines()
    return recipe.weights({key: literal_eval(shape) for key, shape in (line.split(" ", 1) for line in lines)})


@pytest.mark.parametrize(
    ("listing", "name", "args", "naming"),
    [
        ("pgn_unet6", "unet", {"form": "plain"}, "PGN_PyTorch or Semantic_Segmentation_With_U-Net"),
        ("helen_unet11", "unet", {"form": "milesial"}, "PGN_PyTorch or Semantic_Segmentation_With_U-Net"),
        ("pix2pix_generator_3_1", "pix2pix", {}, "Pix2Pix-Image-Segmentation"),
        ("pix2pix_res2pix_3_1", "pix2pix", {"form": "res2pix"}, "Pix2Pix-Image-Segmentation"),
    ],
)
def test_names_of_the_originals_are_known(listing, name, args, naming):
    given = original(listing)
    network = zoo.build(name, 4, **args)
    done = transplant(network, {f"module.{key}": tensor for key, tensor in given.items()})
    assert done.naming == naming
    assert (done.copied, done.num_tensors) == (len(given) - 2, len(given))
    assert len(done.other_shape) == 2
    assert done.unused == ()


def test_the_edge_channel_alone_is_new():
    network = zoo.build("pix2pix", 2, form="edge")
    done = transplant(network, original("pix2pix_generator_3_1"))
    assert done.fresh == done.other_shape == ("down.0.conv.weight",)
    assert done.copied == 83


def test_a_plain_generator_starts_a_refined_one():
    done = transplant(zoo.build("pix2pix", 2, form="res2pix"), original("pix2pix_generator_3_1"))
    assert done.copied == 82
    assert {name.partition(".")[0] for name in done.fresh} == {"head", "refine"}


def test_names_of_old_smp_are_known():
    network = zoo.build("deeplabv3-mobilenet_v2", 7)
    old = {"decoder.aspp.": "decoder.0.", "decoder.conv.": "decoder.1.", "decoder.bn.": "decoder.2."}
    given = {}
    for name, tensor in zoo.build("deeplabv3-mobilenet_v2", 7).state_dict().items():
        new = next((new for new in old if name.startswith(new)), "")
        given[old.get(new, "") + name.removeprefix(new)] = tensor
    done = transplant(network, given)
    assert done.naming == "segmentation-models-pytorch 0.3"
    assert done.copied == done.num_tensors == 356


def test_the_network_keeps_its_number_types():
    network = zoo.build("unet-light", 2, width=2)
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in snapshot(network).items()}
    other = zoo.build("unet-light", 2, width=2)
    assert transplant(other, half).fresh == ()
    assert {tensor.dtype for tensor in other.state_dict().values()} == {torch.float32, torch.int64}
    swapped = {name: tensor.long() for name, tensor in half.items()}
    assert transplant(other, swapped).copied == sum(name.endswith("num_batches_tracked") for name in swapped)


def test_gradients_still_reach_a_network_with_foreign_weights():
    network = zoo.build("unet-light", 2, width=2)
    transplant(network, zoo.build("unet-light", 3, width=2).state_dict())
    network(picture(2, 3, 32, 32))[0].sum().backward()
    assert all(parameter.requires_grad and parameter.grad is not None for parameter in network.parameters())


def test_ambiguous_names_are_refused():
    tensors = {"head.bias": torch.zeros(2), "module.head.bias": torch.ones(2)}
    with pytest.raises(DataError, match=r"ambiguous: two tensors are called `head.bias`"):
        transplant(zoo.build("unet-light", 2, width=2), tensors)


@pytest.fixture
def bundle_dir(tmp_path):
    network = zoo.build("unet-light", 2, width=2)
    config = BundleConfig(
        task=TASKS["person"], model="unet-light", model_args={"width": 2}, preprocess=Preprocess(size_hw=(64, 64))
    )
    save_bundle(tmp_path / "bundle", config, network.state_dict())
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    return tmp_path / "bundle"


@pytest.mark.parametrize("where", ["", WEIGHTS_NAME, "../weights.pth"])
def test_bundles_and_checkpoints_are_read(bundle_dir, where):
    tensors, path = read_weights(str(bundle_dir / where))
    assert path.name == ("weights.pth" if "pth" in where else WEIGHTS_NAME)
    expected = read_weights(str(bundle_dir))[0]
    assert tensors.keys() == expected.keys()
    network = zoo.build("unet-light", 4, width=2)
    done = initialise(network, tensors, path)
    assert len(done.fresh) == 2
    assert torch.equal(network.state_dict()["stem.0.weight"], expected["stem.0.weight"])


def test_a_graph_has_no_weights_to_start_from(bundle_dir):
    (bundle_dir / WEIGHTS_NAME).rename(bundle_dir / GRAPH_NAME)
    with pytest.raises(DataError, match="is a graph: its weights have lost their names"):
        read_weights(str(bundle_dir))


def test_weights_of_which_none_fits_are_refused(bundle_dir):
    with pytest.raises(DataError, match=r"none of the 136 tensors in `.*model.safetensors` fits the network") as caught:
        initialise(zoo.build("u2netp", 2), *read_weights(str(bundle_dir)))
    assert "seglab models show" in caught.value.hint


def test_a_missing_model_is_said(tmp_path):
    with pytest.raises(DataError, match="there is no model"):
        read_weights(str(tmp_path / "nothing"))


def test_records_are_plain_values():
    done = transplant(zoo.build("unet-light", 3, width=2), zoo.build("unet-light", 2, width=2).state_dict())
    values = done.to_dict()
    assert values["copied"] + len(values["fresh"]) == values["tensors"] == 136
    assert values["unused"] == 0
    assert surgery.Transplant.__dataclass_params__.frozen
