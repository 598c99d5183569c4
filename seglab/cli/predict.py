"""``seglab predict``: masks of photos."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from seglab.cli.options import (
    BnOption,
    CompileOption,
    DeviceOption,
    EngineOption,
    FidelityOption,
    JsonOption,
    PrecisionOption,
    ShardOption,
    TtaOption,
    model_option,
    task_option,
)
from seglab.cli.photos import (
    AllowEmptyOption,
    AllowTruncatedOption,
    BatchSizeOption,
    DryRunOption,
    FailFastOption,
    KeepExtOption,
    MaxPixelsOption,
    OverwriteOption,
    PhotosArgument,
    SkipExistingOption,
    TileOption,
    foresee,
    make_terms,
    out_option,
    report,
)

__all__ = ["predict"]


def predict(
    photos: PhotosArgument,
    task: Annotated[str | None, task_option("the model's")] = None,
    model: Annotated[str | None, model_option("what comes with seglab for --task")] = None,
    out: Annotated[Path | None, out_option("seglab-masks/")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            "-f",
            help="palette, ids, overlay, split (a mask a class), probs (.npz), instances, people; for all photos"
            " together coco, coco-polygons, rle (.csv); repeatable.",
            metavar="NAME",
            show_default="palette",
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep",
            help="Classes or regions to keep, with commas; others become background.",
            metavar="CLASS",
            show_default="all",
        ),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option("--drop", help="Classes or regions that become background, with commas.", metavar="CLASS"),
    ] = None,
    min_area: Annotated[
        str,
        typer.Option(
            "--min-area",
            help="Areas of fewer pixels (50), or a smaller share (0.1%), join what is next to them.",
            metavar="N|P%",
        ),
    ] = "0",
    instances: Annotated[
        bool,
        typer.Option(
            "--instances", help="Tell people apart: by outlines if the model finds them, else by what hangs together."
        ),
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
    allow_truncated: AllowTruncatedOption = False,
    allow_empty: AllowEmptyOption = False,
    shard: ShardOption = None,
    dry_run: DryRunOption = False,
) -> int:
    """Write what class each pixel of photos has, at the photos' own size.

    [bold]seglab predict --model runs/a photos/ -o masks/[/bold]

    [bold]seglab predict --model runs/a photo.jpg -o mask.png[/bold]

    [bold]seglab predict --model runs/a photos/ --format ids --format overlay --json > areas.jsonl[/bold]

    [bold]seglab predict --model runs/a photos/ --format coco --instances --min-area 0.1% --skip-existing[/bold]

    [bold]seglab predict --model runs/clothes "photos/*.jpg" --format split --keep upper_body,full_body[/bold]

    [bold]seglab predict --model runs/a huge.tif --tile 1024 --tta flip[/bold]

    [bold]cat photo.jpg | seglab predict --model runs/a - -o - > mask.png[/bold]

    [bold]seglab predict --model runs/a @list.txt --shard 2/4 -o masks/[/bold]

    Masks are PNGs that show the task's colours and read back as class ids; legend.json beside them says which is which.
    The tree of a folder is kept. The first format has the photo's name, a.png; each further one adds its own,
    a.overlay.jpg. Without -o they go to seglab-masks/. Masks of an earlier run are replaced, other files are not. A
    photo that fails is named at the end, the others are done, and the exit code is 1.

    Files for all photos together are written at the end; a run that was interrupted is continued with --skip-existing,
    and parts (--shard) have files of their own until a run without --shard and with --skip-existing joins them.
    """
    from seglab.device import choose_device
    from seglab.engines import EngineChoice

    choice = EngineChoice(engine, precision, compile)
    chosen = choose_device(device, with_torch=choice.may_use_torch)
    foresee(photos, task, model, chosen, choice)

    from seglab.inference.manner import Manner
    from seglab.inference.model import choose_model
    from seglab.inference.predict import predict as prepare
    from seglab.inference.selection import parse_selection
    from seglab.inference.sinks import DEFAULT_FORMATS

    terms = make_terms(
        out, choice, json=json, batch_size=batch_size, skip_existing=skip_existing, overwrite=overwrite,
        keep_ext=keep_ext, max_pixels=max_pixels, tile=tile, shard=shard, dry_run=dry_run,
        allow_truncated=allow_truncated, allow_empty=allow_empty,
    )  # fmt: skip
    selection = parse_selection(keep or (), drop or (), min_area, instances=instances)
    found = partial(choose_model, task, model, Manner(fidelity, bn, tta))
    run = prepare(photos, found, chosen, terms, formats=formats or DEFAULT_FORMATS, selection=selection)
    return report(run, json=json, fail_fast=fail_fast)
