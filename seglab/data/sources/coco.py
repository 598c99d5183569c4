"""COCO instances: a JSON file of polygons and run lengths, and its photos.

::

    annotations/instances_train2017.json  train2017/*.jpg        (COCO itself)
    annotations.json  images/*.jpg                               (CVAT, Label Studio)
    train/_annotations.coco.json  train/*.jpg  valid/...         (Roboflow)

Categories are the task's classes of the same names; in a task of clothes also the 46 names of Fashionpedia. Small
instances are painted over large ones. What lies under a crowd region and no instance is ignored (255).
Origin: https://cocodataset.org/#format-data
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from seglab.data.annotation_index import AnnotationIndex
from seglab.data.garments import CLASS_NAMES, garment_class
from seglab.data.json_lists import Entry, read_lists
from seglab.data.pairing import is_content
from seglab.data.problems import Problem
from seglab.data.rle import Layer, Painting, RleError, Runs, from_polygons, parse_counts
from seglab.data.side_by_side import SPLIT_NAMES
from seglab.data.sources import BadRows, Item, Outlines, Scan, SourceOptions, other_layout
from seglab.errors import DataError
from seglab.tasks import IGNORE, Task

NAME = "coco"
TITLE = "COCO JSON (images, annotations, categories) with the photos beside it, in images/, or in a folder it names"
TASK: str | None = None
SIGNS: Final = (("annotations/*.json", "images"), ("*.json", "images"))

JSON_DIRS: Final = (".", "annotations", *SPLIT_NAMES)
KEYS: Final = ("images", "annotations", "categories")

FOREIGN: Final = "categories outside the task"
BAD_OUTLINE: Final = "annotation that cannot be drawn"
DAMAGED: Final = "damaged entry"


class _Image(NamedTuple):
    """What is needed of an image; its outlines stay in the file."""

    id: Any
    name: str
    size_hw: tuple[int, int]


@dataclass(frozen=True)
class _File:
    """A JSON file, walked through once."""

    path: Path
    split: str | None
    images: list[_Image | str]
    """In the order of the file; the beginning of its text in place of one that is damaged."""
    annotations: AnnotationIndex
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
        raise other_layout(raw_dir, NAME)
    splits = [_split_of(path.relative_to(raw_dir)) for path in paths]
    own_splits = len(paths) > 1 and all(splits)
    result = Scan([])
    taken: set[Path] = set()
    for path, split in zip(paths, splits, strict=True):
        file = _load(path, split if own_splits else None)
        where = path.relative_to(raw_dir).as_posix()
        result.problems.extend(Problem(DAMAGED, where, f"annotation `{text}`") for text in file.annotations.damaged)
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
        if isinstance(image, str):
            problems.append(Problem(DAMAGED, where, f"image {image}"))
            continue
        id, name, size_hw = image
        path = _photo_path(name, folders)
        if path is None:
            problems.append(Problem("image without its photo", where, f"no `{name[:80]}`"))
        elif id in seen or path in taken:
            problems.append(Problem("image that is listed twice", where, f"`{name}`"))
        else:
            taken.add(path)
            read = partial(_read, file.annotations, id, ids, size_hw, where)
            stem = PurePosixPath(name).with_suffix("").as_posix()
            yield Item(stem, path, file.path, read, file.split)
        seen.add(id)
    for id, num in file.annotations.num_of_images():
        if id not in seen:
            detail = f"{num} of image `{id}`"
            problems.append(Problem("annotations of an image that is not listed", where, detail))


def _read(
    index: AnnotationIndex, image_id: Any, ids: Mapping[Any, int], size_hw: tuple[int, int], where: str
) -> Outlines:
    """Turn the annotations of an image into masks."""
    layers: list[Layer] = []
    crowds: list[Layer] = []
    problems, place = [], f"image {image_id}"
    for annotation in index.read(image_id):
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
    own = {_plain(name): id for id, name in enumerate(task.classes)} | {"ignore": IGNORE}
    ids = {category: own[_plain(name)] for category, name in file.names.items() if _plain(name) in own}
    where = file.path.relative_to(raw_dir).as_posix()
    garments = {category: garment_class(name) for category, name in file.names.items() if category not in ids}
    if set(CLASS_NAMES) <= set(task.classes) and any(garments.values()):
        for category, name in garments.items():
            if name is not None:
                ids[category] = task.classes.index(name) if name else 0
        result.remarks.append(f"the garments of `{where}` are merged to {', '.join(CLASS_NAMES)} by name")
    for category, num in file.annotations.num_of_categories():
        if category not in ids:
            name = f"`{file.names[category]}`" if category in file.names else f"id {category}, which has no name"
            result.problems.append(Problem(FOREIGN, where, f"{name}: {num} annotations"))
    return ids


def _load(path: Path, split: str | None) -> _File:
    """Walk through a file and remember where its annotations are.

    Raises:
        DataError: If it cannot be read or has not the three lists.
    """
    images: list[_Image | str] = []
    index, names = AnnotationIndex(path), dict[Any, str]()

    def add_name(entry: Entry) -> None:
        names[entry.value["id"]] = str(entry.value["name"])

    take = {
        "images": lambda entry: images.append(_image(entry.value)),
        "annotations": index.add,
        "categories": add_name,
    }
    hint = "is the download whole? Else leave this file out of the folder"
    try:
        found = read_lists(path, take)
    except OSError as error:
        raise DataError(f"cannot read `{path}`: {error.strerror}", "check its permissions") from error
    except KeyError as error:
        raise DataError(f"`{path}` is no COCO file: a category has no `{error.args[0]}`", hint) from error
    except (ValueError, TypeError) as error:
        raise DataError(f"`{path}` is no COCO file: {error}", hint) from error
    missing = [f"`{key}`" for key in KEYS if key not in found]
    if missing:
        message = f"`{path}` is no COCO file: it has no {', '.join(missing)}"
        raise DataError(message, f"it needs the lists {', '.join(KEYS)}")
    index.close()
    return _File(path, split, images, index, names)


def _image(image: Any) -> _Image | str:
    """Return what is needed of an image; the beginning of its text if that is not there."""
    from seglab.data.images import MAX_PIXELS

    try:
        id, name, height, width = (image[key] for key in ("id", "file_name", "height", "width"))
        hash(id)
    except (KeyError, TypeError):
        return _brief(image)
    sides = type(height) is int and type(width) is int and min(height, width) >= 1 and height * width <= MAX_PIXELS
    if not sides or not isinstance(name, str) or not name:
        return _brief(image)
    return _Image(id, name.replace("\\", "/"), (height, width))


def _photo_path(name: str, folders: Sequence[Path]) -> Path | None:
    """Find a photo; names that lead out of the folders are none."""
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or parts[0] == "/" or "\0" in name:
        return None
    return next((folder / name for folder in folders if _is_file(folder / name)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long for this system
        return False


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
    missing, tail = {f'"{key}"'.encode() for key in KEYS}, b""
    try:
        with path.open("rb") as handle:
            while missing and (data := handle.read(1 << 20)):
                missing = {key for key in missing if key not in tail + data}
                tail = data[-max(map(len, KEYS)) - 1 :]
    except OSError:
        return False
    return not missing


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def _brief(value: Any) -> str:
    text = repr(value)
    return f"`{text if len(text) <= 60 else text[:57] + '...'}`"
