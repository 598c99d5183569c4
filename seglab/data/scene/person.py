"""Who is in a synthetic scene: looks, clothes and poses, drawn at random. Drawing them is in the next files."""

import colorsys
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

import numpy as np

from seglab.data.scene.canvas import Material, Pattern, Rgb, mix

__all__ = ["Arm", "Body", "Coat", "Hair", "Head", "Leg", "Lower", "Outfit", "Person", "Top", "fabric", "random_person"]

Rng = np.random.Generator
T = TypeVar("T")

SKINS: Final[Sequence[Rgb]] = (
    (247, 216, 194), (238, 196, 168), (226, 176, 142), (209, 154, 116), (186, 128, 90), (155, 101, 68), (121, 77, 52),
    (88, 57, 42), (240, 205, 175), (198, 142, 105),
)  # fmt: skip
HAIRS: Final[Sequence[Rgb]] = (
    (28, 22, 20), (46, 32, 26), (78, 52, 36), (110, 72, 44), (150, 104, 60), (196, 154, 92), (222, 190, 132),
    (150, 62, 34), (168, 164, 160), (216, 212, 206), (60, 40, 70), (34, 30, 34),
)  # fmt: skip
IRISES: Final[Sequence[Rgb]] = ((74, 50, 32), (52, 36, 26), (92, 116, 140), (98, 122, 84), (112, 84, 50))


@dataclass(frozen=True)
class Hair:
    """A hair style. Lengths are in half heads (1 = from the eyes to the chin)."""

    rgb: Rgb
    length: float
    """Where it ends below the eyes; 0 and less is short hair."""
    volume: float
    """How far it stands out from the skull; 0 is none at all."""
    curl: float
    """Depth of the curls on the outline, 0 straight."""
    fringe: float
    """How far the hairline comes down the forehead; negative recedes."""
    parting: float
    """-1..1, where the hairline is highest."""
    bun: bool
    phase: float


@dataclass(frozen=True)
class Head:
    """A head and its expression; angles in radians."""

    hair: Hair
    skin: Rgb
    lips: Rgb
    iris: Rgb
    yaw: float
    """Positive looks to the right of the picture."""
    pitch: float
    roll: float
    jaw: float
    """Width of the jaw, 0.8..1.15."""
    eyes: float
    """How wide the eyes are open, 0.5..1.2."""
    brows: float
    """How far the brows are raised, -1..1."""
    nose: float
    mouth: float
    """How far the mouth is open, 0 (closed)..1."""
    smile: float
    """-0.5..1."""
    beard: float
    """0 none, up to 1."""
    hat: Literal["", "cap", "beanie", "brim"]
    hat_material: Material
    glasses: Literal["", "round", "square", "dark"]
    glasses_rgb: Rgb


@dataclass(frozen=True)
class Arm:
    """Angles in radians from hanging straight down, positive outwards."""

    raised: float
    elbow: float
    """Added to ``raised`` for the lower arm."""
    in_front: bool
    reach: float
    """Apparent length, 1 = not foreshortened."""


@dataclass(frozen=True)
class Leg:
    """Angles in radians from straight down, positive outwards."""

    spread: float
    knee: float
    reach: float


@dataclass(frozen=True)
class Body:
    """Proportions (person height = 1) and pose."""

    shoulder: float
    waist: float
    hip: float
    heft: float
    """Factor on the thickness of the limbs."""
    head: float
    """Half the height of the head."""
    lean: float
    from_behind: bool
    arms: tuple[Arm, Arm]
    """Left and right in the picture."""
    legs: tuple[Leg, Leg]


@dataclass(frozen=True)
class Top:
    """What covers the upper body; with ``dress`` it is one with the skirt."""

    material: Material
    sleeve: float
    """0 none, 1 to the elbow, 2 to the wrist."""
    neckline: float
    pointed: bool
    loose: float
    hem: float
    """Below the hips, person height = 1."""
    trim: Rgb


@dataclass(frozen=True)
class Lower:
    """Trousers, a skirt, or the skirt of a dress."""

    kind: Literal["trousers", "skirt", "dress"]
    material: Material
    length: float
    """1 to the knee, 2 to the ankle."""
    wide: float


@dataclass(frozen=True)
class Coat:
    """Worn open or closed over everything else."""

    material: Material
    length: float
    """1 to the knee."""
    open: float
    """Half the gap at the hips in hip widths; 0 is closed."""


@dataclass(frozen=True)
class Outfit:
    """Everything that is worn below the head."""

    top: Top | None
    lower: Lower
    coat: Coat | None
    shoe: Material | None
    boot: float
    """How far up the lower leg the shoe goes, 0..0.7."""


@dataclass(frozen=True)
class Person:
    """All that is needed to draw somebody."""

    head: Head
    body: Body
    outfit: Outfit

    def colours(self) -> list[Rgb]:
        """Return the colours that the person shows most, for backgrounds that resemble it."""
        worn = [self.outfit.lower.material, self.outfit.top and self.outfit.top.material]
        return [self.head.skin, self.head.hair.rgb, *(material.rgb for material in worn if material)]


_ARM_POSES: Final[Mapping[str, tuple[float, float, float, float, float]]] = {
    # degrees: raised from, to, elbow from, to; chance of being in front of the torso
    "hang": (4, 16, -8, 14, 0.7),
    "swing": (14, 32, -35, 5, 0.6),
    "akimbo": (36, 50, -98, -78, 0.8),
    "fold": (8, 18, -112, -86, 1.0),
    "reach": (55, 100, -20, 25, 0.6),
    "wave": (60, 105, 50, 90, 0.7),
    "cheer": (135, 168, -12, 25, 0.6),
    "think": (14, 28, -175, -150, 1.0),
    "pocket": (16, 26, -48, -34, 0.9),
}
_LEG_POSES: Final[Mapping[str, tuple[float, float, float, float]]] = {
    # degrees: spread from, to, knee from, to
    "stand": (1, 7, -5, 2),
    "wide": (9, 20, -8, 0),
    "cross": (-9, -3, -4, 4),
    "lunge": (24, 44, -44, -18),
    "lift": (20, 60, -95, -50),
}


def choose(rng: Rng, options: Mapping[T, float]) -> T:
    """Return one of the options with a chance in proportion to its weight."""
    names = list(options)
    sums = np.cumsum(list(options.values()))
    return names[min(int(np.searchsorted(sums, rng.random() * sums[-1], side="right")), len(names) - 1)]


def pick(rng: Rng, options: Sequence[T]) -> T:
    """Return one of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def chance(rng: Rng, share: float) -> bool:
    """Return True in that share of the calls."""
    return bool(rng.random() < share)


def near(rng: Rng, rgb: Rgb, spread: float = 12.0) -> Rgb:
    """Return a colour close to another one."""
    red, green, blue = np.clip(np.asarray(rgb) + rng.normal(0, spread, 3), 4, 252).tolist()
    return red, green, blue


def any_rgb(rng: Rng) -> Rgb:
    """Return a colour of cloth: often muted, sometimes bright, sometimes grey."""
    saturation = choose(rng, {0.03: 2.0, 0.22: 3.0, 0.42: 3.0, 0.68: 1.2}) + rng.uniform(0, 0.15)
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.15, 0.97))
    return red * 255, green * 255, blue * 255


def fabric(rng: Rng, size: float, rgb: Rgb | None = None, plain: float = 0.5) -> Material:
    """Return a cloth.

    Args:
        rng: Where the choices come from.
        size: Length in picture units of which a pattern's period is a few hundredths: the person's height.
        rgb: Its colour, any by default.
        plain: Chance that it has no pattern.
    """
    rgb = any_rgb(rng) if rgb is None else rgb
    kind = choose(rng, {"stripes": 4.0, "checks": 3.0, "dots": 1.5, "mottle": 2.0})
    other = any_rgb(rng) if chance(rng, 0.5) else mix(rgb, pick(rng, ((0, 0, 0), (255, 255, 255))), 0.5)
    angle = pick(rng, (0.0, 0.0, math.pi / 2, math.pi / 2, 0.8)) + rng.normal(0, 0.06)
    pattern = Pattern(kind, other, size * rng.uniform(0.022, 0.06), angle, rng.uniform(0.6, 1))  # type: ignore[arg-type]
    return Material(rgb, None if chance(rng, plain) else pattern, rng.uniform(0.02, 0.07))


def random_person(rng: Rng, size: float, *, portrait: bool) -> Person:
    """Return a person.

    Args:
        rng: Where the choices come from.
        size: Height in picture units, for the scale of patterns.
        portrait: The face is what matters: never from behind, no dark glasses.
    """
    from_behind = chance(rng, 0.0 if portrait else 0.1)
    head = _random_head(rng, portrait=portrait, size=size)
    body = _random_body(rng, calm=portrait, from_behind=from_behind)
    return Person(head, body, _random_outfit(rng, size))


def _random_hair(rng: Rng) -> Hair:
    kind = choose(
        rng, {"short": 4.0, "crop": 2.0, "bald": 0.5, "bob": 2.0, "long": 4.0, "afro": 1.0, "bun": 1.5, "curly": 2.0}
    )
    length, volume, curl = {
        "short": (-0.1, 0.11, 0.0), "crop": (-0.2, 0.05, 0.0), "bald": (-0.3, 0.0, 0.0), "bob": (0.85, 0.16, 0.0),
        "long": (1.9, 0.15, 0.0), "afro": (0.2, 0.38, 0.1), "bun": (-0.1, 0.09, 0.0), "curly": (1.1, 0.22, 0.12),
    }[kind]  # fmt: skip
    fringe = choose(rng, {0.0: 3.0, 0.26: 1.5, -0.16: 1.0, 0.14: 1.5}) + rng.normal(0, 0.02)
    return Hair(
        rgb=near(rng, pick(rng, HAIRS), 8),
        length=length + rng.uniform(-0.1, 0.35 if length > 0 else 0.1) * (2 if length > 1.5 else 1),
        volume=volume * rng.uniform(0.8, 1.25),
        curl=curl + (rng.uniform(0, 0.03) if volume > 0.08 else 0),
        fringe=min(fringe, 0.0) if kind in ("crop", "bun") else fringe,
        parting=rng.uniform(-1, 1),
        bun=kind == "bun",
        phase=rng.uniform(0, 6.28),
    )


def _random_head(rng: Rng, *, portrait: bool, size: float) -> Head:
    skin = near(rng, mix(pick(rng, SKINS), pick(rng, SKINS), rng.uniform(0, 0.4)), 2)
    hats = (
        {"": 6.5, "cap": 1.0, "beanie": 1.0, "brim": 1.0}
        if portrait
        else {"": 6.0, "cap": 1.0, "beanie": 1.0, "brim": 1.0}
    )
    glasses = (
        {"": 7.0, "round": 1.5, "square": 1.5} if portrait else {"": 6.0, "round": 1.0, "square": 1.0, "dark": 2.0}
    )
    talks, hair, hat = chance(rng, 0.5), _random_hair(rng), choose(rng, hats)
    if hat:
        hair = replace(hair, volume=min(hair.volume, 0.13), curl=min(hair.curl, 0.03), bun=False)
    return Head(
        hair=hair,
        skin=skin,
        lips=mix(skin, near(rng, (176, 52, 62), 18), rng.uniform(0.25, 0.75)),
        iris=near(rng, pick(rng, IRISES), 8),
        yaw=float(np.clip(rng.normal(0, 0.25), -0.6, 0.6)),
        pitch=rng.normal(0, 0.08),
        roll=float(np.clip(rng.normal(0, 0.1), -0.35, 0.35)),
        jaw=rng.uniform(0.84, 1.12),
        eyes=rng.uniform(0.55, 1.2),
        brows=rng.uniform(-0.7, 1),
        nose=rng.uniform(0.8, 1.25),
        mouth=rng.uniform(0.25, 1) if talks else 0.0,
        smile=rng.uniform(-0.4, 1),
        beard=rng.uniform(0.4, 1) if chance(rng, 0.18) else 0.0,
        hat=hat,  # type: ignore[arg-type]
        hat_material=fabric(rng, size * 0.4, plain=0.7),
        glasses=choose(rng, glasses),  # type: ignore[arg-type]
        glasses_rgb=near(rng, pick(rng, ((24, 22, 24), (70, 44, 30), (150, 40, 40), (120, 110, 96))), 8),
    )


def _random_body(rng: Rng, *, calm: bool, from_behind: bool) -> Body:
    child = chance(rng, 0.18)
    turned = 1 - 0.25 * rng.random() ** 2
    arms = [_random_arm(rng, calm=calm) for _ in range(2)]
    legs = [_random_leg(rng, calm=calm) for _ in range(2)]
    if chance(rng, 0.3):
        arms[1] = arms[0]
    return Body(
        shoulder=(0.088 if child else rng.uniform(0.094, 0.122)) * turned,
        waist=rng.uniform(0.058, 0.088) * turned,
        hip=rng.uniform(0.074, 0.1) * turned,
        heft=float(np.clip(rng.normal(1.05, 0.15), 0.75, 1.45)),
        head=rng.uniform(0.085, 0.105) if child else rng.uniform(0.064, 0.075),
        lean=rng.normal(0, 0.03 if calm else 0.09),
        from_behind=from_behind,
        arms=(arms[0], arms[1]),
        legs=(legs[0], legs[1]),
    )


def _random_arm(rng: Rng, *, calm: bool) -> Arm:
    weights = {"hang": 4.0, "swing": 2.0, "akimbo": 1.5, "fold": 1.0, "reach": 1.0, "wave": 1.0, "cheer": 0.8,
               "think": 0.7, "pocket": 1.2}  # fmt: skip
    low, high, bent, straight, front = _ARM_POSES["hang" if calm else choose(rng, weights)]
    raised, elbow = rng.uniform(low, high), rng.uniform(bent, straight)
    in_front = not calm and chance(rng, front)
    return Arm(math.radians(raised), math.radians(elbow), in_front, rng.uniform(0.85, 1))


def _random_leg(rng: Rng, *, calm: bool) -> Leg:
    weights = {"stand": 5.0, "wide": 2.0, "cross": 1.0, "lunge": 1.2, "lift": 0.8}
    low, high, bent, straight = _LEG_POSES["stand" if calm else choose(rng, weights)]
    return Leg(math.radians(rng.uniform(low, high)), math.radians(rng.uniform(bent, straight)), rng.uniform(0.9, 1))


def _random_outfit(rng: Rng, size: float) -> Outfit:
    material = fabric(rng, size)
    kind = choose(rng, {"trousers": 5.0, "skirt": 1.7, "dress": 2.2})
    matching = kind == "dress" or chance(rng, 0.12)
    top = Top(
        material=material,
        sleeve=choose(rng, {0.0: 1.5, 0.45: 3.0, 0.9: 1.0, 1.95: 4.0}) + rng.uniform(-0.04, 0.04),
        neckline=rng.uniform(0.012, 0.075),
        pointed=chance(rng, 0.4),
        loose=rng.uniform(1.02, 1.22),
        hem=rng.uniform(-0.03, 0.06),
        trim=any_rgb(rng),
    )
    lengths: Mapping[str, Mapping[float, float]] = {
        "trousers": {1.9: 6.0, 0.6: 2.0, 1.5: 1.0},
        "skirt": {0.6: 2.0, 1.1: 2.0, 1.7: 1.0},
        "dress": {0.6: 1.0, 1.0: 2.0, 1.8: 1.2},
    }
    lower = Lower(
        kind=kind,  # type: ignore[arg-type]
        material=material if matching else fabric(rng, size, _denim(rng), plain=0.7),
        length=choose(rng, lengths[kind]) + rng.uniform(-0.12, 0.08),
        wide=rng.uniform(1.08, 1.4) if kind == "trousers" else rng.uniform(0.7, 1.5),
    )
    coat = Coat(fabric(rng, size, plain=0.75), rng.uniform(0.25, 1.5), choose(rng, {0.0: 1.0, 0.35: 1.0, 0.6: 1.0}))
    boot = choose(rng, {0.08: 5.0, 0.3: 1.0, 0.6: 0.6})
    shoe = Material(near(rng, any_rgb(rng), 5)) if chance(rng, 0.86) else None
    shirtless = kind != "dress" and chance(rng, 0.04)
    return Outfit(None if shirtless else top, lower, coat if chance(rng, 0.24) else None, shoe, boot)


def _denim(rng: Rng) -> Rgb | None:
    """Return a usual colour of trousers half of the time."""
    usual: Sequence[Rgb] = ((52, 74, 112), (36, 42, 58), (28, 28, 30), (122, 108, 86), (90, 118, 160), (96, 96, 98))
    return near(rng, pick(rng, usual), 8) if chance(rng, 0.55) else None
