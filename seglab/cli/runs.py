"""What ``seglab train`` does with its options: from a request to a run, what it shows, and what it came to."""

import contextlib
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from seglab.cli.console import Progress, escape, note, print_json, progress
from seglab.config import TrainConfig
from seglab.errors import SeglabError, UsageError

if TYPE_CHECKING:
    from seglab.data.manifest import Dataset
    from seglab.tasks import Task
    from seglab.training.loop import RunResult
    from seglab.training.settings import RunSettings

__all__ = ["Display", "End", "Request", "run_training", "told_as_json"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks for; None where nothing is said."""

    run_dir: Path | None
    task: str | None
    data_dir: Path | None
    recipe: str | None
    settings: Sequence[str] = ()
    """Texts as NAME=VALUE."""
    flags: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the configuration by name, as they were written."""
    resume: bool = False
    time_limit_s: float | None = None
    graph: bool | None = None
    device: str | None = None
    accept_noncommercial: bool = False
    cache: str = "auto"
    logger: str | None = None
    sheet_path: Path | None = None
    """Draw what the network would be shown, instead of training."""


@dataclass
class End:
    """How a run ended, as far as it is known."""

    result: "RunResult | None" = None


def run_training(request: Request, end: End) -> "RunResult":
    """Do what a request asks for, and show it.

    Args:
        request: The request.
        end: Told what the run came to, if it ends by an error.
    """
    from seglab.data.manifest import open_dataset
    from seglab.device import choose_device
    from seglab.training.recipe import configure, default_recipe, load_recipe, parse_settings

    there = _settings_of(request)
    named = load_recipe(request.recipe) if request.recipe else None
    command = {**parse_settings(request.settings), **_read_flags(request.flags)}
    base = there.config if there else TrainConfig()
    config = configure(base, command, recipe=named)  # tells what is wrong before data and device are looked at
    data_dir, task = _place(request, there)
    dataset, device = open_dataset(data_dir), choose_device(request.device)
    if there is None and named is None:
        config = configure(base, command, recipe=load_recipe(default_recipe(task.name, device.kind)))
    if request.sheet_path is not None:
        _show_augment(dataset, config, request.sheet_path)
    default_name = f"{task.name}-{config.model}-{time.strftime('%Y%m%d-%H%M%S')}"
    from seglab.training.loop import train

    with contextlib.ExitStack() as stack:
        result = train(
            config, dataset, request.run_dir or Path("runs") / default_name, device, task=task,
            resume=request.resume, watcher=Display(stack),
            time_limit_s=request.time_limit_s or (there.time_limit_s if there else None),
            graph=request.graph if request.graph is not None else there.graph if there else True,
            accept_noncommercial=request.accept_noncommercial, cache=request.cache,
            logger=request.logger or (there.logger if there else "tensorboard"),
            on_end=lambda result: setattr(end, "result", result),
        )  # fmt: skip
    if not result.told_elsewhere:
        _summarise(result)
    return result


@contextlib.contextmanager
def told_as_json(wanted: bool) -> Iterator[End]:
    """Print how a run ended as JSON, if that is wanted: one that failed or was interrupted, too.

    Yields:
        Where to put what the run came to.
    """
    end = End()
    try:
        yield end
    except SeglabError as error:
        if wanted and not error.told_elsewhere:
            bare = {"exit": int(error.exit_code), "stopped": "error", "error": error.message, "hint": error.hint}
            print_json(end.result.to_dict() if end.result else bare)
        raise
    if wanted and end.result is not None and not end.result.told_elsewhere:
        print_json(end.result.to_dict())


def _settings_of(request: Request) -> "RunSettings | None":
    """Return what the run that is to be continued was started with, if there is one."""
    from seglab.training.settings import has_run, read_settings

    if not request.resume or request.run_dir is None or not has_run(request.run_dir):
        return None
    return read_settings(request.run_dir)


def _place(request: Request, there: "RunSettings | None") -> "tuple[Path, Task]":
    """Return where the data is, and the task."""
    from seglab.tasks import Task, load_task

    data_dir = request.data_dir or (there.data_dir if there else None)
    if data_dir is None or (request.task is None and there is None):
        raise UsageError(
            "name the task and the data", "`seglab train --task TASK --data DIR`; `seglab prepare` makes the data"
        )
    began_as = Task.from_dict(there.task) if there else None
    if began_as and request.task is None:
        return data_dir, began_as
    task = load_task(request.task or "")
    if began_as and not task.same_labels(began_as):  # before its metric is looked for in the other task
        run = shlex.quote(str(request.run_dir))
        raise UsageError(
            f"the run in `{request.run_dir}` was started otherwise: "
            f"the task was `{began_as.name}` and is now `{task.name}`",
            f"`seglab train --resume {run}` continues it as it was; `--out` names another folder",
        )
    return data_dir, task


def _show_augment(dataset: "Dataset", config: TrainConfig, path: Path) -> None:
    from seglab.data.augmented_sheet import draw_augmented
    from seglab.training.start import preprocess_of

    draw_augmented(dataset, config, preprocess_of(config), path)
    note(f"[bold]{escape(str(path))}[/bold] shows samples as the network would see them")
    raise typer.Exit


def _read_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return flags whose text stands for something else as what they stand for."""
    read = dict(flags)
    for name in {"augment", "class_weights"} & set(flags):
        read[name] = _numbers(flags[name])
    if isinstance(read.get("augment"), list):
        (read["augment"],) = read["augment"] if len(read["augment"]) == 1 else (flags["augment"],)
    if "batch_size" in read:
        text = read.pop("batch_size")
        read |= {"halve_batches": True} if text == "auto" else {"batch_size": _batch_size(text)}
    return read


def _batch_size(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"`--batch-size` is a whole number or `auto`, got `{text}`") from None


def _numbers(text: str) -> str | list[float]:
    """Return the numbers of a text with commas, or the text if it is none."""
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        return text


class Display:
    """Shows a run: notes as lines, steps as a bar."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._bar: Progress | None = None

    def note(self, text: str) -> None:
        """Write a line."""
        note(escape(text))

    def start(self, num_steps: int, done: int) -> None:
        """Show the bar."""
        self._bar = self._stack.enter_context(progress(num_steps, "train"))
        if done:
            self._bar.advance(done)

    def step(self, info: str) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.advance(1, info)


def _summarise(result: "RunResult") -> None:
    from seglab.training.notices import duration

    course, run = result.course, escape(shlex.quote(str(result.run_dir)))
    score = "" if course.best_score is None else f", {escape(result.config.metric)} {course.best_score:.4f}"
    if result.already_finished:
        note(f"the run is finished already ({course.stopped}): nothing to do")
    kept = f"epoch {course.best_epoch} is kept{score}"
    epochs = f"{course.epoch} epoch{'' if course.epoch == 1 else 's'}"
    note(f"[bold]{run}[/bold]: {epochs} in {duration(course.seconds)}; {kept}")
    if result.graph_difference is not None:
        note(f"model.onnx gives the same logits within {result.graph_difference:.1g}")
    note(f"next: seglab evaluate --model {run} --data DIR")
    note(f"      seglab predict --model {run} PHOTOS")
    note(f"      seglab cutout --model {run} PHOTOS")
