"""A local site, a cache of its own, no login, and patience measured in hundredths of a second."""

import pytest

from seglab.data.fetching.registry import load_registry
from seglab.data.fetching.retrying import Policy
from tests.fetch.site import Site, keep_out_the_world


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """Keep the user's cache, logins and proxies out of the tests."""
    (tmp_path / "home").mkdir()
    keep_out_the_world(monkeypatch, tmp_path / "home", tmp_path / "cache")


@pytest.fixture
def site():
    with Site() as site:
        yield site


@pytest.fixture
def waits():
    """The waits between tries, in seconds; none is really waited."""
    return []


@pytest.fixture
def policy(waits):
    return Policy(attempts=3, timeout_s=0.3, backoff_s=1.0, longest_wait_s=60.0, redirects=5, sleep=waits.append)


@pytest.fixture
def make_row(tmp_path):
    """Build a row from the text of its registry table."""

    def make(text: str, name: str = "thing"):
        path = tmp_path / "rows.toml"
        path.write_text(f"[{name}]\ntitle = 'a thing'\n{text}", encoding="utf-8")
        return load_registry(path)[name]

    return make
