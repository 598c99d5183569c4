"""The list of networks and weights: complete, light, and what ``--model NAME`` finds through it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import seglab.models.catalogue as catalogue
from seglab.data.fetching.registry import load_registry
from seglab.errors import DataError, UsageError
from seglab.models.bundle import BundleConfig, find_model, save_bundle
from seglab.models.catalogue import families, family_rows, published, weights
from seglab.models.zoo import build, names
from seglab.preprocess import Preprocess
from seglab.tasks import TASKS

HEAVY = {"torch", "torchvision", "cv2", "PIL", "onnx", "onnxruntime", "numpy"}
CONFIG = BundleConfig(
    task=TASKS["face"],
    model="unet-light",
    model_args={"width": 2},
    preprocess=Preprocess(size_hw=(64, 64)),
    data={"licence": "CC0-1.0", "commercial": "yes", "terms": "synthetic"},
)


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights of this machine are seen: neither fetched nor embedded."""
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalogue, "embedded_dir", lambda name: tmp_path / "weights" / name)


@pytest.fixture
def embedded(tmp_path: Path) -> Path:
    """A bundle of the task `face` that comes with seglab."""
    torch.manual_seed(0)
    save_bundle(tmp_path / "weights" / "face", CONFIG, build("unet-light", 11, width=2).state_dict())
    (tmp_path / "weights" / "empty").mkdir()
    return tmp_path / "weights" / "face"


def fetched(tmp_path: Path, name: str, file: str) -> Path:
    folder = tmp_path / "cache" / "models" / name
    folder.mkdir(parents=True)
    (folder / "SOURCE.json").write_text("{}")
    (folder / file).write_bytes(b"12345")
    return folder / file


def test_families_are_the_table() -> None:
    found = families()
    assert [row.name for family in found for row in family.rows] == names()
    patterns = {family.name: family.pattern for family in found}
    assert patterns["u2net"] == "u2net, u2netp"
    assert patterns["smp-fpn"] == "fpn-ENCODER"
    fpn = next(family for family in found if family.name == "smp-fpn")
    restricted = [row for row in fpn.rows if "mit_" in row.name or "mobileone_" in row.name]
    assert fpn.num_commercial == len(fpn.rows) - len(restricted) < len(fpn.rows)


def test_a_family_goes_by_two_names() -> None:
    assert {row.family for row in family_rows("smp-fpn")} == {"smp-fpn"} == {row.family for row in family_rows("fpn")}
    assert {row.family for row in family_rows("unet")} == {"unet", "smp-unet"}
    with pytest.raises(UsageError, match="no family of networks is called `fpm`") as caught:
        family_rows("fpm")
    assert "`fpn`" in caught.value.hint


def test_embedded_weights_come_first_with_their_licence(embedded: Path) -> None:
    first, second, *_ = weights()
    assert (first.name, first.kind, first.task, first.network) == ("face", "embedded", "face", "unet-light")
    assert (first.licence, first.commercial, first.terms) == ("CC0-1.0", "yes", "synthetic")
    assert first.here
    assert first.path == str(embedded)
    assert first.bytes == sum(path.stat().st_size for path in embedded.iterdir())
    assert second.kind == "published"


def test_published_weights_are_here_once_they_are_fetched(tmp_path: Path) -> None:
    row = next(row for row in weights() if row.name == "u2netp")
    assert (row.here, row.path, row.command) == (False, None, "seglab fetch u2netp")
    path = fetched(tmp_path, "u2netp", "u2netp.pth")
    row = next(row for row in weights() if row.name == "u2netp")
    assert (row.here, row.path, row.bytes) == (True, str(path), 5)
    assert row.command == "seglab predict --model u2netp PHOTOS"
    assert (row.licence, row.commercial, row.network) == ("Apache-2.0", "yes", "u2netp")


def test_weights_of_an_encoder_are_no_model(tmp_path: Path) -> None:
    registry = load_registry()
    assert published(registry["encoder-resnet18"]).command == "seglab fetch encoder-resnet18"
    fetched(tmp_path, "encoder-resnet18", "resnet18.pth")
    assert "--model DECODER-resnet18 --encoder-weights auto" in published(registry["encoder-resnet18"]).command
    with pytest.raises(DataError, match="are weights of an encoder, not of a whole network") as caught:
        find_model("encoder-resnet18")
    assert "--model DECODER-resnet18" in caught.value.hint
    assert not [row for row in weights() if row.name.startswith("encoder-")]


# What --model finds by name


def test_a_name_stands_for_what_is_here(embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model("face") == embedded
    path = fetched(tmp_path, "u2netp", "u2netp.pth")
    assert find_model("u2netp") == path
    own = fetched(tmp_path, "of-my-own-registry", "model.onnx")
    assert find_model("of-my-own-registry") == own
    monkeypatch.chdir(tmp_path)
    (tmp_path / "face").mkdir()
    with pytest.raises(DataError, match="folder `face` holds no model"):  # What is there under that path comes first.
        find_model("face")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("u2net-human", "checkpoint `u2net-human` is not here", "`seglab fetch u2net-human` brings it (Apache-2.0;"),
        (
            "unet-resnet34",
            "`unet-resnet34` is a network without weights",
            "`seglab train --task TASK --data DIR --model unet-resnet34` trains it",
        ),
        ("body", "no weights for task `body` come with seglab", "`seglab train --task body --data DIR` trains one,"),
        ("u2net-humam", "there is no model `u2net-humam`", "did you mean `u2net-human`"),
    ],
)  # fmt: skip
def test_a_name_whose_weights_are_not_here_says_what_brings_them(name: str, message: str, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        find_model(name)
    assert caught.value.message == message
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("name", ["../u2netp", "a/b", ".hidden", "..", "u2netp/"])
def test_a_name_never_leaves_the_cache(name: str, tmp_path: Path) -> None:
    fetched(tmp_path, "u2netp", "u2netp.pth")
    with pytest.raises(DataError, match=r"there is no model|holds no model"):
        find_model(name)


# Start-up


@pytest.mark.parametrize(
    "arguments",
    [["models"], ["models", "--json"], ["models", "--all"], ["models", "show", "u2net"], ["models", "show", "person"]],
)
def test_the_list_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom seglab.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert end.code in (0, 3), end.code\n"
        f"assert not set(sys.modules) & {HEAVY!r}, set(sys.modules) & {HEAVY!r}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_json_is_complete() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seglab", "models", "--json"], capture_output=True, text=True, check=True
    )
    values = json.loads(done.stdout)
    assert [row["name"] for row in values["networks"]] == names()
    assert {"params", "gflop", "size", "code_licence", "commercial", "description"} <= set(values["networks"][0])
    assert {"name", "task", "licence", "commercial", "source", "here", "bytes", "command"} <= set(values["weights"][0])
    assert {"cloth-u2net", "helen-unet"} <= {row["name"] for row in values["weights"]}


@pytest.mark.parametrize("arguments", [[], ["--all"], ["--family", "unetplusplus"]])
def test_the_table_fits_80_columns_and_breaks_no_name(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seglab", "models", *arguments],
        capture_output=True, text=True, check=True, env={"COLUMNS": "80", "PATH": ""},
    )  # fmt: skip
    lines = [line.rstrip() for line in done.stderr.splitlines()]
    assert max(map(len, lines)) <= 80
    expected = names() if "--all" in arguments else [name for name in names() if name.startswith("unetplusplus")]
    first = {line.split(" ")[0] for line in lines}
    if arguments:
        assert set(expected) <= first
    else:
        assert {"fpn-ENCODER", "unet-light", "pascal-part-deeplabv3", "cloth-u2net-retrained"} <= first
    assert done.stdout == ""


@pytest.mark.parametrize("columns", ["30", "40", "60"])
@pytest.mark.parametrize("arguments", [[], ["--family", "fpn"]])
def test_on_a_narrow_terminal_rows_come_one_below_the_other(arguments: list[str], columns: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seglab", "models", *arguments],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": columns},
    )  # fmt: skip
    lines = done.stderr.splitlines()
    rows = lines[: next(number for number, line in enumerate(lines) if line.startswith("seglab models show"))]
    rows = [line for line in rows if not line.startswith("unless ")]
    assert max(map(len, rows)) <= int(columns)
    assert any(line.strip() == "commercial: yes" or line.strip().startswith("code: ") for line in rows)
    assert lines[0].startswith("network")
