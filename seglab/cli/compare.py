"""``seglab compare``: evaluations side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seglab.cli.console import escape, note, print_json
from seglab.cli.options import JsonOption
from seglab.errors import UsageError

if TYPE_CHECKING:
    from seglab.evaluation.comparison import Against
    from seglab.evaluation.result import Evaluation

__all__ = ["compare"]


def compare(
    files: Annotated[
        list[Path], typer.Argument(help="What seglab evaluate --json or --out wrote.", metavar="A.json B.json ...")
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Only these metrics; repeatable.", metavar="NAME", show_default="all of weight"),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Put evaluations of the same images side by side; the first is what the others are compared with.

    [bold]seglab compare old.json new.json[/bold]

    [bold]seglab compare runs/*/evaluation.json --metric miou --metric f1.eyes --json[/bold]

    Only images that all of them scored count. A star marks a difference
    whose 95 % interval (bootstrap over images, in pairs) leaves out 0.
    """
    from seglab.evaluation.comparison import against, selected, totals
    from seglab.evaluation.record import read_record

    if len(files) < 2:
        raise UsageError("it takes two evaluations to compare", "seglab compare old.json new.json")
    evaluations = [read_record(path) for path in files]
    shared = selected(evaluations)
    names = _metrics(shared[0], metric)
    figures = [totals(one) for one in shared]
    compared = [against(one, shared[0]) for one in shared[1:]]
    _show(files, evaluations, len(shared[0].ids), names, figures, compared)
    if json:
        print_json(_json(files, evaluations, shared[0].ids, names, figures, compared))


def _metrics(evaluation: "Evaluation", asked: list[str] | None) -> list[str]:
    from seglab.errors import unknown
    from seglab.evaluation.metrics import HEADLINE, groups, metric_names
    from seglab.evaluation.people import HEADLINE as PEOPLE

    task = evaluation.task
    told_apart = evaluation.people is not None
    known = metric_names(task, people=told_apart)
    for name in asked or []:
        if name not in known:
            raise unknown(f"metric of task `{task.name}`", name, known)
    levels = [f"level.{name}.iou" for name in task.levels]
    people = PEOPLE if told_apart else ()
    return asked or [*HEADLINE, *people, *(f"iou.{name}" for name in groups(task)), *levels]


def _show(
    files: list[Path],
    evaluations: "list[Evaluation]",
    num_shared: int,
    names: list[str],
    figures: list[dict[str, float]],
    compared: "list[Against]",
) -> None:
    from seglab.cli.scores import number, other_truth, signed
    from seglab.cli.tables import print_rows

    columns = ["metric", "A", *(f"{letter} - A" for letter in _letters(len(files))[1:])]
    rows = []
    for name in names:
        differences = [
            f"{number(of[name])} {signed(against.differences[name])}"
            for of, against in zip(figures[1:], compared, strict=True)
        ]
        rows.append((name, number(figures[0][name]), *differences))
    for letter, path, one in zip(_letters(len(files)), files, evaluations, strict=True):
        note(escape(f"{letter}  {path}  {one.num_images} images"))
    print_rows(f"{evaluations[0].task.name} · {num_shared} shared images", columns, rows)
    for letter, found in zip(_letters(len(files))[1:], compared, strict=True):
        if found.num_other_truth:
            note(f"{letter}  {other_truth(found.num_other_truth, found.num_shared, 'A')}")
    note("* the 95 % interval of the difference (bootstrap over images, in pairs) leaves out 0")


def _json(
    files: list[Path],
    evaluations: "list[Evaluation]",
    ids: tuple[str, ...],
    names: list[str],
    figures: list[dict[str, float]],
    compared: "list[Against]",
) -> dict[str, Any]:
    from seglab.notation import null_if_nan

    runs: list[dict[str, Any]] = []
    for number, (path, one, of) in enumerate(zip(files, evaluations, figures, strict=True)):
        scores = {name: null_if_nan(of[name]) for name in names}
        run = {"file": str(path), "num_images": one.num_images, "scores": scores}
        if number:
            told = compared[number - 1].to_dict()["differences"]
            run["num_other_truth"] = compared[number - 1].num_other_truth
            run["differences"] = {name: told[name] for name in names}
        runs.append(run)
    return {"schema": 1, "task": evaluations[0].task.name, "num_shared": len(ids), "runs": runs}


def _letters(num: int) -> list[str]:
    return [chr(ord("A") + place) if place < 26 else f"#{place + 1}" for place in range(num)]
