"""What ``evaluate`` and ``compare`` tell on a terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from seglab.cli.console import escape, note
from seglab.cli.tables import print_rows

if TYPE_CHECKING:
    from seglab.evaluation.bootstrap import Difference, Interval
    from seglab.evaluation.comparison import Against
    from seglab.evaluation.metrics import GroupScore, Scores
    from seglab.evaluation.people import PeopleScores
    from seglab.evaluation.protocols import Protocol
    from seglab.evaluation.result import Evaluation

__all__ = ["number", "other_truth", "show", "signed"]

NUM_WORST = 3
"""How many of the worst images are named."""


def show(
    evaluation: "Evaluation",
    intervals: "Mapping[str, Interval | None]",
    *,
    compared: "Against | None" = None,
    protocol: "Protocol | None" = None,
) -> None:
    """Write an evaluation to stderr.

    Args:
        evaluation: The scores.
        intervals: 95 % intervals by metric name.
        compared: Differences to a baseline.
        protocol: Scores by another definition.
    """
    from seglab.evaluation.metrics import HEADLINE

    scores, task = evaluation.scores, evaluation.task
    columns = ["IoU", "95 %", "F1", "precision", "recall", "pixels"]
    columns += ["boundary IoU", "boundary F1"] if scores.outlines else []
    columns += ["vs baseline"] if compared else []
    rows = _rows(scores, intervals, compared)
    title = f"{task.name} · {evaluation.num_images} images"
    print_rows(title, ("class", *columns), rows[: len(scores.classes)])
    if scores.regions:
        print_rows("", ("region", *columns), rows[len(scores.classes) :])
    if scores.levels:
        levels = [
            (level.name, number(level.iou), _range(intervals.get(f"level.{level.name}.iou")), ", ".join(level.mean_of))
            for level in scores.levels
        ]
        print_rows("", ("level", "IoU", "95 %", "mean of"), levels)
    if scores.people is not None:
        _show_people(scores.people, intervals, compared)
    for name in HEADLINE:
        _headline(name, getattr(scores, name), intervals.get(name), compared)
    if protocol is not None:
        told = " · ".join(f"{name} {number(score)}" for name, score in protocol.scores.items())
        note(escape(f"protocol {protocol.name}: {told}"))
        note(escape(f"  {protocol.definition}"))
    for line in _remarks(evaluation, compared):
        note(escape(line))


def _show_people(
    people: "PeopleScores", intervals: "Mapping[str, Interval | None]", compared: "Against | None"
) -> None:
    from seglab.evaluation.people import HEADLINE as PEOPLE

    parts = [
        (kind.name, number(kind.ap_r), number(kind.ap_r50), str(kind.num_true), str(kind.num_found))
        for kind in people.classes
    ]
    whole = ("persons (AP^p)", number(people.ap_p), number(people.ap_p50), str(people.num_true), str(people.num_found))
    mean = ("mean of parts (AP^r)", number(people.ap_r), number(people.ap_r50), "", "")
    title = f"people told apart · {people.num_images} images"
    print_rows(title, ("part of a person", "AP 0.1..0.9", "AP 0.5", "true", "found"), [*parts, mean, whole])
    for name in PEOPLE:
        _headline(name, getattr(people, name), intervals.get(name), compared)
    note(f"edge_ods is of outlines from probability {people.edge_ods_from:g}, edge_f1 from 0.5")


def number(score: float | None) -> str:
    """Return a score 0..1 with four digits, ``-`` if it is undefined."""
    return "-" if score is None or math.isnan(score) else f"{score:.4f}"


def signed(entry: "Difference | None") -> str:
    """Return a difference with its sign, a star if its interval leaves out zero."""
    return "-" if entry is None else f"{entry.difference:+.4f}{'*' if entry.significant else ''}"


def other_truth(num: int, num_shared: int, whose: str) -> str:
    """Return a line about images that are not the same in two evaluations although their names are."""
    differs = f"the truth of {num} of the {num_shared} images differs from that of {whose}"
    return f"{differs}: other masks, another size, or other images"


def _headline(name: str, score: float, interval: "Interval | None", compared: "Against | None") -> None:
    line = f"{name} [bold]{number(score)}[/bold]"
    line += f"  95 % {_range(interval)}" if interval else ""
    line += f"  vs baseline {signed(compared.differences.get(name))}" if compared else ""
    note(line)


def _rows(
    scores: "Scores", intervals: "Mapping[str, Interval | None]", compared: "Against | None"
) -> list[tuple[str, ...]]:
    outlines = {score.name: score for score in scores.outlines}
    rows = []
    for score in (*scores.classes, *scores.regions):
        row = [*_row(score, intervals.get(f"iou.{score.name}"), max(scores.num_pixels, 1))]
        if outlines:
            row += [number(outlines[score.name].boundary_iou), number(outlines[score.name].boundary_f1)]
        row += [signed(compared.differences[f"iou.{score.name}"])] if compared else []
        rows.append(tuple(row))
    return rows


def _row(score: "GroupScore", interval: "Interval | None", num_pixels: int) -> tuple[str, ...]:
    rest = (score.f1, score.precision, score.recall)
    share = f"{100 * score.num_pixels / num_pixels:.2f} %"
    return (score.name, number(score.iou), _range(interval), *map(number, rest), share)


def _range(interval: "Interval | None") -> str:
    return "-" if interval is None else f"{interval.low:.3f}..{interval.high:.3f}"


def _remarks(evaluation: "Evaluation", compared: "Against | None") -> list[str]:
    scores, remarks = evaluation.scores, []
    if scores.absent:
        remarks.append(f"in neither truth nor prediction, so in no mean: {', '.join(scores.absent)}")
    if scores.false_alarms:
        remarks.append(f"predicted but in no truth, so counted as 0: {', '.join(scores.false_alarms)}")
    if scores.num_ignored:
        remarks.append(f"ignored by the truth: {100 * scores.ignored_share:.2f} % of the pixels")
    if evaluation.missing:
        remarks.append(f"missing, counted as background: {_some(evaluation.missing)}")
    if evaluation.num_extra:
        remarks.append(f"predictions without a truth, not looked at: {evaluation.num_extra}")
    if evaluation.num_images > 1:
        worst = [f"{image.id} ({image.miou:.4f})" for image in evaluation.worst(NUM_WORST)]
        remarks.append(f"lowest miou: {', '.join(worst)}")
        remarks.append(
            "95 %: bootstrap over images" + ("; * the difference's interval leaves out 0" if compared else "")
        )
    if compared and compared.num_shared < max(compared.num_images, compared.num_baseline):
        remarks.append(
            f"compared on the {compared.num_shared} images that both scored,"
            f" of {compared.num_images} here and {compared.num_baseline} in the baseline"
        )
    if compared and compared.num_other_truth:
        remarks.append(other_truth(compared.num_other_truth, compared.num_shared, "the baseline"))
    if evaluation.failures:
        remarks.append(f"not scored: {len(evaluation.failures)} images")
        remarks += [f"  {failure.id}  {failure.reason}" for failure in evaluation.failures]
    return remarks


def _some(names: Sequence[str], limit: int = 10) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
