"""``seglab cutout``: people without their background."""

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
    ShardOption,
    TtaOption,
)
from seglab.cli.photos import (
    BatchSizeOption,
    DryRunOption,
    FailFastOption,
    KeepExtOption,
    MaxPixelsOption,
    OutOption,
    OverwriteOption,
    PhotosArgument,
    SkipExistingOption,
    TileOption,
    make_terms,
    report,
)

__all__ = ["cutout"]


def cutout(
    photos: PhotosArgument,
    task: OptionalTaskOption = None,
    model: ModelOption = None,
    out: OutOption = None,
    keep: Annotated[
        str,
        typer.Option("--keep", help="Classes or regions to keep, with commas.", show_default="the task's foreground"),
    ] = "",
    invert: Annotated[bool, typer.Option("--invert", help="Keep everything else instead.")] = False,
    edge: Annotated[
        str,
        typer.Option(
            "--edge", help="soft (follows the photo), hard, or feather:N (fades over N pixels).", metavar="EDGE"
        ),
    ] = "soft",
    background: Annotated[
        str, typer.Option("--background", help="transparent, a colour name or '#rrggbb'.", metavar="COLOUR")
    ] = "transparent",
    mask_only: Annotated[bool, typer.Option("--mask-only", help="Write the alpha as a grey PNG.")] = False,
    keep_exif: Annotated[
        bool, typer.Option("--keep-exif", help="Keep camera, time and place of the photo; left out otherwise.")
    ] = False,
    tile: TileOption = None,
    tta: TtaOption = "none",
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
    shard: ShardOption = None,
    dry_run: DryRunOption = False,
) -> int:
    """Cut people out of photos: PNGs with transparency, at the photos' own size.

    [bold]seglab cutout --model runs/a photo.jpg[/bold]   writes photo.cutout.png beside it

    [bold]seglab cutout --model runs/a photos/ -o cutouts/[/bold]

    [bold]seglab cutout --model runs/a photo.jpg -o portrait.jpg --background white[/bold]

    [bold]seglab cutout --model runs/clothes photos/ --keep upper_body,full_body[/bold]

    [bold]cat photo.jpg | seglab cutout --model runs/a - -o - > cutout.png[/bold]

    Without -o, single files are answered beside themselves, and folders, patterns and lists go to seglab-cutouts/.
    Colour profiles and resolution are kept, other metadata only with --keep-exif. Edges follow the photo's own, and the
    background's colour is taken out of them. Where nothing is found, everything is transparent, and that is said. A
    photo that fails is named at the end, the others are done, and the exit code is 1.
    """
    from seglab.device import choose_device
    from seglab.engines import EngineChoice
    from seglab.inference.cutout import cutout as prepare
    from seglab.inference.cutout import parse_look
    from seglab.inference.manner import Manner
    from seglab.inference.model import choose_model
    from seglab.tasks import DEFAULT_CUTOUT_TASK

    look = parse_look(edge=edge, background=background, keep=keep, invert=invert, mask_only=mask_only)
    choice = EngineChoice(engine, precision, compile)
    chosen = choose_device(device, with_torch=choice.may_use_torch)
    task = task or (DEFAULT_CUTOUT_TASK if model is None else None)
    terms = make_terms(
        out, choice, json=json, batch_size=batch_size, skip_existing=skip_existing, overwrite=overwrite,
        keep_ext=keep_ext, max_pixels=max_pixels, tile=tile, shard=shard, dry_run=dry_run, keep_exif=keep_exif,
    )  # fmt: skip
    run = prepare(photos, partial(choose_model, task, model, Manner(fidelity, bn, tta)), chosen, look, terms)
    return report(run, json=json, fail_fast=fail_fast)
