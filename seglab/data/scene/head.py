"""Heads of synthetic people: face, features, hair, hats and glasses, seen from the front or from behind.

Head coordinates: the eyes are near (0, 0), the chin is at y = 1 and the bare crown at y = -1.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from seglab.data.scene.canvas import Canvas, Material, Pattern, Rgb, mix, part
from seglab.data.scene.person import Head
from seglab.data.scene.shapes import Frame, Points, box, bumpy, ellipse, mirrored, moved, smooth

__all__ = ["draw_hair_behind", "draw_hair_locks", "draw_hat", "draw_head"]

_WHITE: Rgb = (236, 234, 230)
_DARK: Rgb = (24, 18, 18)


def draw_hair_behind(canvas: Canvas, frame: Frame, head: Head) -> None:
    """Paint the hair that hangs behind the neck, before the body is painted."""
    hair = head.hair
    if hair.length > 0.3 and hair.volume > 0:
        width = 0.78 + hair.volume
        end = min(hair.length, 2.6)
        half = [
            (0.0, -0.7),
            (width, -0.4),
            (width * 1.04, 0.35),
            (width * 0.98, end * 0.8),
            (0.55, end),
            (0.2, end + 0.06),
        ]
        outline = smooth(_curled(mirrored(half), hair.curl, hair.phase))
        canvas.paint(frame.at(outline), part("hair"), _hair_material(frame, head, 0.72), 84)
    if hair.bun and hair.volume > 0:
        top = bumpy((0.25 * hair.parting, -1.12), 0.36, 0.33, bumps=9, depth=0.04, phase=hair.phase)
        canvas.paint(frame.at(top), part("hair"), _hair_material(frame, head, 0.9), 96, bulge=22)


def draw_hair_locks(canvas: Canvas, frame: Frame, head: Head) -> None:
    """Paint the locks of long hair that fall over the shoulders, after the body is painted."""
    hair = head.hair
    if hair.length <= 0.5 or hair.volume == 0:
        return
    width, end = 0.76 + hair.volume, min(hair.length, 2.6)
    shift = -math.sin(head.yaw) * 0.12
    for side in (-1, 1):
        turn = 1 + 0.25 * side * math.sin(head.yaw)
        lock = np.array(
            [(0.42, -0.72), (width * 0.93, -0.5), (width, 0.1), (width * 1.05, end * 0.6), (width * 0.88, end * 0.95),
             (0.66, end), (0.56, end * 0.6), (0.62 * turn, 0.3), (0.63 * turn, -0.15), (0.5, -0.52)]
        )  # fmt: skip
        outline = smooth(_curled(lock * (side, 1) + (shift, 0), hair.curl * 0.5, hair.phase))
        canvas.paint(frame.at(outline), part("hair"), _hair_material(frame, head), 146)


def draw_head(canvas: Canvas, frame: Frame, head: Head, *, from_behind: bool = False) -> None:
    """Paint a head over a neck that is there already."""
    if from_behind:
        _draw_back(canvas, frame, head)
    else:
        face = _Face(canvas, frame, head)
        face.skin()
        face.eyes()
        face.nose()
        face.mouth()
        face.brows()
        _draw_hair(canvas, frame, head)
        if head.glasses:
            face.glasses()


class _Face:
    """The front of a head; features are placed on a rounded surface that turns with the head.

    Face coordinates: seen straight on, the middle is at (0, 0), y points down, and the chin is near (0, 1).
    """

    def __init__(self, canvas: Canvas, frame: Frame, head: Head) -> None:
        self.canvas, self.frame, self.head = canvas, frame, head
        self.material = Material(head.skin, grain=0.02)
        self.fine = frame.scale > 12 * canvas.pixel

    def place(self, points: ArrayLike, lift: float = 0.0) -> Points:
        """Return where points of the face seen straight on lie in the picture when the head is turned."""
        x, y = np.asarray(points, np.float64).T
        depth = 0.8 * np.sqrt(np.clip(1 - (x / 0.8) ** 2 - (y / 1.2) ** 2, 0, 1)) + lift
        yaw, pitch = self.head.yaw, self.head.pitch
        turned = x * math.cos(yaw) + depth * math.sin(yaw) * 0.75
        nodded = y * math.cos(pitch) + (depth - 0.4) * math.sin(pitch)
        return self.frame.at(np.stack([turned, nodded], axis=1))

    def paint(
        self, points: ArrayLike, anatomy: str, rgb: Rgb, height: float, lift: float = 0.0, bulge: float = 0
    ) -> None:
        """Paint a feature of one colour, ``lift`` off the rounded surface."""
        self.canvas.paint(self.place(points, lift), part(anatomy), Material(rgb, grain=0.015), height, bulge=bulge)

    def skin(self) -> None:
        """Paint ears, skull, face and beard; the ear on the side that the head turns away comes last."""
        head, canvas = self.head, self.canvas
        turn = math.sin(head.yaw)
        ears = [(side, 0.74 * side * math.cos(head.yaw) - 0.1 * turn) for side in (-1, 1)]
        shade = Material(mix(head.skin, (120, 40, 30), 0.12), grain=0.02)
        for _, x in ears:
            canvas.paint(self.frame.at(ellipse((x, 0.06), 0.13, 0.21)), part("face"), shade, 112, bulge=12)
        skull = ellipse((-turn * 0.16, -0.2), 0.74, 0.8, num=40)
        canvas.paint(self.frame.at(skull), part("face"), self.material, 122)
        jaw = head.jaw
        half = [(0.0, -1.0), (0.46, -0.86), (0.7, -0.4), (0.71, 0.05), (0.63 * (0.4 + 0.6 * jaw), 0.45),
                (0.45 * jaw, 0.78), (0.2 * jaw, 0.98), (0.0, 1.01)]  # fmt: skip
        chin_shift = np.array([(turn * 0.1 * max(0.0, y), 0.03 * head.mouth * max(0.0, y)) for _, y in mirrored(half)])
        outline = smooth(mirrored(half) + chin_shift)
        canvas.paint(self.frame.at(outline), part("face"), self.material, 124, bulge=24)
        for side, x in ears:
            if side * turn < -0.3:
                ear = self.frame.at(ellipse((x * 0.97, 0.06), 0.11, 0.2))
                canvas.paint(ear, part("face"), shade, 134, bulge=10)
        if head.beard:
            self._beard(jaw)

    def _beard(self, jaw: float) -> None:
        head = self.head
        rgb = mix(head.skin, mix(head.hair.rgb, (0, 0, 0), 0.1), 0.35 + 0.55 * head.beard)
        half = [(0.0, 0.42), (0.26, 0.4), (0.42, 0.5), (0.56, 0.1), (0.69, 0.0), (0.66 * (0.4 + 0.6 * jaw), 0.45),
                (0.46 * jaw, 0.8), (0.2 * jaw, 1.0 + 0.08 * head.beard), (0.0, 1.02 + 0.1 * head.beard)]  # fmt: skip
        strands = Pattern("mottle", mix(rgb, head.skin, 0.3), self.frame.scale * 0.08, 0.3, 0.6)
        outline = self.place(mirrored(half) * (0.97, 0.98))
        self.canvas.paint(outline, part("face"), Material(rgb, strands, 0.08), 146)

    def eyes(self) -> None:
        """Paint the eyes as far as they are open; lashes and glints where the head is large in the picture."""
        head = self.head
        white = mix(_WHITE, head.skin, 0.12)
        for side, name in ((-1, "left_eye"), (1, "right_eye")):
            center = np.array([0.31 * side, -0.02])
            x = np.linspace(-1, 1, 11)
            lid = (1 - x**2) * head.eyes
            upper = np.stack([x * 0.155, -0.098 * lid - 0.012 * side * x], axis=1)
            lower = np.stack([x * 0.155, 0.062 * lid - 0.012 * side * x], axis=1)[::-1]
            socket = ellipse((0, 0.0), 0.2, 0.125 * max(0.75, head.eyes))
            self.paint(socket + center, "face", mix(head.skin, (70, 30, 30), 0.13), 132)
            almond = np.concatenate([upper, lower[1:-1]])
            lash = np.concatenate([upper * (1.06, 1.0) - (0, 0.028), upper[::-1]])
            self.paint(almond + center, name, white, 136)
            look = np.array([0.05 * math.sin(head.yaw * 2), -0.01])
            for radius, rgb in ((0.074, head.iris), (0.036, _DARK)):
                disc = ellipse(look, radius, radius, num=16)
                bound = (
                    np.interp(disc[:, 0], upper[:, 0], upper[:, 1]),
                    np.interp(disc[:, 0], upper[:, 0], lower[::-1, 1]),
                )
                disc[:, 1] = np.clip(disc[:, 1], *bound)
                self.paint(disc + center, name, rgb, 137)
            if not self.fine:
                continue
            glint = ellipse((look[0] + 0.025, -0.03 * min(1, head.eyes)), 0.016, 0.014, num=8)
            self.paint(glint + center, name, (250, 250, 250), 137)
            self.paint(lash + center, name, mix(_DARK, head.skin, 0.15), 140)

    def brows(self) -> None:
        """Paint the eyebrows, in the colour of the hair, darkened."""
        head = self.head
        rgb = mix(head.hair.rgb, _DARK, 0.3) if sum(head.hair.rgb) < 480 else mix(head.hair.rgb, (90, 70, 50), 0.45)
        x = np.linspace(0, 1, 8)
        arc = -0.05 * np.sin(np.pi * np.clip(x * 1.15, 0, 1)) - 0.035 * head.brows + 0.03 * (x > 0.9)
        thick = np.interp(x, (0, 0.3, 1), (0.042, 0.048, 0.016))
        for side, name in ((-1, "left_brow"), (1, "right_brow")):
            spread = (0.13 + 0.39 * x) * side
            upper = np.stack([spread, -0.2 + arc - thick], axis=1)
            lower = np.stack([spread, -0.2 + arc + thick], axis=1)[::-1]
            self.paint(np.concatenate([upper, lower]), name, rgb, 152, lift=0.03)

    def nose(self) -> None:
        """Paint the nose and the light on its bridge; nostrils where the head is large in the picture."""
        head = self.head
        wide = head.nose
        half = [(0.0, -0.1), (0.055, -0.06), (0.06, 0.1), (0.1 * wide, 0.24), (0.165 * wide, 0.33), (0.14 * wide, 0.41),
                (0.05, 0.43), (0.0, 0.45)]  # fmt: skip
        outline = smooth(mirrored(half), 3)
        rgb = mix(head.skin, (140, 50, 36), 0.17)
        self.canvas.paint(self.place(outline, 0.06), part("nose"), Material(rgb, grain=0.02), 148)
        bridge = smooth(mirrored([(0.0, 0.0), (0.03, 0.1), (0.07 * wide, 0.32), (0.0, 0.39)]), 3)
        self.paint(bridge, "nose", mix(head.skin, (255, 238, 218), 0.1), 172, lift=0.1)
        for side in (-1, 1) if self.fine else ():
            hole = ellipse((0.075 * side * wide, 0.405), 0.036, 0.018, num=10)
            self.paint(hole, "nose", mix(head.skin, (40, 10, 10), 0.62), 150, lift=0.06)

    def mouth(self) -> None:
        """Paint the lips and, where they are open, what is between them; a smile shows teeth."""
        head = self.head
        x = np.linspace(-1, 1, 13)
        bow = 1 - np.abs(x) ** 2.2
        width = 0.26 + 0.05 * head.smile - 0.04 * head.mouth
        middle = 0.63 - 0.075 * head.smile * x**2
        gap_up, gap_down = 0.035 * head.mouth * bow, 0.17 * head.mouth * bow
        dip = 1 - 0.3 * np.exp(-((x / 0.16) ** 2))
        lines = {
            "top": middle - gap_up - 0.062 * bow * dip, "upper": middle - gap_up,
            "teeth": middle - gap_up * 0.2 + gap_down * 0.4, "lower": middle + gap_down,
            "bottom": middle + gap_down + 0.085 * bow,
        }  # fmt: skip

        def between(first: str, second: str) -> Points:
            edges = [np.stack([x * width, lines[name]], axis=1) for name in (first, second)]
            return np.concatenate([edges[0], edges[1][::-1]])

        if head.mouth:
            self.paint(between("upper", "lower"), "inner_mouth", (84, 24, 28), 126)
            if head.smile > 0.1:
                self.paint(between("upper", "teeth"), "inner_mouth", (232, 226, 216), 130)
        self.paint(between("top", "upper"), "upper_lip", mix(head.lips, _DARK, 0.12), 144, lift=0.03)
        self.paint(between("lower", "bottom"), "lower_lip", head.lips, 150, lift=0.03)

    def glasses(self) -> None:
        """Paint the frame over what is there; only dark glasses have lenses that hide the eyes."""
        head, thick = self.head, 0.034
        frame = Material(head.glasses_rgb, grain=0.0)
        for side in (-1, 1):
            rim = _lens(head.glasses, side, 0.0)
            if head.glasses == "dark":
                self._wear(rim, Material((30, 28, 34), grain=0.0))
            else:
                inner = _lens(head.glasses, side, -2 * thick)
                for start in range(0, len(rim), 2):
                    steps = np.arange(start, start + 3) % len(rim)
                    self._wear(np.concatenate([rim[steps], inner[steps[::-1]]]), frame)
            self._wear(np.array([(0.5, -0.1), (0.78, -0.12), (0.78, -0.05), (0.5, -0.04)]) * (side, 1), frame)
        self._wear(box(-0.1, -0.07, 0.1, -0.02), frame)

    def _wear(self, outline: Points, material: Material) -> None:
        self.canvas.cover(self.place(outline, 0.08), "glasses", material, "face")


def _lens(shape: str, side: int, grow: float) -> Points:
    if shape == "round":
        return ellipse((0.32 * side, 0.0), 0.22 + grow / 2, 0.2 + grow / 2, num=20)
    wide, high = 0.235 + grow / 2, 0.16 + grow / 2
    turn = 2 * np.pi * np.arange(20) / 20
    cos, sin = np.cos(turn), np.sin(turn)
    squared = np.stack([np.sign(cos) * np.abs(cos) ** 0.5 * wide, np.sign(sin) * np.abs(sin) ** 0.5 * high], axis=1)
    return moved(squared, 0.32 * side, 0.0)


def _hair_material(frame: Frame, head: Head, light: float = 1.0) -> Material:
    rgb = mix((0, 0, 0), head.hair.rgb, light)
    lit = mix(rgb, (255, 236, 200), 0.22)
    period = frame.scale * (0.12 if head.hair.curl < 0.06 else 0.2)
    kind = "strands" if head.hair.curl < 0.06 else "mottle"
    return Material(rgb, Pattern(kind, lit, period, frame.angle + 0.1, 0.75), 0.08)  # type: ignore[arg-type]


def _curled(points: Points, curl: float, phase: float) -> Points:
    """Return the outline with its points moved in and out, as curls do."""
    if curl <= 0:
        return points
    dense = smooth(points, 4)
    center = dense.mean(axis=0)
    out = dense - center
    wave = 1 + curl * 0.5 * np.sin(13 * np.arctan2(out[:, 1], out[:, 0]) + phase)
    curled: Points = center + out * wave[:, None]
    return curled


def _draw_hair(canvas: Canvas, frame: Frame, head: Head) -> None:
    """Paint the hair on top of the head and down to the ears, around the hairline."""
    hair = head.hair
    if hair.volume <= 0:
        return
    turn = math.sin(head.yaw)
    angle = np.linspace(np.pi - 0.28, 2 * np.pi + 0.28, 26)
    reach = 1 + hair.curl * np.abs(np.sin(angle * 6 + hair.phase))
    rim = np.stack([np.cos(angle) * (0.75 + hair.volume * 0.8), np.sin(angle) * (0.79 + hair.volume)], axis=1)
    rim = rim * reach[:, None] + (-turn * 0.14, -0.2)
    side = np.array([0.7, 0.645, 0.56, 0.32, 0.0, -0.32, -0.56, -0.645, -0.7])
    line = np.array([0.08, -0.12, -0.42, -0.6, -0.64, -0.6, -0.42, -0.12, 0.08]) + min(0.0, hair.length) * 0.4
    line += hair.fringe * np.exp(-((side / 0.5) ** 4)) * 1.15
    line -= 0.13 * np.exp(-(((side - 0.4 * hair.parting) / 0.25) ** 2)) * (hair.fringe < 0.2)
    edge = np.stack([side + turn * 0.42 * (1 - np.abs(side) / 0.8), line], axis=1)
    steps = np.linspace(0, len(edge) - 1, 33)
    edge = np.stack([np.interp(steps, np.arange(len(edge)), edge[:, axis]) for axis in (0, 1)], axis=1)
    edge[:, 1] += 0.025 * np.sin(steps * 9 + hair.phase) * (0.4 + 6 * max(0.0, hair.fringe))
    outline = np.concatenate([rim, edge])
    canvas.paint(frame.at(outline), part("hair"), _hair_material(frame, head), 148)
    ridge = np.concatenate([rim * 0.93 + (0, -0.03), edge * (0.96, 1) + (0, -0.11)])[6:-6]
    canvas.paint(frame.at(ridge), part("hair"), _hair_material(frame, head), 166)


def _draw_back(canvas: Canvas, frame: Frame, head: Head) -> None:
    hair = head.hair
    for side in (-1, 1):
        ear = ellipse((0.74 * side, 0.06), 0.1, 0.2)
        canvas.paint(frame.at(ear), part("face"), Material(head.skin, grain=0.02), 118, bulge=8)
    skull = smooth(mirrored([(0.0, -1.0), (0.5, -0.88), (0.74, -0.4), (0.7, 0.2), (0.5, 0.62), (0.0, 0.75)]))
    canvas.paint(frame.at(skull), part("face"), Material(head.skin, grain=0.02), 124, bulge=20)
    if hair.volume <= 0:
        return
    wide, end = 0.74 + hair.volume * 0.85, max(0.45, min(hair.length, 2.6))
    half = [(0.0, -1.0 - hair.volume), (wide * 0.7, -0.85 - hair.volume * 0.6), (wide, -0.3),
            (wide, 0.25), (wide * 0.86, end * 0.85), (0.3, end)]  # fmt: skip
    outline = smooth(_curled(mirrored(half), hair.curl, hair.phase))
    canvas.paint(frame.at(outline), part("hair"), _hair_material(frame, head), 148, bulge=24)


def draw_hat(canvas: Canvas, frame: Frame, head: Head, *, from_behind: bool = False) -> None:
    """Paint the hat, if there is one: the dome sits on the hair, brim and visor in front of it."""
    if not head.hat:
        return
    turn, cloth, owner = math.sin(head.yaw), head.hat_material, part("hat", "hat")
    wide = 0.82 + min(head.hair.volume, 0.16) * 0.8
    high = -1.1 - min(head.hair.volume, 0.16)
    dark = Material(mix(cloth.rgb, (0, 0, 0), 0.35), grain=cloth.grain)
    shift = (-turn * 0.08, 0.0)
    tall = 0.14 if head.hat == "brim" else 0.0
    half = [
        (0.0, high - tall),
        (wide * 0.62, high + 0.08 - tall),
        (wide * 0.95, -0.78),
        (wide, -0.4),
        (wide * 0.6, -0.34),
        (0.0, -0.32),
    ]
    canvas.paint(frame.at(smooth(mirrored(half)) + shift), owner, cloth, 170, bulge=24)
    if head.hat == "beanie":
        band = smooth(
            mirrored([(0.0, -0.56), (wide * 0.7, -0.6), (wide * 1.05, -0.62), (wide * 1.05, -0.34), (0.0, -0.27)]), 3
        )
        canvas.paint(frame.at(band + shift), owner, dark, 190)
    elif head.hat == "brim":
        canvas.paint(frame.at(ellipse((turn * 0.15, -0.4), wide * 1.65, 0.2, num=32)), owner, cloth, 184)
        band = mirrored([(0.0, -0.58), (wide * 0.9, -0.64), (wide * 0.97, -0.46), (0.0, -0.4)])
        canvas.paint(frame.at(band + shift), owner, dark, 176)
    elif not from_behind:
        visor = smooth(mirrored([(0.0, -0.44), (0.5, -0.46), (0.78, -0.42), (0.62, -0.27), (0.0, -0.21)]), 3)
        canvas.paint(frame.at(moved(visor, turn * 0.5, 0.0)), owner, dark, 196)
