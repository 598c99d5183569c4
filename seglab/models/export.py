"""From a bundle's weights to its graph: ``model.onnx``, checked against the network before it is put in place.

The graph takes ``image`` (B, 3, H, W; normalised float32) and gives ``logits`` (B, K, H, W): the network's main output
only. Its metadata carry the bundle's whole configuration, so that the file is a model by itself.

Legend: B batch, C channels, K classes, H W pixels.
"""

import contextlib
import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from seglab.config import Preprocess
from seglab.device import Device, num_threads
from seglab.errors import DataError
from seglab.files import sync_dir, write_bytes
from seglab.models.bundle import GRAPH_NAME, METADATA_KEY, BundleConfig, load_network
from seglab.models.headers import MAX_GRAPH_BYTES
from seglab.models.session import INPUT_NAME, OUTPUT_NAME, open_session, runtime_errors
from seglab.models.weights import fold_batch_norm
from seglab.version import __version__

__all__ = ["OPSET", "Export", "export_graph", "export_onnx", "photo_like"]

OPSET: Final = 18
"""What torch's exporter itself speaks, and every ONNX Runtime since 1.14 understands."""
_TOLERANCE: Final = 1e-3
_RELATIVE_TOLERANCE: Final = 1e-4

Float32 = NDArray[np.float32]
Shape = tuple[int, int, int]
"""Batch, height, width."""


@dataclass(frozen=True)
class Export:
    """What came of an export."""

    path: Path
    """The graph."""
    difference: float
    """Largest difference of a logit from the network's; NaN if it was not verified."""
    dynamic: bool
    """Whether height and width are free; the batch always is."""
    reason: str
    """Why height and width are fixed; empty if they are free."""


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
    network, config = load_network(dir, Device("cpu", None, "for export"))
    folded = _ready(network)
    reasons: list[str] = []
    for dynamic in (True, False):
        try:
            graph = _convert(folded, config.preprocess.size_hw, dynamic)
            data = _finish(graph, config, dynamic)
            difference = _verify(data, network, config.preprocess, dynamic) if verify else math.nan
        except (torch.onnx.OnnxExporterError, _Unfaithful) as error:
            reasons.append(_first_line(error))
            continue
        write_bytes(dir / GRAPH_NAME, data)
        sync_dir(dir)
        return Export(dir / GRAPH_NAME, difference, dynamic, "; ".join(reasons))
    raise DataError(
        f"network `{config.model}` cannot be exported as a graph: {reasons[-1]}", "it runs with `--engine torch`"
    )


def photo_like(shape: Shape, seed: int = 0) -> NDArray[np.uint8]:
    """Return pixels_BHWC with the statistics of photos: soft gradients, hard outlines, little noise."""
    rng = np.random.default_rng(seed)
    num, height, width = shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / max(height, width)
    pixels_BHWC = np.empty((num, height, width, 3), np.float32)
    for picture in pixels_BHWC:
        picture[:] = rng.uniform(40, 215, 3)
        for _ in range(4):
            wave = np.sin(rng.uniform(2, 9) * x + rng.uniform(2, 9) * y + rng.uniform(0, 6))
            picture += wave[..., None] * rng.uniform(-30, 30, 3)
        for _ in range(4):
            centre_y, centre_x, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.05, 0.3)
            inside = (y - centre_y) ** 2 + (x - centre_x) ** 2 < radius**2
            picture[inside] = 0.4 * picture[inside] + 0.6 * rng.uniform(0, 255, 3)
        picture += rng.normal(0, 4, picture.shape)
    return pixels_BHWC.clip(0, 255).astype(np.uint8)


class _MainOutput(nn.Module):
    """The network without its side outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        main: Tensor = self.network(image)[0]
        return main


class _Unfaithful(Exception):
    """The graph does not compute what the network computes."""


def _ready(network: nn.Module) -> nn.Module:
    """Return a copy that computes the same and that the exporter is quick with."""
    folded = fold_batch_norm(network)[0]
    for module in folded.modules():
        if isinstance(getattr(module, "inplace", None), bool):
            module.inplace = False  # type: ignore[assignment]  # An in-place ReLU6 costs it a tenth of a second.
    return _MainOutput(folded).eval()


def _convert(network: nn.Module, size_hw: tuple[int, int], dynamic: bool) -> onnx.ModelProto:
    height, width = size_hw
    if dynamic and height == width:
        width += 32  # Equal sides could be taken for one and the same free size.
    free = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC} if dynamic else {0: Dim.DYNAMIC}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 3, height, width),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes=(free,),
            external_data=False,
            verbose=False,
        )
        assert program is not None
        graph: onnx.ModelProto = program.model_proto
    return graph


def _finish(graph: onnx.ModelProto, config: BundleConfig, dynamic: bool) -> bytes:
    """Name the sizes, replace the exporter's notes by the configuration, and return the file."""
    for item in (*graph.graph.node, *graph.graph.initializer, graph.graph, graph):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    for function in graph.functions:
        for node in function.node:
            node.ClearField("metadata_props")
    graph.graph.ClearField("value_info")
    names = ("batch", "", "height", "width")
    for value in (graph.graph.input[0], graph.graph.output[0]):
        value.ClearField("metadata_props")
        for name, dim in zip(names, value.type.tensor_type.shape.dim, strict=True):
            if name == "batch" or (name and dynamic):
                dim.dim_param = name
    graph.producer_name, graph.producer_version = "seglab", __version__
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(config.to_dict(), ensure_ascii=False, allow_nan=False)
    if graph.ByteSize() > MAX_GRAPH_BYTES:
        raise _Unfaithful("it is larger than 2 GiB")
    data: bytes = graph.SerializeToString()
    return data


def _verify(data: bytes, network: nn.Module, preprocess: Preprocess, dynamic: bool) -> float:
    failures: tuple[type[Exception], ...] = (DataError, *runtime_errors())
    try:
        session = open_session(Path(GRAPH_NAME), data, threads=num_threads())
        return max(_difference(session, network, preprocess, shape) for shape in _shapes(preprocess, dynamic))
    except failures as error:
        raise _Unfaithful(_first_line(error)) from error


def _shapes(preprocess: Preprocess, dynamic: bool) -> Sequence[Shape]:
    height, width = preprocess.size_hw
    if not dynamic:
        return ((1, height, width), (2, height, width))
    return ((1, height, width), (2, max(height // 2 | 1, 33), max(width // 3 | 1, 33)))


def _difference(session: Any, network: nn.Module, preprocess: Preprocess, shape: Shape) -> float:
    mean, std = np.array(preprocess.mean), np.array(preprocess.std)
    image_BCHW = ((photo_like(shape) / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2).copy()
    with torch.inference_mode():
        expected_BKHW: Float32 = network(torch.from_numpy(image_BCHW))[0].numpy()
    (logits_BKHW,) = session.run([OUTPUT_NAME], {INPUT_NAME: image_BCHW})
    if logits_BKHW.shape != expected_BKHW.shape:
        raise _Unfaithful(f"its output has shape {logits_BKHW.shape}, the network's {expected_BKHW.shape}")
    difference = float(np.abs(logits_BKHW - expected_BKHW).max())
    allowed = max(_TOLERANCE, _RELATIVE_TOLERANCE * float(np.abs(expected_BKHW).max()))
    if not difference <= allowed:
        raise _Unfaithful(f"its logits differ by {difference:.3g} from the network's, more than {allowed:.3g}")
    return difference


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


def _first_line(error: Exception) -> str:
    """Return what an error says, without its stack and its instructions to developers."""
    cause = error.__cause__ if isinstance(error, torch.onnx.OnnxExporterError) and error.__cause__ else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    if not lines:
        return type(cause).__name__
    return (" ".join(lines[:2]) if lines[0].endswith(":") else lines[0])[:200]
