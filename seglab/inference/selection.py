"""What of an answer is wanted: some classes, no specks, people one by one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.errors import UsageError
from seglab.inference.areas import count_labels
from seglab.tasks import Task

__all__ = ["EVERYTHING", "Selection", "parse_selection", "sieve"]

Uint8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Selection:
    """What of an answer is wanted."""

    keep: tuple[str, ...] = ()
    """Classes or regions of the task; everything when empty. What is not kept becomes background."""
    drop: tuple[str, ...] = ()
    """Classes or regions that become background."""
    least_pixels: int = 0
    """Smaller areas take the class of what lies next to them."""
    least_share: float = 0.0
    """The same as a share of the picture, 0..1."""
    instances: bool = False
    """Whether people are told apart: by their outlines, if the model finds those, otherwise by what hangs together."""

    @property
    def settings(self) -> dict[str, Any]:
        """What decides over outputs, as plain JSON values."""
        return asdict(self)

    def classes(self, task: Task) -> tuple[int, ...]:
        """Return the ids that are kept, without the background (0), ascending.

        Raises:
            UsageError: If the task has no such class or region, or nothing is left.
        """
        kept = {index for name in self.keep or task.classes for index in task.members(name)}
        dropped = {index for name in self.drop for index in task.members(name)}
        left = tuple(sorted(kept - dropped - {0}))
        if not left:
            raise UsageError("`--keep` and `--drop` leave no class", f"classes: {', '.join(task.classes[1:])}")
        return left

    def apply(self, labels: Uint8, task: Task) -> Uint8:
        """Return HW class ids with everything that is not wanted taken out."""
        kept = self.classes(task)
        if len(kept) < task.num_classes - 1:
            table = np.zeros(256, np.uint8)
            table[list(kept)] = kept
            chosen: Any = cv2.LUT(labels, table)
            labels = chosen
        least = max(self.least_pixels, int(np.ceil(self.least_share * labels.size)))
        return sieve(labels, least) if least > 1 else labels


EVERYTHING: Final = Selection()
"""No choice made."""


def parse_selection(
    keep: Sequence[str] = (), drop: Sequence[str] = (), min_area: str = "0", *, instances: bool = False
) -> Selection:
    """Build a selection from text as on the command line.

    Args:
        keep: Names, each perhaps several with commas between.
        drop: The same.
        min_area: A number of pixels, or a share of the picture such as ``0.1%``.
        instances: See :class:`Selection`.

    Raises:
        UsageError: If the area means nothing.
    """
    kept, dropped = (tuple(name.strip() for text in given for name in text.split(",")) for given in (keep, drop))
    if "" in (*kept, *dropped):
        raise UsageError("`--keep` and `--drop` take names of classes, and one is empty")
    number, percent, rest = min_area.strip().partition("%")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if rest or not 0 <= value < (100 if percent else 2**31) or (not percent and value != int(value)):
        raise UsageError(f"`{min_area}` is no area", "`--min-area 50` is 50 pixels, `--min-area 0.1%` of the picture")
    pixels, share = (0, value / 100) if percent else (int(value), 0.0)
    return Selection(kept, dropped, pixels, share, instances)


def sieve(labels: Uint8, least: int) -> Uint8:
    """Give areas of fewer pixels the class of the nearest pixel of a larger area: specks go, pinholes are filled.

    An area is what hangs together of one class, diagonals included. Where all areas are too small, all is background.

    Args:
        labels: HW class ids.
        least: Pixels that an area needs.
    """
    small: NDArray[np.bool_] = np.zeros(labels.shape, bool)
    for index in np.flatnonzero(count_labels(labels, 256)).tolist():
        mask = (labels == index).view(np.uint8)
        _, areas, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
        is_small = np.asarray(statistics)[:, cv2.CC_STAT_AREA] < least
        is_small[0] = False
        small |= is_small[areas]
    if not small.any():
        return labels
    if small.all():
        return np.zeros_like(labels)
    _, seeds = cv2.distanceTransformWithLabels(
        small.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    large = ~small
    table = np.zeros(int(np.asarray(seeds).max()) + 1, np.uint8)
    table[np.asarray(seeds)[large]] = labels[large]
    sifted = labels.copy()
    sifted[small] = table[np.asarray(seeds)[small]]
    return sifted
