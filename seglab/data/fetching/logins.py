"""Which Kaggle login is set up here, found without the kaggle package and without the network. No value is read out."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seglab.notation import parse_json

__all__ = ["find_login", "login_problems"]


def find_login() -> str:
    """Return which kind of Kaggle login is set up here, empty if none is.

    It looks where the kaggle package looks: ``ACCESS_TOKEN`` (``KAGGLE_API_TOKEN``, ``~/.kaggle/access_token``),
    ``LEGACY_API_KEY`` (``KAGGLE_USERNAME`` and ``KAGGLE_KEY``, ``kaggle.json``), ``OAUTH`` (``kaggle auth login``).
    """
    if os.environ.get("KAGGLE_API_TOKEN") or any(_text(path).strip() for path in _token_paths()):
        return "ACCESS_TOKEN"
    values = _table(_json_path()) | {
        name: os.environ[variable]
        for name, variable in (("username", "KAGGLE_USERNAME"), ("key", "KAGGLE_KEY"))
        if os.environ.get(variable)
    }
    if _has(values, "username") and _has(values, "key"):
        return "LEGACY_API_KEY"
    return "OAUTH" if _has(_table(_oauth_path()), "refresh_token") else ""


def login_problems() -> list[str]:
    """Return what is wrong with what should hold a Kaggle login: the file and the reason, never its content."""
    problems = [_problem(path, ()) for path in _token_paths()]
    wanted = [("username", "KAGGLE_USERNAME"), ("key", "KAGGLE_KEY")]
    problems.append(_problem(_json_path(), [name for name, variable in wanted if not os.environ.get(variable)]))
    problems.append(_problem(_oauth_path(), ["refresh_token"]))
    given = [variable for _, variable in wanted if os.environ.get(variable)]
    if len(given) == 1 and not find_login():
        problems.append(f"{given[0]} is set, but not {'KAGGLE_KEY' if given[0] != 'KAGGLE_KEY' else 'KAGGLE_USERNAME'}")
    return [problem for problem in problems if problem]


def _problem(path: Path, names: Sequence[str]) -> str:
    if not os.path.lexists(path):
        return ""
    try:
        text = path.read_text(encoding="utf-8")
        values: Any = parse_json(text) if path.suffix == ".json" else text.strip()
    except json.JSONDecodeError as error:
        why = "is empty" if not text.strip() else f"is not JSON (line {error.lineno}, column {error.colno})"
        return f"`{path}` {why}"
    except UnicodeDecodeError:
        return f"`{path}` is not text"
    except ValueError:
        return f"`{path}` is not what Kaggle gives out"
    except OSError as error:
        return f"`{path}` cannot be read: {error.strerror}"
    if not values:
        return f"`{path}` is empty"
    if path.suffix == ".json" and not isinstance(values, dict):
        return f"`{path}` is not a JSON table"
    missing = [name for name in names if not _has(values, name)]
    return f"`{path}` has no " + " and no ".join(f"`{name}`" for name in missing) if missing else ""


def _has(values: dict[str, Any], name: str) -> bool:
    return isinstance(values.get(name), str) and bool(values[name])


def _token_paths() -> tuple[Path, ...]:
    return _home() / "access_token", _home() / "access_token.txt"


def _json_path() -> Path:
    xdg = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kaggle"
    return Path(os.environ.get("KAGGLE_CONFIG_DIR") or (_home() if _home().exists() else xdg)) / "kaggle.json"


def _oauth_path() -> Path:
    return _home() / "credentials.json"


def _home() -> Path:
    return Path.home() / ".kaggle"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _table(path: Path) -> dict[str, Any]:
    try:
        values = parse_json(_text(path))
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
