"""What fuzzing has found, one plain test a finding."""

import json
import struct
import zipfile
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest

from seglab.config import TrainConfig
from seglab.data import rle
from seglab.data.journal import Journal
from seglab.data.json_lists import read_lists
from seglab.data.manifest import Sample, is_sound
from seglab.data.matlab import read_variable
from seglab.data.sources import SourceOptions, coco, imaterialist, pascal_part
from seglab.errors import DataError, SeglabError, UsageError
from seglab.evaluation.merging import merge_files
from seglab.inference.gathering import SPOOL_NAME, Gathering
from seglab.inference.ledger import Ledger, foreign
from seglab.inference.plan import Job
from seglab.models.bundle import METADATA_KEY, read_config
from seglab.models.checkpoint import open_checkpoint
from seglab.models.headers import safetensors_tensors
from seglab.notation import MAX_DEPTH, parse_json, parse_toml
from seglab.preprocess import Preprocess
from seglab.tasks import TASKS, load_task
from seglab.training.curves import panels_of
from seglab.training.recipe import configure, load_recipe, parse_settings
from seglab.training.rundir import RunDir
from seglab.training.settings import read_settings
from tests.fuzz import seeds
from tests.fuzz.targets import ABC, TARGETS

DEEP = {
    "lists": "[" * 100_000 + "]" * 100_000,
    "tables": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "not quite": "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2),
    "in a list": json.dumps([1, [2] * 200, json.loads("[" * 150 + "]" * 150)]),
}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ["metrics", "training", "data", "model_args"])
def test_a_model_with_numbers_that_json_has_not_is_a_damaged_one(tmp_path, number, place):
    """Its description could not be printed, nor the model be put in the place of another."""
    text = json.dumps(seeds.configuration() | {place: {"miou": "?"}}).replace('"?"', number)
    (tmp_path / "model.safetensors").write_bytes(seeds.with_metadata({"format": "pt", METADATA_KEY: text}))
    with pytest.raises(DataError, match=f"`{number}` is no number that JSON has"):
        read_config(tmp_path)


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
@pytest.mark.parametrize("as_bytes", [False, True])
def test_deep_json_is_a_value_error(text, as_bytes):
    with pytest.raises(ValueError, match=f"deeper than {MAX_DEPTH}"):
        parse_json(text.encode() if as_bytes else text)


def test_what_is_not_deep_is_read():
    for value in (
        [[[]]] * 500,
        {"a": [{}] * 500},
        json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH),
        "[" * 900,
        [1.5, None],
    ):
        assert parse_json(json.dumps(value)) == value
    assert parse_toml("a = [[1]]\n[b.c]\nd = 1") == {"a": [[1]], "b": {"c": {"d": 1}}}


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 5000, "a = " + "{b = " * 5000, "a" + ".a" * 5000 + " = 1", "a = " + "9" * 5000]
)
def test_deep_toml_and_endless_numbers_are_value_errors(text):
    with pytest.raises(ValueError):
        parse_toml(text)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '[{"b": {"c": 1, "d": 2, "c": 1}}]'])
def test_a_name_that_is_there_twice_is_refused(text):
    with pytest.raises(ValueError, match=r"`[ac]` is in it twice"):
        parse_json(text)


BOMBS = ["[" * 100_000, '{"a":' * 100_000, '{"format": ' + "9" * 5000 + "}", '{"format": 1, "format": 1}']


@pytest.mark.parametrize("text", BOMBS, ids=["lists", "tables", "number", "twice"])
@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.grammar in ("json", "json lines")])
def test_bombs_of_json_are_errors_of_ours_everywhere(tmp_path, name, text):
    messages = []
    for data in (text.encode(), seeds.samples() + text.encode() + b"\n"):
        try:
            TARGETS[name].parse(tmp_path, data)
        except SeglabError as error:
            messages.append(error.message)
    assert all(0 < len(message) < 1000 for message in messages)


@pytest.mark.parametrize(
    "text", ["a" + ".a" * 3000 + " = 1", "a = " + "[" * 3000, "size = " + "9" * 5000, "lr = " + "9" * 400]
)
def test_bombs_of_toml_are_errors_of_ours_everywhere(tmp_path, text):
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(UsageError):
        load_task(str(path))
    with pytest.raises(SeglabError):
        configure(TrainConfig(), recipe=load_recipe(str(path)))
    with pytest.raises(SeglabError):
        configure(TrainConfig(), parse_settings([text.replace(" = ", "=")]))


def test_a_weight_no_float_can_hold():
    with pytest.raises(UsageError, match="must be a number of 0 or more"):
        TrainConfig(losses={"dice": 10**400})
    with pytest.raises(UsageError, match="`lr` is"):
        TrainConfig(lr=10**400)


@pytest.mark.parametrize(
    "changes",
    [
        {"size_hw": []}, {"size_hw": [5]}, {"size_hw": ["a", "b"]}, {"size_hw": [32.5, 32]}, {"size_hw": 5},
        {"mean": "abc"}, {"mean": [1, 2]}, {"std": [1, 1, float("nan")]}, {"std": [1, 1, 10**400]},
        {"mean": [True, 0, 0]}, {"pad_rgb": [0, 0, 256]}, {"pad_rgb": [0, 0, 0.5]}, {"fit": ["pad"]},
    ],
)  # fmt: skip
def test_a_preprocessing_of_a_wrong_form(changes):
    with pytest.raises(DataError, match="preprocess"):
        Preprocess.from_dict({"size_hw": [32, 32], **changes})
    with pytest.raises(DataError, match="preprocess"):
        Preprocess.from_dict([["size_hw", 5]])


def safetensors(path, header, data=b""):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    "entry",
    [
        {"shape": [float("inf")]}, {"shape": [-1]}, {"shape": ["2"]}, {"data_offsets": [0.0, 8]},
        {"data_offsets": [{}, 8]}, {"data_offsets": [9, 8]}, {"data_offsets": [-8, 8]}, {"data_offsets": [0, 4, 8]},
        {"dtype": None}, {"shape": 2},
    ],
)  # fmt: skip
def test_a_tensor_of_a_wrong_form(tmp_path, entry):
    path = safetensors(
        tmp_path / "a.safetensors", {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **entry}}, b"8" * 8
    )
    for read in (safetensors_tensors, read_config, lambda path: list(open_checkpoint(path).raw())):
        with pytest.raises(DataError):
            read(path)


@pytest.mark.parametrize("record_at", [2**64 - 1, 2**63 - 1, 10**6])
def test_a_zip_whose_large_end_record_is_elsewhere(tmp_path, record_at):
    end = b"PK\x05\x06" + b"\0" * 8 + b"\xff" * 8 + b"\0\0"
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\x03\x04" + b"\0" * 40 + b"PK\x06\x07" + struct.pack("<IQI", 0, record_at, 1) + end)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="the archive is damaged"):
        TARGETS["archive-zip"].parse(tmp_path / "out", path.read_bytes())


def test_a_zip_member_that_begins_before_the_file(tmp_path):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data", b"1")
    data = bytearray(buffer.getvalue())
    at = data.rindex(b"PK\x01\x02")
    data[at + 42 : at + 46] = b"\xff\xff\xff\x7f"
    with pytest.raises(DataError, match="damaged"):
        TARGETS["archive-zip"].parse(tmp_path, bytes(data))


def test_numbers_and_far_outlines_of_coco(tmp_path):
    with pytest.raises(rle.RleError, match="no list of numbers"):
        rle.from_polygons([[10**400] * 6], (4, 4))
    with pytest.raises(rle.RleError, match="with an outline of"):
        rle.from_polygons([[0, 0, 1.7e8, 0, 1.7e8, 1]], (1, 178_000_000))
    assert rle.from_polygons([[0, 0, 16000, 0, 16000, 16000, 0, 16000]], (16000, 16000)).area == 16000 * 16000
    (tmp_path / "images").mkdir()
    long = {"id": 1, "file_name": "a" * 5000 + ".jpg", "height": 4, "width": 4}
    values = {"images": [long], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "a.json").write_text(json.dumps(values))
    found = coco.scan(tmp_path, SourceOptions(ABC))
    assert [problem.kind for problem in found.problems] == ["image without its photo"]


def test_deep_entries_of_coco(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": [' + "[" * 200 + '"é"' + "]" * 200 + "]}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"deeper than|too many brackets"):
        read_lists(path, {"a": lambda _: None})


def test_the_class_lists_of_layouts(tmp_path):
    (tmp_path / "label_descriptions.json").write_text('{"categories": [{"id": 1e999, "name": "a"}]}')
    with pytest.raises(DataError, match="cannot read"):
        imaterialist._categories(tmp_path)
    (tmp_path / "classes.txt").write_text("9" * 5000 + ": head\n")
    with pytest.raises(DataError, match="lists other classes"):
        pascal_part._listed_names(tmp_path / "classes.txt")


def test_arrays_with_headers_that_are_no_python(tmp_path):
    read = TARGETS["pascal-npy"]
    for header in (b"{'descr': '|u1', 'fortran_order': (\n", b"{" * 9000, b"(" * 9000, b"{'descr': [('a', '<i4')]}"):
        data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 100
        read.parse(tmp_path, data)
    python2 = b"{'descr': '|u1', 'fortran_order': False, 'shape': (2L, 4L), }\n"
    from seglab.data.arrays import read_array

    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(python2)) + python2 + bytes(range(8)))
    assert read_array(path).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_matlab_files_on_which_scipy_ends_the_process(tmp_path):
    """Any single byte changed: values or a ValueError."""
    path = tmp_path / "a.mat"
    whole = seeds.matlab()[0]
    for at in range(128, len(whole), 11):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        with suppress(ValueError):
            read_variable(path, "anno")


def test_matlab_variables_are_those_that_scipy_reads(tmp_path):
    from scipy.io import loadmat, savemat

    path = tmp_path / "a.mat"
    rng = np.random.default_rng(3)
    for kind in ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "?"):
        for shape in ((1, 1), (3, 5), (2, 3, 4), (0, 0)):
            array = (rng.random(shape) * 200).astype(kind)
            for compressed in (False, True):
                savemat(path, {"no": 1, "anno": array}, do_compression=compressed)
                read, expected = read_variable(path, "anno"), loadmat(path)["anno"]
                assert read.shape == expected.shape
                assert np.array_equal(read, expected)
    savemat(path, {"anno": "wörd", "cells": np.array([["a", 1.0], ["", 2]], object)})
    assert read_variable(path, "anno") == "wörd"
    assert [value if isinstance(value, str) else value.size for value in read_variable(path, "cells")] == [
        "a",
        "",
        1,
        1,
    ]
    with pytest.raises(ValueError, match="no variable `x`"):
        read_variable(path, "x")
    savemat(path, {"anno": 1 + 2j})
    with pytest.raises(ValueError, match="not read"):
        read_variable(path, "anno")


SAMPLE = {
    "id": "a", "split": "val", "image": "val/images/a.jpg", "label": "val/labels/a.png", "height": 2, "width": 3,
    "pixels": {"none": 6},
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"height": 2.0}, {"height": True, "pixels": {"none": 3}}, {"height": -2, "width": -3},
        {"pixels": {"none": 6.0}}, {"pixels": {"none": 7, "a": -1}}, {"height": 2**64, "pixels": {"none": 3 * 2**64}},
    ],
)  # fmt: skip
def test_samples_with_odd_numbers_are_not_sound(changes):
    assert is_sound(Sample(**SAMPLE))
    assert not is_sound(Sample(**{**SAMPLE, **changes}))


def test_an_empty_journal(tmp_path):
    (tmp_path / "journal.jsonl").write_bytes(b"")
    assert Journal(tmp_path, {}).find("a") is None


@pytest.mark.parametrize(
    "line",
    [
        {"input": ["a"], "outputs": {}}, {"input": "a", "outputs": []}, {"input": "a", "outputs": {"p": 5}},
        {"input": "a"}, {"input": "a", "outputs": {"p": [[]]}},
    ],
)  # fmt: skip
def test_lines_of_a_ledger_that_are_none(tmp_path, line):
    (tmp_path / "a.png").write_bytes(b"")
    for name in (".seglab-done.jsonl", ".seglab-files.jsonl"):
        (tmp_path / name).write_text(json.dumps({"seglab": "predict", "since": 2**62}) + "\n" + json.dumps(line) + "\n")
    job = Job(tmp_path / "a", {"p": tmp_path / "a.png"})
    (tmp_path / "a").write_bytes(b"")
    for out_dir in (tmp_path, None):
        assert not Ledger(out_dir, "predict", {}).is_done(job)
    assert foreign(tmp_path, [tmp_path / "a.png"]) == [tmp_path / "a.png"]


def test_noted_answers_that_were_changed_are_asked_for_again(tmp_path):
    from types import SimpleNamespace

    from seglab.inference.gathering import Gathered

    job = Job(tmp_path / "a.jpg", {})
    form = Gathered("all.json", lambda _labelled, name: [name], lambda *_: None, "")
    gathering = Gathering(tmp_path, {"f": form}, ABC, "s")
    gathering.open()
    gathering.add(job, SimpleNamespace())
    spool = tmp_path / SPOOL_NAME
    whole = spool.read_bytes()
    for content, known in (
        (whole, True),
        (whole.replace(b'{"f"', b'{"g"'), False),
        (whole[:-2] + b"\n", False),
        (b"[]\t{}\n", False),
    ):
        spool.write_bytes(content)
        again = Gathering(tmp_path, {"f": form}, ABC, "s")
        again.recall()
        assert again.has(job) is known


def test_metrics_that_nobody_measured(tmp_path):
    run = RunDir(tmp_path)
    lines = [
        {"epoch": 1, "train": 5, "val": [1], "lr": "x"}, {"epoch": 1.5}, {"epoch": True}, {"epoch": -(10**400)}, [1],
        {"epoch": [1]}, {"epoch": 2, "train": {"loss": 10**400}, "val": {"miou": 1e308}, "lr": -1e308},
        {"epoch": 3, "train": {"loss": 0.5, "grad_norm": float("inf")}, "val": {"miou": 0.5}, "lr": 1e-3},
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "[" * 5000)
    records = run.keep_metrics(5)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    panels = panels_of(records, "miou", ABC)
    lines = {line.name: list(line.points) for panel in panels for line in panel.lines}
    assert lines == {"loss": [(3.0, 0.5)], "miou": [(3.0, 0.5)], "lr": [(3.0, 0.001)]}


@pytest.mark.parametrize(
    "changes",
    [
        {"config": []}, {"config": {"augment": {"preset": "no"}}}, {"task": []}, {"data": 5},
        {"digest": None}, {"graph": "yes"}, {"time_limit_s": "x"}, {"time_limit_s": float("nan")},
        {"logger": "mail"}, {"launch": 1}, {"format": "1"}, {"format": True}, {"format": None},
    ],
)  # fmt: skip
def test_settings_of_a_run_of_a_wrong_form(tmp_path, changes):
    (tmp_path / "train.json").write_bytes(seeds.run_settings()[0])
    assert read_settings(tmp_path).time_limit_s == 60.0
    (tmp_path / "train.json").write_text(json.dumps({**json.loads(seeds.run_settings()[0]), **changes}))
    with pytest.raises(SeglabError):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"options": [[1, 2], ["a", 3]]}, {"input": [["a", 1]]}, {"input": 5}, {"shard": {"index": 1e999, "num": 2}},
        {"shard": 5}, {"shard": {"index": 1}}, {"shard": {"index": "1", "num": 1}},
    ],
)  # fmt: skip
def test_parts_of_an_evaluation_that_say_odd_things(tmp_path, changes):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**json.loads(seeds.evaluation()[0]), **changes}))
    with pytest.raises(DataError, match="is damaged"):
        merge_files([path])


def test_the_embedded_tasks_are_still_read(tmp_path):
    for data, task in zip(seeds.tasks()[1:], TASKS.values(), strict=True):
        (tmp_path / "a.toml").write_bytes(data)
        assert load_task(str(tmp_path / "a.toml")) == task


def test_short_rows_where_the_name_of_the_photo_comes_late(tmp_path):
    (tmp_path / "train.csv").write_bytes(b"EncodedPixels,Height,Width,ClassId,ImageId\n1 1,16\n1 1,16,12,0,a.jpg\n")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.jpg").write_bytes(seeds.photo())
    found = imaterialist.scan(tmp_path, SourceOptions(TASKS["clothes"]))
    assert [(problem.kind, problem.detail) for problem in found.problems] == [
        ("row that is not whole", "2 of 5 columns")
    ]
    assert [item.name for item in found.items] == ["a"]


def test_a_zip_member_without_a_name(tmp_path):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x", b"1")
    at = buffer.getvalue().rindex(b"PK\x01\x02")
    data = bytearray(buffer.getvalue())
    data[at + 28 : at + 30] = b"\0\0"
    del data[at + 46]
    end = data.rindex(b"PK\x05\x06")
    data[end + 12 : end + 16] = struct.pack("<I", end - at)
    with pytest.raises(DataError, match="has no name"):
        TARGETS["archive-zip"].parse(tmp_path, bytes(data))


def test_fetched_tensors_that_end_nowhere(tmp_path):
    from seglab.data.fetching.weight_files import why_no_weights

    for end in (float("inf"), {}, "x", None):
        path = safetensors(tmp_path / "a", {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, end]}}, b"8" * 8)
        assert "damaged" in why_no_weights(path, "a.safetensors")


def test_a_damaged_resume_state_is_told_in_our_words_alone(tmp_path, recwarn, capfd):
    """torch warns of a pickle that it did not write, on the terminal and in its own words."""
    whole = seeds.resume_states()[0]
    buffer = BytesIO()
    with zipfile.ZipFile(BytesIO(whole)) as archive, zipfile.ZipFile(buffer, "w") as changed:
        for info in archive.infolist():
            data = archive.read(info)
            changed.writestr(info, b"\x80\x04" + data[2:] if info.filename.endswith("data.pkl") else data)
    for data in (
        buffer.getvalue(),
        whole[:-30],
        whole.replace(b"learner", b"LEARNER"),
        b"PK\x03\x04",
        b"",
        b"\x80\x04K\x01.",
    ):
        (tmp_path / "last.pt").write_bytes(data)
        with suppress(DataError):
            RunDir(tmp_path).load_state()
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")
