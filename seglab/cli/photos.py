"""What predict and cutout share on the command line: options for photos, and telling what became of them."""

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seglab.cli.console import escape, note, print_json, progress
from seglab.errors import ExitCode, Interrupted, UsageError
from seglab.notation import path_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seglab.device import Device
    from seglab.engines import Engine, EngineChoice
    from seglab.inference.errand import Terms
    from seglab.inference.flow import Done, Outcome, Run
    from seglab.inference.inputs import Failure
    from seglab.inference.plan import Plan

__all__ = [
    "AllowEmptyOption",
    "AllowTruncatedOption",
    "BatchSizeOption",
    "DryRunOption",
    "FailFastOption",
    "KeepExtOption",
    "MaxPixelsOption",
    "OverwriteOption",
    "PhotosArgument",
    "SkipExistingOption",
    "TileOption",
    "describe_engine",
    "engine_dict",
    "foresee",
    "make_terms",
    "out_option",
    "report",
]

PhotosArgument = Annotated[
    list[str],
    typer.Argument(
        help="Photos: files, folders (searched through), patterns in quotes, @LIST with a path a line, or - for one on"
        " standard input.",
        metavar="PHOTOS",
        show_default=False,
    ),
]


def out_option(default: str) -> Any:
    """Return ``--out``.

    Args:
        default: What is said to be taken without it.
    """
    help = "Folder to write to, or for one photo a file, or - for standard output."
    return typer.Option("--out", "-o", help=help, metavar="DIR|FILE", show_default=default)


BatchSizeOption = Annotated[int, typer.Option("--batch-size", min=1, help="Photos through the network at once.")]
KeepExtOption = Annotated[bool, typer.Option("--keep-ext", help="Name outputs a.jpg.png rather than a.png.")]
SkipExistingOption = Annotated[
    bool, typer.Option("--skip-existing", help="Leave photos alone that an earlier run has finished in the same way.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace files in the way, even if they are not outputs of this command.")
]
FailFastOption = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first photo that fails.")]
MaxPixelsOption = Annotated[
    int | None, typer.Option("--max-pixels", min=1, help="Refuse photos of more pixels.", show_default="178956970")
]
AllowTruncatedOption = Annotated[
    bool,
    typer.Option("--allow-truncated", help="Take JPEGs and PNGs that are cut off as far as they go; each is named."),
]
AllowEmptyOption = Annotated[
    bool, typer.Option("--allow-empty", help="No photos in a folder, pattern or list is no error: there is no work.")
]
TileOption = Annotated[
    str | None,
    typer.Option(
        "--tile",
        help="Cut large photos into overlapping tiles of so many pixels, or auto: photos over 4 times the model's grid,"
        " into tiles of half their longer side.",
        metavar="auto|N",
        show_default="none",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done; write nothing.")]

NUM_NAMED = 5
"""How many photos are named where the count says the rest; failures are all named."""


def foresee(
    photos: "Sequence[str]", task: str | None, model: str | None, device: "Device", choice: "EngineChoice"
) -> None:
    """Begin to open the model for a single photo, while what else is needed is imported: a tenth less to wait for."""
    from seglab.engines import begin_to_open
    from seglab.errors import SeglabError
    from seglab.models.bundle import find_model
    from seglab.models.catalogue import embedded_dir

    if len(photos) != 1 or not Path(photos[0]).is_file():
        return
    with contextlib.suppress(SeglabError, OSError):  # told in its time
        begin_to_open(find_model(model) if model else embedded_dir(task or ""), device, choice)


def make_terms(
    out: Path | None,
    engine: "EngineChoice",
    *,
    json: bool,
    batch_size: int,
    skip_existing: bool,
    overwrite: bool,
    keep_ext: bool,
    max_pixels: int | None,
    tile: str | None,
    shard: str | None,
    dry_run: bool,
    allow_truncated: bool,
    allow_empty: bool,
    keep_exif: bool = False,
) -> "Terms":
    """Read the options of this module.

    Raises:
        UsageError: If one means nothing, or pictures and JSON would both go to standard output.
    """
    from seglab.inference.errand import Terms
    from seglab.inference.inputs import STANDARD
    from seglab.inference.tiling import parse_tiling
    from seglab.shards import choose_shard

    if json and out == STANDARD:
        raise UsageError("`--json` and `-o -` would both write to standard output", "name a file: `-o FILE`")
    return Terms(
        out=out, engine=engine, batch_size=batch_size, measure=json, keep_ext=keep_ext, skip_existing=skip_existing,
        overwrite=overwrite, max_pixels=max_pixels, tiling=parse_tiling(tile), keep_exif=keep_exif,
        shard=choose_shard(shard), dry_run=dry_run, allow_truncated=allow_truncated, allow_empty=allow_empty,
    )  # fmt: skip


def report(run: "Run", *, json: bool, fail_fast: bool) -> int:
    """Work through a run, showing progress, and tell at the end what became of it.

    Args:
        run: What to do; of a dry one it is told what would be done.
        json: Whether to write a line of JSON a photo to stdout as it is finished.
        fail_fast: Whether to stop at the first failure.

    Returns:
        The exit code: 6 if nothing could be done for lack of an extra.

    Raises:
        Interrupted: If a signal ended the run; what is finished by then is whole and stays.
    """
    engine = run.predictor.engine if run.predictor is not None else None
    if engine is not None:
        note(escape(describe_engine(engine)))
    if run.predictor is not None and run.predictor.about:
        note(escape(run.predictor.about))
    tally = _Tally(len(run.plan.items), run.when_empty)
    try:
        with contextlib.closing(run.outcomes), progress(tally.total, "photos") as bar:
            for outcome in run.outcomes:
                tally.add(outcome)
                if json:
                    print_json(_to_dict(outcome, engine))
                else:
                    _tell_planned(outcome)
                bar.advance(1, outcome.path.name)
                if fail_fast and tally.failures:
                    break
    except Exception:
        tally.tell(run.plan)
        raise
    except BaseException as error:
        tally.tell(run.plan)
        code = ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitCode.TERMINATED
        text = f"stopped by a signal after {tally.num_seen} of {tally.total} photos"
        raise Interrupted(text, "the same command with `--skip-existing` does the rest", exit_code=code) from error
    tally.tell(run.plan)
    for text in (*run.notes, *(engine.notes if engine is not None else ())):
        note(escape(text))
    return int(tally.exit_code)


def describe_engine(engine: "Engine") -> str:
    """Return which engine computes, where, and why, in a line."""
    device = f"{engine.device.name} ({engine.device.reason})"
    precision = "" if engine.precision == "fp32" else f", {engine.precision}"
    return f"{engine.name} on {device}{precision}: {engine.reason}"


def engine_dict(engine: "Engine") -> dict[str, str]:
    """Return the same as plain JSON values."""
    return {
        "name": engine.name,
        "reason": engine.reason,
        "device": engine.device.name,
        "device_reason": engine.device.reason,
        "precision": engine.precision,
    }


class _Tally:
    """Counts what became of photos, and remembers the names that a person needs to see."""

    def __init__(self, total: int, when_empty: str) -> None:
        self.total, self._when_empty = total, f" ({when_empty})" if when_empty else ""
        self.num_seen = self.num_skipped = self.num_planned = 0
        self.failures: list[Failure] = []
        self._done: list[Path] = []
        self._empty: list[Path] = []
        self._notes: dict[str, list[Path]] = {}
        self._start_s = time.monotonic()

    def add(self, outcome: "Outcome") -> None:
        from seglab.inference.flow import Done
        from seglab.inference.inputs import Failure
        from seglab.inference.plan import Planned

        self.num_seen += 1
        if isinstance(outcome, Failure):
            self.failures.append(outcome)
        elif isinstance(outcome, Done):
            self._done.extend(outcome.outputs.values())
            self._add_done(outcome)
        elif isinstance(outcome, Planned):
            self.num_planned += 1
        else:
            self.num_skipped += 1

    @property
    def exit_code(self) -> ExitCode:
        """What the shell is told."""
        if not self.failures:
            return ExitCode.DONE
        lost = len(self.failures) == self.num_seen and all(failure.lacks_extra for failure in self.failures)
        return ExitCode.DEVICE if lost else ExitCode.PARTIAL

    def _add_done(self, done: "Done") -> None:
        if not done.found:
            self._empty.append(done.path)
        for text in done.notes:
            self._notes.setdefault(text, []).append(done.path)

    def tell(self, plan: "Plan") -> None:
        """Say it all on stderr: good news first, failures last, where they are seen."""
        if plan.passed_over:
            note(f"passed over, as outputs of seglab lie there: {escape(_names(list(plan.passed_over)))}")
        if plan.hidden:
            what = f"{len(plan.hidden)} {_photos(len(plan.hidden))} left out, as their names begin with a dot"
            note(f"{what}: {escape(_names(list(plan.hidden)))}")
        skipped = f", {self.num_skipped} finished earlier" if self.num_skipped else ""
        if self.num_planned:
            note(f"{self.num_planned} {_photos(self.num_planned)} would be done{skipped}")
        else:
            self._tell_done(plan, skipped)
        for text, paths in self._notes.items():
            note(f"{escape(text)}: {escape(_names(paths))}")
        if self._empty:
            note(f"nothing found in {len(self._empty)}: {escape(_names(self._empty))}{self._when_empty}")
        if self.failures:
            note(f"[bold]{len(self.failures)} failed:[/bold]")
        for failure in self.failures:
            note(f"  {escape(failure.path)}: {escape(failure.reason)}")

    def _tell_done(self, plan: "Plan", skipped: str) -> None:
        if not self.total:
            return note("no photos: nothing to do")
        seconds = time.monotonic() - self._start_s
        num_done = self.num_seen - self.num_skipped - len(self.failures)
        where = f"{plan.out_dir}{os.sep}" if plan.out_dir is not None else _names(self._done)
        note(f"{num_done} {_photos(num_done)} in {seconds:.1f} s{skipped}" + (f": {escape(where)}" if where else ""))
        if plan.gathered and self.num_seen == self.total:
            note(f"all of them in {escape(_names(list(plan.gathered)))}")
        return None


def _tell_planned(outcome: "Outcome") -> None:
    """Say what would be done to a photo, in a dry run."""
    from seglab.inference.plan import Planned

    if isinstance(outcome, Planned):
        outputs = ", ".join(str(path) for path in outcome.outputs.values())
        note(f"{escape(outcome.path)}" + (f" -> {escape(outputs)}" if outputs else ""))


def _photos(count: int) -> str:
    return "photo" if count == 1 else "photos"


def _names(paths: list[Path]) -> str:
    named = ", ".join(f"`{path}`" for path in paths[:NUM_NAMED])
    return f"{named} and {len(paths) - NUM_NAMED} more" if len(paths) > NUM_NAMED else named


def _to_dict(outcome: "Outcome", engine: "Engine | None") -> dict[str, Any]:
    from seglab.inference.flow import Done
    from seglab.inference.inputs import Failure
    from seglab.inference.plan import Planned

    if isinstance(outcome, Failure):
        return {"input": path_text(outcome.path), "error": outcome.reason}
    outputs = {form: path_text(path) for form, path in outcome.outputs.items()}
    values: dict[str, Any] = {"input": path_text(outcome.path), "outputs": outputs}
    if not isinstance(outcome, Done):
        return {**values, ("planned" if isinstance(outcome, Planned) else "skipped"): True}
    height, width = outcome.size_hw
    values |= {"height": height, "width": width, "found": outcome.found, **outcome.facts}
    values |= {"notes": list(outcome.notes), "ms": round(outcome.ms, 1)}
    return values if engine is None else {**values, "engine": engine_dict(engine)}
