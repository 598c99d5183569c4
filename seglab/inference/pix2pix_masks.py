"""Masks as Pix2Pix-Image-Segmentation's ``mask.py`` makes and uses them: tensors within -1..1.

Two things differ: the model is an argument, where the original loads one file when it is imported, and photos may be of
any form that a predictor takes.

Shapes: B batch, H W pixels.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seglab.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from seglab.engines.pixels import Pixels
    from seglab.inference.answering import ImageLike
    from seglab.inference.predictor import Predictor

__all__ = ["add_mask", "get_mask"]


def add_mask(image: "Tensor", mask: "Tensor") -> "Tensor":
    """Return a picture with a mask's hard form on it: black where the mask is 0 or less. The original's ``addMask``.

    Both are mapped from -1..1 to 0..1, the mask is rounded, half to even, and they are multiplied. Nothing is clipped:
    a mask that interpolation carried out of -1..1 rounds as it is.

    Args:
        image: (..., 3, H, W), -1..1.
        mask: (..., 1, H, W) or anything that broadcasts to it, -1..1.

    Returns:
        (..., 3, H, W), 0..1.

    Raises:
        UsageError: If they are no tensors of floats, or of different sizes.
    """
    import torch

    for name, tensor in (("image", image), ("mask", mask)):
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            raise UsageError(f"the {name} is no tensor of floats within -1..1")
    if image.ndim < 2 or image.shape[-2:] != mask.shape[-2:]:
        raise UsageError(f"the image is {tuple(image.shape)}, the mask {tuple(mask.shape)}: sizes differ")
    return (image + 1) / 2 * torch.round((mask + 1) / 2)


def get_mask(image: "ImageLike | Tensor", model: "Predictor | str | Path") -> "Tensor":
    """Return the mask that a model draws for a photo. The original's ``getMask``.

    The photo is resized to the network's grid, bilinearly, and the network's tanh is brought back to the photo's size
    by bicubic interpolation, which may go beyond -1..1 at edges. (A model that does not end in a tanh counts as if its
    probability p of class 1 were the tanh 2 p - 1.)

    Args:
        image: A photo in any form that a predictor takes, or pictures (B, 3, H, W) within -1..1.
        model: What :func:`seglab.load` returned, or what it takes.

    Returns:
        (B, 1, H, W), float32, on the CPU.

    Raises:
        UsageError: If the model has more than two classes, or pictures are of another shape.
        ImageError: If the photo cannot be read.
    """
    import torch
    from torch.nn import functional as F

    from seglab.inference.api import load
    from seglab.inference.predictor import Predictor

    predictor = model if isinstance(model, Predictor) else load(model)
    if predictor.task.num_classes != 2:
        raise UsageError(
            f"a mask has two classes, but task `{predictor.task.name}` has {predictor.task.num_classes}",
            "`predictor(image).mask(NAME)` is the mask of one of them",
        )
    pixels_BHWC, size_hw = _pixels(image, predictor)
    logits_BKHW = predictor.run(pixels_BHWC)
    mask = torch.tanh(torch.from_numpy(logits_BKHW[:, 1:] - logits_BKHW[:, :1]) / 2)
    if mask.shape[-2:] != size_hw:
        mask = F.interpolate(mask, size=size_hw, mode="bicubic", align_corners=False)
    return mask


def _pixels(image: "ImageLike | Tensor", predictor: "Predictor") -> "tuple[Pixels, tuple[int, int]]":
    """Return what the network sees (BHWC), and the size of the photo."""
    import torch
    from PIL import Image
    from torch.nn import functional as F

    preprocess = predictor.config.preprocess
    height, width = preprocess.size_hw
    if not isinstance(image, torch.Tensor):
        from seglab.inference.answering import take_photo

        photo = take_photo(image).image
        small = Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(small)[None], (photo.shape[0], photo.shape[1])
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise UsageError(f"pictures are {tuple(image.shape)} {image.dtype}, must be floats (B, 3, H, W) within -1..1")
    resized = image.detach().cpu().float()
    if image.shape[-2:] != (height, width):
        resized = F.interpolate(resized, (height, width), mode="bilinear", align_corners=False, antialias=True)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    normalised = ((resized + 1) / 2 - mean) / std
    return normalised.permute(0, 2, 3, 1).contiguous().numpy(), (image.shape[-2], image.shape[-1])
