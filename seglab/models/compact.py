"""Bundles to ship: half the bytes for the same labels.

Matrices and kernels are stored in float16, everything is computed in float32. Weights and graph are rounded once and
together, so the engines agree as they do otherwise. What a channel is scaled by stays float32.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from seglab.device import Device
from seglab.models.bundle import load_network, save_bundle

__all__ = ["save_compact", "store_half"]

_CLOSE = 1e-6
"""Difference, relative to the largest weight, up to which a scaled kernel is the stored one."""


def save_compact(path: Path, dir: Path, data: Mapping[str, Any]) -> None:
    """Write a bundle with the weights of a model in half precision, without a graph.

    Args:
        path: A bundle or its weights.
        dir: The new bundle; what was there is replaced.
        data: Added to what the configuration says of the data: licence, terms.

    Raises:
        DataError: If the model cannot be loaded, or the bundle cannot be written.
    """
    network, config = load_network(path, Device("cpu", None, "for export"))
    tensors = {name: tensor.half() if _is_kernel(tensor) else tensor for name, tensor in network.state_dict().items()}
    training = _without_paths(config.training)
    save_bundle(dir, replace(config, data={**config.data, **data}, training=training), tensors)


def _without_paths(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a network was trained, without telling where the things were that it was trained from."""
    settings = training.get("config")
    if not isinstance(settings, Mapping):
        return dict(training)
    plain = {
        name: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for name, value in settings.items()
    }
    return {**training, "config": plain}


def store_half(graph: onnx.ModelProto, network: nn.Module) -> None:
    """Store the kernels of a graph in half precision, where the network's are numbers of float16.

    A kernel that the exporter has scaled, channel by channel, becomes the network's own times that scale.

    Args:
        graph: Of that network; changed.
        network: Whose weights it has.
    """
    stored = {name: tensor for name, tensor in network.state_dict().items() if _is_half(tensor)}
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    for tensor in graph.graph.initializer:
        parts = _parts(tensor, _own(tensor.name, stored))
        if parts is None:
            weights.append(tensor)
            continue
        half, scale = parts
        name = tensor.name
        weights += [numpy_helper.from_array(half, f"{name}/half"), numpy_helper.from_array(scale, f"{name}/scale")]
        nodes.append(helper.make_node("Cast", [f"{name}/half"], [f"{name}/float"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}/float", f"{name}/scale"], [name]))
    nodes += graph.graph.node
    for field, items in ((graph.graph.node, nodes), (graph.graph.initializer, weights)):
        copies = [type(item).FromString(item.SerializeToString()) for item in items]
        del field[:]
        field.extend(copies)


def _own(name: str, stored: Mapping[str, Tensor]) -> Tensor | None:
    """Return the network's tensor of a graph's, whose name may have what the wrapper is called before it."""
    while name not in stored and "." in name:
        name = name.split(".", 1)[1]
    return stored.get(name)


def _parts(tensor: onnx.TensorProto, own: Tensor | None) -> tuple[NDArray[np.float16], NDArray[np.float32]] | None:
    """Return a kernel in half precision and the scale of its output channels; None if it is no such product."""
    if own is None or tensor.data_type != TensorProto.FLOAT or tuple(tensor.dims) != tuple(own.shape):
        return None
    values = numpy_helper.to_array(tensor).astype(np.float64)
    kernel = own.double().numpy()
    axes = tuple(range(1, kernel.ndim))
    energy = (kernel**2).sum(axes, keepdims=True)
    scale = ((kernel * values).sum(axes, keepdims=True) / np.where(energy > 0, energy, 1)).astype(np.float32)
    if np.abs(scale * kernel - values).max() > _CLOSE * max(float(np.abs(values).max()), 1e-30):
        return None
    return kernel.astype(np.float16), scale


def _is_kernel(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.ndim >= 2


def _is_half(tensor: Tensor) -> bool:
    return _is_kernel(tensor) and bool(torch.equal(tensor.half().float(), tensor))
