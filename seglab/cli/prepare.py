"""``seglab prepare``: from photos and masks to a prepared dataset."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seglab.cli.console import escape, note, print_json, print_table, progress
from seglab.cli.options import ForceOption, JsonOption, OptionalTaskOption

if TYPE_CHECKING:
    from seglab.data.prepare import Prepared
    from seglab.data.problems import Findings

__all__ = ["prepare"]

LAYOUTS = (
    "helen, pascal-part, cihp-celebmaskhq-6class, cihp, celebamask-hq, lip, imaterialist, coco, human-segmentation "
    "or folders"
)


class Link(StrEnum):
    """How photos that need no change get into the dataset."""

    copy = "copy"
    hard = "hard"
    sym = "sym"


class Fit(StrEnum):
    """How photos meet a square."""

    stretch = "stretch"
    pad = "pad"


def prepare(
    raw: Annotated[Path, typer.Argument(help="Photos and masks in a layout that seglab knows.", metavar="RAW")],
    out: Annotated[Path, typer.Argument(help="The prepared dataset.", metavar="OUT")],
    task: OptionalTaskOption = None,
    source: Annotated[
        str | None,
        typer.Option("--source", help=f"Layout: {LAYOUTS}.", metavar="NAME", show_default="recognised"),
    ] = None,
    val: Annotated[float, typer.Option("--val", help="Share of val, where the source has no splits.")] = 0.1,
    test: Annotated[float, typer.Option("--test", help="Share of test, where the source has no splits.")] = 0.1,
    max_side: Annotated[
        int | None, typer.Option("--max-side", help="Shrink to this longer side.", metavar="PIXELS")
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", help="Bring everything to this square instead.", metavar="PIXELS")
    ] = None,
    fit: Annotated[
        Fit, typer.Option("--fit", help="With --size: stretch, or pad with grey that no score counts.")
    ] = Fit.stretch,
    rules: Annotated[
        str | None,
        typer.Option("--rules", help="iMaterialist: documented, or original (the published code).", metavar="NAME"),
    ] = None,
    colours: Annotated[
        Path | None,
        typer.Option("--colours", help='Colour masks: class = "#rrggbb" a line (TOML or JSON).', metavar="FILE"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=0, help="Threads.", show_default="the CPUs of this process")
    ] = None,
    link: Annotated[
        Link,
        typer.Option(
            "--link", help="Photos that need no change: copy, or share RAW's bytes by hard or symbolic links."
        ),
    ] = Link.copy,
    drop_bad: Annotated[bool, typer.Option("--drop-bad", help="Leave bad pairs out instead of refusing all.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Turn photos and masks into a checked dataset that train and evaluate read.

    [bold]seglab prepare downloads/Human-Segmentation-Dataset prepared/person[/bold]

    [bold]seglab prepare mine prepared/mine --task clothes --max-side 768[/bold]

    [bold]seglab prepare downloads/imaterialist prepared/clothes --size 768[/bold]

    [bold]seglab prepare mine prepared/mine --task hands.toml --colours colours.toml --dry-run[/bold]

    RAW is a known layout, or images/ with masks/ (or labels/) of the same stems: class ids, palette PNGs, colours,
    or 0/255. It is only read. All problems of all files are listed at once and beside OUT; nothing is built then.

    After an interruption the same command goes on where it ended.
    """
    from seglab.data.prepare import prepare as run
    from seglab.data.problems import ProblemsFound
    from seglab.tasks import load_task

    try:
        done = run(
            raw, out, task=load_task(task) if task else None, source=source, val=val, test=test, max_side=max_side,
            size=size, fit=fit.value, rules=rules, colours=colours, workers=workers, link=link.value,
            drop_bad=drop_bad, dry_run=dry_run, force=force, progress=lambda total: progress(total, "prepare"),
        )  # fmt: skip
    except ProblemsFound as error:
        _show(error.findings)
        if json:
            print_json({"dataset": None, **error.findings.to_dict()})
        raise
    _tell(done)
    if json:
        print_json(done.to_dict())


def _show(findings: "Findings") -> None:
    for remark in findings.remarks:
        note(escape(remark))
    for kind, paths in findings.notes.items():
        note(escape(f"{len(paths)} x {kind}: {_some(paths)}"))
    rows = [(group.kind, str(group.count), _some(group.first), group.detail) for group in findings.groups()]
    if rows:
        print_table("problems", ("kind", "count", "first files", "what"), rows)


def _some(paths: "list[str] | tuple[str, ...]", limit: int = 3) -> str:
    return ", ".join(paths[:limit]) + (" ..." if len(paths) > limit else "")


def _tell(done: "Prepared") -> None:
    if done.reason:
        note(f"source [bold]{escape(done.source)}[/bold]: {escape(done.reason)}")
    _show(done.findings)
    dropped = f", {len(done.findings.problems)} problems dropped" if done.findings.problems else ""
    if done.dataset is None:
        note(f"{done.num_samples} good pairs{dropped}; nothing was written")
        return
    splits = ", ".join(f"{len(done.dataset.split(name))} {name}" for name in done.dataset.splits)
    verb = "there already, from the same files and options:" if done.unchanged else "made"
    note(f"{verb} [bold]{escape(done.dataset.dir)}[/bold]: {splits}{'' if done.unchanged else dropped}")
