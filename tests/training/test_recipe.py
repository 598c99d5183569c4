"""Recipes and settings: what wins over what, and with which words a mistake is refused."""

import dataclasses

import pytest

from seglab.config import TrainConfig
from seglab.errors import DataError, UsageError
from seglab.strengths import PRESETS
from seglab.training.recipe import configure, load_recipe, parse_settings, recipe_names


def test_every_shipped_recipe_is_a_configuration():
    names = recipe_names()
    assert "smoke" in names
    for name in names:
        assert configure(TrainConfig(), recipe=load_recipe(name)).to_dict()


def test_later_layers_win_and_tables_are_merged(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text('model = "unet"\nlr = 1e-4\nepochs = 7\n[model_args]\nwidth = 8\ndepth = 3\n')
    settings = parse_settings(["epochs=9", "model_args.width=16", "metric=iou.person", "ema = 0.9"])
    config = configure(TrainConfig(size=99), load_recipe(str(path)), settings, {"lr": 0.5})
    assert (config.model, config.size, config.epochs, config.lr) == ("unet", 99, 9, 0.5)
    assert config.model_args == {"width": 16, "depth": 3}
    assert (config.metric, config.ema) == ("iou.person", 0.9)
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_a_recipes_tables_are_whole_and_settings_change_entries():
    recipe = {"losses": {"lovasz": 1.0}, "model_args": {"width": 8}, "augment": {"preset": "none", "hflip": 0.3}}
    config = configure(TrainConfig(), {"losses": {"dice": 0.5}, "augment": {"blur": 2}}, recipe=recipe)
    assert config.losses == {"lovasz": 1.0, "dice": 0.5}
    assert config.augment == dataclasses.replace(PRESETS["none"], hflip=0.3, blur=2)
    assert configure(config, {"augment": "light"}).augment == PRESETS["light"]
    assert configure(config, {"augment": {"preset": "strong", "blur": 0}}).augment == dataclasses.replace(
        PRESETS["strong"], blur=0
    )


def test_another_model_does_not_inherit_arguments():
    recipe = {"model": "unet-light", "model_args": {"width": 8}}
    assert configure(TrainConfig(), {"model": "u2netp"}, recipe=recipe).model_args == {}
    assert configure(TrainConfig(), {"model": "unet-light"}, recipe=recipe).model_args == {"width": 8}
    both = {"model": "unet", "model_args": {"depth": 2}}
    assert configure(TrainConfig(), both, recipe=recipe).model_args == {"depth": 2}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("x=1", 1), ("x=1.5", 1.5), ("x=true", True), ("x=word", "word"), ('x="1"', "1"), ("x=a b", "a b"),
        ("x=[1, 2]", [1, 2]), ("x=a=b", "a=b"), ("x=", ""),
    ],
)  # fmt: skip
def test_values_are_read_as_toml_or_as_plain_words(setting, value):
    assert parse_settings([setting]) == {"x": value}


@pytest.mark.parametrize("setting", ["ema", "=3", "", "a.=3"])
def test_a_setting_without_name_or_value_is_refused(setting):
    with pytest.raises(UsageError, match="sets nothing"):
        parse_settings([setting])


def test_a_setting_that_is_a_table_and_a_value_is_refused():
    for settings in (["a=1", "a=2"], ["a=1", "a.b=2"], ["a.b=2", "a=1"]):
        with pytest.raises(UsageError, match="is set twice"):
            parse_settings(settings)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"epoch": 3}, "`epoch`"), ({"epochs": "3"}, "whole number"), ({"model_args": 3}, "table"),
        ({"precision": "int8"}, "known: auto, fp32, bf16"),
    ],
)  # fmt: skip
def test_wrong_fields_are_refused(layer, words):
    with pytest.raises(UsageError) as caught:
        configure(TrainConfig(), layer)
    assert words in caught.value.message + caught.value.hint


def test_an_unknown_recipe_names_what_is_near():
    with pytest.raises(UsageError, match="no recipe is called `smokes`") as caught:
        load_recipe("smokes")
    assert "`smoke`" in caught.value.hint


def test_a_recipe_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read recipe `.*none\.toml`"):
        load_recipe(str(tmp_path / "none.toml"))
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"lr = = 3")
    with pytest.raises(DataError, match=r"`.*bad\.toml` is not TOML"):
        load_recipe(str(bad))
    bad.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="is not TOML"):
        load_recipe(str(bad))
