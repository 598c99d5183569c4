"""From source to source: the first that gives a row's file, whole and fit for use, is taken."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from seglab import files
from seglab.data.fetching.admission import BY_HAND, ArchiveError, UnreadError
from seglab.data.fetching.obtain import Obtained, Transfer, bring, by_hand, digests, own_dir_of, read_done
from seglab.data.fetching.places import OFFLINE_VARIABLE
from seglab.data.fetching.registry import Row, Source
from seglab.errors import DeviceError, NetworkError, SeglabError
from seglab.notation import parse_json

__all__ = ["obtain"]

REFUSAL_NAME: Final = "refused.json"
"""Lies in the folder of a source whose file was refused, until the fetch has ended one way or the other."""

_REFUSED: Final = (ArchiveError, UnreadError)


def obtain(
    row: Row, downloads_dir: Path, transfer: Transfer, *, offline: str, use: Callable[[Obtained], None]
) -> Obtained:
    """Bring a row's file into ``downloads_dir`` and use it, trying the row's sources in order.

    What is there already is used. A file that is refused is removed, and the next source is asked; so it is after a
    failure of the network. What was refused is noted, so that a fetch that is interrupted later does not bring it
    again.

    Args:
        row: What to bring.
        downloads_dir: Where what arrives is kept.
        transfer: How it is brought.
        offline: What forbids the network: ``--offline`` or ``SEGLAB_OFFLINE``; empty if nothing does.
        use: Takes the file, and raises an :class:`ArchiveError` if it is damaged or not to be trusted, or an
            :class:`UnreadError`.

    Raises:
        NetworkError: If no source gives it and one of them failed in the network, so that trying again may help; or
            ``offline`` and it is not here yet.
        DeviceError: If a package is missing that a source needs.
        DataError: If every source gave a file, and all were refused.
    """
    search = _Search(row, downloads_dir, transfer, use)
    found = search.use_kept()
    if found is None and offline and not search.failures:
        instead = "`unset SEGLAB_OFFLINE`, or " if offline == OFFLINE_VARIABLE else f"leave `{offline}` out, or "
        raise NetworkError(
            f"`{row.name}` is not here, and the network is not to be used ({offline})", by_hand(row, instead)
        )
    for source in row.tried:
        if found is None and source not in search.failures:
            found = search.ask(source, offline)
    if found is None:
        raise search.failed()
    return found


class _Search:
    """One way along the sources of a row, and what became of each."""

    def __init__(self, row: Row, downloads_dir: Path, transfer: Transfer, use: Callable[[Obtained], None]) -> None:
        self._row, self._downloads_dir, self._transfer, self._use = row, downloads_dir, transfer, use
        self.failures: dict[Source, SeglabError] = {}

    def use_kept(self) -> Obtained | None:
        """Use a file that an interrupted fetch brought whole; one that has rotted since is as if it were not there."""
        for source in self._row.tried:
            own_dir = own_dir_of(source, self._downloads_dir)
            kept = read_done(source, own_dir)
            if kept is None:
                continue
            try:
                self._use(kept)
            except _REFUSED as error:
                if digests(kept.path, [], self._transfer.meter)["sha256"] == kept.sha256:
                    self._refuse(source, error)
                else:
                    shutil.rmtree(own_dir)
            else:
                return kept
        return None

    def ask(self, source: Source, offline: str) -> Obtained | None:
        """Bring and use a source's file; None if that fails, which is told and noted."""
        own_dir = own_dir_of(source, self._downloads_dir)
        try:
            noted = _read_refusal(own_dir)
            if noted is not None:
                raise noted
            if offline:
                raise NetworkError(f"not asked, for the network is not to be used ({offline})")
            return self._bring(source, own_dir)
        except _REFUSED as error:
            self._refuse(source, error)
        except (NetworkError, DeviceError) as error:
            self.failures[source] = error
            self._tell(source, error)
        return None

    def failed(self) -> SeglabError:
        """Return the one error for all failures; the next fetch asks every source again."""
        for source in self.failures:
            (own_dir_of(source, self._downloads_dir) / REFUSAL_NAME).unlink(missing_ok=True)
        return _all_failed(self._row, self.failures)

    def _bring(self, source: Source, own_dir: Path) -> Obtained:
        obtained = bring(self._row, source, own_dir, self._transfer)
        try:
            self._use(obtained)
        except ArchiveError as error:
            if not obtained.continued:
                raise
            # The part from an earlier fetch may be to blame.
            self._transfer.say(f"{self._row.name} from {source.place}: {error.message}; from the start again")
            shutil.rmtree(own_dir)
            obtained = bring(self._row, source, own_dir, self._transfer)
            self._use(obtained)
        return obtained

    def _refuse(self, source: Source, error: ArchiveError | UnreadError) -> None:
        """Remove a file that was refused, and note it; one that only another program can read is kept for that."""
        self.failures[source] = error
        own_dir = own_dir_of(source, self._downloads_dir)
        if not isinstance(error, UnreadError):
            shutil.rmtree(own_dir, ignore_errors=True)
            own_dir.mkdir(parents=True)
            files.write_json(own_dir / REFUSAL_NAME, {"message": error.message, "hint": error.hint})
        self._tell(source, error)

    def _tell(self, source: Source, error: SeglabError) -> None:
        if any(other not in self.failures for other in self._row.tried):
            place = _place(self._row, source)
            self._transfer.say(f"{self._row.name} from {place}: {error.message}; the next source is tried")


def _read_refusal(own_dir: Path) -> ArchiveError | None:
    try:
        values = parse_json((own_dir / REFUSAL_NAME).read_text(encoding="utf-8"))
        return ArchiveError(str(values["message"]), str(values["hint"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _all_failed(row: Row, failures: dict[Source, SeglabError]) -> SeglabError:
    if not failures:
        dead = "; ".join(f"{source.place}: dead {source.dead}" for source in row.sources if source.dead)
        return NetworkError(
            f"`{row.name}` has no source that seglab can download from{dead and f' ({dead})'}", by_hand(row)
        )
    kinds = {type(error) for error in failures.values()}
    kind = next(kind for kind in (NetworkError, DeviceError, UnreadError, ArchiveError) if kind in kinds)
    hint = next((hint for source, error in failures.items() if (hint := _hint(row, source, error))), by_hand(row))
    reasons = [f"{_place(row, source)}: {error.message}" for source, error in failures.items()]
    if len(failures) == 1:
        return kind(f"`{row.name}` could not be fetched from {reasons[0]}", hint)
    return kind(f"no source gave `{row.name}`: {'; '.join(reasons)}", hint)


def _hint(row: Row, source: Source, error: SeglabError) -> str:
    """Return what helps after a failure; nothing where the general hint is as good."""
    if not isinstance(error, ArchiveError):
        return error.hint.replace("seglab fetch NAME", f"seglab fetch {row.name}")
    if BY_HAND in error.hint:
        return f"nothing of it is kept; download it in a browser from {source.url}; {BY_HAND}"
    kept = "nothing of it was run or kept" if "nothing of it was run" in error.hint else "nothing of it is kept"
    return f"{kept}; get it from a place that you trust, then `seglab fetch {row.name} --from FILE`"


def _place(row: Row, source: Source) -> str:
    """Name a source in a word, or by its address where another one of the row has the same word."""
    alike = [other for other in row.tried if other.place == source.place]
    return source.place if len(alike) == 1 else source.url
