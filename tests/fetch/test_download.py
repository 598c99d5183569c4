"""Downloads from a site that behaves in every way that sites do."""

import hashlib
import json
import random
import time

import pytest

from seglab.data.fetching.admission import ArchiveError
from seglab.data.fetching.download import Order, download
from seglab.data.fetching.retrying import no_meter
from seglab.errors import DataError, NetworkError
from tests.fetch import site as sites
from tests.fetch.site import HTML, chunked, etag, make_weights, make_zip, redirect, stall, status, truncate, whole

DATA = make_zip({"photo.bin": random.Random(0).randbytes(200_000)})


@pytest.fixture
def part_path(tmp_path):
    return tmp_path / "part"


@pytest.fixture
def get(part_path, policy):
    """Download a URL and return what came; keyword arguments go into the order."""
    said = []

    def get(url, *, need_room=lambda num_bytes: None, **order):
        order = {"archive": True, **order}
        download(Order(url, part_path, **order), policy, meter=no_meter, need_room=need_room, say=said.append)
        return part_path.read_bytes()

    get.said = said
    return get


def test_a_file_comes_whole(site, get):
    assert get(site.put("/a.zip", DATA)) == DATA
    (asked,) = site.asked("/a.zip")
    assert "Range" not in asked
    assert asked["User-Agent"].startswith("seglab/")


def test_what_is_here_already_is_not_asked_for_again(site, get):
    url = site.put("/a.zip", DATA)
    get(url)
    assert get(url) == DATA
    assert len(site.asked("/a.zip")) == 1


def test_a_connection_that_breaks_is_resumed_where_it_broke(site, get, waits):
    assert get(site.put("/a.zip", DATA, truncate(50_000), truncate(20_000))) == DATA
    assert [asked.get("Range") for asked in site.asked("/a.zip")] == [None, "bytes=50000-", "bytes=70000-"]
    assert [asked.get("If-Range") for asked in site.asked("/a.zip")] == [None, etag(DATA), etag(DATA)]
    assert len(waits) == 2
    assert 0.75 <= waits[0] <= 1.25
    assert 1.5 <= waits[1] <= 2.5
    assert "50000 of " in get.said[0]


def test_it_gives_up_after_so_many_tries_and_keeps_the_part(site, get, part_path, waits):
    url = site.put("/a.zip", DATA, *[truncate(2_000)] * 3)
    with pytest.raises(NetworkError, match=r"closed after 6000 of \d+ bytes \(3 tries\)"):
        get(url)
    assert part_path.read_bytes() == DATA[:6_000]
    assert len(waits) == 2
    assert waits[1] > waits[0]
    assert get(url) == DATA
    assert site.asked("/a.zip")[-1]["Range"] == "bytes=6000-"


def test_tries_that_get_further_are_not_counted(site, get):
    data = make_zip({"photo.bin": random.Random(1).randbytes(5 << 20)})
    url = site.put("/big.zip", data, *[truncate(1 << 20)] * 4)
    assert get(url) == data


def test_a_server_that_knows_no_ranges_is_taken_from_the_start(site, get):
    url = site.put("/a.zip", DATA, truncate(50_000), whole)
    assert get(url) == DATA


def test_a_file_that_changed_in_between_is_not_mixed(site, get, part_path):
    url = site.put("/a.zip", DATA, truncate(50_000), status(404))
    with pytest.raises(NetworkError, match="404"):
        get(url)
    assert part_path.stat().st_size == 50_000
    new = make_zip({"other.bin": random.Random(2).randbytes(200_000)})
    assert get(site.put("/a.zip", new)) == new
    assert site.asked("/a.zip")[-1]["If-Range"] == etag(DATA)


def test_a_part_without_proof_is_not_continued(site, get, part_path):
    def anonymous(handler, data):
        sites.answer(handler, 200, data[:50_000], {}, length=len(data))
        handler.close_connection = True

    url = site.put("/a.zip", DATA, anonymous, whole)
    assert get(url) == DATA
    assert "Range" not in site.asked("/a.zip")[1]


def test_a_part_without_proof_is_continued_where_a_checksum_will_tell(site, get):
    def anonymous(handler, data):
        sites.answer(handler, 200, data[:50_000], {}, length=len(data))
        handler.close_connection = True

    url = site.put("/a.zip", DATA, anonymous)
    assert get(url, checked=True) == DATA
    assert site.asked("/a.zip")[1]["Range"] == "bytes=50000-"


def test_a_part_of_another_url_is_not_continued(site, get, part_path):
    with pytest.raises(NetworkError):
        get(site.put("/a.zip", DATA, truncate(50_000), status(404)))
    other = make_zip({"other.bin": random.Random(3).randbytes(200_000)})
    assert get(site.put("/b.zip", other)) == other
    assert "Range" not in site.asked("/b.zip")[0]


@pytest.mark.parametrize("span", ["bytes 0-9/10", "bytes 49999-200000/200001", "nonsense", ""])
def test_another_part_than_asked_for_is_thrown_away(site, get, span):
    wrong = status(206, {"Content-Range": span}, b"x" * 100)
    assert get(site.put("/a.zip", DATA, truncate(50_000), wrong)) == DATA
    assert "Range" not in site.asked("/a.zip")[2]


def test_a_part_that_the_server_cannot_continue_is_thrown_away(site, get):
    assert get(site.put("/a.zip", DATA, truncate(50_000), status(416))) == DATA


def test_a_broken_note_beside_the_part_means_from_the_start(site, get, part_path):
    part_path.write_bytes(b"PK" + b"x" * 100)
    part_path.with_name("part.json").write_text('{"url": 3')
    assert get(site.put("/a.zip", DATA)) == DATA


def test_a_longer_part_than_the_file_is_thrown_away(site, get, part_path):
    url = site.put("/a.zip", DATA)
    part_path.write_bytes(DATA + b"more")
    part_path.with_name("part.json").write_text(
        json.dumps({"address": hashlib.sha256(url.encode()).hexdigest(), "validator": etag(DATA), "total": len(DATA)})
    )
    assert get(url) == DATA


def test_a_silent_server_is_left_after_the_time_out(site, get):
    url = site.put("/a.zip", DATA, stall(50_000))
    begun = time.monotonic()
    assert get(url) == DATA
    assert time.monotonic() - begun < 3
    assert "sent nothing" in get.said[0]
    assert site.asked("/a.zip")[1]["Range"] == "bytes=50000-"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed_with_the_range(site, get, code):
    site.put("/b.zip", DATA, truncate(50_000))
    url = site.put("/a.zip", b"", *[redirect("/b.zip", code)] * 2)
    assert get(url) == DATA
    assert site.asked("/b.zip")[1]["Range"] == "bytes=50000-"


def test_a_circle_of_redirects_ends(site, get):
    url = site.put("/a.zip", b"", *[redirect("/b.zip")] * 30)
    site.put("/b.zip", b"", *[redirect("/a.zip")] * 30)
    with pytest.raises(NetworkError, match="in a circle"):
        get(url)
    assert len(site.requests) < 15


def test_too_many_redirects_end(site, get):
    for number in range(20):
        site.put(f"/{number}", b"", redirect(f"/{number + 1}"))
    with pytest.raises(NetworkError, match="circle, or too often"):
        get(site.url("/0"))
    assert len(site.requests) < 10


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_a_redirect_to_something_that_is_no_web_address_is_not_followed(site, get, place):
    with pytest.raises(NetworkError) as caught:
        get(site.put("/a.zip", b"", redirect(place)))
    scheme = place.split(":")[0]
    assert caught.value.message == (
        f"`127.0.0.1` redirects to a `{scheme}:` address, which is refused: only http and https are followed"
    )
    assert len(site.requests) == 1


@pytest.mark.parametrize("place", ["http://[", "http://" + "a" * 70 + ".example/x", "http://127.0.0.1:99999999/"])
def test_a_redirect_to_what_is_no_address_is_an_error(site, get, waits, place):
    with pytest.raises(NetworkError):
        get(site.put("/a.zip", b"", *[redirect(place)] * 3))


def test_a_redirect_to_nowhere_is_said(site, get):
    with pytest.raises(NetworkError, match=r"answers 302 \(a redirect that does not say where to\)"):
        get(site.put("/a.zip", b"", status(302)))


@pytest.mark.parametrize("num_bytes", [0, 1, 500])
def test_a_connection_that_breaks_within_the_first_bytes_is_tried_again(site, get, num_bytes):
    assert get(site.put("/a.zip", DATA, truncate(num_bytes))) == DATA
    assert f"the connection was closed after {num_bytes} of {len(DATA)} bytes" in get.said[0]


def test_a_redirect_from_https_to_http_is_not_followed():
    import io
    from urllib.request import Request

    from seglab.data.fetching.download import _Redirects

    with pytest.raises(NetworkError, match="from https to"):
        _Redirects(5).redirect_request(Request("https://a.example/x"), io.BytesIO(), 302, "", {}, "http://a.example/x")


@pytest.mark.parametrize(
    ("code", "words"), [(401, "login"), (403, "not allowed"), (404, "not there"), (410, "gone"), (418, "418")]
)
def test_a_refusal_is_final(site, get, waits, code, words):
    with pytest.raises(NetworkError, match=words):
        get(site.put("/a.zip", DATA, status(code, body=HTML)))
    assert not waits


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(site, get, waits, code):
    assert get(site.put("/a.zip", DATA, status(code), status(code))) == DATA
    assert len(waits) == 2
    assert str(code) in get.said[0]


def test_a_server_that_is_always_busy_is_given_up(site, get):
    with pytest.raises(NetworkError, match=r"500.*3 tries"):
        get(site.put("/a.zip", DATA, *[status(500)] * 9))
    assert len(site.requests) == 3


def test_the_wait_that_a_server_asks_for_is_kept(site, get, waits):
    assert get(site.put("/a.zip", DATA, status(429, {"Retry-After": "7"}))) == DATA
    assert waits == [7.0]


def test_the_wait_may_be_a_date(site, get, waits):
    from email.utils import formatdate

    date = formatdate(time.time() + 30, usegmt=True)
    assert get(site.put("/a.zip", DATA, status(503, {"Retry-After": date}))) == DATA
    assert 25 < waits[0] <= 30


@pytest.mark.parametrize("text", ["soon", "-3", ""])
def test_a_wait_that_is_no_time_is_ours(site, get, waits, text):
    assert get(site.put("/a.zip", DATA, status(503, {"Retry-After": text}))) == DATA
    assert 0.7 < waits[0] < 1.3


def test_a_server_that_wants_to_be_left_alone_for_long_is(site, get, waits):
    with pytest.raises(NetworkError, match="asks to wait 86400 s"):
        get(site.put("/a.zip", DATA, status(429, {"Retry-After": "86400"})))
    assert not waits


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (HTML, "web page.*quota"),
        (b"\xef\xbb\xbf \n<html>please sign in", "web page.*login"),
        (b'{"error": "not found"}', "text, not data"),
        (b"too many requests", "text, not data"),
    ],
)
def test_a_page_is_never_kept(site, get, part_path, waits, body, words, archive):
    with pytest.raises(NetworkError, match=words):
        get(site.put("/a.zip", DATA, status(200, {"Content-Type": "application/zip"}, body)), archive=archive)
    assert not part_path.exists()
    assert not waits


def test_an_empty_file_is_never_kept(site, get, part_path, waits):
    with pytest.raises(ArchiveError, match="an empty file"):
        get(site.put("/a.zip", DATA, status(200)))
    assert not part_path.exists()
    assert not waits


def test_an_answer_that_ends_before_it_began_is_tried_again(site, get, waits):
    """Where the server says no length, an empty file and a connection that broke look alike."""

    def broken(handler, data):
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True

    assert get(site.put("/a.zip", DATA, broken)) == DATA
    assert len(waits) == 1


def test_another_file_in_answer_to_a_resumed_request_does_not_cost_the_part(site, get, part_path):
    url = site.put("/a.zip", DATA, truncate(50_000), status(200), status(200, body=b"\xff\xd8\xff" + bytes(2000)))
    for words in ("an empty file", "a JPEG picture"):
        with pytest.raises(NetworkError, match=words):
            get(url)
        assert part_path.read_bytes() == DATA[:50_000]
    assert get(url) == DATA
    assert site.asked("/a.zip")[-1]["Range"] == "bytes=50000-"


def test_a_page_in_answer_to_a_resumed_request_is_never_kept(site, get, part_path):
    url = site.put("/a.zip", DATA, truncate(50_000), status(200, body=HTML))
    with pytest.raises(NetworkError, match="web page"):
        get(url)
    assert part_path.read_bytes() == DATA[:50_000]
    assert get(url) == DATA
    assert site.asked("/a.zip")[-1]["Range"] == "bytes=50000-"


def test_other_data_than_an_archive_is_refused_where_one_is_expected(site, get):
    with pytest.raises(ArchiveError, match="no archive"):
        get(site.put("/a.zip", bytes(range(256)) * 10))
    assert get(site.put("/w.bin", make_weights()), archive=False, name="w.bin") == make_weights()


@pytest.mark.parametrize("code", [204, 206])
def test_a_success_that_is_no_file_is_an_error(site, get, code):
    with pytest.raises(NetworkError, match=str(code)):
        get(site.put("/a.zip", DATA, status(code)))


def test_a_file_of_unknown_length_comes_whole(site, get):
    assert get(site.put("/a.zip", DATA, chunked)) == DATA


def test_a_file_of_unknown_length_that_breaks_off_is_tried_again(site, get):
    def broken(handler, data):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"ffff\r\n" + data[:3_000])
        handler.close_connection = True

    assert get(site.put("/a.zip", DATA, broken)) == DATA


def test_a_known_length_is_checked_before_anything_is_written(site, get, part_path):
    with pytest.raises(ArchiveError, match=rf"wrong length: the server has {len(DATA)} bytes, 5 were"):
        get(site.put("/a.zip", DATA), num_bytes=5)
    assert not part_path.exists()


def test_a_page_is_called_one_whatever_its_length(site, get, part_path):
    with pytest.raises(NetworkError, match="a web page"):
        get(site.put("/a.zip", DATA, status(200, body=HTML)), num_bytes=len(DATA))
    assert not part_path.exists()


def test_a_known_length_is_checked_where_the_server_does_not_say_it(site, get, part_path):
    with pytest.raises(ArchiveError, match="wrong length"):
        get(site.put("/a.zip", DATA, chunked), num_bytes=5)
    assert not part_path.exists()


def test_a_compressed_answer_is_refused(site, get):
    with pytest.raises(NetworkError, match="compressed"):
        get(site.put("/a.zip", DATA, status(200, {"Content-Encoding": "gzip"}, b"\x1f\x8b" + b"x" * 50)))


def test_the_room_is_asked_for_before_the_first_byte(site, get, part_path):
    def need_room(num_bytes):
        asked.append(num_bytes)
        raise DataError("no room")

    asked = []
    with pytest.raises(DataError, match="no room"):
        get(site.put("/a.zip", DATA), need_room=need_room)
    assert asked == [len(DATA)]
    assert not part_path.exists()


def test_a_host_that_is_not_there_is_said(get, site):
    url = site.url("/a.zip")
    site.close()
    with pytest.raises(NetworkError, match=r"`127.0.0.1` cannot be reached: .*refused"):
        get(url)


def test_a_disk_that_cannot_be_written_is_said(site, get, part_path):
    part_path.mkdir()
    with pytest.raises(DataError, match="cannot write"):
        get(site.put("/a.zip", DATA))


def test_a_meter_is_told_of_every_byte(site, part_path, policy):
    from contextlib import contextmanager

    seen = []

    @contextmanager
    def meter(what, total, done):
        seen.append([what, total, done])
        yield seen[-1].append

    url = site.put("/a.zip", DATA, truncate(50_000))
    download(Order(url, part_path, archive=True), policy, meter=meter, need_room=lambda n: None, say=lambda t: None)
    first, second = seen
    assert first[:3] == ["127.0.0.1", len(DATA), 0]
    assert sum(first[3:]) == 50_000
    assert second[1:3] == [len(DATA), 50_000]
    assert 50_000 + sum(second[3:]) == len(DATA)
