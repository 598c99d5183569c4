"""Learning rate, averaging and seeds: functions of the position alone."""

import itertools
import math

import pytest
import torch
from torch import nn

from seglab.training.average import AveragedWeights
from seglab.training.schedule import average_decay, learning_rate, step_seed


def test_the_rate_rises_in_a_line_then_falls_as_a_cosine_to_zero():
    rates = [learning_rate(step / 1000, peak=2.0, warmup=0.1) for step in range(1001)]
    assert rates[50] == pytest.approx(1.0)
    assert rates[100] == 2.0
    assert max(rates) == 2.0
    assert rates[550] == pytest.approx(1.0)
    assert rates[1000] == pytest.approx(0, abs=1e-15)
    assert all(a < b for a, b in itertools.pairwise(rates[1:101]))
    assert all(a > b for a, b in itertools.pairwise(rates[100:]))
    assert 0 < rates[0] < 0.01


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_extreme_warmups_are_sound(warmup):
    rates = [learning_rate(share, peak=1.0, warmup=warmup) for share in (0, 0.5, 1, 1.5)]
    assert all(math.isfinite(rate) and 0 <= rate <= 1 for rate in rates)


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
