"""Copy every fifth row and column of the originals' outputs into golden/outputs.npz (five hits every pool's phase).

python tests/models/make_golden.py ARCHITECTURES.npz

The argument is the file of outputs that the five original implementations gave for the weights and inputs of
recipe.py. It is not part of the repository.
"""

import sys
from pathlib import Path

import numpy as np

NAMES = ("u2net_cloth_out4", "u2netp_out4", "helen_unet11_softmax", "pgn_unet6")
STEP = 5

if __name__ == "__main__":
    with np.load(sys.argv[1]) as outputs:
        chosen = {name: outputs[name][..., ::STEP, ::STEP] for name in NAMES}
    np.savez_compressed(Path(__file__).parent / "golden" / "outputs.npz", **chosen)
