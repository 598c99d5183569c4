"""Disks, inputs, streams and clocks that fail: one line, an exit code, nothing half-written, and the work can go on."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults.killing import Alone, finish, lay_out
from tests.faults.nursery import CLOSED, Ended, Nursery
from tests.faults.scenarios import SCENARIOS, Material, all_but, environment

IS_ROOT = os.geteuid() == 0


def refused(ended: Ended, code: int = 3) -> str:
    """Return the one line that a command said of why it stopped."""
    assert ended.code == code, ended
    (line,) = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in ended.out + ended.err
    return line


def nothing_half_written(folder: Path) -> None:
    """But for what a download goes on from."""
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part") and path.name != "download.part"]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a small disk of its own."""
    where = tmp_path_factory.mktemp("disk")
    if sys.platform != "linux" or not IS_ROOT:
        pytest.skip("only root can mount a disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", where], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", all_but("export", "fetch"))
def test_a_disk_that_is_full_or_read_only(
    name: str, nursery: Nursery, material: Material, alone: Alone, disk: Path
) -> None:
    scenario, folder = SCENARIOS[name], disk / name
    lay_out(scenario, material, folder)
    before = sorted(disk.rglob("*"))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        line = refused(nursery.run(material.fill(scenario), folder))
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert "Read-only file system" in line or "cannot write into" in line
    assert sorted(disk.rglob("*")) == before
    room = 4096
    with (disk / "filler").open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, shutil.disk_usage(disk).free - room)
    line = refused(nursery.run(material.fill(scenario), folder))
    assert "No space left on device" in line or "are needed" in line
    nothing_half_written(folder)
    scenario.check(folder)
    (disk / "filler").unlink()
    finish(name, scenario, material, folder, alone(name), nursery)
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "max_bytes"),
    [
        ("fetch", 2000), ("fetch", 80_000), ("prepare", 100), ("prepare", 1500), ("train", 100), ("train", 20_000),
        ("predict", 100), ("cutout", 1000), ("export", 20_000), ("promote", 100), ("promote", 3000), ("gather", 700),
        ("gather", 100), ("synth", 1000), ("evaluate", 100), ("evaluate", 2000), ("problems", 100),
    ],
)  # fmt: skip
def test_a_file_that_may_not_grow(
    name: str, max_bytes: int, nursery: Nursery, material: Material, alone: Alone, tmp_path: Path
) -> None:
    scenario, folder = SCENARIOS[name], tmp_path / "limited"
    lay_out(scenario, material, folder)
    line = refused(nursery.run(material.fill(scenario), folder, max_file_bytes=max_bytes))
    assert "File too large" in line or "file too large" in line
    nothing_half_written(folder)
    scenario.check(folder)
    if name != "export":
        finish(name, scenario, material, folder, alone(name), nursery)


@pytest.mark.parametrize("name", all_but("export", "train"))
def test_a_folder_of_somebody_elses(name: str, nursery: Nursery, material: Material, tmp_path: Path) -> None:
    scenario, folder = SCENARIOS[name], tmp_path / "theirs"
    lay_out(scenario, material, folder)
    before = sorted(folder.rglob("*"))
    folder.chmod(0o555)
    try:
        line = refused(nursery.run(material.fill(scenario), folder, powerless=IS_ROOT))
    finally:
        folder.chmod(0o755)
    assert re.search(r"[Pp]ermission denied|cannot write into", line)
    assert sorted(folder.rglob("*")) == before


INPUTS = {
    "photo": (["predict", "-m", "{m}/new", "{x}", "{m}/photos", "-o", "masks"], 1),
    "only photo": (["cutout", "-m", "{m}/new", "{x}", "-o", "cuts"], 1),
    "model of a folder": (["predict", "-m", "{bundle}", "{m}/photos"], 3),
    "graph": (["predict", "-m", "{x}.onnx", "{m}/photos"], 3),
    "weights": (["promote", "{bundle}", "served"], 3),
    "weights to export": (["export", "{x}", "a.onnx"], 3),
    "task": (["predict", "-m", "{m}/new", "--task", "{x}.toml", "{m}/photos"], 3),
    "list": (["predict", "-m", "{m}/new", "@{x}"], 3),
    "background": (["cutout", "-m", "{m}/new", "{m}/photos", "--background", "{x}"], 3),
    "registry": (["fetch", "faces", "--registry", "{x}.toml"], 3),
    "archive": (["fetch", "faces", "--registry", "{m}/own.toml", "--from", "{x}", "--out", "faces"], 3),
    "data": (["evaluate", "-m", "{m}/new", "--data", "{dataset}"], 3),
    "raw": (["prepare", "{x}", "data"], 3),
    "recipe": (["train", "--recipe", "{x}.toml", "--task", "person", "--data", "{m}/data", "--out", "run"], 3),
    "result": (["compare", "{x}", "{x}"], 3),
}
"""What commands read, with the exit codes where it cannot be."""


def arguments_for(words: list[str], material: Material, bad: Path) -> list[str]:
    """Fill in a command line: ``{x}`` is the bad file, which some folders and names lead to."""
    for suffix in (".onnx", ".toml"):
        bad.with_name(f"{bad.name}{suffix}").symlink_to(bad)
    bundle, dataset = bad.with_name("bundle"), bad.with_name("dataset")
    bundle.mkdir()
    shutil.copy(material.dir / "new" / "config.json", bundle)
    (bundle / "model.safetensors").symlink_to(bad)
    dataset.mkdir()
    (dataset / "dataset.json").symlink_to(bad)
    return [word.format(m=material.dir, x=bad, bundle=bundle, dataset=dataset) for word in words]


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "unreadable", "loop"])
def test_inputs_that_are_no_files_to_read(
    kind: str, nursery: Nursery, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing hangs on a pipe that nobody writes to, nor reads a device without end."""
    for number, (what, (words, code)) in enumerate(INPUTS.items()):
        folder = tmp_path / f"{kind}{number}"
        folder.mkdir()
        bad = folder / "bad.png"
        monkeypatch.chdir(folder)
        with socket.socket(socket.AF_UNIX) as server:
            if kind == "fifo":
                os.mkfifo(bad)
            elif kind == "socket":
                server.bind(bad.name)
            elif kind == "device":
                bad.symlink_to("/dev/zero")
            elif kind == "unreadable":
                Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(bad)
                bad.chmod(0)
            else:
                bad.symlink_to(bad.name)
            ended = nursery.run(arguments_for(words, material, bad), folder, powerless=IS_ROOT, timeout_s=20)
        told = [line for line in ended.err.splitlines() if "bad.png" in line or line.startswith("error: ")]
        assert (ended.code in (code, 2 if code == 3 else code), bool(told)) == (True, True), (what, ended)
        assert "Traceback" not in ended.err, (what, ended)
        nothing_half_written(folder)
        if what == "photo":
            assert len(list((folder / "masks").glob("*.png"))) == 12


WHEN_OPENED = """
import sys
from pathlib import Path
done = []
def change(event, details):
    if event == "open" and str(details[0]).endswith({opened!r}) and not done:
        done.append(1)
        {change}
sys.addaudithook(change)
"""


@pytest.mark.parametrize(
    ("name", "opened", "path", "code", "words"),
    [
        ("predict", "photos/00.jpg", "photos/07.jpg", 1, "07.jpg"),
        ("cutout", "photos/00.jpg", "photos/07.jpg", 1, "07.jpg"),
        ("evaluate", "data/samples.jsonl", "data/train/images/synth-000017.jpg", 1, "synth-000017"),
        ("train", "data/samples.jsonl", "data/train/labels/synth-000017.png", 3, "synth-000017.png"),
    ],
)  # fmt: skip
def test_an_input_that_goes_away_and_comes_back(
    name: str, opened: str, path: str, code: int, words: str, nursery: Nursery, material: Material, alone: Alone,
    tmp_path: Path,
) -> None:  # fmt: skip
    scenario, folder, own = SCENARIOS[name], tmp_path / "work", tmp_path / "material"
    shutil.copytree(material.dir, own)
    mine = Material(own, material.site)
    lay_out(scenario, mine, folder)
    change = f"Path({str(own / path)!r}).rename({str(tmp_path / 'away')!r})"
    script = WHEN_OPENED.format(opened=opened, change=change)
    ended = nursery.run(mine.fill(scenario), folder, script=script)
    assert (tmp_path / "away").exists()
    assert ended.code == code, ended
    assert "Traceback" not in ended.err
    assert words in ended.err
    scenario.check(folder)
    nothing_half_written(folder)
    (tmp_path / "away").rename(own / path)
    finish(name, scenario, mine, folder, alone(name), nursery)


def test_a_photo_that_grows_meanwhile_is_done_again(
    nursery: Nursery, material: Material, alone: Alone, tmp_path: Path
) -> None:
    """As when a folder is worked on into which photos are still being copied."""
    scenario, folder, own = SCENARIOS["predict"], tmp_path / "work", tmp_path / "material"
    shutil.copytree(material.dir, own)
    folder.mkdir()
    path = own / "photos" / "07.jpg"
    whole = path.read_bytes()
    for photo in path.parent.iterdir():  # a camera's clock
        os.utime(photo, (4e9, 4e9))
    path.write_bytes(whole[: len(whole) // 2])
    mine = Material(own, material.site)
    script = WHEN_OPENED.format(
        opened="photos/07.jpg",
        change=f"Path({str(path)!r}).open('ab').write(Path({str(tmp_path / 'more')!r}).read_bytes())",
    )
    (tmp_path / "more").write_bytes(whole[len(whole) // 2 : -9])
    ended = nursery.run(mine.fill(scenario), folder, script=script)
    assert ended.code == 1, ended
    assert "07.jpg" in ended.err
    assert len(list((folder / "masks").glob("*.png"))) == 11
    path.write_bytes(whole)
    finish("predict", scenario, mine, folder, alone("predict"), nursery)


BACKWARDS = """
import os, time
now = [4_000_000_000.0]
def back():
    now[0] -= 3600
    return now[0]
time.time = back
time.time_ns = lambda: int(back() * 1e9)
"""


NO_MATTER = {"a clock that goes backwards": {"script": BACKWARDS}, "closed streams": {"out": CLOSED, "err": CLOSED}}


@pytest.mark.parametrize("oddity", NO_MATTER)
@pytest.mark.parametrize("name", all_but("export"))
def test_what_does_not_matter(
    name: str, oddity: str, nursery: Nursery, material: Material, alone: Alone, tmp_path: Path
) -> None:
    """The work is the same, and once done it is done; nothing that is printed gets into a file by a stream's number."""
    scenario, folder = SCENARIOS[name], tmp_path / "work"
    lay_out(scenario, material, folder)
    ended = nursery.run(material.fill(scenario), folder, **NO_MATTER[oddity])
    assert ended.code == 0, ended
    assert "Traceback" not in ended.err
    scenario.check(folder)
    assert scenario.digest(folder) == alone(name).digest
    finish(name, scenario, material, folder, alone(name), nursery)


@pytest.mark.parametrize("stream", ["out", "err"])
@pytest.mark.parametrize("name", ["predict", "cutout", "gather", "fetch", "evaluate"])
def test_a_reader_that_goes_away(
    name: str, stream: str, nursery: Nursery, material: Material, alone: Alone, tmp_path: Path
) -> None:
    """As in ``seglab ... --json | head -c1``."""
    scenario, folder = SCENARIOS[name], tmp_path / "work"
    lay_out(scenario, material, folder)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    streams = {stream: str(tmp_path / "pipe")}
    child = nursery.start([*material.fill(scenario), "--json"], folder, **streams)
    child.wait_for_stream(reader)
    os.close(reader)
    ended = child.wait()
    assert ended.code in (0, 141), ended
    assert "Traceback" not in ended.err + ended.out
    assert "BrokenPipe" not in ended.err + ended.out
    scenario.check(folder)
    finish(name, scenario, material, folder, alone(name), nursery)


ASCII = {
    "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii", "TERM": "dumb",
    "COLUMNS": "20",
}  # fmt: skip
ODD = "日本 é🙂 [b] \n"


@pytest.mark.slow
def test_names_beyond_ascii_on_a_terminal_that_knows_nothing_else(material: Material, tmp_path: Path) -> None:
    photos, pairs = tmp_path / ODD / "photos", tmp_path / ODD / "pairs"
    photos.mkdir(parents=True)
    shutil.copy(material.dir / "photos" / "00.jpg", photos / f"{ODD}.jpg")
    (photos / f"broken {ODD}.jpg").write_bytes(b"no")
    for kind, ours in (("images", "images"), ("labels", "masks")):
        (pairs / ours).mkdir(parents=True)
        for path in (material.dir / "data" / "train" / kind).iterdir():
            shutil.copy(path, pairs / ours / f"{ODD}{path.name}")
    next((pairs / "masks").iterdir()).unlink()

    def ascii_only(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "seglab", *map(str, arguments)], cwd=tmp_path, capture_output=True, text=True,
            env={**environment(), **ASCII},
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        assert done.stdout.isascii()
        assert done.stderr.isascii()
        return done

    model = material.dir / "new"
    done = ascii_only("predict", "-m", model, photos, "-o", f"{ODD}masks", "--json")
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {Path(line["input"]).name for line in lines} == {f"{ODD}.jpg", f"broken {ODD}.jpg"}
    assert (tmp_path / f"{ODD}masks" / f"{ODD}.png").exists()
    assert ascii_only("cutout", "-m", model, photos / f"{ODD}.jpg").returncode == 0
    assert (photos / f"{ODD}.cutout.png").exists()
    assert ascii_only("prepare", pairs, f"{ODD}data", "-t", "person").returncode == 3
    assert ascii_only("prepare", pairs, f"{ODD}data", "-t", "person", "--drop-bad").returncode == 0
    done = ascii_only("evaluate", "-m", model, "--data", f"{ODD}data", "--split", "train", "--report", f"{ODD}.html")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"{ODD}.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert ascii_only("promote", model, f"{ODD}served").returncode == 0


@pytest.mark.slow
def test_a_dataset_with_names_that_this_locale_cannot_say_is_told_how_to_be_read(
    material: Material, tmp_path: Path
) -> None:
    """Light commands, a line each, and the work goes on once Python is told to speak UTF-8."""
    pairs = tmp_path / "pairs"
    for kind, ours in (("images", "images"), ("labels", "masks")):
        (pairs / ours).mkdir(parents=True)
        for path in (material.dir / "data" / "train" / kind).iterdir():
            shutil.copy(path, pairs / ours / f"日本é-{path.name}")

    def seglab(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "seglab", *arguments], cwd=tmp_path, capture_output=True, text=True,
            env={**environment(), **settings},
        )  # fmt: skip

    for name in ("one", "two"):
        assert seglab("prepare", "pairs", name, "-t", "person", PYTHONUTF8="1").returncode == 0
    for command in (["inspect", "one", "--json"], ["join", "both", "one", "two"], ["evaluate", "--data", "one"]):
        extra = ["-m", str(material.dir / "new")] if command[0] == "evaluate" else []
        done = seglab(*command, *extra, **ASCII)
        assert (done.returncode, done.stdout) == (3, ""), done.stderr
        said = done.stderr.replace("\n", " ")
        assert "error: `one` has photos with names such as `\\u65e5\\u672c\\xe9-" in said
        assert "cannot say in its encoding, ascii" in said
        assert "PYTHONUTF8=1" in said
        assert "Traceback" not in said
    assert not (tmp_path / "both").exists()
    done = seglab("inspect", "one", "--json", **{**ASCII, "PYTHONUTF8": "1"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["unreadable"] == []
