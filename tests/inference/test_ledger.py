import json
import os
from pathlib import Path

import pytest

from seglab.engines import EngineChoice
from seglab.errors import DataError
from seglab.inference.errand import Terms
from seglab.inference.inputs import LEDGER_NAME
from seglab.inference.ledger import FILES_NAME, Ledger, read_command, stamp
from seglab.inference.plan import Job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "o").mkdir()
    for name in ("a.jpg", "o/a.png", "o/a.overlay.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    return Job(tmp_path / "a.jpg", {"palette": tmp_path / "o/a.png", "overlay": tmp_path / "o/a.overlay.jpg"})


def finished(job: Job, settings: dict[str, object], command: str = "predict") -> Ledger:
    ledger = Ledger(job.outputs["palette"].parent, command, settings)
    ledger.open()
    ledger.add(job, stamp(job.path))
    return ledger


def again(job: Job, settings: dict[str, object], command: str = "predict") -> bool:
    return Ledger(job.outputs["palette"].parent, command, settings).is_done(job)


def test_finished_work_is_known_again(job: Job) -> None:
    assert not again(job, {"model": "m"})
    finished(job, {"model": "m"})
    assert again(job, {"model": "m"})
    assert read_command(job.outputs["palette"].parent) == "predict"


def test_other_settings_or_another_command_are_other_work(job: Job) -> None:
    finished(job, {"model": "m"})
    assert not again(job, {"model": "n"})
    assert not again(job, {"model": "m"}, "cutout")
    assert not again(Job(job.path, {"palette": job.outputs["palette"]}), {"model": "m"})


def test_a_changed_photo_or_output_is_done_again(job: Job) -> None:
    for number, path in enumerate((job.path, job.outputs["palette"], job.outputs["overlay"])):
        finished(job, {})
        assert again(job, {})
        path.write_bytes(b"something longer than before")
        assert not again(job, {})
        finished(job, {})
        os.utime(job.path, ns=(1, number))
        assert not again(job, {})
        finished(job, {})
        path.unlink()
        assert not again(job, {})
        path.write_bytes(b"back")


def test_a_line_that_a_kill_cut_short_is_dropped(job: Job) -> None:
    finished(job, {})
    path = job.outputs["palette"].parent / LEDGER_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert not again(job, {})
    ledger = Ledger(path.parent, "predict", {})
    ledger.open()
    ledger.add(job, stamp(job.path))
    assert again(job, {})
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 2
    path.write_bytes(b'{"seglab": 3}\n[1]\nnonsense\xff\n')
    assert read_command(path.parent) is None
    assert not again(job, {})


def test_lines_that_later_runs_replaced_are_dropped(job: Job) -> None:
    for number in range(5):
        finished(job, {"number": number})
    Ledger(job.outputs["palette"].parent, "predict", {}).open()
    assert len((job.outputs["palette"].parent / LEDGER_NAME).read_text().splitlines()) == 2


def test_without_a_folder_files_are_known_where_they_lie(job: Job) -> None:
    output = job.outputs["palette"]
    one = Job(job.path, {"palette": output})

    def again(settings: dict[str, object], one: Job = one) -> bool:
        return Ledger(None, "cutout", settings).is_done(one)

    assert not again({}), "newer than the photo, but who knows whose"
    Ledger(None, "cutout", {}, remember=False).add(one, stamp(one.path))
    assert not again({})
    ledger = Ledger(None, "cutout", {})
    ledger.open()
    ledger.add(one, stamp(one.path))
    assert again({})
    assert not again({"edge": "hard"}), "another look is other work"
    other = job.path.with_name("b.jpg")
    other.write_bytes(job.path.read_bytes())
    assert not again({}, Job(other, {"palette": output})), "another photo is other work"
    assert not again({}, Job(job.path, {"palette": Path("-")}))
    assert read_command(output.parent) is None, "the folder stays one of photos"
    output.write_bytes(output.read_bytes()[:-1])
    assert not again({}), "cut short"
    Ledger(None, "cutout", {"edge": "hard"}).add(one, stamp(one.path))
    assert again({"edge": "hard"})
    assert not again({}), "the last one counts"
    output.with_name(FILES_NAME).write_bytes(b'{"outputs": 3}\n[1]\nnonsense\xff\n')
    assert not again({"edge": "hard"})


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(DataError, match=r"cannot make the folder .*file/o"):
        Ledger(tmp_path / "file" / "o", "predict", {}).open()


def test_what_computes_is_other_work_only_where_it_computes_coarsely() -> None:
    for same in ("torch", EngineChoice("torch"), EngineChoice("torch", "fp32")):
        assert Terms(engine=same).settings == {}
    assert Terms(engine=EngineChoice("torch", "bf16")).settings == {"precision": "bf16"}
