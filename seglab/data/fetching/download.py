"""A URL into a file, resumed where it broke off, and never with anything but data in it."""

import email.utils
import hashlib
import http.client
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from seglab import files
from seglab.data.fetching.addresses import without_secrets
from seglab.data.fetching.admission import ArchiveError
from seglab.data.fetching.retrying import Meter, Passing, Policy, with_retries
from seglab.data.fetching.sniffing import HEAD_BYTES, is_words, refusal
from seglab.errors import DataError, NetworkError
from seglab.notation import parse_json
from seglab.version import __version__

__all__ = ["Order", "download"]

CHUNK_BYTES: Final = 1 << 20
WEB: Final = ("http", "https")
BUSY: Final = (408, 425, 429, 500, 502, 503, 504)
"""Answers after which the same request may succeed later."""


@dataclass(frozen=True)
class Order:
    """What is to be downloaded, and what is expected of it."""

    url: str
    part_path: Path
    """Grows as data arrives; ``part_path`` + ``.json`` beside it says what it is a part of."""
    archive: bool
    """Whether an archive is expected; otherwise weights."""
    checked: bool = False
    """Whether a checksum is known, so that parts may be joined even where the server cannot say that they fit."""
    num_bytes: int | None = None
    """The exact length, where known."""
    name: str = ""
    """What the file is called; the suffix says which kind of weights it is."""


def download(
    order: Order, policy: Policy, *, meter: Meter, need_room: Callable[[int], None], say: Callable[[str], None]
) -> None:
    """Bring a URL into ``order.part_path``, whole and on the disk. What is there already is not sent again.

    Args:
        order: What, and where to.
        policy: How patiently.
        meter: Shows the bytes.
        need_room: Called with the number of bytes to come; raises when the disk has not so many.
        say: Told of each failure that is followed by another try.

    Raises:
        NetworkError: If the server cannot be reached, refuses, or answers with a page or other words. The part stays.
        ArchiveError: If what it sends is another file: empty, of another kind, of another length than is known.
        DataError: If the disk is full or cannot be written.
    """
    attempt = partial(_attempt, order, policy, meter, need_room)
    try:
        with_retries(attempt, policy, lambda: _size(order.part_path), say)
    except OSError as error:  # those of the network have become something else by now
        raise DataError(
            f"cannot write `{order.part_path}`: {error.strerror or error}", "make room, and run the same command again"
        ) from error


@dataclass(frozen=True)
class _Known:
    """What is known of a part from the answer that began it."""

    url: str
    validator: str
    """Strong ETag or Last-Modified date; empty if the server gave neither."""
    total: int | None


def _attempt(order: Order, policy: Policy, meter: Meter, need_room: Callable[[int], None]) -> None:
    known = _read_known(order)
    offset = _size(order.part_path) if known else 0
    if known and known.total is not None and offset == known.total:
        return
    try:
        response = _open(order.url, policy, offset, known)
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(order, error) from None
    with closing(response):
        offset = _start(order, response, offset, known)
        total = known.total if known and offset else response.length
        head = b"" if offset else _head(order, response)
        _check_length(order, total)
        need_room(0 if total is None else total - offset)
        if not offset:
            order.part_path.unlink(missing_ok=True)
            _write_known(order, _Known(order.url, _validator(response.headers), total))
        with meter(urlsplit(order.url).hostname or "", total, offset) as advance:
            size = _receive(order, response, head, offset, advance)
    if total is not None and size != total:
        raise Passing(f"the connection was closed after {size} of {total} bytes")
    if order.num_bytes is not None and size != order.num_bytes:
        order.part_path.unlink()
        raise ArchiveError(f"wrong length: {size} bytes, {order.num_bytes} were expected")


def _open(url: str, policy: Policy, offset: int, known: _Known | None) -> http.client.HTTPResponse:
    headers = {"User-Agent": f"seglab/{__version__}", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if known and known.validator:
            headers["If-Range"] = known.validator
    request = urllib.request.Request(url, headers=headers)
    try:
        response: http.client.HTTPResponse = _opener(policy).open(request, timeout=policy.timeout_s)
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        raise _unreachable(url, error.reason) from None
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from None
    except ValueError:  # of a redirect, or a host's name that cannot be one
        host = urlsplit(url).hostname
        raise NetworkError(f"`{host}` cannot be asked, or redirects to what is no address") from None
    return response


def _opener(policy: Policy) -> urllib.request.OpenerDirector:
    """Return an opener for http and https alone: no files, no ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(), urllib.request.UnknownHandler(), urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(), urllib.request.HTTPDefaultErrorHandler(), _Redirects(policy.redirects),
        urllib.request.HTTPCookieProcessor(), urllib.request.HTTPErrorProcessor(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to http."""

    def __init__(self, most: int) -> None:
        vars(self)["max_redirections"] = most

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request that follows, as urllib wants it.

        Raises:
            NetworkError: If it leads out of the web, or from https to http.
        """
        if urlsplit(newurl).scheme not in WEB:
            fp.close()
            raise _other_scheme(req.full_url, newurl)
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            fp.close()
            to = without_secrets(newurl)
            raise NetworkError(f"`{urlsplit(req.full_url).hostname}` redirects from https to `{to}`; not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _other_scheme(url: str, new_url: str) -> NetworkError:
    """Return the error for a redirect out of the web; where it leads is not shown."""
    return NetworkError(
        f"`{urlsplit(url).hostname}` redirects to a `{urlsplit(new_url).scheme}:` address, which is refused:"
        " only http and https are followed"
    )


def _unreachable(url: str, reason: object) -> Exception:
    host = urlsplit(url).hostname
    if isinstance(reason, ssl.SSLCertVerificationError):
        return NetworkError(f"the certificate of `{host}` is not valid: {reason.verify_message}")
    if isinstance(reason, TimeoutError):
        return Passing(f"`{host}` does not answer")
    if isinstance(reason, socket.gaierror):
        missing = f"`{host}` cannot be found; is there a network?"
        return Passing(missing) if reason.errno == socket.EAI_AGAIN else NetworkError(missing)
    if isinstance(reason, OSError):
        return Passing(f"`{host}` cannot be reached: {reason.strerror or reason}")
    if isinstance(reason, http.client.HTTPException):
        return Passing(f"`{host}` breaks off: {type(reason).__name__}")
    return NetworkError(f"`{without_secrets(url)}` cannot be opened: {reason}")


def _refused(order: Order, error: urllib.error.HTTPError) -> Exception:
    """Return what an answer that is no success means."""
    if urlsplit(error.url or order.url).scheme not in WEB:
        return _other_scheme(order.url, error.url)
    host, code = urlsplit(error.url or order.url).hostname, error.code
    if code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        order.part_path.unlink(missing_ok=True)
        return Passing(f"`{host}` has nothing that fits the part that is here; from the start again", 0)
    if code in BUSY:
        return Passing(f"`{host}` answers {code} {error.reason}", _retry_after(error.headers))
    if "infinite loop" in str(error.reason).replace("\n", " "):
        return NetworkError(f"`{host}` redirects in a circle, or too often")
    meaning = {401: " (a login is needed)", 403: " (not allowed)", 404: " (not there)", 410: " (gone)"}.get(code, "")
    if code in (301, 302, 303, 307, 308):
        meaning = " (a redirect that does not say where to)"
    return NetworkError(f"`{host}` answers {code}{meaning}")


def _retry_after(headers: Message) -> float | None:
    """Return the seconds that ``Retry-After`` asks for, given as such or as a date."""
    text = (headers.get("Retry-After") or "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _start(order: Order, response: http.client.HTTPResponse, offset: int, known: _Known | None) -> int:
    """Return where the answer's bytes belong: ``offset`` if the server goes on there, otherwise 0."""
    host = urlsplit(order.url).hostname
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise NetworkError(f"`{host}` sends the file compressed in a way that was not asked for")
    if response.status == HTTPStatus.OK:
        return 0
    span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
    if response.status != HTTPStatus.PARTIAL_CONTENT or not offset:
        raise NetworkError(f"`{host}` answers {response.status}, not a file")
    total = known.total if known else None
    if span is None or int(span[1]) != offset or (total is not None and span[3] not in ("*", str(total))):
        order.part_path.unlink(missing_ok=True)
        raise Passing(f"`{host}` sends another part than was asked for; from the start again", 0)
    return offset


def _check_length(order: Order, total: int | None) -> None:
    if order.num_bytes is not None and total is not None and total != order.num_bytes:
        raise _another_file(order, f"wrong length: the server has {total} bytes, {order.num_bytes} were expected")


def _receive(
    order: Order, response: http.client.HTTPResponse, head: bytes, offset: int, advance: Callable[[int], None]
) -> int:
    """Append the answer, of which ``head`` was read already, to the part and return the part's size."""
    with order.part_path.open("ab" if offset else "wb") as handle:
        chunk = head or _read(order, response)
        while chunk:
            handle.write(chunk)
            advance(len(chunk))
            chunk = _read(order, response)
        handle.flush()
        os.fsync(handle.fileno())
    return _size(order.part_path)


def _head(order: Order, response: http.client.HTTPResponse) -> bytes:
    head = b""
    while len(head) < HEAD_BYTES and (chunk := _read(order, response)):
        head += chunk
    if len(head) < HEAD_BYTES and response.length:
        raise Passing(f"the connection was closed after {len(head)} of {len(head) + response.length} bytes")
    host = urlsplit(response.url or order.url).hostname
    if not head and not response.chunked and "Content-Length" not in response.headers:
        raise Passing(f"`{host}` closed the connection before it sent anything")
    why = refusal(head, archive=order.archive, name=order.name)
    if why:
        raise NetworkError(f"`{host}` sent {why}") if is_words(head) else _another_file(order, f"`{host}` sent {why}")
    return head


def _another_file(order: Order, message: str) -> NetworkError | ArchiveError:
    """Return the error for a file that is not the one; with a part here, that is kept, and later may help."""
    return (NetworkError if _size(order.part_path) else ArchiveError)(message)


def _read(order: Order, response: http.client.HTTPResponse) -> bytes:
    host = urlsplit(order.url).hostname
    try:
        return response.read1(CHUNK_BYTES)
    except TimeoutError:
        raise Passing(f"`{host}` has sent nothing for a while") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Passing(f"the connection to `{host}` broke: {type(error).__name__}") from None


def _validator(headers: Message) -> str:
    """Return what proves to the server that a part belongs to its file: a strong ETag, or the date."""
    etag = (headers.get("ETag") or "").strip()
    if etag.startswith('"'):
        return etag
    return (headers.get("Last-Modified") or "").strip()


def _known_path(order: Order) -> Path:
    return order.part_path.with_name(order.part_path.name + ".json")


def _digest(url: str) -> str:
    """Return what stands for an address on disk; it may let somebody in."""
    return hashlib.sha256(url.encode(errors="surrogateescape")).hexdigest()


def _write_known(order: Order, known: _Known) -> None:
    files.write_json(
        _known_path(order), {"address": _digest(known.url), "validator": known.validator, "total": known.total}
    )


def _read_known(order: Order) -> _Known | None:
    """Return what is known of the part, or None if it cannot be continued."""
    try:
        values = parse_json(_known_path(order).read_text(encoding="utf-8"))
        known = _Known(order.url, str(values["validator"]), values["total"])
        address = str(values["address"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if address != _digest(order.url) or not (known.validator or order.checked):
        return None
    if known.total is not None and (type(known.total) is not int or _size(order.part_path) > known.total):
        return None
    return known


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
