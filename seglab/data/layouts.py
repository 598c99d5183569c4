"""Synthetic people in the original layouts: the road from raw to score without any download.

A layout here is the other half of a module in :mod:`seglab.data.sources`, under the same name: that reads it, this
writes it, so that reading gives the labels of the scenes back, pixel for pixel.
"""

import hashlib
import io
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from seglab import files
from seglab.data.drawing import overlay
from seglab.data.garments import CATEGORIES, garment_class
from seglab.data.images import write_labels, write_photo
from seglab.data.manifest import assign_splits
from seglab.data.rle import encode_kaggle, from_mask
from seglab.data.scene import ANATOMY, COVERING, MAX_SIDE, Scene, View, check_scene, check_synth, draw_scene, labels_for
from seglab.data.sources import celebamask, cihp, find_source, helen, pascal_part
from seglab.data.staging import StagedDir
from seglab.data.synth import DRAWING, Progress, check_num
from seglab.device import num_threads
from seglab.errors import DataError
from seglab.notation import parse_json
from seglab.pipeline import ahead
from seglab.tasks import TASKS, Task

__all__ = ["LAYOUTS", "Layout", "Original", "layout_of", "synth_original"]

RECEIPT: Final = "SOURCE.json"
"""Lies in the folder and says what made it, as in folders that ``seglab fetch`` made."""

Texts = dict[str, str]
"""File to what is appended to it."""


@dataclass(frozen=True)
class _Picture:
    """One scene to be written."""

    task: Task
    seed: int
    index: int
    split: str
    view: View
    scene: Scene

    @property
    def labels(self) -> NDArray[np.uint8]:
        return labels_for(self.scene, self.task)

    def enlarged(self) -> NDArray[np.uint8]:
        """Return the picture in twice the size where that is possible."""
        height, width = self.labels.shape
        if max(height, width) * 2 > MAX_SIDE:
            return self.scene.image
        return draw_scene(self.seed, self.index, self.view, (2 * height, 2 * width)).image


class Layout(Protocol):
    """One original layout."""

    splits: tuple[str, ...]
    """The splits that the layout itself has."""

    def name(self, index: int) -> str:
        """Return what the pair of a scene is called in it."""

    def start(self, dir: Path) -> None:
        """Make what there is once."""

    def add(self, dir: Path, picture: _Picture) -> Texts:
        """Write the files of one scene, and return what lists say about it. May be called from several threads."""


class _Helen:
    """``helenstar_release/SPLIT/NAME_{image,label,viz}``: the labels are the ids of the task."""

    splits: tuple[str, ...] = ("train", "test")

    def name(self, index: int) -> str:
        return f"{(2371615952 + 7919 * index) % 10**10}_1"

    def start(self, dir: Path) -> None:
        lines = "".join(f"{name}\n" for name in helen.NAMES)
        files.write_text(_made(dir / "helenstar_release") / "label_names.txt", lines)

    def add(self, dir: Path, picture: _Picture) -> Texts:
        folder = _made(dir / "helenstar_release" / picture.split)
        name, image, labels = self.name(picture.index), picture.scene.image, picture.labels
        write_photo(folder / f"{name}_image.jpg", image)
        write_labels(folder / f"{name}_label.png", labels)
        write_photo(folder / f"{name}_viz.jpg", overlay(image, labels, picture.task.palette, opacity=0.6))
        return {}


class _IMaterialist:
    """``train/`` and ``train.csv``: a row of runs for every garment of a person, none for bare skin."""

    splits: tuple[str, ...] = ()

    def name(self, index: int) -> str:
        return hashlib.blake2b(f"{index}".encode(), digest_size=16).hexdigest()

    def start(self, dir: Path) -> None:
        categories = [{"id": id, "name": name, "level": 2} for id, name in enumerate(CATEGORIES)]
        files.write_json(dir / "label_descriptions.json", {"categories": categories, "attributes": []})
        files.write_text(dir / "train.csv", "ImageId,EncodedPixels,Height,Width,ClassId\n")

    def add(self, dir: Path, picture: _Picture) -> Texts:
        scene, file = picture.scene, f"{self.name(picture.index)}.jpg"
        write_photo(_made(dir / "train") / file, scene.image)
        height, width = scene.covering.shape
        rows = []
        for person in range(1, scene.num_persons + 1):
            own = scene.covering * (scene.persons == person)
            for covering in np.flatnonzero(np.bincount(own.ravel())).tolist():
                category = _category(COVERING[covering], picture.index + person)
                if category is not None:
                    runs = encode_kaggle(from_mask(own == covering))
                    rows.append(f"{file},{runs},{height},{width},{category}\n")
        return {"train.csv": "".join(rows)}


class _PascalPart:
    """``Pascal-part/``: photos, ids as NumPy arrays, and a list for each split."""

    splits: tuple[str, ...] = ("train", "val")

    def name(self, index: int) -> str:
        return f"{2008 + index % 3}_{index:06d}"

    def start(self, dir: Path) -> None:
        names = ["bg", *pascal_part.NAMES[1:]]
        lines = "\n".join(f"{id}: {name}" for id, name in enumerate(names))
        files.write_text(_made(dir / "Pascal-part") / "classes.txt", lines)

    def add(self, dir: Path, picture: _Picture) -> Texts:
        root, name = dir / "Pascal-part", self.name(picture.index)
        write_photo(_made(root / "JPEGImages") / f"{name}.jpg", picture.scene.image)
        content = io.BytesIO()
        np.save(content, picture.labels, allow_pickle=False)
        files.write_bytes(_made(root / "gt_masks") / f"{name}.npy", content.getvalue())
        return {f"Pascal-part/{picture.split}_id.txt": f"{name}\n"}


class _CihpCelebMaskHq:
    """``versions/1/``: photos, and grey masks of the 20 ids of CIHP in three equal channels."""

    splits: tuple[str, ...] = ()

    def name(self, index: int) -> str:
        return f"image_{index}"

    def start(self, dir: Path) -> None:
        pass

    def add(self, dir: Path, picture: _Picture) -> Texts:
        name, ids = self.name(picture.index), _cihp_ids(picture.scene)
        write_photo(_made(dir / "versions" / "1" / "original") / f"{name}.jpg", picture.scene.image)
        grey = np.repeat(ids[..., None], 3, axis=2)
        write_photo(_made(dir / "versions" / "1" / "mask") / f"{name}.png", grey)
        return {}


class _HumanSegmentation:
    """Every third photo has the size of its mask; the others are twice as large."""

    splits: tuple[str, ...] = ()

    def name(self, index: int) -> str:
        return str(index + 1)

    def start(self, dir: Path) -> None:
        for folder in (dir, dir / "Training_Images", dir / "Ground_Truth"):
            files.write_bytes(_made(folder) / ".DS_Store", b"\0\0\0\1Bud1" + bytes(6136))

    def add(self, dir: Path, picture: _Picture) -> Texts:
        name, labels = self.name(picture.index), picture.labels
        image = picture.enlarged() if picture.index % 3 else picture.scene.image
        write_photo(dir / "Training_Images" / f"{name}.jpg", image)
        write_labels(dir / "Ground_Truth" / f"{name}.png", np.where(labels > 0, np.uint8(255), np.uint8(0)))
        return {}


LAYOUTS: Final[Mapping[str, Layout]] = {
    "helen": _Helen(),
    "imaterialist": _IMaterialist(),
    "pascal-part": _PascalPart(),
    "cihp-celebmaskhq-6class": _CihpCelebMaskHq(),
    "human-segmentation": _HumanSegmentation(),
}
"""The layouts that can be written, by the name of the source that reads each."""


def layout_of(task: Task) -> str:
    """Return the name of the layout that a task's original data have.

    Raises:
        DataError: If the task has none.
    """
    for name in LAYOUTS:
        own = TASKS[find_source(name).TASK or ""]
        if own.name == task.name and own.same_labels(task):
            return name
    known = ", ".join(f"{find_source(name).TASK}" for name in LAYOUTS)
    raise DataError(
        f"there is no original layout of task `{task.name}`",
        f"tasks that have one: {known}; `--layout prepared` is there for every task",
    )


@dataclass(frozen=True)
class Original:
    """What :func:`synth_original` wrote."""

    dir: Path
    layout: str
    num: int
    splits: dict[str, int]
    """How many each split of the layout has; empty if it has none."""
    unchanged: bool = False
    """Whether it was there already, made by the same arguments."""


def synth_original(
    task: Task,
    num: int,
    size_hw: tuple[int, int],
    out_dir: Path,
    *,
    seed: int = 0,
    val: float = 0.1,
    test: float = 0.1,
    force: bool = False,
    workers: int | None = None,
    progress: Callable[[int], AbstractContextManager[Progress]] | None = None,
) -> Original:
    """Draw people and write them as the task's original data are published, for ``seglab prepare``.

    The scenes are those of :func:`seglab.data.synth.synth` with the same seed. The folder appears whole, or not at all.

    Args:
        task: One of those that come with seglab.
        num: How many pictures, at least 1.
        size_hw: Of the labels, 16..8192 pixels a side; photos are larger in layouts where they are so.
        out_dir: The folder.
        seed: Other seeds give other people.
        val: Share of the validation split, where the layout has one; ``prepare`` makes the others.
        test: Share of the test split, likewise; in a layout of train and val they are in val.
        force: Replace a folder that this function made.
        workers: Threads; the CPUs of this process by default, 0 for none.
        progress: Called with ``num``; its ``advance`` is called for each picture.

    Raises:
        DataError: If the task has no original layout, or something else is at ``out_dir``.
        UsageError: If a number is out of range.
    """
    name = layout_of(task)
    layout, view = LAYOUTS[name], check_synth(task)
    check_scene(seed, size_hw)
    check_num(num)
    split_of = _split_of(layout, num, val, test)
    counts = {split: split_of.count(split) for split in layout.splits}
    receipt: dict[str, Any] = {
        "made_by": "seglab synth", "layout": name, "task": task.to_dict(), "num": num, "size_hw": list(size_hw),
        "seed": seed, "splits": counts, "drawing": DRAWING,
    }  # fmt: skip
    if not force and _receipt(out_dir) == receipt:
        return Original(out_dir, name, num, counts, unchanged=True)

    def draw(index: int) -> _Picture:
        return _Picture(task, seed, index, split_of[index], view, draw_scene(seed, index, view, size_hw))

    bar = progress(num) if progress else nullcontext()
    with StagedDir(out_dir, lambda there: _refuse_other_content(there, force)) as staged, bar as shown:
        _write_all(layout, staged.build_dir, draw, num, num_threads() if workers is None else workers, shown)
        files.write_json(staged.build_dir / RECEIPT, receipt)
        staged.publish()
    return Original(out_dir, name, num, counts)


def _write_all(
    layout: Layout, dir: Path, draw: Callable[[int], _Picture], num: int, workers: int, shown: Progress | None
) -> None:
    """Write pictures in threads, and the lines that they add to files of all in order."""
    layout.start(dir)
    for texts in ahead(lambda index: layout.add(dir, draw(index)), range(num), workers=workers):
        for file, text in texts.items():
            with (dir / file).open("a", encoding="utf-8", newline="") as handle:
                handle.write(text)
        if shown is not None:
            shown.advance()


def _split_of(layout: Layout, num: int, val: float, test: float) -> list[str]:
    """Return the split of every scene; one that the layout has not goes to the one that ``prepare`` draws it from."""
    ids = [f"synth-{index:06d}" for index in range(num)]
    splits = assign_splits(ids, val, test)
    stand_in = {"val": "train", "test": "val"}
    return [split if split in layout.splits else stand_in.get(split, "") for split in map(splits.__getitem__, ids)]


def _receipt(dir: Path) -> Any:
    try:
        return parse_json((dir / RECEIPT).read_bytes())
    except (OSError, ValueError):
        return None


def _refuse_other_content(dir: Path, force: bool) -> None:
    """Raise unless the folder may be replaced: absent, empty, or with force one that was made here."""
    if not dir.exists():
        return
    if not dir.is_dir():
        raise DataError(f"`{dir}` is there and not a folder", "choose another place")
    receipt = _receipt(dir)
    ours = isinstance(receipt, dict) and receipt.get("made_by") == "seglab synth"
    if ours and not force:
        raise DataError(f"`{dir}` is there already, made otherwise", "choose another place, or replace it with --force")
    if not ours and any(dir.iterdir()):
        raise DataError(f"`{dir}` holds something else", "choose another place, or move that away")


def _made(dir: Path) -> Path:
    dir.mkdir(parents=True, exist_ok=True)
    return dir


_GARMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "top": ("shirt, blouse", "top, t-shirt, sweatshirt", "sweater", "cardigan", "jacket", "vest"),
    "trousers": ("pants", "shorts"),
    "skirt": ("skirt",),
    "dress": ("dress", "jumpsuit"),
    "coat": ("coat", "cape"),
    "shoe": ("shoe",),
    "hat": ("hat",),
    "glasses": ("glasses",),
}
"""What a covering may be called; all names of one are of one class by the documented rule."""

_ATTRIBUTES: Final = ("", "_2", "_24_88")


def _category(covering: str, variety: int) -> str | None:
    """Return a ``ClassId``: a category of the covering and perhaps attributes. None for no garment, and bare skin."""
    names = _GARMENTS.get(covering)
    if names is None:
        return None
    name = names[variety % len(names)]
    return f"{CATEGORIES.index(name)}{_ATTRIBUTES[variety % len(_ATTRIBUTES)] if garment_class(name) else ''}"


_CIHP_ANATOMY: Final = {
    "": "background", "hair": "hair", "hat": "hat", "neck": "torso_skin", "torso": "torso_skin",
    "upper_arm": "left_arm", "lower_arm": "left_arm", "upper_leg": "left_leg", "lower_leg": "left_leg",
}  # fmt: skip
"""Everything else is in the face."""

_CIHP_COVERING: Final = {
    "top": "upper_clothes", "trousers": "pants", "skirt": "skirt", "dress": "dress", "coat": "coat",
    "shoe": "left_shoe", "hat": "hat", "glasses": "sunglasses",
}  # fmt: skip


def _cihp_ids(scene: Scene) -> NDArray[np.uint8]:
    """Return the 20 ids of CIHP. The limbs in the picture's right half of a person are the person's left ones."""
    table = np.empty((len(ANATOMY), len(COVERING)), np.uint8)
    for part, anatomy in enumerate(ANATOMY):
        table[part] = cihp.NAMES.index(_CIHP_ANATOMY.get(anatomy, celebamask.TO_CIHP["nose"]))
    for number, covering in enumerate(COVERING):
        if covering in _CIHP_COVERING:
            table[:, number] = cihp.NAMES.index(_CIHP_COVERING[covering])
    ids = table[scene.anatomy, scene.covering]
    columns = np.arange(ids.shape[1])
    limbs = np.isin(ids, [cihp.NAMES.index(f"left_{limb}") for limb in ("arm", "leg", "shoe")])
    for person in range(1, scene.num_persons + 1):
        own = scene.persons == person
        middle = (own.sum(axis=0) * columns).sum() / max(1, own.sum())
        ids[limbs & own & (columns < middle)] += 1  # right-arm follows left_arm, and so on
    return ids
