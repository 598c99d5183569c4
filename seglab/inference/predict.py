"""``seglab predict``: photos in, masks out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from seglab.device import Device
from seglab.engines import EngineChoice
from seglab.inference.areas import class_areas, count_labels
from seglab.inference.flow import Answer, Finish, Run, run
from seglab.inference.ledger import Ledger
from seglab.inference.model import Model
from seglab.inference.plan import Job, Layout, make_plan
from seglab.inference.predictor import Predictor
from seglab.inference.sinks import DEFAULT_FORMATS, Format, Labelled, check_formats, choose_formats, write_legend

__all__ = ["DEFAULT_DIR", "predict"]

DEFAULT_DIR: Final = Path("seglab-masks")
"""Where masks go when no output is named."""


def predict(
    photos: Sequence[str | Path],
    model: Model | Callable[[], Model],
    device: Device,
    *,
    out: Path | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    engine: str | EngineChoice = "auto",
    batch_size: int = 1,
    measure: bool = False,
    keep_ext: bool = False,
    skip_existing: bool = False,
    overwrite: bool = False,
    max_pixels: int | None = None,
) -> Run:
    """Prepare a run that writes the classes of photos, each at the photo's own size.

    A folder of outputs also gets ``legend.json``: what ids and colours mean.

    Args:
        photos: See :func:`seglab.inference.inputs.find_sources`.
        model: What answers, or how to find it, once the photos are found; loaded only if there is something to do.
        device: Where.
        out: A folder, or a file for one photo and one format; ``seglab-masks/`` by default.
        formats: Names in :data:`seglab.inference.sinks.FORMATS`; the first takes the photo's name.
        engine: A name in :data:`seglab.engines.ENGINES`, or a choice with all its details.
        batch_size: The most photos that go through the network at once.
        measure: Whether to measure the area and the bounding box of every class.
        keep_ext: Whether outputs are named after the whole file name.
        skip_existing: Whether photos that an earlier run has finished are left alone.
        overwrite: Whether files in the way that are not masks of ours may be replaced.
        max_pixels: Larger photos fail before they are decoded; :data:`seglab.data.images.MAX_PIXELS` by default.

    Raises:
        UsageError: If names clash or an argument is wrong.
        DataError: If there is nothing to do, or nowhere to write.
    """
    chosen = choose_formats(formats)
    layout = Layout("predict", {name: form.suffixes for name, form in chosen.items()}, DEFAULT_DIR)
    plan = make_plan(photos, layout, out=out, keep_ext=keep_ext, overwrite=overwrite)
    model = model if isinstance(model, Model) else model()
    ledger = Ledger(plan.out_dir, "predict", {**model.identity, "formats": list(formats)})
    if skip_existing:
        plan = plan.without_finished(ledger)
    if not plan.jobs:
        return Run(plan, None, (item for item in plan.finished))
    predictor = model.open(device, engine=engine, batch_size=batch_size)
    check_formats(chosen, predictor.extras)
    ledger.open()
    if plan.out_dir is not None:
        write_legend(plan.out_dir, predictor.task)
    finish = _finisher(predictor, chosen, measure)
    return Run(plan, predictor, run(plan, predictor, finish, ledger, max_pixels=max_pixels))


def _finisher(predictor: Predictor, formats: dict[str, Format], measure: bool) -> Finish:
    task = predictor.task

    def finish(job: Job, answer: Answer) -> tuple[bool, dict[str, Any]]:
        labels = predictor.road.labels(answer.logits_KHW, answer.placement)
        labelled = Labelled(answer, labels, task)
        for name, path in job.outputs.items():
            formats[name].write(path, labelled)
        found = bool(count_labels(labels, task.num_classes)[1:].any())
        return found, {"classes": class_areas(labels, task)} if measure else {}

    return finish
