"""Published weights under our names. Values are never changed, but for zeros that a second class is made of."""

from collections.abc import Mapping

import torch
from torch import Tensor

from seglab.models import pix2pix, unet
from seglab.models.outlines import rename_smp_key
from seglab.models.recognition import Architecture

__all__ = ["translate"]


def translate(architecture: Architecture, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return published weights as our network of that architecture wants them.

    Names that the original does not have are left as they are, so that loading can name them.

    Args:
        architecture: What they were recognised as.
        tensors: By the names of the bare network.
    """
    if architecture.model in ("u2net", "u2netp"):
        return _lifted(tensors) if architecture.num_outputs == 1 else dict(tensors)
    if architecture.model == "unet":
        renamed = {name: unet.rename_original_key(name) for name in tensors}
        return {(ours[1] if (ours := renamed[name]) else name): tensor for name, tensor in tensors.items()}
    if architecture.model == "pix2pix":
        return {pix2pix.rename_original_key(name) or name: tensor for name, tensor in tensors.items()}
    return {rename_smp_key(name): tensor for name, tensor in tensors.items()}


def _lifted(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a U²-Net of one map z the two maps (0, z), exactly: sigmoid(z) is the softmax of the second.

    A side output's first map is all zeros, and the fusing convolution looks at the second ones only.
    """
    lifted = dict(tensors)
    for number in range(1, 7):
        for name in (f"side{number}.weight", f"side{number}.bias"):
            one = tensors[name]
            lifted[name] = torch.cat((torch.zeros_like(one), one))
    fuse = tensors["outconv.weight"]
    lifted["outconv.weight"] = fuse.new_zeros(2, 2 * fuse.shape[1], 1, 1)
    lifted["outconv.weight"][1, 1::2] = fuse[0]
    lifted["outconv.bias"] = torch.cat((torch.zeros_like(tensors["outconv.bias"]), tensors["outconv.bias"]))
    return lifted
