"""Every output name, decided before any work, with every clash refused."""

import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from seglab.errors import UsageError
from seglab.inference.inputs import CUTOUT_MARK, STANDARD, Failure, Source, find_sources, only_files
from seglab.inference.ledger import foreign, read_command
from seglab.shards import WHOLE, Shard

__all__ = ["Job", "Layout", "Plan", "Planned", "Skipped", "make_plan", "part_name"]


@dataclass(frozen=True)
class Job:
    """A photo and the files it is to become."""

    path: Path
    outputs: Mapping[str, Path]
    """Name of a form (``palette``, ``overlay``, ``cutout``) to its file; ``-`` is standard output."""
    place: Path = Path()
    """The photo's place in the tree of inputs (see :class:`seglab.inference.inputs.Source`)."""
    data: bytes | None = field(default=None, repr=False)
    """The photo's content, where it is no file."""

    @property
    def source(self) -> Path | bytes:
        """What to decode."""
        return self.path if self.data is None else self.data


@dataclass(frozen=True)
class Skipped:
    """A photo that an earlier run has finished."""

    path: Path
    outputs: Mapping[str, Path]


@dataclass(frozen=True)
class Planned:
    """A photo that would be worked on."""

    path: Path
    outputs: Mapping[str, Path]


@dataclass(frozen=True)
class Layout:
    """How a command names what it writes."""

    command: str
    """The verb; an output folder belongs to one."""
    suffixes: Mapping[str, tuple[str, ...]]
    """Form to the file suffixes it can be written with, the usual one first. The first form of a photo takes the
    photo's name, ``a.png``; each further one adds its own, ``a.overlay.jpg``."""
    default_dir: Path
    """The output folder when none is named."""
    beside: bool = False
    """Whether named files are answered beside themselves, ``a.cutout.png``, when no output is named."""
    endings: Mapping[str, str] = field(default_factory=dict)
    """What the names of some forms get before their suffix, whatever the order: ``.hair`` for ``a.hair.png``."""
    gathered: tuple[str, ...] = ()
    """Names of files in the output folder that take the answers to all photos: ``annotations.json``."""
    companions: tuple[str, ...] = ()
    """Names of files in the output folder that say what outputs mean: ``legend.json``."""


@dataclass(frozen=True)
class Plan:
    """What a run is going to do, in the order of its inputs."""

    command: str
    items: tuple[Job | Skipped | Failure, ...]
    out_dir: Path | None
    """The folder that all outputs go into; None when a file was named, or outputs go beside their photos."""
    gathered: tuple[Path, ...] = ()
    """Files in it that take the answers to all photos."""
    companions: tuple[Path, ...] = ()
    """Files in it that say what outputs mean."""
    passed_over: tuple[Path, ...] = ()
    """Folders of other outputs that were not searched for photos."""
    hidden: tuple[Path, ...] = ()
    """Photos that were left out because their names begin with a dot."""

    @property
    def jobs(self) -> list[Job]:
        """The photos to work on."""
        return [item for item in self.items if isinstance(item, Job)]

    @property
    def finished(self) -> list[Skipped | Failure]:
        """What is known without any work."""
        return [item for item in self.items if not isinstance(item, Job)]

    def without_finished(self, is_done: Callable[[Job], bool]) -> "Plan":
        """Return the plan with the photos skipped that are finished already."""
        items = (
            Skipped(item.path, item.outputs) if isinstance(item, Job) and is_done(item) else item for item in self.items
        )
        return replace(self, items=tuple(items))


def make_plan(
    arguments: Sequence[str | Path],
    layout: Layout,
    *,
    out: Path | None = None,
    keep_ext: bool = False,
    overwrite: bool = False,
    shard: Shard = WHOLE,
    allow_empty: bool = False,
) -> Plan:
    """Find the photos and decide where everything goes; writes nothing, and reads nothing but standard input.

    Outputs of earlier runs of the same command are replaced: they lie in a folder that carries its ledger, or beside
    their photo, or are the one file that was named. Any other file in the way is refused.

    Args:
        arguments: Photos, see :func:`seglab.inference.inputs.find_sources`.
        layout: The command's way of naming.
        out: A folder, or, for one photo and one form, a file with a picture's suffix, or ``-`` for standard output.
        keep_ext: Whether ``a.jpg`` becomes ``a.jpg.png`` rather than ``a.png``.
        overwrite: Whether files that are not this command's own may be replaced.
        shard: Which part of the photos to keep, once all names are decided.
        allow_empty: Whether folders, patterns and lists may hold no photo.

    Raises:
        DataError: If there is nothing to work on.
        UsageError: If two outputs would be one file, an output would replace a photo, a folder or a file that is not
            the command's own, the output folder is searched for photos, or standard output is a terminal.
    """
    if out == STANDARD:
        _check_stdout(layout)
    if out == STANDARD or (out is not None and _names_a_file(out, layout)):
        plan = _one_file(arguments, layout, out)
    elif out is None and layout.beside and only_files(arguments):
        plan = _beside(arguments, layout)
    else:
        plan = _in_folder(arguments, layout, out or layout.default_dir, keep_ext, shard, allow_empty)
    _refuse_clashes(plan)
    if plan.out_dir is not None and not overwrite:
        _refuse_foreign(plan, plan.out_dir)
    return replace(plan, items=tuple(shard.of(plan.items)))


def _check_stdout(layout: Layout) -> None:
    if layout.gathered:
        raise UsageError(f"`{layout.gathered[0]}` goes into a folder, not to standard output", "name one with `-o`")
    if sys.stdout is None or sys.stdout.closed or sys.__stdout__ is None:  # the last: closed since before Python
        raise UsageError("standard output is closed", "name a file or a folder with `-o`")
    if sys.stdout.isatty():
        raise UsageError(
            "refusing to write a picture to a terminal", "send it on: `-o - > FILE`, or name a file: `-o FILE`"
        )


def _names_a_file(out: Path, layout: Layout) -> bool:
    """Tell a file from a folder: by what exists, otherwise by a picture's suffix."""
    if out.is_dir():
        return False
    if out.exists() and not out.is_file():
        raise UsageError(f"`{out}` is neither a file nor a folder")
    from seglab.data.images import IMAGE_SUFFIXES

    allowed = {suffix for suffixes in layout.suffixes.values() for suffix in suffixes}
    for name in layout.gathered:
        if out.suffix.lower() == Path(name).suffix:
            raise UsageError(f"`{name}` goes into a folder", f"name one with `-o`: `-o {out.with_suffix('')}`")
    if out.suffix.lower() in IMAGE_SUFFIXES | allowed:
        return True
    if out.is_file():
        raise UsageError(f"`{out}` is a file, not a folder", "name another folder with `-o`")
    return False


def _one_file(arguments: Sequence[str | Path], layout: Layout, out: Path) -> Plan:
    forms = [*layout.suffixes, *layout.gathered]
    if len(forms) > 1:
        listed = ", ".join(f"`{form}`" for form in forms)
        raise UsageError(f"`{out}` is one file, but {listed} are asked for", "name a folder with `-o`")
    ((form, suffixes),) = layout.suffixes.items()
    if out != STANDARD and out.suffix.lower() not in suffixes:
        raise UsageError(f"a {form} cannot be written as `{out.suffix}`", f"it can be {', '.join(suffixes)}")
    if list(arguments) != ["-"] and (len(arguments) != 1 or not only_files(arguments)):
        if len(arguments) == 1:
            find_sources(arguments)  # a name that is not there is told as what it is
        raise UsageError(f"`{out}` is one file, but the photos may be several", "name a folder with `-o`")
    items = (
        Job(item.path, {form: out}, item.place, item.data) if isinstance(item, Source) else item
        for item in find_sources(arguments)
    )
    return Plan(layout.command, tuple(items), None)


def _beside(arguments: Sequence[str | Path], layout: Layout) -> Plan:
    ((form, suffixes),) = layout.suffixes.items()
    ending = CUTOUT_MARK + suffixes[0]
    hidden: list[Path] = []
    items = tuple(
        Job(item.path, {form: item.path.with_name(item.path.stem + ending)}, item.place)
        if isinstance(item, Source)
        else item
        for item in find_sources(arguments, hidden=hidden)
    )
    return Plan(layout.command, items, None, hidden=tuple(hidden))


def _in_folder(
    arguments: Sequence[str | Path], layout: Layout, out_dir: Path, keep_ext: bool, shard: Shard, allow_empty: bool
) -> Plan:
    for argument in arguments:
        if out_dir.is_dir() and Path(argument).is_dir() and out_dir.samefile(argument):
            raise UsageError(f"`{out_dir}` is both the input and the output folder", "name another folder with `-o`")
    items: list[Job | Failure] = []
    passed_over, hidden = list[Path](), list[Path]()
    for item in find_sources(
        arguments, exclude_dir=out_dir, allow_empty=allow_empty, passed_over=passed_over, hidden=hidden
    ):
        if isinstance(item, Source):
            items.append(_named(item, layout, out_dir, keep_ext))
        else:
            items.append(item)
    gathered = tuple(out_dir / part_name(name, shard) for name in layout.gathered)
    companions = tuple(out_dir / name for name in layout.companions)
    return Plan(layout.command, tuple(items), out_dir, gathered, companions, tuple(passed_over), tuple(hidden))


def part_name(name: str, shard: Shard) -> str:
    """Return the name of a part's own file: ``annotations.2-of-4.json``, where the whole has ``annotations.json``."""
    path = Path(name)
    return name if shard == WHOLE else f"{path.stem}.{shard.index}-of-{shard.num}{path.suffix}"


def _named(source: Source, layout: Layout, out_dir: Path, keep_ext: bool) -> Job | Failure:
    place = source.place
    name = place.name if keep_ext else place.stem
    outputs = {}
    first = next((form for form in layout.suffixes if form not in layout.endings), None)
    for form, suffixes in layout.suffixes.items():
        ending = layout.endings.get(form, "" if form == first else f".{form}") + suffixes[0]
        outputs[form] = out_dir / place.parent / (name + ending)
        if len(os.fsencode(name + ending)) > 255:
            return Failure(source.path, f"the name of its output, `*{ending}`, would be too long")
    return Job(source.path, outputs, place, source.data)


def _refuse_clashes(plan: Plan) -> None:
    key = _Keys()
    files = [job.path for job in plan.jobs if job.data is None]
    photos = {spelling: path for path in files for spelling in (key(path), key(path.resolve()))}
    own_files = (*plan.gathered, *plan.companions)
    owners: dict[str, Path] = {key(path): path for path in own_files}
    for path in own_files:
        if path.is_dir() or key(path) in photos:
            raise UsageError(f"the output `{path}` would replace what is there", "name another folder with `-o`")
    for job, output in _outputs(plan):
        if (photo := photos.get(key(output))) is not None:
            raise UsageError(f"the output of `{job.path}` would replace the photo `{photo}`", "name a folder with `-o`")
        if (other := owners.setdefault(key(output), job.path)) != job.path:
            raise UsageError(f"`{other}` and `{job.path}` would both become `{output}`", _clash_hint(other, job.path))
        if output.is_dir():
            raise UsageError(f"the output of `{job.path}`, `{output}`, is a folder", "name another folder with `-o`")
    for job, output in _outputs(plan):
        if (owner := owners.get(key(output.parent))) is not None:
            raise UsageError(
                f"`{output.parent}` would be the output of `{owner}` and the folder of that of `{job.path}`",
                "run them apart, with different output folders",
            )
    if plan.gathered:
        _refuse_same_places(plan)


def _refuse_same_places(plan: Plan) -> None:
    """Refuse two photos that one file of answers would call by the same name."""
    owners: dict[Path, Path] = {}
    for job in plan.jobs:
        if (other := owners.setdefault(job.place, job.path)) != job.path:
            where = plan.gathered[0].name
            raise UsageError(
                f"`{other}` and `{job.path}` would both be `{job.place}` in `{where}`", _clash_hint(other, job.path)
            )


def _clash_hint(first: Path, second: Path) -> str:
    if first.suffix.lower() != second.suffix.lower():
        return "`--keep-ext` names outputs after the whole file name: `a.jpg.png`"
    if first.parent != second.parent:
        return "name their common folder, whose tree is kept, or run them apart, with different output folders"
    return "rename one, or run them apart, with different output folders"


def _refuse_foreign(plan: Plan, out_dir: Path) -> None:
    owner = read_command(out_dir)
    if owner not in (None, plan.command):
        raise UsageError(f"`{out_dir}` holds the outputs of `seglab {owner}`", "name another folder with `-o`")
    outputs = (*plan.gathered, *plan.companions, *(output for _, output in _outputs(plan)))
    existing = [output for output in outputs if output.exists()] if owner is None else foreign(out_dir, outputs)
    if existing:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise UsageError(
            f"`{existing[0]}`{more} exists and is not an output of `seglab {plan.command}`",
            "`--overwrite` replaces it; `-o DIR` writes elsewhere",
        )


def _outputs(plan: Plan) -> Iterator[tuple[Job, Path]]:
    for job in plan.jobs:
        for output in job.outputs.values():
            if output != STANDARD:
                yield job, output


class _Keys:
    """Spells a path so that two names of one file are equal, also where case or accents do not count."""

    def __init__(self) -> None:
        self._folders: dict[Path, str] = {}

    def __call__(self, path: Path) -> str:
        folder = self._folders.get(path.parent)
        if folder is None:
            folder = self._folders[path.parent] = os.path.realpath(path.parent)
        return unicodedata.normalize("NFC", unicodedata.normalize("NFC", f"{folder}/{path.name}").casefold())
