"""Settings: what is accepted, what is refused, and with which words."""

import dataclasses
import json

import pytest

from seglab.config import Adversarial, TrainConfig
from seglab.errors import DataError, UsageError
from seglab.preprocess import Preprocess
from seglab.strengths import Strengths


def test_round_trips_through_json() -> None:
    preprocess = Preprocess(size_hw=(320, 256), fit="pad")
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess
    config = TrainConfig(epochs=3, lr=1e-4)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"epochs": 0}, "`epochs`"),
        ({"epochs": -3}, "`epochs`"),
        ({"epochs": 1.5}, "whole number"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"batch_size": True}, "whole number"),
        ({"lr": "1e-3"}, "`lr` is a number"),
        ({"lr": 0}, "`lr`"),
        ({"lr": float("nan")}, "`lr` is `nan`"),
        ({"lr": float("inf")}, "`lr` is `inf`"),
        ({"fit": "crop"}, "`fit`"),
        ({"model": 3}, "`model` is text"),
        ({"ce_weight": 0, "dice_weight": 0}, "nothing to learn"),
        ({"epoch": 3}, "`epoch`"),
        ({"losses": {"cross_entropi": 1}}, "no loss is called `cross_entropi`, known: cross_entropy,"),
        ({"losses": {"dice": -1}}, "`losses.dice` weight is `-1`"),
        ({"losses": {"dice": {"gamma": 1}}}, "`dice` has no option `gamma`, known: weight"),
        ({"losses": {"focal": {"gamma": "two"}}}, "`losses.focal` gamma is `two`"),
        ({"losses": {"focal": {"weight": 0, "gamma": 1}}}, "nothing to learn"),
        ({"losses": {}}, "nothing to learn"),
        ({"losses": 3}, "`losses` is a table"),
        ({"optimizer": "lion"}, "known: adamw, adam, sgd"),
        ({"schedule": "step"}, "known: cosine, onecycle, poly, exponential, constant"),
        ({"trainer": "gan"}, "known: supervised, adversarial"),
        ({"betas": [0.9]}, "`betas` is `(0.9,)`, but must be a list of 2 numbers"),
        ({"std": [1, 1, 0]}, "`std`"),
        ({"mean": 0.5}, "`mean` is `0.5`"),
        ({"output_weights": []}, "`output_weights`"),
        ({"class_weights": "some"}, "`none`, `auto`, or a list of 2 or more numbers"),
        ({"class_weights": [1, "2"]}, "`class_weights`"),
        ({"class_weights": [1]}, "2 or more numbers"),
        ({"output_weights": [0]}, "all `output_weights` are 0"),
        ({"freeze_encoder": 1}, "true or false"),
        ({"augment": "wild"}, "no preset of `augment` is called `wild`"),
        ({"augment": {"colour": 1}}, "no field of `augment` is called `colour`"),
        ({"augment": {"hflip": 2}}, "`augment.hflip` is `2`"),
        ({"augment": 11}, "`augment` is `11`, but must be within 0..10"),
        ({"augment": float("nan")}, "`augment` is `nan`"),
        ({"augment": True}, "`augment` is none, light, standard, strong, a number, or a table"),
        ({"adversarial": {"l1": 3}}, "no field of `adversarial` is called `l1`"),
        ({"adversarial": {"label_noise": 2}}, "`adversarial.label_noise` is `2`"),
        ({"adversarial": {"disc_channels": [0]}}, "`adversarial.disc_channels`"),
        ({"adversarial": {"disc_lr": "x"}}, "`adversarial.disc_lr` is a number"),
        ({"adversarial": 3}, "`adversarial` is a table"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        TrainConfig.from_dict(values)
    assert reason in caught.value.message + caught.value.hint


def test_fields_of_earlier_versions_are_understood() -> None:
    old = {"ce_weight": 2.0, "dice_weight": 0.0, "aux_weight": 0.7, "augment": 0.5, "hflip": 0.25}
    config = TrainConfig.from_dict(old)
    assert config.loss_terms() == {"cross_entropy": (2.0, {"label_smoothing": 0.0})}
    assert config.output_weights == (1.0, 0.7)
    assert config.augment == dataclasses.replace(Strengths.uniform(0.5), hflip=0.25)
    assert TrainConfig.from_dict({"hflip": 0.0}).augment == Strengths(hflip=0)
    assert TrainConfig.from_dict({"dice_weight": 3.0}).loss_terms()["dice"] == (3.0, {})


def test_losses_have_weights_and_complete_options() -> None:
    config = TrainConfig(losses={"focal": {"weight": 0.5}, "tversky": {"beta": 0.9}, "dice": 0, "iou": 2})
    assert config.loss_terms() == {
        "focal": (0.5, {"gamma": 2.0}), "tversky": (1.0, {"alpha": 0.3, "beta": 0.9}), "iou": (2.0, {}),
    }  # fmt: skip


def test_lists_and_tables_survive_json() -> None:
    config = TrainConfig(
        class_weights=(1.0, 2.0),
        betas=(0.5, 0.9),
        augment=Strengths(blur=2.0),
        adversarial=Adversarial(disc_channels=(8, 16)),
        losses={"tversky": {"alpha": 0.1}},
    )
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        TrainConfig.from_dict({"epochs": 0, "lr": "fast", "fit": "crop"})
    assert all(name in caught.value.message for name in ("`epochs`", "`lr`", "`fit`"))


def test_every_numeric_field_has_a_range() -> None:
    from seglab.config import _RANGES

    numeric = {field.name for field in dataclasses.fields(TrainConfig) if field.type in (int, float, "int", "float")}
    assert numeric == set(_RANGES)


@pytest.mark.parametrize(
    "values",
    [
        {"size_hw": [0, 10]},
        {"size_hw": [10, 100000]},
        {"size_hw": [10, 10], "fit": "crop"},
        {"size_hw": [10, 10], "std": [1.0, 0.0, 1.0]},
        {"size_hw": [10, 10], "colour": "bgr"},
        {},
    ],
)
def test_wrong_preprocessing_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(DataError):
        Preprocess.from_dict(values)
