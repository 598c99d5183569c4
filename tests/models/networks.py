"""One small network of every family in the zoo, for the tests that all of them must pass."""

from functools import cache

import torch

from seglab.models import zoo

NETWORKS = {
    "unet": ("unet", {"width": 8}),
    "unet plain": ("unet", {"form": "plain", "width": 4, "depth": 3}),
    "unet milesial": ("unet", {"form": "milesial", "width": 4}),
    "unet-light": ("unet-light", {}),
    "u2net": ("u2netp", {}),
    "pix2pix": ("pix2pix", {"width": 4}),
    "pix2pix edge": ("pix2pix", {"form": "edge", "width": 4}),
    "pix2pix res2pix": ("pix2pix", {"form": "res2pix", "width": 4}),
    "pgn": ("pgn", {"width": 4, "blocks": [1, 1, 2, 1]}),
    "smp-unet": ("unet-mobilenet_v2", {"decoder_channels": [64, 32, 16, 16, 8]}),
    "smp-unetplusplus": ("unetplusplus-mobilenet_v2", {"decoder_channels": [32, 16, 16, 8, 8]}),
    "smp-manet": ("manet-resnet18", {"decoder_channels": [32, 16, 16, 8, 8], "decoder_pab_channels": 16}),
    "smp-linknet": ("linknet-mobilenet_v2", {}),
    "smp-fpn": ("fpn-mobilenet_v2", {}),
    "smp-pspnet": ("pspnet-mobilenet_v2", {}),
    "smp-pan": ("pan-mobilenet_v2", {}),
    "smp-deeplabv3": ("deeplabv3-mobilenet_v2", {"decoder_channels": 32}),
    "smp-deeplabv3plus": ("deeplabv3plus-mobilenet_v2", {"decoder_channels": 32}),
    "smp-upernet": ("upernet-mobilenet_v2", {"decoder_channels": 32}),
    "smp-segformer": ("segformer-mobilenet_v2", {}),
    "smp-dpt": (
        "dpt-tu-vit_tiny_patch16_224",
        {"decoder_fusion_channels": 32, "decoder_intermediate_channels": [16, 32, 32, 32]},
    ),
}
"""Label (a family, and a variant of it) to a name of the zoo and its arguments."""


@cache
def network(label, num_classes=2):
    """A network that tests share: leave it as it is, but for its mode."""
    name, args = NETWORKS[label]
    torch.manual_seed(0)
    return zoo.build(name, num_classes, **args)


def picture(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))
