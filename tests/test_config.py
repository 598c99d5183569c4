"""Settings: what is accepted, what is refused, and with which words."""

import dataclasses
import json

import pytest

from seglab.config import Preprocess, TrainConfig
from seglab.errors import DataError, UsageError


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
    ],
)
def test_wrong_values_are_refused(values: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        TrainConfig.from_dict(values)
    assert reason in caught.value.message


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
