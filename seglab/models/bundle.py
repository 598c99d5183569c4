"""The model bundle: a folder that holds weights and all that is needed to use them rightly.

::

    model.safetensors   the weights; its header carries the whole configuration and is the truth
    model.onnx          the same network as a graph, when exported; carries the configuration too
    config.json         the configuration again, to be read by people

One rename of ``model.safetensors`` makes a save complete, so a kill at any moment leaves the old bundle or the new one.
Every save draws a new ``save_id``; a graph whose id differs is stale, and never used. Reading needs no torch.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from seglab.device import Device
from seglab.errors import DataError, UsageError, first_line
from seglab.files import sweep, sync_dir, write_json
from seglab.models.headers import graph_metadata, read_graph, read_safetensors_metadata, refuse_pipe
from seglab.notation import parse_json, read_given
from seglab.preprocess import Preprocess
from seglab.tasks import Task
from seglab.version import __version__

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "CHECKPOINT_SUFFIXES",
    "CONFIG_NAME",
    "EXPORT_KEY",
    "FORMAT",
    "GRAPH_NAME",
    "HOW_TO_MAKE_ONE",
    "METADATA_KEY",
    "PROFILES",
    "WEIGHTS_NAME",
    "BundleConfig",
    "find_model",
    "installed_versions",
    "load_network",
    "load_weights",
    "parse_config",
    "parse_export",
    "read_config",
    "save_bundle",
]

FORMAT: Final = 1
"""Number of the configuration's format; rises when an older seglab could not read it rightly."""
UPGRADES: Final[Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {}
"""Format n to the function that turns its values into those of format n + 1."""

WEIGHTS_NAME: Final = "model.safetensors"
GRAPH_NAME: Final = "model.onnx"
CONFIG_NAME: Final = "config.json"
METADATA_KEY: Final = "seglab"
"""Key of the configuration among the texts of a safetensors or ONNX file."""
EXPORT_KEY: Final = "seglab.export"
"""Key of what kind of graph it is, among the texts of an ONNX file."""
PROFILES: Final = ("seglab", "rembg")
"""Whom a graph is made for: our own engines, which take logits, or rembg, which takes a mask."""

CHECKPOINT_SUFFIXES: Final = (".pth", ".pt", ".pkl", ".ckpt", ".bin", ".tar")
"""Of the files in which others publish weights."""

HOW_TO_MAKE_ONE: Final = "`seglab train --task TASK --data DIR` makes a model"
_TEXTS: Final = frozenset({"model", "save_id", "published"})
"""Fields of a configuration that are texts; the others are tables."""
_VERSIONED: Final = ("torch", "torchvision", "segmentation-models-pytorch", "onnxruntime", "numpy")


def installed_versions() -> dict[str, str]:
    """Return the versions of Python, seglab and the libraries that decide what a network computes; imports none."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    versions = {"seglab": __version__, "python": platform.python_version()}
    for name in _VERSIONED:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


@dataclass(frozen=True, kw_only=True)
class BundleConfig:
    """Everything about a model but its weights."""

    task: Task
    """The whole label space, as it was when the weights were trained."""
    model: str
    """A name of the zoo."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """What the network was built with, apart from the number of classes."""
    preprocess: Preprocess
    """How a photo becomes the network's input."""
    data: dict[str, Any] = field(default_factory=dict)
    """What it was trained on: source, digest, counts."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Scores by split."""
    training: dict[str, Any] = field(default_factory=dict)
    """The training configuration and how far it went."""
    published: str = ""
    """Whose checkpoint the weights are from (see :data:`seglab.models.originals.ORIGINALS`); empty for our own."""
    versions: dict[str, str] = field(default_factory=installed_versions)
    """Versions of the software that made the weights."""
    save_id: str = ""
    """Ties a graph to its weights; drawn by :func:`save_bundle`."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values with the format number; :meth:`from_dict` is the inverse."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        if not self.published:
            del values["published"]  # Older versions know no such field.
        return {"format": FORMAT, **values, "task": self.task.to_dict(), "preprocess": self.preprocess.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "configuration") -> "BundleConfig":
        """Build from plain JSON values, upgrading those of an older format.

        Args:
            values: What :meth:`to_dict` of this or an older seglab returned.
            where: The file that they came from, for the error.

        Raises:
            DataError: If the format is newer than this seglab, or a field is missing, unknown or wrong.
        """
        values = _upgraded(values, where)
        known = {item.name: item.type for item in fields(cls)}
        problems = [f"unknown field `{name}`" for name in sorted(set(values) - set(known))]
        problems += [f"missing field `{name}`" for name in known if name not in values and name != "published"]
        texts = [name for name in sorted(_TEXTS) if not isinstance(values.get(name, ""), str)]
        tables = [name for name in set(known) - _TEXTS if not isinstance(values.get(name, {}), Mapping)]
        problems += [f"`{name}` is of a wrong type" for name in (*texts, *sorted(tables))]
        if problems:
            raise DataError(f"`{where}` does not describe a model: " + "; ".join(problems))
        task = Task.from_dict(values["task"], where=where)
        return cls(**{**values, "task": task, "preprocess": Preprocess.from_dict(values["preprocess"])})


def read_config(path: Path) -> BundleConfig:
    """Return the configuration of a bundle folder, a ``.safetensors`` or ``.onnx`` file, or a published checkpoint.

    Raises:
        DataError: If it is missing, damaged, from a newer seglab, or neither made by seglab nor known to it.
    """
    source = _source(path)
    if _is_published(source):
        from seglab.models.originals import checkpoint_config

        return checkpoint_config(source)
    if source.suffix.lower() == ".onnx":
        return parse_config(source, graph_metadata(source, read_graph(source)))
    metadata = read_safetensors_metadata(source)
    config = parse_config(source, metadata)
    if path.is_dir():
        _check_copy(path / CONFIG_NAME, parse_json(metadata[METADATA_KEY]))
    return config


def _check_copy(path: Path, truth: Any) -> None:
    """Refuse a copy of the configuration that says something else than the weights: nobody knows what was meant."""
    try:
        values = parse_json(read_given(path))
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        values = None
    if isinstance(values, dict) and isinstance(values.get("format"), int) and values["format"] > FORMAT:
        BundleConfig.from_dict(values, where=str(path))  # says that it is of a newer seglab
    if values != truth:
        raise DataError(
            f"`{path}` is not the configuration of the weights beside it: it was edited or damaged",
            f"delete it: `{WEIGHTS_NAME}` carries its own; other settings take another training or import",
        )


def parse_config(path: Path, metadata: Mapping[str, str], *, any_profile: bool = False) -> BundleConfig:
    """Return the configuration among the texts of a safetensors or ONNX file.

    Args:
        path: The file they came from, for the error.
        metadata: The texts.
        any_profile: Accept graphs that are made for other programs.

    Raises:
        DataError: If it is not there, damaged, from a newer seglab, or the graph is made for another program.
    """
    config = BundleConfig.from_dict(_json(path, metadata, METADATA_KEY), where=str(path))
    profile = parse_export(path, metadata).get("profile", PROFILES[0])
    if profile != PROFILES[0] and not any_profile:
        raise DataError(
            f"`{path}` is made for {profile}: it gives a mask, seglab takes logits",
            f"`seglab export` without `--profile {profile}` writes a graph for seglab",
        )
    return config


def parse_export(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return what kind of graph an ONNX file is: ``profile``, ``precision`` and which sides are ``free``.

    Args:
        path: The file, for the error.
        metadata: Its texts.

    Returns:
        Nothing for a file that does not say so: an older graph, or weights.

    Raises:
        DataError: If it is damaged.
    """
    if EXPORT_KEY not in metadata:
        return {}
    values = _json(path, metadata, EXPORT_KEY)
    if not isinstance(values, dict):
        raise DataError(f"`{path}` is damaged: it does not say what kind of graph it is")
    return values


def _json(path: Path, metadata: Mapping[str, str], key: str) -> Any:
    if key not in metadata:
        raise DataError(f"`{path}` was not made by seglab: it does not say what it segments", HOW_TO_MAKE_ONE)
    try:
        return parse_json(metadata[key], finite=True)
    except ValueError as error:
        raise DataError(f"`{path}` is damaged: its configuration is not JSON: {first_line(error)}") from error


def save_bundle(dir: Path, config: BundleConfig, state_dict: "Mapping[str, Tensor]") -> BundleConfig:
    """Write weights and configuration as a bundle; what was there is replaced, its graph removed.

    Args:
        dir: The folder; made if it is not there.
        config: What the weights are; its ``save_id`` is ignored.
        state_dict: The network's, on any device; prefixes that wrappers put before its names are stripped.

    Returns:
        The configuration as written, with its new ``save_id``.

    Raises:
        DataError: If it cannot be written.
        ValueError: If the configuration has values that JSON has not.
    """
    from seglab.models.weights import save_tensors

    config = replace(config, save_id=uuid.uuid4().hex)
    values = config.to_dict()
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    try:
        dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make folder `{dir}`: {error.strerror or error}") from error
    sweep(dir / name for name in (WEIGHTS_NAME, CONFIG_NAME))
    # The copy goes first, so that a kill leaves none rather than one of other weights.
    (dir / CONFIG_NAME).unlink(missing_ok=True)
    save_tensors(dir / WEIGHTS_NAME, state_dict, {"format": "pt", METADATA_KEY: text})
    sync_dir(dir)
    (dir / GRAPH_NAME).unlink(missing_ok=True)
    write_json(dir / CONFIG_NAME, values)
    return config


def load_weights(path: Path) -> "dict[str, Tensor]":
    """Return the weights of a bundle folder or ``.safetensors`` file by name, on the CPU, as they are stored.

    Raises:
        DataError: If there are none, or they are damaged.
    """
    return _read_bundle(path)[0]


def load_network(path: Path, device: Device) -> "tuple[nn.Module, BundleConfig]":
    """Return the network of a bundle or published checkpoint, in evaluation mode on a device, with its configuration.

    Weights stored in half precision become float32.

    Raises:
        DataError: If the bundle is missing or damaged, its network cannot be built, or its tensors are not exactly
            those of the network.
    """
    if _is_published(path):
        from seglab.models.originals import load_checkpoint

        return load_checkpoint(path, device)
    from seglab.models.weights import load_strictly
    from seglab.models.zoo import build

    tensors, config = _read_bundle(path)
    try:
        network = build(config.model, config.task.num_classes, **config.model_args)
    except (UsageError, TypeError) as error:
        hint = f"it was saved by seglab {config.versions.get('seglab', '?')}, this is {__version__}"
        raise DataError(f"cannot build the network `{config.model}` of `{path}`: {error}", hint) from error
    load_strictly(network, tensors, where=str(path))
    network.eval().to(device.torch())
    return network, config


def find_model(name_or_path: str) -> Path:
    """Return the path of what ``--model`` names: a bundle folder (so also a training run), a graph or weights.

    Args:
        name_or_path: A path; or a task whose bundle comes with seglab, or a checkpoint that was fetched. What is there
            under that path comes first.

    Raises:
        DataError: If there is none; the hint names what is near, or the command that brings or makes one.
    """
    from seglab.models.catalogue import named_model
    from seglab.models.nearby import bundles_in, hint_at, near_hint

    path = Path(name_or_path)
    if name_or_path and path.is_dir():
        for name in (WEIGHTS_NAME, GRAPH_NAME):
            refuse_pipe(path / name)
        if not any((path / name).is_file() for name in (WEIGHTS_NAME, GRAPH_NAME)):
            raise DataError(f"folder `{path}` holds no model", hint_at(bundles_in(path)))
        return path
    if name_or_path and path.is_file():
        if path.suffix.lower() not in (".onnx", ".safetensors", *CHECKPOINT_SUFFIXES):
            raise DataError(
                f"`{path}` is not a model that seglab reads: a bundle folder, .onnx, .safetensors and .pth are",
                HOW_TO_MAKE_ONE,
            )
        return path.parent if path.name == WEIGHTS_NAME else path
    if name_or_path:
        refuse_pipe(path)
    named = named_model(name_or_path)
    if named is not None:
        return named
    raise DataError(f"there is no model `{name_or_path}`", near_hint(name_or_path))


def _source(path: Path) -> Path:
    """Return the file that is the truth about a model."""
    if not path.is_dir():
        return path
    weights_path, graph_path = path / WEIGHTS_NAME, path / GRAPH_NAME
    if weights_path.exists() or not graph_path.exists():
        return weights_path
    return graph_path


def _is_published(path: Path) -> bool:
    """Tell whether a file is to be read as a checkpoint that others published."""
    if path.is_dir() or not path.exists():
        return False
    if path.suffix.lower() != ".safetensors":
        return path.suffix.lower() in CHECKPOINT_SUFFIXES
    if METADATA_KEY in read_safetensors_metadata(path):
        return False
    from seglab.models.checkpoint import open_checkpoint
    from seglab.models.recognition import recognise

    return recognise(open_checkpoint(path).shapes) is not None


def _read_bundle(path: Path) -> "tuple[dict[str, Tensor], BundleConfig]":
    """Return tensors and configuration of one and the same save, even if another replaces it meanwhile."""
    from seglab.models.weights import load_tensors

    source = path / WEIGHTS_NAME if path.is_dir() else path
    if source.suffix.lower() == ".onnx":
        raise DataError(f"`{source}` is a graph, not weights", "pass the bundle folder that it was exported from")
    read_safetensors_metadata(source)
    tensors, metadata = load_tensors(source)
    return tensors, parse_config(source, metadata)


def _upgraded(values: Any, where: str) -> dict[str, Any]:
    number = values.get("format") if isinstance(values, Mapping) else None
    if type(number) is not int:
        raise DataError(f"`{where}` does not describe a model: it has no format number")
    if number > FORMAT:
        made_by = values.get("versions", {})
        made_by = made_by.get("seglab", "") if isinstance(made_by, Mapping) else ""
        raise DataError(
            f"`{where}` has format {number}, newer than {FORMAT}, the newest that seglab {__version__} reads",
            "pip install --upgrade seglab" + (f" (it was saved by {made_by})" if made_by else ""),
        )
    values = {name: value for name, value in values.items() if name != "format"}
    for step in range(number, FORMAT):
        if step not in UPGRADES:
            raise DataError(f"`{where}` has format {number}, which no seglab has written")
        values = UPGRADES[step](values)
    return dict(values)
