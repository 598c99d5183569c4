"""What predict and cutout have in common before the first photo is read: what to do, with which model, and where to."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seglab.device import Device
from seglab.engines import EngineChoice
from seglab.errors import UsageError
from seglab.files import sweep
from seglab.inference.fidelity import SEGLAB
from seglab.inference.flow import Finish, Outcome, Run, callers_for, run
from seglab.inference.gathering import Gathering
from seglab.inference.inputs import STANDARD
from seglab.inference.ledger import Ledger, digest, input_key
from seglab.inference.model import Model
from seglab.inference.plan import Job, Layout, Plan, Planned, make_plan
from seglab.inference.predictor import Predictor
from seglab.inference.tiling import WHOLE_PHOTOS, Tiling
from seglab.shards import WHOLE, Shard

__all__ = ["DEFAULT_TERMS", "Errand", "Terms"]


@dataclass(frozen=True)
class Terms:
    """How a run over photos goes, whatever it makes of them."""

    out: Path | None = None
    """A folder, a file for one photo, or ``-`` for standard output; None leaves the choice to the command."""
    engine: str | EngineChoice = "auto"
    """A name in :data:`seglab.engines.ENGINES`, or a choice with all its details."""
    batch_size: int = 1
    """The most photos, or tiles of one, that go through the network at once."""
    measure: bool = False
    """Whether to measure what is found."""
    keep_ext: bool = False
    """Whether outputs are named after the whole file name."""
    skip_existing: bool = False
    """Whether photos that an earlier run has finished are left alone."""
    overwrite: bool = False
    """Whether files in the way that are no outputs of the command may be replaced."""
    max_pixels: int | None = None
    """Larger photos fail before they are decoded; :data:`seglab.data.images.MAX_PIXELS` by default."""
    tiling: Tiling = WHOLE_PHOTOS
    """Whether large photos are cut."""
    keep_exif: bool = False
    """Whether photos keep their EXIF block, for outputs that can hold one."""
    allow_truncated: bool = False
    """Whether photos that are cut off are decoded as far as they go. Outputs of whole ones do not depend on it."""
    allow_empty: bool = False
    """Whether it is fine if there are no photos."""
    shard: Shard = WHOLE
    """Which part of the photos to work on."""
    dry_run: bool = False
    """Whether only to tell what would be done."""

    @property
    def settings(self) -> dict[str, Any]:
        """What of it decides over outputs and is not the default, as plain JSON values."""
        tiles = {} if self.tiling == WHOLE_PHOTOS else {"tile": self.tiling.side}
        precision = "auto" if isinstance(self.engine, str) else self.engine.precision
        coarse = {} if precision in ("auto", "fp32") else {"precision": precision}
        return {**tiles, **coarse, **({"keep_exif": True} if self.keep_exif else {})}


DEFAULT_TERMS = Terms()


@dataclass(frozen=True)
class Errand:
    """A command's work, planned: the model is known, but nothing is loaded or written.

    Args:
        plan: What to do.
        model: What answers.
        settings: What decides over outputs.
        terms: How it goes.
    """

    plan: Plan
    model: Model
    settings: dict[str, Any]
    terms: Terms

    @classmethod
    def of(
        cls,
        photos: Sequence[str | Path],
        model: Model | Callable[[], Model],
        layout: Layout,
        settings: dict[str, Any],
        terms: Terms,
    ) -> "Errand":
        """Find the photos, decide all names, and find the model.

        Raises:
            UsageError: If names clash.
            DataError: If there is nothing to do, or no such model.
        """
        plan = make_plan(
            photos, layout, out=terms.out, keep_ext=terms.keep_ext, overwrite=terms.overwrite, shard=terms.shard,
            allow_empty=terms.allow_empty,
        )  # fmt: skip
        found = model if isinstance(model, Model) else model()
        return cls(plan, found, {**found.identity, **settings, **terms.settings}, terms)

    @property
    def digest(self) -> str:
        """A short text that differs where outputs may."""
        return digest(self.plan.command, self.settings)

    def start(
        self,
        device: Device,
        finisher: Callable[[Predictor], Finish],
        *,
        gathering: Gathering | None = None,
        ready: Callable[[Path], None] | None = None,
    ) -> Run:
        """Load the model, make the output folder ready, and return a run that works as it is iterated.

        Args:
            device: Where the model computes.
            finisher: Called once the model is loaded and before anything is written; makes what writes the outputs.
            gathering: Takes the answers to all photos.
            ready: Called with the output folder, if there is one, before the first photo.

        Raises:
            UsageError: If the model does not give what is asked for.
            DeviceError: If it cannot run there.
            DataError: If its weights are broken, or there is nowhere to write.
        """
        terms, plan = self.terms, self.plan
        # A photo alone, asked for once, leaves nothing beside its cutout.
        remember = terms.skip_existing or len(plan.jobs) > 1
        ledger = Ledger(plan.out_dir, plan.command, self.settings, shard=terms.shard, remember=remember)
        if terms.skip_existing:
            plan = _without_finished(plan, ledger, gathering)
        if terms.dry_run:
            return Run(plan, None, _told(plan))
        sweep(_own_places(plan, ledger, gathering, terms.shard))
        predictor = None
        outcomes: Generator[Outcome, None, None] = (item for item in plan.finished)
        if plan.jobs:
            predictor = self.model.open(device, engine=self._choice(device, plan), batch_size=terms.batch_size)
            if terms.tiling != WHOLE_PHOTOS and predictor.road is not SEGLAB:
                raise UsageError("`--tile` cuts photos, which the code of no original does", "leave out one of the two")
            finish = finisher(predictor)
            _open(ledger, gathering)
            if ready is not None and plan.out_dir is not None:
                ready(plan.out_dir)
                ledger.own(plan.companions)
            outcomes = run(
                plan, predictor, finish, ledger, max_pixels=terms.max_pixels, tiling=terms.tiling,
                keep_exif=terms.keep_exif, allow_truncated=terms.allow_truncated,
            )  # fmt: skip
        if gathering is not None:
            if not plan.jobs:
                _open(ledger, gathering)
            gathering.open(None if terms.shard == WHOLE else {input_key(job) for job in self.plan.jobs})
            outcomes = _gathering(outcomes, gathering, lambda: ledger.own(plan.gathered))
        return Run(plan, predictor, outcomes)

    def _choice(self, device: Device, plan: Plan) -> EngineChoice:
        engine, size = self.terms.engine, self.terms.batch_size
        choice = EngineChoice(engine) if isinstance(engine, str) else engine
        return replace(choice, callers=callers_for(device, len(plan.jobs), size))


def _open(ledger: Ledger, gathering: Gathering | None) -> None:
    """Begin to write into the output folder."""
    if gathering is not None:
        gathering.claim()
    ledger.open()


def _own_places(plan: Plan, ledger: Ledger, gathering: Gathering | None, shard: Shard) -> list[Path]:
    """Return the files that this process alone writes: what others have begun beside them is theirs."""
    outputs = [path for job in plan.jobs for path in job.outputs.values() if path != STANDARD]
    records = [ledger.path, None if gathering is None else gathering.spool_path]
    shared = plan.companions if shard == WHOLE else ()
    return [*outputs, *plan.gathered, *(path for path in records if path is not None), *shared]


def _without_finished(plan: Plan, ledger: Ledger, gathered: Gathering | None) -> Plan:
    if gathered is None:
        return plan.without_finished(ledger.is_done)
    gathered.recall()
    return plan.without_finished(lambda job: gathered.has(job) and ledger.is_done(job))


def _told(plan: Plan) -> Generator[Outcome, None, None]:
    yield from (Planned(item.path, item.outputs) if isinstance(item, Job) else item for item in plan.items)


def _gathering(
    outcomes: Generator[Outcome, None, None], gathered: Gathering, written: Callable[[], None]
) -> Generator[Outcome, None, None]:
    """Write the gathered files once everything else is done."""
    try:
        yield from outcomes
        gathered.finish()
        written()
    finally:
        gathered.release()
