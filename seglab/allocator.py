"""Tell the C allocator to keep the memory that it has."""

import ctypes
import platform
from typing import Final

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
M_MMAP_MAX: Final = -4
MAX_THRESHOLD: Final = 2**25
"""The largest that glibc takes for a threshold of mappings."""


def keep_freed_memory(*, blocks: int | None = None) -> bool:
    """Make glibc reuse freed memory instead of giving it back to the system, for the rest of the process.

    By default every large tensor is a mapping of its own, which the system clears page by page when it is first
    written to: half of the time of an eager training step on the CPU. The process then holds its peak memory to its
    end.

    Args:
        blocks: Bytes of the largest blocks that are kept, up to :data:`MAX_THRESHOLD`; larger ones, whole photos say,
            still come and go by themselves. All by default.

    Returns:
        Whether the setting was made: False where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    if blocks is None:
        return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
    return bool(mallopt(M_MMAP_THRESHOLD, min(blocks, MAX_THRESHOLD))) and bool(mallopt(M_TRIM_THRESHOLD, 8 * blocks))
