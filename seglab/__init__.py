"""Segment people: whole person, face regions, body parts, clothes, human parsing.

::

    import seglab

    predictor = seglab.load("runs/person")
    result = predictor("photo.jpg")
    result.save_cutout("photo.png", crop=True, margin="5%")

Importing this imports nothing else: what is listed here comes when it is first used. It only tells ONNX Runtime, which
looks once and early, not to report to its makers: nothing but ``seglab fetch`` uses the network.
"""

import importlib
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from seglab.version import __version__

if TYPE_CHECKING:
    from seglab.errors import SeglabError
    from seglab.inference.api import load
    from seglab.inference.pix2pix_masks import add_mask, get_mask
    from seglab.inference.predictor import Predictor
    from seglab.inference.result import Area, Box, Result

__all__ = ["Area", "Box", "Predictor", "Result", "SeglabError", "__version__", "add_mask", "get_mask", "load"]

_HOMES = MappingProxyType(
    {
        "Area": "seglab.inference.result",
        "Box": "seglab.inference.result",
        "Predictor": "seglab.inference.predictor",
        "Result": "seglab.inference.result",
        "SeglabError": "seglab.errors",
        "add_mask": "seglab.inference.pix2pix_masks",
        "get_mask": "seglab.inference.pix2pix_masks",
        "load": "seglab.inference.api",
    }
)


os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `seglab` has no attribute `{name}`")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
