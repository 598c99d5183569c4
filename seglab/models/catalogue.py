"""All models in one list: the networks of the zoo, and the weights that come with seglab or can be fetched.

Nothing here imports torch or NumPy, or touches the network.
"""

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import seglab
from seglab.data.fetching.places import fetched_checkpoint
from seglab.data.fetching.registry import Row, load_registry
from seglab.errors import DataError, unknown
from seglab.models.bundle import GRAPH_NAME, WEIGHTS_NAME, BundleConfig, read_config
from seglab.models.pretrained import FETCHED
from seglab.models.zoo import CHECKPOINTS, ZooRow, names, row, rows
from seglab.tasks import TASKS, WHOLE_PERSON_TASKS

__all__ = [
    "EMBEDDED",
    "Family",
    "Weights",
    "embedded_dir",
    "embedded_names",
    "embedded_weights",
    "families",
    "family_rows",
    "named_model",
    "near_names",
    "published",
    "weights",
    "whole_person_task",
]

EMBEDDED: Final = "embedded"
"""What ``--init`` takes for the weights of the task at hand that come with seglab."""
_SMP: Final = "smp-"
_TRAIN_ENCODER: Final = "seglab train --task TASK --data DIR --model DECODER-{} --encoder-weights auto"


@dataclass(frozen=True, kw_only=True)
class Family:
    """Networks of one architecture."""

    name: str
    rows: tuple[ZooRow, ...]

    @property
    def pattern(self) -> str:
        """How its members are called: ``fpn-ENCODER`` for many, the name of the one."""
        decoder = self.name.removeprefix(_SMP)
        return f"{decoder}-ENCODER" if self.name.startswith(_SMP) else ", ".join(row.name for row in self.rows)

    @property
    def num_commercial(self) -> int:
        """How many of them may be used commercially without asking further, their code as well as their weights."""
        return sum(row.commercial and row.weights_commercial != "no" for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Trained weights: embedded in seglab, or published by others."""

    name: str
    """What ``--model`` calls them."""
    kind: Literal["embedded", "published"]
    title: str
    task: str
    """Empty if they serve no task of seglab."""
    network: str
    """A name of the zoo, where it is known without opening them."""
    bytes: int | None
    """Size of the files, roughly for what is not here; None if nobody knows."""
    licence: str
    """Of the weights."""
    commercial: str
    """``yes``, ``no`` or ``unclear``."""
    terms: str
    source: str
    """Where they come from."""
    path: str | None
    """Where they are; None if they are not here."""
    command: str
    """What uses them, or brings them here."""

    @property
    def here(self) -> bool:
        """Whether they can be used now."""
        return self.path is not None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"here": self.here}


def families() -> list[Family]:
    """Return the networks of the table by architecture, in its order."""
    found: dict[str, list[ZooRow]] = {}
    for each in rows():
        found.setdefault(each.family, []).append(each)
    return [Family(name=name, rows=tuple(members)) for name, members in found.items()]


def family_rows(name: str) -> list[ZooRow]:
    """Return the networks of a family by its name or the beginning of its networks' names: ``smp-fpn`` or ``fpn``.

    Raises:
        UsageError: If there is none.
    """
    known = families()
    found = [each for family in known if name in (family.name, family.name.removeprefix(_SMP)) for each in family.rows]
    if not found:
        raise unknown("family of networks", name, dict.fromkeys(family.name.removeprefix(_SMP) for family in known))
    return found


def weights() -> list[Weights]:
    """Return all trained weights that have a name, those of seglab itself first."""
    return [*map(_embedded, embedded_names()), *(published(each) for each in _checkpoints())]


def embedded_dir(name: str) -> Path:
    """Return where the bundle of a task is in this installation, if it has one."""
    return Path(seglab.__file__).parent / "weights" / name


def embedded_names() -> list[str]:
    """Return the names of the bundles that this installation has, one a task."""
    folder = embedded_dir("")
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [name for name in found if any((folder / name / file).is_file() for file in (WEIGHTS_NAME, GRAPH_NAME))]


def whole_person_task() -> str:
    """Return the task that finds whole people where neither task nor model is named.

    The default one, or another whose weights come with seglab if that one's do not.
    """
    names = embedded_names()
    return next((task for task in WHOLE_PERSON_TASKS if task in names), WHOLE_PERSON_TASKS[0])


def embedded_weights(task_name: str) -> Path:
    """Return the bundle of a task that comes with seglab, for a network of the same task to start from.

    Raises:
        DataError: If there is none.
    """
    names = embedded_names()
    if task_name in names:
        return embedded_dir(task_name)
    others = f"; `--init {names[0]}` starts from those of `{names[0]}`" if names else ""
    raise DataError(f"no weights for task `{task_name}` come with seglab", f"leave `--init` out{others}")


def named_model(name: str) -> Path | None:
    """Return the path of weights by name: a task with an embedded bundle, or a checkpoint that was fetched.

    Returns:
        None if nothing is called so.

    Raises:
        DataError: If the name is known but its weights are not here; the hint is the command that brings them.
    """
    if name in embedded_names():
        return embedded_dir(name)
    _refuse_encoder(name)
    path = fetched_checkpoint(name)
    if path is not None:
        return path
    checkpoints = {each.name: each for each in _checkpoints()}
    checkpoint = checkpoints.get(name)
    if checkpoint is not None:
        raise DataError(
            f"checkpoint `{name}` is not here",
            f"`seglab fetch {name}` brings it ({checkpoint.licence}; commercial use: {checkpoint.commercial})",
        )
    if name in names():
        raise DataError(
            f"`{name}` is a network without weights",
            f"`seglab train --task TASK --data DIR --model {name}` trains it; `seglab models` lists trained ones",
        )
    if name in TASKS:
        fitting = [f"`seglab fetch {each.name}`" for each in checkpoints.values() if each.task == name and each.tried]
        others = f", {' or '.join(fitting[:3])} brings a published one" if fitting else ""
        hint = f"`seglab train --task {name} --data DIR` trains one{others}"
        raise DataError(f"no weights for task `{name}` come with seglab", hint)
    return None


def _refuse_encoder(name: str) -> None:
    found = load_registry().get(name)
    if found is not None and found.kind == "encoder":
        hint = f"`{_TRAIN_ENCODER.format(name.removeprefix(FETCHED))}` starts from them"
        raise DataError(f"`{name}` are weights of an encoder, not of a whole network", hint)


def near_names(name: str) -> list[str]:
    """Return the names of weights and networks that resemble one that does not exist, the nearest first."""
    known = [*embedded_names(), *(each.name for each in _checkpoints()), *names()]
    return difflib.get_close_matches(name, dict.fromkeys(known), n=3, cutoff=0.6)


def published(checkpoint: Row) -> Weights:
    """Return a row of the registry as weights: a checkpoint, or weights of an encoder."""
    path = fetched_checkpoint(checkpoint.name)
    use = f"seglab predict --model {checkpoint.name} PHOTOS"
    if checkpoint.kind == "encoder":
        use = _TRAIN_ENCODER.format(checkpoint.name.removeprefix(FETCHED))
    return Weights(
        name=checkpoint.name,
        kind="published",
        title=checkpoint.title,
        task=checkpoint.task,
        network=next((network for network, found in CHECKPOINTS.items() if checkpoint.name in found), ""),
        bytes=_size(path) if path is not None else checkpoint.bytes or None,
        licence=checkpoint.licence,
        commercial=checkpoint.commercial,
        terms=checkpoint.terms,
        source=", ".join(dict.fromkeys(source.place for source in checkpoint.tried)) or checkpoint.origin,
        path=None if path is None else str(path),
        command=f"seglab fetch {checkpoint.name}" if path is None else use,
    )


def _checkpoints() -> Iterable[Row]:
    return [each for each in load_registry().values() if each.kind == "checkpoint"]


def _embedded(name: str) -> Weights:
    folder = embedded_dir(name)
    config: BundleConfig = read_config(folder)
    licence = config.data.get("licence")
    commercial = row(config.model).commercial
    return Weights(
        name=name,
        kind="embedded",
        title=config.task.title,
        task=config.task.name,
        network=config.model,
        bytes=_size(folder),
        licence=licence if isinstance(licence, str) else "see its model card",
        commercial=str(config.data.get("commercial", "unclear")) if commercial else "no",
        terms=str(config.data.get("terms", "")),
        source="seglab",
        path=str(folder),
        command=f"seglab predict --task {config.task.name} PHOTOS",
    )


def _size(path: Path) -> int:
    """Return the bytes of a file, or of a folder's files."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
