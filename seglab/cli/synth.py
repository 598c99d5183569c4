"""``seglab synth``: synthetic people with labels that are right by construction."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from seglab.cli.console import escape, note, print_json
from seglab.cli.interruption import Course, same_command, telling
from seglab.cli.options import ForceOption, JsonOption, SeedOption, TaskOption, size_hw_of
from seglab.errors import unknown
from seglab.tasks import DEFAULT_CUTOUT_TASK

if TYPE_CHECKING:
    from seglab.data.layouts import Original
    from seglab.tasks import Task

__all__ = ["synth"]

_LAYOUTS: Final = ("prepared", "original")


def synth(
    out: Annotated[Path, typer.Argument(help="The dataset to make.", metavar="OUT")],
    task: TaskOption = DEFAULT_CUTOUT_TASK,
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="How many pictures.")] = 100,
    size: Annotated[
        str, typer.Option("--size", "-s", help="Pixels: S, or height x width as HxW.", metavar="HxW|S")
    ] = "256",
    layout: Annotated[
        str, typer.Option("--layout", help="prepared, or original: as the task's data are published.", metavar="NAME")
    ] = "prepared",
    seed: SeedOption = 0,
    val: Annotated[float, typer.Option("--val", help="Share of val; many original layouts have none.")] = 0.1,
    test: Annotated[float, typer.Option("--test", help="Share of test; likewise.")] = 0.1,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    r"""Draw synthetic people as a prepared dataset: no download, labels right by construction.

    [bold]seglab synth -n 500 --size 192 prepared/toy[/bold]

    [bold]seglab synth --task face -n 200 --size 256 prepared/faces[/bold]

    [bold]seglab synth --task clothes --layout original raw/clothes[/bold]

    The same options give the same files, byte for byte. A task of your own says in its TOML file which parts of a
    drawn person its classes own: \[synth] with view = "portrait" or "figure", and \[synth.parts] of names.
    """
    if layout not in _LAYOUTS:
        raise unknown("layout", layout, _LAYOUTS)
    run = _prepared if layout == "prepared" else _original
    course = Course("synth", "pictures")
    with telling(lambda: (f"{course} were drawn, nothing is kept", f"{same_command('synth')} starts again")):
        from seglab.tasks import load_task

        values = run(_Options(load_task(task), num, size_hw_of(size), out, seed, val, test, force), course)
    if json:
        print_json(values)


class _Options(NamedTuple):
    task: "Task"
    num: int
    size_hw: tuple[int, int]
    out: Path
    seed: int
    val: float
    test: float
    force: bool


def _prepared(options: _Options, course: Course) -> dict[str, Any]:
    from seglab.data.manifest import SPLITS
    from seglab.data.naming import advise_shares
    from seglab.data.synth import synth as run

    task, num, size_hw, out, seed, val, test, force = options
    dataset = run(task, num, size_hw, out, seed=seed, val=val, test=test, force=force, progress=course.show)
    counts = {name: sum(sample.split == name for sample in dataset.samples) for name in SPLITS}
    note(f"[bold]{escape(out)}[/bold]: " + ", ".join(f"{number} {name}" for name, number in counts.items()))
    remarks = [remark for remark in (advise_shares(counts, val, test),) if remark]
    for remark in remarks:
        note(escape(remark))
    return {
        "dataset": str(dataset.dir), "task": dataset.task.name, "splits": counts, "digest": dataset.digest,
        "remarks": remarks,
    }  # fmt: skip


def _original(options: _Options, course: Course) -> dict[str, Any]:
    from seglab.data.layouts import synth_original

    task, num, size_hw, out, seed, val, test, force = options
    made = synth_original(task, num, size_hw, out, seed=seed, val=val, test=test, force=force, progress=course.show)
    there = ", there already" if made.unchanged else ""
    note(f"[bold]{escape(made.dir)}[/bold]: {made.num} pictures in the layout {made.layout}{there}")
    remark, shares = _splits_of(made, val, test)
    note(escape(remark))
    note(f"next: seglab prepare {escape(shlex.quote(str(made.dir)))} OUT{escape(shares)}")
    return {
        "raw": str(made.dir), "task": task.name, "layout": made.layout, "pictures": made.num, "splits": made.splits,
        "remarks": [remark],
    }  # fmt: skip


def _splits_of(made: "Original", val: float, test: float) -> tuple[str, str]:
    """Say which splits a layout has, and return the options of prepare that make the others."""
    missing = [name for name in ("val", "test") if name not in made.splits]
    asked = {"val": val, "test": test}
    if not made.splits:
        options = "".join(f" --{name} {asked[name]:g}" for name in missing)
        return (
            f"the layout {made.layout} has no splits: --val and --test are for `seglab prepare`, which makes them",
            options,
        )
    has = ", ".join(f"{number} {name}" for name, number in made.splits.items())
    drawn = {"val": "train", "test": "val"}
    how = " and ".join(f"{name} from {drawn[name]}" for name in missing)
    options = f" --val {val:g}" if "val" in missing else ""
    return f"the layout {made.layout} has {has}: `seglab prepare` draws {how}", options
