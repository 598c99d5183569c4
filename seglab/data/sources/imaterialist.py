"""iMaterialist Fashion 2019: ``train/`` and ``train.csv``, one row of run lengths an instance.

::

    train/00000663ed1ff0c4e0132b9b9ac53f6e.jpg ...        (or images/)
    train.csv                   ImageId,EncodedPixels,Height,Width,ClassId: `6068157 7 6073371 20 ...`, `6_24_88`
    label_descriptions.json     names of the 46 categories

``ClassId`` is a category, then attributes, joined by ``_``. Categories become the three classes of clothes by name;
what is no garment (a belt, a sleeve, a pocket) is left out. Two rules:

* ``documented``: the classes of the label file; small garments are painted over large ones.
* ``original``: exactly the published code. It adds 1 to the category before it looks for the class, so that vests
  become lower body, skirts full body, and capes nothing; it shrinks every mask by itself with a bicubic filter, forgets
  those of less than 21 pixels width or height, adds the class numbers where masks overlap, and where nothing is left
  calls the first row an upper body. Origin: https://github.com/levindabhi/cloth-segmentation
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.garments import CATEGORIES, CLASS_NAMES, class_ids, garment_class
from seglab.data.mask_rows import COLUMNS, MaskTable, columns_of
from seglab.data.pairing import list_files
from seglab.data.problems import Problem
from seglab.data.rle import Layer, Painting, RleError, Runs, parse_kaggle, to_mask
from seglab.data.sources import BadRows, Item, Outlines, Scan, SourceOptions, other_layout
from seglab.errors import DataError, UsageError
from seglab.notation import parse_json

NAME = "imaterialist"
TITLE = "train/ (or images/) with train.csv, a row of run lengths an instance, and label_descriptions.json"
TASK: str | None = "clothes"
SIGNS: Final = (("train.csv", "train"), ("train.csv", "images"))
RULES = ("documented", "original")

PHOTO_DIRS: Final = ("train", "images", "train_images")
NAMES_FILE: Final = "label_descriptions.json"

BAD_RUNS: Final = "run lengths that cannot be drawn"

MIN_EXTENT: Final = 20
"""Smallest distance in pixels between the first and the last column, and row, of a mask that the original keeps."""

NUM_LINES: Final = 5
"""How many line numbers stand for all."""


@dataclass(frozen=True)
class _Published:
    """The labels of a photo as the published code makes them; :class:`seglab.data.sources.Outlines`."""

    masks: Sequence[tuple[Runs, int]]
    """Runs and category of every row."""
    shape: tuple[int, int]
    place: str
    ids: tuple[int, ...]
    """Class ids of nothing, upper body, lower body and full body."""

    def draw(self, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the label map at the size of the grid."""
        shrunk = [_bicubic(runs, size_hw) for runs, _ in self.masks]
        kept = [(mask, category + 1) for mask, (_, category) in zip(shrunk, self.masks, strict=True) if _is_wide(mask)]
        total: NDArray[np.int64] = np.zeros(size_hw, np.int64)
        for number, shifted in ((1, range(6)), (2, range(6, 9)), (3, range(9, 13))):
            several = [mask for mask, category in kept or [(shrunk[0], 0)] if category in shifted]
            if several:
                total += number * np.logical_or.reduce(several)
        total[total > len(CLASS_NAMES)] = 1
        return np.asarray(self.ids, np.uint8)[total]


def recognise(raw_dir: Path) -> str | None:
    """Recognise the columns of a CSV beside a folder of photos."""
    csv_path, photo_dir = _csv_path(raw_dir), _photo_dir(raw_dir)
    if csv_path is None or photo_dir is None:
        return None
    return f"it has `{photo_dir.name}` and `{csv_path.name}` with a column of run lengths"


def scan(raw_dir: Path, options: SourceOptions) -> Scan:
    """Find the rows of every photo; see :class:`seglab.data.sources.Source`."""
    csv_path, photo_dir = _csv_path(raw_dir), _photo_dir(raw_dir)
    if csv_path is None or photo_dir is None:
        raise other_layout(raw_dir, NAME)
    ids = class_ids(options.task, NAME)
    published = options.rules == "original"
    if published and options.size is None:
        hint = "add `--size 768`, which is the original's, and leave `--fit pad` out"
        raise UsageError("--rules original works on photos stretched to a square", hint)
    names, remark = _categories(raw_dir)
    classes = {category: garment_class(name) for category, name in names.items()}
    table = MaskTable(csv_path, {category for category, name in classes.items() if name is not None})
    remarks = [f"{table.num_rows} rows of {len(table.photos)} photos", remark, _rules_remark(published)]
    if table.repeated:
        some = ", ".join(map(str, table.repeated[:NUM_LINES])) + (", ..." if len(table.repeated) > NUM_LINES else "")
        remarks.append(f"{len(table.repeated)} rows repeat an earlier one and count once: lines {some}")
    found, problems = _found(table, photo_dir, raw_dir)
    more_paths = (raw_dir / NAMES_FILE,) if (raw_dir / NAMES_FILE).is_file() else ()
    if published:
        read = partial(_read_published, table, (0, *(ids[name] for name in CLASS_NAMES)))
    else:
        read = partial(_read_documented, table, {category: ids[name] for category, name in classes.items() if name})
    items = [
        Item(name, path, csv_path, partial(read, number), more_paths=more_paths)
        for name, (path, number) in found.items()
    ]
    return Scan(items, [*table.problems, *problems], remarks)


def _read_documented(table: MaskTable, classes: Mapping[int, int], photo: int) -> Outlines:
    masks = _masks(table, photo)
    layers = [Layer(runs, classes[category]) for runs, category in masks if category in classes]
    layers.sort(key=lambda layer: -layer.runs.area)
    return Painting(layers, table.sizes[photo], f"line {table.first_line(photo)}")


def _read_published(table: MaskTable, ids: tuple[int, ...], photo: int) -> Outlines:
    return _Published(_masks(table, photo), table.sizes[photo], f"line {table.first_line(photo)}", ids)


def _masks(table: MaskTable, photo: int) -> list[tuple[Runs, int]]:
    """Read the runs and the category of every row of a photo."""
    from seglab.data.images import MAX_PIXELS

    masks, problems = [], []
    height, width = table.sizes[photo]
    if height * width > MAX_PIXELS:
        where = table.where(table.first_line(photo))
        raise BadRows([Problem("rows of one photo that is too large", where, f"{width}x{height}")])
    for row in table.rows(photo):
        try:
            masks.append((parse_kaggle(row.encoded, (height, width)), row.category))
        except RleError as error:
            problems.append(Problem(BAD_RUNS, table.where(row.line), f"line {row.line}: {error.message}"))
    if problems:
        raise BadRows(problems)
    return masks


def _bicubic(runs: Runs, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    from PIL import Image

    full = Image.fromarray(np.ascontiguousarray(to_mask(runs)).view(np.uint8))
    return np.asarray(full.resize(size_hw[::-1], Image.Resampling.BICUBIC)) > 0


def _is_wide(mask: NDArray[np.bool_]) -> bool:
    """Tell whether the original keeps a shrunk mask."""
    spans = [np.flatnonzero(mask.any(axis=axis)) for axis in (0, 1)]
    return all(span.size and span[-1] - span[0] >= MIN_EXTENT for span in spans)


def _found(table: MaskTable, photo_dir: Path, raw_dir: Path) -> tuple[dict[str, tuple[Path, int]], list[Problem]]:
    """Return path and number of every sound photo by its name, and what has no counterpart."""
    from seglab.data.images import IMAGE_SUFFIXES

    files = {
        path.relative_to(photo_dir).as_posix(): path
        for path in list_files(photo_dir)
        if path.suffix.lower() in IMAGE_SUFFIXES
    }
    # The edition of 2020 leaves the suffix out.
    by_stem = {name.rpartition(".")[0]: name for name in files}
    names = {image_id: image_id if image_id in files else by_stem.get(image_id) for image_id in table.photos}
    stems = [name.rpartition(".")[0] for name in names.values() if name is not None]
    twice = {stem for stem, num in Counter(stems).items() if num > 1}
    found, problems = {}, []
    for image_id, name in names.items():
        number = table.photos[image_id]
        if name is None:
            where = table.where(table.first_line(number))
            problems.append(Problem("rows without their photo", where, f"no `{image_id[:60]}` in `{photo_dir.name}`"))
        elif image_id not in table.unusable:
            stem = name.rpartition(".")[0]
            found[name if stem in twice else stem] = (files[name], number)
    for name in sorted(files.keys() - names.values()):
        problems.append(Problem("photo without a row", files[name].relative_to(raw_dir).as_posix()))
    return found, problems


def _categories(raw_dir: Path) -> tuple[dict[int, str], str]:
    """Return the names of the categories by id, and where they are from."""
    path = raw_dir / NAMES_FILE
    if not path.is_file():
        remark = f"`{NAMES_FILE}` is missing: the {len(CATEGORIES)} categories of 2019 are taken"
        return dict(enumerate(CATEGORIES)), remark
    try:
        names = {int(entry["id"]): str(entry["name"]) for entry in parse_json(path.read_bytes())["categories"]}
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"cannot read `{path}`: {error}", "without it the categories of 2019 are taken") from error
    strange = [name for name in names.values() if garment_class(name) is None]
    remark = f"{len(names)} categories of `{NAMES_FILE}`, merged by name"
    return names, remark + (f"; not known: {', '.join(strange[:NUM_LINES])}" if strange else "")


def _rules_remark(published: bool) -> str:
    if published:
        return "labels by the published code, its off-by-one classes and sums included (--rules original)"
    return "labels by the label file, small garments over large ones (--rules documented)"


def _csv_path(raw_dir: Path) -> Path | None:
    paths = sorted(raw_dir.glob("*.csv"), key=lambda path: (path.name != "train.csv", path.name))
    typical = {name.casefold() for name in COLUMNS[:2]}
    return next((path for path in paths if path.is_file() and typical & set(columns_of(path))), None)


def _photo_dir(raw_dir: Path) -> Path | None:
    return next((raw_dir / name for name in PHOTO_DIRS if (raw_dir / name).is_dir()), None)
