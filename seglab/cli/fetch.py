"""``seglab fetch``: datasets and published checkpoints from where their authors put them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seglab.cli.console import escape, note, print_json
from seglab.cli.options import JsonOption
from seglab.cli.transfers import size_text, transfer
from seglab.errors import UsageError

if TYPE_CHECKING:
    from seglab.data.fetch import Fetched
    from seglab.data.fetching.registry import Registry, Row, Source

__all__ = ["fetch"]


def fetch(
    name: Annotated[str | None, typer.Argument(help="A dataset or checkpoint of the list.", metavar="NAME")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help=r"The folder it becomes. \[default: in SEGLAB_CACHE]", metavar="DIR"),
    ] = None,
    from_path: Annotated[
        Path | None, typer.Option("--from", help="A file that you downloaded yourself.", metavar="FILE")
    ] = None,
    registry: Annotated[
        Path | None, typer.Option("--registry", help="Rows of your own (TOML).", metavar="FILE.toml")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; no network.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network; also SEGLAB_OFFLINE=1.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read what is here again, and compare.")] = False,
    keep_archive: Annotated[bool, typer.Option("--keep-archive", help="Keep the archive beside its content.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Bring it anew and replace what fetch left there.")] = False,
    json: JsonOption = False,
) -> None:
    """Bring a dataset or a published checkpoint here: resumed, checked, unpacked safely, with its origin noted.

    [bold]seglab fetch[/bold] lists what there is, with sizes, licences and logins

    [bold]seglab fetch human-segmentation --out downloads/people[/bold]

    [bold]seglab fetch helen --from ~/Downloads/helenstar_release.7z[/bold]

    [bold]seglab fetch imaterialist --dry-run[/bold]

    An interrupted download goes on with the same command; what is here already is left alone. No other command uses
    the network. Kaggle needs its own login: `kaggle auth login`, or a token in ~/.kaggle/access_token.
    """
    from seglab.data.fetch import fetch as run
    from seglab.data.fetch import plan
    from seglab.data.fetch import verify as check
    from seglab.data.fetching.registry import find_row, load_registry

    rows = load_registry(registry)
    if name is None:
        if out or from_path or dry_run or verify or force or keep_archive:
            raise UsageError("no name is given, so there is nothing to fetch", "`seglab fetch` lists the names")
        return _show_list(rows, json)
    row = find_row(rows, name)
    if dry_run:
        return _show_plan(row, plan(row, out), json)
    done = check(row, out, transfer) if verify else run(
        row, out=out, from_path=from_path, offline=offline, force=force, keep_archive=keep_archive,
        meter=transfer, say=lambda text: note(escape(text)),
    )  # fmt: skip
    _tell(done, verified=verify)
    if json:
        print_json(done.to_dict())
    return None


def _show_list(rows: "Registry", json: bool) -> None:
    from seglab.data.fetching.places import SOURCE_NAME, default_dir

    here = {name: (default_dir(row) / SOURCE_NAME).is_file() for name, row in rows.items()}
    if json:
        print_json([row.to_dict() | {"dir": str(default_dir(row)), "here": here[name]} for name, row in rows.items()])
        return
    for kind in ("dataset", "checkpoint", "encoder"):
        _print_rows(f"{kind}s", [(row, here[name]) for name, row in rows.items() if row.kind == kind])
    note("[bold]seglab fetch NAME[/bold] brings one; [bold]seglab fetch NAME --dry-run[/bold] says more about it")


def _print_rows(title: str, rows: "list[tuple[Row, bool]]") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 200
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for column in ("name", "task", "size", "from", "licence", "commercial", "login", "here"):
        table.add_column(column, justify="right" if column == "size" else "left", no_wrap=column == "name")
    for row, here in rows:
        size = size_text(row.bytes) if row.bytes else "?"
        cells = (row.name, row.task, size, _places(row), row.licence, row.commercial, row.login, "yes" if here else "")
        table.add_row(*(escape(cell) for cell in cells))
    console.print(table)


def _places(row: "Row") -> str:
    """Return the sources in the order of use, each place once, the dead ones marked."""
    names = [source.place + (" (dead)" if source.dead else "") for source in row.sources if source.way != "page"]
    return ", ".join(dict.fromkeys(names))


def _show_plan(row: "Row", values: dict[str, Any], json: bool) -> None:
    if json:
        print_json(values)
        return
    size = "unknown"
    if row.bytes:
        size = f"{size_text(row.bytes)}, takes {size_text(values['needed_bytes'])} of disk in between"
    login = f"{row.login}: {'found' if values['login_found'] else 'none found'}" if row.login else ""
    lines = {
        "what": f"{row.kind}: {row.title}",
        "origin": row.origin,
        "licence": f"{row.licence}; commercial use: {row.commercial}{row.terms and f' ({row.terms})'}",
        "task": row.task,
        "size": f"{size}; the disk has {size_text(values['free_bytes'])} free",
        "login": login,
        "into": values["dir"] + (" (here already)" if values["here"] else ""),
        "note": row.note,
    }
    note(f"[bold]{escape(row.name)}[/bold]: nothing is downloaded now")
    for title, text in lines.items():
        if text:
            note(f"{title:>9}  {escape(text)}")
    for number, source in enumerate(row.sources, start=1):
        note(f"{f'source {number}':>9}  {escape(_source_text(source))}")
    for command in row.next:
        note(f"{'next':>9}  {escape(command.replace('{path}', values['dir']))}")


def _source_text(source: "Source") -> str:
    state = f"dead {source.dead}" if source.dead else "by hand" if source.way == "page" else ""
    known = next((f"{kind} {getattr(source, kind)}" for kind in ("sha256", "md5") if getattr(source, kind)), "")
    return " · ".join(text for text in (source.url, source.file, known, state, source.note) if text)


def _tell(done: "Fetched", *, verified: bool) -> None:
    values = done.to_dict()
    what = f"{values['files']} files, {size_text(values['unpacked_bytes'])}" if values["files"] > 1 else size_text(
        values["unpacked_bytes"]
    )  # fmt: skip
    verb = "verified, byte for byte" if verified else "here already, nothing to do" if done.unchanged else "brought"
    note(f"[bold]{escape(done.row.name)}[/bold] {verb}: {escape(done.path)} ({what})")
    if not done.unchanged:
        terms = f" ({done.row.terms})" if done.row.terms else ""
        note(escape(f"licence: {done.row.licence}; commercial use: {done.row.commercial}{terms}"))
    for command in done.next:
        note(f"next: [bold]{escape(command)}[/bold]")
