"""Every shipped recipe: what it says, that its network builds, and that two of its steps change it and stay finite."""

import dataclasses

import numpy as np
import pytest
import torch

from seglab.config import LOSSES, TrainConfig
from seglab.data.loader import Batch
from seglab.data.scene import check_synth, draw_scene, labels_for
from seglab.evaluation.metrics import metric_names
from seglab.models.zoo import build, row
from seglab.tasks import TASKS
from seglab.training.learner import Learner
from seglab.training.recipe import (
    DEFAULTS,
    RECIPES_DIR,
    configure,
    default_recipe,
    describe_recipe,
    load_recipe,
    recipe_names,
)
from seglab.training.schedule import cycled_momentum, learning_rate
from seglab.training.start import class_weights_of, preprocess_of

SMALLER = {
    "u2net": ("u2netp", {}),
    "pgn": ("pgn", {"width": 4, "blocks": [1, 1, 1, 1]}),
    "unet": ("unet", {"width": 4}),
    "unet-resnet34": ("unet-resnet18", {}),
    "deeplabv3plus-resnet50": ("deeplabv3plus-resnet18", {}),
    "unet-resnext101_32x8d": ("unet-resnext50_32x4d", {}),
    "unet-vgg19": ("unet-vgg11", {}),
}
"""A sister of every network that is too large for a test that is run often."""


def shipped(name):
    return configure(TrainConfig(), recipe=load_recipe(name))


def task_of(name):
    return TASKS.get(name.split("-")[0], TASKS["parsing"])


SUPERVISED = [name for name in recipe_names() if shipped(name).trainer == "supervised"]


def batch_of(task, preprocess):
    scenes = [draw_scene(0, index, check_synth(task), preprocess.size_hw) for index in range(2)]
    images, labels = [scene.image for scene in scenes], [labels_for(scene, task) for scene in scenes]
    return Batch(np.stack(images), np.stack(labels), ("a", "b"))


def two_steps(name, config):
    """Train two steps as a session would; return the network's parameters before, and the learner."""
    task, preprocess = task_of(name), preprocess_of(config)
    torch.manual_seed(0)
    args = dict(config.model_args)
    network = build(config.model, task.num_classes, **args)
    before = {name: value.clone() for name, value in network.named_parameters()}
    weights = None if config.class_weights == "none" else [1.0 + number for number in range(task.num_classes)]
    learner = Learner(network, config, preprocess, torch.device("cpu"), class_weights=weights)
    for step in (4, 5):
        share = step / 10
        rate, momentum = learning_rate(share, config, 10), cycled_momentum(share, config, 10)
        learner.step(batch_of(task, preprocess), rate=rate, seed=step, decay=0.5, momentum=momentum)
    return before, learner


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_says_where_it_is_from_and_fits_its_task(name):
    text = (RECIPES_DIR / f"{name}.toml").read_text()
    config, task = shipped(name), task_of(name)
    comment = [line for line in text.splitlines() if line.startswith("#")]
    assert describe_recipe(name) == comment[0].removeprefix("# ")
    if not name.endswith(("small", "large", "smoke")):
        assert any(line.startswith("# Differs") for line in comment), "what differs from the original, and why"
        assert name in ("face-unet-dice",) or any(line.startswith("# As the original:") for line in comment)
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert row(config.model).name == config.model
    assert config.metric in metric_names(task)
    if isinstance(config.class_weights, tuple):
        assert len(class_weights_of(config, task, [])) == task.num_classes
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", SUPERVISED)
def test_two_steps_of_a_recipe_learn_something(name):
    config = shipped(name)
    model, args = SMALLER.get(config.model, (config.model, {}))
    form = {key: value for key, value in config.model_args.items() if key == "form"}
    small = dataclasses.replace(config, model=model, model_args={**form, **args}, size=64)
    before, learner = two_steps(name, small)
    means = learner.means()
    assert {*small.loss_terms(), "loss", "grad_norm"} <= set(means)
    assert all(abs(value) < 1e9 for value in means.values())
    assert means["grad_norm"] > 0
    changed = [key for key, value in learner.network.named_parameters() if not torch.equal(value, before[key])]
    assert len(changed) > len(before) / 2


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in SUPERVISED if shipped(name).model in SMALLER])
def test_two_steps_of_a_large_recipe_learn_something(name):
    """With its own network; the pictures stay small."""
    _, learner = two_steps(name, dataclasses.replace(shipped(name), size=64))
    assert learner.means()["grad_norm"] > 0


def test_the_adversarial_recipes_have_what_their_trainer_needs():
    for name, form, batch_size in (("person-pix2pix", "plain", 10), ("person-pix2pix-edge", "edge", 8)):
        config = shipped(name)
        assert (config.model, config.model_args, config.batch_size) == ("pix2pix", {"form": form}, batch_size)
        assert (config.lr, config.betas, config.gamma, config.decay_epochs) == (2e-4, (0.5, 0.999), 0.999, 2)
        assert (config.adversarial.l1_weight, config.adversarial.disc_gamma) == (100, 0.99)
        build(config.model, 2, **{**config.model_args, "width": 4})


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_small_and_a_large_recipe_and_a_default(task):
    for kind, size in DEFAULTS.items():
        assert default_recipe(task, kind) == f"{task}-{size}"
        assert default_recipe("my-own", kind) == size
    small, large = shipped(f"{task}-small"), shipped(f"{task}-large")
    assert small.model == "unet-light"
    assert row(large.model).params > 5 * row(small.model).params


def test_every_loss_is_used_or_at_least_known():
    used = set().union(*(shipped(name).loss_terms() for name in recipe_names()))
    assert (
        {"cross_entropy", "dice", "iou", "tversky_sum", "lovasz", "boundary", "edge", "near_edge"}
        <= used
        <= set(LOSSES)
    )


def test_the_originals_numbers():
    """Read in their code: facts, not choices of ours."""
    clothes, face, body, pgn = map(shipped, ("clothes-u2net", "face-unet", "body-deeplabv3", "pgn"))
    assert (clothes.size, clothes.lr, clothes.clip, clothes.steps) == (768, 1e-3, 5.0, 100_000)
    assert (clothes.class_weights, clothes.output_weights) == ((1.0, 1.5, 1.5, 1.5), (1.5, 1.0))
    assert (face.lr, face.batch_size, face.clip, face.epochs) == (0.01, 10, 0.01, 30)
    assert face.loss_terms() == {"tversky_sum": (1.0, {"alpha": 0.7, "beta": 0.3, "eps": 1e-7})}
    assert (body.lr, body.weight_decay, body.schedule, body.batch_size, body.size) == (1e-3, 1e-4, "onecycle", 7, 512)
    assert (pgn.optimizer, pgn.lr, pgn.schedule, pgn.power) == ("sgd", 1e-5, "poly", 0.9)
    assert {shipped(name).size for name in recipe_names() if name.startswith("body-unet")} == {256, 512}
