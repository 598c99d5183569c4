"""``seglab predict``: photos in, masks out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from seglab.device import Device
from seglab.inference.areas import class_areas, count_labels, mean_in
from seglab.inference.delivery import delivering
from seglab.inference.errand import DEFAULT_TERMS, Errand, Terms
from seglab.inference.flow import Answer, Finish, Run
from seglab.inference.gathering import Gathering
from seglab.inference.inputs import STANDARD
from seglab.inference.model import Model
from seglab.inference.plan import Job, Layout
from seglab.inference.predictor import Predictor
from seglab.inference.selection import EVERYTHING, Selection
from seglab.inference.sinks import (
    DEFAULT_FORMATS,
    LEGEND_NAME,
    SPLIT,
    Chosen,
    Labelled,
    check_formats,
    choose_formats,
    write_legend,
)

__all__ = ["DEFAULT_DIR", "predict"]

DEFAULT_DIR: Final = Path("seglab-masks")
"""Where masks go when no output is named."""


def predict(
    photos: Sequence[str | Path],
    model: Model | Callable[[], Model],
    device: Device,
    terms: Terms = DEFAULT_TERMS,
    *,
    formats: Sequence[str] = DEFAULT_FORMATS,
    selection: Selection = EVERYTHING,
) -> Run:
    """Prepare a run that writes the classes of photos, each at the photo's own size.

    A folder of outputs also gets ``legend.json``: what ids and colours mean.

    Args:
        photos: See :func:`seglab.inference.inputs.find_sources`.
        model: What answers, or how to find it, once the photos are found; loaded only if there is something to do.
        device: Where.
        terms: How the run goes; outputs go to ``seglab-masks/`` by default.
        formats: Names in :data:`seglab.inference.sinks.FORMATS` and :data:`seglab.inference.sinks.GATHERED`; the first
            of those with a file a photo takes the photo's name.
        selection: What of the answers is wanted.

    Raises:
        UsageError: If names clash, an argument is wrong, or the task has no such class.
        DataError: If there is nothing to do, or nowhere to write.
    """
    chosen = choose_formats(formats)
    if SPLIT in formats:  # only the classes tell the names of the files
        model = model if isinstance(model, Model) else model()
        chosen = choose_formats(formats, model.config.task, selection.classes(model.config.task))
    gathered_names = tuple(form.name for form in chosen.gathered.values())
    layout = Layout(
        "predict", chosen.suffixes, DEFAULT_DIR, endings=chosen.endings, gathered=gathered_names,
        companions=(LEGEND_NAME,),
    )  # fmt: skip
    settings = {"formats": list(formats), "selection": selection.settings}
    errand = Errand.of(photos, model, layout, settings, terms)
    task = errand.model.config.task
    selection.classes(task)  # refuses names that it does not have
    gathering = None
    if errand.plan.out_dir is not None and chosen.gathered:
        gathering = Gathering(errand.plan.out_dir, chosen.gathered, task, errand.digest, shard=terms.shard)

    def finisher(predictor: Predictor) -> Finish:
        check_formats(chosen.formats, predictor.extras, instances=selection.instances)
        return _Finisher(predictor, chosen, selection, gathering, terms.measure)

    return errand.start(device, finisher, gathering=gathering, ready=partial(write_legend, task=task))


@dataclass(frozen=True)
class _Finisher:
    """Writes the outputs of one photo."""

    predictor: Predictor
    chosen: Chosen
    selection: Selection
    gathering: Gathering | None
    measure: bool

    def __call__(self, job: Job, answer: Answer) -> tuple[bool, dict[str, Any]]:
        road, task = self.predictor.road, self.predictor.task
        labels = self.selection.apply(road.labels(answer.logits_KHW, answer.placement), task)
        labelled = Labelled(answer, labels, task, self.selection, job.place, road)
        for name, path in job.outputs.items():
            form = self.chosen.formats[name]
            with delivering(path) as stream:
                form.write(stream, labelled, form.suffixes[0] if path == STANDARD else path.suffix)
        if self.gathering is not None:
            self.gathering.add(job, labelled)
        found = bool(count_labels(labels, task.num_classes)[1:].any())
        return found, self._facts(labelled) if self.measure else {}

    def _facts(self, labelled: Labelled) -> dict[str, Any]:
        certainty = labelled.certainty
        facts: dict[str, Any] = {"classes": class_areas(labelled.labels, labelled.task, certainty)}
        facts["confidence"] = mean_in(certainty)
        if self.selection.instances:
            facts["instances"] = [person.to_dict() for person in labelled.instances.people]
        return facts
