"""Score masks that any tool has written: a folder of predictions against a folder or split of truths."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from seglab.device import num_threads
from seglab.errors import DataError
from seglab.evaluation.evaluate import check_same_labels, check_tells_people
from seglab.evaluation.result import Comparison, Evaluation, Tally, compare
from seglab.inference.sinks import LEGEND_NAME
from seglab.notation import parse_json
from seglab.pipeline import ahead
from seglab.shards import WHOLE, Shard
from seglab.tasks import IGNORE, Task

if TYPE_CHECKING:
    from seglab.data.manifest import Dataset
    from seglab.evaluation.people import ImagePeople

__all__ = ["evaluate_folders", "open_pairs"]

NUM_NAMED: Final = 20
"""Problems that are named one by one; of more, only the number is told."""

_LOSSY: Final = {".jpg", ".jpeg", ".jpe", ".jfif"}


def evaluate_folders(
    pred_dir: Path,
    truth: "Dataset | Path",
    task: Task,
    *,
    split: str = "test",
    allow_missing: bool = False,
    outlines: bool = False,
    instances: bool = False,
    shard: Shard = WHOLE,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Compare a folder of masks with the masks of the same names in another folder, or with a split of a dataset.

    Masks are palette or id pictures; 255 is ignored in the truth. For a task of two classes a prediction of 0 and 255
    is taken as well, as most tools write it. Predictions that no truth has are not looked at, but counted.

    Args:
        pred_dir: The predictions.
        truth: The truths: a folder, or a dataset of the same classes.
        task: What the ids mean.
        split: Which split, if the truth is a dataset.
        allow_missing: Score a missing prediction as all background instead of refusing.
        outlines: Look at outlines as well.
        instances: Look at how people are told apart as well, by ``NAME.instances.png`` and ``NAME.people.json`` beside
            the masks, in the images whose truth knows.
        shard: Which part of the truths; predictions that another part has are not counted as extra.
        workers: Decoding threads; as many as there are usable CPUs by default, 0 for none.
        progress: Called with 1 after each image.

    Raises:
        DataError: If a prediction is missing, a mask cannot be read, differs in size from its truth or holds an id
            outside the task: all are named at once. Also if a folder is empty, the dataset or the ``legend.json``
            beside masks has other classes, or ``instances`` is asked for and the truth does not tell people apart.
    """
    for folder in (pred_dir, truth):
        if isinstance(folder, Path):
            _refuse_other_legend(folder, task)
    people = _people_of(truth, split) if instances else {}
    everything = _masks_of(truth, split, task)
    truths = dict(shard.of(list(everything.items())))
    predictions = _masks_in(pred_dir)
    missing = tuple(name for name in truths if name not in predictions)
    pairs = [_Pair(name, path, predictions.get(name), people.get(name)) for name, path in truths.items()]
    problems = [] if allow_missing else [f"`{name}`: no prediction" for name in missing]
    wanted = [pair for pair in pairs if allow_missing or pair.prediction is not None]
    tally = Tally(task)
    outcomes = ahead(partial(_score, task, outlines), wanted, workers=num_threads() if workers is None else workers)
    for pair, outcome in zip(wanted, outcomes, strict=True):
        if isinstance(outcome, str):
            problems.append(f"`{pair.name}`: {outcome}")
        else:
            tally.add(pair.name, outcome)
        if progress is not None:
            progress(1)
    if problems:
        hint = "`--allow-missing` counts missing predictions as background" if missing and not allow_missing else ""
        raise DataError(f"{len(problems)} of {len(truths)} masks cannot be scored: {_listed(problems)}", hint)
    if isinstance(truth, Path):
        _refuse_mistaken_white(tally)
    num_extra = sum(name not in everything for name in predictions)
    return tally.finish(missing=missing, num_extra=num_extra, people=instances)


def open_pairs(
    pred_dir: Path, truth: "Dataset | Path", task: Task, split: str = "test"
) -> Callable[[str], tuple[NDArray[np.uint8], NDArray[np.uint8]] | None]:
    """Return what reads truth and prediction of a name as they are scored; None for a name without a truth.

    A prediction that is missing is all background. The arguments are those of :func:`evaluate_folders`.
    """
    truths, predictions = _masks_of(truth, split, task), _masks_in(pred_dir)

    def read(name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
        from seglab.data.images import read_labels

        if name not in truths:
            return None
        true = read_labels(truths[name])
        path = predictions.get(name)
        return true, np.zeros_like(true) if path is None else _white_as_one(read_labels(path), task)

    return read


def _refuse_other_legend(folder: Path, task: Task) -> None:
    """Refuse masks that predict wrote for other classes; a legend of another form says nothing."""
    path = folder / LEGEND_NAME
    try:
        legend = parse_json(path.read_bytes()) if path.is_file() else None
        names = tuple(entry["name"] for entry in legend["classes"]) if legend is not None else task.classes
        other = "" if legend is None else str(legend["task"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if names != task.classes:
        raise DataError(
            f"the masks in `{folder}` are of task `{other}`, not of `{task.name}`, as their {LEGEND_NAME} says",
            f"`--task {other}`",
        )


def _masks_of(truth: "Dataset | Path", split: str, task: Task) -> dict[str, Path]:
    if isinstance(truth, Path):
        return _masks_in(truth)
    check_same_labels("the task", task, truth)
    return {sample.id: truth.label_path(sample) for sample in truth.split(split)}


def _people_of(truth: "Dataset | Path", split: str) -> dict[str, Path]:
    if isinstance(truth, Path):
        raise DataError(f"`{truth}` does not tell people apart", "a prepared dataset (`--data`) can")
    check_tells_people(truth, split)
    paths = {sample.id: truth.people_path(sample) for sample in truth.split(split)}
    return {name: path for name, path in paths.items() if path is not None}


def _masks_in(folder: Path) -> dict[str, Path]:
    """Return the pictures in a folder and its subfolders by their path without suffix, sorted; hidden files are not.

    Where a name exists both as JPEG, which cannot hold class ids, and otherwise, the JPEG is not taken; nor are ids of
    people beside a mask.

    Raises:
        DataError: If there is no such folder, no picture in it, or two for one name.
    """
    from seglab.data.images import IMAGE_SUFFIXES
    from seglab.evaluation.telling import IDS_ENDING

    if not folder.is_dir():
        raise DataError(f"there is no folder `{folder}`")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.suffix.lower() in IMAGE_SUFFIXES and not hidden and path.is_file():
            found.setdefault(inside.with_suffix("").as_posix(), []).append(path)
    found = {name: paths for name, paths in found.items() if name.removesuffix(IDS_ENDING) not in found.keys() - {name}}
    if not found:
        raise DataError(f"there is no mask in `{folder}`", "masks are palette or id PNGs, named like their truths")
    lossless = {
        name: [path for path in paths if path.suffix.lower() not in _LOSSY] or paths for name, paths in found.items()
    }
    problems = [f"`{name}`: {len(paths)} files" for name, paths in lossless.items() if len(paths) > 1]
    if problems:
        raise DataError(f"`{folder}` holds more than one mask of a name: {_listed(problems)}", "keep one of each")
    return {name: paths[0] for name, paths in lossless.items()}


@dataclass(frozen=True)
class _Pair:
    name: str
    truth: Path
    prediction: Path | None
    people: Path | None
    """True ids of people, where they are known and looked at."""


def _score(task: Task, outlines: bool, pair: _Pair) -> Comparison | str:
    """Return what is counted, or what is wrong."""
    from seglab.data.images import read_labels

    what = "truth"
    try:
        truth = read_labels(pair.truth)
        what = "people"
        people = None if pair.people is None else read_labels(pair.people)
        what = "prediction"
        prediction = np.zeros_like(truth) if pair.prediction is None else read_labels(pair.prediction)
    except (DataError, OSError) as error:
        return f"{what}: {error}"
    prediction = _white_as_one(prediction, task)
    try:
        compared = compare(truth, prediction, task, outlines=outlines)
    except DataError as error:
        return error.message
    if people is None:
        return compared
    try:
        return replace(compared, people=_compare_people(truth, people, prediction, pair.prediction, task))
    except (DataError, OSError) as error:
        return f"instances: {error}"


def _compare_people(
    truth: NDArray[np.uint8],
    people: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    path: Path | None,
    task: Task,
) -> "ImagePeople":
    from seglab.evaluation.people import Found, compare_people
    from seglab.evaluation.telling import read_found

    found = Found(np.zeros(truth.shape, np.uint16), {}) if path is None else read_found(path, task)
    return compare_people(truth, people, prediction, found, task)


def _white_as_one(prediction: NDArray[np.uint8], task: Task) -> NDArray[np.uint8]:
    if task.num_classes > 2 or prediction.max(initial=0) < IGNORE:
        return prediction
    white = prediction == IGNORE
    return prediction if prediction[~white].any() else white.astype(np.uint8)


def _refuse_mistaken_white(tally: Tally) -> None:
    """Refuse truths of 0 and 255 for two classes: they would score nothing but the background."""
    if tally.task.num_classes == 2 and tally.num_ignored and not tally.matrix[1].any():
        raise DataError(
            f"no truth has a pixel of `{tally.task.classes[1]}` (id 1), but {tally.num_ignored} pixels are 255,"
            " which means ignore",
            "bring masks of 0 and 255 into the prepared layout with `seglab prepare`, then use `--data`",
        )


def _listed(problems: list[str]) -> str:
    more = len(problems) - NUM_NAMED
    return "; ".join(problems[:NUM_NAMED]) + (f"; and {more} more" if more > 0 else "")
