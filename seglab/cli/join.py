"""``seglab join``: several prepared datasets as one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seglab.cli.console import escape, note, print_json
from seglab.cli.interruption import Course, same_command, telling
from seglab.cli.options import ForceOption, JsonOption, task_option
from seglab.cli.prepare import Link

if TYPE_CHECKING:
    from seglab.data.joining import Joined

__all__ = ["join"]


def join(
    out: Annotated[Path, typer.Argument(help="The new dataset.", metavar="OUT")],
    data: Annotated[list[Path], typer.Argument(help="Prepared datasets, two or more.", metavar="DATA...")],
    task: Annotated[str | None, task_option("what all of them are of")] = None,
    link: Annotated[
        Link, typer.Option("--link", help="Photos: copy them, or share their bytes by hard or symbolic links.")
    ] = Link.copy,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Put prepared datasets together, to train on all of them.

    [bold]seglab join prepared/people prepared/person prepared/body --task person[/bold]

    [bold]seglab join prepared/both prepared/mine prepared/yours --link hard[/bold]

    Every sample stays in its split: photos that one dataset kept for its test are in the test of the new one.
    Classes are matched by name; for a task with one class beside the background, such as person, any other class is a
    part of it.
    """
    course = Course("join", "samples")
    with telling(lambda: ("nothing was made", f"{same_command('join')} starts again")):
        from seglab.data.joining import join as run
        from seglab.tasks import load_task

        done = run(
            data, out, task=load_task(task) if task else None, link=link.value, force=force, progress=course.show
        )
    _tell(done)
    if json:
        print_json(done.to_dict())


def _tell(done: "Joined") -> None:
    for name, merged in done.merged.items():
        parts = ", ".join(f"{old} is {new}" for old, new in merged.items())
        note(f"in [bold]{escape(name)}[/bold]: {escape(parts)}")
    splits = ", ".join(f"{num} {split}" for split, num in done.splits.items())
    verb = "there already, from the same datasets:" if done.unchanged else "made"
    note(f"{verb} [bold]{escape(done.dataset.dir)}[/bold]: {splits}")
    note(f"next: seglab inspect {escape(done.dataset.dir)} finds photos that are in it twice")
