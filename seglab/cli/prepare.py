"""``seglab prepare``: from photos and masks to a prepared dataset."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seglab.cli.console import escape, note, print_json
from seglab.cli.interruption import Course, same_command, telling
from seglab.cli.options import ForceOption, JsonOption, WorkersOption, task_option
from seglab.cli.tables import print_rows
from seglab.data.sources import SOURCES

if TYPE_CHECKING:
    from seglab.data.diagnosis import Near
    from seglab.data.prepare import Prepared
    from seglab.data.problems import Findings

__all__ = ["prepare"]

LAYOUTS = " or ".join(", ".join(SOURCES).rsplit(", ", 1))


class Link(StrEnum):
    """How photos that need no change get into the dataset."""

    copy = "copy"
    hard = "hard"
    sym = "sym"


class Fit(StrEnum):
    """How photos meet a square."""

    stretch = "stretch"
    pad = "pad"


def _list_sources(wanted: bool) -> None:
    """Print the layouts and end."""
    if wanted:
        from seglab.data.sources import SOURCES, find_source

        sources = map(find_source, SOURCES)
        rows = [
            (source.NAME, source.TASK or ", ".join(getattr(source, "TASKS", ("any",))), source.TITLE)
            for source in sources
        ]
        print_rows("layouts, in the order in which they are tried", ("--source", "--task", "layout"), rows)
        raise typer.Exit


def prepare(
    raw: Annotated[Path, typer.Argument(help="Photos and masks in a layout that seglab knows.", metavar="RAW")],
    out: Annotated[Path, typer.Argument(help="The prepared dataset.", metavar="OUT")],
    task: Annotated[str | None, task_option("the layout's")] = None,
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
    workers: WorkersOption = None,
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
    _sources: Annotated[
        bool, typer.Option("--sources", help="List the layouts and exit.", is_eager=True, callback=_list_sources)
    ] = False,
) -> None:
    """Turn photos and masks into a checked dataset that train and evaluate read.

    [bold]seglab prepare downloads/Human-Segmentation-Dataset prepared/person[/bold]

    [bold]seglab prepare mine prepared/mine --task clothes --max-side 768[/bold]

    [bold]seglab prepare downloads/imaterialist prepared/clothes --size 768[/bold]

    [bold]seglab prepare mine prepared/mine --task hands.toml --colours colours.toml --dry-run[/bold]

    RAW is a known layout, or images/ with masks/ (or labels/) of the same stems, or a.jpg beside a.png: class ids,
    palette PNGs, colours, or 0/255. It is only read. All problems of all files are listed at once and beside OUT;
    nothing is built then.

    After an interruption the same command goes on where it ended.
    """
    course = Course("prepare", "pairs")
    with telling(lambda: _kept(out, course, dry_run)):
        from seglab.data.prepare import prepare as run
        from seglab.data.problems import ProblemsFound
        from seglab.data.sources import UnknownLayout
        from seglab.tasks import load_task

        try:
            done = run(
                raw, out, task=load_task(task) if task else None, source=source, val=val, test=test, max_side=max_side,
                size=size, fit=fit.value, rules=rules, colours=colours, workers=workers, link=link.value,
                drop_bad=drop_bad, dry_run=dry_run, force=force, progress=course.show,
            )  # fmt: skip
        except UnknownLayout as error:
            _show_near(error.near)
            raise
        except ProblemsFound as error:
            _show(error.findings)
            if json:
                print_json({"dataset": None, **error.findings.to_dict()})
            raise
    _tell(done)
    if json:
        print_json(done.to_dict())


def _kept(out: Path, course: Course, dry_run: bool) -> tuple[str, str]:
    """Say what an interruption left."""
    again = same_command("prepare")
    building = out.resolve().with_name(f".{out.resolve().name}.building")
    if not dry_run and course.started and building.is_dir():
        message = f"{course} are done and kept in `{building}`; `{out}` is not made yet"
        return message, f"{again} goes on from there"
    if not dry_run and course.complete and (out / "dataset.json").is_file():
        return f"`{out}` is made", f"{again} tells what is in it"
    return "nothing was written, the source is as it was", f"{again} starts again"


def _show_near(near: "tuple[Near, ...]") -> None:
    rows = [(layout.name, ", ".join(layout.has) or "-", ", ".join(layout.lacks) or "-") for layout in near]
    if rows:
        print_rows("nearest layouts", ("--source", "there is", "missing"), rows)


def _show(findings: "Findings") -> None:
    if findings.reason:
        note(f"source [bold]{escape(findings.source)}[/bold]: {escape(findings.reason)}")
    for remark in findings.remarks:
        note(escape(remark))
    for kind, paths in findings.notes.items():
        note(escape(f"{len(paths)} x {kind}: {_some(paths)}"))
    rows = [(group.kind, str(group.count), _some(group.first), group.detail) for group in findings.groups()]
    if rows:
        print_rows("problems", ("kind", "count", "first files", "what"), rows)


def _some(paths: "list[str] | tuple[str, ...]", limit: int = 3) -> str:
    return ", ".join(paths[:limit]) + (" ..." if len(paths) > limit else "")


def _tell(done: "Prepared") -> None:
    _show(done.findings)
    dropped = f", {len(done.findings.problems)} problems dropped" if done.findings.problems else ""
    splits = ", ".join(f"{num} {name}" for name, num in done.splits.items())
    if done.dataset is None:
        note(f"{done.num_samples} good pairs{dropped} ({splits}); nothing was written")
        return
    verb = "there already, from the same files and options:" if done.unchanged else "made"
    note(f"{verb} [bold]{escape(done.dataset.dir)}[/bold]: {splits}{'' if done.unchanged else dropped}")
