"""Google Drive through the gdown package."""

import contextlib
import io
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from seglab.data.fetching.admission import ArchiveError
from seglab.data.fetching.registry import Source
from seglab.data.fetching.retrying import Advance, Meter, Passing, Policy, with_retries
from seglab.data.fetching.sniffing import HEAD_BYTES, is_words, refusal
from seglab.errors import DataError, DeviceError, NetworkError

if TYPE_CHECKING:
    import requests

__all__ = ["download_drive"]

BY_HAND: Final = "open {url} in a browser, download it there, then `seglab fetch NAME --from FILE`"

_QUOTA: Final = re.compile(r"quota|too many (users|accesses)|viewed or downloaded", re.IGNORECASE)
_PRIVATE: Final = re.compile(r"sign in|permission|access denied|request access", re.IGNORECASE)


def download_drive(
    source: Source,
    client_dir: Path,
    policy: Policy,
    *,
    archive: bool,
    meter: Meter,
    need_room: Callable[[int], None],
    say: Callable[[str], None],
) -> Path:
    """Bring a file of Drive into ``client_dir``, where gdown also keeps its part of it, and return its path.

    Args:
        source: A Drive file, or a Drive folder with the name of the file in it.
        client_dir: A folder for this source alone; it survives a failure, so that the next try goes on.
        policy: How patiently.
        archive: Whether an archive is expected; otherwise weights.
        meter: Shows the bytes.
        need_room: Called with the number of bytes to come; raises when the disk has not so many.
        say: Told of each failure that is followed by another try.

    Raises:
        NetworkError: If Drive cannot be reached, does not give the file (quota, permission, gone), or gives a page.
        ArchiveError: If it gives another file: empty, or of another kind.
        DataError: If the disk is full or cannot be written.
    """
    client_dir.mkdir(parents=True, exist_ok=True)
    path = client_dir / (source.file or "download")

    def attempt() -> None:
        with _understood(source, client_dir), _Shown(source, meter, need_room) as shown:
            file_id = source.ref if source.way == "drive" else _find(source, policy)
            _gdown().download(
                id=file_id, output=str(path), quiet=True, resume=True, progress=shown,
                timeout=policy.timeout_s, use_cookies=_has_cookies(),
            )  # fmt: skip

    with_retries(attempt, policy, partial(_bytes_in, client_dir), say)
    with path.open("rb") as handle:
        head = handle.read(HEAD_BYTES)
    why = refusal(head, archive=archive, name=source.file)
    if why:
        shutil.rmtree(client_dir)
        kind = NetworkError if is_words(head) else ArchiveError
        raise kind(f"Drive sent {why}", BY_HAND.format(url=source.url))
    return path


def _find(source: Source, policy: Policy) -> str:
    """Return the id of a file in a Drive folder."""
    listed = _gdown().download_folder(
        id=source.ref, quiet=True, skip_download=True, timeout=policy.timeout_s, use_cookies=_has_cookies()
    )
    names = {Path(file.path).name: str(file.id) for file in listed}
    if source.file not in names:
        raise NetworkError(
            f"the Drive folder holds no `{source.file}`, but {', '.join(sorted(names)[:5]) or 'nothing'}",
            BY_HAND.format(url=source.url),
        )
    return names[source.file]


def _gdown() -> Any:
    try:
        import gdown
    except ImportError as error:
        raise DeviceError(f"the gdown package cannot be imported: {error}", "`pip install --upgrade gdown`") from error
    return gdown


def _has_cookies() -> bool:
    """Tell whether the user gave gdown cookies of a login; without them none are kept."""
    return (Path.home() / ".cache" / "gdown" / "cookies.txt").is_file()


class _Shown:
    """gdown's progress callback: checks the room once the length is known, then moves the meter."""

    def __init__(self, source: Source, meter: Meter, need_room: Callable[[int], None]) -> None:
        self._source, self._meter, self._need_room = source, meter, need_room
        self._stack = ExitStack()
        self._advance: Advance | None = None
        self._done = 0

    def __enter__(self) -> "_Shown":
        return self

    def __exit__(self, *problem: Any) -> None:
        self._stack.__exit__(*problem)

    def __call__(self, done: int, total: int | None) -> None:
        if self._advance is None:
            self._need_room(0 if total is None else total - done)
            self._advance = self._stack.enter_context(self._meter("Drive", total, done))
        else:
            self._advance(done - self._done)
        self._done = done


@contextlib.contextmanager
def _understood(source: Source, client_dir: Path) -> Iterator[None]:
    """Turn what gdown raises into our own errors; what it prints goes nowhere."""
    import requests

    gdown = _gdown()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except gdown.exceptions.FileURLRetrievalError as error:
        raise _not_given(source, str(error)) from error
    except gdown.exceptions.DownloadError as error:
        # What is here does not go on from where it broke: the next try starts anew, unless more simply has to come.
        if "incomplete" not in str(error):
            shutil.rmtree(client_dir)
            client_dir.mkdir()
        raise Passing(f"Drive broke off: {str(error).splitlines()[0][:100]}") from error
    except requests.RequestException as error:
        _raise_for(source, error)
    except (KeyError, AssertionError, AttributeError) as error:
        raise NetworkError(
            "Drive answers with a page that gdown does not understand",
            "`pip install --upgrade gdown`; or " + BY_HAND.format(url=source.url),
        ) from error
    except OSError as error:
        raise DataError(
            f"cannot write `{client_dir}`: {error.strerror or error}", "make room, and try again"
        ) from error


def _not_given(source: Source, text: str) -> NetworkError:
    hint = BY_HAND.format(url=source.url)
    if "have had many accesses" not in text:  # gdown's own sentence names both causes
        if _QUOTA.search(text):
            return NetworkError("the download quota of the file on Drive is used up", f"try again in a day, or {hint}")
        if _PRIVATE.search(text):
            return NetworkError("the file on Drive is not public", hint)
    return NetworkError("Drive does not give the file: it is gone, private, or was downloaded too often", hint)


def _raise_for(source: Source, error: "requests.RequestException") -> NoReturn:
    """Raise what a failed request means; the address in its message may hold a key, so it is not shown."""
    import requests

    status = error.response.status_code if error.response is not None else None
    hint = BY_HAND.format(url=source.url)
    if status == HTTPStatus.NOT_FOUND:
        raise NetworkError("the file is not on Drive any more", hint) from error
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise NetworkError("Drive does not allow the download: private, or downloaded too often today", hint) from error
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise Passing("Drive answers 429 too many requests") from error
    if status is not None and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        raise NetworkError(f"Drive answers {status}", hint) from error
    if isinstance(error, requests.exceptions.SSLError | requests.exceptions.ProxyError):
        raise NetworkError(f"Drive cannot be reached: {type(error).__name__}") from error
    raise Passing(
        f"Drive answers {status}" if status else f"Drive cannot be reached: {type(error).__name__}"
    ) from error


def _bytes_in(dir: Path) -> int:
    return sum(path.stat().st_size for path in dir.iterdir() if path.is_file())
