"""``seglab cutout``: photos in, people on a transparent background out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from seglab.data.geometry import unfit_certainty
from seglab.data.images import Photo, encode_labels, encode_picture
from seglab.device import Device
from seglab.errors import UsageError
from seglab.inference.areas import class_areas, mask_area, mean_in
from seglab.inference.delivery import delivering
from seglab.inference.errand import DEFAULT_TERMS, Errand, Terms
from seglab.inference.fidelity import SEGLAB, Road
from seglab.inference.flow import Answer, Finish, Run
from seglab.inference.inputs import STANDARD
from seglab.inference.matting import decontaminate, feather, soft_alpha, working_hw
from seglab.inference.model import Model
from seglab.inference.plan import Job, Layout
from seglab.inference.predictor import Predictor
from seglab.tasks import Task

__all__ = ["DEFAULT_DIR", "Look", "cutout", "cutout_alpha", "parse_look", "render"]

DEFAULT_DIR: Final = Path("seglab-cutouts")
"""Where cutouts go when no output is named and not all inputs are single files."""
REACH_CELLS: Final = 1.0
"""How far a true edge may lie from the network's, in cells of its grid."""
MAX_FEATHER: Final = 1000.0

Uint8 = NDArray[np.uint8]
Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Look:
    """What a cutout looks like."""

    edge: Literal["soft", "hard", "feather"] = "soft"
    """``soft`` follows the photo's own edges, ``hard`` is the mask of ``seglab predict``, ``feather`` fades it."""
    feather: float = 0.0
    """Width of a feathered edge in pixels."""
    background: Rgb | None = None
    """Colour to lay under the cutout; None leaves it transparent."""
    keep: tuple[str, ...] = ()
    """Classes or regions of the task to keep; its foreground when empty."""
    invert: bool = False
    """Whether to keep everything else instead."""
    mask_only: bool = False
    """Whether to write the alpha as a grey picture rather than the photo."""


def parse_look(
    *,
    edge: str = "soft",
    background: str = "transparent",
    keep: str = "",
    invert: bool = False,
    mask_only: bool = False,
) -> Look:
    """Build a look from text as on the command line.

    Args:
        edge: ``soft``, ``hard`` or ``feather:N``.
        background: ``transparent``, a colour name, or ``#rrggbb``.
        keep: Class or region names with commas between; empty for the task's foreground.
        invert: See :class:`Look`.
        mask_only: See :class:`Look`.

    Raises:
        UsageError: If one of them means nothing, or two contradict each other.
    """
    kind, _, width = edge.partition(":")
    if kind == "feather":
        look = Look("feather", _feather_width(width))
    elif edge == "soft" or edge == "hard":
        look = Look("soft" if edge == "soft" else "hard")
    else:
        raise UsageError(f"no edge is called `{edge}`", "known: soft, hard, feather:N with N pixels")
    colour = _colour(background)
    if mask_only and colour is not None:
        raise UsageError("`--mask-only` writes no photo, so there is nothing to lay on a `--background`")
    names = tuple(name.strip() for name in keep.split(",") if name.strip())
    return replace(look, background=colour, keep=names, invert=invert, mask_only=mask_only)


def cutout(
    photos: Sequence[str | Path],
    model: Model | Callable[[], Model],
    device: Device,
    look: Look,
    terms: Terms = DEFAULT_TERMS,
) -> Run:
    """Prepare a run that cuts the foreground out of photos, each at the photo's own size.

    Args:
        photos: See :func:`seglab.inference.inputs.find_sources`.
        model: What answers, or how to find it, once the photos are found; loaded only if there is something to do.
        device: Where.
        look: What the cutouts look like.
        terms: How the run goes. By default single files are answered beside themselves, as ``NAME.cutout.png``, and
            everything else goes to ``seglab-cutouts/``.

    Raises:
        UsageError: If names clash, or the task has no such class to keep.
        DataError: If there is nothing to do, or nowhere to write.
    """
    errand = Errand.of(photos, model, _layout(look), {"look": asdict(look)}, terms)
    classes = kept_classes(look, errand.model.config.task)
    return errand.start(device, lambda predictor: _finisher(predictor, look, classes, terms.measure))


def kept_classes(look: Look, task: Task) -> tuple[int, ...]:
    """Return the ids of the classes that a look keeps.

    Raises:
        UsageError: If the task has no such class or region.
    """
    return tuple(sorted({index for name in look.keep or task.foreground for index in task.members(name)}))


def cutout_alpha(answer: Answer, look: Look, classes: Sequence[int], road: Road = SEGLAB) -> Uint8:
    """Return the alpha of an answer at the photo's own size: HW, 0..255.

    Nothing is stretched to the picture's own range: where the network finds nothing, the alpha is 0 everywhere.
    """
    if look.edge == "soft":
        alpha = _soft(answer, classes, road)
    else:
        labels = road.labels(answer.logits_KHW, answer.placement)
        alpha = _members(labels, classes).view(np.uint8) * np.uint8(255)
        if look.edge == "feather":
            alpha = feather(alpha, look.feather)
    inverted: Uint8 = ~alpha
    return inverted if look.invert else alpha


def render(photo: Photo, alpha: Uint8, background: Rgb | None) -> Uint8:
    """Return a photo with an alpha (HWC RGBA), or on a colour (HWC RGB); mixed edge colours are cleaned either way."""
    import cv2

    clean = decontaminate(photo.image, alpha)
    if background is None:
        rgba: Any = cv2.merge([*cv2.split(clean), alpha])
        return cast(Uint8, rgba)
    mixed_HW: Any = cv2.inRange(alpha, 1, 254)
    clean[alpha == 0] = background
    share_N1 = alpha[mixed_HW > 0].astype(np.float32)[:, None] / 255
    under = np.asarray(background, np.float32)
    clean[mixed_HW > 0] = np.rint(share_N1 * clean[mixed_HW > 0] + (1 - share_N1) * under)
    return clean


def _soft(answer: Answer, classes: Sequence[int], road: Road) -> Uint8:
    if not road.soft:
        probs_HW = road.alpha(answer.logits_KHW, answer.placement, classes)
        return np.rint(255 * probs_HW).astype(np.uint8)
    work_hw = working_hw(answer.placement.source_hw)
    _, _, box_height, box_width = answer.placement.box
    reach = REACH_CELLS * max(work_hw[0] / box_height, work_hw[1] / box_width)
    probs_hw = road.alpha(answer.logits_KHW, replace(answer.placement, source_hw=work_hw), classes)
    return soft_alpha(answer.photo.image, probs_hw, reach=reach)


def _finisher(predictor: Predictor, look: Look, classes: Sequence[int], measure: bool) -> Finish:
    road = predictor.road

    def finish(job: Job, answer: Answer) -> tuple[bool, dict[str, Any]]:
        alpha = cutout_alpha(answer, look, classes, road)
        _write(job.outputs["cutout"], answer.photo, alpha, look)
        facts: dict[str, Any] = {}
        if measure:
            facts["foreground"] = mask_area(alpha > 127)
            certainty = unfit_certainty(answer.logits_KHW, answer.placement)
            labels = road.labels(answer.logits_KHW, answer.placement)
            facts["classes"] = class_areas(labels, predictor.task, certainty)
            facts["confidence"] = mean_in(certainty)
        return bool((alpha > 127).any()), facts

    return finish


def _write(path: Path, photo: Photo, alpha: Uint8, look: Look) -> None:
    with delivering(path) as stream:
        if look.mask_only:
            stream.write(encode_labels(alpha))
            return
        picture = render(photo, alpha, look.background)
        suffix = ".png" if path == STANDARD else path.suffix
        stream.write(encode_picture(suffix, picture, icc=photo.icc, dpi=photo.dpi, exif=photo.exif))


def _layout(look: Look) -> Layout:
    suffixes: tuple[str, ...] = (".png",) if look.mask_only else (".png", ".webp")
    if look.background is not None:
        suffixes = (*suffixes, ".jpg", ".jpeg")
    return Layout("cutout", {"cutout": suffixes}, DEFAULT_DIR, beside=True)


def _members(labels: Uint8, classes: Sequence[int]) -> NDArray[np.bool_]:
    table = np.zeros(256, bool)
    table[list(classes)] = True
    members: NDArray[np.bool_] = table[labels]
    return members


def _feather_width(text: str) -> float:
    try:
        width = float(text)
    except ValueError:
        width = math.nan
    if not 0 < width <= MAX_FEATHER:
        raise UsageError(f"`feather:{text}` needs a width in pixels, more than 0 and at most {MAX_FEATHER:g}")
    return width


def _colour(text: str) -> Rgb | None:
    if text.strip().lower() == "transparent":
        return None
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text.strip())[:3]
    except ValueError:
        raise UsageError(
            f"`{text}` is no colour", "`transparent`, a name such as `white`, or `#rrggbb` in quotes"
        ) from None
    return red, green, blue
