"""``seglab export``: a model as a graph for other programs, or as a small bundle to ship."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from seglab.cli.console import escape, note, print_json
from seglab.cli.options import ForceOption, JsonOption, size_hw_of
from seglab.cli.transfers import size_text
from seglab.errors import DataError, UsageError, unknown
from seglab.notation import parse_toml, read_given

if TYPE_CHECKING:
    from seglab.models.export import Export, ExportOptions

__all__ = ["export"]

_FORMATS: Final = ("onnx", "bundle")
_ABOUT: Final = ("licence", "commercial", "terms")
"""What ``--about`` may say."""


def export(
    model: Annotated[str, typer.Argument(help="A run, a bundle, or a task that comes with seglab.", metavar="MODEL")],
    out: Annotated[
        Path | None, typer.Argument(help="The graph, or the bundle.", metavar="[OUT]", show_default="in the bundle")
    ] = None,
    format: Annotated[str, typer.Option("--format", help="onnx or bundle.", metavar="NAME")] = _FORMATS[0],
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            "-s",
            help="Fixed HxW (or S) for one picture at a time, or dynamic.",
            metavar="HxW|S|dynamic",
            show_default="dynamic where the network allows it",
        ),
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Compute in float16; input and output stay float32.")] = False,
    profile: Annotated[
        str, typer.Option("--profile", help="seglab: logits. rembg: a mask for its u2net_custom.", metavar="NAME")
    ] = "seglab",
    about: Annotated[
        Path | None,
        typer.Option("--about", help="With --format bundle: TOML with licence, commercial and terms.", metavar="FILE"),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Compare with torch on drawn photos before writing.")
    ] = True,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Write a model as an ONNX graph that carries its task, classes and preprocessing.

    [bold]seglab export runs/a[/bold]

    [bold]seglab export runs/a small.onnx --size 256x192 --fp16[/bold]

    [bold]seglab export runs/a ~/.u2net/people.onnx --profile rembg[/bold]

    [bold]rembg i -m u2net_custom -x '{"model_path": "~/.u2net/people.onnx"}' photo.jpg cut.png[/bold]

    [bold]seglab export runs/a shipped/person --format bundle[/bold]

    In rembg's profile the mask is the sum of the task's foreground classes. rembg makes every photo 320x320, whatever
    its shape, and brightens dark ones; what the model wants besides is done inside the graph.

    A bundle to ship has weights and graph in half the bytes: stored in float16, computed in float32.
    """
    from seglab.device import import_torch
    from seglab.models.bundle import find_model

    if format not in _FORMATS:
        raise unknown("format", format, _FORMATS)
    path = find_model(model)
    import_torch()
    from seglab.models.export import ExportOptions, export_bundle, export_model

    if format == "bundle":
        _refuse_graph_options(size=size is not None, fp16=fp16, profile=profile != "seglab")
        options = ExportOptions(compact=True)
        done = export_bundle(path, _folder(out), _about(about), verify=verify, force=force)
    else:
        if about is not None:
            raise UsageError("`--about` is for `--format bundle`")
        size_hw = None if size in (None, "dynamic") else size_hw_of(str(size), "dynamic")
        options = ExportOptions(profile=profile, size_hw=size_hw, must_be_free=size == "dynamic", half=fp16)
        done = export_model(path, out or _default_path(model, path, options), options, verify=verify, force=force)
    _tell(done, options, verify)
    if json:
        print_json(_values(done, options))


def _refuse_graph_options(**given: bool) -> None:
    names = [f"`--{name}`" for name, is_given in given.items() if is_given]
    if names:
        raise UsageError(f"{', '.join(names)}: not with `--format bundle`, whose graph takes any size in float32")


def _folder(out: Path | None) -> Path:
    if out is None:
        raise UsageError("`--format bundle` needs a folder", "seglab export MODEL FOLDER --format bundle")
    return out


def _about(path: Path | None) -> dict[str, str]:
    """Return what a file says of a bundle's terms."""
    if path is None:
        return {}
    try:
        values = parse_toml(read_given(path).decode())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read `{path}`: {error}") from error
    for name, value in values.items():
        if name not in _ABOUT:
            raise unknown("key", name, _ABOUT)
        if not isinstance(value, str):
            raise UsageError(f"`{name}` in `{path}` must be a text")
    if values.get("commercial", "yes") not in ("yes", "no", "unclear"):
        raise UsageError(f"`commercial` in `{path}` must be yes, no or unclear")
    return dict(values)


def _default_path(model: str, path: Path, options: "ExportOptions") -> Path:
    """Return where a graph goes: into the user's own bundle, and beside everything that seglab keeps itself."""
    from seglab.models.bundle import GRAPH_NAME

    if path.is_dir() and Path(model).exists():
        return path / f"{Path(GRAPH_NAME).stem}{options.suffix}.onnx"
    return Path(f"{Path(model).stem}{options.suffix}.onnx")


def _tell(done: "Export", options: "ExportOptions", verify: bool) -> None:
    side = "any size" if done.dynamic else "fixed size"
    note(f"[bold]{escape(done.path)}[/bold]: {size_text(done.num_bytes)}, {side}, {'fp16' if options.half else 'fp32'}")
    if done.reason:
        note(f"height and width are fixed, as the network cannot be exported with free ones: {escape(done.reason)}")
    if verify:
        what = "mask" if options.profile == "rembg" else "logits"
        equal = f"{_share(done.equal)} of label pixels equal"
        note(f"against torch, on drawn photos: {what} within {done.difference:.2g}, {equal}")
    else:
        note("not compared with torch")
    if options.profile == "rembg":
        note("rembg reads it from within ~/.u2net or U2NET_HOME only; `seglab export --help` has the command")
    else:
        note(f"next: seglab predict --model {escape(shlex.quote(str(done.path)))} PHOTOS")


def _share(equal: float) -> str:
    """Return a share that says 100% only of all."""
    text = f"{equal:.3%}" if equal < 1 else "100%"
    return "less than 100%" if text.startswith("100") and equal < 1 else text


def _values(done: "Export", options: "ExportOptions") -> dict[str, Any]:
    from seglab.notation import null_if_nan

    return {
        "path": str(done.path),
        "bytes": done.num_bytes,
        "profile": options.profile,
        "precision": "fp16" if options.half else "fp32",
        "dynamic": done.dynamic,
        "reason": done.reason,
        "difference": null_if_nan(done.difference),
        "equal": null_if_nan(done.equal),
    }
