"""Learning rate, averaging and seeds: functions of the position alone."""

import itertools

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from seglab.config import TrainConfig
from seglab.training.average import AveragedWeights
from seglab.training.schedule import average_decay, cycled_momentum, learning_rate, step_seed


def rates_of(num_steps, **settings):
    config = TrainConfig(**{"epochs": 1, "warmup": 0.0, "lr": 2.0, **settings})
    return [learning_rate(step / num_steps, config, num_steps) for step in range(num_steps)]


def torchs_rates(num_steps, make, momentum_of=None, **optimizer_settings):
    """What one of torch's schedulers gives, step by step, and the momentum beside it."""
    weights = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weights], **{"lr": 2.0, **optimizer_settings})
    scheduler, rates, momenta = make(optimizer), [], []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["betas"][0])
        optimizer.step()
        scheduler.step()
    return momenta if momentum_of else rates


def test_the_rate_rises_in_a_line_then_falls_as_a_cosine_to_zero():
    config = TrainConfig(lr=2.0, warmup=0.1)
    rates = [learning_rate(step / 1000, config, 1000) for step in range(1001)]
    assert rates[50] == pytest.approx(1.0)
    assert rates[100] == 2.0
    assert max(rates) == 2.0
    assert rates[550] == pytest.approx(1.0)
    assert rates[1000] == pytest.approx(0, abs=1e-15)
    assert all(a < b for a, b in itertools.pairwise(rates[1:101]))
    assert all(a > b for a, b in itertools.pairwise(rates[100:]))
    assert 0 < rates[0] < 0.01


def test_cosine_is_torchs():
    expected = torchs_rates(50, lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 50))
    assert rates_of(50) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rise", [0.3, 0.1, 0.5])
@pytest.mark.parametrize("num_steps", [10, 37, 1000])
def test_one_cycle_is_torchs_and_moves_the_momentum(rise, num_steps):
    def make(optimizer):
        return lr_scheduler.OneCycleLR(optimizer, max_lr=2.0, total_steps=num_steps + 1, pct_start=rise)

    def truncated(values):
        return values[:num_steps]

    exact = TrainConfig(lr=2.0, schedule="onecycle", warmup=rise)
    num = num_steps + 1  # torch's scheduler may be stepped once less than it has steps
    rates = truncated([learning_rate(step / num, exact, num) for step in range(num)])
    momenta = truncated([cycled_momentum(step / num, exact, num) for step in range(num)])
    assert rates == pytest.approx(torchs_rates(num_steps, make), rel=1e-9)
    assert momenta == pytest.approx(torchs_rates(num_steps, make, "momentum"), rel=1e-9)
    assert min(momenta) >= 0.85
    assert learning_rate(1.0, exact, num) == pytest.approx(2.0 / 25 / 1e4)


def test_other_schedules_leave_the_momentum_alone():
    assert cycled_momentum(0.5, TrainConfig(), 100) is None


def test_poly_is_torchs():
    expected = torchs_rates(40, lambda optimizer: lr_scheduler.PolynomialLR(optimizer, 40, power=0.9))
    assert rates_of(40, schedule="poly", power=0.9) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize("steps_an_epoch", [1, 3, 7])
def test_exponential_is_torchs_stepped_every_few_epochs(every, steps_an_epoch):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler, expected = lr_scheduler.ExponentialLR(optimizer, gamma=0.9), []
    for epoch in range(100):
        expected += [optimizer.param_groups[0]["lr"]] * steps_an_epoch
        optimizer.step()
        if (epoch + 1) % every == 0:
            scheduler.step()
    settings = {"schedule": "exponential", "gamma": 0.9, "decay_epochs": every, "epochs": 100}
    assert rates_of(100 * steps_an_epoch, **settings) == pytest.approx(expected, rel=1e-9)


def test_constant_is_the_peak_after_the_warm_up():
    rates = rates_of(100, schedule="constant", warmup=0.1)
    assert rates[10:] == [2.0] * 90
    assert rates[5] == pytest.approx(1.0)


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "poly", "exponential", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 1 / 3, 1.0])
@pytest.mark.parametrize("num_steps", [1, 2, 100])
def test_extreme_settings_are_sound(schedule, warmup, num_steps):
    config = TrainConfig(lr=1.0, schedule=schedule, warmup=warmup)
    for share in (-0.1, 0, 0.5, 1 - 1e-16, 1, 1.5):
        assert 0 <= learning_rate(share, config, num_steps) <= 1 + 1e-12
        momentum = cycled_momentum(share, config, num_steps)
        assert momentum is None or 0.85 <= momentum <= 0.95


def test_the_average_forgets_the_beginning():
    assert average_decay(0, 0.998) == 0.1
    assert average_decay(90, 0.998) == pytest.approx(0.91)
    assert average_decay(10**6, 0.998) == 0.998
    assert average_decay(5, 0.0) == 0.0


def test_seeds_differ_by_step_epoch_and_run():
    seeds = {step_seed(run, epoch, step) for run in range(3) for epoch in range(10) for step in range(10)}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert step_seed(2**63 - 1, 10**6, 10**6) >= 0


def test_the_average_follows_weights_and_statistics():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = AveragedWeights(network)
    start = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        network[0].weight.add_(1.0)
    network(torch.randn(8, 2))
    average.update(network, 0.75)
    now = network.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.75 * start[name] + 0.25 * now[name])
        else:
            assert value == now[name] == 1
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert not average.network.training
