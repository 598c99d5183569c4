"""COCO's list of annotations: walked through once to learn where those of every image are, then read image by image.

What is remembered of an annotation is 24 bytes, however long its outline.
"""

import json
import zlib
from array import array
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from seglab.data.json_lists import Entry
from seglab.errors import DataError

__all__ = ["AnnotationIndex"]

MAX_BRIEF: Final = 60
"""Characters of a damaged annotation that are kept for the report."""


class AnnotationIndex:
    """Where the annotations of every image are. Filled by :meth:`add`, closed by :meth:`close`, then read.

    Args:
        path: The file.

    Attributes:
        damaged: The beginnings of the annotations that name no image or no category.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged: list[str] = []
        self._images: dict[Hashable, int] = {}
        self._categories: dict[Hashable, int] = {}
        self._image = array("i")
        self._category = array("i")
        self._offset = array("q")
        self._size = array("i")
        self._checksum = array("I")

    def add(self, entry: Entry) -> None:
        """Remember an annotation."""
        try:
            image_id, category_id = entry.value["image_id"], entry.value["category_id"]
            image = self._images.setdefault(image_id, len(self._images))
            category = self._categories.setdefault(category_id, len(self._categories))
        except (KeyError, TypeError):
            text = repr(entry.value)
            self.damaged.append(text if len(text) <= MAX_BRIEF else text[: MAX_BRIEF - 3] + "...")
            return
        self._image.append(image)
        self._category.append(category)
        self._offset.append(entry.offset)
        self._size.append(len(entry.raw))
        self._checksum.append(zlib.crc32(entry.raw))

    def close(self) -> None:
        """Sort by image what was added; nothing is added afterwards."""
        images = np.asarray(self._image, np.int32)
        self._order = np.argsort(images, kind="stable").astype(np.int32)
        self._bounds = np.searchsorted(images[self._order], np.arange(len(self._images) + 1))

    def num_of_images(self) -> Iterator[tuple[Hashable, int]]:
        """Yield every image that is named, and how many annotations it has."""
        return zip(self._images, np.diff(self._bounds).tolist(), strict=True)

    def num_of_categories(self) -> Iterator[tuple[Hashable, int]]:
        """Yield every category that is named, and how many annotations it has."""
        counts = np.bincount(np.asarray(self._category, np.int32), minlength=len(self._categories))
        return zip(self._categories, counts.tolist(), strict=True)

    def read(self, image_id: Hashable) -> list[Any]:
        """Read the annotations of an image, in the order of the file. May be called from several threads.

        Raises:
            DataError: If the file is not the one that was indexed.
        """
        image = self._images.get(image_id)
        if image is None:
            return []
        found = []
        with self.path.open("rb") as handle:
            for place in self._order[self._bounds[image] : self._bounds[image + 1]]:
                handle.seek(self._offset[place])
                raw = handle.read(self._size[place])
                if zlib.crc32(raw) != self._checksum[place]:
                    raise DataError(f"`{self.path}` changed while it was read", "run the same command again")
                found.append(json.loads(raw.decode("utf-8", "surrogatepass")))
        return found
