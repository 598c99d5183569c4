"""Where samples are kept, and the sheet of what is shown: as a user asks for them."""

import subprocess
import sys

import pytest

from seglab.errors import UsageError
from seglab.training.loop import train


class Notes:
    """Keeps what a user would read."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)

    def start(self, num_steps, done):
        pass

    def step(self, info):
        pass


def weights_of(run_dir):
    """The tensors' bytes; the head before them tells the time that training took."""
    content = (run_dir / "model.safetensors").read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def test_where_samples_are_kept_changes_no_bit(dataset, config, cpu, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "cache"))
    results, told = [], []
    for cache in ("none", "ram", "auto", "disk", "disk"):
        run_dir, notes = tmp_path / f"run{len(results)}", Notes()
        train(config, dataset, run_dir, cpu, graph=False, cache=cache, watcher=notes, workers=0)
        assert (tmp_path / "cache").exists() == (cache == "disk")
        told.append([line for line in notes.lines if "decoded samples" in line])
        results.append(weights_of(run_dir))
    assert len(set(results)) == 1
    assert [len(lines) for lines in told] == [0, 0, 0, 1, 1]
    assert "are there" not in told[3][0]
    assert told[4][0].endswith(", 10 of 10 are there)")


def test_an_unknown_place_is_refused_before_anything_is_written(dataset, config, cpu, tmp_path):
    with pytest.raises(UsageError, match="`floppy` is no place to keep samples"):
        train(config, dataset, tmp_path / "run", cpu, cache="floppy")
    assert not (tmp_path / "run" / "train.json").exists()


def test_the_command_draws_the_views_keeps_samples_on_disk_and_takes_both_settings(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "cache"))
    task_path, sheet_path, run_dir = tmp_path / "shapes.toml", tmp_path / "views [a].png", tmp_path / "run"
    task_path.write_text('name = "shapes"\nclasses = ["none", "left", "right"]\nmirror = [["left", "right"]]\n')
    command = [
        *(sys.executable, "-m", "seglab", "train", "--task", task_path, "--data", dataset.dir, "--out", run_dir),
        *("--size", "32", "--epochs", "1", "--set", "model_args.width=4", "--no-graph", "--cache", "disk"),
    ]
    drawn = subprocess.run([*command, "--show-augment", sheet_path], capture_output=True, text=True, check=False)
    assert drawn.returncode == 0, drawn.stderr
    assert "views [a].png shows samples as the network would see them" in " ".join(drawn.stderr.split())
    assert sheet_path.stat().st_size > 10_000
    assert not run_dir.exists()
    assert not (tmp_path / "cache").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "decoded samples are kept in" in " ".join(done.stderr.split())
    assert list((tmp_path / "cache" / "samples").iterdir())
