"""What glibc does with the memory that a process frees; elsewhere nothing is changed.

docs/performance.md has the price of its defaults.
"""

import contextlib
import ctypes

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory():
    """Let this process keep what it frees, for whatever thread allocates next.

    By default large blocks, above 32 MB in any case, go back to the system and are fetched again
    page by page, and threads have heaps of their own, which those that are there already keep.
    """
    for setting, value in ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1),
                           (M_TOP_PAD, 1 << 26)):
        # Only glibc has this function.
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).mallopt(setting, value)
