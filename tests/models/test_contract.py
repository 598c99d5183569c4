"""What every network of the zoo promises, whatever its architecture."""

import copy
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from seglab.errors import UsageError
from seglab.models import zoo
from seglab.models.segmenter import split_outputs
from tests.models.networks import NETWORKS, network, picture

KEYS_PATH = Path(__file__).parent / "golden" / "keys.json"
every_network = pytest.mark.parametrize("label", NETWORKS)


def test_every_family_is_held_to_the_contract():
    assert {zoo.row(name).family for name, _ in NETWORKS.values()} == {row.family for row in zoo.rows()}
    assert len({row.family for row in zoo.rows()}) == 17


@every_network
@pytest.mark.parametrize(("num_classes", "sizes_hw"), [(2, [(64, 48), (1, 1)]), (11, [(37, 53)])])
def test_outputs_have_the_size_of_the_picture(label, num_classes, sizes_hw):
    segmenter = network(label, num_classes).eval()
    for height, width in sizes_hw:
        with torch.no_grad():
            outputs = segmenter(picture(2, 3, height, width))
        assert isinstance(outputs, tuple)
        assert all(output.dtype == torch.float32 and output.isfinite().all() for output in outputs)
        logits, extras = split_outputs(outputs, segmenter.extras)
        assert len(logits) == {"u2net": 7, "pgn": 2}.get(label, 1)
        assert {tuple(output.shape) for output in logits} == {(2, num_classes, height, width)}
        others = [output for named in extras.values() for output in named]
        assert {name: len(named) for name, named in extras.items()} == ({"edge": 5} if label == "pgn" else {})
        assert all(tuple(output.shape) == (2, 1, height, width) for output in others)


@every_network
def test_gradient_reaches_every_parameter(label):
    segmenter = copy.deepcopy(network(label)).train()
    outputs = segmenter(picture(2, 3, 61, 67))
    sum(logits.square().mean() for logits in outputs).backward()
    gradients = {name: parameter.grad for name, parameter in segmenter.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    # A narrow layer behind a ReLU can be silent for one batch; a part that is cut off would be many.
    silent = [name for name, gradient in gradients.items() if not gradient.any()]
    assert len(silent) <= 0.04 * len(gradients), silent


@every_network
def test_eval_is_deterministic_and_independent_of_the_batch(label):
    segmenter = network(label).eval()
    images = picture(3, 3, 40, 56)
    with torch.no_grad():
        together, again = segmenter(images)[0], segmenter(images)[0]
        alone = torch.cat([segmenter(one)[0] for one in images.split(1)])
    assert torch.equal(together, again)
    assert together.std() > 0
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4 * float(together.abs().max()))


@every_network
def test_padding_repeats_the_last_row_and_column(label):
    segmenter = network(label).eval()
    images = picture(1, 3, 37, 53)
    multiple, least = segmenter.multiple, segmenter.least
    height, width = (max(least, -(-side // multiple) * multiple) for side in (37, 53))
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (0, height - 37), (0, width - 53)), mode="edge")
    with torch.no_grad():
        expected = segmenter.segment(torch.from_numpy(padded))[0][..., :37, :53]
        assert torch.equal(segmenter(images)[0], expected)


@every_network
def test_a_copy_and_a_reloaded_state_answer_alike(label):
    segmenter = network(label).eval()
    name, args = NETWORKS[label]
    reloaded = zoo.build(name, 2, **args).eval()
    assert not all(map(torch.equal, reloaded.parameters(), segmenter.parameters()))
    reloaded.load_state_dict(segmenter.state_dict(), strict=True)
    images = picture(1, 3, 32, 40)
    with torch.no_grad():
        expected = segmenter(images)[0]
        assert torch.equal(reloaded(images)[0], expected)
        assert torch.equal(copy.deepcopy(segmenter)(images)[0], expected)


def keys_digest(segmenter):
    lines = [f"{key} {tuple(tensor.shape)}" for key, tensor in sorted(segmenter.state_dict().items())]
    return [len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()]


@every_network
def test_state_dict_keys_are_a_promise(label):
    """If this fails, saved models no longer load. If that is meant: python -m tests.models.test_contract."""
    assert keys_digest(network(label)) == json.loads(KEYS_PATH.read_text())[label]


@pytest.mark.parametrize(
    ("label", "size"), [("smp-deeplabv3", 64), ("smp-upernet", 64), ("unet", 16), ("unet-light", 32)]
)
def test_a_single_value_a_channel_is_explained(label, size):
    segmenter = copy.deepcopy(network(label)).train()
    with pytest.raises(UsageError, match=f"cannot be trained on a batch of 1 at {size}x{size}") as caught:
        segmenter(picture(1, 3, size, size))
    assert "a batch of 2 or more" in caught.value.hint
    segmenter(picture(2, 3, size, size))
    segmenter.eval()(picture(1, 3, size, size))


def test_other_value_errors_are_not_hidden():
    segmenter = copy.deepcopy(network("unet-light"))
    segmenter.stem = torch.nn.Identity()
    segmenter.stem.forward = lambda _: (_ for _ in ()).throw(ValueError("something else"))
    with pytest.raises(ValueError, match="something else"):
        segmenter(picture(1, 3, 32, 32))


if __name__ == "__main__":
    digests = {label: keys_digest(network(label)) for label in NETWORKS}
    KEYS_PATH.write_text(json.dumps(digests, indent=1) + "\n")
