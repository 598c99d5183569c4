"""The registry: what it must hold, what it must not, and rows of a user's own."""

import json
from importlib.resources import files
from pathlib import Path

import pytest

from seglab.data.fetching.registry import find_row, load_registry
from seglab.errors import DataError, UsageError
from seglab.tasks import TASKS

ROWS = load_registry()

KNOWN_IDS = [
    "remainaplomb/cihp-celebmaskhq-6class-256",
    "carvana-image-masking-challenge",
    "0BzvH3bSnp3E9QjVYZlhWSjltSWM",
    "1Mqpse5Gen4V4403wFEpv3w3JAsWw2uhk",
    "1badu11NqxGf6qM3PTTooQDJvQbejgbTv",
    "imaterialist-fashion-2019-FGVC6",
    "1mhF3yqd7R-Uje092eypktNl-RoZNuiCJ",
    "11xTBALOeUkyuaK3l60CpkYHLTmv7k3dY",
    "1aS4gB2UucK1twuU5ROg_MYRIxm3jmk1v",
    "1ao1ovG1Qtx4b7EoskHXmi2E9rp5CHLcZ",
    "1rbSTGKAE-MTxBYHd-51l2hMOQPT_7EPy",
    "1m_Kgs91b21gayc2XLW0ou8yugAIadWVP",
    "1IG3HdpcRiDoWNookbncQjeaPN28t90yW",
    "1mZFWlS4WygWh1eVI8vK2Ad9LrPq4Hp5v",
    "1j2pU7vyhOO30C2S_FJuRdmAmMt3-xmjD",
    "1NkTsDDN8VO-JVik6VxXyV-3l2eo29KCk",
    "1jweX1u0vltv-tYZhYp6mlyDZDy0aDyrw",
    "1CEeVnqR6JmiZ9_p_eVWAUouQMxGnCiLL",
    "1-2PIMuSKIFD4cqLi-Tve7v4jZ_VgnCoO",
    "1llsnhnfHIypQDmGNB9vl5Yvwjir-zZwU",
    "1unIkraozhmsFtkfneZVhw8JMOQ8jv78J",
    "1DXsWpWbTueSY6f_zobAqoyX5flp15lzV",
    "1k4dllHpu0bdx38J7H28rVVLpU-kOHmnH",
    "1ruJg4lqR_jgQPj-9K0PP-L2vJERYOxLP",
    "1E5YwNKW2VOEayK9mWCS3Kpsxf-3z04ZE",
]


def test_every_known_place_is_in_the_registry():
    refs = [source.ref for row in ROWS.values() for source in row.sources]
    assert not set(KNOWN_IDS) - set(refs)
    assert len(refs) == len(set(refs))
    assert len(ROWS) == 30 + sum(row.kind == "encoder" for row in ROWS.values())


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_row_says_what_a_user_must_know(row):
    assert row.title
    assert row.origin.startswith("http")
    assert row.licence
    assert row.task in {*TASKS, ""}
    assert row.tried
    assert row.unpack == (row.kind == "dataset") or row.name == "pgn-tensorflow"
    if row.kind != "dataset" and not row.unpack:
        assert all(source.file for source in row.tried)
    assert json.loads(json.dumps(row.to_dict()))["name"] == row.name
    for command in row.next:
        assert command.startswith("seglab ")
        assert "{path}" in command


def test_every_task_has_data_and_all_but_the_first_have_a_checkpoint():
    for kind in ("dataset", "checkpoint"):
        assert {row.task for row in ROWS.values() if row.kind == kind and row.task} == set(TASKS)


def test_the_dead_link_is_marked_and_not_tried():
    row = ROWS["cloth-u2net"]
    assert "2023-05" in row.sources[0].dead
    assert row.sources[0] not in row.tried
    assert len(row.tried) == 3


@pytest.mark.parametrize(
    ("name", "login"), [("imaterialist", "Kaggle + rules"), ("cihp-celebmaskhq-6class", "Kaggle"), ("helen", "")]
)
def test_the_login_that_a_row_needs_is_told(name, login):
    assert ROWS[name].login == login


def test_the_registry_is_part_of_the_package():
    assert (files("seglab.data") / "registry.toml").is_file()
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    assert '"data/registry.toml"' in pyproject.read_text()


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="`hellen`") as caught:
        find_row(ROWS, "hellen")
    assert "`helen`" in caught.value.hint


def test_rows_of_ones_own_are_added_and_replace(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        "[mine]\nkind = 'dataset'\ntitle = 'mine'\nsources = [{ url = 'https://a.example/a.zip' }]\n"
        "[helen]\nkind = 'dataset'\ntitle = 'my mirror'\nsources = [{ url = 'https://a.example/h.7z' }]\n",
        encoding="utf-8-sig",
    )
    rows = load_registry(path)
    assert len(rows) == len(ROWS) + 1
    assert rows["mine"].sources[0].place == "a.example"
    assert rows["helen"].title == "my mirror"


GOOD = "kind = 'dataset'\ntitle = 'x'\nsources = [{ url = 'https://a.example/a.zip' }]\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 3", "a row is a table"),
        ("[X]\n" + GOOD, "lower-case"),
        ("[x]\n" + GOOD.replace("dataset", "data"), "`kind` is one of"),
        ("[x]\n" + GOOD.replace("title = 'x'", ""), "`title` is missing"),
        ("[x]\nkind = 'dataset'\ntitle = 'x'", "`sources` is a list"),
        ("[x]\nkind = 'dataset'\ntitle = 'x'\nsources = []", "at least one"),
        ("[x]\n" + GOOD + "licence = 3", "`licence` is text"),
        ("[x]\n" + GOOD + "bytes = -1", "`bytes` is a whole number"),
        ("[x]\n" + GOOD + "bytes = true", "`bytes` is a whole number"),
        ("[x]\n" + GOOD + "unpack = 1", "`unpack` is true or false"),
        ("[x]\n" + GOOD + "colour = 'red'", "unknown field `colour`"),
        ("[x]\n" + GOOD + "commercial = 'maybe'", "`commercial` is one of"),
        ("[x]\n" + GOOD + "next = 'seglab'", "`next` is a list"),
        ("[x]\n" + GOOD.replace("url =", "link ="), "exactly one of"),
        ("[x]\n" + GOOD.replace("https", "file"), "`sources`, number 1: `url` is an http or https address, not `file:"),
        (
            "[x]\n" + GOOD.replace("url = 'https://a.example/a.zip'", "drive = 'a b'"),
            "`drive` is a Drive id.* not `a b`",
        ),
        (
            "[x]\n" + GOOD.replace("url = 'https://a.example/a.zip'", "kaggle-dataset = '../a'"),
            "`kaggle-dataset` is a Kaggle name such as `owner/name`, not `../a`",
        ),
        ("[x]\n" + GOOD.replace("zip'", "zip', file = '../a'"), "plain file name"),
        ("[x]\n" + GOOD.replace("zip'", "zip', file = '.a'"), "plain file name"),
        ("[x]\n" + GOOD.replace("zip'", "zip', sha256 = 'abc'"), "64 lower-case"),
        ("[x]\n" + GOOD.replace("zip'", "zip', md5 = 'ABC'"), "32 lower-case"),
        ("[x]\n" + GOOD.replace("https://a.example/a.zip", "https:///a.zip"), "`url` is an http or https address"),
        ("[x]\n" + GOOD.replace("https://a.example/a.zip", "https://[a"), "`url` is an http or https address"),
        ("[x]\n" + GOOD.replace("url = 'https://a.example/a.zip'", "kaggle-competition = 'a/b'"), "not `a/b`"),
        ("[x]\n" + GOOD + "license = 'MIT'", "unknown field `license`; did you mean `licence`?"),
        (
            "[x]\n" + GOOD.replace("zip'", "zip', sha265 = 'abc'"),
            "number 1: unknown field `sha265`; did you mean `sha256`",
        ),
        ("[x]\n" + GOOD.replace("zip'", "zip', drive = 'abcdefghijkl'"), "it has `url` and `drive` of the fields"),
        (
            "[x]\n"
            + GOOD.replace("'dataset'", "'checkpoint'").replace(
                "url = 'https://a.example/a.zip'", "kaggle-dataset = 'a/b'"
            ),
            "Kaggle sends archives, so that the row needs `unpack = true`",
        ),
        ("[x]\n" + GOOD + "commercial = true", "`commercial` is one of yes, no, unclear, not `True`"),
        ("[x]\n" + GOOD + "bytes = 1.5", "`bytes` is a whole number, not `1.5`"),
        ("[x]\n" + GOOD.replace("a.example", "me:s3cr3t@a.example"), "`url` holds a login before its `@`"),
        ("[x", "is not TOML: .*end of document"),
        ("[x]\n" + GOOD + "[x]\n" + GOOD, "is not TOML: .*line 5"),
        ("x = " + "[" * 3000, "is not TOML"),
    ],
)
def test_a_wrong_row_is_named_with_its_reason(tmp_path, text, words):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        load_registry(path)
    assert "own.toml" in caught.value.message
    assert "s3cr3t" not in caught.value.message
    assert "row `" in caught.value.message or "is not TOML" in caught.value.message
    assert "`seglab fetch --help` shows a whole row" in caught.value.hint


def test_the_fields_there_are_are_in_the_hint(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("[x]\ncolour = 'red'")
    with pytest.raises(DataError) as caught:
        load_registry(path)
    for field in ("licence", "unpacked_bytes", "unpack", "kaggle-competition", "sha256", "dead"):
        assert field in caught.value.hint


def test_a_file_that_is_no_text_is_said(tmp_path):
    (tmp_path / "own.toml").write_bytes(b"\xff\xfe[x]")
    with pytest.raises(DataError, match=r"own\.toml` is not UTF-8 text"):
        load_registry(tmp_path / "own.toml")


def test_the_whole_row_that_the_help_shows_is_a_row(tmp_path):
    import os
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "seglab", "fetch", "--help"],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip
    lines = [line.strip() for line in done.stdout.splitlines()]
    text = "\n".join(lines[lines.index("[our-faces]") : next(i for i, line in enumerate(lines) if "Only kind" in line)])
    (tmp_path / "own.toml").write_text(text)
    row = load_registry(tmp_path / "own.toml")["our-faces"]
    assert [source.way for source in row.sources] == ["url", "kaggle-dataset", "drive", "page"]
    assert (row.kind, row.commercial, row.bytes) == ("dataset", "yes", 120_000_000)


def test_all_wrong_rows_are_told_at_once(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("[a]\nkind = 'x'\n[b]\nkind = 'y'\n")
    with pytest.raises(DataError, match=r"row `a`: .*; row `b`: "):
        load_registry(path)


def test_a_registry_that_cannot_be_read_is_said(tmp_path):
    with pytest.raises(DataError, match="cannot read registry"):
        load_registry(tmp_path / "none.toml")
