"""Kaggle through its own client: the real one against a local site, and its exceptions at the edge."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import requests

from seglab.data.fetching import kaggle as ours
from seglab.data.fetching.kaggle import download_kaggle, find_login
from seglab.data.fetching.logins import login_problems
from seglab.data.fetching.registry import Source
from seglab.data.fetching.retrying import no_meter
from seglab.errors import DataError, DeviceError, NetworkError
from tests.fetch.site import make_zip, serve, status

DATA = make_zip({"train.csv": b"ImageId\n" * 3000})
DATASET = Source("kaggle-dataset", "owner/faces")
COMPETITION = Source("kaggle-competition", "clothes-2019")
CALLS = {
    DATASET: "/v1/datasets.DatasetApiService/DownloadDataset",
    COMPETITION: "/v1/competitions.CompetitionApiService/DownloadDataFiles",
}
pytestmark = [
    # The kaggle client leaves its connections to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SECRET = "s3cr3t-k3y"


@pytest.fixture(autouse=True, scope="module")
def collect():
    """Collect what the client leaves behind here, where its warnings are expected; once, as it takes long."""
    import gc

    yield
    gc.collect()


@pytest.fixture
def get(tmp_path, policy):
    said = []

    def get(source, *, total=None, need_room=lambda num_bytes: None, meter=no_meter):
        return download_kaggle(
            source, tmp_path / "client", policy, total=total, meter=meter, need_room=need_room, say=said.append
        )

    get.said = said
    return get


@pytest.fixture
def client(site, monkeypatch):
    """The real client, logged in with an API key from the environment, talking to the local site."""
    with pytest.MonkeyPatch.context() as quiet:
        quiet.setattr(sys, "stdout", SimpleNamespace(write=lambda text: 0, flush=lambda: None))
        import kaggle
        from kagglesdk import kaggle_env
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, site.url(""))
    monkeypatch.setattr(kaggle.api, "_authenticated", False)
    monkeypatch.setattr(kaggle.api, "config_values", {})
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    monkeypatch.setenv("KAGGLE_KEY", SECRET)
    return kaggle.api


@pytest.mark.parametrize("source", CALLS, ids=lambda source: source.way)
def test_the_archive_comes_whole_and_nothing_is_printed(client, site, get, capsys, source):
    site.put(CALLS[source], b"", status(302, {"Location": "/storage/archive.zip"}))
    site.put("/storage/archive.zip", DATA)
    assert get(source).read_bytes() == DATA
    assert site.asked(CALLS[source])[0]["Authorization"].startswith("Basic ")
    assert capsys.readouterr() == ("", "")
    assert get.said == ["Kaggle login: an API key (kaggle.json, or KAGGLE_USERNAME and KAGGLE_KEY)"]


@pytest.mark.parametrize(
    ("source", "code", "words", "hint"),
    [
        (DATASET, 401, "does not accept the login", "kaggle auth login"),
        (COMPETITION, 401, "does not accept the login", "kaggle.com/settings/api"),
        (COMPETITION, 403, "rules of Kaggle's `clothes-2019` are not accepted", "competitions/clothes-2019/rules"),
        (DATASET, 403, "does not allow `owner/faces`", "https://www.kaggle.com/datasets/owner/faces"),
        (DATASET, 404, "Kaggle has no `owner/faces`", "https://www.kaggle.com/datasets/owner/faces"),
        (DATASET, 400, "Kaggle answers 400", ""),
    ],
)
def test_a_refusal_names_what_to_do(client, site, get, waits, source, code, words, hint):
    site.put(CALLS[source], b"", *[status(code, {"Content-Type": "text/plain"}, b"no")] * 3)
    with pytest.raises(NetworkError, match=words) as caught:
        get(source)
    assert hint in caught.value.hint
    assert not waits


def test_kaggles_own_form_of_an_error_is_read(client, site, get):
    body = json.dumps({"code": 403, "message": f"You must accept this competition's rules {SECRET}"}).encode()
    site.put(CALLS[COMPETITION], b"", status(403, {"Content-Type": "application/json"}, body))
    with pytest.raises(NetworkError, match="rules") as caught:
        get(COMPETITION)
    assert SECRET not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(("code", "headers"), [(429, {"Retry-After": "9"}), (500, {}), (503, {})])
def test_a_busy_kaggle_is_asked_again(client, site, get, waits, code, headers):
    site.put(CALLS[DATASET], DATA, status(code, headers), serve)
    assert get(DATASET).read_bytes() == DATA
    assert len(waits) == 1
    assert waits[0] == 9 or code != 429


def test_an_interrupted_download_goes_on(client, site, get, tmp_path):
    from tests.fetch.site import etag

    folder = tmp_path / "client"
    folder.mkdir()
    (folder / "faces.zip").write_bytes(DATA[:100])
    (folder / "faces.zip.kaggle-partial").write_text(json.dumps({"validator": etag(DATA), "size": len(DATA)}))
    site.put(CALLS[DATASET], b"", status(302, {"Location": "/storage/archive.zip"}))
    site.put("/storage/archive.zip", DATA)
    assert get(DATASET).read_bytes() == DATA
    assert site.requests[-1][1]["Range"] == "bytes=100-"


def test_a_kaggle_that_is_not_there_is_said(client, site, get):
    site.close()
    with pytest.raises(NetworkError, match="Kaggle cannot be reached: ConnectionError"):
        get(DATASET)


def test_the_room_counts_what_is_here(client, site, get, tmp_path):
    rooms = []
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "faces.zip").write_bytes(b"x" * 30)
    site.put(CALLS[DATASET], DATA)
    get(DATASET, total=100, need_room=rooms.append)
    assert rooms == [70]


def test_without_a_login_it_says_how_to_get_one(client, get, monkeypatch, capsys):
    monkeypatch.delenv("KAGGLE_KEY")
    with pytest.raises(NetworkError, match="needs a login: KAGGLE_USERNAME is set, but not KAGGLE_KEY") as caught:
        get(DATASET)
    assert "kaggle auth login" in caught.value.hint
    assert capsys.readouterr() == ("", "")


def test_importing_kaggle_without_a_login_does_not_end_the_process(tmp_path):
    """A fresh process, as a user has it: the package logs in when it is imported, prints, and may exit."""
    code = (
        "from pathlib import Path\n"
        "from seglab.data.fetching.kaggle import download_kaggle\n"
        "from seglab.data.fetching.registry import Source\n"
        "from seglab.data.fetching.retrying import Policy, no_meter\n"
        "from seglab.errors import NetworkError\n"
        "try:\n"
        f"    download_kaggle(Source('kaggle-dataset', 'a/b'), Path({str(tmp_path / 'c')!r}), Policy(), total=None,\n"
        "        meter=no_meter, need_room=lambda n: None, say=print)\n"
        "except NetworkError as error:\n"
        "    print('survived:', error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "survived: Kaggle needs a login, and none was found\n"


def test_a_kaggle_of_an_older_kind_that_exits_when_imported_is_survived(get, monkeypatch, tmp_path):
    package = tmp_path / "old" / "kaggle"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("print('no login'); exit(1)")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, "kaggle", raising=False)
    with pytest.raises(NetworkError, match="none was found"):
        get(DATASET)


def test_a_kaggle_that_cannot_be_imported_says_what_to_install(get, monkeypatch):
    monkeypatch.setitem(sys.modules, "kaggle", None)
    with pytest.raises(DeviceError, match="cannot be imported") as caught:
        get(DATASET)
    assert "six" in caught.value.hint


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        (requests.exceptions.ConnectionError(f"https://x/?sig={SECRET}"), NetworkError, "ConnectionError"),
        (requests.exceptions.ReadTimeout(SECRET), NetworkError, "ReadTimeout"),
        (ValueError(f"Downloaded file size does not match {SECRET}"), NetworkError, "stumbled: ValueError"),
        (SystemExit(1), NetworkError, "gave up"),
        (OSError(28, "No space left on device"), DataError, "No space left"),
    ],
)
def test_what_the_client_raises_becomes_ours_without_its_words(get, monkeypatch, raised, expected, words):
    def download(*_, **__):
        raise raised

    fake = SimpleNamespace(config_values={"auth_method": "OAUTH"}, dataset_download_files=download)
    monkeypatch.setattr(ours, "_client", lambda: fake)
    with pytest.raises(expected, match=words) as caught:
        get(DATASET)
    assert SECRET not in caught.value.message + caught.value.hint + "".join(get.said)
    assert get.said[0] == "Kaggle login: `kaggle auth login`"


def test_a_client_that_brings_nothing_is_an_error(get, monkeypatch):
    fake = SimpleNamespace(config_values={}, dataset_download_files=lambda *_, **__: None)
    monkeypatch.setattr(ours, "_client", lambda: fake)
    with pytest.raises(NetworkError, match="brought no file"):
        get(DATASET)


def test_growth_is_shown_while_the_client_works(get, monkeypatch, tmp_path):
    import time
    from contextlib import contextmanager

    seen = []

    @contextmanager
    def meter(what, total, done):
        yield seen.append

    def download(*_, path, **__):
        with (tmp_path / "client" / "a.zip").open("wb") as handle:
            for _ in range(4):
                handle.write(b"x" * 1000)
                handle.flush()
                time.sleep(0.03)

    monkeypatch.setattr(ours, "WATCH_S", 0.01)
    fake = SimpleNamespace(config_values={}, dataset_download_files=download)
    monkeypatch.setattr(ours, "_client", lambda: fake)
    get(DATASET, meter=meter)
    assert 2000 <= sum(seen) <= 4000
    assert len([size for size in seen if size]) >= 2


def test_every_form_of_login_is_found_and_none_is_read_out(tmp_path, monkeypatch, capsys):
    home = tmp_path / "home"
    assert find_login() == ""
    (home / ".config" / "kaggle").mkdir(parents=True)
    (home / ".config" / "kaggle" / "kaggle.json").write_text(json.dumps({"username": "u", "key": SECRET}))
    assert find_login() == "LEGACY_API_KEY"
    (home / ".kaggle").mkdir()
    assert find_login() == ""
    (home / ".kaggle" / "credentials.json").write_text(json.dumps({"refresh_token": SECRET}))
    assert find_login() == "OAUTH"
    (home / ".kaggle" / "kaggle.json").write_text(json.dumps({"username": "u", "key": SECRET}))
    assert find_login() == "LEGACY_API_KEY"
    (home / ".kaggle" / "access_token").write_text(SECRET)
    assert find_login() == "ACCESS_TOKEN"
    (home / ".kaggle" / "access_token").write_text("")
    monkeypatch.setenv("KAGGLE_API_TOKEN", SECRET)
    assert find_login() == "ACCESS_TOKEN"
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    assert find_login() == "OAUTH"
    monkeypatch.setenv("KAGGLE_USERNAME", "u")
    monkeypatch.setenv("KAGGLE_KEY", SECRET)
    assert find_login() == "LEGACY_API_KEY"
    assert capsys.readouterr() == ("", "")


def write_logins(home, **texts):
    (home / ".kaggle").mkdir(exist_ok=True)
    for name, text in texts.items():
        path = home / ".kaggle" / {"token": "access_token", "oauth": "credentials.json"}.get(name, "kaggle.json")
        path.write_bytes(text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"key": f'{{"username": "u", "key": "{SECRET}'}, r"kaggle.json` is not JSON \(line 1, column 26\)"),
        ({"key": ""}, "kaggle.json` is empty"),
        ({"key": f'{{"username": "u", "token": "{SECRET}"}}'}, "kaggle.json` has no `key`"),
        ({"key": f'{{"key": "{SECRET}"}}'}, "kaggle.json` has no `username`"),
        ({"key": '{"username": "u", "key": 3}'}, "kaggle.json` has no `key`"),
        ({"key": f'["{SECRET}"]'}, "kaggle.json` is not a JSON table"),
        ({"key": "{}"}, "kaggle.json` is empty"),
        ({"key": b"\xff\xfe" + SECRET.encode()}, "kaggle.json` is not text"),
        ({"key": "[" * 100_000}, "kaggle.json` is not what Kaggle gives out"),
        ({"token": " \n"}, "access_token` is empty"),
        ({"oauth": f'{{"refresh": "{SECRET}"}}'}, "credentials.json` has no `refresh_token`"),
    ],
)
def test_a_broken_login_is_named_with_its_reason_and_without_its_content(get, monkeypatch, tmp_path, texts, words):
    write_logins(tmp_path / "home", **texts)
    monkeypatch.setattr(ours, "_METHODS", {})
    with pytest.raises(NetworkError, match=f"^Kaggle needs a login: `{tmp_path}/home/.kaggle/{words}") as caught:
        get(DATASET)
    assert "mend it, or `kaggle auth login`" in caught.value.hint
    assert SECRET not in caught.value.message + caught.value.hint


def test_a_login_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "home" / ".kaggle" / "kaggle.json").mkdir(parents=True)
    assert login_problems() == [f"`{tmp_path}/home/.kaggle/kaggle.json` cannot be read: Is a directory"]


def test_all_broken_logins_are_named_and_whole_ones_are_not(tmp_path):
    assert login_problems() == []
    write_logins(tmp_path / "home", token=SECRET, key='{"username": "u", "key": "k"}', oauth="{}")
    assert login_problems() == [f"`{tmp_path}/home/.kaggle/credentials.json` is empty"]
    write_logins(tmp_path / "home", token="", key="x")
    assert len(login_problems()) == 3


def test_half_a_login_in_the_environment_is_completed_by_the_file(tmp_path, monkeypatch):
    write_logins(tmp_path / "home", key=f'{{"key": "{SECRET}"}}')
    assert find_login() == ""
    monkeypatch.setenv("KAGGLE_USERNAME", "u")
    assert find_login() == "LEGACY_API_KEY"
    assert login_problems() == []


def test_a_login_that_kaggle_does_not_take_is_not_called_missing(client, get, monkeypatch, tmp_path):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    write_logins(tmp_path / "home", token=SECRET)
    monkeypatch.setattr(client, "_introspect_token", lambda token: None)
    with pytest.raises(NetworkError, match=r"does not accept the login: an access token \(KAGGLE_API_TOKEN") as caught:
        get(DATASET)
    assert SECRET not in caught.value.message + caught.value.hint
