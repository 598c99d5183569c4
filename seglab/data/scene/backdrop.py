"""What is around synthetic people: rooms, streets, parks, and things that look a little like people but are none."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from seglab.data.scene.canvas import Canvas, Material, Pattern, Rgb, mix
from seglab.data.scene.person import any_rgb, chance, choose, fabric, near, pick
from seglab.data.scene.shapes import Frame, Points, box, bumpy, ellipse, limb, mirrored, moved, polar, smooth

__all__ = ["draw_backdrop", "draw_foreground"]

Rng = np.random.Generator
_NOBODY = (0, 0)


def draw_backdrop(canvas: Canvas, rng: Rng, colours: Sequence[Rgb], *, close: bool) -> None:
    """Paint a place with things in it.

    Args:
        canvas: An empty one.
        rng: Where the choices come from.
        colours: The people's colours, some of which return in the things around them.
        close: The picture is a portrait: fewer and larger things, the ground is out of view.
    """
    place = pick(rng, tuple(_PLACES))
    horizon = rng.uniform(0.85, 1.3) if close else rng.uniform(0.5, 0.85)
    _PLACES[place](canvas, rng, horizon)
    things = {draw: weight for draw, (weight, places) in _THINGS.items() if place in places}
    for _ in range(int(rng.integers(2, 5 if close else 8))):
        thing = choose(rng, things)
        size = rng.uniform(0.35, 0.9) if close else rng.uniform(0.14, 0.5)
        spot = rng.uniform(0, canvas.aspect), horizon + rng.uniform(0.0, 0.1)
        rgb = near(rng, pick(rng, colours), 14) if chance(rng, 0.45) else any_rgb(rng)
        thing(canvas, rng, Frame(spot, size, rng.normal(0, 0.02)), rgb)


def draw_foreground(canvas: Canvas, rng: Rng, colours: Sequence[Rgb]) -> None:
    """Paint one thing that stands before the people and hides a little of them."""
    draw = pick(rng, (_bush, _ball, _bag, _crate, _pole))
    size = rng.uniform(0.12, 0.26)
    spot = rng.uniform(0, canvas.aspect), rng.uniform(0.97, 1.04)
    rgb = near(rng, pick(rng, colours), 14) if chance(rng, 0.4) else any_rgb(rng)
    draw(canvas, rng, Frame(spot, size), rgb)


def _paint(canvas: Canvas, outline: Points, material: Material, height: float, bulge: float = 0.0) -> None:
    canvas.paint(outline, _NOBODY, material, height, bulge=bulge)


def _ramp(first: Rgb, second: Rgb, start: tuple[float, float], length: float, angle: float = math.pi / 2) -> Material:
    return Material(first, Pattern("ramp", second, length, angle, 1.0, start), 0.03)


def _whole(canvas: Canvas) -> Points:
    return box(-0.1, -0.1, canvas.aspect + 0.1, 1.1)


def _pale(rng: Rng) -> Rgb:
    return mix(any_rgb(rng), (225, 220, 212), rng.uniform(0.35, 0.85))


def _room(canvas: Canvas, rng: Rng, horizon: float) -> None:
    wall, floor = _pale(rng), mix(any_rgb(rng), (120, 84, 56), rng.uniform(0.4, 1))
    kind = choose(rng, {"": 3.0, "stripes": 1.0, "bricks": 1.0, "dots": 0.4, "checks": 0.4})
    material = _ramp(wall, mix(wall, (40, 36, 40), 0.35), (0, 0), rng.uniform(0.8, 1.6))
    if kind:
        second = mix(wall, any_rgb(rng), rng.uniform(0.12, 0.4))
        material = Material(wall, Pattern(kind, second, rng.uniform(0.05, 0.2)), 0.05)  # type: ignore[arg-type]
    _paint(canvas, _whole(canvas), material, 40)
    boards = Pattern(pick(rng, ("stripes", "bricks", "ramp")), mix(floor, (0, 0, 0), 0.25), rng.uniform(0.08, 0.3), 0.0)
    _paint(canvas, box(-0.1, horizon, canvas.aspect + 0.1, 1.1), Material(floor, boards, 0.06), 46)
    _paint(
        canvas, box(-0.1, horizon - 0.03, canvas.aspect + 0.1, horizon), Material(mix(wall, (255, 255, 255), 0.4)), 52
    )


def _street(canvas: Canvas, rng: Rng, horizon: float) -> None:
    _sky(canvas, rng, horizon)
    left = -rng.uniform(0, 0.2)
    while left < canvas.aspect:
        width, top = rng.uniform(0.18, 0.45), rng.uniform(-0.1, horizon - 0.25)
        wall = mix(any_rgb(rng), (150, 130, 115), 0.5)
        glass = mix(any_rgb(rng), pick(rng, ((60, 80, 100), (230, 210, 150))), 0.7)
        windows = Pattern("windows", glass, rng.uniform(0.06, 0.12), 0.0, 1.0, (left, top))
        bricks = Pattern("bricks", mix(wall, (230, 220, 210), 0.35), rng.uniform(0.03, 0.07))
        material = Material(wall, windows if chance(rng, 0.7) else bricks, 0.06)
        _paint(canvas, box(left, top, left + width, horizon), material, 44)
        left += width + rng.uniform(0, 0.12)
    pavement = mix(any_rgb(rng), (128, 124, 120), 0.75)
    slabs = Pattern("bricks", mix(pavement, (0, 0, 0), 0.2), rng.uniform(0.15, 0.35))
    _paint(canvas, box(-0.1, horizon, canvas.aspect + 0.1, 1.1), Material(pavement, slabs, 0.09), 46)


def _park(canvas: Canvas, rng: Rng, horizon: float) -> None:
    _sky(canvas, rng, horizon)
    for step in range(2):
        green = mix(any_rgb(rng), (70, 104, 62), 0.75)
        x = np.linspace(-0.1, canvas.aspect + 0.1, 14)
        y = horizon - 0.16 + 0.1 * step + rng.uniform(0.02, 0.07) * np.sin(x * rng.uniform(3, 8) + rng.uniform(0, 6))
        hill = np.concatenate([np.stack([x, y], axis=1), [(canvas.aspect + 0.1, 1.1), (-0.1, 1.1)]])
        leaves = Pattern("mottle", mix(green, (20, 40, 16), 0.5), rng.uniform(0.03, 0.08), 0.3, 0.7)
        _paint(canvas, hill, Material(green, leaves, 0.1), 42 + 2 * step)
    grass = near(rng, pick(rng, ((96, 128, 62), (128, 134, 70), (150, 130, 84), (70, 98, 54))), 10)
    blades = Pattern("strands", mix(grass, (30, 50, 20), 0.5), rng.uniform(0.03, 0.07), 0.0, 0.5)
    _paint(canvas, box(-0.1, horizon, canvas.aspect + 0.1, 1.1), Material(grass, blades, 0.14), 46)


def _beach(canvas: Canvas, rng: Rng, horizon: float) -> None:
    _sky(canvas, rng, horizon)
    sea = near(rng, (58, 128, 150), 18)
    top = horizon - rng.uniform(0.08, 0.25)
    waves = Pattern("strands", mix(sea, (240, 250, 250), 0.4), 0.05, math.pi / 2, 0.6)
    _paint(canvas, box(-0.1, top, canvas.aspect + 0.1, horizon + 0.1), Material(sea, waves, 0.05), 42)
    sand = near(rng, pick(rng, ((214, 184, 142), (196, 160, 118), (232, 206, 172))), 8)
    x = np.linspace(-0.1, canvas.aspect + 0.1, 12)
    shore = np.stack([x, horizon + 0.02 * np.sin(5 * x + rng.uniform(0, 6))], axis=1)
    dunes = Pattern("mottle", mix(sand, (120, 90, 60), 0.4), rng.uniform(0.1, 0.3), 0.2, 0.6)
    _paint(canvas, np.concatenate([shore, [(canvas.aspect + 0.1, 1.1), (-0.1, 1.1)]]), Material(sand, dunes, 0.12), 46)


def _studio(canvas: Canvas, rng: Rng, horizon: float) -> None:
    first, second = _pale(rng), any_rgb(rng)
    _paint(
        canvas,
        _whole(canvas),
        _ramp(first, mix(first, second, 0.6), (0, 0), rng.uniform(0.9, 1.6), rng.uniform(0, 3)),
        40,
    )
    for _ in range(int(rng.integers(0, 5))):
        spot = rng.uniform(0, canvas.aspect), rng.uniform(0, horizon)
        blob = bumpy(
            spot,
            rng.uniform(0.1, 0.4),
            rng.uniform(0.1, 0.4),
            bumps=rng.uniform(2, 6),
            depth=0.2,
            phase=rng.uniform(0, 6),
        )
        _paint(canvas, blob, Material(mix(first, any_rgb(rng), rng.uniform(0.15, 0.7))), 42)


def _sky(canvas: Canvas, rng: Rng, horizon: float) -> None:
    top = near(rng, pick(rng, ((92, 146, 208), (150, 176, 204), (176, 180, 186), (224, 156, 120), (60, 74, 108))), 10)
    _paint(canvas, _whole(canvas), _ramp(top, mix(top, (244, 236, 226), 0.7), (0, 0), horizon), 36)
    for _ in range(int(rng.integers(0, 4))):
        spot = rng.uniform(0, canvas.aspect), rng.uniform(0, horizon * 0.7)
        cloud = bumpy(
            spot, rng.uniform(0.1, 0.3), rng.uniform(0.02, 0.07), bumps=9, depth=0.25, phase=rng.uniform(0, 6)
        )
        _paint(canvas, cloud, Material(mix(top, (250, 248, 244), 0.75), grain=0.02), 36)


def _tree(canvas: Canvas, rng: Rng, frame: Frame, _rgb: Rgb) -> None:
    bark = near(rng, (92, 66, 48), 14)
    _paint(canvas, frame.at(limb((0, 0), (0, -0.9), (0.07, 0.05, 0.04))), Material(bark, grain=0.1), 58, 18)
    for side in (-1, 1):
        branch = limb((0, -0.6), np.array([0, -0.6]) + polar(math.pi - 0.6 * side, 0.4), (0.035, 0.02))
        _paint(canvas, frame.at(branch), Material(bark, grain=0.1), 58, 10)
    for _ in range(4):
        green = near(rng, (74, 104, 54), 18)
        leaves = Pattern("mottle", mix(green, (24, 44, 20), 0.6), frame.scale * 0.12, 0.4, 0.8)
        spot = rng.uniform(-0.3, 0.3), rng.uniform(-1.4, -0.9)
        crown = bumpy(
            spot, rng.uniform(0.25, 0.42), rng.uniform(0.22, 0.36), bumps=11, depth=0.1, phase=rng.uniform(0, 6)
        )
        _paint(canvas, frame.at(crown), Material(green, leaves, 0.12), 66, 16)


def _bush(canvas: Canvas, rng: Rng, frame: Frame, _rgb: Rgb) -> None:
    green = near(rng, (84, 112, 60), 18)
    leaves = Pattern("mottle", mix(green, (24, 44, 20), 0.6), frame.scale * 0.14, 0.4, 0.8)
    outline = bumpy((0, -0.3), 0.5, 0.36, bumps=13, depth=0.1, phase=rng.uniform(0, 6))
    _paint(canvas, frame.at(outline), Material(green, leaves, 0.14), 70, 30)


def _pole(canvas: Canvas, rng: Rng, frame: Frame, rgb: Rgb) -> None:
    _paint(canvas, frame.at(limb((0, 0.1), (0, -2.2), (0.05, 0.04))), Material(rgb, grain=0.03), 62, 24)
    if chance(rng, 0.6):
        _paint(canvas, frame.at(ellipse((0, -2.25), 0.13, 0.16)), Material(_pale(rng)), 66, 20)


def _ball(canvas: Canvas, rng: Rng, frame: Frame, rgb: Rgb) -> None:
    stripe = Pattern(pick(rng, ("stripes", "dots", "ramp")), any_rgb(rng), frame.scale * 0.3, rng.uniform(0, 3))
    _paint(
        canvas,
        frame.at(ellipse((0, -0.25), 0.25, 0.25, num=32)),
        Material(rgb, stripe if chance(rng, 0.5) else None),
        64,
        40,
    )


def _bag(canvas: Canvas, rng: Rng, frame: Frame, rgb: Rgb) -> None:
    cloth = fabric(rng, frame.scale * 2, rgb, plain=0.6)
    handle = np.concatenate([ellipse((0, -0.55), 0.2, 0.25), ellipse((0, -0.55), 0.15, 0.2)[::-1]])
    _paint(canvas, frame.at(handle), Material(mix(rgb, (0, 0, 0), 0.4)), 62)
    _paint(
        canvas, frame.at(smooth(mirrored([(0.0, -0.56), (0.3, -0.55), (0.36, -0.03), (0.0, 0.0)]), 3)), cloth, 64, 26
    )


def _crate(canvas: Canvas, rng: Rng, frame: Frame, rgb: Rgb) -> None:
    high = rng.uniform(0.4, 1.2)
    boards = Pattern("stripes", mix(rgb, (0, 0, 0), 0.3), frame.scale * 0.22, math.pi / 2, 0.6)
    _paint(canvas, frame.at(box(-0.4, -high, 0.4, 0.05)), Material(rgb, boards, 0.06), 60, 6)


def _cushions(canvas: Canvas, rng: Rng, frame: Frame, rgb: Rgb) -> None:
    base = fabric(rng, frame.scale * 2, mix(rgb, any_rgb(rng), 0.4), plain=0.6)
    _paint(canvas, frame.at(smooth(mirrored([(0.0, -0.7), (0.8, -0.66), (0.85, 0.0), (0.0, 0.02)]), 3)), base, 56, 12)
    for x in (-0.45, 0.35):
        pillow = moved(smooth(mirrored([(0.0, -0.2), (0.26, -0.24), (0.26, 0.16), (0.0, 0.2)]), 3), x, -0.36)
        _paint(canvas, frame.at(pillow), fabric(rng, frame.scale * 1.5, near(rng, rgb, 25)), 68, 24)


def _vase(canvas: Canvas, rng: Rng, frame: Frame, rgb: Rgb) -> None:
    for angle in np.linspace(-0.6, 0.6, int(rng.integers(3, 6))):
        stem = np.array([0.0, -0.6]) - polar(-angle, 0.55)
        _paint(canvas, frame.at(limb((0, -0.6), stem, (0.015, 0.01))), Material((70, 100, 50)), 58)
        _paint(canvas, frame.at(bumpy(stem, 0.11, 0.11, bumps=6, depth=0.2)), Material(near(rng, rgb, 30)), 64, 14)
    half = [(0.0, -0.7), (0.1, -0.68), (0.09, -0.55), (0.24, -0.3), (0.16, -0.02), (0.0, 0.0)]
    _paint(canvas, frame.at(smooth(mirrored(half))), Material(near(rng, rgb, 10), grain=0.02), 66, 34)


def _lamp(canvas: Canvas, rng: Rng, frame: Frame, rgb: Rgb) -> None:
    _paint(canvas, frame.at(limb((0, 0), (0, -1.5), (0.025, 0.02))), Material((50, 46, 44)), 58, 8)
    _paint(canvas, frame.at(ellipse((0, 0), 0.2, 0.05)), Material((50, 46, 44)), 58)
    shade = mirrored([(0.0, -1.85), (0.16, -1.85), (0.3, -1.4), (0.0, -1.36)])
    _paint(canvas, frame.at(shade), Material(mix(rgb, (255, 236, 190), rng.uniform(0.2, 0.7))), 66, 20)


def _poster(canvas: Canvas, rng: Rng, frame: Frame, rgb: Rgb) -> None:
    lifted = frame.child((0, -rng.uniform(0.8, 2.0)))
    wide, high = rng.uniform(0.2, 0.5), rng.uniform(0.25, 0.5)
    _paint(canvas, lifted.at(box(-wide, -high, wide, high)), Material(mix(rgb, (30, 20, 10), 0.6)), 52)
    _paint(
        canvas,
        lifted.at(box(-wide, -high, wide, high) * 0.86),
        _ramp(_pale(rng), any_rgb(rng), lifted.origin, frame.scale),
        48,
    )
    for _ in range(3):
        spot = rng.uniform(-wide * 0.5, wide * 0.5), rng.uniform(-high * 0.5, high * 0.5)
        _paint(
            canvas, lifted.at(ellipse(spot, wide * 0.3, high * rng.uniform(0.1, 0.4))), Material(near(rng, rgb, 40)), 48
        )


def _window(canvas: Canvas, rng: Rng, frame: Frame, rgb: Rgb) -> None:
    lifted = frame.child((0, -1.6))
    glass = near(rng, (176, 204, 226), 18)
    _paint(canvas, lifted.at(box(-0.6, -0.8, 0.6, 0.8)), Material((236, 232, 224)), 50)
    for x in (-0.29, 0.29):
        _paint(
            canvas,
            lifted.at(box(x - 0.25, -0.72, x + 0.25, 0.72)),
            _ramp(glass, (240, 244, 240), lifted.origin, frame.scale),
            44,
        )
    folds = Pattern("strands", mix(rgb, (0, 0, 0), 0.4), frame.scale * 0.14, 0.0, 0.8)
    for side in (-1, 1):
        outline = np.array([(0.5, -0.9), (0.85, -0.9), (0.82, 1.1), (0.6, 1.1)]) * (side, 1)
        _paint(canvas, lifted.at(outline), Material(rgb, folds, 0.05), 56)


def _shelf(canvas: Canvas, rng: Rng, frame: Frame, rgb: Rgb) -> None:
    wood = near(rng, (120, 84, 54), 16)
    _paint(canvas, frame.at(box(-0.5, -1.9, 0.5, 0.0)), Material(mix(wood, (0, 0, 0), 0.4)), 48)
    books = [near(rng, pick(rng, (rgb, any_rgb(rng))), 30) for _ in range(6)]
    for level in range(4):
        bottom, left = -0.06 - level * 0.46, -0.45
        while left < 0.36:
            wide, high = rng.uniform(0.05, 0.12), rng.uniform(0.22, 0.38)
            _paint(canvas, frame.at(box(left, bottom - high, left + wide, bottom)), Material(pick(rng, books)), 54)
            left += wide + rng.uniform(0, 0.05)
        _paint(canvas, frame.at(box(-0.5, bottom, 0.5, bottom + 0.06)), Material(wood, grain=0.06), 58)


def _laundry(canvas: Canvas, rng: Rng, frame: Frame, rgb: Rgb) -> None:
    """Paint clothes on a rail: the shapes and cloths of people, with nobody in them."""
    rail = Material((90, 88, 86))
    _paint(canvas, frame.at(limb((-0.9, -1.7), (0.9, -1.7), (0.02, 0.02))), rail, 56)
    for x in (-0.85, 0.85):
        _paint(canvas, frame.at(limb((x, -1.7), (x, 0), (0.02, 0.02))), rail, 56)
    for x in np.arange(-0.6, 0.7, 0.4):
        wide, long = rng.uniform(0.14, 0.24), rng.uniform(0.5, 1.2)
        half = [
            (0.0, -1.6),
            (wide * 0.7, -1.58),
            (wide, -1.4),
            (wide * 0.8, -1.3),
            (wide * rng.uniform(0.7, 1.2), -1.6 + long),
            (0.0, -1.58 + long),
        ]
        _paint(
            canvas,
            frame.at(moved(mirrored(half), float(x), 0)),
            fabric(rng, frame.scale * 2, near(rng, rgb, 40)),
            60,
            16,
        )


def _statue(canvas: Canvas, rng: Rng, frame: Frame, rgb: Rgb) -> None:
    """Paint stacked rounded stones: the outline of a body without its parts."""
    width = rng.uniform(0.22, 0.34)
    for step, height in enumerate((0.0, -0.45, -0.85, -1.15)):
        radius = width * (1 - 0.2 * step)
        stone = smooth(
            mirrored([(0.0, -radius), (radius * 1.1, -radius * 0.5), (radius, radius * 0.7), (0.0, radius)]), 4
        )
        _paint(
            canvas,
            frame.at(moved(stone, rng.normal(0, 0.03), height - 0.2)),
            Material(near(rng, rgb, 12), grain=0.09),
            60,
            26,
        )


def _stool(canvas: Canvas, rng: Rng, frame: Frame, rgb: Rgb) -> None:
    wood = Material(rgb, grain=0.05)
    for x in (-0.26, -0.1, 0.1, 0.26):
        _paint(canvas, frame.at(limb((x * 0.7, -0.6), (x, 0), (0.03, 0.022))), wood, 58, 12)
    _paint(canvas, frame.at(ellipse((0, -0.62), 0.32, 0.08)), wood, 64, 16)
    if chance(rng, 0.5):
        _paint(canvas, frame.at(box(-0.28, -1.3, 0.28, -0.95)), wood, 60, 8)


_PLACES: Final[Mapping[str, Callable[[Canvas, Rng, float], None]]] = {
    "room": _room, "street": _street, "park": _park, "beach": _beach, "studio": _studio,
}  # fmt: skip

_INSIDE, _OUTSIDE, _ANYWHERE = ("room", "studio"), ("street", "park", "beach"), tuple(_PLACES)
_THINGS: Final[Mapping[Callable[[Canvas, Rng, Frame, Rgb], None], tuple[float, Sequence[str]]]] = {
    _tree: (2.0, ("street", "park", "beach")), _bush: (1.5, _OUTSIDE), _pole: (1.0, _OUTSIDE), _ball: (0.7, _ANYWHERE),
    _bag: (0.8, _ANYWHERE), _crate: (0.8, _ANYWHERE), _cushions: (1.2, ("room",)), _vase: (1.0, _INSIDE),
    _lamp: (1.0, _INSIDE), _poster: (1.2, ("room", "street")), _window: (1.0, ("room",)), _shelf: (0.7, ("room",)),
    _laundry: (0.8, ("room", "studio", "street")), _statue: (0.9, _ANYWHERE),
    _stool: (0.8, ("room", "studio", "beach")),
}  # fmt: skip
