"""``seglab models``: what there is to train or to use, and all that is known of one of them."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from seglab.cli.console import escape, note, print_json
from seglab.cli.options import ForceOption, JsonOption, task_option
from seglab.cli.transfers import size_text
from seglab.errors import DataError

if TYPE_CHECKING:
    from seglab.models.catalogue import Family, Weights
    from seglab.models.description import Description
    from seglab.models.graphs import Port
    from seglab.models.zoo import ZooRow

__all__ = ["models"]

models = typer.Typer(add_completion=False, no_args_is_help=False)

_NARROW: Final = 72
"""Columns of a terminal below which the rows of a table come one below the other."""
_WIDTH: Final = 13
"""Of the names before the values, in characters."""


@models.callback(invoke_without_command=True)
def list_models(
    context: typer.Context,
    family: Annotated[
        str | None, typer.Option("--family", "-f", help="Only this family, network by network.", metavar="NAME")
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="Network by network, not by family.")] = False,
    json: JsonOption = False,
) -> None:
    """List the networks to train and the weights to use, or say all about one of them.

    [bold]seglab models[/bold]

    [bold]seglab models --family fpn[/bold]

    [bold]seglab models show runs/a[/bold]

    [bold]seglab models import model.pth mine[/bold]

    Weights are of three kinds: yours (`seglab train`), those that come with seglab, and those that others published
    (`seglab fetch`). Nothing here needs the network.
    """
    if context.invoked_subcommand is not None:
        return
    from seglab.models.catalogue import families, family_rows, weights
    from seglab.models.zoo import rows

    found = family_rows(family) if family else rows()
    trained = [] if family else weights()
    if json:
        return print_json(_json(found, trained))
    if family or all:
        _show_networks(found)
    else:
        _show_families(families())
    if not family:
        _show_weights(trained)
    note("[bold]seglab models show NAME[/bold] says more; --family fpn, or --all, lists all networks")


@models.command()
def show(
    model: Annotated[
        str, typer.Argument(help="A run, bundle, .onnx, checkpoint, or a name of the list.", metavar="NAME|FILE|DIR")
    ],
    json: JsonOption = False,
) -> None:
    """Say all that is known of a model: task, preprocessing, metrics, training, versions, licences, files.

    [bold]seglab models show runs/a[/bold]

    [bold]seglab models show unet-resnet34[/bold]

    [bold]seglab models show downloads/u2net.pth --json[/bold]

    A checkpoint by others is read whole; one that cannot be used is described too, and the exit code is 3.
    """
    from seglab.models.description import describe

    found = describe(model)
    if json:
        print_json(found.to_dict())
    else:
        for title, text in _lines(found):
            note(f"[bold]{title:>{_WIDTH}}[/bold]  {escape(text)}")
    if found.checkpoint is not None and found.checkpoint["reason"]:
        raise DataError(found.checkpoint["reason"], found.checkpoint["hint"])


@models.command("import")
def import_model(
    file: Annotated[
        str, typer.Argument(help="A checkpoint that others published, or its name in the list.", metavar="FILE")
    ],
    out: Annotated[Path, typer.Argument(help="The bundle to make.", metavar="OUT")],
    task: Annotated[str | None, task_option("as it is published")] = None,
    graph: Annotated[bool, typer.Option("--graph/--no-graph", help="Export model.onnx too.")] = True,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Turn a checkpoint that others published into a bundle. Nothing in the file is executed.

    [bold]seglab models import downloads/u2net_human_seg.pth people[/bold]

    [bold]seglab models import cloth-u2net clothes && seglab predict --model clothes photo.jpg[/bold]

    The network is recognised by its tensors. --task says what the classes are, where nobody published one of so many.
    """
    from seglab.models.bundle import find_model
    from seglab.models.description import describe
    from seglab.models.originals import import_checkpoint
    from seglab.tasks import load_task

    made = import_checkpoint(find_model(file), out, task=load_task(task) if task else None, graph=graph, force=force)
    found = describe(str(made))
    config = found.config
    name = "" if config is None else f": {config.model}, task {config.task.name}"
    note(f"[bold]{escape(made)}[/bold]{escape(name)}, {'with' if found.form else 'without'} a graph")
    note(f"next: seglab predict --model {escape(made)} PHOTOS")
    if json:
        print_json(found.to_dict())


def _json(networks: "Sequence[ZooRow]", trained: "Sequence[Weights]") -> dict[str, Any]:
    from dataclasses import asdict

    return {"networks": [asdict(row) for row in networks], "weights": [row.to_dict() for row in trained]}


def _show_families(families: "Sequence[Family]") -> None:
    cells = []
    for family in families:
        num, num_free = len(family.rows), family.num_commercial
        cells.append(
            (
                family.pattern, str(num), _span([row.params and row.params / 1e6 for row in family.rows]),
                _span([row.gflop for row in family.rows]), _span([row.size for row in family.rows]),
                ", ".join(dict.fromkeys(name for row in family.rows for name in _licences(row) if row.commercial)),
                "yes" if num_free == num else f"{num_free} of {num}",
            )
        )  # fmt: skip
    _table(("networks to train", "no", "M param.", "GFLOP", "px", "code", "commercial"), cells, numbers=range(1, 5))


def _show_networks(rows: "Sequence[ZooRow]") -> None:
    cells = [
        (
            row.name, "?" if row.params is None else f"{row.params / 1e6:.1f}M", _number(row.gflop), str(row.size),
            f"{_short(row.code_licence)}{'' if row.commercial else ': no'}", _terms(row),
        )
        for row in rows
    ]  # fmt: skip
    _table(("network to train", "params", "GFLOP", "px", "code", "weights"), cells, numbers=range(1, 4))
    note("unless `no` or `unclear` follows, code and weights may be used commercially")


def _terms(row: "ZooRow") -> str:
    """Return the licence of a network's published weights, and whether it restricts commercial use."""
    if not row.weights_licence:
        return "-"
    restricted = "" if row.weights_commercial == "yes" else f": {row.weights_commercial}"
    return _short(row.weights_licence) + restricted


def _show_weights(rows: "Sequence[Weights]") -> None:
    cells = [
        (
            row.name, row.task or "-", "?" if row.bytes is None else size_text(row.bytes), row.licence, row.commercial,
            "here" if row.here else row.source.split(",")[0],
        )
        for row in rows
    ]  # fmt: skip
    _table(("weights to use", "task", "size", "licence", "commercial", "where"), cells, numbers=(2,))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Collection[int]) -> None:
    """Write a table to stderr that fits 80 columns; where there are far fewer, a paragraph a row.

    Names are never broken, licences are where there is no room.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from seglab.cli.tables import print_rows

    console = Console(stderr=True, highlight=False, emoji=False)
    if console.width < _NARROW:
        return print_rows(columns[0], columns, rows)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0))
    for position, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if position in numbers else "left"
        table.add_column(column, justify=justify, no_wrap=position == 0, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)
    console.print()
    return None


def _licences(row: "ZooRow") -> list[str]:
    """Return the licences of a network's code, without saying which part each is of."""
    return sorted({name.partition(" (")[0] for name in row.code_licence.split(", ")}, reverse=True)


def _short(licences: str) -> str:
    """Return licences without what is in brackets."""
    return ", ".join(name.partition(" (")[0] for name in licences.split(", "))


def _lines(found: "Description") -> list[tuple[str, str]]:
    """Return titles and texts, those without a text left out."""
    lines = [("model", found.name), ("kind", found.kind)]
    lines += [] if found.path is None or str(found.path) == found.name else [("path", str(found.path))]
    lines += _network_lines(found)
    lines += _config_lines(found)
    lines += _graph_lines(found)
    lines += _checkpoint_lines(found)
    lines += _weights_lines(found)
    if found.files:
        lines.append(("files", ", ".join(f"{name} {size_text(size)}" for name, size in found.files.items())))
    return [(title, text) for title, text in lines if text]


def _network_lines(found: "Description") -> list[tuple[str, str]]:
    row = found.network
    lines = []
    if row is not None:
        lines += [
            ("network", f"{row.name}: {row.description}"),
            ("code", f"{row.code_licence}; commercial use of the code: {'yes' if row.commercial else 'no'}"),
        ]
    if found.config is not None and found.config.published and found.weights is None:
        lines.append(("licence", "of the weights: the file does not say; ask where it was published (`seglab fetch`)"))
    if found.kind == "network" and row is not None:
        if row.params is not None and row.gflop is not None:
            lines.append(("size", f"{row.params / 1e6:.2f} M parameters, {_number(row.gflop)} GFLOP at {row.size} px"))
        lines.append(("train it", f"seglab train --task TASK --data DIR --model {row.name}"))
    for weights in found.published:
        if found.weights is None or weights.name != found.weights.name:
            terms = f"{weights.licence}; commercial use: {weights.commercial}"
            lines.append(("published", f"{weights.name}{' (here)' if weights.here else ''}: {weights.title}; {terms}"))
    if found.tensors is not None:
        values = found.tensors
        lines.append(("weights", f"{values['numbers']:,} {', '.join(values['kinds'])} in {values['tensors']} tensors"))
    return lines


def _config_lines(found: "Description") -> list[tuple[str, str]]:
    config = found.config
    if config is None:
        return []
    task, fitted = config.task, config.preprocess
    height, width = fitted.size_hw
    return [
        ("built with", _plain(config.model_args)),
        ("task", f"{task.name}{task.title and f': {task.title}'}"),
        ("classes", ", ".join(task.classes)),
        ("regions", ", ".join(task.regions)),
        ("cutout keeps", ", ".join(task.foreground)),
        ("input", f"{height}x{width}, {fitted.fit}; mean {_plain(fitted.mean)}, std {_plain(fitted.std)}"),
        *((f"on {split}", _scores(scores)) for split, scores in config.metrics.items()),
        ("data", _plain(config.data)),
        ("training", _plain(config.training)),
        ("versions", _plain(config.versions)),
        ("save id", config.save_id),
    ]


def _graph_lines(found: "Description") -> list[tuple[str, str]]:
    lines = []
    form = found.form
    if form is not None:
        numbers = f"{form.num_weights:,} {', '.join(form.kinds)} in {form.num_nodes} nodes"
        lines.append(("graph", f"{numbers}; opset {form.opset}, by {form.producer or 'an unknown program'}"))
        lines.append(("takes", ", ".join(map(_port, form.inputs))))
        lines.append(("gives", ", ".join(map(_port, form.outputs))))
    if found.export:
        lines.append(("exported for", f"{found.export.get('profile')}, {found.export.get('precision')}"))
    if found.graph_belongs is not None:
        belongs = "yes" if found.graph_belongs else "no: it is not used; `seglab export --force` writes it again"
        lines.append(("graph fits", belongs))
    return [*lines, ("but", found.problem)]


def _checkpoint_lines(found: "Description") -> list[tuple[str, str]]:
    known = found.checkpoint
    if known is None:
        return []
    numbers = f"{known['num_params']:,} {', '.join(known['dtypes'])} in {known['num_tensors']} tensors"
    lines = [("holds", f"{known['contents']} ({known['format']}), {numbers}")]
    if known["recognised"] is None:
        return lines
    lines += [("recognised", f"{known['title']}, of {known['repository']}"), ("note", known["note"])]
    return lines if known["reason"] else [*lines, ("bundle it", f"seglab models import {found.name} OUT")]


def _weights_lines(found: "Description") -> list[tuple[str, str]]:
    row = found.weights
    if row is None:
        return []
    size = "" if row.bytes is None else f" ({size_text(row.bytes)})"
    return [
        ("weights", f"{row.title}{size}, from {row.source}"),
        ("licence", f"{row.licence}; commercial use: {row.commercial}{row.terms and f' ({row.terms})'}"),
        ("use them" if row.here else "bring them", row.command),
    ]


def _port(port: "Port") -> str:
    return f"{port.name}, {port.kind} ({', '.join(map(str, port.shape))})"


def _scores(scores: Any) -> str:
    """Return the scores of a split: its means, then the IoU of each class."""
    if not isinstance(scores, dict):
        return _plain(scores)
    means = [f"{name} {_plain(value)}" for name, value in scores.items() if isinstance(value, float)]
    classes = scores.get("classes")
    each = classes.items() if isinstance(classes, dict) else ()
    ious = [f"{name} {_plain(values['iou'])}" for name, values in each if isinstance(values, dict) and "iou" in values]
    return ", ".join(means) + (f"; IoU: {', '.join(ious)}" if ious else "")


def _plain(value: Any) -> str:
    """Return a value for people: numbers short, nested tables in brackets."""
    if isinstance(value, dict):
        nested = {key: f"({_plain(one)})" if isinstance(one, dict) else _plain(one) for key, one in value.items()}
        return ", ".join(f"{key} {text}".strip() for key, text in nested.items())
    if isinstance(value, list | tuple):
        return " ".join(map(_plain, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return "undefined" if value is None else str(value)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}" if value >= 99.95 else f"{value:.1f}"


def _span(values: "Sequence[float | None]") -> str:
    """Return the least and the greatest of some numbers."""
    known = [value for value in values if value is not None]
    if not known:
        return "?"
    least, greatest = _number(min(known)), _number(max(known))
    if all(isinstance(value, int) for value in known):
        least, greatest = str(min(known)), str(max(known))
    return least if least == greatest else f"{least}-{greatest}"
