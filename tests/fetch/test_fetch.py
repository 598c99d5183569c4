"""The verb: from a name to a folder that is whole, or to an error and nothing."""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import seglab
from seglab.data import fetch as verb
from seglab.data.fetch import fetch, plan, verify
from seglab.data.fetching.admission import ArchiveError, Limits
from seglab.data.fetching.places import cache_dir, data_path, fetched_checkpoint
from seglab.data.fetching.registry import load_registry
from seglab.errors import BusyError, DataError, ExitCode, Interrupted, NetworkError, UsageError
from tests.fetch.site import HTML, drip, make_tar, make_weights, make_zip, stall, status, truncate

PHOTO = random.Random(0).randbytes(200_000)
ZIP = make_zip({"set/images/1.jpg": PHOTO, "set/masks/1.png": b"mask"})
WEIGHTS = make_weights(random.Random(1).randbytes(50_000))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def bring(make_row, tmp_path, policy):
    """Fetch a row, given as the text of its table, into ``tmp_path/out``."""
    said = []

    def bring(row, **options):
        row = make_row(row) if isinstance(row, str) else row
        return fetch(row, **{"out": tmp_path / "out", "policy": policy, "say": said.append, **options})

    bring.said = said
    return bring


def dataset(*urls, more=""):
    sources = ", ".join(f"{{ url = '{url}'{more} }}" for url in urls)
    return f"kind = 'dataset'\nlicence = 'MIT'\nnext = ['seglab prepare {{path}} prepared/x']\nsources = [{sources}]"


def checkpoint(*urls, more=""):
    return dataset(*urls, more=f", file = 'w.pth'{more}").replace("dataset", "checkpoint")


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if path.name not in ("home", "rows.toml", "registry.toml"))


def test_a_dataset_comes_unpacked_with_its_origin_noted(site, bring, tmp_path):
    done = bring(dataset(site.put("/a.zip", ZIP)))
    assert not done.unchanged
    assert (tmp_path / "out" / "set" / "images" / "1.jpg").read_bytes() == PHOTO
    assert done.path == tmp_path / "out" / "set"
    assert done.next == (f"seglab prepare {done.path} prepared/x",)
    noted = json.loads((tmp_path / "out" / "SOURCE.json").read_text())
    assert noted["url"] == site.url("/a.zip")
    assert noted["sha256"] == sha256(ZIP)
    assert noted["bytes"] == len(ZIP)
    assert noted["licence"] == "MIT"
    assert noted["seglab"] == seglab.__version__
    assert noted["file"] == "a.zip"
    assert abs(time.time() - time.mktime(time.strptime(noted["fetched"], "%Y-%m-%dT%H:%M:%SZ")) + time.timezone) < 60
    assert (noted["files"], noted["unpacked_bytes"]) == (2, len(PHOTO) + 4)
    assert visible(tmp_path) == ["out"]


def test_a_checkpoint_comes_as_its_file(site, bring, tmp_path):
    done = bring(checkpoint(site.put("/x", WEIGHTS), more=f", sha256 = '{sha256(WEIGHTS)}'"))
    assert done.path == tmp_path / "out" / "w.pth"
    assert done.path.read_bytes() == WEIGHTS
    assert done.to_dict()["checked"] == "sha256"


def test_what_a_kill_in_the_last_moment_left_goes_the_next_time(site, bring, tmp_path):
    from seglab import files

    row = dataset(site.put("/a.zip", ZIP))
    bring(row)
    (tmp_path / ".out.download" / "x").mkdir(parents=True)
    (tmp_path / ".out.download" / "x" / "done").write_bytes(ZIP)
    with files.lock(tmp_path / ".out.lock", "x"):
        assert bring(row).unchanged
        assert (tmp_path / ".out.download" / "x" / "done").exists()
    assert bring(row).unchanged
    assert visible(tmp_path) == ["out"]


def test_a_path_with_spaces_is_quoted_in_the_next_command(site, bring, tmp_path):
    done = bring(dataset(site.put("/a.zip", ZIP)), out=tmp_path / "my data")
    assert done.next[0] == f"seglab prepare '{tmp_path}/my data/set' prepared/x"


def test_the_second_time_there_is_nothing_to_do_and_no_question_asked(site, bring, tmp_path):
    row = dataset(site.put("/a.zip", ZIP))
    bring(row)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert bring(row).unchanged
    assert bring(row, offline=True).unchanged
    assert len(site.requests) == 1
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_the_default_place_is_the_cache_where_models_are_looked_for(site, bring, monkeypatch, tmp_path):
    assert fetched_checkpoint("thing") is None
    done = bring(checkpoint(site.put("/x", WEIGHTS)), out=None)
    assert done.path == tmp_path / "cache" / "models" / "thing" / "w.pth" == fetched_checkpoint("thing")
    for name in ("", "../models/thing", ".thing", "a/b", "none"):
        assert fetched_checkpoint(name) is None
    assert bring(dataset(site.put("/a.zip", ZIP)), out=None).dir == tmp_path / "cache" / "datasets" / "thing"
    monkeypatch.delenv("SEGLAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert sys.platform != "linux" or cache_dir() == Path("/x/seglab")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert sys.platform != "linux" or cache_dir() == tmp_path / "home" / ".cache" / "seglab"


def test_the_next_source_is_tried_and_the_dead_one_is_not(site, bring):
    dead = site.put("/dead", ZIP)
    row = dataset(site.url("/none"), site.put("/page", b"", status(200, body=HTML)), site.put("/a.zip", ZIP))
    row = row.replace("sources = [", f"sources = [{{ url = '{dead}', dead = 'since 2023' }}, ")
    bring(row)
    assert not site.asked("/dead")
    assert "404" in bring.said[0]
    assert "web page" in bring.said[1]


def test_when_all_sources_fail_each_is_named_and_nothing_is_left_to_see(site, bring, tmp_path):
    with pytest.raises(NetworkError, match=r"no source gave `thing`: .*404.*; .*403") as caught:
        bring(dataset(site.url("/none"), site.put("/no", b"", status(403))))
    assert "seglab fetch thing --from FILE" in caught.value.hint
    assert visible(tmp_path) == []


def test_a_row_whose_sources_are_all_dead_says_so(bring):
    row = dataset("https://a.example/x", more=", dead = 'since 2023'")
    with pytest.raises(NetworkError, match=r"no source that seglab can download from .*dead since 2023"):
        bring(row)


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_checksum_is_never_kept(site, bring, tmp_path, kind):
    wrong = {"sha256": "0" * 64, "md5": "0" * 32}[kind]
    words = f"wrong checksum: {kind} is [0-9a-f]+, 0+ was expected"
    for row in (checkpoint(site.put("/x", WEIGHTS), more=f", {kind} = '{wrong}'"),
                dataset(site.put("/a.zip", ZIP), more=f", {kind} = '{wrong}'")):  # fmt: skip
        with pytest.raises(DataError, match=words) as caught:
            bring(row)
        assert caught.value.exit_code == ExitCode.DATA
        assert "nothing of it is kept" in caught.value.hint
        assert visible(tmp_path) == []
    assert len(site.requests) == 2


def test_a_part_that_proves_wrong_is_given_up_once(site, bring, tmp_path):
    row = checkpoint(site.put("/x", WEIGHTS, truncate(20_000), status(404)), more=f", sha256 = '{sha256(WEIGHTS)}'")
    with pytest.raises(NetworkError):
        bring(row)
    (part,) = (tmp_path / ".out.download").rglob("download.part")
    part.write_bytes(WEIGHTS[:100] + bytes(19_900))
    assert bring(row).path.read_bytes() == WEIGHTS
    assert any("from the start again" in text for text in bring.said)


def test_a_wrong_length_is_an_error(site, bring, tmp_path):
    with pytest.raises(DataError, match="wrong length"):
        bring(checkpoint(site.put("/x", WEIGHTS), more=", bytes = 7"))
    assert not (tmp_path / "out").exists()


def test_a_refused_archive_leaves_nothing_behind(site, bring, tmp_path):
    evil = make_tar({"good.jpg": PHOTO, "../../evil": b"1"}, "w:gz")
    with pytest.raises(ArchiveError, match=r"`\.\./\.\./evil` leads out"):
        bring(dataset(site.put("/a.tar.gz", evil)))
    assert visible(tmp_path) == []


def test_an_interrupted_unpacking_does_not_download_again(site, bring, tmp_path, monkeypatch):
    row = dataset(site.put("/a.zip", ZIP))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(verb, "unpack", interrupted)
        with pytest.raises(Interrupted, match="of `thing` are kept, and the same command goes on"):
            bring(row)
    assert visible(tmp_path) == [".out.download"]
    bring(row, offline=True)
    assert len(site.requests) == 1
    assert visible(tmp_path) == ["out"]


def test_offline_nothing_touches_the_network(site, bring, make_row, tmp_path, monkeypatch):
    row = make_row(dataset(site.put("/a.zip", ZIP)))
    archive_path = tmp_path / "a.zip"
    archive_path.write_bytes(ZIP)

    def forbidden(*_, **__):
        raise AssertionError("a socket was made")

    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    with pytest.raises(NetworkError, match="not to be used") as caught:
        bring(row, offline=True)
    with monkeypatch.context() as environment:
        environment.setenv("SEGLAB_OFFLINE", "1")
        with pytest.raises(NetworkError, match="not to be used"):
            bring(row)
    assert "--from FILE" in caught.value.hint
    plan(row, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    bring(row, offline=True, from_path=archive_path)
    verify(row, tmp_path / "out")
    assert archive_path.read_bytes() == ZIP


def test_a_file_from_the_user_is_checked_like_one_from_the_network(bring, make_row, tmp_path):
    path = tmp_path / "mine"
    row = checkpoint("https://a.example/x", more=f", sha256 = '{sha256(WEIGHTS)}'")
    path.write_bytes(WEIGHTS)
    done = bring(row, from_path=path)
    assert done.path.name == "w.pth"
    assert done.to_dict()["checked"] == "sha256"
    path.write_bytes(WEIGHTS + b"x")
    with pytest.raises(DataError, match="is not `thing`: wrong checksum"):
        bring(row, from_path=path, out=tmp_path / "other")
    path.write_bytes(HTML)
    with pytest.raises(DataError, match="a web page"):
        bring(row, from_path=path, out=tmp_path / "other")
    path.write_bytes(make_tar({"w.pth": WEIGHTS}, "w:gz"))
    with pytest.raises(DataError, match="a gzip archive, not weights"):
        bring(row, from_path=path, out=tmp_path / "other")
    path.write_bytes(b"")
    with pytest.raises(DataError, match="an empty file"):
        bring(row, from_path=path, out=tmp_path / "other")
    with pytest.raises(DataError, match="there is no file"):
        bring(row, from_path=tmp_path / "none", out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_name_of_a_file_may_come_from_its_address(site, bring, tmp_path):
    url = site.put("/x/..%2Fa%20b%00.pth", WEIGHTS)
    row = f"kind = 'checkpoint'\nsources = [{{ url = '{url}' }}]"
    assert bring(row).path == tmp_path / "out" / "a_b_.pth"


def test_a_place_that_cannot_be_written_is_said(site, bring, tmp_path):
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError):
            bring(dataset(site.put("/a.zip", ZIP)), out=out)
    assert (tmp_path / "file").read_text() == "x"
    assert not site.requests


def test_a_file_without_a_known_checksum_is_taken_and_that_is_said(bring, tmp_path):
    path = tmp_path / "mine.zip"
    path.write_bytes(ZIP)
    bring(dataset("https://a.example/x"), from_path=path)
    assert bring.said == ["no checksum of thing is known: mine.zip is taken as it is"]


def test_a_folder_that_no_fetch_made_is_never_touched(site, bring, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(DataError, match="not made by `seglab fetch`"):
            bring(dataset(site.put("/a.zip", ZIP)), force=force)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"
    assert not site.requests


def test_a_folder_with_another_row_is_said(site, bring, make_row, tmp_path):
    row = dataset(site.put("/a.zip", ZIP))
    bring(row)
    with pytest.raises(DataError, match="holds `thing`"):
        bring(make_row(row, "other"))


def test_an_empty_folder_is_filled(site, bring, tmp_path):
    (tmp_path / "out").mkdir()
    bring(dataset(site.put("/a.zip", ZIP)))
    assert (tmp_path / "out" / "set").is_dir()


def test_the_folder_we_are_in_is_not_the_target(site, bring, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in (Path(), tmp_path.parent):
        with pytest.raises(UsageError, match="the folder we are in"):
            bring(dataset(site.put("/a.zip", ZIP)), out=out)


def test_what_is_missing_is_noticed_and_force_brings_it_anew(site, bring, tmp_path):
    row = dataset(site.put("/a.zip", ZIP))
    bring(row)
    (tmp_path / "out" / "set" / "masks" / "1.png").unlink()
    with pytest.raises(DataError, match=r"not complete any more: 1 of 2 files") as caught:
        bring(row)
    assert "--force" in caught.value.hint
    assert not bring(row, force=True).unchanged
    assert (tmp_path / "out" / "set" / "masks" / "1.png").read_bytes() == b"mask"
    assert visible(tmp_path) == ["out"]


def test_a_failed_replacement_keeps_what_was_there(site, bring, tmp_path):
    bring(dataset(site.put("/a.zip", ZIP)))
    with pytest.raises(ArchiveError):
        bring(dataset(site.put("/b.zip", make_zip({"../evil": b"1"}))), force=True)
    assert (tmp_path / "out" / "set" / "images" / "1.jpg").read_bytes() == PHOTO


def test_verify_reads_every_byte(site, bring, make_row, tmp_path):
    row = make_row(dataset(site.put("/a.zip", ZIP)))
    with pytest.raises(DataError, match="is not in"):
        verify(row, tmp_path / "out")
    bring(row)
    assert verify(row, tmp_path / "out").unchanged
    (tmp_path / "out" / "set" / "masks" / "1.png").write_bytes(b"mash")
    assert bring(row).unchanged
    with pytest.raises(DataError, match="is not what was fetched"):
        verify(row, tmp_path / "out")


def test_the_archive_is_kept_on_demand_and_does_not_count(site, bring, make_row, tmp_path):
    row = make_row(dataset(site.put("/a.zip", ZIP)))
    done = bring(row, keep_archive=True)
    assert (tmp_path / "out" / "a.zip").read_bytes() == ZIP
    assert done.to_dict()["files"] == 2
    assert bring(row).unchanged
    assert verify(row, tmp_path / "out").unchanged


def test_too_small_a_disk_is_said_before_anything_is_asked(site, bring, monkeypatch):
    monkeypatch.setattr(verb.files, "free_bytes", lambda path: 100 << 20)
    row = "bytes = 80_000_000\nunpacked_bytes = 90_000_000\n" + dataset(site.put("/a.zip", ZIP))
    with pytest.raises(DataError, match=r"105 MB free, but 237 MB are needed in all"):
        bring(row)
    assert not site.requests


def test_too_small_a_disk_is_noticed_from_the_answer_and_from_the_archive(site, bring, tmp_path, monkeypatch):
    monkeypatch.setattr(verb.files, "free_bytes", lambda path: (64 << 20) + len(ZIP) - 1)
    with pytest.raises(DataError, match="are needed"):
        bring(dataset(site.put("/a.zip", ZIP)))
    assert not list((tmp_path / ".out.download").rglob("download.part"))
    monkeypatch.setattr(verb.files, "free_bytes", lambda path: (64 << 20) + len(ZIP))
    (tmp_path / "big.zip").write_bytes(make_zip({"a": bytes(1 << 20)}))
    with pytest.raises(DataError, match="are needed"):
        bring(dataset("https://a.example/x"), from_path=tmp_path / "big.zip")


def test_a_bomb_is_refused_by_name(site, bring, tmp_path):
    with pytest.raises(ArchiveError, match="`bomb` unpacks to more"):
        bring(dataset(site.put("/a.zip", make_zip({"bomb": bytes(9 << 20)}))), limits=Limits(always_bytes=1000))
    assert visible(tmp_path) == []


def test_what_was_unpacked_is_brought_to_the_disk_before_it_is_seen(site, bring, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "sync", lambda: seen.append((tmp_path / "out").exists()))
    bring(dataset(site.put("/a.zip", ZIP)))
    assert seen == [False]


def test_a_second_process_is_told_who_is_at_it(site, bring, make_row, tmp_path):
    from seglab import files

    row = make_row(dataset(site.put("/a.zip", ZIP)))
    with files.lock(tmp_path / ".out.lock", "x"), pytest.raises(BusyError, match=f"pid {os.getpid()}"):
        bring(row)
    assert not site.requests


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (["set/images/1", "set/masks/1"], "set"),
        (["a/b/c/1", "a/b/c/2"], "a/b/c"),
        (["w.pth"], "w.pth"),
        (["train/1.jpg", "train/2.jpg"], ""),
        (["set/train/1.jpg", "set/train/2.jpg"], "set"),
        (["a/1", "b/1"], ""),
        (["__MACOSX/x", ".DS_Store", "set/a", "set/b"], "set"),
    ],
)
def test_the_data_is_found_inside_the_folders_of_an_archive(tmp_path, tree, expected):
    for name in ["SOURCE.json", *tree]:
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_text("x")
    assert data_path(tmp_path / "d") == tmp_path / "d" / expected


def test_only_fetch_knows_the_network():
    package = Path(seglab.__file__).parent
    network = (
        r"socket|ssl|http|ftplib|smtplib|xmlrpc|asyncio|requests|urllib3|httpx|gdown|kaggle|urllib\.request|torch\.hub"
    )
    imports = re.compile(rf"^\s*(?:import|from)\s+(?:{network})\b|load_state_dict_from_url|urlopen", re.MULTILINE)
    assert imports.search("    import gdown\n")
    assert imports.search("x = 3\nfrom urllib.request import urlopen")
    found = 0
    for path in sorted(package.rglob("*.py")):
        knows = imports.search(path.read_text(encoding="utf-8"))
        if path.is_relative_to(package / "data" / "fetching"):
            found += bool(knows)
        else:
            assert not knows, f"{path}: {knows[0]}"
    assert found >= 3


# ---------------------------------------------------------------- what is not what it should be


def test_a_file_that_is_no_checkpoint_is_never_kept(site, bring, tmp_path):
    jpeg = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 9
    for data, words, kind in (
        (HTML, "a web page", NetworkError),
        (b"not here\n", "text, not data", NetworkError),
        (jpeg, "a JPEG picture, not a PyTorch checkpoint", DataError),
        (ZIP, "a zip archive without a PyTorch checkpoint", DataError),
        (WEIGHTS[: len(WEIGHTS) // 2], "a damaged PyTorch checkpoint, perhaps cut off", DataError),
        (WEIGHTS[:-1], "a damaged PyTorch checkpoint, perhaps cut off", DataError),
    ):
        with pytest.raises(kind, match=words):
            bring(checkpoint(site.put("/x", data)))
        (tmp_path / "mine").write_bytes(data)
        with pytest.raises(DataError, match=words) as caught:
            bring(checkpoint("https://a.example/x"), from_path=tmp_path / "mine")
        assert "seglab fetch thing --from FILE" in caught.value.hint
        assert visible(tmp_path) == ["mine"]


def test_after_a_source_with_the_wrong_file_the_next_one_is_tried(site, bring):
    row = checkpoint(site.put("/cut", WEIGHTS[:-1]), site.put("/x", WEIGHTS))
    assert bring(row).path.read_bytes() == WEIGHTS
    assert "what came is a damaged PyTorch checkpoint" in bring.said[0]


@pytest.mark.parametrize(("num_bytes", "fits"), [(105_000, False), (95_000, True), (13_000, True), (12_000, False)])
def test_weights_are_about_as_long_as_the_registry_says(site, bring, tmp_path, num_bytes, fits):
    assert 50_000 < len(WEIGHTS) < 51_000
    row = f"bytes = {num_bytes}\n" + checkpoint(site.put("/x", WEIGHTS))
    (tmp_path / "mine").write_bytes(WEIGHTS)
    for options in ({}, {"from_path": tmp_path / "mine", "out": tmp_path / "other"}):
        if fits:
            bring(row, **options)
            continue
        with pytest.raises(DataError, match=rf"50,\d+ bytes long, about {num_bytes:,} were expected"):
            bring(row, **options)
        assert not (tmp_path / "out").exists()


def test_a_known_checksum_counts_more_than_a_rough_length(site, bring):
    row = "bytes = 7\n" + checkpoint(site.put("/x", WEIGHTS), more=f", sha256 = '{sha256(WEIGHTS)}'")
    assert bring(row).to_dict()["checked"] == "sha256"


def test_the_exact_length_counts_for_a_file_of_the_users_too(bring, tmp_path):
    (tmp_path / "mine").write_bytes(WEIGHTS)
    with pytest.raises(DataError, match=r"is not `thing`: wrong length: \d+ bytes, 7 were expected"):
        bring(checkpoint("https://a.example/x", more=", bytes = 7"), from_path=tmp_path / "mine")
    done = bring(checkpoint("https://a.example/x", more=f", bytes = {len(WEIGHTS)}"), from_path=tmp_path / "mine")
    assert done.to_dict()["url"] == "https://a.example/x"


def test_a_checkpoint_is_no_dataset(site, bring, tmp_path):
    with pytest.raises(DataError, match="sent a PyTorch checkpoint, not an archive"):
        bring(dataset(site.put("/x", WEIGHTS)))
    assert visible(tmp_path) == []


def test_nothing_is_left_of_a_page_that_was_refused(site, bring, tmp_path):
    with pytest.raises(NetworkError, match="web page"):
        bring(dataset(site.put("/page", b"x", status(200, body=HTML))), out=tmp_path / "html")
    assert visible(tmp_path) == []


def test_where_a_file_of_the_users_came_from_is_noted_without_its_folder(bring, tmp_path):
    (tmp_path / "Downloads").mkdir()
    (tmp_path / "Downloads" / "mine.zip").write_bytes(ZIP)
    values = bring(dataset("https://a.example/x"), from_path=tmp_path / "Downloads" / "mine.zip").to_dict()
    assert (values["url"], values["from"], values["file"]) == (None, "mine.zip", "mine.zip")
    assert "Downloads" not in (tmp_path / "out" / "SOURCE.json").read_text()


def test_what_from_cannot_take_is_said_plainly(bring, tmp_path):
    row = dataset("https://a.example/x")
    with pytest.raises(DataError, match="is a folder; `--from` takes the archive") as caught:
        bring(row, from_path=tmp_path)
    assert f"`seglab prepare {tmp_path} prepared/x`" in caught.value.hint
    with pytest.raises(DataError, match="is a folder; `--from` takes the file with the weights") as caught:
        bring(checkpoint("https://a.example/x"), from_path=tmp_path)
    assert f"--from {tmp_path}/FILE" in caught.value.hint
    with pytest.raises(UsageError, match=r"`https://a\.example/x\.zip` is an address; `--from` takes a file"):
        bring(row, from_path=Path("https://a.example/x.zip"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is no ordinary file"):
        bring(row, from_path=tmp_path / "pipe")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "hint"), [({"offline": True}, "leave `--offline` out"), ({}, "`unset SEGLAB_OFFLINE`")]
)
def test_the_hint_says_what_forbids_the_network(bring, monkeypatch, options, hint):
    if not options:
        monkeypatch.setenv("SEGLAB_OFFLINE", "1")
    with pytest.raises(NetworkError) as caught:
        bring(dataset("https://a.example/x"), **options)
    assert caught.value.hint.startswith(hint)
    assert ("--offline" in caught.value.hint) == bool(options)


def test_an_encrypted_archive_says_what_to_run(bring, tmp_path):
    locked = Path(__file__).parent / "archives" / "locked.7z"
    with pytest.raises(ArchiveError, match=r"^the archive `.*locked\.7z` is refused: `a\.txt` is encrypted$") as caught:
        bring(dataset("https://a.example/x"), from_path=locked)
    assert "7z x" in caught.value.hint
    assert "seglab prepare" in caught.value.hint
    assert visible(tmp_path) == []


def test_a_second_process_leaves_alone_what_the_first_has_just_begun(site, bring, tmp_path):
    from seglab import files

    (tmp_path / ".out.download" / "x").mkdir(parents=True)
    with files.lock(tmp_path / ".out.lock", "x"), pytest.raises(BusyError):
        bring(dataset(site.put("/a.zip", ZIP)))
    assert (tmp_path / ".out.download" / "x").is_dir()


# ---------------------------------------------------------------- what would happen


def test_a_plan_says_every_step(make_row, tmp_path):
    row = make_row("bytes = 1000\n" + dataset("https://a.example/x.zip", "https://b.example/x.zip"))
    told = plan(row, tmp_path / "out", keep_archive=True)
    text = "\n".join(told["steps"])
    for words in (
        "lock ", "from a.example, and if that fails from b.example", ".out.download", "an archive, no web page",
        "none is known to compare with", "unpack it in .out.building", "keep the archive", "SOURCE.json", "rename",
    ):  # fmt: skip
        assert words in text
    assert told["obstacles"] == []
    assert told["needed_bytes"] == 2000
    assert list(tmp_path.glob(".out*")) == []


def test_a_plan_knows_what_an_interrupted_fetch_left(site, bring, make_row, tmp_path):
    text = dataset(site.put("/a.zip", ZIP, truncate(20_000), status(404)))
    with pytest.raises(NetworkError):
        bring(text)
    told = plan(make_row(text), tmp_path / "out")
    assert told["kept_bytes"] == 20_000
    assert "20,000 bytes of it are there" in "\n".join(told["steps"])


def test_a_plan_knows_what_would_stop_it(make_row, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLAB_OFFLINE", "1")
    monkeypatch.setattr(verb.files, "free_bytes", lambda path: 1000)
    row = make_row("kind = 'dataset'\nbytes = 5000\nsources = [{ kaggle-dataset = 'a/b' }]")
    told = "\n".join(plan(row, tmp_path / "out")["obstacles"])
    assert "SEGLAB_OFFLINE forbids the network" in told
    assert "Kaggle needs a login: none is set up" in told
    assert "0.0 MB free, but 67 MB are needed in all" in told
    row = make_row("kind = 'dataset'\nsources = [{ page = 'https://a.example/x' }]")
    assert "no source is left" in "\n".join(plan(row, tmp_path / "out")["obstacles"])


def test_a_plan_refuses_what_a_fetch_would_refuse(bring, make_row, tmp_path):
    row = make_row(dataset("https://a.example/x.zip"))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "x").write_text("x")
    (tmp_path / "page.zip").write_bytes(HTML)
    with pytest.raises(DataError, match="not made by `seglab fetch`"):
        plan(row, tmp_path / "theirs")
    with pytest.raises(DataError, match="a web page"):
        plan(row, tmp_path / "out", from_path=tmp_path / "page.zip")
    (tmp_path / "a.zip").write_bytes(ZIP)
    told = plan(row, tmp_path / "out", from_path=tmp_path / "a.zip", offline=True)
    assert f"take {tmp_path / 'a.zip'}, which stays as it is" in told["steps"][1]
    assert told["obstacles"] == []
    bring(row, from_path=tmp_path / "a.zip")
    assert plan(row, tmp_path / "out")["steps"] == [f"it is in {tmp_path / 'out'} already, so nothing is done"]
    told = plan(row, tmp_path / "out", force=True)
    assert "in place of what an earlier fetch left there" in told["steps"][-1]


# ---------------------------------------------------------------- for other commands


def test_the_list_for_others_knows_what_is_here(site, bring, tmp_path):
    from seglab.data.fetching.listing import rows

    listed = {row.name: row for row in rows()}
    assert set(listed) == set(load_registry())
    assert {row.name for row in rows("checkpoint")} < set(listed)
    row = listed["cloth-u2net"]
    assert (row.kind, row.licence, row.commercial, row.here, row.path) == ("checkpoint", "MIT", "unclear", False, None)
    assert row.unlocks == ("predict clothes",)
    assert row.command == "seglab fetch cloth-u2net"
    assert row.places[0] == "Drive (dead)"
    assert listed["imaterialist"].login == "Kaggle + rules"
    (tmp_path / "own.toml").write_text(f"[thing]\ntitle = 'x'\n{checkpoint(site.put('/x', WEIGHTS))}")
    done = bring(checkpoint(site.put("/x", WEIGHTS)), out=None)
    (mine,) = [row for row in rows(own_path=tmp_path / "own.toml") if row.name == "thing"]
    assert mine.here
    assert mine.path == done.path
    assert json.loads(json.dumps(mine.to_dict()))["path"] == str(done.path)
    done.path.unlink()
    assert fetched_checkpoint("thing") is None


def test_what_others_ask_brings_no_network_client_with_it():
    code = (
        "import sys\n"
        "from seglab.data.fetching.listing import rows\n"
        "from seglab.data.fetching.kaggle import find_login\n"
        "from seglab.data.fetching.logins import login_problems\n"
        "from seglab.data.fetching.places import fetched_checkpoint\n"
        "rows(), find_login(), login_problems(), fetched_checkpoint('u2net')\n"
        "heavy = 'requests urllib3 kaggle kagglesdk gdown http.client urllib.request ssl numpy torch PIL rich typer'\n"
        "print(*[name for name in heavy.split() if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# ---------------------------------------------------------------- the command line


def seglab_fetch(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "seglab", "fetch", *map(str, arguments)],
        capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "120", **environment},
    )  # fmt: skip


@pytest.fixture
def own(tmp_path):
    """Write a registry of one's own with one row, ``thing``, and return its path."""

    def write(text):
        path = tmp_path / "registry.toml"
        path.write_text(f"[thing]\ntitle = 'a thing'\n{text}")
        return path

    return write


def test_the_list_is_a_table_or_json():
    done = seglab_fetch(COLUMNS="200")
    assert done.returncode == 0
    assert done.stdout == ""
    assert "\x1b" not in done.stderr
    for words in ("helen ", "cloth-u2net ", "Drive (dead), huggingface.co", "Kaggle + rules", "Apache-2.0", "19.0 GB"):
        assert words in done.stderr
    done = seglab_fetch("--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["imaterialist"]["login"] == "Kaggle + rules"
    assert rows["u2net-onnx"]["sources"][0]["md5"] == "60024c5c889badc19c04ad937298a77b"
    assert rows["cloth-u2net"]["sources"][0]["dead"]
    assert done.stderr == ""


def test_the_whole_way_by_command(site, own, tmp_path):
    registry = own("bytes = 200_000\n" + dataset(site.put("/a.zip", ZIP)))
    common = ("thing", "--registry", registry, "--out", tmp_path / "out")
    done = seglab_fetch(*common, "--dry-run")
    assert done.returncode == 0
    assert site.url("/a.zip") in done.stderr
    assert "nothing is downloaded" in done.stderr
    assert not site.requests
    done = seglab_fetch(*common, "--json")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["sha256"] == sha256(ZIP)
    assert not values["unchanged"]
    assert "licence: MIT" in done.stderr
    assert f"next: seglab prepare {tmp_path / 'out' / 'set'}" in done.stderr.replace("\n", " ")
    done = seglab_fetch(*common, SEGLAB_OFFLINE="1")
    assert done.returncode == 0
    assert "here already, nothing to do" in done.stderr
    assert done.stdout == ""
    assert seglab_fetch(*common, "--verify").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["hellen"], 2, "did you mean `helen`"),
        (["u2netp", "--offline"], 4, "not to be used"),
        (["u2netp", "--from", "none.pth"], 3, "there is no file `none.pth`"),
        (["--registry", "none.toml"], 3, "cannot read registry"),
        (["carvana"], 4, "needs a login"),
    ],
)
def test_exit_codes(arguments, code, words):
    done = seglab_fetch(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert "error: " in done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_no_secret_is_shown(tmp_path):
    (tmp_path / "home" / ".kaggle").mkdir()
    (tmp_path / "home" / ".kaggle" / "kaggle.json").write_text('{"username": "someone", "key": "s3cr3t"}')
    done = seglab_fetch("carvana", "--dry-run", "--json")
    assert json.loads(done.stdout)["login_found"] == "LEGACY_API_KEY"
    assert "s3cr3t" not in done.stdout + done.stderr + seglab_fetch("carvana", "--dry-run").stderr


def wait_for(condition, timeout_s=15):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def start(registry, out):
    return subprocess.Popen(
        [sys.executable, "-m", "seglab", "fetch", "thing", "--registry", str(registry), "--out", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_is_stopped_goes_on_where_it_was(site, own, tmp_path, number, code):
    registry = own(dataset(site.put("/a.zip", ZIP, stall(80_000))))
    process = start(registry, tmp_path / "out")
    wait_for(lambda: sum(path.stat().st_size for path in tmp_path.glob(".out.download/*/download.part")) == 80_000)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == code, stderr
    assert not (tmp_path / "out").exists()
    if number != signal.SIGKILL:
        assert stderr == "error: stopped; 0.1 MB of `thing` are kept, and the same command goes on from there\n"
    done = seglab_fetch("thing", "--registry", registry, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert site.asked("/a.zip")[1]["Range"] == "bytes=80000-"
    assert (tmp_path / "out" / "set" / "images" / "1.jpg").read_bytes() == PHOTO
    assert visible(tmp_path) == ["out"]


@pytest.mark.parametrize("seed", range(2))
def test_a_process_that_is_killed_at_any_moment_goes_on(site, own, tmp_path, seed):
    """The download drips; the kills come at random, some in the download and some in what is before and after it."""
    moments = random.Random(seed)
    registry = own(dataset(site.put("/a.zip", ZIP, *[drip] * 20), more=f", sha256 = '{sha256(ZIP)}'"))
    for _ in range(4):
        process = start(registry, tmp_path / "out")
        time.sleep(moments.uniform(0.05, 1.2))
        process.kill()
        process.communicate(timeout=10)
        if (tmp_path / "out").exists():
            assert (tmp_path / "out" / "SOURCE.json").is_file()
            assert (tmp_path / "out" / "set" / "images" / "1.jpg").read_bytes() == PHOTO
    done = seglab_fetch("thing", "--registry", registry, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert seglab_fetch("thing", "--registry", registry, "--out", tmp_path / "out", "--verify").returncode == 0
    assert (tmp_path / "out" / "set" / "images" / "1.jpg").read_bytes() == PHOTO
    assert visible(tmp_path) == ["out"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_is_stopped_while_it_waits_says_so(site, own, tmp_path, number, code):
    registry = own(dataset(site.put("/a.zip", ZIP, *[status(503, {"Retry-After": "60"})] * 3)))
    process = start(registry, tmp_path / "out")
    assert "in 60 s" in process.stderr.readline()
    process.send_signal(number)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == code
    assert stderr == "error: stopped before anything of `thing` was kept; the same command starts again\n"
    assert visible(tmp_path) == []


def test_two_processes_do_not_collide(site, own, tmp_path):
    registry = own(dataset(site.put("/a.zip", ZIP, stall(80_000))))
    first = start(registry, tmp_path / "out")
    wait_for(lambda: site.requests)
    second = seglab_fetch("thing", "--registry", registry, "--out", tmp_path / "out")
    assert second.returncode == 5
    assert f"in use by pid {first.pid}" in second.stderr
    assert len(site.requests) == 1
    first.kill()
    first.communicate()


@pytest.mark.skipif(not shutil.which("prlimit"), reason="needs the program prlimit")
def test_a_full_disk_exits_3_and_the_same_command_goes_on(site, own, tmp_path):
    registry = own(dataset(site.put("/a.zip", ZIP)))
    common = [
        sys.executable,
        "-m",
        "seglab",
        "fetch",
        "thing",
        "--registry",
        str(registry),
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(["prlimit", "--fsize=90000", *common], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "File too large" in done.stderr
    assert not (tmp_path / "out").exists()
    done = subprocess.run(common, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(site.asked("/a.zip")[1]["Range"][6:-1]) > 0
