"""What a run leaves to look at: a line of JSON an epoch, curves, sheets of predictions, and TensorBoard."""

from collections.abc import Mapping, Sequence
from typing import Any

from seglab.data.images import write_photo
from seglab.data.manifest import Dataset
from seglab.inference.predictor import Predictor
from seglab.training.curves import draw_panels, panels_of
from seglab.training.loggers import RunLogger, TensorBoardLogger
from seglab.training.pictures import SampleSheet
from seglab.training.rundir import RunDir

__all__ = ["Journal"]


class Journal:
    """The records of a run.

    Args:
        run: Where to write.
        dataset: Samples of it are shown on the sheets.
        split: Which ones; those of ``train`` where the dataset has no such split.
        metric: The metric whose best weights are kept.
        num_epochs: Epochs that are done already; records of later ones, left by a killed run, are dropped.
        num_steps: Steps that are done already.
        loggers: Who is told as well, beside TensorBoard.

    Raises:
        DataError: If something cannot be written; every method does.
    """

    def __init__(
        self,
        run: RunDir,
        dataset: Dataset,
        *,
        split: str = "val",
        metric: str = "miou",
        num_epochs: int = 0,
        num_steps: int = 0,
        loggers: Sequence[RunLogger] = (),
    ) -> None:
        self._run = run
        self._metric = metric
        self._task = dataset.task
        self._records = run.keep_metrics(num_epochs)
        self._loggers = [TensorBoardLogger(run.path, num_steps + 1 if num_steps else None), *loggers]
        self._sheet = SampleSheet(dataset, split if split in dataset.splits else "train")

    def record(self, values: Mapping[str, Any]) -> None:
        """Add an epoch: ``epoch``, ``step``, and numbers, which may be nested; None is left out.

        The curves are drawn anew with every epoch that was validated.
        """
        self._run.add_metrics(values)
        self._records.append(values)
        numbers = {name: value for name, value in _flat(values).items() if name not in ("epoch", "step")}
        for logger in self._loggers:
            logger.scalars(numbers, values["step"])
        if values.get("val"):
            self.draw_curves()

    def draw_curves(self) -> None:
        """Write ``curves.png`` anew in one step."""
        panels = panels_of(self._records, self._metric, self._task)
        if panels:
            write_photo(self._run.curves_path, draw_panels(panels))

    def show(self, predictor: Predictor, *, epoch: int, step: int) -> None:
        """Draw photo, truth and prediction of a few samples."""
        sheet = self._sheet.draw(predictor, title=f"epoch {epoch}")
        self._run.samples_dir.mkdir(exist_ok=True)
        write_photo(self._run.samples_dir / f"epoch-{epoch:04d}.jpg", sheet, quality=85)
        for logger in self._loggers:
            logger.picture("samples", sheet, step)

    def close(self) -> None:
        """Finish the files."""
        for logger in self._loggers:
            logger.close()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of nested tables by path, as in ``val/iou.person``."""
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            flat[prefix + name] = value
    return flat
