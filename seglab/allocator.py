"""Tell the C allocator to keep the memory that it has."""

import ctypes
import platform
from typing import Final

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD: Final = -1
M_MMAP_MAX: Final = -4


def keep_freed_memory() -> bool:
    """Make glibc reuse freed memory instead of giving it back to the system, for the rest of the process.

    By default every large tensor is a mapping of its own, which the system clears page by page when it is first
    written to: half of the time of an eager training step on the CPU. The process then holds its peak memory to its
    end.

    Returns:
        Whether the setting was made: False where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
