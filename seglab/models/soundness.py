"""Whether the numbers of a checkpoint are numbers: a network with one NaN in it answers NaN. Needs no torch."""

from typing import Final

import numpy as np

from seglab.errors import DataError
from seglab.models.checkpoint import Checkpoint

__all__ = ["check_numbers"]

_EXPONENTS: Final = {
    "float16": ("<u2", 0x7C00), "bfloat16": ("<u2", 0x7F80), "float32": ("<u4", 0x7F80_0000),
    "float64": ("<u8", 0x7FF0_0000_0000_0000),
}  # fmt: skip
"""How the bits of a number are read, and those that are all set in NaN and infinity alone."""


def check_numbers(checkpoint: Checkpoint) -> None:
    """Read all values of a checkpoint, and refuse it if some are NaN or infinite.

    Raises:
        DataError: If so, with the first such tensor and how many there are; or if the file is damaged.
    """
    bad = []
    for name, dtype, data in checkpoint.raw():
        if dtype in _EXPONENTS:
            kind, exponent = _EXPONENTS[dtype]
            bits = np.frombuffer(data, dtype=kind)
            num = int(np.count_nonzero((bits & np.array(exponent, dtype=kind)) == exponent))
            bad += [(name, num, bits.size)] if num else []
    if bad:
        name, num, size = bad[0]
        more = f", and so it is in {len(bad) - 1} other tensors" if len(bad) > 1 else ""
        raise DataError(
            f"`{checkpoint.path}` cannot be used: {num:,} of the {size:,} numbers of tensor `{name}` are NaN or"
            f" infinite{more}",
            "its training went wrong; take weights that were saved earlier",
        )
