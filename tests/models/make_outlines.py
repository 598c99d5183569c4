"""Print the table of seglab/models/outlines.py: the tensors of every network that others published.

python -m tests.models.make_outlines
"""

import warnings
from collections.abc import Iterator
from math import prod

import torch

from seglab.errors import UsageError
from seglab.models import zoo
from seglab.models.outlines import digest
from seglab.models.recognition import _DECODERS, _ENCODERS
from tests.inference import published
from tests.models.test_originals import shapes_of

NAMED = {
    # by original names: a network that has them
    ("u2net", ""): lambda: published.u2net(4),
    ("u2netp", ""): lambda: published.u2netp(4),
    ("unet", "milesial"): lambda: published.HelenUNet(11, 64),
    ("unet", "plain"): lambda: published.PgnUNet(6, 64),
    **{("pix2pix", form): lambda form=form: published.Generator(form, 64) for form in ("plain", "edge", "res2pix")},
}


def rows() -> Iterator[tuple[str, str, int, str, tuple[int, int, int]]]:
    """Model, form, number of tensors, digest of their names, and how many numbers K outputs make."""
    for (model, form), build in NAMED.items():
        names = list(shapes_of(build))
        yield model, form, len(names), digest(names), polynomial(model, {"form": form} if form else {})
    for model in (f"{decoder}-{encoder}" for decoder in _DECODERS for encoder in _ENCODERS):
        try:
            names = list(shapes_of(lambda model=model: zoo.build(model, 2)))
        except UsageError:  # smp does not build it either
            continue
        yield model, "", len(names), digest(names), polynomial(model, {})


def polynomial(model: str, args: dict[str, str]) -> tuple[int, int, int]:
    """Coefficients a, b, c of the count of numbers a + bK + cK², from three counts."""
    three, four, five = (  # a pix2pix of two classes has one output
        sum(prod(shape) for shape in shapes_of(lambda num=num: zoo.build(model, num, **args)).values())
        for num in (3, 4, 5)
    )
    square = (five - 2 * four + three) // 2
    linear = four - three - 7 * square
    return three - 3 * linear - 9 * square, linear, square


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with torch.device("meta"):
        for model, form, num, names, numbers in rows():
            print(f'    ("{model}", "{form}"): Outline({num}, "{names}", {numbers}),')
