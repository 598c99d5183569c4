"""What a model says about one photo, in Python: labels, probabilities, alpha, cutouts, overlays, areas.

Shapes: H W the photo, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seglab.data.geometry import unfit_bands
from seglab.data.images import Photo, write_palette
from seglab.errors import UsageError
from seglab.files import write_bytes
from seglab.inference.areas import class_areas
from seglab.inference.cutout import check_road, cutout_alpha, encode, kept_classes, render
from seglab.inference.fidelity import SEGLAB
from seglab.inference.flow import Answer
from seglab.inference.look import Look, parse_look

if TYPE_CHECKING:
    from seglab.inference.predictor import Predictor
    from seglab.tasks import Task

__all__ = ["Area", "Box", "Result"]

Uint8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]


class Box(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int


class Area(NamedTuple):
    """How much of a photo a class has, and where."""

    pixels: int
    share: float
    """Of the photo, 0..1."""
    box: Box


@dataclass(frozen=True)
class Result:
    """What a model says about one photo; everything is at the photo's own size, and made when it is asked for."""

    answer: Answer = field(repr=False)
    """The photo, and the logits on the model's grid."""
    predictor: "Predictor" = field(repr=False)
    """What answered."""
    source: Path | None = None
    """The photo's file, if it was given as one."""

    @property
    def photo(self) -> Photo:
        """The photo with what its file said about itself."""
        return self.answer.photo

    @property
    def image(self) -> Uint8:
        """The photo: HWC uint8 RGB, turned as displayed."""
        return self.answer.photo.image

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the photo."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def task(self) -> "Task":
        """What the class ids mean."""
        return self.predictor.task

    @property
    def notes(self) -> tuple[str, ...]:
        """What reading did to the photo that one may want to know."""
        return self.answer.photo.notes

    @cached_property
    def labels(self) -> Uint8:
        """Class ids, HW: those that ``seglab predict`` writes."""
        return self.predictor.road.labels(self.answer.logits_KHW, self.answer.placement)

    @cached_property
    def probs(self) -> Float32:
        """Probabilities of all classes, KHW, 0..1. For large photos and many classes this is large: 4 K H W bytes."""
        answer, road = self.answer, self.predictor.road
        if road is not SEGLAB:
            classes = range(self.task.num_classes)
            return np.stack([road.alpha(answer.logits_KHW, answer.placement, [index]) for index in classes])
        probs_KHW: Float32 = np.empty((self.task.num_classes, *self.size_hw), np.float32)
        for rows, logits_KhW in unfit_bands(answer.logits_KHW, answer.placement):
            powers_KhW = np.exp(logits_KhW - logits_KhW.max(axis=0))
            np.divide(powers_KhW, powers_KhW.sum(axis=0), out=probs_KHW[:, rows])
        return probs_KHW

    @cached_property
    def alpha(self) -> Float32:
        """How much of each pixel is foreground of the task, HW, 0..1, with edges that follow the photo's own."""
        return self._alpha(Look()).astype(np.float32) / np.float32(255)

    @cached_property
    def areas(self) -> Mapping[str, Area]:
        """The classes that occur, the background included, by name."""
        areas = class_areas(self.labels, self.task)
        return {name: Area(area["pixels"], area["share"], Box(**area["bbox"])) for name, area in areas.items()}

    @property
    def boxes(self) -> dict[str, Box]:
        """The bounding boxes of the classes that occur, without the background, by name."""
        return {name: area.box for name, area in self.areas.items() if name != self.task.classes[0]}

    @property
    def found(self) -> bool:
        """Whether there is anything but background."""
        return bool(self.boxes)

    def mask(self, *names: str) -> NDArray[np.bool_]:
        """Return where classes or regions are, HW; the task's foreground if none is named.

        Raises:
            UsageError: If the task has no such class or region.
        """
        table = np.zeros(256, bool)
        table[list(kept_classes(Look(keep=names), self.task))] = True
        mask: NDArray[np.bool_] = table[self.labels]
        return mask

    def cutout(self, **look: Any) -> Uint8:
        """Return the photo without its background: HWC uint8 RGBA, RGB on a background, or HW with ``mask_only``.

        Args:
            **look: As :func:`seglab.inference.look.parse_look` takes them, which is as the options of
                ``seglab cutout``: ``edge="feather:4"``, ``background="white"``, ``crop=True``, ``margin="5%"``...

        Raises:
            UsageError: If they mean nothing, or contradict each other.
            DeviceError: If ``matting`` needs an extra that is not installed.
            DataError: If a background cannot be read, or the picture would be too large.
        """
        parsed = parse_look(**look)
        return render(self.photo, self._alpha(parsed), parsed)

    def overlay(self, *, opacity: float = 0.5, legend: bool = False) -> Uint8:
        """Return the photo with the classes in colour over it, HWC uint8 RGB.

        Args:
            opacity: 0 leaves the photo, 1 hides it.
            legend: Whether to put the names of the classes under it.
        """
        from seglab.data.drawing import overlay, with_legend

        drawn = overlay(self.image, self.labels, self.task.palette, opacity=opacity)
        return with_legend(drawn, self.task, self.labels) if legend else drawn

    def save_cutout(self, path: str | Path, **look: Any) -> Path:
        """Write a cutout as PNG, WebP or JPEG, by suffix, with the photo's colour profile and resolution.

        Args:
            path: The file, which is replaced in one step.
            **look: See :meth:`cutout`.

        Raises:
            UsageError: As :meth:`cutout`, or if the suffix is none of these.
            DataError: As :meth:`cutout`, or if the file cannot be written.
        """
        parsed, path = parse_look(**look), Path(path)
        if path.suffix.lower() not in parsed.suffixes:
            raise UsageError(
                f"a cutout cannot be written as `{path.suffix}`", f"it can be {', '.join(parsed.suffixes)}"
            )
        write_bytes(path, encode(self.photo, self._alpha(parsed), parsed, path.suffix))
        return path

    def save_labels(self, path: str | Path) -> Path:
        """Write the labels as ``seglab predict`` does: a PNG in the task's colours that reads back as class ids.

        Raises:
            UsageError: If the suffix is not ``.png``.
            DataError: If the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise UsageError(f"labels cannot be written as `{path.suffix}`", "`.png` holds them exactly")
        write_palette(path, self.labels, self.task.palette)
        return path

    def _alpha(self, look: Look) -> Uint8:
        road = self.predictor.road
        check_road(look, road)
        return cutout_alpha(self.answer, look, kept_classes(look, self.task), road)
