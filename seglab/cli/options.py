"""Options that several subcommands share, written once."""

from typing import Annotated, Any

import typer

from seglab.errors import UsageError

__all__ = [
    "BnOption",
    "CompileOption",
    "DeviceOption",
    "EngineOption",
    "FidelityOption",
    "ForceOption",
    "JsonOption",
    "PrecisionOption",
    "SeedOption",
    "ShardOption",
    "TaskOption",
    "TtaOption",
    "WorkersOption",
    "model_option",
    "size_hw_of",
    "task_option",
]


def task_option(default: str | bool = True) -> Any:
    """Return ``--task``.

    Args:
        default: What is said to be taken without it; True says the value itself.
    """
    help = "person, face, clothes, body, parsing, or a TOML file of your own."
    return typer.Option("--task", "-t", help=help, metavar="TASK", show_default=default)


def model_option(default: str | bool = True) -> Any:
    """Return ``--model``; ``default`` as for :func:`task_option`."""
    help = "A model: a run or bundle directory, an .onnx file, or a published checkpoint (.pth)."
    return typer.Option("--model", "-m", help=help, metavar="MODEL", show_default=default)


TaskOption = Annotated[str, task_option()]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=0, help="Threads.", show_default="the CPUs of this process")
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", help="auto, cpu, cuda, cuda:N or mps.", metavar="DEVICE", show_default="SEGLAB_DEVICE, or auto"
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine", help="auto, onnxruntime, torch, or openvino (an extra). The choice is said.", metavar="ENGINE"
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option("--precision", help="fp32, bf16, fp16 (GPU), or auto: fp32, everywhere the same.", metavar="NAME"),
]
CompileOption = Annotated[
    bool, typer.Option("--compile", help="Let torch compile the network: takes minutes, pays on long runs.")
]
FidelityOption = Annotated[
    str,
    typer.Option(
        "--fidelity",
        help="For published weights: seglab, or original, which does with photo and mask what their own code does.",
        metavar="NAME",
    ),
]
BnOption = Annotated[
    str | None,
    typer.Option(
        "--bn",
        help="Normalise by running statistics, or by the photo's own (batch; torch only).",
        metavar="NAME",
        show_default="running, but with --fidelity original as published",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is drawn at random.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
TtaOption = Annotated[
    str,
    typer.Option(
        "--tta",
        help="Look again and average: flip (mirrored too), multiscale (three sizes and mirrored).",
        metavar="NAME",
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option("--shard", help="Only a part, e.g. 2/8.", metavar="I/N", show_default="torchrun's, or everything"),
]


def size_hw_of(text: str, *others: str) -> tuple[int, int]:
    """Return the height and width that the value of a ``--size`` stands for: ``256``, or ``320x240``.

    Args:
        text: What the user wrote.
        others: What else the option takes, for the hint.

    Raises:
        UsageError: If it is no size.
    """
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and (width or height).isdecimal()) or text.lower().endswith("x"):
        forms = ("pixels as 256", "height x width as 320x240", *others)
        raise UsageError(f"`{text}` is not a size", f"write {', '.join(forms[:-1])}, or {forms[-1]}")
    return int(height), int(width or height)
