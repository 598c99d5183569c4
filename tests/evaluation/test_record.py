"""Evaluations as files: read back equal, merged from parts as if they were one, damage refused."""

import json

import numpy as np
import pytest

from seglab.data.images import write_labels
from seglab.errors import DataError, UsageError
from seglab.evaluation.evaluate import evaluate
from seglab.evaluation.folders import evaluate_folders
from seglab.evaluation.record import merge, read_record, to_record
from seglab.shards import WHOLE, Shard, choose_shard


def same(first, second):
    assert first.task == second.task
    assert first.ids == second.ids
    np.testing.assert_array_equal(first.matrix, second.matrix)
    for name in ("tp", "fp", "fn"):
        np.testing.assert_array_equal(getattr(first.counts, name), getattr(second.counts, name))
    assert json.dumps(to_record(first)) == json.dumps(to_record(second))


@pytest.mark.parametrize("outlines", [False, True])
def test_what_is_written_is_read(dataset, predictor, tmp_path, outlines):
    result = evaluate(predictor(), dataset, outlines=outlines)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(to_record(result), allow_nan=False))
    same(read_record(path), result)
    assert bool(result.scores.outlines) is outlines


@pytest.mark.parametrize("num", [2, 3, 7])
def test_parts_are_the_whole(dataset, predictor, num):
    whole = evaluate(predictor(), dataset, outlines=True)
    parts = []
    for index in range(1, num + 1):
        if Shard(index, num).of(dataset.split("test")):
            parts.append(evaluate(predictor(), dataset, outlines=True, shard=Shard(index, num)))
    same(merge(parts[::-1]), whole)


def test_parts_of_folders_are_the_whole(dataset, abc, seen, tmp_path):
    labels = dataset.label_path(dataset.split("test")[0]).parent
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for name, prediction in seen.items():
        write_labels(predictions / f"{name}.png", prediction)
    whole = evaluate_folders(predictions, labels, abc)
    parts = [evaluate_folders(predictions, labels, abc, shard=Shard(index, 2)) for index in (1, 2)]
    assert [part.num_extra for part in parts] == [0, 0]
    same(merge(parts), whole)


def test_an_image_counts_once(dataset, predictor):
    result = evaluate(predictor(), dataset)
    with pytest.raises(DataError, match="images are in several parts"):
        merge([result, result])
    with pytest.raises(DataError, match="only some of the parts looked at outlines"):
        merge([
            evaluate(predictor(), dataset, shard=Shard(1, 2)),
            evaluate(predictor(), dataset, shard=Shard(2, 2), outlines=True),
        ])  # fmt: skip


@pytest.mark.parametrize(
    "spoil",
    [
        lambda values: values["images"].pop("tp"),
        lambda values: values["images"]["fn"].pop(),
        lambda values: values["images"]["fn"][0].append(1),
        lambda values: values["confusion"][0].__setitem__(0, -1),
        lambda values: values["confusion"][0].__setitem__(0, 1.5),
        lambda values: values["confusion"][0].__setitem__(0, 10**400),
        lambda values: values["task_definition"].pop("classes"),
        lambda values: values.__setitem__("failures", [1]),
        lambda values: values.__setitem__("num_ignored", None),
        lambda values: values.__setitem__("images", None),
        lambda values: values.__setitem__("num_ignored", -1),
        lambda values: values.__setitem__("schema", "2"),
        lambda values: values.pop("schema"),
        lambda values: values["confusion"][0].__setitem__(0, values["confusion"][0][0] + 1),
        lambda values: values["images"]["tp"][0].__setitem__(0, 10**7),
        lambda values: values["images"]["id"].__setitem__(1, values["images"]["id"][0]),
        lambda values: values["images"].__setitem__("id", "abcde"[: len(values["images"]["id"])]),
    ],
)
def test_damage_is_refused(dataset, predictor, tmp_path, spoil):
    values = json.loads(json.dumps(to_record(evaluate(predictor(), dataset))))
    spoil(values)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"a\.json"):
        read_record(path)


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", "[" * 100_000, '{"confusion": 1}'])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"b\.json"):
        read_record(path)
    with pytest.raises(DataError, match="cannot read"):
        read_record(tmp_path)


def test_a_newer_version_is_refused(dataset, predictor, tmp_path):
    values = {**to_record(evaluate(predictor(), dataset)), "schema": 99}
    path = tmp_path / "c.json"
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match="version 99"):
        read_record(path)


def test_parts_are_named_or_come_from_torchrun():
    assert choose_shard("2/4", {}) == Shard(2, 4)
    assert choose_shard(None, {}) == WHOLE
    assert choose_shard(None, {"RANK": "1", "WORLD_SIZE": "3"}) == Shard(2, 3)
    assert choose_shard("1/1", {"RANK": "1", "WORLD_SIZE": "3"}) == WHOLE
    items = list(range(10))
    assert sorted(item for index in (1, 2, 3) for item in Shard(index, 3).of(items)) == items
    for text in ("0/3", "4/3", "a/b", "3", "1/0", "-1/2", "1/2/3"):
        with pytest.raises(UsageError):
            choose_shard(text, {})
