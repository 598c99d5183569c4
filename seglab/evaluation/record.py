"""An evaluation as a file: all that is needed to compare, merge and report it later, without the images.

The JSON is that of :meth:`seglab.evaluation.result.Evaluation.to_dict` and, beside it, the whole task
(``task_definition``) and under ``images`` the counts of every image in columns: ``id``, ``miou``, ``pixel_accuracy``,
and ``tp``, ``fp``, ``fn`` with a number a group, ``outlines`` where outlines were looked at, ``people``
where it was looked at how people are told apart (see :class:`seglab.evaluation.people.ImagePeople`; null for an image
whose truth does not know).

The number of the schema rises when a key changes its meaning or goes. Keys that are added, as ``people`` was, leave it:
a file without them is one in which nobody looked.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.errors import DataError
from seglab.evaluation.boundary import NUM_COUNTS
from seglab.evaluation.confusion import Matrix
from seglab.evaluation.metrics import SCHEMA, Counts, count, groups
from seglab.evaluation.people import ImagePeople
from seglab.evaluation.result import Evaluation, Failure, assemble
from seglab.notation import null_if_nan, parse_json, read_given
from seglab.tasks import Task

__all__ = ["from_record", "merge", "read_record", "read_run", "to_record"]

_MAX: Final = 2**53
"""Whole numbers up to here survive any JSON reader."""


def to_record(evaluation: Evaluation) -> dict[str, Any]:
    """Return plain JSON values; :func:`from_record` is the inverse."""
    scores = evaluation.images()
    columns: dict[str, Any] = {
        "id": list(evaluation.ids),
        "miou": [null_if_nan(score.miou) for score in scores],
        "pixel_accuracy": [null_if_nan(score.pixel_accuracy) for score in scores],
        **{field.name: getattr(evaluation.counts, field.name).tolist() for field in fields(Counts)},
    }
    if evaluation.outlines is not None:
        columns["outlines"] = evaluation.outlines.tolist()
    if evaluation.people is not None:
        columns["people"] = [None if image is None else image.to_dict() for image in evaluation.people]
    return {**evaluation.to_dict(), "task_definition": evaluation.task.to_dict(), "images": columns}


def read_record(path: Path) -> Evaluation:
    """Read what ``seglab evaluate --json`` or ``--out`` wrote.

    Raises:
        DataError: If it is no such file, damaged, or of a newer version.
    """
    return read_run(path)[0]


def read_run(path: Path) -> tuple[Evaluation, dict[str, Any]]:
    """Read an evaluation, and of what and how it was made: ``input``, ``options`` and ``shard``, None where untold.

    Raises:
        DataError: As :func:`read_record`.
    """
    try:
        values = parse_json(read_given(path))
    except OSError as error:
        raise DataError(f"cannot read `{path}`: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"`{path}` is no JSON: {str(error)[:100]}", _HINT) from error
    if not isinstance(values, dict) or "confusion" not in values or "images" not in values:
        raise DataError(f"`{path}` is not an evaluation of this version", _HINT)
    version = values.get("schema")
    if not isinstance(version, int) or version < 1:
        raise DataError(f"`{path}` is not an evaluation: its schema is `{version}`", _HINT)
    if version > SCHEMA:
        raise DataError(f"`{path}` is of version {version}, this seglab reads up to {SCHEMA}", "update seglab")
    try:
        return from_record(values), {name: values.get(name) for name in ("input", "options", "shard")}
    except DataError as error:
        raise DataError(f"`{path}` is damaged: {error.message}", _HINT) from error
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(f"`{path}` is damaged: {type(error).__name__} {str(error)[:100]}", _HINT) from error


_HINT: Final = "`seglab evaluate ... --json > FILE.json` writes one"


def merge(parts: Sequence[Evaluation]) -> Evaluation:
    """Put the parts of a set of images together, as if it had been evaluated at once.

    Raises:
        DataError: If the tasks differ, an image is in several parts, or outlines were looked at in some only.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.task != first.task:
            raise DataError(f"the parts are of different tasks: `{first.task.name}` and `{part.task.name}`")
    ids = [name for part in parts for name in (*part.ids, *(failure.id for failure in part.failures))]
    double = sorted(name for name, times in Counter(ids).items() if times > 1)
    if double:
        raise DataError(f"{len(double)} images are in several parts, `{double[0]}` among them", "merge each part once")
    several = [part.outlines for part in parts if part.outlines is not None]
    if several and any(part.outlines is None and part.ids for part in parts):
        raise DataError("only some of the parts looked at outlines", "evaluate all with `--boundary`, or none")
    looked = [part.people for part in parts if part.people is not None]
    if looked and any(part.people is None and part.ids for part in parts):
        raise DataError("only some of the parts looked at who is who", "evaluate all with `--instances`, or none")
    people = [image for images in looked for image in images]
    ids = [name for part in parts for name in part.ids]
    order = sorted(range(len(ids)), key=lambda row: ids[row])
    columns = [np.concatenate([getattr(part.counts, field.name) for part in parts])[order] for field in fields(Counts)]
    return assemble(
        first.task,
        np.sum([part.matrix for part in parts], axis=0),
        sum(part.scores.num_ignored for part in parts),
        [ids[row] for row in order],
        Counts(*columns),
        np.concatenate(several)[order] if several else None,
        failures=tuple(sorted((failure for part in parts for failure in part.failures), key=lambda one: one.id)),
        missing=tuple(sorted(name for part in parts for name in part.missing)),
        num_extra=max(part.num_extra for part in parts),
        people=tuple(people[row] for row in order) if looked else None,
    )


def from_record(values: Mapping[str, Any]) -> Evaluation:
    """Return the evaluation that :func:`to_record` made values of.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, AttributeError, DataError: If they are others.
    """
    task = Task.from_dict(values["task_definition"])
    columns, ids = values["images"], _ids(values["images"]["id"])
    shape = len(ids), len(groups(task))
    outlines = columns.get("outlines")
    matrix = _ints(values["confusion"], (task.num_classes, task.num_classes))
    counts = Counts(*(_ints(columns[field.name], shape) for field in fields(Counts)))
    _check_sums(matrix, counts, task)
    return assemble(
        task,
        matrix,
        int(_ints([values["num_ignored"]], (1,))[0]),
        ids,
        counts,
        None if outlines is None else _ints(outlines, (*shape, NUM_COUNTS)),
        failures=tuple(Failure(str(one["id"]), str(one["reason"])) for one in values["failures"]),
        missing=tuple(map(str, values["missing"])),
        num_extra=int(values["num_extra"]),
        people=None if columns.get("people") is None else _people(columns["people"], len(ids), task),
    )


def _ids(values: Any) -> list[str]:
    if not isinstance(values, list) or len(names := list(map(str, values))) > len(set(names)):
        raise ValueError("expected names of images, each once")
    return names


def _check_sums(matrix: Matrix, counts: Counts, task: Task) -> None:
    whole = count(matrix, task)
    for field in fields(Counts):
        if (getattr(counts, field.name).sum(0) != getattr(whole, field.name)).any():
            raise ValueError(f"`{field.name}` of the images does not add up to the confusion matrix")


def _people(values: Any, num_images: int, task: Task) -> tuple[ImagePeople | None, ...]:
    if len(values) != num_images:
        raise ValueError(f"expected people of {num_images} images")
    return tuple(None if one is None else ImagePeople.from_dict(one, task.num_classes) for one in values)


def _ints(values: Any, shape: tuple[int, ...]) -> NDArray[np.int64]:
    array = np.asarray(values) if len(values) else np.zeros(shape, np.int64)
    if array.shape != shape or array.dtype.kind not in "iu" or array.min(initial=0) < 0 or array.max(initial=0) > _MAX:
        raise ValueError(f"expected whole numbers of shape {shape}")
    return array.astype(np.int64)
