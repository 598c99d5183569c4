"""``seglab predict``: masks of photos."""

from functools import partial
from typing import Annotated

import typer

from seglab.cli.options import (
    BnOption,
    CompileOption,
    DeviceOption,
    EngineOption,
    FidelityOption,
    JsonOption,
    ModelOption,
    OptionalTaskOption,
    PrecisionOption,
)
from seglab.cli.photos import (
    BatchSizeOption,
    FailFastOption,
    KeepExtOption,
    MaxPixelsOption,
    OutOption,
    OverwriteOption,
    PhotosArgument,
    SkipExistingOption,
    report,
)

__all__ = ["predict"]


def predict(
    photos: PhotosArgument,
    task: OptionalTaskOption = None,
    model: ModelOption = None,
    out: OutOption = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            "-f",
            help="palette, ids, overlay, or for models of people's outlines instances and people; repeatable.",
            metavar="NAME",
            show_default="palette",
        ),
    ] = None,
    json: JsonOption = False,
    device: DeviceOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    compile: CompileOption = False,
    fidelity: FidelityOption = "seglab",
    bn: BnOption = None,
    batch_size: BatchSizeOption = 1,
    skip_existing: SkipExistingOption = False,
    overwrite: OverwriteOption = False,
    keep_ext: KeepExtOption = False,
    fail_fast: FailFastOption = False,
    max_pixels: MaxPixelsOption = None,
) -> int:
    """Write what class each pixel of photos has, at the photos' own size.

    [bold]seglab predict --model runs/a photos/ -o masks/[/bold]

    [bold]seglab predict --model runs/a photo.jpg -o mask.png[/bold]

    [bold]seglab predict --model runs/a photos/ --format ids --format overlay --json > areas.jsonl[/bold]

    Masks are PNGs that show the task's colours and read back as class ids; legend.json beside them says which is which.
    The tree of a folder is kept. The first format has the photo's name, a.png; each further one adds its own,
    a.overlay.jpg. Without -o they go to seglab-masks/. Masks of an earlier run are replaced, other files are not. A
    photo that fails is named at the end, the others are done, and the exit code is 1.
    """
    from seglab.device import choose_device
    from seglab.engines import EngineChoice
    from seglab.inference.manner import Manner
    from seglab.inference.model import choose_model
    from seglab.inference.predict import predict as prepare
    from seglab.inference.sinks import DEFAULT_FORMATS

    choice = EngineChoice(engine, precision, compile)
    chosen = choose_device(device, with_torch=choice.may_use_torch)
    run = prepare(
        photos, partial(choose_model, task, model, Manner(fidelity, bn)), chosen, out=out,
        formats=formats or DEFAULT_FORMATS, engine=choice, batch_size=batch_size, measure=json, keep_ext=keep_ext,
        skip_existing=skip_existing, overwrite=overwrite, max_pixels=max_pixels,
    )  # fmt: skip
    return report(run, json=json, fail_fast=fail_fast)
