"""What a run leaves to look at: a line of JSON an epoch, TensorBoard, and sheets of predictions."""

from collections.abc import Mapping
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from seglab.data.drawing import contact_sheet, overlay
from seglab.data.images import read_labels, read_photo, write_photo
from seglab.data.manifest import Dataset
from seglab.inference.predictor import Predictor
from seglab.training.rundir import RunDir

__all__ = ["NUM_SHOWN", "Journal"]

NUM_SHOWN = 6
"""Samples on a sheet."""


class Journal:
    """The records of a run.

    Args:
        run: Where to write.
        dataset: Its validation samples are shown on the sheets, or training samples if it has none.
        num_epochs: Epochs that are done already; records of later ones, left by a killed run, are dropped.
        num_steps: Steps that are done already.
    """

    def __init__(self, run: RunDir, dataset: Dataset, *, num_epochs: int = 0, num_steps: int = 0) -> None:
        self._run = run
        run.keep_metrics(num_epochs)
        purge = num_steps + 1 if num_steps else None
        self._writer = SummaryWriter(str(run.path), purge_step=purge)
        samples = dataset.split("val" if "val" in dataset.splits else "train")
        self._dataset = dataset
        self._shown = samples[:: max(1, len(samples) // NUM_SHOWN)][:NUM_SHOWN]

    def record(self, values: Mapping[str, Any]) -> None:
        """Add an epoch: ``epoch``, ``step``, and numbers, which may be nested; None is left out of TensorBoard."""
        self._run.add_metrics(values)
        for name, value in _flat(values).items():
            if name not in ("epoch", "step"):
                self._writer.add_scalar(name, value, values["step"])

    def show(self, predictor: Predictor, *, epoch: int, step: int) -> None:
        """Draw photo, truth and prediction of a few samples."""
        palette = predictor.task.palette
        rows = []
        for sample in self._shown:
            image = read_photo(self._dataset.image_path(sample)).image
            truth = read_labels(self._dataset.label_path(sample))
            (prediction,) = predictor.labels([image])
            rows.append([image, overlay(image, truth, palette), overlay(image, prediction, palette)])
        sheet = contact_sheet(rows, titles=["photo", "truth", f"epoch {epoch}"])
        self._run.samples_dir.mkdir(exist_ok=True)
        write_photo(self._run.samples_dir / f"epoch-{epoch:04d}.jpg", sheet, quality=85)
        self._writer.add_image("samples", sheet, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Finish the files."""
        self._writer.close()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of nested tables by path, as in ``val/iou.person``."""
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            flat[prefix + name] = value
    return flat
