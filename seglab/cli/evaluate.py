"""``seglab evaluate``: score a model, or the masks of any tool."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seglab.cli.console import escape, note, print_json, print_table, progress
from seglab.cli.options import (
    BnOption,
    CompileOption,
    DeviceOption,
    EngineOption,
    FidelityOption,
    JsonOption,
    ModelOption,
    OptionalTaskOption,
    PrecisionOption,
)
from seglab.cli.photos import engine_dict
from seglab.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from seglab.data.manifest import Dataset
    from seglab.engines import Engine, EngineChoice
    from seglab.evaluation.gates import Gate
    from seglab.evaluation.metrics import GroupScore
    from seglab.evaluation.result import Evaluation
    from seglab.inference.manner import Manner
    from seglab.tasks import Task

__all__ = ["evaluate"]

NUM_WORST = 3
"""How many of the worst images are named."""


def evaluate(
    model: ModelOption = None,
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="A prepared dataset: photos and truth.", metavar="DIR")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="train, val or test.", metavar="SPLIT")] = "test",
    pred: Annotated[
        Path | None, typer.Option("--pred", help="Score these masks instead of a model.", metavar="DIR")
    ] = None,
    gt: Annotated[Path | None, typer.Option("--gt", help="Truth of --pred, if not --data.", metavar="DIR")] = None,
    task: OptionalTaskOption = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Count masks missing from --pred as background.")
    ] = False,
    fail_under: Annotated[
        list[str] | None,
        typer.Option("--fail-under", help="Exit 1 if a metric is lower; repeatable.", metavar="NAME=VALUE"),
    ] = None,
    per_image: Annotated[
        Path | None, typer.Option("--per-image", help="Write the scores of every image.", metavar="FILE.csv")
    ] = None,
    json: JsonOption = False,
    device: DeviceOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    compile: CompileOption = False,
    fidelity: FidelityOption = "seglab",
    bn: BnOption = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Photos through the network at once.")] = 1,
) -> int:
    """Score a model on a prepared dataset, or masks of any tool against the truth.

    [bold]seglab evaluate --model runs/a --data prepared/person[/bold]

    [bold]seglab evaluate --pred masks --gt truth --task face --json > scores.json[/bold]

    [bold]seglab evaluate --model runs/a --data prepared/face --fail-under f1.eyes=0.7[/bold]

    Pixels are counted over the whole split, at the photos' own size.
    What is in neither truth nor prediction has no score and is in no mean.

    Metrics: miou (background included), miou_foreground, mean_f1,
    pixel_accuracy, mean_accuracy, fwiou; iou.X, f1.X, precision.X,
    recall.X of a class or region X; level.L.iou of a hierarchy level L.
    """
    from seglab.engines import EngineChoice
    from seglab.evaluation.gates import check_gates, parse_gates
    from seglab.inference.manner import Manner

    score: Callable[[], tuple[Evaluation, Engine | None]]
    if model is not None and pred is None:
        choice, manner = EngineChoice(engine, precision, compile), Manner(fidelity, bn)
        score, label_task = _model_road(model, data, gt, task, split, device, choice, manner, batch_size)
    elif pred is not None and model is None:
        score, label_task = _masks_road(pred, data, gt, task, split, allow_missing)
    else:
        raise UsageError("give either --model or --pred", "seglab evaluate --model RUN --data DIR")
    bars = parse_gates(fail_under or [], label_task)
    evaluation, opened = score()
    gates = check_gates(evaluation.scores, bars)
    _show(evaluation)
    if per_image is not None:
        _write(per_image, evaluation)
    if json:
        asked = {"model": model, "data": data, "split": split if data else None, "pred": pred, "gt": gt}
        given = {name: None if value is None else str(value) for name, value in asked.items()}
        used = None if opened is None else engine_dict(opened)
        gates_said = [_gate_dict(gate) for gate in gates]
        print_json({**evaluation.to_dict(), "input": given, "engine": used, "gates": gates_said})
    return _verdict(evaluation, gates)


def _model_road(
    model: str,
    data: Path | None,
    gt: Path | None,
    task: str | None,
    split: str,
    device: str | None,
    engine: "EngineChoice",
    manner: "Manner",
    batch_size: int,
) -> "tuple[Callable[[], tuple[Evaluation, Engine]], Task]":
    from seglab.data.manifest import open_dataset
    from seglab.tasks import load_task

    if data is None or gt is not None:
        raise UsageError(
            "--model is scored on --data, a prepared dataset", f"seglab evaluate --model {model} --data DIR"
        )
    dataset = open_dataset(data)
    label_task = dataset.task if task is None else load_task(task)
    return partial(_of_model, model, dataset, label_task, split, device, engine, manner, batch_size), label_task


def _masks_road(
    pred: Path, data: Path | None, gt: Path | None, task: str | None, split: str, allow_missing: bool
) -> "tuple[Callable[[], tuple[Evaluation, None]], Task]":
    from seglab.data.manifest import open_dataset
    from seglab.tasks import load_task

    if gt is not None and data is None:
        if task is None:
            raise UsageError("--gt needs --task: a folder of masks does not say what its ids mean", "add --task TASK")
        label_task = load_task(task)
        return partial(_of_masks, pred, gt, label_task, split, allow_missing), label_task
    if data is not None and gt is None:
        dataset = open_dataset(data)
        label_task = dataset.task if task is None else load_task(task)
        return partial(_of_masks, pred, dataset, label_task, split, allow_missing), label_task
    raise UsageError("--pred needs the truth: either --data or --gt", f"seglab evaluate --pred {pred} --data DIR")


def _of_model(
    model: str,
    dataset: "Dataset",
    task: "Task",
    split: str,
    device: str | None,
    engine: "EngineChoice",
    manner: "Manner",
    batch_size: int,
) -> "tuple[Evaluation, Engine]":
    from seglab.device import choose_device
    from seglab.evaluation.evaluate import evaluate
    from seglab.inference.model import choose_model

    samples, chosen = dataset.split(split), choose_device(device, with_torch=engine.may_use_torch)
    predictor = choose_model(None, model, manner).open(chosen, engine=engine, batch_size=batch_size)
    opened, config = predictor.engine, predictor.config
    where = f"{opened.device.name} ({opened.device.reason}) · {opened.name} ({opened.reason})"
    note(escape(f"evaluate {config.task.name} · {config.model} · {where} · {len(samples)} images"))
    if predictor.about:
        note(escape(predictor.about))
    with progress(len(samples), "evaluate") as bar:
        return evaluate(predictor, dataset, split, task=task, progress=bar.advance), opened


def _of_masks(
    pred: Path, truth: "Dataset | Path", task: "Task", split: str, allow_missing: bool
) -> "tuple[Evaluation, None]":
    from seglab.evaluation.folders import evaluate_folders

    with progress(None, "evaluate") as bar:
        scores = evaluate_folders(pred, truth, task, split=split, allow_missing=allow_missing, progress=bar.advance)
    return scores, None


def _show(evaluation: "Evaluation") -> None:
    scores, task = evaluation.scores, evaluation.task
    columns = ("IoU", "F1", "precision", "recall", "pixels")
    num_pixels = max(scores.num_pixels, 1)
    title = f"{task.name} · {evaluation.num_images} images"
    print_table(title, ("class", *columns), [_row(score, num_pixels) for score in scores.classes])
    if scores.regions:
        print_table("", ("region", *columns), [_row(score, num_pixels) for score in scores.regions])
    if scores.levels:
        levels = [(level.name, _number(level.iou), ", ".join(level.mean_of)) for level in scores.levels]
        print_table("", ("level", "IoU", "mean of"), levels)
    headline = {
        "miou": scores.miou, "miou_foreground": scores.miou_foreground, "mean_f1": scores.mean_f1,
        "pixel_accuracy": scores.pixel_accuracy, "mean_accuracy": scores.mean_accuracy, "fwiou": scores.fwiou,
    }  # fmt: skip
    note(" · ".join(f"{name} [bold]{_number(score)}[/bold]" for name, score in headline.items()))
    for line in _remarks(evaluation):
        note(escape(line))


def _row(score: "GroupScore", num_pixels: int) -> tuple[str, ...]:
    numbers = (score.iou, score.f1, score.precision, score.recall)
    return (score.name, *map(_number, numbers), f"{100 * score.num_pixels / num_pixels:.2f} %")


def _number(score: float) -> str:
    return "-" if math.isnan(score) else f"{score:.4f}"


def _remarks(evaluation: "Evaluation") -> list[str]:
    scores, remarks = evaluation.scores, []
    if scores.absent:
        remarks.append(f"in neither truth nor prediction, so in no mean: {', '.join(scores.absent)}")
    if scores.false_alarms:
        remarks.append(f"predicted but in no truth, so counted as 0: {', '.join(scores.false_alarms)}")
    if scores.num_ignored:
        remarks.append(f"ignored by the truth: {100 * scores.ignored_share:.2f} % of the pixels")
    if evaluation.missing:
        remarks.append(f"missing, counted as background: {_some(list(evaluation.missing))}")
    if evaluation.num_extra:
        remarks.append(f"predictions without a truth, not looked at: {evaluation.num_extra}")
    if evaluation.num_images > 1:
        worst = [f"{image.id} ({image.miou:.4f})" for image in evaluation.worst(NUM_WORST)]
        remarks.append(f"lowest miou: {', '.join(worst)}")
    if evaluation.failures:
        remarks.append(f"not scored: {len(evaluation.failures)} images")
        remarks += [f"  {failure.id}  {failure.reason}" for failure in evaluation.failures]
    return remarks


def _some(names: list[str], limit: int = 10) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _write(path: Path, evaluation: "Evaluation") -> None:
    from seglab.files import write_text

    write_text(path, evaluation.per_image_csv())
    note(f"scores of each image: {escape(path)}")


def _gate_dict(gate: "Gate") -> dict[str, object]:
    return {"metric": gate.metric, "at_least": gate.at_least, "value": gate.value, "passed": gate.passed}


def _verdict(evaluation: "Evaluation", gates: "list[Gate]") -> int:
    missed = [gate for gate in gates if not gate.passed]
    for gate in missed:
        score = "undefined, as it is in neither truth nor prediction" if gate.value is None else f"{gate.value:.6g}"
        note(f"[bold red]missed:[/bold red] {escape(gate.metric)} is {score}, --fail-under asks for {gate.at_least:g}")
    return int(ExitCode.PARTIAL if missed or evaluation.failures else ExitCode.DONE)
