"""A row with several sources: what one of them spoils, the next one mends."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import pytest

from seglab.data import fetch as verb
from seglab.data.fetch import fetch
from seglab.data.fetching.admission import ArchiveError, Limits
from seglab.errors import DataError, DeviceError, ExitCode, Interrupted, NetworkError
from tests.fetch.site import HTML, drip, make_tar, make_weights, make_zip, stall, status, truncate
from tests.fetch.test_weight_files import evil_weights

PHOTO = random.Random(0).randbytes(200_000)
ZIP = make_zip({"set/images/1.jpg": PHOTO, "set/masks/1.png": b"mask"})
LOCKED = (Path(__file__).parent / "archives" / "locked.7z").read_bytes()


def broken_zip():
    """Return a zip with a member whose bytes are not those that were packed."""
    data = bytearray(make_zip({"a.bin": b"first", "set/images/1.jpg": PHOTO}))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def bad_archives():
    evil = make_zip({"good.jpg": PHOTO, "../evil": b"1"})
    return {
        "cut zip": (ZIP[:-200], "damaged"),
        "rotten zip": (broken_zip(), "damaged at `set/images/1.jpg`"),
        "cut tar": (make_tar({"a.jpg": PHOTO, "b.jpg": PHOTO})[:250_000], "is damaged"),
        "cut tar.gz": (make_tar({"a.jpg": PHOTO, "b.jpg": PHOTO}, "w:gz")[:-20_000], "is damaged"),
        "traversal": (evil, "`../evil` leads out"),
        "traversal in a tar": (make_tar({"a.jpg": PHOTO, "../evil": b"1"}), "`../evil` leads out"),
        "absolute": (make_zip({"/etc/evil": b"1"}), "has an absolute name"),
        "encrypted": (LOCKED, "is encrypted"),
        "bomb": (make_zip({"bomb": bytes(9 << 20)}), "`bomb` unpacks to more"),
        "empty": (make_zip({}), "holds no file"),
        "its own note": (make_zip({"SOURCE.json": b"{}", "a": b"1"}), "a `SOURCE.json` of its own"),
    }


@pytest.fixture
def bring(make_row, tmp_path, policy):
    """Fetch a row with these addresses into ``tmp_path/out``."""
    said = []

    def bring(*urls, more="", **options):
        row = make_row(rows(*urls, more=more))
        return fetch(row, **{"out": tmp_path / "out", "policy": policy, "say": said.append, **options})

    bring.said = said
    return bring


def rows(*urls, more=""):
    listed = ", ".join(f"{{ url = '{url}'{more} }}" for url in urls)
    return f"kind = 'dataset'\nlicence = 'MIT'\nsources = [{listed}]"


def here(folder):
    return sorted(path.name for path in folder.iterdir() if path.name not in ("home", "rows.toml", "registry.toml"))


def assert_whole(folder):
    assert (folder / "set" / "images" / "1.jpg").read_bytes() == PHOTO
    assert sorted(path.name for path in folder.iterdir()) == ["SOURCE.json", "set"]


@pytest.mark.parametrize("name", bad_archives())
def test_after_a_bad_archive_the_next_source_is_asked(site, bring, tmp_path, name):
    data, words = bad_archives()[name]
    bad, good = site.put("/bad", data), site.put("/good.zip", ZIP)
    done = bring(bad, good, limits=Limits(always_bytes=1 << 20))
    assert_whole(tmp_path / "out")
    assert done.to_dict()["url"] == good
    assert here(tmp_path) == ["out"]
    (told,) = bring.said
    assert words in told
    assert told.startswith(f"thing from {bad}: ")
    assert told.endswith("; the next source is tried")
    assert [path for path, _ in site.requests] == ["/bad", "/good.zip"]


def test_when_all_archives_are_bad_each_is_named_with_its_reason(site, bring, tmp_path):
    first, second = site.put("/a.zip", ZIP[:-200]), site.put("/b.zip", make_zip({"../evil": b"1"}))
    with pytest.raises(ArchiveError, match="no source gave `thing`") as caught:
        bring(first, second)
    assert f"{first}: the archive is damaged" in caught.value.message
    assert f"{second}: the archive is refused: `../evil` leads out" in caught.value.message
    assert caught.value.exit_code == ExitCode.DATA
    assert "seglab fetch thing --from FILE" in caught.value.hint
    assert here(tmp_path) == []
    assert len(bring.said) == 1
    assert len(site.requests) == 2


@pytest.mark.parametrize("order", [("bad", "none"), ("none", "bad")])
def test_as_long_as_a_source_failed_in_the_network_that_is_what_is_said(site, bring, tmp_path, order):
    urls = {"bad": site.put("/bad.zip", ZIP[:-200]), "none": site.url("/none.zip")}
    with pytest.raises(NetworkError) as caught:
        bring(*(urls[name] for name in order))
    assert f"{urls['bad']}: the archive is damaged" in caught.value.message
    assert f"{urls['none']}: `127.0.0.1` answers 404" in caught.value.message
    assert caught.value.exit_code == ExitCode.NETWORK
    assert here(tmp_path) == []


def test_a_single_bad_archive_names_its_row_and_its_source(site, bring, tmp_path):
    with pytest.raises(ArchiveError, match=r"^`thing` could not be fetched from 127\.0\.0\.1: the archive is damaged"):
        bring(site.put("/a.zip", ZIP[:-200]))
    with pytest.raises(ArchiveError, match="is encrypted") as caught:
        bring(site.put("/a.7z", LOCKED))
    assert f"download it in a browser from {site.url('/a.7z')}" in caught.value.hint
    assert "7z x" in caught.value.hint
    assert here(tmp_path) == []


def test_a_wrong_checksum_sends_to_the_next_source(site, bring, tmp_path, make_row):
    bad, good = site.put("/bad.zip", make_zip({"a": b"1"})), site.put("/good.zip", ZIP)
    bring(bad, good, more=f", sha256 = '{hashlib.sha256(ZIP).hexdigest()}'")
    assert_whole(tmp_path / "out")
    assert "wrong checksum" in bring.said[0]


def test_what_had_a_wrong_checksum_is_not_brought_again_by_a_fetch_that_was_interrupted_later(site, bring, tmp_path):
    urls = site.put("/bad.zip", make_zip({"a": b"1"})), site.put("/good.zip", ZIP, truncate(80_000))

    def interrupted(_seconds):
        raise KeyboardInterrupt

    known = f", sha256 = '{hashlib.sha256(ZIP).hexdigest()}'"
    with pytest.raises(Interrupted):
        bring(*urls, more=known, policy=verb.Policy(attempts=3, timeout_s=0.3, sleep=interrupted))
    bring(*urls, more=known)
    assert_whole(tmp_path / "out")
    assert len(site.asked("/bad.zip")) == 1


def test_a_file_of_the_users_is_the_only_one(site, bring, tmp_path):
    (tmp_path / "mine.zip").write_bytes(ZIP[:-200])
    with pytest.raises(ArchiveError, match=r"the archive `.*mine\.zip` is damaged"):
        bring(site.put("/a.zip", ZIP), from_path=tmp_path / "mine.zip")
    assert not site.requests
    assert here(tmp_path) == ["mine.zip"]
    assert (tmp_path / "mine.zip").read_bytes() == ZIP[:-200]


def test_what_was_there_stays_while_sources_are_bad(site, bring, tmp_path):
    bring(site.put("/a.zip", ZIP))
    with pytest.raises(ArchiveError):
        bring(site.put("/b.zip", ZIP[:-200]), site.put("/c.zip", make_zip({"../evil": b"1"})), force=True)
    assert_whole(tmp_path / "out")
    bring(site.put("/b.zip", ZIP[:-200]), site.put("/c.zip", make_zip({"new": b"1"})), force=True)
    assert (tmp_path / "out" / "new").read_bytes() == b"1"
    assert not (tmp_path / "out" / "set").exists()


def test_a_fetch_that_is_interrupted_at_the_second_source_goes_on_there(site, bring, tmp_path, monkeypatch):
    urls = site.put("/bad.zip", ZIP[:-200]), site.put("/good.zip", ZIP, truncate(80_000))

    def interrupted(_seconds):
        raise KeyboardInterrupt

    patience = verb.Policy(attempts=3, timeout_s=0.3, sleep=interrupted)
    with pytest.raises(Interrupted, match=r"0\.1 MB of `thing` are kept"):
        bring(*urls, policy=patience)
    assert not list((tmp_path / ".out.download").rglob("done"))
    bring(*urls)
    assert_whole(tmp_path / "out")
    assert len(site.asked("/bad.zip")) == 1
    assert site.asked("/good.zip")[1]["Range"] == "bytes=80000-"
    assert "damaged" in bring.said[-1]
    assert here(tmp_path) == ["out"]


def test_what_was_refused_is_asked_again_once_all_have_failed(site, bring, tmp_path):
    urls = site.put("/a.zip", ZIP[:-200]), site.put("/b.zip", ZIP, truncate(80_000), status(404))
    with pytest.raises(NetworkError):
        bring(*urls)
    site.put("/a.zip", ZIP)
    bring(*urls)
    assert_whole(tmp_path / "out")
    assert [path for path, _ in site.requests] == ["/a.zip", "/b.zip", "/b.zip", "/a.zip"]


def test_a_whole_archive_that_an_interruption_left_is_judged_first(site, bring, tmp_path, monkeypatch):
    """Its download is not repeated: neither if it is bad, nor to find that out without a network."""
    urls = site.put("/a.zip", make_zip({"a.jpg": PHOTO, "../evil": b"1"})), site.put("/b.zip", ZIP)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(verb, "unpack", interrupted)
        with pytest.raises(Interrupted):
            bring(*urls)
    with pytest.raises(NetworkError) as caught:
        bring(*urls, offline=True)
    assert "leads out" in caught.value.message
    assert f"{urls[1]}: not asked, for the network is not to be used (--offline)" in caught.value.message
    assert len(site.requests) == 1
    assert here(tmp_path) == []
    with monkeypatch.context() as broken:
        broken.setattr(verb, "unpack", interrupted)
        with pytest.raises(Interrupted):
            bring(*urls)
    bring(*urls)
    assert_whole(tmp_path / "out")
    assert len(site.asked("/a.zip")) == 2


def test_a_whole_archive_that_rotted_while_nobody_looked_is_brought_again(site, bring, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(verb, "unpack", interrupted)
        with pytest.raises(Interrupted):
            bring(site.put("/a.zip", ZIP))
    (kept,) = (tmp_path / ".out.download").rglob("done")
    data = bytearray(ZIP)
    data[len(data) // 2] ^= 0xFF
    kept.write_bytes(data)
    bring(site.url("/a.zip"))
    assert_whole(tmp_path / "out")
    assert len(site.requests) == 2


def test_a_part_that_makes_a_damaged_archive_is_given_up_once(site, bring, tmp_path):
    url = site.put("/a.zip", ZIP, truncate(80_000), status(404))
    with pytest.raises(NetworkError):
        bring(url)
    (part,) = (tmp_path / ".out.download").rglob("download.part")
    part.write_bytes(bytes(80_000))  # what a power cut may leave of it
    bring(url)
    assert_whole(tmp_path / "out")
    assert "from the start again" in bring.said[-1]
    site.put("/b.zip", ZIP[:-200], truncate(80_000), status(404))
    with pytest.raises(NetworkError):
        bring(site.url("/b.zip"), out=tmp_path / "other")
    with pytest.raises(ArchiveError):
        bring(site.url("/b.zip"), out=tmp_path / "other")
    assert len(site.asked("/b.zip")) == 4


def test_an_archive_that_only_another_program_reads_is_kept_for_it(site, bring, tmp_path):
    data = bytearray(make_zip({"a": PHOTO}))
    for at in (data.find(b"PK\x03\x04") + 8, data.find(b"PK\x01\x02") + 10):
        data[at : at + 2] = (97).to_bytes(2, "little")
    url = site.put("/odd.zip", bytes(data))
    bring(url, site.put("/a.zip", ZIP), out=tmp_path / "both")
    assert_whole(tmp_path / "both")
    assert here(tmp_path) == ["both"]
    with pytest.raises(DataError, match="packed in a way that seglab does not read") as caught:
        bring(url)
    kept = Path(caught.value.hint.split("`")[1].split()[2])
    assert kept.read_bytes() == data


def test_a_package_that_is_missing_sends_to_the_next_source(site, bring, make_row, tmp_path, policy, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    drive = "{ drive = '1AbCdEfGhIjKlMnOp', file = 'a.zip' }"
    both = make_row(f"kind = 'dataset'\nsources = [{drive}, {{ url = '{site.put('/a.zip', ZIP)}' }}]")
    fetch(both, out=tmp_path / "out", policy=policy, say=bring.said.append)
    assert_whole(tmp_path / "out")
    assert "thing from Drive: the gdown package cannot be imported" in bring.said[0]
    with pytest.raises(DeviceError, match="`thing` could not be fetched from Drive"):
        fetch(make_row(f"kind = 'dataset'\nsources = [{drive}]"), out=tmp_path / "other", policy=policy)


def test_a_full_disk_is_nobodys_fault_and_stops_the_fetch(site, bring, tmp_path, monkeypatch):
    monkeypatch.setattr(verb.files, "free_bytes", lambda path: (64 << 20) + len(ZIP))
    with pytest.raises(DataError, match="are needed") as caught:
        bring(site.put("/a.zip", make_zip({"a": bytes(1 << 20)})), site.put("/b.zip", ZIP))
    assert not isinstance(caught.value, ArchiveError)
    assert not site.asked("/b.zip")


@pytest.mark.parametrize("name", ["new.pth", "old.pth"])
def test_weights_with_code_are_refused_and_the_next_source_is_asked(site, make_row, tmp_path, policy, name):
    evil, good, said = evil_weights(tmp_path)[name], make_weights(), []
    bad = site.put("/bad.pth", evil)
    row = make_row(rows(bad, site.put("/good.pth", good), more=", file = 'w.pth'").replace("dataset", "checkpoint"))
    done = fetch(row, out=tmp_path / "out", policy=policy, say=said.append)
    assert done.path.read_bytes() == good
    assert f"thing from {bad}: what came contains code (`io.open`) and is refused" in said[0]
    alone = make_row(
        rows(bad, more=f", sha256 = '{hashlib.sha256(evil).hexdigest()}'").replace("dataset", "checkpoint")
    )
    with pytest.raises(ArchiveError, match="contains code") as caught:
        fetch(alone, out=tmp_path / "alone", policy=policy)
    assert caught.value.exit_code == ExitCode.DATA
    assert "nothing of it was run or kept" in caught.value.hint
    (tmp_path / "mine.pth").write_bytes(evil)
    with pytest.raises(DataError, match=r"`.*mine\.pth` contains code \(`io\.open`\) and is refused"):
        fetch(alone, out=tmp_path / "alone", policy=policy, from_path=tmp_path / "mine.pth")
    assert here(tmp_path) == ["mine.pth", "out"]


# ---------------------------------------------------------------- the command line


@pytest.fixture
def command(tmp_path):
    def command(*urls):
        registry = tmp_path / "registry.toml"
        registry.write_text(f"[thing]\ntitle = 'a thing'\n{rows(*urls)}")
        out = str(tmp_path / "out")
        return [sys.executable, "-m", "seglab", "fetch", "thing", "--registry", str(registry), "--out", out]

    return command


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [("/a.zip", "/b.zip", 3), ("/empty.zip", "/other.zip", 3), ("/a.zip", "/none.zip", 4), ("/empty.zip", "/page", 4)],
)
def test_the_exit_code_says_whether_trying_again_may_help(site, command, tmp_path, first, second, code):
    for path, data in (("/a.zip", ZIP[:-200]), ("/b.zip", make_zip({"../evil": b"1"}))):
        site.put(path, data)
    site.put("/empty.zip", b"", status(200))
    site.put("/other.zip", b"", status(200, body=b"\xff\xd8\xff" + bytes(2000)))
    site.put("/page", b"", status(200, body=HTML))
    line = command(site.url(first), site.url(second))
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert "error: no source gave `thing`" in done.stderr
    assert "Traceback" not in done.stderr
    assert here(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_stopped_between_two_sources_goes_on_at_the_second(site, command, tmp_path, number):
    line = command(site.put("/bad.zip", broken_zip()), site.put("/good.zip", ZIP, stall(80_000)))
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 20
    while sum(path.stat().st_size for path in tmp_path.glob(".out.download/*/download.part")) != 80_000:
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=10)
    assert not (tmp_path / "out").exists()
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(site.asked("/bad.zip")) == 1
    assert site.asked("/good.zip")[1]["Range"] == "bytes=80000-"
    assert_whole(tmp_path / "out")
    assert here(tmp_path) == ["out"]


@pytest.mark.parametrize("seed", range(2))
def test_a_process_that_is_killed_at_any_moment_ends_with_the_good_source(site, command, tmp_path, seed):
    moments = random.Random(seed)
    bad = site.put("/bad.zip", broken_zip(), *[drip] * 20)
    line = command(bad, site.put("/good.zip", ZIP, *[drip] * 20))
    for _ in range(4):
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.05, 2.5))
        process.kill()
        process.wait(timeout=10)
        if (tmp_path / "out").exists():
            assert_whole(tmp_path / "out")
    done = subprocess.run([*line, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["url"] == site.url("/good.zip")
    assert_whole(tmp_path / "out")
    assert here(tmp_path) == ["out"]


def test_the_archives_of_these_tests_are_what_they_are_called(tmp_path):
    """A zip that nothing can open would prove nothing of members that are damaged."""
    (tmp_path / "a.zip").write_bytes(broken_zip())
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.read("a.bin") == b"first"
        with pytest.raises((zipfile.BadZipFile, zlib.error)):
            archive.read("set/images/1.jpg")
