"""The contract of :mod:`tests.models.test_contract` for the networks as the zoo builds them, by every name.

Always tested: the small ones among the names of COVER, the lightest in which every family, every decoder and every
encoder comes once. The larger ones of these, and all others, are marked slow: `pytest tests/models/test_every_name.py`
without `-m "not slow"` goes through all. Narrow forms of the large families are in test_contract.

python -m tests.models.test_every_name writes the promised keys again.
"""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from seglab.models import zoo
from seglab.models.segmenter import split_outputs
from tests.models.networks import picture

KEYS_PATH = Path(__file__).parent / "golden" / "zoo_keys.json"
CUT_SHORT = ("smp-pspnet",)
"""Families that use a part of the encoder only: they do not speak for it."""


def cover():
    """Names in which every family and every encoder comes, each time the one with the fewest operations."""
    rows = sorted(zoo.rows(), key=lambda row: row.gflop)
    chosen = {}
    for row in rows:
        chosen.setdefault(row.family, row.name)
        if row.family not in CUT_SHORT:
            chosen.setdefault(row.name.partition("-")[2] if row.family.startswith("smp-") else row.name, row.name)
    return [name for name in zoo.names() if name in chosen.values()]


COVER = cover()
ALWAYS = [name for name in COVER if zoo.row(name).params < 50e6]


def test_every_family_decoder_and_encoder_is_in_the_cover():
    covered = [zoo.row(name) for name in COVER]
    assert {row.family for row in covered} == {row.family for row in zoo.rows()}
    parts = [row.name.partition("-")[::2] for row in covered if row.family.startswith("smp-")]
    assert {decoder for decoder, _ in parts} == set(zoo.DECODERS)
    whole = {encoder for decoder, encoder in parts if f"smp-{decoder}" not in CUT_SHORT}
    everywhere = {row.name.partition("-")[2] for row in zoo.rows() if row.family.startswith("smp-")}
    assert whole == everywhere
    assert len(COVER) < 45
    large = {"pgn", "pix2pix", "linknet-resnet101", "linknet-resnext101_32x8d"}
    large |= {"dpt-tu-vit_small_patch16_224", "dpt-tu-vit_base_patch16_224"}
    assert set(COVER) - set(ALWAYS) == large
    assert set(json.loads(KEYS_PATH.read_text())) == set(zoo.names())


@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.exhaustive) for name in zoo.names()]
)
def test_the_contract(name):
    torch.manual_seed(0)
    network = zoo.build(name, 2)
    assert keys_digest(network) == json.loads(KEYS_PATH.read_text())[name]
    assert sum(parameter.numel() for parameter in network.parameters()) == zoo.row(name).params
    learns(network)
    answers(network)


def learns(network):
    """Gradient reaches every parameter; two pictures of an odd size."""
    outputs = network.train()(picture(2, 3, 35, 43))
    sum(output.square().mean() for output in outputs).backward()
    missing = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert missing == []
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    network.zero_grad(set_to_none=True)


def answers(network):
    """Shapes at an odd size; the same answer again, and for a picture alone."""
    images = picture(2, 3, 33, 45)
    with torch.no_grad():
        outputs = network.eval()(images)
        again, alone = network(images), network(images[1:])
    logits, extras = split_outputs(outputs, network.extras)
    assert {tuple(output.shape) for output in logits} == {(2, 2, 33, 45)}
    assert {tuple(output.shape) for named in extras.values() for output in named} <= {(2, 1, 33, 45)}
    for output, same, single in zip(outputs, again, alone, strict=True):
        assert output.isfinite().all()
        assert torch.equal(output, same)
        assert output.std() > 0
        torch.testing.assert_close(single, output[1:], rtol=1e-4, atol=1e-4 * float(output.abs().max()))


def keys_digest(network):
    lines = [f"{key} {tuple(tensor.shape)}" for key, tensor in sorted(network.state_dict().items())]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return f"{len(lines)} {digest[:16]}"


if __name__ == "__main__":
    digests = {name: keys_digest(zoo.build(name, 2)) for name in zoo.names()}
    KEYS_PATH.write_text(json.dumps(digests, indent=1) + "\n")
