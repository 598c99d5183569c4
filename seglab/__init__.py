"""Segment people: whole person, face regions, body parts, clothes, human parsing."""

from seglab.version import __version__

__all__ = ["__version__"]
