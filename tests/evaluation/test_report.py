"""The page that shows an evaluation: what is on it, and what cannot get into it."""

import base64
import hashlib
import io
import json
import math
import re
import tomllib
from dataclasses import replace
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import seglab
from seglab.errors import DataError
from seglab.evaluation.evaluate import evaluate
from seglab.evaluation.folders import evaluate_folders
from seglab.evaluation.gates import Gate
from seglab.evaluation.report import Pictures, pictures_of_masks, pictures_of_model, write_report
from seglab.evaluation.report.gallery import GROUPS, NUM_EACH, choose
from seglab.evaluation.report.layers import ERRORS, MASK_BYTES, PHOTO_BYTES, draw
from seglab.evaluation.report.markup import Html, element, join, named, to_json
from seglab.evaluation.report.matrix import MAX_CLASSES, confusions, heat_map
from seglab.evaluation.report.numbers import amount, difference, percent, score
from seglab.evaluation.report.spread import NUM_BINS, bin_scores
from seglab.evaluation.report.tree import parts
from seglab.evaluation.result import ImageScore, compare
from seglab.tasks import TASKS, Task
from tests.evaluation.reports import HOSTILE, TASK, evaluation_of, many_images, report_arguments

VOID = {"meta", "link", "img", "input"}

EXPECTED = {
    "html", "head", "meta", "title", "link", "style", "body", "script", "a", "header", "h1", "h2", "h3", "p", "nav",
    "main", "section", "footer", "div", "span", "bdi", "b", "small", "dl", "dt", "dd", "ul", "li", "table", "thead",
    "tbody", "tr", "th", "td", "details", "summary", "fieldset", "legend", "input", "label", "select", "option",
    "button", "output", "article", "figure", "figcaption", "img", "svg", "rect", "line", "text",
}  # fmt: skip
"""The elements that a report is made of."""


class Reader(HTMLParser):
    """Reads a page as a browser would, and refuses what it would have to mend."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.texts, self.rows, self.scripts, self.ids = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes)
        self.tags.append((tag, dict(attributes)))
        if "id" in dict(attributes):
            self.ids.append(dict(attributes)["id"])
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" not in self.open:
            self.texts.append(data)
            if "td" in self.open or "th" in self.open:
                self.rows[-1][-1] += data

    @property
    def text(self):
        return "".join(self.texts)


@pytest.fixture(scope="module")
def images():
    return many_images()


@pytest.fixture(scope="module")
def evaluation(images):
    return evaluation_of(images, outlines=True, people=True, failures=[("<b>bad</b>.jpg", "truncated <file>")])


@pytest.fixture(scope="module")
def page(images, evaluation, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    gates = [Gate("miou", 0.1, 0.5), Gate("iou.c", 0.9, None)]
    write_report(path, evaluation, gates=gates, **report_arguments(images, evaluation))
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def read(page):
    return Reader(page)


# Markup


def test_text_is_escaped_and_markup_is_not():
    inner = element("b", "1 < 2 & 'x'")
    assert inner == "<b>1 &lt; 2 &amp; &#x27;x&#x27;</b>"
    assert element("p", inner, "<i>", None) == f"<p>{inner}&lt;i&gt;</p>"
    assert join(["a<", Html("<br>"), None, ""]) == "a&lt;<br>"


def test_attributes():
    said = element("input", value='a"b<', aria_label="x", class_="c", checked=True, hidden=False, id=None, max=0.1)
    assert said == '<input value="a&quot;b&lt;" aria-label="x" class="c" checked max="0.1">'


def test_names_do_not_spill():
    assert named("\u202ename") == "<bdi>\u202ename</bdi>"
    assert len(named("x" * 10_000)) < 300


def test_what_cannot_be_written_is_replaced():
    assert element("b", "a\udcffb\x00\x1bc\n") == "<b>a\ufffdb\ufffd\ufffdc\n</b>"
    assert element("b", title="\ud800").encode() == '<b title="\ufffd"></b>'.encode()


def test_json_in_a_script_cannot_end_it():
    values = {"a": ["</script><!--", "&", "\u2028", "\udcff", 0.25, None]}
    text = to_json(values)
    assert not re.search("[<>&\u2028]", text)
    assert text.isascii()
    assert json.loads(text) == values
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(math.nan)


# Numbers


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0"), (999, "999"), (1000, "1.00k"), (1234, "1.23k"), (9996, "10.0k"), (12_345, "12.3k"), (99_960, "100k"),
        (999_499, "999k"), (999_500, "1.00M"), (4_560_000, "4.56M"), (10**9, "1.00G"), (2 * 10**15, "2000T"),
    ],
)  # fmt: skip
def test_amount(number, said):
    assert amount(number) == said


@pytest.mark.parametrize(
    ("share", "said"),
    [(0, "0.0"), (1, "100.0"), (0.0004, "<0.1"), (0.001, "0.1"), (0.5, "50.0"), (0.9996, "99.9"), (0.123, "12.3")],
)
def test_percent(share, said):
    assert percent(share) == said


def test_score_and_difference():
    assert [score(value) for value in (None, math.nan, 0.5, 1.0)] == ["–", "–", "0.5000", "1.0000"]
    assert [difference(value) for value in (0.01, -0.01)] == ["+0.0100", "\u22120.0100"]


# The choice of images


def scored(*mious):
    return [ImageScore(f"{at:03}", miou, miou, ()) for at, miou in enumerate(mious)]


@pytest.mark.parametrize("num", [*range(40), 100])
def test_images_are_chosen_once(num):
    rng = np.random.default_rng(num)
    images = scored(*rng.random(num), math.nan)
    choices = choose(images)
    names = [choice.image.id for choice in choices]
    groups = {group: [choice.image.miou for choice in choices if choice.group == group] for group in GROUPS}
    order = sorted(image.miou for image in images[:-1])
    assert len(set(names)) == len(names) == min(num, 3 * NUM_EACH)
    assert all(len(several) <= NUM_EACH for several in groups.values())
    assert groups["worst"] == order[: len(groups["worst"])]
    assert groups["best"] == order[::-1][: len(groups["best"])]
    assert groups["median"] == sorted(groups["median"])
    if num >= 3:
        assert min(map(len, groups.values())) >= min(num // 3, NUM_EACH)
        assert groups["median"][0] <= np.median(order) <= groups["median"][-1]


# Pictures


def decode(uri, kind):
    head = f"data:image/{kind};base64,"
    assert uri.startswith(head)
    encoded = base64.b64decode(uri[len(head) :], validate=True)
    return encoded, Image.open(io.BytesIO(encoded))


def test_masks_have_the_colours_of_the_task_and_no_background():
    task = TASKS["face"]
    truth = np.arange(110, dtype=np.uint8).reshape(10, 11) % 11
    truth[0, 0] = 255
    layers = draw(Pictures(truth, truth[::-1].copy()), task)
    assert layers.photo is None
    assert layers.size_hw == (10, 11)
    for uri, labels in ((layers.truth, truth), (layers.prediction, truth[::-1])):
        rgba = np.array(decode(uri, "png")[1].convert("RGBA"))
        for label in range(11):
            here = rgba[labels == label]
            assert (here[:, 3] == (255 if label else 0)).all()
            assert label == 0 or (here[:, :3] == task.palette[label]).all()
        assert (rgba[labels == 255][:, 3] > 100).all()


def test_error_map():
    truth = np.array([[0, 0, 1, 1, 1, 255, 255]], np.uint8)
    prediction = np.array([[0, 2, 1, 0, 2, 0, 1]], np.uint8)
    rgba = np.array(decode(draw(Pictures(truth, prediction), TASK).errors, "png")[1].convert("RGBA"))[0]
    colours = {name: colour for name, _, colour in ERRORS}
    expected = [None, "false alarm", "right", "missed", "confused"]
    assert [tuple(map(int, pixel[:3])) for pixel in rgba[1:5]] == [colours[name] for name in expected[1:]]
    assert rgba[:, 3].tolist()[1:5] == [255, 110, 255, 255]
    assert rgba[0, 3] < 200
    assert tuple(rgba[5]) == tuple(rgba[6]) != tuple(rgba[0])


def test_pictures_are_small_whatever_they_show():
    rng = np.random.default_rng(1)
    photo = rng.integers(0, 256, (2000, 1500, 3), np.uint8)
    truth, prediction = (rng.integers(0, 255, photo.shape[:2], np.uint8) for _ in range(2))
    many = Task(name="many", classes=tuple(f"c{at}" for at in range(255)))
    layers = draw(Pictures(truth, prediction, photo), many)
    assert layers.size_hw == (480, 360)
    encoded, picture = decode(layers.photo, "jpeg")
    assert len(encoded) <= PHOTO_BYTES
    assert min(picture.size) >= 90
    for uri in (layers.truth, layers.prediction, layers.errors):
        assert len(decode(uri, "png")[0]) <= MASK_BYTES


def test_ordinary_photos_keep_their_size():
    truth = np.zeros((700, 960), np.uint8)
    truth[100:400, 200:500] = 1
    smooth = np.add.outer(np.arange(700), np.arange(960))[..., None].repeat(3, 2).astype(np.uint8)
    layers = draw(Pictures(truth, truth, smooth), TASK)
    assert decode(layers.photo, "jpeg")[1].size == decode(layers.truth, "png")[1].size == (480, 350)


def test_pictures_of_a_model_are_what_was_scored(predictor, dataset):
    seer = predictor()
    evaluation = evaluate(seer, dataset)
    look = pictures_of_model(seer, dataset)
    assert_counted(evaluation, look)
    assert look("t1") is None
    assert all(look(name).photo.shape[:2] == look(name).truth.shape for name in evaluation.ids)


@pytest.mark.parametrize("mode", ["pad", "stretch"])
def test_pictures_on_the_grid_are_what_was_scored(predictor, dataset, mode):
    seer = predictor(size_hw=(30, 44))
    seer.config.preprocess = replace(seer.config.preprocess, fit=mode)
    evaluation = evaluate(seer, dataset, at_model=True)
    look = pictures_of_model(seer, dataset, at_model=True)
    assert_counted(evaluation, look)
    for name in evaluation.ids:
        shown = look(name)
        assert shown.photo.shape[:2] == shown.truth.shape == shown.prediction.shape
    shape = look("p2").truth.shape  # of 40x23
    assert shape == ((30, 44) if mode == "stretch" else (30, 17))


def test_pictures_of_masks_are_what_was_scored(tmp_path, dataset, seen):
    from seglab.data.images import write_labels

    (tmp_path / "pred").mkdir()
    for name, labels in seen.items():
        if name != "p2":
            write_labels(tmp_path / "pred" / f"{name}.png", labels)
    evaluation = evaluate_folders(tmp_path / "pred", dataset, dataset.task, allow_missing=True)
    look = pictures_of_masks(tmp_path / "pred", dataset, dataset.task)
    assert_counted(evaluation, look)
    assert not look("p2").prediction.any()
    assert look("p1").photo is not None
    assert look("nobody") is None
    folder = dataset.dir / "test" / "labels"
    bare = pictures_of_masks(tmp_path / "pred", folder, dataset.task)
    assert_counted(evaluation, bare)
    assert bare("p1").photo is None


def test_how_people_are_told_apart(read, evaluation):
    people = evaluation.scores.people
    assert 0 < people.ap_p50 < people.ap_r50 < 1
    rows = {row[0]: row[1:] for row in read.rows if len(row) == 5}
    for kind in people.classes:
        assert rows[kind.name] == [score(kind.ap_r), score(kind.ap_r50), f"{kind.num_true}", f"{kind.num_found}"]
    assert rows["never"][:2] == ["–", "–"]
    by_overlap = {row[0]: row[1:] for row in read.rows if len(row) == 3 and row[0].startswith("0.")}
    assert by_overlap["0.5"] == [score(people.ap_r50), score(people.ap_p50)]
    assert list(by_overlap) == [f"0.{tenth}" for tenth in range(1, 10)]
    for name in ("edge_f1", "edge_precision", "edge_recall", "edge_ods", "edge_ois", "ap_r", "ap_p", "ap_p50"):
        assert f"{getattr(people, name):.3f}" in read.text
    assert "45 images whose truth tells people apart: 90 people there, 90 found." in read.text


def assert_counted(evaluation, look):
    shown = [look(name) for name in evaluation.ids]
    matrix = sum(compare(one.truth, one.prediction, evaluation.task).matrix for one in shown)
    assert len(shown) == 5
    assert (matrix == evaluation.matrix).all()


# Hierarchy, matrix, spread


def test_hierarchy_of_the_known_tasks():
    assert parts(TASKS["body"]) == {
        "body": ["upper_body", "lower_body"],
        "upper_body": ["low_hand", "torso", "head", "up_hand"],
        "lower_body": ["low_leg", "up_leg"],
    }
    assert parts(TASKS["face"])["overall"] == ["brows", "eyes", "nose", "mouth"]


def test_hierarchy_of_regions_that_overlap_or_equal_a_class():
    task = Task(
        name="odd",
        classes=("n", "a", "b", "c"),
        regions={"ab": ("a", "b"), "bc": ("b", "c"), "again": ("b", "a"), "only": ("c",), "all": ("a", "b", "c")},
    )
    assert parts(task) == {
        "ab": ["a", "b"],
        "bc": ["b", "only"],
        "again": ["a", "b"],
        "only": ["c"],
        "all": ["ab", "again", "bc"],
    }


def test_deep_and_tangled_hierarchies_stay_small(tmp_path):
    names = tuple(f"c{at}" for at in range(80))
    regions = {f"r{at}": tuple(name for name in names[1:] if name != names[at + 1]) for at in range(40)}
    regions |= {f"q{at}": tuple(name for name in names[1:] if name not in names[at + 1 : at + 3]) for at in range(40)}
    task = Task(name="tangled", classes=names, regions=regions)
    images = {"only": Pictures(np.arange(80, dtype=np.uint8)[None], np.zeros((1, 80), np.uint8))}
    write_report(tmp_path / "r.html", evaluation_of(images, task), configuration={}, title="t")
    assert (tmp_path / "r.html").stat().st_size < 2e6
    Reader((tmp_path / "r.html").read_text())


def test_matrix_has_every_number():
    matrix = np.array([[900, 100, 0], [50, 2449, 1], [0, 0, 0]])
    task = Task(name="abc", classes=("a", "b", "c"))
    shares, counts = np.array(Reader(heat_map(matrix, task)).rows, object).reshape(2, 4, 4)
    assert shares[:, 1:].tolist() == [["a", "b", "c"], ["90.0", "10.0", "·"], ["2.0", "98.0", "<0.1"], ["·", "·", "·"]]
    assert counts[1:, 1:].tolist() == [["900", "100", "·"], ["50", "2.45k", "1"], ["·", "·", "·"]]
    assert Reader(confusions(matrix, task)).rows[1:] == [
        ["a", "b", "10.0 %", "2.86 %"],
        ["b", "a", "2.0 %", "1.43 %"],
        ["b", "c", "<0.1 %", "0.03 %"],
    ]
    assert confusions(np.diag([3, 4, 5]), task) is None


def test_classes_of_few_pixels_share_a_row():
    rng = np.random.default_rng(3)
    task = Task(name="many", classes=tuple(f"class{at}" for at in range(60)))
    matrix = rng.integers(0, 9, (60, 60)) * 10 ** rng.integers(0, 2, 60)[:, None]
    read = Reader(heat_map(matrix, task))
    rows = [row for row in read.rows if row[0] != "truth ↓  prediction →"]
    assert len(rows) == 2 * MAX_CLASSES
    titles = [attributes["title"] for tag, attributes in read.tags if tag == "td" and "title" in attributes]
    pixels = np.array([int(title.split()[0].replace(",", "")) for title in titles]).reshape(2, MAX_CLASSES, MAX_CLASSES)
    assert (pixels.sum(axis=(1, 2)) == matrix.sum()).all()
    kept = [int(row[0].removeprefix("class")) for row in rows[: MAX_CLASSES - 1]]
    assert (pixels[0, :-1, :-1] == matrix[np.ix_(kept, kept)]).all()
    assert rows[MAX_CLASSES - 1][0] == "31 others"
    assert "The 31 classes with the fewest pixels" in read.text


def test_bins():
    binned = bin_scores(np.array([0.0, 0.04, 0.05, 0.5, 1.0, math.nan]))
    assert binned.counts == (2, 1, *[0] * 8, 1, *[0] * 8, 1)
    assert len(binned.counts) == NUM_BINS
    assert str(binned) == "5 images: median 0.0500, mean 0.3180; 1 without it"
    assert str(bin_scores(np.full(2, math.nan))) == "0 images: median –, mean –; 2 without it"


# The page


def test_the_page_is_whole(read):
    links = [attributes["href"][1:] for tag, attributes in read.tags if tag == "a"]
    assert len(set(read.ids)) == len(read.ids)
    assert set(links) <= set(read.ids)
    sections = [
        "figures",
        "classes",
        "people",
        "hierarchy",
        "confusion",
        "spread",
        "left-out",
        "gallery",
        "configuration",
    ]
    assert links == ["figures", *sections]
    labelled = {attributes["for"] for tag, attributes in read.tags if tag == "label" and "for" in attributes}
    assert labelled <= set(read.ids)


def test_numbers_are_in_tables(read, evaluation):
    rows = {row[0]: row[1:] for row in read.rows if len(row) == 10}
    for group in (*evaluation.scores.classes, *evaluation.scores.regions):
        assert rows[group.name][:4] == [score(getattr(group, name)) for name in ("iou", "f1", "precision", "recall")]
        assert rows[group.name][6] == percent(group.num_pixels / evaluation.scores.num_pixels, 2)
    outlines = {outline.name: outline for outline in evaluation.scores.outlines}
    assert rows["c"][4:6] == [score(outlines["c"].boundary_iou), score(outlines["c"].boundary_f1)]
    assert re.fullmatch(r"0\.\d{4}–0\.\d{4}", rows["c"][7])
    assert re.fullmatch(r"[+\u2212]0\.\d{4}\*?", rows["c"][8])
    assert rows["never"] == ["–"] * 6 + ["0.00", "–", "–"]
    assert ["<i>fine", score(evaluation.scores.levels[1].iou), "<b>a</b>, c", "never"] in read.rows
    for name in ("miou", "miou_foreground", "mean_f1", "pixel_accuracy", "mean_accuracy", "fwiou"):
        assert f"{getattr(evaluation.scores, name):.3f}" in read.text


def test_what_was_left_out_is_told(read, evaluation):
    assert f"% of the pixels ({evaluation.scores.num_ignored:,})" in read.text
    assert evaluation.scores.num_ignored > 0
    extra = "predictions without a truth, not looked at3"
    for said in ("never", "<u>gone, too", "<b>bad</b>.jpg: truncated <file>", extra):
        assert said in read.text


def test_configuration_and_bars_are_told(read):
    assert "model<script>window.hacked=7</script>" in read.text
    for said in ("nameseer", "shape48, 64", "deep.compileno", "deep.none–"):
        assert said in read.text
    assert ["miou", "0.1", "0.5000", "reached"] in read.rows
    assert ["iou.c", "0.9", "–", "missed"] in read.rows


def test_hostile_names_stay_text(page, read, images):
    scripts = [attributes for tag, attributes in read.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "facts"}, {}]
    assert not any(name.startswith("on") for _, attributes in read.tags for name in attributes)
    assert {tag for tag, _ in read.tags} <= EXPECTED
    assert not any("style" in attributes for _, attributes in read.tags)
    for name in HOSTILE:
        shown = name.encode("utf-8", "replace").decode() if "\udcff" not in name else "undecodable \ufffd\ufffd"
        assert shown in read.text
    assert "window.hacked=8</script> & more" in read.text
    assert "$" not in page.split("<body>")[1].split('<script type="application/json"')[0]


def test_nothing_can_be_loaded(page, read):
    (policy,) = (attributes["content"] for tag, attributes in read.tags if attributes.get("http-equiv"))
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    style = re.search("<style>(.*?)</style>", page, re.S)[1]
    for rule, text in (("style-src", style), ("script-src", read.scripts[-1])):
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    sources = [attributes[name] for _, attributes in read.tags for name in ("src", "href") if name in attributes]
    assert len(sources) > 4 * 36
    assert all(source.startswith(("data:", "#")) for source in sources)
    loading = r"url\(|@import|https?:|fetch\(|XMLHttp|import\(|WebSocket|Worker|innerHTML|eval"
    assert not re.search(loading, style + read.scripts[-1])


def test_the_gallery_holds_worst_median_and_best(read, evaluation):
    cards = [attributes for tag, attributes in read.tags if tag == "article"]
    facts = json.loads(read.scripts[-2])
    assert len(cards) == len(facts["images"]) == 36
    assert [group for group, *_ in facts["images"]] == [0] * 12 + [1] * 12 + [2] * 12
    mious = sorted(round(image.miou, 6) for image in evaluation.images())
    assert [miou for _, miou, _ in facts["images"][:12]] == mious[:12]
    assert [miou for _, miou, _ in facts["images"][24:]] == mious[::-1][:12]
    assert all(iou[4] is None and len(iou) == 7 for *_, iou in facts["images"])
    assert sum(tag == "img" for tag, _ in read.tags) == 4 * 36
    assert len(facts["histogram"]["of"]) == 8
    scores_NG = np.array([(image.miou, *image.iou) for image in evaluation.images()])
    assert [counts for counts, *_ in facts["histogram"]["of"]] == [list(bin_scores(of).counts) for of in scores_NG.T]
    assert facts["histogram"]["of"][0][2] == pytest.approx(scores_NG[:, 0].mean(), abs=1e-4)
    assert facts["histogram"]["of"][0][3] == pytest.approx(np.median(scores_NG[:, 0]), abs=1e-4)


def test_the_same_evaluation_gives_the_same_page(images, evaluation, tmp_path):
    arguments = report_arguments(images, evaluation)
    for name in "ab":
        write_report(tmp_path / name, evaluation, **arguments)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_report_is_small_whatever_it_shows(tmp_path):
    rng = np.random.default_rng(1)
    noise = many_images(num=40)
    evaluation = evaluation_of(noise)
    photo = rng.integers(0, 256, (480, 480, 3), np.uint8)
    masks = [rng.integers(0, 5, photo.shape[:2], np.uint8) for _ in range(2)]
    pictures = Pictures(*masks, photo)
    write_report(tmp_path / "r.html", evaluation, pictures=lambda _: pictures, configuration={}, title="t")
    assert 1e6 < (tmp_path / "r.html").stat().st_size < 5e6


def test_pictures_that_are_not_to_be_had(images, evaluation, tmp_path):
    asked = []

    def look(name):
        asked.append(name)
        if len(asked) == 1:
            raise DataError("the <photo> is broken")
        if len(asked) == 2:
            raise PermissionError(13, "Permission denied")
        return None if len(asked) == 3 else Pictures(images[name].truth, images[name].prediction)

    write_report(tmp_path / "r.html", evaluation, pictures=look, configuration={}, title="t")
    read = Reader((tmp_path / "r.html").read_text())
    for said in ("the <photo> is broken", "Permission denied", "there is no picture of it"):
        assert f"not shown: {said}" in read.text
    assert len(asked) == 36
    assert sum(tag == "img" for tag, _ in read.tags) == 3 * 33


def test_a_report_without_pictures_intervals_or_baseline(evaluation, tmp_path):
    write_report(tmp_path / "r.html", evaluation, configuration={}, title="bare")
    read = Reader((tmp_path / "r.html").read_text())
    assert "img" not in {tag for tag, _ in read.tags}
    assert "95 %" not in read.text
    assert "baseline" not in read.text


def test_one_image_that_has_nothing_to_score(tmp_path):
    ignored = np.full((4, 4), 255, np.uint8)
    images = {"void": Pictures(ignored, np.zeros_like(ignored))}
    write_report(tmp_path / "r.html", evaluation_of(images), pictures=images.get, configuration={}, title="t")
    read = Reader((tmp_path / "r.html").read_text())
    assert "images with nothing to score1" in read.text
    assert "0 images: median –, mean –; 1 without it" in read.text
    assert "article" not in {tag for tag, _ in read.tags}


@pytest.mark.parametrize("name", TASKS)
def test_every_task(name, tmp_path):
    task = TASKS[name]
    images = many_images(task, 5, num_shown=task.num_classes)
    write_report(tmp_path / "r.html", evaluation_of(images, task), pictures=images.get, configuration={}, title=name)
    read = Reader((tmp_path / "r.html").read_text())
    assert ("hierarchy" in read.ids) == bool(task.regions or task.levels)
    assert task.title in read.text


def test_the_parts_of_the_page_are_shipped():
    root = Path(seglab.__file__).parents[1]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["seglab"]
    folder = Path(seglab.__file__).parent / "evaluation" / "report"
    files = [path for path in folder.iterdir() if path.suffix in (".html", ".css", ".js")]
    assert len(files) == 3
    for path in files:
        assert any(fnmatch(path.relative_to(root / "seglab").as_posix(), pattern) for pattern in patterns)


def test_long_configuration_is_folded(evaluation, tmp_path):
    configuration = {"model": {f"part{at}": {"of": at} for at in range(13)}, "short": {"a": [], "b": "", "c": [[1, 2]]}}
    write_report(tmp_path / "r.html", evaluation, configuration=configuration, title="t")
    read = Reader((tmp_path / "r.html").read_text())
    assert "model (13 lines)part0.of0part1.of1" in read.text
    assert "shorta–b–c[[1, 2]]" in read.text
