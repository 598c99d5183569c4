"""Closed-form matting by pymatting, which is an extra, for edges such as hair.

Levin, Lischinski, Weiss: A Closed-Form Solution to Natural Image Matting, TPAMI 2008, doi:10.1109/TPAMI.2007.1177. Time
and memory are bounded: only pixels along edges are unknown, and no picture larger than :data:`MAX_AREA` is solved.
"""

import importlib.util
import math
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.images import resize_image
from seglab.errors import DeviceError

__all__ = ["MAX_AREA", "require_pymatting", "solve"]

Float32 = NDArray[np.float32]

MAX_AREA: Final = 2**19
"""Pixels of the largest picture that is solved; pymatting takes some 400 bytes for each."""
SURROUNDINGS: Final = 4
"""Pixels around the unknown ones that are looked at."""
MAX_ITERATIONS: Final = 2000


def require_pymatting() -> None:
    """Make sure that pymatting is there, without importing it.

    Raises:
        DeviceError: If it is not.
    """
    if importlib.util.find_spec("pymatting") is None:
        raise DeviceError(
            "`--matting` needs an extra that is not installed: pymatting",
            '`pip install "seglab[matting]"`; without `--matting`, edges follow the photo by a guided filter',
        )


def solve(guide_hwC: Float32, floor_hw: Float32, ceiling_hw: Float32) -> Float32 | None:
    """Return the alpha that is locally linear in the colours.

    Args:
        guide_hwC: RGB, 0..1.
        floor_hw: 1 where a pixel is subject for certain.
        ceiling_hw: 0 where it is background for certain; all else is unknown.

    Returns:
        Alpha, 0..1; None if nothing is known of subject or background near the unknown pixels, or no solution is found.
    """
    unknown_hw = (floor_hw < 1) & (ceiling_hw > 0)
    if not unknown_hw.any():
        return floor_hw.copy()
    rows, columns = _surroundings(unknown_hw)
    trimap = np.where(floor_hw >= 1, 1.0, np.where(ceiling_hw <= 0, 0.0, 0.5))[rows, columns]
    factor = min(1.0, math.sqrt(MAX_AREA / trimap.size))
    small_hw = (max(1, int(trimap.shape[0] * factor)), max(1, int(trimap.shape[1] * factor)))
    # Nearest neighbours would lose thin parts of what is known; what is mixed by averaging is unknown.
    averaged = resize_image(trimap.astype(np.float32), small_hw)
    small = np.where(averaged == 1, 1.0, np.where(averaged == 0, 0.0, 0.5))
    solved = _closed_form(resize_image(np.ascontiguousarray(guide_hwC[rows, columns]), small_hw), small)
    if solved is None:
        return None
    grown: Any = cv2.resize(solved, trimap.shape[::-1], interpolation=cv2.INTER_LINEAR)
    alpha_hw: Float32 = floor_hw.copy()
    alpha_hw[unknown_hw] = np.clip(grown, 0, 1)[unknown_hw[rows, columns]]
    return alpha_hw


def _closed_form(guide_hwC: Float32, trimap: NDArray[np.float64]) -> Float32 | None:
    from pymatting.alpha.estimate_alpha_cf import estimate_alpha_cf
    from pymatting.preconditioner.ichol import ichol
    from pymatting.preconditioner.jacobi import jacobi

    if not ((trimap == 0).any() and (trimap == 1).any()):
        return None
    for preconditioner in (ichol, jacobi):  # the first is faster, and fails on some pictures
        try:
            alpha: Any = estimate_alpha_cf(
                guide_hwC.astype(np.float64), trimap, preconditioner=preconditioner,
                cg_kwargs={"maxiter": MAX_ITERATIONS},
            )  # fmt: skip
        except ValueError:
            continue
        if np.isfinite(alpha).all():
            return np.asarray(alpha, np.float32)
    return None


def _surroundings(unknown_hw: NDArray[np.bool_]) -> tuple[slice, slice]:
    left, top, width, height = cv2.boundingRect(unknown_hw.view(np.uint8))
    rows = slice(max(0, top - SURROUNDINGS), min(unknown_hw.shape[0], top + height + SURROUNDINGS))
    return rows, slice(max(0, left - SURROUNDINGS), min(unknown_hw.shape[1], left + width + SURROUNDINGS))
