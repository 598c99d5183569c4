"""From photos and masks as somebody published them to a prepared dataset, or to the list of all that is wrong."""

import difflib
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from seglab import files
from seglab.allocator import keep_freed_memory
from seglab.data.conversion import Converter
from seglab.data.duplicates import ACROSS_SPLITS
from seglab.data.fetching.sniffing import ARCHIVES, sniff_file
from seglab.data.manifest import Dataset, finished_dataset
from seglab.data.naming import SPLITS, advise_shares, assign_splits
from seglab.data.planning import DEFAULT_SHARE, Job, Plan, make_plan
from seglab.data.problems import Findings, ProblemsFound, report_path
from seglab.data.writer import DatasetWriter, LinkMode
from seglab.device import num_threads
from seglab.errors import DataError, UsageError
from seglab.preprocess import FitMode, Preprocess
from seglab.tasks import Rgb, Task

__all__ = ["Prepared", "prepare"]

MIN_SIDE: Final = 16
"""Smallest limit of the longer side that makes sense."""


class Progress(Protocol):
    """What is told of every pair that is done."""

    def advance(self, n: int = 1, info: str = "") -> None:
        """Count ``n`` more."""


@dataclass(frozen=True)
class Prepared:
    """What :func:`prepare` did, or on a dry run would have done."""

    dataset: Dataset | None
    """None on a dry run."""
    source: str
    reason: str
    """How the source was recognised; empty if it was named."""
    num_samples: int
    """How many pairs are good."""
    findings: Findings
    splits: dict[str, int]
    """How many of them each split has, or would have."""
    unchanged: bool = False
    """Whether the very same dataset was there already, so that nothing was done."""
    num_taken_up: int = 0
    """How many pairs an interrupted run had finished."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "dataset": str(self.dataset.dir) if self.dataset else None,
            "digest": self.dataset.digest if self.dataset else None,
            "samples": self.num_samples,
            "splits": self.splits,
            "unchanged": self.unchanged,
            "taken_up": self.num_taken_up,
            **self.findings.to_dict(),
        }


def prepare(
    raw_dir: Path,
    out_dir: Path,
    *,
    task: Task | None = None,
    source: str | None = None,
    val: float = DEFAULT_SHARE,
    test: float = DEFAULT_SHARE,
    max_side: int | None = None,
    size: int | None = None,
    fit: FitMode = "stretch",
    rules: str | None = None,
    colours: Path | Mapping[Rgb, int] | None = None,
    workers: int | None = None,
    link: LinkMode = "copy",
    drop_bad: bool = False,
    dry_run: bool = False,
    force: bool = False,
    progress: Callable[[int], AbstractContextManager[Progress]] | None = None,
) -> Prepared:
    """Turn a source into a prepared dataset in one pass over its files, which are only read.

    Everything wrong is collected. With a problem nothing is built, unless bad pairs are dropped. A finished dataset of
    the same files and options is left alone. What an interrupted run of the same files and options finished (it lies in
    ``.NAME.building`` beside the dataset) is checked and kept.

    Args:
        raw_dir: The source.
        out_dir: The dataset; its list of problems lies beside it as ``NAME.problems.json``.
        task: What the labels mean; not needed where the layout can only be of one task.
        source: Name of the layout; recognised by default.
        val: Share of the validation split, where the source has no splits of its own.
        test: Share of the test split, likewise.
        max_side: Shrink photos and labels whose longer side has more pixels.
        size: Bring all photos and labels to a square of this side instead.
        fit: How they meet it: ``stretch``, or ``pad`` with grey and 255.
        rules: How to understand the labels, where the layout has several ways.
        colours: Meaning of the colours of colour masks: a table or its file (:func:`seglab.data.masks.load_colours`).
        workers: Threads; the CPUs of this process by default, 0 for none.
        link: How photos that need no change get in: copied, or sharing the bytes of the source as hard links or as
            symbolic links to their absolute paths. Where a link cannot be made that is an error, never a silent copy.
        drop_bad: Leave bad pairs out instead of refusing all.
        dry_run: Check everything, write nothing.
        force: Replace a dataset that is there.
        progress: Called with the number of pairs; its ``advance`` is called for each.

    Raises:
        ProblemsFound: If something cannot be used; it has them all.
        DataError: If the source is not known, has no usable pair, or something else is in the way.
        UsageError: If an option is impossible.
    """
    _check_arguments(raw_dir, out_dir, max_side, size, fit, (val, test))
    grid = Preprocess(size_hw=(size, size), fit=fit) if size else None
    keep_freed_memory()
    plan = make_plan(raw_dir, task, source, colours, (val, test), rules, grid)
    options = {**plan.options, "max_side": max_side, "link": link, "drop_bad": drop_bad}
    if not force and not dry_run and (there := finished_dataset(out_dir, plan.task, plan.source, options)):
        there.check_present()
        counts = _counts(sample.split for sample in there.samples)
        _remark_splits(plan, counts, (val, test))
        return Prepared(there, plan.source, plan.reason, len(there.samples), plan.findings, counts, unchanged=True)
    writer = None
    if not dry_run:
        writer = DatasetWriter(out_dir, plan.task, plan.source, options, force=force, link=link, resume=True)
    with ExitStack() as stack:
        converter = Converter(plan, max_side, grid, stack.enter_context(writer) if writer else None, drop_bad)
        bar = stack.enter_context(progress(len(plan.jobs))) if progress else None
        steps = stack.enter_context(closing(converter.run(num_threads() if workers is None else workers)))
        good = _convert_all(converter, plan, steps, bar)  # no thread outlives an interruption
        _remark(plan, converter, writer)
        _judge(plan, converter, None if dry_run else report_path(out_dir), drop_bad)
        splits = _final_splits(plan, good, (val, test))
        dataset = _finish(writer, plan, splits) if writer else None
    for photos in converter.photos.across(splits):
        plan.findings.note(ACROSS_SPLITS, photos)
    counts, num_taken_up = _counts(splits.values()), converter.num_taken_up
    _remark_splits(plan, counts, (val, test))
    return Prepared(dataset, plan.source, plan.reason, len(good), plan.findings, counts, num_taken_up=num_taken_up)


def _check_arguments(
    raw_dir: Path,
    out_dir: Path,
    max_side: int | None,
    size: int | None,
    fit: FitMode,
    shares: tuple[float, float],
) -> None:
    if not raw_dir.is_dir():
        if raw_dir.is_file():
            raise DataError(f"`{raw_dir}` is a file, not a folder of photos and masks", _instead_of(raw_dir))
        near = difflib.get_close_matches(raw_dir.name, [path.name for path in raw_dir.parent.glob("*/")], n=1)
        hint = f"did you mean `{raw_dir.parent / near[0]}`?" if near else "pass the folder that holds photos and masks"
        raise DataError(f"there is no folder `{raw_dir}`", hint)
    raw, out = raw_dir.resolve(), out_dir.resolve()
    if out.is_relative_to(raw) or raw.is_relative_to(out):
        message = f"`{out_dir}` and the source `{raw_dir}` lie in each other; sources are never written to"
        beside = raw.with_name(f"{raw.name}-prepared")
        raise UsageError(message, f"choose a place beside the source, such as `{beside}`")
    for name, value in (("--max-side", max_side), ("--size", size)):
        if value is not None and value < MIN_SIDE:
            hint = f"`{name} 512` is usual; without it the photos keep their size"
            raise UsageError(f"{name} `{value}` is less than {MIN_SIDE} pixels", hint)
    if max_side is not None and size is not None:
        hint = f"`--size {size}` makes squares, `--max-side {max_side}` keeps the shapes: leave one out"
        raise UsageError(f"--size `{size}` and --max-side `{max_side}` exclude each other", hint)
    if fit == "pad" and size is None:
        raise UsageError("`--fit pad` says nothing without a size", "`--size PIXELS` brings everything to that square")
    assign_splits((), *shares)


def _instead_of(path: Path) -> str:
    """Say what to pass instead of a file: the folder that it becomes when it is unpacked, or the one that it is in."""
    kind = sniff_file(path)
    if kind not in (*ARCHIVES, "rar"):
        return "pass the folder that holds photos and masks"
    quoted = shlex.quote(str(path))
    command = {"zip": f"unzip {quoted} -d {shlex.quote(path.stem)}", "7z": f"7z x {quoted}", "rar": f"7z x {quoted}"}
    return f"unpack it first, such as with `{command.get(kind, f'tar -xf {quoted}')}`, and pass the folder"


def _convert_all(converter: Converter, plan: Plan, steps: Iterable[None], bar: Progress | None) -> list[Job]:
    """Work through the pairs and return those that are good."""
    good: list[Job] = []
    for job, _ in zip(plan.jobs, steps, strict=True):
        if converter.num_good > len(good):
            good.append(job)
        if bar is not None:
            bar.advance()
    return good


def _final_splits(plan: Plan, good: Sequence[Job], shares: tuple[float, float]) -> dict[str, str]:
    """Return the split of every good pair; the shares are those of what is left."""
    if plan.own_splits or len(good) == len(plan.jobs):
        return {job.id: job.split for job in good}
    return assign_splits((job.id for job in good), *shares)


def _counts(splits: Iterable[str]) -> dict[str, int]:
    counts = Counter(splits)
    return {split: counts[split] for split in SPLITS}


def _remark_splits(plan: Plan, counts: Mapping[str, int], shares: tuple[float, float]) -> None:
    """Say which splits came out empty, and what changes it."""
    if not plan.own_splits:
        remark = advise_shares(counts, *shares)
    else:
        empty = [split for split, num in counts.items() if not num]
        has = " and ".join(split for split, num in counts.items() if num)
        reason = f"the source has its own splits, {has}, which --val and --test leave as they are"
        first = next(split for split in ("val", "test", "train") if counts[split])
        remedy = "" if "test" not in empty else f"; `seglab evaluate --split {first}` scores on {first}"
        remark = f"{' and '.join(empty)} {'are' if empty[1:] else 'is'} empty: {reason}{remedy}" if empty else ""
    if remark:
        plan.findings.remarks.append(remark)


def _remark(plan: Plan, converter: Converter, writer: DatasetWriter | None) -> None:
    """Say what became of an interrupted run's work."""
    if converter.num_taken_up:
        done = f"{converter.num_taken_up} of {len(plan.jobs)} pairs"
        plan.findings.remarks.append(f"went on where an interrupted run ended: {done} were done")
    if writer and writer.discarded:
        changes = "; ".join(writer.discarded)
        plan.findings.remarks.append(f"an interrupted run was not gone on from, it was made otherwise: {changes}")


def _judge(plan: Plan, converter: Converter, report: Path | None, drop_bad: bool) -> None:
    """Write the report of problems, or remove an old one, and raise if nothing can be built."""
    findings = plan.findings
    files.sweep([] if report is None else [report])
    if report is not None and findings.problems:
        files.write_json(report, findings.report())
    elif report is not None:
        report.unlink(missing_ok=True)
    if findings.problems and not drop_bad:
        raise ProblemsFound(findings, report)
    if not converter.num_good:
        hint = "`--dry-run` shows again what is wrong; `seglab prepare --sources` says what a layout needs"
        raise DataError(f"`{plan.raw_dir}` has no pair of a photo and a mask that can be used", hint)
    if converter.num_blank == converter.num_good:
        message = f"no mask in `{plan.raw_dir}` shows any class of task `{plan.task.name}` but the background"
        raise DataError(message, "is it the right --task, and are the values class ids?")


def _finish(writer: DatasetWriter, plan: Plan, splits: Mapping[str, str]) -> Dataset:
    if any(splits[job.id] != job.split for job in plan.jobs if job.id in splits):
        writer.resplit(splits)
    return writer.finish()
