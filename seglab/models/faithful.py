"""Changes to a network that make it compute what an original's own code does with the same weights.

None of them touches the weights. They are for use only: a network that is trained or exported goes without.

Legend: B batch, C channels, H W pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.errors import UsageError
from seglab.models.unet import UNet, UpLevel

__all__ = ["pad_as_published", "use_batch_statistics"]


def use_batch_statistics(network: nn.Module) -> None:
    """Normalise by the mean and variance of what comes in, instead of those collected in training.

    This is what a network computes that was never put in evaluation mode. Send one photo at a time: otherwise the
    answer to a photo depends on its neighbours.

    Raises:
        UsageError: If the network has no batch normalisation.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        raise UsageError("`--bn batch` changes nothing: the network has no batch normalisation", "leave it out")
    for norm in norms:
        norm.track_running_stats = False
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None


def pad_as_published(network: nn.Module) -> None:
    """Let a U-Net of form ``milesial`` see a photo as it is, where its sides are no multiples of 16.

    As in the original, maps that went up are padded by zeros to their skip connection's size, on both axes by what the
    height lacks; so this works only if height and width leave the same remainder.
    """
    if not isinstance(network, UNet) or not network.skip_first:
        return
    network.multiple = network.least = 1
    for index, level in enumerate(network.decoder):
        if isinstance(level, UpLevel):
            network.decoder[index] = PaddedUpLevel(level)


class PaddedUpLevel(nn.Module):
    """One level of the U-Net on its way up.

    Args:
        level: Ours; its layers are used.
    """

    def __init__(self, level: UpLevel) -> None:
        super().__init__()
        self.up, self.block = level.up, level.block

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Return a map of the skip connection's size."""
        features = self.up(features)
        lacking = skip.shape[2] - features.shape[2]
        before, after = lacking // 2, lacking - lacking // 2
        joined: Tensor = self.block(torch.cat((skip, F.pad(features, (before, after, before, after))), dim=1))
        return joined
