"""Several processes that train together: what they exchange, and that two learn what one with both batches learns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from seglab.errors import BusyError, SeglabError, UsageError
from seglab.training.distributed import ALONE, launch_name, was_restarted
from tests.training import team_member

HERE = Path(__file__).parent
TIMEOUT_S = 240


def torchrun(arguments, *, num=2, options=(), cwd=None, environment=None):
    """Start processes on a free port; return what is finished."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "localhost:0",
    ]
    command += ["--nproc-per-node", str(num), *options, *map(str, arguments)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1]), **(environment or {})}
    return subprocess.run(
        command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """What two processes saw."""
    folder = tmp_path_factory.mktemp("team")
    done = torchrun([HERE / "team_member.py", folder], environment={"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def exchanged(members, name):
    return [member["exchanges"][name] for member in members]


def test_a_team_adds_up_exactly_and_gathers_by_rank(members):
    assert exchanged(members, "size") == [[2, 2], [2, 2]]
    assert exchanged(members, "sum") == [[2 * (2**53 + 1), 1]] * 2
    assert exchanged(members, "gather") == [[{"rank": 0, "text": "ä"}, {"rank": 1, "text": "ä" * 101}]] * 2


def test_the_first_process_s_weights_and_state_are_everybody_s(members):
    assert exchanged(members, "shared") == [[[0.0, 1.0, 2.0, 3.0, 4.0], [1, "x"]]] * 2
    assert exchanged(members, "nothing") == [None, None]
    torch.manual_seed(0)
    expected = torch.nn.Conv2d(3, 4, 1).weight.flatten().tolist()
    assert exchanged(members, "weight") == [expected, expected]


def test_statistics_become_their_mean_unless_they_are_frozen(members):
    assert exchanged(members, "aligned") == [[0.5] * 4] * 2
    assert exchanged(members, "frozen") == [[0.0] * 4, [1.0] * 4]


def test_an_error_in_one_process_is_everybody_s_and_told_once(members):
    assert exchanged(members, "good") == [None, None]
    assert exchanged(members, "first") == [
        ["BusyError", "busy in 0", "wait", 5, False],
        ["DataError", "busy in 0 (process 0)", "wait", 5, True],
    ]
    assert exchanged(members, "second") == [
        ["DataError", "busy in 1 (process 1)", "wait", 5, False],
        ["BusyError", "busy in 1", "wait", 5, True],
    ]


def test_processes_that_were_started_otherwise_are_refused(members):
    assert exchanged(members, "same") == [None, None]
    for kind, message, hint, code, _ in exchanged(members, "other"):
        assert (kind, code) == ("UsageError", 2)
        assert message == "process 1 was started with data `d1`, but process 0 with `d0`"
        assert "same command" in hint
    assert [told_elsewhere for *_, told_elsewhere in exchanged(members, "other")] == [False, True]


def test_batch_normalisation_over_all_processes_needs_gpus(members):
    assert {kind for kind, *_ in exchanged(members, "sync_bn")} == {"DeviceError"}


def test_all_processes_see_a_signal_and_the_first_one_s_time(members):
    first, second = (member["agreement"] for member in members)
    # The signal of the second step is agreed upon before the third.
    assert first["steps"] == second["steps"] == [[5, False], [5, False], [5, True], [5, True]]
    assert first["seconds"] == second["seconds"]
    assert 100 <= first["seconds"] < 150
    assert first["code"] == second["code"] == 143


def test_samples_that_cannot_be_made_end_all_processes(members):
    assert members[0]["agreement"]["broken"] == ["UsageError", "no photo", "look", 2, False]
    assert members[1]["agreement"]["broken"] == ["DataError", "no photo (process 0)", "look", 2, True]


@pytest.mark.parametrize("name", list(team_member.CONFIGS))
def test_two_processes_learn_what_one_learns_from_both_batches(members, name):
    """Pictures without labels, and with few, fall on one process only; the network has no normalisation."""
    alone = team_member.learn(ALONE, name)
    for member in members:
        for what in ("weights", "average"):
            np.testing.assert_allclose(member[name][what], alone[what], rtol=0, atol=1e-6)
        assert member[name]["num"] == alone["num"] == 24
        assert member[name]["means"] == pytest.approx(alone["means"], rel=1e-5)
    assert members[0][name] == members[1][name]


def test_learning_moves_the_weights_by_more_than_the_tolerance():
    """Or the test above would prove nothing."""
    from seglab.models.zoo import build

    torch.manual_seed(0)
    network = build("unet", team_member.NUM_CLASSES, form="plain", width=4)
    before = torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).numpy()
    for name in team_member.CONFIGS:
        assert np.abs(before - np.array(team_member.learn(ALONE, name)["weights"])).max() > 1e-3


def test_alone_an_error_is_itself():
    with pytest.raises(BusyError) as caught, ALONE.together():
        raise BusyError("busy")
    assert not caught.value.told_elsewhere
    ALONE.check_same({"a": 1})
    assert ALONE.gather("x") == ["x"]


def test_what_torchrun_says_of_itself(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    assert launch_name() == ""
    assert not was_restarted()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-7")
    assert launch_name() == "job-7"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert str(os.getppid()) in launch_name()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert was_restarted()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "two")
    with pytest.raises(UsageError, match="`TORCHELASTIC_RESTART_COUNT=two`"):
        was_restarted()
    assert issubclass(UsageError, SeglabError)


@pytest.mark.parametrize(
    ("model", "arguments", "losses", "expected"),
    [
        ("pgn", {"blocks": [1, 1, 1, 1], "width": 4}, {"cross_entropy": 1.0}, "edge"),
        ("pgn", {"blocks": [1, 1, 1, 1], "width": 4}, {"cross_entropy": 1.0, "edge": 1.0}, ""),
        ("u2netp", {}, {"cross_entropy": 1.0, "boundary": 1.0}, ""),
        ("unet-light", {"width": 4}, {"lovasz": 1.0}, ""),
    ],
)
def test_parameters_that_no_loss_sees_are_known(model, arguments, losses, expected):
    """DistributedDataParallel would wait for their gradients for ever."""
    from seglab.config import TrainConfig
    from seglab.models.zoo import build
    from seglab.preprocess import Preprocess
    from seglab.training.learner import Learner

    config = TrainConfig(model=model, size=32, losses=losses, output_weights=(1.0, 0.0))
    network = build(model, team_member.NUM_CLASSES, **arguments)
    learner = Learner(network, config, Preprocess(size_hw=(32, 32)), torch.device("cpu"))
    learner.step(team_member.batch_of(2, 0), rate=0.0, seed=0, decay=0.0)
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    unused = {id(parameter) for parameter in learner._unused()}
    assert {name for name, parameter in network.named_parameters() if id(parameter) in unused} == without
    assert all(expected in name for name in without)
    assert bool(without) is bool(expected)
