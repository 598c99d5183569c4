"""Names that attack: what a page, a table or a terminal makes of them."""

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.security.conftest import CLASSES, PHOTOS, SECRETS, TITLE

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Page(HTMLParser):
    """The elements and attributes of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.text += data


def test_the_road_was_gone(world):
    ends = {name: done.code for name, done in world.done.items()}
    failed_photo = dict.fromkeys(("predict", "predict json", "cutout", "predict graph"), 1)
    refused = {"missing": 3, "option": 2, "class": 2}
    assert ends == dict.fromkeys(ends, 0) | failed_photo | refused, world.done


@pytest.mark.parametrize("name", ["model.html", "folders.html"])
def test_a_report_holds_no_element_of_a_name(world, name):
    page = Page((world.dir / name).read_text("utf-8"))
    assert len(page.elements) > 100
    assert not {"img", "svg", "b", "title"} & {
        tag for tag, found in page.elements if found.get("onerror") or "x" in found
    }
    assert not [(tag, key) for tag, found in page.elements for key in found if key.startswith("on")]
    assert sum(tag == "script" for tag, _ in page.elements) == 2
    assert "alert(3)" in page.text


def test_the_report_shows_the_names_as_text(world):
    text = Page((world.dir / "folders.html").read_text("utf-8")).text
    assert "<img src=x onerror=alert(1)>" in text
    assert CLASSES[1] in text


def test_a_report_holds_no_element_of_the_name_of_a_folder_or_a_file(world):
    """It names what was scored, and the model that it is compared with."""
    folders = '<img src=x onerror="alert(5)">', "'\"><svg onload=alert(6)>"
    for folder, odd in zip(("predicted", "truth"), folders, strict=True):
        shutil.copytree(world.dir / folder, world.dir / odd)
    before = "<script>alert(7)<!--.json"
    shutil.copy(world.dir / "folders" / "evaluation.json", world.dir / before)
    odd = ("evaluate", "--pred", folders[0], "--gt", folders[1], "--task", "odd.toml", "--baseline", before)
    done = world.run("odd folders", *odd, "--report", "odd.html")
    assert done.code == 0, done.err
    page = Page((world.dir / "odd.html").read_text("utf-8"))
    for name in (*folders, before):
        assert name in page.text
    assert not [tag for tag, found in page.elements if tag == "svg" and "onload" in found]
    assert not [(tag, key) for tag, found in page.elements for key in found if key.startswith("on")]
    assert sum(tag == "script" for tag, _ in page.elements) == 2
    del world.done["odd folders"]


@pytest.mark.parametrize("photo", PHOTOS)
def test_the_demo_page_shows_the_pictures_of_a_photo_whatever_it_is_called(monkeypatch, photo):
    from seglab import demo
    from seglab.tasks import Task

    monkeypatch.setattr(demo, "_headline", lambda _: "nothing")
    page = Page(demo._page(Task(name="odd", title=TITLE, classes=CLASSES), [Path(photo)], None))
    shown = [found["src"] for tag, found in page.elements if tag == "img"]
    stem = Path(photo).stem
    assert shown == [f"photos/{photo}", f"masks/{stem}.overlay.jpg", f"masks/{stem}.png", f"cutouts/{stem}.png"]
    assert not [(tag, key) for tag, found in page.elements for key in found if key.startswith("on")]
    assert not [tag for tag, _ in page.elements if tag in ("script", "svg")]
    assert "alert(3)" in page.text
    assert "alert(4)" in page.text


def test_the_demo_page_holds_no_element_of_a_name(monkeypatch):
    from seglab import demo
    from seglab.tasks import Task

    monkeypatch.setattr(demo, "_headline", lambda _: "nothing")
    plain = Task(name="plain", title="t", classes=("none", "a", "b"))
    hostile = Task(name="odd", title=TITLE, classes=CLASSES)
    shapes = []
    for task, photo in ((plain, "a.jpg"), (hostile, PHOTOS[0]), (hostile, PHOTOS[4])):
        page = Page(demo._page(task, [Path(photo)], None))
        shapes.append([(tag, sorted(found)) for tag, found in page.elements])
    assert shapes[0] == shapes[1] == shapes[2]


def test_no_control_reaches_the_terminal(world):
    for name, done in world.done.items():
        found = CONTROLS.search(done.out + done.err)
        assert found is None, (name, found)
    assert "\\x1b[31mbroken<script>.jpg" in world.done["predict"].err


def test_json_says_the_names_as_they_are(world):
    lines = [json.loads(line) for line in world.done["predict json"].out.splitlines()]
    assert {f"photos/{name}" for name in PHOTOS} <= {line["input"] for line in lines}
    assert json.loads(world.done["show json"].out)["config"]["task"]["title"] == TITLE


def test_nothing_of_a_name_was_run(world):
    assert not list(world.dir.rglob("canary"))


def test_tables_keep_names_as_they_are_and_hold_one_line_each(world):
    """No quote before a `=`: the tables are data, and what reads them must find the files by name (see README)."""
    for path, column in (("masks/rle.csv", "ImageId"), ("images.csv", "id"), ("folders/per_image.csv", "id")):
        with (world.dir / path).open(encoding="utf-8", newline="") as file:
            names = {row[column] for row in csv.DictReader(file)}
        assert any(name.startswith("=HYPERLINK") for name in names), path
        assert len(names) == len(PHOTOS)


def test_no_secret_is_told_or_written(world):
    secrets = [value for name, value in SECRETS.items() if name != "https_proxy"] + ["pass_secret", "somebody-secret"]
    said = "".join(done.out + done.err for done in world.done.values())
    assert not [secret for secret in secrets if secret in said]
    files = [path for path in world.dir.rglob("*") if path.is_file()]
    assert {"environment.json", "train.json", "config.json"} <= {path.name for path in files}
    for path in files:
        data = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in data], path


def test_the_network_was_never_asked(world):
    assert world.done["network"].code == 0, world.done["network"].err
    assert not list((world.dir / "home").rglob("Microsoft")), "ONNX Runtime reports to its makers"
