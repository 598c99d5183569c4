"""People told apart, from dataset to figures: by a model, from files, in parts, on the command line."""

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from seglab.cli import main
from seglab.data.edges import edges_from_labels
from seglab.data.images import read_ids16, read_labels, write_ids16, write_labels
from seglab.data.manifest import open_dataset
from seglab.data.synth import synth
from seglab.data.writer import DatasetWriter
from seglab.device import Device
from seglab.errors import DataError, UsageError
from seglab.evaluation.evaluate import evaluate
from seglab.evaluation.folders import evaluate_folders
from seglab.evaluation.gates import parse_gates
from seglab.evaluation.metrics import metric_names, value
from seglab.evaluation.people import Found, compare_people, score_people
from seglab.evaluation.record import merge, read_record, to_record
from seglab.evaluation.report import pictures_of_model
from seglab.evaluation.telling import found_by_model, read_found
from seglab.inference.predictor import Predictor
from seglab.preprocess import Preprocess
from seglab.shards import Shard
from seglab.tasks import TASKS, Task

DUO = Task(name="duo", classes=("none", "top", "legs"))
SHADE = 60
SIZE_HW = (64, 80)


def scene(rng, shift=0):
    """Return class ids and ids of two people side by side, who touch."""
    labels, people = np.zeros(SIZE_HW, np.uint8), np.zeros(SIZE_HW, np.uint8)
    left, middle, right = np.cumsum(rng.integers(14, 24, 3)) + shift
    people[8:56, left:middle], people[8:56, middle:right] = 1, 2
    labels[8:56, left:right] = 1
    labels[30 + shift : 56, left:right] = 2
    return labels, people


class Teller:
    """An engine that sees classes in red and outlines in blue."""

    name, reason, precision = "teller", "for tests", "fp32"
    device = Device("cpu", None, "asked for")
    extras = ("edge",)

    def __call__(self, pixels_BHWC):
        return self.with_extras(pixels_BHWC)[0]

    def with_extras(self, pixels_BHWC):
        red, blue = (pixels_BHWC[..., channel].astype(np.float32) for channel in (0, 2))
        logits = np.stack([-np.abs(red - SHADE * label) for label in range(3)], 1)
        return logits, {"edge": ((blue - 128) / 20)[:, None]}


class Blind(Teller):
    extras = ()


@pytest.fixture
def teller():
    return lambda engine=Teller, **options: Predictor(
        engine(), SimpleNamespace(task=DUO, model="teller", preprocess=Preprocess(size_hw=SIZE_HW)), **options
    )


@pytest.fixture
def dataset(tmp_path):
    """Six photos in which the engine sees nearly the truth; who is who is not known in the last."""
    rng = np.random.default_rng(3)
    with DatasetWriter(tmp_path / "data", DUO, "made", {}) as writer:
        for number in range(6):
            seen, who = scene(rng, shift=number % 3)
            labels, people = (np.roll(of, (number % 2, -(number % 3)), (0, 1)) for of in (seen, who))
            blue = 255.0 * edges_from_labels(who) * rng.uniform(0.3, 1, SIZE_HW)
            photo = np.stack([seen * SHADE, np.zeros_like(seen), blue.astype(np.uint8)], -1)
            known = {} if number == 5 else {"people": people}
            writer.add(f"p{number}", "test", photo, labels, lossless=True, **known)
        seen, _ = scene(rng)
        writer.add("t0", "train", np.repeat(seen[..., None], 3, 2), seen, lossless=True)
        return writer.finish()


@pytest.fixture
def masks(dataset, teller, tmp_path):
    """What ``predict -f palette -f instances`` would write."""
    folder = tmp_path / "masks"
    folder.mkdir()
    predictor = teller()
    for sample in dataset.split("test"):
        from seglab.data.images import read_photo
        from seglab.inference.instances import find_instances

        pixels, placement = predictor.fit(read_photo(dataset.image_path(sample)).image)
        logits, extras = predictor.run_with_extras(pixels[None])
        labels = predictor.road.labels(logits[0], placement)
        found = find_instances(logits[0], extras["edge"][0, 0], placement, labels, DUO)
        write_labels(folder / f"{sample.id}.png", labels)
        write_ids16(folder / f"{sample.id}.instances.png", found.ids)
        people = {"people": [person.to_dict() for person in found.people]}
        (folder / f"{sample.id}.people.json").write_text(json.dumps(people))
    return folder


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return SimpleNamespace(code=end.value.code, out=captured.out, err=captured.err)

    return call


def without_edges(evaluation):
    return {name: one for name, one in evaluation.scores.people.values().items() if not name.startswith("edge")}


def test_a_model_that_finds_outlines(dataset, teller):
    result = evaluate(teller(), dataset, instances=True)
    people = result.scores.people
    assert (people.num_images, people.num_true, people.num_found) == (5, 10, 10)
    assert 0.6 < people.edge_f1 < people.edge_ods <= people.edge_ois <= 1
    assert people.ap_r50 == people.ap_p50 == 1
    assert 0.8 < people.ap_r < 1
    assert [kind.name for kind in people.classes] == ["top", "legs"]
    assert people.ap_r == pytest.approx(np.mean([kind.ap_r for kind in people.classes]))
    assert [image is None for image in result.people] == [False] * 5 + [True]


def test_it_changes_no_other_score(dataset, teller):
    without, with_people = evaluate(teller(), dataset), evaluate(teller(), dataset, instances=True)
    assert without.people is None
    assert without.scores.people is None
    first, second = to_record(without), to_record(with_people)
    del second["images"]["people"]
    assert {**second, "people": None} == first


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (4, 2)])
def test_batches_and_threads_change_nothing(dataset, teller, batch_size, workers):
    first = evaluate(teller(), dataset, instances=True)
    other = evaluate(teller(batch_size=batch_size), dataset, instances=True, workers=workers)
    assert to_record(first) == to_record(other)


def test_people_who_touch_are_one_without_outlines(dataset, teller):
    people = evaluate(teller(Blind), dataset, instances=True).scores.people
    assert (people.num_true, people.num_found) == (10, 5)
    assert people.edge_recall < 0.95
    assert people.ap_p50 < 0.6


def test_masks_score_as_the_model_that_wrote_them(dataset, teller, masks):
    by_model = evaluate(teller(), dataset, instances=True)
    by_files = evaluate_folders(masks, dataset, DUO, instances=True)
    assert without_edges(by_files) == without_edges(by_model)
    assert by_files.num_extra == 0
    assert by_files.ids == by_model.ids
    assert by_files.scores.people.edge_f1 > by_model.scores.people.edge_f1


def test_on_the_grid_of_the_model(dataset, teller):
    predictor = teller()
    whole = evaluate(predictor, dataset, instances=True)
    assert to_record(evaluate(predictor, dataset, instances=True, at_model=True)) == to_record(whole)
    predictor.config.preprocess = Preprocess(size_hw=(56, 70))
    small = evaluate(predictor, dataset, instances=True, at_model=True).scores
    assert small.num_pixels < whole.scores.num_pixels
    assert (small.people.num_true, small.people.num_found) == (10, 10)


def test_pictures_on_the_grid_are_of_one_size(dataset, teller):
    predictor = teller()
    predictor.config.preprocess = Preprocess(size_hw=(40, 48))
    grid = pictures_of_model(predictor, dataset, at_model=True)("p0")
    assert grid.photo.shape == (40, 48, 3)
    assert grid.truth.shape == grid.prediction.shape == (40, 48)
    own = pictures_of_model(predictor, dataset)("p0")
    assert own.photo.shape[:2] == own.truth.shape == own.prediction.shape == SIZE_HW
    scored = evaluate(predictor, dataset, at_model=True)
    row = scored.ids.index("p0")
    counted = grid.truth != 255
    for label in range(3):
        right = counted & (grid.truth == label) & (grid.prediction == label)
        assert right.sum() == scored.counts.tp[row, label]


@pytest.mark.parametrize("num", [2, 4, 8])
def test_parts_are_the_whole(dataset, teller, masks, num, tmp_path):
    for name, score in {
        "model": lambda shard: evaluate(teller(), dataset, instances=True, shard=shard),
        "masks": lambda shard: evaluate_folders(masks, dataset, DUO, instances=True, shard=shard),
    }.items():
        parts = []
        for index in range(1, num + 1):
            path = tmp_path / f"{name}{index}.json"
            path.write_text(json.dumps(to_record(score(Shard(index, num))), allow_nan=False))
            parts.append(read_record(path))
        assert json.dumps(to_record(merge(parts[::-1]))) == json.dumps(to_record(score(Shard(1, 1))))


def test_parts_with_and_without_people_do_not_merge(dataset, teller):
    first = evaluate(teller(), dataset, instances=True, shard=Shard(1, 2))
    second = evaluate(teller(), dataset, shard=Shard(2, 2))
    with pytest.raises(DataError, match="only some of the parts looked at who is who"):
        merge([first, second])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda people: people.pop(),
        lambda people: people[0]["parts"][0].__setitem__(0, 9),
        lambda people: people[0]["parts"][0].__setitem__(2, 512),
        lambda people: people[0]["parts"][0].__setitem__(1, "x"),
        lambda people: people[0]["edges"].pop(),
        lambda people: people[0]["edges"][0].__setitem__(0, -1),
        lambda people: people[0]["num_true"].append(1),
        lambda people: people[0].pop("num_true"),
    ],
)
def test_damage_is_refused(dataset, teller, tmp_path, spoil):
    values = to_record(evaluate(teller(), dataset, instances=True))
    spoil(values["images"]["people"])
    path = tmp_path / "a.json"
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match="is damaged"):
        read_record(path)


def test_files_from_before_are_read(dataset, teller, tmp_path):
    values = to_record(evaluate(teller(), dataset))
    del values["people"]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(values))
    assert read_record(path).scores.people is None


def test_data_that_tells_nobody_apart_are_refused(dataset, teller, masks):
    with pytest.raises(DataError, match=r"split `train` of .* does not tell people apart"):
        evaluate(teller(), dataset, "train", instances=True)
    labels = dataset.label_path(dataset.split("test")[0]).parent
    with pytest.raises(DataError, match="does not tell people apart"):
        evaluate_folders(masks, labels, DUO, instances=True)


def test_every_problem_of_instances_is_named_at_once(dataset, masks):
    (masks / "p0.instances.png").unlink()
    (masks / "p1.people.json").write_text("{")
    write_ids16(masks / "p2.instances.png", np.ones((3, 4), np.uint16))
    (masks / "p3.people.json").write_text('{"people": []}')
    (masks / "p4.instances.png").write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        evaluate_folders(masks, dataset, DUO, instances=True)
    for said in (
        "5 of 6 masks cannot be scored",
        "`p0`: instances: there is no `p0.instances.png` beside it",
        "`p1`: instances: `p1.people.json` is damaged",
        "`p2`: instances: the people found are 4x3, but the truth is 80x64",
        "`p3`: instances: `p3.people.json` does not know person `1` of `p3.instances.png`",
        "`p4`: instances: ",
    ):
        assert said in caught.value.message


def test_a_missing_prediction_finds_nobody(dataset, masks):
    for path in masks.glob("p0.*"):
        path.unlink()
    people = evaluate_folders(masks, dataset, DUO, allow_missing=True, instances=True).scores.people
    assert (people.num_true, people.num_found) == (10, 8)
    assert people.ap_p50 == pytest.approx(0.8)


def test_ids_of_people_may_be_of_8_or_16_bits(tmp_path):
    ids = np.arange(12, dtype=np.uint16).reshape(3, 4)
    write_labels(tmp_path / "8.png", ids.astype(np.uint8))
    write_ids16(tmp_path / "16.png", ids * 5000)
    np.testing.assert_array_equal(read_ids16(tmp_path / "8.png"), ids)
    np.testing.assert_array_equal(read_ids16(tmp_path / "16.png"), ids * 5000)
    from PIL import Image

    Image.new("RGB", (4, 3)).save(tmp_path / "rgb.png")
    with pytest.raises(DataError, match="no grey PNG"):
        read_ids16(tmp_path / "rgb.png")


def test_outlines_of_ids_are_those_of_the_truth():
    rng = np.random.default_rng(0)
    people = np.kron(rng.integers(0, 4, (8, 9)), np.ones((9, 9))).astype(np.uint8)
    labels = (people > 0).astype(np.uint8)
    pair = Task(name="pair", classes=("none", "one"))
    image = compare_people(labels, people, labels, Found(people.astype(np.uint16), {}), pair)
    assert (image.edges[:, 0] == image.edges[:, 1]).all()
    scores = score_people([image], pair)
    assert (scores.edge_f1, scores.ap_r, scores.ap_p) == (1, 1, 1)


def test_metric_names_are_those_that_there_are(dataset, teller):
    scores = evaluate(teller(), dataset, instances=True).scores
    names = set(metric_names(DUO, people=True)) - set(metric_names(DUO))
    assert names == set(scores.people.values())
    assert all(value(scores, name) is not None for name in names)
    with pytest.raises(UsageError, match="no metric of task `duo`"):
        parse_gates(["ap_r=0.5"], DUO)


def test_json_is_the_agreed_form(dataset, teller):
    values = json.loads(json.dumps(evaluate(teller(), dataset, instances=True).scores.to_dict(), allow_nan=False))
    assert values["schema"] == 2
    assert list(values["people"]) == [
        "edge_precision", "edge_recall", "edge_f1", "edge_ods", "edge_ois", "ap_r", "ap_r50", "ap_p", "ap_p50",
        "edge_ods_from", "overlaps", "ap_r_at", "ap_p_at", "classes", "num_images", "num_true", "num_found",
    ]  # fmt: skip
    assert list(values["people"]["classes"]["top"]) == ["ap_r", "ap_r50", "num_true", "num_found"]


class TestCommandLine:
    def test_masks_are_scored_where_they_tell_people_apart(self, run, dataset, masks, tmp_path):
        ended = run("evaluate", "--pred", masks, "-d", dataset.dir, "--json", "--out", "out", "--report", "r.html")
        assert ended.code == 0
        people = json.loads(ended.out)["people"]
        assert people["ap_p50"] == 1
        assert "people told apart · 5 images" in ended.err
        assert f"edge_f1 {people['edge_f1']:.4f}" in ended.err
        with (tmp_path / "out" / "metrics.csv").open() as handle:
            table = {row["metric"]: row["value"] for row in csv.DictReader(handle)}
        assert table["ap_r"] == f"{people['ap_r']:.6f}"
        assert table["ap_r50.legs"] == f"{people['classes']['legs']['ap_r50']:.6f}"
        page = (tmp_path / "r.html").read_text()
        assert 'id="people"' in page
        assert f">{people['ap_r']:.3f}<" in page

    def test_not_where_they_do_not_or_nobody_wants_it(self, run, dataset, masks):
        assert (
            json.loads(run("evaluate", "--pred", masks, "-d", dataset.dir, "--no-instances", "--json").out)["people"]
            is None
        )
        for path in masks.glob("*.instances.png"):
            path.unlink()
        ended = run("evaluate", "--pred", masks, "-d", dataset.dir, "--json", "--report", "r.html")
        assert json.loads(ended.out)["people"] is None
        ended = run("evaluate", "--pred", masks, "-d", dataset.dir, "--instances")
        assert ended.code == 3
        assert "there is no `p0.instances.png`" in ended.err

    def test_a_bar_asks_for_it(self, run, dataset, masks):
        assert run("evaluate", "--pred", masks, "-d", dataset.dir, "--fail-under", "ap_p50=1").code == 0
        ended = run("evaluate", "--pred", masks, "-d", dataset.dir, "--fail-under", "ap_r.legs=0.999")
        assert ended.code == 1
        assert "missed: ap_r.legs is" in ended.err
        ended = run("evaluate", "--pred", masks, "-d", dataset.dir, "--no-instances", "--fail-under", "ap_p50=1")
        assert ended.code == 2

    @pytest.mark.parametrize("engine", [Teller, Blind])
    def test_a_model_that_finds_outlines_is_scored(self, run, dataset, teller, engine, monkeypatch):
        chosen = SimpleNamespace(open=lambda *_, **__: teller(engine))
        monkeypatch.setattr("seglab.inference.model.choose_model", lambda *_: chosen)
        monkeypatch.setattr("seglab.cli.evaluate.engine_dict", lambda engine: {"name": engine.name})
        ended = run("evaluate", "--model", "m", "-d", dataset.dir, "--json")
        assert ended.code == 0
        assert (json.loads(ended.out)["people"] is not None) == (engine is Teller)
        asked = json.loads(run("evaluate", "--model", "m", "-d", dataset.dir, "--json", "--instances").out)
        assert asked["people"]["num_true"] == 10

    def test_parts_merge(self, run, dataset, masks, tmp_path, monkeypatch):
        whole = json.loads(run("evaluate", "--pred", masks, "-d", dataset.dir, "--json").out)
        paths = []
        for index in (1, 2, 3):
            if index == 2:  # as torchrun says it
                monkeypatch.setenv("RANK", "1")
                monkeypatch.setenv("WORLD_SIZE", "3")
                arguments = []
            else:
                arguments = ["--shard", f"{index}/3"]
            paths.append(tmp_path / f"part{index}.json")
            paths[-1].write_text(run("evaluate", "--pred", masks, "-d", dataset.dir, "--json", *arguments).out)
            monkeypatch.delenv("RANK", raising=False)
            monkeypatch.delenv("WORLD_SIZE", raising=False)
        merged = json.loads(run("evaluate", "--merge", *paths, "--json").out)
        for values in (whole, merged):
            for name in ("input", "options", "shard", "engine"):
                del values[name]
        assert merged == whole
        assert merged["people"]["num_images"] == 5


def test_people_of_drawn_scenes(tmp_path):
    """Truth against itself, from the files of the prepared layout."""
    dataset = synth(TASKS["parsing"], 6, (96, 96), tmp_path / "synth", test=0.9, val=0)
    assert open_dataset(dataset.dir).task.num_classes > 2
    folder = tmp_path / "masks"
    folder.mkdir()
    for sample in dataset.split("test"):
        shutil.copy(dataset.label_path(sample), folder / f"{sample.id}.png")
        ids = read_labels(dataset.people_path(sample)).astype(np.uint16)
        write_ids16(folder / f"{sample.id}.instances.png", ids)
        people = [{"id": int(number), "score": 1, "parts": {}} for number in np.unique(ids[ids > 0])]
        (folder / f"{sample.id}.people.json").write_text(json.dumps({"people": people}))
    people = evaluate_folders(folder, dataset, dataset.task, instances=True).scores.people
    assert people.num_true == people.num_found > 0
    assert (people.edge_f1, people.ap_r, people.ap_p) == (1, 1, 1)


def test_scores_of_files_are_those_of_the_model(dataset, teller, masks):
    from seglab.data.images import read_photo

    predictor, sample = teller(), dataset.split("test")[0]
    pixels, placement = predictor.fit(read_photo(dataset.image_path(sample)).image)
    logits, extras = predictor.run_with_extras(pixels[None])
    labels = predictor.road.labels(logits[0], placement)
    found = found_by_model(logits[0], extras["edge"][0, 0], placement, labels, DUO)
    read = read_found(masks / f"{sample.id}.png", DUO)
    assert read.scores == found.scores
    assert len(found.scores) == 6
    np.testing.assert_array_equal(read.ids, found.ids)
