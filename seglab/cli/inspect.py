"""``seglab inspect``: what a dataset is made of, and what in it deserves a look."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seglab.cli.console import escape, note, print_json
from seglab.cli.interruption import Course, same_command, telling
from seglab.cli.options import JsonOption, SeedOption, WorkersOption
from seglab.cli.tables import print_rows
from seglab.errors import ExitCode

if TYPE_CHECKING:
    from seglab.data.inspect import Group, Inspection

__all__ = ["inspect"]

MAX_ROWS = 12
"""How many rows of a list are shown; --json has them all."""


def inspect(
    data: Annotated[Path, typer.Argument(help="A prepared dataset.", metavar="DATA")],
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Draw random and odd samples.", metavar="FILE.png|jpg")
    ] = None,
    num_random: Annotated[int, typer.Option("--random", min=0, help="How many random samples to draw.")] = 10,
    seed: SeedOption = 0,
    workers: WorkersOption = None,
    json: JsonOption = False,
) -> int:
    """Check a prepared dataset: class shares, sizes, outliers, duplicates, left and right, splits.

    [bold]seglab inspect prepared/person[/bold]

    [bold]seglab inspect prepared/face --sheet face.jpg --json > face.json[/bold]

    Outliers are masks that are empty, nearly full, lack a class that nearly all have,
    or are far from the median (modified z-score over 3.5) in a class's share, the place,
    the share of the picture's rim that is covered, or the length of outlines.

    Nothing is changed. The exit code is 1 if files cannot be read.
    """
    course = Course("inspect", "samples")
    with telling(lambda: (f"{course} were read, nothing is written", f"{same_command('inspect')} starts again")):
        from seglab.data.inspect import inspect as run
        from seglab.data.manifest import open_dataset
        from seglab.data.sheet import check_sheet, write_sheet

        if sheet is not None:
            check_sheet(sheet)  # before the work, not after it
        found = run(open_dataset(data), workers=workers, progress=course.show)
        _show(found)
        if sheet is not None:
            write_sheet(found, sheet, num_random=num_random, seed=seed)
            note(f"drawn: [bold]{escape(sheet)}[/bold]")
    if json:
        print_json(found.to_dict())
    return int(ExitCode.PARTIAL if found.unreadable else ExitCode.DONE)


def _show(found: "Inspection") -> None:
    _show_classes(found)
    sizes = "; ".join(f"{name} {low}..{median}..{high}" for name, (low, median, high) in found.sizes.items())
    note(f"pixels, least..median..most: {sizes}; {_plural(found.num_sizes)}")
    for split, names in found.missing().items():
        note(f"[bold yellow]no {escape(split)} sample shows[/bold yellow] {escape(', '.join(names))}")
    _show_ratios(found)
    _show_outliers(found)
    _show_groups(found)
    _show_mirror(found)
    samples = found.dataset.samples
    places = [(f"{samples[position].split}/{samples[position].id}", why) for position, why in found.unreadable.items()]
    rows = sorted(places)
    _show_list("cannot be read", ("sample", "why"), rows)


def _plural(num_sizes: int) -> str:
    return f"{num_sizes} different sizes" if num_sizes > 1 else "all of one size"


def _show_classes(found: "Inspection") -> None:
    columns = ["class", *(f"{part.split} ({part.num_samples})" for part in found.splits)]
    widths = [max(5, len(str(part.num_samples))) for part in found.splits]
    rows = []
    for label, name in enumerate(found.dataset.task.classes):
        cells = [
            f"{part.shares[label]:.2%} {part.num_with[label]:>{width}}"
            for part, width in zip(found.splits, widths, strict=True)
        ]
        rows.append([name, *cells])
    if any(part.ignored for part in found.splits):
        cells = [f"{part.ignored:.2%} {'-':>{width}}" for part, width in zip(found.splits, widths, strict=True)]
        rows.append(["(ignored)", *cells])
    title = f"{found.dataset.dir}: task {found.dataset.task.name}, {found.dataset.source}"
    print_rows(f"{title}; share of the pixels, and samples with the class", columns, rows)


def _show_ratios(found: "Inspection") -> None:
    rows = [
        (
            ratio.name,
            f"{ratio.split} {ratio.share:.2%}",
            f"{ratio.other} {ratio.other_share:.2%}",
            f"{ratio.errors:.1f}",
        )
        for ratio in found.ratios
    ]
    columns = ("class", "mean share in", "mean share in", "standard errors apart")
    _show_list("splits that differ by more than chance", columns, rows)


def _show_outliers(found: "Inspection") -> None:
    rows = []
    for outlier in found.outliers:
        sample = found.dataset.samples[outlier.position]
        score = f"{outlier.score:.1f}" if outlier.score < float("inf") else ""
        rows.append((f"{sample.split}/{sample.id}", outlier.kind, outlier.reason, score))
    _show_list("outliers", ("sample", "kind", "why", "score"), rows)


def _show_groups(found: "Inspection") -> None:
    across = found.across
    rows = [(_names(found, group), "yes" if group in found.same else "no") for group in across]
    _show_list("near-duplicates across splits", ("photos", "same file"), rows)
    within = [group for group in found.near if group not in across]
    rows = [(_names(found, group), "yes" if group in found.same else "no") for group in within]
    _show_list("near-duplicates within a split", ("photos", "same file"), rows)


def _names(found: "Inspection", group: "Group") -> str:
    samples = [found.dataset.samples[position] for position in group]
    names = [f"{sample.split}/{sample.id}" for sample in samples[:4]]
    return ", ".join(names) + (f" and {len(samples) - 4} more" if samples[4:] else "")


def _show_mirror(found: "Inspection") -> None:
    for pair in found.mirror:
        if not pair.num_checked:
            continue
        most = max(pair.num_left_first, pair.num_checked - pair.num_left_first)
        side = "left" if pair.of_picture else "[bold yellow]right[/bold yellow]"
        where = f"`{escape(pair.left)}` lies {side} of `{escape(pair.right)}` in {most} of {pair.num_checked} samples"
        ids = [found.dataset.samples[position].id for position in pair.against]
        others = ", ".join(ids[:MAX_ROWS]) + (" ..." if ids[MAX_ROWS:] else "")
        note(where + (f", but not in {escape(others)}" if ids else ""))


def _show_list(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        shown = f" (the first {MAX_ROWS}; --json has all)" if rows[MAX_ROWS:] else ""
        print_rows(f"{len(rows)} x {title}{shown}", columns, rows[:MAX_ROWS])
