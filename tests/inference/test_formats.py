"""Forms of answers: read back by others, and compared with the masks of palette PNGs."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as reference
from pycocotools.coco import COCO

from seglab.data.rle import parse_kaggle, to_mask
from seglab.errors import UsageError
from seglab.inference.formats.polygons import to_polygons
from seglab.inference.sinks import FORMATS, GATHERED, choose_formats
from seglab.tasks import Task

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools 2.0.11


def read(path: str | Path) -> np.ndarray:
    with Image.open(path) as stored:
        return np.asarray(stored)


def smooth(height: int, width: int, seed: int, grain: float = 5) -> np.ndarray:
    """A picture of the task's colours with blobs, holes and islands."""
    palette = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)], np.uint8)
    fields = np.random.default_rng(seed).standard_normal((5, height, width)).astype(np.float32)
    return palette[np.stack([cv2.GaussianBlur(field, (0, 0), grain) for field in fields]).argmax(0)]


@pytest.fixture
def photos(save) -> list[str]:
    for number, size in enumerate(((60, 80), (33, 90), (64, 64))):
        save(Path(f"p/sub/{number}.png"), smooth(*size, number))
    save(Path("p/none.png"), np.zeros((20, 30, 3), np.uint8))
    return ["none.png", "sub/0.png", "sub/1.png", "sub/2.png"]


@pytest.mark.parametrize("form", ["coco", "coco-polygons"])
def test_coco_files_are_those_that_pycocotools_reads(shell, photos, task, form: str, capsys) -> None:
    assert shell("predict", "p", "-o", "o", "-f", "palette", "-f", form).code == 0
    coco = COCO(str(Path("o") / GATHERED[form].name))
    capsys.readouterr()
    assert {c["id"]: c["name"] for c in coco.cats.values()} == dict(enumerate(task.classes[1:], start=1))
    assert [coco.imgs[number]["file_name"] for number in sorted(coco.imgs)] == photos
    seen = 0
    for image in coco.imgs.values():
        ids = read(Path("o") / image["file_name"])
        assert (image["height"], image["width"]) == ids.shape
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        assert [item["category_id"] for item in annotations] == [value for value in np.unique(ids).tolist() if value]
        for item in annotations:
            mask = ids == item["category_id"]
            found = coco.annToMask(item).astype(bool)
            if form == "coco":
                assert np.array_equal(found, mask)
            else:
                assert (found & mask).sum() >= 0.9 * (found | mask).sum()
                near = cv2.dilate((found ^ mask).view(np.uint8), np.ones((3, 3)))
                assert not (found ^ mask)[cv2.erode(near, np.ones((5, 5))) > 0].any(), "off by a line of pixels at most"
            rows, columns = np.nonzero(mask)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert (item["area"], item["bbox"], item["iscrowd"]) == (mask.sum(), box, 0)
            assert 0.2 < item["score"] <= 1
            seen += 1
    assert seen >= 9
    assert sorted(coco.anns) == list(range(1, seen + 1))


def test_people_one_by_one_in_annotations(shell, save, task) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[4:20, 4:20], image[20:30, 4:20] = (255, 0, 0), (0, 255, 0)
    image[4:20, 40:50] = (255, 0, 0)
    save(Path("a.png"), image)
    result = shell("predict", "a.png", "-f", "coco", "-f", "rle", "-f", "instances", "--instances", "--json")
    assert (result.code, set(result.lines[0]["outputs"])) == (0, {"instances", "people"})
    values = json.loads(Path("seglab-masks/annotations.json").read_text())
    found = [(item["person_id"], item["category_id"], item["area"]) for item in values["annotations"]]
    assert found == [(1, 1, 256), (1, 2, 160), (2, 1, 160)]
    ids = read("seglab-masks/a.png")
    assert (ids[10, 10], ids[10, 45], ids[60, 60]) == (1, 2, 0)
    (line,) = result.lines
    assert [person["pixels"] for person in line["instances"]] == [416, 160]
    assert line["instances"][1]["bbox"] == {"top": 4, "left": 40, "height": 16, "width": 10}
    people = json.loads(Path("seglab-masks/a.people.json").read_text())["people"]
    assert people == line["instances"]
    with Path("seglab-masks/rle.csv").open(newline="") as file:
        assert [row["ClassId"] for row in csv.DictReader(file)] == ["1", "2", "1"]
    refused = shell("predict", "a.png", "-f", "instances")
    assert (refused.code, "--instances" in refused.err) == (2, True)


def test_kaggle_rows_read_back(shell, photos, task) -> None:
    assert shell("predict", "p", "-o", "o", "-f", "ids", "-f", "rle", "--drop", "blue").code == 0
    with Path("o/rle.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["ImageId", "EncodedPixels", "Height", "Width", "ClassId"]
    for name in photos:
        ids = read(Path("o") / name)
        painted = np.zeros_like(ids)
        for row in rows:
            if row["ImageId"] == name:
                size_hw = int(row["Height"]), int(row["Width"])
                assert size_hw == ids.shape
                painted[to_mask(parse_kaggle(row["EncodedPixels"], size_hw))] = int(row["ClassId"])
        assert np.array_equal(painted, ids)
        assert 3 not in ids
    assert {row["ImageId"] for row in rows} == set(photos[1:]), "nothing found is no row"


def test_names_that_look_like_formulas_are_the_names_of_the_photos(shell, save) -> None:
    names = ["=1+1.png", "+a.png", "-b.png", "@c.png"]
    image = np.zeros((20, 30, 3), np.uint8)
    image[4:12, 4:12] = (255, 0, 0)
    for name in names:
        save(Path("odd") / name, image)
    assert shell("predict", "odd", "-o", "o", "-f", "rle").code == 0
    with Path("o/rle.csv").open(newline="") as file:
        assert sorted(row["ImageId"] for row in csv.DictReader(file)) == sorted(names)


def test_a_mask_a_class(shell, photos, names) -> None:
    assert shell("predict", "p/sub", "-o", "o", "-f", "split", "-f", "palette").code == 0
    classes = ("blue", "green", "red", "white")
    assert names(Path("o")) == sorted(["legend.json", *(f"{n}{end}" for n in range(3) for end in (
        ".png", *(f".{name}.png" for name in classes)))])  # fmt: skip
    ids = read("o/1.png")
    for number, name in enumerate(("red", "green", "blue", "white"), start=1):
        assert np.array_equal(read(f"o/1.{name}.png"), 255 * (ids == number))
    assert shell("predict", "p/sub", "-o", "k", "-f", "split", "--keep", "red,green").code == 0
    assert names(Path("k")) == sorted(["legend.json", *(f"{n}.{c}.png" for n in range(3) for c in ("red", "green"))])
    assert shell("predict", "p/sub/0.png", "-o", "only.png", "-f", "split", "--keep", "red").code == 0
    assert np.array_equal(read("only.png"), read("k/0.red.png"))
    several = shell("predict", "p/sub/0.png", "-o", "only.png", "-f", "split")
    assert (several.code, "`split.red`, `split.green`" in several.err) == (2, True)


def test_names_of_classes_that_no_file_can_have() -> None:
    task = Task(name="odd", classes=("bg", "a/b", "a b", "Hair", "hair", "plain", "é"))
    endings = choose_formats(["split"], task, range(1, 7)).endings
    assert list(endings.values()) == [".1-a_b", ".2-a_b", ".3-Hair", ".4-hair", ".plain", ".é"]
    assert list(endings) == ["split.a/b", "split.a b", "split.Hair", "split.hair", "split.plain", "split.é"]


@pytest.mark.parametrize("size", [(60, 80), (150, 7), (1, 1), (64, 64)])
def test_probabilities(shell, save, task, size: tuple[int, int]) -> None:
    save(Path("a.png"), smooth(*size, 1))
    assert shell("predict", "a.png", "-f", "probs", "-f", "ids").code == 0
    with np.load("seglab-masks/a.npz") as stored:
        probs, classes = stored["probs"], stored["classes"]
    assert (probs.shape, probs.dtype, classes.tolist()) == ((*size, 5), np.float16, list(task.classes))
    np.testing.assert_allclose(probs.sum(-1, dtype=np.float32), 1, atol=3e-3)
    best = np.sort(probs, axis=-1)
    clear = best[..., -1] > best[..., -2]
    assert np.array_equal(probs.argmax(-1)[clear], read("seglab-masks/a.ids.png")[clear])
    assert clear.any()
    assert shell("predict", "a.png", "-f", "probs", "--keep", "green,red", "-o", "k").code == 0
    with np.load("k/a.npz") as stored:
        assert stored["classes"].tolist() == ["red", "green"]
        assert np.array_equal(stored["probs"], probs[..., 1:3]), "softmax is over all classes still"


def test_probabilities_of_a_large_photo_do_not_fill_the_memory(model, task, tmp_path) -> None:
    import tracemalloc

    from seglab.data.geometry import Placement
    from seglab.data.images import Photo
    from seglab.inference.flow import Answer
    from seglab.inference.labelled import Labelled

    rng = np.random.default_rng(0)
    logits = rng.standard_normal((5, 64, 64)).astype(np.float32)
    placement = Placement((1500, 2000), (64, 64), (0, 0, 64, 64))
    answer = Answer(Photo(np.zeros((1, 1, 3), np.uint8)), logits, placement)
    labelled = Labelled(answer, np.zeros((1500, 2000), np.uint8), task)
    with (tmp_path / "a.npz").open("wb") as stream:
        tracemalloc.start()
        FORMATS["probs"].write(stream, labelled, ".npz")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 20e6 < 1500 * 2000 * 5 * 2


def test_keep_and_drop_make_background(shell, save, corners, task) -> None:
    save(Path("a.png"), corners())
    assert shell("predict", "a.png", "-o", "all.png").code == 0
    everything = read("all.png")
    assert shell("predict", "a.png", "-o", "k.png", "--keep", "red", "--keep", "blue").code == 0
    assert np.array_equal(read("k.png"), np.where(np.isin(everything, [1, 3]), everything, 0))
    dropped = shell("predict", "a.png", "-o", "d.png", "--drop", "red", "--json")
    assert np.array_equal(read("d.png"), np.where(everything == 1, 0, everything))
    assert set(dropped.lines[0]["classes"]) == {"background", "green", "blue", "white"}
    unknown = shell("predict", "a.png", "--keep", "gren")
    assert (unknown.code, "did you mean `green`" in unknown.err) == (2, True)
    assert shell.model.opened == [1, 1, 1], "refused before any work"


def test_small_areas_can_be_left_out(shell, save) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[10:40, 10:40], image[20, 20], image[50, 50] = (255, 0, 0), (0, 0, 0), (0, 255, 0)
    save(Path("a.png"), image)
    assert shell("predict", "a.png", "-o", "m.png", "--min-area", "3").code == 0
    expected = np.zeros((64, 64), np.uint8)
    expected[10:40, 10:40] = 1
    assert np.array_equal(read("m.png"), expected)
    assert shell("predict", "a.png", "-o", "m.png", "--min-area", "few").code == 2


def test_nothing_found_is_an_answer_in_every_form(shell, save) -> None:
    save(Path("a.png"), np.zeros((20, 30, 3), np.uint8))
    forms = [word for name in (*FORMATS, *GATHERED) if name != "people" for word in ("-f", name)]
    result = shell("predict", "a.png", *forms, "--instances", "--json")
    (line,) = result.lines
    assert (result.code, line["found"], line["instances"], line["confidence"]) == (0, False, [], 1.0)
    assert list(line["classes"]) == ["background"]
    values = json.loads(Path("seglab-masks/annotations.json").read_text())
    assert (len(values["images"]), values["annotations"]) == (1, [])
    assert Path("seglab-masks/rle.csv").read_text() == "ImageId,EncodedPixels,Height,Width,ClassId\n"


def test_formats_that_are_refused() -> None:
    for names, message in (([], "no format"), (["coco", "coco"], "twice"), (["coca"], "is called `coca`")):
        with pytest.raises(UsageError, match=message):
            choose_formats(names)


def decoded(polygons: list[list[int]], height: int, width: int) -> np.ndarray:
    total = np.zeros((height, width), int)
    for polygon in polygons:
        (runs,) = reference.frPyObjects([polygon], height, width)
        total += reference.decode(runs)
    return total


@pytest.mark.parametrize("seed", range(60))
def test_polygons_are_exact_and_do_not_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 40, 2))
    noise = rng.standard_normal((height, width)).astype(np.float32)
    mask = (cv2.GaussianBlur(noise, (0, 0), float(rng.uniform(0.3, 4))) if seed % 3 else noise) > rng.uniform(-1, 1)
    polygons = to_polygons(mask)
    assert np.array_equal(decoded(polygons, height, width), mask)
    for polygon in polygons:
        x, y = np.array(polygon).reshape(-1, 2).T
        assert (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0, "clockwise, and no holes"


def test_polygons_by_hand() -> None:
    mask = np.zeros((4, 5), bool)
    assert to_polygons(mask) == []
    mask[1:3, 1:4] = True
    (ring,) = to_polygons(mask)
    assert sorted(zip(ring[0::2], ring[1::2], strict=True)) == [(1, 1), (1, 3), (4, 1), (4, 3)]
    ring = np.ones((5, 5), bool)
    ring[2, 2] = False
    assert len(to_polygons(ring)) == 2, "cut through its hole"
    assert len(to_polygons(np.eye(3, dtype=bool))) == 3, "pixels that touch at a corner stay apart"


def test_polygons_of_large_smooth_masks_have_few_corners() -> None:
    rows, columns = np.mgrid[:400, :600]
    disc = (rows - 200) ** 2 + (columns - 300) ** 2 < 180**2
    exact, simple = to_polygons(disc), to_polygons(disc, tolerance=1.0)
    assert len(simple) == 1
    assert len(simple[0]) < len(exact[0]) / 8
    found = decoded(simple, 400, 600) > 0
    assert (found & disc).sum() / (found | disc).sum() > 0.99
