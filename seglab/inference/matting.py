"""From coarse probabilities to an alpha at the photo's full resolution, and from mixed colours to clean ones.

Filters run at a working size, as their results are smooth; what they found is looked up for the pixels along edges
only, so that time and memory beyond the photo's own follow the length of the edges.

Shapes: H W the photo, h w the working size, C channels, N pixels along edges.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.geometry import reduced_hw
from seglab.data.images import resize_image

__all__ = ["WORK_SIDE", "GuidedFilter", "decontaminate", "feather", "soft_alpha", "working_hw"]

Uint8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Points = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Rows and columns of N pixels."""
Solver = Callable[[Float32, Float32, Float32], Float32 | None]
"""Finds an alpha_hw for guide_hwC between floor_hw and ceiling_hw, all 0..1; None where it cannot."""

WORK_SIDE: Final = 1024
"""Longest side of the working size in pixels."""
EPS: Final = 1e-4
"""Variance of the guide (0..1) below which a patch counts as flat."""
SURE: Final = 0.05
"""Probabilities this near to 0 or 1 are as good as certain."""
CHUNK_PIXELS: Final = 2**20
"""How many pixels of the photo are looked at in one go."""
WIDE: Final = 45
"""Radius of the means, at the working size, that first tell the foreground's colours from the background's."""
NARROW: Final = (2, 1)
"""Radii of those that follow, at half of that size: two small steps come nearer than one of twice the size would."""
SOLVED_RADIUS: Final = 2
"""Windows, at the working size, in which a solver's alpha is brought to the photo's size."""


def working_hw(source_hw: tuple[int, int], longest: int = WORK_SIDE) -> tuple[int, int]:
    """Return a size of the same shape as a photo: its own, or reduced until the longest side fits."""
    return reduced_hw(source_hw, longest)


def soft_alpha(image: Uint8, probs_hw: Float32, *, reach: float, solve: Solver | None = None) -> Uint8:
    """Return an alpha whose edges follow the photo's own.

    A fast guided filter: the coefficients are found at the working size, then looked up for and applied to the photo's
    full-size pixels. Where the probabilities are certain as far as ``reach``, the alpha is exactly 0 or 255. Far from
    where they cross 1/2 they count as certain: no haze where the network hesitates, no holes, and nothing at all if no
    probability is over 1/2.

    Args:
        image: HWC RGB.
        probs_hw: Probability of the foreground, 0..1, at a working size of the same shape as the photo.
        reach: How far an edge may lie from where the probabilities have it, in pixels of ``probs_hw``: about one cell
            of the model's grid.
        solve: Finds the alpha at the working size instead; the filter then only brings it to the photo's size. Edges
            may lie three times as far off.

    Returns:
        HW, 0..255.

    References:
        He, Sun: Fast Guided Filter, arXiv:1505.00996. He, Sun, Tang: Guided Image Filtering, TPAMI 2013,
        doi:10.1109/TPAMI.2012.213.
    """
    radius = max(1, math.ceil(reach))
    guide_hwC = _shrunk(image, probs_hw.shape).astype(np.float32) / np.float32(255)
    if solve is not None:
        floor_hw, ceiling_hw = _wide_bounds(probs_hw, radius)
        solved_hw = solve(guide_hwC, floor_hw, ceiling_hw)
        if solved_hw is not None:
            if solved_hw.shape == image.shape[:2]:
                return np.rint(255 * solved_hw).astype(np.uint8)
            fit = GuidedFilter(guide_hwC, radius=SOLVED_RADIUS, eps=EPS).fit(solved_hw)
            return _applied(image, fit, floor_hw, ceiling_hw, firm=False)
    floor_hw, ceiling_hw = _bounds(probs_hw, radius)
    # Two fits of two means each reach this far; beyond it nothing is looked up.
    part = _around((ceiling_hw > 0) & (floor_hw < 1), 4 * radius + 2)
    slope_hwC, offset_hw = np.zeros_like(guide_hwC), np.zeros_like(probs_hw)
    slope_hwC[part], offset_hw[part] = _fit_twice(np.ascontiguousarray(guide_hwC[part]), probs_hw[part], radius)
    return _applied(image, (slope_hwC, offset_hw), floor_hw, ceiling_hw)


class GuidedFilter:
    """Fits ``target = slope . guide + offset`` in every window, and averages the fits that cover a pixel.

    Args:
        guide_hwC: Three channels, 0..1.
        radius: The windows are squares of 2 radius + 1.
        eps: Added to the guide's variances; larger values smooth more.
    """

    def __init__(self, guide_hwC: Float32, *, radius: int, eps: float) -> None:
        # Centred on 0, the products keep more of float32's digits.
        self._guide = [plane - np.float32(0.5) for plane in cv2.split(guide_hwC)]
        self._means = [_mean(plane, radius) for plane in self._guide]
        self._radius = radius
        covariances = []
        for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)):
            covariance = _mean(self._guide[i] * self._guide[j], radius) - self._means[i] * self._means[j]
            covariances.append(covariance + np.float32(eps) if i == j else covariance)
        self._inverse = _inverse(covariances)

    def fit(self, target_hw: Float32) -> tuple[Float32, Float32]:
        """Return slope_hwC and offset_hw."""
        radius = self._radius
        target_mean = _mean(target_hw, radius)
        x, y, z = (
            _mean(plane * target_hw, radius) - mean * target_mean
            for plane, mean in zip(self._guide, self._means, strict=True)
        )
        rr, rg, rb, gg, gb, bb = self._inverse
        slopes = [rr * x + rg * y + rb * z, rg * x + gg * y + gb * z, rb * x + gb * y + bb * z]
        offset_hw = target_mean - sum(slope * mean for slope, mean in zip(slopes, self._means, strict=True))
        slopes = [_mean(slope, radius) for slope in slopes]
        offset_hw = _mean(offset_hw, radius) - np.float32(0.5) * sum(slopes)
        slope_hwC: Float32 = cv2.merge(slopes)
        return slope_hwC, offset_hw


def decontaminate(image: Uint8, alpha: Uint8) -> Uint8:
    """Return the photo with the background's colour taken out of pixels that are partly transparent.

    What is opaque keeps its colours to the bit; what is wholly transparent becomes black, so nothing of the background
    stays in the file.

    Args:
        image: HWC RGB.
        alpha: HW, 0..255.

    References:
        Forte: Approximate Fast Foreground Colour Estimation, ICIP 2021, doi:10.1109/ICIP42928.2021.9506164. Here the
        blurs run at reduced sizes, as they are smooth; the last step, which restores detail, runs at full size.
    """
    clean_HWC: Uint8 = np.zeros_like(image)
    cv2.copyTo(image, alpha, clean_HWC)
    mixed_HW: Any = cv2.inRange(alpha, 1, 254)
    if not cv2.hasNonZero(mixed_HW):
        return clean_HWC
    colours_hwC = _both_colours(image, alpha)
    for points in _points(mixed_HW):
        alpha_N1 = (alpha[points].astype(np.float32) / 255)[:, None]
        foreground_NC, background_NC = (_sample(colours, points, image.shape[:2]) for colours in colours_hwC)
        rest_NC = image[points] - alpha_N1 * foreground_NC - (1 - alpha_N1) * background_NC
        clean_HWC[points] = np.rint(np.clip(foreground_NC + alpha_N1 * rest_NC, 0, 255))
    return clean_HWC


def feather(alpha: Uint8, width: float) -> Uint8:
    """Return an alpha whose edges fade over about ``width`` pixels, half on each side."""
    side = max(1, round(width / 2))
    faded: Any = alpha
    for _ in range(2):
        faded = cv2.blur(faded, (side, side), borderType=cv2.BORDER_REPLICATE)
    result: Uint8 = faded
    return result


def _fit_twice(guide_hwC: Float32, probs_hw: Float32, radius: int) -> tuple[Float32, Float32]:
    if not probs_hw.size:
        return guide_hwC, probs_hw
    guided = GuidedFilter(guide_hwC, radius=radius, eps=EPS)
    slope_hwC, offset_hw = guided.fit(probs_hw)
    # Once more from a firmer start: edges that the photo shows move nearer to it and lose their blur.
    firm_hw = np.clip(2 * (np.einsum("hwc,hwc->hw", slope_hwC, guide_hwC) + offset_hw) - 0.5, 0, 1)
    return guided.fit(firm_hw)


def _around(mask_hw: Any, margin: int) -> tuple[slice, slice]:
    """Return the rows and columns of a mask's bounding box and a margin; none if it is empty."""
    left, top, width, height = cv2.boundingRect(mask_hw.view(np.uint8))
    if not width:
        return slice(0, 0), slice(0, 0)
    return slice(max(0, top - margin), top + height + margin), slice(max(0, left - margin), left + width + margin)


def _both_colours(image: Uint8, alpha: Uint8) -> tuple[Float32, Float32]:
    """Return what the foreground and the background would look like alone, at the working size, where they mix.

    Steps of Forte's method, a wide one, for which a quarter of the working size is enough, and two narrow ones at half
    of it: local means of each colour, then for the foreground what the photo says beyond them.
    """
    full_hw = image.shape[0], image.shape[1]
    longest = max(working_hw(full_hw))
    wide_hw, half_hw = working_hw(full_hw, WORK_SIDE // 4), working_hw(full_hw, max(1, longest // 2))
    alpha_hw, image_hwC = _shrunk(alpha, half_hw), _shrunk(image, half_hw)
    nearest = (image_hwC, alpha_hw) if max(half_hw) >= max(wide_hw) else (image, alpha)
    wide_hwC, wide_alpha_hw = _shrunk(nearest[0], wide_hw).astype(np.float32), _shrunk(nearest[1], wide_hw)
    wide_radius = max(1, round(WIDE * max(wide_hw) / longest))
    parted = _parted(wide_hwC, wide_alpha_hw, (wide_hwC, wide_hwC), wide_radius)
    grown = [_grown(plane, half_hw) for plane in parted]
    # Averaging and looking up reach one pixel further than what is mixed.
    part = _around((alpha_hw > 0) & (alpha_hw < 255), 2 * sum(NARROW) + 2)
    if part[0].stop:
        near, near_hwC = (grown[0][part], grown[1][part]), image_hwC[part].astype(np.float32)
        for radius in NARROW:
            near = _parted(near_hwC, alpha_hw[part], near, radius)
        grown[0][part], grown[1][part] = near
    return grown[0], grown[1]


def _parted(
    image_hwC: Float32, alpha_hw: Uint8, guesses: tuple[Float32, Float32], radius: int
) -> tuple[Float32, Float32]:
    """Return the colours of foreground and background from guesses of them: a step of Forte's method."""
    foreground_hwC, background_hwC = guesses
    alpha_hwC: Any = cv2.merge([alpha_hw.astype(np.float32) / 255] * 3)
    share_hwC = _mean(alpha_hwC, radius)
    foreground_hwC = _mean(foreground_hwC * alpha_hwC, radius) / (share_hwC + 1e-5)
    background_hwC = _mean(background_hwC * (1 - alpha_hwC), radius) / (1 - share_hwC + 1e-5)
    rest_hwC = image_hwC - alpha_hwC * foreground_hwC - (1 - alpha_hwC) * background_hwC
    return np.clip(foreground_hwC + alpha_hwC * rest_hwC, 0, 255), background_hwC


def _applied(
    image: Uint8, fit: tuple[Float32, Float32], floor_hw: Float32, ceiling_hw: Float32, *, firm: bool = True
) -> Uint8:
    """Look slope and offset up for the photo's pixels that are not certain, and apply them within the bounds.

    Args:
        image: HWC RGB.
        fit: slope_hwC and offset_hw.
        floor_hw: The least alpha.
        ceiling_hw: The largest alpha.
        firm: Whether what is nearly certain counts as certain.
    """
    slope_hwC, offset_hw = fit
    alpha_HW: Uint8 = _grown(np.rint(255 * ceiling_hw).astype(np.uint8), image.shape[:2])
    open_HW = _grown(((ceiling_hw > 0) & (floor_hw < 1)).view(np.uint8) * np.uint8(255), image.shape[:2])
    planes = [cv2.merge([*cv2.split(slope_hwC / 255), offset_hw]), cv2.merge([floor_hw, ceiling_hw])]
    for points in _points(open_HW):
        fit_N4, bounds_N2 = (_sample(plane, points, image.shape[:2]) for plane in planes)
        alpha_N = np.einsum("nc,nc->n", fit_N4[:, :3], image[points].astype(np.float32)) + fit_N4[:, 3]
        alpha_N = np.clip(_certain(alpha_N) if firm else alpha_N, bounds_N2[:, 0], bounds_N2[:, 1])
        alpha_HW[points] = np.rint(255 * alpha_N)
    return alpha_HW


def _wide_bounds(probs_hw: Float32, radius: int) -> tuple[Float32, Float32]:
    """Return the least and the largest alpha, 0 or 1: what is neither is all that may be hair, say."""
    near, far = (np.ones((2 * size + 1, 2 * size + 1), np.uint8) for size in (radius, 3 * radius))
    inside_hw = (probs_hw > 0.5).astype(np.float32)
    sure_hw: Any = cv2.erode((probs_hw >= 1 - SURE).astype(np.float32), near)
    floor_hw: Any = np.maximum(cv2.erode(inside_hw, far), sure_hw)
    ceiling_hw: Any = cv2.dilate(inside_hw, far)
    return floor_hw, ceiling_hw


def _bounds(probs_hw: Float32, radius: int) -> tuple[Any, Any]:
    """Return the least and the largest alpha that each pixel may have."""
    near, far = (np.ones((2 * size + 1, 2 * size + 1), np.uint8) for size in (radius, 3 * radius))
    inside_hw: Any = (probs_hw > 0.5).astype(np.float32)
    least_hw, most_hw = _mean(cv2.erode(inside_hw, far), radius), _mean(cv2.dilate(inside_hw, far), radius)
    floor_hw = np.clip(_certain(cv2.erode(probs_hw, near)), least_hw, most_hw)
    ceiling_hw = np.clip(_certain(cv2.dilate(probs_hw, near)), least_hw, most_hw)
    # The sums of a running mean leave dust where they should be 0 or 1.
    return np.where(floor_hw > 1 - 1e-4, 1, floor_hw), np.where(ceiling_hw < 1e-4, 0, ceiling_hw)


def _shrunk(image: Uint8, size_hw: tuple[int, ...]) -> Uint8:
    """Shrink a picture by averages, in half the time: by halves as far as they go."""
    while min(image.shape[0] // size_hw[0], image.shape[1] // size_hw[1]) >= 2:
        half: Any = cv2.resize(
            image, ((image.shape[1] + 1) // 2, (image.shape[0] + 1) // 2), interpolation=cv2.INTER_LINEAR
        )
        image = half
    return resize_image(image, (size_hw[0], size_hw[1]))


def _mean(planes: Any, radius: int) -> Any:
    return cv2.blur(planes, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REPLICATE)


def _certain(probs: Any) -> Any:
    """Bend 0..1 so that what is nearly certain is certain, without a kink: a smoothstep."""
    x = np.clip((probs - np.float32(SURE)) / np.float32(1 - 2 * SURE), 0, 1)
    return x * x * (3 - 2 * x)


def _inverse(matrix: list[Any]) -> list[Any]:
    """Invert symmetric 3 x 3 matrices, given and returned as their upper triangles, by cofactors."""
    rr, rg, rb, gg, gb, bb = matrix
    i_rr, i_rg, i_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    scale = 1 / (rr * i_rr + rg * i_rg + rb * i_rb)
    cofactors = (i_rr, i_rg, i_rb, rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg)
    return [scale * cofactor for cofactor in cofactors]


def _grown(planes: Any, size_hw: tuple[int, ...]) -> Any:
    return cv2.resize(planes, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_LINEAR)


def _points(mask: Uint8) -> Iterator[Points]:
    """Yield the pixels that are set, a chunk of rows at a time."""
    num_rows = max(1, CHUNK_PIXELS // mask.shape[1])
    for top in range(0, mask.shape[0], num_rows):
        flat = np.flatnonzero(mask[top : top + num_rows] != 0)  # of booleans: ten times as fast
        if len(flat):
            rows, columns = np.divmod(flat, mask.shape[1])
            yield rows + top, columns


def _sample(planes_hwC: Any, points: Points, size_hw: tuple[int, ...]) -> Any:
    """Look planes up bilinearly at N pixels of the full-size photo; half-pixel centres. Returns N C."""
    num_points = len(points[0])
    # remap takes pictures, whose sides are limited, not lists of points.
    side = math.ceil(math.sqrt(num_points))
    y, x = (
        np.resize(((index + 0.5) * (small / large) - 0.5).astype(np.float32), (side, side))
        for index, small, large in zip(points, planes_hwC.shape, size_hw, strict=False)
    )
    sampled: Any = cv2.remap(planes_hwC, x, y, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled.reshape(side * side, -1)[:num_points]
