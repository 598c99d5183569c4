"""Kaggle's datasets and competitions through the kaggle package."""

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from seglab.data.fetching.logins import find_login, login_problems
from seglab.data.fetching.registry import Source
from seglab.data.fetching.retrying import Advance, Meter, Passing, Policy, with_retries
from seglab.errors import DataError, DeviceError, NetworkError

if TYPE_CHECKING:
    import requests

__all__ = ["download_kaggle", "find_login"]

HOW_TO_LOG_IN: Final = (
    "`kaggle auth login`, or make a token at https://www.kaggle.com/settings/api and save it as"
    " ~/.kaggle/access_token; then run the same command again"
)
_METHODS: Final = {
    "LEGACY_API_KEY": "an API key (kaggle.json, or KAGGLE_USERNAME and KAGGLE_KEY)",
    "ACCESS_TOKEN": "an access token (KAGGLE_API_TOKEN, or ~/.kaggle/access_token)",
    "OAUTH": "`kaggle auth login`",
}
WATCH_S: Final = 0.3


def download_kaggle(
    source: Source,
    client_dir: Path,
    policy: Policy,
    *,
    total: int | None,
    meter: Meter,
    need_room: Callable[[int], None],
    say: Callable[[str], None],
) -> Path:
    """Bring a Kaggle dataset or competition into ``client_dir`` as the archive that Kaggle makes; return its path.

    Args:
        source: A Kaggle dataset (``owner/name``) or competition.
        client_dir: A folder for this source alone; it survives a failure, so that the next try goes on.
        policy: How patiently.
        total: Roughly how many bytes will come, for the meter and the room; None if nobody knows.
        meter: Shows the bytes.
        need_room: Called with the number of bytes to come; raises when the disk has not so many.
        say: Told which login was used, and of each failure that is followed by another try.

    Raises:
        NetworkError: If there is no login, the rules are not accepted, or Kaggle cannot be reached.
        DataError: If the disk is full or cannot be written.
        DeviceError: If the kaggle package cannot be imported.
    """
    client_dir.mkdir(parents=True, exist_ok=True)
    # The package itself tries again six times, so that we need not.
    patience = replace(policy, attempts=min(policy.attempts, 2))
    attempt = partial(_attempt, source, client_dir, meter, need_room, total, say)
    with_retries(attempt, patience, partial(_bytes_in, client_dir), say)
    found = [path for path in client_dir.iterdir() if path.is_file() and path.suffix != ".kaggle-partial"]
    if not found:
        raise NetworkError("the kaggle package brought no file", "`pip install --upgrade kaggle`")
    return max(found, key=lambda path: path.stat().st_size)


def _attempt(
    source: Source,
    client_dir: Path,
    meter: Meter,
    need_room: Callable[[int], None],
    total: int | None,
    say: Callable[[str], None],
) -> None:
    with _understood(source):
        client = _client()
        need_room(max(0, (total or 0) - _bytes_in(client_dir)))
        method = str(getattr(client, "config_values", {}).get("auth_method", ""))
        say("Kaggle login: " + _METHODS.get(method, "as set up for the kaggle package"))
        with meter("Kaggle", total, _bytes_in(client_dir)) as advance, _watched(client_dir, advance):
            if source.way == "kaggle-dataset":
                client.dataset_download_files(source.ref, path=str(client_dir), force=False, quiet=True)
            else:
                client.competition_download_files(source.ref, path=str(client_dir), force=False, quiet=True)


def _client() -> Any:
    """Return kaggle's client, logged in. Importing the package logs in, prints, and may exit: it stays in here."""
    broken = login_problems()
    if broken and not find_login():
        raise NetworkError("Kaggle needs a login: " + "; ".join(broken), f"mend it, or {HOW_TO_LOG_IN}")
    try:
        import kaggle

        if not getattr(kaggle.api, "_authenticated", False):
            kaggle.api.authenticate()
    except SystemExit:
        found = find_login()
        if found:
            raise NetworkError(f"Kaggle does not accept the login: {_METHODS[found]}", HOW_TO_LOG_IN) from None
        raise NetworkError("Kaggle needs a login, and none was found", HOW_TO_LOG_IN) from None
    except ImportError as error:
        raise DeviceError(
            f"the kaggle package cannot be imported: {error}", "`pip install --upgrade kaggle six`"
        ) from error
    return kaggle.api


@contextlib.contextmanager
def _understood(source: Source) -> Iterator[None]:
    """Turn what the kaggle package raises into our own errors; what it prints, headers too, goes nowhere."""
    import requests

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except requests.RequestException as error:
        _raise_for(source, error)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Passing(f"the kaggle package stumbled: {type(error).__name__}") from error
    except OSError as error:
        raise DataError(
            f"cannot write: {error.strerror or error}", "make room, and run the same command again"
        ) from error
    except SystemExit as error:
        raise NetworkError("the kaggle package gave up", HOW_TO_LOG_IN) from error


def _raise_for(source: Source, error: "requests.RequestException") -> NoReturn:
    """Raise what a failed request means; its message may hold a signed address, so it is not shown."""
    status = error.response.status_code if error.response is not None else None
    again = "then run the same command again"
    if status == HTTPStatus.UNAUTHORIZED:
        raise NetworkError("Kaggle does not accept the login", HOW_TO_LOG_IN) from error
    if status == HTTPStatus.FORBIDDEN and source.way == "kaggle-competition":
        raise NetworkError(
            f"the rules of Kaggle's `{source.ref}` are not accepted yet",
            f"open {source.url}/rules, accept them, {again}",
        ) from error
    if status == HTTPStatus.FORBIDDEN:
        raise NetworkError(
            f"Kaggle does not allow `{source.ref}`", f"open {source.url}, see what it asks, {again}"
        ) from error
    if status == HTTPStatus.NOT_FOUND:
        raise NetworkError(f"Kaggle has no `{source.ref}`", f"open {source.url} to see what became of it") from error
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise Passing("Kaggle answers 429 too many requests", _retry_after(error)) from error
    if status is not None and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        raise NetworkError(f"Kaggle answers {status}") from error
    raise Passing(
        f"Kaggle answers {status}" if status else f"Kaggle cannot be reached: {type(error).__name__}"
    ) from error


def _retry_after(error: "requests.RequestException") -> float | None:
    text = error.response.headers.get("Retry-After", "") if error.response is not None else ""
    return float(text) if text.isdecimal() else None


@contextlib.contextmanager
def _watched(dir: Path, advance: Advance) -> Iterator[None]:
    """Report the growth of a folder while the block runs: the kaggle package has no callback."""
    ended = threading.Event()

    def watch() -> None:
        seen = _bytes_in(dir)
        while not ended.wait(WATCH_S):
            size = _bytes_in(dir)
            advance(max(0, size - seen))
            seen = max(seen, size)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _bytes_in(dir: Path) -> int:
    total = 0
    for path in dir.iterdir():
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total
