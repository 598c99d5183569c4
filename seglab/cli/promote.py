"""``seglab promote``: let a better model take the place of the one that is served."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seglab.cli.console import escape, note, print_json, progress
from seglab.cli.options import DeviceOption, JsonOption
from seglab.errors import ExitCode

if TYPE_CHECKING:
    from seglab.promote import Promotion

__all__ = ["promote"]


def promote(
    run: Annotated[str, typer.Argument(help="The new model: a run, or another bundle.", metavar="RUN")],
    dest: Annotated[Path, typer.Argument(help="The folder that is served, or a link to it.", metavar="DEST")],
    metric: Annotated[str, typer.Option("--metric", help="What decides; see evaluate.", metavar="NAME")] = "miou",
    min_gain: Annotated[
        float, typer.Option("--min-gain", help="How much better the new model must be.", min=0, max=1, metavar="X")
    ] = 0.0,
    baseline: Annotated[
        Path | None,
        typer.Option("--baseline", help="The model to beat.", metavar="MODEL", show_default="DEST, if it is there"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="Measure both on this prepared dataset.", metavar="DIR")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="train, val or test.", metavar="SPLIT", show_default="test with --data, else val"),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the model before as DEST.previous.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare and tell, but change nothing.")] = False,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> int:
    """Replace a served model by a new one, in one step, if the new one is better on the same data.

    [bold]seglab promote runs/a served/person --min-gain 0.005 --data prepared/person[/bold]

    [bold]seglab promote runs/a served/person --metric f1.eyes --keep[/bold]

    Readers of DEST see the old model or the new one, never a half, also when this command is killed. The exit code is 1
    if the new model is not better. Scores that both models carry from their training are compared if they were measured
    on the same data; otherwise --data measures both.
    """
    from seglab.data.manifest import open_dataset
    from seglab.device import choose_device
    from seglab.promote import Contest
    from seglab.promote import promote as run_promote

    dataset = None if data is None else open_dataset(data)
    chosen = None if data is None else choose_device(device, with_torch=False)
    contest = Contest(metric, min_gain, split)
    with progress(None, "measure") as bar:
        done = run_promote(
            run, dest, contest, baseline=baseline, data=dataset, device=chosen, keep=keep, dry_run=dry_run,
            progress=bar.advance,
        )  # fmt: skip
    _tell(done)
    if json:
        print_json(done.to_dict())
    return int(ExitCode.DONE if done.better else ExitCode.PARTIAL)


def _tell(done: "Promotion") -> None:
    run, dest = escape(done.run), escape(done.dest)
    if done.baseline is None:
        note(f"nothing is served at {dest} yet")
    else:
        gain = "undefined" if done.gain is None else f"{done.gain:+.4f}"
        scores = f"{_number(done.score)} against {_number(done.baseline_score)} of {escape(done.baseline)}"
        note(f"{escape(done.metric)} on {escape(done.split)}, measured {_when(done)}: {scores}, {gain}")
    if done.promoted:
        note(f"[bold]{dest}[/bold] is now the model of {run}")
    elif done.better:
        note(f"{run} would be promoted to {dest}")
    else:
        least = f"at least {done.min_gain:g}" if done.min_gain else "above 0"
        note(f"[bold red]not better:[/bold red] {dest} stays; the gain must be {least}")
    if done.previous:
        note(f"the model before is kept: {escape(done.previous)}")


def _when(done: "Promotion") -> str:
    return "now" if done.measured == "now" else "when they were trained"


def _number(score: float | None) -> str:
    return "undefined" if score is None else f"{score:.4f}"
