"""What all tests share: one thread a process, as they run side by side; no device from outside, and no network."""

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy, OpenCV or torch is imported, and for child processes
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # tests import it before seglab
os.environ.pop("SEGLAB_DEVICE", None)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import cv2

    cv2.setNumThreads(1)


_asked: list[str] = []
_connect, _look_up = socket.socket.connect, socket.getaddrinfo


def _is_here(host: Any) -> bool:
    text = host.decode() if isinstance(host, bytes) else str(host or "")
    return text in ("", "::", "::1", "0.0.0.0", "localhost", socket.gethostname()) or text.startswith("127.")


@pytest.fixture(scope="session", autouse=True)
def _watched_network() -> Iterator[None]:
    """Note every connection that leaves this machine, and every look-up of a name elsewhere."""

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address[0]):
            _asked.append(f"connect {address}")
        _connect(self, address)

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        if not _is_here(host):
            _asked.append(f"look up {host}")
        return _look_up(host, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket, "getaddrinfo", look_up)
        yield


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Only ``seglab fetch`` asks the network; its own tests may look for hosts that do not exist."""
    _asked.clear()
    yield
    if "fetch" not in request.path.parts:
        assert not _asked, "the network was asked"
