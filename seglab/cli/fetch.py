"""``seglab fetch``: datasets and published checkpoints from where their authors put them."""

import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seglab.cli.console import escape, note, print_json, stderr
from seglab.cli.options import JsonOption
from seglab.cli.transfers import size_text, transfer
from seglab.errors import UsageError

if TYPE_CHECKING:
    from seglab.data.fetch import Fetched
    from seglab.data.fetching.registry import Row, Source

__all__ = ["fetch"]

TITLE_COLUMNS = 9


def fetch(
    name: Annotated[str | None, typer.Argument(help="A dataset or checkpoint of the list.", metavar="NAME")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The folder it becomes.", metavar="DIR", show_default="in SEGLAB_CACHE"),
    ] = None,
    from_path: Annotated[
        Path | None, typer.Option("--from", help="A file that you downloaded yourself.", metavar="FILE")
    ] = None,
    registry: Annotated[
        Path | None, typer.Option("--registry", help="Rows of your own (TOML), as above.", metavar="FILE.toml")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; no network.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network; also SEGLAB_OFFLINE=1.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read what is here again, and compare.")] = False,
    keep_archive: Annotated[bool, typer.Option("--keep-archive", help="Keep the archive beside its content.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Bring it anew and replace what fetch left there.")] = False,
    json: JsonOption = False,
) -> None:
    r"""Bring a dataset or a published checkpoint here: resumed, checked, unpacked safely, with its origin noted.

    [bold]seglab fetch[/bold] lists what there is, with sizes, licences and logins

    [bold]seglab fetch human-segmentation --out downloads/people[/bold]

    [bold]seglab fetch helen --from ~/Downloads/helenstar_release.7z[/bold]

    [bold]seglab fetch imaterialist --dry-run[/bold]

    An interrupted download goes on with the same command; what is here already is left alone.
    A source that fails, or sends a damaged or unsafe archive, is followed by the next one of its row.
    If all fail: exit code 4 where one failed in the network (later may help), 3 where all that came was bad.
    No other command uses the network.
    Kaggle needs its own login: `kaggle auth login`, or a token in ~/.kaggle/access_token.

    [bold]seglab fetch our-faces --registry own.toml[/bold] fetches a row of your own; this is a whole own.toml:

    \[our-faces]
    kind = "dataset"  # or "checkpoint": weights, as .pth, .onnx, .safetensors
    title = "our faces, 2026"
    origin = "https://wiki.example.org/faces"
    bytes = 120_000_000  # roughly; unpacked_bytes = what it becomes
    licence = "CC-BY-4.0"
    commercial = "yes"  # or "no", "unclear"; terms = "says more"
    next = \["seglab prepare {path} prepared/faces"]  # {path}: where it lies
    [\[our-faces.sources]]  # as many as there are, tried in this order
    url = "https://files.example.org/faces.zip"
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    [\[our-faces.sources]]
    kaggle-dataset = "owner/faces"
    note = "a mirror"
    [\[our-faces.sources]]
    drive = "1AbCdEfGhIjKlMnOp"
    file = "faces.zip"
    dead = "since 2025"
    [\[our-faces.sources]]
    page = "https://wiki.example.org/faces"  # by hand, then --from

    Only kind, title and sources are needed. A source may also have md5 and bytes (its exact length).
    `unpack = true` is for weights in an archive; drive-folder and kaggle-competition are the other kinds of source.
    """
    from seglab.data.fetching.registry import find_row, load_registry

    _check_options(name, verify, {
        "--out": out, "--from": from_path, "--dry-run": dry_run, "--verify": verify, "--force": force,
        "--keep-archive": keep_archive,
    })  # fmt: skip
    if name is None:
        return _show_list(registry, json)
    row = find_row(load_registry(registry), name)
    options: dict[str, Any] = {
        "out": out, "from_path": from_path, "offline": offline, "force": force, "keep_archive": keep_archive,
    }  # fmt: skip
    if dry_run:
        return _show_plan(row, options, json)
    return _bring(row, options, verify, json)


def _check_options(name: str | None, verify: bool, given: dict[str, Any]) -> None:
    """Refuse options that would be ignored."""
    if name is None and any(given.values()):
        raise UsageError("no name is given, so there is nothing to fetch", "`seglab fetch` lists the names")
    others = [option for option in given if given[option] and option not in ("--verify", "--out")]
    if verify and others:
        raise UsageError(
            f"`--verify` only reads what is here, it does not go with `{others[0]}`", "leave one of them out"
        )


def _show_list(registry: Path | None, json: bool) -> None:
    from seglab.cli.registry_table import print_registry
    from seglab.data.fetching.listing import rows
    from seglab.data.fetching.places import default_dir
    from seglab.data.fetching.registry import load_registry

    listed = rows(own_path=registry)
    if not json:
        return print_registry(listed)
    table = load_registry(registry)
    return print_json([
        table[row.name].to_dict() | {"dir": str(default_dir(table[row.name]))} | row.to_dict() for row in listed
    ])  # fmt: skip


def _bring(row: "Row", options: dict[str, Any], verify: bool, json: bool) -> None:
    from seglab.data.fetch import fetch as run
    from seglab.data.fetch import verify as check

    if verify:
        done = check(row, options["out"], transfer)
    else:
        done = run(row, **options, meter=transfer, say=lambda text: note(escape(text)))
    _tell(done, verified=verify)
    if json:
        print_json(done.to_dict())


def _show_plan(row: "Row", options: dict[str, Any], json: bool) -> None:
    from seglab.data.fetch import plan

    values = plan(row, **options)
    if json:
        return print_json(values)
    size = "unknown"
    if row.bytes:
        size = f"about {size_text(row.bytes)}"
    needed = f"takes {size_text(values['needed_bytes'])} of disk; " if values["needed_bytes"] else ""
    terms = f" ({row.terms})" if row.terms else ""
    note(f"[bold]{escape(row.name)}[/bold]: nothing is downloaded or written now")
    _lines("what", f"{row.kind}: {row.title}")
    _lines("origin", row.origin)
    _lines("licence", f"{row.licence}; commercial use: {row.commercial}{terms}")
    _lines("task", row.task)
    _lines("size", f"{size}; {needed}{size_text(values['free_bytes'])} are free")
    _lines("login", f"{row.login}: {'found' if values['login_found'] else 'none found'}" if row.login else "")
    _lines("note", row.note)
    for number, source in enumerate(row.sources, start=1):
        _lines(f"source {number}", _source_text(source))
    for number, step in enumerate(values["steps"], start=1):
        _lines("then" if number > 1 else "first", step)
    for command in row.next:
        note(
            f"[bold]{'next':>{TITLE_COLUMNS}}[/bold]  {escape(command.replace('{path}', shlex.quote(values['path'])))}"
        )
    for obstacle in values["obstacles"]:
        _lines("but", obstacle)
    return None


def _lines(title: str, text: str) -> None:
    """Write a titled text, wrapped between words where it is a terminal that says how wide it is."""
    if not text:
        return
    width = max(stderr().width - TITLE_COLUMNS - 2, 30) if stderr().is_terminal else 10_000
    first, *others = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    note(f"[bold]{title:>{TITLE_COLUMNS}}[/bold]  {escape(first)}")
    for line in others:
        note(f"{'':>{TITLE_COLUMNS}}  {escape(line)}")


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
