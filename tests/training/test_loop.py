"""Whole runs: what they learn, what they leave, and that no interruption changes the result."""

import dataclasses
import json
import os
import signal

import numpy as np
import pytest
import torch

from seglab.config import TrainConfig
from seglab.data.loader import epoch_batches
from seglab.errors import BusyError, DataError, Interrupted, UsageError
from seglab.evaluation.evaluate import evaluate
from seglab.files import lock
from seglab.inference.model import choose_model
from seglab.models.bundle import load_weights, read_config
from seglab.strengths import PRESETS
from seglab.training import session, validation
from seglab.training.learner import Learner, NonFiniteError
from seglab.training.loop import train
from seglab.training.losses.balance import balanced_weights
from seglab.training.rundir import RunDir
from seglab.training.schedule import learning_rate
from seglab.training.settings import read_settings


class Watcher:
    """Remembers everything, and does something after a step."""

    def __init__(self, at_step=None, then=None):
        self.notes, self.infos, self.started = [], [], None
        self.at_step, self.then = at_step, then

    def note(self, text):
        self.notes.append(text)

    def start(self, num_steps, done):
        self.started = num_steps, done

    def step(self, info):
        self.infos.append(info)
        if len(self.infos) == self.at_step:
            self.then()


def send(number):
    return lambda: os.kill(os.getpid(), number)


def crash():
    raise RuntimeError("the process dies here")


def final_state(run_dir):
    return RunDir(run_dir).load_state()


def assert_same(one, other, where=""):
    """Compare nested states bit for bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one:
            if name not in ("seconds",):
                assert_same(one[name], other[name], f"{where}/{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for position, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{position}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def lines(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def without_times(records):
    timed = ("seconds", "images_per_s", "data_wait_share")
    return [{name: value for name, value in record.items() if name not in timed} for record in records]


def test_a_network_learns_a_few_samples_by_heart(make_dataset, config, cpu, tmp_path):
    dataset = make_dataset(num_train=4, num_val=2)
    config = dataclasses.replace(
        config, epochs=60, augment=PRESETS["none"], lr=2e-2, val_every=60, model_args={"width": 8}, ema=0.8
    )
    result = train(config, dataset, tmp_path / "run", cpu, graph=False)
    assert result.course.stopped == "epochs"
    predictor = choose_model(None, str(tmp_path / "run")).open(cpu)
    scores = evaluate(predictor, dataset, "train").scores
    assert scores.miou_foreground > 0.85


def test_a_run_leaves_a_bundle_and_its_records(dataset, config, cpu, tmp_path):
    run_dir = tmp_path / "run"
    watcher = Watcher()
    result = train(config, dataset, run_dir, cpu, graph=True, watcher=watcher)
    names = {path.name.split(".")[0] if "tfevents" not in path.name else "events" for path in run_dir.iterdir()}
    assert names == {"", "config", "curves", "environment", "events", "last", "metrics", "model", "samples", "train"}
    bundle = read_config(run_dir)
    assert bundle.task == dataset.task
    assert (bundle.model, bundle.model_args) == ("unet-light", {"width": 4})
    assert bundle.preprocess.size_hw == (32, 32)
    assert bundle.data == {"source": "test", "digest": dataset.digest, "samples": {"train": 10, "val": 3}}
    assert TrainConfig.from_dict(bundle.training["config"]) == config
    records = lines(run_dir)
    assert [record["epoch"] for record in records] == [1, 2]
    assert [record["step"] for record in records] == [3, 6]
    rates = [learning_rate((record["step"] - 1) / 6, config, 6, 2) for record in records]
    assert [record["lr"] for record in records] == rates  # of the last step that was done, not of the next
    assert records[-1]["lr"] > 0
    assert set(records[0]["train"]) == {"loss", "cross_entropy", "dice", "grad_norm"}
    assert {"miou", "iou.left", "f1.any"} <= set(records[0]["val"])
    best = max(records, key=lambda record: record["val"]["miou"])
    assert result.course.best_score == best["val"]["miou"] == bundle.metrics["val"]["miou"]
    assert result.course.best_epoch == best["epoch"] == bundle.training["epoch"]
    assert sorted(path.name for path in (run_dir / "samples").iterdir()) == ["epoch-0001.jpg", "epoch-0002.jpg"]
    assert json.loads((run_dir / "environment.json").read_text())["device"]["name"] == "cpu"
    assert result.graph_difference < 1e-3
    assert watcher.started == (6, 0)
    assert len(watcher.infos) == 6
    json.dumps(result.to_dict(), allow_nan=False)


def test_validation_gives_the_score_that_evaluate_gives(dataset, config, cpu, tmp_path):
    result = train(config, dataset, tmp_path / "run", cpu, graph=False)
    predictor = choose_model(None, str(tmp_path / "run")).open(cpu)
    assert evaluate(predictor, dataset, "val").scores.to_dict() == result.course.best_scores


def test_tensorboard_has_scalars_and_pictures(dataset, config, cpu, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(config, dataset, tmp_path / "run", cpu, graph=False)
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "train/cross_entropy", "train/dice", "lr", "images_per_s", "val/miou"} <= set(tags["scalars"])
    assert tags["images"] == ["samples"]
    assert [event.step for event in events.Scalars("val/miou")] == [3, 6]


@pytest.mark.parametrize("at_step", [1, 3, 4], ids=["first step", "end of an epoch", "middle"])
def test_an_interrupted_and_resumed_run_is_bit_equal(dataset, config, cpu, tmp_path, at_step):
    whole_dir, broken_dir = tmp_path / "whole", tmp_path / "broken"
    whole = train(config, dataset, whole_dir, cpu, graph=False)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as caught:
        train(config, dataset, broken_dir, cpu, graph=False, watcher=Watcher(at_step, send(signal.SIGINT)))
    assert caught.value.exit_code == 130
    assert f"`seglab train --resume {broken_dir}` continues" in caught.value.hint
    assert signal.getsignal(signal.SIGINT) is before
    watcher = Watcher()
    resumed = train(config, dataset, broken_dir, cpu, graph=False, resume=True, watcher=watcher)
    assert watcher.started == (6, at_step)
    assert len(watcher.infos) == 6 - at_step
    assert_same(final_state(whole_dir), final_state(broken_dir))
    assert_same(load_weights(whole_dir), load_weights(broken_dir))
    assert resumed.course.best_scores == whole.course.best_scores
    assert without_times(lines(whole_dir)) == without_times(lines(broken_dir))


def test_a_run_that_crashed_and_resumed_is_bit_equal(dataset, config, cpu, tmp_path, monkeypatch):
    """Nothing is saved at the crash, so epochs are done again, and their records are not doubled."""
    config = dataclasses.replace(config, epochs=4)
    whole = train(config, dataset, tmp_path / "whole", cpu, graph=False)
    with pytest.raises(RuntimeError, match="dies here"):
        train(config, dataset, tmp_path / "broken", cpu, graph=False, watcher=Watcher(8, crash))
    assert final_state(tmp_path / "broken")["course"]["epoch"] == 1
    assert len(lines(tmp_path / "broken")) == 2
    with (tmp_path / "broken" / "metrics.jsonl").open("a") as log:
        log.write('{"epoch": 3, "st')
    resumed = train(config, dataset, tmp_path / "broken", cpu, graph=False, resume=True)
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "broken"))
    assert without_times(lines(tmp_path / "whole")) == without_times(lines(tmp_path / "broken"))
    assert resumed.course.best_scores == whole.course.best_scores


def test_a_run_interrupted_during_validation_is_bit_equal(dataset, config, cpu, tmp_path, monkeypatch):
    train(config, dataset, tmp_path / "whole", cpu, graph=False)

    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(validation, "evaluate", interrupted)
        with pytest.raises(Interrupted) as caught:
            train(config, dataset, tmp_path / "broken", cpu, graph=False)
    assert caught.value.exit_code == 143
    assert final_state(tmp_path / "broken")["course"]["step"] == 3
    train(config, dataset, tmp_path / "broken", cpu, graph=False, resume=True)
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "broken"))
    assert_same(load_weights(tmp_path / "whole"), load_weights(tmp_path / "broken"))


def test_two_runs_with_one_seed_are_equal_and_with_two_are_not(dataset, config, cpu, tmp_path):
    for name, seed, workers in (("a", 0, 2), ("b", 0, 0), ("c", 1, 2)):
        changed = dataclasses.replace(config, seed=seed)
        train(changed, dataset, tmp_path / name, cpu, graph=False, workers=workers)
    assert_same(load_weights(tmp_path / "a"), load_weights(tmp_path / "b"))
    with pytest.raises(AssertionError):
        assert_same(load_weights(tmp_path / "a"), load_weights(tmp_path / "c"))


def test_a_run_whose_state_is_gone_keeps_its_weights(dataset, config, cpu, tmp_path):
    """The state is much larger than the weights, and somebody may remove it to save space."""
    run_dir = tmp_path / "run"
    train(config, dataset, run_dir, cpu, graph=False)
    before = (run_dir / "model.safetensors").read_bytes()
    (run_dir / "last.pt").unlink()
    with pytest.raises(DataError, match=r"its `last\.pt` is gone, and its weights would be lost"):
        train(config, dataset, run_dir, cpu, graph=False, resume=True)
    assert (run_dir / "model.safetensors").read_bytes() == before


def test_resume_starts_what_is_not_there_and_leaves_what_is_finished(dataset, config, cpu, tmp_path):
    first = train(config, dataset, tmp_path / "run", cpu, graph=False, resume=True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir() if path.name != ".lock"}
    again = train(config, dataset, tmp_path / "run", cpu, graph=False, resume=True)
    assert again.already_finished
    assert not first.already_finished
    assert again.course == first.course
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_run_is_never_overwritten(dataset, config, cpu, tmp_path):
    run_dir = tmp_path / "run"
    train(config, dataset, run_dir, cpu, graph=False)
    before = (run_dir / "model.safetensors").read_bytes()
    with pytest.raises(UsageError, match="holds a run already") as caught:
        train(config, dataset, run_dir, cpu, graph=False)
    assert "--resume" in caught.value.hint
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(UsageError, match="not empty"):
            train(config, dataset, other, cpu, graph=False, resume=resume)
    with pytest.raises(UsageError, match="is a file"):
        train(config, dataset, other / "thesis.txt", cpu, graph=False)
    assert (run_dir / "model.safetensors").read_bytes() == before
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]


def test_a_run_continues_only_as_it_was_started(dataset, make_dataset, config, cpu, tmp_path):
    run_dir = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(config, dataset, run_dir, cpu, graph=False, watcher=Watcher(2, send(signal.SIGINT)))
    assert read_settings(run_dir).config == config
    other = dataclasses.replace(config, lr=0.5, epochs=9, ema=0.5)
    with pytest.raises(UsageError, match=r"otherwise: `epochs` was 2 and is now 9; `ema` was 0\.9 and is now 0\.5$"):
        train(other, dataset, run_dir, cpu, graph=False, resume=True)
    with pytest.raises(DataError, match="other data"):
        train(config, make_dataset("more", num_train=12), run_dir, cpu, graph=False, resume=True)


def test_a_second_process_is_kept_out(dataset, config, cpu, tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    with lock(run_dir / ".lock", "run"), pytest.raises(BusyError, match=rf"is in use by pid {os.getpid()}"):
        train(config, dataset, run_dir, cpu, graph=False)
    assert [path.name for path in run_dir.iterdir()] == [".lock"]


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_loss_that_is_no_number_ends_the_run_and_names_the_samples(dataset, config, cpu, tmp_path, monkeypatch, kind):
    run_dir = tmp_path / "run"
    config = dataclasses.replace(config, epochs=3)
    original, calls = Learner._account, []

    def poisoned(self, parts, batch):
        calls.append(batch.ids)
        if len(calls) == 5:
            parts = {**parts, "loss" if kind == "loss" else "grad_norm": torch.tensor(float("nan"))}
        original(self, parts, batch)

    monkeypatch.setattr(Learner, "_account", poisoned)
    with pytest.raises(NonFiniteError, match="nan") as caught:
        train(config, dataset, run_dir, cpu, graph=False)
    assert all(f"`{dataset.dir}/train/images/{name}.png`" in caught.value.message for name in calls[4])
    assert caught.value.exit_code == 3
    state = final_state(run_dir)
    assert state["course"]["epoch"] == 1
    assert all(value.isfinite().all() for value in state["learner"]["network"].values())
    monkeypatch.undo()
    assert train(config, dataset, run_dir, cpu, graph=False, resume=True).course.epoch == 3


def test_a_learning_rate_far_too_high_is_noticed(dataset, config, cpu, tmp_path):
    config = dataclasses.replace(config, model="unet", model_args={"form": "plain", "width": 2}, lr=1e3, clip=0.0)
    with pytest.raises(NonFiniteError, match="the loss became"):
        train(dataclasses.replace(config, epochs=60, val_every=60, warmup=0.0), dataset, tmp_path / "run", cpu)


def test_automatic_class_weights_are_told(dataset, config, cpu, tmp_path):
    watcher = Watcher()
    config = dataclasses.replace(config, epochs=1, class_weights="auto")
    train(config, dataset, tmp_path / "run", cpu, graph=False, watcher=watcher)
    (told,) = (note for note in watcher.notes if note.startswith("class weights: "))
    pixels = [sum(sample.pixels[name] for sample in dataset.split("train")) for name in dataset.task.classes]
    expected = zip(dataset.task.classes, balanced_weights(pixels), strict=True)
    assert told == "class weights: " + ", ".join(f"{name} {weight:.3g}" for name, weight in expected)


def test_a_photo_that_validation_cannot_score_is_named(make_dataset, config, cpu, tmp_path):
    dataset, watcher = make_dataset(), Watcher()
    broken = dataset.split("val")[0]
    dataset.image_path(broken).write_bytes(b"")
    train(dataclasses.replace(config, epochs=1), dataset, tmp_path / "run", cpu, graph=False, watcher=watcher)
    assert any(f"1 image could not be scored (`{broken.id}`: " in note for note in watcher.notes), watcher.notes


def test_without_a_validation_split_the_last_weights_are_kept(make_dataset, config, cpu, tmp_path):
    watcher = Watcher()
    result = train(config, make_dataset(num_val=0), tmp_path / "run", cpu, graph=False, watcher=watcher)
    assert any("no validation split" in note for note in watcher.notes)
    assert (result.course.best_epoch, result.course.best_score) == (2, None)
    assert_same(load_weights(tmp_path / "run"), final_state(tmp_path / "run")["learner"]["average"])


def test_a_time_limit_ends_in_good_order(dataset, config, cpu, tmp_path):
    config = dataclasses.replace(config, epochs=100_000, val_every=100_000)
    result = train(config, dataset, tmp_path / "run", cpu, graph=False, time_limit_s=1.5)
    assert result.course.stopped == "time limit"
    assert 0 < result.course.epoch < 100_000
    assert result.course.best_epoch == result.course.epoch
    assert result.course.best_score is not None
    records = lines(tmp_path / "run")
    assert records[-1]["lr"] == pytest.approx(0, abs=1e-9)
    assert "val" in records[-1]
    assert train(config, dataset, tmp_path / "run", cpu, resume=True, time_limit_s=1.5).already_finished


def test_patience_ends_a_run_that_stopped_improving(dataset, config, cpu, tmp_path, monkeypatch):
    scores = iter([0.2, 0.5, 0.4, 0.5, 0.45, 0.9])
    monkeypatch.setattr(session, "value", lambda _scores, name: next(scores) if name == "miou" else 0.0)
    monkeypatch.setattr(session, "metric_names", lambda _task: ())
    result = train(dataclasses.replace(config, epochs=6, patience=3), dataset, tmp_path / "run", cpu, graph=False)
    assert result.course.stopped == "patience"
    assert (result.course.epoch, result.course.best_epoch, result.course.best_score) == (5, 2, 0.5)
    assert read_config(tmp_path / "run").training["epoch"] == 2


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"metric": "iou.nose"}, "no metric of task `shapes` is called `iou.nose`"),
        ({"model": "unnet"}, "no model is called `unnet`"),
        ({"model_args": {"depth": 3}}, "no argument of `unet-light` is called `depth`"),
    ],
)
def test_unknown_names_are_usage_errors_before_any_work(dataset, config, cpu, tmp_path, change, error):
    with pytest.raises(UsageError, match=error):
        train(dataclasses.replace(config, **change), dataset, tmp_path / "run", cpu)
    assert not (tmp_path / "run" / "last.pt").exists()


def test_another_task_than_the_datas_is_refused(dataset, config, cpu, tmp_path):
    from seglab.tasks import TASKS

    with pytest.raises(DataError, match=r"`body`.*`shapes`"):
        train(config, dataset, tmp_path / "run", cpu, task=TASKS["body"])
    assert not (tmp_path / "run").exists()


def test_side_outputs_learn_too(dataset, config, cpu, tmp_path):
    config = dataclasses.replace(config, model="u2netp", model_args={}, epochs=1, batch_size=8, size=32)
    train(config, dataset, tmp_path / "run", cpu, graph=False)
    (record,) = lines(tmp_path / "run")
    assert record["train"]["aux"] > 0
    parts = record["train"]
    assert parts["cross_entropy"] + parts["dice"] + parts["aux"] == pytest.approx(parts["loss"], rel=1e-5)


def test_a_full_disk_keeps_the_state_before(dataset, config, cpu, tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(config, dataset, run_dir, cpu, graph=False, watcher=Watcher(2, send(signal.SIGINT)))
    before = (run_dir / "last.pt").read_bytes()

    def full(_state, handle):
        handle.write(b"half of it")
        raise RuntimeError("PytorchStreamWriter failed writing file data.pkl: file write failed")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(DataError, match=r"cannot write `.*last\.pt`"):
            train(config, dataset, run_dir, cpu, graph=False, resume=True)
    assert (run_dir / "last.pt").read_bytes() == before
    assert not list(run_dir.glob("*.part")) + list(run_dir.glob(".*.part"))
    assert train(config, dataset, run_dir, cpu, graph=False, resume=True).course.epoch == 2


@pytest.mark.parametrize("content", [b"", b"no pickle", None], ids=["empty", "text", "code"])
def test_a_damaged_state_is_refused_and_nothing_in_it_is_run(dataset, config, cpu, tmp_path, content):
    run_dir = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(config, dataset, run_dir, cpu, graph=False, watcher=Watcher(1, send(signal.SIGINT)))
    if content is None:

        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "canary"),)

        torch.save({"format": 1, "learner": Evil()}, run_dir / "last.pt")
    else:
        (run_dir / "last.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"last\.pt` is damaged"):
        train(config, dataset, run_dir, cpu, graph=False, resume=True)
    assert not (tmp_path / "canary").exists()


def test_biases_and_normalisation_are_exempt_from_decay(config):
    from seglab.models.zoo import build
    from seglab.preprocess import Preprocess
    from seglab.training.learner import Learner

    learner = Learner(build("unet-light", 2, width=4), config, Preprocess(size_hw=(32, 32)), torch.device("cpu"))
    decayed, exempt = learner.optimizer.torch.param_groups
    assert (decayed["weight_decay"], exempt["weight_decay"]) == (config.weight_decay, 0)
    assert {parameter.ndim for parameter in exempt["params"]} == {1}
    assert 1 not in {parameter.ndim for parameter in decayed["params"]}
    num_parameters = len(list(learner.network.parameters()))
    assert len(decayed["params"]) + len(exempt["params"]) == num_parameters


def test_gradients_are_clipped_and_the_norm_is_logged(dataset, config):
    from seglab.data.loader import TrainingSamples
    from seglab.models.zoo import build
    from seglab.preprocess import Preprocess
    from seglab.training.learner import Learner

    preprocess = Preprocess(size_hw=(32, 32))
    (batch, *_) = epoch_batches(TrainingSamples(dataset, "train", preprocess), config, 0, workers=0)
    norms = []
    for clip in (0.0, 1e-3):
        torch.manual_seed(0)
        changed = dataclasses.replace(config, clip=clip)
        learner = Learner(build("unet-light", 3, width=4), changed, preprocess, torch.device("cpu"))
        learner.step(batch, rate=0.0, seed=0, decay=0.5)
        gradients = [parameter.grad.flatten() for parameter in learner.network.parameters()]
        norms.append((torch.cat(gradients).norm().item(), learner.means()["grad_norm"]))
    (free, logged), (clipped, logged_clipped) = norms
    assert free == pytest.approx(logged, rel=1e-5)
    assert logged_clipped == pytest.approx(logged, rel=1e-5)
    assert clipped == pytest.approx(1e-3, rel=1e-2)


def test_the_input_is_normalised_as_in_the_engines(dataset, config):
    from seglab.data.loader import TrainingSamples
    from seglab.engines.pixels import Normaliser
    from seglab.models.zoo import build
    from seglab.preprocess import Preprocess
    from seglab.training.learner import Learner

    preprocess = Preprocess(size_hw=(32, 32))
    (batch, *_) = epoch_batches(TrainingSamples(dataset, "train", preprocess), config, 0, workers=0)
    learner = Learner(build("unet-light", 3, width=4), config, preprocess, torch.device("cpu"))
    image_BCHW, labels_BHW = learner._to_device(batch)
    np.testing.assert_allclose(image_BCHW.numpy(), Normaliser(preprocess)(batch.pixels_BHWC), atol=1e-5)
    assert labels_BHW.dtype == torch.int64
