"""Parts on disk: all of them, each once, made alike, or none; what they were made with is passed on."""

import json

import pytest

from seglab.errors import DataError
from seglab.evaluation.evaluate import evaluate
from seglab.evaluation.merging import merge_files
from seglab.evaluation.record import merge, to_record
from seglab.shards import WHOLE, Shard

OPTIONS = {"at": "photo", "tta": "none"}
INPUT = {"model": "runs/a", "data": "prepared/x", "split": "test"}


@pytest.fixture
def part(dataset, predictor, tmp_path):
    """Write a part of an evaluation as ``--json`` does; return its path."""

    def part(index, num, *, outlines=False, **rest):
        shard = Shard(index, num)
        values = to_record(evaluate(predictor(), dataset, outlines=outlines, shard=shard))
        named = None if shard == WHOLE else {"index": index, "num": num}
        path = tmp_path / f"{index}-of-{num}-{len(list(tmp_path.iterdir()))}.json"
        path.write_text(json.dumps({**values, "input": INPUT, "options": OPTIONS, "shard": named, **rest}))
        return path

    return part


def test_all_parts_are_the_whole(dataset, predictor, part):
    merged = merge_files([part(3, 3), part(1, 3), part(2, 3)])
    assert json.dumps(to_record(merged.evaluation)) == json.dumps(to_record(evaluate(predictor(), dataset)))
    assert (merged.input, merged.options) == (INPUT, OPTIONS)


@pytest.mark.parametrize("outlines", [False, True])
def test_a_part_without_images_is_a_part(dataset, predictor, part, outlines):
    num = len(dataset.split("test")) + 1
    merged = merge_files([part(index, num, outlines=outlines) for index in range(1, num + 1)])
    whole = evaluate(predictor(), dataset, outlines=outlines)
    assert json.dumps(to_record(merged.evaluation)) == json.dumps(to_record(whole))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([(1, 3), (3, 3)], r"part `2/3` is missing"),
        ([(2, 4)], r"parts `1/4`, `3/4`, `4/4` are missing"),
        ([(1, 2), (1, 2)], r"part `1/2` is there more than once"),
        ([(1, 3), (2, 2)], r"parts of 2 and parts of 3"),
        ([(1, 2), (1, 1)], r"parts of 2 and a whole"),
    ],
)
def test_some_parts_are_not_the_whole(part, parts, message):
    with pytest.raises(DataError, match=message):
        merge_files([part(*one) for one in parts])


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ({"options": {**OPTIONS, "tta": "flip"}}, r"`tta`: `none` in `1-of-2-\d\.json`, `flip` in `2-of-2-\d\.json`"),
        ({"options": None}, r"`at`: `photo`"),
        ({"input": {**INPUT, "split": "val"}}, r"`split`: `test`"),
        ({"input": {**INPUT, "model": "runs/b"}}, r"`model`: `runs/a`"),
        ({"input": {**INPUT, "model": None, "pred": "masks"}}, r"`model`: `runs/a`"),
    ],
)
def test_parts_are_made_alike(part, rest, message):
    with pytest.raises(DataError, match=message):
        merge_files([part(1, 2), part(2, 2, **rest)])


def test_a_copy_of_the_model_elsewhere_is_the_same_model(part):
    elsewhere = {**INPUT, "model": "/job/7/a", "data": "/job/7/x"}
    merged = merge_files([part(1, 2), part(2, 2, input=elsewhere)])
    assert merged.input == {"model": None, "data": None, "split": "test"}


@pytest.mark.parametrize("shard", [3, {"index": 1}, {"index": "1", "num": 2}, {"index": 3, "num": 2}])
def test_a_part_that_is_none_is_refused(part, shard):
    with pytest.raises(DataError, match=r"2-of-2.*damaged"):
        merge_files([part(1, 2), part(2, 2, shard=shard)])


def test_whole_evaluations_of_other_images_go_together(dataset, predictor, part):
    train = evaluate(predictor(), dataset, "train")
    path = part(1, 1, **to_record(train), input={**INPUT, "split": "train"})
    merged = merge_files([part(1, 1), path])
    assert merged.evaluation.num_images == train.num_images + len(dataset.split("test"))
    assert merged.input["split"] is None


def test_an_empty_part_has_nothing_to_look_at(dataset, predictor):
    num = len(dataset.split("test")) + 1
    empty = evaluate(predictor(), dataset, outlines=True, shard=Shard(num, num))
    whole = evaluate(predictor(), dataset, outlines=True)
    assert merge([empty, whole]).scores.outlines == whole.scores.outlines
