"""What is fuzzed: every place where seglab reads bytes that somebody else may have written.

A target is a row of :data:`TARGETS`. Its parser is given a folder of its own and the bytes; it may raise what
:mod:`seglab.errors` has, and nothing else. A parser that is new needs a function of a line or two, and a row.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from seglab.tasks import Task
from tests.fuzz import seeds

__all__ = ["TARGETS", "Target"]

Parser = Callable[[Path, bytes], object]

ABC: Final = Task(name="abc", classes=("none", "a", "b"), regions={"ab": ("a", "b")}, levels={"top": ("ab",)})


@dataclass(frozen=True)
class Target:
    """One parser."""

    parse: Parser
    """Given a folder that is its own, and what it reads."""
    seeds: Callable[[], Sequence[bytes]]
    """Sound inputs, from which others are made."""
    grammar: str = "bytes"
    """How they are changed: a name of :data:`tests.fuzz.mutation.GRAMMARS`."""
    fresh: bool = False
    """Whether the folder has to be a new one each time, because the parser writes into it."""


def of_file(read: Callable[[Path], object], name: str) -> Parser:
    """Return a parser that writes its bytes to a file of some name, and reads that."""

    def parse(dir: Path, data: bytes) -> object:
        path = dir / name
        path.write_bytes(data)
        return read(path)

    return parse


def of_files(*reads: Callable[[Path], object], name: str) -> Parser:
    """Return a parser that reads a file in several ways, whatever the others make of it."""
    from seglab.errors import SeglabError

    def read_all(path: Path) -> None:
        for read in reads:
            try:
                read(path)
            except SeglabError:
                continue

    return of_file(read_all, name)


def rle_text(_dir: Path, data: bytes) -> object:
    from seglab.data.rle import Layer, draw, parse_kaggle

    return draw([Layer(parse_kaggle(data, (40, 30)), 1)], (40, 30), (10, 20))


def rle_counts(_dir: Path, data: bytes) -> object:
    from seglab.data.rle import Layer, draw, parse_counts

    return draw([Layer(parse_counts(data, (40, 30)), 1)], (40, 30), (10, 20))


def source(name: str, task: Task, put: Callable[[Path, bytes], object], **options: Any) -> Parser:
    """Return a parser that scans an original layout and reads all labels of it, as ``seglab prepare`` does."""
    from seglab.errors import SeglabError

    def parse(dir: Path, data: bytes) -> None:
        from seglab.data.sources import SourceOptions, find_source

        put(dir, data)
        layout = find_source(name)
        layout.recognise(dir)
        for item in layout.scan(dir, SourceOptions(task, **options)).items:
            try:
                labels = item.read_labels()
                if not hasattr(labels, "dtype"):
                    labels.draw((16, 16))
            except SeglabError:
                continue

    return parse


def photos_and(file: str, *photos: str) -> Callable[[Path, bytes], object]:
    """Return what puts a file among photos."""

    def put(dir: Path, data: bytes) -> None:
        for photo in photos:
            if not (dir / photo).exists():
                (dir / photo).parent.mkdir(parents=True, exist_ok=True)
                (dir / photo).write_bytes(seeds.photo())
        (dir / file).parent.mkdir(parents=True, exist_ok=True)
        (dir / file).write_bytes(data)

    return put


def task_of(name: str) -> Task:
    """Return the task that a layout is of."""
    from seglab.data.sources import find_source
    from seglab.tasks import TASKS

    return TASKS[find_source(name).TASK or "person"]


def dataset_head(dir: Path, data: bytes) -> object:
    from seglab.data.manifest import open_dataset

    (dir / "samples.jsonl").write_bytes(seeds.samples())
    (dir / "dataset.json").write_bytes(data)
    return open_dataset(dir).split("train")


def dataset_samples(dir: Path, data: bytes) -> object:
    """The digest in the head is right: whoever changed one can change the other."""
    import hashlib

    from seglab.data.manifest import open_dataset

    head = json.loads(seeds.dataset()) | {"samples_sha256": hashlib.sha256(data).hexdigest()}
    (dir / "samples.jsonl").write_bytes(data)
    (dir / "dataset.json").write_text(json.dumps(head))
    dataset = open_dataset(dir)
    for sample in dataset.samples:
        assert all((dir / path).resolve().is_relative_to(dir.resolve()) for path in sample.paths)
        assert sum(sample.pixels.values()) == sample.height * sample.width
    return dataset.split("train")


def prepare_journal(dir: Path, data: bytes) -> None:
    from seglab.data.journal import Journal, read_head

    (dir / "journal.jsonl").write_bytes(data)
    read_head(dir)
    entry = Journal(dir, {"a": 1}).find("s01")
    if entry is not None:
        entry.is_whole(dir, dir / "photo.jpg")


def settings(_dir: Path, data: bytes) -> object:
    from seglab.config import TrainConfig
    from seglab.training.recipe import configure, parse_settings

    return configure(TrainConfig(), parse_settings(data.decode(errors="surrogateescape").split("\n")))


def recipe(path: Path) -> object:
    from seglab.config import TrainConfig
    from seglab.training.recipe import configure, load_recipe

    config = configure(TrainConfig(), recipe=load_recipe(str(path)))
    assert configure(TrainConfig(), recipe=config.to_dict()) == config
    return json.dumps(config.to_dict())


def task(path: Path) -> object:
    from seglab.tasks import load_task

    task = load_task(str(path))
    assert Task.from_dict(task.to_dict()) == task
    return task.mirror_permutation(), [task.members(name) for name in (*task.classes, *task.regions)]


def registry(path: Path) -> None:
    """Read, listed, and planned as far as that needs no network, like ``seglab fetch --registry FILE --dry-run``."""
    from seglab.data.fetch import plan
    from seglab.data.fetching.listing import rows
    from seglab.data.fetching.places import default_dir
    from seglab.data.fetching.registry import load_registry
    from seglab.errors import SeglabError

    table = load_registry(path)
    listed = {row.name: row for row in rows(own_path=path)}
    for name in table.keys() - load_registry().keys():
        json.dumps(table[name].to_dict() | listed[name].to_dict() | {"dir": str(default_dir(table[name]))})
        for options in ({}, {"offline": True}, {"from_path": path}):
            try:
                json.dumps(plan(table[name], path.parent / "out", **options))
            except SeglabError:
                continue


def colours(path: Path) -> object:
    from seglab.data.masks import load_colours

    return load_colours(path, ABC)


def bundle(dir: Path, data: bytes) -> object:
    from seglab.models.bundle import read_config
    from seglab.models.description import describe

    (dir / "model.safetensors").write_bytes(data)
    config = read_config(dir)
    json.dumps(config.to_dict())
    return describe(str(dir)).to_dict()


def bundle_metadata(dir: Path, data: bytes) -> None:
    """A configuration that weights, their copy and a graph agree on: whoever changed one can change the others."""
    import onnx

    from seglab.errors import SeglabError
    from seglab.models.bundle import METADATA_KEY, read_config
    from seglab.models.description import describe

    text = data.decode(errors="replace")
    (dir / "model.safetensors").write_bytes(seeds.with_metadata({"format": "pt", METADATA_KEY: text}))
    (dir / "config.json").write_text(text, encoding="utf-8")
    made = onnx.load_from_string(seeds.graphs()[0])
    onnx.helper.set_model_props(made, {METADATA_KEY: text})
    (dir / "a.onnx").write_bytes(made.SerializeToString())
    refused: SeglabError | None = None
    for path in (dir, dir / "a.onnx"):
        try:
            config = read_config(path)
            assert type(config).from_dict(config.to_dict(), where="again") == config
            json.dumps(describe(str(path)).to_dict(), allow_nan=False)
        except SeglabError as error:
            refused = error
    if refused is not None:
        raise refused


def bundle_copy(dir: Path, data: bytes) -> object:
    from seglab.models.bundle import read_config

    (dir / "model.safetensors").write_bytes(seeds.bundle()[0])
    (dir / "config.json").write_bytes(data)
    return read_config(dir)


def network(dir: Path, data: bytes) -> object:
    """The weights as well, into the network that they say they are of."""
    from seglab.device import Device
    from seglab.models.bundle import load_network

    (dir / "model.safetensors").write_bytes(data)
    return load_network(dir, Device("cpu", None, "fuzzed"))


def checkpoint(path: Path) -> object:
    from seglab.models.checkpoint import open_checkpoint
    from seglab.models.recognition import recognise

    found = open_checkpoint(path)
    recognise(found.shapes)
    list(found.raw())
    return found.tensors()


def fetched_weights(path: Path) -> object:
    from seglab.data.fetching.weight_files import code_in_weights, why_no_weights

    return [why_no_weights(path, name) or code_in_weights(path) for name in ("a.pth", "a.onnx", "a.safetensors")]


def graph(path: Path) -> object:
    from seglab.models.bundle import read_config
    from seglab.models.graphs import graph_form
    from seglab.models.headers import external_tensors, graph_metadata, read_graph

    data = read_graph(path)
    json.dumps(graph_form(path, data).to_dict())
    external_tensors(path, data)
    graph_metadata(path, data)
    return read_config(path)


def archive(path: Path) -> object:
    from seglab.data.fetching.admission import Limits
    from seglab.data.fetching.unpack import unpack

    out = path.parent / "out"
    out.mkdir()
    tree = unpack(path, out, limits=Limits(always_bytes=1 << 20, padding_bytes=1 << 20))
    assert all(not found.is_symlink() for found in out.rglob("*"))
    return tree


def picture(path: Path) -> None:
    from seglab.data import images
    from seglab.errors import SeglabError

    most = 1 << 22
    reads: list[Callable[[], object]] = [
        lambda: images.read_photo(path, max_pixels=most, keep_exif=True),
        lambda: images.read_photo(path, max_pixels=most, wanted_hw=(8, 8)),
        lambda: images.read_size(path),
        lambda: images.read_mode(path),
    ]
    for read in reads:
        try:
            read()
        except SeglabError:
            continue


def labels(path: Path) -> None:
    from seglab.data import images
    from seglab.errors import SeglabError

    for read in (images.read_labels, images.read_rgb_mask, images.read_ids16):
        try:
            read(path, max_pixels=1 << 22)
        except SeglabError:
            continue


def ledger(dir: Path, data: bytes) -> None:
    from seglab.inference.ledger import Ledger, foreign, read_command
    from seglab.inference.plan import Job

    (dir / "photo.jpg").write_bytes(b"photo")
    (dir / "photo.png").write_bytes(b"mask")
    (dir / ".seglab-done.jsonl").write_bytes(data)
    (dir / ".seglab-done.1-of-2.jsonl").write_bytes(data)
    (dir / ".seglab-files.jsonl").write_bytes(data)
    job = Job(dir / "photo.jpg", {"palette": dir / "photo.png"})
    read_command(dir)
    foreign(dir, [dir / "photo.png"])
    for out_dir in (dir, None):
        finished = Ledger(out_dir, "predict", {"a": 1})
        finished.is_done(job)
        finished.open()
        finished.add(job, (5, 1))
        assert Ledger(out_dir, "predict", {"a": 1}).is_done(job) in (True, False)


def gathered(dir: Path, data: bytes) -> None:
    from seglab.inference.formats.kaggle import assemble
    from seglab.inference.gathering import SPOOL_NAME, Gathered, Gathering

    (dir / SPOOL_NAME).write_bytes(data)
    form = Gathered("all.csv", lambda *_: [], assemble, "")
    gathering = Gathering(dir, {"kaggle": form}, ABC, "s")
    gathering.recall()
    gathering.open()
    gathering.finish()


def metrics(dir: Path, data: bytes) -> None:
    """What a resumed run makes of the epochs before: those it keeps, it can add to, read again and draw."""
    from seglab.notation import parse_json
    from seglab.training.curves import panels_of
    from seglab.training.rundir import RunDir

    path, run = dir / "metrics.jsonl", RunDir(dir)
    path.write_bytes(data)
    kept = run.keep_metrics(10)
    assert [parse_json(line) for line in path.read_text().splitlines()] == kept
    before = path.read_bytes()
    assert run.keep_metrics(10) == kept
    assert path.read_bytes() == before
    run.add_metrics({"epoch": 10, "train": {}})
    assert run.keep_metrics(10) == [*kept, {"epoch": 10, "train": {}}]
    for metric in ("miou", "iou.a", "level.top.iou", "dice.ab"):
        panels_of(kept, metric, ABC)


def curves(dir: Path, data: bytes) -> object:
    from seglab.training.curves import draw_panels, panels_of
    from seglab.training.rundir import RunDir

    (dir / "metrics.jsonl").write_bytes(data)
    return draw_panels(panels_of(RunDir(dir).keep_metrics(10), "miou", ABC))


def run_settings(dir: Path, data: bytes) -> object:
    from seglab.training.settings import read_settings

    (dir / "train.json").write_bytes(data)
    read = read_settings(dir)
    Task.from_dict(read.task)
    return json.dumps(read.to_dict())


def resume_state(dir: Path, data: bytes) -> object:
    from seglab.training.rundir import RunDir

    (dir / "last.pt").write_bytes(data)
    return RunDir(dir).load_state()


def objects(path: Path) -> object:
    from seglab.data.part_annotations import read_objects

    return read_objects(path)


def mask_legend(path: Path) -> None:
    """What predict wrote beside masks that are scored."""
    from seglab.evaluation.folders import _refuse_other_legend
    from seglab.tasks import TASKS

    _refuse_other_legend(path.parent, TASKS["clothes"])


def evaluation(path: Path) -> None:
    from seglab.errors import SeglabError
    from seglab.evaluation.comparison import against, selected, totals
    from seglab.evaluation.merging import merge_files
    from seglab.evaluation.record import read_record, to_record

    sound = path.with_name("sound.json")
    if not sound.exists():
        sound.write_bytes(seeds.evaluation()[0])

    def compare() -> None:
        one, other = read_record(path), read_record(sound)
        json.dumps(to_record(one))
        for chosen in selected([one, other]):
            totals(chosen)
        against(one, other)

    for read in (compare, lambda: merge_files([path]), lambda: merge_files([path, sound])):
        try:
            read()
        except SeglabError:
            continue


def people(dir: Path, data: bytes) -> object:
    from seglab.evaluation.telling import read_found

    (dir / "a.instances.png").write_bytes(seeds.ids16())
    (dir / "a.people.json").write_bytes(data)
    return read_found(dir / "a.png", ABC)


def names(path: Path) -> object:
    from seglab.data.selection import read_list

    return read_list(path)


def photo_list(path: Path) -> object:
    from seglab.inference.inputs import find_sources

    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if any(os.path.isdir(line.removesuffix(b"\r")) for line in lines if b"\0" not in line):  # noqa: PTH112 - bytes
        return None  # a folder is searched, and `/` is one
    return list(find_sources([f"@{path}"]))


def login(dir: Path, data: bytes) -> None:
    from seglab.data.fetching.logins import find_login, login_problems

    before = {name: os.environ.get(name) for name in ("HOME", "KAGGLE_CONFIG_DIR")}
    os.environ["HOME"] = os.environ["KAGGLE_CONFIG_DIR"] = str(dir)
    try:
        (dir / ".kaggle").mkdir(exist_ok=True)
        (dir / ".kaggle/access_token").unlink(missing_ok=True)
        for name in ("kaggle.json", ".kaggle/credentials.json", ".kaggle/access_token"):
            (dir / name).write_bytes(data)
            login_problems()
            find_login()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def proposals(dir: Path, data: bytes) -> None:
    from seglab.cli.proposals import _task

    (dir / "dataset.json").write_bytes(data)
    _task({"data": str(dir)})
    _task({"words": [str(dir / "dataset.json")]})


def about(path: Path) -> object:
    from seglab.cli.export import _about

    return _about(path)


def fetch_notes(dir: Path, data: bytes) -> None:
    """What an interrupted fetch left, and the note in a folder of fetched data."""
    from seglab.data import fetch
    from seglab.data.fetching import mirrors, obtain
    from seglab.data.fetching.places import fetch_again, fetched_path
    from seglab.data.fetching.registry import Source

    (dir / "done").write_bytes(b"12345")
    for name in ("done.json", mirrors.REFUSAL_NAME, fetch.SOURCE_NAME):
        (dir / name).write_bytes(data)
    obtain.read_done(Source("url", "https://example.org/a.zip"), dir)
    mirrors._read_refusal(dir)
    fetch._read_source(dir)
    fetched_path(dir)
    fetch_again(dir / "a.pth")


def _garments(dir: Path, data: bytes) -> None:
    photos_and("label_descriptions.json", "train/a.jpg")(dir, data)
    (dir / "train.csv").write_bytes(seeds.mask_tables()[0])


def _celeb_mirror(dir: Path, data: bytes) -> None:
    photos_and("classes.json", "train/images/1.jpg", "train/masks/1.jpg")(dir, data)


TARGETS: Final[Mapping[str, Target]] = {
    "rle-kaggle": Target(rle_text, seeds.rle_texts),
    "rle-counts": Target(rle_counts, seeds.rle_counts),
    "imaterialist-csv": Target(
        source("imaterialist", task_of("imaterialist"), photos_and("train.csv", "train/a.jpg", "train/b.jpg")),
        seeds.mask_tables, "csv",
    ),
    "imaterialist-names": Target(
        source("imaterialist", task_of("imaterialist"), _garments),
        seeds.garment_names, "json",
    ),
    "own-rle-csv": Target(
        source("imaterialist", task_of("imaterialist"), photos_and("train.csv", "train/a.jpg")),
        seeds.own_tables, "csv",
    ),
    "coco-json": Target(
        source("coco", ABC, photos_and("all.json", "images/a.jpg", "images/b.jpg")), seeds.coco, "json"
    ),
    "coco-bytes": Target(source("coco", ABC, photos_and("all.json", "images/a.jpg")), seeds.coco),
    "celebamask-classes": Target(source("celebamask-hq", task_of("helen"), _celeb_mirror), seeds.class_lists, "json"),
    "pascal-npy": Target(
        source("pascal-part", task_of("pascal-part"), photos_and("gt_masks/a.npy", "JPEGImages/a.jpg")), seeds.arrays
    ),
    "pascal-classes": Target(
        source("pascal-part", task_of("pascal-part"), photos_and("classes.txt", "JPEGImages/a.jpg", "gt_masks/a.npy")),
        seeds.class_texts,
    ),
    "pascal-mat": Target(of_file(objects, "a.mat"), seeds.matlab),
    "dataset-head": Target(dataset_head, lambda: [seeds.dataset()], "json"),
    "dataset-samples": Target(dataset_samples, lambda: [seeds.samples()], "json lines"),
    "prepare-journal": Target(prepare_journal, seeds.journals, "json lines"),
    "task-toml": Target(of_file(task, "a.toml"), seeds.tasks, "toml"),
    "recipe-toml": Target(of_file(recipe, "a.toml"), seeds.recipes, "toml"),
    "settings": Target(settings, seeds.settings),
    "registry-toml": Target(of_file(registry, "a.toml"), seeds.registry, "toml"),
    "colours-toml": Target(of_file(colours, "a.toml"), seeds.colour_tables, "toml"),
    "colours-json": Target(of_file(colours, "a.json"), seeds.colour_objects, "json"),
    "bundle-safetensors": Target(bundle, seeds.bundle, "safetensors"),
    "bundle-config": Target(bundle_copy, seeds.configurations, "json"),
    "bundle-metadata": Target(bundle_metadata, seeds.configurations, "json"),
    "bundle-about": Target(of_file(about, "a.toml"), seeds.about_models, "toml"),
    "completion": Target(proposals, lambda: [seeds.dataset(), *seeds.evaluation()], "json"),
    "bundle-network": Target(network, seeds.bundle, "safetensors"),
    "checkpoint-zip": Target(of_file(checkpoint, "a.pth"), seeds.torch_zips, "zip"),
    "checkpoint-pickle": Target(of_file(checkpoint, "a.pth"), seeds.torch_pickles),
    "checkpoint-safetensors": Target(of_file(checkpoint, "a.safetensors"), seeds.plain_tensors, "safetensors"),
    "fetched-weights": Target(of_file(fetched_weights, "a"), seeds.any_weights),
    "fetched-safetensors": Target(of_file(fetched_weights, "a"), seeds.plain_tensors, "safetensors"),
    "onnx": Target(of_file(graph, "a.onnx"), seeds.graphs),
    "archive-zip": Target(of_file(archive, "a"), seeds.zips, "zip", fresh=True),
    "archive-tar": Target(of_file(archive, "a"), seeds.tars, fresh=True),
    "archive-7z": Target(of_file(archive, "a"), seeds.sevens, fresh=True),
    "photo": Target(of_file(picture, "a"), seeds.photos),
    "labels": Target(of_file(labels, "a"), seeds.labels),
    "ledger": Target(ledger, seeds.ledgers, "json lines"),
    "gathered": Target(gathered, seeds.spools, "json lines"),
    "metrics-jsonl": Target(metrics, seeds.metrics, "json lines"),
    "metrics-bytes": Target(metrics, seeds.metrics),
    "metrics-curves": Target(curves, seeds.metrics, "json lines"),
    "train-json": Target(run_settings, seeds.run_settings, "json"),
    "last-pt": Target(resume_state, seeds.resume_states, "zip"),
    "evaluation-json": Target(of_file(evaluation, "a.json"), seeds.evaluation, "json"),
    "mask-legend": Target(of_file(mask_legend, "legend.json"), seeds.legends, "json"),
    "people-json": Target(people, seeds.people, "json"),
    "split-list": Target(of_file(names, "train_id.txt"), seeds.lists),
    "photo-list": Target(of_file(photo_list, "list.txt"), seeds.lists),
    "logins": Target(login, seeds.logins, "json"),
    "fetch-notes": Target(fetch_notes, seeds.fetch_notes, "json"),
}  # fmt: skip
"""Every parser by name."""
