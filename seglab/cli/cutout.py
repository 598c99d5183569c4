"""``seglab cutout``: people without their background."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from seglab.cli.console import note
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

__all__ = ["cutout"]

KeepOption = Annotated[
    str,
    typer.Option(
        "--keep", help="Classes or regions to keep, with commas.", metavar="CLASS", show_default="the task's foreground"
    ),
]
EdgeOption = Annotated[
    str | None,
    typer.Option(
        "--edge", help="soft (follows the photo), hard, or feather:N (fades over N pixels).", metavar="EDGE",
        show_default="soft; hard with --threshold",
    ),
]  # fmt: skip
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--threshold", help="A hard edge at this probability, more than 0 and less than 1.", metavar="P",
        show_default="the likeliest class",
    ),
]  # fmt: skip
MattingOption = Annotated[
    bool,
    typer.Option(
        "--matting",
        help="Find soft edges by closed-form matting: for hair; seconds a photo, at 1024 px at most, brought to full"
        " size by the photo's own edges. Needs the extra seglab\\[matting].",
    ),
]
DecontaminateOption = Annotated[
    bool | None,
    typer.Option(
        "--decontaminate/--no-decontaminate", help="Take the background's colour out of mixed pixels.",
        show_default="on",
    ),
]  # fmt: skip
BackgroundOption = Annotated[
    str,
    typer.Option(
        "--background", help="transparent, a colour name, '#rrggbb', blur:N (the photo, N pixels), or a picture.",
        metavar="WHAT",
    ),
]  # fmt: skip
CropOption = Annotated[bool, typer.Option("--crop", help="Keep only the part with the subject in it.")]
MarginOption = Annotated[
    str | None,
    typer.Option(
        "--margin", help="Around what --crop keeps, within the photo: pixels, or a share of the subject's longer side.",
        metavar="N|N%", show_default="0",
    ),
]  # fmt: skip
SquareOption = Annotated[bool, typer.Option("--square", help="Make it square: never cut, rather filled up.")]
SizeOption = Annotated[
    str | None,
    typer.Option(
        "--size", help="Bring it to this size, of whatever shape: never cut, rather filled up.", metavar="WxH|N",
        show_default="the photo's pixels",
    ),
]  # fmt: skip
MaskOnlyOption = Annotated[bool, typer.Option("--mask-only", help="Write the alpha as a grey PNG.")]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format", "-f", help="png, webp (lossless) or jpg (laid on white without --background).", metavar="NAME",
        show_default="as -o says, or png",
    ),
]  # fmt: skip
PngOption = Annotated[
    str | None,
    typer.Option(
        "--png", help="fast, or small: a third less to store, for six times as long.", metavar="fast|small",
        show_default="fast",
    ),
]  # fmt: skip


def cutout(
    photos: PhotosArgument,
    task: Annotated[str | None, task_option("the model's; without --model, one for whole people")] = None,
    model: Annotated[str | None, model_option("what comes with seglab for --task")] = None,
    out: Annotated[Path | None, out_option("beside photos that are named, or seglab-cutouts/")] = None,
    keep: KeepOption = "",
    invert: Annotated[bool, typer.Option("--invert", help="Keep everything else instead.")] = False,
    edge: EdgeOption = None,
    threshold: ThresholdOption = None,
    matting: MattingOption = False,
    decontaminate: DecontaminateOption = None,
    background: BackgroundOption = "transparent",
    crop: CropOption = False,
    margin: MarginOption = None,
    square: SquareOption = False,
    size: SizeOption = None,
    mask_only: MaskOnlyOption = False,
    format: FormatOption = None,
    png: PngOption = None,
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
    allow_truncated: AllowTruncatedOption = False,
    allow_empty: AllowEmptyOption = False,
    shard: ShardOption = None,
    dry_run: DryRunOption = False,
) -> int:
    """Cut people out of photos: PNGs with transparency, at the photos' own size.

    [bold]seglab cutout --model runs/a photo.jpg[/bold]   writes photo.cutout.png beside it

    [bold]seglab cutout --model runs/a photos/ -o cutouts/[/bold]

    [bold]seglab cutout --model runs/a photo.jpg -o portrait.jpg --background white[/bold]

    [bold]seglab cutout --model runs/clothes photos/ --keep upper_body,full_body[/bold]

    [bold]seglab cutout --model runs/a photos/ -o faces/ --crop --margin 5% --square --size 512 --format webp[/bold]

    [bold]seglab cutout --model runs/a photo.jpg -o call.jpg --background blur:30[/bold]

    [bold]cat photo.jpg | seglab cutout --model runs/a - -o - > cutout.png[/bold]

    Without -o, single files are answered beside themselves, and folders, patterns and lists go to seglab-cutouts/.
    Colour profiles and resolution are kept, other metadata only with --keep-exif. Edges follow the photo's own, and the
    background's colour is taken out of them. Where nothing is found, everything is transparent (or background) and as
    large as the photo, and that is said. A photo that fails is named at the end, the others are done, and the exit code
    is 1.
    """
    from seglab.device import choose_device
    from seglab.engines import EngineChoice

    choice = EngineChoice(engine, precision, compile)
    chosen = choose_device(device, with_torch=choice.may_use_torch)
    task = task or (_whole_person() if model is None else None)
    foresee(photos, task, model, chosen, choice)

    from seglab.inference.cutout import cutout as prepare
    from seglab.inference.cutout import parse_look
    from seglab.inference.manner import Manner
    from seglab.inference.model import choose_model

    look = parse_look(
        edge=edge, threshold=threshold, matting=matting, decontaminate=decontaminate, background=background, keep=keep,
        invert=invert, crop=crop, margin=margin, square=square, size=size, mask_only=mask_only, format=format, png=png,
    )  # fmt: skip
    terms = make_terms(
        out, choice, json=json, batch_size=batch_size, skip_existing=skip_existing, overwrite=overwrite,
        keep_ext=keep_ext, max_pixels=max_pixels, tile=tile, shard=shard, dry_run=dry_run,
        allow_truncated=allow_truncated, allow_empty=allow_empty, keep_exif=keep_exif,
    )  # fmt: skip
    run = prepare(photos, partial(choose_model, task, model, Manner(fidelity, bn, tta)), chosen, look, terms)
    return report(run, json=json, fail_fast=fail_fast)


def _whole_person() -> str:
    """Return the task whose weights find people, and tell if they are not those of the default one."""
    from seglab.models.catalogue import whole_person_task
    from seglab.tasks import DEFAULT_CUTOUT_TASK

    task = whole_person_task()
    if task != DEFAULT_CUTOUT_TASK:
        note(f"no weights for `{DEFAULT_CUTOUT_TASK}` come with seglab: all that `{task}` finds is cut out")
    return task
