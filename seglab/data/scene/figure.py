"""Bodies and clothes of synthetic people: an articulated figure, painted back to front.

Person coordinates: the hips are at (0, 0), y points down, and the person is about 1 high.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from seglab.data.scene.canvas import Canvas, Material, Pattern, mix, part
from seglab.data.scene.head import draw_hair_behind, draw_hair_locks, draw_hat, draw_head
from seglab.data.scene.person import Arm, Body, Leg, Person
from seglab.data.scene.shapes import Frame, Points, limb, mirrored, moved, polar, rotated, smooth

__all__ = ["draw_person", "feet_below", "head_center"]

_NECK = -0.295
_SIDES = (-1, 1)
_ARM_LENGTHS = (0.165, 0.145)
_LEG_LENGTHS = (0.245, 0.235)
_UPPER_ARM = (0.034, 0.032, 0.026)
_LOWER_ARM = (0.026, 0.026, 0.021, 0.016)
_UPPER_LEG = (0.056, 0.055, 0.046, 0.037)
_LOWER_LEG = (0.036, 0.04, 0.033, 0.022)


def draw_person(canvas: Canvas, frame: Frame, person: Person) -> None:
    """Paint a person.

    Args:
        canvas: Where to; its ``person`` says whose the pixels are.
        frame: Of the person: origin at the hips, scale = the person's height in picture units.
        person: Whom.
    """
    figure = _Figure(canvas, frame, person)
    body, head = person.body, person.head
    neck_frame = frame.child(head_center(body), body.head, body.lean + head.roll)
    if not body.from_behind:
        draw_hair_behind(canvas, neck_frame, head)
    figure.coat_lining()
    figure.arms(in_front=False)
    figure.legs()
    figure.neck()
    figure.torso()
    figure.skirt()
    figure.top()
    figure.coat()
    if not body.from_behind:
        draw_head(canvas, neck_frame, head)
        draw_hair_locks(canvas, neck_frame, head)
        draw_hat(canvas, neck_frame, head)
    figure.arms(in_front=True)
    if body.from_behind:
        draw_head(canvas, neck_frame, head, from_behind=True)
        draw_hat(canvas, neck_frame, head, from_behind=True)


def head_center(body: Body) -> Points:
    """Return the middle of the head in person coordinates."""
    return rotated((0.0, _NECK - 0.017 - body.head), body.lean)


def feet_below(body: Body) -> float:
    """Return how far below the hips the lower foot's sole is, in person coordinates."""
    return max(float(_leg_chain(body, side)[2][1]) for side in (0, 1)) + 0.05


@dataclass(frozen=True)
class _Chain:
    """Two bones: the upper from ``joints[0]`` to ``joints[1]``, the lower from there to ``joints[2]``."""

    joints: tuple[Points, Points, Points]

    def __getitem__(self, position: int) -> Points:
        return self.joints[position]


def _chain(start: ArrayLike, side: int, pose: Arm | Leg, lengths: tuple[float, float]) -> _Chain:
    first, bend = (pose.raised, pose.elbow) if isinstance(pose, Arm) else (pose.spread, pose.knee)
    root = np.asarray(start, np.float64)
    middle = root + polar(side * first, lengths[0] * pose.reach)
    return _Chain((root, middle, middle + polar(side * (first + bend), lengths[1])))


def _leg_chain(body: Body, position: int) -> _Chain:
    side = _SIDES[position]
    return _chain((side * body.hip * 0.55, 0.01), side, body.legs[position], _LEG_LENGTHS)


def _hang(length: float) -> float:
    """Return how far below the hips cloth ends that reaches 1 to the knee, 2 to the ankle."""
    return min(length, 1.0) * _LEG_LENGTHS[0] + max(length - 1, 0.0) * _LEG_LENGTHS[1]


class _Figure:
    """One person on one canvas; the methods paint from back to front in the order of :func:`draw_person`."""

    def __init__(self, canvas: Canvas, frame: Frame, person: Person) -> None:
        self.canvas, self.frame = canvas, frame
        self.body, self.outfit, self.head = person.body, person.outfit, person.head
        self.skin = Material(self.head.skin, grain=0.025)
        self.trunk = frame.child((0, 0), 1.0, self.body.lean)

    def piece(
        self,
        ends: tuple[Points, Points],
        radii: tuple[float, ...],
        owner: tuple[str, str],
        material: Material,
        height: float,
        *,
        span: tuple[float, float] = (0.0, 1.0),
        grow: float = 1.0,
        cut: bool = False,
    ) -> None:
        """Paint a stretch of a limb or of the cloth around it."""
        grow *= self.body.heft
        outline = self.frame.at(limb(*ends, radii, span=span, grow=grow, cut=cut))
        core = self.frame.at(limb(*ends, radii, span=span, grow=grow * 0.55, cut=cut))
        self.canvas.paint(outline, part(*owner), material, height, bulge=22, core=core)

    def arms(self, *, in_front: bool) -> None:
        """Paint the arms that are in front of the trunk, or those behind it, with hands and sleeves."""
        for position, side in enumerate(_SIDES):
            arm = self.body.arms[position]
            if arm.in_front != in_front:
                continue
            shoulder = rotated((side * (self.body.shoulder - 0.016), _NECK + 0.052), self.body.lean)
            chain = _chain(shoulder, side, arm, _ARM_LENGTHS)
            self._arm(chain, side, 150.0 if in_front else 92.0)

    def _arm(self, chain: _Chain, side: int, height: float) -> None:
        upper, lower = (chain[0], chain[1]), (chain[1], chain[2])
        self._hand(chain, side, height)
        self.piece(lower, _LOWER_ARM, ("lower_arm", "skin"), self.skin, height)
        self.piece(upper, _UPPER_ARM, ("upper_arm", "skin"), self.skin, height)
        for sleeve, covering, material, grow in self._sleeves():
            if sleeve > 1:
                span = (0.0, min(sleeve - 1, 1.0))
                self.piece(
                    lower, _LOWER_ARM, ("lower_arm", covering), material, height + 4, span=span, grow=grow, cut=True
                )
            span = (0.0, min(sleeve, 1.0))
            self.piece(
                upper, _UPPER_ARM, ("upper_arm", covering), material, height + 4, span=span, grow=grow, cut=sleeve < 1
            )

    def _sleeves(self) -> list[tuple[float, str, Material, float]]:
        """Return reach, covering, material and width of every layer over the arms."""
        top, coat = self.outfit.top, self.outfit.coat
        layers = []
        if top and top.sleeve > 0.1:
            covering = "dress" if self.outfit.lower.kind == "dress" else "top"
            layers.append((top.sleeve, covering, top.material, 1.06 + (top.loose - 1) * 1.3))
        if coat:
            layers.append((1.92, "coat", coat.material, 1.36))
        return layers

    def _hand(self, chain: _Chain, side: int, height: float) -> None:
        along = chain[2] - chain[1]
        angle = math.atan2(along[0], along[1])
        wrist = self.frame.child(chain[2], self.body.heft**0.5, -angle)
        owner = part("lower_arm", "skin")
        fine = self.frame.scale > 140 * self.canvas.pixel
        for spread, length, root in (
            ()
            if not fine
            else ((-0.24, 0.036, -0.009), (-0.08, 0.042, -0.003), (0.08, 0.04, 0.003), (0.26, 0.034, 0.009))
        ):
            finger = limb((root, 0.018), np.array([root, 0.018]) + polar(spread, length), (0.0058, 0.0045))
            self.canvas.paint(wrist.at(finger), owner, self.skin, height + 6, bulge=8)
        thumb = limb((-0.008 * side, 0.008), (-0.026 * side, 0.034), (0.0075, 0.005))
        self.canvas.paint(wrist.at(thumb), owner, self.skin, height + 8)
        palm = limb((0.0, -0.004), (0.0, 0.026), (0.014, 0.018, 0.017))
        self.canvas.paint(wrist.at(palm), owner, self.skin, height + 6, bulge=12)

    def legs(self) -> None:
        """Paint the legs, the straighter one first, with feet, boots and trousers."""
        lower = self.outfit.lower
        order = sorted((0, 1), key=lambda position: abs(self.body.legs[position].knee))
        for position in order:
            chain = _leg_chain(self.body, position)
            height = 98.0 + 12 * order.index(position)
            upper_ends, lower_ends = (chain[0], chain[1]), (chain[1], chain[2])
            self._foot(chain, _SIDES[position], height)
            self.piece(lower_ends, _LOWER_LEG, ("lower_leg", "skin"), self.skin, height)
            self.piece(upper_ends, _UPPER_LEG, ("upper_leg", "skin"), self.skin, height)
            self._boot(lower_ends, height + 3)
            if lower.kind == "trousers":
                self._trouser_leg(upper_ends, lower_ends, height + 5)

    def _trouser_leg(self, upper: tuple[Points, Points], lower: tuple[Points, Points], height: float) -> None:
        trousers = self.outfit.lower
        wide = 1 + (trousers.wide - 1) * 0.6
        if trousers.length > 1:
            span = (0.0, min(trousers.length - 1, 0.97))
            shape = tuple(
                radius * (1 + (trousers.wide - 1) * share)
                for radius, share in zip(_LOWER_LEG, (0.6, 1, 1.6, 3), strict=True)
            )
            self.piece(
                lower, shape, ("lower_leg", "trousers"), trousers.material, height, span=span, grow=1.04, cut=True
            )
        short = trousers.length < 1
        span = (0.0, min(trousers.length, 1.0))
        grow = wide * (1.12 if short else 1.02)
        self.piece(
            upper, _UPPER_LEG, ("upper_leg", "trousers"), trousers.material, height, span=span, grow=grow, cut=short
        )

    def _foot(self, chain: _Chain, side: int, height: float) -> None:
        shoe = self.outfit.shoe
        material = shoe or self.skin
        owner = part("lower_leg", "shoe" if shoe else "skin")
        ankle = chain[2]
        shin = chain[2] - chain[1]
        turn = math.atan2(shin[0], shin[1])
        foot = self.frame.child(ankle, self.body.heft**0.5, -turn * 0.5)
        outline = limb((0.0, 0.006), (0.022 * side, 0.03), (0.021, 0.027, 0.024))
        self.canvas.paint(foot.at(outline), owner, material, height + 4, bulge=20)
        if shoe:
            sole = limb((0.002 * side, 0.042), (0.036 * side, 0.047), (0.008, 0.008))
            rgb = mix(shoe.rgb, (250, 250, 250) if sum(shoe.rgb) < 300 else (20, 20, 20), 0.6)
            self.canvas.paint(foot.at(sole), owner, Material(rgb), height + 4)

    def _boot(self, lower: tuple[Points, Points], height: float) -> None:
        if self.outfit.shoe and self.outfit.boot > 0.1:
            owner = ("lower_leg", "shoe")
            span = (1 - self.outfit.boot, 1.0)
            self.piece(lower, _LOWER_LEG, owner, self.outfit.shoe, height, span=span, grow=1.14)

    def neck(self) -> None:
        """Paint the neck, and on it the shade of the chin."""
        wide = 0.56 * self.body.head * self.body.heft**0.5
        owner = part("neck", "skin")
        half = [(0.0, _NECK - 0.07), (wide * 0.95, _NECK - 0.07), (wide * 0.9, _NECK - 0.02),
                (wide * 1.1, _NECK - 0.002),
                (self.body.shoulder * 0.6, _NECK + 0.012), (0.0, _NECK + 0.03)]  # fmt: skip
        self.canvas.paint(self.trunk.at(smooth(mirrored(half), 4)), owner, self.skin, 104, bulge=14)
        shade = Material(mix(self.head.skin, (60, 20, 10), 0.22), grain=0.02)
        half = [(0.0, _NECK - 0.07), (wide * 0.95, _NECK - 0.07), (wide * 0.87, _NECK - 0.025),
                (wide * 0.5, _NECK - 0.006), (0.0, _NECK)]  # fmt: skip
        self.canvas.paint(self.trunk.at(mirrored(half)), owner, shade, 104)

    def _trunk_half(self, grow: float, hem: float) -> list[tuple[float, float]]:
        """Return the right edge of the torso from the neck to ``hem`` below the hips."""
        body = self.body
        neck = min(0.55 * body.head * body.heft**0.5, 0.5 * body.shoulder)
        waist, hip = body.waist * body.heft**0.6 * grow, body.hip * body.heft**0.4 * grow
        edge = [(neck, _NECK - 0.002), (body.shoulder * 0.6, _NECK + 0.01), (body.shoulder * 0.9, _NECK + 0.026),
                (body.shoulder * 1.02, _NECK + 0.05),
                (body.shoulder * 0.93 * grow, _NECK + 0.1), (waist, -0.1)]  # fmt: skip
        return [*edge, (hip, min(0.0, hem)), (hip * 0.99, hem)]

    def torso(self) -> None:
        """Paint the bare trunk down to the hips, and the seat of trousers."""
        outline = smooth(mirrored(self._trunk_half(1.0, -0.005)), 4)
        self.canvas.paint(self.trunk.at(outline), part("torso", "skin"), self.skin, 118, bulge=16)
        lower = self.outfit.lower
        if lower.kind == "trousers":
            hip = self.body.hip * self.body.heft**0.4 * 1.03
            half = [(hip * 0.95, -0.04), (hip * 1.02, -0.01), (hip * 1.02, 0.035), (hip * 0.4, 0.062), (0.0, 0.06)]
            self.canvas.paint(self.frame.at(mirrored(half)), part("torso", "trousers"), lower.material, 121, bulge=8)

    def skirt(self) -> None:
        """Paint a skirt, or a dress from the hips down: wide enough for the knees, in folds if it has no pattern."""
        lower = self.outfit.lower
        if lower.kind == "trousers":
            return
        material, hip = lower.material, self.body.hip * self.body.heft**0.4 * 1.04
        if material.pattern is None:
            folds = Pattern("folds", mix(material.rgb, (0, 0, 0), 0.4), self.frame.scale * 0.045, 0.0, 0.6)
            material = replace(material, pattern=folds)
        knees = [abs(float(_leg_chain(self.body, position)[1][0])) for position in (0, 1)]
        reach = np.clip(max(knees) + 0.045 * self.body.heft, hip * 0.95, hip * 1.75)
        bottom = _hang(lower.length)
        hem = hip + (float(reach) - hip + 0.04 * lower.wide) * (bottom / _hang(1.0)) ** 0.7
        self._panels((-0.04, bottom), (hip, hem), lower.kind, material, 124.0)

    def _panels(
        self, ends: tuple[float, float], widths: tuple[float, float], covering: str, material: Material, height: float
    ) -> None:
        """Paint cloth that hangs from the hips: torso down to the crotch, then upper legs, then lower legs.

        Args:
            ends: Where it begins and ends, y in person coordinates.
            widths: Half its width at the hips and at the hem.
            covering: Its name.
            material: What it is made of.
            height: How far it stands out.
        """
        start, bottom = ends
        known_y = (start, 0.0, bottom * 0.5, bottom)
        known_x = (widths[0] * 0.93, widths[0], widths[0] + 0.55 * (widths[1] - widths[0]), widths[1])
        knee, crotch = _hang(1.0) + 0.01, 0.045
        for anatomy, top, end in (("torso", start, crotch), ("upper_leg", crotch, knee), ("lower_leg", knee, bottom)):
            last = end >= bottom
            levels = np.linspace(top, min(end, bottom), 4)
            if levels[0] >= levels[-1]:
                break
            half = [(float(np.interp(y, known_y, known_x)), float(y)) for y in levels]
            half += [(widths[1] * 0.5, bottom + 0.008), (0.0, bottom + 0.011)] if last else []
            outline, core = mirrored(half), mirrored([(x * 0.55, y) for x, y in half])
            self.canvas.paint(
                self.frame.at(outline), part(anatomy, covering), material, height, bulge=20, core=self.frame.at(core)
            )
            if last:
                break

    def top(self) -> None:
        """Paint what covers the trunk, if anything does: a top, or a dress down to the hips."""
        top = self.outfit.top
        if top is None:
            return
        covering = "dress" if self.outfit.lower.kind == "dress" else "top"
        hem = -0.02 if covering == "dress" else top.hem
        half = self._trunk_half(top.loose, hem)
        depth = 0.004 if self.body.from_behind else top.neckline
        neck = min(half[0][0] * (1.0 if top.sleeve > 0.1 else 1.35), self.body.shoulder * 0.56)
        half[0] = (neck, _NECK - 0.002)
        dip = [
            (neck * 0.82, _NECK + depth * (0.3 if top.pointed else 0.55)),
            (neck * 0.4, _NECK + depth * (0.7 if top.pointed else 0.95)),
        ]
        right = np.array([(0.0, _NECK + depth), *dip[::-1], *half])
        outline = smooth(np.concatenate([right, (right * (-1, 1))[:0:-1]]), 3)
        owner = part("torso", covering)
        chest = self.trunk.at(smooth(mirrored([(x * 0.7, y * 0.85 - 0.03) for x, y in half[3:]]), 3))
        self.canvas.paint(self.trunk.at(outline), owner, top.material, 128, bulge=18, core=chest)
        self._trim(right[: len(dip) + 2], owner)

    def _trim(self, neckline: Points, owner: tuple[int, int]) -> None:
        """Paint the seam along the neckline."""
        top = self.outfit.top
        if top is None or sum(top.trim) % 2 < 0.8:
            return
        for side in _SIDES:
            edge = neckline * (side, 1)
            outline = np.concatenate([edge, moved(edge, 0, 0.008)[::-1]])
            self.canvas.paint(self.trunk.at(outline), owner, Material(top.trim), 134)

    def coat_lining(self) -> None:
        """Paint the inside of a coat, which is seen behind the legs."""
        coat = self.outfit.coat
        if coat:
            dark = Material(mix(coat.material.rgb, (0, 0, 0), 0.45), grain=0.03)
            hip = self.body.hip * self.body.heft**0.4 * 1.08
            self._panels((-0.03, _hang(coat.length)), (hip, hip * 1.2), "coat", dark, 86.0)

    def coat(self) -> None:
        """Paint the two fronts of a coat, or its back."""
        coat = self.outfit.coat
        if coat is None:
            return
        gap = 0.0 if self.body.from_behind else coat.open
        edge = self._trunk_half(1.2, 0.045)
        hip = edge[-1][0]
        inner = [
            (hip * gap, 0.045),
            (hip * gap * 0.8, -0.1),
            (hip * gap * 0.55, _NECK + 0.09),
            (edge[0][0] * (0.9 if gap else 0.5), _NECK),
        ]
        for side in _SIDES:
            self._tail(side, hip, gap, _hang(coat.length))
            front = np.array([*edge, *inner]) * (side, 1)
            self.canvas.paint(self.trunk.at(front), part("torso", "coat"), coat.material, 138)
        if not self.body.from_behind:
            self._lapels(edge[0][0], max(gap, 0.1) * hip)

    def _tail(self, side: int, hip: float, gap: float, bottom: float) -> None:
        coat = self.outfit.coat
        knee, wide = _LEG_LENGTHS[0] + 0.01, hip * 1.22
        if coat is None or bottom <= 0.045:
            return
        for anatomy, start, end in (("lower_leg", knee, bottom), ("upper_leg", 0.03, min(bottom, knee))):
            if end > start:
                outer = [(float(np.interp(y, (0.03, 0.4), (hip, wide))) * side, y) for y in (start, end)]
                inner = [
                    (float(np.interp(y, (0.03, 0.4), (hip * gap, hip * gap * 1.5))) * side, y) for y in (end, start)
                ]
                self.canvas.paint(self.frame.at([*outer, *inner]), part(anatomy, "coat"), coat.material, 136)

    def _lapels(self, neck: float, gap: float) -> None:
        coat = self.outfit.coat
        if coat is None:
            return
        shade = Material(mix(coat.material.rgb, (0, 0, 0), 0.2), coat.material.pattern, coat.material.grain)
        for side in _SIDES:
            lapel = np.array(
                [
                    (neck * 0.8, _NECK - 0.012),
                    (neck * 1.5, _NECK + 0.006),
                    (neck * 1.45, _NECK + 0.06),
                    (gap * 0.85, -0.12),
                ]
            )
            self.canvas.paint(self.trunk.at(lapel * (side, 1)), part("torso", "coat"), shade, 146)
