"""``seglab predict``: masks of photos."""

from functools import partial
from typing import Annotated

import typer

from seglab.cli.options import DeviceOption, EngineOption, JsonOption, ModelOption, OptionalTaskOption
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
            "--format", "-f", help="palette, ids or overlay; repeatable.", metavar="NAME", show_default="palette"
        ),
    ] = None,
    json: JsonOption = False,
    device: DeviceOption = None,
    engine: EngineOption = "auto",
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
    from seglab.inference.model import choose_model
    from seglab.inference.predict import predict as prepare
    from seglab.inference.sinks import DEFAULT_FORMATS

    chosen = choose_device(device)
    run = prepare(
        photos, partial(choose_model, task, model), chosen, out=out, formats=formats or DEFAULT_FORMATS, engine=engine,
        batch_size=batch_size, measure=json, keep_ext=keep_ext, skip_existing=skip_existing, overwrite=overwrite,
        max_pixels=max_pixels,
    )  # fmt: skip
    return report(run, json=json, fail_fast=fail_fast, device=f"{chosen.name} ({chosen.reason})")
