"""``seglab train``: from a prepared dataset to a model."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from seglab.cli.options import DeviceOption, JsonOption, task_option
from seglab.cli.runs import Display, Request, run_training, told_as_json
from seglab.config import TrainConfig
from seglab.errors import UsageError

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
    task: Annotated[str | None, task_option("with --resume the run's")] = None,
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
        str | None,
        _option(
            "init",
            "Start with the tensors of a model that fit; of a checkpoint, too. embedded: of the task's that comes with "
            "seglab.",
            "MODEL|FILE|embedded",
        ),
    ] = None,
    encoder_weights: Annotated[
        str | None, _option("encoder_weights", "Start the encoder with published weights.", "auto|none|NAME|FILE")
    ] = None,
    accept_noncommercial: Annotated[
        bool, typer.Option("--accept-noncommercial", help="Start with weights that forbid commercial use, too.")
    ] = False,
    size: Annotated[int | None, _option("size", "Side of the model's grid in pixels.", "N")] = None,
    epochs: Annotated[int | None, _option("epochs", "Passes over the training split.", "N")] = None,
    batch_size: Annotated[
        str | None,
        _option("batch_size", "Samples at once; auto: the recipe's, halved until memory suffices.", "N|auto"),
    ] = None,
    accumulate: Annotated[
        int | None, _option("accumulate", "Add up the gradients of so many batches before a step.", "N")
    ] = None,
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
    seed: Annotated[int | None, _option("seed", "Seed of everything that is drawn at random.", "N")] = None,
    set: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting of a recipe, e.g. ema=0.99; repeatable.", metavar="NAME=VALUE"),
    ] = None,
    overfit: Annotated[
        int | None, _option("overfit", "Train and validate on the first N samples as they are, to debug.", "N")
    ] = None,
    layout: Annotated[
        str | None, _option("layout", "Of numbers in memory: channels_first, channels_last or auto.", "NAME")
    ] = None,
    compile: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Let torch compile the network.", show_default="the recipe's"),
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
    logger: Annotated[
        str | None,
        typer.Option(
            "--logger",
            help="tensorboard, or wandb as well, if it is installed.",
            metavar="NAME",
            show_default="tensorboard",
        ),
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

    A loss that becomes infinite or NaN ends the run with the names of the photos; what was saved before can be resumed,
    with a lower --lr, too. --json prints what the run came to, also where it was interrupted or failed: `stopped` says
    why it ended, `exit` is the exit code.
    """
    flags = {name: value for name, value in locals().items() if name in FIELDS and value is not None}
    limit_s = None if time_limit is None else _seconds(time_limit)
    request = Request(
        run_dir=_run_dir(run, out, resume), task=task, data_dir=data, recipe=recipe, settings=[*(set or [])],
        flags=flags, resume=resume, time_limit_s=limit_s, graph=graph, device=device,
        accept_noncommercial=accept_noncommercial, cache=cache, logger=logger, sheet_path=show_augment,
    )  # fmt: skip
    with told_as_json(json) as end:
        end.result = run_training(request, end)


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


def _seconds(text: str) -> float:
    units = {"h": 3600, "m": 60, "s": 1, "": 1}
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms]?)", text.lower())
    seconds = sum(float(number) * units[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text.lower() or seconds <= 0:
        raise UsageError(f"`{text}` is no length of time", "write seconds as 900, or 15m, or 1h30m")
    return seconds
