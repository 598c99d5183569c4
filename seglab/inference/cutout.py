"""``seglab cutout``: photos in, people on a transparent background out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.geometry import unfit_certainty
from seglab.data.images import Photo, encode_labels, encode_picture
from seglab.device import Device
from seglab.errors import UsageError
from seglab.inference.areas import class_areas, mask_area, mean_in
from seglab.inference.composing import render
from seglab.inference.delivery import delivering
from seglab.inference.errand import DEFAULT_TERMS, Errand, Terms
from seglab.inference.fidelity import SEGLAB, Road
from seglab.inference.flow import Answer, Finish, Run
from seglab.inference.inputs import STANDARD
from seglab.inference.look import FORMATS, Look, parse_look
from seglab.inference.matting import WORK_SIDE, Solver, feather, soft_alpha, working_hw
from seglab.inference.model import Model
from seglab.inference.plan import Job, Layout
from seglab.inference.predictor import Predictor
from seglab.tasks import Task

__all__ = ["DEFAULT_DIR", "Look", "cutout", "cutout_alpha", "encode", "kept_classes", "parse_look", "render"]

DEFAULT_DIR: Final = Path("seglab-cutouts")
"""Where cutouts go when no output is named and not all inputs are single files."""
REACH_CELLS: Final = 1.0
"""How far a true edge may lie from the network's, in cells of its grid."""

Uint8 = NDArray[np.uint8]


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
        UsageError: If names clash, the task has no such class to keep, or the look contradicts the output or the model.
        DeviceError: If matting is asked for, and its extra is not installed.
        DataError: If there is nothing to do, or nowhere to write.
    """
    if look.small and terms.out is not None and terms.out.suffix.lower() in (*FORMATS["webp"], *FORMATS["jpg"]):
        raise UsageError(f"`--png small` says how PNGs are written, but `{terms.out}` is none", "leave out one of them")
    layout = Layout("cutout", {"cutout": look.suffixes}, DEFAULT_DIR, beside=True)
    errand = Errand.of(photos, model, layout, {"look": look.settings}, terms)
    classes = kept_classes(look, errand.model.config.task)
    _solver(look)
    started = errand.start(device, lambda predictor: _finisher(predictor, look, classes, terms.measure))
    return replace(started, notes=_notes(look, errand), when_empty=_when_empty(look))


def kept_classes(look: Look, task: Task) -> tuple[int, ...]:
    """Return the ids of the classes that a look keeps.

    Raises:
        UsageError: If the task has no such class or region.
    """
    return tuple(sorted({index for name in look.keep or task.foreground for index in task.members(name)}))


def cutout_alpha(answer: Answer, look: Look, classes: Sequence[int], road: Road = SEGLAB) -> Uint8:
    """Return the alpha of an answer at the photo's own size: HW, 0..255.

    Nothing is stretched to the picture's own range: where the network finds nothing, the alpha is 0 everywhere.

    Raises:
        UsageError: If the look has a threshold, and the original's code that is followed leaves no choice of it.
        DeviceError: If matting is asked for, and its extra is not installed.
    """
    if look.edge == "soft":
        alpha = _soft(answer, classes, road, _solver(look))
    else:
        alpha = _inside(answer, look, classes, road).view(np.uint8) * np.uint8(255)
        if look.edge == "feather":
            alpha = feather(alpha, look.feather)
    inverted: Uint8 = ~alpha
    return inverted if look.invert else alpha


def encode(photo: Photo, alpha: Uint8, look: Look, suffix: str) -> bytes:
    """Return the file of a cutout, with the photo's colour profile, resolution and what EXIF it kept.

    Args:
        photo: The photo.
        alpha: What of it is kept, HW, 0..255.
        look: What it looks like.
        suffix: Of the file.

    Raises:
        DataError: If the picture would be too large for the format.
    """
    picture = render(photo, alpha, look, suffix)
    if look.mask_only:
        return encode_labels(picture, dpi=photo.dpi, exif=photo.exif)
    return encode_picture(suffix, picture, icc=photo.icc, dpi=photo.dpi, exif=photo.exif, small=look.small)


def _soft(answer: Answer, classes: Sequence[int], road: Road, solve: Solver | None) -> Uint8:
    if not road.soft:
        probs_HW = road.alpha(answer.logits_KHW, answer.placement, classes)
        return np.rint(255 * probs_HW).astype(np.uint8)
    source_hw = answer.placement.source_hw
    _, _, box_height, box_width = answer.placement.box
    # The filter looks its results up at the photo's size: on half of its sides, if the network saw no more, they are
    # as good (mean difference of alphas along edges 0.083 against 0.085) in less than half the time.
    longest = WORK_SIDE if solve else min(WORK_SIDE, max(max(source_hw) // 2, box_height, box_width))
    work_hw = working_hw(source_hw, longest)
    reach = REACH_CELLS * max(work_hw[0] / box_height, work_hw[1] / box_width)
    probs_hw = road.alpha(answer.logits_KHW, replace(answer.placement, source_hw=work_hw), classes)
    return soft_alpha(answer.photo.image, probs_hw, reach=reach, solve=solve)


def _inside(answer: Answer, look: Look, classes: Sequence[int], road: Road) -> NDArray[np.bool_]:
    if look.threshold is None or not road.soft:
        labels = road.labels(answer.logits_KHW, answer.placement)
        table = np.zeros(256, bool)
        table[list(classes)] = True
        members: NDArray[np.bool_] = table[labels]
        return members
    above: NDArray[np.bool_] = road.alpha(answer.logits_KHW, answer.placement, classes) > look.threshold
    return above


def _solver(look: Look) -> Solver | None:
    if not look.matting:
        return None
    from seglab.inference.closed_form import require_pymatting, solve

    require_pymatting()
    return solve


def check_road(look: Look, road: Road) -> None:
    """Make sure that a look can be had where an original's code is followed.

    Raises:
        UsageError: If it cannot.
    """
    if not road.soft and look.matting:
        raise UsageError("`--fidelity original` takes the mask as it is, so there is nothing for `--matting` to find")
    if not road.soft and look.threshold not in (None, 0.5):
        raise UsageError(
            f"`--fidelity original` has its threshold at 0.5, not at {look.threshold:g}", "leave out one of the two"
        )


def _finisher(predictor: Predictor, look: Look, classes: Sequence[int], measure: bool) -> Finish:
    road = predictor.road
    check_road(look, road)

    def finish(job: Job, answer: Answer) -> tuple[bool, dict[str, Any]]:
        alpha = cutout_alpha(answer, look, classes, road)
        path = job.outputs["cutout"]
        data = encode(answer.photo, alpha, look, look.suffixes[0] if path == STANDARD else path.suffix)
        with delivering(path) as stream:
            stream.write(data)
        facts: dict[str, Any] = {}
        if measure:
            facts["foreground"] = mask_area(alpha > 127)
            certainty = unfit_certainty(answer.logits_KHW, answer.placement)
            labels = road.labels(answer.logits_KHW, answer.placement)
            facts["classes"] = class_areas(labels, predictor.task, certainty)
            facts["confidence"] = mean_in(certainty)
        return bool(((alpha > 127) != look.invert).any()), facts

    return finish


def _notes(look: Look, errand: Errand) -> tuple[str, ...]:
    suffixes = {path.suffix.lower() for job in errand.plan.jobs for path in job.outputs.values()}
    flat = suffixes & set(FORMATS["jpg"]) or (errand.terms.out == STANDARD and look.suffixes == FORMATS["jpg"])
    return ("JPEG has no transparency: laid on white",) if flat and look.background is None else ()


def _when_empty(look: Look) -> str:
    """Say what is written where nothing is found."""
    if look.invert:
        return "the whole photo is kept"
    whole = ", the whole photo's size" if look.framing.crop and look.framing.size_hw is None else ""
    if look.mask_only:
        return f"the mask is black{whole}"
    return ("the background alone" if look.background is not None else "all is transparent") + whole
