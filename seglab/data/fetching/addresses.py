"""Addresses as they may be shown and written down: without what lets somebody in."""

import re
from typing import Final
from urllib.parse import unquote, urlsplit

__all__ = ["HIDDEN", "without_secrets"]

HIDDEN: Final = "***"
"""Stands in the place of a secret."""

_SECRET: Final = re.compile(
    r"token|secret|passw|pwd|signature|credential|api[-_.]?key|access[-_.]?key|auth|jwt|session|^(key|sig|code|sas)$",
    re.IGNORECASE,
)
"""Names of the fields of a query that hold one. (A Drive link's ``resourcekey`` is part of what is shared.)"""


def without_secrets(url: str) -> str:
    """Return an address whose login and secret fields of the query, those behind the ``#`` too, are hidden.

    What is no address comes back as it is.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    if "@" in parts.netloc:
        parts = parts._replace(netloc=f"{HIDDEN}@{parts.netloc.rpartition('@')[2]}")
    return parts._replace(query=_hidden(parts.query), fragment=_hidden(parts.fragment)).geturl()


def _hidden(query: str) -> str:
    fields = [field.partition("=") for field in query.split("&")]
    return "&".join(
        f"{name}={HIDDEN}" if equals and _SECRET.search(unquote(name)) else f"{name}{equals}{value}"
        for name, equals, value in fields
    )
