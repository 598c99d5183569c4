"""One process of a team: goes through every exchange and writes what it saw to FOLDER/RANK.json.

Started by torchrun in test_distributed.py: team_member.py FOLDER
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from seglab.config import TrainConfig
from seglab.data.loader import Batch
from seglab.device import Device
from seglab.errors import BusyError, ExitCode, SeglabError, UsageError
from seglab.models.zoo import build
from seglab.preprocess import Preprocess
from seglab.training.distributed import Accord, Team, join_team
from seglab.training.learner import Learner
from seglab.training.signals import stop_request

CPU = Device("cpu", None, "for tests")
NUM_CLASSES = 3


def failing(run):
    try:
        run()
    except SeglabError as error:
        return [type(error).__name__, error.message, error.hint, int(error.exit_code), error.told_elsewhere]
    return None


def one_fails(team, rank):
    with team.together():
        if team.rank == rank:
            raise BusyError(f"busy in {rank}", "wait")


def exchanges(team):
    torch.manual_seed(team.rank)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False).eval())
    team.share_weights(network)
    network[1].running_mean.fill_(team.rank)
    network[2].running_mean.fill_(team.rank)
    team.align(network)
    state = {"a": torch.arange(5.0), "b": [1, "x"]} if team.is_first else None
    shared = team.share_state(state)
    return {
        "size": [team.size, team.local_size],
        "sum": team.sum(torch.tensor([2**53 + 1, team.rank])).tolist(),
        "gather": team.gather({"rank": team.rank, "text": "ä" * (1 + 100 * team.rank)}),
        "shared": [shared["a"].tolist(), shared["b"]],
        "nothing": team.share_state(None),
        "weight": network[0].weight.flatten().tolist(),
        "aligned": network[1].running_mean.tolist(),
        "frozen": network[2].running_mean.tolist(),
        "good": failing(lambda: one_fails(team, None)),
        "first": failing(lambda: one_fails(team, 0)),
        "second": failing(lambda: one_fails(team, 1)),
        "same": failing(lambda: team.check_same({"lr": 1, "data": "abc"})),
        "other": failing(lambda: team.check_same({"lr": 1, "data": f"d{team.rank}"})),
        "sync_bn": failing(lambda: team.prepare(network, sync_bn=True)),
    }


def agreement(team):
    """Rank 1 is terminated in the second of four steps; rank 0 then cannot make its samples."""
    seen = []
    with stop_request(patient=True) as stop:
        accord = Accord(team, stop, 100.0 + 50 * team.rank)
        for step, _ in enumerate(accord.each([[0] * (2 + team.rank)] * 4)):
            seen.append([accord.num_samples, accord.must_stop])
            if step == 1 and team.rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)

        def broken():
            yield [0]
            if team.rank == 0:
                raise UsageError("no photo", "look")
            yield [0]

        error = failing(lambda: list(accord.each(broken())))
    return {"steps": seen, "seconds": accord.seconds, "code": int(stop.exit_code), "broken": error}


def batch_of(size, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size, 16, 16, 3), dtype=np.uint8)
    labels = rng.integers(0, NUM_CLASSES, (size, 16, 16), dtype=np.uint8)
    labels[0] = 255  # a picture without labels, and one that has them in a corner only
    labels[1, 3:] = 255
    labels[1, :, 5:] = 255
    return Batch(pixels, labels, tuple(f"s{number}" for number in range(size)))


def part(batch, rank, size):
    return Batch(batch.pixels_BHWC[rank::size], batch.labels_BHW[rank::size], batch.ids[rank::size])


CONFIGS = {
    "cross_entropy and dice": {},
    "all": {
        "losses": dict.fromkeys(("cross_entropy", "focal", "bce", "dice", "lovasz", "boundary", "tversky"), 1.0),
        "class_weights": (1.0, 3.0, 0.5),
        "optimizer": "sgd",
        "lr": 0.1,
    },
    "accumulated": {"accumulate": 2, "clip": 0.05},
}


def learn(team, name):
    """Do three steps on a network without normalisation; return its weights, losses and the average."""
    config = TrainConfig(size=16, batch_size=2, ema=0.9, seed=1, **CONFIGS[name])
    torch.manual_seed(team.rank)  # the first process's weights count
    network = build("unet", NUM_CLASSES, form="plain", width=4)
    preprocess = Preprocess(size_hw=(16, 16))
    weights = config.class_weights if isinstance(config.class_weights, tuple) else None
    learner = Learner(network, config, preprocess, torch.device("cpu"), class_weights=weights, team=team)
    for step in range(3):
        batch = batch_of(8, step)
        learner.step(part(batch, team.rank, team.size), rate=config.lr, seed=0, decay=0.9, num_samples=8)
    flat = torch.cat([parameter.detach().flatten() for parameter in learner.network.parameters()])
    average = torch.cat([parameter.flatten() for parameter in learner.average.network.parameters()])
    return {"weights": flat.tolist(), "average": average.tolist(), "means": learner.means(), "num": learner.num_images}


def main():
    torch.set_num_threads(1)
    with join_team(CPU) as team:
        results = {"exchanges": exchanges(team), "agreement": agreement(team)}
        results |= {name: learn(team, name) for name in CONFIGS}
        Path(sys.argv[1], f"{team.rank}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    assert ExitCode.DONE == 0
    assert isinstance(Team(), Team)
    main()
