"""The canvas of synthetic scenes: what lies where, what it is made of, and how that looks.

Shapes are painted back to front on a lattice with a point at the centre, the edges and the corners of every pixel.
Labels are the lattice read at the pixel centres. The picture is the lattice coloured and averaged over each pixel, so
that its edges are smooth while no label is ever interpolated.
"""

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.scene.shapes import Points

__all__ = ["ANATOMY", "COVERING", "Canvas", "Material", "Pattern", "Picture", "Rgb", "mix", "part"]

ANATOMY: Final = (
    "", "face", "left_brow", "right_brow", "left_eye", "right_eye", "nose", "upper_lip", "inner_mouth", "lower_lip",
    "hair", "neck", "torso", "upper_arm", "lower_arm", "upper_leg", "lower_leg", "hat",
)  # fmt: skip
"""Names of the anatomy ids; 0 is no person. Left and right are the picture's; hands and feet belong to lower limbs."""

COVERING: Final = ("", "skin", "top", "trousers", "skirt", "dress", "coat", "shoe", "hat", "glasses")
"""Names of the covering ids. 0 is a bare face, hair, or no person; ``skin`` is bare neck, torso, arms and legs."""

Rgb = tuple[float, float, float]
Picture = NDArray[np.float32]

_SHIFT: Final = 4
_ANATOMY, _COVERING, _MATERIAL, _HEIGHT = range(4)
_MAX_MATERIALS: Final = 256


@dataclass(frozen=True)
class Pattern:
    """A second colour laid over a material. Lengths are in picture units (picture height = 1)."""

    kind: Literal["stripes", "checks", "dots", "bricks", "windows", "ramp", "folds", "strands", "mottle"]
    rgb: Rgb
    """0..255."""
    period: float
    angle: float = 0.0
    share: float = 0.5
    """How much of the second colour, 0..1."""
    origin: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Material:
    """How a surface looks under even light."""

    rgb: Rgb
    """0..255."""
    pattern: Pattern | None = None
    grain: float = 0.03
    """Relative strength of the fine noise."""


def mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    """Return the colour that goes from ``a`` (share 0) to ``b`` (share 1)."""
    red, green, blue = (x + (y - x) * share for x, y in zip(a, b, strict=True))
    return red, green, blue


def part(anatomy: str, covering: str = "") -> tuple[int, int]:
    """Return the ids of an anatomy and a covering name."""
    return ANATOMY.index(anatomy), COVERING.index(covering)


class Canvas:
    """A picture in the making. Coordinates are picture units: the height is 1, the width is ``aspect``."""

    def __init__(self, size_hw: tuple[int, int]) -> None:
        height, width = size_hw
        self.size_hw = size_hw
        self.aspect = width / height
        self.pixel = 1 / height
        """Side of a pixel in picture units."""
        self.person = 0
        """Whom the shapes that follow belong to: 0 nobody, 1.. the persons."""
        self._cells = np.zeros((2 * height + 1, 2 * width + 1, 4), np.uint8)
        self._numbers: dict[tuple[int, Material], int] = {(0, Material((128, 128, 128))): 0}
        self._boxes: dict[int, tuple[int, int, int, int]] = {}

    def paint(
        self,
        outline: Points,
        owner: tuple[int, int],
        material: Material,
        height: float,
        *,
        bulge: float = 0.0,
        core: Points | None = None,
    ) -> None:
        """Fill an outline.

        Args:
            outline: (N, 2) polygon in picture units; parts outside the picture are clipped.
            owner: Anatomy and covering ids, see :func:`part`.
            material: What it is made of.
            height: How far it stands out, 0..255: light falls on the steps between heights.
            bulge: How much higher the middle is than the rim.
            core: The middle; by default the outline shrunk towards its centre, which suits convex outlines.
        """
        where = self._box(outline)
        if where is None:
            return
        number = self._number(material, where)
        lattice = self._lattice(outline)
        self._fill(lattice, (*owner, number, round(height)))
        if bulge:
            if core is None:
                center = lattice.sum(axis=0) / len(lattice)
                self._fill(center + (lattice - center) * 0.86, (*owner, number, round(height + bulge / 2)))
                middle = center + (lattice - center) * 0.68
            else:
                middle = self._lattice(core)
            self._fill(middle, (*owner, number, round(height + bulge)))

    def cover(self, outline: Points, covering: str, material: Material, fallback: str) -> None:
        """Fill an outline with a covering and a material but keep the anatomy beneath.

        Args:
            outline: (N, 2) polygon in picture units.
            covering: Its name.
            material: What it is made of.
            fallback: The anatomy of pixels that have none.
        """
        where = self._box(outline)
        if where is None:
            return
        number = self._number(material, where)
        top, bottom, left, right = where
        before = self._cells[top:bottom, left:right].copy()
        self._fill(self._lattice(outline), (0, COVERING.index(covering), number, 0))
        cells = self._cells[top:bottom, left:right]
        changed = cells[..., _MATERIAL] == number
        beneath = np.where(before[..., _ANATOMY] == 0, ANATOMY.index(fallback), before[..., _ANATOMY])
        cells[..., _ANATOMY] = np.where(changed, beneath, before[..., _ANATOMY])
        cells[..., _HEIGHT] = np.where(changed, np.minimum(before[..., _HEIGHT], 245) + 8, before[..., _HEIGHT])

    def labels(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return anatomy and covering ids at the pixel centres, each HW."""
        centers = self._cells[1::2, 1::2]
        return centers[..., _ANATOMY].copy(), centers[..., _COVERING].copy()

    def persons(self) -> NDArray[np.uint8]:
        """Return whose every pixel is, HW: 0 nobody, 1.. the persons."""
        owner = np.zeros(_MAX_MATERIALS, np.uint8)
        for (person, _), number in self._numbers.items():
            owner[number] = person
        centers = self._cells[1::2, 1::2]
        persons: NDArray[np.uint8] = owner[centers[..., _MATERIAL]] * (centers[..., _ANATOMY] > 0)
        return persons

    def heights(self) -> Picture:
        """Return the relief at the pixel centres, HW, 0..255."""
        return self._cells[1::2, 1::2, _HEIGHT].astype(np.float32)

    def grain(self) -> Picture:
        """Return the strength of the fine noise at the pixel centres, HW."""
        strength = np.zeros(_MAX_MATERIALS, np.float32)
        for (_, material), number in self._numbers.items():
            strength[number] = material.grain
        return strength[self._cells[1::2, 1::2, _MATERIAL]]

    def alpha(self) -> Picture:
        """Return how much of each pixel is a person, HW, 0..1."""
        owned = np.where(self._cells[..., _ANATOMY] > 0, np.float32(1), np.float32(0))
        return _reduce(owned)

    def albedo(self) -> Picture:
        """Return the colours under even light, HWC, 0..255."""
        table = np.zeros((1, _MAX_MATERIALS, 3), np.float32)
        for (_, material), number in self._numbers.items():
            table[0, number] = material.rgb
        numbers = np.asarray(cv2.extractChannel(self._cells, _MATERIAL), np.uint8)
        colours = np.clip(np.rint(table), 0, 255).astype(np.uint8)
        picture = np.asarray(cv2.LUT(cv2.merge([numbers] * 3), colours), np.uint8)
        for (_, material), number in self._numbers.items():
            if material.pattern is not None and number in self._boxes:
                self._weave(picture, numbers, number, material, material.pattern)
        return _reduce(picture).astype(np.float32)

    def _weave(
        self,
        picture: NDArray[np.uint8],
        numbers: NDArray[np.uint8],
        number: int,
        material: Material,
        pattern: Pattern,
    ) -> None:
        top, bottom, left, right = self._boxes[number]
        here = numbers[top:bottom, left:right] == number
        unit = 2 * self.size_hw[0]
        x = np.arange(left, right, dtype=np.float32)[None, :] / np.float32(unit) - np.float32(pattern.origin[0])
        y = np.arange(top, bottom, dtype=np.float32)[:, None] / np.float32(unit) - np.float32(pattern.origin[1])
        cos, sin = math.cos(pattern.angle) / pattern.period, math.sin(pattern.angle) / pattern.period
        u = x * np.float32(cos) + y * np.float32(sin)
        v = y * np.float32(cos) - x * np.float32(sin)
        weight = _weight(pattern, u, v)[here][:, None]
        first, second = np.array(material.rgb, np.float32), np.array(pattern.rgb, np.float32)
        mixed = first + weight * (second - first)
        picture[top:bottom, left:right][here] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)

    def _number(self, material: Material, where: tuple[int, int, int, int]) -> int:
        key = (self.person, material)
        number = self._numbers.setdefault(key, len(self._numbers))
        if number >= _MAX_MATERIALS:
            raise ValueError(f"a scene has at most {_MAX_MATERIALS} materials")
        if number in self._boxes:
            old = self._boxes[number]
            where = min(where[0], old[0]), max(where[1], old[1]), min(where[2], old[2]), max(where[3], old[3])
        self._boxes[number] = where
        return number

    def _box(self, outline: Points) -> tuple[int, int, int, int] | None:
        """Return top, bottom, left, right of the lattice that an outline can touch; None if it is out of view."""
        rows, columns = self._cells.shape[:2]
        unit = 2 * self.size_hw[0]
        (left, top), (right, bottom) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
        first_row, first_column = max(math.floor(top * unit) - 1, 0), max(math.floor(left * unit) - 1, 0)
        end_row, end_column = min(math.ceil(bottom * unit) + 2, rows), min(math.ceil(right * unit) + 2, columns)
        if first_row >= end_row or first_column >= end_column:
            return None
        return first_row, end_row, first_column, end_column

    def _lattice(self, outline: Points) -> Points:
        """Return an outline in the fixed-point coordinates of the lattice, before rounding."""
        return outline * float(2 * self.size_hw[0] << _SHIFT)

    def _fill(self, lattice: Points, value: tuple[int, int, int, int]) -> None:
        cv2.fillPoly(self._cells, [np.rint(lattice).astype(np.int32)], value, cv2.LINE_8, _SHIFT)


def _reduce(lattice: NDArray[Any]) -> NDArray[Any]:
    """Average the lattice over each pixel: centre, edges and corners by the trapezoidal rule."""
    taps = np.array([0.25, 0.5, 0.25], np.float32)
    return cv2.sepFilter2D(lattice, -1, taps, taps)[1::2, 1::2]


def _weight(pattern: Pattern, u: Picture, v: Picture) -> Picture:
    """Return the share of the second colour where the pattern's own coordinates are (u, v), in periods."""
    two_pi = np.float32(2 * np.pi)
    if pattern.kind == "ramp":
        weight = np.clip(u, 0, 1)
    elif pattern.kind == "folds":
        weight = np.sin(two_pi * (u + 0.15 * np.sin(v * 0.7))) * 0.5 + 0.5
    elif pattern.kind == "strands":
        weight = np.sin(two_pi * (u + 0.3 * np.sin(v * 1.1) + 0.2 * np.sin(v * 2.3 + 1))) * 0.5 + 0.5
    elif pattern.kind == "mottle":
        weight = np.sin(two_pi * u + 2 * np.sin(v * 4.1)) * np.sin(two_pi * v + 2 * np.sin(u * 3.7)) * 0.5 + 0.5
    else:
        weight = _flat_weight(pattern, u, v)
    return (weight if pattern.kind == "ramp" else weight * np.float32(pattern.share)).astype(np.float32)


def _flat_weight(pattern: Pattern, u: Picture, v: Picture) -> Picture:
    """Return the weight, before :attr:`Pattern.share`, of the patterns with sharp edges."""
    across, along = u - np.floor(u), v - np.floor(v)
    if pattern.kind == "stripes":
        weight = (across < 0.5).astype(np.float32)
    elif pattern.kind == "checks":
        weight = ((across < 0.45) * np.float32(0.55) + (along < 0.45) * np.float32(0.45)).astype(np.float32)
    elif pattern.kind == "dots":
        weight = ((across - 0.5) ** 2 + (along - 0.5) ** 2 < 0.08).astype(np.float32)
    elif pattern.kind == "windows":
        weight = ((np.abs(across - 0.5) < 0.28) & (np.abs(along - 0.5) < 0.36)).astype(np.float32)
    else:
        shifted = u + 0.5 * (np.floor(2 * v) % 2)
        joint = (2 * v - np.floor(2 * v) < 0.16) | (shifted - np.floor(shifted) < 0.08)
        weight = joint.astype(np.float32)
    return weight
