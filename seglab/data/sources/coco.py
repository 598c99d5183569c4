"""COCO instances: a JSON file of polygons and run lengths, and its photos.

::

    annotations/instances_train2017.json  train2017/*.jpg        (COCO itself)
    annotations.json  images/*.jpg                               (CVAT, Label Studio)
    train/_annotations.coco.json  train/*.jpg  valid/...         (Roboflow)

Categories are the task's classes of the same names; in a task of clothes also the 46 names of Fashionpedia. Small
instances are painted over large ones. What lies under a crowd region and no instance is ignored (255).
Origin: https://cocodataset.org/#format-data
"""

import json
import mmap
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final

from seglab.data.garments import CLASS_NAMES, garment_class
from seglab.data.pairing import is_content
from seglab.data.problems import Problem
from seglab.data.rle import Layer, Painting, RleError, Runs, from_polygons, parse_counts
from seglab.data.sources import BadRows, Item, Outlines, Scan, SourceOptions
from seglab.data.sources.folders import SPLIT_NAMES
from seglab.errors import DataError
from seglab.tasks import IGNORE, Task

NAME = "coco"
TITLE = "COCO JSON (images, annotations, categories) with the photos beside it, in images/, or in a folder it names"
TASK: str | None = None

JSON_DIRS: Final = (".", "annotations", *SPLIT_NAMES)
KEYS: Final = ("images", "annotations", "categories")

FOREIGN: Final = "categories outside the task"
BAD_OUTLINE: Final = "annotation that cannot be drawn"
DAMAGED: Final = "damaged entry"


@dataclass(frozen=True)
class _File:
    """A JSON file, read."""

    path: Path
    split: str | None
    images: list[Any]
    annotations: dict[Any, list[Any]]
    """By the id of their image."""
    names: dict[Any, str]
    """Names of the categories by id."""


def recognise(raw_dir: Path) -> str | None:
    """Recognise the keys in a JSON file."""
    paths = _json_paths(raw_dir)
    return f"`{paths[0].relative_to(raw_dir).as_posix()}` has COCO's keys" if paths else None


def scan(raw_dir: Path, options: SourceOptions) -> Scan:
    """Find the photo and the annotations of every image; see :class:`seglab.data.sources.Source`."""
    paths = _json_paths(raw_dir)
    if not paths:
        raise DataError(f"`{raw_dir}` is not the `{NAME}` layout", f"it is {TITLE}")
    splits = [_split_of(path.relative_to(raw_dir)) for path in paths]
    own_splits = len(paths) > 1 and all(splits)
    result = Scan([])
    taken: set[Path] = set()
    for path, split in zip(paths, splits, strict=True):
        file = _load(path, split if own_splits else None, result.problems, raw_dir)
        ids = _class_ids(file, options.task, result, raw_dir)
        result.items.extend(_items(file, ids, raw_dir, taken, result.problems))
    if own_splits:
        result.remarks.append(f"the source's own splits are kept: {', '.join(dict.fromkeys(filter(None, splits)))}")
    result.remarks.append("small instances lie over large ones; crowd regions are ignored")
    if num_others := sum(_num_pictures(dir) for dir in {path.parent for path in taken}) - len(taken):
        result.remarks.append(f"{num_others} photos that no file lists are left out")
    times = Counter(item.name for item in result.items)
    return Scan([_distinct(item, times, raw_dir) for item in result.items], result.problems, result.remarks)


def _items(
    file: _File, ids: Mapping[Any, int], raw_dir: Path, taken: set[Path], problems: list[Problem]
) -> Iterable[Item]:
    where = file.path.relative_to(raw_dir).as_posix()
    seen: set[Any] = set()
    folders = _photo_dirs(file.path, raw_dir)
    for image in file.images:
        try:
            id, name, size_hw = _image(image)
        except (KeyError, TypeError, ValueError):
            problems.append(Problem(DAMAGED, where, f"image {_brief(image)}"))
            continue
        path = _photo_path(name, folders)
        if path is None:
            problems.append(Problem("image without its photo", where, f"no `{name[:80]}`"))
        elif id in seen or path in taken:
            problems.append(Problem("image that is listed twice", where, f"`{name}`"))
        else:
            taken.add(path)
            read = partial(_read, file.annotations.pop(id, []), ids, size_hw, f"image {id}", where)
            stem = PurePosixPath(name).with_suffix("").as_posix()
            yield Item(stem, path, file.path, read, file.split)
        seen.add(id)
    for id, annotations in file.annotations.items():
        if id not in seen:
            detail = f"{len(annotations)} of image `{id}`"
            problems.append(Problem("annotations of an image that is not listed", where, detail))


def _read(
    annotations: Sequence[Any], ids: Mapping[Any, int], size_hw: tuple[int, int], place: str, where: str
) -> Outlines:
    """Turn the annotations of an image into masks."""
    layers: list[Layer] = []
    crowds: list[Layer] = []
    problems = []
    for annotation in annotations:
        try:
            value = ids.get(annotation["category_id"], 0)
            if value == 0:
                continue
            runs = _runs(annotation.get("segmentation"), size_hw)
        except RleError as error:
            number = annotation.get("id", "without id")
            problems.append(Problem(BAD_OUTLINE, where, f"annotation {number} of {place}: {error.message}"))
            continue
        is_crowd = annotation.get("iscrowd") or value == IGNORE
        (crowds if is_crowd else layers).append(Layer(runs, IGNORE if is_crowd else value))
    if problems:
        raise BadRows(problems)
    layers.sort(key=lambda layer: -layer.runs.area)
    return Painting([*crowds, *layers], size_hw, place)


def _runs(segmentation: Any, size_hw: tuple[int, int]) -> Runs:
    if isinstance(segmentation, list):
        return from_polygons(segmentation, size_hw)
    if not isinstance(segmentation, dict):
        raise RleError("neither polygons nor run lengths")
    size = segmentation.get("size")
    if size != list(size_hw):
        raise RleError(f"run lengths of size {size}, the image has {list(size_hw)}")
    return parse_counts(segmentation.get("counts", ()), size_hw)


def _class_ids(file: _File, task: Task, result: Scan, raw_dir: Path) -> dict[Any, int]:
    """Return the class id of every category of a file; those that the task has not are problems and left out."""
    used = Counter(annotation["category_id"] for several in file.annotations.values() for annotation in several)
    own = {_plain(name): id for id, name in enumerate(task.classes)} | {"ignore": IGNORE}
    ids = {category: own[_plain(name)] for category, name in file.names.items() if _plain(name) in own}
    where = file.path.relative_to(raw_dir).as_posix()
    garments = {category: garment_class(name) for category, name in file.names.items() if category not in ids}
    if set(CLASS_NAMES) <= set(task.classes) and any(garments.values()):
        for category, name in garments.items():
            if name is not None:
                ids[category] = task.classes.index(name) if name else 0
        result.remarks.append(f"the garments of `{where}` are merged to {', '.join(CLASS_NAMES)} by name")
    for category, num in used.items():
        if category not in ids:
            name = f"`{file.names[category]}`" if category in file.names else f"id {category}, which has no name"
            result.problems.append(Problem(FOREIGN, where, f"{name}: {num} annotations"))
    return ids


def _load(path: Path, split: str | None, problems: list[Problem], raw_dir: Path) -> _File:
    """Read a file and group its annotations.

    Raises:
        DataError: If it cannot be read or has not the three lists.
    """
    try:
        values = json.loads(path.read_bytes())
        images, annotations, categories = (values[key] for key in KEYS)
        if not all(isinstance(entries, list) for entries in (images, annotations, categories)):
            raise TypeError("its entries are no lists")
        names = {category["id"]: str(category["name"]) for category in categories}
    except OSError as error:
        raise DataError(f"cannot read `{path}`: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise DataError(f"`{path}` is no COCO file: {error}", "is the download whole?") from error
    except KeyError as error:
        raise DataError(f"`{path}` is no COCO file: {error} is missing", f"it needs {', '.join(KEYS)}") from error
    by_image: dict[Any, list[Any]] = {}
    for annotation in annotations:
        try:
            hash(annotation["category_id"])
            by_image.setdefault(annotation["image_id"], []).append(annotation)
        except (KeyError, TypeError):
            detail = f"annotation {_brief(annotation)}"
            problems.append(Problem(DAMAGED, path.relative_to(raw_dir).as_posix(), detail))
    return _File(path, split, images, by_image, names)


def _image(image: Mapping[str, Any]) -> tuple[Any, str, tuple[int, int]]:
    """Return id, file name and size of an image."""
    from seglab.data.images import MAX_PIXELS

    height, width = image["height"], image["width"]
    if type(height) is not int or type(width) is not int or min(height, width) < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"{width}x{height}")
    name = image["file_name"]
    if not isinstance(name, str) or not name:
        raise TypeError("no name")
    hash(image["id"])
    return image["id"], name.replace("\\", "/"), (height, width)


def _photo_path(name: str, folders: Sequence[Path]) -> Path | None:
    """Find a photo; names that lead out of the folders are none."""
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or parts[0] == "/" or "\0" in name:
        return None
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _photo_dirs(path: Path, raw_dir: Path) -> list[Path]:
    """Return where the photos of a file may lie, the likeliest first."""
    stem = re.sub(r"^(instances|person_keypoints|annotations)_", "", path.stem)
    folders = [dir / name for dir in (raw_dir, path.parent) for name in (stem, f"images/{stem}", "images", "data", ".")]
    split = _split_of(path.relative_to(raw_dir))
    if split is not None:
        folders += [raw_dir / name for name, meant in SPLIT_NAMES.items() if meant == split]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _distinct(item: Item, times: Mapping[str, int], raw_dir: Path) -> Item:
    """Give items that share a name their whole paths as names."""
    if times[item.name] == 1:
        return item
    name = item.photo_path.relative_to(raw_dir).as_posix()
    return Item(name, item.photo_path, item.label_path, item.read_labels, item.split)


def _num_pictures(dir: Path) -> int:
    from seglab.data.images import IMAGE_SUFFIXES

    return sum(path.suffix.lower() in IMAGE_SUFFIXES and is_content(path.name) for path in dir.iterdir())


def _split_of(path: Path) -> str | None:
    """Return the split that a file's name or folder speaks of."""
    words = re.findall(r"[a-z]+", path.as_posix().lower())
    return next((SPLIT_NAMES[word] for word in reversed(words) if word in SPLIT_NAMES), None)


def _json_paths(raw_dir: Path) -> list[Path]:
    folders = [folder for name in JSON_DIRS if (folder := raw_dir / name).is_dir()]
    found = (path for folder in folders for path in sorted(folder.glob("*.json")) if is_content(path.name))
    paths = [path for path in found if path.is_file() and _has_keys(path)]
    # COCO's own archive holds the same images again with keypoints.
    return [path for path in paths if path.name.startswith("instances_")] or paths


def _has_keys(path: Path) -> bool:
    """Tell whether COCO's keys stand in a file, which may be of gigabytes and is not parsed."""
    try:
        with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return all(content.find(f'"{key}"'.encode()) >= 0 for key in KEYS)
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def _brief(value: Any) -> str:
    text = repr(value)
    return f"`{text if len(text) <= 60 else text[:57] + '...'}`"
