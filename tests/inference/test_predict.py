"""``seglab predict`` through the real command line, with a network that sees colours."""

import json
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seglab.errors import DataError
from seglab.inference.inputs import LEDGER_NAME

ORIENTATIONS = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image, -1),
}
"""How a displayed picture is stored for each EXIF orientation."""


def read_ids(path: Path) -> np.ndarray:
    with Image.open(path) as stored:
        return np.array(stored)


def kind(path: str) -> tuple[str, tuple[int, int]]:
    with Image.open(path) as stored:
        return stored.mode, stored.size


def corner_ids(labels: np.ndarray) -> list[int]:
    return [int(labels[y, x]) for y in (0, -1) for x in (0, -1)]


def test_masks_are_palette_pngs_of_class_ids(shell, save, corners, task, names) -> None:
    save(Path("p/a.png"), corners())
    save(Path("p/sub/b.png"), corners(31, 33))
    result = shell("predict", "p", "-o", "o")
    assert (result.code, result.out) == (0, "")
    assert names(Path("o")) == ["a.png", "legend.json", "sub/b.png"]
    with Image.open("o/a.png") as stored:
        assert (stored.mode, stored.size) == ("P", (90, 60))
        assert corner_ids(np.array(stored)) == [1, 2, 3, 4]
        assert np.array(stored)[30, 45] == 0
        assert stored.getpalette()[:15] == [value for colour in task.palette for value in colour]
    assert read_ids(Path("o/sub/b.png")).shape == (31, 33)
    legend = json.loads(Path("o/legend.json").read_text())
    assert legend["classes"][2] == {"id": 2, "name": "green", "rgb": [0, 255, 0]}
    assert (legend["task"], legend["ignore"]) == ("colours", 255)
    assert "2 photos in " in result.err


def test_several_formats(shell, save, corners, names) -> None:
    save(Path("a.png"), corners())
    assert shell("predict", "a.png", "-f", "ids", "-f", "overlay", "-f", "palette", "-o", "o").code == 0
    assert names(Path("o")) == ["a.overlay.jpg", "a.palette.png", "a.png", "legend.json"]
    assert kind("o/a.png")[0] == "L"
    np.testing.assert_array_equal(read_ids(Path("o/a.png")), read_ids(Path("o/a.palette.png")))
    mode, (width, _) = kind("o/a.overlay.jpg")
    assert mode == "RGB"
    assert width >= 90
    for arguments, message in (
        (["-f", "pallette"], "did you mean `palette`"),
        (["-f", "palette,ids"], "`--format palette --format ids`: an option for each"),
        (["-f", "ids", "-f", "ids"], "format `ids` is named twice"),
    ):
        result = shell("predict", "a.png", *arguments)
        assert (result.code, message in result.err) == (2, True), result.err


def test_one_photo_to_a_named_file(shell, save, corners, names) -> None:
    save(Path("a.png"), corners())
    assert shell("predict", "a.png", "-o", "deep/mask.png").code == 0
    assert names(Path("deep")) == ["mask.png"]
    assert not Path("deep", LEDGER_NAME).exists()


def test_a_folder_with_one_of_each_bad_file(shell, save, corners, names) -> None:
    for name in ("1.png", "5.png", "9.png"):
        save(Path("p", name), corners())
    whole = Path("p/1.png").read_bytes()
    jpeg = save(
        Path("q/whole.jpg"), np.random.default_rng(0).integers(0, 256, (80, 80, 3)).astype(np.uint8), format="JPEG"
    )
    bad = {
        "2.jpg": (b"", "empty file"),
        "3.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        "4.png": (whole[: len(whole) // 2], "truncated"),
        "6.jpg": (jpeg.read_bytes()[:1500], "truncated"),
        "7.jpg": (b"\x00\x01\x02 no picture at all" * 9, ""),
    }
    for name, (content, _) in bad.items():
        Path("p", name).write_bytes(content)
    save(Path("p/8.png"), np.zeros((200, 200, 3), np.uint8))
    Path("p/link.jpg").symlink_to("nowhere.jpg")
    result = shell("predict", "p", "-o", "o", "--json", "--max-pixels", "30000")
    assert result.code == 1
    assert names(Path("o")) == ["1.png", "5.png", "9.png", "legend.json"]
    assert [line["input"] for line in result.lines] == [f"p/{n}" for n in (
        "1.png", "2.jpg", "3.jpg", "4.png", "5.png", "6.jpg", "7.jpg", "8.png", "9.png", "link.jpg",
    )]  # fmt: skip
    reasons = {line["input"]: line["error"] for line in result.lines if "error" in line}
    assert len(reasons) == 7
    for name, (_, reason) in bad.items():
        assert reason in reasons[f"p/{name}"]
        assert reasons[f"p/{name}"]
        assert f"p/{name}: {reasons[f'p/{name}']}" in result.err
    assert "over the limit" in reasons["p/8.png"]
    assert reasons["p/link.jpg"] == "broken link"
    assert "7 failed" in result.err
    assert "3 photos in" in result.err


def test_fail_fast_stops_at_the_first(shell, save, corners, names) -> None:
    Path("p").mkdir()
    Path("p/0.jpg").write_bytes(b"")
    for number in range(1, 9):
        save(Path(f"p/{number}.png"), corners())
    result = shell("predict", "p", "-o", "o", "--fail-fast", "--json")
    assert (result.code, len(result.lines)) == (1, 1)
    assert names(Path("o")) == ["legend.json"]


def test_json_says_what_was_found_where(shell, save) -> None:
    image = np.zeros((40, 50, 3), np.uint8)
    image[10:30, 5:45] = (0, 255, 0)
    save(Path("a.png"), image)
    result = shell("predict", "a.png", "--json")
    (line,) = result.lines
    ids = read_ids(Path("seglab-masks/a.png"))
    assert (line["input"], line["outputs"]) == ("a.png", {"palette": "seglab-masks/a.png"})
    assert (line["height"], line["width"], line["found"], line["notes"]) == (40, 50, True, [])
    assert set(line["classes"]) == {"background", "green"}
    rows, columns = np.nonzero(ids == 2)
    assert line["classes"]["green"] == {
        "pixels": len(rows),
        "share": round(len(rows) / 2000, 6),
        "bbox": {
            "top": rows.min(), "left": columns.min(),
            "height": np.ptp(rows) + 1, "width": np.ptp(columns) + 1,
        },
        "confidence": 1.0,
    }  # fmt: skip
    assert line["confidence"] == 1.0
    assert line["ms"] > 0


def test_nothing_found_is_an_answer(shell, save) -> None:
    save(Path("a.png"), np.zeros((20, 30, 3), np.uint8))
    result = shell("predict", "a.png", "--json")
    assert (result.code, result.lines[0]["found"]) == (0, False)
    assert "nothing found in 1: `a.png`" in result.err
    assert (read_ids(Path("seglab-masks/a.png")) == 0).all()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_masks_lie_as_the_photo_is_displayed(shell, save, corners, orientation: int) -> None:
    stored = np.ascontiguousarray(ORIENTATIONS[orientation](corners(60, 90)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(Path("a.jpg"), stored, format="JPEG", quality=95, exif=exif)
    assert shell("predict", "a.jpg").code == 0
    labels = read_ids(Path("seglab-masks/a.png"))
    assert labels.shape == (60, 90)
    assert corner_ids(labels) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("mode", "size"),
    [("L", (30, 20)), ("LA", (30, 20)), ("RGBA", (30, 20)), ("1", (30, 20)), ("P", (30, 20)), ("I;16", (30, 20)),
     ("RGB", (1, 1)), ("RGB", (500, 1)), ("RGB", (1, 500)), ("RGB", (4000, 3000))],
)  # fmt: skip
def test_every_kind_and_size_of_photo(shell, mode: str, size: tuple[int, int]) -> None:
    Image.new(mode, size).save("a.png")
    result = shell("predict", "a.png")
    assert result.code == 0, result.err
    assert kind("seglab-masks/a.png")[1] == size


ODD_NAMES = [
    "a b.png",
    "[draft] c.png",
    "line\nbreak.png",
    "人 🙂 é.png",
    "-dash.png",
    "IMG[red].png",
    "UPPER.PNG",
    "dots.in.name.png",
]


def test_odd_names_are_kept_and_shown_as_they_are(shell, save, corners, names) -> None:
    for name in ODD_NAMES:
        save(Path("p", name), corners())
    Path("p/bad[b] \n.jpg").write_bytes(b"")
    result = shell("predict", "p", "--json")
    assert result.code == 1
    assert names(Path("seglab-masks")) == sorted([*(name[:-4] + ".png" for name in ODD_NAMES), "legend.json"])
    assert {line["input"] for line in result.lines} == {f"p/{name}" for name in [*ODD_NAMES, "bad[b] \n.jpg"]}
    assert r"p/bad[b] \n.jpg: empty file" in result.err
    assert shell("predict", "-o", "o", "--", "-dash.png").code == 3
    os.chdir("p")
    assert shell("predict", "-o", "../o", "--", "-dash.png").code == 0
    assert names(Path("../o")) == ["-dash.png", "legend.json"]


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are Unicode there")
def test_a_name_that_is_no_utf8(shell, save, corners) -> None:
    save(Path(os.fsdecode(b"p/caf\xe9.png")), corners())
    Path(os.fsdecode(b"p/b\xe9.jpg")).write_bytes(b"")
    result = shell("predict", "p", "--json")
    assert result.code == 1
    assert [line["input"] for line in result.lines] == [r"p/b\xe9.jpg", r"p/caf\xe9.png"]
    assert Path(os.fsdecode(b"seglab-masks/caf\xe9.png")).exists()
    assert shell("predict", "p", "--skip-existing", "--json").lines[1]["skipped"] is True


def test_a_second_run_does_nothing(shell, save, corners) -> None:
    for name in ("a.png", "b.png", "sub/c.png"):
        save(Path("p", name), corners())
    assert shell("predict", "p", "--skip-existing").code == 0
    before = {path: path.stat() for path in Path("seglab-masks").rglob("*.png")}
    shell.model.opened.clear()
    result = shell("predict", "p", "--skip-existing", "--json")
    assert (result.code, shell.model.opened) == (0, [])
    assert {path: path.stat() for path in Path("seglab-masks").rglob("*.png")} == before
    assert [line["skipped"] for line in result.lines] == [True] * 3
    assert "0 photos in 0.0 s, 3 finished earlier" in result.err


def test_skipping_trusts_only_what_is_whole_and_the_same(shell, save, corners, build_model) -> None:
    for name in ("a.png", "b.png", "c.png"):
        save(Path("p", name), corners())
    shell("predict", "p")
    Path("seglab-masks/b.png").write_bytes(Path("seglab-masks/b.png").read_bytes()[:-40])
    save(Path("p/c.png"), corners(70, 80))
    result = shell("predict", "p", "--skip-existing", "--json")
    assert ["skipped" in line for line in result.lines] == [True, False, False]
    assert read_ids(Path("seglab-masks/c.png")).shape == (70, 80)
    assert corner_ids(read_ids(Path("seglab-masks/b.png"))) == [1, 2, 3, 4]
    shell.model = build_model(save_id="another")
    result = shell("predict", "p", "--skip-existing", "--json")
    assert not any("skipped" in line for line in result.lines)
    result = shell("predict", "p", "--skip-existing", "--json", "-f", "palette", "-f", "ids")
    assert not any("skipped" in line for line in result.lines)


def test_a_run_again_replaces_its_own_masks_only(shell, save, corners) -> None:
    save(Path("p/a.png"), corners())
    assert shell("predict", "p").code == 0
    assert shell("predict", "p").code == 0
    save(Path("other/a.png"), corners())
    content = Path("other/a.png").read_bytes()
    result = shell("predict", "p", "-o", "other")
    assert (result.code, Path("other/a.png").read_bytes() == content) == (2, True)
    assert "`other/a.png` exists and is not an output" in result.err
    assert shell("predict", "p", "-o", "other", "--overwrite").code == 0
    assert Path("other/a.png").read_bytes() != content


def test_the_plan_is_refused_before_any_work(shell, save, corners) -> None:
    save(Path("p/a.png"), corners())
    save(Path("p/a.jpg"), corners())
    result = shell("predict", "p")
    assert (result.code, shell.model.opened, Path("seglab-masks").exists()) == (2, [], False)
    assert "`p/a.jpg` and `p/a.png` would both become" in result.err
    assert "--keep-ext" in result.err
    assert shell("predict", "p", "--keep-ext").code == 0
    assert Path("seglab-masks/a.jpg.png").exists()
    for arguments, code, message in (
        (["missing.jpg"], 3, "`missing.jpg` does not exist"),
        (["p", "-o", "p"], 2, "both the input and the output"),
        ([], 2, "PHOTOS"),
    ):
        result = shell("predict", *arguments)
        assert (result.code, message in result.err) == (code, True), result.err
    Path("empty").mkdir()
    result = shell("predict", "empty")
    assert (result.code, "no images in `empty`" in result.err) == (3, True)


def test_an_output_folder_that_cannot_be_written(shell, save, corners) -> None:
    save(Path("a.png"), corners())
    Path("file").write_bytes(b"")
    result = shell("predict", "a.png", "-o", "file/o")
    assert (result.code, "cannot make the folder `file/o`" in result.err) == (3, True), result.err
    assert shell.model.engine.shapes == []
    if os.geteuid() != 0:
        Path("locked").mkdir(mode=0o500)
        assert shell("predict", "a.png", "-o", "locked").code == 3


def test_a_full_disk_ends_the_run_and_keeps_what_is_finished(shell, save, corners, names, monkeypatch) -> None:
    import seglab.files

    for number in range(4):
        save(Path(f"p/{number}.png"), corners())
    monkeypatch.setattr("seglab.inference.flow.workers_for", lambda: 0)
    real = Path.replace

    def full(self: Path, target: Any) -> Any:
        if Path(target).name == "2.png":
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(seglab.files.Path, "replace", full)
    result = shell("predict", "p", "-o", "o")
    assert (result.code, "No space left on device" in result.err) == (3, True)
    left = [path.name for path in Path("o").iterdir()]
    assert sorted(left) == [LEDGER_NAME, "0.png", "1.png", "legend.json"]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_no_partial_output_and_the_rest_can_be_done(shell, save, corners, names, sent, code) -> None:
    for number in range(6):
        save(Path(f"p/{number}.png"), corners())

    def on_call(count: int) -> None:
        if count == 3:
            os.kill(os.getpid(), sent)

    shell.model.engine.on_call = on_call
    result = shell("predict", "p", "-o", "o")
    assert result.code == code, result.err
    assert "stopped by a signal after" in result.err
    assert "--skip-existing" in result.err
    left = {path.name for path in Path("o").iterdir()}
    assert not any(name.endswith(".part") for name in left)
    assert {"0.png"} <= left
    assert "5.png" not in left
    shell.model.engine.on_call = lambda count: None
    result = shell("predict", "p", "-o", "o", "--skip-existing", "--json")
    assert result.code == 0
    assert [("skipped" in line) for line in result.lines] == [f"{n}.png" in left for n in range(6)]
    for number in range(6):
        assert corner_ids(read_ids(Path(f"o/{number}.png"))) == [1, 2, 3, 4]


def test_batches_change_nothing(shell, save, corners) -> None:
    for number in range(5):
        save(Path(f"p/{number}.png"), corners(40 + number, 90 - 7 * number))
    Path("p/2b.jpg").write_bytes(b"")
    assert shell("predict", "p", "-o", "one").code == 1
    shell.model.engine.shapes.clear()
    result = shell("predict", "p", "-o", "three", "--batch-size", "3", "--json")
    assert [shape[0] for shape in shell.model.engine.shapes] == [3, 2]
    assert [line["input"] for line in result.lines] == [
        f"p/{n}" for n in ("0.png", "1.png", "2.png", "2b.jpg", "3.png", "4.png")
    ]
    for number in range(5):
        assert Path(f"one/{number}.png").read_bytes() == Path(f"three/{number}.png").read_bytes()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_threads_change_neither_order_nor_answers(shell, save, corners, monkeypatch, workers: int) -> None:
    monkeypatch.setattr("seglab.inference.flow.workers_for", lambda: workers)
    for number in range(12):
        save(Path(f"p/{number:02}.png"), corners(20 + number, 30))
    Path("p/05b.jpg").write_bytes(b"")
    result = shell("predict", "p", "--json")
    assert [line["input"] for line in result.lines] == sorted(str(path) for path in Path("p").iterdir())
    assert [line.get("height") for line in result.lines] == [20, 21, 22, 23, 24, 25, None, 26, 27, 28, 29, 30, 31]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("seglab")]


def test_memory_does_not_grow_with_the_folder(shell, save, corners, monkeypatch) -> None:
    """No more photos are held at once than the threads need."""
    import seglab.inference.flow as flow

    monkeypatch.setattr(flow, "workers_for", lambda: 2)
    alive, most = 0, 0
    guard = threading.Lock()
    real_read, real_finished = flow._read, flow._finished

    def read(*arguments: Any) -> Any:
        nonlocal alive, most
        with guard:
            alive += 1
            most = max(most, alive)
        return real_read(*arguments)

    def finished(*arguments: Any) -> Any:
        nonlocal alive
        done = real_finished(*arguments)
        with guard:
            alive -= 1
        return done

    monkeypatch.setattr(flow, "_read", read)
    monkeypatch.setattr(flow, "_finished", finished)
    for number in range(60):
        save(Path(f"p/{number:02}.png"), corners(20, 30))
    assert shell("predict", "p").code == 0
    assert alive == 0
    assert most <= 10


def test_a_photo_that_goes_away_fails_alone(shell, save, corners, monkeypatch) -> None:
    for number in range(3):
        save(Path(f"p/{number}.png"), corners())
    shell.model.engine.on_call = lambda count: Path("p/2.png").unlink(missing_ok=True)
    monkeypatch.setattr("seglab.inference.flow.workers_for", lambda: 0)
    result = shell("predict", "p", "--json")
    assert (result.code, ["error" in line for line in result.lines]) == (1, [False, False, True])


def test_a_broken_model_ends_the_run(shell, save, corners) -> None:
    save(Path("a.png"), corners())

    def fail(count: int) -> None:
        raise DataError("the graph is broken")

    shell.model.engine.on_call = fail
    result = shell("predict", "a.png")
    assert (result.code, "error: the graph is broken" in result.err) == (3, True)


def test_what_reading_did_is_said_once(shell, save: Callable[..., Path]) -> None:
    for number in range(3):
        save(Path(f"p/{number}.png"), np.full((20, 20, 4), 128, np.uint8))
    result = shell("predict", "p", "--json")
    assert result.err.count("alpha composited on white") == 1
    assert all(line["notes"] == ["alpha composited on white"] for line in result.lines)


def test_a_clock_that_was_ahead_when_the_folder_began(shell, save, corners) -> None:
    """And was put right since: what is written now looks older than the folder, but is no stranger's."""
    save(Path("p/a.png"), corners())
    command = ("predict", "p", "-o", "o", "-f", "palette", "-f", "coco")
    assert shell(*command).code == 0
    year_2096 = 4 * 10**18
    marker = Path("o/.seglab-done.jsonl")
    marker.write_text(re.sub('"since": [0-9]+', f'"since": {year_2096}', marker.read_text()))
    for path in Path("o").iterdir():
        os.utime(path, ns=(year_2096, year_2096))
    for _ in range(2):
        result = shell(*command)
        assert result.code == 0, result.err
    Path("o/legend.json").unlink()
    Path("o/legend.json").write_text("a user's own")
    os.utime("o/legend.json", ns=(1, 1))
    assert shell(*command).code == 2
