"""From photos and masks as somebody published them to a prepared dataset, or to the list of all that is wrong."""

import contextlib
import difflib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from seglab import files
from seglab.config import FitMode, Preprocess
from seglab.data.alignment import align, fit_labels, fit_photo, wanted_size
from seglab.data.decoding import ImageError, open_picture, read_file
from seglab.data.duplicates import ACROSS_SPLITS, PhotoIndex
from seglab.data.images import read_photo
from seglab.data.manifest import Dataset, DatasetWriter, finished_dataset
from seglab.data.masks import load_colours
from seglab.data.naming import assign_splits, unique_ids
from seglab.data.problems import Findings, Problem, ProblemsFound, report_path
from seglab.data.sources import (
    BadLabels,
    BadRows,
    Item,
    LeftOut,
    Outlines,
    Scan,
    Source,
    SourceOptions,
    find_source,
    recognise,
)
from seglab.device import num_threads
from seglab.errors import DataError, UsageError, unknown
from seglab.pipeline import ahead
from seglab.tasks import IGNORE, TASKS, Rgb, Task

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
    unchanged: bool = False
    """Whether the very same dataset was there already, so that nothing was done."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        counts = {name: len(self.dataset.split(name)) for name in self.dataset.splits} if self.dataset else None
        return {
            "dataset": str(self.dataset.dir) if self.dataset else None,
            "digest": self.dataset.digest if self.dataset else None,
            "source": self.source,
            "samples": self.num_samples,
            "splits": counts,
            "unchanged": self.unchanged,
            **self.findings.to_dict(),
        }


def prepare(
    raw_dir: Path,
    out_dir: Path,
    *,
    task: Task | None = None,
    source: str | None = None,
    val: float = 0.1,
    test: float = 0.1,
    max_side: int | None = None,
    size: int | None = None,
    fit: FitMode = "stretch",
    rules: str | None = None,
    colours: Path | Mapping[Rgb, int] | None = None,
    workers: int | None = None,
    drop_bad: bool = False,
    dry_run: bool = False,
    force: bool = False,
    progress: Callable[[int], AbstractContextManager[Progress]] | None = None,
) -> Prepared:
    """Turn a source into a prepared dataset in one pass over its files, which are only read.

    Everything wrong is collected. With a problem nothing is built, unless bad pairs are dropped. A finished dataset of
    the same files and options is left alone.

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
        drop_bad: Leave bad pairs out instead of refusing all.
        dry_run: Check everything, write nothing.
        force: Replace a dataset that is there.
        progress: Called with the number of pairs; its ``advance`` is called for each.

    Raises:
        ProblemsFound: If something cannot be used; it has them all.
        DataError: If the source is not known, has no usable pair, or something else is in the way.
        UsageError: If an option is impossible.
    """
    _check_arguments(raw_dir, out_dir, max_side, size, (val, test))
    grid = Preprocess(size_hw=(size, size), fit=fit) if size else None
    plan = _plan(raw_dir, task, source, colours, (val, test), rules, grid)
    options = {**plan.options, "max_side": max_side, "drop_bad": drop_bad}
    if not force and not dry_run and (there := finished_dataset(out_dir, plan.task, plan.source, options)):
        return Prepared(there, plan.source, plan.reason, len(there.samples), plan.findings, unchanged=True)
    writer = None if dry_run else DatasetWriter(out_dir, plan.task, plan.source, options, force=force)
    with ExitStack() as stack:
        converter = _Converter(plan, max_side, grid, stack.enter_context(writer) if writer else None, drop_bad)
        bar = stack.enter_context(progress(len(plan.jobs))) if progress else None
        for _ in converter.run(num_threads() if workers is None else workers):
            if bar is not None:
                bar.advance()
        _judge(plan, converter, None if dry_run else report_path(out_dir), drop_bad)
        dataset = _finish(writer, plan, (val, test)) if writer else None
    splits = {sample.id: sample.split for sample in dataset.samples} if dataset else plan.splits
    for photos in converter.photos.across(splits):
        plan.findings.note(ACROSS_SPLITS, photos)
    return Prepared(dataset, plan.source, plan.reason, converter.num_good, plan.findings)


@dataclass(frozen=True)
class _Job:
    """One pair on its way."""

    item: Item
    id: str
    split: str


@dataclass(frozen=True)
class _Plan:
    """What is known before a file is opened."""

    raw_dir: Path
    task: Task
    source: str
    reason: str
    jobs: list[_Job]
    options: dict[str, Any]
    findings: Findings
    own_splits: bool

    @property
    def splits(self) -> dict[str, str]:
        """The split of every id, if no pair turns out to be bad."""
        return {job.id: job.split for job in self.jobs}


@dataclass(frozen=True)
class _Outcome:
    """What became of a pair."""

    path: str
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    blank: bool = False
    left_out: bool = False


def _plan(
    raw_dir: Path,
    task: Task | None,
    source: str | None,
    colours: Path | Mapping[Rgb, int] | None,
    shares: tuple[float, float],
    rules: str | None,
    grid: Preprocess | None,
) -> _Plan:
    module, reason = (find_source(source), "") if source else recognise(raw_dir)
    task = _chosen_task(task, module)
    _check_rules(rules, module)
    if isinstance(colours, Path):
        colours = load_colours(colours, task)
    stretched = grid.size_hw[0] if grid and grid.fit == "stretch" else None
    scan = module.scan(raw_dir, SourceOptions(task, colours, shares[0], rules, stretched))
    findings = Findings(len(scan.items), list(scan.remarks), list(scan.problems))
    own_splits = all(item.split for item in scan.items)
    options = {
        **({} if own_splits else {"val": shares[0], "test": shares[1]}),
        "colours": sorted([*colour, id] for colour, id in colours.items()) if colours else None,
        "rules": rules,
        "grid": {"size": grid.size_hw[0], "fit": grid.fit} if grid else None,
        "source_files": _fingerprint(scan, raw_dir),
    }
    jobs = _jobs(scan, raw_dir, shares, findings)
    return _Plan(raw_dir, task, module.NAME, reason, jobs, options, findings, own_splits)


def _check_arguments(
    raw_dir: Path, out_dir: Path, max_side: int | None, size: int | None, shares: tuple[float, float]
) -> None:
    if not raw_dir.is_dir():
        near = difflib.get_close_matches(raw_dir.name, [path.name for path in raw_dir.parent.glob("*/")], n=1)
        hint = f"did you mean `{raw_dir.parent / near[0]}`?" if near else "pass the folder that holds photos and masks"
        raise DataError(f"there is no folder `{raw_dir}`", hint)
    raw, out = raw_dir.resolve(), out_dir.resolve()
    if out.is_relative_to(raw) or raw.is_relative_to(out):
        message = f"`{out_dir}` and the source `{raw_dir}` lie in each other; sources are never written to"
        raise UsageError(message, "choose a place beside the source")
    for name, value in (("--max-side", max_side), ("--size", size)):
        if value is not None and value < MIN_SIDE:
            raise UsageError(f"{name} `{value}` is less than {MIN_SIDE} pixels")
    if max_side is not None and size is not None:
        raise UsageError("--size and --max-side exclude each other")
    assign_splits((), *shares)


def _chosen_task(task: Task | None, source: Source) -> Task:
    if task is not None:
        return task
    if source.TASK is None:
        hint = f"--task with one of {', '.join(TASKS)}, or a TOML file of your own"
        raise UsageError(f"source `{source.NAME}` does not say what its masks mean", hint)
    return TASKS[source.TASK]


def _check_rules(rules: str | None, source: Source) -> None:
    known = getattr(source, "RULES", ())
    if rules is not None and not known:
        raise UsageError(f"source `{source.NAME}` has no --rules to choose from")
    if rules is not None and rules not in known:
        raise unknown(f"rules of source `{source.NAME}`", rules, known)


def _jobs(scan: Scan, raw_dir: Path, shares: tuple[float, float], findings: Findings) -> list[_Job]:
    """Give every pair its id and split; pairs that cannot be told apart become problems."""
    ids, clashes = unique_ids(item.name for item in scan.items)
    paths = {item.name: item.photo_path.relative_to(raw_dir).as_posix() for item in scan.items}
    for names in clashes:
        others = ", ".join(f"`{paths[name]}`" for name in names[1:])
        findings.problems.append(Problem("names that differ in case only", paths[names[0]], f"and {others}"))
    splits = assign_splits([ids[item.name] for item in scan.items if item.name in ids and not item.split], *shares)
    return [_Job(item, ids[item.name], item.split or splits[ids[item.name]]) for item in scan.items if item.name in ids]


def _fingerprint(scan: Scan, raw_dir: Path) -> str:
    """Hash names, splits, sizes and times of all files that take part: cheap, and changes when the source does."""
    digest = hashlib.sha256()
    for item in sorted(scan.items, key=lambda item: (item.split or "", item.name)):
        for path in (item.photo_path, item.label_path, *item.more_paths):
            with contextlib.suppress(OSError):
                status = path.stat()
                where = path.relative_to(raw_dir).as_posix().encode(errors="surrogateescape")
                digest.update(where + f"\0{item.split}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    for problem in scan.problems:
        digest.update(problem.path.encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()


class _Converter:
    """Reads, checks, aligns and writes the pairs, in threads."""

    def __init__(
        self,
        plan: _Plan,
        max_side: int | None,
        grid: Preprocess | None,
        writer: DatasetWriter | None,
        drop_bad: bool,
    ) -> None:
        self.num_good = 0
        self.num_blank = 0
        self.photos = PhotoIndex()
        self._plan = plan
        self._max_side = max_side
        self._grid = grid
        self._drop_bad = drop_bad
        # With a problem that nobody allowed nothing will be built, so the rest is only checked.
        self._writer = writer if drop_bad or not plan.findings.problems else None

    def run(self, workers: int) -> Iterator[None]:
        """Convert every pair and put what is noticed into the findings; yields after each."""
        findings = self._plan.findings
        for outcome in ahead(self._convert, self._plan.jobs, workers=workers):
            findings.problems += outcome.problems
            for note in outcome.notes:
                findings.note(note, outcome.path)
            self.num_good += not outcome.problems and not outcome.left_out
            self.num_blank += outcome.blank
            if outcome.problems and not self._drop_bad:
                self._writer = None
            yield

    def _convert(self, job: _Job) -> _Outcome:
        photo_path, label_path = (self._relative(path) for path in (job.item.photo_path, job.item.label_path))
        photo, labels, problems = None, None, []
        try:
            photo = _read(job.item.photo_path, self._max_side, self._grid)
        except ImageError as error:
            problems.append(Problem("unreadable photo", photo_path, error.message))
        try:
            labels = job.item.read_labels()
        except LeftOut as reason:
            return _Outcome(photo_path, notes=(f"left out: {reason.message}",), left_out=True)
        except BadLabels as error:
            problems.append(Problem(error.kind, label_path, error.message, error.values))
        except BadRows as error:
            problems += error.problems
        except ImageError as error:
            problems.append(Problem("unreadable mask", label_path, error.message))
        if photo is None or labels is None:
            return _Outcome(photo_path, tuple(problems))
        return self._fit(job, photo, labels, photo_path)

    def _fit(self, job: _Job, photo: "_Photo", labels: NDArray[np.uint8] | Outlines, path: str) -> _Outcome:
        height, width = photo.size_hw
        alignment = align((height, width), photo.orientation, labels.shape, self._max_side)
        if alignment is None:
            detail = f"photo {width}x{height}, mask {labels.shape[1]}x{labels.shape[0]}"
            detail += "" if isinstance(labels, np.ndarray) else f" ({labels.place})"
            return _Outcome(path, (Problem("photo and mask of different shape", path, detail),))
        notes = [*photo.notes, *job.item.notes]
        if alignment.turn_labels:
            notes.append("mask turned upright with its photo")
        elif photo.orientation > 1 and (photo.orientation < 5 or height == width):
            notes.append("photo turned upright, mask taken to be so already: their sizes do not tell")
        if self._grid is None and labels.shape not in ((height, width), (width, height)):
            notes.append("photo resized to its mask")
        fitted = fit_labels(labels, (height, width), photo.orientation, alignment, self._grid)
        blank = not ((fitted > 0) & (fitted < IGNORE)).any()
        if blank:
            notes.append("mask of nothing but background")
        self.photos.add(job.id, path, photo.image)
        writer = self._writer
        if writer is not None:
            untouched = photo.plain and (height, width) == fitted.shape
            image = job.item.photo_path if untouched else fit_photo(photo.image, photo.size_hw, alignment, self._grid)
            writer.add(job.id, job.split, image, fitted, lossless=photo.lossless)
        return _Outcome(path, notes=tuple(notes), blank=blank)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._plan.raw_dir).as_posix()


@dataclass(frozen=True)
class _Photo:
    """A decoded photo and what decides how it is stored."""

    image: NDArray[np.uint8]
    """Perhaps smaller than the photo, where it will be shrunk anyway."""
    size_hw: tuple[int, int]
    orientation: int
    plain: bool
    """Whether the file itself is an upright 8-bit RGB JPEG or PNG that any tool reads the same."""
    lossless: bool
    notes: tuple[str, ...]


def _read(path: Path, max_side: int | None, grid: Preprocess | None) -> _Photo:
    data = read_file(path)
    header = open_picture(data)
    photo = read_photo(data, wanted_hw=wanted_size(header.size_hw, max_side, grid))
    plain = (
        header.format in ("JPEG", "PNG")
        and header.mode == header.rawmode == "RGB"
        and header.num_frames == 1
        and header.orientation == 1
        and "transparency" not in header.pil.info
        and not photo.notes
    )
    return _Photo(photo.image, header.size_hw, header.orientation, plain, not header.is_lossy(), photo.notes)


def _judge(plan: _Plan, converter: _Converter, report: Path | None, drop_bad: bool) -> None:
    """Write the report of problems, or remove an old one, and raise if nothing can be built."""
    findings = plan.findings
    if report is not None and findings.problems:
        files.write_json(report, findings.report())
    elif report is not None:
        report.unlink(missing_ok=True)
    if findings.problems and not drop_bad:
        raise ProblemsFound(findings, report)
    if not converter.num_good:
        raise DataError(f"`{plan.raw_dir}` has no pair of a photo and a mask that can be used")
    if converter.num_blank == converter.num_good:
        message = f"no mask in `{plan.raw_dir}` shows any class of task `{plan.task.name}` but the background"
        raise DataError(message, "is it the right --task, and are the values class ids?")


def _finish(writer: DatasetWriter, plan: _Plan, shares: tuple[float, float]) -> Dataset:
    if len(writer.ids) < len(plan.jobs) and not plan.own_splits:  # the shares are those of what is left
        writer.resplit(assign_splits(writer.ids, *shares))
    return writer.finish()
