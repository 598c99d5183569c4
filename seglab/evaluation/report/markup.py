"""HTML that is put together so that no text can become markup.

Plain text is escaped wherever it is put, be it between tags or in an attribute; only what :func:`element` and
:func:`join` return is markup.
"""

import html
import json
import re
from collections.abc import Iterable
from typing import Any, Final

__all__ = ["Html", "element", "join", "named", "plain", "to_json"]

_VOID: Final = {"img", "input"}
_UNFIT: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""What neither HTML nor UTF-8 can hold: controls, and the halves that stand for bytes of undecodable file names."""

_LIMIT: Final = 200


class Html(str):
    """Markup, as opposed to text."""

    __slots__ = ()


def element(tag: str, *children: "str | None", **attributes: "str | float | bool | None") -> Html:
    """Return an element.

    Args:
        tag: Its name; ``-`` is written ``_``.
        children: Text or markup; None is nothing.
        attributes: Their names with ``_`` for ``-``, and one at the end where Python reserves the word. True is a bare
            attribute; False and None are none.
    """
    said = "".join(
        f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_escaped(_text(value))}"')
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    name = tag.replace("_", "-")
    return Html(f"<{name}{said}>" if name in _VOID else f"<{name}{said}>{join(children)}</{name}>")


def join(children: "Iterable[str | None]") -> Html:
    """Return text and markup one after the other."""
    return Html("".join(child if isinstance(child, Html) else _escaped(child) for child in children if child))


def named(name: str) -> Html:
    """Return a name that others gave, such as that of a file: not too long, and it turns no text around it."""
    return element("bdi", name if len(name) <= _LIMIT else f"{name[:_LIMIT]}…")


def plain(text: str) -> str:
    """Return a text without what cannot be written."""
    return _UNFIT.sub("\ufffd", text)


def to_json(values: Any) -> Html:
    """Return plain values as JSON that can stand in a ``script`` element: it holds no ``<``, ``>`` or ``&``."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Html(text)


def _escaped(text: str) -> str:
    return html.escape(plain(text))


def _text(value: "str | float") -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
