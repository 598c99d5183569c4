"""COCO JSON: outlines of every kind against pycocotools, categories by name, and everything that can be wrong."""

import itertools
import json
import os
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as reference
from pycocotools.coco import COCO

from seglab.data import json_lists
from seglab.data.images import read_labels
from seglab.data.prepare import prepare
from seglab.data.problems import Problem, ProblemsFound
from seglab.data.sources import Scan, SourceOptions, coco, recognise
from seglab.errors import DataError
from seglab.tasks import TASKS, Task

PERSON, CLOTHES = TASKS["person"], TASKS["clothes"]
SHARED_DATA = os.environ.get("SEGLAB_REAL_DATA", "")
HEIGHT, WIDTH = 40, 60


def square(left: int, top: int, side: int) -> list[list[float]]:
    return [[left, top, left + side, top, left + side, top + side, left, top + side]]


def annotation(image: int, category: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    return {"id": 7, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": 0, **more}


def image(id: int, name: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "file_name": name, "height": HEIGHT, "width": WIDTH, **more}


def content(annotations: Any, images: Any = None, names: Any = None) -> dict[str, Any]:
    names = names or {1: "person"}
    return {
        "info": {},
        "images": [image(1, "a.jpg"), image(2, "b.jpg")] if images is None else images,
        "annotations": annotations,
        "categories": [{"id": id, "name": name} for id, name in names.items()],
    }


def put(raw: Path, values: Any, path: str = "annotations.json", photos: tuple[str, ...] = ()) -> Path:
    for photo in photos or ("images/a.jpg", "images/b.jpg"):
        (raw / photo).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 40)).save(raw / photo)
    (raw / path).parent.mkdir(parents=True, exist_ok=True)
    (raw / path).write_text(values if isinstance(values, str) else json.dumps(values))
    return raw


def scan(raw: Path, task: Task = PERSON) -> Scan:
    return coco.scan(raw, SourceOptions(task))


def labels(raw: Path, task: Task = PERSON) -> dict[str, NDArray[np.uint8]]:
    found = {}
    for item in scan(raw, task).items:
        outlines = item.read_labels()
        assert not isinstance(outlines, np.ndarray)
        found[item.name] = outlines.draw(outlines.shape)
    return found


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_every_kind_of_outline_is_that_of_pycocotools(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    blob = np.asfortranarray((rng.random((HEIGHT, WIDTH)) < 0.3).astype(np.uint8))
    encoded = reference.encode(blob)
    lengths = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], blob.T.ravel(), [2]])))).tolist()
    counts = lengths if blob[0, 0] == 0 else [0, *lengths]
    outlines: list[Any] = [
        (rng.uniform(0, 40, (3, 14))).tolist(),
        {"counts": encoded["counts"].decode(), "size": [HEIGHT, WIDTH]},
        {"counts": counts, "size": [HEIGHT, WIDTH]},
    ]
    images = [image(id, f"{id}.png") for id in range(3)]
    values = content([annotation(id, 1, outline) for id, outline in enumerate(outlines)], images)
    raw = put(tmp_path / "raw", values, photos=tuple(f"images/{id}.png" for id in range(3)))
    drawn = labels(raw)
    theirs = COCO(raw / "annotations.json")
    for id in range(3):
        (mine,) = theirs.imgToAnns[id]
        assert np.array_equal(drawn[str(id)], theirs.annToMask(mine)), id
    assert np.array_equal(drawn["1"], blob)


def test_small_over_large_and_crowds_below_all(tmp_path: Path) -> None:
    names = {3: "lower body", 4: "Upper_Body", 5: "background", 6: "ignore"}
    crowd = {"counts": [0, HEIGHT * WIDTH // 2, HEIGHT * WIDTH // 2], "size": [HEIGHT, WIDTH]}
    values = content(
        [
            annotation(1, 4, square(10, 10, 5)),
            annotation(1, 3, square(5, 5, 20)),
            annotation(1, 3, crowd, iscrowd=1),
            annotation(1, 5, square(12, 12, 2)),
            annotation(2, 6, square(0, 0, 9)),
        ],
        names=names,
    )
    drawn = labels(put(tmp_path / "raw", values), CLOTHES)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:, :30] = 255
    expected[5:25, 5:25] = 2
    expected[10:15, 10:15] = 1
    assert np.array_equal(drawn["a"], expected)
    assert (drawn["b"] == 255).sum() == 81


def test_prepared_whole_and_on_a_grid(tmp_path: Path) -> None:
    """An image without annotations shows no class, and says so."""
    raw = put(tmp_path / "raw", content([annotation(1, 1, square(0, 0, 20))]))
    assert recognise(raw)[0].NAME == "coco"
    result = prepare(raw, tmp_path / "out", task=PERSON, val=0, test=0, size=20)
    assert result.reason == "`annotations.json` has COCO's keys"
    assert result.findings.notes == {"mask of nothing but background": ["images/b.jpg"]}
    drawn = read_labels(tmp_path / "out/train/labels/a.png")
    assert drawn.shape == (20, 20)
    assert drawn[:10, :7].all()
    assert drawn.sum() == 10 * 7


def test_foreign_categories_are_a_problem_each(tmp_path: Path) -> None:
    """Dropped, they are background: the images stay."""
    names = {1: "person", 17: "cat", 18: "dog"}
    values = content(
        [
            annotation(1, 1, square(0, 0, 20)),
            annotation(1, 17, square(30, 0, 5)),
            annotation(2, 17, square(0, 0, 5)),
            annotation(2, 99, square(9, 9, 5)),
        ],
        names=names,
    )
    raw = put(tmp_path / "raw", values)
    with pytest.raises(ProblemsFound) as caught:
        prepare(raw, tmp_path / "out", task=PERSON)
    assert caught.value.findings.problems == [
        Problem("categories outside the task", "annotations.json", "`cat`: 2 annotations"),
        Problem("categories outside the task", "annotations.json", "id 99, which has no name: 1 annotations"),
    ]
    result = prepare(raw, tmp_path / "out", task=PERSON, val=0, test=0, drop_bad=True)
    assert result.num_samples == 2
    assert read_labels(tmp_path / "out/train/labels/a.png").sum() == 400
    assert not read_labels(tmp_path / "out/train/labels/b.png").any()


def test_fashionpedias_names_become_clothes(tmp_path: Path) -> None:
    names = {0: "shirt, blouse", 8: "skirt", 11: "dress", 24: "shoe", 47: "garment belt"}
    values = content([annotation(1, id, square(10 * place, 0, 8)) for place, id in enumerate(names)], names=names)
    raw = put(tmp_path / "raw", values)
    found = scan(raw, CLOTHES)
    assert found.problems == []
    assert "the garments of `annotations.json` are merged to upper_body, lower_body, full_body by name" in found.remarks
    assert labels(raw, CLOTHES)["a"][4, 4::10].tolist() == [1, 2, 3, 0, 0, 0]
    assert len(scan(raw, PERSON).problems) == 5


@pytest.mark.parametrize(
    ("path", "photos"),
    [
        ("annotations.json", ("images/a.jpg", "images/b.jpg")),
        ("sample.json", ("a.jpg", "b.jpg")),
        ("annotations/instances_train2017.json", ("train2017/a.jpg", "train2017/b.jpg")),
        ("annotations/instances_val.json", ("images/val/a.jpg", "images/val/b.jpg")),
        ("annotations/instances_default.json", ("images/a.jpg", "images/b.jpg")),
        ("train/_annotations.coco.json", ("train/a.jpg", "train/b.jpg")),
    ],
)
def test_places_of_the_photos(tmp_path: Path, path: str, photos: tuple[str, ...]) -> None:
    raw = put(tmp_path / "raw", content([annotation(1, 1, square(0, 0, 20))]), path, photos)
    found = scan(raw)
    assert found.problems == []
    assert [item.photo_path.relative_to(raw).as_posix() for item in found.items] == list(photos)
    assert [(item.name, item.split) for item in found.items] == [("a", None), ("b", None)]


def test_own_splits_and_names_that_start_anew(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for split in ("train", "valid"):
        values = content([annotation(1, 1, square(0, 0, 20))])
        put(raw, values, f"{split}/_annotations.coco.json", (f"{split}/a.jpg", f"{split}/b.jpg"))
    found = scan(raw)
    assert [(item.name, item.split) for item in found.items] == [
        ("train/a.jpg", "train"),
        ("train/b.jpg", "train"),
        ("valid/a.jpg", "val"),
        ("valid/b.jpg", "val"),
    ]
    assert "the source's own splits are kept: train, val" in found.remarks
    assert prepare(raw, tmp_path / "out", task=PERSON).num_samples == 4


def test_the_keypoints_of_cocos_archive_are_not_read(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    values = content([annotation(1, 1, square(0, 0, 20))])
    put(raw, values, "annotations/person_keypoints_train2017.json", ("train2017/a.jpg", "train2017/b.jpg"))
    put(raw, {"images": [], "annotations": []}, "annotations/captions_train2017.json", ("train2017/a.jpg",))
    put(raw, values, "annotations/instances_train2017.json", ("train2017/a.jpg",))
    assert {item.label_path.name for item in scan(raw).items} == {"instances_train2017.json"}


def test_photos_that_are_not_listed_are_counted(tmp_path: Path) -> None:
    values = content([annotation(1, 1, square(0, 0, 20))], [image(1, "a.jpg")])
    assert "1 photos that no file lists are left out" in scan(put(tmp_path / "raw", values)).remarks


@pytest.mark.parametrize(
    ("segmentation", "detail"),
    [
        ([[1, 2, 3, 4]], "a polygon of 4 numbers"),
        ([], "a list of no polygons"),
        (None, "neither polygons nor run lengths"),
        ({"counts": [5, 5], "size": [HEIGHT, WIDTH]}, "lengths add up to 10, but 60x40 are 2400 pixels"),
        ({"counts": "~~", "size": [HEIGHT, WIDTH]}, "compressed lengths are damaged"),
        ({"counts": [2400], "size": [WIDTH, HEIGHT]}, "run lengths of size [60, 40], the image has [40, 60]"),
        ({"size": [HEIGHT, WIDTH]}, "lengths are no list of whole numbers"),
    ],
)
def test_outlines_that_cannot_be_drawn(tmp_path: Path, segmentation: Any, detail: str) -> None:
    """The image is left out as a whole."""
    raw = put(tmp_path / "raw", content([annotation(1, 1, segmentation), annotation(2, 1, square(0, 0, 9))]))
    with pytest.raises(ProblemsFound) as caught:
        prepare(raw, tmp_path / "out", task=PERSON)
    assert caught.value.findings.problems == [
        Problem("annotation that cannot be drawn", "annotations.json", f"annotation 7 of image 1: {detail}")
    ]
    result = prepare(raw, tmp_path / "out", task=PERSON, val=0, test=0, drop_bad=True)
    assert result.dataset is not None
    assert [sample.id for sample in result.dataset.samples] == ["b"]


@pytest.mark.parametrize(
    ("images", "kind", "detail"),
    [
        ([image(3, "gone.jpg")], "image without its photo", "no `gone.jpg`"),
        ([image(3, "../secret.jpg")], "image without its photo", "no `../secret.jpg`"),
        ([image(3, "/etc/passwd")], "image without its photo", "no `/etc/passwd`"),
        ([image(3, "a.jpg")], "image that is listed twice", "`a.jpg`"),
        ([image(1, "b.jpg")], "image that is listed twice", "`b.jpg`"),
        ([image(3, "b.jpg", height="40")], "damaged entry", None),
        ([image(3, "b.jpg", width=0)], "damaged entry", None),
        ([image(3, "b.jpg", width=10**9)], "damaged entry", None),
        ([image(3, "")], "damaged entry", None),
        ([{"id": 3}], "damaged entry", None),
        (["b.jpg"], "damaged entry", None),
        ([image([3], "b.jpg")], "damaged entry", None),
    ],
)
def test_images_that_cannot_be_used(tmp_path: Path, images: Any, kind: str, detail: str | None) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"")
    raw = put(tmp_path / "raw", content([annotation(1, 1, square(0, 0, 20))], [image(1, "a.jpg"), *images]))
    found = scan(raw)
    assert [item.name for item in found.items] == ["a"]
    (problem,) = found.problems
    assert (problem.kind, problem.path) == (kind, "annotations.json")
    assert problem.detail == detail if detail else problem.detail.startswith("image `")


def test_annotations_without_an_image(tmp_path: Path) -> None:
    values = content([annotation(1, 1, square(0, 0, 9)), annotation(8, 1, []), annotation(8, 1, []), {"id": 5}, "x"])
    assert scan(put(tmp_path / "raw", values)).problems == [
        Problem("damaged entry", "annotations.json", "annotation `{'id': 5}`"),
        Problem("damaged entry", "annotations.json", "annotation `'x'`"),
        Problem("annotations of an image that is not listed", "annotations.json", "2 of image `8`"),
    ]


def test_a_size_that_is_not_the_photos(tmp_path: Path) -> None:
    values = content([annotation(1, 1, square(0, 0, 9))], [image(1, "a.jpg", height=60, width=40), image(2, "b.jpg")])
    with pytest.raises(ProblemsFound) as caught:
        prepare(put(tmp_path / "raw", values), tmp_path / "out", task=PERSON)
    assert caught.value.findings.problems == [
        Problem("photo and mask of different shape", "images/a.jpg", "photo 60x40, mask 40x60 (image 1)")
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"images": [], "annotations": [], "categories": [', "is no COCO file: Expecting value"),
        ('{"images": [], "annotations": {}, "categories": []}', "is no COCO file: `annotations` is no list"),
        ('{"x": {"images": 1, "annotations": 2, "categories": 3}}', "it has no `images`, `annotations`, `categories`"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "is no COCO file: a category has no `name`"),
        ('["images", "annotations", "categories"]', "is no COCO file: it is no object with lists"),
        ('{"images": [], "annotations": [], "categories": []} {', "something follows its end at byte 52"),
        ('{"images": [], "images": [], "annotations": [], "categories": []}', "`images` is in it twice"),
        ('{"images": [], "annotations": [' + "[" * 200000 + '"categories"', "too many brackets at byte 31"),
    ],
)
def test_files_that_are_broken(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        scan(put(tmp_path / "raw", text))
    assert reason in caught.value.message


def whole(path: Path) -> tuple[dict[Any, list[Any]], dict[Any, str]]:
    """What was read before files were walked through: the annotations by image, and the names, of the whole parse."""
    values = json.loads(path.read_bytes())
    by_image: dict[Any, list[Any]] = {}
    for annotation in values["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    return by_image, {category["id"]: category["name"] for category in values["categories"]}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("order", list(itertools.permutations(coco.KEYS)))
@pytest.mark.parametrize(("window", "indent"), [(1, None), (64, 1), (1 << 20, None)])
def test_a_file_is_walked_through_as_if_it_was_parsed_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[str, ...], window: int, indent: int | None
) -> None:
    """Whatever the order of the lists, the kind of ids, the signs in texts and the borders of the window."""
    monkeypatch.setattr(json_lists, "WINDOW", window)
    rng = np.random.default_rng(window)
    ids: list[Any] = [1, "zwölf", 3.5, '日本\n"x"', 2**40]
    annotations = [
        annotation(ids[int(rng.integers(4))], int(rng.integers(1, 3)), rng.uniform(0, 40, (2, 12)).tolist(), note="é\\")
        for _ in range(40)
    ]
    images = [image(id, f"{place}é.png") for place, id in enumerate(ids)]
    lists = {**content(annotations, images, {1: "Person", 2: "background"}), "extra": [[], {}, "x", -1.5e9, None]}
    values = {"info": {"year": 2024}, **{key: lists[key] for key in (*order, "extra")}, "last": 17}
    raw = put(tmp_path / "raw", "", photos=tuple(f"images/{place}é.png" for place in range(len(ids))))
    path = raw / "annotations.json"
    path.write_text(json.dumps(values, indent=indent, ensure_ascii=indent is None), encoding="utf-8")
    file = coco._load(path, None)
    by_image, names = whole(path)
    assert file.names == names
    assert [image.id for image in file.images if not isinstance(image, str)] == ids
    assert {id: file.annotations.read(id) for id in ids} == {id: by_image.get(id, []) for id in ids}
    assert dict(file.annotations.num_of_images()) == {id: len(several) for id, several in by_image.items()}
    used = Counter(one["category_id"] for one in annotations)
    assert dict(file.annotations.num_of_categories()) == dict(used)

    theirs = COCO(path)
    drawn = labels(raw)
    for place, id in enumerate(ids):
        masks = [theirs.annToMask(one) for one in theirs.imgToAnns[id] if one["category_id"] == 1]
        assert np.array_equal(drawn[f"{place}é"] == 1, np.any(masks, axis=0)) if masks else not drawn[f"{place}é"].any()


def test_memory_is_that_of_a_small_index(tmp_path: Path) -> None:
    """20,000 annotations of 40 MB: parsed they were 250 MB."""
    outline = np.random.default_rng(0).uniform(0, 40, (1, 100)).round(12).tolist()
    raw = put(tmp_path / "raw", content([annotation(1 + number % 2, 1, outline) for number in range(20000)]))
    assert (raw / "annotations.json").stat().st_size > 30e6
    tracemalloc.start()
    try:
        found = scan(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.items) == 2
    assert peak < 10e6


def test_a_file_that_changes_after_it_was_walked_through_is_told(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", content([annotation(1, 1, square(0, 0, 20))]))
    item = scan(raw).items[0]
    put(raw, content([annotation(1, 1, square(0, 0, 21))]))
    with pytest.raises(DataError, match=r"annotations\.json` changed while it was read"):
        item.read_labels()


def test_an_entry_that_never_ends_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lists, "WINDOW", 64)
    monkeypatch.setattr(json_lists, "MAX_ENTRY", 4096)
    raw = put(tmp_path / "raw", '{"images": [], "categories": [], "annotations": ["' + "x" * 100_000 + '"]}')
    with pytest.raises(DataError, match="the entry at byte 49 does not end"):
        scan(raw)


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", content([annotation(1, 1, square(0, 0, 20))]))
    path = raw / "annotations.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert labels(raw)["a"].sum() == 400


def test_other_json_is_not_taken_for_it(tmp_path: Path) -> None:
    assert coco.recognise(put(tmp_path / "raw", '{"images": []}')) is None
    assert coco.recognise(put(tmp_path / "raw", "")) is None


@pytest.mark.skipif(not SHARED_DATA, reason="SEGLAB_REAL_DATA does not name a folder of real photos and masks")
@pytest.mark.real
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_genuine_records_of_fashionpedia(tmp_path: Path) -> None:
    raw = Path(SHARED_DATA) / "raw/imaterialist-like/fashionpedia-sample"
    result = prepare(raw, tmp_path / "out", task=CLOTHES, val=0, test=0)
    assert result.dataset is not None
    assert (result.source, result.findings.problems) == ("coco", [])
    theirs = COCO(raw / "sample.json")
    for id, name in ((9813, "dress"), (10223, "pants")):
        (category,) = theirs.getCatIds(catNms=[name])
        (mine,) = theirs.loadAnns(theirs.getAnnIds(imgIds=[id], catIds=[category]))
        mask = theirs.annToMask(mine).astype(bool)
        drawn = read_labels(tmp_path / f"out/train/labels/{id:012d}.png")
        wanted = CLOTHES.classes.index("full_body" if name == "dress" else "lower_body")
        assert mask.sum() > 10000
        assert (drawn[mask] == wanted).mean() > 0.98
        assert not ((drawn == wanted) & ~mask).any()
