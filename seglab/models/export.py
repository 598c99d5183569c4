"""From a bundle's weights to a graph: checked against the network before it is put in place.

The graph takes ``image`` (B, 3, H, W; normalised float32) and gives ``logits`` (B, K, H, W), the network's main output;
after it come the main ones of other meaning that the network has, e.g. ``edge`` (B, 1, H, W). Its metadata carry the
bundle's whole configuration, so that the file is a model by itself. In rembg's profile it gives ``alpha``
(1, 1, 320, 320) instead, see :class:`seglab.models.forms.RembgMask`.

Legend: B batch, C channels, K classes, H W pixels.
"""

import contextlib
import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from torch import nn
from torch.export import Dim

from seglab.data.scene import View
from seglab.device import Device, num_threads
from seglab.errors import DataError, UsageError, unknown
from seglab.files import lock, sweep, sync_dir, write_bytes
from seglab.models.bundle import (
    EXPORT_KEY,
    GRAPH_NAME,
    METADATA_KEY,
    PROFILES,
    WEIGHTS_NAME,
    BundleConfig,
    load_network,
)
from seglab.models.compact import save_compact, store_half
from seglab.models.forms import REMBG_SIZE_HW, HalfPrecision, MainOutput, NamedOutputs, RembgMask, output_names
from seglab.models.headers import MAX_GRAPH_BYTES
from seglab.models.session import INPUT_NAME, open_session, runtime_errors
from seglab.models.verification import Agreement, Shape, Unfaithful, compare, photo_like
from seglab.models.weights import fold_batch_norm, refuse_nan
from seglab.version import __version__

__all__ = [
    "OPSET",
    "Export",
    "ExportOptions",
    "export_bundle",
    "export_graph",
    "export_model",
    "export_onnx",
    "photo_like",
]

OPSET: Final = 18
"""What torch's exporter itself speaks, and every ONNX Runtime since 1.14 understands."""

_FREE: Final = ("batch", "height", "width")
_NAMES: Final = ("batch", "", "height", "width")
_NUM_SCENES: Final = 3
_MAX_SIDE: Final = 8192
"""In pixels; what drawn photos can have."""
_UNVERIFIED: Final = Agreement(math.nan, math.nan)


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What a graph shall be like.

    Raises:
        UsageError: If there is no such profile, or the profile does not allow the size.
    """

    profile: str = PROFILES[0]
    """One of :data:`seglab.models.bundle.PROFILES`: what goes in and what comes out."""
    size_hw: tuple[int, int] | None = None
    """A fixed height and width, for a batch of one; None leaves all three free."""
    must_be_free: bool = False
    """Fail if height and width cannot be free, instead of fixing them at the model's own."""
    half: bool = False
    """Compute in float16; inputs and outputs stay float32."""
    compact: bool = False
    """Compute in float32 with kernels that are stored in float16, where those of the bundle are: see
    :mod:`seglab.models.compact`."""

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise unknown("profile", self.profile, PROFILES)
        if self.profile == "rembg" and (self.must_be_free or self.size_hw not in (None, REMBG_SIZE_HW)):
            height, width = REMBG_SIZE_HW
            raise UsageError(f"rembg makes every photo {height}x{width}: the size is not free", "leave `--size` out")
        if self.size_hw is not None and not 1 <= min(self.size_hw) <= max(self.size_hw) <= _MAX_SIDE:
            raise UsageError(f"size `{self.size_hw[0]}x{self.size_hw[1]}` is outside 1..{_MAX_SIDE}")

    @property
    def suffix(self) -> str:
        """What tells the file's name from others of the same model; empty for the bundle's own graph."""
        size = "" if self.size_hw is None or self.profile == "rembg" else f"-{self.size_hw[0]}x{self.size_hw[1]}"
        return ("" if self.profile == PROFILES[0] else f"-{self.profile}") + size + ("-fp16" if self.half else "")


@dataclass(frozen=True)
class Export:
    """What came of an export."""

    path: Path
    """The graph."""
    difference: float
    """Largest difference of a logit (of the mask, in rembg's profile) from the network's; NaN if not verified."""
    equal: float
    """Share of pixels whose label is the network's, 0..1; NaN if not verified."""
    dynamic: bool
    """Whether height and width are free."""
    reason: str
    """Why height and width are fixed though that was not asked for; empty otherwise."""
    num_bytes: int
    """Size of the file."""


def export_onnx(dir: Path, *, verify: bool = True) -> float:
    """Write a bundle's graph and return its largest difference from the network (see :func:`export_graph`)."""
    return export_graph(dir, verify=verify).difference


def export_graph(dir: Path, *, verify: bool = True) -> Export:
    """Write ``model.onnx`` into a bundle, in one step.

    Batch, height and width are free. A network that cannot be exported so gets a graph of the model's own size.

    Args:
        dir: The bundle.
        verify: Compare the graph in ONNX Runtime with the network, at the model's size and at another size and batch.
            A graph that differs is not written.

    Raises:
        DataError: If the bundle cannot be loaded, or the network cannot be exported.
    """
    return export_model(dir, dir / GRAPH_NAME, ExportOptions(), verify=verify, force=True)


def export_bundle(
    path: Path, dir: Path, data: Mapping[str, Any], *, verify: bool = True, force: bool = False
) -> Export:
    """Write a bundle to ship: weights and graph of half the bytes, see :mod:`seglab.models.compact`.

    Args:
        path: A bundle or its weights.
        dir: The new bundle.
        data: Added to what its configuration says of the data: licence, terms.
        verify: Compare its graph with the network.
        force: Replace a bundle that is there.

    Raises:
        UsageError: If the folder holds a model already, or is the one that is exported.
        BusyError: If another process exports to it.
        DataError: If the model cannot be loaded or exported, or the bundle cannot be written.
    """
    if dir.exists() and dir.resolve() == (path if path.is_dir() else path.parent).resolve():
        raise UsageError(f"`{dir}` is the model itself", "name another folder")
    if not force and any((dir / name).exists() for name in (WEIGHTS_NAME, GRAPH_NAME)):
        raise UsageError(f"`{dir}` holds a model already", "`--force` replaces it")
    with _own_folder(dir):
        save_compact(path, dir, data)
        return export_model(dir, dir / GRAPH_NAME, ExportOptions(compact=True), verify=verify, force=True)


@contextlib.contextmanager
def _own_folder(dir: Path) -> Iterator[None]:
    """Be the only one who exports to a folder, and leave none behind that was made for nothing."""
    existed = dir.exists()
    try:
        dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make folder `{dir}`: {error.strerror or error}") from error
    lock_path = dir / ".seglab-export.lock"
    try:
        with lock(lock_path, f"`{dir}`"):
            try:
                yield
            finally:
                lock_path.unlink(missing_ok=True)
    except BaseException:
        if not existed:
            with contextlib.suppress(OSError):
                dir.rmdir()
        raise


def export_model(
    path: Path, out_path: Path, options: ExportOptions, *, verify: bool = True, force: bool = False
) -> Export:
    """Write a graph of a model, in one step.

    Args:
        path: A bundle or its weights.
        out_path: The graph.
        options: What it shall be like.
        verify: Compare it in ONNX Runtime with the network on drawn photos. A graph that differs is not written.
        force: Replace a file that is there.

    Raises:
        UsageError: If the file is there already, a folder, or not called ``.onnx``.
        DataError: If the model cannot be loaded, the network cannot be exported, or the file cannot be written.
    """
    if out_path.is_dir() or out_path.suffix.lower() != ".onnx":
        graph_path = out_path / GRAPH_NAME if out_path.is_dir() else out_path.with_name(f"{out_path.name}.onnx")
        what = "is a folder" if out_path.is_dir() else "does not end in `.onnx`, by which graphs are known"
        raise UsageError(f"`{out_path}` {what}", f"name the graph, say `{graph_path}`")
    if not force and out_path.exists():
        raise UsageError(f"`{out_path}` is there already", "`--force` replaces it")
    network, config = load_network(path, Device("cpu", None, "for export"))
    refuse_nan(network, path)
    if options.size_hw is not None and options.profile != "rembg":
        config = replace(config, preprocess=replace(config.preprocess, size_hw=options.size_hw))
    reasons: list[str] = []
    for free in _attempts(options):
        try:
            form = _form(fold_batch_norm(network)[0], config, options)
            names = ("alpha",) if options.profile == "rembg" else output_names(network)
            graph = _convert(form, _grid_hw(config, options), free, names)
            if options.compact:
                store_half(graph, network)
            data = _finish(graph, config, options, free)
            agreement = _verify(data, network, config, options, free) if verify else _UNVERIFIED
        except (torch.onnx.OnnxExporterError, Unfaithful) as error:
            reasons.append(_said(error))
            continue
        sweep([out_path])
        write_bytes(out_path, data)
        sync_dir(out_path.parent)
        return Export(
            out_path, agreement.difference, agreement.equal, "height" in free, "; ".join(reasons), len(data)
        )  # fmt: skip
    raise DataError(
        f"network `{config.model}` cannot be exported as a graph: {reasons[-1]}", "it runs with `--engine torch`"
    )


def _attempts(options: ExportOptions) -> Sequence[tuple[str, ...]]:
    """Return the sides to leave free, in the order of trying."""
    if options.size_hw is not None or options.profile == "rembg":
        return ((),)
    return (_FREE,) if options.must_be_free else (_FREE, _FREE[:1])


def _grid_hw(config: BundleConfig, options: ExportOptions) -> tuple[int, int]:
    """Return the height and width of the graph's input, where they are fixed."""
    return REMBG_SIZE_HW if options.profile == "rembg" else config.preprocess.size_hw


def _form(network: nn.Module, config: BundleConfig, options: ExportOptions) -> nn.Module:
    """Return the network with the inputs and outputs that were asked for, and that the exporter is quick with."""
    for module in network.modules():
        if isinstance(getattr(module, "inplace", None), bool):
            module.inplace = False  # type: ignore[assignment]  # An in-place ReLU6 costs it a tenth of a second.
    several = options.profile != "rembg" and len(output_names(network)) > 1
    form: nn.Module = NamedOutputs(network) if several else MainOutput(network)
    if options.half:
        form = HalfPrecision(form)
    if options.profile == "rembg":
        foreground = [config.task.index(name) for name in config.task.foreground]
        form = RembgMask(form, config.preprocess, foreground)
    return form.eval()


def _convert(
    form: nn.Module, size_hw: tuple[int, int], free: Sequence[str], output_names: Sequence[str]
) -> onnx.ModelProto:
    height, width = size_hw
    if "height" in free and height == width:
        width += 32  # Equal sides could be taken for one and the same free size.
    shape: Mapping[int, Any] = {position: Dim.DYNAMIC for position, name in enumerate(_NAMES) if name in free}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            form,
            (torch.zeros(2 if free else 1, 3, height, width),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=list(output_names),
            dynamic_shapes=(shape,) if free else None,
            external_data=False,
            verbose=False,
        )
        assert program is not None
        graph: onnx.ModelProto = program.model_proto
    return graph


def _finish(graph: onnx.ModelProto, config: BundleConfig, options: ExportOptions, free: Sequence[str]) -> bytes:
    """Name the sizes, replace the exporter's notes by the configuration, and return the file."""
    for item in (*graph.graph.node, *graph.graph.initializer, graph.graph, graph):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    for function in graph.functions:
        for node in function.node:
            node.ClearField("metadata_props")
    graph.graph.ClearField("value_info")
    for value in (graph.graph.input[0], *graph.graph.output):
        value.ClearField("metadata_props")
        for name, dim in zip(_NAMES, value.type.tensor_type.shape.dim, strict=True):
            if name in free:
                dim.dim_param = name
            elif not dim.dim_value:
                raise Unfaithful(f"its {name or 'number of channels'} is not fixed")
    graph.producer_name, graph.producer_version = "seglab", __version__
    note = {"profile": options.profile, "precision": "fp16" if options.half else "fp32", "free": list(free)}
    for key, values in ((METADATA_KEY, config.to_dict()), (EXPORT_KEY, note)):
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, json.dumps(values, ensure_ascii=False, allow_nan=False)
    if graph.ByteSize() > MAX_GRAPH_BYTES:
        raise Unfaithful("it is larger than 2 GiB")
    data: bytes = graph.SerializeToString()
    return data


def _verify(
    data: bytes, network: nn.Module, config: BundleConfig, options: ExportOptions, free: Sequence[str]
) -> Agreement:
    failures: tuple[type[Exception], ...] = (DataError, *runtime_errors())
    preprocess = config.preprocess
    if options.profile == "rembg":  # The session normalises as ImageNet is, whatever the model wants.
        preprocess = type(preprocess)(size_hw=REMBG_SIZE_HW)
    view: View = config.task.synth.view if config.task.synth else "figure"  # type: ignore[assignment]
    reference = _form(network, config, replace(options, half=False))
    try:
        session = open_session(Path(GRAPH_NAME), data, threads=num_threads())
        shapes = _shapes(_grid_hw(config, options), free)
        return compare(session, reference, preprocess, shapes, view=view, exact=not options.half)
    except failures as error:
        raise Unfaithful(_said(error)) from error


def _shapes(size_hw: tuple[int, int], free: Sequence[str]) -> Sequence[Shape]:
    height, width = size_hw
    if not free:
        return ((1, height, width),) * _NUM_SCENES
    if "height" not in free:
        return ((1, height, width), (2, height, width))
    return ((1, height, width), (2, max(height // 2 | 1, 33), max(width // 3 | 1, 33)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks off stdout and stderr."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _said(error: Exception) -> str:
    """Return what an error says, without its stack and its instructions to developers."""
    cause = error.__cause__ if isinstance(error, torch.onnx.OnnxExporterError) and error.__cause__ else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    if not lines:
        return type(cause).__name__
    return (" ".join(lines[:2]) if lines[0].endswith(":") else lines[0])[:200]
