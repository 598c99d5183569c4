"""All that is known of one model: a network of the zoo, a bundle or run, a graph, or a checkpoint by others.

Nothing here imports torch, and nothing in a checkpoint is executed.
"""

import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from seglab.data.fetching.registry import load_registry
from seglab.errors import DataError, UsageError
from seglab.models.bundle import (
    CHECKPOINT_SUFFIXES,
    GRAPH_NAME,
    METADATA_KEY,
    WEIGHTS_NAME,
    BundleConfig,
    find_model,
    parse_config,
    parse_export,
    read_config,
)  # fmt: skip
from seglab.models.catalogue import Weights, embedded_names, published
from seglab.models.graphs import GraphForm, graph_form
from seglab.models.headers import graph_metadata, read_graph, read_safetensors_metadata, safetensors_tensors
from seglab.models.zoo import ZooRow, row

__all__ = ["Description", "describe"]

Kind = Literal["network", "bundle", "run", "graph", "checkpoint"]
_FLOATS: Final = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
_RUN_FILE: Final = "train.json"


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is known; what does not apply is None or empty."""

    name: str
    """What was asked for."""
    kind: Kind
    path: Path | None = None
    config: BundleConfig | None = None
    """What the weights were trained for."""
    network: ZooRow | None = None
    """The row of the zoo."""
    tensors: dict[str, Any] | None = None
    """Of the weights, without counters: how many, of how many numbers, of which kinds, the most frequent first."""
    form: GraphForm | None = None
    """The outside of the graph."""
    export: dict[str, Any] | None = None
    """What the graph was exported for."""
    graph_belongs: bool | None = None
    """Whether the bundle's graph is of the bundle's weights; None without both."""
    problem: str = ""
    """Why the graph cannot be used."""
    checkpoint: dict[str, Any] | None = None
    """What was recognised in a checkpoint by others."""
    weights: Weights | None = None
    """The row of published weights of that name."""
    published: tuple[Weights, ...] = ()
    """Weights that others published for a network, or for its encoder."""
    files: dict[str, int] | None = None
    """Files and their sizes in bytes."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "name": self.name,
            "kind": self.kind,
            "path": None if self.path is None else str(self.path),
            "config": None if self.config is None else self.config.to_dict(),
            "network": None if self.network is None else asdict(self.network),
            "tensors": self.tensors,
            "graph": None if self.form is None else self.form.to_dict() | {"export": self.export},
            "graph_belongs": self.graph_belongs,
            "problem": self.problem,
            "checkpoint": self.checkpoint,
            "weights": None if self.weights is None else self.weights.to_dict(),
            "published": [each.to_dict() for each in self.published],
            "files": self.files,
        }


def describe(name_or_path: str) -> Description:
    """Return all that is known of a model.

    Args:
        name_or_path: A bundle folder or run, ``.safetensors``, ``.onnx`` or a checkpoint by others; an embedded task, a
            name of the registry or of the zoo.

    Raises:
        DataError: If there is no such model, or it is damaged.
    """
    path = Path(name_or_path)
    if not (name_or_path and path.exists()):
        known = _of_name(name_or_path)
        if known is not None:
            return known
    return _of_path(name_or_path, find_model(name_or_path))


def _of_name(name: str) -> Description | None:
    """Describe what has a name but no weights here, and published weights that are here."""
    if name in embedded_names():
        return None
    registry = load_registry()
    found = registry.get(name)
    there = published(found) if found is not None and found.kind != "dataset" else None
    network = _row(name)
    if there is not None and there.path is not None:
        opened = _of_path(name, Path(there.path))
        return replace(opened, weights=there, network=opened.network or network)
    if there is None and network is None:
        return None
    fitting = tuple(published(registry[each]) for each in network.weights if each in registry) if network else ()
    kind: Kind = "network" if network else "checkpoint"
    return Description(name=name, kind=kind, network=network, weights=there, published=fitting)


def _of_path(name: str, path: Path) -> Description:
    if path.is_dir():
        return _of_folder(name, path)
    files = {path.name: path.stat().st_size}
    if path.suffix.lower() == ".onnx":
        graph = _graph(path)
        config = graph.config
        return Description(
            name=name, kind="graph", path=path, config=config, network=None if config is None else _row(config.model),
            form=graph.form, export=graph.export, problem=graph.problem, files=files,
        )  # fmt: skip
    if path.suffix.lower() in CHECKPOINT_SUFFIXES or METADATA_KEY not in read_safetensors_metadata(path):
        return _of_checkpoint(name, path, files)
    config = read_config(path)
    return Description(
        name=name, kind="bundle", path=path, config=config, network=_row(config.model), tensors=_tensors(path),
        files=files,
    )  # fmt: skip


def _of_checkpoint(name: str, path: Path, files: dict[str, int]) -> Description:
    from seglab.models.originals import describe_checkpoint

    found = Description(name=name, kind="checkpoint", path=path, checkpoint=describe_checkpoint(path), files=files)
    try:
        config = read_config(path)
    except DataError:  # Of an unknown network; what was found in it says why.
        return found
    return replace(found, config=config, network=_row(config.model))


def _of_folder(name: str, folder: Path) -> Description:
    weights_path, graph_path = folder / WEIGHTS_NAME, folder / GRAPH_NAME
    has_weights = weights_path.is_file()
    graph = _graph_beside(graph_path)
    config = read_config(folder)
    belongs = None
    if has_weights and graph is not None:
        belongs = graph.config is not None and graph.config.save_id == config.save_id
    return Description(
        name=name, kind="run" if (folder / _RUN_FILE).is_file() else "bundle", path=folder, config=config,
        network=_row(config.model), tensors=_tensors(weights_path) if has_weights else None,
        form=graph.form if graph else None, export=graph.export if graph else None,
        problem=graph.problem if graph else "", graph_belongs=belongs, files=_files(folder),
    )  # fmt: skip


@dataclass(frozen=True)
class _Graph:
    config: BundleConfig | None
    form: GraphForm | None
    export: dict[str, Any] | None
    problem: str


def _graph_beside(path: Path) -> _Graph | None:
    """Describe the graph of a bundle; a broken one is no reason to say nothing of the bundle."""
    if not path.is_file():
        return None
    try:
        return _graph(path)
    except DataError as error:
        return _Graph(None, None, None, error.message)


def _graph(path: Path) -> _Graph:
    data = read_graph(path)
    metadata, form = graph_metadata(path, data), graph_form(path, data)
    if METADATA_KEY not in metadata:
        return _Graph(None, form, None, "it was not made by seglab: it does not say what it segments")
    export = parse_export(path, metadata)
    try:
        parse_config(path, metadata)
        problem = ""
    except DataError as error:
        problem = error.message
    if form.num_outside:
        problem = f"it keeps {form.num_outside} tensors in other files: seglab loads no such graph"
    return _Graph(parse_config(path, metadata, any_profile=True), form, export, problem)


def _row(model: str) -> ZooRow | None:
    try:
        return row(model)
    except UsageError:
        return None


def _tensors(path: Path) -> dict[str, Any]:
    """Return how many tensors of floats a safetensors file has, of how many numbers, of which kinds."""
    kinds: Counter[str] = Counter()
    num = 0
    for kind, shape in safetensors_tensors(path).values():
        if kind in _FLOATS:
            kinds[_FLOATS[kind]] += math.prod(shape)
            num += 1
    return {"tensors": num, "numbers": sum(kinds.values()), "kinds": [kind for kind, _ in kinds.most_common()]}


def _files(folder: Path) -> dict[str, int]:
    """Return the files in a folder, and its folders as sums, with their sizes in bytes."""
    found = {}
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):
            inside = [path] if path.is_file() else [child for child in path.rglob("*") if child.is_file()]
            found[path.name + ("/" if path.is_dir() else "")] = sum(child.stat().st_size for child in inside)
    return found
