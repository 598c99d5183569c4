"""The pieces of an answer that annotation files list one by one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seglab.data.rle import Runs, from_window
from seglab.inference.areas import mask_area, mean_in
from seglab.inference.labelled import Labelled

__all__ = ["Region", "regions_of"]


@dataclass(frozen=True)
class Region:
    """The pixels of a class, or of a class of a person."""

    class_id: int
    person: int | None
    """Number of the person, where people are told apart."""
    window: NDArray[np.bool_]
    """HW of the bounding box."""
    top: int
    left: int
    size_hw: tuple[int, int]
    """Of the photo."""
    confidence: float
    """Mean probability of the network's choice."""

    @property
    def num_pixels(self) -> int:
        """How large it is."""
        return int(np.count_nonzero(self.window))

    @property
    def runs(self) -> Runs:
        """The pixels as runs of the whole photo."""
        return from_window(self.window, self.top, self.left, self.size_hw)


def regions_of(labelled: Labelled) -> Iterator[Region]:
    """Yield what there is in an answer: class by class or, where people are told apart, person by person."""
    if not labelled.selection.instances:
        for index in labelled.classes:
            region = _region(labelled, labelled.labels == index, 0, 0, index, None)
            if region is not None:
                yield region
        return
    instances = labelled.instances
    for person in instances.people:
        box = person.area["bbox"]
        top, left = box["top"], box["left"]
        window = np.s_[top : top + box["height"], left : left + box["width"]]
        own = instances.ids[window] == person.id
        for name in person.parts:
            index = labelled.task.index(name)
            region = _region(labelled, own & (labelled.labels[window] == index), top, left, index, person.id)
            if index in labelled.classes and region is not None:
                yield region


def _region(
    labelled: Labelled, mask: NDArray[np.bool_], top: int, left: int, index: int, person: int | None
) -> Region | None:
    """Cut a mask to its bounding box."""
    box = mask_area(mask)["bbox"]
    if box is None:
        return None
    window = mask[box["top"] : box["top"] + box["height"], box["left"] : box["left"] + box["width"]]
    top, left = top + box["top"], left + box["left"]
    certainty = labelled.certainty[top : top + box["height"], left : left + box["width"]]
    height, width = labelled.labels.shape
    return Region(index, person, window, top, left, (height, width), mean_in(certainty, window))
