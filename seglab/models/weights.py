"""Weights as tensors: in and out of files, and strictly into networks; BatchNorm folded away for inference."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from seglab.errors import DataError
from seglab.files import replacing

__all__ = ["fold_batch_norm", "load_strictly", "load_tensors", "refuse_nan", "save_tensors", "strip_prefixes"]

_NUM_NAMED: Final = 3
"""How many wrong tensors an error names."""
_FOLDING_TOLERANCE: Final = 1e-4
"""Largest change of the outputs, relative to their largest magnitude, with which folding is kept."""


def strip_prefixes(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under the names that the bare network gives them.

    ``module.`` is what DistributedDataParallel puts in front, ``_orig_mod.`` what torch.compile puts before any name.

    Raises:
        ValueError: If two tensors would get the same name.
    """
    stripped: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        bare = ".".join(part for part in name.split(".") if part != "_orig_mod")
        while bare.startswith("module."):
            bare = bare.removeprefix("module.")
        if bare in stripped:
            raise ValueError(f"two tensors are called `{bare}`")
        stripped[bare] = tensor
    return stripped


def save_tensors(path: Path, state_dict: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write weights as a safetensors file in one step, prefixes stripped.

    Args:
        path: The file, replaced if it is there.
        state_dict: From any device, in any memory layout; tensors that share memory are written twice.
        metadata: Texts for the header.

    Raises:
        DataError: If it cannot be written.
    """
    seen: set[int] = set()
    tensors = {}
    for name, tensor in strip_prefixes(state_dict).items():
        tensor = tensor.detach().to("cpu").contiguous()
        storage = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    with replacing(path) as temporary_path:
        try:
            temporary_path.touch()  # safetensors makes its files for their owner alone
            mode = temporary_path.stat().st_mode
            save_file(tensors, temporary_path, dict(metadata))
            temporary_path.chmod(mode)
        except SafetensorError as error:
            raise OSError(_plain(str(error))) from error


def _plain(message: str) -> str:
    """Return what the system said, without what the library says around it."""
    message = message.removeprefix("Error while serializing: ").removeprefix("I/O error: ")
    return message.partition(" (os error")[0]


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file and the texts of its header, read from one opened file.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}, dict(handle.metadata() or {})  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read `{path}`: {error}", "make it again, or copy it again from its source") from error


def load_strictly(network: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Copy weights into a network that has exactly these names and shapes; the network keeps its number types.

    Args:
        network: Changed in place, unless the weights do not fit.
        tensors: The weights.
        where: The file they came from, for the error.

    Raises:
        DataError: If any is missing, unexpected or of another shape, with the first few of each and their count.
    """
    expected = network.state_dict()
    shapes = {name: (tuple(tensors[name].shape), tuple(expected[name].shape)) for name in expected if name in tensors}
    problems = [
        _some("missing", [f"`{name}`" for name in expected if name not in tensors]),
        _some("unexpected", [f"`{name}`" for name in tensors if name not in expected]),
        _some("of another shape", [f"`{name}` {a}, not {b}" for name, (a, b) in shapes.items() if a != b]),
    ]
    if any(problems):
        raise DataError(
            f"the weights in `{where}` do not fit the network: " + "; ".join(filter(None, problems)),
            "it was saved with another network or by another version; train it again, or use that version",
        )
    network.load_state_dict(dict(tensors))


def refuse_nan(network: nn.Module, path: Path) -> None:
    """Refuse a network that can only answer NaN.

    Args:
        network: Its parameters and buffers are looked at.
        path: Where its weights are from, for the error.

    Raises:
        DataError: If a number of them is NaN or infinite; the first such tensor is named.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(
                f"`{path}` cannot be used: tensor `{name}` holds numbers that are NaN or infinite",
                "its training went wrong; take weights that were saved earlier",
            )


def fold_batch_norm(network: nn.Module) -> tuple[nn.Module, int]:
    """Return a copy of a network, in evaluation mode, whose BatchNorms are part of the convolutions before them.

    A picture is sent through the copy to see which BatchNorm takes the output of which convolution, and that nothing
    else takes it. If the folded copy does not answer it as before, the unfolded copy is returned.

    Args:
        network: Not touched; three channels in, any size.

    Returns:
        The copy, and how many BatchNorms were folded.
    """
    plain = copy.deepcopy(network).eval()
    weight = next(plain.parameters(), torch.zeros(0))
    generator = torch.Generator().manual_seed(0)
    image_BCHW = torch.randn((1, 3, 64, 64), generator=generator).to(weight.device, weight.dtype)
    watch = _Watch()
    with torch.no_grad(), watch:
        before = plain(image_BCHW)
    pairs = watch.pairs(plain, tree_leaves(before))
    if not pairs:
        return plain, 0
    folded = copy.deepcopy(plain)
    for convolution_name, norm_name in pairs:
        _fold(folded, convolution_name, norm_name)
    with torch.no_grad():
        after = folded(image_BCHW)
    same = all(_close(a, b) for a, b in zip(tree_leaves(before), tree_leaves(after), strict=True))
    return (folded, len(pairs)) if same else (plain, 0)


class _Watch(TorchFunctionMode):
    """Follow the tensors between convolutions and BatchNorms through one forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.num_uses: dict[int, int] = {}
        self.convolved: dict[int, int] = {}
        self.normalised: list[tuple[int, int]] = []
        self.alive: list[Any] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            self.alive.append((args, kwargs, result))  # An id must not be given to a second tensor.
            for leaf in tree_leaves((args, kwargs)):
                if isinstance(leaf, Tensor):
                    self.num_uses[id(leaf)] = self.num_uses.get(id(leaf), 0) + 1
            if function in (F.conv2d, F.conv_transpose2d):
                self.convolved[id(result)] = id(_argument(args, kwargs, 1, "weight"))
            elif function is F.batch_norm:
                source = _argument(args, kwargs, 0, "input")
                self.normalised.append((id(source), id(_argument(args, kwargs, 1, "running_mean"))))
        return result

    def pairs(self, network: nn.Module, outputs: list[Any]) -> list[tuple[str, str]]:
        """Return the names of (convolution, BatchNorm) that can become one."""
        for output in outputs:
            self.num_uses[id(output)] = self.num_uses.get(id(output), 0) + 1
        modules = list(network.named_modules())
        convolutions = {id(module.weight): name for name, module in modules if _is_convolution(module)}
        norms = {id(module.running_mean): name for name, module in modules if _is_norm(module)}
        pairs = []
        for source, mean in self.normalised:
            weight = self.convolved.get(source)
            if mean in norms and weight in convolutions and self.num_uses[source] == self.num_uses[weight] == 1:
                pairs.append((convolutions[weight], norms[mean]))
        once = [norm for _, norm in pairs]
        return [(convolution, norm) for convolution, norm in pairs if once.count(norm) == 1]


def _is_convolution(module: nn.Module) -> bool:
    return type(module) is nn.Conv2d or (type(module) is nn.ConvTranspose2d and module.groups == 1)


def _is_norm(module: nn.Module) -> bool:
    return type(module) in (nn.BatchNorm2d, nn.SyncBatchNorm) and module.running_mean is not None


def _fold(network: nn.Module, convolution_name: str, norm_name: str) -> None:
    convolution: Any = network.get_submodule(convolution_name)
    norm: Any = network.get_submodule(norm_name)
    convolution.weight, convolution.bias = nn.utils.fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias,
        transpose=isinstance(convolution, nn.ConvTranspose2d),
    )  # fmt: skip
    parent, _, name = norm_name.rpartition(".")
    setattr(network.get_submodule(parent), name, nn.Identity())


def _close(before: Tensor, after: Tensor) -> bool:
    largest = float(before.abs().max())
    return float((after - before).abs().max()) <= _FOLDING_TOLERANCE * max(largest, 1e-6)


def _argument(args: Any, kwargs: Any, position: int, name: str) -> Any:
    return args[position] if len(args) > position else kwargs.get(name)


def _some(kind: str, items: list[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - _NUM_NAMED} more" if len(items) > _NUM_NAMED else ""
    return f"{len(items)} {kind} ({', '.join(items[:_NUM_NAMED])}{more})"
