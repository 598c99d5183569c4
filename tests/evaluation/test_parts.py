"""Average precision of parts and persons: that of COCO's own evaluation, and hand-worked."""

import contextlib
import io

import numpy as np
import pytest

from seglab.evaluation.parts import OVERLAPS, PERSON, average_precisions, match_parts

K = 4


def picture(rng, size_hw=(48, 60), num_people=3):
    """Return class ids and ids of people: blocks of a few classes in columns of a few people."""
    ids, labels = np.zeros(size_hw, np.uint8), np.zeros(size_hw, np.uint8)
    for number in range(1, num_people + 1):
        left = int(rng.integers(0, size_hw[1] - 14))
        ids[4:44, left : left + 14] = number
        labels[4:44, left : left + 14] = np.repeat(rng.integers(0, K, 4), 10)[:, None]
    ids[labels == 0] = 0
    return labels, ids


def changed(rng, labels, ids):
    """Return a prediction: shifted, with people joined, split or renumbered, and parts confused."""
    by = rng.integers(-4, 5, 2)
    labels, ids = np.roll(labels, by, (0, 1)), np.roll(ids, by, (0, 1)).astype(np.uint16)
    if rng.random() < 0.4:
        ids[ids == 2] = 1
    if rng.random() < 0.6:
        ids[24:][ids[24:] > 0] += 10
    labels[(labels > 0) & (rng.random(labels.shape) < 0.15)] = rng.integers(1, K)
    scores = {}
    for person in np.unique(ids[ids > 0]).tolist():
        for kind in range(K):
            scores[person, kind] = round(float(rng.integers(1, 12)), 3)  # with ties
    return labels, ids, scores


def many(seed, num=25):
    rng = np.random.default_rng(seed)
    for _ in range(num):
        labels, ids = picture(rng)
        yield (labels, ids, *changed(rng, labels, ids))


def coco(images, kind, overlaps):
    """Return the average precision by pycocotools: its interpolation, at every recall that there is."""
    from pycocotools import mask as masks
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truths, results = [], []
    for number, (labels, people, prediction, ids, scores) in enumerate(images, start=1):
        for table, of, who in ((truths, labels, people), (results, prediction, ids)):
            for person in np.unique(who[(of == kind) & (who > 0)]).tolist():
                mask = (of == kind) & (who == person)
                run = masks.encode(np.asfortranarray(mask.view(np.uint8)))
                entry = {"image_id": number, "category_id": 1, "segmentation": run, "area": float(mask.sum())}
                entry |= {"bbox": [0, 0, 1, 1], "iscrowd": 0, "id": len(table) + 1}
                table.append(entry if table is truths else {**entry, "score": scores[person, kind]})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {}, "categories": [{"id": 1, "name": "part"}], "annotations": truths,
            "images": [{"id": number, "height": 48, "width": 60} for number in range(1, len(images) + 1)],
        }  # fmt: skip
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), "segm")
        judge.params.iouThrs = np.array(overlaps)
        judge.params.recThrs = np.arange(1, len(truths) + 1) / len(truths)
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e9]], ["all"]
        judge.evaluate()
        judge.accumulate()
    return judge.eval["precision"][:, :, 0, 0, -1].mean(1)


@pytest.mark.parametrize("seed", range(3))
def test_parts_score_as_by_coco(seed):
    pytest.importorskip("pycocotools")
    images = list(many(seed))
    ap_KT = average_precisions([match_parts(*image, K) for image in images], K)
    assert 0 < np.nanmin(ap_KT[1:, 0]) < np.nanmax(ap_KT[1:, 0]) < 1
    for kind in range(1, K):
        np.testing.assert_allclose(ap_KT[kind], coco(images, kind, OVERLAPS), rtol=0, atol=1e-12)


def mean_iou(labels, mask, prediction, found):
    """Return the mean IoU of the parts that either person has, pixel by pixel."""
    ious = []
    for kind in range(1, K):
        true, other = mask & (labels == kind), found & (prediction == kind)
        if (true | other).any():
            ious.append((true & other).sum() / (true | other).sum())
    return np.mean(ious)


@pytest.mark.parametrize("seed", [5, 6])
def test_persons_score_by_the_mean_of_their_parts(seed):
    images, rows, num_true = list(many(seed)), [], 0
    for order, (labels, people, prediction, ids, scores) in enumerate(images):
        owners, persons = (np.unique(of[of > 0]).tolist() for of in (people, ids))
        num_true += len(owners)
        overlap = {
            (p, o): mean_iou(labels, people == o, prediction, (ids == p) & (prediction > 0))
            for p in persons for o in owners
        }  # fmt: skip
        for t in range(len(OVERLAPS)):
            left = set(owners)
            for p in sorted(persons, key=lambda person: (-scores[person, PERSON], person)):
                best = max(left, key=lambda owner: overlap[p, owner], default=None)
                right = best is not None and overlap[p, best] >= OVERLAPS[t]
                left -= {best} if right else set()
                rows.append((t, -scores[p, PERSON], order, p, right))
    expected = []
    for t in range(len(OVERLAPS)):
        right = np.array([row[-1] for row in sorted(rows) if row[0] == t])
        precision = right.cumsum() / np.arange(1, len(right) + 1)
        expected.append(sum(precision[place:].max() for place in np.flatnonzero(right)) / num_true)
    ap_KT = average_precisions([match_parts(*image, K) for image in images], K)
    np.testing.assert_allclose(ap_KT[PERSON], expected, rtol=0, atol=1e-12)
    assert 0 < expected[4] < expected[0] < 1


def test_hand_worked():
    """Two people of one part each; the surer prediction is half of the first, the other all of the second."""
    labels = np.zeros((10, 20), np.uint8)
    labels[:, 2:6] = labels[:, 10:14] = 1
    people = np.zeros_like(labels)
    people[:, 2:6], people[:, 10:14] = 1, 2
    prediction, ids = labels.copy(), people.astype(np.uint16)
    prediction[:5, 2:6] = ids[:5, 2:6] = 0
    image = match_parts(labels, people, prediction, ids, {(1, 1): 9.0, (2, 1): 5.0, (1, 0): 1.0, (2, 0): 2.0}, 2)
    assert image.kinds.tolist() == [1, 1, PERSON, PERSON]
    assert image.num_true.tolist() == [2, 2]
    assert image.hits.tolist() == [0b11111, 0b111111111] * 2  # 0.5 is enough for 0.5
    ap_KT = average_precisions([image], 2)
    assert ap_KT[1].tolist() == [1.0] * 5 + [0.25] * 4  # the one that is right comes second
    assert ap_KT[PERSON].tolist() == [1.0] * 5 + [0.5] * 4  # and first


def test_a_true_part_is_found_once():
    labels = np.ones((10, 20), np.uint8)
    people = np.ones_like(labels)
    ids = np.ones((10, 20), np.uint16)
    ids[:, 10:] = 2
    image = match_parts(labels, people, labels, ids, {(1, 1): 2.0, (2, 1): 1.0}, 2)
    assert [int(hits).bit_count() for hits in image.hits[:2]] == [5, 0]


def test_what_the_truth_does_not_know_is_no_part():
    labels, people = np.zeros((10, 20), np.uint8), np.zeros((10, 20), np.uint8)
    labels[:, :5] = people[:, :5] = 1
    labels[:, 5:10] = 255
    labels[:, 10:15], people[:, 10:15] = 1, 255
    labels[:, 15:] = 1  # of nobody
    prediction, ids = np.ones_like(labels), np.ones((10, 20), np.uint16)
    ids[:, 12:] = 2
    image = match_parts(labels, people, prediction, ids, {}, 2)
    assert image.kinds.tolist() == [1, PERSON]
    assert image.hits.tolist() == [0b111111111] * 2
    assert image.num_true.tolist() == [1, 1]


def test_classes_that_the_truth_does_not_have_have_no_score():
    labels = np.zeros((10, 20), np.uint8)
    prediction, ids = np.full_like(labels, 2), np.ones((10, 20), np.uint16)
    ap_KT = average_precisions([match_parts(labels, labels, prediction, ids, {}, 3)], 3)
    assert np.isnan(ap_KT).all()
    assert np.isnan(average_precisions([], 3)).all()
    labels[:, 3:] = 1
    missed = match_parts(labels, labels, np.zeros_like(labels), np.zeros((10, 20), np.uint16), {}, 3)
    assert average_precisions([missed], 3)[1].tolist() == [0.0] * len(OVERLAPS)
