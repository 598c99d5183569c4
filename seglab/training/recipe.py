"""Recipes: TOML files of :class:`~seglab.config.TrainConfig` fields, shipped or written by users. Needs no torch."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from seglab.config import TrainConfig
from seglab.errors import DataError, UsageError, unknown
from seglab.notation import parse_toml, read_given

__all__ = ["configure", "default_recipe", "describe_recipe", "load_recipe", "parse_settings", "recipe_names"]

RECIPES_DIR: Final = Path(__file__).parent / "recipes"

DEFAULTS: Final[Mapping[str, str]] = {"cpu": "small", "mps": "small", "cuda": "large"}
"""What ``seglab train`` does on a kind of device unless told otherwise: the recipe TASK-NAME, or else NAME."""


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes: one a file in ``recipes/``."""
    return sorted(path.stem for path in RECIPES_DIR.glob("*.toml"))


def default_recipe(task_name: str, device_kind: str) -> str:
    """Return the name of the shipped recipe that suits a task best on a device: see :data:`DEFAULTS`.

    Args:
        task_name: Of a task of seglab, or the user's.
        device_kind: ``cpu``, ``mps`` or ``cuda``.
    """
    size = DEFAULTS[device_kind]
    name = f"{task_name}-{size}"
    return name if name in recipe_names() else size


def describe_recipe(name: str) -> str:
    """Return the first line of a shipped recipe's comment."""
    with (RECIPES_DIR / f"{name}.toml").open(encoding="utf-8") as lines:
        return next(lines).removeprefix("#").strip()


def load_recipe(name_or_path: str) -> dict[str, Any]:
    """Return the fields that a recipe sets.

    A value that ends in ``.toml`` or names an existing file or pipe is a path.

    Raises:
        UsageError: If there is no shipped recipe of that name.
        DataError: If the file cannot be read or is not TOML.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml" and (path.is_dir() or not path.exists()):
        if name_or_path not in recipe_names():
            raise unknown("recipe", name_or_path, recipe_names())
        path = RECIPES_DIR / f"{name_or_path}.toml"
    try:
        return parse_toml(read_given(path).decode())
    except OSError as error:
        raise DataError(f"cannot read recipe `{path}`: {error.strerror}") from error
    except ValueError as error:
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


def configure(
    base: TrainConfig, *layers: Mapping[str, Any], recipe: Mapping[str, Any] | None = None, where: str = "recipe"
) -> TrainConfig:
    """Return a configuration with fields replaced, later layers winning.

    A recipe says all about a table that it has: its losses are all losses. The tables of layers are merged, entry by
    entry; but the arguments of a model do not outlive a layer that names another model, nor does an augmentation
    outlive a preset.

    Args:
        base: What holds where nothing else is said.
        layers: Fields by name.
        recipe: Fields by name, between the base and the layers.
        where: What to call all of it in errors.

    Raises:
        UsageError: If a field is unknown, of a wrong type or out of range.
    """
    values = {**base.to_dict(), **(recipe or {})}
    for layer in layers:
        if layer.get("model", values["model"]) != values["model"]:
            values["model_args"] = {}
        for name, new in layer.items():
            old = values.get(name)
            merged = isinstance(old, Mapping) and isinstance(new, Mapping) and "preset" not in new
            values[name] = {**old, **new} if merged else new  # type: ignore[dict-item]
    return TrainConfig.from_dict(values, where=where)


def _value(text: str) -> Any:
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text
