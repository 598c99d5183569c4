"""Durable writing and locks."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from seglab.errors import BusyError, DataError
from seglab.files import append_line, lock, replacing, sweep, sweep_dir, write_bytes, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_bytes(path, b"old")

    def write_half() -> None:
        with replacing(path) as temporary_path:
            temporary_path.write_bytes(b"ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_a_long_name_fits(tmp_path: Path) -> None:
    path = tmp_path / ("人" * 83 + ".png")
    write_bytes(path, b"x")
    assert path.read_bytes() == b"x"


def test_nan_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert names(tmp_path) == []


def test_an_absent_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot write"):
        write_bytes(tmp_path / "no" / "a.txt", b"x")


def test_a_file_where_a_folder_should_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        write_bytes(tmp_path / "file" / "a.txt", b"x")


def test_a_full_disk_is_one_line_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    code = f"""
        import resource, signal, pathlib
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        from seglab.files import write_bytes
        from seglab.errors import DataError
        try:
            write_bytes(pathlib.Path({str(path)!r}), bytes(100_000))
        except DataError as error:
            print(error.message)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "cannot write" in done.stdout
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_lines_are_appended(tmp_path: Path) -> None:
    append_line(tmp_path / "log", "a")
    append_line(tmp_path / "log", "é")
    assert (tmp_path / "log").read_text() == "a\né\n"


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = f"""
        import pathlib, time
        from seglab.files import lock
        with lock(pathlib.Path({str(path)!r}), "it"):
            print("held", flush=True)
            time.sleep(60)
    """
    holder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError) as caught, lock(path, "run `a`"):
            pass
        assert f"run `a` is in use by pid {holder.pid}" in caught.value.message
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()
    with lock(path, "run `a`"):
        pass


def test_a_lock_that_its_holder_removed_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opened the file before it was removed would hold another lock than those who come later."""
    import fcntl

    path, original = tmp_path / "lock", fcntl.flock

    def removed_meanwhile(handle: object, how: int) -> None:
        path.unlink()
        original(handle, how)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with pytest.raises(BusyError, match="another process"), lock(path, "it"):
        pass
    monkeypatch.undo()
    with lock(path, "it"):
        path.unlink()


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom seglab.files import replacing\n"
        "contexts = [replacing(Path(name)) for name in sys.argv[1:]]\n"
        "for context in contexts: context.__enter__().write_text('half')\n"
        "os._exit(9)"
    )
    names = [tmp_path / name for name in ("a.png", "x" * 240 + ".png", "b [1].png", "others.png")]
    subprocess.run([sys.executable, "-c", script, *map(str, names)], check=False, cwd=Path(__file__).parents[1])
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == 4
    live = tmp_path / f".a.png.{os.getppid()}.1a2b.part"
    mine = tmp_path / f".a.png.{os.getpid()}.1a2b.part"
    for path in (live, mine):
        path.write_text("half")
    sweep([*names[:3], tmp_path / "not there" / "c.png"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [live.name, *(name for name in left if name.startswith(".others.png."))]
    )


def test_a_folder_of_ones_own_is_swept_whatever_was_written(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead = int(gone.stdout)
    for name in (f".a.png.{dead}.1a.part", f".b.{dead}.ff.part"):
        (tmp_path / name).touch()
    kept = [f".a.png.{os.getppid()}.1a.part", f"a.{dead}.1a.part", f".a.{dead}.1a.partial", ".part", "a"]
    for name in kept:
        (tmp_path / name).touch()
    sweep_dir(tmp_path)
    sweep_dir(tmp_path / "not there")
    assert names(tmp_path) == sorted(kept)


def test_a_name_that_is_no_text_can_be_written_and_read_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xe6\x97\xa5.jpg")
    write_json(tmp_path / "a.json", {"name": name})
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"name": name}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_devices_and_pipes_are_not_replaced(tmp_path: Path) -> None:
    """The descriptors of a process are links, to files too; root may replace them."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    places = [tmp_path / "pipe", tmp_path / "link", Path(os.devnull), Path("/dev/stdout")]
    for path in [place for place in places if place.exists()]:
        before = path.lstat()
        with pytest.raises(DataError, match="it is a device or a pipe, and a file would take its place"):
            write_text(path, "text")
        assert os.path.samestat(path.lstat(), before)


def test_a_link_is_replaced_and_what_it_led_to_is_not(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    for name in ("other", "nothing"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(name)
        write_text(tmp_path / "link", "text")
        assert (tmp_path / "link").read_text() == "text"
    assert (tmp_path / "other").read_text() == "other"
