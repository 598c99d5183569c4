"""Addresses that let somebody in are shown and written without what does."""

import json

import pytest

from seglab.data.fetching.addresses import without_secrets
from seglab.data.fetching.registry import load_registry
from seglab.errors import SeglabError
from tests.fetch.site import Site, keep_out_the_world, make_zip, status, truncate
from tests.security.conftest import World

SECRET = "s3cr3t-value"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@example.org/a", "https://***@example.org/a"),
        ("https://example.org/a?token=x&b=1", "https://example.org/a?token=***&b=1"),
        ("https://example.org/a?b=1&X-Amz-Signature=x&X-Amz-Credential=y#access_token=z",
         "https://example.org/a?b=1&X-Amz-Signature=***&X-Amz-Credential=***#access_token=***"),
        ("https://example.org/a?api%5Fkey=x", "https://example.org/a?api%5Fkey=***"),
        ("https://example.org/a?download=1&id=5", "https://example.org/a?download=1&id=5"),
        ("https://drive.google.com/drive/folders/x?resourcekey=0-a", "https://drive.google.com/drive/folders/x?resourcekey=0-a"),
        ("https://[", "https://["), ("", ""), ("owner/name", "owner/name"),
        ("https://e.org/?key=a&key=b&sig=", "https://e.org/?key=***&key=***&sig=***"),
    ],
)  # fmt: skip
def test_what_is_hidden(url, shown):
    assert without_secrets(url) == shown
    assert without_secrets(shown) == shown


@pytest.fixture
def site():
    with Site() as site:
        yield site


@pytest.fixture
def world_of_fetch(tmp_path, monkeypatch):
    keep_out_the_world(monkeypatch, tmp_path, tmp_path / "cache")
    return World(tmp_path)


def test_a_token_in_an_address_works_and_is_not_told(site, world_of_fetch):
    world = world_of_fetch
    plain = site.put("/a.zip", make_zip({"a.jpg": b"1" * 70_000}), truncate(20_000))
    gone = site.put("/b.zip", b"", status(404))
    urls = [f"{url}?token={SECRET}&x=1" for url in (plain, gone)]
    sources = ", ".join(f'{{ url = "{url}" }}' for url in reversed(urls))
    text = f'[thing]\nkind = "dataset"\ntitle = "a thing"\nsources = [{sources}]\n'
    (world.dir / "rows.toml").write_text(text)
    done = world.run("fetch", "fetch", "thing", "--registry", "rows.toml", "--json", "-o", "out")
    assert done.code == 0, done.err
    assert site.asked("/a.zip")
    world.run("list", "fetch", "--registry", "rows.toml", "--json")
    world.run("dry", "fetch", "thing", "--registry", "rows.toml", "--dry-run")
    assert all(SECRET not in done.out + done.err for done in world.done.values())
    assert json.loads(next(world.dir.rglob("SOURCE.json")).read_text())["url"].endswith("?token=***&x=1")
    for path in world.dir.rglob("*"):
        assert not path.is_file() or path.name == "rows.toml" or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("ref", [f"https://user:{SECRET}@example.org/a", f"ftp://example.org/a?token={SECRET}"])
def test_a_row_that_is_refused_is_refused_without_its_secret(tmp_path, ref):
    (tmp_path / "rows.toml").write_text(f'[a]\nkind = "dataset"\ntitle = "a"\nsources = [{{ url = "{ref}" }}]\n')
    with pytest.raises(SeglabError) as caught:
        load_registry(tmp_path / "rows.toml")
    assert SECRET not in caught.value.message + caught.value.hint
