"""``seglab demo``: the first minute."""

from pathlib import Path
from typing import Annotated

import typer

from seglab.cli.console import escape, note
from seglab.cli.options import DeviceOption, TaskOption
from seglab.tasks import DEFAULT_CUTOUT_TASK

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything.", metavar="DIR")] = Path(
        "seglab-demo"
    ),
    task: TaskOption = DEFAULT_CUTOUT_TASK,
    device: DeviceOption = None,
) -> None:
    """See the whole road in a minute, with no download: a toy network, trained on drawings of people.

    [bold]seglab demo[/bold]

    [bold]seglab demo --task clothes -o clothes-demo[/bold]
    """
    from contextlib import ExitStack

    from seglab.cli.train import Display
    from seglab.demo import demo as run
    from seglab.device import choose_device
    from seglab.tasks import load_task

    chosen = choose_device(device)
    note(f"device {escape(chosen.name)} ({escape(chosen.reason)})")
    with ExitStack() as stack:
        result = run(load_task(task), out, chosen, say=lambda line: note(escape(line)), watcher=Display(stack))
    note(f"look at [bold]{escape(result.page_path)}[/bold]; the network is a toy, of no use on real photos")
    note(f"next: [bold]seglab prepare FOLDER data --task {escape(task)}[/bold] with photos and masks of your own")
