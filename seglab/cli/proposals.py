"""What the shell proposes for the values of options and arguments: names that exist, depending on what stands before.

A proposer is a function of what is given on the line so far (values by parameter, and under ``words`` those that no
parameter took) and of the word as far as it is typed. It returns words, or pairs of a word and its explanation; those
that do not begin as typed are dropped later. Where nothing fits, the shell proposes files. Everything comes from the
tables of the code, without torch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, get_args

from seglab.errors import SeglabError
from seglab.notation import parse_json
from seglab.tasks import TASKS, Task, load_task

__all__ = ["PROPOSERS", "Given", "Proposal", "Proposer"]

Proposal: TypeAlias = str | tuple[str, str]
Given: TypeAlias = Mapping[str, Any]
Proposer: TypeAlias = Callable[[Given, str], Iterable[Proposal]]

_MOST_FILES: Final = 50
"""Files of a folder that are looked into."""
_MOST_BYTES: Final = 100_000
"""Of a file that is read to see whether it is a task."""


def _one_of(*words: str) -> Proposer:
    return lambda given, typed: words  # noqa: ARG005 - the signature of a proposer


def _tasks(given: Given, typed: str) -> Iterator[Proposal]:  # noqa: ARG001
    for task in TASKS.values():
        yield task.name, task.title
    for path in _near(typed, ".toml"):
        try:
            if path.stat().st_size < _MOST_BYTES:
                yield str(path), load_task(str(path)).title or "a task of your own"
        except (SeglabError, OSError):
            continue


def _classes(given: Given, typed: str) -> Iterator[Proposal]:
    """Classes and regions of the task on the line, or of all tasks, after those that were typed with commas."""
    before, comma, _ = typed.rpartition(",")
    named = set(before.split(","))
    task = _task(given)
    for known in TASKS.values() if task is None else (task,):
        for name in (*known.classes[1:], *known.regions):
            if name not in named:
                yield before + comma + name, f"{'region' if name in known.regions else 'class'} of {known.name}"


def _metrics(given: Given, typed: str) -> Iterable[Proposal]:  # noqa: ARG001
    """Metrics of the task on the line, or those that all tasks have."""
    from seglab.evaluation.metrics import metric_names

    task = _task(given)
    more = {name: bool(given.get(option)) for name, option in (("outlines", "boundary"), ("people", "instances"))}
    tables = [metric_names(known, **more) for known in (TASKS.values() if task is None else (task,))]
    return [name for name in tables[0] if all(name in table for table in tables)]


def _bars(given: Given, typed: str) -> Iterable[Proposal]:
    return [f"{name}=" for name in _metrics(given, typed)] if "=" not in typed else ()


def _settings(given: Given, typed: str) -> Iterator[Proposal]:  # noqa: ARG001
    from dataclasses import fields

    from seglab.config import LOSSES, Adversarial, TrainConfig
    from seglab.strengths import Strengths

    if "=" in typed:
        return
    yield from (f"{field.name}=" for field in fields(TrainConfig))
    yield from (f"losses.{name}=" for name in LOSSES)
    for table, of in (("augment", Strengths), ("adversarial", Adversarial)):
        yield from (f"{table}.{field.name}=" for field in fields(of))


def _recipes(given: Given, typed: str) -> Iterator[Proposal]:  # noqa: ARG001
    from seglab.training.recipe import describe_recipe, recipe_names

    yield from ((name, describe_recipe(name)) for name in recipe_names())
    yield from map(str, _near(typed, ".toml"))


def _networks(given: Given, typed: str) -> Iterator[Proposal]:  # noqa: ARG001
    from seglab.models.zoo import rows

    yield from ((row.name, row.description) for row in rows())


def _families(given: Given, typed: str) -> Iterator[Proposal]:  # noqa: ARG001
    from seglab.models.catalogue import families

    yield from (family.name for family in families())


def _models(given: Given, typed: str) -> Iterator[Proposal]:
    """Models that can be used at once: those of seglab, fetched ones, and those near."""
    from seglab.models.catalogue import embedded_names

    yield from ((name, "comes with seglab") for name in embedded_names())
    yield from _fetched(given, typed)
    yield from _bundles(given, typed)


def _beginnings(given: Given, typed: str) -> Iterator[Proposal]:
    from seglab.models.catalogue import EMBEDDED

    yield EMBEDDED, "the weights that come with seglab for the task"
    yield from _models(given, typed)


def _fetched(given: Given, typed: str) -> Iterator[Proposal]:  # noqa: ARG001
    from seglab.data.fetching.places import fetched_checkpoint
    from seglab.data.fetching.registry import load_registry

    for row in load_registry().values():
        if row.kind == "checkpoint" and fetched_checkpoint(row.name) is not None:
            yield row.name, row.title


def _bundles(given: Given, typed: str) -> Iterator[Proposal]:  # noqa: ARG001
    from seglab.models.bundle import CHECKPOINT_SUFFIXES, GRAPH_NAME, WEIGHTS_NAME

    for path in _near(typed, ".onnx", ".safetensors", *CHECKPOINT_SUFFIXES, beside=("runs",)):
        if path.is_file() or any((path / name).is_file() for name in (WEIGHTS_NAME, GRAPH_NAME)):
            yield str(path)


def _started(given: Given, typed: str) -> Iterator[Proposal]:  # noqa: ARG001
    """Runs that can be continued."""
    yield from (str(path) for path in _near(typed, beside=("runs",)) if (path / "last.pt").is_file())


def _known_models(given: Given, typed: str) -> Iterator[Proposal]:
    yield from _models(given, typed)
    yield from _networks(given, typed)


def _datasets(given: Given, typed: str) -> Iterator[Proposal]:  # noqa: ARG001
    for path in _near(typed, beside=("data", "prepared")):
        if (path / "dataset.json").is_file():
            yield str(path)


def _fetchable(given: Given, typed: str) -> Iterator[Proposal]:  # noqa: ARG001
    from seglab.data.fetching.registry import load_registry

    own = given.get("registry")
    yield from ((row.name, row.title) for row in load_registry(own and Path(own)).values())


def _sources(given: Given, typed: str) -> Iterable[Proposal]:  # noqa: ARG001
    from seglab.data.sources import SOURCES

    return SOURCES


def _protocols(given: Given, typed: str) -> Iterable[Proposal]:  # noqa: ARG001
    from seglab.evaluation.protocols import PROTOCOLS

    return PROTOCOLS


def _engines(given: Given, typed: str) -> Iterable[Proposal]:  # noqa: ARG001
    from seglab.engines import ENGINES

    return ENGINES


def _precisions(given: Given, typed: str) -> Iterable[Proposal]:  # noqa: ARG001
    from seglab.engines import PRECISIONS

    return PRECISIONS


def _manner(table: str) -> Proposer:
    def propose(given: Given, typed: str) -> Iterable[Proposal]:  # noqa: ARG001
        from seglab.inference import manner

        words: tuple[str, ...] = getattr(manner, table)
        return words

    return propose


def _choices(alias: str) -> Proposer:
    def propose(given: Given, typed: str) -> Iterable[Proposal]:  # noqa: ARG001
        from seglab import config

        return get_args(getattr(config, alias))

    return propose


def _presets(given: Given, typed: str) -> Iterable[Proposal]:  # noqa: ARG001
    from seglab.strengths import PRESETS

    return PRESETS


def _devices(given: Given, typed: str) -> Iterator[Proposal]:  # noqa: ARG001
    yield from ("auto", "cpu", "cuda", "mps")
    numbers = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    yield from (f"cuda:{number}" for number in sorted(numbers))


def _near(typed: str, *suffixes: str, beside: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield folders (if ``beside`` names folders to look in, too) and files of some suffixes that begin as typed.

    Names that a shell would take apart are left to the shell.
    """
    parent = Path(typed if typed.endswith("/") else Path(typed).parent)
    folders = [parent] if "/" in typed else [Path(), *map(Path, beside)]
    for folder in folders:
        try:
            children = sorted(folder.iterdir())
        except OSError:
            continue
        fitting = (
            child
            for child in children
            if str(child).startswith(typed) and not child.name.startswith(".") and len(str(child).split()) == 1
            if (child.suffix.lower() in suffixes and child.is_file()) or (beside and child.is_dir())
        )
        yield from (child for _, child in zip(range(_MOST_FILES), fitting, strict=False))


def _task(given: Given) -> Task | None:
    """Return the task that is on the line: by name, by the data, by evaluations or by the model."""
    for find in (_task_named, _task_of_data, _task_of_record, _task_of_model):
        try:
            found = find(given)
        except (SeglabError, OSError, ValueError, LookupError, TypeError):
            continue
        if found is not None:
            return found
    return None


def _task_named(given: Given) -> Task | None:
    return load_task(str(given["task"])) if given.get("task") else None


def _task_of_data(given: Given) -> Task | None:
    if not given.get("data"):
        return None
    path = Path(given["data"]) / "dataset.json"
    return Task.from_dict(parse_json(path.read_text(encoding="utf-8"))["task"], where=str(path))


def _task_of_record(given: Given) -> Task | None:
    path = next((word for word in given.get("words", ()) if word.endswith(".json") and Path(word).is_file()), None)
    if path is None:
        return None
    return Task.from_dict(parse_json(Path(path).read_text(encoding="utf-8"))["task_definition"], where=path)


def _task_of_model(given: Given) -> Task | None:
    from seglab.models.bundle import find_model, read_config

    named = (given.get("model"), *given.get("words", ())[:1])
    return read_config(find_model(next(filter(None, named)))).task if any(named) else None


PROPOSERS: Final[Mapping[str, Proposer]] = {
    "task": _tasks, "keep": _classes, "drop": _classes, "data": _datasets, "model": _models, "device": _devices,
    "engine": _engines, "precision": _precisions, "fidelity": _manner("FIDELITIES"), "bn": _manner("NORMALISATIONS"),
    "tta": _manner("VIEWS"), "split": _one_of("train", "val", "test"), "tile": _one_of("auto"), "metric": _metrics,
    "fetch.name": _fetchable, "prepare.source": _sources, "prepare.rules": _one_of("documented", "original"),
    "synth.layout": _one_of("prepared", "original"), "inspect.data": _datasets, "train.run": _started,
    "train.recipe": _recipes, "train.model": _networks, "train.init": _beginnings,
    "train.encoder_weights": _one_of("auto", "none"), "train.batch_size": _one_of("auto"),
    "train.optimizer": _choices("Optimizer"), "train.schedule": _choices("Schedule"),
    "train.layout": _choices("Layout"), "train.class_weights": _one_of("auto", "none"), "train.augment": _presets,
    "train.set": _settings, "train.cache": _one_of("auto", "ram", "disk", "none"),
    "train.logger": _one_of("tensorboard", "wandb"), "evaluate.at": _one_of("photo", "model"),
    "evaluate.protocol": _protocols, "evaluate.fail_under": _bars,
    "predict.formats": _one_of(
        "palette", "ids", "overlay", "split", "probs", "instances", "people", "coco", "coco-polygons", "rle"
    ),
    "cutout.format": _one_of("png", "webp", "jpg"), "cutout.png": _one_of("fast", "small"),
    "cutout.edge": _one_of("soft", "hard", "feather:4"),
    "cutout.background": _one_of("transparent", "white", "black", "blur:20"), "export.model": _models,
    "export.format": _one_of("onnx", "bundle"), "export.size": _one_of("dynamic"),
    "export.profile": _one_of("seglab", "rembg"), "promote.run": _bundles,
    "promote.baseline": _models, "models.family": _families, "models.model": _known_models,
    "models.file": _fetched,
}  # fmt: skip
"""Proposers by parameter, ``COMMAND.parameter`` before ``parameter``. What is not here is a file, folder or number."""
