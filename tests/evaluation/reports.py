"""An evaluation whose names attack the page that shows them."""

from dataclasses import replace

import numpy as np

from seglab.evaluation.bootstrap import differences, intervals
from seglab.evaluation.people import Found, compare_people
from seglab.evaluation.report import Baseline, Pictures
from seglab.evaluation.result import Failure, Tally, compare
from seglab.tasks import Task

HOSTILE = (
    '<img src=x onerror="window.hacked=1">.jpg',
    "</script><script>window.hacked=2</script>",
    "'\"><svg onload=window.hacked=3>",
    "<!--<script>",
    "\u202egpj.exe",
    "undecodable \udcff\udc80",
    "javascript:window.hacked=4",
    "a&amp;b]]>",
)

TASK = Task(
    name="hostile",
    classes=("none", "<b>a</b>", '"><script>window.hacked=5</script>', "c", "never"),
    regions={"pair": ("<b>a</b>", "c"), "</select><img src=x onerror=window.hacked=6>": ("<b>a</b>",)},
    levels={"top": ("pair",), "<i>fine": ("<b>a</b>", "c", "never")},
)


def blocks(rng, size_hw, num_classes):
    height, width = size_hw
    coarse = rng.integers(0, num_classes, (-(-height // 12), -(-width // 12)), np.uint8)
    return np.kron(coarse, np.ones((12, 12), np.uint8))[:height, :width]


def many_images(task=TASK, num=45, *, seed=4, num_shown=4, size_hw=(48, 64)):
    """Return names with truth, prediction and photo; the quality differs from image to image."""
    rng = np.random.default_rng(seed)
    images = {}
    for at in range(num):
        truth = blocks(rng, size_hw, num_shown)
        prediction = truth.copy()
        wrong = rng.random(truth.shape) < at / num
        prediction[wrong] = rng.integers(0, num_shown, int(wrong.sum()))
        truth[rng.random(truth.shape) < 0.05] = 255
        name = HOSTILE[at] if at < len(HOSTILE) else f"image {at}"
        images[name] = Pictures(truth, prediction, np.repeat(truth[..., None] * 50, 3, axis=2).astype(np.uint8))
    return images


def people_of(pictures, task):
    """Return how the left and the right half of a picture are told apart, as persons."""
    width = pictures.truth.shape[1]
    halves = np.broadcast_to(1 + (np.arange(width) >= width // 2).astype(np.uint8), pictures.truth.shape)
    scores = {(person, kind): person + kind for person in (1, 2) for kind in range(task.num_classes)}
    found = Found(np.roll(halves, 1, axis=1).astype(np.uint16), scores)
    return compare_people(pictures.truth, halves.copy(), pictures.prediction, found, task)


def evaluation_of(images, task=TASK, *, outlines=False, people=False, failures=()):
    tally = Tally(task)
    for name, pictures in images.items():
        compared = compare(pictures.truth, pictures.prediction, task, outlines=outlines)
        tally.add(name, replace(compared, people=people_of(pictures, task)) if people else compared)
    tally.failures += [Failure(name, reason) for name, reason in failures]
    return tally.finish(missing=("<u>gone", "too"), num_extra=3, people=people)


def report_arguments(images, evaluation):
    """Return everything that a report can be given."""
    worse = evaluation_of(many_images(seed=5), evaluation.task)
    changes = differences(evaluation.counts, worse.counts, evaluation.task, num_sets=100)
    return {
        "pictures": images.get,
        "configuration": {
            "model": "<script>window.hacked=7</script>",
            "many": {f"part{at}": at for at in range(20)},
            "engine": {"name": "seer", "shape": (48, 64), "deep": {"compile": False, "none": None}},
        },
        "intervals": intervals(evaluation.counts, evaluation.task, num_sets=100),
        "baseline": Baseline("<b>old</b>", changes, 45),
        "title": "</title><script>window.hacked=8</script> & more",
    }
