import subprocess
import sys

import pytest
import torch

from seglab.errors import DeviceError, UsageError
from seglab.models import zoo
from seglab.models.encoder_decoder import import_smp
from tests.models.make_figures import measure, selected

QUICK = ["unet", "unet-light", "u2netp", "unet-resnet18", "fpn-mobilenet_v2", "pspnet-efficientnet-b0", "fpn-mit_b0"]
SAMPLE = selected()[7::16]


def test_the_table_is_the_selection():
    assert zoo.names() == selected()
    assert [row.name for row in zoo.rows()] == zoo.names()
    assert len(zoo.names()) == 194


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.exhaustive) for name in SAMPLE)])
def test_figures_are_true(name):
    row = zoo.row(name)
    assert (row.params, row.gflop) == measure(name)


def test_known_sizes_of_the_originals():
    assert sum(p.numel() for p in zoo.build("u2netp", 4).parameters()) == 1_141_660
    for form, num_classes, params in (("plain", 6, 31_032_070), ("milesial", 11, 31_044_171)):
        assert sum(p.numel() for p in zoo.build("unet", num_classes, form=form).parameters()) == params
    assert sum(p.numel() for p in zoo.build("deeplabv3-mobilenet_v2", 7).parameters()) == 12_649_479
    assert sum(p.numel() for p in zoo.build("fpn-mobilenet_v2", 7).parameters()) == 4_216_199


def test_the_light_network_is_light():
    row = zoo.row("unet-light")
    assert row.size == 192
    assert 0.5 <= row.gflop <= 1.0


def test_tables_agree_with_smp():
    smp = import_smp()
    assert set(zoo.DECODERS) == set(smp.MODEL_ARCHITECTURES_MAPPING)
    assert set(zoo.ENCODERS) <= set(smp.encoders.get_encoder_names())


def test_restricted_encoders_say_so():
    restricted = [row for row in zoo.rows() if not row.commercial]
    assert {row.name.partition("-")[2] for row in restricted} == {"mit_b0", "mit_b2", "mobileone_s0"}
    assert "non-commercial" in zoo.row("unet-mit_b5").code_licence
    assert zoo.row("unet-resnet34").code_licence == "MIT (smp)"
    assert zoo.row("unet-resnet34").commercial


def test_encoders_outside_the_table():
    row = zoo.row("unet-resnet152")
    assert (row.params, row.gflop, row.family) == (None, None, "smp-unet")
    assert row.name not in zoo.names()
    segmenter = zoo.build("linknet-tu-resnet10t", 3).eval()
    with torch.no_grad():
        assert segmenter(torch.zeros(1, 3, 33, 31))[0].shape == (1, 3, 33, 31)


def test_networks_come_in_training_mode_with_gradients():
    for name in ("unet-light", "pspnet-mobilenet_v2"):
        segmenter = zoo.build(name, 2)
        assert all(module.training for module in segmenter.modules())
        assert all(parameter.requires_grad for parameter in segmenter.parameters())


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("unet-lite", "no encoder is called `lite`", ""),
        ("u2nett", "no model is called `u2nett`", "did you mean `u2net` or `u2netp`"),
        ("fpm-mobilenet_v2", "no model is called `fpm-mobilenet_v2`", "`fpn-mobilenet_v2`"),
        ("fpn-mobilnet_v2", "no encoder is called `mobilnet_v2`", "did you mean `mobilenet_v2`"),
        ("fpn-", "no model is called `fpn-`", ""),
        ("", "no model is called ``", "`seglab models` lists them"),
    ],
)
def test_unknown_names(name, message, hint):
    for look_up in (zoo.row, lambda name: zoo.build(name, 2)):
        with pytest.raises(UsageError) as caught:
            look_up(name)
        assert caught.value.message == message
        assert hint in caught.value.hint


def test_unknown_model_of_timm():
    with pytest.raises(UsageError, match="no encoder is called `tu-resnet10x`") as caught:
        zoo.build("unet-tu-resnet10x", 2)
    assert "tu-resnet10t" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("unet", {"widht": 8}, "no argument of `unet` is called `widht`"),
        ("unet", {"form": "milesal"}, "no form of `unet` is called `milesal`"),
        ("unet", {"width": 0}, "`width` of `unet` is `0`"),
        ("unet", {"depth": 2.0}, "`depth` of `unet` is `2.0`"),
        ("unet-light", {"width": True}, "`width` of `unet-light` is `True`"),
        ("unet-light", {"subclasses": [3]}, "`subclasses` of `unet-light` is `[3]`, but must be 2 whole numbers"),
        ("unet-light", {"subclasses": [3, 0]}, "`subclasses` of `unet-light` is `[3, 0]`"),
        ("unet-light", {"subclasses": "33"}, "`subclasses` of `unet-light` is `33`"),
        ("unet-light", {"subclasses": [True, 2]}, "`subclasses` of `unet-light` is `[True, 2]`"),
        ("u2net", {"width": 8}, "no argument of `u2net` is called `width`"),
        ("fpn-resnet18", {"decoder_chanels": 8}, "no argument of `fpn-resnet18` is called `decoder_chanels`"),
        ("fpn-resnet18", {"classes": 8}, "no argument of `fpn-resnet18` is called `classes`"),
        ("fpn-resnet18", {"encoder_weights": "imagenet"}, "`fpn-resnet18` takes no `encoder_weights`"),
        ("fpn-resnet18", {"decoder_merge_policy": "mix"}, "`fpn-resnet18` cannot be built"),
        ("unetplusplus-mit_b0", {}, "`unetplusplus-mit_b0` cannot be built"),
        ("deeplabv3-densenet121", {}, "`deeplabv3-densenet121` cannot be built"),
        ("dpt-resnet18", {}, "`dpt-resnet18` cannot be built"),
        ("unet-tu-resnet10t", {"nonsense": 1}, "`unet-tu-resnet10t` cannot be built"),
    ],
)
def test_wrong_arguments(name, args, message):
    with pytest.raises(UsageError) as caught:
        zoo.build(name, 2, **args)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize("num_classes", [1, 0, 256, True, 2.0, "2"])
def test_wrong_number_of_classes(num_classes):
    with pytest.raises(UsageError, match="the number of classes is"):
        zoo.build("unet", num_classes)


def test_mismatched_torchvision_is_one_line():
    def load(_):
        raise RuntimeError("operator torchvision::nms does not exist\nand much more")

    with pytest.raises(DeviceError) as caught:
        import_smp(load)
    assert caught.value.message == (
        f"torch {torch.__version__} and the installed torchvision do not fit together: "
        "operator torchvision::nms does not exist"
    )
    assert "--force-reinstall torch torchvision" in caught.value.hint
    assert caught.value.exit_code == 6


def test_missing_smp_says_what_to_install():
    def load(name):
        raise ModuleNotFoundError(f"No module named '{name}'")

    with pytest.raises(DeviceError, match="No module named 'segmentation_models_pytorch'") as caught:
        import_smp(load)
    assert caught.value.hint.startswith("pip install")


def test_other_runtime_errors_pass():
    def load(_):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        import_smp(load)


def test_the_table_needs_no_torch():
    code = (
        "import sys; from seglab.models import zoo; zoo.rows(); zoo.row('unet-tu-resnet10t');"
        "heavy = {'torch', 'torchvision', 'timm', 'segmentation_models_pytorch', 'numpy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
