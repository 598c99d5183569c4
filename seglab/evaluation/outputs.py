"""Evaluations as JSON and tables on disk."""

import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seglab.errors import DataError, UsageError
from seglab.evaluation.bootstrap import Interval
from seglab.evaluation.comparison import Against
from seglab.evaluation.metrics import metric_names, value
from seglab.evaluation.protocols import Protocol
from seglab.evaluation.record import to_record
from seglab.evaluation.result import Evaluation
from seglab.files import sweep, write_text
from seglab.notation import null_if_nan
from seglab.tables import TableWriter

__all__ = ["check_places", "metrics_csv", "to_json", "write_tables"]


def to_json(
    evaluation: Evaluation,
    intervals: Mapping[str, Interval | None],
    *,
    compared: Against | None = None,
    protocol: Protocol | None = None,
) -> dict[str, Any]:
    """Return all about an evaluation as plain JSON values; :func:`seglab.evaluation.record.read_record` reads it.

    Args:
        evaluation: The scores.
        intervals: 95 % intervals by metric name.
        compared: Differences to a baseline.
        protocol: Scores by another definition.
    """
    values = to_record(evaluation)
    values["intervals"] = {name: None if one is None else [one.low, one.high] for name, one in intervals.items()}
    values["baseline"] = None if compared is None else compared.to_dict()
    values["protocol"] = None
    if protocol is not None:
        scores = {name: null_if_nan(score) for name, score in protocol.scores.items()}
        values["protocol"] = {"name": protocol.name, "definition": protocol.definition, "scores": scores}
    return values


def metrics_csv(evaluation: Evaluation, intervals: Mapping[str, Interval | None]) -> str:
    """Return a table with a line a metric: name, value and 95 % interval; what is undefined is empty."""
    text = io.StringIO()
    writer = TableWriter(text)
    writer.writerow(["metric", "value", "low", "high"])
    scores = evaluation.scores
    for name in metric_names(evaluation.task, outlines=bool(scores.outlines), people=scores.people is not None):
        score, interval = value(scores, name), intervals.get(name)
        bounds = ("", "") if interval is None else (f"{interval.low:.6f}", f"{interval.high:.6f}")
        writer.writerow([name, "" if score is None else f"{score:.6f}", *bounds])
    return text.getvalue()


def check_places(out_dir: Path | None, files: Sequence[Path]) -> None:
    """Make sure, before hours of work, that there is a place for what will be written; nothing is made.

    Raises:
        DataError: If a file stands where a folder has to be, or the other way round, or nothing may be written.
        UsageError: If the folder is a prepared dataset, which is to hold nothing else.
    """
    if out_dir is not None and (out_dir / "dataset.json").is_file():
        raise UsageError(f"`{out_dir}` is a prepared dataset, not a place for results", "name another folder")
    for path in files:
        if path.is_dir():
            raise DataError(f"`{path}` is a folder", "name a file")
    for folder in [*(path.parent for path in files), *([] if out_dir is None else [out_dir])]:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if not there.is_dir():
            raise DataError(f"`{there}` is a file, not a folder", "name another place")
        if not os.access(there, os.W_OK | os.X_OK):
            raise DataError(f"cannot write into `{there}`", "check the permissions, or name another place")


def write_tables(
    out_dir: Path, evaluation: Evaluation, intervals: Mapping[str, Interval | None], values: Mapping[str, Any]
) -> None:
    """Write ``evaluation.json``, ``metrics.csv`` and ``per_image.csv`` into a folder, each in one step.

    Args:
        out_dir: The folder; made if it is not there.
        evaluation: The scores.
        intervals: 95 % intervals by metric name.
        values: What goes into the JSON.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    sweep(out_dir / name for name in ("metrics.csv", "per_image.csv", "evaluation.json"))
    write_text(out_dir / "metrics.csv", metrics_csv(evaluation, intervals))
    write_text(out_dir / "per_image.csv", evaluation.per_image_csv())
    write_text(out_dir / "evaluation.json", json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")
