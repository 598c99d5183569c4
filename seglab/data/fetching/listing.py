"""What can be fetched and what is here, for other commands: no network, and nothing heavy is imported."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from seglab.data.fetching.places import default_dir, fetched_path
from seglab.data.fetching.registry import Row, load_registry

__all__ = ["Listed", "rows"]


@dataclass(frozen=True)
class Listed:
    """One dataset or checkpoint in a list."""

    name: str
    kind: Literal["dataset", "checkpoint", "encoder"]
    title: str
    task: str
    licence: str
    commercial: Literal["yes", "no", "unclear"]
    """Whether the licence allows commercial use."""
    terms: str
    unlocks: tuple[str, ...]
    """What one can do with it: ``predict clothes``."""
    bytes: int | None
    """Roughly what is downloaded; None if nobody knows."""
    login: str
    places: tuple[str, ...]
    """Where it is tried, in order; dead ones are marked."""
    path: Path | None
    """The data or the weights, where ``seglab fetch`` puts them by default; None if they are not there."""

    @property
    def here(self) -> bool:
        """Whether it has been fetched."""
        return self.path is not None

    @property
    def command(self) -> str:
        """The command that brings it."""
        return f"seglab fetch {self.name}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self) | {"here": self.here, "command": self.command}
        return values | {
            "unlocks": list(self.unlocks), "places": list(self.places), "path": str(self.path) if self.here else None,
        }  # fmt: skip


def rows(kind: Literal["dataset", "checkpoint", "encoder"] | None = None, own_path: Path | None = None) -> list[Listed]:
    """Return what can be fetched, in the registry's order.

    Args:
        kind: Only datasets, checkpoints or encoders.
        own_path: A registry of the user's own.

    Raises:
        DataError: If the user's registry is wrong.
    """
    return [_listed(row) for row in load_registry(own_path).values() if kind in (None, row.kind)]


def _listed(row: Row) -> Listed:
    places = [source.place + (" (dead)" if source.dead else "") for source in row.sources if source.way != "page"]
    return Listed(
        name=row.name, kind=row.kind, title=row.title, task=row.task, licence=row.licence, commercial=row.commercial,
        terms=row.terms, unlocks=row.unlocks, bytes=row.bytes or None, login=row.login,
        places=tuple(dict.fromkeys(places)), path=fetched_path(default_dir(row)),
    )  # fmt: skip
