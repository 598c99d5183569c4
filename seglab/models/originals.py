"""Checkpoints that others published: the table of them, and how one becomes a network or a bundle of ours.

A checkpoint is recognised by the names and shapes of its tensors, never by the name of its file; nothing in it is
executed (see :mod:`seglab.data.pickles`). Only building the network needs torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from seglab.device import Device
from seglab.errors import DataError, UsageError
from seglab.files import sha256_of
from seglab.models.bundle import METADATA_KEY, WEIGHTS_NAME, BundleConfig, save_bundle
from seglab.models.checkpoint import Checkpoint, open_checkpoint, read_tensors
from seglab.models.outlines import why_not_whole
from seglab.models.recognition import Architecture, recognise, why_unusable
from seglab.models.soundness import check_numbers
from seglab.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from seglab.tasks import TASKS, Task

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "ORIGINALS",
    "Original",
    "checkpoint_config",
    "describe_checkpoint",
    "import_checkpoint",
    "load_checkpoint",
    "read_tensors",
]

_NOT_WHOLE: Final = "it looks like the {original.title} of {original.repository}, but is not whole"
_HALF: Final = (0.5, 0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class Original:
    """A project that published a network, and how its own code uses it."""

    title: str
    """What it is, in a few words."""
    repository: str
    """On GitHub."""
    tasks: Mapping[int, str]
    """Number of classes to the task that weights of so many were published for."""
    size: int
    """Side of the pictures it was trained on."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    road: str
    """How its code brings photos in and masks out: a name of :data:`seglab.inference.fidelity.ROADS`."""
    batch_statistics: bool = False
    """Whether its code normalises by the statistics of the very photo, its network never being in evaluation mode."""
    note: str = ""
    """What the weights alone do not tell."""


ORIGINALS: Final[Mapping[str, Original]] = {
    "cloth-segmentation": Original(
        title="U²-Net for clothes", repository="levindabhi/cloth-segmentation", tasks={4: "clothes"}, size=768,
        mean=_HALF, std=_HALF, road="native",
    ),
    "u2net": Original(
        title="U²-Net with one output", repository="xuebinqin/U-2-Net", tasks={2: "person"}, size=320, road="saliency",
        note="it finds people if it is u2net_human_seg, else whatever is salient: its tensors are the same",
    ),
    "helen-unet": Original(
        title="U-Net for faces", repository="HimankSehgal/Semantic_Segmentation_With_U-Net", tasks={11: "face"},
        size=256, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), road="multiples", batch_statistics=True,
    ),
    "pix2pix": Original(
        title="Pix2Pix generator", repository="ivanrj7j/Pix2Pix-Image-Segmentation", tasks={2: "person"}, size=256,
        mean=_HALF, std=_HALF, road="tanh",
    ),
    "pgn-pytorch": Original(
        title="plain U-Net", repository="Tracked-ai/PGN_PyTorch", tasks={6: "parsing"}, size=256, road="bilinear",
    ),
    "unet-from-scratch": Original(
        title="plain U-Net of two classes", repository="Tracked-ai/PGN_PyTorch", tasks={2: "person"}, size=512,
        road="bilinear", note="its foreground is whatever it was trained on",
    ),
    "hierarchical-segmentation": Original(
        title="encoder-decoder of segmentation-models-pytorch", repository="PlaeryinBol/Heirarchical_segmentation",
        tasks={7: "body"}, size=512, road="nearest",
    ),
}  # fmt: skip
"""By family: see :class:`seglab.models.recognition.Architecture`."""


def checkpoint_config(path: Path, task: Task | None = None) -> BundleConfig:
    """Return what a published checkpoint would say of itself if it were a bundle. Imports no torch.

    Args:
        path: The file.
        task: What its classes are; by default what weights of this network and number of classes were published for.

    Raises:
        DataError: If the file is unusable, its network unknown, or the task not that of its classes.
    """
    checkpoint = open_checkpoint(path)
    return _config(checkpoint, _recognised(checkpoint), task)


def load_checkpoint(path: Path, device: Device) -> "tuple[nn.Module, BundleConfig]":
    """Return the network of a published checkpoint, in evaluation mode on a device, with its configuration.

    Raises:
        DataError: See :func:`checkpoint_config`; also if its tensors are not exactly those of the network.
    """
    checkpoint = open_checkpoint(path)
    architecture = _recognised(checkpoint)
    config = _config(checkpoint, architecture, None)
    network = _network(checkpoint, architecture)
    network.eval().to(device.torch())
    return network, config


def import_checkpoint(
    source_path: Path, out_dir: Path, *, task: Task | None = None, graph: bool = True, force: bool = False
) -> Path:
    """Turn a published checkpoint into a bundle.

    Args:
        source_path: The checkpoint.
        out_dir: The bundle's folder; made if it is not there.
        task: What its classes are; by default what such weights were published for.
        graph: Whether to export the network as a graph too, if it can be.
        force: Whether a model that is there may be replaced.

    Returns:
        The bundle's folder. It has no graph if the network cannot be exported.

    Raises:
        DataError: See :func:`load_checkpoint`.
        UsageError: If a model is there already, or the folder holds other things.
    """
    if out_dir.is_file():
        raise UsageError(f"`{out_dir}` is a file", "name a folder")
    if (out_dir / WEIGHTS_NAME).exists() and not force:
        raise UsageError(f"`{out_dir}` holds a model already", "`--force` replaces it, or name another folder")
    if not force and not (out_dir / WEIGHTS_NAME).exists() and out_dir.is_dir() and any(out_dir.iterdir()):
        hint = "name another folder; `--force` puts the model beside what is there"
        raise UsageError(f"`{out_dir}` is not empty, and holds no weights of a model", hint)
    checkpoint = open_checkpoint(source_path)
    architecture = _recognised(checkpoint)
    config = _config(checkpoint, architecture, task)
    save_bundle(out_dir, config, _network(checkpoint, architecture).state_dict())
    if graph:
        _export(out_dir)
    return out_dir


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """Return all that a checkpoint tells, as plain JSON values. Imports no torch.

    ``recognised`` is None for a network that is not known. ``reason`` says why it cannot be used, and ``hint`` what
    helps; both are empty if it can be. All its values are read for that.

    Raises:
        DataError: If it is no checkpoint, or an unusable one.
    """
    checkpoint = open_checkpoint(path)
    dtypes = sorted(set(checkpoint.dtypes.values()))
    described: dict[str, Any] = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "format": checkpoint.format,
        "contents": checkpoint.contents,
        "prefix": checkpoint.prefix,
        "num_tensors": len(checkpoint.shapes),
        "num_values": checkpoint.num_values,
        "num_params": sum(_size(shape) for name, shape in checkpoint.shapes.items() if not _is_statistic(name)),
        "dtypes": dtypes,
    }
    try:
        architecture = _recognised(checkpoint)
    except DataError as error:
        return {**described, "recognised": None, "reason": error.message, "hint": error.hint}
    reason, hint = _judgement(checkpoint, architecture)
    original = ORIGINALS[architecture.family]
    task = original.tasks.get(architecture.num_classes)
    return {
        **described,
        "reason": reason,
        "hint": hint,
        "recognised": architecture.family,
        "title": original.title,
        "repository": original.repository,
        "note": original.note,
        "model": architecture.model,
        "model_args": architecture.args,
        "input_channels": architecture.input_channels,
        "num_outputs": architecture.num_outputs,
        "task": task,
        "classes": None if task is None else list(TASKS[task].classes),
        "size": original.size,
    }


def _judgement(checkpoint: Checkpoint, architecture: Architecture) -> tuple[str, str]:
    """Say why a checkpoint cannot be used as it is, and what helps: what an import would say, told without torch."""
    original = ORIGINALS[architecture.family]
    why = why_not_whole(architecture, checkpoint.shapes)
    if why:
        return f"`{checkpoint.path}` cannot be used: {why}", _NOT_WHOLE.format(original=original)
    try:
        check_numbers(checkpoint)
        _task(checkpoint.path, architecture, None)
    except DataError as error:
        return error.message, error.hint
    return "", ""


def _recognised(checkpoint: Checkpoint) -> Architecture:
    if METADATA_KEY in checkpoint.metadata:
        raise DataError(f"`{checkpoint.path}` is a model of seglab itself", f"`--model {checkpoint.path}`")
    architecture = recognise(checkpoint.shapes)
    if architecture is not None:
        return architecture
    names = list(checkpoint.shapes)
    known = "; ".join(f"{original.title} ({original.repository})" for original in ORIGINALS.values())
    what = why_unusable(checkpoint.shapes)
    what = what and f"it is {what}"
    what = what or f"its {len(names)} tensors (`{names[0]}`...) are of no network that seglab knows"
    raise DataError(f"`{checkpoint.path}` cannot be used: {what}", f"known: {known}")


def _config(checkpoint: Checkpoint, architecture: Architecture, task: Task | None) -> BundleConfig:
    original = ORIGINALS[architecture.family]
    digest = sha256_of(checkpoint.path)
    return BundleConfig(
        task=_task(checkpoint.path, architecture, task),
        model=architecture.model,
        model_args=architecture.args,
        preprocess=Preprocess(size_hw=(original.size, original.size), mean=original.mean, std=original.std),
        data={"checkpoint": checkpoint.path.name, "sha256": digest, "repository": original.repository},
        published=architecture.family,
        save_id=digest[:32],
    )


def _task(path: Path, architecture: Architecture, task: Task | None) -> Task:
    original, num_classes = ORIGINALS[architecture.family], architecture.num_classes
    name = original.tasks.get(num_classes)
    if task is None and name is None:
        raise DataError(
            f"`{path}` is a {original.title} of {num_classes} classes, and nobody published one of so many",
            f"`seglab models import {path} DIR --task MY.toml` says what they are",
        )
    if task is None:
        return TASKS[str(name)]
    if task.num_classes != num_classes:
        published = f" ({name})" if name else ""
        raise DataError(
            f"`{path}` is made for {num_classes} classes{published}, but task `{task.name}` has {task.num_classes}",
            "leave `--task` out, or name a task of so many classes",
        )
    return task


def _network(checkpoint: Checkpoint, architecture: Architecture) -> "nn.Module":
    from seglab.models.translation import translate
    from seglab.models.weights import load_strictly
    from seglab.models.zoo import build

    tensors = translate(architecture, checkpoint.tensors())
    network = build(architecture.model, architecture.num_classes, **architecture.args)
    unused = _unused_prefixes(network)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(unused)}
    try:
        load_strictly(network, tensors, where=str(checkpoint.path))
    except DataError as error:
        original = ORIGINALS[architecture.family]
        raise DataError(error.message, _NOT_WHOLE.format(original=original)) from error
    check_numbers(checkpoint)
    return network


def _unused_prefixes(network: "nn.Module") -> tuple[str, ...]:
    """Return how the names of tensors begin that a network is published with and has no use for."""
    from seglab.models.encoder_decoder import PassThrough

    return tuple(f"{name}." for name, module in network.named_modules() if isinstance(module, PassThrough))


def _export(dir: Path) -> None:
    from seglab.models.export import export_onnx

    try:
        export_onnx(dir)
    except DataError:  # Then torch runs it, from its weights.
        return


def _is_statistic(name: str) -> bool:
    return name.endswith((".running_mean", ".running_var", ".num_batches_tracked"))


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size
