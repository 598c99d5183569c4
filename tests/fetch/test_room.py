"""Disks that are nearly full: what is needed is said in all and in time, and nothing that came is lost."""

import errno
import os
import random
import subprocess
import sys

import pytest

from seglab import files
from seglab.data.fetch import fetch, plan
from seglab.data.fetching.room import SPARE_BYTES, NoRoomError
from seglab.errors import DataError, ExitCode, NetworkError
from tests.fetch.site import chunked, make_tar, make_weights, make_zip

ZIP = make_zip({"set/1.jpg": random.Random(0).randbytes(200_000), "set/2.png": bytes(300_000)})
TAR = make_tar({f"set/{number}": random.Random(number).randbytes(1000) + bytes(9 << 20) for number in range(8)}, "w:gz")
WEIGHTS = make_weights(random.Random(1).randbytes(500_000))


@pytest.fixture
def bring(make_row, tmp_path, policy):
    """Fetch a row, given as the text of its table, into ``tmp_path/out``."""

    def bring(row, **options):
        return fetch(make_row(row), **{"out": tmp_path / "out", "policy": policy, **options})

    return bring


@pytest.fixture
def free(monkeypatch):
    """Set how much of the disk is free, beside what stays free."""
    return lambda num_bytes: monkeypatch.setattr(files, "free_bytes", lambda _path: SPARE_BYTES + num_bytes)


def dataset(url, more=""):
    return f"kind = 'dataset'\n{more}sources = [{{ url = '{url}' }}]"


def checkpoint(url, more=""):
    return f"kind = 'checkpoint'\n{more}sources = [{{ url = '{url}', file = 'w.pth' }}]"


def kept(folder):
    return sorted(path.stat().st_size for path in folder.glob(".out.download/*/*") if path.suffix != ".json")


def test_what_all_of_it_takes_is_said_before_anything_is_asked(site, bring, make_row, tmp_path, free):
    free(40_000_000)
    row = dataset(site.put("/a.zip", ZIP), "bytes = 80_000_000\nunpacked_bytes = 90_000_000\n")
    with pytest.raises(NoRoomError) as caught:
        bring(row)
    assert caught.value.message == (
        f"the disk of `{tmp_path}` has 107 MB free, but 237 MB are needed in all: 80 MB for the download, 90 MB for"
        " what is in it, and 67 MB that stay free"
    )
    assert caught.value.hint == "make room, or choose another disk with `--out DIR` or SEGLAB_CACHE"
    assert caught.value.exit_code == ExitCode.DATA
    assert not site.requests
    told = plan(make_row(row), tmp_path / "out")
    assert caught.value.message in told["obstacles"]


def test_room_for_the_archive_alone_is_not_enough(site, bring, tmp_path, free):
    """Where the length is all that is known: what is in an archive is at least as long."""
    free(2 * len(ZIP) - 1)
    row = dataset(site.put("/a.zip", ZIP))
    with pytest.raises(NoRoomError, match=r"0\.2 MB for the download, 0\.2 MB for what is in it"):
        bring(row)
    assert len(site.requests) == 1
    assert kept(tmp_path) == []
    free(2 * len(ZIP))
    with pytest.raises(NoRoomError, match=r"needed in all: 0\.5 MB for what is in it, and") as caught:
        bring(row)
    assert caught.value.hint == ("make room; the 0.2 MB that came are kept, and the same command goes on from there")
    assert kept(tmp_path) == [len(ZIP)]
    free(500_000)
    bring(row, offline=True)
    assert len(site.requests) == 2
    assert (tmp_path / "out" / "set" / "2.png").read_bytes() == bytes(300_000)


def test_the_users_own_archive_needs_room_for_what_is_in_it(bring, tmp_path, free):
    (tmp_path / "mine.tar.gz").write_bytes(TAR)
    free(80_000_000)
    with pytest.raises(NoRoomError, match="90 MB for what is in it") as caught:
        bring(dataset("https://a.example/x", "unpacked_bytes = 90_000_000\n"), from_path=tmp_path / "mine.tar.gz")
    assert caught.value.hint == "make room, or choose another disk with `--out DIR` or SEGLAB_CACHE"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("known", ["", f"bytes = {len(WEIGHTS)}\n"])
def test_weights_take_their_room_once(site, bring, make_row, tmp_path, free, known):
    row = checkpoint(site.put("/w", WEIGHTS), known)
    assert plan(make_row(row), tmp_path / "out")["needed_bytes"] == (len(WEIGHTS) if known else 0)
    free(len(WEIGHTS) - 1)
    with pytest.raises(NoRoomError):
        bring(row)
    free(len(WEIGHTS))
    done = bring(row)
    assert done.path.read_bytes() == WEIGHTS
    assert done.path.stat().st_nlink == 1


def test_a_disk_without_links_gets_a_copy(site, bring, monkeypatch):
    def refused(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    assert bring(checkpoint(site.put("/w", WEIGHTS))).path.read_bytes() == WEIGHTS


def test_the_users_own_weights_are_copied(bring, tmp_path):
    (tmp_path / "mine.pth").write_bytes(WEIGHTS)
    done = bring(checkpoint("https://a.example/x"), from_path=tmp_path / "mine.pth")
    done.path.write_bytes(b"changed")
    assert (tmp_path / "mine.pth").read_bytes() == WEIGHTS


def test_an_archive_that_fills_the_disk_to_the_last_byte_is_not_brought_twice(site, bring, tmp_path, monkeypatch):
    """There is no room left for the note that it is whole."""
    write = files.write_json

    def full(path, values):
        if path.name == "done.json":
            raise DataError(f"cannot write `{path}`: full") from OSError(errno.ENOSPC, "full")
        write(path, values)

    row = dataset(site.put("/a.zip", ZIP))
    with monkeypatch.context() as disk:
        disk.setattr(files, "write_json", full)
        with pytest.raises(DataError, match="full") as caught:
            bring(row)
    assert "the 0.2 MB that came are kept, and the same command goes on from there" in caught.value.hint
    assert kept(tmp_path) == [len(ZIP)]
    bring(row)
    assert len(site.requests) == 1


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a disk")
def test_on_a_disk_that_is_full_half_way(site, bring, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=70m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    row = dataset(site.put("/a.tar.gz", TAR, chunked))
    try:
        with pytest.raises(NoRoomError) as caught:
            bring(row, out=disk / "out")
        left = sorted(path.name for path in disk.iterdir())
        again = kept(disk)
        subprocess.run(["mount", "-o", "remount,size=180m", disk], check=True)
        done = bring(row, out=disk / "out")
        assert done.to_dict()["unpacked_bytes"] == 8 * (1000 + (9 << 20))
        assert [path.name for path in disk.iterdir()] == ["out"]
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    assert caught.value.message.startswith(f"the disk of `{disk}` was full when ")
    assert "MB of what is in the archive were unpacked" in caught.value.message
    assert "are kept, and the same command goes on from there" in caught.value.hint
    assert left == [".out.download"]
    assert again == [len(TAR)]
    assert len(site.requests) == 1


def test_a_login_that_is_missing_is_told_before_room_that_is_missing(make_row, tmp_path, monkeypatch):
    monkeypatch.setattr("seglab.data.fetching.logins.find_login", lambda: "")
    monkeypatch.setattr(files, "free_bytes", lambda path: 1000)
    row = make_row("kind = 'dataset'\nbytes = 5000\nsources = [{ kaggle-dataset = 'a/b' }]")
    with pytest.raises(NetworkError, match="needs a login"):
        fetch(row, out=tmp_path / "out")
