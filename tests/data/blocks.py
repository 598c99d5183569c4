"""A photo of blocks whose labels its colours tell, and the grids that tests of augmentation fit it to."""

import numpy as np

from seglab.preprocess import Preprocess
from seglab.tasks import IGNORE

GRID = Preprocess(size_hw=(64, 48))
PADDED = Preprocess(size_hw=(64, 48), fit="pad")


def scene(height=120, width=70, num_classes=11, seed=0):
    """A photo whose red channel is 20 times its labels, in blocks, with some ignored pixels."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, num_classes, (height // 10, width // 10), np.uint8), np.ones((10, 10), np.uint8))
    image = np.stack([labels * 20, rng.integers(0, 256, labels.shape), np.full(labels.shape, 90)], -1).astype(np.uint8)
    labels[:5, :7] = IGNORE
    return image, labels
