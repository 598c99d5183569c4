"""What is stopped at any moment shows nothing half-written, and the same command finishes it (long form: loop.py)."""

import json
import re
import signal
from pathlib import Path

import pytest

from tests.faults.killing import ALREADY_DONE, Alone, finish, lay_out, stop_and_finish
from tests.faults.nursery import Nursery
from tests.faults.scenarios import SCENARIOS, SEVEN, Material, all_but

DIE_BEFORE_RENAMING = """
import os, re, signal, sys
from pathlib import Path

def renaming(original):
    def rename(path, target):
        if re.fullmatch({pattern!r}, Path(target).name):
            os.kill(os.getpid(), signal.SIGKILL)
        return original(path, target)
    return rename

Path.replace, Path.rename = renaming(Path.replace), renaming(Path.rename)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", SEVEN)
def test_what_was_killed_is_finished_by_the_same_command(
    name: str, nursery: Nursery, material: Material, alone: Alone, tmp_path: Path
) -> None:
    stop_and_finish(name, SCENARIOS[name], material, tmp_path / "killed", alone(name), nursery, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", all_but("export"))
def test_what_was_asked_to_end_is_finished_by_the_same_command(
    name: str, number: signal.Signals, nursery: Nursery, material: Material, alone: Alone, tmp_path: Path
) -> None:
    folder = tmp_path / "stopped"
    stop_and_finish(name, SCENARIOS[name], material, folder, alone(name), nursery, seed=0, number=number)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("train", r"last\.pt"), ("train", r"model\.safetensors"), ("train", r"environment\.json"),
        ("train", r"curves\.png"), ("export", r"model\.onnx"), ("evaluate", r"metrics\.csv"),
        ("evaluate", r"report\.html"),
        ("evaluate", r"each\.csv"), ("problems", r"data\.problems\.json"), ("problems", "data"), ("prepare", "data"),
        ("gather", r"annotations\.json"), ("gather", r"\.seglab-gathered\.jsonl"), ("predict", r"05\.png"),
        ("synth", "data"), ("fetch", "faces"),
    ],
)  # fmt: skip
def test_nothing_is_left_of_a_file_that_a_kill_kept_from_its_name(
    name: str, pattern: str, nursery: Nursery, material: Material, alone: Alone, tmp_path: Path
) -> None:
    scenario, folder = SCENARIOS[name], tmp_path / "killed"
    lay_out(scenario, material, folder)
    script = DIE_BEFORE_RENAMING.format(pattern=pattern)
    ended = nursery.run(material.fill(scenario), folder, script=script)
    assert ended.code == -signal.SIGKILL, ended.err
    scenario.check(folder)
    finish(name, scenario, material, folder, alone(name), nursery)


@pytest.mark.slow
@pytest.mark.parametrize("name", all_but("export", "train"))
def test_two_at_once_do_not_spoil_each_others_work(
    name: str, nursery: Nursery, material: Material, alone: Alone, tmp_path: Path
) -> None:
    """Each does the work or is told that somebody is at it; whatever came of it, the same command completes it."""
    scenario, folder = SCENARIOS[name], tmp_path / "both"
    lay_out(scenario, material, folder)
    both = [nursery.start(material.fill(scenario), folder) for _ in range(2)]
    ended = [child.wait() for child in both]
    expected = {0, 3, 5, ALREADY_DONE.get(name, 0)}
    assert {end.code for end in ended} <= expected, ended
    assert any(end.code == 0 for end in ended), ended
    for end in ended:
        assert "Traceback" not in end.err, end.err
        if end.code == 5:
            assert re.match(r"error: .* is in use by pid \d+", end.err), end.err
    scenario.check(folder)
    assert name == "gather" or scenario.digest(folder) == alone(name).digest
    finish(name, scenario, material, folder, alone(name), nursery)


def test_two_that_gather_into_one_folder_are_kept_apart(
    nursery: Nursery, material: Material, alone: Alone, tmp_path: Path
) -> None:
    """The second would forget what the first has noted of its photos, and the file lack them."""
    scenario, folder = SCENARIOS["gather"], tmp_path
    slow = (
        "import time\nfrom pathlib import Path\nfrom seglab.inference.gathering import Gathering\n"
        "add = Gathering.add\n"
        "def slowly(self, job, labelled):\n"
        "    add(self, job, labelled)\n"
        "    Path('begun').touch()\n"
        "    while not Path('go').exists(): time.sleep(0.01)\n"
        "Gathering.add = slowly\n"
    )
    first = nursery.start(material.fill(scenario), folder, script=slow)
    while not (folder / "begun").exists():
        assert nursery.is_alive(first.pid)
    second = nursery.run([word for word in material.fill(scenario) if word != "--skip-existing"], folder)
    assert second.code == 5
    assert second.err.splitlines()[0].startswith(f"error: `found` is in use by pid {first.pid} since ")
    (folder / "go").touch()
    ended = first.wait()
    assert ended.code == 0, ended.err
    assert scenario.digest(folder) == alone("gather").digest
    assert len(json.loads((folder / "found" / "annotations.json").read_text())["images"]) == 12
