"""Promote: let a new model take the place of the one that is served, if it is better on the same data."""

import errno
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from seglab import files
from seglab.errors import DataError, UsageError, unknown
from seglab.evaluation.metrics import metric_names, value
from seglab.models.bundle import CONFIG_NAME, GRAPH_NAME, WEIGHTS_NAME, BundleConfig, find_model, read_config
from seglab.promote.swap import previous_path, replace_folder, staging_folder

if TYPE_CHECKING:
    from seglab.data.manifest import Dataset
    from seglab.device import Device

__all__ = ["Contest", "Promotion", "promote"]

FILES = frozenset({WEIGHTS_NAME, GRAPH_NAME, CONFIG_NAME})
"""What is promoted, and all that a served folder may hold."""
COPY_BYTES: Final = 1 << 20
WRITING: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""What only writing fails with."""


@dataclass(frozen=True)
class Contest:
    """What decides."""

    metric: str = "miou"
    min_gain: float = 0.0
    """The new model is better if its score is higher, and by at least this."""
    split: str | None = None
    """The split that is scored; None for ``test`` of a given dataset, and for the recorded ``val`` without one."""


@dataclass(frozen=True)
class Promotion:
    """What came of it."""

    run: str
    dest: str
    baseline: str | None
    """What the new model was compared with; None if nothing was served."""
    metric: str
    split: str
    score: float | None
    """None where it is undefined, or nobody had to measure it."""
    baseline_score: float | None
    gain: float | None
    min_gain: float
    measured: str
    """``recorded`` in both models when they were trained, ``now``, or ``not needed``."""
    better: bool
    promoted: bool
    """Whether the place was taken: not in a rehearsal."""
    previous: str | None = None
    """Where the model before is kept."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def promote(
    run: str,
    dest: Path,
    contest: Contest,
    *,
    baseline: Path | None = None,
    data: "Dataset | None" = None,
    device: "Device | None" = None,
    keep: bool = False,
    dry_run: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Promotion:
    """Replace the model in a folder by a run's best one, if that is better.

    Readers of the folder see the old model or the new one, whole, also when this is killed at any moment. Scores that
    the models carry are compared if both were measured on the same data and split; otherwise both are measured on
    ``data``. Where nothing is served yet, the new model is taken.

    Args:
        run: The new model: a run, or another bundle.
        dest: The served folder, or a link to it; or nothing.
        contest: What decides.
        baseline: What the new model has to beat; ``dest`` by default.
        data: A dataset to measure both on.
        device: Where to measure; needed with ``data``.
        keep: Keep the model before as ``DEST.previous``.
        dry_run: Tell only what would be done.
        progress: Called with 1 for every image that is measured.

    Raises:
        DataError: If a model is missing or damaged, the models or the data are of different classes, there is nothing
            to compare them by, ``dest`` holds other things than a model, or it cannot be replaced.
        UsageError: If the metric or split is unknown, or the run is in ``dest`` already.
        BusyError: If another process promotes to ``dest``.
    """
    source = find_model(run)
    if not source.is_dir():
        raise DataError(f"`{run}` is a file, not a bundle folder", "name the folder, or import it as one")
    if dest.exists() and source.resolve() == dest.resolve():
        raise UsageError(f"`{run}` is in `{dest}` already", "promote a run to another folder")
    _refuse_others(dest)
    if keep:
        _refuse_others(previous_path(dest))
    if baseline is not None and not baseline.exists() and baseline != dest:
        raise DataError(f"there is no baseline `{baseline}`", "leave `--baseline` out for what is served now")
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make `{dest.parent}`: {error.strerror}") from error
    with files.lock(dest.parent / f".{dest.name}.lock", f"`{dest}`"), staging_folder(dest) as folder:
        candidate = _copy(source, folder)  # what is measured is what will be served, whatever the run does meanwhile
        opponent = baseline if baseline not in (None, dest) else dest if _is_model(dest) else None
        found = _compare(candidate, folder, opponent, contest, data, device, progress)
        verdict = Promotion(run=run, dest=str(dest), min_gain=contest.min_gain, promoted=False, **found)
        if not verdict.better or dry_run:
            return verdict
        kept = keep and dest.exists()
        replace_folder(dest, folder, keep=kept)
    return replace(verdict, promoted=True, previous=str(previous_path(dest)) if kept else None)


def _refuse_others(path: Path) -> None:
    """Make sure that nothing but a model is replaced."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"`{path}` is a file", "name a folder")
    strangers = sorted(entry.name for entry in path.iterdir() if entry.name not in FILES) if path.is_dir() else []
    if strangers:
        raise DataError(
            f"`{path}` holds more than a model, `{strangers[0]}` for one, which would be lost", "name another folder"
        )


def _is_model(path: Path) -> bool:
    return any((path / name).is_file() for name in (WEIGHTS_NAME, GRAPH_NAME))


def _copy(source: Path, folder: Path) -> BundleConfig:
    """Copy a bundle: weights, the graph if it belongs to them, and the configuration that is in the weights."""
    for name in (WEIGHTS_NAME, GRAPH_NAME):
        if os.path.lexists(source / name):
            _copy_file(source / name, folder / name)
    weights, graph = folder / WEIGHTS_NAME, folder / GRAPH_NAME
    try:
        config = read_config(folder)
        if weights.is_file() and graph.is_file() and read_config(graph).save_id != config.save_id:
            graph.unlink()
    except DataError as error:  # of the copy, which nobody has heard of
        raise DataError(error.message.replace(f"`{folder}", f"`{source}"), error.hint) from error
    files.write_json(folder / CONFIG_NAME, config.to_dict())
    return config


def _copy_file(path: Path, target_path: Path) -> None:
    """Copy a file; an error says whether it could not be read, or the copy not written."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "not a regular file" if path.exists() else "a broken link"
        raise DataError(f"cannot read `{path}`: it is {what}", "put the model's own file in its place, or remove it")
    try:
        with path.open("rb") as source, target_path.open("xb") as target:
            shutil.copyfileobj(source, target, COPY_BYTES)
    except OSError as error:
        if error.errno in WRITING or error.filename == str(target_path):
            raise
        raise DataError(f"cannot read `{path}`: {error.strerror or error}", "check its permissions") from error


def _compare(
    candidate: BundleConfig,
    folder: Path,
    opponent: Path | None,
    contest: Contest,
    data: "Dataset | None",
    device: "Device | None",
    progress: Callable[[int], None] | None,
) -> dict[str, Any]:
    known = metric_names(candidate.task)
    if contest.metric not in known:
        raise unknown(f"metric of task `{candidate.task.name}`", contest.metric, known)
    split = contest.split or ("val" if data is None else "test")
    found = {"metric": contest.metric, "split": split, "baseline": None if opponent is None else str(opponent)}
    if opponent is None:
        nothing = dict.fromkeys(("score", "baseline_score", "gain"))
        return {**found, **nothing, "measured": "not needed", "better": True}
    served = read_config(opponent)
    if not candidate.task.same_labels(served.task):
        raise DataError(
            f"the new model and `{opponent}` differ in their classes: `{candidate.task.name}` "
            f"({', '.join(candidate.task.classes)}) and `{served.task.name}` ({', '.join(served.task.classes)})",
            "name another folder to promote it to",
        )
    recorded = _recorded(candidate, served, contest.metric, split, data)
    if recorded is not None:
        measured, (score, base) = "recorded", recorded
    elif data is not None and device is not None:
        measured = "now"
        score, base = (_measure(path, data, split, contest.metric, device, progress) for path in (folder, opponent))
    else:
        raise _incomparable(candidate, served, opponent, split)
    gain = None if score is None or base is None else score - base
    better = score is not None and (gain is None or (gain > 0 and gain >= contest.min_gain - 1e-12))
    return {**found, "score": score, "baseline_score": base, "gain": gain, "measured": measured, "better": better}


def _recorded(
    candidate: BundleConfig, served: BundleConfig, metric: str, split: str, data: "Dataset | None"
) -> tuple[float | None, float | None] | None:
    """Return both scores if both models carry them, measured on the same data; None if not."""
    digests = {candidate.data.get("digest"), served.data.get("digest"), *([data.digest] if data else [])}
    tables = [config.metrics.get(split) for config in (candidate, served)]
    if len(digests) > 1 or None in digests or not all(isinstance(table, Mapping) for table in tables):
        return None
    scores = [_look_up(table, metric) for table in tables if table is not None]
    return (scores[0], scores[1]) if math.nan not in scores else None


def _look_up(table: Mapping[str, Any], metric: str) -> float | None:
    """Return a metric of recorded scores; None if it was undefined, :data:`math.nan` if it is not there."""
    kind, _, rest = metric.partition(".")
    found: Any = table
    if not rest:
        path = [kind]
    elif kind == "level":
        path = ["levels", rest.removesuffix(".iou"), "iou"]
    else:
        path = ["regions" if rest in table.get("regions", {}) else "classes", rest, kind]
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return math.nan
        found = found[name]
    return None if found is None else float(found)


def _measure(
    path: Path, data: "Dataset", split: str, metric: str, device: "Device", progress: Callable[[int], None] | None
) -> float | None:
    from seglab.evaluation.evaluate import evaluate
    from seglab.inference.model import choose_model

    predictor = choose_model(None, str(path)).open(device)
    evaluation = evaluate(predictor, data, split, task=predictor.task, progress=progress)
    if evaluation.failures:
        first = evaluation.failures[0]
        raise DataError(
            f"{len(evaluation.failures)} images of split `{split}` could not be scored, `{first.id}`: {first.reason}",
            "mend the data: the models must be compared on all of it",
        )
    return value(evaluation.scores, metric)


def _incomparable(candidate: BundleConfig, served: BundleConfig, opponent: Path, split: str) -> DataError:
    lacking = [
        name
        for name, config in (("the new model", candidate), (f"`{opponent}`", served))
        if split not in config.metrics
    ]
    why = (
        f"{' and '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no recorded scores of split `{split}`"
        if lacking
        else f"the scores of the new model and of `{opponent}` were measured on different data"
    )
    return DataError(f"there is nothing to compare by: {why}", "`--data DIR` measures both on the same photos")
