"""Options that several subcommands share, written once."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "DataOption",
    "DeviceOption",
    "EngineOption",
    "ForceOption",
    "JsonOption",
    "ModelOption",
    "SeedOption",
    "TaskOption",
]

TaskOption = Annotated[
    str,
    typer.Option(
        "--task",
        "-t",
        help="person, face, clothes, body, parsing, or a TOML file of your own.",
        metavar="TASK",
    ),
]
OptionalTaskOption = Annotated[
    str | None,
    typer.Option(
        "--task",
        "-t",
        help="person, face, clothes, body, parsing, or a TOML file of your own.",
        metavar="TASK",
    ),
]
DataOption = Annotated[Path, typer.Option("--data", "-d", help="A prepared dataset.", metavar="DIR")]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="A model: a run or bundle directory, or an .onnx file.", metavar="MODEL"),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", help="auto, cpu, cuda, cuda:N or mps.", metavar="DEVICE", show_default="SEGLAB_DEVICE, or auto"
    ),
]
EngineOption = Annotated[str, typer.Option("--engine", help="auto, torch or onnxruntime.", metavar="ENGINE")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is drawn at random.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
