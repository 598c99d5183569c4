"""A web site on this machine that serves well, or badly in every way that a download has to live with."""

import hashlib
import io
import os
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

Behaviour = Callable[[BaseHTTPRequestHandler, bytes], None]


SETTINGS = (
    "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "XDG_CONFIG_HOME",
    "SEGLAB_OFFLINE", "KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR",
)  # fmt: skip
"""Variables by which the world outside decides what a fetch does."""


def keep_out_the_world(monkeypatch: pytest.MonkeyPatch, home: Path, cache: Path) -> None:
    """Keep the user's cache, logins and proxies out of a test, and do not wait for the disk of this machine."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SEGLAB_CACHE", str(cache))
    monkeypatch.setattr(os, "sync", lambda: None)


class Site:
    """Files by path, and for a path what the next requests get instead."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.script: dict[str, list[Behaviour]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.requests.append((self.path, dict(self.headers)))
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                behaviours = site.script.get(self.path.split("?")[0], [])
                behaviour = behaviours.pop(0) if behaviours else serve
                try:
                    behaviour(self, site.files.get(self.path.split("?")[0], b""))
                except (ConnectionError, TimeoutError):
                    self.close_connection = True

            do_POST = do_GET

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.server.site = self
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def put(self, path: str, data: bytes, *behaviours: Behaviour) -> str:
        self.files[path] = data
        self.script[path] = list(behaviours)
        return self.url(path)

    def asked(self, path: str) -> list[dict[str, str]]:
        """The headers of the requests for a path, in order."""
        return [headers for asked, headers in self.requests if asked.split("?")[0] == path]

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def serve(handler: BaseHTTPRequestHandler, data: bytes, headers: dict[str, str] | None = None) -> None:
    """Serve a file as a good server does: resumes, and knows its files by their ETag."""
    if not data:
        return status(404)(handler, data)
    headers = headers or {}
    wanted = handler.headers.get("Range")
    if wanted and handler.headers.get("If-Range", etag(data)) == etag(data):
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(data):
            return status(416, {"Content-Range": f"bytes */{len(data)}"})(handler, data)
        span = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        return answer(handler, 206, data[start:], span | headers, data)
    return answer(handler, 200, data, {"Accept-Ranges": "bytes"} | headers, data)


def answer(handler, code, body, headers, whole=None, length=None) -> None:
    handler.send_response(code)
    named = {"ETag": etag(whole)} if whole is not None else {}
    for name, value in (named | headers).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def status(code: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Behaviour:
    return lambda handler, data: answer(handler, code, body, headers or {})


def truncate(num_bytes: int, headers: dict[str, str] | None = None) -> Behaviour:
    """Promise the whole file, send a piece, hang up."""

    def behave(handler, data):
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        part = dict(headers or {})
        if start:
            part["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        rest = data[start:]
        answer(handler, 206 if start else 200, rest[:num_bytes], part, data, length=len(rest))
        handler.close_connection = True

    return behave


def stall(num_bytes: int) -> Behaviour:
    """Send a piece and then nothing until the test is over."""

    def behave(handler, data):
        answer(handler, 200, data[:num_bytes], {}, data, length=len(data))
        handler.server.site.released.wait(20)
        handler.close_connection = True

    return behave


def drip(handler, data) -> None:
    """Serve as a good server does, but over a second."""
    start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
    part = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
    answer(handler, 206 if start else 200, b"", part, data, length=len(data) - start)
    for at in range(start, len(data), 4096):
        handler.wfile.write(data[at : at + 4096])
        time.sleep(0.02)


def redirect(location: str, code: int = 302) -> Behaviour:
    return status(code, {"Location": location})


def whole(handler, data) -> None:
    """Serve the whole file whatever was asked for, without a word that identifies it."""
    answer(handler, 200, data, {})


def chunked(handler, data) -> None:
    """Serve without saying how long the file is."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for start in range(0, len(data), 5000):
        piece = data[start : start + 5000]
        handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    handler.wfile.write(b"0\r\n\r\n")


HTML = b"""<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>Too many users
have viewed or downloaded this file recently.</body></html>"""


def make_zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def make_tar(members: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def make_weights(data: bytes = b"weights" * 100) -> bytes:
    """Return a checkpoint in the form that PyTorch writes: a zip of one pickle and the numbers, not packed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (("data.pkl", b"\x80\x02}q\x00."), ("data/0", data), ("version", b"3\n")):
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    return buffer.getvalue()
