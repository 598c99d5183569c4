"""Recipes: TOML files of :class:`~seglab.config.TrainConfig` fields, shipped or written by users. Needs no torch."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from seglab.config import TrainConfig
from seglab.errors import DataError, UsageError, unknown

__all__ = ["configure", "load_recipe", "parse_settings", "recipe_names"]

RECIPES_DIR: Final = Path(__file__).parent / "recipes"


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes: one a file in ``recipes/``."""
    return sorted(path.stem for path in RECIPES_DIR.glob("*.toml"))


def load_recipe(name_or_path: str) -> dict[str, Any]:
    """Return the fields that a recipe sets.

    A value that ends in ``.toml`` or names an existing file is a path.

    Raises:
        UsageError: If there is no shipped recipe of that name.
        DataError: If the file cannot be read or is not TOML.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml" and not path.is_file():
        if name_or_path not in recipe_names():
            raise unknown("recipe", name_or_path, recipe_names())
        path = RECIPES_DIR / f"{name_or_path}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read recipe `{path}`: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"recipe `{path}` is not TOML: {error}") from error


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Return the fields that ``NAME=VALUE`` texts set; a value is written as in TOML, and plain words are texts.

    ``model_args.width=24`` sets an argument of the model.

    Raises:
        UsageError: If a text has no ``=``, or a name is set twice.
    """
    fields: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        *tables, field = name.strip().split(".")
        if not equals or not field:
            raise UsageError(f"`{setting}` sets nothing", "write a setting as NAME=VALUE, for example `ema=0.99`")
        table = fields
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise UsageError(f"`{part}` is set twice")
        if field in table:
            raise UsageError(f"`{name}` is set twice")
        table[field] = _value(text.strip())
    return fields


def configure(base: TrainConfig, *layers: Mapping[str, Any], where: str = "recipe") -> TrainConfig:
    """Return a configuration with fields replaced, later layers winning; tables are merged.

    Raises:
        UsageError: If a field is unknown, of a wrong type or out of range.
    """
    values = base.to_dict()
    for layer in layers:
        for name, new in layer.items():
            old = values.get(name)
            values[name] = {**old, **new} if isinstance(old, Mapping) and isinstance(new, Mapping) else new
    return TrainConfig.from_dict(values, where=where)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
