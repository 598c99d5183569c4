"""Published weights of encoders: their terms as smp, timm and the registry state them; found here, never downloaded."""

import json
import socket

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from seglab.data.fetching.registry import load_registry
from seglab.errors import DataError, UsageError
from seglab.models import pretrained, zoo
from seglab.models.encoder_decoder import bare_encoder, import_smp
from seglab.models.pretrained import (
    FETCHED,
    EncoderWeights,
    accept_terms,
    encoder_weights,
    find_encoder_weights,
    load_encoder,
    published_weights,
)  # fmt: skip

SMP = import_smp().encoders.encoders
TABLE = sorted({row.name.partition("-")[2] for row in zoo.rows() if row.family.startswith("smp-")})


@pytest.fixture(autouse=True)
def _no_network_and_empty_caches(monkeypatch, tmp_path):
    def refuse(*_args):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "seglab"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))


def put_fetched(tmp_path, encoder, tensors):
    folder = tmp_path / "seglab" / "models" / f"{FETCHED}{encoder}"
    folder.mkdir(parents=True)
    (folder / "SOURCE.json").write_text(json.dumps({"name": folder.name}))
    save_file(tensors, folder / "model.safetensors")
    return folder / "model.safetensors"


def put_in_hub(tmp_path, repository, revision, tensors):
    folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(revision)
    save_file(tensors, snapshot / "model.safetensors")
    return snapshot / "model.safetensors"


def contiguous(network):
    return {name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()}


def test_the_sets_are_those_of_smp():
    assert len(zoo.ENCODERS) == 76
    for encoder in zoo.ENCODERS:
        assert sorted(each.name for each in published_weights(encoder)) == sorted(SMP[encoder]["pretrained_settings"])


def test_what_must_not_be_used_commercially():
    refused = {each.title for encoder in zoo.ENCODERS for each in published_weights(encoder) if each.commercial == "no"}
    facebook = {
        f"{encoder}:{name}"
        for encoder in zoo.ENCODERS
        for name in {"ssl", "swsl", "instagram"} & set(SMP[encoder]["pretrained_settings"])
    }
    assert refused == facebook | {f"mit_b{number}:imagenet" for number in range(6)}
    unclear = {encoder for encoder in zoo.ENCODERS if published_weights(encoder)[0].commercial == "unclear"}
    assert unclear == {f"mobileone_s{number}" for number in range(5)}


@pytest.mark.parametrize("encoder", [encoder for encoder in TABLE if encoder.startswith("tu-")])
def test_the_terms_of_timm_are_what_it_says(encoder):
    stated = timm.models.get_pretrained_cfg(encoder.removeprefix("tu-")).license
    assert published_weights(encoder)[0].licence.lower() == stated
    assert published_weights(encoder)[0].commercial == "yes"


@pytest.mark.parametrize(
    ("encoder", "licence", "commercial"),
    [
        ("tu-convnextv2_atto", "cc-by-nc-4.0", "no"),
        ("tu-resnet18", "apache-2.0", "yes"),
        ("tu-resnet18.fb_swsl_ig1b_ft_in1k", "cc-by-nc-4.0", "no"),
        ("tu-convnext_tiny.eupe_lvd1689m", "fair-noncommercial-research-license", "no"),
        ("tu-fastvit_t8", "fastvit-license", "unclear"),
    ],
)
def test_timm_is_asked_for_the_terms_of_the_others(encoder, licence, commercial):
    assert published_weights(encoder)[0].commercial == "unclear"
    weights = encoder_weights(encoder)
    assert (weights.licence, weights.commercial) == (licence, commercial)


def test_the_facebook_sets_of_smp_have_the_terms_that_timm_states():
    for encoder, tag in (("resnet50", "fb_ssl_yfcc100m_ft_in1k"), ("resnext101_32x8d", "fb_wsl_ig1b_ft_in1k")):
        assert timm.models.get_pretrained_cfg(f"{encoder}.{tag}").license == "cc-by-nc-4.0"
    assert encoder_weights("resnet50", "ssl").licence == "CC-BY-NC-4.0"


def test_encoders_of_the_table_can_be_fetched():
    rows = {name: row for name, row in load_registry().items() if row.kind == "encoder"}
    assert set(rows) == {f"{FETCHED}{encoder}" for encoder in TABLE}
    assert len(rows) == 21
    for name, row in rows.items():
        weights = published_weights(name.removeprefix(FETCHED))[0]
        assert (row.licence, row.commercial) == (weights.licence, weights.commercial)
        repository, revision = pretrained._repository(weights)
        assert [source.ref for source in row.sources] == [
            f"https://huggingface.co/{repository}/resolve/{revision or 'main'}/model.safetensors"
        ]


def test_the_zoo_says_where_weights_come_from():
    assert zoo.row("u2net").weights == ("u2net", "u2net-human", "cloth-u2net", "cloth-u2net-retrained")
    assert (zoo.row("u2net").weights_licence, zoo.row("u2net").weights_commercial) == ("Apache-2.0", "yes")
    assert zoo.row("deeplabv3-mobilenet_v2").weights == ("pascal-part-deeplabv3", "encoder-mobilenet_v2")
    assert zoo.row("fpn-mit_b2").weights_commercial == "no"
    assert zoo.row("fpn-resnext101_32x48d").weights == ()
    assert zoo.row("fpn-resnext101_32x48d").weights_commercial == "no"
    assert zoo.row("pix2pix").weights == ()
    assert zoo.row("pix2pix").weights_licence == zoo.row("pix2pix").weights_commercial == ""
    checkpoints = {name for names in zoo.CHECKPOINTS.values() for name in names}
    assert checkpoints <= {name for name, row in load_registry().items() if row.kind == "checkpoint"}
    assert set(zoo.CHECKPOINTS) <= set(zoo.names())


def test_terms_have_to_be_accepted():
    with pytest.raises(UsageError, match=r"`mit_b0:imagenet` must not be used commercially \(NVIDIA") as caught:
        accept_terms("mit_b0:imagenet", "NVIDIA", "no", accept_noncommercial=False)
    assert "--accept-noncommercial" in caught.value.hint
    accept_terms("mit_b0:imagenet", "NVIDIA", "no", accept_noncommercial=True)
    for commercial in ("yes", "unclear"):
        accept_terms("x", "MIT", commercial, accept_noncommercial=False)


def test_an_unknown_set_is_answered_with_the_known():
    with pytest.raises(UsageError, match="no set of weights for encoder `resnet18` is called `swls`") as caught:
        encoder_weights("resnet18", "swls")
    assert "`swsl`" in caught.value.hint


def test_non_commercial_weights_are_taken_only_when_accepted(tmp_path):
    torch.manual_seed(0)
    encoder = bare_encoder("mit_b0")
    path = put_fetched(tmp_path, "mit_b0", contiguous(encoder))
    network = zoo.build("fpn-mit_b0", 3)
    with pytest.raises(UsageError, match="`mit_b0:imagenet` must not be used commercially"):
        load_encoder(network, "mit_b0")
    done, weights, found = load_encoder(network, "mit_b0", accept_noncommercial=True)
    assert (weights.commercial, found) == ("no", path)
    assert done.copied == done.num_tensors
    expected = encoder.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.encoder.state_dict().items())


def test_what_is_missing_says_how_to_get_it():
    network = zoo.build("fpn-resnet18", 2)
    with pytest.raises(DataError, match="`resnet18:imagenet` are not on this machine") as caught:
        load_encoder(network, "resnet18")
    assert caught.value.hint == "`seglab fetch encoder-resnet18` brings them"
    with pytest.raises(DataError, match="`resnet18:swsl` are not on this machine") as caught:
        load_encoder(network, "resnet18", "swsl", accept_noncommercial=True)
    assert "encoder_weights=FILE" in caught.value.hint


def test_weights_are_found_where_libraries_keep_them(tmp_path):
    swsl = encoder_weights("resnet18", "swsl")
    settings = SMP["resnet18"]["pretrained_settings"]
    tensors = contiguous(torchvision.models.resnet18())
    path = put_in_hub(tmp_path, settings["swsl"]["repo_id"], settings["swsl"]["revision"], tensors)
    assert find_encoder_weights(swsl) == path
    assert find_encoder_weights(encoder_weights("resnet18")) is None
    folder = tmp_path / "torch" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(tensors, folder / "resnet18-f37072fd.pth")
    assert find_encoder_weights(encoder_weights("resnet18")) == folder / "resnet18-f37072fd.pth"
    put_fetched(tmp_path, "resnet18", tensors)
    assert find_encoder_weights(encoder_weights("resnet18")).parent.name == "encoder-resnet18"
    assert find_encoder_weights(swsl) == path
    network = zoo.build("fpn-resnet18", 2)
    done, _, _ = load_encoder(network, "resnet18", "swsl", accept_noncommercial=True)
    assert done.copied == done.num_tensors == 120
    assert set(done.unused) == set()
    assert torch.equal(network.encoder.layer4[0].conv1.weight, tensors["layer4.0.conv1.weight"])


def test_weights_of_timm_are_found_in_the_hub(tmp_path):
    resnet = timm.create_model("resnet10t")
    repository = timm.models.get_pretrained_cfg("resnet10t").hf_hub_id
    put_in_hub(tmp_path, repository, "0" * 40, contiguous(resnet))
    network = zoo.build("unet-tu-resnet10t", 2)
    done, weights, _ = load_encoder(network, "tu-resnet10t")
    assert (weights.licence, weights.commercial) == ("apache-2.0", "yes")
    assert done.copied == done.num_tensors
    assert torch.equal(network.encoder.model.layer4[0].conv1.weight, resnet.layer4[0].conv1.weight)


PUBLISHED = {
    "unet-vgg16_bn": torchvision.models.vgg16_bn,
    "unet-densenet121": torchvision.models.densenet121,
    "pspnet-resnet18": torchvision.models.resnet18,
    "unet-tu-convnext_tiny": lambda: timm.create_model("convnext_tiny"),
    "fpn-tu-mobilenetv3_large_100": lambda: timm.create_model("mobilenetv3_large_100"),
    "dpt-tu-vit_tiny_patch16_224": lambda: timm.create_model("vit_tiny_patch16_224"),
    "unet-timm-efficientnet-b3": lambda: timm.create_model("tf_efficientnet_b3"),
}


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in PUBLISHED if "pspnet" not in name),
        "pspnet-resnet18",
    ],
)
def test_every_kind_of_encoder_takes_its_published_weights(name, tmp_path, capfd):
    torch.manual_seed(0)
    published = contiguous(PUBLISHED[name]())
    network = zoo.build(name, 2)
    decoder = {key: tensor.clone() for key, tensor in network.decoder.state_dict().items()}
    done = pretrained.fill_encoder(network, name.partition("-")[2], published, tmp_path)
    assert done.copied == done.num_tensors == len(network.encoder.state_dict())
    assert all(torch.equal(decoder[key], tensor) for key, tensor in network.decoder.state_dict().items())
    values = {tensor.flatten()[:4].tolist().__str__() for tensor in published.values() if tensor.numel() > 1000}
    ours = [tensor for tensor in network.encoder.state_dict().values() if tensor.numel() > 1000]
    assert ours
    assert all(str(tensor.flatten()[:4].tolist()) in values for tensor in ours)
    assert "Unexpected keys" not in capfd.readouterr().err


def test_weights_of_another_encoder_are_refused(tmp_path):
    network = zoo.build("fpn-resnet18", 2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    other = contiguous(bare_encoder("mobilenet_v2"))
    with pytest.raises(DataError, match="are not those of an encoder `resnet18`: 0 of 120"):
        pretrained.fill_encoder(network, "resnet18", other, tmp_path)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_titles():
    weights = EncoderWeights(encoder="tu-x", name="", licence="MIT", commercial="yes")
    assert weights.title == "tu-x"
    assert encoder_weights("resnet18", "ssl").title == "resnet18:ssl"
