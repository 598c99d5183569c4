"""Drive through gdown: the real client against a local copy of Drive's manners, and its own exceptions at the edge."""

import random

import gdown
import pytest
import requests

from seglab.data.fetching.drive import download_drive
from seglab.data.fetching.registry import Source
from seglab.data.fetching.retrying import no_meter
from seglab.errors import DataError, DeviceError, NetworkError
from tests.fetch.site import HTML, make_zip, serve, status, truncate

DATA = make_zip({"a.bin": random.Random(0).randbytes(700_000)})
FILE_ID = "1AbCdEfGhIjKlMnOpQrStUvWxYz012345"
UC = "/drive.google.com/uc"
ATTACHED = {"Content-Disposition": 'attachment; filename="a.zip"', "Content-Type": "application/octet-stream"}
PAGE = {"Content-Type": "text/html; charset=utf-8"}


def attached(handler, data):
    serve(handler, data, ATTACHED)


@pytest.fixture
def drive(site, monkeypatch):
    """Send everything that goes to Google to the local site, under the host's name."""

    class Rerouted(requests.adapters.HTTPAdapter):
        def send(self, request, **options):
            request.url = request.url.replace("https:/", site.url(""), 1)
            return super().send(request, **options)

    monkeypatch.setattr(requests.Session, "get_adapter", lambda self, url: Rerouted())
    return site


@pytest.fixture
def get(tmp_path, policy):
    said = []

    def get(source=None, *, archive=True, need_room=lambda num_bytes: None, meter=no_meter):
        return download_drive(
            source or Source("drive", FILE_ID, file="a.zip"), tmp_path / "client", policy,
            archive=archive, meter=meter, need_room=need_room, say=said.append,
        )  # fmt: skip

    get.said = said
    return get


def test_a_file_comes_whole(drive, get, capsys):
    drive.put(UC, DATA, attached)
    assert get().read_bytes() == DATA
    assert drive.requests[0][0] == f"{UC}?id={FILE_ID}"
    assert capsys.readouterr() == ("", "")


def test_the_page_about_viruses_is_passed(drive, get):
    form = """<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">
    <input type="hidden" name="id" value="X"><input type="hidden" name="confirm" value="t"></form>"""
    drive.put(UC, b"", status(200, PAGE, form.replace("\n", "").encode()))
    drive.put("/drive.usercontent.google.com/download", DATA, attached)
    assert get().read_bytes() == DATA
    assert drive.requests[1][0].endswith("?id=X&confirm=t")


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ('<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p>', "quota"),
        ('<p class="uc-error-subcaption">Sorry, the download quota is exceeded.</p>', "quota"),
        ('<p class="uc-error-subcaption">You need permission to open it.</p>', "not public"),
        ("<html><body>something new</body></html>", "gone, private, or was downloaded too often"),
    ],
)
def test_a_page_instead_of_the_file_says_why_and_is_not_kept(drive, get, tmp_path, page, words):
    drive.put(UC, b"", *[status(200, PAGE, page.encode())] * 3)
    with pytest.raises(NetworkError, match=words) as caught:
        get()
    assert f"https://drive.google.com/file/d/{FILE_ID}/view" in caught.value.hint
    assert "--from FILE" in caught.value.hint
    assert not list((tmp_path / "client").iterdir())


def test_a_page_that_comes_as_an_attachment_is_not_kept(drive, get, tmp_path):
    drive.put(UC, HTML, attached)
    with pytest.raises(NetworkError, match=r"Drive sent a web page, not data \(its download quota"):
        get()
    assert not (tmp_path / "client").exists()


def test_another_file_than_was_asked_for_is_bad_data(drive, get, tmp_path):
    drive.put(UC, b"", status(200, ATTACHED, b"\xff\xd8\xff" + bytes(2000)))
    with pytest.raises(DataError, match="Drive sent a JPEG picture, not an archive"):
        get()
    assert not (tmp_path / "client").exists()


@pytest.mark.parametrize(("code", "words"), [(404, "not on Drive any more"), (403, "does not allow"), (418, "418")])
def test_a_refusal_is_final(drive, get, waits, code, words):
    drive.put(UC, b"", status(code, ATTACHED))
    with pytest.raises(NetworkError, match=words):
        get()
    assert not waits


@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_drive_is_asked_again(drive, get, waits, code):
    drive.put(UC, DATA, status(code, ATTACHED), attached)
    assert get().read_bytes() == DATA
    assert len(waits) == 1


def test_a_download_that_breaks_goes_on(drive, get, waits):
    drive.put(UC, DATA, truncate(600_000, ATTACHED), attached, attached)
    assert get().read_bytes() == DATA
    assert drive.requests[-1][1]["Range"] == f"bytes={512 << 10}-"  # gdown writes in pieces of this size
    assert len(waits) == 1


def test_a_part_that_drive_does_not_continue_is_begun_anew(drive, get):
    drive.put(UC, DATA, truncate(600_000, ATTACHED), attached, status(200, ATTACHED, DATA), attached)
    assert get().read_bytes() == DATA


def test_a_silent_drive_is_left_after_the_time_out(drive, get):
    def silent(handler, data):
        handler.server.site.released.wait(20)

    drive.put(UC, DATA, silent, attached)
    assert get().read_bytes() == DATA
    assert "cannot be reached: ReadTimeout" in get.said[0]


def test_a_file_in_a_folder_is_found_by_name(drive, get):
    link = '<a href="https://drive.google.com/file/d/{}/view">{}</a>'
    page = "<html><title>CIHP</title>" + link.format("1" * 28, "readme.txt") + link.format(FILE_ID, "a.zip")
    drive.put("/drive.google.com/embeddedfolderview", b"", *[status(200, PAGE, page.encode())] * 2)
    drive.put(UC, DATA, attached)
    folder = "0BzvH3bSnp3E9QjVYZlhWSjltSWM"
    assert get(Source("drive-folder", folder, file="a.zip")).read_bytes() == DATA
    assert drive.requests[-1][0] == f"{UC}?id={FILE_ID}"
    with pytest.raises(NetworkError, match=r"holds no `b.zip`, but a.zip, readme.txt"):
        get(Source("drive-folder", folder, file="b.zip"))


def test_the_room_and_the_meter_know_the_length(drive, get):
    from contextlib import contextmanager

    seen, rooms = [], []

    @contextmanager
    def meter(what, total, done):
        seen.extend([what, total, done])
        yield seen.append

    drive.put(UC, DATA, attached)
    get(need_room=rooms.append, meter=meter)
    assert rooms == [len(DATA) - (512 << 10)]  # gdown tells of the first piece when it is there
    assert seen[:2] == ["Drive", len(DATA)]
    assert sum(seen[2:]) == len(DATA)


def test_no_room_is_an_error_of_data(drive, get):
    def need_room(num_bytes):
        raise DataError("no room")

    drive.put(UC, DATA, attached)
    with pytest.raises(DataError, match="no room"):
        get(need_room=need_room)


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        (requests.exceptions.SSLError("https://x/?key=secret"), NetworkError, "SSLError"),
        (requests.exceptions.ProxyError("https://x/?key=secret"), NetworkError, "ProxyError"),
        (requests.exceptions.ConnectionError("https://x/?key=secret"), NetworkError, r"ConnectionError \(3 tries\)"),
        (requests.exceptions.ChunkedEncodingError("secret"), NetworkError, "ChunkedEncodingError"),
        (gdown.exceptions.DownloadError("There are multiple temporary files to resume:\n"), NetworkError, "broke off"),
        (KeyError("Content-Type"), NetworkError, "gdown does not understand"),
        (OSError(28, "No space left on device"), DataError, "No space left"),
    ],
)
def test_what_gdown_raises_becomes_ours_without_its_addresses(get, monkeypatch, raised, expected, words):
    def download(**options):
        raise raised

    monkeypatch.setattr(gdown, "download", download)
    with pytest.raises(expected, match=words) as caught:
        get()
    assert "secret" not in caught.value.message + caught.value.hint


def test_gdown_is_asked_with_options_that_it_has(get, monkeypatch, tmp_path):
    import inspect

    real = inspect.signature(gdown.download)

    def download(**options):
        real.bind(**options)
        assert options["use_cookies"] is False
        (tmp_path / "client" / "a.zip").write_bytes(DATA)

    monkeypatch.setattr(gdown, "download", download)
    assert get().read_bytes() == DATA


def test_without_gdown_it_says_what_to_install(get, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(DeviceError, match="gdown package cannot be imported"):
        get()
