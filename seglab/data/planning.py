"""What is known of a source before a photo is opened: pairs, ids, splits, options, and what cannot be paired."""

import contextlib
import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from seglab.data.masks import load_colours
from seglab.data.naming import assign_splits, unique_ids
from seglab.data.pairing import hidden_pictures
from seglab.data.problems import Findings, Problem
from seglab.data.sources import SOURCES, Item, Scan, Source, SourceOptions, find_source, recognise
from seglab.errors import DataError, UsageError, unknown
from seglab.preprocess import Preprocess
from seglab.tasks import TASKS, Rgb, Task

__all__ = ["DEFAULT_SHARE", "Job", "Plan", "make_plan"]


DEFAULT_SHARE: Final = 0.1
"""Of the validation and of the test split, where nothing else is asked for."""
NUM_NAMED: Final = 5
"""So many of the files that are left out are named."""


@dataclass(frozen=True)
class Job:
    """One pair on its way."""

    item: Item
    id: str
    split: str


@dataclass(frozen=True)
class Plan:
    """What is known before a file is opened."""

    raw_dir: Path
    task: Task
    source: str
    reason: str
    jobs: list[Job]
    options: dict[str, Any]
    findings: Findings
    own_splits: bool

    @property
    def splits(self) -> dict[str, str]:
        """The split of every id, if no pair turns out to be bad."""
        return {job.id: job.split for job in self.jobs}


def make_plan(
    raw_dir: Path,
    task: Task | None,
    source: str | None,
    colours: Path | Mapping[Rgb, int] | None,
    shares: tuple[float, float],
    rules: str | None,
    grid: Preprocess | None,
) -> Plan:
    """Recognise the source if it is not named, find its pairs, and name and share them out.

    Args:
        raw_dir: The source.
        task: What the labels mean; None where the layout can only be of one task.
        source: Name of the layout.
        colours: Meaning of the colours of colour masks, or its file.
        shares: Shares of the validation and the test split.
        rules: How to understand the labels, where the layout has several ways.
        grid: What everything will be brought to.

    Raises:
        DataError: If the folder has not the layout, or no known one.
        UsageError: If the task is not known, or an option does not fit the source.
    """
    module, reason = (find_source(source), "") if source else recognise(raw_dir)
    task = _chosen_task(task, module, reason, raw_dir)
    _check_rules(rules, module)
    if colours is not None and not getattr(module, "COLOURS", False):
        hint = "leave --colours out; `--source folders` reads masks of colours"
        raise UsageError(f"source `{module.NAME}` has no masks of colours", hint)
    if isinstance(colours, Path):
        colours = _read_colours(colours, task)
    stretched = grid.size_hw[0] if grid and grid.fit == "stretch" else None
    scan = module.scan(raw_dir, SourceOptions(task, colours, shares[0], rules, stretched))
    findings = Findings(len(scan.items), module.NAME, reason, [*scan.remarks, *_left_out(raw_dir)], list(scan.problems))
    own_splits = bool(scan.items) and all(item.split for item in scan.items)
    if own_splits:
        findings.remarks += _unused_shares(shares, module)
    options = {
        **({} if own_splits else {"val": shares[0], "test": shares[1]}),
        "colours": sorted([*colour, id] for colour, id in colours.items()) if colours else None,
        "rules": rules,
        "grid": {"size": grid.size_hw[0], "fit": grid.fit} if grid else None,
        "source_files": _fingerprint(scan, raw_dir),
    }
    jobs = _jobs(scan, raw_dir, shares, findings)
    return Plan(raw_dir, task, module.NAME, reason, jobs, options, findings, own_splits)


def _chosen_task(task: Task | None, source: Source, reason: str, raw_dir: Path) -> Task:
    if task is not None:
        return task
    if source.TASK is None:
        offered = getattr(source, "TASKS", TASKS)
        hint = f"add `--task NAME`: {', '.join(offered)}, or a TOML file of your own"
        if (raw_dir / "dataset.json").is_file():
            hint = f"it is a prepared dataset already: `seglab inspect {shlex.quote(str(raw_dir))}`; else {hint}"
        why = f" ({reason})" if reason else ""
        raise UsageError(f"source `{source.NAME}` does not say what its masks mean{why}", hint)
    return TASKS[source.TASK]


def _check_rules(rules: str | None, source: Source) -> None:
    known = getattr(source, "RULES", ())
    if rules is not None and not known:
        having = [name for name in SOURCES if getattr(find_source(name), "RULES", ())]
        hint = f"leave `--rules {rules}` out; {', '.join(f'`--source {name}`' for name in having)} has rules"
        raise UsageError(f"source `{source.NAME}` has no --rules to choose from", hint)
    if rules is not None and rules not in known:
        raise unknown(f"rules of source `{source.NAME}`", rules, known)


def _unused_shares(shares: tuple[float, float], source: Source) -> list[str]:
    """Say that shares which somebody asked for have no effect."""
    used = {"val"} if getattr(source, "DRAWS_VAL", False) else set()
    unused = [
        f"--{name} {share:g}"
        for name, share in zip(("val", "test"), shares, strict=True)
        if share != DEFAULT_SHARE and name not in used
    ]
    return [f"{' '.join(unused)} not used: the source has its own splits"] if unused else []


def _left_out(raw_dir: Path) -> list[str]:
    from seglab.data.images import IMAGE_SUFFIXES

    paths = [path.relative_to(raw_dir).as_posix() for path in hidden_pictures(raw_dir, IMAGE_SUFFIXES)]
    if not paths:
        return []
    what = f"{len(paths)} pictures" if paths[1:] else "1 picture"
    named = ", ".join(f"`{path}`" for path in paths[:NUM_NAMED]) + (" ..." if paths[NUM_NAMED:] else "")
    return [f"{what} left out, as their names begin with a dot: {named}"]


def _read_colours(path: Path, task: Task) -> Mapping[Rgb, int]:
    try:
        return load_colours(path, task)
    except DataError as error:
        if error.hint:
            raise
        example = f'{task.classes[0]} = "#000000"'
        raise DataError(error.message, f"write a class a line, each with its own colours: `{example}`") from error


def _jobs(scan: Scan, raw_dir: Path, shares: tuple[float, float], findings: Findings) -> list[Job]:
    """Give every pair its id and split; pairs that cannot be told apart become problems."""
    ids, clashes = unique_ids(item.name for item in scan.items)
    paths = {item.name: item.photo_path.relative_to(raw_dir).as_posix() for item in scan.items}
    for names in clashes:
        others = ", ".join(f"`{paths[name]}`" for name in names[1:])
        findings.problems.append(Problem("names that differ in case only", paths[names[0]], f"and {others}"))
    splits = assign_splits([ids[item.name] for item in scan.items if item.name in ids and not item.split], *shares)
    return [Job(item, ids[item.name], item.split or splits[ids[item.name]]) for item in scan.items if item.name in ids]


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
