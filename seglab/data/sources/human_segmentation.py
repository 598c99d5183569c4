"""Human-Segmentation-Dataset: ``Training_Images/{k}.jpg`` and ``Ground_Truth/{k}.png``, white = person.

Two thirds of the masks are smaller than their photo (remove.bg's limit), at the same aspect ratio. The repository
holds ``.DS_Store`` files in every folder. A later state of the project calls the folders ``data/images`` and
``data/masks``. Origin: https://github.com/VikramShenoy97/Human-Segmentation-Dataset
"""

from functools import partial
from pathlib import Path
from typing import Final

from seglab.data.masks import BINARY, read_mask
from seglab.data.pairing import pair, pictures_by_name
from seglab.data.sources import Item, Scan, SourceOptions, other_layout
from seglab.data.sources.folders import pairing_problems
from seglab.errors import DataError

NAME = "human-segmentation"
TITLE = "Training_Images/*.jpg with Ground_Truth/*.png (or data/images with data/masks), 0/255"
TASK: str | None = "person"
SIGNS: Final = (("Training_Images", "Ground_Truth"), ("data/images", "data/masks"))


def recognise(raw_dir: Path) -> str | None:
    """Recognise the pair of folder names."""
    for photos, masks in SIGNS:
        if (raw_dir / photos).is_dir() and (raw_dir / masks).is_dir():
            return f"it has `{photos}` and `{masks}`"
    return None


def scan(raw_dir: Path, options: SourceOptions) -> Scan:
    """Pair by stem; see :class:`seglab.data.sources.Source`."""
    from seglab.data.images import IMAGE_SUFFIXES

    folders = [pair for pair in SIGNS if (raw_dir / pair[0]).is_dir() and (raw_dir / pair[1]).is_dir()]
    if not folders:
        raise other_layout(raw_dir, NAME)
    if options.task.num_classes != 2:
        message = f"`{NAME}` has one class, but task `{options.task.name}` has {options.task.num_classes}"
        raise DataError(message, "pass a task of two classes, such as --task person")
    (photos, _), (masks, _) = (pictures_by_name(raw_dir / folder, IMAGE_SUFFIXES) for folder in folders[0])
    pairing = pair(photos, masks)
    items = [
        Item(name, photo_path, mask_path, partial(read_mask, mask_path, BINARY, options.task))
        for name, (photo_path, mask_path) in pairing.pairs.items()
    ]
    return Scan(items, pairing_problems(pairing, raw_dir), [BINARY.note])
