"""What is wrong with a source, collected, grouped and reported at once."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from seglab.errors import DataError

__all__ = ["FOREIGN_IDS", "Findings", "Problem", "ProblemGroup", "ProblemsFound", "report_path"]

FOREIGN_IDS: Final = "ids outside the task"

NUM_FIRST: Final = 3
"""How many file names stand for a group."""

NUM_VALUES: Final = 8
"""How many offending values stand for a group."""


@dataclass(frozen=True)
class Problem:
    """Something in a source that cannot be used as it is."""

    kind: str
    """The same words for all of a kind, e.g. ``photo without a mask``."""
    path: str
    """The file, relative to the source."""
    detail: str = ""
    """What exactly, if there is more to say than the kind."""
    values: Mapping[str, int] = field(default_factory=dict)
    """Offending label values or colours and the number of their pixels."""


@dataclass(frozen=True)
class ProblemGroup:
    """All problems of a kind."""

    kind: str
    count: int
    first: tuple[str, ...]
    """The first files."""
    detail: str
    """The offending values of all files, or the reasons by frequency."""


@dataclass
class Findings:
    """Everything that was noticed on the way through a source."""

    num_pairs: int = 0
    source: str = ""
    """Name of the layout."""
    reason: str = ""
    """How it was recognised; empty if it was named."""
    remarks: list[str] = field(default_factory=list)
    """How the source was understood."""
    problems: list[Problem] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    """What was done with or is odd about good pairs, and the photos that it is about."""

    def groups(self) -> list[ProblemGroup]:
        """Return the problems by kind, the most frequent first."""
        by_kind: dict[str, list[Problem]] = {}
        for problem in self.problems:
            by_kind.setdefault(problem.kind, []).append(problem)
        groups = [
            ProblemGroup(kind, len(those), tuple(problem.path for problem in those[:NUM_FIRST]), _detail(those))
            for kind, those in by_kind.items()
        ]
        return sorted(groups, key=lambda group: (-group.count, group.kind))

    def note(self, kind: str, path: str) -> None:
        """Count an oddity of a good pair."""
        self.notes.setdefault(kind, []).append(path)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: groups and counts, not every file."""
        return {
            "source": self.source,
            "reason": self.reason,
            "pairs": self.num_pairs,
            "remarks": self.remarks,
            "problems": [{**asdict(group), "first": list(group.first)} for group in self.groups()],
            "notes": [
                {"kind": kind, "count": len(paths), "first": paths[:NUM_FIRST]} for kind, paths in self.notes.items()
            ],
        }

    def report(self) -> dict[str, Any]:
        """Return plain JSON values with every single problem."""
        return {
            "num_problems": len(self.problems),
            "num_pairs": self.num_pairs,
            "groups": self.to_dict()["problems"],
            "problems": [{**asdict(problem), "values": dict(problem.values)} for problem in self.problems],
        }


class ProblemsFound(DataError):
    """A source holds what cannot be used; nothing was built.

    Args:
        findings: All of it.
        report: The file that lists every problem; None on a dry run.
    """

    def __init__(self, findings: Findings, report: Path | None) -> None:
        groups = findings.groups()
        kinds = ", ".join(f"{group.count} x {group.kind}" for group in groups[:4]) + (", ..." if groups[4:] else "")
        hint = "correct the source, or leave these files out with --drop-bad"
        if any(group.kind == FOREIGN_IDS and group.count == findings.num_pairs for group in groups):
            hint = "no mask fits: is it the right --task?"
        super().__init__(
            f"nothing was built, {len(findings.problems)} problem{'s' * (len(findings.problems) > 1)}: {kinds}",
            f"{hint}; `{report}` lists them all" if report else hint,
        )
        self.findings = findings


def report_path(out_dir: Path) -> Path:
    """Return where the problems of a dataset are listed: beside it."""
    out_dir = out_dir.resolve()
    return out_dir.with_name(f"{out_dir.name}.problems.json")


def _detail(problems: list[Problem]) -> str:
    values: Counter[str] = Counter()
    for problem in problems:
        values.update(problem.values)
    if values:
        shown = [f"{value} ({num} px)" for value, num in values.most_common(NUM_VALUES)]
        return ", ".join(shown) + (f" and {len(values) - NUM_VALUES} more" if len(values) > NUM_VALUES else "")
    reasons = Counter(problem.detail for problem in problems if problem.detail)
    shown = [f"{reason} ({num})" if num > 1 else reason for reason, num in reasons.most_common(NUM_FIRST)]
    return "; ".join(shown) + ("; ..." if len(reasons) > NUM_FIRST else "")
