"""Outlines for synthetic scenes: polygons of (x, y) points, y downwards, in a local frame or in picture units."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Frame", "Points", "box", "bumpy", "ellipse", "limb", "mirrored", "moved", "polar", "rotated", "smooth"]

Points = NDArray[np.float64]
"""(N, 2) or (2,) coordinates, x to the right and y down."""


@dataclass(frozen=True)
class Frame:
    """Where a local coordinate system lies in its parent: a turn, one scale, a shift."""

    origin: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    angle: float = 0.0
    """Radians; positive turns clockwise as seen."""

    def at(self, points: ArrayLike) -> Points:
        """Return local points in the parent's coordinates."""
        placed: Points = rotated(points, self.angle) * self.scale + np.asarray(self.origin)
        return placed

    def child(self, origin: ArrayLike, scale: float = 1.0, angle: float = 0.0) -> "Frame":
        """Return the frame of something that sits at a local point of this one."""
        x, y = self.at(origin)
        return Frame((float(x), float(y)), self.scale * scale, self.angle + angle)


def rotated(points: ArrayLike, angle: float) -> Points:
    """Return points turned clockwise (as seen) about the origin."""
    return np.asarray(points, np.float64) @ _turn(angle)


def moved(points: Points, x: float, y: float) -> Points:
    """Return points shifted by a vector."""
    shifted: Points = points + np.array([x, y])
    return shifted


@functools.lru_cache(1024)
def _turn(angle: float) -> Points:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, sin], [-sin, cos]])


def polar(angle: float, length: float = 1.0) -> Points:
    """Return the vector that hangs straight down at angle 0 and points right at a quarter turn."""
    return np.array([math.sin(angle), math.cos(angle)]) * length


def mirrored(half: Sequence[tuple[float, float]]) -> Points:
    """Return a closed outline from its right half (top to bottom): the left half follows, bottom to top."""
    right = np.asarray(half, np.float64)
    return np.concatenate([right, (right * (-1.0, 1.0))[::-1]])


def smooth(points: ArrayLike, steps: int = 5) -> Points:
    """Return a closed Catmull-Rom curve through the points, ``steps`` points for each of them."""
    knots = np.asarray(points, np.float64)
    ring = np.concatenate([knots[-1:], knots, knots[:2]])
    weights = _spline_weights(steps)
    return sum((ring[k : k + len(knots), None] * weights[None, :, k, None] for k in range(4)), np.zeros(1)).reshape(
        -1, 2
    )


@functools.lru_cache
def _spline_weights(steps: int) -> Points:
    t = np.arange(steps) / steps
    columns = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3)
    return np.stack(columns, axis=1) / 2


def ellipse(center: ArrayLike, radius_x: float, radius_y: float, angle: float = 0.0, num: int = 24) -> Points:
    """Return the outline of an ellipse in ``num`` points; its radii are turned by ``angle`` (radians)."""
    outline = _circle(num) * (radius_x, radius_y)
    placed: Points = (rotated(outline, angle) if angle else outline) + np.asarray(center)
    return placed


@functools.lru_cache
def _circle(num: int) -> Points:
    turn = 2 * np.pi * np.arange(num) / num
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """Return an upright rectangle."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)


def bumpy(
    center: ArrayLike, radius_x: float, radius_y: float, *, bumps: float, depth: float, phase: float = 0.0
) -> Points:
    """Return a cloud-like outline: an ellipse whose radius goes in and out by the share ``depth``."""
    turn = 2 * np.pi * np.arange(60) / 60
    wave = np.abs(np.sin(turn * bumps / 2 + phase)) + 0.4 * np.sin(turn * 3 + 2.3 * phase)
    placed: Points = _circle(60) * (radius_x, radius_y) * (1 + depth * wave)[:, None] + np.asarray(center)
    return placed


def limb(
    start: ArrayLike,
    end: ArrayLike,
    radii: Sequence[float],
    *,
    span: tuple[float, float] = (0.0, 1.0),
    grow: float = 1.0,
    cut: bool = False,
) -> Points:
    """Return the outline of a tapered limb, or of a sleeve around a stretch of it.

    Args:
        start: Centre of the near joint.
        end: Centre of the far joint.
        radii: Radius at evenly spaced places from ``start`` to ``end``.
        span: The stretch that is drawn, as shares of the length.
        grow: Factor on the radii.
        cut: The far end is straight (a hem) instead of round.
    """
    (x, y), (end_x, end_y) = np.asarray(start).tolist(), np.asarray(end).tolist()
    length = max(math.hypot(end_x - x, end_y - y), 1e-9)
    along = np.array([(end_x - x) / length, (end_y - y) / length])
    across = np.array([-along[1], along[0]])
    shares, radius = _profile(tuple(radii), span)
    middle = (x, y) + shares * (length * along)
    offset = radius * (grow * across)
    cap = _CAP_ACROSS * across + _CAP_ALONG * along
    near = middle[0] - (radius[0] * grow) * cap
    far = middle[-1] + (radius[-1] * grow) * cap
    return np.concatenate([middle + offset, far[:0] if cut else far, (middle - offset)[::-1], near])


@functools.lru_cache(4096)
def _profile(radii: tuple[float, ...], span: tuple[float, float]) -> tuple[Points, Points]:
    """Return shares of the length and radii along a stretch of a limb, each a column."""
    shares = np.linspace(*span, len(radii) + 2)
    return shares[:, None], np.interp(shares, np.linspace(0, 1, len(radii)), radii)[:, None]


_CAP_ACROSS = np.cos(np.linspace(0, np.pi, 7)[1:-1, None])
_CAP_ALONG = np.sin(np.linspace(0, np.pi, 7)[1:-1, None])
