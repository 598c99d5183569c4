"""Guess the body parts of photos whose people are labelled only as a whole, or by what they wear.

    parts_within.py MODEL OUT DATA...

MODEL segments body parts. DATA are prepared datasets; of their training photos OUT/images and OUT/masks get a copy and
a guess: background stays background, and inside people each pixel gets the part that MODEL holds most likely among
those that its label allows. Where the classes are kinds of clothes (garments.toml), that is a few: hair is of a head,
trousers are on legs. So what people labelled stays true, and only the boundaries between the parts are MODEL's.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import seglab
from seglab.data.images import read_labels
from seglab.data.manifest import open_dataset

ARMS = ("up_hand", "low_hand")
LEGS = ("up_leg", "low_leg")
ALLOWED = {
    "skin": ("head", "torso", *ARMS, *LEGS),
    "hair": ("head",),
    "shoes": ("low_leg",),
    "legwear": LEGS,
    "jacket": ("torso", *ARMS),
    "knit": ("torso", *ARMS),
    "shirt": ("torso", *ARMS),
    "top": ("torso", *ARMS),
    "trousers": ("torso", *LEGS),
    "leggings": LEGS,
    "shorts": ("torso", "up_leg"),
    "skirt": ("torso", *LEGS),
    "coat": ("torso", *ARMS, *LEGS),
    "dress": ("torso", *ARMS, *LEGS),
    "bag": (),
}
"""Parts that a kind may be on; any part for one that is not here. A bag is on none and stays unlabelled."""


def allowed(classes: list[str], parts: list[str]) -> np.ndarray:
    """Return LK: whether label L may be part K, both with the background first."""
    table = np.zeros((256, len(parts)), bool)
    table[0, 0] = True
    for label, name in enumerate(classes[1:], start=1):
        for part in ALLOWED.get(name, parts[1:]):
            table[label, parts.index(part)] = True
    return table


def main(model: str, out: Path, datasets: list[Path]) -> None:
    segment = seglab.load(model, tta="flip")
    parts = list(segment.task.classes)
    for folder in ("images", "masks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for data in map(open_dataset, datasets):
        table = allowed(list(data.task.classes), parts)
        for sample in data.samples:
            if sample.split != "train":
                continue
            photo = data.image_path(sample)
            name = f"{data.dir.name}-{sample.id.replace('/', '-')}"
            may_HWK = table[read_labels(data.label_path(sample))]
            probs_HWK = np.moveaxis(segment(photo).probs, 0, -1)
            guess = np.where(may_HWK, probs_HWK, -1).argmax(-1).astype(np.uint8)
            guess[~may_HWK.any(-1)] = 255
            shutil.copyfile(photo, out / "images" / f"{name}{photo.suffix}")
            Image.fromarray(guess).save(out / "masks" / f"{name}.png")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]), [Path(data) for data in sys.argv[3:]])
