"""A local site, a cache of its own, no login, and patience measured in hundredths of a second."""

import os

import pytest

from seglab.data.fetching.registry import load_registry
from seglab.data.fetching.retrying import Policy
from tests.fetch.site import Site


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """Keep the user's cache, logins and proxies out of the tests."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR", "SEGLAB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "sync", lambda: None)  # it waits for everything that this machine writes


@pytest.fixture
def site():
    site = Site()
    yield site
    site.close()


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
