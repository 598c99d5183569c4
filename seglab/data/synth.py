"""Datasets of synthetic people: the prepared layout without any download."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, Protocol

from seglab.data.manifest import Dataset, assign_splits, finished_dataset
from seglab.data.writer import DatasetWriter
from seglab.device import num_threads
from seglab.errors import UsageError
from seglab.pipeline import ahead
from seglab.tasks import Task

__all__ = ["DRAWING", "MAX_PICTURES", "SOURCE", "Progress", "check_num", "synth"]

SOURCE: Final = "synth"
"""What the manifest of a synthetic dataset names as its source."""

DRAWING: Final = 1
"""Number of the way scenes are drawn: raised when the same seed gives other pictures."""

MAX_PICTURES: Final = 10**6
"""Most pictures of a dataset."""


class Progress(Protocol):
    """A running count that the caller sees."""

    def advance(self, n: int = 1) -> None:
        """Count ``n`` more."""


def synth(
    task: Task,
    num: int,
    size_hw: tuple[int, int],
    out_dir: Path,
    *,
    seed: int = 0,
    val: float = 0.1,
    test: float = 0.1,
    force: bool = False,
    workers: int | None = None,
    progress: Callable[[int], AbstractContextManager[Progress]] | None = None,
) -> Dataset:
    """Draw people for a task, with labels that are right by construction, as a prepared dataset.

    The same arguments give the same bytes (with the same numpy and OpenCV on the same kind of machine). Scene
    ``synth-000007`` of a seed does not depend on ``num``; its split may.
    A dataset that is there already and was made by the same arguments is left alone.

    Args:
        task: Must say how scenes are labelled, see :class:`seglab.tasks.SynthSpec`.
        num: How many pictures, at least 1.
        size_hw: Of each picture, 16..8192 pixels a side.
        out_dir: The dataset.
        seed: Other seeds give other people.
        val: Share of the validation split.
        test: Share of the test split.
        force: Replace a dataset that is there.
        workers: Threads; the CPUs of this process by default, 0 for none.
        progress: Called with ``num``; its ``advance`` is called for each picture.

    Raises:
        DataError: If the task cannot be drawn, or something else is at ``out_dir``.
        UsageError: If a number is out of range.
    """
    from seglab.data.scene import check_scene, check_synth, draw_scene, labels_for

    view = check_synth(task)
    check_scene(seed, size_hw)
    check_num(num)
    ids = [f"synth-{index:06d}" for index in range(num)]
    splits = assign_splits(ids, val, test)
    options: dict[str, Any] = {
        "num": num, "size_hw": list(size_hw), "seed": seed, "val": val, "test": test, "drawing": DRAWING,
    }  # fmt: skip
    if view == "figure":  # A portrait is of one.
        options["people"] = True
    if not force and (there := finished_dataset(out_dir, task, SOURCE, options)):
        return there
    bar = progress(num) if progress else nullcontext()
    with DatasetWriter(out_dir, task, SOURCE, options, force=force) as writer, bar as shown:

        def draw(index: int) -> None:
            scene = draw_scene(seed, index, view, size_hw)
            people = scene.persons if view == "figure" else None
            writer.add(ids[index], splits[ids[index]], scene.image, labels_for(scene, task), people=people)

        for _ in ahead(draw, range(num), workers=num_threads() if workers is None else workers):
            if shown is not None:
                shown.advance()
        return writer.finish()


def check_num(num: int) -> None:
    """Check a number of pictures.

    Raises:
        UsageError: If it is out of range.
    """
    if not 1 <= num <= MAX_PICTURES:
        raise UsageError(f"`{num}` pictures: 1 to {MAX_PICTURES} are possible", "`--num 100` is usual")
