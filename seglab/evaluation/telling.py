"""The people that a prediction tells apart: those of a model, and those that ``seglab predict`` wrote."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seglab.data.geometry import Placement
from seglab.errors import DataError
from seglab.evaluation.parts import PERSON
from seglab.evaluation.people import Found
from seglab.inference.instances import Instances
from seglab.notation import parse_json
from seglab.tasks import Task

__all__ = ["IDS_ENDING", "found_by_model", "has_instances", "read_found"]

IDS_ENDING: Final = ".instances"
"""What ``seglab predict -f palette -f instances`` puts between name and suffix of the ids of people."""
_SCORES_ENDING: Final = ".people.json"

Uint8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]


def found_by_model(
    logits_KHW: Float32, edge_HW: Float32 | None, placement: Placement, labels: Uint8, task: Task
) -> Found:
    """Return the people that ``seglab predict`` writes for a photo.

    Args:
        logits_KHW: On the model's grid.
        edge_HW: Logits of outlines there; without them people are what hangs together.
        placement: Where the photo lies on the grid.
        labels: HW class ids at the photo's own size.
        task: What they mean.
    """
    from seglab.inference.instances import edge_probs, find_instances

    if edge_HW is None:
        return _found(_components(logits_KHW, placement, labels, task), task)
    instances = find_instances(logits_KHW, edge_HW, placement, labels, task)
    return _found(instances, task, edge_probs(edge_HW, placement))


def has_instances(folder: Path) -> bool:
    """Tell whether a folder of predictions tells people apart."""
    return next(folder.rglob(f"*{IDS_ENDING}.png"), None) is not None


def read_found(mask_path: Path, task: Task) -> Found:
    """Read the people beside a mask: ``NAME.instances.png``, and their scores in ``NAME.people.json``.

    Raises:
        DataError: If either is not there or damaged, or they contradict each other.
    """
    from seglab.data.images import read_ids16

    ids_path, scores_path = (mask_path.with_name(mask_path.stem + end) for end in (f"{IDS_ENDING}.png", _SCORES_ENDING))
    for path in (ids_path, scores_path):
        if not path.is_file():
            hint = "`seglab predict -f palette -f instances` writes both"
            raise DataError(f"there is no `{path.name}` beside it", hint)
    ids = read_ids16(ids_path)
    try:
        people = parse_json(scores_path.read_bytes())["people"]
        scores = _scores(people, task)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, OverflowError) as error:
        raise DataError(f"`{scores_path.name}` is damaged: {type(error).__name__} {str(error)[:100]}") from error
    told, there = {person for person, _ in scores}, set(np.unique(ids[ids > 0]).tolist())
    if there - told:
        raise DataError(f"`{scores_path.name}` does not know person `{min(there - told)}` of `{ids_path.name}`")
    return Found(ids, scores)


def _components(logits_KHW: Float32, placement: Placement, labels: Uint8, task: Task) -> Instances:
    from seglab.data.geometry import unfit_certainty
    from seglab.inference.components import find_components

    members = [task.index(name) for name in task.foreground]
    return find_components(labels, unfit_certainty(logits_KHW, placement), task, members)


def _found(instances: Instances, task: Task, edges: Float32 | None = None) -> Found:
    return Found(instances.ids, _scores([person.to_dict() for person in instances.people], task), edges)


def _scores(people: list[Mapping[str, Any]], task: Task) -> dict[tuple[int, int], float]:
    scores = {}
    for person in people:
        number = int(person["id"])
        scores[number, PERSON] = float(person["score"])
        for name, part in person["parts"].items():
            if name in task.classes[1:]:
                scores[number, task.index(name)] = float(part["score"])
    if not np.isfinite(list(scores.values())).all():
        raise ValueError("a score is not finite")
    return scores
