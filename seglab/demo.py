"""The first minute: the whole road on synthetic people, with a page to look at at the end."""

import html
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from seglab.config import TrainConfig
from seglab.errors import UsageError
from seglab.files import sweep, write_text
from seglab.strengths import Strengths

if TYPE_CHECKING:
    from seglab.device import Device
    from seglab.evaluation.result import Evaluation
    from seglab.inference.flow import Run
    from seglab.tasks import Task
    from seglab.training.assignment import Watcher

__all__ = ["CONFIG", "Demo", "demo"]

CONFIG: Final = TrainConfig(
    model="unet-light",
    size=128,
    epochs=16,
    batch_size=8,
    lr=4e-3,
    ema=0.98,
    augment=Strengths.uniform(0.5),
    val_every=16,
)
"""How the toy is trained: half a minute on two CPU cores."""

NUM_SCENES: Final = 160
SCENE_SIDE: Final = 160
"""Pixels."""
NUM_SHOWN: Final = 8
MARKER: Final = ".seglab-demo"
"""A file that says that a folder is the demo's own, and may be replaced by the next one."""


@dataclass(frozen=True)
class Demo:
    """What the demo left behind."""

    page_path: Path
    run_dir: Path
    photos_dir: Path
    evaluation: "Evaluation"


def demo(
    task: "Task",
    out_dir: Path,
    device: "Device",
    *,
    say: Callable[[str], None],
    watcher: "Watcher | None" = None,
) -> Demo:
    """Make synthetic people, train a toy on them, score it, predict and cut out, and leave ``index.html``.

    Args:
        task: A task that synthetic scenes can be labelled for.
        out_dir: Made; a demo that is there already is replaced.
        device: Where to train.
        say: Called with one line of plain text after each step.
        watcher: Told how the training goes.

    Raises:
        UsageError: If the folder holds something else.
        DataError: If synthetic scenes cannot be labelled for the task.
    """
    from seglab.data.synth import synth
    from seglab.evaluation.evaluate import evaluate
    from seglab.inference.cutout import Look, cutout
    from seglab.inference.errand import Terms
    from seglab.inference.model import choose_model
    from seglab.inference.predict import predict
    from seglab.training.loop import train

    _claim(out_dir)
    dataset = synth(task, NUM_SCENES, (SCENE_SIDE, SCENE_SIDE), out_dir / "data", seed=1)
    say(f"drew {NUM_SCENES} scenes with synthetic people in {out_dir / 'data'}")
    run_dir = out_dir / "run"
    train(CONFIG, dataset, run_dir, device, task=task, watcher=watcher)
    say(f"trained a toy network on them for {CONFIG.epochs} epochs in {run_dir}")
    model = choose_model(None, str(run_dir))
    evaluation = evaluate(model.open(device), dataset, "test")
    say(f"scored it on {evaluation.num_images} scenes it has not seen: {_headline(evaluation)}")
    photos_dir = out_dir / "photos"
    samples = dataset.split("test")[:NUM_SHOWN]
    _copy([dataset.image_path(sample) for sample in samples], photos_dir)
    masks = predict([photos_dir], model, device, Terms(out=out_dir / "masks"), formats=("palette", "overlay"))
    say(f"wrote {_num_done(masks)} masks and overlays to {out_dir / 'masks'}")
    cutouts = cutout([photos_dir], model, device, Look(), Terms(out=out_dir / "cutouts"))
    say(f"wrote {_num_done(cutouts)} cutouts to {out_dir / 'cutouts'}")
    _draw_sheet(out_dir, [Path(sample.image) for sample in samples])
    page_path = out_dir / "index.html"
    sweep([page_path])
    write_text(page_path, _page(task, [Path(sample.image) for sample in samples], evaluation))
    return Demo(page_path, run_dir, photos_dir, evaluation)


def _claim(out_dir: Path) -> None:
    """Make an empty folder of our own, replacing an earlier demo and nothing else."""
    if out_dir.exists() and not (out_dir / MARKER).is_file() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise UsageError(f"`{out_dir}` is there and is not a demo", "name another folder with `--out DIR`")
    shutil.rmtree(out_dir, ignore_errors=True)
    out_dir.mkdir(parents=True)
    (out_dir / MARKER).touch()


def _copy(paths: list[Path], to_dir: Path) -> None:
    to_dir.mkdir()
    for path in paths:
        shutil.copy(path, to_dir / path.name)


def _num_done(run: "Run") -> int:
    """Do the work, and count the photos that are finished."""
    from seglab.inference.flow import Done

    return sum(isinstance(outcome, Done) for outcome in run.outcomes)


def _draw_sheet(out_dir: Path, photos: list[Path]) -> None:
    """Write ``sheet.png``: picture, overlay, mask and cutout side by side."""
    import numpy as np

    from seglab.data.drawing import contact_sheet
    from seglab.data.images import read_photo, write_photo

    rows = []
    for photo in photos:
        names = (f"photos/{photo.name}", f"masks/{photo.stem}.overlay.jpg", f"masks/{photo.stem}.png")
        cells = [read_photo(out_dir / name).image for name in (*names, f"cutouts/{photo.stem}.png")]
        # The legend lies below the overlay.
        height, width = cells[0].shape[:2]
        rows.append([np.ascontiguousarray(cell[:height, :width]) for cell in cells])
    write_photo(out_dir / "sheet.png", contact_sheet(rows, titles=("picture", "overlay", "mask", "cutout")))


def _headline(evaluation: "Evaluation") -> str:
    from seglab.evaluation.metrics import value

    miou = value(evaluation.scores, "miou")
    return "mean IoU " + ("none" if miou is None else f"{miou:.2f}")


def _page(task: "Task", photos: list[Path], evaluation: "Evaluation") -> str:
    rows = "\n".join(_row(photo) for photo in photos)
    swatches = "".join(
        f'<span class="swatch" style="background:rgb{colour}"></span>{html.escape(name)} '
        for name, colour in zip(task.classes[1:], task.palette[1:], strict=True)
    )
    return _PAGE.format(
        task=html.escape(task.name),
        title=html.escape(task.title or task.name),
        rows=rows,
        legend=swatches,
        score=html.escape(_headline(evaluation)),
        epochs=CONFIG.epochs,
        scenes=NUM_SCENES,
    )


def _row(photo: Path) -> str:
    name, stem = html.escape(photo.name), html.escape(photo.stem)
    cells = (
        f'<img src="photos/{name}" alt="photo {name}">',
        f'<img src="masks/{stem}.overlay.jpg" alt="what the toy sees">',
        f'<img src="masks/{stem}.png" alt="mask">',
        f'<img class="board" src="cutouts/{stem}.png" alt="cutout">',
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>seglab demo: {task}</title>
<style>
  :root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
  body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
  table {{ border-spacing: .5rem; }}
  th {{ text-align: left; font-weight: 600; }}
  img {{ width: 100%; max-width: 14rem; display: block; border-radius: 4px; }}
  .board {{ background: repeating-conic-gradient(#bbb 0 25%, #eee 0 50%) 0 0 / 16px 16px; }}
  .swatch {{ display: inline-block; width: 1em; height: 1em; margin: 0 .3em 0 .8em; vertical-align: -.1em; }}
  .toy {{ border-left: 4px solid #d9a400; padding-left: 1rem; }}
</style>
<h1>seglab demo: {title}</h1>
<p class="toy"><strong>This network is a toy.</strong> It saw {scenes} drawings of people, each {epochs} times, and no
photo. On drawings it has not seen it reaches {score}; on real photos it is of no use.</p>
<p>{legend}</p>
<table>
<tr><th>picture</th><th>overlay</th><th>mask</th><th>cutout</th></tr>
{rows}
</table>
<h2>With your own photos</h2>
<pre>seglab prepare FOLDER data --task {task}     # FOLDER/images, FOLDER/masks
seglab train --task {task} --data data --out run
seglab evaluate --model run --data data
seglab predict --model run PHOTOS
seglab cutout --model run PHOTOS</pre>
</html>
"""
