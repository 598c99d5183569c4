"""The 46 categories of iMaterialist Fashion 2019 (Fashionpedia has them too) and what they are among clothes."""

from collections.abc import Iterable, Mapping
from typing import Final

from seglab.errors import DataError
from seglab.tasks import Task

__all__ = ["CATEGORIES", "CLASS_NAMES", "class_ids", "garment_class"]

CLASS_NAMES: Final = ("upper_body", "lower_body", "full_body")
"""The classes of clothes, in the order in which the published code numbers them from 1."""

CATEGORIES: Final = (
    "shirt, blouse", "top, t-shirt, sweatshirt", "sweater", "cardigan", "jacket", "vest", "pants", "shorts", "skirt",
    "coat", "dress", "jumpsuit", "cape", "glasses", "hat", "headband, head covering, hair accessory", "tie", "glove",
    "watch", "belt", "leg warmer", "tights, stockings", "sock", "shoe", "bag, wallet", "scarf", "umbrella", "hood",
    "collar", "lapel", "epaulette", "sleeve", "pocket", "neckline", "buckle", "zipper", "applique", "bead", "bow",
    "flower", "fringe", "ribbon", "rivet", "ruffle", "sequin", "tassel",
)  # fmt: skip
"""Names by id, as in ``label_descriptions.json``. What is no garment is background: it lies on one, or beside."""

_FIRST_OF_CLASS: Final[Mapping[str, str]] = {"shirt, blouse": "upper_body", "pants": "lower_body", "coat": "full_body"}
_FIRST_OTHER: Final = "glasses"


def garment_class(category: str) -> str | None:
    """Return the class of a category, an empty text for what is no garment, None for a name that is not of the 46."""
    return _CLASSES.get(" ".join(category.casefold().split()))


def class_ids(task: Task, source: str) -> dict[str, int]:
    """Return the ids of the classes of clothes in a task, and of no garment.

    Raises:
        DataError: If the task has them not.
    """
    missing = [name for name in CLASS_NAMES if name not in task.classes]
    if missing:
        message = f"`{source}` has the classes {', '.join(CLASS_NAMES)}, but task `{task.name}` has no `{missing[0]}`"
        raise DataError(message, "pass --task clothes, or a task of your own with these classes")
    return {"": 0, **{name: task.classes.index(name) for name in CLASS_NAMES}}


def _classes(categories: Iterable[str]) -> dict[str, str]:
    classes: dict[str, str] = {}
    current = ""
    for name in categories:
        current = "" if name == _FIRST_OTHER else _FIRST_OF_CLASS.get(name, current)
        classes[name] = current
    return classes


_CLASSES: Final = {**_classes(CATEGORIES), "earmuffs": "", "garment belt": ""}  # the last two are Fashionpedia's
