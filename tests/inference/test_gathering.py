"""Files for all photos: whole or not there, continued, in parts, and never more than a photo in memory."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seglab.errors import BusyError
from seglab.inference.gathering import SPOOL_NAME, Gathered, Gathering
from seglab.inference.plan import Job
from seglab.inference.sinks import GATHERED
from seglab.shards import Shard

COCO = ("predict", "p", "-o", "o", "-f", "coco", "-f", "rle")


@pytest.fixture
def photos(save, corners) -> list[str]:
    names = [f"{number}.png" for number in range(6)]
    for number, name in enumerate(names):
        save(Path("p") / name, corners(30 + number, 40))
    return names


def content(name: str = "annotations.json") -> Any:
    return json.loads((Path("o") / name).read_text())


def files(values: Any) -> list[str]:
    return [image["file_name"] for image in values["images"]]


def test_an_interrupted_run_leaves_no_file_and_is_continued(shell, photos, names) -> None:
    assert shell(*COCO).code == 0
    whole, rows = content(), Path("o/rle.csv").read_text()
    assert files(whole) == photos
    assert names(Path("o")) == ["annotations.json", "legend.json", "rle.csv"]

    def stop(count: int) -> None:
        if count == 9:
            raise KeyboardInterrupt

    Path("o/annotations.json").unlink()
    Path("o/rle.csv").unlink()
    shell.model.engine.on_call = stop
    assert shell(*COCO).code == 130
    assert names(Path("o")) == ["legend.json"]
    spool = Path("o") / SPOOL_NAME
    spool.write_bytes(spool.read_bytes() + b'{"input": "cut short')
    shell.model.engine.on_call = lambda count: None
    result = shell(*COCO, "--skip-existing", "--json")
    assert 1 <= sum("skipped" in line for line in result.lines) <= 3
    assert (content(), Path("o/rle.csv").read_text()) == (whole, rows)
    calls = len(shell.model.engine.shapes)
    again = shell(*COCO, "--skip-existing", "--json")
    assert [line.get("skipped") for line in again.lines] == [True] * 6
    assert (content(), len(shell.model.engine.shapes)) == (whole, calls)


def test_what_an_earlier_run_noted_is_only_used_if_it_holds(shell, photos, build_model, save, corners) -> None:
    assert shell(*COCO).code == 0
    save(Path("p/2.png"), corners(50, 60))
    Path("p/3.png").unlink()
    result = shell(*COCO, "--skip-existing", "--json")
    assert [line["input"] for line in result.lines if "skipped" not in line] == ["p/2.png"]
    values = content()
    assert values["images"][2] == {"id": 3, "file_name": "2.png", "height": 50, "width": 60}
    assert files(values) == photos, "a photo that is gone keeps its answer in a continued run"
    shell.model = build_model(save_id="b")
    result = shell(*COCO, "--skip-existing", "--json")
    assert not any("skipped" in line for line in result.lines)
    assert files(content()) == [name for name in photos if name != "3.png"]
    (Path("o") / SPOOL_NAME).unlink()
    result = shell(*COCO, "--skip-existing", "--json")
    assert not any("skipped" in line for line in result.lines), "finished, but the records are lost"


def test_a_run_without_skipping_begins_anew(shell, photos) -> None:
    assert shell(*COCO).code == 0
    assert shell("predict", "p/0.png", "-o", "o", "-f", "coco", "-f", "rle").code == 0
    assert files(content()) == ["0.png"]


def test_a_photo_that_fails_is_not_in_it(shell, photos) -> None:
    Path("p/4.png").write_bytes(b"")
    assert shell(*COCO).code == 1
    assert files(content()) == [name for name in photos if name != "4.png"]
    assert shell(*COCO, "--fail-fast", "-o", "f").code == 1
    assert not Path("f/annotations.json").exists(), "an incomplete run"


def test_parts_have_files_of_their_own_and_are_joined(shell, photos, names) -> None:
    for part in ("1/3", "2/3", "3/3"):
        result = shell(*COCO, "--shard", part, "--json")
        assert (result.code, len(result.lines)) == (0, 2)
    assert files(content("annotations.2-of-3.json")) == ["1.png", "4.png"]
    assert not Path("o/annotations.json").exists()
    calls = len(shell.model.engine.shapes)
    joined = shell(*COCO, "--skip-existing", "--json")
    assert [line.get("skipped") for line in joined.lines] == [True] * 6
    assert len(shell.model.engine.shapes) == calls
    assert files(content()) == photos
    assert len(set(names(Path("o")))) == 1 + 2 * 4
    assert shell(*COCO, "--shard", "1/2", "--skip-existing").code == 0
    assert files(content("annotations.1-of-2.json")) == ["0.png", "2.png", "4.png"]
    assert len(shell.model.engine.shapes) == calls


def test_torchrun_tells_the_part(shell, photos, monkeypatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    result = shell("predict", "p", "-o", "o", "--json")
    assert [line["input"] for line in result.lines] == ["p/1.png", "p/4.png"]
    assert shell("predict", "p", "-o", "o", "--shard", "4/3").code == 2


def test_parts_that_work_at_once_do_not_lose_what_is_finished(shell, photos) -> None:
    """The ledger of one part is not written anew by another that has read it before."""
    from seglab.inference.ledger import Ledger

    late = Ledger(Path("o"), "predict", {}, shard=Shard(2, 2))
    assert shell("predict", "p", "-o", "o", "--shard", "1/2").code == 0
    late.open()
    result = shell("predict", "p", "-o", "o", "--skip-existing", "--json")
    assert [line.get("skipped") for line in result.lines] == [True, None] * 3
    assert [line.get("skipped") for line in shell("predict", "p", "--skip-existing", "-o", "o", "--json").lines] == (
        [True] * 6
    )


def test_where_such_files_cannot_go(shell, photos, save, corners) -> None:
    for arguments, message in (
        (("p/0.png", "-f", "coco", "-o", "-"), "goes into a folder, not to standard output"),
        (("p", "-f", "coco", "-o", "all.json"), "`annotations.json` goes into a folder"),
        (("p", "-f", "rle", "-o", "all.csv"), "`rle.csv` goes into a folder"),
        (("p/0.png", "-f", "palette", "-f", "coco", "-o", "a.png"), "`palette`, `annotations.json` are asked for"),
    ):
        result = shell("predict", *arguments)
        assert (result.code, message in result.err) == (2, True), result.err
    Path("theirs").mkdir()
    Path("theirs/annotations.json").write_text("precious")
    refused = shell("predict", "p", "-f", "coco", "-o", "theirs")
    assert (refused.code, "is not an output of" in refused.err) == (2, True)
    assert Path("theirs/annotations.json").read_text() == "precious"
    save(Path("q/0.png"), corners())
    same = shell("predict", "p/0.png", "q/0.png", "-f", "coco")
    assert (same.code, "would both be `0.png` in `annotations.json`" in same.err) == (2, True)


def test_memory_holds_one_photo(tmp_path, task) -> None:
    """Fifty records of 100 kB each go through less than a megabyte and a half."""
    written = []

    def assemble(path: Path, task: Any, records: Any) -> None:
        written.append(sum(len(record) for record in records()))

    form = Gathered("all.txt", lambda labelled, name: "x" * 100_000, assemble, "")
    labelled: Any = None
    gathering = Gathering(tmp_path, {"x": form}, task, "settings")
    tracemalloc.start()
    gathering.open()
    for number in range(50):
        gathering.add(Job(tmp_path / f"{number}.jpg", {}, Path(f"{number}.jpg")), labelled)
    gathering.finish()
    again = Gathering(tmp_path, {"x": form}, task, "settings")
    again.recall()
    again.open()
    again.finish()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert written == [5_000_000] * 2
    assert most < 1_500_000


def test_names_that_are_no_utf8(shell, save, corners) -> None:
    import os

    name = os.fsdecode(b"p/caf\xe9.png")
    try:
        save(Path(name), corners())
    except OSError:
        pytest.skip("the file system takes no such names")
    assert shell("predict", "p", "-o", "o", "-f", "coco", "-f", "rle").code == 0
    assert files(content()) == ["caf\\xe9.png"]
    assert np.char.startswith(Path("o/rle.csv").read_text().splitlines()[1], "caf\\xe9.png")


def test_a_folder_is_gathered_into_by_one_at_a_time(shell, photos, task, names) -> None:
    forms = {"coco": GATHERED["coco"]}
    other = Gathering(Path("o"), forms, task, "settings")
    other.claim()
    result = shell(*COCO)
    assert (result.code, names(Path("o"))) == (5, [])
    assert "error: `o` is in use by pid " in result.err
    assert shell("predict", "p", "-o", "o").code == 0, "masks of their own do no harm"
    part = Gathering(Path("o"), forms, task, "settings", shard=Shard(1, 2))
    part.claim()
    for gathering in (part, other):
        gathering.release()
    assert shell(*COCO).code == 0
    assert not list(Path("o").glob(".*.lock"))


def test_what_another_run_has_written_anew_is_noticed(shell, photos, task) -> None:
    """Between looking up what is finished and going on from there."""
    assert shell(*COCO).code == 0
    settings = json.loads((Path("o") / SPOOL_NAME).read_bytes().partition(b"\t")[0])["settings"]
    gathering = Gathering(Path("o"), {"coco": GATHERED["coco"]}, task, settings)
    gathering.recall()
    Path("p/3.png").unlink()
    assert shell(*COCO).code == 0
    with pytest.raises(BusyError, match="`o` was written anew by another process just now"):
        gathering.claim()
