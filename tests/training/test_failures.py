"""Runs that fail: losses that are no numbers, disks that are full, states that are damaged; and how they go on."""

import contextlib
import dataclasses
import json
import resource
import signal

import numpy as np
import pytest
import torch

from seglab.config import TrainConfig
from seglab.data.images import write_labels
from seglab.errors import DataError, Interrupted, SeglabError, UsageError
from seglab.models.bundle import load_weights
from seglab.models.pgn import PGN
from seglab.models.weights import save_tensors
from seglab.training.course import Course
from seglab.training.learner import Learner, NonFiniteError
from seglab.training.loop import train
from seglab.training.losses import check_losses
from seglab.training.rundir import RunDir
from tests.training.test_loop import Watcher, assert_same, final_state, lines, send, without_times


@contextlib.contextmanager
def files_no_larger_than(num_bytes):
    """What a full disk is to a process: the system refuses to write more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_weights_that_are_no_numbers_are_noticed_at_once(dataset, config, cpu, tmp_path):
    config = dataclasses.replace(config, epochs=1)
    train(config, dataset, tmp_path / "a", cpu, graph=False)
    tensors = load_weights(tmp_path / "a")
    name = next(name for name in tensors if name.endswith("weight"))
    tensors[name][0] = float("nan")
    save_tensors(tmp_path / "poisoned.safetensors", tensors, {})
    ended = []
    poisoned = dataclasses.replace(config, init=str(tmp_path / "poisoned.safetensors"))
    with pytest.raises(NonFiniteError, match="the loss became nan") as caught:
        train(poisoned, dataset, tmp_path / "b", cpu, graph=False, on_end=ended.append)
    assert caught.value.exit_code == 3
    assert caught.value.message.count(f"`{dataset.dir}/train/images/") == 3 or len(caught.value.ids) == 4
    assert "starts again, with half the learning rate" in caught.value.hint
    assert not (tmp_path / "b" / "last.pt").exists()
    assert not (tmp_path / "b" / "model.safetensors").exists()
    (result,) = ended
    assert (result.reason, result.to_dict()["exit"], result.course.best_epoch) == ("error", 3, 0)


def test_weights_that_a_step_spoils_are_never_saved(dataset, config, cpu, tmp_path, monkeypatch):
    """The loss of the step itself is sound, so that nothing but a look at the weights tells."""
    config = dataclasses.replace(config, epochs=3)
    original, count = Learner._learn, []

    def spoiling(self, *arguments):
        parts = original(self, *arguments)
        count.append(1)
        if len(count) == 6:  # the last step of the second epoch
            with torch.no_grad():
                next(iter(self.network.parameters())).fill_(float("inf"))
        return parts

    monkeypatch.setattr(Learner, "_learn", spoiling)
    with pytest.raises(NonFiniteError, match="the weights are no numbers any more in epoch 2") as caught:
        train(config, dataset, tmp_path / "run", cpu, graph=False)
    assert len(caught.value.ids) > 1
    assert "goes on after epoch 1" in caught.value.hint
    assert final_state(tmp_path / "run")["course"]["epoch"] == 1
    assert all(value.isfinite().all() for value in load_weights(tmp_path / "run").values())


def test_a_run_goes_on_with_a_lower_rate_and_says_so(dataset, config, cpu, tmp_path):
    """As the hint after a loss that is no number says."""
    run_dir, config = tmp_path / "run", dataclasses.replace(config, schedule="constant", warmup=0.0)
    with pytest.raises(Interrupted):
        train(config, dataset, run_dir, cpu, graph=False, watcher=Watcher(4, send(signal.SIGINT)))
    watcher = Watcher()
    lower = dataclasses.replace(config, lr=config.lr / 2, clip=0.1)
    result = train(lower, dataset, run_dir, cpu, graph=False, resume=True, watcher=watcher)
    changed = [note for note in watcher.notes if note.startswith("continuing otherwise than before")]
    assert len(changed) == 2
    assert any("`lr` was 0.005 and is now 0.0025" in note for note in changed)
    assert [record["lr"] for record in lines(run_dir)] == [0.005, 0.0025]
    assert result.resumed_from == (1, 1)
    with pytest.raises(UsageError, match="`weight_decay`"):
        train(dataclasses.replace(lower, weight_decay=0.3), dataset, run_dir, cpu, resume=True)


def test_a_label_that_is_no_class_is_named(dataset, config, cpu, tmp_path):
    """The dataset was sound when it was made; somebody has drawn into it since."""
    sample = dataset.split("train")[4]
    labels = np.zeros(sample.size_hw, np.uint8)
    labels[20:30, 20:30] = 77
    write_labels(dataset.label_path(sample), labels)
    with pytest.raises(DataError, match="77") as caught:
        train(config, dataset, tmp_path / "run", cpu, graph=False)
    assert str(dataset.label_path(sample)) in caught.value.message


@pytest.mark.parametrize("victim", ["last.pt", "model.safetensors", "samples", "curves.png"])
def test_where_the_disk_is_full_what_was_saved_survives(dataset, config, cpu, tmp_path, monkeypatch, victim):
    """Nothing is written half, the error says what is kept, and the run goes on to the same end."""
    monkeypatch.setattr(Course, "is_better", lambda self, score: True)  # so that weights are written at every epoch
    config = dataclasses.replace(config, epochs=3, model_args={"width": 16} if victim == "last.pt" else {"width": 4})
    train(config, dataset, tmp_path / "whole", cpu, graph=False)
    run_dir = tmp_path / "broken"
    with pytest.raises(Interrupted):
        train(config, dataset, run_dir, cpu, graph=False, watcher=Watcher(4, send(signal.SIGINT)))
    kept = {path.name: path.read_bytes() for path in run_dir.iterdir() if path.suffix in (".pt", ".safetensors")}
    path = tmp_path / "whole" / victim
    size = max(each.stat().st_size for each in path.iterdir()) if path.is_dir() else path.stat().st_size
    watcher = Watcher(3)
    with pytest.raises(DataError) as caught:
        _train_on_full_disk(config, dataset, run_dir, cpu, size - 1, victim, watcher)
    assert f"{victim}" in caught.value.message
    assert "cannot write `" in caught.value.message
    assert "what was saved after epoch 1 is untouched" in caught.value.message
    assert f"`seglab train --resume {run_dir}` goes on after epoch 1" in caught.value.hint
    assert (run_dir / "last.pt").read_bytes() == kept["last.pt"]
    if victim == "model.safetensors":
        assert (run_dir / victim).read_bytes() == kept[victim]
    assert not [path for path in run_dir.rglob("*") if path.name.endswith(".part")]
    train(config, dataset, run_dir, cpu, graph=False, resume=True)
    assert_same(final_state(tmp_path / "whole"), final_state(run_dir))
    assert without_times(lines(tmp_path / "whole")) == without_times(lines(run_dir))


def _train_on_full_disk(config, dataset, run_dir, cpu, num_bytes, victim, watcher):
    """Only the victim is refused: other files may be larger."""
    from seglab.training import journal, rundir, session

    owners = {
        "last.pt": (rundir.RunDir, "save_state"),
        "model.safetensors": (session, "save_bundle"),
        "samples": (journal.Journal, "show"),
        "curves.png": (journal.Journal, "draw_curves"),
    }
    owner, name = owners[victim]
    original = getattr(owner, name)

    def refused(*arguments, **options):
        with files_no_larger_than(num_bytes // 2):
            return original(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, refused)
        train(config, dataset, run_dir, cpu, graph=False, resume=True, watcher=watcher)


def test_a_full_disk_is_told_in_the_systems_words(tmp_path):
    run = RunDir(tmp_path)
    run.save_state({"learner": {"a": torch.zeros(10)}, "course": {}})
    before = (tmp_path / "last.pt").read_bytes()
    with files_no_larger_than(50_000), pytest.raises(DataError, match=r"cannot write `.*last\.pt`: File too large$"):
        run.save_state({"learner": {"a": torch.zeros(100_000)}, "course": {}})
    assert (tmp_path / "last.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


@pytest.fixture
def interrupted_run(dataset, config, cpu, tmp_path):
    with pytest.raises(Interrupted):
        train(config, dataset, tmp_path / "run", cpu, graph=False, watcher=Watcher(4, send(signal.SIGINT)))
    return tmp_path / "run"


def test_however_a_state_is_damaged_the_message_is_ours(interrupted_run, dataset, config, cpu):
    """Cut short, or changed at one place or at many: it is refused with a hint, or what is in it is as it was."""
    path, run = interrupted_run / "last.pt", RunDir(interrupted_run)
    content, original = path.read_bytes(), run.load_state()
    rng = np.random.default_rng(0)
    errors = []
    for trial in range(150):
        changed = bytearray(content)
        if trial < 30:
            del changed[int(rng.integers(0, len(content))) :]
        for _ in range(0 if trial < 30 else 1 if trial < 90 else 20):
            changed[int(rng.integers(0, len(content)))] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        try:
            assert_same(run.load_state(), original)
        except DataError as error:
            errors.append(error)
    assert len(errors) > 100
    assert {error.message.partition(":")[0] for error in errors} == {f"`{path}` is damaged"}
    assert len({error.message for error in errors}) <= 4, "texts of ours, not torch's"
    hint = f"`seglab train --init {interrupted_run} --out NEW ...` starts a new run from its best weights"
    assert {error.hint for error in errors} == {hint}


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["learner"].pop("network"),
        lambda state: state["learner"]["network"].popitem(),
        lambda state: state["learner"].update(network=7),
        lambda state: state["learner"].update(totals="x"),
        lambda state: state["learner"]["optimizer"].clear(),
        lambda state: state["course"].update(nonsense=1),
        lambda state: state.pop("course"),
        lambda state: state.update(learner=[]),
    ],
)
def test_a_state_of_something_else_is_refused_and_stays(interrupted_run, dataset, config, cpu, change):
    path = interrupted_run / "last.pt"
    state = torch.load(path, weights_only=True)  # noqa: TID251
    change(state)
    torch.save(state, path)
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"last\.pt` is damaged: ") as caught:
        train(config, dataset, interrupted_run, cpu, graph=False, resume=True)
    assert "Error" not in caught.value.message
    assert "--init" in caught.value.hint
    assert path.read_bytes() == before


@pytest.mark.slow
def test_json_says_how_a_run_ended(make_dataset, tmp_path, seglab_train):
    dataset = make_dataset()
    task_path = tmp_path / "shapes.toml"
    task_path.write_text(
        'name = "shapes"\nclasses = ["none", "left", "right"]\nmirror = [["left", "right"]]\n'
        '[regions]\nany = ["left", "right"]\n'
    )
    run_dir = tmp_path / "run"
    start = ("--task", task_path, "--data", dataset.dir, "--out", run_dir, "--json", "--no-graph", "--size", 32)
    flags = ("--epochs", 2, "--batch-size", "auto", "--set", "model_args.width=4", "--set", "batch_size=4")
    done = seglab_train(*start, *flags, "--layout", "channels_last", "--accumulate", 2, "--overfit", 6)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["exit"], result["stopped"], result["error"], result["resumed_from"]) == (0, "epochs", None, None)
    assert (result["metric"], result["best_epoch"], result["device"]) == ("miou", 2, "cpu")
    assert 0 <= result["best_score"] <= 1
    assert result["seconds"] > 0
    names = {"weights", "state", "metrics", "curves", "samples"}
    assert set(result["paths"]) == names
    assert result["paths"]["weights"] == str(run_dir / "model.safetensors")
    config = result["config"]
    assert (config["halve_batches"], config["batch_size"], config["accumulate"], config["overfit"]) == (True, 4, 2, 6)
    busy = seglab_train(*start, *flags)
    assert busy.returncode == 2
    assert json.loads(busy.stdout)["exit"] == 2
    assert json.loads(busy.stdout)["error"].endswith("holds a run already")
    missing = seglab_train(*start[:4], "--out", tmp_path / "other", "--logger", "wandb", "--json")
    assert missing.returncode == 6, missing.stderr
    assert "`pip install wandb`" in missing.stderr
    assert json.loads(missing.stdout)["hint"] == "`pip install wandb`"


@pytest.mark.parametrize(
    "change",
    [{"model": "nope"}, {"class_weights": [1.0]}, {"init": "nowhere.safetensors"}, {"encoder_weights": "auto"}],
)
def test_a_run_that_cannot_begin_leaves_nothing(dataset, config, cpu, tmp_path, change):
    with pytest.raises(SeglabError):
        train(dataclasses.replace(config, **change), dataset, tmp_path / "runs" / "a", cpu, graph=False)
    assert not (tmp_path / "runs").exists()


def test_a_run_that_cannot_begin_leaves_what_was_there(dataset, config, cpu, tmp_path):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    with pytest.raises(SeglabError):
        train(dataclasses.replace(config, model="nope"), dataset, tmp_path / "runs" / "a", cpu, graph=False)
    assert (tmp_path / "runs" / "a").is_dir()
    with pytest.raises(SeglabError):
        train(dataclasses.replace(config, model="nope"), dataset, tmp_path / "runs" / "b", cpu, graph=False)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a"]


@pytest.mark.parametrize(
    "losses", [{"edge": 1.0}, {"cross_entropy": 1.0, "edge": 1.0}, {"dice": 1.0, "near_edge": 2.0}]
)
def test_a_loss_of_edges_is_refused_by_a_network_without_edges(dataset, config, cpu, tmp_path, losses):
    """It would be passed over in silence."""
    (name,) = {"edge", "near_edge"} & set(losses)
    with pytest.raises(UsageError) as caught:
        train(dataclasses.replace(config, losses=losses), dataset, tmp_path / "run", cpu, graph=False)
    assert caught.value.message == f"`losses.{name}` is for networks that draw edges, which `{config.model}` does not"
    assert caught.value.hint == f"leave it out (`--set losses.{name}=0`), or take one that does: `--recipe pgn`"
    assert not (tmp_path / "run").exists()


def test_the_network_that_draws_edges_takes_their_losses():
    check_losses(TrainConfig(model="pgn", losses={"edge": 1.0, "near_edge": 1.0}), PGN.extras)
    check_losses(TrainConfig(losses={"dice": 1.0, "edge": 0.0}), ())


def test_what_is_changed_of_a_finished_run_is_said_to_have_no_effect(dataset, config, cpu, tmp_path):
    run_dir = tmp_path / "run"
    train(config, dataset, run_dir, cpu, graph=False)
    before = (run_dir / "train.json").read_bytes(), (run_dir / "last.pt").read_bytes()
    watcher = Watcher()
    lower = dataclasses.replace(config, lr=config.lr / 2)
    result = train(lower, dataset, run_dir, cpu, graph=False, resume=True, watcher=watcher)
    assert result.already_finished
    assert result.config == config
    assert watcher.notes == [
        "without effect, as the run is finished: `lr` was 0.005 and is now 0.0025",
        f"a new run goes on from its weights: `seglab train --init {run_dir} --out NEW ...`",
    ]
    assert ((run_dir / "train.json").read_bytes(), (run_dir / "last.pt").read_bytes()) == before


def test_a_run_that_saved_nothing_is_begun_otherwise_without_ado(dataset, config, cpu, tmp_path, monkeypatch):
    """What is wrong may be known at the first step only, when the run's settings are written already."""
    wrong = dataclasses.replace(config, weight_decay=0.3)

    def refuse(*_):
        raise UsageError("it cannot be learnt")

    with monkeypatch.context() as first_step:
        first_step.setattr(Learner, "_learn", refuse)
        with pytest.raises(UsageError, match="it cannot be learnt"):
            train(wrong, dataset, tmp_path / "run", cpu, graph=False)
    with pytest.raises(UsageError, match="started otherwise"):
        train(config, dataset, tmp_path / "run", cpu, graph=False, resume=True)
    assert train(config, dataset, tmp_path / "run", cpu, graph=False).course.epoch == 2
    with pytest.raises(UsageError, match="holds a run already"):
        train(config, dataset, tmp_path / "run", cpu, graph=False)
    (tmp_path / "run" / "last.pt").unlink()
    with pytest.raises(UsageError, match="holds a run already"):
        train(config, dataset, tmp_path / "run", cpu, graph=False)
