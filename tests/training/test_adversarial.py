"""The adversarial trainer against the original's loop written plainly, and whole runs of it."""

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seglab.config import Adversarial, TrainConfig
from seglab.data.loader import Batch
from seglab.errors import Interrupted
from seglab.models.bundle import load_weights, read_config
from seglab.models.pix2pix import Discriminator, soft_mask
from seglab.models.zoo import build
from seglab.preprocess import Preprocess
from seglab.tasks import Task
from seglab.training.adversarial import AdversarialLearner, discriminator_rate, make_learner
from seglab.training.distributed import ALONE
from seglab.training.learner import Learner, NonFiniteError
from seglab.training.loop import train
from seglab.training.recipe import configure, load_recipe
from seglab.training.schedule import learning_rate
from tests.training import adversarial_member
from tests.training.test_distributed import torchrun
from tests.training.test_loop import Watcher, assert_same, crash, final_state, lines, send, without_times

CPU = torch.device("cpu")
BLOB = Task(name="blob", classes=("none", "blob"))


def pix2pix_config(**changes):
    config = configure(TrainConfig(), recipe=load_recipe("person-pix2pix"))
    return dataclasses.replace(config, model_args={"width": 2}, **changes)


def preprocess(side):
    return Preprocess(size_hw=(side, side), mean=(0.5,) * 3, std=(0.5,) * 3)


def batch(num, side, *, seed=0, num_classes=2, void=False):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, (num, 8, 8)).astype(np.uint8).repeat(side // 8, 1).repeat(side // 8, 2)
    if void:
        labels[:, : side // 4] = 255
    return Batch(rng.integers(0, 256, (num, side, side, 3)).astype(np.uint8), labels, tuple("abcdefgh"[:num]))


def adversarial(network, config, side, num_classes=2):
    torch.manual_seed(3)
    return AdversarialLearner(network, config, preprocess(side), CPU, num_classes=num_classes)


def normless(num_classes=2):
    """A network whose answer for a picture depends on nothing else in the batch."""

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv2d(3, 4, 3, padding=1)
            self.last = torch.nn.Conv2d(4, num_classes, 1)

        def forward(self, image_BCHW):
            return (self.last(torch.tanh(self.first(image_BCHW))),)

    torch.manual_seed(1)
    return Plain()


def without_norm(discriminator):
    for block in discriminator.blocks:
        block.norm = torch.nn.Identity()
    return discriminator


def original_loop(generator, discriminator, batches, rates, seeds):
    """What the original does with a batch, in its order, in plain torch; facts: BCE + 100 x L1, D before G."""
    g_optimizer = torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999))
    d_optimizer = torch.optim.Adam(discriminator.parameters(), 2e-4, (0.5, 0.999))
    losses = []
    for (image, mask), (g_rate, d_rate), seed in zip(batches, rates, seeds, strict=True):
        g_optimizer.param_groups[0]["lr"], d_optimizer.param_groups[0]["lr"] = g_rate, d_rate
        torch.manual_seed(seed)
        maps = generator(image)[0]
        fake = torch.tanh((maps[:, 1:] - maps[:, :1]) / 2)
        d_real, d_fake = discriminator(image, mask), discriminator(image, fake.detach())
        zeros = torch.zeros_like(d_fake) + 0.05 * torch.rand(d_fake.shape).double()
        ones = torch.ones_like(d_real) - 0.05 * torch.rand(d_real.shape).double()
        d_loss = (
            F.binary_cross_entropy_with_logits(d_real, ones) + F.binary_cross_entropy_with_logits(d_fake, zeros)
        ) / 2
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_loss = F.binary_cross_entropy_with_logits(discriminator(image, fake), ones) + 100 * F.l1_loss(fake, mask)
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        losses.append((g_loss.item(), d_loss.item()))
    return losses


@pytest.mark.parametrize("form", ["plain", "edge"])
def test_it_is_the_originals_loop(form, monkeypatch):
    """Losses, weights and statistics of both networks agree after three steps.

    In double precision: Adam's steps have full length even where a gradient is next to nothing.
    """
    torch.manual_seed(0)
    config = dataclasses.replace(pix2pix_config(), model_args={"form": form, "width": 2})
    ours = build("pix2pix", 2, **config.model_args).double()
    learner = adversarial(ours, dataclasses.replace(config, adversarial=Adversarial(disc_channels=(4, 8, 16, 32))), 256)
    learner.discriminator.double()
    single = learner._to_device
    monkeypatch.setattr(learner, "_to_device", lambda batch: (single(batch)[0].double(), single(batch)[1]))
    initial, theirs = copy.deepcopy(ours), copy.deepcopy(ours).train()
    initial_discriminator = copy.deepcopy(learner.discriminator)
    their_discriminator = copy.deepcopy(learner.discriminator).train()
    batches, seeds, rates = [batch(2, 256, seed=seed) for seed in range(3)], [11, 12, 13], [(2e-4, 3e-4), (1e-4, 2e-4)]
    rates.append(rates[0])
    their_batches = []
    for each in batches:
        image, _ = learner._to_device(each)
        torch.testing.assert_close(image.float(), torch.from_numpy(each.pixels_BHWC).permute(0, 3, 1, 2) / 127.5 - 1)
        their_batches.append((image, torch.from_numpy(each.labels_BHW)[:, None].double() * 2 - 1))
    expected = original_loop(theirs, their_discriminator, their_batches, rates, seeds)
    found = []
    for each, seed, (rate, disc_rate) in zip(batches, seeds, rates, strict=True):
        learner.begin_epoch()
        learner.step(each, rate=rate, seed=seed, decay=0.0, disc_rate=disc_rate)
        means = learner.means()
        found.append((means["loss"], means["disc"]))
        assert means["adversarial"] + means["l1"] == pytest.approx(means["loss"], rel=1e-6)
        assert (means["disc_real"] + means["disc_fake"]) / 2 == pytest.approx(means["disc"], rel=1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-6)  # kept in single precision
    for one, other, start in (
        (ours, theirs, initial),
        (learner.discriminator, their_discriminator, initial_discriminator),
    ):
        found_state, expected_state, start_state = one.state_dict(), other.state_dict(), start.state_dict()
        for name, value in found_state.items():
            torch.testing.assert_close(value, expected_state[name], rtol=1e-7, atol=1e-9, msg=name)
            assert not torch.equal(value, start_state[name]), name


def test_both_learning_rates_fall_as_the_originals_do():
    config = pix2pix_config(epochs=9)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizers = [torch.optim.Adam([parameter], 2e-4) for _ in range(2)]
    schedulers = [
        torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma)
        for optimizer, gamma in zip(optimizers, (0.999, 0.99), strict=True)
    ]
    num_steps = 7
    for epoch in range(1, 10):
        expected = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
        for step in range(num_steps):
            share = ((epoch - 1) * num_steps + step) / (9 * num_steps)
            ours = learning_rate(share, config, 9 * num_steps, 9), discriminator_rate(share, config, 9)
            assert ours == pytest.approx(expected, rel=1e-12)
        optimizers[0].step()
        optimizers[1].step()
        if epoch % 2 == 0:
            for scheduler in schedulers:
                scheduler.step()


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("losses", [{}, {"cross_entropy": 1.0, "dice": 0.5}], ids=["alone", "with other losses"])
def test_portions_add_up_to_the_whole_batch(num_classes, losses):
    """Without normalisation and dropout, accumulated gradients give the step of one large batch."""
    states = []
    for batch_size, accumulate in ((6, 1), (2, 3)):
        config = pix2pix_config(batch_size=batch_size, accumulate=accumulate, losses=losses)
        config = dataclasses.replace(config, adversarial=Adversarial(disc_channels=(4, 4)))
        learner = adversarial(normless(num_classes), config, 32, num_classes)
        without_norm(learner.discriminator)
        for seed in range(2):
            learner.step(
                batch(6, 32, seed=seed, num_classes=num_classes, void=True),
                rate=1e-2,
                seed=seed,
                decay=0.0,
                disc_rate=1e-2,
            )
        states.append((learner.means(), learner.network.state_dict(), learner.discriminator.state_dict()))
    (means, *networks), (other_means, *other_networks) = states
    assert means == pytest.approx(other_means, rel=1e-4)
    for one, other in zip(networks, other_networks, strict=True):
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], rtol=1e-3, atol=1e-5, msg=name)


def test_statistics_see_a_portion_once():
    """The generator runs over the portions twice, but its batch normalisation counts them once."""
    torch.manual_seed(0)
    config = pix2pix_config(batch_size=2, accumulate=2)
    config = dataclasses.replace(config, adversarial=Adversarial(disc_channels=(4, 4)))
    learner = adversarial(build("unet-light", 2, width=4), config, 32)
    learner.step(batch(4, 32), rate=0.0, seed=0, decay=0.0)
    counts = {
        int(value) for name, value in learner.network.state_dict().items() if name.endswith("num_batches_tracked")
    }
    assert counts == {2}


def test_pixels_without_a_label_teach_nothing():
    """The loss is that of the labelled pixels, and what the network says elsewhere changes no loss at all."""
    config = dataclasses.replace(pix2pix_config(), adversarial=Adversarial(disc_channels=(4, 4)))
    given = batch(2, 32, void=True)
    learner = adversarial(normless(), config, 32)
    (logits,) = learner.network(learner._to_device(given)[0])
    known = torch.from_numpy(given.labels_BHW != 255)[:, None]
    truth = torch.from_numpy(given.labels_BHW == 1)[:, None] * 2.0 - 1
    expected = 100 * (soft_mask(logits) - truth)[known].abs().mean()
    means = []
    for elsewhere in (0.0, 5.0):
        learner = adversarial(normless(), config, 32)
        learner.network.register_forward_hook(
            lambda _network, _inputs, outputs, shift=elsewhere: (
                outputs[0] + shift * ~known * torch.tensor([-1.0, 1])[:, None, None],
            )
        )
        learner.step(given, rate=0.0, seed=0, decay=0.0)
        means.append(learner.means())
    assert means[0] == means[1]
    assert means[0]["l1"] == pytest.approx(expected.item(), rel=1e-5)


def test_nothing_labelled_at_all_is_no_number_to_fear():
    learner = adversarial(
        normless(), dataclasses.replace(pix2pix_config(), adversarial=Adversarial(disc_channels=(4,))), 32
    )
    given = batch(2, 32)
    learner.step(Batch(given.pixels_BHWC, np.full_like(given.labels_BHW, 255), given.ids), rate=1e-3, seed=0, decay=0.0)
    assert learner.means()["l1"] == 0
    assert np.isfinite(learner.means()["loss"])


def test_mixed_precision_learns_too():
    config = dataclasses.replace(pix2pix_config(precision="bf16"), adversarial=Adversarial(disc_channels=(4, 4)))
    learner = adversarial(normless(), config, 32)
    before = copy.deepcopy(learner.network.state_dict())
    learner.step(batch(2, 32), rate=1e-2, seed=0, decay=0.0, disc_rate=1e-2)
    assert learner.mixed
    assert all(value.dtype == torch.float32 and not torch.equal(value, before[name])
               for name, value in learner.network.state_dict().items())  # fmt: skip
    assert 0 < learner.means()["loss"] < 300


def test_a_discriminator_that_explodes_is_noticed():
    config = dataclasses.replace(pix2pix_config(), adversarial=Adversarial(disc_channels=(4, 4)))
    learner = adversarial(normless(), config, 32)
    with torch.no_grad():
        learner.discriminator.head.bias.fill_(float("inf"))
    with pytest.raises(NonFiniteError, match="disc"):
        learner.step(batch(2, 32), rate=0.0, seed=0, decay=0.0)


def test_the_trainer_is_what_the_configuration_says():
    config = pix2pix_config()
    kinds = {
        trainer: type(
            make_learner(
                normless(), dataclasses.replace(config, trainer=trainer, losses={"dice": 1.0}), preprocess(32), CPU,
                num_classes=2,
            )
        )
        for trainer in ("adversarial", "supervised")
    }  # fmt: skip
    assert kinds == {"adversarial": AdversarialLearner, "supervised": Learner}
    assert config.ema == 0, "no moving average by default"


@pytest.fixture
def gan(config):
    return dataclasses.replace(
        config, trainer="adversarial", losses={}, ema=0.0, epochs=3, optimizer="adam", betas=(0.5, 0.999),
        schedule="exponential", warmup=0.0, decay_epochs=2, clip=0.0, adversarial=Adversarial(disc_channels=(4, 4)),
    )  # fmt: skip


def test_a_run_leaves_the_generator_only_and_journals_both(dataset, gan, cpu, tmp_path):
    result = train(gan, dataset, tmp_path / "run", cpu, graph=True)
    assert result.graph_difference < 1e-3
    expected = {name: value.shape for name, value in build("unet-light", 3, width=4).state_dict().items()}
    assert {name: value.shape for name, value in load_weights(tmp_path / "run").items()} == expected
    assert read_config(tmp_path / "run").training["config"]["trainer"] == "adversarial"
    names = {"loss", "adversarial", "l1", "grad_norm", "disc", "disc_real", "disc_fake", "disc_grad_norm"}
    records = lines(tmp_path / "run")
    assert all(set(record["train"]) == names for record in records)
    assert all("miou" in record["val"] for record in records)
    assert records[-1]["disc_lr"] == pytest.approx(2e-4 * 0.99)
    state = final_state(tmp_path / "run")["learner"]
    assert set(state["discriminator"]) == set(Discriminator(3, channels=(4, 4)).state_dict())
    assert state["average"] is None


@pytest.mark.parametrize("way", ["interrupted", "crashed"])
def test_resuming_is_bit_equal(dataset, gan, cpu, tmp_path, way):
    """Discriminator, both optimizers and what is drawn at random go on as if nothing had happened."""
    import signal

    train(gan, dataset, tmp_path / "whole", cpu, graph=False)
    error, then = (Interrupted, send(signal.SIGINT)) if way == "interrupted" else (RuntimeError, crash)
    with pytest.raises(error):
        train(gan, dataset, tmp_path / "broken", cpu, graph=False, watcher=Watcher(5, then))
    train(gan, dataset, tmp_path / "broken", cpu, graph=False, resume=True)
    one, other = final_state(tmp_path / "whole"), final_state(tmp_path / "broken")
    assert_same(one, other)
    assert_same(load_weights(tmp_path / "whole"), load_weights(tmp_path / "broken"))
    assert without_times(lines(tmp_path / "whole")) == without_times(lines(tmp_path / "broken"))


def test_it_learns(make_dataset, gan, cpu, tmp_path):
    gan = dataclasses.replace(gan, epochs=40, lr=5e-3, val_every=40, overfit=4, model_args={"width": 8})
    train(gan, make_dataset(num_train=4), tmp_path / "run", cpu, graph=False)
    records = lines(tmp_path / "run")
    assert records[-1]["train"]["l1"] < records[0]["train"]["l1"] / 2.5
    assert records[-1]["val"]["miou"] > 0.7


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """What two processes that torchrun started have learned."""
    folder = tmp_path_factory.mktemp("team")
    script = Path(__file__).parent / "adversarial_member.py"
    done = torchrun([script, folder], environment={"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(adversarial_member.KINDS))
def test_two_processes_learn_what_one_learns_from_both_batches(members, kind):
    alone = adversarial_member.learn(ALONE, kind)
    first, second = (member[kind] for member in members)
    assert first == second, "all processes have the same weights and losses"
    assert first["means"] == pytest.approx(alone["means"], rel=1e-4)
    for name in ("generator", "discriminator"):
        np.testing.assert_allclose(first[name], alone[name], rtol=1e-4, atol=2e-6)
