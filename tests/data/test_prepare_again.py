"""``seglab prepare`` after a kill at any point: it goes on, and the dataset is that of an undisturbed run."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seglab.cli import main
from seglab.data.journal import JOURNAL
from seglab.data.manifest import open_dataset
from seglab.data.prepare import Prepared, prepare
from seglab.errors import DataError
from seglab.tasks import TASKS

CLOTHES = TASKS["clothes"]
NUM = 12

RUN = """
import json, os, signal, sys
from pathlib import Path
from seglab import files
from seglab.data import journal, preview, staging, writer
from seglab.data.prepare import prepare
from seglab.tasks import TASKS

raw, out, where, nth, options = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
count = 0

def dying(room, name, *, half=lambda *arguments: None):
    # Replace a function by one that kills this process instead of its nth call.
    real = getattr(room, name)
    def run(*arguments, **options):
        global count
        count += 1
        if count > nth:
            half(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    setattr(room, name, run)

def half_a_line(path, line):
    with path.open("ab") as handle:
        handle.write(line.encode()[:40])

def half_a_file(path, data):
    path.with_name(f".{path.name}.1.2.part").write_bytes(data[: len(data) // 2])

{
    "write": lambda: dying(files, "write_bytes", half=half_a_file),
    "journal": lambda: dying(files, "append_line"),
    "half a line": lambda: dying(files, "append_line", half=half_a_line),
    "preview": lambda: dying(preview, "write_photo", half=lambda path, *_: half_a_file(path, bytes(9))),
    "rename": lambda: dying(Path, "rename"),
    "check": lambda: dying(writer.DatasetWriter, "_check"),
    "publish": lambda: dying(staging.StagedDir, "publish"),
}[where]()
prepare(raw, out, task=TASKS["clothes"], workers=2, **json.loads(options))
"""


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Photos that are copied, one that is turned, resized or written anew, a blank mask, and two bad pairs."""
    raw = tmp_path / "raw"
    for folder in ("images", "masks"):
        (raw / folder).mkdir(parents=True)
    for number in range(NUM):
        rng = np.random.default_rng(number)
        texture = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((80, 60))
        labels = np.zeros((60, 80), np.uint8)
        labels[: 10 + number, :30] = number % 4
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 1 else 1
        texture.save(raw / "images" / f"{number:02d}.jpg", quality=95, exif=exif)
        stored = labels[::2, ::2] if number == 2 else labels
        Image.fromarray(np.ascontiguousarray(stored)).save(raw / "masks" / f"{number:02d}.png")
    texture.convert("L").save(raw / "images/03.jpg")
    (raw / "images/09.jpg").write_bytes((raw / "images/05.jpg").read_bytes())
    Image.fromarray(np.full((60, 80), 9, np.uint8)).save(raw / "masks/10.png")
    (raw / "images/11.jpg").write_bytes(b"")
    return raw


def tree(dir: Path) -> dict[str, str]:
    """What every file holds and every link leads to; the folders too."""
    return {
        path.relative_to(dir).as_posix(): (
            str(path.readlink()) if path.is_symlink()
            else hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        )
        for path in sorted(dir.rglob("*"))
    }  # fmt: skip


def identities(dir: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every photo and label file that is a file."""
    paths = [path for path in dir.glob("*/*/*") if not path.name.startswith(".")]
    return {path.name + path.parent.name: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in paths}


def journaled(building: Path) -> list[dict[str, Any]]:
    lines = (building / JOURNAL).read_bytes().split(b"\n")[1:]
    return [json.loads(line) for line in lines if line.endswith(b"}")]


def finish(raw: Path, out: Path, **options: Any) -> Prepared:
    return prepare(raw, out, task=CLOTHES, workers=2, **{"drop_bad": True, "val": 0.2, "test": 0.2, **options})


def kill(raw: Path, out: Path, where: str, nth: int, **options: Any) -> None:
    options = {"drop_bad": True, "val": 0.2, "test": 0.2, **options}
    command = [sys.executable, "-c", RUN, str(raw), str(out), where, str(nth), json.dumps(options)]
    assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGKILL


def told(result: Prepared) -> dict[str, Any]:
    """All that a run says, but where it wrote and what it went on from."""
    return {name: value for name, value in result.to_dict().items() if name not in ("dataset", "remarks", "taken_up")}


@pytest.mark.parametrize(
    ("where", "nth", "least", "link"),
    [
        ("write", 1, 0, "copy"), ("write", 9, 2, "copy"), ("write", 14, 4, "copy"), ("preview", 0, 9, "copy"),
        ("journal", 0, 0, "copy"),
        ("journal", 5, 5, "copy"), ("half a line", 3, 3, "copy"), ("rename", 3, 10, "copy"), ("check", 0, 10, "copy"),
        ("publish", 0, 0, "copy"), ("write", 8, 1, "hard"), ("rename", 7, 10, "hard"), ("check", 0, 10, "hard"),
        ("half a line", 3, 3, "sym"), ("rename", 3, 10, "sym"),
    ],
)  # fmt: skip
def test_a_killed_run_goes_on(tmp_path: Path, raw: Path, where: str, nth: int, least: int, link: str) -> None:
    before = tree(raw)
    kill(raw, tmp_path / "out", where, nth, link=link)
    building = tmp_path / ".out.building"
    assert building.is_dir()
    assert not (tmp_path / "out").exists()
    kept = identities(building)
    done = journaled(building) if where != "publish" else []
    result = finish(raw, tmp_path / "out", link=link)
    undisturbed = finish(raw, tmp_path / "undisturbed", link=link)
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")
    assert told(result) == told(undisturbed)
    assert {group["kind"] for group in told(result)["notes"]} >= {
        "mask turned upright with its photo", "photo resized to its mask", "mask of nothing but background",
    }  # fmt: skip
    assert (undisturbed.num_taken_up, result.num_taken_up >= least) == (0, True)
    assert result.num_taken_up == len(done)
    after = identities(tmp_path / "out")
    names = [Path(entry["sample"][kind]).name + f"{kind}s" for entry in done for kind in ("image", "label")]
    assert {name: after[name] for name in names} == {name: kept[name] for name in names}
    assert result.dataset is not None
    assert result.dataset.verify() == []
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["out", "out.problems.json", "raw", "undisturbed", "undisturbed.problems.json"]
    assert tree(raw) == before


def test_kills_one_after_another(tmp_path: Path, raw: Path) -> None:
    """Each run is killed once it has finished two more samples; every run begins where the last one ended."""
    finish(raw, tmp_path / "undisturbed")
    code = (
        RUN.partition("count = 0")[0]
        + """
from threading import Semaphore
left, add = Semaphore(2), journal.Journal.add
journal.Journal.add = lambda *arguments: left.acquire(timeout=60) and add(*arguments)
prepare(raw, out, task=TASKS["clothes"], workers=2, **json.loads(options))
"""
    )
    options = {"drop_bad": True, "val": 0.2, "test": 0.2}
    arguments = [str(raw), str(tmp_path / "out"), "", "0", json.dumps(options)]
    for expected in (2, 4, 6):
        with subprocess.Popen([sys.executable, "-c", code, *arguments]) as process:
            waited = time.monotonic()
            while num_done(tmp_path) < expected and time.monotonic() - waited < 30:
                time.sleep(0.01)
            process.kill()
        assert num_done(tmp_path) == expected
    result = finish(raw, tmp_path / "out")
    assert result.num_taken_up == 6
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


def num_done(dir: Path) -> int:
    return len(journaled(dir / ".out.building")) if (dir / ".out.building" / JOURNAL).exists() else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_in_good_order(tmp_path: Path, raw: Path, number: int) -> None:
    finish(raw, tmp_path / "undisturbed")
    code = (
        "import os, sys; from seglab.data import writer; from seglab.cli import main;"
        f"writer.DatasetWriter._check = lambda *_: os.kill(os.getpid(), {int(number)}); main(sys.argv[1:])"
    )
    arguments = ["prepare", str(raw), str(tmp_path / "out"), "--task", "clothes", "--drop-bad"]
    arguments += ["--val", "0.2", "--test", "0.2"]
    ended = subprocess.run([sys.executable, "-c", code, *arguments], timeout=60, check=False, capture_output=True)
    assert ended.returncode == 128 + number
    assert not (tmp_path / ".out.lock").exists()
    result = finish(raw, tmp_path / "out")
    assert (result.num_taken_up, result.num_samples) == (10, 10)
    assert "went on where an interrupted run ended: 10 of 12 pairs were done" in result.findings.remarks
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"max_side": 40}, "`max_side` was `null` and is now `40`"),
        ({"val": 0.3}, "`val` was `0.2` and is now `0.3`"),
        ({"link": "sym"}, '`link` was `"copy"` and is now `"sym"`'),
        ({"task": TASKS["parsing"]}, "`task` was `clothes` and is now `parsing`"),
    ],
)
def test_other_options_are_noticed(tmp_path: Path, raw: Path, options: dict[str, Any], change: str) -> None:
    kill(raw, tmp_path / "out", "check", 0)
    options = {"task": CLOTHES, "workers": 2, "drop_bad": True, "val": 0.2, "test": 0.2, **options}
    result = prepare(raw, tmp_path / "out", **options)
    assert result.num_taken_up == 0
    assert any("it was made otherwise" in remark and change in remark for remark in result.findings.remarks)
    prepare(raw, tmp_path / "undisturbed", **options)
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


def test_another_version_is_noticed(tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill(raw, tmp_path / "out", "check", 0)
    monkeypatch.setattr("seglab.data.writer.__version__", "999")
    result = finish(raw, tmp_path / "out")
    assert result.num_taken_up == 0
    assert "`seglab` was" in result.findings.remarks[-1]


@pytest.mark.parametrize("path", ["images/00.jpg", "masks/00.png"])
def test_another_source_is_noticed(tmp_path: Path, raw: Path, path: str) -> None:
    kill(raw, tmp_path / "out", "check", 0)
    other = {"images/00.jpg": "images/07.jpg", "masks/00.png": "masks/07.png"}[path]
    (raw / path).write_bytes((raw / other).read_bytes())
    result = finish(raw, tmp_path / "out")
    assert result.num_taken_up == 0
    assert any("`source_files` was" in remark for remark in result.findings.remarks)
    finish(raw, tmp_path / "undisturbed")
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


@pytest.mark.parametrize("link", ["copy", "hard", "sym"])
def test_what_is_not_whole_is_made_again(tmp_path: Path, raw: Path, link: str) -> None:
    """As a power cut leaves it: written, said to be, and empty, or not there, or not what it was."""
    kill(raw, tmp_path / "out", "check", 0, link=link)
    photos = sorted((tmp_path / ".out.building").glob("*/images/0[045].jpg"))
    labels = sorted((tmp_path / ".out.building").glob("*/labels/0[678].png"))
    for path in (photos[0], labels[0]):
        path.unlink()
    for path in (photos[1], labels[1]):
        path.unlink()
        path.touch()
    photos[2].unlink()
    photos[2].symlink_to(raw / "images/07.jpg")
    labels[2].write_bytes(labels[2].read_bytes()[:-1] + b"x")
    (tmp_path / ".out.building/train/images/stray.jpg").touch()
    before = tree(raw)
    result = finish(raw, tmp_path / "out", link=link)
    finish(raw, tmp_path / "undisturbed", link=link)
    assert result.num_taken_up == 4
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")
    assert tree(raw) == before


def test_a_killed_replacement_goes_on_beside_the_old_dataset(tmp_path: Path, raw: Path) -> None:
    old = finish(raw, tmp_path / "out", max_side=40).dataset
    kill(raw, tmp_path / "out", "check", 0, force=True)
    assert open_dataset(tmp_path / "out") == old
    assert finish(raw, tmp_path / "out", force=True).num_taken_up == 10
    finish(raw, tmp_path / "undisturbed")
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


def test_a_refusal_leaves_nothing_to_go_on_from(tmp_path: Path, raw: Path) -> None:
    kill(raw, tmp_path / "out", "journal", 5, drop_bad=False)
    with pytest.raises(DataError, match="2 problems"):
        finish(raw, tmp_path / "out", drop_bad=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.problems.json", "raw"]


def test_links(tmp_path: Path, raw: Path) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in raw.rglob("*.*")}
    for link in ("copy", "hard", "sym"):
        result = finish(raw, tmp_path / link, link=link)
        assert result.dataset is not None
        assert result.dataset.verify() == []
        for sample in result.dataset.samples:
            photo, source = result.dataset.image_path(sample), raw / "images" / f"{sample.id}.jpg"
            stays = sample.id not in ("01", "02", "03")  # turned, resized, grey
            assert photo.samefile(source) == (stays and link != "copy"), (link, sample.id)
            assert photo.is_symlink() == (stays and link == "sym")
            assert not result.dataset.label_path(sample).is_symlink()
            if photo.is_symlink():
                assert photo.readlink() == source.resolve()
        anew = [paths for kind, paths in result.findings.notes.items() if "not linked" in kind]
        assert anew == ([] if link == "copy" else [["images/01.jpg", "images/02.jpg", "images/03.jpg"]])
    contents = [
        {name: digest for name, digest in tree(tmp_path / link).items() if name.endswith(("png", "preview.jpg"))}
        for link in ("copy", "hard", "sym")
    ]
    assert contents[0] == contents[1] == contents[2]
    finish(raw, tmp_path / "hard", link="hard", force=True, max_side=40)
    finish(raw, tmp_path / "sym", link="copy", force=True)
    assert tree(tmp_path / "sym") == tree(tmp_path / "copy")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in raw.rglob("*.*")} == before


def test_links_are_noticed(tmp_path: Path, raw: Path) -> None:
    """Who is told that a copy is there already may delete the source."""
    finish(raw, tmp_path / "out", link="sym")
    assert finish(raw, tmp_path / "out", link="sym").unchanged
    with pytest.raises(DataError, match='`link` was `"sym"` and is now `"copy"`'):
        finish(raw, tmp_path / "out", link="copy")
    raw.rename(tmp_path / "moved")
    with pytest.raises(DataError, match=r"lacks 7 of its 20 files: .* is a link to what is no longer there") as caught:
        finish(tmp_path / "moved", tmp_path / "out", link="sym")
    assert "--force" in caught.value.hint
    assert finish(tmp_path / "moved", tmp_path / "out", link="sym", force=True).num_samples == 10


@pytest.mark.parametrize(
    ("link", "number", "reason", "hint"),
    [
        ("hard", errno.EXDEV, "they are on different file systems", "--link sym, or --link copy"),
        ("hard", errno.EPERM, "Operation not permitted", "--link sym, or --link copy"),
        ("sym", errno.EPERM, "Operation not permitted", "--link copy"),
    ],
)
def test_a_link_that_cannot_be_made_is_never_a_silent_copy(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch, link: str, number: int, reason: str, hint: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, f"{link}link_to", refuse)
    with pytest.raises(DataError, match=rf"`.*\.jpg` cannot be linked .*--link {link}.*: {reason}") as caught:
        finish(raw, tmp_path / "out", link=link)
    assert caught.value.hint == hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system is known to be there")
def test_a_hard_link_to_another_file_system(tmp_path: Path, raw: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if Path(other).stat().st_dev == raw.stat().st_dev:
            pytest.skip("/dev/shm is the same file system")
        with pytest.raises(DataError, match="they are on different file systems"):
            finish(raw, Path(other) / "out", link="hard")
        assert finish(raw, Path(other) / "out", link="sym").num_samples == 10


def test_link_on_the_command_line(tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["prepare", raw, tmp_path / "out", "--task", "clothes", "--drop-bad", "--link", "hard", "--json"]
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["taken_up"] == 0
    assert "photo written anew, not linked" in " ".join(captured.err.split())
    assert (raw / "images/05.jpg").stat().st_nlink == 2
