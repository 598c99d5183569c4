"""The demo, made even smaller."""

import dataclasses
from pathlib import Path

import pytest

from seglab import demo as module
from seglab.device import Device
from seglab.errors import UsageError
from seglab.tasks import TASKS, Task

CPU = Device("cpu", None, "asked for")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONFIG", dataclasses.replace(module.CONFIG, epochs=1, size=64, val_every=1))
    monkeypatch.setattr(module, "NUM_SCENES", 20)
    monkeypatch.setattr(module, "SCENE_SIDE", 64)


@pytest.mark.slow
def test_everything_on_the_page_is_there(tmp_path: Path) -> None:
    said: list[str] = []
    done = module.demo(TASKS["clothes"], tmp_path / "out", CPU, say=said.append)
    page = done.page_path.read_text()
    linked = [part.split('"')[0] for part in page.split('src="')[1:]]
    assert len(linked) == 4 * 2  # two test scenes
    assert all((done.page_path.parent / link).stat().st_size for link in linked)
    assert "toy" in page
    assert (done.page_path.parent / "sheet.png").stat().st_size > 10_000
    assert "upper_body" in page
    assert len(said) == 5
    again = module.demo(TASKS["person"], tmp_path / "out", CPU, say=said.append)
    assert "upper_body" not in again.page_path.read_text()


def test_a_folder_that_is_not_a_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a demo"):
        module.demo(TASKS["person"], tmp_path, CPU, say=lambda _: None)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_names_on_the_page_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_headline", lambda _: "nothing")
    task = Task(name="odd", classes=("background", "<img src=x onerror=alert(1)>"))
    page = module._page(task, [Path('a"><img src=x>.jpg')], None)  # type: ignore[arg-type]
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x") == 6  # the class once, the photo's name in five attributes
