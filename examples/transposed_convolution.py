#!/usr/bin/env python3
"""The transposed convolution by hand, compared with torch's: how a U-Net's decoder makes a map larger.

A convolution gathers: each output pixel is the weighted sum of the input pixels under the kernel. Turned round, each
input pixel scatters: it stamps the kernel, times its own value, onto the output, and where stamps overlap they add up.
That is the transposed convolution. It is no inverse, it does not bring back what a convolution was given. It is the
transpose: written as a matrix, a convolution is y = C x, and this is C^T y, which is also how gradients run back
through a convolution.

    stride           stamps are so far apart: the map becomes that much larger
    padding          so many rows and columns are cut off at each side of the output
    output_padding   so many are kept more at the lower and right side: with a stride of 2, inputs of 5 and of 6 both
                     become 3, and this says which one the way back leads to
    dilation         the kernel's own pixels are so far apart
    groups           channels are split; each part has kernels of its own

    size = (size_in - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1

The smallest useful one, which U-Nets use at every step up, has a kernel of 2 x 2 and a stride of 2: stamps touch and do
not overlap, so each pixel becomes four. A kernel of 3 with a stride of 2 overlaps unevenly, once here and four times
there; that is where checkerboards come from.

Usage: examples/transposed_convolution.py
"""

import sys
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """Where stamps go; the same in height and width."""

    stride: int = 1
    padding: int = 0
    output_padding: int = 0
    dilation: int = 1
    groups: int = 1

    def size(self, size_in: int, kernel: int) -> int:
        reach = self.dilation * (kernel - 1)
        return (size_in - 1) * self.stride - 2 * self.padding + reach + self.output_padding + 1

    def cut(self, full_OHW: Float, size_in_hw: tuple[int, int], kernel: int) -> Float:
        """Cut the padding off what all stamps cover; rows beyond the last stamp, if any are asked for, are 0."""
        height, width = (self.size(size, kernel) for size in size_in_hw)
        more = [(0, 0), (0, self.output_padding), (0, self.output_padding)]
        start = self.padding
        return np.pad(full_OHW, more)[:, start : start + height, start : start + width]


def by_scattering(image_CHW: Float, weight_CMKK: Float, geometry: Geometry) -> Float:
    """Stamp by stamp. Weights are (channels in, channels out of a group, kernel, kernel), as torch has them."""
    num_in, height, width = image_CHW.shape
    per_group, kernel = weight_CMKK.shape[1:3]
    stride, dilation = geometry.stride, geometry.dilation
    reach = dilation * (kernel - 1)
    full_OHW = np.zeros((
        per_group * geometry.groups, (height - 1) * stride + reach + 1, (width - 1) * stride + reach + 1,
    ))  # fmt: skip
    for channel, row, column in product(range(num_in), range(height), range(width)):
        group = channel // (num_in // geometry.groups)
        top, left = row * stride, column * stride
        out = slice(group * per_group, (group + 1) * per_group)
        stamp_MKK = image_CHW[channel, row, column] * weight_CMKK[channel]
        full_OHW[out, top : top + reach + 1 : dilation, left : left + reach + 1 : dilation] += stamp_MKK
    return geometry.cut(full_OHW, (height, width), kernel)


def by_gathering(image_CHW: Float, weight_CMKK: Float, geometry: Geometry) -> Float:
    """The same as an ordinary convolution: zeros between the input's pixels, and the kernel turned by 180 degrees."""
    num_in, height, width = image_CHW.shape
    per_group, kernel = weight_CMKK.shape[1:3]
    stride, dilation = geometry.stride, geometry.dilation
    reach = dilation * (kernel - 1)
    sparse_CHW = np.zeros((num_in, (height - 1) * stride + 1, (width - 1) * stride + 1))
    sparse_CHW[:, ::stride, ::stride] = image_CHW
    sparse_CHW = np.pad(sparse_CHW, [(0, 0), (reach, reach), (reach, reach)])
    turned_CMKK = weight_CMKK[:, :, ::-1, ::-1]
    size_h, size_w = (size - reach for size in sparse_CHW.shape[1:])
    full_OHW = np.zeros((per_group * geometry.groups, size_h, size_w))
    for channel, down, across in product(range(num_in), range(kernel), range(kernel)):
        group = channel // (num_in // geometry.groups)
        seen_HW = sparse_CHW[
            channel, down * dilation : down * dilation + size_h, across * dilation : across * dilation + size_w
        ]
        for out in range(per_group):
            full_OHW[group * per_group + out] += turned_CMKK[channel, out, down, across] * seen_HW
    return geometry.cut(full_OHW, (height, width), kernel)


def by_torch(image_CHW: Float, weight_CMKK: Float, geometry: Geometry) -> Float:
    num_in, per_group, kernel = weight_CMKK.shape[:3]
    layer = nn.ConvTranspose2d(num_in, per_group * geometry.groups, kernel, bias=False, **asdict(geometry)).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight_CMKK))
        return layer(torch.from_numpy(image_CHW)[None])[0].numpy()


def bilinear(factor: int) -> tuple[Float, Geometry]:
    """Return the kernel (1, 1, K, K) and the geometry that enlarge by a factor as bilinear interpolation does.

    A network that starts with it starts with smooth masks and learns the rest (Long et al., "Fully Convolutional
    Networks for Semantic Segmentation", 2015).
    """
    kernel = 2 * factor - factor % 2
    centre = (kernel - 1) / 2
    hat = 1 - np.abs(np.arange(kernel) - centre) / factor
    return np.outer(hat, hat)[None, None], Geometry(stride=factor, padding=(kernel - factor) // 2)


CASES = (
    (2, Geometry(stride=2)),  # what U-Nets use
    (3, Geometry()),
    (3, Geometry(stride=2, padding=1)),
    (3, Geometry(stride=2, padding=1, output_padding=1)),
    (4, Geometry(stride=2, padding=1)),  # what Pix2Pix uses
    (2, Geometry(stride=3, output_padding=2)),  # gaps between stamps
    (3, Geometry(stride=1, dilation=2, output_padding=1)),
    (3, Geometry(stride=2, padding=2, dilation=3, output_padding=1)),
    (3, Geometry(stride=2, padding=1, groups=2)),
    (5, Geometry(stride=3, padding=2, output_padding=1, dilation=2, groups=4)),
)


def compare(rng: np.random.Generator) -> float:
    """Print a line a case; return the largest difference to torch of both ways."""
    worst = 0.0
    print("kernel stride padding output_padding dilation groups    size in  size out  largest difference")
    for kernel, geometry in CASES:
        image_CHW = rng.normal(size=(4, 5, 7))
        weight_CMKK = rng.normal(size=(4, 3, kernel, kernel))
        expected = by_torch(image_CHW, weight_CMKK, geometry)
        ways = (by_scattering, by_gathering)
        differences = [np.abs(way(image_CHW, weight_CMKK, geometry) - expected).max() for way in ways]
        worst = max(worst, *differences)
        columns = (kernel, *asdict(geometry).values())
        text = "".join(f"{number:>{width}}" for number, width in zip(columns, (6, 7, 8, 15, 9, 7), strict=True))
        size = f"{expected.shape[1]}x{expected.shape[2]}"
        print(f"{text}{'5x7':>11}{size:>10}{max(differences):>20.1e}")
    return worst


def transposition(rng: np.random.Generator) -> float:
    """Return how far <conv(x), y> is from <x, transposed(y)>, which for a matrix and its transpose are the same."""
    geometry = Geometry(stride=2, padding=1, output_padding=1)
    weight = rng.normal(size=(2, 3, 3, 3))
    large, small = rng.normal(size=(3, 10, 14)), rng.normal(size=(2, 5, 7))
    down = nn.functional.conv2d(torch.from_numpy(large)[None], torch.from_numpy(weight), stride=2, padding=1)[0].numpy()
    return float(abs((down * small).sum() - (large * by_scattering(small, weight, geometry)).sum()))


def enlarging(rng: np.random.Generator, factor: int) -> float:
    """Return how far the bilinear kernel is from torch's bilinear enlargement, away from the rim.

    At the rim interpolation repeats the last pixel, and stamps have nothing to add.
    """
    image = rng.uniform(size=(1, 6, 8))
    enlarged = nn.functional.interpolate(
        torch.from_numpy(image)[None], scale_factor=factor, mode="bilinear", align_corners=False
    )
    difference = np.abs(by_scattering(image, *bilinear(factor)) - enlarged[0].numpy())
    return float(difference[:, factor:-factor, factor:-factor].max())


def overlaps(kernel: int, stride: int) -> Float:
    """Return how many stamps each output pixel gets."""
    return by_scattering(np.ones((1, 4, 4)), np.ones((1, 1, kernel, kernel)), Geometry(stride=stride))[0]


def main() -> int:
    rng = np.random.default_rng(0)
    print("one pixel a value, one stamp of 2 x 2 each, stride 2:")
    four, stamp = np.array([[[1.0, 2], [3, 4]]]), np.array([[[[1.0, 10], [100, 1000]]]])
    print(by_scattering(four, stamp, Geometry(stride=2))[0].astype(int))
    worst = compare(rng)
    print(f"\n<conv(x), y> and <x, transposed(y)> differ by {(adjoint := transposition(rng)):.1e}")
    smooth = [enlarging(rng, factor) for factor in (2, 3, 4)]
    print(f"bilinear kernels and interpolation, by 2, 3 and 4, differ by {max(smooth):.1e}")
    for kernel in (3, 4):
        print(f"\nstamps on each pixel, kernel {kernel}, stride 2, middle of the map:")
        print(overlaps(kernel, 2)[2:7, 2:7].astype(int))
    return int(max(worst, adjoint, *smooth) > 1e-9)


if __name__ == "__main__":
    sys.exit(main())
