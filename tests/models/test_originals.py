"""Checkpoints of the originals: recognised by their tensors, loaded, described, imported, or refused with a reason."""

import json
import shutil
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from seglab.device import Device
from seglab.errors import DataError, UsageError
from seglab.inference.manner import Manner
from seglab.inference.model import choose_model
from seglab.models import zoo
from seglab.models.bundle import BundleConfig, load_network, read_config, save_bundle
from seglab.models.originals import (
    ORIGINALS,
    checkpoint_config,
    describe_checkpoint,
    import_checkpoint,
    load_checkpoint,
)
from seglab.models.recognition import recognise, why_unusable
from seglab.models.verification import photo_like
from seglab.preprocess import IMAGENET_MEAN, Preprocess
from seglab.tasks import TASKS, Task
from tests.inference import published
from tests.models import recipe
from tests.models.make_golden import digest
from tests.models.test_golden import STATEDICTS

CPU = Device("cpu", None, "test")
MILESIAL, PLAIN = {"form": "milesial"}, {"form": "plain"}


def unet_of_smp(encoder):
    return lambda: smp.Unet(encoder, encoder_weights=None, classes=7)


def pix2pix(form):
    return "pix2pix", "pix2pix", {"form": form}, 1


PUBLISHED = {
    # name of the listing: its network, and what it is to be recognised as
    "u2net_cloth_out4": (lambda: published.u2net(4), "cloth-segmentation", "u2net", {}, 4),
    "u2netp_out4": (lambda: published.u2netp(4), "cloth-segmentation", "u2netp", {}, 4),
    "u2net_out1": (lambda: published.u2net(1), "u2net", "u2net", {}, 1),
    "u2netp_out1": (lambda: published.u2netp(1), "u2net", "u2netp", {}, 1),
    "helen_unet11": (lambda: published.HelenUNet(11, 64), "helen-unet", "unet", MILESIAL, 11),
    "pgn_unet6": (lambda: published.PgnUNet(6, 64), "pgn-pytorch", "unet", PLAIN, 6),
    "pgn_unet2_small": (lambda: published.PgnUNet(2, 32), "unet-from-scratch", "unet", {**PLAIN, "width": 32}, 2),
    "pix2pix_generator_3_1": (lambda: published.Generator("plain", 64), *pix2pix("plain")),
    "pix2pix_generator_edge_3_1": (lambda: published.Generator("edge", 64), *pix2pix("edge")),
    "pix2pix_res2pix_3_1": (lambda: published.Generator("res2pix", 64), *pix2pix("res2pix")),
    "smp060_deeplabv3_mobilenet_v2": (
        published.deeplab, "hierarchical-segmentation", "deeplabv3-mobilenet_v2", {}, 7,
    ),
    "smp030_deeplabv3_mobilenet_v2": (
        lambda: old_names(published.deeplab()), "hierarchical-segmentation", "deeplabv3-mobilenet_v2", {}, 7,
    ),
    "smp030_fpn_mobilenet_v2": (
        lambda: smp.FPN("mobilenet_v2", encoder_weights=None, classes=7),
        "hierarchical-segmentation", "fpn-mobilenet_v2", {}, 7,
    ),
    **{
        f"smp030_unet_{encoder}": (
            unet_of_smp(encoder), "hierarchical-segmentation", f"unet-{encoder}", {}, 7,
        )
        for encoder in ("mobilenet_v2", "vgg19", "resnext101_32x8d", "timm-efficientnet-b3")
    },
}  # fmt: skip


def old_names(net):
    """Name the parts of DeepLabV3's decoder by number, as segmentation-models-pytorch 0.3 did."""
    net.decoder = nn.Sequential(net.decoder.aspp, net.decoder.conv, net.decoder.bn)
    return net


def shapes_of(build):
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in quietly(build).state_dict().items()}


def quietly(build):
    """Build an encoder by a name of timm, which smp deprecates, and which was published."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return build()


@pytest.mark.parametrize("listing", PUBLISHED)
def test_every_original_is_recognised_by_its_tensors(listing):
    build, family, model, args, num_outputs = PUBLISHED[listing]
    shapes = shapes_of(build)
    assert digest(shapes) == STATEDICTS[listing][:2], "not the original's tensors"
    found = recognise(shapes)
    assert (found.family, found.model, found.args, found.num_outputs) == (family, model, args, num_outputs)
    assert found.input_channels == (4 if "edge" in listing else 3)
    assert found.num_classes == max(2, num_outputs)
    assert TASKS[ORIGINALS[family].tasks[found.num_classes]].num_classes == found.num_classes
    assert recognise(dict(reversed(shapes.items()))) == found


def test_every_listing_of_the_originals_is_tested():
    assert set(PUBLISHED) == set(STATEDICTS) - {"pix2pix_discriminator_3_1"}


def save(build, path, prefix="", **options):
    net = quietly(build)
    net.load_state_dict(recipe.weights({name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}))
    torch.save({prefix + name: tensor for name, tensor in net.state_dict().items()}, path, **options)
    return net.eval()


SMALL = {
    "helen": lambda: published.HelenUNet(11, 4),
    "plain": lambda: published.PgnUNet(6, 4),
    "pix2pix": lambda: published.Generator("edge", 4),
    "u2netp": lambda: published.u2netp(4),
    "unet-mobilenet": unet_of_smp("mobilenet_v2"),
    "fpn-mobilenet": lambda: smp.FPN("mobilenet_v2", encoder_weights=None, classes=7),
    "deeplabv3-mobilenet": published.deeplab,
    "unet-efficientnet": unet_of_smp("timm-efficientnet-b3"),
    "decoder of other widths": lambda: smp.Unet(
        "mobilenet_v2", encoder_weights=None, classes=7, decoder_channels=(64, 32, 16, 8, 8)
    ),
}


@pytest.mark.parametrize("kind", SMALL)
def test_the_network_computes_what_the_original_computes(tmp_path, kind):
    net = save(SMALL[kind], tmp_path / "weights.pth", "module.")
    loaded, config = load_checkpoint(tmp_path / "weights.pth", CPU)
    assert not loaded.training
    x = recipe.image(kind, (256, 256))
    with torch.no_grad():
        logits, expected = loaded(x)[0], net(x)
    expected = expected[0] if isinstance(expected, (tuple, list)) else expected
    if kind == "helen":
        logits = logits.softmax(1)
    if kind == "pix2pix":
        logits = torch.tanh((logits[:, 1:] - logits[:, :1]) / 2)
    scale = float(expected.abs().max())
    np.testing.assert_allclose(logits / scale, expected / scale, atol=1e-5)
    assert config.published == recognise({k: tuple(v.shape) for k, v in net.state_dict().items()}).family


def test_one_map_becomes_two_exactly(tmp_path):
    net = save(lambda: published.u2netp(1), tmp_path / "u2netp.pth")
    loaded, config = load_checkpoint(tmp_path / "u2netp.pth", CPU)
    x = recipe.image("u2netp", (64, 96))
    with torch.no_grad():
        for ours, original in zip(loaded(x), net(x), strict=True):
            assert not ours[:, 0].any()
            np.testing.assert_allclose(ours[:, 1:], original, rtol=1e-4, atol=1e-4)
    assert config.task == TASKS["person"]


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_a_whole_module_of_an_old_library(tmp_path, monkeypatch, new):
    """As the body-part networks were published: classes that no installed library has any more."""

    class ConvBNActivation(nn.Sequential):
        pass

    class DeepLabV3(nn.Module):
        pass

    gone = {ConvBNActivation: torchvision.models.mobilenetv2, DeepLabV3: smp.decoders.deeplabv3.model}
    for kind, module in gone.items():
        kind.__module__, kind.__qualname__ = module.__name__, kind.__name__
        monkeypatch.setattr(module, kind.__name__, kind, raising=False)
    net = published.deeplab()
    net.load_state_dict(recipe.weights({name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}))
    expected = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net = old_names(net)
    net.encoder.features[0].__class__ = ConvBNActivation
    net.__class__ = DeepLabV3
    path = tmp_path / "DeepLabV3-512_29_epoch_mIoU-0.579.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the source of these classes cannot be saved with them
        torch.save(net, path, _use_new_zipfile_serialization=new)
    monkeypatch.undo()
    described = describe_checkpoint(path)
    assert (described["contents"], described["num_tensors"]) == ("pickled module", 356)
    assert described["num_params"] == 12_649_479
    loaded, config = load_checkpoint(path, CPU)
    assert config.model == "deeplabv3-mobilenet_v2"
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_what_a_checkpoint_says_of_itself(tmp_path):
    save(lambda: published.u2netp(4), tmp_path / "cloth.pth", "module.", _use_new_zipfile_serialization=False)
    described = describe_checkpoint(tmp_path / "cloth.pth")
    assert json.loads(json.dumps(described)) == described
    expected = {
        "format": "torch pickle", "contents": "state_dict", "prefix": "module.", "num_tensors": 798,
        "num_params": 1_141_660, "dtypes": ["float32", "int64"], "recognised": "cloth-segmentation",
        "repository": "levindabhi/cloth-segmentation", "model": "u2netp", "input_channels": 3, "num_outputs": 4,
        "task": "clothes", "classes": list(TASKS["clothes"].classes), "size": 768,
    }  # fmt: skip
    assert {name: described[name] for name in expected} == expected
    assert described["bytes"] == (tmp_path / "cloth.pth").stat().st_size


def test_the_configuration_is_the_originals(tmp_path):
    save(SMALL["helen"], tmp_path / "MyModel5.pt")
    save(SMALL["plain"], tmp_path / "best_model.pth")
    helen, plain = checkpoint_config(tmp_path / "MyModel5.pt"), checkpoint_config(tmp_path / "best_model.pth")
    assert (helen.task, helen.preprocess.mean, helen.preprocess.std) == (TASKS["face"], (0, 0, 0), (1, 1, 1))
    assert (plain.task, plain.preprocess.mean) == (TASKS["parsing"], IMAGENET_MEAN)
    assert helen.save_id != plain.save_id
    # Neither the name of the file nor its place matters; its content does.
    shutil.copy(tmp_path / "MyModel5.pt", tmp_path / "u2net.pth")
    same = checkpoint_config(tmp_path / "u2net.pth")
    assert (same.save_id, same.published) == (helen.save_id, "helen-unet")


def test_safetensors_of_others_are_recognised_too(tmp_path):
    net = save(SMALL["plain"], tmp_path / "a.pth")
    save_file(net.state_dict(), tmp_path / "a.safetensors")
    assert read_config(tmp_path / "a.safetensors").published == "pgn-pytorch"
    image = photo_like((1, 100, 80))[0]
    answers = [choose_model(None, str(tmp_path / f"a.{suffix}")).open(CPU).labels([image])[0]
               for suffix in ("pth", "safetensors")]  # fmt: skip
    np.testing.assert_array_equal(*answers)


HANDS = Task(name="hands", classes=("background", "a", "b", "c", "d"))


def test_a_number_of_classes_that_nobody_published_needs_a_task(tmp_path):
    save(lambda: published.HelenUNet(5, 4), tmp_path / "a.pt")
    with pytest.raises(DataError, match="5 classes, and nobody published one of so many") as caught:
        checkpoint_config(tmp_path / "a.pt")
    assert "seglab models import" in caught.value.hint
    described = describe_checkpoint(tmp_path / "a.pt")
    assert (described["task"], described["num_outputs"]) == (None, 5)
    made = import_checkpoint(tmp_path / "a.pt", tmp_path / "hands", task=HANDS, graph=False)
    assert read_config(made).task == HANDS


def test_another_task_is_refused_in_words(tmp_path):
    save(lambda: published.u2netp(4), tmp_path / "a.pth")
    with pytest.raises(DataError, match=r"made for 4 classes \(clothes\), but task `person` has 2"):
        import_checkpoint(tmp_path / "a.pth", tmp_path / "out", task=TASKS["person"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match=r"segments `clothes` \(4 classes\), but the task is `person` \(2 classes\)"):
        choose_model("person", str(tmp_path / "a.pth"))
    assert choose_model("clothes", str(tmp_path / "a.pth")).config.task == TASKS["clothes"]


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({"layer1.0.weight": (64, 4, 4, 4), "finalLayer.weight": (1, 512, 4, 4)}, "discriminator"),
        ({"model.model.1.model.2.weight": (1, 1, 4, 4)}, "junyanz"),
        ({"inc.double_conv.0.weight": (64, 3, 3, 3), "outc.conv.weight": (2, 64, 1, 1)}, "Pytorch-UNet"),
        ({"context_encoding.bottleneck.0.weight": (1,), "edge.conv1.0.weight": (1,)}, "Self-Correction"),
        ({"conv1.weight": (64, 3, 7, 7), "fc.weight": (1000, 512)}, "classifier"),
        ({"features.0.0.weight": (32, 3, 3, 3), "classifier.1.weight": (1000, 1280)}, "classifier"),
        ({"something.weight": (1,)}, ""),
    ],
)
def test_known_others_are_named(tmp_path, shapes, reason):
    assert recognise(shapes) is None
    assert reason in why_unusable(shapes)
    torch.save({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "a.pth")
    with pytest.raises(DataError, match=reason or "of no network that seglab knows"):
        checkpoint_config(tmp_path / "a.pth")
    described = describe_checkpoint(tmp_path / "a.pth")
    assert described["recognised"] is None
    assert reason in described["reason"]


def test_weights_that_are_not_whole_are_refused(tmp_path):
    net = published.PgnUNet(6, 4)
    state = net.state_dict()
    for change in (
        {"up2.upsample.weight": None},
        {"up2.upsample.weight": torch.zeros(3, 3)},
        {"one.more": torch.zeros(1)},
    ):
        changed = OrderedDict((k, v) for k, v in {**state, **change}.items() if v is not None)
        torch.save(changed, tmp_path / "a.pth")
        with pytest.raises(DataError, match="do not fit the network") as caught:
            load_checkpoint(tmp_path / "a.pth", CPU)
        assert "but is not whole" in caught.value.hint


def test_an_import_is_a_bundle_like_any_other(tmp_path):
    save(SMALL["helen"], tmp_path / "MyModel5.pt")
    made = import_checkpoint(tmp_path / "MyModel5.pt", tmp_path / "faces")
    assert made == tmp_path / "faces"
    assert sorted(path.name for path in made.iterdir()) == ["config.json", "model.onnx", "model.safetensors"]
    config = read_config(made)
    assert config.published == "helen-unet"
    assert config.data["checkpoint"] == "MyModel5.pt"
    assert len(config.data["sha256"]) == 64
    image = photo_like((1, 96, 64))[0]
    for manner in (Manner(), Manner("original"), Manner("original", "running"), Manner(bn="batch")):
        before = choose_model("face", str(tmp_path / "MyModel5.pt"), manner).open(CPU)
        after = choose_model("face", str(made), manner).open(CPU)
        assert (before.labels([image])[0] == after.labels([image])[0]).mean() > 0.999
    assert choose_model(None, str(made)).open(CPU).engine.name == "onnxruntime"
    assert after.engine.name == "torch"


def test_an_import_does_not_replace_a_model_unasked(tmp_path):
    save(SMALL["plain"], tmp_path / "a.pth")
    made = import_checkpoint(tmp_path / "a.pth", tmp_path / "out", graph=False)
    before = read_config(made).save_id
    with pytest.raises(UsageError, match="holds a model already"):
        import_checkpoint(tmp_path / "a.pth", made, graph=False)
    assert read_config(made).save_id == before
    import_checkpoint(tmp_path / "a.pth", made, graph=False, force=True)
    assert read_config(made).save_id != before
    with pytest.raises(UsageError, match="is a file"):
        import_checkpoint(tmp_path / "a.pth", tmp_path / "a.pth")


def test_models_of_our_own_have_no_such_field_and_are_read(tmp_path):
    """Bundles of earlier versions do not say whose weights they hold, and earlier versions refuse unknown fields."""
    network = zoo.build("unet-light", 2, width=2)
    config = BundleConfig(task=TASKS["person"], model="unet-light", model_args={"width": 2},
                          preprocess=Preprocess(size_hw=(64, 64)))  # fmt: skip
    save_bundle(tmp_path / "run", config, network.state_dict())
    assert "published" not in json.loads((tmp_path / "run" / "config.json").read_text())
    assert read_config(tmp_path / "run").published == ""
    assert load_network(tmp_path / "run", CPU)[1].published == ""
    with pytest.raises(UsageError, match="needs weights that one of the originals published"):
        choose_model(None, str(tmp_path / "run"), Manner("original")).open(CPU)
    with pytest.raises(DataError, match="is a model of seglab itself"):
        checkpoint_config(tmp_path / "run" / "model.safetensors")
