"""What ``evaluate`` can score: a model, masks, or parts that were scored before."""

import shlex
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from seglab.cli.console import escape, note, progress
from seglab.errors import UsageError
from seglab.shards import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from seglab.data.manifest import Dataset
    from seglab.engines import EngineChoice
    from seglab.evaluation.report import Pictures
    from seglab.evaluation.result import Evaluation
    from seglab.inference.manner import Manner
    from seglab.inference.predictor import Predictor
    from seglab.shards import Shard
    from seglab.tasks import Task

__all__ = ["Counting", "Source", "choose_source"]

Way: TypeAlias = "tuple[str | None, EngineChoice, Manner]"
"""Device, engine and manner of a model."""


@dataclass(frozen=True)
class Counting:
    """What is counted, and of what."""

    split: str
    outlines: bool = False
    at_model: bool = False
    shard: "Shard" = WHOLE
    allow_missing: bool = False
    batch_size: int = 1
    instances: bool | None = None
    """Whether people are told apart; None: where data and prediction do."""


class Source(ABC):
    """Something that can be scored."""

    def __init__(self, task: "Task", outlines: bool, people: bool) -> None:
        self.task = task
        self.outlines = outlines
        self.people = people
        """Whether a bar may be set on how people are told apart."""
        self.predictor: Predictor | None = None
        """The model, once it has been scored."""
        self.made_with: dict[str, Any] = {}
        """Input and options, where they are not those of the command line."""

    @abstractmethod
    def score(self) -> "Evaluation":
        """Score it, showing progress."""

    def ids(self) -> "list[str] | None":
        """Return the ids of all images that might be scored; None if only scoring tells."""
        return None

    def pictures(self) -> "Callable[[str], Pictures | None] | None":
        """Return what shows an image that was scored by its id; None if there is nothing to show."""
        return None


class _Model(Source):
    """A model on a split of a dataset."""

    def __init__(self, model: str, dataset: "Dataset", task: "Task", counting: Counting, way: Way) -> None:
        super().__init__(task, counting.outlines, counting.instances is True)
        self._model, self._dataset, self._counting = model, dataset, counting
        self._device, self._engine, self._manner = way

    def score(self) -> "Evaluation":
        from seglab.device import choose_device
        from seglab.evaluation.evaluate import evaluate, tells_people
        from seglab.inference.model import choose_model

        counting = self._counting
        num = len(counting.shard.of(self._dataset.split(counting.split)))
        chosen = choose_device(self._device, with_torch=self._engine.may_use_torch)
        predictor = choose_model(None, self._model, self._manner).open(
            chosen, engine=self._engine, batch_size=counting.batch_size
        )
        self.predictor = predictor
        opened, config = predictor.engine, predictor.config
        where = f"{opened.device.name} ({opened.device.reason}) · {opened.name} ({opened.reason})"
        note(escape(f"evaluate {config.task.name} · {config.model} · {where} · {num} images"))
        if predictor.about:
            note(escape(predictor.about))
        instances = counting.instances
        if instances is None:
            instances = "edge" in predictor.extras and tells_people(self._dataset, counting.split)
        with progress(num, "evaluate") as bar:
            return evaluate(
                predictor,
                self._dataset,
                counting.split,
                task=self.task,
                outlines=counting.outlines,
                at_model=counting.at_model,
                instances=instances,
                shard=counting.shard,
                progress=bar.advance,
            )

    def ids(self) -> "list[str] | None":
        return [sample.id for sample in self._dataset.split(self._counting.split)]

    def pictures(self) -> "Callable[[str], Pictures | None] | None":
        from seglab.evaluation.report import pictures_of_model

        assert self.predictor is not None
        return pictures_of_model(self.predictor, self._dataset, self._counting.split, at_model=self._counting.at_model)


class _Masks(Source):
    """A folder of masks, against another or against a split."""

    def __init__(self, pred: Path, truth: "Dataset | Path", task: "Task", counting: Counting) -> None:
        super().__init__(task, counting.outlines, counting.instances is True)
        self._pred, self._truth, self._counting = pred, truth, counting

    def score(self) -> "Evaluation":
        from seglab.evaluation.evaluate import tells_people
        from seglab.evaluation.folders import evaluate_folders
        from seglab.evaluation.telling import has_instances

        counting, instances = self._counting, self._counting.instances
        if instances is None:
            known = not isinstance(self._truth, Path) and tells_people(self._truth, counting.split)
            instances = known and has_instances(self._pred)
        with progress(None, "evaluate") as bar:
            return evaluate_folders(
                self._pred,
                self._truth,
                self.task,
                split=counting.split,
                allow_missing=counting.allow_missing,
                outlines=counting.outlines,
                instances=instances,
                shard=counting.shard,
                progress=bar.advance,
            )

    def pictures(self) -> "Callable[[str], Pictures | None] | None":
        from seglab.evaluation.report import pictures_of_masks

        return pictures_of_masks(self._pred, self._truth, self.task, split=self._counting.split)


class _Parts(Source):
    """Evaluations of parts, put together."""

    def __init__(self, paths: list[Path]) -> None:
        from seglab.evaluation.merging import merge_files

        merged = merge_files(paths)
        self._merged = merged.evaluation
        scores = self._merged.scores
        super().__init__(self._merged.task, bool(scores.outlines), scores.people is not None)
        self.made_with = {"input": merged.input, "options": merged.options}

    def score(self) -> "Evaluation":
        return self._merged


def choose_source(
    model: str | None,
    data: Path | None,
    pred: Path | None,
    gt: Path | None,
    task: str | None,
    parts: list[Path],
    counting: Counting,
    way: Way,
) -> Source:
    """Return what is to be scored.

    Args:
        model: A model, scored on ``data``.
        data: A prepared dataset.
        pred: Masks, scored against ``data`` or ``gt``.
        gt: True masks of ``task``.
        task: Regions and levels to score.
        parts: Evaluations of parts, to be put together.
        counting: What is counted.
        way: Device, engine and manner of a model.

    Raises:
        UsageError: If that does not make one thing to score.
        DataError: If a dataset or a part cannot be read.
    """
    from seglab.data.manifest import open_dataset
    from seglab.tasks import load_task

    if sum((model is not None, pred is not None, bool(parts))) != 1:
        raise UsageError("give either --model or --pred, or --merge", "seglab evaluate --model RUN --data DIR")
    if parts:
        _check_parts(data or gt or task, counting, way[2])
        return _Parts(parts)
    if model is not None:
        _check_model(model, data, gt, counting)
    if pred is not None:
        _check_masks(pred, data, gt, counting, way[2])
    if data is None:
        if task is None:
            raise UsageError("--gt needs --task: a folder of masks does not say what its ids mean", "add --task TASK")
        assert pred is not None
        assert gt is not None
        return _Masks(pred, gt, load_task(task), counting)
    dataset = open_dataset(data)
    label_task = dataset.task if task is None else load_task(task)
    if model is not None:
        return _Model(model, dataset, label_task, counting, way)
    assert pred is not None
    return _Masks(pred, dataset, label_task, counting)


def _check_parts(source: Path | str | None, counting: Counting, manner: "Manner") -> None:
    # A bar on how people are told apart asks for `instances`, and parts may be held against it.
    asked = counting != Counting(counting.split, batch_size=counting.batch_size, instances=counting.instances)
    if source is not None or asked or manner.settings:
        raise UsageError(
            "--merge takes nothing but the JSON of all parts", "what to score, and how, is said where parts are made"
        )


def _check_model(model: str, data: Path | None, gt: Path | None, counting: Counting) -> None:
    if data is None or gt is not None:
        hint = f"seglab evaluate --model {model} --data DIR"
        raise UsageError("--model is scored on --data, a prepared dataset", hint)
    if counting.allow_missing:
        raise UsageError("--allow-missing is about --pred: a model leaves no mask out", "leave it out")


def _check_masks(pred: Path, data: Path | None, gt: Path | None, counting: Counting, manner: "Manner") -> None:
    if (data is None) == (gt is None):
        raise UsageError("--pred needs the truth: either --data or --gt", f"seglab evaluate --pred {pred} --data DIR")
    if counting.at_model:
        raise UsageError("--at model needs a model: masks have no grid", "leave --at out")
    if manner.settings:
        name = next(iter(manner.settings))
        raise UsageError(f"--{name} needs a model: masks are scored as they are", "leave it out")
    if gt is not None and (gt / "dataset.json").is_file():
        message = f"--gt `{gt}` is a prepared dataset, not a folder of masks"
        raise UsageError(message, f"`--data {shlex.quote(str(gt))}` scores against the labels of its split")
