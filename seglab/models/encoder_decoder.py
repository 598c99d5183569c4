"""The encoder-decoders of segmentation-models-pytorch (smp), under seglab's forward contract.

Never with pretrained encoder weights: nothing is downloaded here.

Legend: B batch, C channels, K classes, H W pixels.
"""

import importlib
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.errors import DeviceError, SeglabError, UsageError, first_line, unknown
from seglab.models.segmenter import Segmenter

__all__ = ["EncoderDecoder", "bare_encoder", "import_smp"]

_DECIDED_HERE: Final = frozenset(
    {"self", "encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params", "kwargs"}
)
"""Constructor arguments of smp that the contract fixes: RGB in, logits out, no second head, no download."""
_PROBE_HW: Final = (256, 256)


def import_smp(load: Callable[[str], ModuleType] = importlib.import_module) -> ModuleType:
    """Import segmentation_models_pytorch, or say in one line why it cannot be.

    Args:
        load: What imports a module by name.

    Raises:
        DeviceError: If it or torchvision is missing, or torchvision was built for another torch.
    """
    try:
        return load("segmentation_models_pytorch")
    except ImportError as error:
        raise DeviceError(
            f"cannot import segmentation_models_pytorch: {first_line(error)}",
            "pip install --upgrade segmentation-models-pytorch torchvision",
        ) from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        raise DeviceError(
            f"torch {torch.__version__} and the installed torchvision do not fit together: {first_line(error)}",
            "reinstall both from one index: pip install --force-reinstall torch torchvision",
        ) from error


def bare_encoder(encoder: str, tensors: Mapping[str, Tensor] | None = None) -> nn.Module:
    """Return smp's encoder alone, with random weights and with its classifier's names known to its loader.

    Args:
        encoder: A name of smp, or ``tu-`` and one of timm.
        tensors: Weights that timm loads into an encoder of its own; it knows their older names, and drops the
            classifier.
    """
    args: dict[str, Any] = {}
    if tensors is not None:
        args = {"weights": True, "pretrained_cfg_overlay": {"state_dict": dict(tensors)}}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`timm-` encoders are deprecated", DeprecationWarning)
        builder = logging.getLogger("timm.models._builder")
        level = builder.level
        builder.setLevel(logging.ERROR)  # it lists the classifier's tensors, which nobody wants here
        try:
            bare: nn.Module = import_smp().encoders.get_encoder(encoder, **args)
        finally:
            builder.setLevel(level)
    return bare


class EncoderDecoder(Segmenter):
    """An encoder and a decoder of smp, with smp's own state_dict keys.

    Differs from smp: any input size works, and stages of the encoder that the decoder never uses (``pspnet`` reads
    only the first three) are left out, as they would be saved but never trained.

    Args:
        decoder: smp's name of the architecture, e.g. ``fpn``.
        encoder: smp's name of the encoder, e.g. ``mobilenet_v2``; ``tu-`` and a name of timm for its encoders.
        num_classes: K >= 2.
        args: smp's constructor arguments; for ``tu-`` encoders those of ``timm.create_model`` too.

    Raises:
        UsageError: If the encoder or an argument is unknown, or the two do not go together.
        DeviceError: See :func:`import_smp`.
    """

    def __init__(self, decoder: str, encoder: str, num_classes: int, **args: Any) -> None:
        super().__init__()
        name = f"{decoder}-{encoder}"
        smp = import_smp()
        architecture = smp.MODEL_ARCHITECTURES_MAPPING[decoder]
        _check_encoder(smp, encoder)
        _check_arguments(name, architecture, encoder, args)
        if decoder == "dpt":
            args = {"dynamic_img_size": True, **args}

        with _explained(name):
            network: Any = architecture(
                encoder_name=encoder, encoder_weights=None, in_channels=3, classes=num_classes, **args
            )
            unused = _unused_modules(network.eval())
        for path in unused:
            _replace(network, path, PassThrough())
        _make_exportable(network)
        network.train()
        self.encoder: nn.Module = network.encoder
        self.decoder: nn.Module = network.decoder
        self.segmentation_head: nn.Module = network.segmentation_head
        self.passes_prefix_tokens = decoder == "dpt"
        self.multiple, self.least = _grid(decoder, encoder, self.encoder)

    def segment(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Return one output."""
        features = self.encoder(image_BCHW)
        decoded = self.decoder(*features) if self.passes_prefix_tokens else self.decoder(features)
        return (self.segmentation_head(decoded),)


class PassThrough(nn.Module):
    """Stand in for a module whose result nobody uses, though it may still be called."""

    def forward(self, features: Tensor, *_: object) -> Tensor:
        """Return the first argument."""
        return features


class GridAverage(nn.Module):
    """Average a map over the cells of a coarse grid, as ``nn.AdaptiveAvgPool2d`` does.

    Differs from it: written as two matrix products, so that it can be exported for pictures of any size.

    Args:
        num_cells: Cells along both sides.
    """

    def __init__(self, num_cells: int) -> None:
        super().__init__()
        self.num_cells = num_cells

    def forward(self, features: Tensor) -> Tensor:
        """Return a square map of ``num_cells`` on each side."""
        down = _cell_weights(features, features.shape[2], self.num_cells)
        across = _cell_weights(features, features.shape[3], self.num_cells)
        return torch.matmul(torch.matmul(down, features), across.transpose(0, 1))


def _cell_weights(like: Tensor, side: int, num_cells: int) -> Tensor:
    """Return a (num_cells, side) matrix whose rows average the pixels from floor(i s/n) to ceil((i + 1) s/n)."""
    cell = torch.arange(num_cells, device=like.device).unsqueeze(1)
    pixel = torch.arange(side, device=like.device).unsqueeze(0)
    inside = (pixel >= cell * side // num_cells) & (pixel < -((cell + 1) * -side // num_cells))
    weights = inside.to(like.dtype)
    return weights / weights.sum(dim=1, keepdim=True)


class PyramidBlock(nn.Module):
    """One pool of a PSPNet: what smp's ``PSPBlock`` computes outside of an export.

    Args:
        block: smp's.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.pool = block.pool

    def forward(self, features: Tensor) -> Tensor:
        """Keep height and width."""
        pooled = self.pool(features)  # type: ignore[operator]
        return F.interpolate(pooled, size=features.shape[2:], mode="bilinear", align_corners=True)


def _make_exportable(network: nn.Module) -> None:
    """Replace the pyramid pools, whose graphs fit a single size only, by equal ones. Keys stay."""
    for path, module in list(network.named_modules()):
        if type(module).__name__ == "PSPBlock":
            _replace(network, path, PyramidBlock(module))
    for path, module in list(network.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d):
            size = module.output_size
            num_cells = size[0] if isinstance(size, tuple) else size
            if isinstance(num_cells, int) and num_cells > 1 and size in (num_cells, (num_cells, num_cells)):
                _replace(network, path, GridAverage(num_cells))


def _replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, child = path.rpartition(".")
    setattr(network.get_submodule(parent), child, module)


def _grid(decoder: str, encoder_name: str, encoder: nn.Module) -> tuple[int, int]:
    """Return what the sides must be a multiple of, and the least they can be."""
    stride = int(encoder.output_stride)  # type: ignore[arg-type]
    if encoder_name.startswith("mit_"):
        stride = max(stride, 32)  # its first stage looks at 8x8 cells of a quarter of the resolution
    if decoder == "pan":
        return stride, 8 * stride  # it halves the encoder's last map three times
    if decoder == "dpt":
        return 2 * stride, 2 * stride  # its coarsest map is half the encoder's
    return stride, stride


def _check_encoder(smp: ModuleType, encoder: str) -> None:
    known = list(smp.encoders.get_encoder_names())
    if encoder in known:
        return
    if smp.encoders.is_equivalent_to_timm_universal(encoder):
        encoder = encoder.replace("timm-", "tu-tf_" if "mobilenetv3" in encoder else "tu-", 1)
    timm = importlib.import_module("timm")
    if encoder.startswith("tu-"):
        if timm.is_model(encoder.removeprefix("tu-")):
            return
        known = [f"tu-{model}" for model in timm.list_models()]
    raise unknown("encoder", encoder, known, "smp's encoders, or `tu-` and a model of timm")


def _check_arguments(name: str, architecture: type, encoder: str, args: dict[str, Any]) -> None:
    if "encoder_weights" in args:
        raise UsageError(
            f"`{name}` takes no `encoder_weights`: building a network downloads nothing",
            "build it without, then load weights from a file",
        )
    known = [argument for argument in inspect.signature(architecture).parameters if argument not in _DECIDED_HERE]
    for argument in args:
        if argument in _DECIDED_HERE or (argument not in known and not encoder.startswith("tu-")):
            raise unknown(f"argument of `{name}`", argument, known)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what smp and timm raise about names and arguments into a sentence, and hide their deprecations."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`timm-` encoders are deprecated", DeprecationWarning)
        try:
            yield
        except SeglabError:
            raise
        except (ValueError, TypeError, KeyError, IndexError, NotImplementedError, AssertionError) as error:
            raise UsageError(
                f"`{name}` cannot be built: {first_line(error)}", "choose another encoder or other arguments"
            ) from error


def _unused_modules(network: nn.Module) -> list[str]:
    """Return the paths of the outermost modules none of whose parameters has a part in the output.

    The network runs on tensors without values, so this takes little time and no memory.
    """
    parameters = {
        name: torch.empty_like(parameter, device="meta").requires_grad_()
        for name, parameter in network.named_parameters()
    }
    buffers = {name: torch.empty_like(buffer, device="meta") for name, buffer in network.named_buffers()}
    image_BCHW = torch.empty(1, 3, *_PROBE_HW, device="meta")
    output = torch.func.functional_call(network, {**parameters, **buffers}, (image_BCHW,))
    gradients = torch.autograd.grad(output.sum(), list(parameters.values()), allow_unused=True)
    used = [name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None]
    unused: list[str] = []
    for path, module in network.named_modules():
        outside = not any(path.startswith(f"{found}.") for found in unused)
        holds_any = next(module.parameters(), None) is not None
        if path and outside and holds_any and not any(name.startswith(f"{path}.") for name in used):
            unused.append(path)
    return unused
