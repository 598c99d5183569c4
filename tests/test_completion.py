"""What the shell proposes: asked as the shells ask, and the shells themselves."""

import importlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from seglab.cli import COMMANDS, run
from seglab.cli.completion import command_on_line, mend_line, parameters
from seglab.cli.proposals import PROPOSERS
from seglab.models.bundle import BundleConfig
from seglab.preprocess import Preprocess
from seglab.tasks import TASKS
from tests.test_cli import HEAVY

TOP = Path(__file__).parents[1]
Complete = Callable[[str], list[str]]
OWN_TASK = """
name = "hands"
classes = ["background", "left", "right"]
[regions]
both = ["left", "right"]
"""


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Complete:
    """Complete a line as bash does; the last word is what was typed of it, and may be empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("_SEGLAB_COMPLETE", "complete_bash")

    def call(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("COMP_WORDS", "\n".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        with pytest.raises(SystemExit) as end:
            run([])
        assert not end.value.code
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.split()

    return call


@pytest.mark.parametrize(
    ("line", "proposed"),
    [
        ("seglab prom", ["promote"]),
        ("seglab models sh", ["show"]),
        ("seglab predict --ta", ["--task"]),
        ("seglab predict --task ", list(TASKS)),
        ("seglab predict -t fa", ["face"]),
        ("seglab predict --task clothes --keep ", ["upper_body", "lower_body", "full_body"]),
        ("seglab predict --task clothes --drop l", ["lower_body"]),
        ("seglab cutout --task face --keep hair,n", ["hair,nose"]),
        ("seglab cutout --task face --keep eyes,re,ey", []),
        ("seglab cutout --task face --keep ey", ["eyes"]),
        ("seglab predict --format co", ["coco", "coco-polygons"]),
        ("seglab cutout --format ", ["png", "webp", "jpg"]),
        ("seglab predict --engine o", ["onnxruntime", "openvino"]),
        ("seglab predict --precision b", ["bf16"]),
        ("seglab predict --device cp", ["cpu"]),
        ("seglab predict --tta m", ["multiscale"]),
        ("seglab predict --bn r", ["running"]),
        ("seglab predict --fidelity o", ["original"]),
        ("seglab train --recipe person-p", ["person-pix2pix", "person-pix2pix-edge"]),
        ("seglab train --model unet-li", ["unet-light"]),
        ("seglab train --optimizer adam", ["adamw", "adam"]),
        ("seglab train --init emb", ["embedded"]),
        ("seglab train --augment st", ["standard", "strong"]),
        ("seglab train --set ema", ["ema="]),
        ("seglab train --set augment.hf", ["augment.hflip="]),
        ("seglab train --set ema=", []),
        ("seglab train --task body --metric level.t", ["level.top.iou"]),
        ("seglab fetch human", ["human-segmentation"]),
        ("seglab prepare raw out --source hel", ["helen"]),
        ("seglab prepare --link h", ["hard"]),
        ("seglab evaluate --protocol h", ["helen"]),
        ("seglab evaluate --split t", ["train", "test"]),
        ("seglab evaluate --task face --fail-under iou.ha", ["iou.hair="]),
        ("seglab evaluate --task face --boundary --fail-under boundary_iou.ha", ["boundary_iou.hair="]),
        ("seglab evaluate --fail-under pixel", ["pixel_accuracy="]),
        ("seglab evaluate --fail-under iou.ha", []),  # not every task has hair
        ("seglab models --family smp-f", ["smp-fpn"]),
        ("seglab models show u2netp", ["u2netp"]),
        ("seglab export run --profile r", ["rembg"]),
        ("seglab predict photos/a", []),
    ],
)  # fmt: skip
def test_values(line: str, proposed: list[str], complete: Complete) -> None:
    assert complete(line) == proposed


@pytest.mark.parametrize("line", ["seglab predict --task = fa", "seglab train --set ema = 0.9 --task = fa"])
def test_bash_takes_words_apart_at_the_equals_sign(line: str, complete: Complete) -> None:
    assert complete(line) == ["face"]


def test_an_equals_sign_under_the_cursor_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_WORDS", "seglab\npredict\n--task\n=\nface\n--keep\nx")
    monkeypatch.setenv("COMP_CWORD", "6")
    mend_line()
    assert os.environ["COMP_WORDS"].split("\n") == ["seglab", "predict", "--task=face", "--keep", "x"]
    assert os.environ["COMP_CWORD"] == "4"


def test_files_near_are_proposed_with_the_names(complete: Complete, tmp_path: Path) -> None:
    (tmp_path / "hands.toml").write_text(OWN_TASK)
    (tmp_path / "other.toml").write_text("[tool]\n")
    (tmp_path / "my task.toml").write_text(OWN_TASK)  # bash would take it apart
    (tmp_path / "long.toml").write_text(OWN_TASK + "# long\n" * 20_000)
    os.mkfifo(tmp_path / "pipe.toml")  # reading it would wait for ever
    for name in ("runs/a/model.onnx", "runs/b/model.safetensors", "runs/b/last.pt", "runs/c/notes", "u.pth"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "dataset.json").write_text(json.dumps({"task": TASKS["body"].to_dict()}))
    fetched = tmp_path / "cache" / "models" / "u2netp"
    fetched.mkdir(parents=True)
    (fetched / "SOURCE.json").touch()
    (fetched / "u2netp.pth").touch()

    assert complete("seglab synth --task ") == [*TASKS, "hands.toml"]
    assert complete("seglab predict --task hands.toml --keep ") == ["left", "right", "both"]
    assert complete("seglab predict --model r") == ["runs/a", "runs/b"]
    assert complete("seglab predict --model u") == ["u2netp", "u.pth"]
    assert complete("seglab export runs/") == ["runs/a", "runs/b"]
    assert complete("seglab train --resume r") == ["runs/b"]
    assert complete("seglab evaluate --data ") == ["data/a"]
    assert complete("seglab train --data data/a --metric level.bo") == ["level.bottom.iou"]


def test_the_model_on_the_line_says_its_classes(complete: Complete, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    from seglab.models.bundle import METADATA_KEY

    config = BundleConfig(task=TASKS["parsing"], model="unet", preprocess=Preprocess(size_hw=(64, 64)))
    save_file({}, tmp_path / "model.safetensors", metadata={METADATA_KEY: json.dumps(config.to_dict())})
    assert complete("seglab predict --model model.safetensors --keep a") == ["accessories"]
    assert complete("seglab promote model.safetensors served --metric iou.hai") == ["iou.hair"]
    assert complete("seglab predict --model nothing --keep acc") == ["accessories"]  # of all tasks
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    assert complete("seglab predict --model model.safetensors --keep acc") == ["accessories"]


def test_evaluations_on_the_line_say_their_metrics(complete: Complete, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"task_definition": TASKS["face"].to_dict()}))
    assert complete("seglab compare a.json --metric f1.ey") == ["f1.eyes"]
    assert complete("seglab evaluate --merge a.json --fail-under f1.ey") == ["f1.eyes="]
    os.mkfifo(tmp_path / "pipe.json")
    assert complete("seglab compare pipe.json a.json --metric f1.ey") == ["f1.eyes"]
    (tmp_path / "a.json").write_text("[")
    assert complete("seglab compare a.json --metric f1.ey") == []


def test_damage_on_the_line_is_no_matter(complete: Complete, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("= =")
    assert complete("seglab predict --task own.toml --keep ha") != []
    assert complete("seglab fetch --registry own.toml h") == []


FREE = {
    "fetch": {"out", "from_path", "registry"},
    "prepare": {"raw", "out", "val", "test", "max_side", "size", "fit", "colours", "workers", "link"},
    "join": {"out", "link"},
    "synth": {"out", "num", "size", "seed", "val", "test"},
    "inspect": {"sheet", "num_random", "seed", "workers"},
    "models": {"out"},
    "train": {
        "out", "size", "epochs", "accumulate", "lr", "steps", "patience", "seed", "overfit", "time_limit",
        "show_augment",
    },
    "evaluate": {"parts", "pred", "gt", "baseline", "shard", "out", "report", "per_image", "batch_size"},
    "compare": {"files"},
    "predict": {"photos", "out", "min_area", "batch_size", "max_pixels", "shard"},
    "cutout": {"photos", "out", "threshold", "margin", "size", "batch_size", "max_pixels", "shard"},
    "export": {"out", "about"},
    "promote": {"dest", "min_gain"},
    "demo": {"out"},
    "doctor": set(),
}  # fmt: skip
"""Files, folders and numbers, which the shell or nobody proposes; what typer knows the choices of."""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_proposes_values_or_is_free(name: str) -> None:
    command = getattr(importlib.import_module(f"seglab.cli.{name}"), name)
    found = {parameter for parameter, kind, _ in parameters(command) if bool not in (kind, *get_args(kind))}
    proposing = {one for one in found if f"{name}.{one}" in PROPOSERS or one in PROPOSERS}
    assert found - proposing == FREE[name]


def test_no_proposer_is_left_over() -> None:
    known = set()
    for name in COMMANDS:
        found = {one for one, *_ in parameters(getattr(importlib.import_module(f"seglab.cli.{name}"), name))}
        known |= found | {f"{name}.{one}" for one in found}
    assert not set(PROPOSERS) - known


def test_words_written_out_are_those_of_the_tables() -> None:
    """Tables whose modules are too heavy to be imported while somebody waits."""
    from seglab.cli import export, synth
    from seglab.data.manifest import SPLITS
    from seglab.data.sample_cache import CacheKind
    from seglab.inference import look, sinks

    tables = {
        "split": SPLITS, "predict.formats": (*sinks.FORMATS, *sinks.GATHERED), "cutout.format": look.FORMATS,
        "train.cache": get_args(CacheKind), "synth.layout": synth._LAYOUTS, "export.format": export._FORMATS,
    }  # fmt: skip
    for name, table in tables.items():
        assert list(PROPOSERS[name]({}, "")) == list(table), name


SHELLS = {
    "bash": {"COMP_WORDS": "seglab\npredict\n--task\nfa", "COMP_CWORD": "3"},
    "zsh": {"_TYPER_COMPLETE_ARGS": "seglab predict --task fa"},
    "fish": {"_TYPER_COMPLETE_ARGS": "seglab predict --task fa", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}
ANSWERS = {
    "bash": "face\n",
    "zsh": f'_arguments \'*: :(("face":"{TASKS["face"].title}"))\'\n',
    "fish": f"face\t{TASKS['face'].title}\n",
}


def program(shell: str, **environment: str) -> list[str]:
    """Return what completing in a shell costs and imports: seconds of CPU and modules, after its answer."""
    code = (
        "import sys, time\nfrom seglab.cli import main\n"
        "try:\n    main([])\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    env = {
        **os.environ,
        "PYTHONPATH": str(TOP),
        "_SEGLAB_COMPLETE": f"complete_{shell}",
        **SHELLS[shell],
        **environment,
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    return [done.stdout, *done.stderr.split()]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_is_answered_without_anything_heavy(shell: str) -> None:
    answer, *modules = program(shell)
    assert answer == ANSWERS[shell]
    assert set(modules).isdisjoint(HEAVY)
    assert {"seglab.cli.train", "seglab.cli.evaluate"}.isdisjoint(modules)  # only the command on the line


def test_the_slowest_takes_less_than_half_a_second() -> None:
    """Metrics need numpy; nothing needs more. CPU time, as other tests run beside this."""
    costs = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        answer, *modules = program("bash", COMP_WORDS="seglab evaluate --task face --fail-under iou.ha", COMP_CWORD="5")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert answer == "iou.hair=\n"
        assert set(modules).isdisjoint(set(HEAVY) - {"numpy"})
    assert min(costs) < 0.5


def test_the_command_on_the_line_is_the_first_word_after_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMP_WORDS", raising=False)
    monkeypatch.delenv("_TYPER_COMPLETE_ARGS", raising=False)
    assert command_on_line() == ""
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "seglab train --task ")
    assert command_on_line() == "train"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody with seglab on the PATH and an empty home."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "seglab").write_text(f'#!/bin/sh\nPYTHONPATH="{TOP}" exec "{sys.executable}" -m seglab "$@"\n')
    (folder / "seglab").chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # the shell is named, not guessed
    return {**os.environ, "PATH": path, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / ".config"), **named}


@pytest.mark.parametrize(
    ("shell", "files"),
    [
        ("bash", [".bash_completions/seglab.sh", ".bashrc"]),
        ("zsh", [".zfunc/_seglab", ".zshrc"]),
        ("fish", [".config/fish/completions/seglab.fish"]),
    ],
)
def test_installing_writes_what_the_shell_reads(
    shell: str, files: list[str], home: dict[str, str], tmp_path: Path
) -> None:
    command = ["seglab", "--install-completion", shell]
    done = subprocess.run(command, capture_output=True, text=True, env=home, cwd=tmp_path, check=True)
    assert f"{shell} completion installed" in done.stdout
    assert all((tmp_path / name).stat().st_size for name in files)
    shown = subprocess.run(["seglab", "--show-completion", shell], capture_output=True, text=True, env=home, check=True)
    assert shown.stdout.strip() == (tmp_path / files[0]).read_text().strip()


def test_bash_itself_completes(home: dict[str, str], tmp_path: Path) -> None:
    script = (
        'eval "$(seglab --show-completion bash)"\n'
        'ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _seglab_completion seglab; echo "${COMPREPLY[*]}"; }\n'
        "ask seglab predict --task fa\nask seglab cutout --task = clothes --keep lower_body,\n"
        "ask seglab predict --task ./x\n"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=home, cwd=tmp_path, check=True)
    assert done.stdout.splitlines() == ["face", "lower_body,upper_body lower_body,full_body", ""]


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_itself_completes(home: dict[str, str], tmp_path: Path) -> None:
    script = "seglab --show-completion fish | source; complete -C 'seglab predict --task fa'"
    done = subprocess.run(["fish", "-c", script], capture_output=True, text=True, env=home, cwd=tmp_path, check=True)
    assert done.stdout == ANSWERS["fish"]
