"""``seglab evaluate``: score a model, or the masks of any tool."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seglab.cli.console import escape, note, print_json
from seglab.cli.options import (
    BnOption,
    CompileOption,
    DeviceOption,
    EngineOption,
    FidelityOption,
    JsonOption,
    PrecisionOption,
    ShardOption,
    TtaOption,
    model_option,
    task_option,
)
from seglab.cli.photos import engine_dict
from seglab.cli.scoring import Counting, Source, choose_source
from seglab.cli.together import score_together, was_launched_together
from seglab.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seglab.evaluation.bootstrap import Interval
    from seglab.evaluation.gates import Gate
    from seglab.evaluation.report import Baseline
    from seglab.evaluation.result import Evaluation

__all__ = ["evaluate"]


def evaluate(
    parts: Annotated[
        list[Path] | None,
        typer.Argument(
            help="With --merge: what --json or --out wrote for each part.", metavar="PARTS", show_default=False
        ),
    ] = None,
    model: Annotated[str | None, model_option()] = None,
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="A prepared dataset: photos and truth.", metavar="DIR")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="train, val or test.", metavar="SPLIT")] = "test",
    pred: Annotated[
        Path | None, typer.Option("--pred", help="Score these masks instead of a model.", metavar="DIR")
    ] = None,
    gt: Annotated[Path | None, typer.Option("--gt", help="Truth of --pred, if not --data.", metavar="DIR")] = None,
    task: Annotated[str | None, task_option("the dataset's")] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Count masks missing from --pred as background.")
    ] = False,
    at: Annotated[
        str,
        typer.Option("--at", help="Compare at the photos' own size (photo), or on the grid (model).", metavar="SIZE"),
    ] = "photo",
    boundary: Annotated[
        bool, typer.Option("--boundary", help="Score outlines too: boundary IoU, and boundary F at 2 px.")
    ] = False,
    instances: Annotated[
        bool | None,
        typer.Option(
            "--instances/--no-instances",
            help="Score how people are told apart: edge F1, AP of parts (AP^r) and persons (AP^p).",
            show_default="if data and model or masks do",
        ),
    ] = None,
    tta: TtaOption = "none",
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol", help="Scores as defined elsewhere: helen, pascal-part-original, cihp, readme.", metavar="NAME"
        ),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="Differences to an earlier --json.", metavar="FILE.json")
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option("--fail-under", help="Exit 1 if a metric is lower; repeatable.", metavar="NAME=VALUE"),
    ] = None,
    shard: ShardOption = None,
    merge: Annotated[bool, typer.Option("--merge", help="Put the JSON of all parts together: PARTS.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write evaluation.json, metrics.csv, per_image.csv.", metavar="DIR"),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a page with pictures to look at.", metavar="FILE.html")
    ] = None,
    per_image: Annotated[
        Path | None, typer.Option("--per-image", help="Write the scores of every image.", metavar="FILE.csv")
    ] = None,
    json: JsonOption = False,
    device: DeviceOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    compile: CompileOption = False,
    fidelity: FidelityOption = "seglab",
    bn: BnOption = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Photos through the network at once.")] = 1,
) -> int:
    """Score a model on a prepared dataset, or masks of any tool against the truth.

    [bold]seglab evaluate --model runs/a --data prepared/person[/bold]

    [bold]seglab evaluate --pred masks --gt truth --task face --json > scores.json[/bold]

    [bold]seglab evaluate --model runs/b --data prepared/face --baseline scores.json --fail-under f1.eyes=0.7[/bold]

    [bold]seglab evaluate --model runs/a --data prepared/body --report report.html[/bold]

    [bold]seglab evaluate --merge part*.json --json > scores.json[/bold]

    Pixels are counted over the whole split, at the photos' own size.
    What is in neither truth nor prediction has no score and is in no mean.

    Metrics: miou (background included), miou_foreground, mean_f1,
    pixel_accuracy, mean_accuracy, fwiou; iou.X, f1.X, precision.X,
    recall.X of a class or region X; level.L.iou of a hierarchy level L;
    with --boundary also boundary_iou.X and boundary_f1.X. Where people are
    told apart: edge_precision, edge_recall, edge_f1 (at probability 0.5),
    edge_ods, edge_ois; ap_r, ap_r50, ap_p, ap_p50; ap_r.X of a class X.
    """
    from seglab.engines import EngineChoice
    from seglab.inference.manner import Manner
    from seglab.shards import choose_shard

    if at not in ("photo", "model"):
        raise UsageError(f"--at `{at}` is neither photo nor model", "`--at model` compares on the model's grid")
    if merge != bool(parts):
        raise UsageError("PARTS and --merge go together", "seglab evaluate --merge part*.json")
    part = choose_shard(shard)
    apart = _told_apart(instances, fail_under or [])
    counting = Counting(split, boundary, at == "model", part, allow_missing, batch_size, apart)
    way = (device, EngineChoice(engine, precision, compile), Manner(fidelity, bn, tta))
    source = choose_source(model, data, pred, gt, task, parts or [], counting, way)
    asked = {"model": model, "data": data, "split": split if data else None, "pred": pred, "gt": gt}
    extra: dict[str, Any] = {"input": {name: None if value is None else str(value) for name, value in asked.items()}}
    extra["options"] = {
        "at": at, "tta": tta, "fidelity": fidelity, "bn": bn, "boundary": boundary, "instances": instances,
    }  # fmt: skip
    together = shard is None and not merge and was_launched_together()
    extra["shard"] = None if part.num == 1 or together else {"index": part.index, "num": part.num}
    extra |= source.made_with
    outputs = _Outputs(out, per_image, report, json, together)
    return _judge(source, fail_under or [], baseline, protocol, outputs, extra)


def _told_apart(asked: bool | None, fail_under: list[str]) -> bool | None:
    """Return whether people are looked at, None if that depends; a bar for them asks for it."""
    from seglab.evaluation.people import HEADLINE

    names = [text.partition("=")[0] for text in fail_under]
    return True if asked is None and any(name.partition(".")[0] in HEADLINE for name in names) else asked


@dataclass(frozen=True)
class _Outputs:
    """What is written, and where."""

    out_dir: Path | None
    per_image_path: Path | None
    report_path: Path | None
    json: bool
    together: bool = False
    """Whether the processes of one torchrun score parts, of which the first writes the whole."""


def _judge(
    source: Source,
    fail_under: list[str],
    baseline_path: Path | None,
    protocol_name: str | None,
    outputs: _Outputs,
    extra: dict[str, Any],
) -> int:
    """Score, tell, write, and return the exit code."""
    from seglab.cli.scores import show
    from seglab.evaluation.bootstrap import intervals
    from seglab.evaluation.comparison import against
    from seglab.evaluation.gates import check_gates, parse_gates
    from seglab.evaluation.outputs import to_json
    from seglab.evaluation.protocols import protocol
    from seglab.evaluation.record import read_record
    from seglab.evaluation.report import Baseline

    bars = parse_gates(fail_under, source.task, outlines=source.outlines, people=source.people)
    baseline = None if baseline_path is None else read_record(baseline_path)
    _check_before(source, baseline, protocol_name, outputs)
    evaluation, tells = score_together(source) if outputs.together else (source.score(), True)
    if not tells:
        return int(ExitCode.DONE)  # the first one's is the verdict
    ranges = intervals(evaluation.counts, evaluation.task)
    if evaluation.people is not None:
        from seglab.evaluation.people_bootstrap import people_intervals

        ranges |= people_intervals(evaluation.people, evaluation.task)
    compared = None if baseline is None else against(evaluation, baseline)
    said = None if protocol_name is None else protocol(protocol_name, evaluation)
    gates = check_gates(evaluation.scores, bars)
    show(evaluation, ranges, compared=compared, protocol=said)
    engine = None if source.predictor is None else engine_dict(source.predictor.engine)
    rest = {**extra, "engine": engine, "gates": [_gate_dict(gate) for gate in gates]}
    values = {**to_json(evaluation, ranges, compared=compared, protocol=said), **rest}
    _write_files(outputs, evaluation, ranges, values)
    if outputs.report_path is not None:
        told = None
        if compared is not None and baseline_path is not None:
            told = Baseline(baseline_path.name, compared.differences, compared.num_shared)
        _report(outputs.report_path, source, evaluation, values, ranges, told, gates)
    if outputs.json:
        print_json(values)
    return _verdict(evaluation, gates)


def _check_before(source: Source, baseline: "Evaluation | None", protocol_name: str | None, outputs: _Outputs) -> None:
    """Refuse before hours of work what could not be told or written after them."""
    from seglab.evaluation.comparison import check_same_task, check_shared
    from seglab.evaluation.outputs import check_places
    from seglab.evaluation.protocols import check_protocol

    if baseline is not None:
        check_same_task([source.task, baseline.task])
        ids = source.ids()
        if ids is not None:
            check_shared(ids, baseline.ids)
    if protocol_name is not None:
        check_protocol(protocol_name, source.task)
    check_places(outputs.out_dir, [path for path in (outputs.per_image_path, outputs.report_path) if path is not None])


def _report(
    path: Path,
    source: Source,
    evaluation: "Evaluation",
    values: "Mapping[str, Any]",
    ranges: "Mapping[str, Interval | None]",
    baseline: "Baseline | None",
    gates: "list[Gate]",
) -> None:
    from seglab.evaluation.report import write_report
    from seglab.version import __version__

    used = {name: values[name] for name in ("input", "engine", "shard", "options") if values.get(name)}
    model = {} if source.predictor is None else {"model": source.predictor.config.to_dict()}
    write_report(
        path,
        evaluation,
        pictures=source.pictures(),
        configuration={"seglab": __version__, **used, **model},
        intervals=ranges,
        baseline=baseline,
        gates=gates,
        title=f"{evaluation.task.name}: {evaluation.num_images} images",
    )
    note(f"report: {escape(path)}")


def _write_files(
    outputs: _Outputs, evaluation: "Evaluation", ranges: "Mapping[str, Interval | None]", values: "dict[str, Any]"
) -> None:
    from seglab.evaluation.outputs import write_tables
    from seglab.files import sweep, write_text

    if outputs.out_dir is not None:
        write_tables(outputs.out_dir, evaluation, ranges, values)
        note(f"evaluation.json, metrics.csv, per_image.csv: {escape(outputs.out_dir)}")
    if outputs.per_image_path is not None:
        sweep([outputs.per_image_path])
        write_text(outputs.per_image_path, evaluation.per_image_csv())
        note(f"scores of each image: {escape(outputs.per_image_path)}")


def _gate_dict(gate: "Gate") -> dict[str, object]:
    return {"metric": gate.metric, "at_least": gate.at_least, "value": gate.value, "passed": gate.passed}


def _verdict(evaluation: "Evaluation", gates: "list[Gate]") -> int:
    missed = [gate for gate in gates if not gate.passed]
    for gate in missed:
        score = "undefined, as it is in neither truth nor prediction" if gate.value is None else f"{gate.value:.6g}"
        note(f"[bold red]missed:[/bold red] {escape(gate.metric)} is {score}, --fail-under asks for {gate.at_least:g}")
    return int(ExitCode.PARTIAL if missed or evaluation.failures else ExitCode.DONE)
