"""Write what tests/models/golden keeps of the originals: samples of their outputs, their key lists, digests of these.

python -m tests.models.make_golden ARCHITECTURES.npz STATEDICTS_DIR

The arguments are the outputs that the five original implementations gave for the weights and inputs of recipe.py, and
the names and shapes of their state_dicts (`name shape dtype` a line). Neither is part of the repository.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

GOLDEN_DIR = Path(__file__).parent / "golden"
STEPS = {
    "u2net_cloth_out4": 5,
    "u2netp_out4": 5,
    "helen_unet11_softmax": 5,
    "pgn_unet6": 5,
    "pix2pix_generator_3ch": 9,
    "pix2pix_generator_edge": 2,
    "pix2pix_discriminator": 1,
}
"""Every so manieth row and column of an output is kept; odd steps hit every phase of the pools."""
LISTED = ("pgn_unet6", "helen_unet11", "pix2pix_generator_3_1", "pix2pix_res2pix_3_1", "pix2pix_discriminator_3_1")
"""State_dicts whose names differ from ours: they are kept in full."""


def digest(shapes: Mapping[str, Sequence[int]]) -> list[int | str]:
    """Number of tensors, and the SHA-256 of their sorted names and shapes."""
    lines = sorted(f"{name} {tuple(shape)}" for name, shape in shapes.items())
    return [len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()]


def main(outputs_path: str, listings_dir: str) -> None:
    """Overwrite the files."""
    with np.load(outputs_path) as outputs:
        chosen = {name: outputs[name][..., ::step, ::step] for name, step in STEPS.items()}
    np.savez_compressed(GOLDEN_DIR / "outputs.npz", **chosen)
    digests = {}
    for path in sorted(Path(listings_dir).glob("*.txt")):
        head, *lines = path.read_text().splitlines()
        if not head.startswith("# ") or " params=" not in head:
            continue  # no state_dict
        shapes = {}
        for line in lines:
            name, rest = line.split(" ", 1)
            shapes[name] = tuple(int(side) for side in rest.rpartition(" ")[0].strip("()").split(",") if side.strip())
        digests[path.stem] = [*digest(shapes), int(head.partition(" params=")[2].split()[0])]
        if path.stem in LISTED:
            listing = "".join(f"{name} {shape}\n" for name, shape in shapes.items())
            (GOLDEN_DIR / f"{path.stem}.keys.txt").write_text(listing)
    text = ",\n".join(f' "{name}": {json.dumps(values)}' for name, values in digests.items())
    (GOLDEN_DIR / "statedicts.json").write_text(f"{{\n{text}\n}}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
