"""One process of a team that trains against a discriminator; writes what it learned to FOLDER/RANK.json.

Started by torchrun in test_adversarial.py: adversarial_member.py FOLDER
"""

import json
import sys
from pathlib import Path

import torch

from seglab.config import Adversarial, TrainConfig
from seglab.device import Device
from seglab.models.zoo import build
from seglab.preprocess import Preprocess
from seglab.training.adversarial import make_learner
from seglab.training.distributed import join_team
from tests.training.team_member import NUM_CLASSES, batch_of, part

SIDE = 32
KINDS = {"alone": {"losses": {}}, "with losses, accumulated": {"losses": {"dice": 1.0}, "accumulate": 2}}


def larger(batch):
    """Return a batch of SIDE pixels, as the discriminator needs at least 16."""
    return type(batch)(
        batch.pixels_BHWC.repeat(2, 1).repeat(2, 2), batch.labels_BHW.repeat(2, 1).repeat(2, 2), batch.ids
    )


def learn(team, kind):
    """Do three steps without normalisation and label noise; return weights, losses and the discriminator's weights."""
    config = TrainConfig(
        trainer="adversarial", size=SIDE, batch_size=2, ema=0.0, optimizer="sgd", clip=1.0,
        adversarial=Adversarial(disc_channels=(4, 4), label_noise=0.0, l1_weight=10.0), **KINDS[kind],
    )  # fmt: skip
    torch.manual_seed(team.rank)  # the first process's weights count
    network = build("unet", NUM_CLASSES, form="plain", width=4)
    learner = make_learner(
        network, config, Preprocess(size_hw=(SIDE, SIDE)), torch.device("cpu"), num_classes=NUM_CLASSES, team=team
    )
    for block in learner.discriminator.blocks:
        block.norm = torch.nn.Identity()
    for step in range(3):
        batch = part(larger(batch_of(8, step)), team.rank, team.size)
        learner.step(batch, rate=0.1, seed=0, decay=0.0, disc_rate=1e-3, num_samples=8)
    flat = [torch.cat([value.detach().flatten() for value in network.parameters()]).tolist()
            for network in (learner.network, learner.discriminator)]  # fmt: skip
    return {"generator": flat[0], "discriminator": flat[1], "means": learner.means()}


def main():
    torch.set_num_threads(1)
    with join_team(Device("cpu", None, "for tests")) as team:
        results = {kind: learn(team, kind) for kind in KINDS}
        Path(sys.argv[1], f"{team.rank}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
