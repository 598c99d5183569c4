"""``seglab train``: from a prepared dataset to a model."""

import re
import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seglab.cli.console import Progress, escape, note, print_json, progress
from seglab.cli.options import DeviceOption, JsonOption, OptionalTaskOption
from seglab.config import TrainConfig
from seglab.errors import UsageError

if TYPE_CHECKING:
    from contextlib import ExitStack

    from seglab.data.manifest import Dataset
    from seglab.training.loop import RunResult
    from seglab.training.settings import RunSettings

__all__ = ["Display", "train"]

FIELDS = frozenset(field.name for field in fields(TrainConfig))


def _option(name: str, help: str, metavar: str) -> Any:
    """Return the option of a field; None is passed by default, so that a recipe can set it."""
    return typer.Option(f"--{name.replace('_', '-')}", help=help, metavar=metavar, show_default="the recipe's")


def _list_recipes(wanted: bool) -> None:
    if not wanted:
        return
    from seglab.training.recipe import describe_recipe, recipe_names

    names = recipe_names()
    width = max(map(len, names))
    for name in names:
        typer.echo(f"{name:{width}}  {describe_recipe(name)}")
    raise typer.Exit


def train(
    run: Annotated[str | None, typer.Argument(help="With --resume: the run to continue.", metavar="RUN")] = None,
    task: OptionalTaskOption = None,
    data: Annotated[Path | None, typer.Option("--data", "-d", help="A prepared dataset.", metavar="DIR")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The run directory.", metavar="RUN", show_default="runs/TASK-MODEL-DATE-TIME"),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="A shipped recipe, or a TOML file of settings.",
            metavar="NAME|FILE",
            show_default="the task's best for the device",
        ),
    ] = None,
    recipes: Annotated[
        bool,
        typer.Option("--recipes", help="List the shipped recipes and exit.", callback=_list_recipes, is_eager=True),
    ] = False,
    model: Annotated[str | None, _option("model", "A model of the zoo.", "NAME")] = None,
    init: Annotated[
        str | None, _option("init", "Start with the tensors of a model that fit; of a checkpoint, too.", "MODEL|FILE")
    ] = None,
    encoder_weights: Annotated[
        str | None, _option("encoder_weights", "Start the encoder with published weights.", "auto|none|NAME|FILE")
    ] = None,
    accept_noncommercial: Annotated[
        bool, typer.Option("--accept-noncommercial", help="Start with weights that forbid commercial use, too.")
    ] = False,
    size: Annotated[int | None, _option("size", "Side of the model's grid in pixels.", "N")] = None,
    epochs: Annotated[int | None, _option("epochs", "Passes over the training split.", "N")] = None,
    batch_size: Annotated[int | None, _option("batch_size", "Samples a step.", "N")] = None,
    lr: Annotated[float | None, _option("lr", "Peak learning rate.", "X")] = None,
    steps: Annotated[int | None, _option("steps", "Steps in all, instead of epochs.", "N")] = None,
    optimizer: Annotated[str | None, _option("optimizer", "adamw, adam or sgd.", "NAME")] = None,
    schedule: Annotated[
        str | None, _option("schedule", "cosine, onecycle, poly, exponential or constant.", "NAME")
    ] = None,
    class_weights: Annotated[
        str | None, _option("class_weights", "auto, none, or numbers: 1,1.5,1.5,1.5.", "WEIGHTS")
    ] = None,
    patience: Annotated[
        int | None, _option("patience", "End after so many validations without a better score; 0 never.", "N")
    ] = None,
    freeze_encoder: Annotated[
        bool | None,
        typer.Option(
            "--freeze-encoder/--train-encoder", help="Leave the encoder as it is.", show_default="the recipe's"
        ),
    ] = None,
    augment: Annotated[
        str | None, _option("augment", "none, light, standard, strong, or a number: 1 is standard.", "X")
    ] = None,
    metric: Annotated[str | None, _option("metric", "The best weights by this metric are kept.", "NAME")] = None,
    seed: Annotated[int | None, _option("seed", "Seed of everything drawn at random.", "N")] = None,
    set: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting of a recipe, e.g. ema=0.99; repeatable.", metavar="NAME=VALUE"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run; start it if there is none yet.")] = False,
    time_limit: Annotated[
        str | None, typer.Option("--time-limit", help="End in good order after so long: 900, 15m, 1h30m.", metavar="T")
    ] = None,
    graph: Annotated[
        bool | None, typer.Option("--graph/--no-graph", help="Export model.onnx at the end.", show_default="graph")
    ] = None,
    cache: Annotated[
        str, typer.Option("--cache", help="Where decoded samples are kept: auto, ram, disk or none.", metavar="WHERE")
    ] = "auto",
    show_augment: Annotated[
        Path | None,
        typer.Option("--show-augment", help="Draw what the network would be shown, and exit.", metavar="FILE.jpg"),
    ] = None,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Train a model on a prepared dataset; the run directory is the model.

    [bold]seglab train --task person --data prepared/person --out runs/a[/bold]

    [bold]seglab train --task face --data prepared/face --model unet-resnet18 --size 256 --epochs 60[/bold]

    [bold]seglab train --resume runs/a[/bold]

    [bold]seglab train --task person --data prepared/person --out runs/a --resume --time-limit 15m[/bold]

    Flags override the recipe. Without --recipe it is the task's best for the device; --recipes lists them. Ctrl-C
    saves and says how to go on. With --resume and --out, a run that is there is continued, and one that is finished is
    left alone.

    Decoded samples are kept in memory or, if there are too many, in SEGLAB_CACHE on the disk, for the next epochs and
    runs; that changes nothing but the time. --show-augment draws samples as the augmentation shows them.

    The learning rate falls over the epochs; with --time-limit over the time, if that is over sooner. The last
    validation and the graph come on top of the time.
    """
    flags = {name: value for name, value in locals().items() if name in FIELDS and value is not None}
    limit_s = None if time_limit is None else _seconds(time_limit)
    result = _run(
        _run_dir(run, out, resume), task, data, recipe, [*(set or [])], flags, resume, limit_s, graph, device,
        accept_noncommercial, cache, show_augment,
    )  # fmt: skip
    if not result.told_elsewhere:
        _summarise(result)
        if json:
            print_json(result.to_dict())


def _run(
    run_dir: Path | None,
    task_name: str | None,
    data: Path | None,
    recipe: str | None,
    settings: list[str],
    flags: dict[str, Any],
    resume: bool,
    time_limit_s: float | None,
    graph: bool | None,
    device: str | None,
    accept_noncommercial: bool,
    cache: str,
    sheet_path: Path | None,
) -> "RunResult":
    from contextlib import ExitStack

    from seglab.data.manifest import open_dataset
    from seglab.device import choose_device
    from seglab.tasks import Task, load_task
    from seglab.training.recipe import configure, default_recipe, load_recipe, parse_settings

    there = _settings_of(run_dir) if resume and run_dir is not None else None
    named = load_recipe(recipe) if recipe else None
    command = {**parse_settings(settings), **_read_flags(flags)}
    base = there.config if there else TrainConfig()
    config = configure(base, command, recipe=named)  # tells what is wrong before data and device are looked at
    data_dir = data or (there.data_dir if there else None)
    if data_dir is None or (task_name is None and there is None):
        raise UsageError(
            "name the task and the data", "`seglab train --task TASK --data DIR`; `seglab prepare` makes the data"
        )
    task = Task.from_dict(there.task) if there and task_name is None else load_task(task_name or "")
    dataset, chosen = open_dataset(data_dir), choose_device(device)
    if there is None and named is None:
        config = configure(base, command, recipe=load_recipe(default_recipe(task.name, chosen.kind)))
    if sheet_path is not None:
        _show_augment(dataset, config, sheet_path)
    run_dir = run_dir or Path("runs") / f"{task.name}-{config.model}-{time.strftime('%Y%m%d-%H%M%S')}"
    from seglab.training.loop import train as run

    with ExitStack() as stack:
        return run(
            config, dataset, run_dir, chosen, task=task, resume=resume, watcher=Display(stack),
            time_limit_s=time_limit_s or (there.time_limit_s if there else None),
            graph=graph if graph is not None else there.graph if there else True,
            accept_noncommercial=accept_noncommercial, cache=cache,
        )  # fmt: skip


def _show_augment(dataset: "Dataset", config: TrainConfig, path: Path) -> None:
    from seglab.data.augmented_sheet import draw_augmented
    from seglab.training.start import preprocess_of

    draw_augmented(dataset, config, preprocess_of(config), path)
    note(f"[bold]{escape(str(path))}[/bold] shows samples as the network would see them")
    raise typer.Exit


def _read_flags(flags: dict[str, Any]) -> dict[str, Any]:
    """Return flags whose text stands for something else as what they stand for."""
    read = dict(flags)
    for name in {"augment", "class_weights"} & set(flags):
        read[name] = _numbers(flags[name])
    if isinstance(read.get("augment"), list):
        (read["augment"],) = read["augment"] if len(read["augment"]) == 1 else (flags["augment"],)
    return read


def _numbers(text: str) -> str | list[float]:
    """Return the numbers of a text with commas, or the text if it is none."""
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        return text


def _run_dir(run: str | None, out: Path | None, resume: bool) -> Path | None:
    """Return the run directory of ``--resume RUN``, ``--resume --out RUN`` (or ``--resume auto``), or ``--out RUN``."""
    if run is not None and not resume:
        raise UsageError(f"`{run}` is one word too many", f"`--out {run}` names the run, `--resume {run}` continues it")
    if run is None or run == "auto":
        if resume and out is None:
            raise UsageError("--resume does not know the run", "`seglab train --resume RUN`, or name it with `--out`")
        return out
    if out is not None and out != Path(run):
        raise UsageError(f"two runs are named: `{run}` and `{out}`", "leave one out")
    _require_run(Path(run))
    return Path(run)


def _require_run(run_dir: Path) -> None:
    from seglab.training.settings import read_settings

    read_settings(run_dir)


def _settings_of(run_dir: Path) -> "RunSettings | None":
    from seglab.training.settings import has_run, read_settings

    return read_settings(run_dir) if has_run(run_dir) else None


class Display:
    """Shows a run: notes as lines, steps as a bar."""

    def __init__(self, stack: "ExitStack") -> None:
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


def _seconds(text: str) -> float:
    units = {"h": 3600, "m": 60, "s": 1, "": 1}
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms]?)", text.lower())
    seconds = sum(float(number) * units[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text.lower() or seconds <= 0:
        raise UsageError(f"`{text}` is no length of time", "write seconds as 900, or 15m, or 1h30m")
    return seconds


def _summarise(result: "RunResult") -> None:
    import shlex

    course, run = result.course, escape(shlex.quote(str(result.run_dir)))
    score = "" if course.best_score is None else f", {escape(result.config.metric)} {course.best_score:.4f}"
    if result.already_finished:
        note(f"the run is finished already ({course.stopped}): nothing to do")
    kept = f"epoch {course.best_epoch} is kept{score}"
    note(f"[bold]{run}[/bold]: {course.epoch} epochs in {course.seconds / 60:.1f} min; {kept}")
    if result.graph_difference is not None:
        note(f"model.onnx gives the same logits within {result.graph_difference:.1g}")
    note(f"next: seglab evaluate --model {run} --data DIR")
    note(f"      seglab predict --model {run} PHOTOS")
    note(f"      seglab cutout --model {run} PHOTOS")
